"""
Contrastive losses: pure functions of embeddings, or of their similarities, and of labels or which of them to compare.

Embeddings are compared by cosine. What is too wide to be held for a whole batch, such as the bilinear head's outer
products, comes as `similarity` instead (see `PairFactors.similarity`).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

FORMS = ("pemscl", "vaediff")


def supervised_contrastive_loss(
    embeddings: Tensor | None,
    labels: Tensor,
    *,
    similarity: Tensor | None = None,
    anchors: Tensor | None = None,
    temperature: float = 1.0,
    form: str = "pemscl",
    reference: bool = False,
    reduction: str = "mean",
) -> Tensor:
    r"""
    Supervised contrastive loss for pairs with several relations (PEMSCL, equations 8 to 10; VaeDiff-DocRE, equation
    28). Pairs that share a relation attract each other, all others repel. With \\(s_{ij}\\) the cosine of two pairs
    divided by the temperature and \\(P(i)\\) the pairs that share a relation with anchor \\(i\\),

    $$-\frac{1}{|P(i)|} \sum_{j \in P(i)} \log \frac{e^{s_{ij}}}{\sum_{k \neq i} e^{s_{ik}}}$$

    for every pair that has a relation, then the mean over these anchors; a model with PEMSCL's form takes their sum,
    which it divides as its main loss (equations 7, 10 and 11). The forms differ in what is compared:

    - `"pemscl"`: all pairs of the batch are candidates, those without relation too. An anchor that shares its
      relations with none is pushed away from all: it adds the logarithm of the denominator.
    - `"vaediff"`: pairs with a relation are candidates. An anchor that shares with none adds nothing, but counts.

    The logarithm stands inside the mean, as in the authors' code and in the usual form of this loss (Khosla et al.,
    2020); both papers write it outside.

    Args:
        embeddings (`torch.Tensor` of shape `(num_pairs, width)`):
            Pair embeddings, of any length; `None` with `similarity`.
        labels (`torch.Tensor` of shape `(num_pairs, num_classes)`):
            Multi-hot relations, never changed. Column 0 is read with `reference=True` alone.
        similarity (`torch.Tensor` of shape `(num_anchors, num_pairs)`, *optional*):
            Cosines of the anchors with all pairs, instead of `embeddings`.
        anchors (`torch.Tensor` of shape `(num_anchors,)`, *optional*):
            Rows of `labels` that `similarity` has rows for; all when left out. Anchors without relation are passed
            over.
        temperature (`float`, *optional*, defaults to `1.0`):
            Divides the cosines.
        form (`str`, *optional*, defaults to `"pemscl"`):
            `"pemscl"` or `"vaediff"`.
        reference (`bool`, *optional*, defaults to `False`):
            PEMSCL's published arithmetic, an accident of shapes: with \\(A_i\\) the mean above (0 for an isolated
            anchor), \\(B_i\\) an isolated anchor's \\(\max_j s_{ij} - \log \sum_{k \neq i} e^{s_{ik}}\\) and
            \\(m_i\\) 0 where column 0 is set, \\(-\overline{A m} - \overline{B} \cdot \overline{m}\\) over all pairs
            of the batch. Column 0 is a label like others, so that pairs without relation attract each other where it
            is set; where it was zeroed, as the published loss does before in float32, they are isolated anchors. The
            published loss multiplies this by temperature / base temperature. `"vaediff"` knows no other arithmetic.
        reduction (`str`, *optional*, defaults to `"mean"`):
            `"none"`, `"sum"` or `"mean"` over anchors with a relation; the last alone with `reference=True`.

    Returns:
        `torch.Tensor`: shape `(num_anchors,)` for `"none"`, else a scalar, at least float32; 0.0, attached to the
        graph, where no pair has a relation.

    Raises:
        ValueError: On shapes that do not fit, an unknown `form` or `reduction`, a temperature that is not positive, or
            both or neither of `embeddings` and `similarity`.
    """
    if form not in FORMS:
        raise ValueError(f"`form` is one of {', '.join(map(repr, FORMS))}, got {form!r}.")
    if not temperature > 0:
        raise ValueError(f"`temperature` must be positive, got {temperature}.")
    if labels.dim() != 2:
        raise ValueError(f"`labels` must be (num_pairs, num_classes), got {tuple(labels.shape)}.")
    cosines = _cosines(embeddings, similarity, labels, anchors)
    if anchors is None:
        anchors = torch.arange(len(labels), device=labels.device)
    itself = anchors[:, None] == torch.arange(len(labels), device=labels.device)
    scores = cosines / temperature
    if reference and form == "pemscl":
        if reduction != "mean" or len(anchors) != len(labels) or not bool(itself.diagonal().all()):
            raise ValueError(
                '`reference=True` mixes all pairs: it takes all of them, in order, and `reduction="mean"` alone.'
            )
        return _published_pemscl(scores, labels, itself)
    relations = labels[:, 1:] > 0
    has_relation = relations.any(1)
    shares = _share(relations[anchors], relations) & ~itself
    candidates = ~itself if form == "pemscl" else ~itself & has_relation
    # Whatever is no anchor is taken out at the end: its row must only be finite.
    attracted, denominator = _log_ratios(scores, shares, candidates)
    isolated = ~shares.any(1)
    per_anchor = -attracted
    if form == "pemscl":
        per_anchor = torch.where(isolated & candidates.any(1), denominator, per_anchor)
    chosen = has_relation[anchors]
    if reduction == "none":
        return per_anchor[chosen]
    total = per_anchor.masked_fill(~chosen, 0.0).sum()
    if reduction == "sum":
        return total
    if reduction == "mean":
        return total / chosen.sum().clamp(min=1)
    raise ValueError(f'`reduction` is "none", "sum" or "mean", got {reduction!r}.')


def info_nce_loss(
    embeddings: Tensor,
    keys: Tensor,
    positives: Tensor,
    negatives: Tensor,
    *,
    temperature: float = 0.5,
    positive_reduction: str = "mean",
    reduction: str = "mean",
) -> Tensor:
    r"""
    InfoNCE of anchors that have several positive keys (ERACL, equation 15). With \\(s_{ij}\\) the cosine of an anchor
    and a key divided by the temperature, and \\(N(i)\\) the anchor's negative keys, each positive key \\(j\\) costs

    $$-\log \frac{e^{s_{ij}}}{e^{s_{ij}} + \sum_{k \in N(i)} e^{s_{ik}}}$$

    so that positive keys do not compete with each other. A key that is neither is not read.

    Args:
        embeddings (`torch.Tensor` of shape `(num_anchors, width)`): Anchors, of any length.
        keys (`torch.Tensor` of shape `(num_keys, width)`): Keys, of any length.
        positives (`torch.Tensor` of shape `(num_anchors, num_keys)`): Bool: which keys share a relation with it.
        negatives (`torch.Tensor` of shape `(num_anchors, num_keys)`): Bool: which it is told from.
        temperature (`float`, *optional*, defaults to `0.5`): Divides the cosines.
        positive_reduction (`str`, *optional*, defaults to `"mean"`):
            `"mean"` over an anchor's positive keys, or their `"sum"`, as the paper writes it: then an anchor of a
            frequent relation counts as many times as there are keys of it.
        reduction (`str`, *optional*, defaults to `"mean"`): `"none"`, `"sum"` or `"mean"` over anchors.

    Returns:
        `torch.Tensor`: shape `(num_anchors,)` for `"none"`, else a scalar, at least float32. An anchor without
        positive or without negative keys costs 0.0, and so does none at all.

    Raises:
        ValueError: On shapes that do not fit, an unknown reduction, or a temperature that is not positive.
    """
    if not temperature > 0:
        raise ValueError(f"`temperature` must be positive, got {temperature}.")
    if positive_reduction not in ("mean", "sum"):
        raise ValueError(f'`positive_reduction` is "mean" or "sum", got {positive_reduction!r}.')
    shape = (len(embeddings), len(keys))
    for name, mask in (("positives", positives), ("negatives", negatives)):
        if mask.shape != shape:
            raise ValueError(f"`{name}` must be (num_anchors, num_keys), {shape} here, got {tuple(mask.shape)}.")
    dtype = torch.promote_types(embeddings.dtype, torch.float32)
    with torch.autocast(embeddings.device.type, enabled=False):
        scores = unit_vectors(embeddings.to(dtype)) @ unit_vectors(keys.to(dtype)).t() / temperature
    told_from = negatives.any(1, keepdim=True)
    # A row without negatives keeps all its scores, so that its gradient is finite; it is taken out below.
    against = scores.masked_fill(~negatives & told_from, -torch.inf).logsumexp(1, keepdim=True) if len(keys) else None
    if against is None:
        per_anchor = scores.sum(1)
    else:
        costs = functional.softplus(against - scores).masked_fill(~(positives & told_from), 0.0)
        per_anchor = costs.sum(1)
        if positive_reduction == "mean":
            per_anchor = per_anchor / positives.sum(1).clamp(min=1)
    if reduction == "none":
        return per_anchor
    if reduction == "sum":
        return per_anchor.sum()
    if reduction == "mean":
        return per_anchor.sum() / max(len(per_anchor), 1)
    raise ValueError(f'`reduction` is "none", "sum" or "mean", got {reduction!r}.')


def unit_vectors(embeddings: Tensor) -> Tensor:
    """Embeddings `(number, width)` at length 1. What is behind a ReLU may be all zeros, which have no direction: they
    stay zeros, without a gradient.
    """
    lengths = embeddings.norm(dim=1, keepdim=True)
    some = lengths > 0
    return torch.where(some, embeddings / torch.where(some, lengths, 1.0), 0.0)


def _cosines(embeddings: Tensor | None, similarity: Tensor | None, labels: Tensor, anchors: Tensor | None) -> Tensor:
    if (embeddings is None) == (similarity is None):
        raise ValueError("Pass `embeddings` (num_pairs, width), or their cosines as `similarity`: one of the two.")
    given: Tensor = embeddings if similarity is None else similarity  # type: ignore[assignment]
    rows = len(labels) if similarity is None or anchors is None else len(anchors)
    if given.dim() != 2 or len(given) != rows or (similarity is not None and given.shape[1] != len(labels)):
        shape = "(num_pairs, width)" if similarity is None else "(num_anchors, num_pairs)"
        raise ValueError(
            f"{'`embeddings`' if similarity is None else '`similarity`'} must be {shape} beside `labels` "
            f"{tuple(labels.shape)}, got {tuple(given.shape)}."
        )
    given = given.to(torch.promote_types(given.dtype, torch.float32))
    if similarity is not None:
        return given
    with torch.autocast(given.device.type, enabled=False):
        normed = functional.normalize(given, dim=1)
        return (normed if anchors is None else normed[anchors]) @ normed.t()


def _share(left: Tensor, right: Tensor) -> Tensor:
    """Which rows of two label tables have a column in common."""
    with torch.autocast(left.device.type, enabled=False):
        return left.float() @ right.float().t() > 0


def _log_ratios(scores: Tensor, shares: Tensor, candidates: Tensor) -> tuple[Tensor, Tensor]:
    """Mean log ratio of each anchor over those it shares with (0 where there are none), and its log denominator."""
    # An anchor without any candidate has no denominator; any finite number keeps its gradient finite.
    alone = ~candidates.any(1, keepdim=True)
    denominator = scores.masked_fill(~(candidates | alone), -torch.inf).logsumexp(1)
    ratios = (scores - denominator[:, None]).masked_fill(~shares, 0.0)
    return ratios.sum(1) / shares.sum(1).clamp(min=1), denominator


def _published_pemscl(scores: Tensor, labels: Tensor, itself: Tensor) -> Tensor:
    if len(labels) == 0:
        return scores.sum()
    flags = labels > 0
    shares = _share(flags, flags) & ~itself
    attracted, denominator = _log_ratios(scores, shares, ~itself)
    isolated = torch.where(shares.any(1), 0.0, scores.max(1).values - denominator)
    counted = (~flags[:, 0]).to(scores.dtype)
    return -(attracted * counted).mean() - isolated.mean() * counted.mean()


__all__ = ["FORMS", "info_nce_loss", "supervised_contrastive_loss", "unit_vectors"]
