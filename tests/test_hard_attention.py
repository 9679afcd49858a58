"""The network of several scales against loops over its cells."""

from __future__ import annotations

import math

import pytest
import torch

from modeling_docre.hard_attention import HardAttentionNetwork


def network_for(share=0.25, channels=2, width=3, outputs=5):
    torch.manual_seed(0)
    network = HardAttentionNetwork(channels, width, outputs, share).double().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.uniform_(-0.6, 0.6)
        for norm in (network.regions.first_norm, network.regions.second_norm):
            norm.weight.uniform_(0.5, 1.5)
            norm.bias.uniform_(0.0, 0.5)
    return network


def images_for(counts, size, channels=2):
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(len(counts), channels, size, size, generator=generator, dtype=torch.float64)
    own = torch.arange(size) < torch.tensor(counts)[:, None]
    return images * (own[:, None, :, None] & own[:, None, None, :])


# By loops: a grid is a dict of its cells, and nothing is 0.


def layer(convolution, norm, at, around):
    """One cell of a convolution over the cells around it, norm over its channels, ReLU."""
    total = convolution.bias
    for i in range(3):
        for j in range(3):
            cell = around(at[0] + i - 1, at[1] + j - 1)
            if cell is not None:
                total = total + convolution.weight[:, :, i, j] @ cell
    centred = total - total.mean()
    return (centred / ((centred**2).mean() + norm.eps).sqrt() * norm.weight + norm.bias).clamp(min=0)


def features_at(network, grid, row, column):
    part = network.regions
    return layer(
        part.second, part.second_norm, (row, column),
        lambda i, j: layer(part.first, part.first_norm, (i, j), lambda k, m: grid.get((k, m))),
    )  # fmt: skip


def by_loops(network, image, count, size, own=None):
    """The outputs of all cells up to `size`, and how many were looked at on each scale.

    `count` rows and columns are there; of these the first `own` are candidates for a closer look, all without it.
    """
    own = count if own is None else own
    grids = [{(i, j): image[:, i, j] for i in range(count) for j in range(count)}]
    for _ in range(2):
        squares = {}
        for (i, j), cell in grids[0].items():
            squares.setdefault((i // 4, j // 4), []).append(((i, j), cell))
        grids.insert(0, {place: sum(cell for _, cell in cells) / len(cells) for place, cells in squares.items()})
    # The mean is over a document's own cells, also where two scales are between.
    grids[0] = {
        (i, j): sum(c for (k, m), c in grids[2].items() if (k // 16, m // 16) == (i, j))
        / sum((k // 16, m // 16) == (i, j) for k, m in grids[2])
        for i, j in grids[0]
    }
    above = math.ceil(size / 16)
    found = {(i, j): features_at(network, grids[0], i, j) for i in range(above) for j in range(above)}
    looked = [{place: found[place] for place in grids[0] if max(place) * 16 < own}]
    totals = dict(found)
    for grid, step in zip(grids[1:], (4, 1), strict=True):
        before = looked[-1]
        scores = {place: (network.score(features))[0] for place, features in before.items()}
        best = sorted(scores, key=lambda place: (-scores[place].item(), place))
        best = best[: math.ceil(network.share * len(best))]
        seen = {}
        for i, j in best:
            for k in range(4 * i, 4 * i + 4):
                for m in range(4 * j, 4 * j + 4):
                    seen[k, m] = features_at(network, grid, k, m) / (1 + (-scores[i, j]).exp())
        totals = {
            (k, m): totals[i, j] + seen.get((k, m), 0.0)
            for i, j in totals for k in range(4 * i, 4 * i + 4) for m in range(4 * j, 4 * j + 4)
        }  # fmt: skip
        looked.append({place: features for place, features in seen.items() if max(place) * step < own})
    return {
        (i, j): network.out(totals[i, j] + network.own(image[:, i, j])) for i in range(size) for j in range(size)
    }, [len(cells) for cells in looked[1:]]


@pytest.mark.parametrize("share", [0.25, 0.6, 1.0])
@pytest.mark.parametrize("counts", [[19, 6], [1, 0]])
def test_values_and_gradients_by_loops(share, counts):
    network, size = network_for(share), 20
    images = images_for(counts, size).requires_grad_()
    found = network(images, torch.tensor(counts))
    weights = torch.randn(found.shape, generator=torch.Generator().manual_seed(2), dtype=found.dtype)
    names = [name for name, _ in network.named_parameters()]
    gradients = torch.autograd.grad((found * weights).sum(), [*network.parameters(), images], allow_unused=True)
    total = images.sum() * 0.0
    for document, count in enumerate(counts):
        expected, looked = by_loops(network, images[document], count, size)
        own = [(i, j) for i in range(count) for j in range(count)]
        for i, j in own:
            torch.testing.assert_close(found[document, :, i, j], expected[i, j])
        assert share < 1 or looked == [math.ceil(count / 4) ** 2, count**2]
        total = total + sum((weights[document, :, i, j] * expected[i, j]).sum() for i, j in expected)
    by_loop = torch.autograd.grad(total, [*network.parameters(), images], allow_unused=True)
    # Cells outside of a document are 0 and nobody's.
    own = images_for(counts, size) != 0
    gradients, by_loop = ((*all_but_images, images * own) for *all_but_images, images in (gradients, by_loop))
    for name, one, other in zip([*names, "images"], gradients, by_loop, strict=True):
        torch.testing.assert_close(one, torch.zeros_like(one) if other is None else other, msg=name)
    assert gradients[names.index("score.weight")].abs().sum() > 0


@pytest.mark.parametrize("share", [0.25, 0.6])
@pytest.mark.parametrize("own", [[20, 20], [7, 3]])
def test_what_fills_an_image_is_seen_around_candidates_and_is_none(share, own):
    network, size = network_for(share), 20
    images = images_for([size, size], size)
    found = network(images, torch.tensor(own), masked=False)
    for document, count in enumerate(own):
        expected, looked = by_loops(network, images[document], size, size, count)
        for place, cell in expected.items():
            torch.testing.assert_close(found[document][:, place[0], place[1]], cell)
        assert 0 < looked[1] <= count**2


def test_a_document_in_a_filled_image_is_looked_at_closely():
    """Copies of a small document that fill the image score as it does, and nobody reads what is found there."""
    for seed in range(10):
        torch.manual_seed(seed)
        network = HardAttentionNetwork(2, 3, 5, 0.25).eval()
        network.own.weight.data.zero_()
        tile = torch.randn(1, 2, 8, 8)
        before, changed = network(tile.tile(1, 1, 5, 5), torch.tensor([8]), masked=False), []
        for row, column in ((0, 0), (0, 4), (4, 0), (4, 4)):
            other = tile.clone()
            square = (slice(None), slice(None), slice(row, row + 4), slice(column, column + 4))
            other[square] = tile[square].flip(2, 3)
            after = network(other.tile(1, 1, 5, 5), torch.tensor([8]), masked=False)
            changed.append(bool((after - before)[..., :8, :8].abs().max() > 1e-6))
        assert any(changed)


@pytest.mark.parametrize(("share", "looked"), [(0.25, 7), (0.6, 15), (0.04, 1), (1.0, 25)])
def test_how_many_are_looked_at(share, looked):
    network = network_for(share)
    scores, candidates = torch.randn(1, 6, 6, dtype=torch.float64), torch.zeros(1, 6, 6, dtype=torch.bool)
    candidates[:, :5, :5] = True
    chosen = network.choose(scores, candidates)
    assert int(chosen.sum()) == looked and not (chosen & ~candidates).any()


def test_a_share_is_rounded_up_exactly():
    scores, candidates = torch.randn(1, 10, 10), torch.ones(1, 10, 10, dtype=torch.bool)
    for percent in range(1, 101):
        assert int(network_for(percent / 100).choose(scores, candidates).sum()) == percent
    assert int(network_for(1e-12).choose(scores, candidates).sum()) == 1
    for share, number, looked in ((2 / 3, 3, 2), (2 / 3, 6, 4), (1 / 6, 6, 1), (1 / 3, 9, 3), (1 / 7, 70, 10)):
        some = (torch.arange(100) < number).view(1, 10, 10)
        assert int(network_for(share).choose(scores, some).sum()) == looked


def test_neither_the_size_of_the_image_nor_its_neighbours_have_an_influence():
    network, counts = network_for(), [18, 5, 33]
    images = images_for(counts, 36)
    found = network(images, torch.tensor(counts))
    for document, count in enumerate(counts):
        for size in (count, count + 7):
            alone = network(images[document : document + 1, :, :size, :size].contiguous(), torch.tensor([count]))
            torch.testing.assert_close(alone[0, :, :count, :count], found[document, :, :count, :count])


def test_details_count_where_it_looks_and_nowhere_else():
    """Cells that change places within a square keep its mean: only who looks closely can tell."""
    network, images = network_for(), images_for([32], 32)
    network.own.weight.data.zero_()
    whole = torch.tensor([32])
    before, changed = network(images, whole)[0], []
    for row in range(8):
        for column in range(8):
            other = images.clone()
            block = (slice(None), slice(None), slice(4 * row, 4 * row + 4), slice(4 * column, 4 * column + 4))
            other[block] = images[block].flip(2, 3)
            changed.append(bool((network(other, whole)[0] - before).abs().max() > 1e-9))
    # One square of 16 cells out of four, four squares out of its sixteen; and those whose margin reaches into them.
    assert 4 <= sum(changed) <= 36 and not all(changed)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype):
    network, images = network_for().float(), images_for([20, 3], 20).float()
    exact = network(images, torch.tensor([20, 3]))
    found = network.to(dtype)(images.to(dtype), torch.tensor([20, 3]))
    assert found.dtype == dtype and found.isfinite().all()
    # A rounded score may choose another square: what is near holds for most cells.
    assert ((found.float() - exact).abs() < 0.1).float().mean() > 0.5
