"""A network of several scales with hard attention for grids of pairs: it looks closely where that seems worth it."""

from __future__ import annotations

from fractions import Fraction

import torch
from torch import Tensor, nn
from torch.nn import functional

from .entity_table import square

# A cell of one scale is so many of the next along each axis, and there are so many scales.
_STEP, _SCALES = 4, 3
# The share of the cells that are looked at is a fraction of so many parts at most.
_PARTS = 10**6
# What two 3x3 convolutions see beyond a cell.
_MARGIN = 2


class RegionFeatures(nn.Module):
    """Twice a 3x3 convolution, norm over the channels of each cell, and ReLU; the same for all scales.

    Args:
        channels (`int`): Channels of the input.
        width (`int`): Channels of the output.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.first, self.first_norm = nn.Conv2d(channels, width, 3), nn.LayerNorm(width)
        self.second, self.second_norm = nn.Conv2d(width, width, 3), nn.LayerNorm(width)

    def forward(self, regions: Tensor) -> Tensor:
        """Return `(regions, size, size, width)` for regions with margin, `(regions, channels, size + 4, size + 4)`."""
        seen = functional.relu(self.first_norm(self.first(regions).permute(0, 2, 3, 1)))
        return functional.relu(self.second_norm(self.second(seen.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)))


class HardAttentionNetwork(nn.Module):
    """Reads a grid from far away, and from nearer where its cells score highest: a part of them, then of those.

    After the description of TNet (Papadopoulos et al., 2021), which PAEE's equation 4 names: one extractor of features
    for all scales, a score for each place, the next scale looked at in the best places alone, features of all scales
    added. Three scales, each cell of one standing for 4x4 of the next, by their mean. TNet draws places at random in
    training and learns the scores by reinforcement; here the best ones are taken, and what is found there is weighed
    by the sigmoid of its score, which gives the score a gradient. Each cell's own channels are added, without which
    cells that were never looked at closely would be alike.

    Args:
        channels (`int`): Channels of the input.
        width (`int`): Channels inside.
        outputs (`int`): Channels of the output.
        share (`float`):
            Part of the open cells of a scale that the next one looks at, above 0 and at most 1, rounded up. Of the
            first scale a document's own are open, of others those that were looked at.
    """

    def __init__(self, channels: int, width: int, outputs: int, share: float) -> None:
        super().__init__()
        self.share = share
        self.regions = RegionFeatures(channels, width)
        self.score = nn.Linear(width, 1)
        self.own = nn.Linear(channels, width)
        self.out = nn.Linear(width, outputs)

    def forward(self, images: Tensor, num_entities: Tensor, *, masked: bool = True) -> Tensor:
        """Read images of entity tables.

        Args:
            images (`torch.Tensor` of shape `(batch, channels, size, size)`):
                0 outside of the documents' own cells, if those are `masked`.
            num_entities (`torch.Tensor` of shape `(batch,)`):
                Rows and columns that are a document's own. Only these cells are candidates for a closer look.
            masked (`bool`, *optional*, defaults to `True`):
                Whether nothing outside of them has an influence, nor has `size`. Otherwise what fills the image is
                part of the means and margins of those cells.

        Returns:
            `torch.Tensor` of shape `(batch, outputs, size, size)`.
        """
        batch, _, size, _ = images.shape
        whole = _STEP ** (_SCALES - 1)
        missing = -size % whole
        image = functional.pad(images, (0, missing, 0, missing))
        place = torch.arange(size + missing, device=images.device)
        own = square(place < num_entities[:, None])
        real = own if masked else square((place < size).expand(batch, -1))
        scales = [_shrink(image, real, own, _STEP**power) for power in reversed(range(1, _SCALES))]
        coarse, open_cells = scales[0]
        features = found = self.regions(functional.pad(coarse, (_MARGIN,) * 4))
        for finer, candidates in (*scales[1:], (image, own)):
            scores = self.score(features)[..., 0]
            chosen = self.choose(scores, open_cells)
            document, row, column = chosen.nonzero().unbind(1)
            regions = _cut(finer)[document, :, row, column]
            weights = torch.sigmoid(scores[document, row, column])
            looked_at = self.regions(regions) * weights[:, None, None, None]
            cells = looked_at.new_zeros(*chosen.shape, _STEP, _STEP, looked_at.shape[-1])
            cells = cells.index_put((document, row, column), looked_at)
            features = cells.transpose(2, 3).flatten(3, 4).flatten(1, 2)
            found = _grow(found) + features
            open_cells = _grow(chosen[..., None])[..., 0] & candidates
        return self.out(found + self.own(image.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)[:, :, :size, :size]

    def choose(self, scores: Tensor, open_cells: Tensor) -> Tensor:
        """Return which cells are looked at closely, `(batch, size, size)`: of those that are open, the best ones."""
        known = scores.detach().masked_fill(~open_cells, -torch.inf).flatten(1)
        ranked = known.argsort(dim=1, descending=True, stable=True)
        # In whole numbers: as a float, 0.07 of 100 is a little more than 7.
        part = Fraction(self.share).limit_denominator(_PARTS)
        candidates = open_cells.flatten(1).sum(1, keepdim=True)
        number = -torch.div(-candidates * part.numerator, part.denominator, rounding_mode="floor")
        number = number.maximum((candidates > 0).long())
        best = torch.arange(ranked.shape[1], device=scores.device) < number
        return torch.zeros_like(best).scatter(1, ranked, best).view_as(open_cells) & open_cells


def _shrink(image: Tensor, real: Tensor, own: Tensor, step: int) -> tuple[Tensor, Tensor]:
    """Return the mean over the real cells of each square of `step`, and whether it has any of the document's own."""
    number = functional.avg_pool2d(real[:, None].to(image.dtype), step)
    mean = functional.avg_pool2d(image * real[:, None], step) / number.where(number > 0, 1.0)
    return mean, functional.max_pool2d(own[:, None].to(image.dtype), step)[:, 0] > 0


def _grow(cells: Tensor) -> Tensor:
    """Repeat cells `(batch, size, size, width)` over the cells of the next scale that they stand for."""
    return cells.repeat_interleave(_STEP, 1).repeat_interleave(_STEP, 2)


def _cut(image: Tensor) -> Tensor:
    """Cut an image into squares with their margin, `(batch, channels, rows, columns, size + 4, size + 4)`."""
    length = _STEP + 2 * _MARGIN
    return functional.pad(image, (_MARGIN,) * 4).unfold(2, length, _STEP).unfold(3, length, _STEP)


__all__ = ["HardAttentionNetwork"]
