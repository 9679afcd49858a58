"""
CAST, class-adaptive self-training: models that are trained on some documents find the labels that others lack.

Source: Tan et al., "Class-Adaptive Self-Training for Relation Extraction with Incompletely Annotated Training Data",
Findings of ACL 2023.
"""

from __future__ import annotations

import dataclasses
import gc
import hashlib
import json
import math
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from transformers.utils import logging

from . import __version__
from .data_files import read_json
from .documents import Document, Relation
from .output_files import open_output, write_list
from .processes import Processes
from .pseudo_labels import RelationCounts, count_relations, find_pseudo_labels, keep_probability, resample, split_folds
from .regimes import SEED
from .training import DocRETrainer, last_checkpoint
from .training_data import refuse_unlabelled

logger = logging.get_logger(__name__)

FOLDER = "_self_training"
"""Where the rounds are, in `output_dir`. There are documents in it: what begins with `_` does not go to the Hub."""

MEASURES = ("folds", "validation")

# Relations that the line about a round names.
_NAMED = 5


@dataclass(frozen=True)
class SelfTraining:
    """
    How a model trains itself.

    Args:
        folds (`int`, *optional*, defaults to 5):
            Parts of the training documents. The predictions on each are those of a new model that learns the others.
        rounds (`int`, *optional*, defaults to 1):
            How often labels are added so. `rounds * folds` models are trained before the one that stays.
        alpha (`float`, *optional*, defaults to 1.0):
            Exponent of the probability that a pseudo-label is kept; 0 keeps all, which is plain self-training.
        beta (`float`, *optional*, defaults to 1.0):
            How much a high recall of a relation speaks against its pseudo-labels; 0 for not at all.
        seed (`int`, *optional*, defaults to 13):
            Draws the folds, and the pseudo-labels that are kept. It is not that of the training.
        measured_on (`str`, *optional*, defaults to `"folds"`):
            Precision and recall are those of all predictions on held-out documents, against the labels that these
            have at that time; or, with `"validation"`, of the models of all folds on the evaluation documents, whose
            labels count once for each fold.
        keep_models (`bool`, *optional*, defaults to `False`):
            Whether the model of each fold stays on the disk, as a checkpoint like any other.

    Raises:
        ValueError: If a number is none of these.
    """

    folds: int = 5
    rounds: int = 1
    alpha: float = 1.0
    beta: float = 1.0
    seed: int = SEED
    measured_on: str = MEASURES[0]
    keep_models: bool = False

    def __post_init__(self) -> None:
        if self.folds < 2:
            raise ValueError(
                f"self_training.folds is {self.folds}, but a fold's model learns from the others: write 2 or more."
            )
        if self.rounds < 1:
            raise ValueError(f"self_training.rounds is {self.rounds}: write 1 or more, or leave self_training out.")
        for name in ("alpha", "beta"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0.0):
                raise ValueError(f"self_training.{name} is {value}, an exponent: write 0 or more, such as 0.5.")
        if self.measured_on not in MEASURES:
            raise ValueError(f"self_training.measured_on is {self.measured_on!r}: write {' or '.join(MEASURES)}.")


class _Found(NamedTuple):
    """What the model of a fold predicts."""

    held_out: list[list[Relation]]
    validation: list[list[Relation]]


@dataclass(frozen=True)
class SelfTrainingRun:
    """
    The rounds of self-training, up to the labels that the last model learns.

    All is kept in a folder: a run that was killed at any moment goes on there to the same labels, and folds that are
    done are not done again.

    Args:
        settings ([`SelfTraining`]): The settings.
        documents (list of [`Document`]): The training documents, labelled.
        evaluation (list of [`Document`], *optional*): Those by which the epoch or the threshold of a model is chosen.
        output_dir (`pathlib.Path`): That of the last model. The rounds are in `_self_training` there.
        build (`Callable`): Makes a trainer of a new model, from its own `output_dir` and training documents.
        about (`Mapping`): What else decides on the outcome, as JSON: a folder with other settings is refused.
        processes ([`Processes`], *optional*): Those that train each model together.
    """

    settings: SelfTraining
    documents: list[Document]
    evaluation: list[Document] | None
    output_dir: Path
    build: Callable[[Path, list[Document]], DocRETrainer]
    about: Mapping[str, Any]
    processes: Processes = field(default_factory=Processes)

    def go(self) -> list[Document]:
        """
        Do what is not done.

        Returns:
            list of [`Document`]: The training documents with their labels and, after these, the pseudo-labels that
            were kept, which have a score.

        Raises:
            ValueError: If documents have no labels, are too few, or are there for training and evaluation alike, or
                the folder holds something else.
        """
        refuse_unlabelled(self.documents, "data.train", "self-training")
        self._check_evaluation()
        parts = split_folds(self.documents, self.settings.folds, self.settings.seed)
        self.processes.first(self._begin)
        labelled = self.documents
        for number in range(self.settings.rounds):
            labelled = self._round(number, labelled, parts)
        return labelled

    def _check_evaluation(self) -> None:
        texts = {document.text for document in self.documents}
        both = [document.title for document in self.evaluation or () if document.text in texts]
        if both:
            raise ValueError(
                f"data.eval holds {len(both)} documents of data.train, such as {both[0]!r}: the model of a fold would "
                "be chosen by documents that it must not have seen. Take them out of one of the two."
            )
        if self.settings.measured_on == "validation" and not self.evaluation:
            raise ValueError(
                "self_training.measured_on: validation needs documents to measure on: name them as data.eval, or "
                "write measured_on: folds."
            )

    def _begin(self) -> None:
        """Refuse a folder that is another run's, and say in a new one what it is for."""
        settings = dataclasses.asdict(self.settings)
        data = {"train": _digest(self.documents), "eval": _digest(self.evaluation or ())}
        made_with = {**self.about, "self_training": settings, "documents": data, "version": __version__}
        # As it is read again.
        made_with = json.loads(json.dumps(made_with, default=str))
        file = self.output_dir / FOLDER / "settings.json"
        mend = f"Remove {self.output_dir} to begin again, or choose another folder with --output_dir=FOLDER."
        if not file.is_file():
            if last_checkpoint(self.output_dir) is not None:
                raise ValueError(f"{self.output_dir} holds checkpoints of a training without these rounds. {mend}")
            if any(file.parent.glob("round-*")):
                raise ValueError(f"{file.parent} holds rounds, and no settings.json that says of what. {mend}")
            _write_json(made_with, file)
            return
        before, now = dict(_settings(read_json(file))), dict(_settings(made_with))
        changed = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
        if changed:
            raise ValueError(
                f"{self.output_dir} holds self-training with other settings: compare {', '.join(changed)} in {file}. "
                f"{mend}"
            )

    def _round(self, number: int, documents: list[Document], parts: list[list[int]]) -> list[Document]:
        settings, folder = self.settings, self.output_dir / FOLDER / f"round-{number}"
        predictions: list[list[Relation]] = [[] for _ in documents]
        on_validation: list[list[Relation]] = []
        for fold, held_out in enumerate(parts):
            found = self._fold(folder / f"fold-{fold}", documents, held_out)
            on_validation += found.validation
            for place, relations in zip(held_out, found.held_out, strict=True):
                predictions[place] = relations
        counts = count_relations(documents, predictions)
        if settings.measured_on == "validation":
            # The model of each fold has answered all of them.
            counts = count_relations((self.evaluation or []) * settings.folds, on_validation)
        pseudo_labels = list(map(find_pseudo_labels, documents, predictions))
        found_of = Counter(label.relation for labels in pseudo_labels for label in labels)
        counts |= {name: RelationCounts() for name in found_of.keys() - counts.keys()}
        probabilities = {name: keep_probability(item, settings.alpha, settings.beta) for name, item in counts.items()}
        kept = [
            resample(document, labels, probabilities, settings.seed, number)
            for document, labels in zip(documents, pseudo_labels, strict=True)
        ]
        kept_of = Counter(label.relation for labels in kept for label in labels)
        labelled = [
            replace(document, relations=(*(document.relations or ()), *labels))
            for document, labels in zip(documents, kept, strict=True)
        ]
        report = {
            "measured_on": settings.measured_on,
            "labels": sum(len(document.relations or ()) for document in documents),
            "pseudo_labels": found_of.total(),
            "kept": kept_of.total(),
            "relations": {
                name: {
                    **dataclasses.asdict(counts[name]),
                    "precision": counts[name].precision,
                    "recall": counts[name].recall,
                    "keep_probability": probabilities[name],
                    "pseudo_labels": found_of[name],
                    "kept": kept_of[name],
                }
                for name in sorted(counts, key=lambda name: (-found_of[name], name))
            },
        }
        self.processes.first(lambda: self._write_round(folder, labelled, report))
        return labelled

    def _write_round(self, folder: Path, labelled: list[Document], report: dict[str, Any]) -> None:
        with open_output(folder / "train.json") as stream:
            write_list(map(_mark, labelled, self.documents), stream)
        _write_json(report, folder / "report.json")
        most = sorted(report["relations"].items(), key=lambda item: -item[1]["kept"])[:_NAMED]
        named = ", ".join(
            f"{name} {item['kept']:,} of {item['pseudo_labels']:,} (P {_percent(item['precision'])}, "
            f"R {_percent(item['recall'])})"
            for name, item in most
            if item["kept"]
        )
        logger.warning(
            f"Self-training, {folder.name}: {report['kept']:,} of {report['pseudo_labels']:,} pseudo-labels are kept "
            f"beside {report['labels']:,} labels{f', most of {named}' if named else ''}; all relations are in "
            f"{folder / 'report.json'}."
            + ("" if report["kept"] else " What follows learns the same labels as without self-training.")
        )

    def _fold(self, folder: Path, documents: list[Document], held_out: list[int]) -> _Found:
        """Train on the other documents, unless that is done, and predict."""
        file, place = folder / "predictions.json", folder / "model"
        found = self.processes.first(lambda: _read_found(file))
        if found is None:
            apart = set(held_out)
            others = [document for number, document in enumerate(documents) if number not in apart]
            if self.processes.rank == 0:
                logger.warning(
                    f"Self-training, {folder.parent.name}/{folder.name} of {self.settings.folds}: {len(others):,} "
                    "documents to train on, "
                    f"{len(held_out):,} to find labels in."
                )
            # Before any process may write there.
            checkpoint = self.processes.first(lambda: last_checkpoint(place))
            trainer = self.build(place, others)
            if others != (annotated := [one for number, one in enumerate(self.documents) if number not in apart]):
                trainer.set_annotated(annotated)
            trainer.train(resume_from_checkpoint=checkpoint)
            if self.settings.keep_models:
                trainer.save_model()
            validation = self.evaluation if self.settings.measured_on == "validation" else None
            found = _Found(
                _predict(trainer, [documents[number] for number in held_out]), _predict(trainer, validation or [])
            )
            self.processes.first(lambda: _write_found(found, file))
            # A trainer, its model and its optimizer hold each other.
            del trainer
            gc.collect()
        if not self.settings.keep_models:
            self.processes.first(lambda: shutil.rmtree(place, ignore_errors=True))
        return found


def _percent(part: float | None) -> str:
    return "unknown" if part is None else f"{part:.0%}"


def _predict(trainer: DocRETrainer, documents: Sequence[Document]) -> list[list[Relation]]:
    if not documents:
        return []
    # Without their labels, which nobody is to look at.
    found: Any = trainer.predict([replace(document, relations=None) for document in documents]).predictions
    return found


def _write_found(found: _Found, file: Path) -> None:
    _write_json(
        {
            name: [[dataclasses.asdict(relation) for relation in relations] for relations in part]
            for name, part in found._asdict().items()
        },
        file,
    )


def _read_found(file: Path) -> _Found | None:
    if not file.is_file():
        return None
    content = read_json(file)
    return _Found(
        **{
            name: [[Relation(**{**row, "evidence": tuple(row["evidence"])}) for row in rows] for rows in part]
            for name, part in content.items()
        }
    )


def _mark(labelled: Document, original: Document) -> dict[str, Any]:
    """Write a document in DocRED's form, and say which of its labels are pseudo-labels."""
    row = labelled.to_docred()
    for label in row["labels"][len(original.relations or ()) :]:
        label["pseudo_label"] = True
    return row


def _write_json(content: Any, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with open_output(file) as stream:
        json.dump(content, stream, indent=1, ensure_ascii=False)


def _digest(documents: Sequence[Document]) -> str:
    digest = hashlib.sha256()
    for document in documents:
        digest.update(repr(document).encode())
    return f"{len(documents)} documents, {digest.hexdigest()[:16]}"


def _settings(content: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Settings by their names, as in `training.learning_rate`."""
    if not isinstance(content, dict):
        yield name, content
        return
    for key, value in content.items():
        yield from _settings(value, f"{name}.{key}" if name else key)


__all__ = ["FOLDER", "MEASURES", "SelfTraining", "SelfTrainingRun"]
