"""What evaluation keeps of each document, and the threshold that suits it best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .configuration_docre import DocREConfig
from .decisions import best_threshold, predict, relation_scores
from .documents import Document, Relation
from .metrics.docred.scoring import score
from .processing_docre import pairs_read

# Below this probability no threshold worth having lies, and the number of candidates to sort stays small.
SMALLEST_SCORE = 0.01


@dataclass(frozen=True, slots=True)
class DocumentResult:
    """
    What evaluation keeps of one document: little, because all of it travels between processes.

    Args:
        index (`int`):
            The position of the document in the evaluation data.
        relations (`tuple[Relation, ...]`):
            What is predicted, the best first.
        gold_not_scored (`int`):
            How many gold facts are of a pair that was no candidate.
        candidates (`tuple[Relation, ...]`, *optional*):
            What some threshold would predict.
    """

    index: int
    relations: tuple[Relation, ...]
    gold_not_scored: int
    candidates: tuple[Relation, ...] | None = None


def document_results(
    outputs: Any,
    index: Sequence[int],
    documents: Sequence[Document],
    config: DocREConfig,
    *,
    candidates: bool = False,
) -> list[DocumentResult]:
    """
    Takes the outputs of a batch apart by document.

    Args:
        outputs ([`DocRERelationOutput`]):
            `logits` `(num_pairs, num_classes)`, `pairs` `(num_pairs, 3)` and `entities_read` are read.
        index (`Sequence[int]`):
            The position in `documents` of each document of the batch.
        documents (`Sequence[Document]`):
            All documents of the evaluation.
        config ([`DocREConfig`]):
            The decision, its limits, and the relations' names.
        candidates (`bool`, *optional*, defaults to `False`):
            Whether to keep what [`choose_threshold`] needs.

    Returns:
        `list[DocumentResult]`: One for each document of the batch, in its order.
    """
    # In float64 scores tell apart what logits do, almost everywhere.
    logits, pairs = outputs.logits.detach().cpu().double(), outputs.pairs.cpu()
    scores = relation_scores(logits, config.decision)

    def found(threshold: float | None) -> dict[int, list[Relation]]:
        most = config.max_relations_per_pair
        mask = predict(logits, config.decision, max_relations=most, threshold=threshold)
        mask &= pairs_read(outputs, config).cpu()[:, None]
        return _relations(pairs, scores, mask[:, 1:], config.relations)

    chosen = found(config.threshold)
    ranked = found(SMALLEST_SCORE) if candidates else {}
    scored = {tuple(pair) for pair in pairs.tolist()}
    return [
        DocumentResult(
            index=position,
            relations=tuple(chosen.get(row, ())),
            gold_not_scored=sum(
                (row, relation.head, relation.tail) not in scored for relation in documents[position].relations or ()
            ),
            candidates=tuple(ranked.get(row, ())) if candidates else None,
        )
        for row, position in enumerate(index)
    ]


def _relations(pairs: Tensor, scores: Tensor, mask: Tensor, names: Sequence[str]) -> dict[int, list[Relation]]:
    """Relations where `mask` `(num_pairs, num_classes - 1)` is set, best first, by document in the batch."""
    rows, classes = mask.nonzero(as_tuple=True)
    values = scores[rows, classes + 1].tolist()
    found: dict[int, list[Relation]] = {}
    for (document, head, tail), number, value in zip(pairs[rows].tolist(), classes.tolist(), values, strict=True):
        found.setdefault(document, []).append(Relation(head, tail, names[number], score=value))
    for relations in found.values():
        relations.sort(key=lambda relation: -(relation.score or 0.0))
    return found


def choose_threshold(documents: Sequence[Document], results: Sequence[DocumentResult]) -> tuple[float, float]:
    """
    Chooses the probability above which a relation is predicted.

    Args:
        documents (`Sequence[Document]`):
            Labelled documents.
        results (`Sequence[DocumentResult]`):
            Their results, with `candidates`.

    Returns:
        `tuple[float, float]`: The threshold with the highest micro F1, and that F1, both in [0, 1].
    """
    scores: list[float] = []
    correct: list[bool] = []
    for result in results:
        gold = _facts(documents[result.index])
        for candidate in result.candidates or ():
            scores.append(candidate.score or 0.0)
            correct.append((candidate.head, candidate.tail, candidate.relation) in gold)
    num_gold = sum(len(_facts(document)) for document in documents)
    threshold, f1 = best_threshold(
        torch.tensor(scores, dtype=torch.float64), torch.tensor(correct, dtype=torch.bool), num_gold
    )
    # Below, relations would come in that were no candidates here.
    return max(threshold, SMALLEST_SCORE), f1


def score_documents(
    documents: Sequence[Document], results: Sequence[DocumentResult], training_facts: list[dict[str, Any]]
) -> dict[str, float]:
    """
    Scores predicted relations.

    Args:
        documents (`Sequence[Document]`):
            Labelled documents.
        results (`Sequence[DocumentResult]`):
            Their results, in their order.
        training_facts (`list[dict]`):
            The training documents, each as a [`reference`], or none.

    Returns:
        `dict[str, float]`: `f1`, `precision`, `recall`; with training documents `ign_f1`; and `gold_not_scored`, a
        count, if it isn't 0.
    """
    rows = [
        {"title": str(result.index), "h_idx": relation.head, "t_idx": relation.tail, "r": relation.relation}
        for result in results
        for relation in result.relations
    ]
    references = [reference(document, str(index)) for index, document in enumerate(documents)]
    scores = score(rows, references, train_annotated=training_facts or None)
    metrics = {name: scores[name] for name in ("f1", "precision", "recall", "ign_f1") if name in scores}
    missed = sum(result.gold_not_scored for result in results)
    return {**metrics, "gold_not_scored": missed} if missed else metrics


def _facts(document: Document) -> set[tuple[int, int, str]]:
    return {(relation.head, relation.tail, relation.relation) for relation in document.relations or ()}


def reference(document: Document, title: str) -> dict[str, Any]:
    """
    What the scorer reads of a labelled document, without its text.

    Args:
        document (`Document`): The document.
        title (`str`): The title to give it; two documents may share theirs, and the scorer would merge them.

    Returns:
        `dict`: `title`, `vertexSet` and `labels` in DocRED's form.
    """
    return {
        "title": title,
        "vertexSet": [
            [{"name": mention.name, "sent_id": mention.sentence} for mention in entity.mentions]
            for entity in document.entities
        ],
        "labels": [
            {"h": relation.head, "t": relation.tail, "r": relation.relation, "evidence": list(relation.evidence)}
            for relation in document.relations or ()
        ],
    }


__all__ = ["DocumentResult", "choose_threshold", "document_results", "reference", "score_documents"]
