"""The U-Net head against convolutions written cell by cell."""

from __future__ import annotations

import math

import pytest
import torch
from table_heads import BLOCK, HIDDEN, TOKENS, documents, unet_head
from torch import nn
from torch.nn import functional

from modeling_docre.encoding import all_pairs
from modeling_docre.head_bilinear import grouped_outer
from modeling_docre.head_unet import UNet

COUNTS = torch.tensor([5, 1, 3])


def image_of(head, hidden, attention, count):
    """The context of every cell, as channels: `(channels, count, count)`."""
    cells = []
    for subject in range(count):
        for target in range(count):
            weights = (attention[subject] * attention[target]).mean(0)
            context = (weights[:, None] * hidden).sum(0) / (weights.sum() + 1e-5)
            cells.append(head.channels(context))
    return torch.stack(cells).view(count, count, -1).permute(2, 0, 1)


def convolve(layer, image):
    """A 3x3 convolution, cell by cell; nothing lies around the image."""
    _, rows, columns = image.shape
    result = []
    for i in range(rows):
        for j in range(columns):
            value = layer.bias
            for di in (-1, 0, 1):
                for dj in (-1, 0, 1):
                    if 0 <= i + di < rows and 0 <= j + dj < columns:
                        value = value + layer.weight[:, :, di + 1, dj + 1] @ image[:, i + di, j + dj]
            result.append(value)
    return torch.stack(result, 1).view(-1, rows, columns)


def twice(block, image):
    for layer, norm in ((block.first, block.first_norm), (block.second, block.second_norm)):
        image = convolve(layer, image)
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        image = ((image - norm.running_mean[:, None, None]) * scale[:, None, None] + norm.bias[:, None, None]).relu()
    return image


def halve(image):
    """The maximum of 2x2 cells; of an odd number the last stands alone."""
    _, rows, columns = image.shape
    return torch.stack(
        [
            torch.stack([image[:, i : i + 2, j : j + 2].flatten(1).max(1).values for j in range(0, columns, 2)], 1)
            for i in range(0, rows, 2)
        ],
        1,
    )


def double(image, size):
    """Bilinear interpolation by pixel centres, where nothing lies behind the image; its first `size` cells."""
    _, count, _ = image.shape

    def at(place):
        # Centre of cell `place` of the doubled image, in cells of this one; there is nothing before the first.
        position = max(0.0, (place + 0.5) / 2 - 0.5)
        low = math.floor(position)
        return [(low, 1 - (position - low)), (low + 1, position - low)]

    rows = []
    for i in range(size):
        for j in range(size):
            total = torch.zeros_like(image[:, 0, 0])
            for a, weight in at(i):
                for b, other in at(j):
                    if a < count and b < count:
                        total = total + weight * other * image[:, a, b]
            rows.append(total)
    return torch.stack(rows, 1).view(-1, size, size)


def read_by_loops(unet, image):
    """The masked U-Net on one document's image, which is never larger than the document."""
    full = twice(unet.inside, image)
    half = twice(unet.down1, halve(full))
    quarter = twice(unet.down2, halve(half))
    half = twice(unet.up1, torch.cat([half, double(quarter, half.shape[1])]))
    full = twice(unet.up2, torch.cat([full, double(half, full.shape[1])]))
    weight = unet.out.weight[:, :, 0, 0]
    return torch.einsum("oc,cij->oij", weight, full) + unet.out.bias[:, None, None]


def test_logits_and_gradients_by_loops():
    pairs = all_pairs(COUNTS)
    results = []
    for loops in (False, True):
        head = unet_head()
        inputs = [tensor.requires_grad_() for tensor in documents(COUNTS)]
        if loops:
            hidden, entities, attention = inputs
            rows = []
            for document, count in enumerate(COUNTS.tolist()):
                read = read_by_loops(head.unet, image_of(head, hidden[document], attention[document], count))
                for subject in range(count):
                    for target in range(count):
                        if subject != target:
                            feature = read[:, subject, target]
                            joined = (torch.cat([entities[document, one], feature]) for one in (subject, target))
                            z_head, z_tail = (
                                torch.tanh(layer(one))
                                for layer, one in zip(
                                    (head.head_projection, head.tail_projection), joined, strict=True
                                )
                            )
                            outer = grouped_outer(z_head[None], z_tail[None], BLOCK)[0]
                            rows.append(head.classifier.weight @ outer + head.classifier.bias)
            logits = torch.stack(rows)
        else:
            logits = head.classify(head.pair_embeddings(*inputs, COUNTS, pairs))
        logits.cos().sum().backward()
        gradients = {f"input {n}": tensor.grad for n, tensor in enumerate(inputs)}
        gradients |= {name: parameter.grad for name, parameter in head.named_parameters()}
        results.append((logits, gradients))
    (got, got_gradients), (expected, expected_gradients) = results
    torch.testing.assert_close(got, expected, atol=1e-11, rtol=1e-11)
    for name, gradient in expected_gradients.items():
        assert gradient.abs().max() > 1e-6, name
        torch.testing.assert_close(
            got_gradients[name], gradient, atol=1e-10, rtol=1e-9, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_published_padding_repeats_the_last_entity():
    head, inputs, pairs = unet_head(pad_to=9, mask_padding=False), documents(COUNTS), all_pairs(COUNTS)
    images = []
    head.unet.register_forward_hook(lambda module, given, result: images.append(given))
    head.pair_embeddings(*inputs, COUNTS, pairs)
    image, num_entities = images[0]
    assert image.shape == (3, 3, 9, 9) and num_entities is None
    for document, count in enumerate(COUNTS.tolist()):
        expected = image_of(head, inputs[0][document], inputs[2][document], count)
        rows = torch.arange(9).clamp(max=count - 1)
        torch.testing.assert_close(image[document], expected[:, rows][:, :, rows], atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("size", [42, 35, 5])
def test_published_images_are_read_as_a_whole(size):
    torch.manual_seed(0)
    unet = UNet(3, 4, 5).double().train()
    image = torch.randn(2, size, size, 3, dtype=torch.float64).permute(0, 3, 1, 2).requires_grad_()
    read = unet(image)
    read.square().sum().backward()
    got = {name: parameter.grad.clone() for name, parameter in unet.named_parameters()} | {"image": image.grad}
    unet.zero_grad()
    plain = image.detach().contiguous().requires_grad_()

    def block(layers, inputs):
        for layer, norm in ((layers.first, layers.first_norm), (layers.second, layers.second_norm)):
            inputs = layer(inputs)
            mean, variance = inputs.mean((0, 2, 3), keepdim=True), inputs.var((0, 2, 3), unbiased=False, keepdim=True)
            inputs = (inputs - mean) / (variance + norm.eps).sqrt()
            inputs = (inputs * norm.weight[:, None, None] + norm.bias[:, None, None]).relu()
        return inputs

    def grow(inputs, rows):
        inputs = functional.interpolate(inputs, scale_factor=2, mode="bilinear", align_corners=True)
        # An odd size lost its last row and column on the way down.
        return functional.pad(inputs, (0, rows - inputs.shape[-1], 0, rows - inputs.shape[-1]))

    full = block(unet.inside, plain)
    half = block(unet.down1, functional.max_pool2d(full, 2))
    quarter = block(unet.down2, functional.max_pool2d(half, 2))
    half = block(unet.up1, torch.cat([half, grow(quarter, half.shape[-1])], 1))
    expected = unet.out(block(unet.up2, torch.cat([full, grow(half, size)], 1)))
    torch.testing.assert_close(read, expected, atol=1e-10, rtol=1e-10)
    expected.square().sum().backward()
    for name, gradient in {**{n: p.grad for n, p in unet.named_parameters()}, "image": plain.grad}.items():
        torch.testing.assert_close(
            got[name], gradient, atol=1e-8, rtol=1e-7, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_batch_statistics_are_those_of_real_cells():
    head, inputs, pairs = unet_head().train(), documents(COUNTS), all_pairs(COUNTS)
    norm = head.unet.inside.first_norm
    norm.momentum = 1.0
    head.pair_embeddings(*inputs, COUNTS, pairs)
    images = [
        convolve(head.unet.inside.first, image_of(head, inputs[0][d], inputs[2][d], count)).flatten(1)
        for d, count in enumerate(COUNTS.tolist())
    ]
    cells = torch.cat(images, 1)
    torch.testing.assert_close(norm.running_mean, cells.mean(1), atol=1e-11, rtol=1e-11)
    torch.testing.assert_close(norm.running_var, cells.var(1), atol=1e-11, rtol=1e-11)


@pytest.mark.parametrize("masked", [True, False])
def test_running_statistics_move_once_a_step_as_those_of_torch(masked):
    torch.manual_seed(0)
    unet = UNet(3, 4, 5).double().train()
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64, requires_grad=True)
    counts = torch.tensor([4, 4]) if masked else None
    if masked:
        images = images.detach() * (torch.arange(8) < 4) * (torch.arange(8) < 4)[:, None]
    unet(images, counts).sum().backward()
    plain = nn.BatchNorm2d(4).double()
    cells = unet.inside.first(images)
    plain(cells[:, :, :4, :4] if masked else cells)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(unet.inside.first_norm.state_dict()[name], value, check_dtype=False, msg=name)


def test_channels_are_computed_before_the_sum_over_tokens():
    # What would be a table of contexts, hidden wide, is one of three channels.
    head, inputs = unet_head(), documents(COUNTS)
    widths = []
    original = functional.linear
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(functional, "linear", lambda *given: widths.append(given[0].shape) or original(*given))
        head.pair_embeddings(*inputs, COUNTS, all_pairs(COUNTS))
    assert widths[0] == (3, TOKENS, HIDDEN)
    assert not [shape for shape in widths if len(shape) == 4]
