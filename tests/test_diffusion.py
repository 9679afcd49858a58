"""The noise schedule and the forward and backward process, against loops over single numbers."""

from __future__ import annotations

import math

import pytest
import torch

from modeling_docre.diffusion import NoiseSchedule


def betas_by_loops(steps):
    """Nichol and Dhariwal (2021), equation 17, with s = 0.008 and no beta above 0.999."""

    def kept(step):
        return math.cos((step / steps + 0.008) / 1.008 * math.pi / 2) ** 2 / math.cos(0.008 / 1.008 * math.pi / 2) ** 2

    return [min(1 - kept(step) / kept(step - 1), 0.999) for step in range(1, steps + 1)]


@pytest.mark.parametrize("steps", [1, 2, 50, 1000])
def test_cosine_schedule(steps):
    schedule, expected = NoiseSchedule.cosine(steps), betas_by_loops(steps)
    kept = 1.0
    for step in range(steps):
        kept *= 1 - expected[step]
        assert schedule.betas[step] == pytest.approx(expected[step], abs=1e-12)
        assert schedule.kept[step] == pytest.approx(kept, abs=1e-12)
    assert schedule.betas.dtype == torch.float64


def test_noise_is_that_of_all_steps_so_far():
    # Equation 12 again and again is equation 13: the variances of independent noise add up.
    schedule = NoiseSchedule.cosine(20)
    for step in (0, 7, 19):
        scale, variance = 1.0, 0.0
        for beta in betas_by_loops(20)[: step + 1]:
            scale, variance = scale * math.sqrt(1 - beta), variance * (1 - beta) + beta
        clean, noise = torch.tensor([[2.0, -1.0]]).double(), torch.tensor([[0.5, 3.0]]).double()
        got = schedule.add_noise(clean, torch.tensor([step]), noise)
        torch.testing.assert_close(got, scale * clean + math.sqrt(variance) * noise, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("step", [0, 1, 6, 9])
def test_a_step_back_is_the_posterior(step):
    # Bayes: what is normal around its predecessor, and that normal around the data, multiplied.
    schedule, betas = NoiseSchedule.cosine(10), betas_by_loops(10)
    clean, noisy, noise = (torch.tensor([[value]], dtype=torch.float64) for value in (0.7, -1.3, 0.4))
    got = float(schedule.step_back(clean, noisy, step, noise))
    if step == 0:
        assert got == pytest.approx(0.7, abs=1e-12)
        return
    before = math.prod(1 - beta for beta in betas[:step])
    of_clean, of_noisy = 1 / (1 - before), (1 - betas[step]) / betas[step]
    mean = of_clean * math.sqrt(before) * 0.7 + of_noisy * -1.3 / math.sqrt(1 - betas[step])
    expected = mean / (of_clean + of_noisy) + math.sqrt(betas[step]) * 0.4
    assert got == pytest.approx(expected, abs=1e-10)


def test_rows_may_be_at_different_steps():
    schedule = NoiseSchedule.cosine(5)
    clean, noise = torch.randn(5, 3), torch.randn(5, 3)
    together = schedule.add_noise(clean, torch.arange(5), noise)
    for step in range(5):
        alone = schedule.add_noise(clean[step : step + 1], torch.tensor([step]), noise[step : step + 1])
        torch.testing.assert_close(together[step : step + 1], alone)
    assert together.dtype == torch.float32
