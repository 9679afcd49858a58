"""Pictures of trainings: their curves, and a sweep of one of their settings."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from .output_files import DataFileError
from .plot_data import TrainingCurves, sampling_lines, training_curves
from .plot_style import COLOURS, COLUMN, DASHES, MARKERS, PAGE, check_picture, drawing, import_part, line_style

_SWEPT = {"atl": "ATLOP (atl)", "pmt": "PEMSCL (pmt)"}


def plot_sampling(rows: Sequence[Mapping[str, Any]], path: str | os.PathLike[str]) -> None:
    """
    Draw F1 over the rate of negative labels that a training keeps (PEMSCL, figures 2 and 4).

    Args:
        rows (sequence of `Mapping`):
            The points of a sweep: `loss`, `rate`, `seed`, and `scores` with the `f1` on each set of labels, each of
            which has a panel. Seeds are averaged.
        path (`str` or `os.PathLike`): The picture, `.png` or `.svg`.

    Raises:
        DataFileError: If there are no points.
        ValueError: If the picture has another form.
    """
    check_picture(path)
    panels = list(rows[0]["scores"]) if rows else []
    if not panels:
        raise DataFileError("The sweep has no point yet: let it train one, and draw it then.")
    with drawing(path, min(PAGE, max(COLUMN, 2.4 * len(panels))), 2.4) as figure:
        for axes, labels in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            for number, (loss, points) in enumerate(sampling_lines(rows, labels).items()):
                rates, means, deviations = zip(*points, strict=True)
                several = any(deviations)
                axes.errorbar(
                    rates, means, deviations if several else None, capsize=2, elinewidth=0.8,
                    label=_SWEPT.get(loss, loss), **line_style(number),
                )  # fmt: skip
            axes.set(title=labels, xlabel="part of negative labels kept", ylabel="F1 (%)", xlim=(-0.04, 1.04))
            axes.grid(axis="y", color="#dddddd", linewidth=0.5)
        handles, words = axes.get_legend_handles_labels()
        figure.legend(handles, words, loc="outside upper center", ncols=2, frameon=False)


def plot_training(
    logs: Mapping[str, Sequence[Mapping[str, Any]]], path: str | os.PathLike[str]
) -> dict[str, TrainingCurves]:
    """
    Draw losses and the F1 of evaluations over the steps of trainings.

    A training has a colour, and a part of the loss a line of its own beside the whole.

    Args:
        logs (`Mapping`): The log of each training, by its name: the `log_history` of its state.
        path (`str` or `os.PathLike`): The picture, `.png` or `.svg`.

    Returns:
        `dict[str, TrainingCurves]`: What is drawn.

    Raises:
        DataFileError: If a training has logged neither a loss nor an F1.
        ValueError: If the picture has another form.
    """
    check_picture(path)
    found = {name: training_curves(log) for name, log in logs.items()}
    for name, curves in found.items():
        if not curves.losses and not curves.f1:
            raise DataFileError(f"{name} has logged no loss and no F1: logging_steps says how often a training does.")
    parts = list(dict.fromkeys(part for curves in found.values() for part in curves.losses))
    sets = list(dict.fromkeys(one for curves in found.values() for one in curves.f1))
    panels = [
        (kind, names, label)
        for kind, names, label in (("losses", parts, "training loss"), ("f1", sets, "F1 in evaluation (%)"))
        if names
    ]
    with drawing(path, PAGE if len(panels) > 1 else COLUMN, 2.6) as figure:
        for axes, (kind, names, label) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            _curves(axes, found, kind, names)
            axes.set(xlabel="step", ylabel=label)
            axes.xaxis.set_major_locator(import_part("matplotlib.ticker").MaxNLocator(5, integer=True))
            axes.grid(axis="y", color="#dddddd", linewidth=0.5)
            # One run and one line need no words beside those of the axes.
            if len(found) > 1 or len(names) > 1:
                axes.legend(loc="best", frameon=True, framealpha=0.8, edgecolor="none")
    return found


def _curves(axes: Any, found: Mapping[str, TrainingCurves], kind: str, names: Sequence[str]) -> None:
    for run, (name, curves) in enumerate(found.items()):
        for number, line in enumerate(names):
            points = getattr(curves, kind).get(line)
            if not points:
                continue
            steps, values = zip(*points, strict=True)
            values = tuple(100 * value for value in values) if kind == "f1" else values
            # With one run, parts have colours; with several, these are the runs'.
            colour = COLOURS[(run if len(found) > 1 else number) % len(COLOURS)]
            axes.plot(
                steps, values, color=colour, linestyle=DASHES[number % len(DASHES)],
                marker=MARKERS[(run if len(found) > 1 else number) % len(MARKERS)],
                # Markers tell lines apart; on each of hundreds of steps they would hide them.
                markevery=max(1, len(steps) // 8),
                label=_words(name if len(found) > 1 else "", line if len(names) > 1 else ""),
            )  # fmt: skip


def _words(run: str, line: str) -> str:
    return ", ".join(word for word in (run, line) if word) or "_"


__all__ = ["plot_sampling", "plot_training"]
