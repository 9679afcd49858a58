"""The method's whole loss: what a config says, of logits, labels and pair embeddings."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from .augmentation import pairs_to_augment
from .configuration_docre import DocREConfig
from .contrastive import supervised_contrastive_loss
from .distillation_losses import distillation_kl_loss, distillation_mse_loss
from .encoding import run_again
from .head_bilinear import PairFactors, group_similarity
from .losses import (
    adaptive_focal_loss,
    adaptive_softmax_loss,
    adaptive_thresholding_loss,
    balanced_softmax_loss,
    binary_cross_entropy_loss,
    none_class_ranking_loss,
    pairwise_moving_threshold_loss,
)
from .names import nearest_name

LOSS_FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "atl": adaptive_thresholding_loss,
    "afl": adaptive_focal_loss,
    "pmt": pairwise_moving_threshold_loss,
    "ncrl": none_class_ranking_loss,
    "balanced": balanced_softmax_loss,
    "adaptive": adaptive_softmax_loss,
    "bce": binary_cross_entropy_loss,
}

# Joins the rows of tensors with those of other processes: the joined tensors, and where the own rows are.
RowGatherer = Callable[..., tuple[tuple[Tensor, ...], slice]]

DISTILLATION_FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "mse": distillation_mse_loss,
    "kl": distillation_kl_loss,
}

# Numbers of a table of anchors by pairs that exists at one time.
_COMPARED = 1 << 20

# What is passed to the losses here, and is not for a config to say.
_FILLED_IN = ("logits", "labels", "generator", "reduction", "embeddings", "similarity", "anchors")


def method_losses(
    config: DocREConfig,
    logits: Tensor,
    labels: Tensor,
    embeddings: Tensor | PairFactors,
    pairs: Tensor,
    num_entities: Tensor,
    *,
    training: bool,
    num_items_in_batch: Tensor | int | None = None,
    num_augmented_in_batch: Tensor | int | None = None,
    num_anchors_in_batch: Tensor | int | None = None,
    num_extra_in_batch: Tensor | int | None = None,
    gather_rows: RowGatherer | None = None,
    augmented: tuple[Tensor, Tensor] | None = None,
    extra: tuple[Tensor, Tensor, Tensor] | None = None,
    teacher_logits: Tensor | None = None,
) -> dict[str, Tensor]:
    """Compute the parts of the loss, each weighted as it enters their sum.

    The main loss is a mean over rows. PEMSCL adds two sums over the same batch (equations 7, 10 and 11), so that its
    contrastive loss is divided by as many rows; that of VaeDiff-DocRE is a mean over anchors. Distillation is a mean
    over these rows as well: those of the diagonal, where teacher and student have zeros, add nothing. Where
    several micro-batches make one step, their parts add up to the loss of one large batch if each gets the step's
    numbers. Of the contrastive loss that holds as far as it can: an anchor counts as much in any micro-batch, but is
    compared with the pairs of its own alone, or with those of all processes where `gather_rows` joins them.

    Augmented rows (ERA, section 3.4) are further rows of the main loss and of what it is a mean over, and of no other:
    the contrastive loss compares the pairs themselves, and a teacher knows them alone.

    Extra pairs (VaeDiff-DocRE, section 2.3.3) have the main loss too, a mean over them and a part of its own, as
    published; the paper joins both in one mean. The contrastive loss compares them with the pairs and each other, and
    is divided by them as by other pairs.

    Args:
        config ([`DocREConfig`]): The loss and its arguments.
        logits (`torch.Tensor` of shape `(num_pairs, num_classes)`): Scores.
        labels (`torch.Tensor` of shape `(num_pairs, num_classes)`): Multi-hot; never changed.
        embeddings (`torch.Tensor` of shape `(num_pairs, width)` or [`PairFactors`]): Read by the contrastive loss.
        pairs (`torch.Tensor` of shape `(num_pairs, 3)`): Document, head, tail.
        num_entities (`torch.Tensor` of shape `(batch,)`): Entities per document.
        training (`bool`): Whether `negative_label_rate` counts.
        num_items_in_batch (`int` or `torch.Tensor`, *optional*):
            Rows of all micro-batches and processes of a step, as [`rows_in_mean`] counts them; those given here when
            left out.
        num_augmented_in_batch (`int` or `torch.Tensor`, *optional*):
            Their augmented rows, as [`count_augmented`] counts them; not read without `num_items_in_batch`. Without
            it, they are taken to be as many for each row as here.
        num_anchors_in_batch (`int` or `torch.Tensor`, *optional*):
            Their anchors, as [`count_anchors`] counts them, which a contrastive loss of form `"vaediff"` is a mean
            over; not read without `num_items_in_batch`. Without it, an anchor counts as its micro-batch has rows.
        num_extra_in_batch (`int` or `torch.Tensor`, *optional*):
            Their extra pairs, those that are anchors being counted there too; not read without `num_items_in_batch`.
            Without it, an extra pair counts as its micro-batch has rows.
        gather_rows (`Callable`, *optional*):
            Joins the rows of tensors with those of other processes, as [`processes.gather_rows`] does.
        augmented (`tuple[torch.Tensor, torch.Tensor]`, *optional*):
            Logits and labels of augmented rows, both `(num_augmented, num_classes)`.
        extra (`tuple[torch.Tensor, torch.Tensor, torch.Tensor]`, *optional*):
            Embeddings `(num_extra, width)`, logits and labels `(num_extra, num_classes)` of extra pairs.
        teacher_logits (`torch.Tensor` of shape `(num_pairs, num_classes)`, *optional*):
            What a teacher gives the same pairs: adds `distillation_loss` where `distillation_weight` is not 0.

    Returns:
        `dict[str, torch.Tensor]`: Scalars by name of the loss, `"contrastive"` and `"distillation"` among them where
        they have a weight, and `"extra"` where there are extra pairs.

    Raises:
        ValueError: when the loss does not train what the decision reads, does not take one of its arguments, or shapes
            do not fit.
    """
    config.check_decision()
    if not torch.compiler.is_compiling():
        check_loss_arguments(config)
    arguments = dict(config.loss_arguments)
    if not training:
        # Drawing labels belongs to training: an evaluation would change from call to call.
        arguments.pop("negative_label_rate", None)
    rows = rows_in_mean(config, pairs, num_entities)
    function = functools.partial(LOSS_FUNCTIONS[config.loss], **arguments)
    losses = {}
    if config.contrastive_weight:
        compared, theirs = embeddings, labels
        if extra is not None and isinstance(embeddings, Tensor):
            compared, theirs = torch.cat([embeddings, extra[0]]), torch.cat([labels, extra[2]])
        numbers = (num_items_in_batch, num_anchors_in_batch, num_extra_in_batch)
        divisor = _contrastive_divisor(config, theirs, rows, len(theirs) - len(labels), *numbers)
        contrastive = contrastive_sum(config, compared, theirs, gather_rows)
        losses["contrastive"] = config.contrastive_weight * contrastive / divisor
    if extra is not None:
        losses["extra"] = _mean_of_extra(function, extra, rows, num_items_in_batch, num_extra_in_batch)
    if teacher_logits is not None and config.distillation_weight:
        apart = DISTILLATION_FUNCTIONS[config.distillation_loss](logits, teacher_logits, reduction="sum")
        divisor = max(rows, 1) if num_items_in_batch is None else num_items_in_batch
        losses["distillation"] = config.distillation_weight * apart / divisor
    if rows > len(pairs):
        logits = torch.cat([logits, logits.new_zeros(rows - len(pairs), logits.shape[1])])
        labels = torch.cat([labels, labels.new_zeros(rows - len(pairs), labels.shape[1])])
    if augmented is not None:
        logits, labels = torch.cat([logits, augmented[0]]), torch.cat([labels, augmented[1]])
    if num_items_in_batch is None:
        return {config.loss: function(logits, labels, reduction="mean"), **losses}
    all_rows = num_items_in_batch * (len(logits) / rows) if rows else num_items_in_batch
    if num_augmented_in_batch is not None:
        all_rows = num_items_in_batch + num_augmented_in_batch
    total = function(logits, labels, reduction="sum")
    return {config.loss: total / all_rows, **losses}


def _mean_of_extra(
    function: Callable[..., Tensor],
    extra: tuple[Tensor, Tensor, Tensor],
    rows: int,
    num_items_in_batch: Tensor | int | None,
    num_extra_in_batch: Tensor | int | None,
) -> Tensor:
    if num_items_in_batch is None:
        return function(*extra[1:], reduction="mean")
    own_share = len(extra[1]) * num_items_in_batch / max(rows, 1)
    divisor = torch.as_tensor(own_share if num_extra_in_batch is None else num_extra_in_batch)
    return function(*extra[1:], reduction="sum") / divisor.clamp(min=1)


def contrastive_sum(
    config: DocREConfig,
    embeddings: Tensor | PairFactors,
    labels: Tensor,
    gather_rows: RowGatherer | None = None,
) -> Tensor:
    """Compute the sum over anchors of [`supervised_contrastive_loss`] with the config's arguments, its weight left
    out. The published arithmetic of PEMSCL, a mean over pairs, is multiplied by their number.

    Args:
        config ([`DocREConfig`]): `contrastive_arguments` and `block_size` are read.
        embeddings (`torch.Tensor` of shape `(num_pairs, width)` or [`PairFactors`]): Of the pairs.
        labels (`torch.Tensor` of shape `(num_pairs, num_classes)`): Multi-hot.
        gather_rows (`Callable`, *optional*):
            Joins rows with those of other processes, which anchors are compared with then too. Not for the published
            arithmetic.
    """
    tensors: tuple[Tensor, ...] = tuple(embeddings) if isinstance(embeddings, PairFactors) else (embeddings,)
    anchors = torch.arange(len(labels), device=labels.device)
    arguments = config.contrastive_arguments
    published = arguments.get("reference") and arguments.get("form") != "vaediff"
    if not published:
        if gather_rows is not None:
            (labels, *joined), own = gather_rows(labels, *tensors)
            tensors, anchors = tuple(joined), torch.arange(own.start, own.stop, device=labels.device)
        anchors = anchors[(labels[anchors, 1:] > 0).any(1)]
    if len(tensors) == 2:
        tensors = PairFactors(*tensors).unit_groups(config.block_size)
    if published:
        # It mixes all pairs.
        return _compare(config, labels, anchors, "mean", *tensors) * len(labels)
    # Tables of anchors by pairs are the largest that training knows: they are made again in backward, some at a time.
    parts = anchors.split(max(1, _COMPARED // max(1, len(labels))))
    return torch.stack([run_again(_compare, config, labels, part, "sum", *tensors) for part in parts]).sum()


def _compare(config: DocREConfig, labels: Tensor, anchors: Tensor, reduction: str, *tensors: Tensor) -> Tensor:
    return supervised_contrastive_loss(
        tensors[0] if len(tensors) == 1 else None,
        labels,
        similarity=group_similarity(*tensors, anchors) if len(tensors) == 2 else None,
        anchors=anchors,
        reduction=reduction,
        **config.contrastive_arguments,
    )


def _contrastive_divisor(
    config: DocREConfig,
    labels: Tensor,
    rows: int,
    extra: int,
    num_items_in_batch: Tensor | int | None,
    num_anchors_in_batch: Tensor | int | None,
    num_extra_in_batch: Tensor | int | None,
) -> Tensor | int:
    if config.contrastive_arguments.get("form") != "vaediff":
        if num_items_in_batch is None:
            return max(rows + extra, 1)
        more = extra * num_items_in_batch / max(rows, 1) if num_extra_in_batch is None else num_extra_in_batch
        return num_items_in_batch + more  # type: ignore[return-value]
    # A step without anchors has nothing to divide.
    if num_items_in_batch is not None and num_anchors_in_batch is not None:
        return torch.as_tensor(num_anchors_in_batch).clamp(min=1)
    anchors = count_anchors(labels).clamp(min=1)
    return anchors if num_items_in_batch is None else anchors * num_items_in_batch / max(rows, 1)


def rows_in_mean(config: DocREConfig, pairs: Tensor, num_entities: Tensor) -> int:
    """Count the rows that the main loss is a mean over: the pairs, and with `include_diagonal_in_mean` one for each
    entity that is not paired with itself among them.

    Args:
        config ([`DocREConfig`]): `include_diagonal_in_mean` is read.
        pairs (`torch.Tensor` of shape `(num_pairs, 3)`): Document, head, tail.
        num_entities (`torch.Tensor` of shape `(batch,)`): Entities per document.
    """
    if not config.include_diagonal_in_mean:
        return len(pairs)
    diagonal = pairs[pairs[:, 1] == pairs[:, 2]]
    return len(pairs) + int(num_entities.sum()) - len(diagonal.unique(dim=0))


def count_augmented(config: DocREConfig, labels: Tensor) -> int:
    """Count the rows that augmentation adds to those of the main loss in training, without drawing anything.

    Args:
        config ([`DocREConfig`]): `era_copies` and `era_relations` are read.
        labels (`torch.Tensor` of shape `(num_pairs, num_classes)`): Multi-hot.
    """
    return config.era_copies * len(pairs_to_augment(labels, config.era_classes)) if config.era_copies else 0


def count_anchors(labels: Tensor) -> Tensor:
    """Count the pairs with a relation, which others are compared with in the contrastive loss.

    Args:
        labels (`torch.Tensor` of shape `(num_pairs, num_classes)`): Multi-hot.

    Returns:
        `torch.Tensor` of shape `()`.
    """
    return (labels[:, 1:] > 0).any(1).sum()


def check_loss_arguments(config: DocREConfig) -> None:
    """Check `config.loss_arguments` and `config.contrastive_arguments`: their names and values.

    A config does not know the losses, and one that is loaded for its answers alone may hold what it likes: this is
    called where a model is made around an encoder, before a training, and where a loss is computed.

    Raises:
        ValueError: when a loss does not take an argument of that name, or not with that value.
    """
    function: Callable[..., Tensor]
    for field, function, name in (
        ("loss_arguments", LOSS_FUNCTIONS[config.loss], repr(config.loss)),
        ("contrastive_arguments", supervised_contrastive_loss, "'contrastive'"),
    ):
        given = getattr(config, field)
        if not isinstance(given, Mapping):
            raise ValueError(f"{field}={given!r} is not a dict.")
        if not given:
            continue
        defaults = _defaults(function)
        for argument, value in given.items():
            if argument not in defaults:
                hint = nearest_name(str(argument), list(defaults)) or f" It takes: {', '.join(defaults) or 'none'}."
                raise ValueError(f"{field} has {argument!r}, which the loss {name} doesn't take.{hint}")
            _check_kind(f"{field} has {argument}={value!r}", value, defaults[argument])
        # The losses know their ranges. With a generator of its own, it leaves the draws of a training as they are.
        own = {"generator": torch.Generator()} if "generator" in inspect.signature(function).parameters else {}
        nothing = torch.zeros(0, 2, device="cpu")
        try:
            function(nothing, nothing, **{**given, **own})
        except ValueError as error:
            raise ValueError(f"{field} does not go with the loss {name}: {error}") from None


def _defaults(function: Callable[..., Tensor]) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters.values()
    return {one.name: one.default for one in parameters if one.name not in _FILLED_IN}


def _check_kind(found: str, value: Any, default: Any) -> None:
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise ValueError(f"{found}: pass True or False.")
    elif isinstance(default, str):
        if not isinstance(value, str):
            raise ValueError(f"{found}: pass a name, such as {default!r}.")
    elif value is None and default is None:
        return
    elif isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{found}: pass a number{' or None' if default is None else ''}.")


__all__ = [
    "DISTILLATION_FUNCTIONS",
    "LOSS_FUNCTIONS",
    "RowGatherer",
    "check_loss_arguments",
    "contrastive_sum",
    "count_anchors",
    "count_augmented",
    "method_losses",
    "rows_in_mean",
]
