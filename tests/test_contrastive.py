"""The supervised contrastive loss against sums over pairs of pairs."""

from __future__ import annotations

import math

import pytest
import torch

from modeling_docre import head_bilinear
from modeling_docre.contrastive import supervised_contrastive_loss
from modeling_docre.head_bilinear import PairFactors

BLOCK = 4


def make_batch(dtype=torch.float64, seed=0):
    """Ten pairs: some share relations, two have one of their own, four have none."""
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(10, 6, generator=generator, dtype=dtype)
    labels = torch.zeros(10, 5)
    for row, relations in enumerate([[1], [1, 2], [], [2], [3], [], [], [1, 2], [4], []]):
        labels[row, relations or [0]] = 1
    return embeddings, labels


def cosine(one, other):
    return (one * other).sum() / one.square().sum().sqrt() / other.square().sum().sqrt()


def by_loops(embeddings, labels, temperature, form):
    relations = [set(row[1:].nonzero().flatten().tolist()) for row in labels]
    pairs = range(len(relations))
    candidates = [i for i in pairs if relations[i] or form == "pemscl"]
    values = []
    for i in pairs:
        if not relations[i]:
            continue
        scores = {j: cosine(embeddings[i], embeddings[j]) / temperature for j in candidates if j != i}
        denominator = torch.log(sum(score.exp() for score in scores.values()))
        shared = [j for j in scores if relations[i] & relations[j]]
        if shared:
            values.append(-sum(scores[j] - denominator for j in shared) / len(shared))
        else:
            values.append(denominator if form == "pemscl" else denominator * 0)
    return values


@pytest.mark.parametrize("form", ["pemscl", "vaediff"])
@pytest.mark.parametrize("temperature", [0.2, 1.0])
def test_values_and_gradients_by_loops(form, temperature):
    embeddings, labels = make_batch()
    results = []
    for loops in (False, True):
        given = embeddings.clone().requires_grad_()
        if loops:
            values = torch.stack(by_loops(given, labels, temperature, form))
        else:
            values = supervised_contrastive_loss(given, labels, temperature=temperature, form=form, reduction="none")
        values.mean().backward()
        results.append((values, given.grad))
    for got, expected in zip(*results, strict=True):
        torch.testing.assert_close(got, expected, atol=1e-12, rtol=1e-12)
    mean = supervised_contrastive_loss(embeddings, labels, temperature=temperature, form=form)
    torch.testing.assert_close(mean, results[0][0].mean())
    total = supervised_contrastive_loss(embeddings, labels, temperature=temperature, form=form, reduction="sum")
    torch.testing.assert_close(total, results[0][0].sum())


def published(embeddings, labels, temperature):
    """The broadcast of the published code: the mean of all sums A_i m_i + B_j m_i, by a double loop."""
    pairs = range(len(labels))
    flags = [set(row.nonzero().flatten().tolist()) for row in labels]
    a, b, m = [], [], []
    for i in pairs:
        scores = {j: cosine(embeddings[i], embeddings[j]) / temperature for j in pairs if j != i}
        denominator = torch.log(sum(score.exp() for score in scores.values()))
        shared = [j for j in scores if flags[i] & flags[j]]
        a.append(sum(scores[j] - denominator for j in shared) / len(shared) if shared else denominator * 0)
        b.append(denominator * 0 if shared else 1 / temperature - denominator)
        m.append(0.0 if 0 in flags[i] else 1.0)
    return -sum((a[i] + b[j]) * m[i] for i in pairs for j in pairs) / len(labels) ** 2


@pytest.mark.parametrize("zeroed", [False, True])
def test_published_arithmetic_by_loops(zeroed):
    embeddings, labels = make_batch()
    if zeroed:
        labels[:, 0] = 0
    before = labels.clone()
    got = supervised_contrastive_loss(embeddings, labels, temperature=0.5, reference=True)
    torch.testing.assert_close(got, published(embeddings, labels, 0.5), atol=1e-12, rtol=1e-12)
    assert torch.equal(labels, before)


@pytest.mark.parametrize("form", ["pemscl", "vaediff"])
def test_similarity_of_anchors_alone_gives_the_same(form):
    embeddings, labels = make_batch()
    normed = embeddings / embeddings.norm(dim=1, keepdim=True)
    anchors = (labels[:, 1:] > 0).any(1).nonzero()[:, 0]
    got = supervised_contrastive_loss(
        None, labels, similarity=normed[anchors] @ normed.t(), anchors=anchors, form=form, temperature=0.3
    )
    torch.testing.assert_close(got, supervised_contrastive_loss(embeddings, labels, form=form, temperature=0.3))
    full = supervised_contrastive_loss(None, labels, similarity=normed @ normed.t(), form=form, temperature=0.3)
    torch.testing.assert_close(got, full)


def test_similarity_of_outer_products_is_that_of_the_products_themselves():
    generator = torch.Generator().manual_seed(0)
    factors = PairFactors(*(torch.randn(7, 12, generator=generator, dtype=torch.float64) for _ in range(2)))
    rows = torch.tensor([5, 0, 3])
    outer = factors.outer(BLOCK)
    normed = outer / outer.norm(dim=1, keepdim=True)
    torch.testing.assert_close(factors.similarity(rows, BLOCK), normed[rows] @ normed.t(), atol=1e-12, rtol=1e-12)
    nothing = PairFactors(torch.zeros(2, 12), torch.zeros(2, 12))
    assert nothing.similarity(torch.arange(2), BLOCK).tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_similarities_are_not_rounded_to_half_precision():
    generator = torch.Generator().manual_seed(0)
    factors = PairFactors(*(torch.randn(7, 12, generator=generator) for _ in range(2)))
    rows = torch.arange(7)
    expected = factors.similarity(rows, BLOCK)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(factors.similarity(rows, BLOCK), expected)


def test_many_similarities_keep_no_table_per_group(monkeypatch):
    kept, gradients = [], []
    for budget in (10_000, 1):
        monkeypatch.setattr(head_bilinear, "_OUTER_BUDGET", budget)
        generator = torch.Generator().manual_seed(0)
        given = torch.randn(2, 60, 24, generator=generator, dtype=torch.float64, requires_grad=True)
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda one, sizes=sizes: sizes.append(one.numel()) or one, lambda one: one
        ):
            found = PairFactors(*given).similarity(torch.arange(60), BLOCK)
        kept.append(sum(size for size in sizes if size == 60 * 60))
        found.sin().sum().backward()
        gradients.append(given.grad)
    torch.testing.assert_close(*gradients, atol=1e-12, rtol=1e-12)
    groups = 24 // BLOCK
    assert kept[0] - kept[1] >= 2 * groups * 60 * 60


@pytest.mark.parametrize("reference", [False, True])
@pytest.mark.parametrize("form", ["pemscl", "vaediff"])
@pytest.mark.parametrize("rows", [[], [0], [2, 5], [0, 2], [4], [0, 4]])
def test_few_pairs_give_finite_values_and_gradients(rows, form, reference):
    embeddings, labels = make_batch(torch.float32)
    given = embeddings[rows].requires_grad_()
    loss = supervised_contrastive_loss(given, labels[rows], form=form, reference=reference)
    loss.backward()
    assert loss.isfinite() and given.grad.isfinite().all()
    if not reference and (not rows or rows == [2, 5] or rows == [0]):
        assert loss.item() == 0.0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype):
    embeddings, labels = make_batch(torch.float32)
    embeddings = (1e3 * embeddings).to(dtype)
    expected = supervised_contrastive_loss(embeddings.float(), labels, temperature=0.05)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = supervised_contrastive_loss(embeddings.requires_grad_(), labels, temperature=0.05)
    assert got.dtype == torch.float32 and got.item() == pytest.approx(expected.item(), rel=1e-6)
    got.backward()
    assert embeddings.grad.isfinite().all()


def test_pairs_that_share_a_relation_attract_each_other():
    labels = torch.tensor([[0, 1, 0], [0, 1, 1], [0, 0, 1]])
    near = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]])
    far = torch.tensor([[1.0, 0.0], [-1.0, 0.1], [0.0, 1.0]])
    assert supervised_contrastive_loss(near, labels) < supervised_contrastive_loss(far, labels)
    one = supervised_contrastive_loss(near[:2], labels[:2])
    assert one.item() == pytest.approx(0.0, abs=1e-6)  # the only candidate is the one that attracts
    isolated = supervised_contrastive_loss(near, torch.tensor([[0, 1, 0], [1, 0, 0], [1, 0, 0]]))
    scores = [cosine(near[0], near[1]).item(), 0.0]
    assert isolated.item() == pytest.approx(math.log(sum(map(math.exp, scores))), abs=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"form": "supcon"}, "`form` is one of"),
        ({"temperature": 0.0}, "`temperature` must be positive"),
        ({"similarity": torch.zeros(10, 10)}, "one of the two"),
        ({"reduction": "median"}, '`reduction` is "none"'),
        ({"reference": True, "reduction": "sum"}, "mixes all pairs"),
        ({"reference": True, "anchors": torch.tensor([1, 0])}, "all of them, in order"),
        ({"reference": True, "anchors": torch.tensor([0])}, "all of them, in order"),
        ({"temperature": math.nan}, "`temperature` must be positive"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        supervised_contrastive_loss(*make_batch(), **arguments)


def test_shapes_that_do_not_fit():
    embeddings, labels = make_batch()
    with pytest.raises(ValueError, match="`labels` must be"):
        supervised_contrastive_loss(embeddings, labels[:, 0])
    with pytest.raises(ValueError, match="`embeddings` must be"):
        supervised_contrastive_loss(embeddings[:3], labels)
    with pytest.raises(ValueError, match="`similarity` must be"):
        supervised_contrastive_loss(None, labels, similarity=torch.zeros(10, 9))
    with pytest.raises(ValueError, match="one of the two"):
        supervised_contrastive_loss(None, labels)
