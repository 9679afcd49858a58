"""`VaeDiffConfig`: the settings of a generator of pair embeddings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from transformers import PreTrainedConfig

from .configuration_checks import check_choices, check_classes, check_relations

_CHOICES = {"norm": ("rms", "batch"), "class_reduction": ("mean", "sum"), "guidance_form": ("code", "paper")}
_POSITIVE = ("embedding_size", "latent_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_steps")
_PROBABILITIES = ("dropout", "self_condition_probability", "class_dropout")


class VaeDiffConfig(PreTrainedConfig):
    r"""Configuration of [`VaeDiffModel`]. Defaults are those of the authors' code, but for `class_at_every_step`.

    Args:
        relations (`list[str]`, *optional*): Relation ids of the model whose pair embeddings are generated, in order.
        relation_names (`dict[str, str]`, *optional*): Words for them.
        embedding_size (`int`, *optional*, defaults to `768`): Width of a pair embedding.
        embedding_scale (`float` or `str`, *optional*, defaults to `1.0`):
            What embeddings are divided by before they are encoded, and multiplied by when they are decoded.
            `"deviation"` stands for the root mean square of the numbers that it will be trained on, which
            [`VaeDiffTrainer`] puts there. The published code has them as they are; but the autoencoder starts with
            small numbers and its decoder's means end at 5, and a model's embeddings may go far beyond.
        latent_size (`int`, *optional*, defaults to `384`): Width of a latent vector.
        norm (`str`, *optional*, defaults to `"rms"`):
            `"rms"` normalises twice in encoder and decoder, as the code does; `"batch"` is one batch norm in the
            middle of each, as the paper writes.
        hidden_size (`int`, *optional*, defaults to `256`): Width of the denoising transformer.
        num_hidden_layers (`int`, *optional*, defaults to `6`): Its layers.
        num_attention_heads (`int`, *optional*, defaults to `4`): Its heads, of width 64 each.
        dropout (`float`, *optional*, defaults to `0.1`): Dropout in the denoising transformer.
        num_steps (`int`, *optional*, defaults to `50`): Steps of the diffusion, of a cosine schedule.
        class_reduction (`str`, *optional*, defaults to `"mean"`):
            How the embeddings of a pair's relations become one: their mean, or their sum (paper, equation 7).
        self_condition_probability (`float`, *optional*, defaults to `0.5`):
            How often a training step feeds the network's first estimate back to it (0.1 in the paper).
        class_dropout (`float`, *optional*, defaults to `0.2`):
            How often a training step hides the relations from it (0.1 in the paper).
        guidance (`float`, *optional*, defaults to `0.1`): Weight \\(w\\) of classifier-free guidance in sampling.
        guidance_form (`str`, *optional*, defaults to `"code"`):
            `"code"` moves away from what the network says without relations, \\((1 + w) c - w u\\); `"paper"` is its
            equation 6, \\((1 - w) c + w u\\).
        class_at_every_step (`bool`, *optional*, defaults to `True`):
            Whether sampling knows the relations at every step; `False` is the published behaviour, at the first alone.
        embeddings_of (`str`, *optional*):
            Digest of the model whose embeddings it was trained on, so that it is not used with another.
        kwargs: What every config of transformers takes.

    Raises:
        ValueError: when a setting has a value that it cannot have; the message names it and what it may be.
    """

    model_type = "docre-vaediff"

    def __init__(
        self,
        relations: Sequence[str] = (),
        relation_names: Mapping[str, str] | None = None,
        embedding_size: int = 768,
        embedding_scale: float | str = 1.0,
        latent_size: int = 384,
        norm: str = "rms",
        hidden_size: int = 256,
        num_hidden_layers: int = 6,
        num_attention_heads: int = 4,
        dropout: float = 0.1,
        num_steps: int = 50,
        class_reduction: str = "mean",
        self_condition_probability: float = 0.5,
        class_dropout: float = 0.2,
        guidance: float = 0.1,
        guidance_form: str = "code",
        class_at_every_step: bool = True,
        embeddings_of: str | None = None,
        **kwargs: Any,
    ) -> None:
        if relations:
            check_relations(relations)
        self.relations = list(relations)
        self.relation_names = dict(relation_names or {})
        self.embedding_size = embedding_size
        self.embedding_scale = embedding_scale
        self.latent_size = latent_size
        self.norm = norm
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.dropout = dropout
        self.num_steps = num_steps
        self.class_reduction = class_reduction
        self.self_condition_probability = self_condition_probability
        self.class_dropout = class_dropout
        self.guidance = guidance
        self.guidance_form = guidance_form
        self.class_at_every_step = class_at_every_step
        self.embeddings_of = embeddings_of
        self.check()
        super().__init__(**kwargs)

    @property
    def num_classes(self) -> int:
        """Number of classes, the threshold class, which no generated pair has, included."""
        return len(self.relations) + 1

    def check(self) -> None:
        """Check all settings.

        Raises:
            ValueError: when one has a value that it cannot have.
        """
        check_choices(self, _CHOICES)
        check_classes(self.relations)
        for name in _POSITIVE:
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name}={value} is not a positive whole number; pass 1 or more.")
        scale = self.embedding_scale
        if scale != "deviation" and not (isinstance(scale, int | float) and 0.0 < scale < math.inf):
            raise ValueError(
                f"embedding_scale={scale!r} is not a positive number; pass one, or 'deviation' for that of the "
                "embeddings that it is trained on."
            )
        check_guidance(self.guidance)
        for name in _PROBABILITIES:
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name}={getattr(self, name)} is not a probability; pass 0 to 1.")
        if self.hidden_size % 2 or self.hidden_size < 4:
            raise ValueError(
                f"hidden_size={self.hidden_size}: half of it are sines of the step, half cosines; pass an even number "
                "from 4."
            )
        if self.embedding_size < 4:
            raise ValueError(f"embedding_size={self.embedding_size} has no quarter, the width inside; pass 4 or more.")


def check_guidance(guidance: Any) -> None:
    """Check the weight of the guidance.

    Args:
        guidance (`float`): The weight.

    Raises:
        ValueError: when it is not a finite number.
    """
    if not isinstance(guidance, int | float) or not math.isfinite(guidance):
        raise ValueError(f"guidance={guidance!r} is not a finite number; 0.1 is published.")


__all__ = ["VaeDiffConfig", "check_guidance"]
