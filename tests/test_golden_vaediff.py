"""The two networks of VaeDiff-DocRE's second stage against the numbers of the authors' code."""

from __future__ import annotations

import pytest
import torch

from modeling_docre.diffusion import NoiseSchedule


def test_published_schedule(golden_dir):
    np = pytest.importorskip("numpy")
    vectors = np.load(golden_dir / "models" / "vaediff_stage2.npz")
    schedule = NoiseSchedule.cosine(50)
    assert abs(schedule.betas.numpy() - vectors["schedule_cosine50/betas"]).max() < 1e-12
    assert abs(schedule.kept.numpy() - vectors["schedule_cosine50/alphas_cumprod"]).max() < 1e-12
    mean_of_clean = vectors["schedule_cosine50/posterior_mean_coef1"]
    mean_of_noisy = vectors["schedule_cosine50/posterior_mean_coef2"]
    variance = vectors["schedule_cosine50/fixed_large_variance"]
    one, none = torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
    for step in range(50):
        assert float(schedule.step_back(one, none, step, none)) == pytest.approx(mean_of_clean[step], abs=1e-9)
        assert float(schedule.step_back(none, one, step, none)) == pytest.approx(mean_of_noisy[step], abs=1e-9)
        if step:
            found = float(schedule.step_back(none, none, step, one)) ** 2
            assert found == pytest.approx(variance[step], abs=1e-9)
