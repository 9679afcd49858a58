"""What a recipe may say: the names of its settings and the types of their values."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .configuration_docre import DocREConfig
from .configuration_vaediff import VaeDiffConfig
from .names import nearest_name, suggest_name
from .self_training import SelfTraining
from .training import DocRETrainer
from .training_arguments import DocRETrainingArguments
from .vaediff_training import VaeDiffTrainingArguments

SECTIONS = ("model", "data", "training", "card")
DATA_KEYS = ("train", "eval")
ENTRY_KEYS = ("path", "documents", "titles", "fraction", "drop_labels", "seed")
_TITLES_KEYS = ("path", "documents")

# What a generator has of the model whose embeddings it learns, and what every config takes.
_OF_SOURCE = ("relations", "relation_names", "embedding_size", "embeddings_of", "kwargs")

OBJECTIVES = ("relations", "contrastive", "generator")

_TOP = (*SECTIONS, "self_training", "output_dir", "after")
# What a value is checked against, by the name of its type; of other types anything goes.
_TYPES: dict[str, tuple[Any, str]] = {
    "bool": (bool, "true or false"),
    "int": (int, "a whole number"),
    "float": (int | float, "a number"),
}
_ANYTHING = {"Any"}


class RecipeError(ValueError):
    """A recipe or an override says something that can't be done; the message says what and how to mend it."""


def check_recipe(tree: Mapping[str, Any], path: str) -> None:
    """
    Checks every name in a recipe, the types of its values, and that nothing is missing.

    Args:
        tree (`Mapping[str, Any]`):
            What the file says, overrides included: every section of `SECTIONS`, and what else there is.
        path (`str`):
            The file, for messages.

    Raises:
        RecipeError: If a name isn't known, a value has the wrong type, or a setting is missing.
    """
    _check_names(tree, _TOP, f"{path}: unknown section")
    objective = _objective(tree["model"], path)
    for section, known in _known_names(objective).items():
        _check_names(tree[section], tuple(known), f"{path}: {section} has no setting")
        for name, value in tree[section].items():
            _check_type(value, known[name], f"{path}: {section}.{name}")
    if not isinstance(tree.get("output_dir"), str):
        raise RecipeError(f"{path}: say where to save the model, as in output_dir: runs/my-model.")
    after = tree.get("after") or []
    if not isinstance(after, list) or not all(isinstance(name, str) for name in after):
        raise RecipeError(
            f"{path}: after is {after!r}; write the recipes that are trained before, as in after: [a.yaml]."
        )
    if not tree["data"].get("train"):
        raise RecipeError(f"{path}: say what to train on, as in data: {{train: {{path: train.json}}}}.")
    for name, entry in tree["data"].items():
        if entry is not None:
            for part in entry if isinstance(entry, list) else [entry]:
                _check_entry(part, f"{path}: data.{name}")
    if not tree["data"].get("eval"):
        _check_without_evaluation(tree["training"], objective, path)
    if objective == "generator":
        _check_generator(tree, path)
    else:
        _check_model(tree["model"], path)
    if tree.get("self_training") is not None:
        _check_self_training(tree, path)


def _check_without_evaluation(training: Mapping[str, Any], objective: str, path: str) -> None:
    """Check that nothing asks for the documents of `data.eval`."""
    strategy = training.get("eval_strategy")
    if strategy not in (None, "no"):
        remedy = "Name documents under data.eval, or write" if objective == OBJECTIVES[0] else "Write"
        raise RecipeError(
            f"{path}: training.eval_strategy is {strategy!r}, and there is nothing to evaluate on. {remedy} "
            "eval_strategy: no, and load_best_model_at_end: false."
        )
    if training.get("tune_threshold"):
        raise RecipeError(
            f"{path}: training.tune_threshold chooses by labelled documents, and there are none: name some under "
            "data.eval, or write tune_threshold: false."
        )


def _check_names(names: Iterable[Any], known: Sequence[str], problem: str) -> None:
    for name in names:
        if name not in known:
            raise RecipeError(f"{problem} {name!r}.{suggest_name(str(name), known)}")


def _check_type(value: Any, types: set[str], place: str) -> None:
    if value is None or not types <= _TYPES.keys():
        return
    # A boolean is an int for Python.
    fitting = types & {"bool"} if isinstance(value, bool) else types - {"bool"}
    if not any(isinstance(value, _TYPES[name][0]) for name in fitting):
        wanted = " or ".join(_TYPES[name][1] for name in sorted(types, reverse=True))
        raise RecipeError(f"{place} is {value!r}, but must be {wanted}.")


def _check_entry(entry: Any, place: str) -> None:
    if isinstance(entry, str) and entry:
        return
    if not isinstance(entry, dict) or not isinstance(entry.get("path"), str):
        raise RecipeError(f"{place} needs a path, as in {{path: train.json, documents: '0:400'}}.")
    _check_names(entry, ENTRY_KEYS, f"{place} has no setting")
    _check_part(entry.get("fraction"), f"{place}.fraction", "above 0 and at most 1, such as 0.05 for 5%", above=0.0)
    _check_part(entry.get("drop_labels"), f"{place}.drop_labels", "from 0 to 1, such as 0.7 to drop 70% of the facts")
    _check_type(entry.get("seed"), {"int"}, f"{place}.seed")
    titles = entry.get("titles")
    if titles is not None and not (isinstance(titles, str) and titles):
        if not isinstance(titles, dict) or not isinstance(titles.get("path"), str):
            raise RecipeError(f"{place}.titles needs a file whose titles count, as in {{path: dev.json}}.")
        _check_names(titles, _TITLES_KEYS, f"{place}.titles has no setting")


def _check_part(value: Any, place: str, wanted: str, above: float | None = None) -> None:
    if value is None:
        return
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0.0 <= value <= 1.0 or value == above:
        raise RecipeError(f"{place} is {value!r}, but must be a number {wanted}.")


def _check_model(model: Mapping[str, Any], path: str) -> None:
    if "encoder" in model and "checkpoint" in model:
        raise RecipeError(
            f"{path}: model has an encoder to start from and a checkpoint to go on from. Keep one; "
            "--model='{checkpoint: FOLDER}' puts the checkpoint in the place of the whole section."
        )
    if "encoder" not in model and "checkpoint" not in model:
        raise RecipeError(
            f"{path}: model needs either an encoder to start from, as in encoder: google-bert/bert-base-cased, or a "
            "checkpoint to go on from."
        )
    others = ", ".join(sorted(set(model) - {"checkpoint", "objective"}))
    if "checkpoint" in model and others:
        raise RecipeError(f"{path}: a checkpoint brings its own settings along; take out of model: {others}.")
    encoder = model.get("encoder", "")
    of_package = isinstance(encoder, dict) and {"package"} <= set(encoder) <= {"package", "folder"}
    if not of_package and not isinstance(encoder, str):
        raise RecipeError(f"{path}: model.encoder is {encoder!r}; write a folder, a Hub id, or {{package, folder}}.")


def _objective(model: Mapping[str, Any], path: str) -> str:
    objective = model.get("objective", OBJECTIVES[0])
    if objective not in OBJECTIVES:
        raise RecipeError(
            f"{path}: model.objective is {objective!r}; write one of {', '.join(OBJECTIVES)}."
            f"{nearest_name(str(objective), OBJECTIVES)}"
        )
    return str(objective)


def _check_generator(tree: Mapping[str, Any], path: str) -> None:
    if not isinstance(tree["model"].get("checkpoint"), str):
        raise RecipeError(
            f"{path}: a generator learns from the pair embeddings of a trained model: write its folder, as in model: "
            "{objective: generator, checkpoint: runs/my-model}."
        )
    if tree["data"].get("eval"):
        raise RecipeError(f"{path}: a generator scores no documents: take out data.eval, or write eval: null.")
    if tree["training"].get("push_to_hub"):
        raise RecipeError(
            f"{path}: a generator is shared when it is done: take out training.push_to_hub, and call "
            "VaeDiffModel.from_pretrained(FOLDER).push_to_hub(NAME)."
        )


def _check_self_training(tree: Mapping[str, Any], path: str) -> None:
    given, place = tree["self_training"], f"{path}: self_training"
    if not isinstance(given, dict):
        raise RecipeError(f"{place} is {given!r}; write its settings, as in self_training: {{folds: 5, alpha: 0.5}}.")
    known = {item.name: _types(item.type) for item in dataclasses.fields(SelfTraining)}
    _check_names(given, tuple(known), f"{place} has no setting")
    for name, value in given.items():
        _check_type(value, known[name], f"{place}.{name}")
    try:
        read_self_training(given)
    except ValueError as error:
        raise RecipeError(f"{path}: {error}") from None
    # Each fold needs a model that knows nothing of the documents that are held out.
    remedies = {
        "after": "Train that by itself, on other documents, and name its folder as model.encoder",
        "model.checkpoint": "Write model.encoder: each fold starts a new model",
        "training.teacher": "Leave the teacher out",
        "training.soft_labels": "Leave them out",
        "training.generator": "Leave the generator out",
        "training.generator_of": "Leave it out",
    }
    for name, remedy in remedies.items():
        section, _, key = name.rpartition(".")
        if (tree[section] if section else tree).get(key):
            raise RecipeError(
                f"{place} does not go with {name}, which may come from documents that a fold's model must not have "
                f"seen. {remedy}."
            )
    if tree["model"].get("objective", OBJECTIVES[0]) != OBJECTIVES[0]:
        raise RecipeError(
            f"{place} needs a model that predicts relations: take out model.objective, or self_training."
        )


def read_self_training(settings: Mapping[str, Any]) -> SelfTraining:
    """The settings of a recipe's section; what is null there is left out."""
    return SelfTraining(**{name: value for name, value in settings.items() if value is not None})


def arguments_of(objective: Any) -> type[DocRETrainingArguments] | type[VaeDiffTrainingArguments]:
    """The class whose fields are the settings of the section `training`, for one of `OBJECTIVES`."""
    return VaeDiffTrainingArguments if objective == "generator" else DocRETrainingArguments


def _known_names(objective: str = OBJECTIVES[0]) -> dict[str, dict[str, set[str]]]:
    """The names that each section knows, with the names of the types that their annotations allow."""
    training = {item.name: _types(item.type) for item in dataclasses.fields(arguments_of(objective)) if item.init}
    training.pop("output_dir")
    data = dict.fromkeys(DATA_KEYS, _ANYTHING)
    if objective == "generator":
        parameters = inspect.signature(VaeDiffConfig).parameters.values()
        of_generator = {item.name: _types(item.annotation) for item in parameters if item.name not in _OF_SOURCE}
        of_generator |= dict.fromkeys(("checkpoint", "objective"), _ANYTHING)
        return {"model": of_generator, "data": data, "training": training, "card": {}}
    model = {name: _types(annotation) for name, annotation in DocREConfig.__annotations__.items()}
    for name in ("model_type", "sub_configs", "encoder_config"):
        model.pop(name, None)
    # More than the fields of the config: a file of relations, an encoder of many forms.
    model |= dict.fromkeys(("encoder", "encoder_settings", "checkpoint", "objective", "relations"), _ANYTHING)
    card = dict.fromkeys(inspect.signature(DocRETrainer.create_model_card).parameters, _ANYTHING)
    card.pop("self")
    return {"model": model, "data": data, "training": training, "card": card}


def _types(annotation: Any) -> set[str]:
    text = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    return set(re.findall(r"\w+", text)) - {"typing", "Optional", "Union", "None", "NoneType"}


def find_setting(name: str, objective: Any = OBJECTIVES[0]) -> list[str]:
    """
    Finds the place of an override in the recipe: `learning_rate` stands at `["training", "learning_rate"]`.

    Args:
        name (`str`):
            The names on the way to it, joined by dots; the section may be left out where only one has the name.
        objective (`str`, *optional*, defaults to `"relations"`):
            What the recipe trains.

    Raises:
        RecipeError: If no section has the name, or several have.
    """
    parts = name.split(".")
    if parts[0] in _TOP:
        return parts
    known = _known_names(objective)
    sections = [section for section, names in known.items() if parts[0] in names]
    if len(sections) == 1:
        return [sections[0], *parts]
    if sections:
        choices = " or ".join(f"--{section}.{name}" for section in sections)
        raise RecipeError(f"{name!r} is a setting of more than one section: write {choices}.")
    if len(parts) > 1:
        raise RecipeError(f"Unknown section {parts[0]!r} of {name!r}.{suggest_name(parts[0], _TOP)}")
    everything = ["output_dir", *(key for names in known.values() for key in names)]
    raise RecipeError(f"Unknown setting {name!r}.{suggest_name(parts[0], everything)}")


__all__ = [
    "ENTRY_KEYS",
    "OBJECTIVES",
    "SECTIONS",
    "RecipeError",
    "arguments_of",
    "check_recipe",
    "find_setting",
    "read_self_training",
]
