"""The part of [`DocRETrainer`] that keeps what its model card says: where data came from, and each evaluation."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers.trainer_utils import EvalLoopOutput

from .document_batches import DocumentDataLoader
from .documents import Document, Relation
from .training_evaluation import EvaluatingTrainer

# The place of a file in a dataset repository, as `datasets` notes it: the repository, and the commit that was read.
_HUB_FILE = re.compile(r"hf://datasets/([^@]+)@([0-9a-f]{7,64})/")
_HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")


@dataclass(frozen=True, slots=True)
class Origin:
    """
    The dataset repository that documents were loaded from.

    Args:
        dataset (`str`): The id of the repository.
        revision (`str`): The commit that was read.
        config (`str`, *optional*): The name of the configuration, where it isn't the only one.
        split (`str`, *optional*): The split.
    """

    dataset: str
    revision: str
    config: str | None = None
    split: str | None = None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """
    One evaluation of a model.

    Args:
        prefix (`str`): The start of the names of its metrics: `"eval"`, `"eval_dev"`, `"test"`.
        step (`int`): The training step that the evaluated weights are of.
        metrics (`dict[str, float]`): The metrics, without the prefix.
        documents (`int`, *optional*): The number of documents; `None` where only the log of an earlier session knows.
        facts (`int`, *optional*): The number of gold facts.
        threshold (`float`, *optional*): `config.threshold` at the time.
        evidence_threshold (`float`, *optional*): `config.evidence_threshold` at the time.
        relations (`dict[str, tuple[int, int, int]]`, *optional*): By relation the number of gold facts, predicted
            facts, and correctly predicted ones.
    """

    prefix: str
    step: int
    metrics: dict[str, float]
    documents: int | None = None
    facts: int | None = None
    threshold: float | None = None
    evidence_threshold: float | None = None
    relations: dict[str, tuple[int, int, int]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What to call the documents: the name that the caller gave them, or `"evaluation"`."""
        return self.prefix.removeprefix("eval").removeprefix("_") or "evaluation"


def hub_origin(data: Any) -> Origin | None:
    """
    Finds out which dataset repository documents were loaded from.

    Args:
        data (`datasets.Dataset` or anything else): What a caller passed as documents.

    Returns:
        `Origin` or `None`: `None` for anything but a dataset whose files all come from one commit of one repository.
    """
    info = getattr(data, "info", None)
    found = {_HUB_FILE.match(str(url)) for url in getattr(info, "download_checksums", None) or ()}
    places = {match.groups() for match in found if match is not None}
    if len(places) != 1 or None in found:
        return None
    ((dataset, revision),) = places
    config, split = getattr(info, "config_name", None), getattr(data, "split", None)
    return Origin(dataset, revision, None if config == "default" else config, None if split is None else str(split))


def hub_origins(train: Any, evaluation: Any) -> dict[str, Origin]:
    """
    Finds out which dataset repositories a trainer's documents were loaded from.

    Args:
        train (`Any`): What was passed as training documents.
        evaluation (`Any`): What was passed as evaluation documents, perhaps a `dict` of several sets.

    Returns:
        `dict[str, Origin]`: By `"train"`, `"eval"` or `"eval_NAME"`, those that are known.
    """
    data = {"train": train}
    if type(evaluation) is dict:
        data.update({f"eval_{name}": part for name, part in evaluation.items()})
    else:
        data["eval"] = evaluation
    origins = {name: hub_origin(part) for name, part in data.items()}
    return {name: origin for name, origin in origins.items() if origin is not None}


def hub_model(config: Any) -> str | None:
    """
    The id of the model that training started from.

    Args:
        config ([`DocREConfig`]): The configuration of the model.

    Returns:
        `str` or `None`: The id of the checkpoint, or else of its encoder; `None` where that was a folder.
    """
    for name in (config.name_or_path, config.encoder.name_or_path):
        if name and _HUB_ID.fullmatch(name) and not os.path.exists(name):
            return str(name)
    return None


def relation_counts(
    documents: Sequence[Document], predictions: Sequence[Sequence[Relation]]
) -> dict[str, tuple[int, int, int]]:
    """
    Counts facts by relation.

    Args:
        documents (`Sequence[Document]`): Labelled documents.
        predictions (`Sequence[Sequence[Relation]]`): What is predicted in each.

    Returns:
        `dict[str, tuple[int, int, int]]`: Gold facts, predicted facts and correct ones, most gold facts first.
    """
    counts: tuple[Counter[str], Counter[str], Counter[str]] = (Counter(), Counter(), Counter())
    for document, predicted in zip(documents, predictions, strict=True):
        gold, found = (
            {(relation.head, relation.tail, relation.relation) for relation in relations or ()}
            for relations in (document.relations, predicted)
        )
        for counter, facts in zip(counts, (gold, found, gold & found), strict=True):
            counter.update(name for *_, name in facts)
    names = sorted(counts[0].keys() | counts[1].keys(), key=lambda name: (-counts[0][name], name))
    return {name: (counts[0][name], counts[1][name], counts[2][name]) for name in names}


class RecordingTrainer(EvaluatingTrainer):
    """A trainer that writes its model card. [`DocRETrainer`] is the one to use."""

    _origins: dict[str, Origin]
    _resumed = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._evaluations: list[Evaluation] = []
        self._card_settings: dict[str, Any] = {}
        super().__init__(*args, **kwargs)
        # Now, because a folder that is still there is known for one.
        self._base_model = hub_model(self.model.config)

    @property
    def model_step(self) -> int:
        """The training step that the model's weights are of."""
        if self.args.load_best_model_at_end and self.state.best_model_checkpoint and not self.is_in_train:
            return self.state.best_global_step or 0
        return self.state.global_step

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """As `Trainer.train`; see [`DocRETrainer`]."""
        self._evaluations, self._resumed = [], bool(resume_from_checkpoint)
        return super().train(resume_from_checkpoint, *args, **kwargs)

    def evaluation_loop(  # type: ignore[override]
        self,
        dataloader: DocumentDataLoader,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """As that of [`EvaluatingTrainer`]; what comes out is kept for the model card."""
        output = super().evaluation_loop(dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix)
        metrics = output.metrics or {}
        if f"{metric_key_prefix}_f1" in metrics and self._is_known(dataloader.dataset, metric_key_prefix):
            documents: list[Document] = dataloader.dataset.documents  # type: ignore[attr-defined]
            relations = relation_counts(documents, output.predictions)  # type: ignore[arg-type]
            self._evaluations.append(
                Evaluation(
                    metric_key_prefix,
                    self.model_step,
                    {name.removeprefix(f"{metric_key_prefix}_"): value for name, value in metrics.items()},
                    documents=len(documents),
                    facts=sum(gold for gold, _, _ in relations.values()),
                    threshold=self.model.config.threshold,
                    evidence_threshold=self.model.config.evidence_threshold,
                    relations=relations,
                )
            )
        return output

    def _is_known(self, dataset: Any, prefix: str) -> bool:
        """Whether these are the documents that the prefix stands for, and not any that `evaluate` was called with."""
        if not prefix.startswith("eval") or self.eval_dataset is None:
            return True
        own = self.eval_dataset.values() if isinstance(self.eval_dataset, dict) else [self.eval_dataset]
        return any(dataset is part for part in own)

    def reported_evaluations(self) -> list[Evaluation]:
        """
        Returns:
            `list[Evaluation]`: For each set of documents the last evaluation of the model as it is now; if there is
            none, the last one of an earlier step.
        """
        found = {item.prefix: item for item in self._evaluations if item.step == self.model_step}
        if found:
            return list(found.values())
        # A run that was resumed with its best step behind it has the figures of that step in its log alone.
        logged = logged_evaluations(self.state.log_history)
        found = {item.prefix: item for item in logged if item.step == self.model_step}
        return list(found.values()) or self._evaluations[-1:]

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """As `Trainer.save_model`, with a model card where it is called by a user."""
        super().save_model(output_dir, _internal_call)
        if not _internal_call:
            self._write_model_card(output_dir)

    def create_model_card(
        self,
        language: str | list[str] | None = None,
        license: str | None = None,
        tags: str | list[str] | None = None,
        model_name: str | None = None,
        finetuned_from: str | None = None,
        tasks: str | list[str] | None = None,
        dataset_tags: str | list[str] | None = None,
        dataset: str | list[str] | None = None,
        dataset_args: str | list[str] | None = None,
    ) -> None:
        """
        Writes the model card into `args.output_dir`: what the trainer knows of the model, its training and its last
        evaluation. A `README.md` whose tags lack `generated_from_trainer` was written by a person, and stays.

        The table of relations quotes a short sentence of a training document for each. What is passed here goes into
        the cards that `save_model` and `push_to_hub` write afterwards, too.

        Args:
            language (`str` or `list[str]`, *optional*):
                Languages of the documents, such as `"en"`.
            license (`str`, *optional*):
                Licence of the model, such as `"apache-2.0"`.
            tags (`str` or `list[str]`, *optional*):
                Tags besides those that every card has.
            model_name (`str`, *optional*):
                Name of the model. Defaults to that of its repository or folder.
            finetuned_from (`str`, *optional*):
                Id of the model that training started from. Defaults to the encoder's, if it is not a folder.
            tasks (`str` or `list[str]`, *optional*):
                Task that the results are listed under. Defaults to `"relation-extraction"`.
            dataset_tags (`str` or `list[str]`, *optional*):
                Ids of the data sets. Known for a `datasets.Dataset` that was loaded from the Hub.
            dataset (`str` or `list[str]`, *optional*):
                Names of the data sets, for readers.
            dataset_args (`str` or `list[str]`, *optional*):
                What else identifies the data that was evaluated on.
        """
        given = {
            "language": language,
            "license": license,
            "tags": tags,
            "model_name": model_name,
            "finetuned_from": finetuned_from,
            "tasks": tasks,
            "dataset_tags": dataset_tags,
            "dataset": dataset,
            "dataset_args": dataset_args,
        }
        self._card_settings.update({name: value for name, value in given.items() if value is not None})
        self._write_model_card(None)

    def _write_model_card(self, folder: str | None) -> None:
        if not self.is_world_process_zero():
            return
        from .model_card import write_model_card

        write_model_card(self, Path(folder or str(self.args.output_dir)), **self._card_settings)


def logged_evaluations(log: Sequence[dict[str, Any]]) -> list[Evaluation]:
    """
    Reads evaluations out of a trainer's log.

    Args:
        log (`Sequence[dict]`): `trainer.state.log_history`.

    Returns:
        `list[Evaluation]`: Those during training, by their metrics alone.
    """
    found = []
    for entry in log:
        if "train_runtime" in entry:
            break
        for key in entry:
            prefix = key.removesuffix("_f1")
            # A runtime is what `evaluate` adds to its own metrics.
            if f"{prefix}_runtime" in entry and key != prefix:
                metrics = {
                    name.removeprefix(f"{prefix}_"): value
                    for name, value in entry.items()
                    if name.startswith(f"{prefix}_")
                }
                found.append(Evaluation(prefix, entry["step"], metrics))
    return found


__all__ = ["Evaluation", "Origin", "RecordingTrainer", "hub_model", "hub_origin", "hub_origins", "logged_evaluations"]
