"""`VaeDiffModel`: draws pair embeddings of wanted relations (VaeDiff-DocRE, section 2.2)."""

from __future__ import annotations

import math
import os
import reprlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput

from .configuration_vaediff import VaeDiffConfig, check_guidance
from .diffusion import NoiseSchedule
from .loading import load_whole, read_model_type
from .modeling_base import in_evaluation, init_linear
from .names import closest_relations, nearest_name
from .vaediff_parts import Denoiser, EntityPairVAE, Gaussian, ScaleShift


@dataclass
class VaeDiffOutput(ModelOutput):
    """Output of [`VaeDiffModel`] and [`VaeDiffForTraining`].

    Args:
        loss (`torch.Tensor` of shape `()`, *optional*): What training minimises (equation 9).
        losses (`dict[str, torch.Tensor]`, *optional*):
            Its terms, means over pairs without their weights: `"reconstruction"`, `"entropy"` (negative, of the
            encoder), `"cross_entropy"`, and `"prior"`, the diffusion's own loss, where that was trained.
        reconstruction (`torch.Tensor` of shape `(num_pairs, embedding_size)`): Means that the decoder gives.
        latents (`torch.Tensor` of shape `(num_pairs, latent_size)`):
            Latent vectors: drawn in training, means of the posterior otherwise.
    """

    loss: Tensor | None = None
    losses: dict[str, Tensor] | None = None
    reconstruction: Tensor | None = None
    latents: Tensor | None = None


class VaeDiffModel(PreTrainedModel):
    """A generator of pair embeddings: a variational autoencoder with a diffusion model for its prior.

    It stands for the distribution of pair embeddings of each relation that a relation extraction model has learned.
    [`VaeDiffModel.sample`] draws from it, to give rare relations more examples. [`VaeDiffForTraining`] trains it.

    Args:
        config ([`VaeDiffConfig`]): The configuration.

    Example:

    ```python
    generator = VaeDiffModel.from_pretrained("runs/vaediff/generator")
    embeddings = generator.sample([["P17"], ["P17", "P131"]], num_samples=2)  # (4, embedding_size)
    ```
    """

    config: VaeDiffConfig
    config_class = VaeDiffConfig
    main_input_name = "embeddings"
    # Where a training was saved, what is still being trained is beside its average.
    _keys_to_ignore_on_load_unexpected = [r"^(learner\.|num_updates$)"]  # noqa: RUF012

    def __init__(self, config: VaeDiffConfig) -> None:
        super().__init__(config)
        # Settings that were passed in loading have not been checked.
        config.check()
        self.vae = EntityPairVAE(config)
        self.denoiser = Denoiser(config)
        self.schedule = NoiseSchedule.cosine(config.num_steps)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, ScaleShift):
            # What begins without influence.
            init.zeros_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            init_linear(module)
        elif isinstance(module, nn.Embedding):
            init.normal_(module.weight)
        elif isinstance(module, Denoiser):
            init.normal_(module.no_estimate)
        else:
            super()._init_weights(module)

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, pretrained_model_name_or_path: str | os.PathLike[str], *model_args: Any, **kwargs: Any
    ) -> VaeDiffModel:
        """Load a generator; takes every argument of `PreTrainedModel.from_pretrained`.

        Raises:
            ValueError: when the folder holds another kind of model, weights are missing from it or have other sizes
                than the settings ask for, or an argument is neither `transformers`' nor a setting.
        """
        name = str(pretrained_model_name_or_path)
        model_type = read_model_type(name, kwargs)
        if model_type != VaeDiffConfig.model_type:
            raise ValueError(
                f"{name} is a {model_type!r} checkpoint, not a generator of pair embeddings "
                f"({VaeDiffConfig.model_type!r}). VaeDiffTrainer makes one."
            )
        return load_whole(cls, super().from_pretrained, name, model_args, kwargs)

    def forward(self, embeddings: Tensor, return_dict: bool | None = None) -> VaeDiffOutput | tuple[Tensor, ...]:
        """Encode pair embeddings and decode the means of their posteriors.

        Args:
            embeddings (`torch.Tensor` of shape `(num_pairs, embedding_size)`): Pair embeddings.
            return_dict (`bool`, *optional*): Return a tuple when `False`.

        Returns:
            [`VaeDiffOutput`].
        """
        latents = self.vae.encode(embeddings / self.embedding_scale).mean
        output = VaeDiffOutput(reconstruction=self._decode(latents), latents=latents)
        return output.to_tuple() if return_dict is False else output

    @property
    def embedding_scale(self) -> float:
        """What embeddings are divided by before they are encoded.

        Raises:
            ValueError: when it is to be that of training data, and there was no training.
        """
        scale = self.config.embedding_scale
        if isinstance(scale, str):
            raise ValueError(
                f"embedding_scale={scale!r} stands for a number that VaeDiffTrainer puts into the config: train the "
                "generator first, or pass the number."
            )
        return scale

    def _decode(self, latents: Tensor) -> Tensor:
        return self.vae.decode(latents)[0] * self.embedding_scale

    def sample(
        self,
        labels: Tensor | Sequence[Iterable[str]],
        num_samples: int = 1,
        *,
        generator: torch.Generator | None = None,
        guidance: float | None = None,
        batch_size: int = 4096,
    ) -> Tensor:
        """Draw pair embeddings: latent vectors by the diffusion prior, then the means that the decoder makes of them.

        Drawn without dropout, whether the model is in training or not (the published code leaves it on). A relation
        that no training pair had is embedded as it was at first, at random: what is drawn for it means nothing.

        Args:
            labels (`torch.Tensor` of shape `(number, num_classes)`, or a sequence of sequences of relation ids):
                The relations of each. As a tensor multi-hot, column 0 not read. Without relations, a vector is drawn
                from the distribution of all training pairs.
            num_samples (`int`, *optional*, defaults to `1`): How many to draw for each row.
            generator (`torch.Generator`, *optional*): What to draw with; the same seed gives the same vectors.
            guidance (`float`, *optional*): Weight of the guidance instead of `config.guidance`.
            batch_size (`int`, *optional*, defaults to `4096`):
                How many to draw at once. Another one gives other vectors of the same distribution.

        Returns:
            `torch.Tensor` of shape `(number * num_samples, embedding_size)`: those of the first row, then the others'.
            They are without a gradient, and may be inputs of what has one.

        Raises:
            ValueError: when a relation is unknown, `labels` are neither such a tensor nor such a sequence, a count is
                not positive, `guidance` not finite, or `generator` something else than its type.
        """
        if num_samples < 1 or batch_size < 1:
            raise ValueError(f"num_samples={num_samples} and batch_size={batch_size} are counts; pass 1 or more.")
        if generator is not None and not isinstance(generator, torch.Generator):
            raise ValueError(f"generator={generator!r} is no torch.Generator; pass torch.Generator().manual_seed(13).")
        wanted = self._multi_hot(labels).repeat_interleave(num_samples, 0)
        # A training's half precision would add up over the steps.
        exact = torch.autocast(self.device.type, enabled=False)
        with in_evaluation(self), torch.inference_mode(), exact:
            drawn = torch.cat([self._draw(part, generator, guidance) for part in wanted.split(batch_size)])
        # A tensor of inference mode could not be the input of a layer that is trained.
        return drawn.clone()

    def _words(self) -> dict[str, str]:
        return {relation: self.config.relation_names.get(relation, relation) for relation in self.config.relations}

    def _draw(self, labels: Tensor, generator: torch.Generator | None, guidance: float | None) -> Tensor:
        shape = (len(labels), self.config.latent_size)
        source = self.device if generator is None else generator.device

        def noise() -> Tensor:
            return torch.randn(shape, generator=generator, device=source).to(self.device, self.dtype)

        start = noise()
        latents = self.denoise(start, labels, (noise() for _ in range(self.config.num_steps)), guidance=guidance)
        return self._decode(latents)

    def denoise(
        self, start: Tensor, labels: Tensor, noise: Iterator[Tensor], *, guidance: float | None = None
    ) -> Tensor:
        """Go back from noise to latent vectors, step by step, by what the denoiser takes for them each time.

        Args:
            start (`torch.Tensor` of shape `(number, latent_size)`): Standard normal noise.
            labels (`torch.Tensor` of shape `(number, num_classes)`): Multi-hot relations.
            noise (iterator of `torch.Tensor` of shape `(number, latent_size)`):
                What is added at each step, the noisiest first; the last is taken and not added.
            guidance (`float`, *optional*): Weight of the guidance instead of `config.guidance`.

        Returns:
            `torch.Tensor` of shape `(number, latent_size)`.
        """
        weight = self.config.guidance if guidance is None else guidance
        check_guidance(weight)
        # Equation 6, or as the code has it: away from what needs no relation.
        weight = weight if self.config.guidance_form == "code" else -weight
        latents, estimate = start, None
        for step in reversed(range(self.config.num_steps)):
            steps = torch.full((len(latents),), step, device=latents.device)
            known = self.config.class_at_every_step or step == self.config.num_steps - 1
            guided = self.denoiser(latents, steps, labels if known else None, estimate)
            if known and weight:
                guided = (1 + weight) * guided - weight * self.denoiser(latents, steps, None, estimate)
            latents = self.schedule.step_back(guided, latents, step, next(noise))
            estimate = guided
        return latents

    def _multi_hot(self, labels: Tensor | Sequence[Iterable[str]]) -> Tensor:
        config = self.config
        if isinstance(labels, Tensor):
            if labels.dim() != 2 or labels.shape[1] != config.num_classes:
                raise ValueError(
                    f"labels have shape {tuple(labels.shape)}; pass (number, {config.num_classes}), a column for each "
                    "of the generator's relations and column 0 for none."
                )
            return labels.to(self.device)
        if isinstance(labels, str) or not isinstance(labels, Sequence):
            raise ValueError(
                f"labels are {reprlib.repr(labels)}; pass a list of relation ids for each vector, [['P17'], []], or a "
                "tensor."
            )
        classes = {relation: number for number, relation in enumerate(config.relations, start=1)}
        rows = torch.zeros(len(labels), config.num_classes, device=self.device)
        for row, relations in enumerate(labels):
            if isinstance(relations, str) or not isinstance(relations, Iterable):
                raise ValueError(
                    f"labels[{row}] is {relations!r}; pass a list of relation ids for each, such as ['P17'], or []."
                )
            for relation in relations:
                if relation not in classes:
                    near = closest_relations(str(relation), self._words())
                    meant = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
                    hint = meant or nearest_name(str(relation), [*classes]) or " config.relations has all."
                    raise ValueError(f"The generator has no relation {relation!r}.{hint}")
                rows[row, classes[relation]] = 1
        return rows


class VaeDiffForTraining(VaeDiffModel):
    r"""A generator while it is trained (VaeDiff-DocRE, section 2.2.3).

    What learns the prior is `learner`; `denoiser`, which samples are drawn with, is its exponential moving average
    over the steps, kept by [`VaeDiffForTraining.update_average`]. Both are saved, so that training resumes.

    With \\(z\\) drawn from the encoder's posterior \\(q\\) and \\(\hat z\\) the learner's estimate of it from a noisy
    version, each pair costs

    $$-\log f(p|z) + k \left( \log q(z|p) + \sum_d \left[ \tfrac{1}{2} (1 + \log 2 \pi \sigma_0^2) + \overline{(\hat
    z - z)^2} \right] \right)$$

    where \\(\sigma_0^2\\) is the noise of the first step and the bar a mean over numbers, as published. That trains
    the autoencoder: its gradient reaches the latent vectors through the learner, and not the learner, which has
    \\(\overline{(\hat z - z)^2}\\) on latent vectors without gradient for itself (equation 5).

    Args:
        config ([`VaeDiffConfig`]): The configuration.
    """

    # The loss is divided by `num_items_in_batch` here, so Trainer must not divide it again.
    accepts_loss_kwargs = True
    num_updates: Tensor
    _keys_to_ignore_on_load_unexpected: list[str] = []  # noqa: RUF012

    def __init__(self, config: VaeDiffConfig) -> None:
        super().__init__(config)
        self.learner = Denoiser(config)
        self.register_buffer("num_updates", torch.tensor(0))
        self.denoiser.requires_grad_(False)
        self.post_init()
        self.denoiser.load_state_dict(self.learner.state_dict())

    def forward(  # type: ignore[override]
        self,
        embeddings: Tensor,
        labels: Tensor,
        *,
        kl_weight: float = 1e-3,
        learn_prior: bool = True,
        num_items_in_batch: Tensor | int | None = None,
        return_dict: bool | None = None,
    ) -> VaeDiffOutput | tuple[Tensor, ...]:
        r"""Compute the loss of a batch of pairs with relations.

        Args:
            embeddings (`torch.Tensor` of shape `(num_pairs, embedding_size)`):
                Pair embeddings. The density of the reconstruction is that of embeddings divided by their scale.
            labels (`torch.Tensor` of shape `(num_pairs, num_classes)`): Their relations, multi-hot.
            kl_weight (`float`, *optional*, defaults to `1e-3`): Weight \\(k\\) of all but the reconstruction.
            learn_prior (`bool`, *optional*, defaults to `True`): Whether the learner learns too.
            num_items_in_batch (`int` or `torch.Tensor`, *optional*):
                Pairs over all micro-batches and processes of a step, which the loss is divided by; those given here
                when left out.
            return_dict (`bool`, *optional*): Return a tuple when `False`.

        Returns:
            [`VaeDiffOutput`]. No pairs cost 0.0, attached to the graph.
        """
        embeddings = embeddings / self.embedding_scale
        posterior = self.vae.encode(embeddings)
        latents = posterior.mean + posterior.std * torch.randn_like(posterior.mean)
        mean, log_variance = self.vae.decode(latents)
        reconstruction = -Gaussian.of(mean, log_variance).log_density(embeddings).sum(1)
        entropy = posterior.log_density(latents).sum(1)
        error = self.prior_error(latents, labels, learns=False)
        first = 0.5 * (1 + math.log(2 * math.pi * (1 - float(self.schedule.kept[0]))))
        cross_entropy = latents.shape[1] * (first + error)
        terms = {"reconstruction": reconstruction, "entropy": entropy, "cross_entropy": cross_entropy}
        if learn_prior:
            terms["prior"] = self.prior_error(latents.detach(), labels, learns=True)
        number = max(len(latents), 1) if num_items_in_batch is None else num_items_in_batch
        losses = {name: values.sum() / number for name, values in terms.items()}
        loss = losses["reconstruction"] + kl_weight * (losses["entropy"] + losses["cross_entropy"])
        if learn_prior:
            loss = loss + losses["prior"]
        output = VaeDiffOutput(
            loss=loss,
            losses={name: value.detach() for name, value in losses.items()},
            reconstruction=mean * self.embedding_scale,
            latents=latents,
        )
        return output.to_tuple() if return_dict is False else output

    def prior_error(self, latents: Tensor, labels: Tensor, *, learns: bool) -> Tensor:
        """Squared error of the learner's estimates at random steps, a mean over numbers (equation 5).

        Args:
            latents (`torch.Tensor` of shape `(num_pairs, latent_size)`): Clean latent vectors.
            labels (`torch.Tensor` of shape `(num_pairs, num_classes)`): Their relations, multi-hot.
            learns (`bool`):
                Whether this is the learner's loss, where relations are hidden at times. Otherwise the gradient is
                that of the latent vectors alone.

        Returns:
            `torch.Tensor` of shape `(num_pairs,)`.
        """
        config, device = self.config, latents.device
        step = torch.randint(config.num_steps, (len(latents),), device=device)
        noisy = self.schedule.add_noise(latents, step, torch.randn_like(latents))
        # What is off draws nothing.
        hides = learns and config.class_dropout > 0 and bool(torch.rand(()) < config.class_dropout)
        known = None if hides else labels
        estimate = None
        feeds_back = config.self_condition_probability
        if feeds_back > 0 and bool(torch.rand(()) < feeds_back):
            with torch.no_grad():
                estimate = self.learner(noisy, step, known)
        if learns:
            found = self.learner(noisy, step, known, estimate)
        else:
            fixed = {name: value.detach() for name, value in self.learner.named_parameters()}
            found = functional_call(self.learner, fixed, (noisy, step, known, estimate))
        return (found - latents).square().mean(1)

    def without_learner(self) -> VaeDiffModel:
        """Return what is sampled with, as a model of its own."""
        model: Any = VaeDiffModel(self.config)
        state = self.state_dict()
        model.load_state_dict({name: state[name] for name in model.state_dict()})
        return cast(VaeDiffModel, model.to(self.device, self.dtype).eval())

    @torch.no_grad()
    def update_average(self, decay: float = 0.995, copies: int = 10) -> None:
        """Let the average follow by a step.

        Args:
            decay (`float`, *optional*, defaults to `0.995`): Share of the average that stays.
            copies (`int`, *optional*, defaults to `10`): First steps after which it is a copy.

        Raises:
            ValueError: when weights are in half precision, which cannot hold such small steps.
        """
        if self.dtype not in (torch.float32, torch.float64):
            raise ValueError(
                f"The weights are {self.dtype}, in which the steps of the average are rounded away: keep them in "
                "float32, model.float(), and compute in half precision by bf16=True of the training arguments."
            )
        self.num_updates += 1
        rate = 1.0 if int(self.num_updates) <= copies else 1 - decay
        for average, value in zip(self.denoiser.parameters(), self.learner.parameters(), strict=True):
            average.lerp_(value.to(average.dtype), rate)


__all__ = ["VaeDiffForTraining", "VaeDiffModel", "VaeDiffOutput"]
