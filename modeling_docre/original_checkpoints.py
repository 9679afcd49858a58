"""Checkpoints that the methods' authors published, as checkpoints of this library."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig

from .checkpoints import DEFAULT_MODEL
from .configuration_docre import DocREConfig
from .markers import missing_markers
from .methods import METHODS, find_method
from .modeling_docre import DocREForRelationExtraction
from .processing_docre import DocREProcessor

# Rows and columns of the published entity tables, the length at which documents are cut, and that of a window.
_PUBLISHED_TABLE = 42
_PUBLISHED_LENGTH = 1024
_PUBLISHED_WINDOW = 512
# DocuNet's markers by type: the i-th takes BERT's [unused(2i + 1)] and [unused(2i + 51)].
_DOCUNET_TYPES = ["ORG", "LOC", "TIME", "PER", "MISC", "NUM"]

_BILINEAR = {
    "head_extractor": "head.head_projection",
    "tail_extractor": "head.tail_projection",
    "bilinear": "head.classifier",
}
_AXIAL = {
    **_BILINEAR,
    "bilinear": None,
    "projection": "head.projection",
    "classifier": "head.classifier",
    r"axial_transformer\.axial_attns\.(\d+)\.axial_attentions\.0\.fn": r"head.layers.\1.columns",
    r"axial_transformer\.axial_attns\.(\d+)\.axial_attentions\.1\.fn": r"head.layers.\1.rows",
    r"axial_transformer\.ffns\.(\d+)": r"head.layers.\1.feed_forward",
    r"axial_transformer\.lns\.(\d+)": r"head.layers.\1.norm",
}
_UNET = {
    **_BILINEAR,
    "liner": "head.channels",
    r"segmentation_net\.outc\.conv": "head.unet.out",
    **{
        rf"segmentation_net\.{theirs}\.double_conv\.{number}": f"head.unet.{ours}.{layer}"
        for theirs, ours in (
            (r"inc\.conv", "inside"),
            (r"down1\.maxpool_conv\.1", "down1"),
            (r"down2\.maxpool_conv\.1", "down2"),
            (r"up1\.conv", "up1"),
            (r"up2\.conv", "up2"),
        )
        for number, layer in enumerate(("first", "first_norm", None, "second", "second_norm"))
        if layer is not None
    },
}


@dataclass(frozen=True)
class _Layout:
    """How published code names its tensors.

    Args:
        sign (`str`): A part of a name that only this layout has.
        encoder (`str`): What stands before the encoder's own names.
        names (`dict[str, str]`): Pattern of a module's name to ours; `None` where we have no such module.
    """

    sign: str
    encoder: str
    names: Mapping[str, str | None]


_LAYOUTS: dict[str, _Layout] = {
    "axial": _Layout("axial_transformer.", "model.", _AXIAL),
    "unet": _Layout("segmentation_net.", "bert_model.", _UNET),
    "bilinear": _Layout("head_extractor.", "model.", _BILINEAR),
}


class OriginalCheckpointError(ValueError):
    """A file that is not the checkpoint that it should be; the message says what to write instead."""


@dataclass
class ImportReport:
    """What became of a file's tensors.

    Args:
        used (`int`): How many are in the model.
        unused (`dict[str, str]`): The others, with the reason.
        tokenizer (`bool`): Whether the encoder's tokenizer was there, and was saved too.
    """

    used: int = 0
    unused: dict[str, str] = field(default_factory=dict)
    tokenizer: bool = False


def import_checkpoint(
    file: str | os.PathLike[str],
    method: str,
    encoder: str | os.PathLike[str] | PreTrainedConfig,
    output: str | os.PathLike[str] | None = None,
    *,
    relations: Sequence[str] | Mapping[str, str] | None = None,
    **settings: Any,
) -> tuple[DocREForRelationExtraction, ImportReport]:
    """Make a model of a checkpoint that the authors of a method published.

    Widths are read off the tensors. The model's config has the `reference` settings, so that it computes what the
    published code computes: two windows at most, KD-DocRE's and VaeDiff's tables of 42 rows whose padding takes part,
    and so on. ATLOP, NCRL and PEMSCL share one layout, as KD-DocRE and VaeDiff-DocRE (stages 1 and 3) do: which of
    them a file is, only you know.

    Args:
        file (`str` or `os.PathLike`):
            `.safetensors`, or what `torch.save` wrote (`.pt`, `.bin`, ...), read with `weights_only=True`; a state
            dict, or a dict that holds it as `checkpoint`, `state_dict` or `model`.
        method (`str`): Row of the table of methods.
        encoder (`str`, `os.PathLike` or `PreTrainedConfig`):
            The encoder's configuration, or the Hub id or folder of a `config.json`; the file brings the weights.
        output (`str` or `os.PathLike`, *optional*):
            Folder to save the model to, and its processor where the encoder's tokenizer is beside its configuration.
        relations (`Sequence[str]` or `Mapping[str, str]`, *optional*):
            Relation ids in class order, class 0 left out, or ids with words; DocRED's 96 when left out.
        settings: Any field of [`DocREConfig`].

    Returns:
        [`DocREForRelationExtraction`] and [`ImportReport`].

    Raises:
        OriginalCheckpointError: when the file cannot be read, is of another method, lacks a tensor or has one of
            another shape.
        ValueError: for an unknown method.
        OSError: when there is no such encoder.
    """
    row = find_method(method)
    config = encoder if isinstance(encoder, PreTrainedConfig) else AutoConfig.from_pretrained(os.fspath(encoder))
    tensors = _read(Path(file))
    layout = _check_layout(file, method, row.head, tensors)
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    try:
        fields = _read_widths(row.head, shapes)
    except (KeyError, IndexError, ValueError) as error:
        raise OriginalCheckpointError(
            f"{file}: a tensor that every {method} checkpoint has is missing or has another shape: {error}."
        ) from None
    classes = fields.pop("classes")
    if not isinstance(encoder, PreTrainedConfig) and os.path.isdir(os.fspath(encoder)):
        # A folder of this machine means nothing to whoever loads the checkpoint.
        config._name_or_path = ""
    names = _relations(file, relations, classes)
    reference = _reference_settings(method, config)
    for name in ("loss_arguments", "contrastive_arguments"):
        if name in reference and name in settings:
            settings[name] = {**reference[name], **settings[name]}
    config = DocREConfig.for_method(method, names, encoder_config=config, **{**reference, **fields, **settings})
    model = DocREForRelationExtraction(config)
    report = _load(file, model, tensors, layout)
    if output is not None:
        model.save_pretrained(output)
        report.tokenizer = not isinstance(encoder, PreTrainedConfig) and _save_processor(encoder, config, output)
    return model.eval(), report


def _save_processor(encoder: str | os.PathLike[str], config: DocREConfig, output: str | os.PathLike[str]) -> bool:
    try:
        tokenizer = AutoTokenizer.from_pretrained(os.fspath(encoder))
    except (OSError, ValueError, TypeError, KeyError):
        return False  # a configuration alone; transformers has many words for that
    # Of a configuration alone transformers may also make a tokenizer that knows no words.
    if missing_markers(tokenizer, config):
        return False
    if len(tokenizer) > config.get_text_config().vocab_size:
        return False  # another encoder's: its tokens would have no embeddings
    processor = DocREProcessor(tokenizer, config)
    processor.save_pretrained(output)
    return True


def _read(path: Path) -> dict[str, Tensor]:
    """Read a state dict."""
    if not path.is_file():
        raise OriginalCheckpointError(f"{path}: there is no such file (working directory: {os.getcwd()}).")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpicklers raise whatever a broken file makes of them
        refused = re.search(r"Unsupported \w+: [\w. ]+", str(error))
        lines = str(error).splitlines() or [type(error).__name__]
        reason = refused[0] if refused else lines[0]
        raise OriginalCheckpointError(
            f"{path}: no file of weights that can be read ({reason}). It may hold more than tensors: where you trust "
            "it, load it once with torch.load(..., weights_only=False) and save {name: tensor} with safetensors."
        ) from None
    for key in ("checkpoint", "state_dict", "model"):
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if not isinstance(found, Mapping):
        raise OriginalCheckpointError(f"{path}: a {type(found).__name__}, where a state dict should be.")
    tensors = {str(name): value for name, value in found.items() if isinstance(value, Tensor)}
    if not tensors:
        raise OriginalCheckpointError(f"{path}: a dict without tensors ({', '.join(map(str, list(found)[:5]))}).")
    # What several GPUs in one process leave behind.
    return {name.removeprefix("module."): tensor for name, tensor in tensors.items()}


def _check_layout(file: Any, method: str, head: str, tensors: Mapping[str, Tensor]) -> _Layout:
    found = next(
        (key for key, layout in _LAYOUTS.items() if any(name.startswith(layout.sign) for name in tensors)), None
    )
    if found is None:
        if any(name.startswith("docre.") for name in tensors):
            raise OriginalCheckpointError(
                f"{file} is a checkpoint of this library: load its folder with from_pretrained, nothing is imported."
            )
        if any(name.startswith(("online_model.", "ema_model.", "log_sigma.")) for name in tensors):
            raise OriginalCheckpointError(
                f"{file} is a VAE or denoiser of VaeDiff-DocRE's stage 2, not a relation model."
            )
        raise OriginalCheckpointError(
            f"{file} has none of the published layouts: no tensor begins with "
            f"{', '.join(layout.sign for layout in _LAYOUTS.values())} (it has {', '.join(list(tensors)[:3])}, ...)."
        )
    if found != head:
        fits = [row.name for row in METHODS if row.head == found]
        raise OriginalCheckpointError(
            f"{file} is no {method} checkpoint: its {_LAYOUTS[found].sign}* tensors are those of {' or '.join(fits)}. "
            f"Pass --method {'|'.join(fits)}."
        )
    return _LAYOUTS[found]


def _read_widths(head: str, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    emb_size = shapes["head_extractor.weight"][0]
    fields: dict[str, Any] = {"emb_size": emb_size}
    if head == "axial":
        fields["block_size"] = shapes["projection.weight"][1] // emb_size
        layers = {name.split(".")[2] for name in shapes if name.startswith("axial_transformer.lns.")}
        fields["axial_layers"] = len(layers)
        fields["classes"] = shapes["classifier.weight"][0]
        return fields
    fields["classes"] = shapes["bilinear.weight"][0]
    fields["block_size"] = shapes["bilinear.weight"][1] // emb_size
    if head == "unet":
        fields["unet_channels"] = shapes["liner.weight"][0]
        fields["unet_width"] = shapes["segmentation_net.inc.conv.double_conv.0.weight"][0]
        fields["unet_outputs"] = shapes["segmentation_net.outc.conv.weight"][0]
    return fields


def _reference_settings(method: str, encoder: PreTrainedConfig) -> dict[str, Any]:
    """What the published code does and we do by request alone."""
    row = find_method(method)
    bert = encoder.model_type == "bert"
    settings: dict[str, Any] = {
        "max_length": _PUBLISHED_LENGTH,
        "window_size": _PUBLISHED_WINDOW,
        "window_mode": "reference",
        # The published code knows BERT, and takes everything else for RoBERTa.
        "end_tokens": 1 if bert else 2,
    }
    if row.head != "bilinear":
        settings |= {"pad_to": _PUBLISHED_TABLE, "mask_padding": False}
    if row.head == "axial":
        settings["include_diagonal_in_mean"] = True
    if row.head == "unet" and bert:
        settings |= {"marker_style": "unused", "entity_types": _DOCUNET_TYPES}
    if row.loss == "pmt":
        settings["loss_arguments"] = {"reference_broadcast": True}
    if "contrastive_arguments" in row.settings:
        settings["contrastive_arguments"] = {**row.settings["contrastive_arguments"], "reference": True}
    return settings


def _relations(
    file: Any, relations: Sequence[str] | Mapping[str, str] | None, classes: int
) -> Sequence[str] | Mapping[str, str]:
    if relations is None:
        docred: DocREConfig = DocREConfig.from_pretrained(DEFAULT_MODEL)
        relations = {name: docred.relation_label(name) for name in docred.relations}
    if len(relations) + 1 != classes:
        raise OriginalCheckpointError(
            f"{file} has {classes} classes, one of which is the threshold class, but there are {len(relations)} "
            "relations. Pass those it was trained with, in the order of its classes."
        )
    return relations


def _load(
    file: Any, model: DocREForRelationExtraction, tensors: Mapping[str, Tensor], layout: _Layout
) -> ImportReport:
    report = ImportReport()
    expected = model.state_dict()
    rename = _renamer(layout)
    state: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        ours, reason = rename(name)
        if ours is not None and ours not in expected:
            raise OriginalCheckpointError(f"{file}: {name} has no place in the model. {_remedy(name, layout)}")
        if ours is None:
            report.unused[name] = reason
            continue
        if tensor.shape != expected[ours].shape:
            raise OriginalCheckpointError(
                f"{file}: {name} has shape {tuple(tensor.shape)}, where the model has {tuple(expected[ours].shape)}. "
                f"{_remedy(name, layout)}"
            )
        state[ours] = tensor.to(expected[ours].dtype)
    missing = [name for name in expected if name not in state]
    if missing:
        raise OriginalCheckpointError(
            f"{file} lacks {len(missing)} of the model's tensors: {', '.join(missing[:5])}"
            f"{', ...' if len(missing) > 5 else ''}. Is it of this method, and this its encoder? Not used were: "
            f"{', '.join(list(report.unused)[:5]) or 'none'}."
        )
    model.load_state_dict(state)
    report.used = len(state)
    return report


def _remedy(name: str, layout: _Layout) -> str:
    if name.startswith(layout.encoder):
        return "Pass the encoder that the checkpoint was trained from."
    return "Is it of this method, whole, and with these settings?"


def _renamer(layout: _Layout) -> Callable[[str], tuple[str | None, str]]:
    """Return what gives our name for a published one, or `None` and why there is none."""
    patterns = [(re.compile(rf"^{pattern}\.(?P<part>[\w.]+)$"), ours) for pattern, ours in layout.names.items()]

    def rename(name: str) -> tuple[str | None, str]:
        if name.startswith(layout.encoder):
            own = name.removeprefix(layout.encoder)
            if own.startswith("pooler."):
                return None, "the encoder's pooler, which no method reads"
            if own.endswith("position_ids"):
                return None, "a constant of older versions of transformers"
            # As the first versions of BERT's weights have it.
            own = re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", own))
            return f"docre.encoder.{own}", ""
        for pattern, ours in patterns:
            match = pattern.match(name)
            if match is None:
                continue
            if ours is None:
                return None, "a layer that the published code makes and does not use"
            return f"{match.expand(ours)}.{match['part']}", ""
        return None, "no part of this model has that name"

    return rename


__all__ = ["ImportReport", "OriginalCheckpointError", "import_checkpoint"]
