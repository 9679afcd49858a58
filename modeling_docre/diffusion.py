"""Gaussian diffusion of vectors whose network predicts the vectors themselves (VaeDiff-DocRE, section A.2).

These few lines are all that a library of diffusion models would be needed for: the `DDPMScheduler` of diffusers takes
such steps with `beta_schedule="squaredcos_cap_v2"`, `prediction_type="sample"` and `variance_type="fixed_large"`. Its
denoisers are for images, and everybody who loads a generator would have to install it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_LARGEST_BETA = 0.999


@dataclass(frozen=True)
class NoiseSchedule:
    """How much noise each step of the forward process adds; steps count from 0, the one next to the data.

    Attributes:
        betas (`torch.Tensor` of shape `(steps,)`): Variance that a step adds (equation 12), float64.
        kept (`torch.Tensor` of shape `(steps,)`): Share of the data's variance that is left after it (equation 13).
    """

    betas: Tensor
    kept: Tensor

    @classmethod
    def cosine(cls, steps: int) -> NoiseSchedule:
        """The schedule of Nichol and Dhariwal (2021), equation 17: what is kept falls like a squared cosine."""

        def left(share: float) -> float:
            return math.cos((share + 0.008) / 1.008 * math.pi / 2) ** 2

        betas = [min(1 - left((step + 1) / steps) / left(step / steps), _LARGEST_BETA) for step in range(steps)]
        table = torch.tensor(betas, dtype=torch.float64, device="cpu")
        return cls(table, (1 - table).cumprod(0))

    def add_noise(self, clean: Tensor, step: Tensor, noise: Tensor) -> Tensor:
        """Draw from the forward process at a step (equation 13).

        Args:
            clean (`torch.Tensor` of shape `(number, width)`): Data.
            step (`torch.Tensor` of shape `(number,)`): Step of each row.
            noise (`torch.Tensor` of shape `(number, width)`): Standard normal.
        """
        return _at(self.kept.sqrt(), step, clean) * clean + _at((1 - self.kept).sqrt(), step, clean) * noise

    def step_back(self, clean: Tensor, noisy: Tensor, step: int, noise: Tensor) -> Tensor:
        """Draw from the posterior one step back, given what the data is thought to be (equation 14).

        The variance is that of the forward step, the larger of the two that Ho et al. (2020) choose from.

        Args:
            clean (`torch.Tensor` of shape `(number, width)`): What the network takes for the data.
            noisy (`torch.Tensor` of shape `(number, width)`): The vectors at `step`.
            step (`int`): Step that is undone.
            noise (`torch.Tensor` of shape `(number, width)`): Standard normal; not read at step 0.

        Returns:
            `torch.Tensor` of shape `(number, width)`: at step 0, what `clean` is.
        """
        before, beta = self._kept_before(step), float(self.betas[step])
        kept = float(self.kept[step])
        of_clean = beta * math.sqrt(before) / (1 - kept)
        of_noisy = (1 - before) * math.sqrt(1 - beta) / (1 - kept)
        mean = of_clean * clean + of_noisy * noisy
        return mean + math.sqrt(beta) * noise if step else mean

    def _kept_before(self, step: int) -> float:
        return float(self.kept[step - 1]) if step else 1.0


def _at(table: Tensor, step: Tensor, like: Tensor) -> Tensor:
    return table.to(like.dtype).to(step.device)[step][:, None]


__all__ = ["NoiseSchedule"]
