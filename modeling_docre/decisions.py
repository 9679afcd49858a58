"""
From logits to probabilities and predicted relations: the only place that knows the decision rules.

| decision | a relation is predicted when its logit is above | its probability |
| --- | --- | --- |
| `"threshold-class"` | the logit of class 0 | sigmoid of the difference of the two |
| `"zero"` | 0 | sigmoid of its logit |
| `"probability"` | that of one global probability, 0.5 unless tuned | sigmoid of its logit |
"""

from __future__ import annotations

import math
import sys

import torch
from torch import Tensor
from torch.nn import functional

DECISIONS: tuple[str, ...] = ("threshold-class", "zero", "probability")


def relation_scores(logits: Tensor, decision: str) -> Tensor:
    """
    Probability of every relation.

    Args:
        logits (`torch.Tensor` of shape `(num_pairs, num_classes)`):
            Scores; class 0 is the threshold class.
        decision (`str`):
            One of `DECISIONS`.

    Returns:
        `torch.Tensor` of shape `(num_pairs, num_classes)`: probabilities in [0, 1], at least float32. Column 0, "no
        relation", is 1 minus the highest of the others (1.0 when there are none). A logit that is NaN stays NaN.

    Raises:
        ValueError: On logits of another shape or an unknown `decision`.
    """
    logits = _check(logits, decision)
    margins = logits[:, 1:] - logits[:, :1] if decision == "threshold-class" else logits[:, 1:]
    scores = margins.sigmoid()
    # The column of zeros makes the maximum exist where there is no relation at all.
    best = functional.pad(scores, (1, 0)).amax(dim=1, keepdim=True)
    return torch.cat([1.0 - best, scores], dim=1)


def predict(logits: Tensor, decision: str, *, max_relations: int | None = 4, threshold: float | None = None) -> Tensor:
    """
    Predicted relations of every pair, as in the authors' code of ATLOP and its successors, DocuNet's for `"zero"`.

    A relation is predicted when its logit is strictly above the bar of the decision, and at least the
    `max_relations`-th largest of its pair. Logits that tie at that place all pass, so there can be more. With
    `"zero"`, class 0 takes part in that ranking (it can take one of the places); with `"threshold-class"` it makes no
    difference, since class 0 is below all that is predicted; with `"probability"` it takes no part, since that logit
    isn't trained.

    Args:
        logits (`torch.Tensor` of shape `(num_pairs, num_classes)`):
            Scores; class 0 is the threshold class. A relation whose logit is NaN is never predicted.
        decision (`str`):
            One of `DECISIONS`.
        max_relations (`int`, *optional*, defaults to `4`):
            How many relations a pair can have; `None` or -1 for no limit.
        threshold (`float`, *optional*):
            Probability in [0, 1] that a relation must exceed in [`relation_scores`]; `None` is 0.5. Logits are
            compared, not rounded probabilities: the threshold class is shifted by `log(threshold / (1 - threshold))`.

    Returns:
        `torch.Tensor` of shape `(num_pairs, num_classes)`: bool, multi-hot. Column 0 is `True` exactly where no
        relation is predicted.

    Raises:
        ValueError: On logits of another shape, an unknown `decision`, or `max_relations` or `threshold` out of range.
    """
    logits = _check(logits, decision)
    if max_relations is not None and max_relations != -1 and max_relations < 1:
        raise ValueError(f"`max_relations` is at least 1, or None or -1 for no limit, got {max_relations}.")
    relations = logits[:, 1:]
    bar = 0.0 if threshold is None else _logit(threshold)
    predicted = relations > (logits[:, :1] + bar if decision == "threshold-class" else bar)
    if max_relations is not None and max_relations != -1:
        ranked = logits if decision == "zero" else relations
        # topk takes NaN for the largest value, where it would cost a sound relation its place.
        ranked = ranked.masked_fill(ranked.isnan(), -torch.inf)
        predicted &= relations >= ranked.topk(min(max_relations, ranked.shape[1])).values[:, -1:]
    return torch.cat([~predicted.any(dim=1, keepdim=True), predicted], dim=1)


def best_threshold(scores: Tensor, is_correct: Tensor, num_gold: int) -> tuple[float, float]:
    """
    The probability threshold with the highest micro F1 on scored candidates.

    Facts are predicted when their score is strictly above the threshold. Candidates with equal scores are never
    separated; the threshold lies in the middle between the lowest score that it lets in and the highest that it does
    not (or 0). Of equally good thresholds the lowest is taken.

    Args:
        scores (`torch.Tensor` of shape `(num_candidates,)`):
            Probabilities in [0, 1] of all candidates that a threshold may let in: those that the limit of relations
            per pair would remove are left out by the caller.
        is_correct (`torch.Tensor` of shape `(num_candidates,)`):
            Whether each of them is a gold fact; entries above 0 are.
        num_gold (`int`):
            Number of all gold facts, those without a candidate included.

    Returns:
        `tuple[float, float]`: the threshold, and the micro F1 on these candidates, both in [0, 1]. `(0.5, 0.0)` when
        no candidate is correct: there is nothing to tune on then.

    Raises:
        ValueError: On different shapes, scores that aren't probabilities, or fewer gold facts than correct
            candidates.
    """
    if scores.dim() != 1 or scores.shape != is_correct.shape:
        raise ValueError(
            "`scores` and `is_correct` must both be flat, one entry per candidate, got "
            f"{tuple(scores.shape)} and {tuple(is_correct.shape)}."
        )
    # float64 holds the middle of two float32 scores; not every accelerator has it, so this runs on the CPU.
    scores, order = scores.detach().cpu().double().sort(descending=True)
    hits = (is_correct.cpu() > 0)[order].cumsum(dim=0)
    num_correct = int(hits[-1]) if len(hits) else 0
    if not bool(((scores >= 0) & (scores <= 1)).all()):
        raise ValueError("`scores` must be probabilities in [0, 1]; some are outside or NaN. Use `relation_scores`.")
    if num_correct > num_gold:
        raise ValueError(f"`num_gold` is {num_gold}, but {num_correct} candidates are correct: count all gold facts.")

    # next_scores[i] is what the cut after candidate i keeps out; 0 can't be let in by any threshold.
    next_scores = torch.cat([scores[1:], scores.new_zeros(1)])[: len(scores)]
    f1 = 2.0 * hits.double() / (torch.arange(1, len(scores) + 1) + num_gold)
    f1 = f1.masked_fill(scores == next_scores, -1.0)
    best = float(f1.max()) if len(f1) else 0.0
    if best <= 0.0:
        return 0.5, 0.0
    cut = int((f1 == best).nonzero()[-1])
    kept, excluded = float(scores[cut]), float(next_scores[cut])
    middle = (kept + excluded) / 2.0
    # Between neighbouring float64 numbers there is no middle: it rounds to one of the two.
    return (middle if middle < kept else excluded), best


def _check(logits: Tensor, decision: str) -> Tensor:
    if decision not in DECISIONS:
        raise ValueError(f"`decision` is one of {', '.join(map(repr, DECISIONS))}, got {decision!r}.")
    if logits.dim() != 2 or logits.shape[1] == 0:
        raise ValueError(
            "`logits` must be (num_pairs, num_classes) with the threshold class in column 0, got "
            f"{tuple(logits.shape)}."
        )
    # A sum with the threshold class would round away what float16 and bfloat16 logits differ by.
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _logit(probability: float) -> float:
    if not 0.0 <= probability <= 1.0:
        raise ValueError(f"`threshold` is a probability in [0, 1], or None for 0.5, got {probability}.")
    if probability == 1.0:
        return math.inf
    if probability == 0.0:
        # What has a probability of 0, as a pair that was left out has, does not exceed it.
        return math.log(sys.float_info.min)
    return math.log(probability / (1.0 - probability))


def evidence_sentences(attention: Tensor, threshold: float) -> list[tuple[int, ...]]:
    """The sentences that a pair's attention makes evidence: those strictly above the threshold.

    Args:
        attention (`torch.Tensor` of shape `(num_pairs, sentences)`): From [`sentence_attention`].
        threshold (`float`): Share of the attention in [0, 1] that a sentence must exceed.

    Returns:
        `list[tuple[int, ...]]`: Sentence ids of each pair, ascending.
    """
    found: list[list[int]] = [[] for _ in range(len(attention))]
    # In float64, as the threshold was chosen: rounded to float32 it would keep out what it is to let in. Not every
    # accelerator has that.
    for row, sentence in (attention.cpu().double() > threshold).nonzero().tolist():
        found[row].append(sentence)
    return [tuple(sentences) for sentences in found]
