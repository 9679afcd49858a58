"""Tables of entities by entities, one for each document of a batch, for heads that score a pair in view of others."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .configuration_docre import DocREConfig
from .head_bilinear import PairFactors, PairHead


def square(real: Tensor) -> Tensor:
    """Return where both row and column of a table are real: `(batch, size)` to `(batch, size, size)`."""
    return real[:, :, None] & real[:, None, :]


class EntityTable(NamedTuple):
    """Where the cells of a batch of entity tables lie; a cell is a pair of entities, the diagonal included.

    Attributes:
        cells (`torch.Tensor` of shape `(num_cells, 3)`): Document, head, tail.
        real (`torch.Tensor` of shape `(batch, size)`): True for entities, false for padding.
        masked (`bool`): Whether `cells` are those of real entities alone.
    """

    cells: Tensor
    real: Tensor
    masked: bool

    @classmethod
    def of(cls, num_entities: Tensor, size: int, *, masked: bool) -> EntityTable:
        """Lay out tables of `size` rows and columns for documents of so many entities."""
        real = torch.arange(size, device=num_entities.device) < num_entities[:, None]
        used = square(real)
        return cls((used if masked else torch.ones_like(used)).nonzero(), real, masked)

    @property
    def places(self) -> Tensor:
        """Place of each cell in the flattened tables `(batch * size * size)`."""
        size = self.real.shape[1]
        document, head, tail = self.cells.unbind(1)
        return (document * size + head) * size + tail

    def fill(self, values: Tensor) -> Tensor:
        """Put values of the cells, `(num_cells, width)`, into tables `(batch, size, size, width)`, 0 elsewhere."""
        batch, size = self.real.shape
        shape = (batch, size, size, values.shape[1])
        if len(values) == batch * size * size:
            return values.view(shape)
        return values.new_zeros(batch * size * size, values.shape[1]).index_copy(0, self.places, values).view(shape)

    def take(self, tables: Tensor) -> Tensor:
        """Read the cells, `(num_cells, width)`, from tables `(batch, size, size, width)`."""
        flat = tables.flatten(0, 2)
        return flat if len(flat) == len(self.cells) else flat[self.places]

    def rows_of(self, pairs: Tensor) -> Tensor:
        """Return the rows of `cells` that are these pairs `(num_pairs, 3)`."""
        batch, size = self.real.shape
        places = self.places
        rows = places.new_zeros(batch * size * size)
        rows[places] = torch.arange(len(places), device=places.device)
        document, head, tail = pairs.unbind(1)
        return rows[(document * size + head) * size + tail]

    def key_mask(self) -> Tensor | None:
        """True for cells that may be attended to along an axis, `(batch * size, 1, 1, size)`; `None` for all."""
        if not self.masked or bool(self.real.all()):
            return None
        # A document without entities attends to a cell of zeros that nobody reads: softmax needs something.
        keys = self.real.clone()
        keys[:, 0] = True
        return keys.repeat_interleave(self.real.shape[1], 0)[:, None, None, :]


class TableHead(PairHead):
    """What the heads that read tables share: how large a table is.

    With masked padding that makes no difference, and the batch's largest document decides. Padding that takes part is
    what `pad_to` says, and the documents that have more entities have tables of their own size, so that what else is
    in the batch has no influence. A head with batch norm is different in training: there its whole batch is one, and
    all tables are as large as the largest.

    Args:
        config ([`DocREConfig`]): `pad_to` and `mask_padding` are read, and what [`PairHead`] reads.
        features (`int`): Width of a pair's features.
        entity_width (`int`, *optional*): Width of an entity; the encoder's when left out.
    """

    has_batch_norm = False

    def __init__(self, config: DocREConfig, features: int, entity_width: int | None = None) -> None:
        super().__init__(config, features, entity_width)
        self.pad_to, self.mask_padding = config.pad_to or 0, config.mask_padding

    def pair_embeddings(
        self,
        hidden_states: Tensor,
        entity_embeddings: Tensor,
        entity_attention: Tensor,
        num_entities: Tensor,
        pairs: Tensor,
    ) -> Any:
        """Represent each pair in view of its document's; see [`PairHead.pair_embeddings`]."""
        return self.by_size(hidden_states, entity_embeddings, entity_attention, num_entities, pairs)

    def by_size(
        self,
        hidden_states: Tensor,
        entity_embeddings: Tensor,
        entity_attention: Tensor,
        num_entities: Tensor,
        pairs: Tensor,
        **more: Any,
    ) -> Any:
        """Run [`TableHead.from_tables`] for the documents of each size of table.

        `more` are further arguments of it, each with a method `take(documents, entities)`.
        """
        inputs = (hidden_states, entity_embeddings, entity_attention, num_entities, pairs)
        if self.mask_padding:
            return self.from_tables(entity_embeddings.shape[1], *inputs, **more)
        sizes = num_entities.clamp(min=self.pad_to)
        distinct = sizes.unique().tolist()
        if len(distinct) < 2 or (self.has_batch_norm and self.training):
            return self.from_tables(max(distinct, default=self.pad_to), *inputs, **more)
        parts, rows = [], []
        for size in distinct:
            documents = (sizes == size).nonzero().flatten()
            mine = torch.isin(pairs[:, 0], documents).nonzero().flatten()
            renamed = torch.stack([torch.searchsorted(documents, pairs[mine, 0]), *pairs[mine, 1:].unbind(1)], 1)
            per_document = (
                hidden_states[documents],
                entity_embeddings[documents, :size],
                entity_attention[documents, :size],
                num_entities[documents],
            )
            further = {name: value.take(documents, size) for name, value in more.items()}
            parts.append(self.from_tables(size, *per_document, renamed, **further))
            rows.append(mine)
        places = torch.cat(rows).argsort()
        if isinstance(parts[0], PairFactors):
            return PairFactors(*(torch.cat(one)[places] for one in zip(*parts, strict=True)))
        return torch.cat(parts)[places]

    def from_tables(
        self,
        size: int,
        hidden_states: Tensor,
        entity_embeddings: Tensor,
        entity_attention: Tensor,
        num_entities: Tensor,
        pairs: Tensor,
    ) -> Any:
        """Represent each pair, from tables of `size` rows or of what the head needs beyond that.

        The other arguments and the result are those of [`PairHead.pair_embeddings`].
        """
        raise NotImplementedError


__all__ = ["EntityTable", "TableHead", "square"]
