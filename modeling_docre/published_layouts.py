"""How the authors' files name their tensors, and where each of these belongs in a model of ours."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from .tensor_files import OriginalCheckpointError, TensorFile

_ENCODER = "docre.encoder."
# What normalisations call their gain and shift in old code.
_NORMS = {"gamma": "weight", "beta": "bias"}
_UNKNOWN = "no part of this model has that name"


@dataclass(frozen=True)
class Layout:
    """How published code names its tensors.

    Args:
        sign (`str`): A part of a name that only this layout has.
        modules (`dict[str, str]`): Name of a module, or of a tensor in none, to ours; `{}` stands for a number.
        encoder (`str`, *optional*): What stands before the encoder's own names, where there is an encoder.
        idle (`dict[str, str]`, *optional*): Modules whose tensors a model of ours has not, with the reason.
    """

    sign: str
    modules: Mapping[str, str]
    encoder: str | None = None
    idle: Mapping[str, str] = field(default_factory=dict)

    def published(self, name: str) -> str:
        """Return the published name of one of our tensors; our own where there is none."""
        if self.encoder is not None and name.startswith(_ENCODER):
            return self.encoder + name.removeprefix(_ENCODER)
        for theirs, ours in self.modules.items():
            if match := _pattern(ours).fullmatch(name):
                *numbers, part = match.groups()
                return theirs.format(*numbers) + (part or "")
        return name

    def unused(self, name: str) -> str | None:
        """Return why a published tensor is not ours; `None` where it should be."""
        if self.encoder is not None and name.startswith(self.encoder):
            own = name.removeprefix(self.encoder)
            if own.startswith("pooler."):
                return "the encoder's pooler, which no method reads"
            return "a constant of older versions of transformers" if own.endswith("position_ids") else None
        for module, reason in self.idle.items():
            if _pattern(module).fullmatch(name):
                return reason
        return None if any(_pattern(theirs).fullmatch(name) for theirs in self.modules) else _UNKNOWN


def _pattern(module: str) -> re.Pattern[str]:
    return re.compile(re.escape(module).replace(r"\{\}", r"(\d+)") + r"(\.[\w.]+)?")


@dataclass
class ImportReport:
    """What became of a file's tensors.

    Args:
        used (`int`): How many are in the model.
        unused (`dict[str, str]`): The others, by their names in the file, with the reason.
        wrappers (`list[str]`):
            What was around the tensors: keys of dicts that they were in, and what began all their names.
        tokenizer (`bool`): Whether the encoder's tokenizer was there, and was saved too.
        no_tokenizer (`str`): Where it was there and was not saved: why.
    """

    used: int = 0
    unused: dict[str, str] = field(default_factory=dict)
    wrappers: list[str] = field(default_factory=list)
    tokenizer: bool = False
    no_tokenizer: str = ""


def refuse_full_folder(output: str | os.PathLike[str] | None) -> None:
    """Refuse to save a model among other files.

    Raises:
        OriginalCheckpointError: when the folder is there and not empty.
    """
    if output is not None and os.path.isdir(output) and os.listdir(output):
        raise OriginalCheckpointError(
            f"{os.fspath(output)} is there already, and not empty. Remove it, or choose another folder."
        )


def load_published(file: TensorFile, model: nn.Module, layout: Layout) -> ImportReport:
    """Load a file into a model, every tensor of both accounted for.

    Args:
        file ([`TensorFile`]): The file.
        model (`torch.nn.Module`): The model, or a part of one that the file is of.
        layout ([`Layout`]): How the file names its tensors.

    Raises:
        OriginalCheckpointError: when a tensor is missing, has another shape or no place, or is there twice.
    """
    report = ImportReport(unused=dict(file.beside), wrappers=file.wrappers)
    expected = model.state_dict()
    ours = {layout.published(name): name for name in expected}
    state: dict[str, Tensor] = {}
    taken: dict[str, str] = {}
    problems: list[str] = []
    wrong: list[str] = []
    for name, tensor in file.tensors.items():
        modern = re.sub(r"\.(gamma|beta)$", lambda old: f".{_NORMS[old[1]]}", name)
        if modern in ours:
            known = expected[ours[modern]]
            if modern in taken:
                problems.append(f"{file.name(taken[modern])} and {file.name(name)} are one tensor of the model")
                wrong.append(name)
            taken[modern] = name
            state[ours[modern]] = tensor.to(known.dtype)
            if tensor.shape != known.shape:
                problems.append(
                    f"{file.name(name)} has shape {tuple(tensor.shape)}, where the model has {tuple(known.shape)}"
                )
                wrong.append(name)
        elif (reason := layout.unused(name)) is not None:
            report.unused[file.name(name)] = reason
        else:
            problems.append(f"{file.name(name)}, of shape {tuple(tensor.shape)}, has no place in the model")
            wrong.append(name)
    for name in [name for name in ours if ours[name] not in state]:
        problems.append(f"it lacks {file.name(name)}, of shape {tuple(expected[ours[name]].shape)}")
        wrong.append(name)
    if problems:
        more = f"; and {len(problems) - 5} more" if len(problems) > 5 else ""
        unknown = [name for name, reason in report.unused.items() if reason == _UNKNOWN]
        in_encoder = layout.encoder is not None and any(name.startswith(layout.encoder) for name in wrong)
        of_what = "encoder" if in_encoder else "method"
        raise OriginalCheckpointError(
            f"{file.path}: {'; '.join(problems[:5])}{more}. "
            + ("" if layout.encoder is None else f"Pass the {of_what} that the checkpoint was trained with. ")
            + "Pass the whole file, and no setting that changes its tensors."
            + (f" Of no known part are: {', '.join(unknown[:5])}." if unknown else "")
        )
    model.load_state_dict(state)
    report.used = len(state)
    return report


__all__ = ["ImportReport", "Layout", "load_published", "refuse_full_folder"]
