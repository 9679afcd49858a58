"""What tells one model from another: all that its answers depend on, in one short text."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any, cast

import torch

# What says where files lay, who wrote them, and what saving notes down, in a config or in one inside it. The precision
# is that of the tensors.
_NOT_OF_THE_MODEL = (
    *("_name_or_path", "_commit_hash", "architectures", "auto_map", "dtype", "torch_dtype", "transformers_version"),
)


def digest_pipeline(pipe: Any) -> str:
    """Compute [`digest_model`] of a pipeline, or of anything else with a `model` and a `processor`.

    Args:
        pipe (`DocREPipeline`): `pipeline("docre", ...)`.
    """
    return digest_model(pipe.model, pipe.processor)


def digest_model(model: Any, processor: Any) -> str:
    """Compute a digest of the settings, the tokenizer and the weights of a model.

    Args:
        model ([`DocREForRelationExtraction`]): The model.
        processor ([`DocREProcessor`]): Its processor.

    Returns:
        `str`: The same for the same model, wherever its files lie, however their place is spelled, and on whatever
        device it runs. The same weights in another precision, such as float16, give other answers, and another digest.
    """
    # A setting at its default changes nothing: one that a later version adds leaves digests as they are. So does one
    # that this version does not know, since nothing reads it, apart from the two that transformers puts there.
    known = {*type(model.config)().to_dict(), "fusion_config", "quantization_config"}
    defaults = {
        one.name: one.default if one.default_factory is dataclasses.MISSING else one.default_factory()
        for one in dataclasses.fields(model.config)
    }
    given = {
        name: value
        for name, value in model.config.to_dict().items()
        if name in known and (name not in defaults or value != defaults[name])
    }
    config = _settings(given)
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    digest.update(_tokenizer(processor.tokenizer).encode())
    for name, tensor in model.state_dict().items():
        data = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(f"{name} {data.dtype} {tuple(tensor.shape)}".encode())
        digest.update(data.view(torch.uint8).numpy())
    return digest.hexdigest()


def _settings(config: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _settings(value) if isinstance(value, dict) else value
        for name, value in config.items()
        if name not in _NOT_OF_THE_MODEL
    }


def _tokenizer(tokenizer: Any) -> str:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        return cast(str, backend.to_str())
    # One that is written in Python. Where its files lie does not matter.
    settings = {
        name: value
        for name, value in tokenizer.init_kwargs.items()
        if name not in ("name_or_path", "is_local", "local_files_only") and not name.endswith("_file")
    }
    return json.dumps([type(tokenizer).__name__, tokenizer.get_vocab(), settings], sort_keys=True, default=str)


__all__ = ["digest_model", "digest_pipeline"]
