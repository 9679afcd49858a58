"""Where the encoder of a model comes from: built from a config, or taken out of another model."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForPreTraining, PreTrainedConfig, PreTrainedModel

from .configuration_docre import DocREConfig, encoder_window
from .head_bilinear import BilinearHead, PairHead
from .remote_code import looking_up

PRE_TRAINING = "DocREForContrastivePreTraining"

# What families call the layer that holds a position each, and what is such a layer if it is a plain table.
_POSITIONS = "position_embeddings"
_PLAIN_POSITIONS = ("embed_positions", "positions_embed", "wpe")


def build_encoder(config: PreTrainedConfig) -> PreTrainedModel:
    """Build an encoder with random weights, without the pooler that no method here uses.

    Raises:
        ValueError: when it is an encoder-decoder.
    """
    if config.is_encoder_decoder:
        raise ValueError(
            f"{config.model_type!r} is an encoder-decoder; the encoder must be one that reads, such as BERT, RoBERTa, "
            "ModernBERT or DeBERTa."
        )
    # A few families (Funnel) have two classes; none of those has a pooler.
    model_class: Any = AutoModel._model_mapping[type(config)]
    takes_pooling = isinstance(model_class, type) and "add_pooling_layer" in inspect.signature(model_class).parameters
    return AutoModel.from_config(config, **({"add_pooling_layer": False} if takes_pooling else {}))


def check_window(config: DocREConfig, encoder: PreTrainedModel) -> None:
    """Refuse windows that end beyond the positions that an encoder has a table of.

    Raises:
        ValueError: when `config.window_size` is more than the encoder has positions.
    """
    limit = encoder_window(config.encoder)
    if (config.window_size or 0) <= limit:
        return
    listed = any(
        name.endswith(_POSITIONS) or (isinstance(part, nn.Embedding) and name.endswith(_PLAIN_POSITIONS))
        for name, part in encoder.named_modules()
    )
    if listed:
        raise ValueError(
            f"window_size={config.window_size} is more than the {limit} positions that the encoder "
            f"({config.encoder.model_type}) has; pass window_size={limit} or less, to `from_pretrained` too where a "
            "saved model has it. Longer documents are read in windows."
        )


def load_encoder_config(name: str) -> Any:
    """Load the config of an encoder, or of one of this library's models.

    Args:
        name (`str`): Folder or Hub id.

    Raises:
        OSError: when there is none.
    """
    with looking_up(name):
        return AutoConfig.from_pretrained(name)


def open_encoder(name: str, config: PreTrainedConfig | None = None) -> Any:
    """Load the model that an encoder is taken out of.

    Args:
        name (`str`): Folder or Hub id, of one of this library's models too.
        config (`PreTrainedConfig`, *optional*): Its config, if it is to be another than the one that is there.
    """
    config = load_encoder_config(name) if config is None else config
    model_class = AutoModelForPreTraining if PRE_TRAINING in (config.architectures or []) else AutoModel
    return model_class.from_pretrained(name, config=config, dtype=torch.float32)


def load_encoder(encoder: str | PreTrainedModel) -> tuple[Any, PairHead | None]:
    """Load an encoder by its name, or copy it out of a model.

    Args:
        encoder (`str` or `PreTrainedModel`):
            Folder or Hub id, or a model; of one with a head, one of this library included, what is below the head.

    Returns:
        The encoder, and the fusion layers behind it where contrastive pre-training was for both.
    """
    loaded: Any = encoder if isinstance(encoder, PreTrainedModel) else open_encoder(encoder)
    fusion = loaded.head if type(loaded).__name__ == PRE_TRAINING else None
    loaded = loaded.base_model
    if isinstance(encoder, PreTrainedModel):
        loaded = copy.deepcopy(loaded)
    return (loaded.encoder if loaded.config.model_type == DocREConfig.model_type else loaded), fusion


def copy_fusion(source: PairHead, target: Any) -> None:
    """Give a bilinear head the fusion layers that contrastive pre-training left.

    Raises:
        ValueError: when it is another head, or of another width.
    """
    if not isinstance(target, BilinearHead):
        raise ValueError(
            "Contrastive pre-training is for the bilinear head: take a method that has it, or take the encoder alone, "
            "from_encoder(model.docre.encoder, ...)."
        )
    width, given = target.head_projection.out_features, source.head_projection.out_features
    if width != given:
        raise ValueError(f"emb_size={width}, but contrastive pre-training had {given}: pass emb_size={given}.")
    target.head_projection.load_state_dict(source.head_projection.state_dict())
    target.tail_projection.load_state_dict(source.tail_projection.state_dict())


def copy_weights(source: PreTrainedModel, target: PreTrainedModel) -> None:
    """Give an encoder the weights of another of its kind, which may have a pooler.

    Raises:
        ValueError: when weights are missing from it.
    """
    state = {key: value for key, value in source.state_dict().items() if not key.startswith("pooler.")}
    report = target.load_state_dict(state, strict=False)
    if report.missing_keys:
        raise ValueError(f"The encoder lacks weights: {', '.join(report.missing_keys)}.")


__all__ = [
    "build_encoder",
    "check_window",
    "copy_fusion",
    "copy_weights",
    "load_encoder",
    "load_encoder_config",
    "open_encoder",
]
