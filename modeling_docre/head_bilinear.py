"""The bilinear pair head (ATLOP, section 3): two projections, a grouped outer product, a linear classifier."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .attention import at_least_float32
from .configuration_docre import DocREConfig
from .encoding import localized_context, masked_context, run_again

# Numbers of the (pairs x width*block) outer product that exist at one time on a CPU, which is fastest where they stay
# in its cache. An accelerator, with many cores to feed, takes eight times as many.
_OUTER_BUDGET = 1 << 21


class PairFactors(NamedTuple):
    """The two factors of a pair embedding, each `(num_pairs, width)`.

    The embedding itself, their grouped outer product `(num_pairs, width * block)`, is 65,536 wide in the published
    settings and is never built for a whole batch.
    """

    head: Tensor
    tail: Tensor

    def outer(self, block_size: int) -> Tensor:
        """Return the grouped outer product, ordered by group, head index, tail index."""
        return grouped_outer(self.head, self.tail, block_size)

    def similarity(self, rows: Tensor, block_size: int) -> Tensor:
        """Cosines between the outer products of chosen pairs and those of all, from the factors alone.

        Args:
            rows (`torch.Tensor` of shape `(num_rows,)`): The chosen pairs.
            block_size (`int`): Width of a group.

        Returns:
            `torch.Tensor` of shape `(num_rows, num_pairs)`.
        """
        return group_similarity(*self.unit_groups(block_size), rows)

    def unit_groups(self, block_size: int) -> tuple[Tensor, Tensor]:
        """Both factors by group, each `(groups, num_pairs, block_size)`, at least float32; the head's divided by the
        length of the outer product.
        """
        head, tail = (at_least_float32(one).unflatten(1, (-1, block_size)).transpose(0, 1) for one in self)
        length = (head.square().sum(2) * tail.square().sum(2)).sum(0).clamp(min=1e-24).sqrt()
        return head / length[:, None], tail.contiguous()


def group_similarity(head: Tensor, tail: Tensor, rows: Tensor) -> Tensor:
    """Products of the outer products of chosen pairs with those of all: group by group, the heads' times the tails'.

    Args:
        head (`torch.Tensor` of shape `(groups, num_pairs, block_size)`): See [`PairFactors.unit_groups`].
        tail (`torch.Tensor` of shape `(groups, num_pairs, block_size)`): The same.
        rows (`torch.Tensor` of shape `(num_rows,)`): The chosen pairs.

    Returns:
        `torch.Tensor` of shape `(num_rows, num_pairs)`.
    """
    total = head.new_zeros(len(rows), head.shape[1])
    # Two tables per group are a lot to keep for the backward pass.
    product: Any = partial(run_again, _product) if total.numel() > _OUTER_BUDGET else _product
    with torch.autocast(head.device.type, enabled=False):
        for of_heads, of_tails in zip(head.unbind(0), tail.unbind(0), strict=True):
            total = total + product(of_heads, of_tails, rows)
    return total


def _product(head: Tensor, tail: Tensor, rows: Tensor) -> Tensor:
    return (head[rows] @ head.t()) * (tail[rows] @ tail.t())


def grouped_outer(head: Tensor, tail: Tensor, block_size: int) -> Tensor:
    """Outer product inside each block: `(num_pairs, width)` twice to `(num_pairs, width * block_size)`."""
    left = head.unflatten(1, (-1, block_size, 1))
    right = tail.unflatten(1, (-1, 1, block_size))
    return (left * right).flatten(1)


class _GroupedBilinear(torch.autograd.Function):
    """`grouped_outer(head, tail) @ weight.T + bias`, a tile at a time; backward builds the tiles again."""

    @staticmethod
    def forward(ctx: Any, head: Tensor, tail: Tensor, weight: Tensor, bias: Tensor, block_size: int) -> Tensor:
        ctx.save_for_backward(head, tail, weight)
        ctx.block_size = block_size
        logits = bias.repeat(len(head), 1)
        for pairs, columns, cells in _tiles(head, block_size):
            logits[pairs].addmm_(
                grouped_outer(head[pairs, columns], tail[pairs, columns], block_size), weight[:, cells].t()
            )
        return logits

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        head, tail, weight = ctx.saved_tensors
        block = ctx.block_size
        grad = grad.to(weight.dtype)
        # The sum over tiles is kept in float32: half precision would round it once per tile.
        grad_weight = torch.zeros_like(weight, dtype=torch.promote_types(weight.dtype, torch.float32))
        grad_head, grad_tail = torch.empty_like(head), torch.empty_like(tail)
        # Nothing but the weight's gradient is summed over tiles here: narrow ones let it be touched seldom.
        for pairs, columns, cells in _tiles(head, block, narrow=True):
            outer = grouped_outer(head[pairs, columns], tail[pairs, columns], block)
            if weight.dtype == grad_weight.dtype:
                grad_weight[:, cells].addmm_(grad[pairs].t(), outer)
            else:
                grad_weight[:, cells] += grad[pairs].t() @ outer
            shape = (len(outer), -1, block, block)
            of_outer = (grad[pairs] @ weight[:, cells]).view(shape)
            left, right = (factor[pairs, columns].unflatten(1, (-1, block)) for factor in (head, tail))
            # The outer product has served: its memory takes the first of the two.
            product = torch.mul(of_outer, right[:, :, None, :], out=outer.view(shape))
            grad_head[pairs, columns] = product.sum(3).flatten(1)
            grad_tail[pairs, columns] = of_outer.mul_(left[:, :, :, None]).sum(2).flatten(1)
        return grad_head, grad_tail, grad_weight.to(weight.dtype), grad.sum(0), None


def _tiles(factor: Tensor, block_size: int, *, narrow: bool = False) -> Iterator[tuple[slice, slice, slice]]:
    """Pairs, columns of the factors and columns of the outer product of each tile."""
    pairs, width = factor.shape
    on_cpu = factor.device.type == "cpu"
    # In half precision logits are rounded with each tile that is added to them, so one tile has all their columns.
    narrow = narrow or factor.dtype not in (torch.float16, torch.bfloat16)
    columns = block_size if on_cpu and narrow else width
    step = max(1, _OUTER_BUDGET * (1 if on_cpu else 8) // (columns * block_size))
    for first in range(0, pairs, step):
        for left in range(0, width, columns):
            cells = slice(left * block_size, (left + columns) * block_size)
            yield slice(first, first + step), slice(left, left + columns), cells


class GroupedBilinear(nn.Linear):
    """A linear layer on the grouped outer product of two vectors, which it never holds as a whole.

    Args:
        width (`int`): Width of each of the two vectors.
        out_features (`int`): Outputs.
        block_size (`int`): Width of a group.
        bias (`bool`, *optional*, defaults to `True`): Whether to add a bias.
    """

    def __init__(self, width: int, out_features: int, block_size: int, *, bias: bool = True) -> None:
        super().__init__(width * block_size, out_features, bias=bias)
        self.block_size = block_size

    def forward(self, factors: PairFactors) -> Tensor:  # type: ignore[override]
        """Return `(num_pairs, out_features)`."""
        bias = self.weight.new_zeros(self.out_features) if self.bias is None else self.bias
        tensors: tuple[Tensor, ...] = (*factors, self.weight, bias)
        device = factors.head.device.type
        if torch.is_autocast_enabled(device):
            tensors = tuple(tensor.to(torch.get_autocast_dtype(device)) for tensor in tensors)
        return _GroupedBilinear.apply(*tensors, self.block_size)


class PairHead(nn.Module):
    """What all pair heads share: projections of head and tail, each joined with features of the pair.

    A head has a `classifier`, which reads what its `pair_embeddings` gives.

    Args:
        config ([`DocREConfig`]): `emb_size`, `context_head_reduce` and `context_eps` are read.
        features (`int`): Width of a pair's features.
        entity_width (`int`, *optional*): Width of an entity; the encoder's when left out.
    """

    classifier: nn.Linear

    def __init__(self, config: DocREConfig, features: int, entity_width: int | None = None) -> None:
        super().__init__()
        width = entity_width or config.get_text_config().hidden_size
        self.context_reduce, self.context_eps = config.context_head_reduce, config.context_eps
        self.head_projection = nn.Linear(width + features, config.emb_size)
        self.tail_projection = nn.Linear(width + features, config.emb_size)

    def context(self, hidden_states: Tensor, entity_attention: Tensor, cells: Tensor) -> Tensor:
        """Return the context of cells `(num_cells, 3)`, as [`localized_context`] does, with the head's settings."""
        return localized_context(
            hidden_states, entity_attention, cells, reduce=self.context_reduce, eps=self.context_eps
        )

    def join(self, entities: Tensor, features: Tensor, pairs: Tensor) -> PairFactors:
        """Join both entities of each pair with the pair's features: `z = tanh(W [entity; features] + b)`.

        Args:
            entities (`torch.Tensor` of shape `(batch, entities, hidden)`): Pooled entities.
            features (`torch.Tensor` of shape `(num_pairs, features)`): Of each pair, such as its context.
            pairs (`torch.Tensor` of shape `(num_pairs, 3)`): Document, head, tail.

        Returns:
            [`PairFactors`], both `(num_pairs, emb_size)`.
        """
        document, head, tail = pairs.unbind(1)
        return PairFactors(
            project(self.head_projection, entities, features, document, head),
            project(self.tail_projection, entities, features, document, tail),
        )

    def pair_embeddings(
        self,
        hidden_states: Tensor,
        entity_embeddings: Tensor,
        entity_attention: Tensor,
        num_entities: Tensor,
        pairs: Tensor,
    ) -> Any:
        """Represent each pair.

        Args:
            hidden_states (`torch.Tensor` of shape `(batch, tokens, hidden)`): Last hidden states.
            entity_embeddings (`torch.Tensor` of shape `(batch, entities, hidden)`): Pooled entities.
            entity_attention (`torch.Tensor` of shape `(batch, entities, attention_heads, tokens)`): Their attention.
            num_entities (`torch.Tensor` of shape `(batch,)`): Entities per document; read by heads with tables alone.
            pairs (`torch.Tensor` of shape `(num_pairs, 3)`): Document, head, tail; in any order.

        Returns:
            `torch.Tensor` of shape `(num_pairs, width)`, or [`PairFactors`], both `(num_pairs, emb_size)`.
        """
        raise NotImplementedError

    def classify(self, pair_embeddings: Any) -> Tensor:
        """Return logits `(num_pairs, num_classes)` of pair embeddings."""
        return self.classifier(pair_embeddings)


def project(layer: nn.Linear, entities: Tensor, features: Tensor, document: Tensor, entity: Tensor) -> Tensor:
    """Return `tanh(W [entity; features] + b)` of pairs, `(num_pairs, emb_size)`."""
    # The entity's part of the product is the same in every pair, so it is computed once per entity.
    hidden = entities.shape[-1]
    of_entity = nn.functional.linear(entities.to(layer.weight.dtype), layer.weight[:, :hidden])
    of_features = nn.functional.linear(features.to(layer.weight.dtype), layer.weight[:, hidden:], layer.bias)
    return torch.tanh(of_entity[document, entity] + of_features)


class BilinearHead(PairHead):
    """Pair head of ATLOP, PEMSCL and NCRL: one linear layer on the grouped outer product of the two entities, each
    joined with the pair's context (ATLOP, equations 3 to 5 and section 3.2).

    Args:
        config ([`DocREConfig`]): `emb_size`, `block_size`, `context_head_reduce` and `context_eps` are read.
    """

    def __init__(self, config: DocREConfig) -> None:
        super().__init__(config, features=config.get_text_config().hidden_size)
        self.classifier = GroupedBilinear(config.emb_size, config.num_classes, config.block_size)

    def pair_embeddings(
        self,
        hidden_states: Tensor,
        entity_embeddings: Tensor,
        entity_attention: Tensor,
        num_entities: Tensor,
        pairs: Tensor,
    ) -> PairFactors:
        """Represent each pair by itself; see [`PairHead.pair_embeddings`]."""
        return self.join(entity_embeddings, self.context(hidden_states, entity_attention, pairs), pairs)

    def masked_embeddings(
        self, hidden_states: Tensor, entity_embeddings: Tensor, entity_attention: Tensor, pairs: Tensor, keep: Tensor
    ) -> PairFactors:
        """Represent copies of pairs whose contexts lack some tokens (ERA, section 3.4).

        Args:
            hidden_states (`torch.Tensor` of shape `(batch, tokens, hidden)`): Last hidden states.
            entity_embeddings (`torch.Tensor` of shape `(batch, entities, hidden)`): Pooled entities.
            entity_attention (`torch.Tensor` of shape `(batch, entities, attention_heads, tokens)`): Their attention.
            pairs (`torch.Tensor` of shape `(num_pairs, 3)`): Document, head, tail.
            keep (`torch.Tensor` of shape `(num_pairs, copies, tokens)`): True for the tokens that a copy keeps.

        Returns:
            [`PairFactors`], both `(num_pairs * copies, emb_size)`: the copies of the first pair, then the others'.
        """
        context = masked_context(
            hidden_states, entity_attention, pairs, keep, reduce=self.context_reduce, eps=self.context_eps
        )
        return self.join(entity_embeddings, context.flatten(0, 1), pairs.repeat_interleave(keep.shape[1], 0))


__all__ = [
    "BilinearHead",
    "GroupedBilinear",
    "PairFactors",
    "PairHead",
    "group_similarity",
    "grouped_outer",
    "project",
]
