"""Tables of entities by entities, one for each document of a batch, for heads that score a pair in view of others."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


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


__all__ = ["EntityTable", "square"]
