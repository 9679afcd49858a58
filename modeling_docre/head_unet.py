"""The U-Net pair head (DocuNet): the contexts of all pairs as an image, which a segmentation network reads."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from .attention import at_least_float32
from .configuration_docre import DocREConfig
from .encoding import run_again
from .entity_table import EntityTable, TableHead, square
from .head_bilinear import GroupedBilinear, PairFactors


class DoubleConvolution(nn.Module):
    """Twice a 3x3 convolution, batch norm and ReLU. What it computes on the way is computed again in backward.

    Args:
        inputs (`int`): Channels of the input.
        outputs (`int`): Channels of the output.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.first_norm = nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.second_norm = nn.BatchNorm2d(outputs)

    def forward(self, images: Tensor, mask: Tensor | None) -> Tensor:
        """Return `(batch, outputs, size, size)`, 0 where `mask` `(batch, size, size)` is false."""
        images, *seen = run_again(self._run, images, mask)
        # Not inside, where it would be done twice.
        for norm, statistics in zip((self.first_norm, self.second_norm), seen, strict=True):
            _remember(norm, statistics)
        return images

    def _run(self, images: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None, Tensor | None]:
        images, first = _norm_and_relu(self.first_norm, self.first(images), mask)
        images, second = _norm_and_relu(self.second_norm, self.second(images), mask)
        return images, first, second


def _norm_and_relu(norm: nn.BatchNorm2d, images: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Normalise cells, those of `mask` alone, and return the mean and variance that were seen, `(2, channels)`."""
    # The statistics are those of real cells, whatever the padding. Each cell is an image of one pixel then.
    cells = images if mask is None else images.permute(0, 2, 3, 1)[mask][:, :, None, None]
    # A single cell has no deviation: it is normalised by what was seen before.
    training = norm.training and cells.numel() > cells.shape[1]
    running = (None, None) if training else (norm.running_mean, norm.running_var)
    normed = functional.relu(functional.batch_norm(cells, *running, norm.weight, norm.bias, training, 0.0, norm.eps))
    seen = None
    if training:
        variance, mean = torch.var_mean(at_least_float32(cells.detach()), (0, 2, 3))
        seen = torch.stack([mean, variance])
    if mask is None:
        return normed, seen
    filled = normed.new_zeros(*mask.shape, images.shape[1])
    filled[mask] = normed[:, :, 0, 0]
    return filled.permute(0, 3, 1, 2), seen


@torch.no_grad()
def _remember(norm: nn.BatchNorm2d, seen: Tensor | None) -> None:
    """Move the running statistics towards what was seen, as `nn.BatchNorm2d` does."""
    if seen is not None:
        for running, value in zip((norm.running_mean, norm.running_var), seen, strict=True):
            running.lerp_(value.to(running.dtype), norm.momentum)  # type: ignore[union-attr, arg-type]
        norm.num_batches_tracked.add_(1)  # type: ignore[union-attr]


class UNet(nn.Module):
    """Two steps down, two up, each joined with what was there before.

    Args:
        channels (`int`): Channels of the input.
        width (`int`): Channels of the first level; doubled below.
        outputs (`int`): Channels of the output.
    """

    def __init__(self, channels: int, width: int, outputs: int) -> None:
        super().__init__()
        self.inside = DoubleConvolution(channels, width)
        self.down1 = DoubleConvolution(width, 2 * width)
        self.down2 = DoubleConvolution(2 * width, 2 * width)
        self.up1 = DoubleConvolution(4 * width, width)
        self.up2 = DoubleConvolution(2 * width, width // 2)
        self.out = nn.Conv2d(width // 2, outputs, 1)

    def forward(self, images: Tensor, num_entities: Tensor | None = None) -> Tensor:
        """Read images of entity tables.

        Args:
            images (`torch.Tensor` of shape `(batch, channels, size, size)`):
                0 outside of the documents' own cells, if `num_entities` are given.
            num_entities (`torch.Tensor` of shape `(batch,)`, *optional*):
                Rows and columns that are a document's own; nothing outside of them has an influence then, nor has
                `size`, which must be a multiple of 4 and 4 more than needed. Published images are read as a whole.

        Returns:
            `torch.Tensor` of shape `(batch, outputs, size, size)`.
        """
        masks: list[Tensor | None] = [None] * 3
        if num_entities is not None:
            masks = [_own_cells(-(-num_entities // step), images.shape[-1] // step) for step in (1, 2, 4)]
        full = self.inside(images, masks[0])
        half = self.down1(functional.max_pool2d(full, 2), masks[1])
        quarter = self.down2(functional.max_pool2d(half, 2), masks[2])
        half = self.up1(_join(half, quarter, masks[1]), masks[1])
        full = self.up2(_join(full, half, masks[0]), masks[0])
        return self.out(full)


def image_size(size: int, *, masked: bool) -> int:
    """Return rows and columns of the images of tables of `size`, which [`UNet`] halves twice."""
    size = max(size, 4)
    return 4 * (-(-size // 4) + 1) if masked else size


def _own_cells(count: Tensor, size: int) -> Tensor:
    return square(torch.arange(size, device=count.device) < count[:, None])


def _join(before: Tensor, below: Tensor, mask: Tensor | None) -> Tensor:
    # With aligned corners, as published, where a cell is looked up depends on the size of the whole image.
    grown = functional.interpolate(below, scale_factor=2, mode="bilinear", align_corners=mask is None)
    missing = before.shape[-1] - grown.shape[-1]
    if missing:
        grown = functional.pad(grown, (missing // 2, missing - missing // 2) * 2)
    if mask is not None:
        grown = grown * mask[:, None]
    return torch.cat([before, grown], dim=1)


class UNetHead(TableHead):
    """Pair head of DocuNet.

    The context of every cell of the entity table, the diagonal included, becomes an image of few channels. A U-Net
    reads it, and its output at a pair takes the place that the pair's context has in [`BilinearHead`].

    The published code pads images to 42 rows with copies of the last entity, which take part: `pad_to=42,
    mask_padding=False`. By default nothing outside of a document's own cells has an influence.

    Args:
        config ([`DocREConfig`]):
            `emb_size`, `block_size`, `context_head_reduce`, `context_eps`, `pad_to`, `mask_padding` and the settings
            that begin with `unet_` are read.
    """

    has_batch_norm = True

    def __init__(self, config: DocREConfig) -> None:
        super().__init__(config, features=config.unet_outputs)
        self.channels = nn.Linear(config.get_text_config().hidden_size, config.unet_channels)
        self.unet = UNet(config.unet_channels, config.unet_width, config.unet_outputs)
        self.classifier = GroupedBilinear(config.emb_size, config.num_classes, config.block_size)

    def from_tables(
        self,
        size: int,
        hidden_states: Tensor,
        entity_embeddings: Tensor,
        entity_attention: Tensor,
        num_entities: Tensor,
        pairs: Tensor,
    ) -> PairFactors:
        """Represent each pair; see [`TableHead.from_tables`]."""
        size = image_size(size, masked=self.mask_padding)
        if not self.mask_padding and entity_attention.shape[1]:
            # Rows beyond a document's entities are its last entity again.
            rows = torch.arange(size, device=pairs.device).minimum((num_entities[:, None] - 1).clamp(min=0))
            entity_attention = entity_attention[torch.arange(len(rows), device=pairs.device)[:, None], rows]
        elif not self.mask_padding:
            entity_attention = functional.pad(entity_attention, (0, 0, 0, 0, 0, size))
        table = EntityTable.of(num_entities, size, masked=self.mask_padding)
        # A context is a sum over tokens, so their channels may be computed first, which are few.
        with torch.autocast(hidden_states.device.type, enabled=False):
            weight, bias = at_least_float32(self.channels.weight), at_least_float32(self.channels.bias)
            of_tokens = functional.linear(at_least_float32(hidden_states), weight)
            images = table.fill(self.context(of_tokens, entity_attention, table.cells) + bias)
        images = images.permute(0, 3, 1, 2).to(self.channels.weight.dtype)
        read = self.unet(images, num_entities if self.mask_padding else None).permute(0, 2, 3, 1)
        document, head, tail = pairs.unbind(1)
        return self.join(entity_embeddings, read[document, head, tail], pairs)


__all__ = ["UNet", "UNetHead", "image_size"]
