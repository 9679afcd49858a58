"""Checkpoints that the methods' authors published, as checkpoints of this library."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedConfig

from .checkpoints import DEFAULT_MODEL
from .configuration_checks import check_relations
from .configuration_docre import DocREConfig, encoder_window
from .encoders import load_encoder_config
from .markers import missing_markers
from .methods import METHODS, find_method
from .modeling_docre import DocREForRelationExtraction
from .processing_docre import DocREProcessor
from .published_layouts import ImportReport, Layout, load_published, refuse_full_folder
from .tensor_files import OriginalCheckpointError, TensorFile, read_tensors

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
    "head_extractor": "head.head_projection",
    "tail_extractor": "head.tail_projection",
    "projection": "head.projection",
    "classifier": "head.classifier",
    "axial_transformer.axial_attns.{}.axial_attentions.0.fn": "head.layers.{}.columns",
    "axial_transformer.axial_attns.{}.axial_attentions.1.fn": "head.layers.{}.rows",
    "axial_transformer.ffns.{}": "head.layers.{}.feed_forward",
    "axial_transformer.lns.{}": "head.layers.{}.norm",
}
_UNET = {
    **_BILINEAR,
    "liner": "head.channels",
    "segmentation_net.outc.conv": "head.unet.out",
    **{
        f"segmentation_net.{theirs}.double_conv.{number}": f"head.unet.{ours}.{layer}"
        for theirs, ours in (
            ("inc.conv", "inside"),
            ("down1.maxpool_conv.1", "down1"),
            ("down2.maxpool_conv.1", "down2"),
            ("up1.conv", "up1"),
            ("up2.conv", "up2"),
        )
        for number, layer in ((0, "first"), (1, "first_norm"), (3, "second"), (4, "second_norm"))
    },
}
_LAYOUTS: dict[str, Layout] = {
    "axial": Layout(
        "axial_transformer.", _AXIAL, "model.", {"bilinear": "a layer that the published code makes and does not use"}
    ),
    "unet": Layout("segmentation_net.", _UNET, "bert_model."),
    "bilinear": Layout("head_extractor.", _BILINEAR, "model."),
}


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
            dict, or a dict that holds it as `checkpoint`, `model_state_dict`, `state_dict` or `model`. Names may begin
            with what `torch.compile` or several GPUs in one process put before them.
        method (`str`): Row of the table of methods.
        encoder (`str`, `os.PathLike` or `PreTrainedConfig`):
            The encoder's configuration, or the Hub id or folder of a `config.json`; the file brings the weights. Of a
            model of this library, its encoder's.
        output (`str` or `os.PathLike`, *optional*):
            Folder to save the model to, and its processor where the encoder's tokenizer is beside its configuration.
        relations (`Sequence[str]` or `Mapping[str, str]`, *optional*):
            Relation ids in class order, class 0 left out, or ids with words; DocRED's 96 when left out.
        settings: Any field of [`DocREConfig`].

    Returns:
        [`DocREForRelationExtraction`] and [`ImportReport`].

    Raises:
        OriginalCheckpointError: when the file cannot be read, is of another method, lacks a tensor or has one of
            another shape, tensors being called as in the file; or something is in the output folder.
        ValueError: for an unknown method, or one string for `relations`.
        OSError: when there is no such encoder.
    """
    row = find_method(method)
    if not row.published:
        shared = " ATLOP's, with which their network shares its layout, is imported with --method atlop."
        raise OriginalCheckpointError(
            f"The authors of {method} published no code and no checkpoint.{shared if row.head == 'bilinear' else ''}"
        )
    refuse_full_folder(output)
    config = (
        copy.deepcopy(encoder) if isinstance(encoder, PreTrainedConfig) else load_encoder_config(os.fspath(encoder))
    )
    config = config.encoder if isinstance(config, DocREConfig) else config
    if relations is not None:
        check_relations(relations)
    read = read_tensors(Path(file))
    layout = _check_layout(read, method, row.head)
    fields = _read_widths(row.head, read)
    classes = fields.pop("classes")
    if not isinstance(encoder, PreTrainedConfig) and os.path.isdir(os.fspath(encoder)):
        # A folder of this machine means nothing to whoever loads the checkpoint.
        config._name_or_path = ""
    names = published_relations(file, relations, classes)
    reference = _reference_settings(method, config, settings.get("loss", row.loss))
    for name in ("loss_arguments", "contrastive_arguments"):
        if name in reference and name in settings:
            settings[name] = {**reference[name], **settings[name]}
    config = DocREConfig.for_method(method, names, encoder_config=config, **{**reference, **fields, **settings})
    model = DocREForRelationExtraction(config)
    report = load_published(read, model, layout)
    if output is not None:
        model.save_pretrained(output)
        if not isinstance(encoder, PreTrainedConfig):
            report.tokenizer, report.no_tokenizer = _save_processor(os.fspath(encoder), config, output)
    return model.eval(), report


def _save_processor(encoder: str, config: DocREConfig, output: str | os.PathLike[str]) -> tuple[bool, str]:
    """Save the processor with the encoder's tokenizer; return whether there is one that goes with the model, or why
    the one that is there does not.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(encoder)
    except (OSError, ValueError, TypeError, KeyError):
        return False, ""  # a configuration alone; transformers has many words for that
    # Of a configuration alone transformers may also make a tokenizer that knows no words.
    if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):
        return False, ""
    if missing := missing_markers(tokenizer, config):
        return False, f"lacks the markers {' '.join(missing)}"
    words = config.get_text_config().vocab_size
    if len(tokenizer) > words:
        return False, f"has {len(tokenizer):,} words, but the file embeddings of {words:,}"
    DocREProcessor(tokenizer, config).save_pretrained(output)
    return True, ""


def _check_layout(file: TensorFile, method: str, head: str) -> Layout:
    tensors = file.tensors
    found = next(
        (key for key, layout in _LAYOUTS.items() if any(name.startswith(layout.sign) for name in tensors)), None
    )
    if found is None:
        if any(name.startswith("docre.") for name in tensors):
            raise OriginalCheckpointError(
                f"{file.path} is a checkpoint of this library: load its folder with from_pretrained, nothing is "
                "imported."
            )
        if any(name.startswith(("online_model.", "ema_model.", "log_sigma.")) for name in tensors):
            raise OriginalCheckpointError(
                f"{file.path} is a VAE or denoiser of VaeDiff-DocRE's stage 2, not a relation model."
            )
        some = ", ".join(map(file.name, list(tensors)[:3]))
        raise OriginalCheckpointError(
            f"{file.path} has none of the published layouts: no tensor begins with "
            f"{', '.join(layout.sign for layout in _LAYOUTS.values())} (it has {some}, ...)."
        )
    if found != head:
        fits = [row.name for row in METHODS if row.head == found and row.published]
        raise OriginalCheckpointError(
            f"{file.path} is no {method} checkpoint: its {_LAYOUTS[found].sign}* tensors are those of "
            f"{' or '.join(fits)}. Pass --method {'|'.join(fits)}."
        )
    return _LAYOUTS[found]


def _read_widths(head: str, file: TensorFile) -> dict[str, Any]:
    emb_size = file.shape("head_extractor.weight", 2)[0]
    joined = "projection.weight" if head == "axial" else "bilinear.weight"
    rows, columns = file.shape(joined, 2)
    block_size, rest = divmod(columns, emb_size)
    if rest or emb_size % block_size:
        raise OriginalCheckpointError(
            f"{file.path}: {file.name(joined)} has shape {(rows, columns)}, where the second number should be "
            f"{emb_size}, the rows of {file.name('head_extractor.weight')}, times a divisor of it. Is the file whole?"
        )
    fields: dict[str, Any] = {"emb_size": emb_size, "block_size": block_size, "classes": rows}
    if head == "axial":
        fields["axial_layers"] = file.count(r"axial_transformer\.\w+\.(\d+)\.")
        fields["classes"] = file.shape("classifier.weight", 2)[0]
    if head == "unet":
        fields["unet_channels"] = file.shape("liner.weight", 2)[0]
        first = "segmentation_net.inc.conv.double_conv.0.weight"
        fields["unet_width"] = file.shape(first, 4)[0]
        if fields["unet_width"] % 2:
            raise OriginalCheckpointError(
                f"{file.path}: {file.name(first)} has shape {file.shape(first, 4)}, where the first number should be "
                "even. Is the file whole?"
            )
        fields["unet_outputs"] = file.shape("segmentation_net.outc.conv.weight", 4)[0]
    return fields


def _reference_settings(method: str, encoder: PreTrainedConfig, loss: str) -> dict[str, Any]:
    """What the published code does and we do by request alone."""
    row = find_method(method)
    bert = encoder.model_type == "bert"
    settings: dict[str, Any] = {
        "max_length": _PUBLISHED_LENGTH,
        "window_size": min(_PUBLISHED_WINDOW, encoder_window(encoder)),
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
    if loss == "pmt":
        settings["loss_arguments"] = {"reference_broadcast": True}
    if "contrastive_arguments" in row.settings:
        settings["contrastive_arguments"] = {**row.settings["contrastive_arguments"], "reference": True}
    return settings


def published_relations(
    file: Any, relations: Sequence[str] | Mapping[str, str] | None, classes: int
) -> Sequence[str] | Mapping[str, str]:
    """Return the relations of a published file in class order: those that are given, or DocRED's, with their words.

    Raises:
        OriginalCheckpointError: when the file has another number of classes.
    """
    docred: DocREConfig = DocREConfig.from_pretrained(DEFAULT_MODEL)
    relations = docred.relations if relations is None else relations
    if len(relations) + 1 != classes:
        raise OriginalCheckpointError(
            f"{file} has {classes} classes, one of which is the threshold class, but there are {len(relations)} "
            "relations. Pass those it was trained with, in the order of its classes, class 0 left out."
        )
    if isinstance(relations, Mapping) or not set(relations) & docred.relation_names.keys():
        return relations
    return {name: docred.relation_names.get(name, name) for name in relations}


__all__ = ["ImportReport", "OriginalCheckpointError", "import_checkpoint", "published_relations"]
