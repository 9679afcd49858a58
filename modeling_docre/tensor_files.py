"""Files of tensors that training code wrote: what is in them, and what is around it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

# Under which keys training scripts save a state dict, and what torch.compile and DataParallel put before all names.
_NESTS = ("checkpoint", "model_state_dict", "state_dict", "model")
_PREFIXES = ("_orig_mod.", "module.")


class OriginalCheckpointError(ValueError):
    """A file that is not the checkpoint that it should be; the message says what to write instead."""


@dataclass(frozen=True)
class TensorFile:
    """The tensors of a file, by the names that published code gives them.

    Args:
        path (`Path`): The file.
        tensors (`Mapping[str, torch.Tensor]`): By name, without what begins all names.
        wrappers (`list[str]`): Keys of dicts that they were in, and what began all their names.
        prefix (`str`): What began all their names, together.
        beside (`Mapping[str, str]`): What else is in the file, with what it is.
    """

    path: Path
    tensors: Mapping[str, Tensor]
    wrappers: list[str] = field(default_factory=list)
    prefix: str = ""
    beside: Mapping[str, str] = field(default_factory=dict)

    def name(self, published: str) -> str:
        """Return what a tensor is called in the file, or would be."""
        return self.prefix + published

    def count(self, pattern: str) -> int:
        """Count numbered parts: one more than the largest number that names, which begin so, have as their group."""
        numbers = (re.match(pattern, name) for name in self.tensors)
        return 1 + max((int(number[1]) for number in numbers if number), default=-1)

    def shape(self, name: str, dimensions: int) -> tuple[int, ...]:
        """Return the shape of a tensor that must be there."""
        if name not in self.tensors:
            raise OriginalCheckpointError(
                f"{self.path} lacks {self.name(name)}, which every checkpoint of this method has. Pass the whole file."
            )
        shape = tuple(self.tensors[name].shape)
        if len(shape) != dimensions or 0 in shape:
            raise OriginalCheckpointError(
                f"{self.path}: {self.name(name)} has shape {shape}, where {dimensions} numbers above 0 should "
                "be. Is it of this method?"
            )
        return shape


def read_tensors(path: Path) -> TensorFile:
    """Read a state dict, or what a training script saved around one.

    Args:
        path (`Path`): `.safetensors`, or what `torch.save` wrote, which is read with `weights_only=True`.

    Raises:
        OriginalCheckpointError: when there is no such file, it cannot be read, or holds no tensors.
    """
    if not path.is_file():
        raise OriginalCheckpointError(f"{path}: there is no such file (working directory: {os.getcwd()}).")
    found: Any
    try:
        if path.suffix == ".safetensors":
            found = load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpicklers raise whatever a broken file makes of them
        refused = re.search(r"Unsupported \w+: (?:GLOBAL )?(\w[\w.]*)", str(error))
        if refused:
            raise OriginalCheckpointError(
                f"{path}: it holds more than tensors ({refused[1]}), which is not read, since loading it could run "
                "code. Where you trust it, load it once with torch.load(..., weights_only=False) and save "
                "{name: tensor} with safetensors."
            ) from None
        raise OriginalCheckpointError(
            f"{path}: no file of weights, or not the whole of one ({type(error).__name__}). It should be what "
            "torch.save wrote, or .safetensors; compare its size with that of the original."
        ) from None
    wrappers: list[str] = []
    beside: dict[str, str] = {}
    for _ in (*_NESTS, None):
        content = found if isinstance(found, Mapping) else {}
        nests = (key for key in _NESTS if isinstance(content.get(key), Mapping) and _count_tensors(content[key]))
        nest = next(nests, None)
        for other, value in content.items():
            # What lies directly among the weights is looked at one by one.
            own = other == nest or (nest is None and isinstance(value, Tensor))
            if not own and (number := _count_tensors(value)):
                beside[".".join([*wrappers, str(other)])] = f"tensors beside the weights: {number}"
        if nest is None:
            break
        found = content[nest]
        wrappers.append(nest)
    if not isinstance(found, Mapping):
        raise OriginalCheckpointError(f"{path}: a {type(found).__name__}, where a state dict should be.")
    tensors = {str(name): value for name, value in found.items() if isinstance(value, Tensor)}
    if not tensors:
        raise OriginalCheckpointError(
            f"{path}: a dict without tensors ({', '.join(map(str, list(found)[:5]))}). A state dict may lie under "
            f"{', '.join(map(repr, _NESTS))}; take another one out and save it by itself."
        )
    prefix = ""
    # A copy that averages weights counts its steps beside them.
    weights = [name for name, tensor in tensors.items() if tensor.ndim]
    while before := next(
        (word for word in _PREFIXES if weights and all(name.startswith(prefix + word) for name in weights)), None
    ):
        prefix += before
        wrappers.append(before)
    beside |= {name: "no weight" for name in tensors if not name.startswith(prefix)}
    own = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    return TensorFile(path, own, wrappers, prefix, beside)


def _count_tensors(value: Any) -> int:
    if isinstance(value, Mapping):
        return sum(map(_count_tensors, value.values()))
    if isinstance(value, list | tuple):
        return sum(map(_count_tensors, value))
    return int(isinstance(value, Tensor))


__all__ = ["OriginalCheckpointError", "TensorFile", "read_tensors"]
