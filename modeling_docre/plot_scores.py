"""Pictures of data sets and of what systems predict in them."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

from .metrics.docred.measures import NUM_CLUSTERS
from .metrics.docred.rows import read_prediction
from .plot_data import (
    Reliability,
    Rows,
    ShareGroup,
    clusters_of,
    head_of,
    related_groups,
    relation_frequencies,
    reliability,
)
from .plot_style import COLUMN, bar_style, check_picture, drawing, import_part, line_style


def plot_relations(documents: Rows, path: str | os.PathLike[str]) -> list[tuple[str, int]]:
    """
    Draw how frequent the relations of a data set are, the commonest first (ERA, figure 1).

    Args:
        documents (iterable of `Mapping`): Labelled documents in DocRED's form.
        path (`str` or `os.PathLike`): The picture, `.png` or `.svg`.

    Returns:
        `list[tuple[str, int]]`: The relations with their facts.

    Raises:
        DataFileError: If there is no fact.
        ValueError: If the picture has another form.
    """
    check_picture(path)
    frequencies = relation_frequencies(documents)
    head = head_of(frequencies)
    counts = [count for _, count in frequencies]
    with drawing(path, COLUMN, 2.1) as figure:
        axes = figure.subplots()
        parts = {f"{_relations(head)}: half of all facts": range(head)}
        if head < len(counts):
            parts[f"{_relations(len(counts) - head)}: the other half"] = range(head, len(counts))
        for number, (words, places) in enumerate(parts.items()):
            style = {**bar_style(number), "linewidth": 0.2}
            axes.bar([place + 1 for place in places], [counts[place] for place in places], 0.9, label=words, **style)
        axes.set(xlabel="relation, by number of facts", ylabel="facts", xlim=(0.2, len(counts) + 0.8))
        _whole_numbers(axes.xaxis)
        axes.yaxis.set_major_formatter(import_part("matplotlib.ticker").StrMethodFormatter("{x:,.0f}"))
        axes.annotate(
            f"{frequencies[0][0]}: {counts[0]:,}", (1, counts[0]), xytext=(5, -2), textcoords="offset points"
        )
        axes.legend(loc="center right", frameon=False)
    return frequencies


def plot_clusters(
    systems: Mapping[str, Sequence[Rows]],
    references: Sequence[Mapping[str, Any]],
    training: Sequence[Any],
    path: str | os.PathLike[str],
) -> dict[str, list[tuple[float, float] | None]]:
    """
    Draw F1 by ten clusters of relations, from the commonest to the rarest in training (ERA, figure 3).

    Args:
        systems (`Mapping`): For each system the predictions of its runs, rows of a submission.
        references (sequence of `Mapping`): Gold documents in DocRED's form.
        training (sequence of `Mapping`): Training documents.
        path (`str` or `os.PathLike`): The picture, `.png` or `.svg`.

    Returns:
        `dict[str, list]`: What [`clusters_of`] returns.

    Raises:
        ScoringError: If a row or a document is malformed.
        ValueError: If the picture has another form.
    """
    check_picture(path)
    found = clusters_of(systems, references, training)
    with drawing(path, COLUMN, 2.4) as figure:
        axes = figure.subplots()
        for number, (name, clusters) in enumerate(found.items()):
            # Nothing is drawn where a cluster has no gold fact, and no line over it.
            points = [(math.nan, math.nan) if one is None else (100 * one[0], 100 * one[1]) for one in clusters]
            means, deviations = zip(*points, strict=True)
            _line(
                axes, number, name, range(1, NUM_CLUSTERS + 1), means, deviations if len(systems[name]) > 1 else None
            )
        axes.set(
            xlabel="cluster of relations, commonest to rarest", ylabel="mean F1 of the relations (%)",
            xlim=(0.6, NUM_CLUSTERS + 0.4), xticks=range(1, NUM_CLUSTERS + 1),
        )  # fmt: skip
        _grid(axes)
        _legend(figure, axes, systems)
    return found


def plot_related_pairs(
    systems: Mapping[str, Sequence[Rows]],
    references: Sequence[Mapping[str, Any]],
    path: str | os.PathLike[str],
) -> list[ShareGroup]:
    """
    Draw F1 by the part of a document's pairs that has a relation (PAEE, figure 4), in the scorer's groups.

    Args:
        systems (`Mapping`): For each system the predictions of its runs, rows of a submission.
        references (sequence of `Mapping`): Gold documents in DocRED's form.
        path (`str` or `os.PathLike`): The picture, `.png` or `.svg`.

    Returns:
        `list[ShareGroup]`: The groups.

    Raises:
        ScoringError: If a row or a document is malformed.
        ValueError: If the picture has another form.
    """
    check_picture(path)
    found = related_groups(systems, references)
    with drawing(path, COLUMN, 2.6) as figure:
        axes = figure.subplots()
        width = 0.8 / len(systems)
        for number, name in enumerate(systems):
            places = [place + (number - (len(systems) - 1) / 2) * width for place in range(len(found))]
            heights = [100 * group.f1[name][0] for group in found]
            errors = [100 * group.f1[name][1] for group in found] if len(systems[name]) > 1 else None
            ends = {"elinewidth": 0.8, "capsize": 2}
            bars = axes.bar(places, heights, width, yerr=errors, label=name, error_kw=ends, **bar_style(number))
            if len(systems) == 1:
                axes.bar_label(bars, fmt="{:.1f}", padding=1)
        axes.set(
            xlabel="pairs of a document with a relation (%)\n(documents in brackets)", ylabel="F1 (%)",
            xticks=range(len(found)),
        )  # fmt: skip
        axes.set_xticklabels([f"{group.low} to\n{group.high}\n({group.documents})" for group in found])
        _grid(axes)
        _legend(figure, axes, systems)
    return found


def plot_calibration(
    systems: Mapping[str, Sequence[Rows]],
    references: Sequence[Mapping[str, Any]],
    path: str | os.PathLike[str],
) -> dict[str, Reliability]:
    """
    Draw how often predictions are right over their scores, a reliability diagram, with numbers of predictions below.

    Only what is predicted has a score: with the threshold that a model was tuned to, the diagram begins there.

    Args:
        systems (`Mapping`): For each system the predictions of its runs, with scores; runs are taken together.
        references (sequence of `Mapping`): Gold documents in DocRED's form.
        path (`str` or `os.PathLike`): The picture, `.png` or `.svg`.

    Returns:
        `dict[str, Reliability]`: For each system the bins, and the expected calibration error.

    Raises:
        DataFileError: If a row has no score.
        ScoringError: If a row or a document is malformed.
        ValueError: If the picture has another form.
    """
    check_picture(path)
    found = {name: _pooled(runs, references) for name, runs in systems.items()}
    with drawing(path, COLUMN, 3.4) as figure:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        upper.plot((0, 1), (0, 1), color="#777777", linewidth=0.8, label="perfectly calibrated")
        for number, (name, one) in enumerate(found.items()):
            points = [
                (score, correct)
                for score, correct in zip(one.score, one.correct, strict=True)
                if score is not None and correct is not None
            ]
            label = f"{name}, ECE {100 * one.error:.1f}"
            upper.plot(*zip(*points, strict=True), label=label, **line_style(number))
            bins = len(one.number)
            width = 0.9 / bins / len(found)
            places = [(place + 0.05) / bins + (number + 0.5) * width for place in range(bins)]
            lower.bar(places, one.number, width, **bar_style(number))
        upper.set(ylabel="part that is right", ylim=(-0.02, 1.02))
        lower.set(xlabel="score", ylabel="predictions\n(log scale)", yscale="log", xlim=(-0.02, 1.02))
        # One prediction has a bar that is seen, and no number an exponent too small to read.
        lower.set_ylim(bottom=0.5)
        lower.yaxis.set_major_formatter(import_part("matplotlib.ticker").StrMethodFormatter("{x:,.0f}"))
        _grid(upper, "both")
        upper.legend(loc="upper left", frameon=False)
    return found


def _pooled(runs: Sequence[Rows], references: Sequence[Mapping[str, Any]]) -> Reliability:
    if len(runs) == 1:
        return reliability(runs[0], references)
    # The same triple of two runs is two predictions: each run has documents of its own.
    rows = [
        {**row, "title": f"{number} {read_prediction(row, f'predictions[{place}]')[0][0]}"}
        for number, run in enumerate(runs)
        for place, row in enumerate(run)
    ]
    documents = [
        {**document, "title": f"{number} {document['title']}"}
        for number in range(len(runs))
        for document in references
    ]
    return reliability(rows, documents)


def _line(
    axes: Any, number: int, name: str, places: Sequence[float], means: Sequence[float], errors: Sequence[float] | None
) -> None:
    axes.errorbar(places, means, errors, label=name, capsize=2, elinewidth=0.8, **line_style(number))


def _grid(axes: Any, axis: str = "y") -> None:
    axes.grid(axis=axis, color="#dddddd", linewidth=0.5)


def _legend(figure: Any, axes: Any, systems: Mapping[str, Any]) -> None:
    """Names above the picture, where they hide nothing."""
    handles, labels = axes.get_legend_handles_labels()
    longest = max(map(len, systems))
    columns = 1 if longest > 26 else 2 if longest > 14 else 3
    figure.legend(handles, labels, loc="outside upper center", ncols=min(columns, len(labels)), frameon=False)


def _whole_numbers(axis: Any) -> None:
    axis.set_major_locator(import_part("matplotlib.ticker").MaxNLocator(integer=True))


def _relations(number: int) -> str:
    return f"{number} relation{'' if number == 1 else 's'}"


__all__ = ["plot_calibration", "plot_clusters", "plot_related_pairs", "plot_relations"]
