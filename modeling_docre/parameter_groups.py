"""Which parameters train at which learning rate and weight decay."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from torch import nn

from .modeling_docre import DocREForRelationExtraction
from .training_arguments import DocRETrainingArguments


def parameter_groups(
    model: DocREForRelationExtraction, args: DocRETrainingArguments, decayed: Collection[str]
) -> list[dict[str, Any]]:
    """
    Groups the trained parameters for an optimizer.

    Args:
        model ([`DocREForRelationExtraction`]):
            The model; what isn't its encoder is the head.
        args ([`DocRETrainingArguments`]):
            `learning_rate`, `head_learning_rate`, `module_learning_rates`, `weight_decay` and `head_weight_decay` are
            read.
        decayed (`Collection[str]`):
            Names of the parameters to which weight decay applies at all.

    Returns:
        `list[dict]`: Groups with `params`, `lr` and `weight_decay`.

    Raises:
        ValueError: If a key of `module_learning_rates` is part of no parameter's name.
    """
    encoder = {id(parameter) for parameter in model.docre.encoder.parameters()}
    head_rate = args.learning_rate if args.head_learning_rate is None else args.head_learning_rate
    head_decay = args.weight_decay if args.head_weight_decay is None else args.head_weight_decay
    special = args.module_learning_rates or {}
    for key in special:
        if not any(key in name for name, _ in model.named_parameters()):
            names = sorted({".".join(name.split(".")[:3]) for name, _ in model.named_parameters()})
            raise ValueError(
                f"module_learning_rates has {key!r}, which is part of no parameter's name. Names start with: "
                f"{', '.join(names)}."
            )
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        in_encoder = id(parameter) in encoder
        rate = next((value for key, value in special.items() if key in name), None)
        if rate is None:
            rate = args.learning_rate if in_encoder else head_rate
        decay = (args.weight_decay if in_encoder else head_decay) if name in decayed else 0.0
        groups.setdefault((rate, decay), []).append(parameter)
    return [{"params": group, "lr": rate, "weight_decay": decay} for (rate, decay), group in groups.items()]


__all__ = ["parameter_groups"]
