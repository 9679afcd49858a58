"""The bilinear head against explicit outer products."""

from __future__ import annotations

import copy

import pytest
import torch

from modeling_docre import DocREConfig, head_bilinear
from modeling_docre.encoding import all_pairs
from modeling_docre.head_bilinear import BilinearHead, PairFactors, grouped_outer

HIDDEN, WIDTH, BLOCK, TOKENS, HEADS = 6, 8, 4, 9, 3
COUNTS = torch.tensor([4, 3, 1])


def config(**settings) -> DocREConfig:
    return DocREConfig(
        encoder_config={"model_type": "bert", "hidden_size": HIDDEN, "num_attention_heads": 2},
        relations=["R1", "R2", "R3"],
        emb_size=WIDTH,
        block_size=BLOCK,
        **settings,
    )


def make_head(dtype=torch.float64, **settings) -> BilinearHead:
    torch.manual_seed(0)
    return BilinearHead(config(**settings)).to(dtype)


def documents(dtype=torch.float64) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(3, TOKENS, HIDDEN, generator=generator, dtype=dtype)
    entities = torch.randn(3, 4, HIDDEN, generator=generator, dtype=dtype)
    attention = torch.rand(3, 4, HEADS, TOKENS, generator=generator, dtype=dtype)
    return hidden, entities, attention


def score_by_loops(head, hidden, entities, attention, pairs, reduce="mean", eps=1e-5) -> torch.Tensor:
    """ATLOP, pair by pair and number by number."""
    rows = []
    for document, subject, target in pairs.tolist():
        weights = [
            sum(attention[document, subject, h, t] * attention[document, target, h, t] for h in range(HEADS))
            / (HEADS if reduce == "mean" else 1)
            for t in range(TOKENS)
        ]
        context = sum(w * hidden[document, t] for t, w in enumerate(weights)) / (sum(weights) + eps)
        z_head = torch.tanh(
            head.head_projection.weight @ torch.cat([entities[document, subject], context]) + head.head_projection.bias
        )
        z_tail = torch.tanh(
            head.tail_projection.weight @ torch.cat([entities[document, target], context]) + head.tail_projection.bias
        )
        logits = []
        for class_id in range(4):
            logit = head.classifier.bias[class_id]
            for group in range(WIDTH // BLOCK):
                for i in range(BLOCK):
                    for j in range(BLOCK):
                        weight = head.classifier.weight[class_id, (group * BLOCK + i) * BLOCK + j]
                        logit = logit + weight * z_head[group * BLOCK + i] * z_tail[group * BLOCK + j]
            logits.append(logit)
        rows.append(torch.stack(logits))
    return torch.stack(rows)


@pytest.mark.parametrize(("reduce", "eps"), [("mean", 1e-5), ("sum", 1e-10)])
def test_logits_and_gradients_by_loops(reduce, eps):
    pairs = all_pairs(COUNTS)
    results = []
    for by_loops in (False, True):
        head = make_head(context_head_reduce=reduce, context_eps=eps)
        inputs = [tensor.requires_grad_() for tensor in documents()]
        if by_loops:
            logits = score_by_loops(head, *inputs, pairs, reduce, eps)
        else:
            logits = head.classify(head.pair_embeddings(*inputs, COUNTS, pairs))
        logits.cos().sum().backward()
        gradients = {f"input {n}": tensor.grad for n, tensor in enumerate(inputs)}
        gradients |= {name: parameter.grad for name, parameter in head.named_parameters()}
        results.append((logits, gradients))
    (got, got_gradients), (expected, expected_gradients) = results
    torch.testing.assert_close(got, expected, atol=1e-12, rtol=1e-12)
    assert got_gradients.keys() == expected_gradients.keys()
    for name, gradient in expected_gradients.items():
        torch.testing.assert_close(got_gradients[name], gradient, atol=1e-11, rtol=1e-11, msg=name)


@pytest.mark.parametrize("budget", [1 << 24, 2 * WIDTH * BLOCK, 1])
def test_gradcheck(monkeypatch, budget):
    monkeypatch.setattr(head_bilinear, "_OUTER_BUDGET", budget)
    generator = torch.Generator().manual_seed(0)
    head, tail = (torch.randn(5, WIDTH, generator=generator, dtype=torch.float64).requires_grad_() for _ in range(2))
    weight = torch.randn(3, WIDTH * BLOCK, generator=generator, dtype=torch.float64).requires_grad_()
    bias = torch.randn(3, generator=generator, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda *tensors: head_bilinear._GroupedBilinear.apply(*tensors, BLOCK), (head, tail, weight, bias)
    )


@pytest.mark.parametrize("budget", [3 * WIDTH * BLOCK, 1])
def test_slices_do_not_change_values_or_gradients(monkeypatch, budget):
    results = []
    for size in (1 << 24, budget):
        monkeypatch.setattr(head_bilinear, "_OUTER_BUDGET", size)
        head = make_head(torch.float32)
        inputs = [tensor.requires_grad_() for tensor in documents(torch.float32)]
        logits = head.classify(head.pair_embeddings(*inputs, COUNTS, all_pairs(COUNTS)))
        logits.pow(2).sum().backward()
        results.append([logits, *(tensor.grad for tensor in inputs), *(p.grad for p in head.parameters())])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


def test_half_precision_gradients_do_not_lose_slices(monkeypatch):
    # 256 slices of the same sign: a running sum in bfloat16 would stop growing at 2^8 times the step.
    monkeypatch.setattr(head_bilinear, "_OUTER_BUDGET", 1)
    ones = torch.ones(1024, WIDTH, dtype=torch.bfloat16)
    weight = torch.zeros(2, WIDTH * BLOCK, dtype=torch.bfloat16, requires_grad=True)
    bias = torch.zeros(2, dtype=torch.bfloat16, requires_grad=True)
    head_bilinear._GroupedBilinear.apply(ones, ones, weight, bias, BLOCK).sum().backward()
    assert weight.grad.dtype == torch.bfloat16 and (weight.grad == 1024).all()


def test_no_pairs():
    head = make_head()
    inputs = [tensor.requires_grad_() for tensor in documents()]
    factors = head.pair_embeddings(*inputs, COUNTS, torch.zeros(0, 3).long())
    logits = head.classify(factors)
    assert logits.shape == (0, 4) and factors.outer(BLOCK).shape == (0, WIDTH * BLOCK)
    logits.sum().backward()
    assert head.classifier.weight.grad.abs().sum() == 0 and torch.isfinite(inputs[0].grad).all()


def test_rows_follow_the_pairs_and_nothing_else():
    head, inputs = make_head(), documents()
    with torch.no_grad():
        pairs = all_pairs(COUNTS)
        logits = head.classify(head.pair_embeddings(*inputs, COUNTS, pairs))
        everything = {tuple(pair): row for pair, row in zip(pairs.tolist(), logits, strict=True)}
        shuffled = pairs[torch.randperm(len(pairs), generator=torch.Generator().manual_seed(3))][:7]
        for subset in (shuffled, pairs[4:5], torch.cat([pairs[2:3], pairs[2:3]])):
            logits = head.classify(head.pair_embeddings(*inputs, COUNTS, subset))
            for pair, row in zip(subset.tolist(), logits, strict=True):
                torch.testing.assert_close(row, everything[tuple(pair)], atol=1e-13, rtol=0)


def test_swapping_documents_swaps_their_logits():
    head, inputs = make_head(), documents()
    pairs = all_pairs(COUNTS)
    order = torch.tensor([2, 0, 1])  # new position of each document
    with torch.no_grad():
        before = head.classify(head.pair_embeddings(*inputs, COUNTS, pairs))
        *moved, counts = [torch.empty_like(one).index_copy(0, order, one) for one in (*inputs, COUNTS)]
        moved_pairs = torch.cat([order[pairs[:, :1]], pairs[:, 1:]], 1)
        after = head.classify(head.pair_embeddings(*moved, counts, moved_pairs))
    torch.testing.assert_close(after, before, atol=1e-13, rtol=0)


def test_head_and_tail_are_not_interchangeable():
    head, inputs = make_head(), documents()
    with torch.no_grad():
        one = head.classify(head.pair_embeddings(*inputs, COUNTS, torch.tensor([[0, 1, 2]])))
        other = head.classify(head.pair_embeddings(*inputs, COUNTS, torch.tensor([[0, 2, 1]])))
    assert (one - other).abs().max() > 1e-3


def test_outer_product_order_is_group_head_tail():
    head, tail = torch.arange(8.0)[None], torch.arange(8.0)[None] + 10
    got = grouped_outer(head, tail, BLOCK)
    expected = [
        float(head[0, group * 4 + i] * tail[0, group * 4 + j])
        for group in range(2)
        for i in range(4)
        for j in range(4)
    ]
    assert got.tolist() == [expected]
    assert torch.equal(PairFactors(head, tail).outer(BLOCK), got)


def test_the_outer_product_of_a_whole_batch_never_exists(monkeypatch):
    # 380 pairs: the whole outer product would be 380 x 32 numbers.
    budget = 10 * WIDTH * BLOCK
    monkeypatch.setattr(head_bilinear, "_OUTER_BUDGET", budget)
    sizes, built = [], []
    outer = head_bilinear.grouped_outer

    def counted(h, t, block):
        product = outer(h, t, block)
        built.append(product.numel())
        return product

    monkeypatch.setattr(head_bilinear, "grouped_outer", counted)
    head = make_head(torch.float32)
    factors = PairFactors(*(torch.randn(380, WIDTH, requires_grad=True) for _ in range(2)))
    with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
        logits = head.classify(factors)
    logits.sum().backward()
    assert max(sizes) == 380 * WIDTH
    assert max(built) == budget and sum(built) == 2 * 380 * WIDTH * BLOCK


def test_autocast_runs_the_classifier_in_half_precision_and_stays_close():
    head, inputs = make_head(torch.float32), documents(torch.float32)
    pairs = all_pairs(COUNTS)
    exact = head.classify(head.pair_embeddings(*inputs, COUNTS, pairs))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = head.classify(head.pair_embeddings(*inputs, COUNTS, pairs))
    assert logits.dtype == torch.bfloat16
    torch.testing.assert_close(logits.float(), exact, atol=0.05, rtol=0)
    logits.float().sum().backward()
    got = copy.deepcopy({name: p.grad for name, p in head.named_parameters()})
    head.zero_grad()
    exact.sum().backward()
    for name, parameter in head.named_parameters():
        assert got[name].dtype == torch.float32
        torch.testing.assert_close(got[name], parameter.grad, atol=0.05, rtol=0.05, msg=name)


def test_second_derivatives_are_refused_rather_than_wrong():
    head, tail, weight = (torch.randn(2, n, requires_grad=True) for n in (WIDTH, WIDTH, 1))
    weight, bias = torch.randn(3, WIDTH * BLOCK, requires_grad=True), torch.zeros(3)
    logits = head_bilinear._GroupedBilinear.apply(head, tail, weight, bias, BLOCK)
    (gradient,) = torch.autograd.grad(logits.pow(2).sum(), head, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()
