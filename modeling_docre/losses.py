"""
Losses of the relation classifiers: pure functions of logits and labels.

All of them share one contract:

- `logits` and `labels` are `(num_pairs, num_classes)`. Class 0 is the threshold class, classes 1 and up are the
  relations. `labels` is multi-hot of any dtype; an entry above 0 says that the relation holds. Column 0 is never
  read (a pair without relations is a row without relations), and `labels` is never changed.
- `reduction` is `"none"` (one value per pair, `(num_pairs,)`), `"sum"` or `"mean"` over pairs. A batch without pairs
  gives 0.0, still attached to the graph, so that a batch of documents with one entity each can be trained on.
- Half precision logits are computed, and the loss is returned, in float32: exponentials and the sum over classes
  lose too much in float16 and bfloat16. The same holds under autocast.
- No loop over rows and no synchronisation with the device: they compile with `torch.compile(fullgraph=True)`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

# The published pairwise moving-threshold loss guards its logarithms with this; -log(1e-30), about 69, is therefore
# the most that one relation can cost there.
_PUBLISHED_LOG_FLOOR = 1e-30


def adaptive_thresholding_loss(
    logits: Tensor,
    labels: Tensor,
    *,
    negative_label_rate: float | None = None,
    generator: torch.Generator | None = None,
    reduction: str = "mean",
) -> Tensor:
    r"""
    Adaptive thresholding loss (ATL) of ATLOP (Zhou et al., 2021), as in the authors' code.

    With \\(P\\) the relations of a pair, \\(N\\) all others and \\(s\\) the logits,

    $$-\sum_{r \in P} \log \frac{e^{s_r}}{\sum_{r' \in P \cup \{0\}} e^{s_{r'}}}
      - \log \frac{e^{s_0}}{\sum_{r' \in N \cup \{0\}} e^{s_{r'}}}$$

    Args:
        logits (`torch.Tensor` of shape `(num_pairs, num_classes)`):
            Scores; class 0 is the threshold class.
        labels (`torch.Tensor` of shape `(num_pairs, num_classes)`):
            Multi-hot relations. Column 0 is not read.
        negative_label_rate (`float`, *optional*):
            Probability with which each relation stays in the second term of a pair that has no relation, drawn anew
            for every pair and relation: the loss against false negatives of PEMSCL (section 3.5), which that paper
            applies to this loss too. A dropped relation leaves the softmax, so that it neither pushes the threshold
            class up nor is pushed down; the threshold class always stays. Pairs with relations are left alone. `None`
            and 1.0 keep everything and draw nothing.
        generator (`torch.Generator`, *optional*):
            Source of that draw, on the device of `logits`; torch's global one by default.
        reduction (`str`, *optional*, defaults to `"mean"`):
            `"none"`, `"sum"` or `"mean"` over pairs.

    Returns:
        `torch.Tensor`: shape `(num_pairs,)` for `"none"`, else a scalar; at least float32.

    Raises:
        ValueError: On shapes that do not fit, an unknown `reduction` or a rate outside [0, 1].
    """
    logits, positives = _check(logits, labels)
    negatives = _drop_negatives(positives, negative_label_rate, generator)
    threshold, relations = logits[:, :1], logits[:, 1:]
    among_positives = _log_total(threshold, relations, positives)
    among_negatives = _log_total(threshold, relations, negatives)
    positive_part = _masked_sum(among_positives[:, None] - relations, positives)
    return reduce_pairs(positive_part + among_negatives - threshold[:, 0], reduction)


def adaptive_focal_loss(
    logits: Tensor,
    labels: Tensor,
    *,
    gamma: float = 1.0,
    offset: float = 1.0,
    reduction: str = "mean",
) -> Tensor:
    r"""
    Adaptive focal loss (AFL) of KD-DocRE, equations 9 to 11: every relation that holds is compared with the threshold
    class alone, and weighs more the less it is predicted; the others are treated as in
    [`adaptive_thresholding_loss`]. With \\(p_r = \sigma(s_r - s_0)\\),

    $$-\sum_{r \in P} \big(\text{offset} + (1 - p_r)^\gamma\big) \log p_r
      - \log \frac{e^{s_0}}{\sum_{r' \in N \cup \{0\}} e^{s_{r'}}}$$

    The defaults are the authors' code. The paper's form is `offset=0.0, gamma=0.5`, where relations that are already
    predicted well are hardly trained on.

    Args:
        logits (`torch.Tensor` of shape `(num_pairs, num_classes)`):
            Scores; class 0 is the threshold class.
        labels (`torch.Tensor` of shape `(num_pairs, num_classes)`):
            Multi-hot relations. Column 0 is not read.
        gamma (`float`, *optional*, defaults to `1.0`):
            How fast the extra weight falls with the probability.
        offset (`float`, *optional*, defaults to `1.0`):
            Weight of the plain log-likelihood beside it.
        reduction (`str`, *optional*, defaults to `"mean"`):
            `"none"`, `"sum"` or `"mean"` over pairs.

    Returns:
        `torch.Tensor`: shape `(num_pairs,)` for `"none"`, else a scalar; at least float32.

    Raises:
        ValueError: On shapes that do not fit, an unknown `reduction` or a negative `gamma`.
    """
    if gamma < 0:
        raise ValueError(f"`gamma` must not be negative, or errors would weigh less than what is right: got {gamma}.")
    logits, positives = _check(logits, labels)
    threshold, relations = logits[:, :1], logits[:, 1:]
    margins = relations - threshold
    # A power of the log-sigmoid and not of 1 - p, whose slope is infinite at 0 where gamma is below 1.
    weights = offset + torch.exp(gamma * functional.logsigmoid(-margins))
    focal = _masked_sum(-weights * functional.logsigmoid(margins), positives)
    among_negatives = _log_total(threshold, relations, ~positives)
    return reduce_pairs(focal + among_negatives - threshold[:, 0], reduction)


def pairwise_moving_threshold_loss(
    logits: Tensor,
    labels: Tensor,
    *,
    entropy: bool = True,
    positive_entropy_weight: float = 1.0,
    negative_entropy_weight: float = 1.0,
    entropy_norm: str = "count",
    negative_label_rate: float | None = None,
    shared_mask: bool = False,
    reference_broadcast: bool = False,
    generator: torch.Generator | None = None,
    reduction: str = "mean",
) -> Tensor:
    r"""
    Pairwise moving-threshold loss with entropy minimisation (PMT + EM) of PEMSCL, equations 3 to 7 and 12.

    Every relation is compared with the threshold class alone. With \\(m_r = s_r - s_0\\),
    \\(p_r = \sigma(m_r)\\) and \\(H\\) the binary entropy in nats,

    $$-\sum_{r \in P} \log p_r - \sum_{r \in N} \log(1 - p_r)
      + \frac{1}{\gamma_1} \sum_{r \in P} H(p_r) + \frac{1}{\gamma_2} \sum_{r \in N} H(p_r)$$

    The default is this formula for every pair, then the mean over pairs (the paper sums; the code takes the mean). In
    the authors' code the factors \\(1/\gamma\\) of a pair are broadcast over all pairs, so that their mean multiplies
    the mean entropy: an accident of shapes, which `reference_broadcast=True` reproduces.

    Args:
        logits (`torch.Tensor` of shape `(num_pairs, num_classes)`):
            Scores; class 0 is the threshold class.
        labels (`torch.Tensor` of shape `(num_pairs, num_classes)`):
            Multi-hot relations. Column 0 is not read.
        entropy (`bool`, *optional*, defaults to `True`):
            Whether to add the two entropy terms. Without them this is the sum of the logistic losses of all margins.
        positive_entropy_weight (`float`, *optional*, defaults to `1.0`):
            Factor of the entropy of the relations that hold (lambda 1 in the code).
        negative_entropy_weight (`float`, *optional*, defaults to `1.0`):
            Factor of the entropy of the others (lambda 2 in the code).
        entropy_norm (`str`, *optional*, defaults to `"count"`):
            What divides each entropy term: `"count"`, the number of relations in it (at least 1), as the code does
            and the paper for Re-DocRED; or `"one"`, as the paper for DocRED.
        negative_label_rate (`float`, *optional*):
            Probability with which each relation of a pair that has no relation takes part (section 3.5; 0.1 in the
            paper), drawn anew for every pair and relation. Dropped relations cost nothing and are not counted by
            `entropy_norm`. `None` and 1.0 keep everything and draw nothing.
        shared_mask (`bool`, *optional*, defaults to `False`):
            Draw one set of relations for all pairs of the call, as the code does.
        reference_broadcast (`bool`, *optional*, defaults to `False`):
            The arithmetic of the authors' code: the broadcast above; logarithms of `p + 1e-30`, so that the gradient
            of a relation vanishes when its margin is wrong by more than about 69; dropped relations still counted by
            `entropy_norm`. With `negative_label_rate`, their code is this together with `shared_mask=True`.
        generator (`torch.Generator`, *optional*):
            Source of the draw, on the device of `logits`; torch's global one by default.
        reduction (`str`, *optional*, defaults to `"mean"`):
            `"none"`, `"sum"` or `"mean"` over pairs; the last alone with `reference_broadcast=True`.

    Returns:
        `torch.Tensor`: shape `(num_pairs,)` for `"none"`, else a scalar; at least float32.

    Raises:
        ValueError: On shapes that do not fit, an unknown `reduction` or `entropy_norm`, a rate outside [0, 1], or
            `reference_broadcast=True` with another reduction than `"mean"`.
    """
    if entropy_norm not in ("count", "one"):
        raise ValueError(f'`entropy_norm` is "count" or "one", got {entropy_norm!r}.')
    if reference_broadcast and reduction != "mean":
        raise ValueError(
            f'`reference_broadcast=True` mixes all pairs and knows `reduction="mean"` alone, got {reduction!r}. Set '
            "`reference_broadcast=False` for a loss per pair."
        )
    logits, positives = _check(logits, labels)
    negatives = _drop_negatives(positives, negative_label_rate, generator, shared=shared_mask)
    margins = logits[:, 1:] - logits[:, :1]
    if reference_broadcast:
        log_p = torch.log(torch.sigmoid(margins) + _PUBLISHED_LOG_FLOOR)
        log_q = torch.log(torch.sigmoid(-margins) + _PUBLISHED_LOG_FLOOR)
    else:
        log_p, log_q = functional.logsigmoid(margins), functional.logsigmoid(-margins)
    pairwise = -_masked_sum(log_p, positives) - _masked_sum(log_q, negatives)
    if not entropy:
        return reduce_pairs(pairwise, reduction)

    # sigmoid(-m) and not 1 - sigmoid(m): the latter is rounded to 0 from a margin of 17 on.
    entropies = -torch.sigmoid(margins) * log_p - torch.sigmoid(-margins) * log_q
    positive_entropy = positive_entropy_weight * _masked_sum(entropies, positives)
    negative_entropy = negative_entropy_weight * _masked_sum(entropies, negatives)
    if entropy_norm == "one":
        return reduce_pairs(pairwise + positive_entropy + negative_entropy, reduction)
    positive_share = 1.0 / positives.sum(dim=1, dtype=logits.dtype).clamp(min=1.0)
    counted = ~positives if reference_broadcast else negatives
    negative_share = 1.0 / counted.sum(dim=1, dtype=logits.dtype).clamp(min=1.0)
    if reference_broadcast:
        positive_share, negative_share = reduce_pairs(positive_share, "mean"), reduce_pairs(negative_share, "mean")
    return reduce_pairs(pairwise + positive_entropy * positive_share + negative_entropy * negative_share, reduction)


def none_class_ranking_loss(
    logits: Tensor,
    labels: Tensor,
    *,
    shift: float = 0.0,
    regularizer: bool = True,
    log_floor: float = 1e-8,
    reduction: str = "mean",
) -> Tensor:
    r"""
    None-class ranking loss of NCRL (Zhou and Lee, 2022), as in the authors' code: the logistic loss of every margin
    \\(m_r = s_r - s_0\\), and one more, the regularizer, that ranks the threshold class against the mean of all
    relations, \\(m_0 = s_0 - \overline{s_r}\\), by whether the pair has none.

    Args:
        logits (`torch.Tensor` of shape `(num_pairs, num_classes)`):
            Scores; class 0 is the threshold class.
        labels (`torch.Tensor` of shape `(num_pairs, num_classes)`):
            Multi-hot relations. Column 0 is not read.
        shift (`float`, *optional*, defaults to `0.0`):
            Probability by which what does not hold is shifted towards "does not hold", so that easy negatives cost
            nothing: \\(\min(1, 1 - p + \text{shift})\\) takes the place of \\(1 - p\\). In the regularizer too. The
            authors' script names no value; 0.05 is usual for this device.
        regularizer (`bool`, *optional*, defaults to `True`):
            Whether to add the term of the threshold class.
        log_floor (`float`, *optional*, defaults to `1e-8`):
            Least probability that is taken the logarithm of. Beyond, a margin costs 18.4 and has no gradient, as
            published; for a relation that does not hold, that begins near 16.6, where float32 rounds \\(1 - p\\) to 0.
            0.0 has neither limit, and is exact for all margins.
        reduction (`str`, *optional*, defaults to `"mean"`):
            `"none"`, `"sum"` or `"mean"` over pairs.

    Returns:
        `torch.Tensor`: shape `(num_pairs,)` for `"none"`, else a scalar; at least float32.

    Raises:
        ValueError: On shapes that do not fit, an unknown `reduction`, a `shift` outside [0, 1), or a `log_floor` that
            is neither 0 nor from 1e-8 to below 1: smaller ones are below what float32 makes of \\(1 - p\\).
    """
    if not 0.0 <= shift < 1.0:
        raise ValueError(f"`shift` is a probability from 0 to below 1, got {shift}.")
    if log_floor != 0.0 and not 1e-8 <= log_floor < 1.0:
        raise ValueError(f"`log_floor` is 0, for no floor, or a probability from 1e-8 to below 1, got {log_floor}.")
    logits, positives = _check(logits, labels)
    threshold, relations = logits[:, :1], logits[:, 1:]
    margins, holds = relations - threshold, positives
    if regularizer and relations.shape[1]:
        margins = torch.cat([threshold - relations.mean(dim=1, keepdim=True), margins], dim=1)
        holds = torch.cat([~positives.any(dim=1, keepdim=True), positives], dim=1)
    if log_floor:
        # The published arithmetic, roundings included; the floor hides what 1 - p loses.
        p = torch.sigmoid(margins)
        log_p = p.clamp(min=log_floor).log()
        log_q = (1 - p + shift).clamp(min=log_floor, max=1.0).log()
    else:
        log_p, log_q = functional.logsigmoid(margins), functional.logsigmoid(-margins)
        if shift:
            log_q = (log_q.exp() + shift).clamp(max=1.0).log()
    return reduce_pairs(-torch.where(holds, log_p, log_q).sum(dim=1), reduction)


def balanced_softmax_loss(logits: Tensor, labels: Tensor, *, reduction: str = "mean") -> Tensor:
    r"""
    Balanced softmax loss of DocuNet (Zhang et al., 2021), as in the authors' code. All classes are alike, and class 0,
    "no relation", holds where no other does: with \\(P\\) the classes that hold and \\(N\\) the others,

    $$\log\Big(1 + \sum_{c \in N} e^{s_c}\Big) + \log\Big(1 + \sum_{c \in P} e^{-s_c}\Big)$$

    so that 0 is the threshold (`decision="zero"`).

    Args:
        logits (`torch.Tensor` of shape `(num_pairs, num_classes)`):
            Scores.
        labels (`torch.Tensor` of shape `(num_pairs, num_classes)`):
            Multi-hot relations. Column 0 is not read.
        reduction (`str`, *optional*, defaults to `"mean"`):
            `"none"`, `"sum"` or `"mean"` over pairs.

    Returns:
        `torch.Tensor`: shape `(num_pairs,)` for `"none"`, else a scalar; at least float32.

    Raises:
        ValueError: On shapes that do not fit or an unknown `reduction`.
    """
    logits, positives = _check(logits, labels)
    holds = torch.cat([~positives.any(dim=1, keepdim=True), positives], dim=1)
    zero = logits.new_zeros(len(logits), 1)
    return reduce_pairs(_log_total(zero, logits, ~holds) + _log_total(zero, -logits, holds), reduction)


def adaptive_softmax_loss(logits: Tensor, labels: Tensor, *, reduction: str = "mean") -> Tensor:
    r"""
    Adaptive softmax loss of PAEE (equation 9): [`balanced_softmax_loss`] with the threshold class in the place of 0,
    and of relations alone. With \\(P\\) the relations of a pair, \\(N\\) all others and \\(s_0\\) the threshold class,

    $$\log\Big(e^{s_0} + \sum_{r \in N} e^{s_r}\Big) + \log\Big(e^{-s_0} + \sum_{r \in P} e^{-s_r}\Big)$$

    Args:
        logits (`torch.Tensor` of shape `(num_pairs, num_classes)`):
            Scores.
        labels (`torch.Tensor` of shape `(num_pairs, num_classes)`):
            Multi-hot relations. Column 0 is not read.
        reduction (`str`, *optional*, defaults to `"mean"`):
            `"none"`, `"sum"` or `"mean"` over pairs.

    Returns:
        `torch.Tensor`: shape `(num_pairs,)` for `"none"`, else a scalar; at least float32.

    Raises:
        ValueError: On shapes that do not fit or an unknown `reduction`.
    """
    logits, positives = _check(logits, labels)
    threshold, scores = logits[:, :1], logits[:, 1:]
    above = _log_total(threshold, scores, ~positives)
    return reduce_pairs(above + _log_total(-threshold, -scores, positives), reduction)


def binary_cross_entropy_loss(logits: Tensor, labels: Tensor, *, reduction: str = "mean") -> Tensor:
    """
    Binary cross-entropy of every relation's own logit, for models that decide by one global probability (the
    ATLOP + BCE rows of the papers' tables).

    The loss of a pair is the **sum** over relations, which puts it on the scale of the other losses (it is
    [`pairwise_moving_threshold_loss`] without entropy and with a threshold that stays at 0). The DocRED baselines
    average over all entries of the label matrix instead: divide by the number of relations for their scale.

    Args:
        logits (`torch.Tensor` of shape `(num_pairs, num_classes)`):
            Scores. The logit of class 0 takes no part: there is no threshold class, and no gradient reaches it.
        labels (`torch.Tensor` of shape `(num_pairs, num_classes)`):
            Multi-hot relations. Column 0 is not read.
        reduction (`str`, *optional*, defaults to `"mean"`):
            `"none"`, `"sum"` or `"mean"` over pairs.

    Returns:
        `torch.Tensor`: shape `(num_pairs,)` for `"none"`, else a scalar; at least float32.

    Raises:
        ValueError: On shapes that do not fit or an unknown `reduction`.
    """
    logits, positives = _check(logits, labels)
    relations = logits[:, 1:]
    costs = torch.where(positives, -functional.logsigmoid(relations), -functional.logsigmoid(-relations))
    return reduce_pairs(costs.sum(dim=1), reduction)


def _check(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """`logits` in float32 or better, and where a relation holds: bool of shape `(num_pairs, num_classes - 1)`."""
    if logits.dim() != 2 or logits.shape[1] == 0 or logits.shape != labels.shape:
        raise ValueError(
            "`logits` and `labels` must both be (num_pairs, num_classes), with the threshold class in column 0 and "
            f"labels multi-hot, got {tuple(logits.shape)} and {tuple(labels.shape)}."
        )
    return logits.to(torch.promote_types(logits.dtype, torch.float32)), labels[:, 1:] > 0


def _drop_negatives(
    positives: Tensor, rate: float | None, generator: torch.Generator | None, *, shared: bool = False
) -> Tensor:
    """The relations that count as negative: all that do not hold, or a sample of them for pairs without relations."""
    negatives = ~positives
    if rate is None:
        return negatives
    if not 0.0 <= rate <= 1.0:
        raise ValueError(f"`negative_label_rate` is a probability in [0, 1], or None to keep all labels, got {rate}.")
    if rate == 1.0:
        return negatives
    return negatives & (positives.any(dim=1, keepdim=True) | _draw_kept(positives, rate, generator, shared=shared))


def _draw_kept(positives: Tensor, rate: float, generator: torch.Generator | None, *, shared: bool) -> Tensor:
    num_pairs, num_relations = positives.shape
    size = (1 if shared else num_pairs, num_relations)
    # Not torch.rand: with a generator argument, even None, it can't be compiled for sizes that change.
    return torch.empty(size, device=positives.device).uniform_(generator=generator) < rate


def _log_total(first: Tensor, others: Tensor, among: Tensor) -> Tensor:
    """Logarithm of the sum of exponentials of `first` `(num_pairs, 1)` and of `others` where `among` holds."""
    # Masking with -inf is exact in every dtype; the constant 1e30 of the published code overflows in float16.
    return torch.cat([first, others.masked_fill(~among, -torch.inf)], dim=1).logsumexp(dim=1)


def _masked_sum(values: Tensor, mask: Tensor) -> Tensor:
    """Sum over relations where `mask` holds; a product would turn an infinity outside of it into NaN."""
    return values.masked_fill(~mask, 0.0).sum(dim=1)


def reduce_pairs(per_pair: Tensor, reduction: str) -> Tensor:
    """What `reduction` makes of one value per pair, `(num_pairs,)`."""
    if reduction == "none":
        return per_pair
    if reduction == "sum":
        return per_pair.sum()
    if reduction == "mean":
        return per_pair.sum() / max(per_pair.shape[0], 1)
    raise ValueError(f'`reduction` is "none", "sum" or "mean", got {reduction!r}.')
