"""The second stage of VaeDiff-DocRE as recipes say it: a generator learns from the pair embeddings of a model."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import transformers

from .configuration_vaediff import VaeDiffConfig
from .modeling_docre import DocREForRelationExtraction
from .pair_embeddings import PairEmbeddingStore, store_pair_embeddings
from .processes import Processes
from .processing_docre import DocREProcessor
from .recipe_data import expand_path, read_entry
from .recipe_files import Recipe, write_recipe
from .vaediff import VaeDiffForTraining
from .vaediff_training import VaeDiffTrainer, VaeDiffTrainingArguments

EMBEDDINGS = "pair_embeddings"
"""Name of the folder in the recipe's `output_dir` that holds what the generator learns from."""


def build_generator_trainer(recipe: Recipe) -> VaeDiffTrainer:
    """
    Makes everything that a recipe with `objective: generator` names; the embeddings are computed where they are not
    there yet.

    Args:
        recipe (`Recipe`): The recipe.

    Returns:
        `VaeDiffTrainer`: Ready for `train()`.

    Raises:
        RecipeError: If a file isn't there.
        DataFileError: If there are embeddings of another model, or of other documents.
    """
    folder = Path(expand_path(recipe.output_dir, "output_dir"))
    settings = {name: value for name, value in recipe.model.items() if name != "objective"}
    source = expand_path(settings.pop("checkpoint"), "model.checkpoint")
    documents = read_entry(recipe.data["train"], "data.train")
    arguments = VaeDiffTrainingArguments(output_dir=str(folder), **recipe.training)
    model: Any = DocREForRelationExtraction.from_pretrained(source).to(arguments.device)  # type: ignore[arg-type]
    processor = DocREProcessor.from_pretrained(source)
    place = folder / EMBEDDINGS
    write = partial(store_pair_embeddings, model, processor, documents, place)
    Processes(arguments.process_index, arguments.world_size).first(lambda: write() and None)
    store = PairEmbeddingStore(place)
    transformers.set_seed(arguments.seed)
    about = store.manifest
    config = VaeDiffConfig(about["relations"], about["relation_names"], embedding_size=about["width"], **settings)
    return VaeDiffTrainer(VaeDiffForTraining(config), arguments, store)


def train_generator(recipe: Recipe, checkpoint: str | None) -> dict[str, float]:
    """
    Trains a generator as a recipe says, and saves it in the recipe's `output_dir`.

    Args:
        recipe (`Recipe`): The recipe, with `objective: generator`.
        checkpoint (`str`, *optional*): Folder of a checkpoint to go on from.

    Returns:
        `dict[str, float]`: The metrics of training, also written to `all_results.json`.
    """
    trainer = build_generator_trainer(recipe)
    folder = Path(str(trainer.args.output_dir))
    if trainer.is_world_process_zero():
        write_recipe(recipe, folder)
    output = trainer.train(resume_from_checkpoint=checkpoint)
    trainer.save_metrics("train", output.metrics)
    if trainer.is_world_process_zero():
        trainer.generator.without_learner().save_pretrained(folder)
    # The last, since it says that all is done.
    trainer.save_state()
    return dict(output.metrics)


__all__ = ["EMBEDDINGS", "build_generator_trainer", "train_generator"]
