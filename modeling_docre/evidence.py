"""Evidence sentences: where a pair of entities looks, summed by sentence (Ma et al., 2023, DREEAM, section 3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .attention import at_least_float32
from .decisions import best_threshold
from .encoding import localized_context

# Tokens times sentences whose membership is in memory at one time: a long text has many of both.
_MEMBERSHIP_BUDGET = 1 << 24


def sentence_attention(
    entity_attention: Tensor, sentence_ids: Tensor, cells: Tensor, *, reduce: str = "mean", eps: float = 1e-5
) -> Tensor:
    """How much of a pair's localized context comes from each sentence.

    The weights with which [`localized_context`] averages the tokens of a document, summed over the tokens of each
    sentence. A row sums to 1 less what lies on the special tokens around the document; a pair without attention has
    zeros.

    Args:
        entity_attention (`torch.Tensor` of shape `(batch, entities, attention_heads, tokens)`):
            From [`pool_entities`].
        sentence_ids (`torch.Tensor` of shape `(batch, tokens)`): Sentence of each token, -1 outside.
        cells (`torch.Tensor` of shape `(num_cells, 3)`): Document, head, tail.
        reduce (`str`, *optional*, defaults to `"mean"`): As for [`localized_context`].
        eps (`float`, *optional*, defaults to `1e-5`): As for [`localized_context`].

    Returns:
        `torch.Tensor` of shape `(num_cells, sentences)`, as many sentences as the longest document has; float32
        (float64 for float64 attention).
    """
    sentences = int(sentence_ids.max()) + 1 if sentence_ids.numel() else 0
    if not sentences:
        return at_least_float32(entity_attention.new_zeros(len(cells), 0))
    step = max(1, _MEMBERSHIP_BUDGET // sentence_ids.numel())
    parts = []
    for some in torch.arange(sentences, device=sentence_ids.device).split(step):
        members = (sentence_ids[..., None] == some).to(entity_attention.dtype)
        parts.append(localized_context(members, entity_attention, cells, reduce=reduce, eps=eps))
    return torch.cat(parts, dim=1)


def choose_evidence_threshold(
    attention: Sequence[Sequence[float]], gold: Sequence[Sequence[int]]
) -> tuple[float, float] | None:
    """Choose the share of attention above which a sentence is evidence, by micro F1 over sentences.

    Args:
        attention (`Sequence[Sequence[float]]`): Sentence attention of each correctly predicted triple.
        gold (`Sequence[Sequence[int]]`):
            Gold evidence of each. Triples without any are left out: nobody said where their evidence is.

    Returns:
        `tuple[float, float]`, the threshold and its F1, both in [0, 1]; `None` when there is nothing to choose by: no
        triple has gold evidence, or none looks at it.
    """
    scores: list[float] = []
    correct: list[bool] = []
    num_gold = 0
    for row, sentences in zip(attention, gold, strict=True):
        wanted = set(sentences)
        if wanted:
            num_gold += len(wanted)
            scores.extend(row)
            correct.extend(sentence in wanted for sentence in range(len(row)))
    if not num_gold:
        return None
    # Sums of weights may round to a little above 1.
    shares = torch.tensor(scores, dtype=torch.float64).clamp(0.0, 1.0)
    threshold, f1 = best_threshold(shares, torch.tensor(correct, dtype=torch.bool), num_gold)
    return (threshold, f1) if f1 > 0.0 else None


__all__ = ["choose_evidence_threshold", "sentence_attention"]
