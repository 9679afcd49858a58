"""The two networks of VaeDiff-DocRE's second stage against the numbers of the authors' code."""

from __future__ import annotations

import pytest
import torch

from modeling_docre.diffusion import NoiseSchedule
from modeling_docre.original_vaediff import import_generator
from modeling_docre.vaediff_parts import Gaussian


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


@pytest.fixture
def published(golden_dir):
    np = pytest.importorskip("numpy")
    folder = golden_dir / "models"
    generator, _ = import_generator(folder / "vaediff_vae.safetensors", folder / "vaediff_denoiser.safetensors")
    vectors = {name: torch.from_numpy(value) for name, value in np.load(folder / "vaediff_stage2.npz").items()}
    return generator, vectors


def near(got, expected):
    torch.testing.assert_close(got, expected, atol=5e-6, rtol=0)


def test_published_autoencoder(published):
    generator, vectors = published
    posterior = generator.vae.encode(vectors["x"])
    near(posterior.mean, vectors["mu_clamped"])
    near(posterior.std, vectors["std"])
    near(posterior.mean + posterior.std * vectors["eps"], vectors["z"])
    near(posterior.log_density(vectors["z"]), vectors["log_q_z_elementwise"])
    mean, log_variance = generator.vae.decode(vectors["z"])
    near(torch.cat([mean, log_variance], 1), vectors["decoder_raw"])
    density = Gaussian.of(mean, log_variance).log_density(vectors["x"])
    torch.testing.assert_close(-density.sum(), vectors["recon_nll_sum"], atol=0, rtol=1e-6)


def test_published_denoiser(published):
    generator, vectors = published
    clean, step, labels = vectors["z"], vectors["net/t"], vectors["net/labels"]
    noisy = generator.schedule.add_noise(clean, step, vectors["q_sample/noise"])
    near(noisy, vectors["q_sample/x_t"])
    for known in (True, False):
        for estimate in (vectors["net/x_self_cond"], None):
            name = f"net/out_{'class' if known else 'noclass'}_{'nosc' if estimate is None else 'sc'}"
            near(generator.denoiser(vectors["net/x_t"], step, labels if known else None, estimate), vectors[name])
    first = generator.denoiser(noisy, step, labels)
    near((first - clean).square().mean(1), vectors["train_loss/no_self_cond_branch"])
    second = generator.denoiser(noisy, step, labels, first)
    near((second - clean).square().mean(1), vectors["train_loss/self_cond_branch"])
