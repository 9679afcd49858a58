"""What tells one model from another: all that its answers depend on, in one short text."""

from __future__ import annotations

import hashlib
import json
from typing import Any, cast

import torch


def digest_pipeline(pipe: Any) -> str:
    """Compute a digest of the settings, the tokenizer and the weights of a model.

    Args:
        pipe (`DocREPipeline`): `pipeline("docre", ...)`.

    Returns:
        `str`: The same for the same model, wherever its files lie and whatever it runs on.
    """
    config = {name: value for name, value in pipe.model.config.to_dict().items() if "version" not in name}
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    digest.update(_tokenizer(pipe.processor.tokenizer).encode())
    for name, tensor in pipe.model.state_dict().items():
        data = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(f"{name} {data.dtype} {tuple(tensor.shape)}".encode())
        digest.update(data.view(torch.uint8).numpy())
    return digest.hexdigest()


def _tokenizer(tokenizer: Any) -> str:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        return cast(str, backend.to_str())
    # One that is written in Python. Where its files lie does not matter.
    settings = {
        name: value
        for name, value in tokenizer.init_kwargs.items()
        if name != "name_or_path" and not name.endswith("_file")
    }
    return json.dumps([type(tokenizer).__name__, tokenizer.get_vocab(), settings], sort_keys=True, default=str)


__all__ = ["digest_pipeline"]
