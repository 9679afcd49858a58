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
        scored_pairs (`frozenset[tuple[int, int]]`):
            The (head, tail) pairs that were candidates.
        candidates (`tuple[Relation, ...]`, *optional*):
            What some threshold would predict.
    """

    index: int
    relations: tuple[Relation, ...]
    scored_pairs: frozenset[tuple[int, int]]
    candidates: tuple[Relation, ...] | None = None


def document_results(
    outputs: Any, index: Sequence[int], config: DocREConfig, *, candidates: bool = False
) -> list[DocumentResult]:
    """
    Takes the outputs of a batch apart by document.

    Args:
        outputs ([`DocRERelationOutput`]):
            `logits` `(num_pairs, num_classes)` and `pairs` `(num_pairs, 3)` are read.
        index (`Sequence[int]`):
            The position in the evaluation data of each document of the batch.
        config ([`DocREConfig`]):
            The decision, its limits, and the relations' names.
        candidates (`bool`, *optional*, defaults to `False`):
            Whether to keep what [`choose_threshold`] needs.

    Returns:
        `list[DocumentResult]`: One for each document of the batch, in its order.
    """
    logits = outputs.logits.float()
    scores = relation_scores(logits, config.decision).cpu()
    found = predict(
        logits, config.decision, max_relations=config.max_relations_per_pair, threshold=config.threshold
    ).cpu()
    pairs = outputs.pairs.cpu()
    chosen = _relations(pairs, scores, found[:, 1:], config.relations)
    ranked = {}
    if candidates:
        ranked = _relations(pairs, scores, _highest(scores, config.max_relations_per_pair), config.relations)
    scored: list[set[tuple[int, int]]] = [set() for _ in index]
    for row, head, tail in pairs.tolist():
        scored[row].add((head, tail))
    return [
        DocumentResult(
            index=position,
            relations=tuple(chosen.get(row, ())),
            scored_pairs=frozenset(scored[row]),
            candidates=tuple(ranked.get(row, ())) if candidates else None,
        )
        for row, position in enumerate(index)
    ]


def _highest(scores: Tensor, most: int | None) -> Tensor:
    relations = scores[:, 1:]
    mask = relations > SMALLEST_SCORE
    if most is not None and 0 < most < relations.shape[1]:
        mask &= relations >= relations.topk(most, dim=1).values[:, -1:]
    return mask


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
    return best_threshold(torch.tensor(scores, dtype=torch.float64), torch.tensor(correct, dtype=torch.bool), num_gold)


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


__all__ = ["DocumentResult", "choose_threshold", "document_results", "reference"]
