"""Loading a checkpoint whole: an argument that is not one, and weights that do not fit, are errors that name them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from transformers import PreTrainedConfig, PreTrainedModel

from .configuration_docre import DocREConfig
from .encoders import PRE_TRAINING
from .names import nearest_name
from .remote_code import describe_other_checkpoint, looking_up

# What `from_pretrained` takes most often, beside settings: what a misspelt argument may have been meant to be.
_OF_LOADING = (
    *("attn_implementation", "cache_dir", "config", "device_map", "dtype", "force_download"),
    *("ignore_mismatched_sizes", "local_files_only", "max_memory", "offload_folder", "output_loading_info"),
    *("quantization_config", "revision", "state_dict", "subfolder", "token", "trust_remote_code"),
    *("use_safetensors", "variant", "weights_only"),
)
# Of the many names here, one that is less like a misspelt one has nothing to do with it.
_ALIKE = 0.75
# So many weights are named.
_NAMED = 8


def read_model_type(name: str, arguments: Mapping[str, Any]) -> str | None:
    """Find out what kind of model a checkpoint is.

    Args:
        name (`str`): Folder or Hub id.
        arguments (`Mapping`): Those of `from_pretrained`; of a `config` among them, its kind.

    Raises:
        OSError: when there is no such checkpoint.
    """
    config = arguments.get("config")
    if isinstance(config, PreTrainedConfig):
        return config.model_type
    known = ("cache_dir", "force_download", "local_files_only", "revision", "subfolder", "token")
    with looking_up(name):
        found, _ = PreTrainedConfig.get_config_dict(name, **{key: arguments[key] for key in known if key in arguments})
    return found.get("model_type")


def check_relation_model(name: str, arguments: Mapping[str, Any]) -> None:
    """Check that a checkpoint is a relation extraction model of this library.

    Args:
        name (`str`): Folder or Hub id.
        arguments (`Mapping`): Those of `from_pretrained`.

    Raises:
        ValueError: when it is something else.
        OSError: when there is no such checkpoint.
    """
    model_type = read_model_type(name, arguments)
    if model_type != DocREConfig.model_type:
        start = f'DocREForRelationExtraction.from_encoder("{name}", relations=["P17", ...])'
        raise ValueError(describe_other_checkpoint(name, model_type, start))


def load_whole(
    model_class: type[PreTrainedModel],
    load: Callable[..., Any],
    name: str,
    model_args: Sequence[Any],
    arguments: Mapping[str, Any],
) -> Any:
    """Load a model, all of whose weights are there.

    Args:
        model_class (`type`): The model's class.
        load (`Callable`): `from_pretrained` of transformers.
        name (`str`): Folder or Hub id.
        model_args (`Sequence`): Its arguments without a name.
        arguments (`Mapping`): The others.

    Returns:
        What `load` returns for these arguments.

    Raises:
        ValueError: when weights are missing or have other sizes than the settings ask for, or an argument is neither
            `transformers`' nor a setting.
    """
    settings = inspect.signature(cast(type, model_class.config_class)).parameters.keys() - {"kwargs"}
    arguments = dict(arguments)
    wants_info = arguments.pop("output_loading_info", False)
    takes_other_sizes = arguments.pop("ignore_mismatched_sizes", False)
    try:
        # Told of them here, with their sizes.
        loaded = load(name, *model_args, output_loading_info=True, ignore_mismatched_sizes=True, **arguments)
    except TypeError as error:
        # Of the model's class, which was given what transformers does not know.
        found = re.search(r"__init__\(\) got an unexpected keyword argument '(\w+)'", str(error))
        if found is None or found[1] not in arguments:
            raise
        if found[1] in settings:
            raise ValueError(
                f"{found[1]!r} is a setting, and settings are not read beside config=: set it in that config, or "
                "leave config out."
            ) from error
        hint = nearest_name(found[1], [*settings, *_OF_LOADING], _ALIKE)
        raise ValueError(f"{found[1]!r} is no argument of from_pretrained, nor a setting.{hint}") from error
    model, info = loaded
    missing = sorted(info["missing_keys"])
    resized = [] if takes_other_sizes else sorted(info["mismatched_keys"])
    if missing or resized:
        pretrained = PRE_TRAINING in (model.config.architectures or [])
        remedy = _remedy(name, arguments, settings, missing=bool(missing), pretrained=pretrained)
        raise ValueError(f"{name} {_describe(model, missing, resized)} {remedy}")
    return loaded if wants_info else model


def _describe(model: PreTrainedModel, missing: Sequence[str], resized: Sequence[tuple[str, Any, Any]]) -> str:
    of_sizes = [f"{key} {tuple(there)} instead of {tuple(wanted)}" for key, there, wanted in resized]
    parts = {"lacks weights of": missing, "has weights of other sizes than": of_sizes}
    told = [f"{what} {type(model).__name__}: {_listed(names)}" for what, names in parts.items() if names]
    return f"{', and '.join(told)}."


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _remedy(name: str, arguments: Mapping[str, Any], settings: set[str], *, missing: bool, pretrained: bool) -> str:
    passed = sorted(arguments.keys() & settings)
    told = []
    if passed:
        told.append(f"Settings were passed ({', '.join(passed)}): leave out those that change the model's parts.")
    elif "config" in arguments:
        told.append("The config that was passed is not that of these weights.")
    elif not missing:
        told.append("Its config.json and its weights are not of one model.")
    if not missing:
        told.append("To train parts of another size anew, pass ignore_mismatched_sizes=True.")
    elif pretrained:
        told.append(
            "These weights are pre-trained, to start a model from: DocREForRelationExtraction.from_encoder("
            f'"{name}", relations=["P17", ...]), and train that.'
        )
    else:
        told.append("A model with random parts would answer at random.")
    return " ".join(told)


__all__ = ["check_relation_model", "load_whole", "read_model_type"]
