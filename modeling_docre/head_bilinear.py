"""The bilinear pair head (ATLOP, section 3): two projections, a grouped outer product, a linear classifier."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .configuration_docre import DocREConfig
from .encoding import localized_context

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
        for pairs, columns, cells in _tiles(head, block):
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


def _tiles(factor: Tensor, block_size: int) -> Iterator[tuple[slice, slice, slice]]:
    """Pairs, columns of the factors and columns of the outer product of each tile."""
    pairs, width = factor.shape
    on_cpu = factor.device.type == "cpu"
    # In half precision logits are rounded with each tile that is added to them, so one tile has all their columns.
    columns = block_size if on_cpu and factor.dtype not in (torch.float16, torch.bfloat16) else width
    step = max(1, _OUTER_BUDGET * (1 if on_cpu else 8) // (columns * block_size))
    for first in range(0, pairs, step):
        for left in range(0, width, columns):
            cells = slice(left * block_size, (left + columns) * block_size)
            yield slice(first, first + step), slice(left, left + columns), cells


class BilinearHead(nn.Module):
    """Pair head of ATLOP, PEMSCL and NCRL.

    `z_head = tanh(W_head [e_head; c] + b)`, `z_tail` likewise with its own weights, then one linear layer on the
    grouped outer product of the two (ATLOP, equations 3 to 5 and section 3.2).

    Args:
        config ([`DocREConfig`]): `emb_size`, `block_size`, `context_head_reduce` and `context_eps` are read.
    """

    def __init__(self, config: DocREConfig) -> None:
        super().__init__()
        hidden = config.get_text_config().hidden_size
        self.block_size = config.block_size
        self.context_reduce, self.context_eps = config.context_head_reduce, config.context_eps
        self.head_projection = nn.Linear(2 * hidden, config.emb_size)
        self.tail_projection = nn.Linear(2 * hidden, config.emb_size)
        self.classifier = nn.Linear(config.emb_size * config.block_size, config.num_classes)

    def pair_embeddings(
        self, hidden_states: Tensor, entity_embeddings: Tensor, entity_attention: Tensor, pairs: Tensor
    ) -> PairFactors:
        """Represent each pair.

        Args:
            hidden_states (`torch.Tensor` of shape `(batch, tokens, hidden)`): Last hidden states.
            entity_embeddings (`torch.Tensor` of shape `(batch, entities, hidden)`): Pooled entities.
            entity_attention (`torch.Tensor` of shape `(batch, entities, attention_heads, tokens)`): Their attention.
            pairs (`torch.Tensor` of shape `(num_pairs, 3)`): Document, head, tail.

        Returns:
            [`PairFactors`], both `(num_pairs, emb_size)`.
        """
        context = localized_context(
            hidden_states, entity_attention, pairs, reduce=self.context_reduce, eps=self.context_eps
        )
        document, head, tail = pairs.unbind(1)
        return PairFactors(
            self._project(self.head_projection, entity_embeddings, context, document, head),
            self._project(self.tail_projection, entity_embeddings, context, document, tail),
        )

    @staticmethod
    def _project(layer: nn.Linear, entities: Tensor, context: Tensor, document: Tensor, entity: Tensor) -> Tensor:
        # The entity's half of the product is the same in every pair, so it is computed once per entity.
        hidden = entities.shape[-1]
        of_entity = nn.functional.linear(entities.to(layer.weight.dtype), layer.weight[:, :hidden])
        of_context = nn.functional.linear(context.to(layer.weight.dtype), layer.weight[:, hidden:], layer.bias)
        return torch.tanh(of_entity[document, entity] + of_context)

    def classify(self, pair_embeddings: PairFactors) -> Tensor:
        """Return logits `(num_pairs, num_classes)` of pair embeddings."""
        tensors: tuple[Tensor, ...] = (*pair_embeddings, self.classifier.weight, self.classifier.bias)
        device = pair_embeddings.head.device.type
        if torch.is_autocast_enabled(device):
            tensors = tuple(tensor.to(torch.get_autocast_dtype(device)) for tensor in tensors)
        return _GroupedBilinear.apply(*tensors, self.block_size)

    def set_class_bias(self, values: Tensor) -> None:
        """Set the bias of every class, `(num_classes,)`: a model that starts from label frequencies learns faster."""
        with torch.no_grad():
            self.classifier.bias.copy_(values)


__all__ = ["BilinearHead", "PairFactors", "grouped_outer"]
