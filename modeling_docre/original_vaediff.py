"""The authors' files of VaeDiff-DocRE's second stage as a generator of ours."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from .configuration_checks import check_relations
from .configuration_vaediff import VaeDiffConfig
from .original_checkpoints import published_relations
from .published_layouts import ImportReport, Layout, load_published, refuse_full_folder
from .tensor_files import OriginalCheckpointError, TensorFile, read_tensors
from .vaediff import VaeDiffModel
from .vaediff_parts import HEAD_WIDTH

_VAE = Layout(
    "log_sigma.",
    {
        **{f"encoder.{number}": f"encoder.{number}" for number in (0, 1, 3, 4, 6)},
        **{f"decoder.{number}": f"decoder.{number}" for number in (0, 2, 3, 5, 6)},
        "mu": "mean",
        "log_sigma": "log_variance",
    },
)
# The even half of the published layers, which attend, and the odd one, which feed forward.
_LAYER = (
    {"0.0": "attention_norm", "1.to_v": "value", "1.to_out": "out"},
    {
        "0.0": "norm",
        "0.1": "after_norm",
        "1.ff.0.proj": "up",
        "1.ff.3": "down",
        "2.scale_shift.time_mlp.1": "scale_shift",
    },
)
_AVERAGE, _LEARNER = "ema_model.", "online_model."
_ALONE = "weighs the one vector that is attended to, which changes nothing"


def _denoiser(layers: int) -> Layout:
    modules = {
        "init_self_cond": "no_estimate",
        "class_embedding": "class_embedding",
        "class_embedding_mlp": "class_projection",
        "time_mlp.1": "step_projection.0",
        "time_mlp.3": "step_projection.2",
        "time_pos_embed_mlp.1": "step_input",
        "input_proj": "input",
        "norm": "norm",
        "output_proj": "output",
    }
    for number in range(2 * layers):
        for theirs, ours in _LAYER[number % 2].items():
            modules[f"encoder.layers.{number}.{theirs}"] = f"layers.{number // 2}.{ours}"
    idle = {f"encoder.layers.{{}}.1.to_{name}": _ALONE for name in "qk"}
    return Layout("time_pos_embed_mlp.", modules, idle=idle)


def import_generator(
    vae: str | os.PathLike[str],
    prior: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    relations: Sequence[str] | Mapping[str, str] | None = None,
    **settings: Any,
) -> tuple[VaeDiffModel, ImportReport]:
    """Make a generator of the two files that the second stage of VaeDiff-DocRE saves.

    Widths are read off the tensors. Of the prior's file the moving average is taken. Samples are drawn with the
    relations known at every step; `class_at_every_step=False` is what the published code does.

    Args:
        vae (`str` or `os.PathLike`): The autoencoder, as for [`import_checkpoint`].
        prior (`str` or `os.PathLike`): The denoiser: its average and what was averaged, or one of them by itself.
        output (`str` or `os.PathLike`, *optional*): Folder to save the generator to.
        relations (`Sequence[str]` or `Mapping[str, str]`, *optional*):
            Relation ids in class order, class 0 left out, or ids with words; DocRED's 96 when left out.
        settings: Any field of [`VaeDiffConfig`].

    Returns:
        [`VaeDiffModel`] and [`ImportReport`].

    Raises:
        OriginalCheckpointError: when a file cannot be read, is something else, lacks a tensor or has one of another
            shape, tensors being called as in the file; or something is in the output folder.
        ValueError: for a setting that has a wrong value.
    """
    refuse_full_folder(output)
    if relations is not None:
        check_relations(relations)
    autoencoder, denoiser = read_tensors(Path(vae)), _average_of(read_tensors(Path(prior)))
    layers = denoiser.count(r"encoder\.layers\.(\d+)\.") // 2
    layout = _denoiser(layers)
    for file, expected, what in ((autoencoder, _VAE, "autoencoder"), (denoiser, layout, "denoiser")):
        if not any(name.startswith(expected.sign) for name in file.tensors):
            raise OriginalCheckpointError(
                f"{file.path} is no {what} of VaeDiff-DocRE: none of its tensors begins with {expected.sign}. Pass "
                "the autoencoder's file first and the denoiser's as the prior."
            )
    classes, width = denoiser.shape("class_embedding.weight", 2)
    names = published_relations(prior, relations, classes)
    fields = {
        "embedding_size": autoencoder.shape("encoder.1.weight", 2)[1],
        "latent_size": autoencoder.shape("encoder.6.weight", 2)[0],
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": denoiser.shape("encoder.layers.0.1.to_v.weight", 2)[0] // HEAD_WIDTH,
        "relations": list(names),
        "relation_names": dict(names) if isinstance(names, Mapping) else {},
    }
    model = VaeDiffModel(VaeDiffConfig(**{**fields, **settings}))
    reports = [load_published(autoencoder, model.vae, _VAE), load_published(denoiser, model.denoiser, layout)]
    if output is not None:
        model.save_pretrained(output)
    report = ImportReport(
        used=sum(one.used for one in reports),
        unused={name: reason for one in reports for name, reason in one.unused.items()},
        wrappers=[wrapper for one in reports for wrapper in one.wrappers],
    )
    return model.eval(), report


def _average_of(file: TensorFile) -> TensorFile:
    """The average alone, where a file holds it beside what was averaged."""
    if not any(name.startswith(_AVERAGE) for name in file.tensors):
        return file
    beside = {
        name: "what was averaged" if name.startswith(_LEARNER) else "no weight"
        for name in file.tensors
        if not name.startswith(_AVERAGE)
    }
    own = {name.removeprefix(_AVERAGE): value for name, value in file.tensors.items() if name.startswith(_AVERAGE)}
    return replace(
        file,
        tensors=own,
        wrappers=[*file.wrappers, _AVERAGE],
        prefix=file.prefix + _AVERAGE,
        beside={**file.beside, **beside},
    )


__all__ = ["import_generator"]
