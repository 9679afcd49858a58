"""Recipes as files: read with what they extend and what overrides them, and written beside what they make."""

from __future__ import annotations

import dataclasses
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers.utils import logging

from .document_parts import show
from .methods import find_method
from .output_files import open_output
from .recipe_checks import ENTRY_KEYS, OBJECTIVES, SECTIONS, RecipeError, arguments_of, check_recipe, find_setting
from .recipe_data import expand_path, say_once
from .training_arguments import SECRETS

logger = logging.get_logger(__name__)

_RECIPE_NAME = "recipe.yaml"

# Numbers of YAML 1.2.
_INTEGER = re.compile(r"^[-+]?\d+$")
_NUMBER = re.compile(r"^[-+]?(?:(?:\d+\.\d*|\.\d+|\d+)(?:[eE][-+]?\d+)?|\.(?:inf|Inf|INF))$")

# Of these a run has to have as many as it began with, or more. Steps go before epochs.
_LENGTHS = ("training.max_steps", "training.num_train_epochs")
# What a run may go on with although it changed: where it runs, and what is told and kept of it.
_MAY_CHANGE = re.compile(
    r"output_dir|training\.(use_cpu|debug|disable_tqdm|report_to|run_name|project|push_to_hub|(bf|fp)16_full_eval|"
    r"frozen_cache_dir|tune_threshold|half_precision_weights|skip_memory_metrics|torch_empty_cache_steps|"
    r"dataloader_(?!drop_last).*|gradient_checkpointing.*|(log|logging|save|eval|hub|ddp|per_device_eval|trackio)_.*)"
)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """
    A training run, as read from a YAML file.

    Args:
        model (`dict`):
            `encoder` (a folder, a Hub id, or `{package, folder}` for one that a Python package ships) or `checkpoint`
            (a trained model to go on from); with `encoder` also `encoder_settings` (fields of its own config, such as
            a dropout), `method`, `relations` (a list, a dict of ids to words, or a JSON file of ids to words or of ids
            to numbers), and any field of [`DocREConfig`]. `objective` is `relations`; or `contrastive` for
            [`DocREForContrastivePreTraining`], whose folder may be the `encoder` of the next recipe; or `generator`
            for a [`VaeDiffModel`] that learns from the pair embeddings of the `checkpoint`, with any of its settings,
            whose folder may be the next recipe's `training.generator`.
        data (`dict`):
            `train` and `eval`: a path, or `{path, documents, titles, fraction, drop_labels, seed}`, of which all but
            the path may be left out, or a list of such; see [`read_entry`]. Environment variables in paths are
            expanded, relative paths start at the working directory.
        training (`dict`):
            Any field of [`DocRETrainingArguments`], or of [`VaeDiffTrainingArguments`] for a generator.
        output_dir (`str`):
            Folder of checkpoints, the final model, its card and its scores; environment variables are expanded.
        card (`dict`, *optional*):
            What the model card can't know by itself: any argument of [`DocRETrainer.create_model_card`].
        after (`list[str]`, *optional*):
            Recipes that come before, paths seen from this one's file: each is trained where its `output_dir` does not
            hold what it makes yet, and left out where nothing in this recipe names that folder.
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

    @property
    def objective(self) -> str:
        """What is trained: one of `OBJECTIVES`."""
        return self.model.get("objective") or OBJECTIVES[0]


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
    written = dict(tree["model"])
    for name, value in _read_overrides(overrides):
        _set(tree, find_setting(name, tree["model"].get("objective") or OBJECTIVES[0]), value)
    check_recipe(tree, str(path))
    _say_what_stays(written, tree["model"])
    expand_path(tree["output_dir"], "output_dir")
    after = [str(Path(path).parent / name) for name in tree.get("after") or []]
    said = {item.name: tree.get(item.name) for item in dataclasses.fields(Recipe)}
    return Recipe(**{**said, "after": after})  # type: ignore[arg-type]


def _say_what_stays(written: Mapping[str, Any], model: Mapping[str, Any]) -> None:
    """Say which settings of the method that the file names are left to another method, which an override names."""
    before, now = written.get("method"), model.get("method")
    if before is None or now is None or before == now:
        return
    # Its size goes with the encoder, which stays too.
    of_before = {"head", "loss", "decision", "loss_arguments", *find_method(before).settings} - {"emb_size"}
    left = [f"{name}: {model[name]}" for name in written if name in of_before and model.get(name) == written[name]]
    if left:
        say_once(f"The method is {now} instead of the recipe's {before}, whose settings stay: {', '.join(left)}.")


def _read_tree(path: Path, below: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Read a recipe, and what it extends."""
    content = read_yaml(path.read_text(encoding="utf-8"), str(path))
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
    starts = [{"encoder", "checkpoint"} & part["model"].keys() for part in (found, tree)]
    if all(starts) and starts[0] != starts[1]:
        # A checkpoint brings its own settings along, an encoder has those that are said.
        found["model"] = {name: value for name, value in found["model"].items() if name == "objective"}
    if all(isinstance(part.get("self_training"), dict) for part in (found, tree)):
        joined.append("self_training")
    return {**found, **tree, **{section: {**found[section], **tree[section]} for section in joined}}


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
        parsed = read_yaml(value, text)
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


def read_yaml(text: str, place: str) -> Any:
    """
    Reads YAML, of which plain values mean what they do in YAML 1.2.

    Args:
        text (`str`): The text.
        place (`str`): Where it stands, for messages.

    Raises:
        RecipeError: If it is none.
        ModuleNotFoundError: If PyYAML isn't installed.
    """
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
    Loader.add_implicit_resolver("tag:yaml.org,2002:int", _INTEGER, list("-+0123456789"))
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", _NUMBER, list("-+.0123456789"))
    # 017 is seventeen, and 08 no mistake.
    Loader.add_constructor("tag:yaml.org,2002:int", _read_integer)
    try:
        return yaml.load(text, Loader=Loader)
    except yaml.YAMLError as error:
        raise RecipeError(f"{place} is not valid YAML: {error}") from None


def _read_integer(loader: Any, node: Any) -> int:
    return int(loader.construct_scalar(node))


def write_recipe(recipe: Recipe, folder: Path) -> None:
    """Writes `recipe.yaml` as the user wrote it, without tokens; nothing where an upload would tell absolute paths."""
    content = as_written(recipe)
    path = folder / _RECIPE_NAME
    places = [*filter(os.path.isabs, strings_in(content))] if recipe.training.get("push_to_hub") else []
    if places:
        path.unlink(missing_ok=True)
        logger.warning(
            f"No recipe.yaml is written, since it would go to the Hub and tell of {', '.join(places)}. Write paths "
            "from the working directory, or with an environment variable."
        )
        return
    folder.mkdir(parents=True, exist_ok=True)
    with open_output(path) as stream:
        stream.write(_to_yaml(content))


def _to_yaml(content: Mapping[str, Any]) -> str:
    """Write what [`read_yaml`] reads: strings that are numbers to it are quoted."""
    import yaml

    class Dumper(yaml.SafeDumper):
        """Quotes what is a plain value of YAML 1.1 or of 1.2."""

    Dumper.add_implicit_resolver("number", _INTEGER, list("-+0123456789"))
    Dumper.add_implicit_resolver("number", _NUMBER, list("-+.0123456789"))
    return yaml.dump(dict(content), Dumper=Dumper, sort_keys=False, allow_unicode=True)


def as_written(recipe: Recipe) -> dict[str, Any]:
    """A recipe as it is written beside what it makes: without tokens, and without what it comes after."""
    training = {name: value for name, value in recipe.training.items() if name not in SECRETS}
    content = dataclasses.asdict(dataclasses.replace(recipe, training=training))
    # A path seen from the recipe's own place, which this copy has not. They are done.
    del content["after"]
    if recipe.self_training is None:
        del content["self_training"]
    return content


def strings_in(value: Any) -> Iterator[str]:
    """Find all strings in the values of a recipe, whatever holds them."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from strings_in(part)


def check_made(recipe: Recipe, folder: Path, name: str) -> None:
    """
    Checks that what stands in a folder, done or not, is what a recipe makes.

    Args:
        recipe (`Recipe`): The recipe.
        folder (`pathlib.Path`): Its `output_dir`.
        name (`str`): What to call the recipe.

    Raises:
        RecipeError: If the folder's own recipe has other settings.
    """
    changed = _changed(recipe, folder)
    if changed:
        raise RecipeError(
            f"{folder} holds what {name} made with other settings: {_tell(changed)}, see {folder / _RECIPE_NAME}. To "
            "go on from what is there, pass --after=null; to train it again, remove the folder, or give the recipe "
            "another output_dir."
        )


def check_resumed(recipe: Recipe, folder: Path) -> None:
    """
    Checks that a run that is to go on has the settings that it began with. It may be longer, told in epochs or in
    steps as it was, and log, save and evaluate at other steps; a warning says so where its own recipe is not there.

    Args:
        recipe (`Recipe`): The recipe.
        folder (`pathlib.Path`): Its `output_dir`.

    Raises:
        RecipeError: If the folder's own recipe has other settings.
    """
    made = folder / _RECIPE_NAME
    if not made.is_file():
        logger.warning(f"{folder} has no {_RECIPE_NAME} that would tell whether its run began with these settings.")
    changed = {name: values for name, values in _changed(recipe, folder).items() if not _MAY_CHANGE.fullmatch(name)}
    (counted, before), (counted_now, now) = (_length(recipe, changed, side) for side in (0, 1))
    if counted == counted_now and before <= now:
        changed = {name: values for name, values in changed.items() if name not in _LENGTHS}
    if changed:
        raise RecipeError(
            f"{folder} holds a run with other settings: {_tell(changed)}. Go on with those of {made}, or train anew "
            "in another folder, --output_dir=FOLDER. Where they mean the same, as of a file that was moved, change "
            "them there."
        )


def _length(recipe: Recipe, changed: Mapping[str, tuple[Any, Any]], side: int) -> tuple[str, float]:
    """What ends a run, there (0) or here (1): a number of steps where one is set, or of epochs."""
    found = {}
    for place in _LENGTHS:
        name = place.removeprefix("training.")
        value = changed[place][side] if place in changed else recipe.training.get(name)
        value = getattr(arguments_of(recipe.objective), name) if value is None else value
        # What is no number is as long as nothing, itself included.
        found[name] = value if isinstance(value, int | float) else math.nan
    name = "max_steps" if found["max_steps"] > 0 else "num_train_epochs"
    return name, found[name]


def _changed(recipe: Recipe, folder: Path) -> dict[str, tuple[Any, Any]]:
    """The settings that a folder's own recipe has otherwise: what they are there, and now."""
    made = folder / _RECIPE_NAME
    said = read_yaml(made.read_text(encoding="utf-8"), str(made)) if made.is_file() else None
    if not isinstance(said, dict):
        return {}
    # As it would be read again: a tuple is a list there.
    now = read_yaml(_to_yaml(as_written(recipe)), str(made))
    changed = {}
    for section in (*SECTIONS, "self_training", "output_dir"):
        there, here = said.get(section), now.get(section)
        if section == "card" or there == here:
            continue
        if not isinstance(there, dict) or not isinstance(here, dict):
            changed[section] = there, here
            continue
        for name in sorted({*there, *here}):
            if there.get(name) != here.get(name):
                changed[f"{section}.{name}"] = there.get(name), here.get(name)
    return changed


def _tell(changed: Mapping[str, tuple[Any, Any]], most: int = 3) -> str:
    def say(value: Any) -> str:
        return "not set" if value is None else show(value)

    shown = [f"{name} is {say(there)} there and {say(here)} here" for name, (there, here) in changed.items()]
    more = f", and {len(shown) - most} more" if len(shown) > most else ""
    return f"{', '.join(shown[:most])}{more}"


__all__ = [
    "Recipe",
    "as_written",
    "check_made",
    "check_resumed",
    "load_recipe",
    "read_yaml",
    "strings_in",
    "write_recipe",
]
