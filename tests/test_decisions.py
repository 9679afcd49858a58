from __future__ import annotations

import itertools
import math

import pytest
import torch

from modeling_docre.decisions import DECISIONS, best_threshold, predict, relation_scores


def predict_loop(logits, decision, max_relations, threshold):
    """One pair and one relation after the other, comparing the probability itself."""
    rows = []
    for row in logits.tolist():
        reference = row[0] if decision == "threshold-class" else 0.0
        fires = [1 / (1 + math.exp(reference - value)) > threshold for value in row]
        if max_relations is not None:
            shifted = row[0] + math.log(threshold / (1 - threshold))
            ranked = {
                "threshold-class": [shifted, *row[1:]],
                "zero": row,
                "probability": row[1:],
            }[decision]
            limit = sorted(ranked, reverse=True)[max_relations - 1] if max_relations <= len(ranked) else -math.inf
            fires = [fired and value >= limit for fired, value in zip(fires, row, strict=True)]
        rows.append([not any(fires[1:]), *fires[1:]])
    return rows


@pytest.mark.parametrize("decision", DECISIONS)
@pytest.mark.parametrize("max_relations", [None, 1, 3, 4, 20])
@pytest.mark.parametrize("threshold", [None, 0.2, 0.5, 0.9])
def test_predict_equals_a_loop_over_pairs(decision, max_relations, threshold):
    logits = 2 * torch.randn(200, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    predicted = predict(logits, decision, max_relations=max_relations, threshold=threshold)
    assert predicted.dtype == torch.bool
    assert predicted.tolist() == predict_loop(logits, decision, max_relations, threshold or 0.5)


def test_a_relation_must_be_strictly_above_the_bar():
    logits = torch.tensor([[1.0, 1.0, 0.5], [1.0, 1.0000001, 0.5]])
    assert predict(logits, "threshold-class").tolist() == [[True, False, False], [False, True, False]]
    logits = torch.tensor([[-5.0, 0.0, -1.0], [-5.0, 1e-30, -1.0]])
    for decision in ("zero", "probability"):
        assert predict(logits, decision).tolist() == [[True, False, False], [False, True, False]]


def test_ties_at_the_limit_all_pass():
    logits = torch.tensor([[0.0, 3.0, 2.0, 2.0, 2.0, 1.0]])
    assert predict(logits, "threshold-class", max_relations=2).int().tolist() == [[0, 1, 1, 1, 1, 0]]
    assert predict(logits, "threshold-class", max_relations=1).int().tolist() == [[0, 1, 0, 0, 0, 0]]


def test_class_0_takes_a_place_only_where_zero_is_the_bar():
    logits = torch.tensor([[5.0, 4.0, 3.0, 2.0]])
    assert predict(logits, "zero", max_relations=2).int().tolist() == [[0, 1, 0, 0]]
    assert predict(logits, "zero", max_relations=1).int().tolist() == [[1, 0, 0, 0]]
    assert predict(logits, "probability", max_relations=2).int().tolist() == [[0, 1, 1, 0]]


def test_a_low_threshold_moves_the_threshold_class_in_the_ranking_too():
    # With the bar at -2.2, class 0 must not take the second place from the relation at -1.
    logits = torch.tensor([[0.0, 2.0, -1.0, -3.0]])
    assert predict(logits, "threshold-class", max_relations=2, threshold=0.1).int().tolist() == [[0, 1, 1, 0]]


@pytest.mark.parametrize("limit", [None, -1])
def test_no_limit(limit):
    logits = torch.tensor([[0.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0]])
    assert predict(logits, "threshold-class", max_relations=limit).sum().item() == 6
    assert predict(logits, "threshold-class").sum().item() == 4


def test_logits_are_compared_and_not_rounded_probabilities():
    # The probabilities of the second pair are both 1.0 in float32.
    logits = torch.tensor([[1e8, 1e8 + 8, 1e8]])
    assert predict(logits, "threshold-class").int().tolist() == [[0, 1, 0]]
    high = torch.tensor([[0.0, 30.0, 20.0]])
    threshold = 1 / (1 + math.exp(-25.0))
    assert predict(high, "threshold-class", threshold=threshold).int().tolist() == [[0, 1, 0]]


def test_thresholds_0_and_1_let_everything_and_nothing_in():
    logits = torch.tensor([[50.0, -50.0, 100.0]])
    for decision in DECISIONS:
        assert predict(logits, decision, threshold=0.0).int().tolist() == [[0, 1, 1]]
        assert predict(logits, decision, threshold=1.0).int().tolist() == [[1, 0, 0]]


@pytest.mark.parametrize("decision", DECISIONS)
def test_nan_is_never_predicted_and_takes_no_place(decision):
    nan = float("nan")
    logits = torch.tensor([[0.0, nan, 3.0, 2.0, -1.0], [nan] * 5])
    expected = [[0, 0, 1, 1, 0], [1, 0, 0, 0, 0]]
    assert predict(logits, decision, max_relations=2).int().tolist() == expected
    assert relation_scores(logits, decision)[0].isnan().tolist() == [True, True, False, False, False]


def test_half_precision_bars_are_shifted_in_float32():
    # In float16 the bar 100 + log(0.52 / 0.48) would round back to 100.0625 and to the relation's own logit.
    logits = torch.tensor([[100.0, 100.0625, 100.125]], dtype=torch.float16)
    assert predict(logits, "threshold-class", threshold=0.52).int().tolist() == [[0, 0, 1]]
    assert relation_scores(logits, "threshold-class").dtype == torch.float32


def test_scores_are_the_sigmoids_of_the_margins():
    logits = torch.tensor([[1.0, 1.0, 3.0], [0.0, -1.0, -2.0]], dtype=torch.float64)
    margins = {"threshold-class": [[0.0, 2.0], [-1.0, -2.0]], "zero": [[1.0, 3.0], [-1.0, -2.0]]}
    margins["probability"] = margins["zero"]
    for decision in DECISIONS:
        expected = [[1 / (1 + math.exp(-m)) for m in row] for row in margins[decision]]
        scores = relation_scores(logits, decision)
        assert scores[:, 1:].flatten().tolist() == pytest.approx([p for row in expected for p in row], abs=1e-12)
        assert scores[:, 0].tolist() == pytest.approx([1 - max(row) for row in expected], abs=1e-12)


@pytest.mark.parametrize("decision", DECISIONS)
@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.8])
def test_scores_and_predictions_agree(decision, threshold):
    logits = torch.randn(300, 12, generator=torch.Generator().manual_seed(1))
    scores = relation_scores(logits, decision)
    predicted = predict(logits, decision, max_relations=None, threshold=threshold)
    assert torch.equal(predicted[:, 1:], scores[:, 1:] > threshold)


@pytest.mark.parametrize("decision", DECISIONS)
def test_no_pairs_and_no_relations(decision):
    assert predict(torch.zeros(0, 5), decision).shape == (0, 5)
    assert relation_scores(torch.zeros(0, 5), decision).shape == (0, 5)
    assert predict(torch.zeros(2, 1), decision).tolist() == [[True], [True]]
    assert relation_scores(torch.zeros(2, 1), decision).tolist() == [[1.0], [1.0]]


@pytest.mark.parametrize("decision", DECISIONS)
def test_logits_stay_untouched(decision):
    logits = torch.randn(20, 9, generator=torch.Generator().manual_seed(0))
    logits[3, 4] = float("nan")
    before = logits.clone()
    predict(logits, decision, max_relations=2, threshold=0.3)
    relation_scores(logits, decision)
    torch.testing.assert_close(logits, before, rtol=0, atol=0, equal_nan=True)


def test_bad_arguments():
    logits = torch.zeros(2, 3)
    with pytest.raises(ValueError, match="'threshold-class', 'zero', 'probability', got 'sigmoid'"):
        predict(logits, "sigmoid")
    with pytest.raises(ValueError, match="'threshold-class'"):
        relation_scores(logits, "threshold class")
    with pytest.raises(ValueError, match=r"\(3,\)"):
        relation_scores(torch.zeros(3), "zero")
    for limit in (0, -2):
        with pytest.raises(ValueError, match="max_relations"):
            predict(logits, "zero", max_relations=limit)
    for threshold in (-0.1, 1.5, float("nan")):
        with pytest.raises(ValueError, match="threshold"):
            predict(logits, "zero", threshold=threshold)


def micro_f1(scores, is_correct, num_gold, threshold):
    chosen = [correct for score, correct in zip(scores, is_correct, strict=True) if score > threshold]
    return 2 * sum(chosen) / (len(chosen) + num_gold) if chosen else 0.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_best_threshold_equals_a_search_over_all_thresholds(dtype):
    generator = torch.Generator().manual_seed(0)
    for trial in range(60):
        size = 1 + trial % 25
        # Few distinct values, so that scores are often equal.
        scores = (torch.randint(0, 12, (size,), generator=generator) / 11).to(dtype)
        is_correct = torch.rand(size, generator=generator) < scores
        num_gold = int(is_correct.sum()) + trial % 4
        threshold, f1 = best_threshold(scores, is_correct, num_gold)
        flat, correct = scores.tolist(), is_correct.tolist()
        distinct = sorted({0.0, *flat, 1.0})
        middles = [(low + high) / 2 for low, high in itertools.pairwise(distinct)]
        best = max(micro_f1(flat, correct, num_gold, t) for t in middles)
        assert f1 == pytest.approx(best, abs=1e-12)
        if best > 0:
            assert micro_f1(flat, correct, num_gold, threshold) == pytest.approx(best, abs=1e-12)
            lowest = min(t for t in middles if micro_f1(flat, correct, num_gold, t) == best)
            assert threshold == pytest.approx(lowest, abs=1e-12)


def test_best_threshold_lies_between_the_last_score_let_in_and_the_next():
    scores = torch.tensor([0.9, 0.2, 0.8, 0.6, 0.4])
    is_correct = torch.tensor([1, 0, 1, 1, 0])
    threshold, f1 = best_threshold(scores, is_correct, 4)
    assert threshold == pytest.approx(0.5)
    assert f1 == pytest.approx(2 * 3 / (3 + 4))


def test_of_equally_good_thresholds_the_lowest_is_taken():
    # One of one and two of four are both worth 2/3.
    threshold, f1 = best_threshold(torch.tensor([0.9, 0.7, 0.5, 0.3]), torch.tensor([True, False, False, True]), 2)
    assert f1 == pytest.approx(2 / 3) and threshold == pytest.approx(0.15)


def test_equal_scores_are_never_separated():
    threshold, f1 = best_threshold(torch.tensor([0.7, 0.7, 0.7]), torch.tensor([True, False, False]), 1)
    assert threshold == pytest.approx(0.35) and f1 == pytest.approx(0.5)


def test_best_threshold_between_neighbouring_numbers():
    low = 0.7
    for _ in range(4):
        high = math.nextafter(low, 1.0)
        threshold, f1 = best_threshold(torch.tensor([high, low], dtype=torch.float64), torch.tensor([True, False]), 1)
        assert f1 == 1.0 and low <= threshold < high
        low = high


def test_a_tuned_threshold_predicts_what_it_was_tuned_for():
    generator = torch.Generator().manual_seed(4)
    logits = 8 * torch.randn(300, 10, generator=generator)
    scores = relation_scores(logits, "threshold-class")[:, 1:]
    gold = torch.rand(scores.shape, generator=generator) < scores * 0.3
    threshold, f1 = best_threshold(scores.flatten(), gold.flatten(), int(gold.sum()))
    predicted = predict(logits, "threshold-class", max_relations=None, threshold=threshold)[:, 1:]
    hits = (predicted & gold).sum().item()
    assert 2 * hits / (predicted.sum().item() + gold.sum().item()) == pytest.approx(f1, abs=1e-12)


def test_nothing_to_tune_on():
    assert best_threshold(torch.zeros(0), torch.zeros(0, dtype=torch.bool), 0) == (0.5, 0.0)
    assert best_threshold(torch.tensor([0.9, 0.1]), torch.tensor([False, False]), 3) == (0.5, 0.0)
    assert best_threshold(torch.tensor([0.0]), torch.tensor([True]), 1) == (0.5, 0.0)


def test_best_threshold_refuses_what_it_cannot_use():
    with pytest.raises(ValueError, match=r"flat.*\(2, 1\)"):
        best_threshold(torch.zeros(2, 1), torch.zeros(2, 1), 1)
    for bad in (float("nan"), 1.5, -0.1):
        with pytest.raises(ValueError, match="relation_scores"):
            best_threshold(torch.tensor([0.5, bad]), torch.tensor([True, False]), 1)
    with pytest.raises(ValueError, match="num_gold"):
        best_threshold(torch.tensor([0.5, 0.4]), torch.tensor([True, True]), 1)
