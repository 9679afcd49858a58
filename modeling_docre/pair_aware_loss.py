"""The losses that PAEE adds to the main one: potential pairs, and entities as heads and tails (equations 10 to 12)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from .attention import at_least_float32
from .configuration_docre import DocREConfig
from .head_pair_aware import PairAwareStates
from .losses import reduce_pairs
from .method_loss import rows_in_mean


def potential_pair_loss(scores: Tensor, labels: Tensor, *, reduction: str = "mean") -> Tensor:
    """
    Whether a pair has any relation: binary cross-entropy (PAEE, equation 10).

    Args:
        scores (`torch.Tensor` of shape `(num_pairs,)`): Logits.
        labels (`torch.Tensor` of shape `(num_pairs, num_classes)`): Multi-hot relations. Column 0 is not read.
        reduction (`str`, *optional*, defaults to `"mean"`): `"none"`, `"sum"` or `"mean"` over pairs.

    Returns:
        `torch.Tensor`: shape `(num_pairs,)` for `"none"`, else a scalar; at least float32.
    """
    scores = at_least_float32(scores)
    related = (labels[:, 1:] > 0).any(1).to(scores.dtype)
    return reduce_pairs(functional.binary_cross_entropy_with_logits(scores, related, reduction="none"), reduction)


def entity_role_loss(scores: Tensor, roles: Tensor, *, reduction: str = "mean") -> Tensor:
    """
    Which relations an entity is head, and tail, of: the mean of both binary cross-entropies over relations (PAEE,
    equation 11, and its part of equation 12).

    Args:
        scores (`torch.Tensor` of shape `(num_entities, 2, num_relations)`): Logits, of heads and of tails.
        roles (`torch.Tensor` of shape `(num_entities, 2, num_relations)`): Multi-hot.
        reduction (`str`, *optional*, defaults to `"mean"`): `"none"`, `"sum"` or `"mean"` over entities.

    Returns:
        `torch.Tensor`: shape `(num_entities,)` for `"none"`, else a scalar; at least float32.
    """
    scores = at_least_float32(scores)
    each = functional.binary_cross_entropy_with_logits(scores, (roles > 0).to(scores.dtype), reduction="none")
    return reduce_pairs(each.mean((1, 2)), reduction)


def pair_aware_losses(
    config: DocREConfig,
    states: PairAwareStates,
    labels: Tensor,
    pairs: Tensor,
    num_entities: Tensor,
    *,
    num_items_in_batch: Tensor | int | None = None,
    num_entities_in_batch: Tensor | int | None = None,
) -> dict[str, Tensor]:
    """Compute them, each weighted as it enters the sum.

    Args:
        config ([`DocREConfig`]): `potential_weight` and `role_weight` are read.
        states ([`PairAwareStates`]): What the head made of the documents.
        labels (`torch.Tensor` of shape `(num_pairs, num_classes)`): Multi-hot; never changed.
        pairs (`torch.Tensor` of shape `(num_pairs, 3)`): Document, head, tail.
        num_entities (`torch.Tensor` of shape `(batch,)`): Entities per document.
        num_items_in_batch (`int` or `torch.Tensor`, *optional*):
            Rows of the main loss over all micro-batches and processes of a step, as [`rows_in_mean`] counts them: the
            potential pairs are a mean over them too; those given here when left out.
        num_entities_in_batch (`int` or `torch.Tensor`, *optional*):
            Their entities, which the roles are a mean over; not read without `num_items_in_batch`. Without it, an
            entity counts as its micro-batch has pairs.

    Returns:
        `dict[str, torch.Tensor]`: Scalars, `"potential"` and `"roles"`, where they have a weight.
    """
    losses = {}
    rows_here = max(rows_in_mean(config, pairs, num_entities), 1)
    if states.potential is not None and config.potential_weight:
        # The pair of an entity with itself is none.
        rows = (pairs[:, 1] != pairs[:, 2]).nonzero().flatten()
        total = potential_pair_loss(states.potential[rows], labels[rows], reduction="sum")
        divisor = rows_here if num_items_in_batch is None else num_items_in_batch
        losses["potential"] = config.potential_weight * total / divisor
    if states.roles is not None and config.role_weight:
        real = torch.arange(states.roles.shape[1], device=pairs.device) < num_entities[:, None]
        total = entity_role_loss(states.roles[real], entity_roles(labels, pairs, states.roles)[real], reduction="sum")
        entities = torch.as_tensor(num_entities.sum().clamp(min=1))
        if num_items_in_batch is not None:
            own_share = entities * num_items_in_batch / rows_here
            entities = torch.as_tensor(own_share if num_entities_in_batch is None else num_entities_in_batch)
        losses["roles"] = config.role_weight * total / entities.clamp(min=1)
    return losses


def entity_roles(labels: Tensor, pairs: Tensor, like: Tensor) -> Tensor:
    """Return which relations each entity is head, and tail, of among these pairs.

    Args:
        labels (`torch.Tensor` of shape `(num_pairs, num_classes)`): Multi-hot.
        pairs (`torch.Tensor` of shape `(num_pairs, 3)`): Document, head, tail.
        like (`torch.Tensor` of shape `(batch, entities, 2, num_relations)`): What the result is to be like.
    """
    roles = torch.zeros_like(like)
    document, head, tail = pairs.unbind(1)
    holds = (labels[:, 1:] > 0).to(roles.dtype)
    for role, entity in enumerate((head, tail)):
        place = torch.full_like(entity, role)
        roles.index_put_((document, entity, place), holds, accumulate=True)
    return (roles > 0).to(roles.dtype)


__all__ = ["entity_role_loss", "entity_roles", "pair_aware_losses", "potential_pair_loss"]
