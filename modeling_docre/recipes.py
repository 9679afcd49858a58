"""Recipes: one YAML file that says everything about a training run."""

from __future__ import annotations

import dataclasses
import difflib
import importlib.util
import inspect
import itertools
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
import transformers
from huggingface_hub import HfApi
from transformers import AutoConfig, AutoModel, PreTrainedConfig
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import logging

from .configuration_docre import DocREConfig
from .data_files import iter_documents, read_json, read_relations
from .documents import Document
from .modeling_docre import DocREForRelationExtraction
from .processing_docre import DocREProcessor
from .training import DocRETrainer, last_checkpoint
from .training_arguments import SECRETS, DocRETrainingArguments

logger = logging.get_logger(__name__)

SECTIONS = ("model", "data", "training", "card")
DATA_KEYS = ("train", "eval")
ENTRY_KEYS = ("path", "documents")


class RecipeError(ValueError):
    """A recipe or an override says something that can't be done; the message says what and how to mend it."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """
    A training run, as read from a YAML file.

    Args:
        model (`dict`):
            `encoder` (a folder, a Hub id, or `{package, folder}` for one that a Python package ships) or `checkpoint`
            (a trained model to go on from); with `encoder` also `encoder_settings` (fields of its own config, such as
            a dropout), `method`, `relations` (a list, a dict of ids to words, or a JSON file of ids to words or of ids
            to numbers), and any field of [`DocREConfig`].
        data (`dict`):
            `train` and `eval`: a path, or `{path, documents}` with `documents` a slice such as `"0:400"`, or a list of
            such. Environment variables in paths are expanded, relative paths start at the working directory.
        training (`dict`):
            Any field of [`DocRETrainingArguments`].
        output_dir (`str`):
            Folder of checkpoints, the final model, its card and its scores; environment variables are expanded.
        card (`dict`, *optional*):
            What the model card can't know by itself: any argument of [`DocRETrainer.create_model_card`].
    """

    model: dict[str, Any]
    data: dict[str, Any]
    training: dict[str, Any]
    output_dir: str
    card: dict[str, Any] = dataclasses.field(default_factory=dict)


def load_recipe(path: str | os.PathLike[str], overrides: Sequence[str] | Mapping[str, Any] = ()) -> Recipe:
    """
    Reads a recipe, changes what `overrides` say, and checks every name in it.

    Args:
        path (`str` or `os.PathLike`):
            The YAML file. It may begin with `extends: OTHER.yaml`, a path seen from this file: settings that it does
            not name are those of the other.
        overrides (`Sequence[str]` or `Mapping[str, Any]`, *optional*):
            Changes such as `"--training.learning_rate=3e-4"`, or `{"training.learning_rate": 3e-4}`. The section may
            be left out where only one has the name: `"--learning_rate=3e-4"`.

    Returns:
        `Recipe`: The recipe.

    Raises:
        RecipeError: If a name isn't known (the message has the nearest one), or a value has the wrong type.
        FileNotFoundError: If there is no such file.
    """
    tree = _read_tree(Path(path))
    for name, value in _read_overrides(overrides):
        _set(tree, _resolve(name), value)
    _check(tree, str(path))
    _expand(tree["output_dir"], "output_dir")
    return Recipe(tree["model"], tree["data"], tree["training"], tree["output_dir"], tree["card"])


def _read_tree(path: Path, below: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Read a recipe, and what it extends."""
    content = _read_yaml(path.read_text(encoding="utf-8"), str(path))
    if not isinstance(content, dict):
        raise RecipeError(f"{path} isn't a recipe: it needs the sections model, data and training, and output_dir.")
    tree: dict[str, Any] = {**content}
    for section in SECTIONS:
        value = tree.get(section, {})
        if not isinstance(value, dict):
            raise RecipeError(f"{path}: {section!r} must be a section with one setting per line, not {value!r}.")
        tree[section] = {**value}
    base = tree.pop("extends", None)
    if base is None:
        return tree
    if not isinstance(base, str):
        raise RecipeError(f"{path}: extends is {base!r}; write the path of another recipe, seen from this one.")
    extended = path.parent / base
    if extended.resolve() in (*below, path.resolve()):
        raise RecipeError(f"{path}: extends {base}, which extends this recipe in turn.")
    if not extended.is_file():
        raise RecipeError(f"{path}: extends {base}, but there is no file {extended}.")
    found = _read_tree(extended, (*below, path.resolve()))
    return {**found, **tree, **{section: {**found[section], **tree[section]} for section in SECTIONS}}


def train_from_recipe(
    path: str | os.PathLike[str], overrides: Sequence[str] | Mapping[str, Any] = (), *, resume: bool = False
) -> dict[str, float]:
    """
    Trains a model as a recipe says, and saves it with its processor, its card and its scores in the recipe's
    `output_dir`.

    Args:
        path (`str` or `os.PathLike`):
            The YAML file.
        overrides (`Sequence[str]` or `Mapping[str, Any]`, *optional*):
            Changes; see [`load_recipe`].
        resume (`bool`, *optional*, defaults to `False`):
            Whether to go on from the last checkpoint in `output_dir`. Without one, training starts at the beginning.

    Returns:
        `dict[str, float]`: The metrics of training and evaluation, also written to `all_results.json`.

    Raises:
        RecipeError: If the recipe isn't right, or `output_dir` holds checkpoints and `resume` is off.
    """
    recipe = load_recipe(path, overrides)
    folder = _expand(recipe.output_dir, "output_dir")
    checkpoint = last_checkpoint(folder)
    if checkpoint is not None and not resume:
        raise RecipeError(
            f"{folder} holds checkpoints of an earlier run. Go on from the last one with --resume, or choose another "
            "folder with --output_dir=FOLDER."
        )
    if checkpoint is None and resume:
        logger.warning(f"{folder} holds no complete checkpoint; training starts at the beginning.")
    trainer = build_trainer(recipe)
    if trainer.is_world_process_zero():
        _write_recipe(recipe, Path(folder))
    output = trainer.train(resume_from_checkpoint=checkpoint)
    metrics = dict(output.metrics)
    trainer.save_metrics("train", output.metrics)
    # Before evaluation, because bf16_full_eval rounds the model; and no upload yet, because the card isn't finished.
    trainer.save_model(_internal_call=True)
    if trainer.eval_dataset is not None:
        scores = trainer.evaluate()
        trainer.save_metrics("eval", scores)
        metrics.update(scores)
    trainer.create_model_card(**recipe.card)
    trainer.save_state()
    if trainer.args.push_to_hub and trainer.is_world_process_zero():
        _upload(trainer, folder)
    return metrics


def _upload(trainer: DocRETrainer, folder: str) -> None:
    # Not `trainer.push_to_hub`, which saves the model once more.
    trainer._finish_current_push()
    HfApi(token=trainer.args.hub_token).upload_folder(
        repo_id=str(trainer.hub_model_id),
        folder_path=folder,
        commit_message="End of training",
        ignore_patterns=["_*", f"{PREFIX_CHECKPOINT_DIR}-*"],
        revision=trainer.args.hub_revision,
    )


def build_trainer(recipe: Recipe) -> DocRETrainer:
    """
    Makes everything that a recipe names: documents, model, processor, trainer.

    Args:
        recipe (`Recipe`): The recipe.

    Returns:
        `DocRETrainer`: Ready for `train()`.

    Raises:
        RecipeError: If a file or the encoder isn't there.
    """
    arguments = DocRETrainingArguments(output_dir=_expand(recipe.output_dir, "output_dir"), **recipe.training)
    train = _read_documents(recipe.data["train"], "data.train")
    evaluation = _read_documents(recipe.data["eval"], "data.eval") if recipe.data.get("eval") else None
    # The new head draws its random numbers here, before the trainer sets the seed.
    transformers.set_seed(arguments.seed)
    model, processor = _build_model(recipe.model, train)
    return DocRETrainer(
        model=model, args=arguments, train_dataset=train, eval_dataset=evaluation, processing_class=processor
    )


def _build_model(
    settings: Mapping[str, Any], train: list[Document]
) -> tuple[DocREForRelationExtraction, DocREProcessor]:
    settings = dict(settings)
    if "checkpoint" in settings:
        folder = _expand(settings["checkpoint"], "model.checkpoint")
        trained = cast(DocREForRelationExtraction, DocREForRelationExtraction.from_pretrained(folder))
        return trained, DocREProcessor.from_pretrained(folder)
    encoder = _encoder_path(settings.pop("encoder"))
    changes = settings.pop("encoder_settings", None) or {}
    relations = _read_relations(settings.pop("relations", None), settings.pop("relation_names", None), train)
    if settings.get("use_entity_types") and "entity_types" not in settings:
        types = {entity.type for document in train for entity in document.entities}
        settings["entity_types"] = sorted(name for name in types if name is not None)
    if changes:
        weights = AutoModel.from_pretrained(encoder, config=_encoder_config(encoder, changes), dtype=torch.float32)
        settings["tokenizer"] = encoder
    model = DocREForRelationExtraction.from_encoder(weights if changes else encoder, relations=relations, **settings)
    return model, DocREProcessor.from_encoder(encoder, config=model.config)


def _encoder_config(encoder: str, changes: Mapping[str, Any]) -> PreTrainedConfig:
    config = AutoConfig.from_pretrained(encoder)
    for name, value in changes.items():
        if not hasattr(config, name):
            raise RecipeError(
                f"model.encoder_settings has {name!r}, which a {config.model_type} encoder doesn't know."
                f"{_nearest(name, list(config.to_dict()))}"
            )
        setattr(config, name, value)
    return config


def _encoder_path(encoder: str | Mapping[str, str]) -> str:
    if isinstance(encoder, str):
        return _expand(encoder, "model.encoder")
    package, folder = encoder["package"], encoder.get("folder", ".")
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise RecipeError(
            f"The recipe's encoder comes with the Python package {package!r}, which is not installed: "
            f"pip install {package.replace('_', '-')}. The one of the default model also comes with "
            "pip install 'modeling-docre[train-default]'."
        )
    path = Path(spec.origin).parent / folder
    if not path.is_dir():
        raise RecipeError(f"The package {package!r} is installed, but has no folder {folder!r} ({path}).")
    return str(path)


def _read_relations(relations: Any, names: Any, train: list[Document]) -> dict[str, str] | list[str]:
    """Relation ids in class order, with words where they are known."""
    if isinstance(relations, str):
        relations = read_relations(_file(relations, "model.relations"))
    if isinstance(names, str):
        names = read_json(_file(names, "model.relation_names"))
    if relations is None:
        found = sorted({relation.relation for document in train for relation in document.relations or ()})
        relations = list(names) if names else found
    if isinstance(relations, Mapping):
        return dict(relations)
    return {name: names.get(name, name) for name in relations} if names else list(relations)


def _read_documents(entry: Any, place: str) -> list[Document]:
    if isinstance(entry, list):
        return [document for i, part in enumerate(entry) for document in _read_documents(part, f"{place}[{i}]")]
    entry = {"path": entry} if isinstance(entry, str) else entry
    path = _file(entry["path"], f"{place}.path")
    chosen = _slice(entry["documents"], f"{place}.documents") if "documents" in entry else slice(None)
    # Documents behind the last wanted one needn't be read.
    stop = chosen.stop if chosen.stop is not None and chosen.stop >= 0 else None
    documents = list(itertools.islice(iter_documents(path), stop))[chosen]
    if not documents:
        raise RecipeError(f"{place}: there are no documents left of {path} (documents: {entry.get('documents')}).")
    return documents


def _slice(text: Any, place: str) -> slice:
    match = re.fullmatch(r"(-?\d*):(-?\d*)", str(text).strip())
    if match is None:
        raise RecipeError(f"{place} is {text!r}; write which documents to take as '0:400' (from 0, up to 399).")
    start, stop = (int(part) if part else None for part in match.groups())
    return slice(start, stop)


def _file(text: str, place: str) -> str:
    path = _expand(text, place)
    if not os.path.isfile(path):
        raise RecipeError(
            f"{place}: there is no file {path} (working directory: {os.getcwd()}). Paths in recipes start at the "
            "working directory."
        )
    return path


def _expand(text: str, place: str) -> str:
    expanded = os.path.expanduser(os.path.expandvars(text))
    missing = re.search(r"\$\{?(\w+)\}?", expanded)
    if missing is not None:
        raise RecipeError(
            f"{place} is {text!r}, but the environment variable {missing[1]} is not set: export {missing[1]}=FOLDER."
        )
    return expanded


# Names and overrides


def _known_names() -> dict[str, dict[str, set[str]]]:
    """The names that each section knows, with the names of the types that their annotations allow."""
    training = {item.name: _types(item.type) for item in dataclasses.fields(DocRETrainingArguments) if item.init}
    training.pop("output_dir")
    model = {name: _types(annotation) for name, annotation in DocREConfig.__annotations__.items()}
    for name in ("model_type", "sub_configs", "encoder_config"):
        model.pop(name, None)
    # More than the fields of the config: a file of relations, an encoder of many forms.
    model.update({name: {"Any"} for name in ("encoder", "encoder_settings", "checkpoint", "relations")})
    card = {name: {"Any"} for name in inspect.signature(DocRETrainer.create_model_card).parameters if name != "self"}
    return {"model": model, "data": {name: {"Any"} for name in DATA_KEYS}, "training": training, "card": card}


def _types(annotation: Any) -> set[str]:
    text = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    return set(re.findall(r"\w+", text)) - {"typing", "Optional", "Union", "None", "NoneType"}


def _nearest(name: str, names: Sequence[str]) -> str:
    found = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f" Did you mean {found[0]!r}?" if found else f" Known names: {', '.join(sorted(names))}."


def _resolve(name: str) -> list[str]:
    """The place of an override in the recipe, with the section filled in where it was left out."""
    parts = name.split(".")
    known = _known_names()
    if parts[0] in SECTIONS or parts[0] == "output_dir":
        return parts
    sections = [section for section, names in known.items() if parts[0] in names]
    if len(sections) == 1:
        return [sections[0], *parts]
    if sections:
        choices = " or ".join(f"--{section}.{name}" for section in sections)
        raise RecipeError(f"{name!r} is a setting of more than one section: write {choices}.")
    everything = ["output_dir", *(key for names in known.values() for key in names)]
    raise RecipeError(f"Unknown setting {name!r}.{_nearest(parts[0], everything)}")


def _read_overrides(overrides: Sequence[str] | Mapping[str, Any]) -> list[tuple[str, Any]]:
    if isinstance(overrides, Mapping):
        return list(overrides.items())
    pairs = []
    for text in overrides:
        name, equals, value = text.removeprefix("--").partition("=")
        if not equals:
            raise RecipeError(
                f"{text!r} is not a change of the recipe: write --NAME=VALUE, as in --learning_rate=3e-4."
            )
        parsed = _read_yaml(value, text)
        # `40:` is a slice of documents here; only braces write a mapping.
        is_slice = isinstance(parsed, dict) and not value.lstrip().startswith("{")
        pairs.append((name.replace("-", "_"), value if is_slice else parsed))
    return pairs


def _set(tree: dict[str, Any], parts: list[str], value: Any) -> None:
    for part in parts[:-1]:
        child = tree.get(part)
        if isinstance(child, str) and parts[-1] in ENTRY_KEYS:
            child = {"path": child}
        child = {**child} if isinstance(child, dict) else {}
        tree[part] = child
        tree = child
    tree[parts[-1]] = value


def _check(tree: Mapping[str, Any], path: str) -> None:
    top = [*SECTIONS, "output_dir"]
    for name in tree:
        if name not in top:
            raise RecipeError(f"{path}: unknown section {name!r}.{_nearest(str(name), top)}")
    for section, known in _known_names().items():
        for name, value in tree[section].items():
            if name not in known:
                raise RecipeError(f"{path}: {section} has no setting {name!r}.{_nearest(str(name), list(known))}")
            _check_type(f"{section}.{name}", value, known[name], path)
    if not isinstance(tree.get("output_dir"), str):
        raise RecipeError(f"{path}: say where to save the model, as in output_dir: runs/my-model.")
    if not tree["data"].get("train"):
        raise RecipeError(f"{path}: say what to train on, as in data: {{train: {{path: train.json}}}}.")
    for name, entry in tree["data"].items():
        if entry is not None:
            for part in entry if isinstance(entry, list) else [entry]:
                _check_entry(part, f"{path}: data.{name}")
    _check_model(tree["model"], path)


def _check_type(place: str, value: Any, types: set[str], path: str) -> None:
    kinds: dict[str, tuple[Any, str]] = {
        "bool": (bool, "true or false"),
        "int": (int, "a whole number"),
        "float": (int | float, "a number"),
    }
    if value is None or not types or not types <= kinds.keys():
        return
    # A boolean is an int for Python.
    fits = [
        name for name in types if isinstance(value, kinds[name][0]) and isinstance(value, bool) == (name == "bool")
    ]
    if not fits:
        wanted = " or ".join(kinds[name][1] for name in sorted(types, reverse=True))
        raise RecipeError(f"{path}: {place} is {value!r}, but must be {wanted}.")


def _check_entry(entry: Any, place: str) -> None:
    if isinstance(entry, str) and entry:
        return
    if not isinstance(entry, dict) or not isinstance(entry.get("path"), str):
        raise RecipeError(f"{place} needs a path, as in {{path: train.json, documents: '0:400'}}.")
    for name in entry:
        if name not in ENTRY_KEYS:
            raise RecipeError(f"{place} has no setting {name!r}.{_nearest(str(name), ENTRY_KEYS)}")


def _check_model(model: Mapping[str, Any], path: str) -> None:
    if ("encoder" in model) == ("checkpoint" in model):
        raise RecipeError(
            f"{path}: model needs either an encoder to start from, as in encoder: google-bert/bert-base-cased, or a "
            "checkpoint to go on from."
        )
    if "checkpoint" in model and len(model) > 1:
        others = ", ".join(sorted(set(model) - {"checkpoint"}))
        raise RecipeError(f"{path}: a checkpoint brings its own settings along; take out of model: {others}.")
    encoder = model.get("encoder")
    if isinstance(encoder, dict) and "package" in encoder and set(encoder) <= {"package", "folder"}:
        return
    if "encoder" in model and not isinstance(encoder, str):
        raise RecipeError(f"{path}: model.encoder is {encoder!r}; write a folder, a Hub id, or {{package, folder}}.")


# YAML


def _read_yaml(text: str, place: str) -> Any:
    try:
        import yaml
    except ModuleNotFoundError:
        raise ModuleNotFoundError("Recipes need PyYAML: pip install 'modeling-docre[train]'.", name="yaml") from None

    class Loader(yaml.SafeLoader):
        """YAML 1.2's plain values: in 1.1, 3e-4 is a string, 0:400 a number, and `no` a boolean."""

    Loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":int", ":float", ":bool"))]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|false|False)$"), list("tTfF"))
    Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?\d+$"), list("-+0123456789"))
    number = re.compile(r"^[-+]?(?:\d+\.\d*|\.\d+|\d+)(?:[eE][-+]?\d+)?$")
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", number, list("-+.0123456789"))
    try:
        return yaml.load(text, Loader=Loader)
    except yaml.YAMLError as error:
        raise RecipeError(f"{place} is not valid YAML: {error}") from None


def _write_recipe(recipe: Recipe, folder: Path) -> None:
    """Writes `recipe.yaml` as the user wrote it, without tokens; nothing where an upload would tell absolute paths."""
    import yaml

    training = {name: value for name, value in recipe.training.items() if name not in SECRETS}
    content = dataclasses.asdict(dataclasses.replace(recipe, training=training))
    path = folder / "recipe.yaml"
    places = _absolute_paths(content) if training.get("push_to_hub") else []
    if places:
        path.unlink(missing_ok=True)
        logger.warning(
            f"No recipe.yaml is written, since it would go to the Hub and tell of {', '.join(places)}. Write paths "
            "from the working directory, or with an environment variable."
        )
        return
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")


def _absolute_paths(value: Any) -> list[str]:
    if isinstance(value, dict | list):
        parts = value.values() if isinstance(value, dict) else value
        return [path for part in parts for path in _absolute_paths(part)]
    return [value] if isinstance(value, str) and os.path.isabs(value) else []


__all__ = ["Recipe", "RecipeError", "build_trainer", "load_recipe", "train_from_recipe"]
