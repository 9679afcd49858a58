"""The part of [`DocRETrainer`] that keeps what its model card says, and what it lets out of this machine."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import EvalLoopOutput, HubStrategy, PredictionOutput
from transformers.utils import logging

from .document_batches import DocumentDataLoader
from .document_results import DocumentResult, reference
from .documents import Document
from .metrics.docred.scoring import relation_counts, score
from .prediction_files import write_evaluation
from .remote_code import PIPELINE_TAG
from .training_evaluation import EvaluatingTrainer

logger = logging.get_logger(__name__)

_HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")


@dataclass(frozen=True, slots=True)
class Evaluation:
    """
    One evaluation of a model.

    Args:
        prefix (`str`): The start of the names of its metrics: `"eval"`, `"eval_dev"`, `"test"`.
        step (`int`): The training step that the evaluated weights are of.
        metrics (`dict[str, float]`): The metrics, without the prefix.
        documents (`Sequence[Document]`): The labelled documents.
        threshold (`float`, *optional*): `config.threshold` at the time.
        evidence_threshold (`float`, *optional*): `config.evidence_threshold` at the time.
        relations (`dict[str, tuple[int, float, float, float]]`, *optional*): By relation the number of gold facts, F1,
            precision and recall, most gold facts first.
    """

    prefix: str
    step: int
    metrics: dict[str, float]
    documents: Sequence[Document]
    threshold: float | None = None
    evidence_threshold: float | None = None
    relations: dict[str, tuple[int, float, float, float]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What to call the documents: the name that the caller gave them, or `"evaluation"`."""
        return self.prefix.removeprefix("eval").removeprefix("_") or "evaluation"


def hub_id(name: str | None) -> str | None:
    """The id of a model that was loaded by `name`; `None` where that was a folder, or nothing."""
    return name if name and _HUB_ID.fullmatch(name) and not os.path.exists(name) else None


class RecordingTrainer(EvaluatingTrainer):
    """A trainer that writes its model card. [`DocRETrainer`] is the one to use."""

    card_template = "model_card_template.md"
    pipeline_tag: str | None = PIPELINE_TAG

    _resumed = False
    pseudo_labels = 0
    """Labels of the training documents that models have found."""
    regimes: Mapping[str, str] = MappingProxyType({})
    """What was left out of the `"train"` and `"eval"` documents by lot, in words."""
    passed: Mapping[str, Any] = MappingProxyType({})
    """Names of models that were passed as such, by the settings that could have named them."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._evaluations: list[Evaluation] = []
        # Of the last evaluation of each set alone: those of all epochs would fill the memory.
        self._predictions: dict[str, tuple[Sequence[Document], Any]] = {}
        self._tuned_on: dict[str, frozenset[str]] = {}
        self._card_settings: dict[str, Any] = {}
        super().__init__(*args, **kwargs)
        # Now, because a folder that is still there is known for one.
        self._start_model = hub_id(self.model.config.name_or_path)
        self._encoder = hub_id(self.model.config.encoder.name_or_path)

    @property
    def model_step(self) -> int:
        """The training step that the model's weights are of."""
        if self.args.load_best_model_at_end and self.state.best_model_checkpoint and not self.is_in_train:
            return self.state.best_global_step or 0
        return self.state.global_step

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """As `Trainer.train`; see [`DocRETrainer`]."""
        self._evaluations, self._tuned_on, self._resumed = [], {}, bool(resume_from_checkpoint)
        # The card of the checkpoint that was loaded is not that of what comes out.
        self.model.name_or_path = ""
        if isinstance(resume_from_checkpoint, str):
            with self.args.main_process_first(local=False, desc="reading the checkpoint"):
                _change_best_checkpoint(Path(resume_from_checkpoint), str(Path(resume_from_checkpoint).parent))
        return super().train(resume_from_checkpoint, *args, **kwargs)

    def set_annotated(self, documents: Sequence[Document]) -> None:
        """
        Says which labels the training documents had before models found more: those that Ign F1 and the card count.

        Args:
            documents (`Sequence[Document]`): The training documents, with these labels alone.
        """
        self._train_facts = [reference(document, str(number)) for number, document in enumerate(documents)]
        learnt = self.train_dataset.documents if self.train_dataset is not None else []
        self.pseudo_labels = sum(len(document.relations or ()) for document in learnt) - sum(
            len(document.relations or ()) for document in documents
        )

    # What is evaluated, and what thresholds were tuned on

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
            self._evaluations.append(
                Evaluation(
                    metric_key_prefix,
                    self.model_step,
                    {name.removeprefix(f"{metric_key_prefix}_"): value for name, value in metrics.items()},
                    documents,
                    self.model.config.threshold,
                    self.model.config.evidence_threshold,
                    _by_relation(documents, output.predictions),
                )
            )
            self._predictions[metric_key_prefix] = (documents, output.predictions)
        return output

    def _is_known(self, dataset: Any, prefix: str) -> bool:
        """Whether these are the documents that the prefix stands for, and not any that `evaluate` was called with."""
        if not prefix.startswith("eval") or self.eval_dataset is None:
            return True
        own = self.eval_dataset.values() if isinstance(self.eval_dataset, dict) else [self.eval_dataset]
        return any(dataset is part for part in own)

    def predict(self, *args: Any, **kwargs: Any) -> PredictionOutput:
        """As that of [`EvaluatingTrainer`]. It is no evaluation that a model card reports."""
        known, predictions = list(self._evaluations), dict(self._predictions)
        output = super().predict(*args, **kwargs)
        self._evaluations, self._predictions = known, predictions
        return output

    def save_predictions(self, prefix: str = "eval") -> None:
        """
        Writes what the last evaluation predicted as `_evaluation/predictions.json` in `args.output_dir`, rows of a
        submission with their scores, and the titles of its documents beside it, for `docre compare` and `docre plot`.
        A folder with such a name is not pushed to the Hub.

        Args:
            prefix (`str`, *optional*, defaults to `"eval"`):
                The `metric_key_prefix` of the evaluation; `"eval_dev"` of the set `dev` among several.

        Raises:
            ValueError: If there was no such evaluation.
        """
        if prefix not in self._predictions:
            done = ", ".join(sorted(self._predictions)) or "none"
            raise ValueError(f"There was no evaluation {prefix!r} (there was: {done}): call evaluate() before.")
        documents, predictions = self._predictions[prefix]
        if not self.is_world_process_zero():
            return
        shared = len(documents) - len({document.title for document in documents})
        if shared:
            logger.warning(
                f"{shared} of {len(documents)} evaluation documents have the title of another: in the file of "
                "predictions, which knows documents by their titles, they are one."
            )
        write_evaluation(Path(str(self.args.output_dir)), documents, predictions)

    def _results_to_tune_on(
        self, dataloader: DocumentDataLoader, threshold: str, **keep: bool
    ) -> tuple[list[Document], list[DocumentResult]]:
        documents, results = super()._results_to_tune_on(dataloader, threshold, **keep)
        self._tuned_on[threshold] = frozenset(document.text for document in documents)
        return documents, results

    def tuned_on(self, threshold: str, evaluation: Evaluation) -> bool:
        """
        Whether a threshold of the model was chosen on documents of an evaluation.

        Args:
            threshold (`str`): `"threshold"` or `"evidence_threshold"`.
            evaluation ([`Evaluation`]): The evaluation.
        """
        texts = self._tuned_on.get(threshold, frozenset())
        return self.tuned_f1(threshold) is not None and any(
            document.text in texts for document in evaluation.documents
        )

    def tuned_f1(self, threshold: str) -> float | None:
        """The F1 that a threshold of the model was chosen by; `None` where it was not chosen in this training."""
        value = getattr(self.model.config, threshold)
        found = [
            entry[f"{threshold}_f1"]
            for entry in self.state.log_history
            if f"{threshold}_f1" in entry and entry[threshold] == value
        ]
        return found[-1] if found else None

    def reported_evaluations(self) -> list[Evaluation]:
        """
        Returns:
            `list[Evaluation]`: For each set of documents the last evaluation of the model as it is now; if there is
            none, the last one of an earlier step.
        """
        found = {item.prefix: item for item in self._evaluations if item.step == self.model_step}
        return list(found.values()) or self._evaluations[-1:]

    # What goes out

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """As `Trainer.save_model`, with a model card where it is called by a user."""
        super().save_model(output_dir, _internal_call)
        if output_dir is None or not _internal_call:
            self.model.name_or_path = str(output_dir or self.args.output_dir)
        if not _internal_call:
            self._write_model_card(output_dir)

    def save_state(self) -> None:
        """As `Trainer.save_state`, without the place of the best checkpoint on this machine."""
        super().save_state()
        if self.is_world_process_zero():
            _change_best_checkpoint(Path(str(self.args.output_dir)), "")

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        if self.args.hub_strategy in (HubStrategy.CHECKPOINT, HubStrategy.ALL_CHECKPOINTS):
            _change_best_checkpoint(Path(checkpoint_folder), "")
        super()._push_from_checkpoint(checkpoint_folder)

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
        dataset_split: str | list[str] | None = None,
        dataset_revision: str | list[str] | None = None,
    ) -> None:
        """
        Writes the model card into `args.output_dir`: what the trainer knows of the model, its training and its last
        evaluation. A `README.md` whose tags lack `generated_from_trainer` was written by a person, and stays.

        No text of any document is in it. What is passed here goes into the cards that `save_model` and `push_to_hub`
        write afterwards, too.

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
                Id of the model that training started from. Defaults to the checkpoint's or the encoder's, if they
                were loaded by id.
            tasks (`str` or `list[str]`, *optional*):
                Task that the results are listed under. Defaults to `"relation-extraction"`.
            dataset_tags (`str` or `list[str]`, *optional*):
                Ids of the data sets. `model-index` lists the figures where there is one for each set of documents that
                was evaluated on, in their order.
            dataset (`str` or `list[str]`, *optional*):
                Names of the data sets, for readers.
            dataset_args (`str` or `list[str]`, *optional*):
                What else identifies the data that was evaluated on.
            dataset_split (`str` or `list[str]`, *optional*):
                The split that was evaluated on.
            dataset_revision (`str` or `list[str]`, *optional*):
                The commit of the data set.
        """
        said = dict(locals())
        self._card_settings |= {
            name: value for name, value in said.items() if name not in ("self", "__class__") and value is not None
        }
        self._write_model_card(None)

    def _write_model_card(self, folder: str | None) -> None:
        if not self.is_world_process_zero():
            return
        from .model_card import write_model_card

        write_model_card(self, Path(folder or str(self.args.output_dir)), **self._card_settings)


def _by_relation(documents: Sequence[Document], predictions: Any) -> dict[str, tuple[int, float, float, float]]:
    references = [reference(document, str(number)) for number, document in enumerate(documents)]
    rows = [
        {"title": str(number), "h_idx": relation.head, "t_idx": relation.tail, "r": relation.relation}
        for number, relations in enumerate(predictions)
        for relation in relations
    ]
    figures = score(rows, references)
    gold = sorted(relation_counts(references).items(), key=lambda item: (-item[1], item[0]))
    return {
        name: (facts, *(figures[f"relation/{name}/{figure}"] for figure in ("f1", "precision", "recall")))  # type: ignore[misc]
        for name, facts in gold
    }


def _change_best_checkpoint(folder: Path, parent: str) -> None:
    """Puts another parent folder, or none, before the best checkpoint that the state in `folder` names."""
    path = folder / TRAINER_STATE_NAME
    state = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    best = state.get("best_model_checkpoint")
    # What has a parent folder already was never uploaded.
    if best and (not parent or best == Path(best).name):
        state["best_model_checkpoint"] = os.path.join(parent, Path(best).name)
        path.write_text(json.dumps(state, indent=2, sort_keys=True) + "\n", encoding="utf-8")


__all__ = ["Evaluation", "RecordingTrainer", "hub_id"]
