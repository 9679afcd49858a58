"""What the settings of a [`DocREConfig`] may be."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from .decisions import DECISIONS
from .methods import DISTILLATION_LOSSES, HEADS, LOSSES, METHODS
from .names import nearest_name

if TYPE_CHECKING:
    from .configuration_docre import DocREConfig

THRESHOLD_CLASS = "NA"

_MARKER_STYLES = ("asterisk", "typed", "tags", "unused")
_AXIAL_ORDERS = ("parallel", "sequential")
_AXIAL_FORMS = ("code", "paper")
_WINDOW_MODES = ("cover", "reference")
_CONTEXT_REDUCTIONS = ("mean", "sum", "first")

_POSITIVE = (
    "emb_size",
    "block_size",
    "axial_heads",
    "unet_channels",
    "unet_width",
    "unet_outputs",
    "pair_type_size",
    "entity_encoder_layers",
    "entity_encoder_heads",
    "moco_queue_size",
    "moco_size",
)

# By the annotation of a setting.
_KINDS: dict[str, tuple[tuple[type, ...], str]] = {
    "bool": ((bool,), "True or False"),
    "int": ((int,), "a whole number"),
    "float": ((int, float), "a number"),
    "str": ((str,), "a name"),
    "list": ((list, tuple), "a list"),
    "dict": ((Mapping,), "a dict"),
}


def _check_kinds(config: DocREConfig, annotations: Mapping[str, str]) -> None:
    for name, annotation in annotations.items():
        kind = annotation.removesuffix(" | None").partition("[")[0]
        value = getattr(config, name)
        if kind not in _KINDS or "PreTrainedConfig" in annotation or (value is None and annotation.endswith("None")):
            continue
        fitting, words = _KINDS[kind]
        # Python takes True for 1.
        if not isinstance(value, fitting) or (isinstance(value, bool) and kind != "bool"):
            or_none = " or None" if annotation.endswith("None") else ""
            raise ValueError(f"{name}={value!r} is not {words}{or_none}.")


def _divisor(number: int, most: int) -> int:
    """Return the largest divisor of a number that is no larger than `most`, or 1."""
    return next((one for one in range(min(number, most), 1, -1) if number % one == 0), 1)


def check_choices(config: object, choices: Mapping[str, Sequence[str]]) -> None:
    """Check settings that are one of several words.

    Raises:
        ValueError: when one is another word; the message has those that it may be, and the nearest.
    """
    for name, allowed in choices.items():
        value = getattr(config, name)
        if value not in allowed:
            raise ValueError(
                f"{name}={value!r} is not one of {', '.join(map(repr, allowed))}.{nearest_name(str(value), allowed)}"
            )


def check_settings(config: DocREConfig, annotations: Mapping[str, str]) -> None:
    """Check every setting.

    Args:
        config ([`DocREConfig`]): The settings.
        annotations (`Mapping[str, str]`): What each is annotated with in the class.

    Raises:
        ValueError: when one is of another kind, out of its range, or does not go with the others; the message names
            it and what it may be.
    """
    _check_kinds(config, annotations)
    check_choices(
        config,
        {
            "method": tuple(m.name for m in METHODS),
            "head": HEADS,
            "loss": tuple(LOSSES),
            "distillation_loss": DISTILLATION_LOSSES,
            "decision": DECISIONS,
            "marker_style": _MARKER_STYLES,
            "window_mode": _WINDOW_MODES,
            "context_head_reduce": _CONTEXT_REDUCTIONS,
            "axial_order": _AXIAL_ORDERS,
            "axial_form": _AXIAL_FORMS,
            "grid_network": ("unet", "hard-attention"),
            "grid_fill": ("tile", "zeros"),
            "potential_feature": ("tag", "probability"),
            "moco_positives": ("mean", "sum"),
        },
    )
    check_classes(config.relations)
    _check_head(config)
    _check_markers(config)
    _check_pair_aware(config)
    _check_augmentation(config)
    _check_numbers(config)
    for pair in config.pair_types or ():
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise ValueError(f"pair_types has {pair!r}; each entry is a [head type, tail type].")


def _check_head(config: DocREConfig) -> None:
    for name in (*_POSITIVE, "pad_to"):
        value = getattr(config, name)
        if value is not None and value < 1:
            or_none = ", or None for no padding of tables" if name == "pad_to" else ""
            raise ValueError(f"{name}={value} is not positive; pass 1 or more{or_none}.")
    if config.emb_size % config.block_size:
        raise ValueError(
            f"emb_size={config.emb_size} is not a multiple of block_size={config.block_size}; pass one that is, or a "
            f"divisor, such as block_size={_divisor(config.emb_size, config.block_size)}."
        )
    if config.axial_layers < 0:
        raise ValueError(f"axial_layers={config.axial_layers} is no number of layers; pass 0 or more.")
    hidden = config.get_text_config().hidden_size
    if config.head == "axial" and hidden % config.axial_heads:
        raise ValueError(
            f"axial_heads={config.axial_heads} does not divide the encoder's hidden size of {hidden}; pass one that "
            f"does, such as axial_heads={_divisor(hidden, config.axial_heads)}."
        )
    reads_images = config.head == "unet" or (config.head == "pair-aware" and config.grid_network == "unet")
    if reads_images and config.unet_width % 2:
        raise ValueError(
            f"unet_width={config.unet_width} is odd, and the U-Net's last level has half of it; pass "
            f"unet_width={config.unet_width + 1}."
        )
    for name in ("contrastive_weight", "distillation_weight", "potential_weight", "role_weight"):
        value = getattr(config, name)
        if not 0.0 <= value < math.inf:
            raise ValueError(f"{name}={value} is no weight; pass a positive number, or 0 for no such loss.")


def _check_markers(config: DocREConfig) -> None:
    # From `[unused51]` on the closing ones follow.
    if config.marker_style == "unused" and len(config.entity_types) > 24:
        raise ValueError(
            f"marker_style='unused' has tokens for 24 entity types, not for {len(config.entity_types)}; a new model "
            "can have marker_style='typed', which adds its own."
        )


def _check_pair_aware(config: DocREConfig) -> None:
    hidden = config.get_text_config().hidden_size
    if config.head == "pair-aware" and config.use_entity_encoder and hidden % config.entity_encoder_heads:
        raise ValueError(
            f"entity_encoder_heads={config.entity_encoder_heads} does not divide the encoder's hidden size of "
            f"{hidden}; pass one that does, such as "
            f"entity_encoder_heads={_divisor(hidden, config.entity_encoder_heads)}."
        )
    check_pruning(config, config.prune_threshold)
    _check_threshold("potential_threshold", config.potential_threshold)
    if not 0.0 < config.attended_share <= 1.0:
        raise ValueError(f"attended_share={config.attended_share} is no part of the cells; pass above 0 and up to 1.")


def _predicts_pairs(config: DocREConfig) -> bool:
    return config.head == "pair-aware" and config.use_pair_grid and config.use_potential_pairs


def _check_threshold(name: str, value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 <= value < 1.0:
        raise ValueError(f"{name}={value!r} is not a probability: pass a Python number from 0 to below 1.")


def check_pruning(config: DocREConfig, threshold: float) -> None:
    """Check that a model says which pairs may be related, if those below a probability are to be left out.

    Raises:
        ValueError: when it does not, or `threshold` is no probability.
    """
    _check_threshold("prune_threshold", threshold)
    if threshold > 0.0 and not _predicts_pairs(config):
        raise ValueError(
            f'prune_threshold={threshold} needs a model that predicts which pairs are related: method="paee" '
            '(head="pair-aware") with use_pair_grid and use_potential_pairs. Take these, or prune_threshold=0.'
        )


def check_potential_pairs(config: DocREConfig) -> None:
    """Check that what a model says of potential pairs is trained.

    Raises:
        ValueError: when nothing does.
    """
    if _predicts_pairs(config) and config.potential_feature == "tag" and not config.potential_weight:
        raise ValueError(
            'potential_weight=0 leaves untrained what potential_feature="tag" tells the classifier: a tag has no '
            'gradient. Pass a weight, potential_feature="probability", or use_potential_pairs=False.'
        )


def _check_augmentation(config: DocREConfig) -> None:
    if config.era_copies < 0:
        raise ValueError(f"era_copies={config.era_copies} is negative; pass 0 for no augmentation.")
    if config.era_copies and config.head != "bilinear":
        raise ValueError(
            f"era_copies={config.era_copies} needs a head that scores pairs one by one, and head={config.head!r} "
            'scores them in view of each other: pass head="bilinear", or era_copies=0.'
        )
    if not 0.0 <= config.era_mask_probability <= 1.0:
        raise ValueError(f"era_mask_probability={config.era_mask_probability} is not a probability.")
    for name in config.era_relations or ():
        if name not in config.relations:
            raise ValueError(
                f"era_relations has {name!r}, which `relations` lacks{config.suggest_relation(str(name))}"
            )


def _check_numbers(config: DocREConfig) -> None:
    if config.threshold is not None and not 0.0 < config.threshold < 1.0:
        raise ValueError(f"threshold={config.threshold} is not a probability between 0 and 1.")
    if config.evidence_threshold is not None and not 0.0 <= config.evidence_threshold <= 1.0:
        raise ValueError(
            f"evidence_threshold={config.evidence_threshold} is not a share of attention; pass 0 to 1, or None for "
            "no evidence."
        )
    if not 0.0 <= config.entity_type_dropout <= 1.0:
        raise ValueError(f"entity_type_dropout={config.entity_type_dropout} is not a probability.")
    if not config.moco_temperature > 0:
        raise ValueError(f"moco_temperature={config.moco_temperature} is not positive; cosines are divided by it.")
    if not 0.0 <= config.moco_momentum <= 1.0:
        raise ValueError(f"moco_momentum={config.moco_momentum} is not between 0, a plain copy, and 1, which stays.")
    if config.max_relations_per_pair not in (None, -1) and (config.max_relations_per_pair or 0) < 1:
        raise ValueError(
            f"max_relations_per_pair={config.max_relations_per_pair} allows no relation; pass 1 or more, or None."
        )
    if config.max_length is not None and config.max_length < 3:
        raise ValueError(f"max_length={config.max_length} leaves no room between a start and an end token.")
    if not 1e-37 < config.context_eps < math.inf:
        raise ValueError(
            f"context_eps={config.context_eps} is not a number above 1e-37; pairs without attention divide by it, in "
            "float32. 1e-5 and 1e-10 are published."
        )
    if min(config.start_tokens, config.end_tokens) < 0:
        raise ValueError(
            f"start_tokens={config.start_tokens} and end_tokens={config.end_tokens} are counts of tokens."
        )
    room = (config.window_size or 0) - config.start_tokens - config.end_tokens
    if room <= 0:
        raise ValueError(
            f"window_size={config.window_size} leaves no room between {config.start_tokens} start and "
            f"{config.end_tokens} end tokens."
        )
    if config.window_overlap < 0:
        raise ValueError(f"window_overlap={config.window_overlap} is negative.")


def check_classes(relations: Sequence[str]) -> None:
    """Check the relation ids of a config.

    Raises:
        ValueError: when one is there twice, or is that of the threshold class.
    """
    if len(set(relations)) < len(relations):
        raise ValueError("`relations` names a relation twice; each class needs an id of its own.")
    if THRESHOLD_CLASS in relations:
        raise ValueError(f"{THRESHOLD_CLASS!r} is the threshold class, class 0; leave it out of `relations`.")


def check_one_vector(config: DocREConfig) -> None:
    """Check that a head represents a pair by one vector, which can be stored and drawn.

    Raises:
        ValueError: when it does not.
    """
    if config.head != "axial":
        raise ValueError(
            f"head={config.head!r} represents a pair by the outer product of two vectors, which is too wide to be "
            'stored or drawn: take a model of a method with head="axial", such as vaediff.'
        )


def check_relations(relations: object) -> None:
    """Check what a caller passes as the relations of a new model: ids in class order, or ids with words for them.

    Raises:
        ValueError: when it is one string, or has something else than words.
        TypeError: when it is neither.
    """
    read = "what modeling_docre.relation_files.read_relations(FILE) returns."
    instead = f"pass a list of ids in class order, or {read}"
    if isinstance(relations, str):
        raise ValueError(f"relations={relations!r} is one string; pass a list, relations=[{relations!r}], or {read}")
    if not isinstance(relations, Iterable):
        raise TypeError(f"relations={relations!r} has no ids; {instead}")
    if isinstance(relations, Mapping):
        for name, words in relations.items():
            if not isinstance(words, str):
                raise ValueError(f"relations has {words!r} for {name!r}, where words for people belong; {instead}")


__all__ = [
    "THRESHOLD_CLASS",
    "check_choices",
    "check_classes",
    "check_one_vector",
    "check_potential_pairs",
    "check_pruning",
    "check_relations",
    "check_settings",
]
