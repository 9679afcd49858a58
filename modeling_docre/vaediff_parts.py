"""The two networks of VaeDiff-DocRE: the entity-pair VAE and the denoising transformer of its prior."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from .configuration_vaediff import VaeDiffConfig

HEAD_WIDTH = 64
CLAMP = 5.0


class Gaussian(NamedTuple):
    """A normal distribution of each number.

    Attributes:
        mean (`torch.Tensor` of shape `(number, width)`): Means.
        std (`torch.Tensor` of shape `(number, width)`): Standard deviations.
    """

    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, mean: Tensor, log_variance: Tensor) -> Gaussian:
        """Both kept within -5 and 5 first, as the published code does."""
        return cls(mean.clamp(-CLAMP, CLAMP), (0.5 * log_variance.clamp(-CLAMP, CLAMP)).exp())

    def log_density(self, values: Tensor) -> Tensor:
        """Log density of each number of `values` `(number, width)`."""
        return -0.5 * (((values - self.mean) / self.std).square() + math.log(2 * math.pi)) - self.std.log()


class RMSNorm(nn.Module):
    r"""Vectors of length \\(\\sqrt{d}\\), times a gain.

    Args:
        width (`int`): Their width \\(d\\).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, vectors: Tensor) -> Tensor:
        """Return `(number, width)`; a vector of zeros stays one."""
        length = vectors.norm(dim=1, keepdim=True) * vectors.shape[1] ** -0.5
        return vectors / length.clamp(min=1e-8) * self.weight


class BatchNorm(nn.BatchNorm1d):
    """Batch norm that normalises a batch of one vector, which has no deviation, by what was seen before."""

    def forward(self, vectors: Tensor) -> Tensor:  # type: ignore[override]
        """Return `(number, width)`."""
        if self.training and len(vectors) < 2:
            statistics = self.running_mean, self.running_var
            return functional.batch_norm(vectors, *statistics, self.weight, self.bias, eps=self.eps)
        return super().forward(vectors)


class EntityPairVAE(nn.Module):
    """EP-VAE: pair embeddings to latent vectors and back (VaeDiff-DocRE, equations 1 to 3).

    Args:
        config ([`VaeDiffConfig`]): `embedding_size`, `latent_size` and `norm` are read.
    """

    def __init__(self, config: VaeDiffConfig) -> None:
        super().__init__()
        width, latent = config.embedding_size, config.latent_size
        inside = width // 4
        rms = config.norm == "rms"
        self.encoder = nn.Sequential(
            RMSNorm(width) if rms else nn.Identity(),
            nn.Linear(width, inside),
            nn.LeakyReLU(0.2),
            nn.Linear(inside, inside),
            RMSNorm(inside) if rms else BatchNorm(inside),
            nn.LeakyReLU(0.2),
            nn.Linear(inside, latent),
        )
        self.mean = nn.Linear(latent, latent)
        self.log_variance = nn.Linear(latent, latent)
        self.decoder = nn.Sequential(
            nn.Linear(latent, inside),
            nn.LeakyReLU(0.2),
            RMSNorm(inside) if rms else BatchNorm(inside),
            nn.Linear(inside, inside),
            nn.LeakyReLU(0.2),
            RMSNorm(inside) if rms else nn.Identity(),
            nn.Linear(inside, 2 * width),
        )

    def encode(self, embeddings: Tensor) -> Gaussian:
        """Return the posterior of the latent vectors (equation 1), `(number, latent_size)`."""
        inside = self.encoder(embeddings)
        return Gaussian.of(self.mean(inside), self.log_variance(inside))

    def decode(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log variance of pair embeddings (equation 3), each `(number, embedding_size)`."""
        mean, log_variance = self.decoder(latents).chunk(2, dim=1)
        return mean, log_variance


class ScaleShift(nn.Linear):
    """Scales and shifts vectors as a condition says; not at all where its weights are 0, as they are at first.

    Args:
        width (`int`): Width of the vectors; the condition is four times as wide.
    """

    def __init__(self, width: int) -> None:
        super().__init__(4 * width, 2 * width)

    def forward(self, hidden: Tensor, condition: Tensor) -> Tensor:  # type: ignore[override]
        """Return `(number, width)`."""
        scale, shift = super().forward(functional.gelu(condition)).chunk(2, dim=1)
        return hidden * (1 + scale) + shift


class DenoiserLayer(nn.Module):
    """A pre-norm transformer layer over a sequence of one vector, conditioned on the step.

    Of one vector, attention is what its values and its output projection make of it: there is nothing to weigh, and so
    no queries and keys here. Dropout of attention weights drops whole heads.

    Args:
        config ([`VaeDiffConfig`]): `hidden_size`, `num_attention_heads` and `dropout` are read.
    """

    def __init__(self, config: VaeDiffConfig) -> None:
        super().__init__()
        width, self.heads, self.dropout = config.hidden_size, config.num_attention_heads, config.dropout
        self.attention_norm = nn.LayerNorm(width)
        self.value = nn.Linear(width, self.heads * HEAD_WIDTH, bias=False)
        self.out = nn.Linear(self.heads * HEAD_WIDTH, width, bias=False)
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, 8 * width)
        self.down = nn.Linear(4 * width, width)
        self.after_norm = nn.LayerNorm(width)
        self.scale_shift = ScaleShift(width)

    def forward(self, hidden: Tensor, condition: Tensor) -> Tensor:
        """Return `(number, hidden_size)`.

        Args:
            hidden (`torch.Tensor` of shape `(number, hidden_size)`): Vectors.
            condition (`torch.Tensor` of shape `(number, 4 * hidden_size)`): The step's embedding, the class's in it.
        """
        weights = functional.dropout(hidden.new_ones(len(hidden), self.heads), self.dropout, self.training)
        values = self.value(self.attention_norm(hidden)).unflatten(1, (self.heads, -1)) * weights[..., None]
        hidden = hidden + self.out(values.flatten(1))
        value, gate = self.up(self.norm(hidden)).chunk(2, dim=1)
        fed = self.down(functional.dropout(value * functional.gelu(gate), self.dropout, self.training))
        return hidden + self.scale_shift(self.after_norm(fed), condition)


class Denoiser(nn.Module):
    """The denoising network of the diffusion prior: from a noisy latent vector to the clean one (equation 5).

    Args:
        config ([`VaeDiffConfig`]): All of it but `embedding_size` and `norm`.
    """

    def __init__(self, config: VaeDiffConfig) -> None:
        super().__init__()
        width, latent = config.hidden_size, config.latent_size
        self.width, self.takes_mean = width, config.class_reduction == "mean"
        self.no_estimate = nn.Parameter(torch.randn(1, latent))
        self.class_embedding = nn.Embedding(config.num_classes, width)
        self.class_projection = nn.Linear(width, 4 * width)
        self.step_projection = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, 4 * width))
        self.step_input = nn.Linear(4 * width, width)
        self.input = nn.Linear(2 * latent, width)
        self.layers = nn.ModuleList([DenoiserLayer(config) for _ in range(config.num_hidden_layers)])
        self.norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, latent)

    def forward(
        self, noisy: Tensor, step: Tensor, labels: Tensor | None = None, estimate: Tensor | None = None
    ) -> Tensor:
        """Estimate clean latent vectors.

        Args:
            noisy (`torch.Tensor` of shape `(number, latent_size)`): Noisy ones.
            step (`torch.Tensor` of shape `(number,)`): Steps of the diffusion that they are at.
            labels (`torch.Tensor` of shape `(number, num_classes)`, *optional*):
                Multi-hot relations. Column 0 is not read; a row without relations is as without labels.
            estimate (`torch.Tensor` of shape `(number, latent_size)`, *optional*): An earlier estimate.

        Returns:
            `torch.Tensor` of shape `(number, latent_size)`.
        """
        condition = self.step_projection(self._waves(step).to(noisy.dtype))
        if labels is not None:
            condition = condition + self._of_classes(labels)
        if estimate is None:
            estimate = self.no_estimate.expand(len(noisy), -1)
        hidden = self.input(torch.cat([noisy, estimate], dim=1)) + self.step_input(functional.gelu(condition))
        for layer in self.layers:
            hidden = layer(hidden, condition)
        return self.output(self.norm(hidden))

    def _waves(self, step: Tensor) -> Tensor:
        """Sines and cosines of a step, from one of length 1 to one of length 10,000 (Vaswani et al., 2017)."""
        half = self.width // 2
        rates = torch.exp(torch.arange(half, device=step.device) * (-math.log(10_000) / (half - 1)))
        angles = step[:, None] * rates
        return torch.cat([angles.sin(), angles.cos()], dim=1)

    def _of_classes(self, labels: Tensor) -> Tensor:
        chosen = (labels[:, 1:] > 0).to(self.class_embedding.weight.dtype)
        count = chosen.sum(1, keepdim=True)
        total = chosen @ self.class_embedding.weight[1:]
        projected = self.class_projection(total / count.clamp(min=1) if self.takes_mean else total)
        return torch.where(count > 0, projected, 0.0)


__all__ = [
    "HEAD_WIDTH",
    "BatchNorm",
    "Denoiser",
    "DenoiserLayer",
    "EntityPairVAE",
    "Gaussian",
    "RMSNorm",
    "ScaleShift",
]
