"""The table of methods: a method is a row, not a fork."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from .names import suggest_name


class Method(NamedTuple):
    """One row of the table of methods: what fills a fresh [`DocREConfig`]."""

    name: str
    head: str
    loss: str
    decision: str
    settings: Mapping[str, Any] = MappingProxyType({})
    """Other fields in which the method differs from their defaults."""
    training: str = ""
    """What happens in training beyond the main loss."""
    published: bool = True
    """Whether its authors published code, whose checkpoints can be imported."""


# Of KD-DocRE's code, which VaeDiff-DocRE took over.
_AXIAL = {"emb_size": 1024, "context_head_reduce": "sum", "context_eps": 1e-10}

# What the paper takes for DocRED; 3 and 0.05 for HacRED.
_ERA = {"context_head_reduce": "first", "era_copies": 2, "era_mask_probability": 0.1}

METHODS: tuple[Method, ...] = (
    Method("atlop", head="bilinear", loss="atl", decision="threshold-class"),
    Method("atlop-bce", head="bilinear", loss="bce", decision="probability"),
    Method(
        "era",
        head="bilinear",
        loss="atl",
        decision="threshold-class",
        settings=_ERA,
        training="easy relation augmentation",
        published=False,
    ),
    Method(
        "eracl",
        head="bilinear",
        loss="atl",
        decision="threshold-class",
        settings=_ERA,
        training="easy relation augmentation, after contrastive pre-training on distant labels",
        published=False,
    ),
    Method("ncrl", head="bilinear", loss="ncrl", decision="threshold-class"),
    Method(
        "pemscl",
        head="bilinear",
        loss="pmt",
        decision="threshold-class",
        # What the paper takes for DocRED; 0.1 and 0.2 for Re-DocRED.
        settings={"emb_size": 1024, "contrastive_weight": 2.0, "contrastive_arguments": {"temperature": 2.0}},
        training="supervised contrastive loss",
    ),
    Method(
        "kd-docre",
        head="axial",
        loss="afl",
        decision="threshold-class",
        settings=_AXIAL,
        training="distillation, where there is a teacher",
    ),
    Method(
        "vaediff",
        head="axial",
        loss="pmt",
        decision="threshold-class",
        settings={**_AXIAL, "contrastive_weight": 2.0, "contrastive_arguments": {"form": "vaediff"}},
        training="supervised contrastive loss; generated pairs, where there is a generator",
    ),
    Method("docunet", head="unet", loss="balanced", decision="zero"),
    Method(
        "paee",
        head="pair-aware",
        loss="adaptive",
        decision="threshold-class",
        settings={"marker_style": "tags", "pad_to": 42, "mask_padding": False},
        training="losses of potential pairs, and of entities as heads and tails",
        published=False,
    ),
)

HEADS = ("bilinear", "axial", "unet", "pair-aware")
# What each loss trains: where a relation's logit has to lie above.
LOSSES: dict[str, tuple[str, ...]] = {
    "atl": ("threshold-class",),
    "afl": ("threshold-class",),
    "pmt": ("threshold-class",),
    "ncrl": ("threshold-class",),
    "balanced": ("zero", "probability"),
    "adaptive": ("threshold-class",),
    "bce": ("probability", "zero"),
}

DISTILLATION_LOSSES = ("mse", "kl")

# In words, for people.
_HEAD_NAMES = {
    "bilinear": "bilinear",
    "axial": "axial attention",
    "unet": "U-Net",
    "pair-aware": "pair grid, entity encoder",
}
_LOSS_NAMES = {
    "atl": "adaptive thresholding",
    "afl": "adaptive focal",
    "pmt": "pairwise moving threshold + entropy",
    "ncrl": "none-class ranking",
    "balanced": "balanced softmax",
    "adaptive": "adaptive softmax",
    "bce": "binary cross-entropy",
}
_DECISION_NAMES = {"threshold-class": "threshold class", "zero": "constant 0", "probability": "one probability"}


def find_method(name: str) -> Method:
    """Return the row of the table of methods called `name`.

    Raises:
        ValueError: when there is no such method; the message names the nearest, or all.
    """
    for method in METHODS:
        if method.name == name:
            return method
    raise ValueError(f"There is no method {name!r}.{suggest_name(str(name), [method.name for method in METHODS])}")


def methods_table() -> list[tuple[str, ...]]:
    """Return the table of methods for people, with its header: method, pair head, loss, decision, in training."""
    rows = [
        (
            f"`{row.name}`",
            _with_id(_HEAD_NAMES[row.head], row.head),
            _with_id(_LOSS_NAMES[row.loss], row.loss),
            _DECISION_NAMES[row.decision],
            row.training,
        )
        for row in METHODS
    ]
    return [("method", "pair head", "loss", "decision", "beside the loss"), *rows]


def _with_id(words: str, name: str) -> str:
    return words if words == name else f"{words} (`{name}`)"


__all__ = ["DISTILLATION_LOSSES", "HEADS", "LOSSES", "METHODS", "Method", "find_method", "methods_table"]
