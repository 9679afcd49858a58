"""The axial pair head (KD-DocRE, section 2.2.1): every pair attends to the pairs that share its head or its tail."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from .configuration_docre import DocREConfig
from .encoding import run_again
from .entity_table import EntityTable, TableHead, square
from .head_bilinear import GroupedBilinear, PairFactors

# Cells whose layers are in memory at one time on a CPU. An accelerator, with many cores to feed, takes 16 times more.
_CELL_BUDGET = 512


class AxialAttention(nn.Module):
    """Multi-head attention of each cell to the cells of its row, or of its column.

    Args:
        width (`int`): Width of a cell.
        attention_heads (`int`): Attention heads.
        plain (`bool`): The paper's: unscaled, without output projection.
    """

    def __init__(self, width: int, attention_heads: int, *, plain: bool) -> None:
        super().__init__()
        self.attention_heads = attention_heads
        self.scale = 1.0 if plain else (width // attention_heads) ** -0.5
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_kv = nn.Linear(width, 2 * width, bias=False)
        self.to_out = nn.Identity() if plain else nn.Linear(width, width)

    def forward(self, cells: Tensor, table: EntityTable, key_mask: Tensor | None, axis: int) -> Tensor:
        """Attend along `axis` of the table: 1 over heads, for the same tail; 2 over tails, for the same head."""
        key, value = self.to_kv(cells).chunk(2, dim=1)
        query, key, value = (self._lines(table.fill(part), axis) for part in (self.to_q(cells), key, value))
        with _attention_kernel(query):
            attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=key_mask, scale=self.scale)
        batch, size = table.real.shape
        attended = attended.transpose(1, 2).reshape(batch, size, size, cells.shape[1])
        return self.to_out(table.take(attended.transpose(1, 2) if axis == 1 else attended))

    def _lines(self, tables: Tensor, axis: int) -> Tensor:
        """Cut tables into lines `(batch * size, attention_heads, size, head_width)` that run along `axis`."""
        tables = tables.transpose(1, 2) if axis == 1 else tables
        return tables.unflatten(3, (self.attention_heads, -1)).flatten(0, 1).transpose(1, 2)


class AxialLayer(nn.Module):
    """One layer of axial attention.

    Args:
        config ([`DocREConfig`]): `axial_heads`, `axial_order` and `axial_form` are read.
    """

    def __init__(self, config: DocREConfig) -> None:
        super().__init__()
        width = config.get_text_config().hidden_size
        self.sequential = config.axial_order == "sequential"
        plain = config.axial_form == "paper"
        self.columns = AxialAttention(width, config.axial_heads, plain=plain)
        # The paper writes the same matrices for both axes, and nothing behind the attention.
        self.rows = None if plain else AxialAttention(width, config.axial_heads, plain=plain)
        self.feed_forward = None if plain else nn.Linear(width, width)
        self.norm = None if plain else nn.LayerNorm(width)

    def forward(self, cells: Tensor, table: EntityTable, key_mask: Tensor | None) -> Tensor:
        """Return new cells `(num_cells, width)`."""
        rows = self.columns if self.rows is None else self.rows
        # A table beyond the budget is run again in parts, the layers one by one and each attention by itself.
        run = run_again if len(cells) > _budget(cells) else _run
        attended = cells + run(self.columns, cells, table, key_mask, 1)
        cells = attended + run(rows, attended if self.sequential else cells, table, key_mask, 2)
        if self.feed_forward is None or self.norm is None:
            return cells
        return self.norm(self.feed_forward(cells))


def _attention_kernel(query: Tensor) -> AbstractContextManager[object]:
    """Choose what computes the attention: in half precision the fused backward pass of CPUs takes ten times longer for
    lines as short as these.
    """
    slow = query.device.type == "cpu" and query.dtype in (torch.float16, torch.bfloat16) and query.requires_grad
    return sdpa_kernel(SDPBackend.MATH) if slow else nullcontext()


def _run(function: Callable[..., Tensor], *inputs: object) -> Tensor:
    return function(*inputs)


def _budget(tensor: Tensor) -> int:
    return _CELL_BUDGET * (1 if tensor.device.type == "cpu" else 16)


def _documents_together(num_entities: Tensor, size: int | None) -> Iterator[Tensor]:
    """Cut a batch into documents that are run at once: with so many cells that their layers may be in memory."""
    budget = _budget(num_entities)
    first = cells = 0
    for number, count in enumerate(num_entities.tolist()):
        more = (size or count) ** 2
        if number > first and cells + more > budget:
            yield num_entities[first:number]
            first, cells = number, 0
        cells += more
    # A batch without cells runs too, so that every parameter has its part in the graph.
    if first < len(num_entities) or not len(num_entities):
        yield num_entities[first:]


class AxialHead(TableHead):
    """Pair head of KD-DocRE and VaeDiff-DocRE.

    The grouped bilinear of the two entities, each joined with the pair's context, gives a vector for every cell of the
    entity table (equations 5 and 6); layers of axial attention let it see the cells of its row and its column, and
    so the two hops of a path (equation 7); a linear layer classifies it (equation 8).

    The authors' code has six layers of eight heads. In each, both axes read the same cells and are added to them; a
    linear layer and a norm follow; the first vectors are added at the end. `axial_form="paper"` is equation 7 as
    written: one matrix for both axes, unscaled, nothing behind it.

    Args:
        config ([`DocREConfig`]):
            `emb_size`, `block_size`, `context_head_reduce`, `context_eps`, `pad_to`, `mask_padding` and the settings
            that begin with `axial_` are read.
    """

    def __init__(self, config: DocREConfig) -> None:
        hidden = config.get_text_config().hidden_size
        super().__init__(config, features=hidden)
        self.outer_skip = config.axial_form == "code"
        self.projection = GroupedBilinear(
            config.emb_size, hidden, config.block_size, bias=config.axial_form == "paper"
        )
        self.layers = nn.ModuleList([AxialLayer(config) for _ in range(config.axial_layers)])
        self.classifier = nn.Linear(hidden, config.num_classes)

    def from_tables(
        self,
        size: int,
        hidden_states: Tensor,
        entity_embeddings: Tensor,
        entity_attention: Tensor,
        num_entities: Tensor,
        pairs: Tensor,
    ) -> Tensor:
        """Represent each pair, `(num_pairs, hidden)`; see [`TableHead.from_tables`]."""
        size = max(size, 1)
        table = EntityTable.of(num_entities, size, masked=True)
        context = self.context(hidden_states, entity_attention, table.cells)
        first = self.projection(self.join(entity_embeddings, context, table.cells))
        if not self.mask_padding:
            tables = table.fill(first)
            if not self.training:  # the published code masks padding in training alone
                tables = torch.where(square(table.real)[..., None], tables, self._padding())
            table = EntityTable.of(num_entities, size, masked=False)
            first = table.take(tables)
        parts, done = [], 0
        for counts in _documents_together(num_entities, None if self.mask_padding else size):
            part = EntityTable.of(
                counts, max([1, *counts.tolist()]) if self.mask_padding else size, masked=self.mask_padding
            )
            parts.append(run_again(self._attend, first[done : done + len(part.cells)], part))
            done += len(part.cells)
        return torch.cat(parts)[table.rows_of(pairs)]

    def _attend(self, first: Tensor, table: EntityTable) -> Tensor:
        cells, key_mask = first, table.key_mask()
        run = run_again if len(first) > _budget(first) else _run
        for layer in self.layers:
            cells = run(layer, cells, table, key_mask)
        return cells + first if self.outer_skip else cells

    def _padding(self) -> Tensor:
        """What the projections make of nothing, `(1, hidden)`: the biases are left."""
        biases = (self.head_projection.bias, self.tail_projection.bias)
        return self.projection(PairFactors(*(torch.tanh(bias)[None] for bias in biases)))


__all__ = ["AxialHead"]
