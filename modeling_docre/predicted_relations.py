"""What a model's outputs predict: relations with scores and evidence."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .configuration_docre import DocREConfig
from .decisions import evidence_sentences, predict, relation_scores
from .document_parts import Relation


def find_relations(
    outputs: Any, logits: Tensor, config: DocREConfig, threshold: float | None
) -> dict[int, list[tuple[Relation, int]]]:
    """Find what the model predicts of a batch.

    Args:
        outputs ([`DocRERelationOutput`]):
            `pairs`, and where there are such `entities_read` and `sentence_attention`.
        logits (`torch.Tensor` of shape `(num_pairs, num_classes)`):
            Its logits, in the precision in which scores are to be told apart.
        config ([`DocREConfig`]): The decision, its limits, and the relations' names.
        threshold (`float`, *optional*): Probability that a relation must exceed; `None` is the decision's own.

    Returns:
        `dict` from documents of the batch to relations, the best first, each with the row of its pair.
    """
    predicted = predict(logits, config.decision, max_relations=config.max_relations_per_pair, threshold=threshold)
    predicted &= pairs_read(outputs, config).to(predicted.device)[:, None]
    rows, classes = predicted[:, 1:].nonzero(as_tuple=True)
    scores = relation_scores(logits, config.decision)[rows, classes + 1].tolist()
    evidence = _evidence_of(outputs, rows, config)
    pairs = outputs.pairs.to(rows.device)[rows].tolist()
    found: dict[int, list[tuple[Relation, int]]] = {}
    for row, (document, head, tail), number, score, sentences in zip(
        rows.tolist(), pairs, classes.tolist(), scores, evidence, strict=True
    ):
        relation = Relation(head, tail, config.relations[number], evidence=sentences, score=score)
        found.setdefault(document, []).append((relation, row))
    for relations in found.values():
        relations.sort(key=lambda item: -(item[0].score or 0.0))
    return found


def pairs_read(outputs: Any, config: DocREConfig) -> Tensor:
    """Which pairs have a mention in reach on both sides, `(num_pairs,)`; all of them in `reference` mode."""
    read = getattr(outputs, "entities_read", None)
    document, head, tail = outputs.pairs.unbind(1)
    if read is None or config.window_mode == "reference":
        return torch.ones_like(document, dtype=torch.bool)
    return read[document, head] & read[document, tail]


def _evidence_of(outputs: Any, rows: Tensor, config: DocREConfig) -> list[tuple[int, ...]]:
    """Evidence sentences of chosen rows `(num_chosen,)` of `outputs.pairs`; none where nothing says where they are."""
    attention = getattr(outputs, "sentence_attention", None)
    if attention is None or config.evidence_threshold is None:
        return [()] * len(rows)
    return evidence_sentences(attention[rows], config.evidence_threshold)


__all__ = ["find_relations", "pairs_read"]
