"""Values and gradients of the authors' own code (see `golden_dir`), for the losses and the label prediction."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from modeling_docre import losses
from modeling_docre.contrastive import supervised_contrastive_loss
from modeling_docre.decisions import predict

CASES = ("mixed", "all_na", "no_na", "single", "extreme")


def load(golden_dir, name):
    return np.load(golden_dir / "losses" / name)


def cases_of(vectors):
    present = [case for case in CASES if f"{case}/logits" in vectors]
    assert present
    return present


def variants_of(vectors, case):
    return sorted({key.split("/")[1] for key in vectors.files if key.startswith(f"{case}/") and key.endswith("/loss")})


def check(function, vectors, case, variant, **arguments):
    logits = torch.tensor(vectors[f"{case}/logits"], requires_grad=True)
    labels = torch.tensor(vectors[f"{case}/labels"])
    loss = function(logits, labels, **arguments)
    loss.backward()
    assert loss.item() == pytest.approx(float(vectors[f"{case}/{variant}/loss"]), rel=1e-6, abs=1e-6)
    np.testing.assert_allclose(logits.grad.numpy(), vectors[f"{case}/{variant}/grad"], rtol=0, atol=1e-6)
    assert np.array_equal(labels.numpy(), vectors[f"{case}/labels"])


def test_adaptive_thresholding(golden_dir):
    vectors = load(golden_dir, "atl.npz")
    for case in cases_of(vectors):
        check(losses.adaptive_thresholding_loss, vectors, case, "atl")


def test_pairwise_moving_threshold(golden_dir):
    vectors = load(golden_dir, "pmtem.npz")
    for case in cases_of(vectors):
        for variant in variants_of(vectors, case):
            _, positive_weight, _, negative_weight = variant.split("_")
            check(
                losses.pairwise_moving_threshold_loss,
                vectors,
                case,
                variant,
                positive_entropy_weight=float(positive_weight),
                negative_entropy_weight=float(negative_weight),
                reference_broadcast=True,
            )


def test_without_entropy_the_intended_form_is_the_published_one(golden_dir):
    vectors = load(golden_dir, "pmtem.npz")
    for case in cases_of(vectors):
        if case != "extreme":  # the published logarithms saturate there
            check(losses.pairwise_moving_threshold_loss, vectors, case, "l1_0.0_l2_0.0", entropy=False)


def test_sampled_pairwise_moving_threshold(golden_dir, monkeypatch):
    vectors = load(golden_dir, "pmtem_ns.npz")
    for case in cases_of(vectors):
        for variant in variants_of(vectors, case):
            kept = ~torch.tensor(vectors[f"{case}/{variant}/dropped"])[None, 1:]
            monkeypatch.setattr(losses, "_draw_kept", lambda *args, kept=kept, **kwargs: kept)
            check(
                losses.pairwise_moving_threshold_loss,
                vectors,
                case,
                variant,
                negative_label_rate=float(variant.split("_")[0].removeprefix("ratio")),
                shared_mask=True,
                reference_broadcast=True,
            )


def test_adaptive_focal(golden_dir):
    vectors = load(golden_dir, "afl.npz")
    for case in cases_of(vectors):
        for variant in variants_of(vectors, case):
            if not np.isnan(vectors[f"{case}/{variant}/grad"]).any():  # the published gradient overflows there
                check(losses.adaptive_focal_loss, vectors, case, variant, gamma=float(variant.removeprefix("gpos")))


def test_none_class_ranking(golden_dir):
    vectors = load(golden_dir, "ncrl.npz")
    for case in cases_of(vectors):
        for variant in variants_of(vectors, case):
            shift, regularizer, *summed = variant.split("_")
            check(
                losses.none_class_ranking_loss,
                vectors,
                case,
                variant,
                shift=float(shift.removeprefix("shift")),
                regularizer=regularizer == "reg",
                **({"reduction": "sum"} if summed else {}),
            )


def test_balanced_softmax(golden_dir):
    vectors = load(golden_dir, "docunet_balanced.npz")
    for case in cases_of(vectors):
        check(losses.balanced_softmax_loss, vectors, case, "balanced")


@pytest.mark.parametrize("path", ["labels_with_na", "labels_na_zeroed"])
def test_published_contrastive_loss_of_pemscl(golden_dir, path):
    vectors = load(golden_dir, "pemscl_supcon.npz")
    cases = sorted({key.split("/")[0] for key in vectors.files})
    assert cases
    for case in cases:
        features = torch.tensor(vectors[f"{case}/features"], requires_grad=True)
        labels = torch.tensor(vectors[f"{case}/labels"])
        if path == "labels_na_zeroed":
            labels[:, 0] = 0
        temperature = float(vectors[f"{case}/tau"])
        loss = supervised_contrastive_loss(features, labels, temperature=temperature, reference=True)
        loss = loss * temperature / float(vectors[f"{case}/tau_base"])
        loss.backward()
        assert loss.item() == pytest.approx(float(vectors[f"{case}/{path}/loss"]), abs=1e-6)
        expected = vectors[f"{case}/{path}/grad_raw_features"]
        np.testing.assert_allclose(features.grad.numpy(), expected, rtol=0, atol=1e-7)


def test_published_contrastive_loss_of_vaediff(golden_dir):
    vectors = load(golden_dir, "vaediff_supcon.npz")
    cases = sorted({key.split("/")[0] for key in vectors.files})
    assert cases
    for case in cases:
        features = torch.tensor(vectors[f"{case}/features"], requires_grad=True)
        labels = torch.tensor(vectors[f"{case}/labels"])
        # Temperature 1 over a base of 0.5.
        loss = 2 * supervised_contrastive_loss(features, labels, form="vaediff")
        loss.backward()
        assert loss.item() == pytest.approx(float(vectors[f"{case}/loss"]), abs=1e-6)
        np.testing.assert_allclose(features.grad.numpy(), vectors[f"{case}/grad"], rtol=0, atol=1e-7)


def test_label_prediction(golden_dir):
    vectors = load(golden_dir, "get_label.npz")
    expected = [key for key in vectors.files if not key.startswith("logits_")]
    assert expected
    for key in expected:
        loss, suffix, limit = key.split("/")
        decision = "zero" if loss == "docunet_balanced" else "threshold-class"
        logits = torch.tensor(vectors[f"logits_{suffix}"])
        predicted = predict(logits, decision, max_relations=int(limit.removeprefix("k")))
        assert np.array_equal(predicted.numpy(), vectors[key]), key
