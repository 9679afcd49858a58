"""
Pseudo-labels: the predictions on documents that a model has not seen, of which some become labels.

Source: Tan et al., "Class-Adaptive Self-Training for Relation Extraction with Incompletely Annotated Training Data"
(CAST), Findings of ACL 2023.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .document_results import fact_of
from .documents import Document, Relation
from .regimes import SEED, document_key, lot


@dataclass(frozen=True, slots=True)
class RelationCounts:
    """
    What is known of a relation.

    Args:
        labels (`int`): Facts that are labelled.
        predicted (`int`): Facts that are predicted.
        correct (`int`): Facts that are both.
    """

    labels: int = 0
    predicted: int = 0
    correct: int = 0

    @property
    def precision(self) -> float | None:
        """Part of the predictions that are labelled, `None` without any."""
        return self.correct / self.predicted if self.predicted else None

    @property
    def recall(self) -> float | None:
        """Part of the labels that are predicted, `None` without any."""
        return self.correct / self.labels if self.labels else None


def split_folds(documents: Sequence[Document], folds: int, seed: int = SEED) -> list[list[int]]:
    """
    Deal documents out into folds of equal size.

    Documents with the same text are in the same fold, since a model that has learnt one has seen the other. Seed and
    texts decide, and not the order of the documents.

    Args:
        documents (sequence of [`Document`]): The documents.
        folds (`int`): How many.
        seed (`int`, *optional*, defaults to 13): Another one deals otherwise.

    Returns:
        `list[list[int]]`: The places of the documents of each fold, in their order.

    Raises:
        ValueError: If there are fewer texts than folds.
    """
    texts = sorted({document.text for document in documents}, key=lambda text: (lot(seed, "fold", text), text))
    if len(texts) < folds:
        raise ValueError(
            f"{len(texts)} different documents are too few for self_training.folds: {folds}. Write a number of folds "
            "up to that of the documents."
        )
    fold = {text: number % folds for number, text in enumerate(texts)}
    places: list[list[int]] = [[] for _ in range(folds)]
    for place, document in enumerate(documents):
        places[fold[document.text]].append(place)
    return places


def count_relations(
    documents: Sequence[Document], predictions: Sequence[Sequence[Relation]]
) -> dict[str, RelationCounts]:
    """
    Count labels and predictions.

    Args:
        documents (sequence of [`Document`]): Labelled documents.
        predictions (sequence of sequences of [`Relation`]): What is predicted for each.

    Returns:
        `dict[str, RelationCounts]`: By relation, of those that are labelled or predicted.
    """
    labels: Counter[str] = Counter()
    predicted: Counter[str] = Counter()
    correct: Counter[str] = Counter()
    for document, found in zip(documents, predictions, strict=True):
        gold = {fact_of(relation) for relation in document.relations or ()}
        facts = {fact_of(relation) for relation in found}
        for counter, counted in ((labels, gold), (predicted, facts), (correct, gold & facts)):
            counter.update(relation for _, _, relation in counted)
    return {name: RelationCounts(labels[name], predicted[name], correct[name]) for name in sorted(labels | predicted)}


def keep_probability(counts: RelationCounts, alpha: float, beta: float) -> float:
    """
    The probability with which a pseudo-label of a relation is kept: `(P * (1 - R) ** beta) ** alpha`, of precision P
    and recall R. So relations that are predicted rarely and rightly gain most.

    A relation that is never predicted where P and R are measured has no precision, and counts as never right: none of
    its pseudo-labels are kept. Nor are those of a relation without labels there, since none of its predictions can be
    right. With `alpha` 0 all are kept, whatever P and R are.

    Args:
        counts ([`RelationCounts`]): Of the relation.
        alpha (`float`): From 0.
        beta (`float`): From 0.

    Returns:
        `float`: From 0 to 1.
    """
    return ((counts.precision or 0.0) * (1.0 - (counts.recall or 0.0)) ** beta) ** alpha


def find_pseudo_labels(document: Document, predictions: Sequence[Relation]) -> list[Relation]:
    """Those of the predictions that are no labels of the document yet, in an order that their scores do not decide."""
    known = {fact_of(relation) for relation in document.relations or ()}
    return sorted((relation for relation in predictions if fact_of(relation) not in known), key=fact_of)


def resample(
    document: Document, pseudo_labels: Sequence[Relation], probabilities: Mapping[str, float], seed: int, number: int
) -> list[Relation]:
    """
    Choose among the pseudo-labels of a document.

    One is kept where a hash of seed, round, title, text and fact, a number in [0, 1), is below the probability of its
    relation: neither other documents nor the number of processes matter.

    Args:
        document ([`Document`]): The document.
        pseudo_labels (sequence of [`Relation`]): What to choose from.
        probabilities (`Mapping[str, float]`): That of each relation to be kept.
        seed (`int`): Another one chooses others.
        number (`int`): The round, which chooses anew.

    Returns:
        `list[Relation]`: Those that are kept.
    """
    # Not the lots of `drop_labels`: what that left out would be kept more often than others.
    drawn = (seed, "self-training", number, document_key(document))
    return [label for label in pseudo_labels if lot(*drawn, *fact_of(label)) < probabilities[label.relation]]


__all__ = [
    "RelationCounts",
    "count_relations",
    "find_pseudo_labels",
    "keep_probability",
    "resample",
    "split_folds",
]
