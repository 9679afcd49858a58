from __future__ import annotations

import pytest
import torch

from modeling_docre import losses
from modeling_docre.losses import (
    adaptive_focal_loss,
    adaptive_softmax_loss,
    adaptive_thresholding_loss,
    balanced_softmax_loss,
    binary_cross_entropy_loss,
    none_class_ranking_loss,
    pairwise_moving_threshold_loss,
)

ALL_LOSSES = [
    adaptive_thresholding_loss,
    adaptive_focal_loss,
    pairwise_moving_threshold_loss,
    none_class_ranking_loss,
    balanced_softmax_loss,
    adaptive_softmax_loss,
    binary_cross_entropy_loss,
]
# Focal weights and a floor under logarithms make another slope.
CURVED_LOSSES = [adaptive_focal_loss, none_class_ranking_loss]
SAMPLED_LOSSES = [adaptive_thresholding_loss, pairwise_moving_threshold_loss]


def make_batch(case="mixed", num_classes=7, scale=2.0, seed=0):
    """Float64 logits and multi-hot labels whose column 0 marks pairs without relations."""
    generator = torch.Generator().manual_seed(seed)
    num_pairs = {"mixed": 9, "all_na": 4, "no_na": 5, "single": 1, "all_relations": 2, "empty": 0}[case]
    logits = scale * torch.randn(num_pairs, num_classes, generator=generator, dtype=torch.float64)
    labels = (torch.rand(num_pairs, num_classes, generator=generator) < 0.3).long()
    if case == "mixed":
        labels[::2] = 0
        labels[1::2, 3] = 1
    elif case == "all_na":
        labels[:] = 0
    elif case == "single":
        labels[:] = 0
        labels[0, 2] = 1
    elif case == "all_relations":
        labels[:] = 1
    if case == "no_na":
        labels[:, 3] = 1
    labels[:, 0] = (labels[:, 1:].sum(dim=1) == 0).long()
    return logits, labels


def positives_and_negatives(labels):
    for row in labels.tolist():
        yield (
            [r for r in range(1, len(row)) if row[r] > 0],
            [r for r in range(1, len(row)) if row[r] == 0],
        )


def adaptive_thresholding_loop(logits, labels):
    values = []
    for row, (positives, negatives) in zip(logits, positives_and_negatives(labels), strict=True):
        value = -torch.log(torch.exp(row[0]) / sum(torch.exp(row[r]) for r in [0, *negatives]))
        for r in positives:
            value = value - torch.log(torch.exp(row[r]) / sum(torch.exp(row[q]) for q in [0, *positives]))
        values.append(value)
    return values


def binary_entropy(p):
    return -p * torch.log(p) - (1 - p) * torch.log(1 - p)


def pairwise_moving_threshold_loop(logits, labels, positive_weight=1.0, negative_weight=1.0, norm="count", kept=None):
    values = []
    for i, (positives, negatives) in enumerate(positives_and_negatives(labels)):
        if kept is not None and not positives:
            negatives = [r for r in negatives if kept[i][r - 1]]
        p = {
            r: torch.exp(logits[i, r]) / (torch.exp(logits[i, r]) + torch.exp(logits[i, 0]))
            for r in [*positives, *negatives]
        }
        value = logits[i].sum() * 0.0
        for r in positives:
            divisor = len(positives) if norm == "count" else 1
            value = value - torch.log(p[r]) + positive_weight * binary_entropy(p[r]) / divisor
        for r in negatives:
            divisor = len(negatives) if norm == "count" else 1
            value = value - torch.log(1 - p[r]) + negative_weight * binary_entropy(p[r]) / divisor
        values.append(value)
    return values


def published_pairwise_loop(logits, labels, positive_weight=1.0, negative_weight=1.0):
    """The published form: the counts of every pair divide the entropies of every other pair."""
    rows = list(positives_and_negatives(labels))
    total = logits.sum() * 0.0
    for i, (positives, negatives) in enumerate(rows):
        p = torch.exp(logits[i]) / (torch.exp(logits[i]) + torch.exp(logits[i, 0]))
        for r in positives:
            total = total - torch.log(p[r]) / len(rows)
        for r in negatives:
            total = total - torch.log(1 - p[r]) / len(rows)
        for other_positives, other_negatives in rows:
            for r in positives:
                divisor = max(1, len(other_positives)) * len(rows) ** 2
                total = total + positive_weight * binary_entropy(p[r]) / divisor
            for r in negatives:
                divisor = max(1, len(other_negatives)) * len(rows) ** 2
                total = total + negative_weight * binary_entropy(p[r]) / divisor
    return total


def binary_cross_entropy_loop(logits, labels):
    values = []
    for row, (positives, negatives) in zip(logits, positives_and_negatives(labels), strict=True):
        value = row.sum() * 0.0
        for r in positives:
            value = value - torch.log(1 / (1 + torch.exp(-row[r])))
        for r in negatives:
            value = value - torch.log(1 - 1 / (1 + torch.exp(-row[r])))
        values.append(value)
    return values


def adaptive_focal_loop(logits, labels, gamma=1.0, offset=1.0):
    values = []
    for row, (positives, negatives) in zip(logits, positives_and_negatives(labels), strict=True):
        value = -torch.log(torch.exp(row[0]) / sum(torch.exp(row[r]) for r in [0, *negatives]))
        for r in positives:
            p = torch.exp(row[r]) / (torch.exp(row[r]) + torch.exp(row[0]))
            value = value - (offset + (1 - p) ** gamma) * torch.log(p)
        values.append(value)
    return values


def none_class_ranking_loop(logits, labels, shift=0.0, regularizer=True):
    values = []
    for row, (positives, _) in zip(logits, positives_and_negatives(labels), strict=True):
        terms = [(row[r] - row[0], r in positives) for r in range(1, len(row))]
        if regularizer:
            terms.append((row[0] - sum(row[1:]) / (len(row) - 1), not positives))
        value = row.sum() * 0.0
        for margin, holds in terms:
            p = 1 / (1 + torch.exp(-margin))
            if holds:
                value = value - torch.log(p)
            elif 1 - p + shift < 1:  # beyond, it costs nothing and pulls nowhere
                value = value - torch.log(1 - p + shift)
        values.append(value)
    return values


def balanced_softmax_loop(logits, labels):
    values = []
    for row, (positives, negatives) in zip(logits, positives_and_negatives(labels), strict=True):
        holds, others = (positives, [0, *negatives]) if positives else ([0], negatives)
        above, below = sum(torch.exp(row[c]) for c in others), sum(torch.exp(-row[c]) for c in holds)
        values.append(torch.log(1 + above) + torch.log(1 + below))
    return values


def adaptive_softmax_loop(logits, labels):
    values = []
    for row, (positives, negatives) in zip(logits, positives_and_negatives(labels), strict=True):
        above = torch.exp(row[0]) + sum(torch.exp(row[c]) for c in negatives)
        below = torch.exp(-row[0]) + sum(torch.exp(-row[c]) for c in positives)
        values.append(torch.log(above) + torch.log(below))
    return values


LOOPS = [
    (adaptive_softmax_loss, {}, adaptive_softmax_loop, {}),
    (adaptive_focal_loss, {}, adaptive_focal_loop, {}),
    (adaptive_focal_loss, {"gamma": 2.0}, adaptive_focal_loop, {"gamma": 2.0}),
    (adaptive_focal_loss, {"gamma": 0.5, "offset": 0.0}, adaptive_focal_loop, {"gamma": 0.5, "offset": 0.0}),
    (none_class_ranking_loss, {}, none_class_ranking_loop, {}),
    (none_class_ranking_loss, {"regularizer": False}, none_class_ranking_loop, {"regularizer": False}),
    (none_class_ranking_loss, {"shift": 0.05}, none_class_ranking_loop, {"shift": 0.05}),
    (none_class_ranking_loss, {"log_floor": 0.0}, none_class_ranking_loop, {}),
    (none_class_ranking_loss, {"shift": 0.05, "log_floor": 0.0}, none_class_ranking_loop, {"shift": 0.05}),
    (balanced_softmax_loss, {}, balanced_softmax_loop, {}),
    (adaptive_thresholding_loss, {}, adaptive_thresholding_loop, {}),
    (binary_cross_entropy_loss, {}, binary_cross_entropy_loop, {}),
    (pairwise_moving_threshold_loss, {}, pairwise_moving_threshold_loop, {}),
    (
        pairwise_moving_threshold_loss,
        {"entropy": False},
        pairwise_moving_threshold_loop,
        {"positive_weight": 0.0, "negative_weight": 0.0},
    ),
    (
        pairwise_moving_threshold_loss,
        {"positive_entropy_weight": 0.5, "negative_entropy_weight": 0.1, "entropy_norm": "one"},
        pairwise_moving_threshold_loop,
        {"positive_weight": 0.5, "negative_weight": 0.1, "norm": "one"},
    ),
]


def value_and_gradient(function, logits, *args, **kwargs):
    logits = logits.clone().requires_grad_()
    value = function(logits, *args, **kwargs)
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    return value.detach(), gradient


@pytest.mark.parametrize("case", ["mixed", "all_na", "no_na", "single", "all_relations"])
@pytest.mark.parametrize(("loss", "arguments", "loop", "loop_arguments"), LOOPS)
def test_losses_equal_a_loop_over_pairs_and_relations(case, loss, arguments, loop, loop_arguments):
    logits, labels = make_batch(case)
    for reduction, reduce in [
        ("none", torch.stack),
        ("sum", sum),
        ("mean", lambda values: sum(values) / len(values)),
    ]:
        value, gradient = value_and_gradient(loss, logits, labels, **arguments, reduction=reduction)
        expected, expected_gradient = value_and_gradient(
            lambda x, reduce=reduce: reduce(loop(x, labels, **loop_arguments)), logits
        )
        torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(gradient, expected_gradient, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("case", ["mixed", "all_na", "no_na", "single", "all_relations"])
def test_reference_broadcast_equals_the_published_double_sum(case):
    logits, labels = make_batch(case)
    arguments = {"positive_entropy_weight": 0.5, "negative_entropy_weight": 0.1, "reference_broadcast": True}
    value, gradient = value_and_gradient(pairwise_moving_threshold_loss, logits, labels, **arguments)
    expected, expected_gradient = value_and_gradient(published_pairwise_loop, logits, labels, 0.5, 0.1)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("holds", [True, False])
def test_reference_broadcast_saturates_where_the_published_logarithm_does(holds):
    sign = -1.0 if holds else 1.0
    logits = torch.tensor([[0.0, 40.0 * sign, 500.0 * sign]], requires_grad=True)
    labels = torch.tensor([[0, holds, holds]])
    arguments = {"entropy": False, "reference_broadcast": True}
    loss = pairwise_moving_threshold_loss(logits, labels, **arguments)
    loss.backward()
    assert loss.item() == pytest.approx(40.0 + 69.0776, abs=1e-3)
    assert logits.grad[0].tolist() == pytest.approx([-sign, sign, 0.0], abs=1e-6)


def test_reference_broadcast_is_a_mean_over_all_pairs_only():
    logits, labels = make_batch()
    for reduction in ("none", "sum"):
        with pytest.raises(ValueError, match="reference_broadcast=False"):
            pairwise_moving_threshold_loss(logits, labels, reference_broadcast=True, reduction=reduction)


@pytest.mark.parametrize("loss", ALL_LOSSES)
def test_gradcheck(loss):
    logits, labels = make_batch()
    assert torch.autograd.gradcheck(lambda x: loss(x, labels, reduction="none"), logits.requires_grad_())
    assert torch.autograd.gradgradcheck(lambda x: loss(x, labels), logits)


@pytest.mark.parametrize("loss", SAMPLED_LOSSES)
def test_adding_a_constant_to_a_row_changes_nothing(loss):
    logits, labels = make_batch()
    shifted = logits + torch.linspace(-30, 30, len(logits), dtype=torch.float64)[:, None]
    expected = loss(logits, labels, reduction="none")
    torch.testing.assert_close(loss(shifted, labels, reduction="none"), expected)


def test_pairwise_loss_without_entropy_is_a_sum_of_logistic_losses():
    logits, labels = make_batch()
    signs = 2.0 * labels[:, 1:] - 1.0
    expected = torch.log1p(torch.exp(-signs * (logits[:, 1:] - logits[:, :1]))).sum(dim=1)
    actual = pairwise_moving_threshold_loss(logits, labels, entropy=False, reduction="none")
    torch.testing.assert_close(actual, expected)


def test_one_relation_of_a_pair_competes_with_the_threshold_class_alone():
    logits, labels = make_batch("single")
    positive = torch.log1p(torch.exp(logits[0, 0] - logits[0, 2]))
    negatives = logits[0, [0, 1, 3, 4, 5, 6]]
    expected = positive + negatives.logsumexp(0) - logits[0, 0]
    torch.testing.assert_close(adaptive_thresholding_loss(logits, labels), expected)


def test_entropy_vanishes_for_certain_relations_and_is_log_2_for_undecided_ones():
    logits = torch.tensor([[0.0, 0.0, 0.0, 0.0], [0.0, 60.0, -60.0, -60.0]])
    labels = torch.tensor([[0, 1, 1, 0], [0, 1, 0, 0]])
    with_entropy = pairwise_moving_threshold_loss(logits, labels, reduction="none")
    without = pairwise_moving_threshold_loss(logits, labels, entropy=False, reduction="none")
    assert (with_entropy - without).tolist() == pytest.approx([2 * 0.693147, 0.0], abs=1e-6)


def test_binary_cross_entropy_ignores_class_0_and_matches_torch():
    logits, labels = make_batch()
    value, gradient = value_and_gradient(binary_cross_entropy_loss, logits, labels)
    entries = torch.nn.functional.binary_cross_entropy_with_logits(logits[:, 1:], labels[:, 1:].double())
    torch.testing.assert_close(value, entries * (logits.shape[1] - 1))
    assert (gradient[:, 0] == 0).all()


@pytest.mark.parametrize("loss", ALL_LOSSES)
def test_labels_of_any_dtype_give_one_value_and_stay_untouched(loss):
    logits, labels = make_batch()
    expected = loss(logits, labels)
    for dtype in (torch.bool, torch.int8, torch.uint8, torch.int32, torch.float16, torch.float32, torch.float64):
        given = labels.to(dtype)
        before = given.clone()
        assert loss(logits, given).item() == expected.item()
        assert torch.equal(given, before)


@pytest.mark.parametrize("loss", ALL_LOSSES)
def test_column_0_of_the_labels_is_not_read(loss):
    logits, labels = make_batch()
    other = labels.clone()
    other[:, 0] = 1 - other[:, 0]
    assert loss(logits, other).item() == loss(logits, labels).item()


@pytest.mark.parametrize("loss", ALL_LOSSES)
def test_a_batch_without_pairs_costs_nothing_and_can_be_trained_on(loss):
    forms = [{}, {"reduction": "sum"}]
    if loss is pairwise_moving_threshold_loss:
        forms += [{"reference_broadcast": True}, {"negative_label_rate": 0.5, "shared_mask": True}]
    for arguments in forms:
        logits = torch.zeros(0, 5, requires_grad=True)
        value = loss(logits, torch.zeros(0, 5), **arguments)
        assert value.shape == () and value.item() == 0.0
        value.backward()
        assert logits.grad.shape == (0, 5)
    assert loss(torch.zeros(0, 5), torch.zeros(0, 5), reduction="none").shape == (0,)


@pytest.mark.parametrize("loss", ALL_LOSSES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_are_computed_in_float32(loss, dtype):
    logits, labels = make_batch(num_classes=97, scale=5.0)
    logits = logits.to(dtype)
    value, gradient = value_and_gradient(loss, logits, labels)
    expected, expected_gradient = value_and_gradient(loss, logits.float(), labels)
    assert value.dtype == torch.float32 and gradient.dtype == dtype
    assert value.item() == expected.item()
    torch.testing.assert_close(gradient, expected_gradient.to(dtype), rtol=0, atol=0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert loss(logits, labels).item() == expected.item()
        assert loss(logits.float(), labels).item() == expected.item()


@pytest.mark.parametrize("loss", [loss for loss in ALL_LOSSES if loss not in CURVED_LOSSES])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_extreme_margins_give_the_linear_loss_and_finite_gradients(loss, dtype):
    # One relation that is as wrong as can be, one that is as right, and the same for a pair without relations.
    logits = torch.tensor([[0.0, -1e4, -1e4, 0.0], [0.0, 1e4, -1e4, 0.0]], dtype=dtype)
    labels = torch.tensor([[0, 1, 0, 0], [1, 0, 0, 0]])
    for factor in (1.0, 2.0):
        value, gradient = value_and_gradient(loss, logits * factor, labels, reduction="none")
        assert value.tolist() == pytest.approx([1e4 * factor] * 2, rel=5e-3)
        assert gradient.isfinite().all()
        assert gradient[0, 1].item() == -1.0 and gradient[1, 1].item() == 1.0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("loss", "arguments", "value", "slopes"),
    [
        # A wrong relation weighs offset + 1 where it holds; all gradients are finite where a power of 0 has none.
        (adaptive_focal_loss, {}, (2e4, 1e4), (-2.0, 1.0)),
        (adaptive_focal_loss, {"gamma": 0.5}, (2e4, 1e4), (-2.0, 1.0)),
        (adaptive_focal_loss, {"gamma": 0.5, "offset": 0.0}, (1e4, 1e4), (-1.0, 1.0)),
        (none_class_ranking_loss, {"regularizer": False, "log_floor": 0.0}, (1e4, 1e4), (-1.0, 1.0)),
        (none_class_ranking_loss, {"regularizer": False}, (18.42, 18.42), (0.0, 0.0)),
        (none_class_ranking_loss, {"regularizer": False, "shift": 0.05}, (18.42, 2.996), (0.0, 0.0)),
    ],
)
def test_extreme_margins_of_curved_losses(loss, arguments, value, slopes, dtype):
    logits = torch.tensor([[0.0, -1e4, -1e4, -1e4], [0.0, 1e4, -1e4, -1e4]], dtype=dtype)
    labels = torch.tensor([[0, 1, 0, 0], [1, 0, 0, 0]])
    got, gradient = value_and_gradient(loss, logits, labels, reduction="none", **arguments)
    assert got.tolist() == pytest.approx(list(value), rel=5e-3)
    assert gradient.isfinite().all()
    assert (gradient[0, 1].item(), gradient[1, 1].item()) == slopes


def test_focal_weight_falls_with_the_probability():
    labels = torch.tensor([[0, 1]])
    plain = adaptive_focal_loss(torch.tensor([[0.0, 2.0]]), labels, gamma=1.0, offset=0.0)
    focal = adaptive_focal_loss(torch.tensor([[0.0, 2.0]]), labels, gamma=2.0, offset=0.0)
    assert 0 < focal < plain


def test_none_class_ranking_without_more_is_the_pairwise_loss_without_entropy():
    logits, labels = make_batch()
    torch.testing.assert_close(
        none_class_ranking_loss(logits, labels, regularizer=False),
        pairwise_moving_threshold_loss(logits, labels, entropy=False),
    )


def test_balanced_softmax_depends_on_the_size_of_logits_not_on_their_order_alone():
    logits, labels = make_batch()
    assert (balanced_softmax_loss(logits + 1, labels) - balanced_softmax_loss(logits, labels)).abs() > 1e-3


@pytest.mark.parametrize(
    ("loss", "arguments", "message"),
    [
        (adaptive_focal_loss, {"gamma": -1.0}, "`gamma` must not be negative"),
        (none_class_ranking_loss, {"shift": 1.0}, "`shift` is a probability"),
        (none_class_ranking_loss, {"log_floor": -1e-8}, "`log_floor` is 0, for no floor, or a probability"),
        (none_class_ranking_loss, {"log_floor": 1e-12}, "`log_floor` is 0, for no floor, or a probability"),
    ],
)
def test_arguments_out_of_range(loss, arguments, message):
    with pytest.raises(ValueError, match=message):
        loss(*make_batch(), **arguments)


def test_a_model_without_relations_has_no_regularizer():
    logits = torch.randn(3, 1, dtype=torch.float64, requires_grad=True)
    none_class_ranking_loss(logits, torch.ones(3, 1)).backward()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("loss", SAMPLED_LOSSES)
def test_rate_1_equals_the_loss_without_sampling_and_draws_nothing(loss):
    logits, labels = make_batch()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    expected = loss(logits, labels)
    assert loss(logits, labels, negative_label_rate=1.0).item() == expected.item()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("loss", SAMPLED_LOSSES)
def test_sampling_repeats_with_its_generator_and_leaves_the_global_one_alone(loss):
    logits, labels = make_batch()
    before = torch.get_rng_state()
    first, again, other = (
        loss(logits, labels, negative_label_rate=0.5, generator=torch.Generator().manual_seed(seed), reduction="none")
        for seed in (1, 1, 2)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    torch.manual_seed(3)
    third = loss(logits, labels, negative_label_rate=0.5)
    torch.manual_seed(3)
    assert loss(logits, labels, negative_label_rate=0.5).item() == third.item()


@pytest.mark.parametrize("loss", SAMPLED_LOSSES)
def test_sampling_leaves_pairs_with_relations_alone(loss):
    logits, labels = make_batch("mixed")
    has_relation = labels[:, 0] == 0
    full = loss(logits, labels, reduction="none")
    sampled = loss(logits, labels, negative_label_rate=0.0, reduction="none")
    assert torch.equal(sampled[has_relation], full[has_relation])
    assert sampled[~has_relation].tolist() == pytest.approx([0.0] * 5)


@pytest.mark.parametrize("loss", SAMPLED_LOSSES)
def test_sampling_keeps_the_given_share_of_relations_and_class_0_always(loss):
    num_pairs, num_relations, rate = 400, 96, 0.1
    labels = torch.zeros(num_pairs, num_relations + 1)
    logits = torch.zeros(num_pairs, num_relations + 1, requires_grad=True)
    generator = torch.Generator().manual_seed(0)
    loss(logits, labels, negative_label_rate=rate, generator=generator, reduction="sum").backward()
    kept = logits.grad[:, 1:] != 0
    # Five standard deviations of the binomial distributions.
    assert kept.float().mean().item() == pytest.approx(rate, abs=5 * (rate * (1 - rate) / kept.numel()) ** 0.5)
    per_relation = kept.float().mean(dim=0)
    assert per_relation.sub(rate).abs().max() < 5 * (rate * (1 - rate) / num_pairs) ** 0.5
    assert len({tuple(row) for row in kept.tolist()}) > 0.95 * num_pairs
    assert ((logits.grad[:, 0] < 0) == kept.any(dim=1)).all()


def test_a_shared_mask_drops_the_same_relations_for_all_pairs():
    logits = torch.zeros(20, 97, requires_grad=True)
    labels = torch.zeros(20, 97)
    generator = torch.Generator().manual_seed(0)
    pairwise_moving_threshold_loss(
        logits, labels, negative_label_rate=0.3, shared_mask=True, generator=generator
    ).backward()
    kept = logits.grad[:, 1:] != 0
    assert torch.equal(kept, kept[:1].expand_as(kept))
    assert 10 < kept[0].sum() < 50


def test_sampled_adaptive_thresholding_takes_dropped_relations_out_of_the_softmax(monkeypatch):
    logits, labels = make_batch("mixed")
    kept = torch.rand(9, 6, generator=torch.Generator().manual_seed(1)) < 0.5
    monkeypatch.setattr(losses, "_draw_kept", lambda *args, **kwargs: kept)
    expected = []
    for row, row_labels, row_kept in zip(logits, labels, kept.tolist(), strict=True):
        columns = [c for c in range(7) if c == 0 or row_labels[0] == 0 or row_kept[c - 1]]
        expected += adaptive_thresholding_loop(row[columns][None], row_labels[columns][None])
    actual = adaptive_thresholding_loss(logits, labels, negative_label_rate=0.5, reduction="none")
    torch.testing.assert_close(actual, torch.stack(expected), rtol=1e-12, atol=1e-12)


def test_sampled_pairwise_loss_counts_the_kept_relations_only(monkeypatch):
    logits, labels = make_batch("mixed")
    kept = torch.rand(9, 6, generator=torch.Generator().manual_seed(1)) < 0.5
    monkeypatch.setattr(losses, "_draw_kept", lambda *args, **kwargs: kept)
    expected = torch.stack(pairwise_moving_threshold_loop(logits, labels, kept=kept.tolist()))
    actual = pairwise_moving_threshold_loss(logits, labels, negative_label_rate=0.5, reduction="none")
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("loss", ALL_LOSSES)
def test_losses_compile_into_one_graph(loss):
    logits, labels = make_batch()
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True, dynamic=True)
    for rows in (9, 4):
        value, gradient = value_and_gradient(compiled, logits[:rows], labels[:rows])
        expected, expected_gradient = value_and_gradient(loss, logits[:rows], labels[:rows])
        torch.testing.assert_close(value, expected)
        torch.testing.assert_close(gradient, expected_gradient)
    if loss in SAMPLED_LOSSES:
        assert compiled(logits, labels, negative_label_rate=0.5).item() < loss(logits, labels).item()


@pytest.mark.parametrize("loss", ALL_LOSSES)
@pytest.mark.parametrize(
    ("logits_shape", "labels_shape"),
    [((3, 4), (3, 5)), ((3, 4), (3,)), ((4,), (4,)), ((2, 3, 4), (2, 3, 4)), ((3, 0), (3, 0))],
)
def test_shapes_that_do_not_fit_are_named(loss, logits_shape, labels_shape):
    with pytest.raises(ValueError, match="num_pairs, num_classes") as error:
        loss(torch.zeros(logits_shape), torch.zeros(labels_shape))
    assert str(labels_shape) in str(error.value)


@pytest.mark.parametrize("loss", ALL_LOSSES)
def test_unknown_reduction(loss):
    with pytest.raises(ValueError, match='"none", "sum" or "mean", got \'average\''):
        loss(torch.zeros(2, 3), torch.zeros(2, 3), reduction="average")


@pytest.mark.parametrize("loss", SAMPLED_LOSSES)
@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan")])
def test_a_rate_that_is_no_probability(loss, rate):
    with pytest.raises(ValueError, match="negative_label_rate"):
        loss(torch.zeros(2, 3), torch.zeros(2, 3), negative_label_rate=rate)


def test_unknown_entropy_norm():
    with pytest.raises(ValueError, match="entropy_norm"):
        pairwise_moving_threshold_loss(torch.zeros(2, 3), torch.zeros(2, 3), entropy_norm="mean")
