"""Where the encoder of a model comes from: built from a config, or taken out of another model."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import torch
from transformers import AutoModel, PreTrainedConfig, PreTrainedModel

from .configuration_docre import DocREConfig
from .remote_code import check_name


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


def load_encoder(encoder: str | PreTrainedModel) -> Any:
    """Load an encoder by its name, or copy it out of a model.

    Args:
        encoder (`str` or `PreTrainedModel`):
            Folder or Hub id, or a model; of one with a head, one of this library included, what is below the head.
    """
    loaded: Any
    if isinstance(encoder, PreTrainedModel):
        loaded = copy.deepcopy(encoder.base_model)
    else:
        check_name(encoder)
        loaded = AutoModel.from_pretrained(encoder, dtype=torch.float32)
    return loaded.encoder if loaded.config.model_type == DocREConfig.model_type else loaded


def copy_weights(source: PreTrainedModel, target: PreTrainedModel) -> None:
    """Give an encoder the weights of another of its kind, which may have a pooler.

    Raises:
        ValueError: when weights are missing from it.
    """
    state = {key: value for key, value in source.state_dict().items() if not key.startswith("pooler.")}
    report = target.load_state_dict(state, strict=False)
    if report.missing_keys:
        raise ValueError(f"The encoder lacks weights: {', '.join(report.missing_keys)}.")


__all__ = ["build_encoder", "copy_weights", "load_encoder"]
