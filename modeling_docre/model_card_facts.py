"""What a model card is made of: text that stays text on a web page, settings, and papers."""

from __future__ import annotations

import dataclasses
import html
import platform
import re
from collections.abc import Mapping, Sequence
from importlib import metadata
from types import MappingProxyType
from typing import Any

from .configuration_docre import DocREConfig
from .training_arguments import FOLDERS, DocRETrainingArguments, without_folders

# Text

# Control characters, and those that turn the direction of what follows.
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]+")
_MARKDOWN = re.compile(r"[\\`*\[\]|~$]|(?<![^\W_])_|_(?![^\W_])")
_LINK = re.compile(r"(?<=:)//|(?<=www)\.|@", re.IGNORECASE)


def plain(text: object) -> str:
    """
    One line that Markdown and HTML show as it is.

    Args:
        text (`object`): What to write; `str` of it is.

    Returns:
        `str`: The text in one line, with everything escaped that Markdown, its tables or HTML would read as more
        than text; addresses are no links.
    """
    line = " ".join(_UNSEEN.sub(" ", str(text)).split()).encode("utf-8", "replace").decode("utf-8")
    # Some pages set formulas between `\\(` and `\\)`, so that a backslash before a bracket can't mean itself.
    line = _MARKDOWN.sub(
        lambda match: f"&#{ord(match[0])};" if match[0] in "\\|" else f"\\{match[0]}", html.escape(line, quote=False)
    )
    return _LINK.sub(lambda match: "".join(f"&#{ord(character)};" for character in match[0]), line)


def percent(value: float | None) -> str:
    """A fraction in percent, to one digit: `"59.4"`."""
    return "" if value is None else f"{100 * value:.1f}"


def duration(seconds: float) -> str:
    """A duration in the two units that matter: `"1 h 3 min"`, `"12 s"`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes = whole // 60
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {whole % 60} s"


def count(number: int, noun: str) -> str:
    """A number with its noun: `"1 relation"`, `"1,234 facts"`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table, its cells escaped."""
    lines = [list(header), ["---"] * len(header), *([plain(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


# Settings

# What a reader looks for first. The rest is named where it differs from its default. Only what is listed is written:
# other settings hold folders, tokens and addresses of this machine.
_ALWAYS = (
    "learning_rate",
    "per_device_train_batch_size",
    "optim",
    "lr_scheduler_type",
    "warmup_steps",
    "weight_decay",
    "max_grad_norm",
    "seed",
)
_WHERE_CHANGED = (
    "head_learning_rate",
    "module_learning_rates",
    "head_weight_decay",
    "gradient_accumulation_steps",
    "max_pairs_per_batch",
    "normalise",
    "freeze_layers",
    "freeze_embeddings",
    "teacher",
    "soft_labels",
    "prior_bias",
    "tune_threshold",
    "half_precision_weights",
    "early_stopping_patience",
    "era_max_facts",
    "era_scale_facts",
    "text_augmentation",
    "text_augmentation_probability",
    "text_augmentation_copies",
    "augmentation",
    "augmentation_copies",
    "augmentation_warmup_epochs",
    "augmentation_warmup_contrastive",
    "augmentation_noise",
    "augmentation_bank",
    "generator",
    "generator_of",
    "load_best_model_at_end",
    "max_steps",
    "lr_scheduler_kwargs",
    "adam_beta1",
    "adam_beta2",
    "adam_epsilon",
    "train_sampling_strategy",
    "data_seed",
    "full_determinism",
    "bf16",
    "fp16",
    "tf32",
    "torch_compile",
)


def hyper_parameters(
    args: DocRETrainingArguments, passed: Mapping[str, Any] = MappingProxyType({})
) -> list[tuple[str, str]]:
    """
    The settings of a training run that its reader needs.

    Args:
        args ([`DocRETrainingArguments`]): All settings.
        passed (`Mapping[str, Any]`, *optional*):
            Names of models that were passed to the trainer as such, by the settings that would have named them.

    Returns:
        `list[tuple[str, str]]`: Names and values: the common ones, and others where they differ from their defaults.
    """
    defaults = {item.name: item.default for item in dataclasses.fields(DocRETrainingArguments)}
    rows = [("num_train_epochs", args.num_train_epochs)] if args.max_steps <= 0 else []
    rows += [(name, getattr(args, name)) for name in _ALWAYS]
    # Older versions of transformers lack some.
    given = {name: getattr(args, name) for name in _WHERE_CHANGED if name in defaults}
    given |= {name: value for name, value in passed.items() if value}
    changed = [(name, without_folders(value, always=name in FOLDERS)) for name, value in given.items()]
    rows += [(name, value) for name, value in changed if value not in (None, defaults[name])]
    return [
        (name, f"{value:g}" if isinstance(value, float) else str(getattr(value, "value", value)))
        for name, value in rows
    ]


def versions() -> list[tuple[str, str]]:
    """Names and versions of what the model was trained with."""
    names = ("modeling-docre", "torch", "transformers", "tokenizers", "accelerate", "datasets")
    found = [("Python", platform.python_version())]
    for name in names:
        try:
            found.append((name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            continue
    return found


# Papers

SOFTWARE = """\
@software{modeling_docre,
    title = {modeling-docre},
    author = {{The modeling-docre authors}},
    version = {VERSION},
    license = {Apache-2.0},
}"""

ATLOP = """\
@inproceedings{zhou2021atlop,
    title = {Document-level relation extraction with adaptive thresholding and localized context pooling},
    author = {Zhou, Wenxuan and Huang, Kevin and Ma, Tengyu and Huang, Jing},
    booktitle = {Proceedings of the AAAI Conference on Artificial Intelligence},
    volume = {35},
    pages = {14612--14620},
    year = {2021},
}"""

PEMSCL = """\
@inproceedings{guo2023pemscl,
    title = {Towards integration of discriminability and robustness for document-level relation extraction},
    author = {Guo, Jia and Kok, Stanley and Bing, Lidong},
    booktitle = {Proceedings of the 17th Conference of the European Chapter of the Association for Computational
        Linguistics},
    pages = {2606--2617},
    year = {2023},
}"""

KD_DOCRE = """\
@inproceedings{tan2022kddocre,
    title = {Document-level relation extraction with adaptive focal loss and knowledge distillation},
    author = {Tan, Qingyu and He, Ruidan and Bing, Lidong and Ng, Hwee Tou},
    booktitle = {Findings of the Association for Computational Linguistics: ACL 2022},
    pages = {1672--1681},
    year = {2022},
}"""

DOCUNET = """\
@inproceedings{zhang2021docunet,
    title = {Document-level relation extraction as semantic segmentation},
    author = {Zhang, Ningyu and Chen, Xiang and Xie, Xin and Deng, Shumin and Tan, Chuanqi and Chen, Mosha and
        Huang, Fei and Si, Luo and Chen, Huajun},
    booktitle = {Proceedings of the Thirtieth International Joint Conference on Artificial Intelligence},
    pages = {3999--4006},
    year = {2021},
}"""

PAEE = """\
@inproceedings{huang2022paee,
    title = {Document-level relation extraction via pair-aware and entity-enhanced representation learning},
    author = {Huang, Xiusheng and Yang, Hang and Chen, Yubo and Zhao, Jun and Liu, Kang and Sun, Weijian and
        Zhao, Zuyu},
    booktitle = {Proceedings of the 29th International Conference on Computational Linguistics},
    pages = {2418--2428},
    year = {2022},
}"""

NCRL = """\
@inproceedings{zhou2022ncrl,
    title = {None class ranking loss for document-level relation extraction},
    author = {Zhou, Yang and Lee, Wee Sun},
    booktitle = {Proceedings of the Thirty-First International Joint Conference on Artificial Intelligence},
    pages = {4538--4544},
    year = {2022},
}"""

VAEDIFF = """\
@inproceedings{tran2025vaediff,
    title = {{VaeDiff-DocRE}: end-to-end data augmentation framework for document-level relation extraction},
    author = {Tran, Khai Phan and Hua, Wen and Li, Xue},
    booktitle = {Proceedings of the 31st International Conference on Computational Linguistics},
    year = {2025},
}"""

ERA = """\
@misc{du2022era,
    title = {Improving long tailed document-level relation extraction via easy relation augmentation and contrastive
        learning},
    author = {Du, Yangkai and Ma, Tengfei and Wu, Lingfei and Wu, Yiming and Zhang, Xuhong and Long, Bo and
        Ji, Shouling},
    eprint = {2205.10511},
    archiveprefix = {arXiv},
    year = {2022},
}"""

HEADS = {
    "bilinear": ("grouped bilinear with localized context pooling (Zhou et al., 2021)", ATLOP),
    "axial": ("axial attention over the entity table (Tan et al., 2022)", KD_DOCRE),
    "unet": ("U-Net over the entity table (Zhang et al., 2021)", DOCUNET),
    "pair-aware": ("pair-aware and entity-enhanced (Huang et al., 2022)", PAEE),
}
"""By pair head: what it is, and its paper."""

LOSSES = {
    "atl": ("adaptive thresholding (Zhou et al., 2021)", ATLOP),
    "pmt": ("pairwise moving threshold (Guo et al., 2023)", PEMSCL),
    "afl": ("adaptive focal (Tan et al., 2022)", KD_DOCRE),
    "ncrl": ("none-class ranking (Zhou and Lee, 2022)", NCRL),
    "balanced": ("balanced softmax (Zhang et al., 2021)", DOCUNET),
    "adaptive": ("adaptive softmax (Huang et al., 2022)", PAEE),
    "bce": ("binary cross-entropy", None),
}
"""By loss: what it is, and its paper, if it takes one."""


def citations(config: DocREConfig, version: str) -> str:
    """
    What to cite.

    Args:
        config ([`DocREConfig`]): The pair head and the losses.
        version (`str`): The version of this library.

    Returns:
        `str`: BibTeX of the library and of the papers.
    """
    contrastive = {"pemscl": PEMSCL, "vaediff": VAEDIFF}[config.contrastive_arguments.get("form", "pemscl")]
    papers = [
        HEADS[config.head][1],
        LOSSES[config.loss][1],
        contrastive if config.contrastive_weight else None,
        ERA if config.era_copies else None,
    ]
    return "\n\n".join(dict.fromkeys([SOFTWARE.replace("VERSION", version), *filter(None, papers)]))


__all__ = [
    "HEADS",
    "LOSSES",
    "citations",
    "count",
    "duration",
    "hyper_parameters",
    "percent",
    "plain",
    "table",
    "versions",
]
