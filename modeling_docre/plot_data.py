"""The numbers that pictures show, without drawing."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, takewhile
from typing import Any

import numpy as np

from .metrics.docred.measures import NUM_CLUSTERS, RELATED_SHARES
from .metrics.docred.rows import read_prediction, read_references
from .metrics.docred.scoring import relation_counts, score, score_counts
from .output_files import DataFileError

Rows = Iterable[Mapping[str, Any]]

# Figures that are no F1 of an evaluation's relations, though their names end so.
_OTHER_F1 = re.compile(r"(^|_)(ign|evidence_sentence)_f1$")


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean of values and their sample standard deviation, 0 of one."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def relation_frequencies(documents: Rows) -> list[tuple[str, int]]:
    """
    Count the facts of each relation, the commonest first.

    Args:
        documents (iterable of `Mapping`): Labelled documents in DocRED's form.

    Raises:
        DataFileError: If there is no fact.
    """
    counts = relation_counts(documents)
    if not counts:
        raise DataFileError("No document has a relation, so there is nothing to draw: pass labelled documents.")
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def head_of(frequencies: Sequence[tuple[str, int]]) -> int:
    """Return how many of the commonest relations have half of all facts."""
    total, seen = sum(count for _, count in frequencies), 0
    for number, (_, count) in enumerate(frequencies, 1):
        seen += count
        if 2 * seen >= total:
            return number
    return len(frequencies)


def clusters_of(
    systems: Mapping[str, Sequence[Rows]], references: Sequence[Mapping[str, Any]], training: Sequence[Any]
) -> dict[str, list[tuple[float, float] | None]]:
    """
    Score the scorer's clusters of relations that are about as frequent in training (ERA, figure 3) for systems.

    Args:
        systems (`Mapping`): For each system the predictions of its runs.
        references (sequence of `Mapping`): Gold documents in DocRED's form.
        training (sequence of `Mapping`): Training documents, which say how frequent a relation is.

    Returns:
        `dict[str, list]`: For each system and cluster mean and standard deviation over its runs; `None` where the
        cluster has no gold facts.
    """
    counts = score_counts([], references, train_annotated=training)
    names = [f"f1_cluster_{number}" for number in range(1, NUM_CLUSTERS + 1)]
    found = {}
    for system, runs in systems.items():
        scores = [score(run, references, train_annotated=training) for run in runs]
        found[system] = [spread([one[n] for one in scores]) if counts[f"{n}_relations"] else None for n in names]
    return found


@dataclass(frozen=True, slots=True)
class ShareGroup:
    """
    Documents with about the same share of related pairs.

    Args:
        low (`int`): The least percentage of the pairs that are related.
        high (`int`): What it is below, or at most 100.
        documents (`int`): How many they are.
        f1 (`dict[str, tuple[float, float]]`): For each system mean and standard deviation of F1 over its runs.
    """

    low: int
    high: int
    documents: int
    f1: dict[str, tuple[float, float]]


def related_groups(systems: Mapping[str, Sequence[Rows]], references: Sequence[Mapping[str, Any]]) -> list[ShareGroup]:
    """
    Score the scorer's groups of documents by the percentage of their pairs that is related (PAEE, figure 4).

    Args:
        systems (`Mapping`): For each system the predictions of its runs.
        references (sequence of `Mapping`): Gold documents in DocRED's form.

    Returns:
        `list[ShareGroup]`: The groups that have documents, those with the smallest shares first.
    """
    counts = score_counts([], references)
    scores = {system: [score(run, references) for run in runs] for system, runs in systems.items()}
    found = []
    for low, high in pairwise(RELATED_SHARES):
        name = f"related_{low}_{high}"
        if counts[f"documents_{name}"]:
            f1 = {system: spread([one[f"f1_{name}"] for one in runs]) for system, runs in scores.items()}
            found.append(ShareGroup(low, high, counts[f"documents_{name}"], f1))
    return found


@dataclass(frozen=True, slots=True)
class Reliability:
    """
    How often predictions are right, by their scores.

    Args:
        score (`list[float | None]`): For each of the bins of equal width the mean score; `None` without predictions.
        correct (`list[float | None]`): The part that is right.
        number (`list[int]`): How many predictions there are.
        error (`float`): The expected calibration error: the mean over all predictions of how far both are apart.
        lowest (`float`): The lowest score of all.
    """

    score: list[float | None]
    correct: list[float | None]
    number: list[int]
    error: float
    lowest: float


def reliability(rows: Rows, references: Rows, bins: int = 10) -> Reliability:
    """
    Compare scores with how often they are right (Guo et al., 2017).

    Args:
        rows (iterable of `Mapping`): Rows of a submission with a `score`; one that says the same twice counts once.
        references (iterable of `Mapping`): Gold documents in DocRED's form.
        bins (`int`, *optional*, defaults to 10): How many bins of equal width scores from 0 to 1 fall into.

    Returns:
        [`Reliability`]: What was found.

    Raises:
        DataFileError: If a row has no score from 0 to 1, or there is no row.
    """
    gold = read_references(references)
    scores: dict[tuple[str, int, int, str], float] = {}
    for number, row in enumerate(rows):
        triple, _ = read_prediction(row, f"predictions[{number}]")
        value = row.get("score")
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 <= value <= 1.0:
            raise DataFileError(
                f"predictions[{number}]: 'score' is {value!r}, and a probability from 0 to 1 is needed. docre extract "
                "-o FILE.jsonl writes scores, a submission has none."
            )
        scores.setdefault(triple, float(value))
    if not scores:
        raise DataFileError("There are no predictions, so there is nothing to draw.")
    values = np.array(list(scores.values()))
    right = np.array([triple in gold.evidence for triple in scores], dtype=float)
    places = np.minimum((values * bins).astype(int), bins - 1)
    number_in = np.bincount(places, minlength=bins)
    mean = np.bincount(places, values, bins) / np.maximum(number_in, 1)
    part = np.bincount(places, right, bins) / np.maximum(number_in, 1)
    error = float(np.sum(number_in * np.abs(mean - part)) / len(values))
    there = number_in > 0
    return Reliability(
        [float(one) if some else None for one, some in zip(mean, there, strict=True)],
        [float(one) if some else None for one, some in zip(part, there, strict=True)],
        number_in.tolist(),
        error,
        float(values.min()),
    )


@dataclass(frozen=True, slots=True)
class TrainingCurves:
    """
    What a training logged.

    Args:
        losses (`dict[str, list[tuple[int, float]]]`): Steps and values of the whole loss, `loss`, and of its parts.
        f1 (`dict[str, list[tuple[int, float]]]`): The same of F1 on each set of evaluation documents, by its name;
            `""` where there is one alone.
    """

    losses: dict[str, list[tuple[int, float]]]
    f1: dict[str, list[tuple[int, float]]]


def training_curves(log: Sequence[Mapping[str, Any]]) -> TrainingCurves:
    """
    Sort what a training has logged.

    Args:
        log (sequence of `Mapping`): The `log_history` of its state.

    Returns:
        [`TrainingCurves`]: Losses of training, and F1 of evaluations during training; of the one after it where there
        was none. A loss that has one part is not there twice.
    """
    during = list(takewhile(lambda entry: "train_runtime" not in entry, log))
    losses: dict[str, list[tuple[int, float]]] = {}
    for entry in during:
        if "loss" in entry:
            for name, value in entry.items():
                if name == "loss" or name.startswith("loss_"):
                    losses.setdefault(name.removeprefix("loss_"), []).append((entry["step"], value))
    if len(losses) == 2:
        losses = {"loss": losses["loss"]}
    return TrainingCurves(losses, _f1_curves(during) or _f1_curves(log))


def _f1_curves(log: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[int, float]]]:
    found: dict[str, list[tuple[int, float]]] = {}
    for entry in log:
        for name, value in entry.items():
            if name.startswith("eval_") and name.endswith("_f1") and not _OTHER_F1.search(name):
                found.setdefault(name[len("eval_") : -len("_f1")], []).append((entry["step"], value))
    return found


def sampling_lines(rows: Sequence[Mapping[str, Any]], labels: str) -> dict[str, list[tuple[float, float, float]]]:
    """
    Average the points of a sweep of the rate of negative labels over their seeds.

    Args:
        rows (sequence of `Mapping`): The points: `loss`, `rate`, `seed`, and `scores` by set of labels.
        labels (`str`): The set of labels.

    Returns:
        `dict[str, list]`: For each loss rate, mean F1 and its sample standard deviation, in percent.
    """
    found: dict[str, dict[float, list[float]]] = {}
    for row in rows:
        found.setdefault(row["loss"], {}).setdefault(row["rate"], []).append(100 * row["scores"][labels]["f1"])
    return {
        loss: [(rate, *spread(values)) for rate, values in sorted(points.items())] for loss, points in found.items()
    }


__all__ = [
    "Reliability",
    "ShareGroup",
    "TrainingCurves",
    "clusters_of",
    "head_of",
    "related_groups",
    "relation_frequencies",
    "reliability",
    "sampling_lines",
    "spread",
    "training_curves",
]
