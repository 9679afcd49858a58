"""Runs that are compared: files of predictions and folders of trainings, and which are seeds of one system."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from .output_files import DataFileError
from .prediction_files import read_evaluation, read_prediction_rows

# What two seeds of one system may differ in: where they lie, and what their cards say.
_OF_A_RUN = ("output_dir", "card")


@dataclass(frozen=True, slots=True)
class Run:
    """
    A run of a system.

    Args:
        path (`pathlib.Path`): A file of predictions, or the folder of a training.
        name (`str`, *optional*): The system's name, where it was given.
    """

    path: Path
    name: str | None = None

    @property
    def is_folder(self) -> bool:
        """Whether it is the folder of a training."""
        return self.path.is_dir()


def parse_run(text: str) -> Run:
    """
    Read `RUN` or `NAME=RUN`.

    Args:
        text (`str`): The word; what is there as a file or folder is no name.

    Returns:
        [`Run`]: The run.

    Raises:
        DataFileError: If there is no such file or folder, or the name is empty.
    """
    name, equals, path = text.partition("=")
    named = bool(equals) and not os.path.exists(text)
    run = Run(Path(path), name.strip()) if named else Run(Path(text))
    if named and not run.name:
        raise DataFileError(f"{text}: no name stands before the equals sign. Write NAME=RUN, or RUN alone.")
    if not run.path.exists():
        raise DataFileError(f"{run.path}: there is no such file or folder (working directory: {os.getcwd()}).")
    return run


def group_runs(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """
    Find the seeds of each system.

    Runs with one name are seeds of one system. Folders of trainings without a name are where their recipes differ in
    `training.seed` alone, but for `output_dir` and `card`; the system then takes the beginning that their names share.
    Any other run is a system of its own.

    Args:
        runs (sequence of [`Run`]): The runs.

    Returns:
        `dict[str, list[Run]]`: The runs of each system by its name, in the order of their first runs.

    Raises:
        DataFileError: If a run is there twice, two folders hold one recipe with one seed, or two systems would have
            one name.
    """
    twice = [path for path, number in Counter(run.path.resolve() for run in runs).items() if number > 1]
    if twice:
        raise DataFileError(f"{twice[0]} is there twice: a run is one seed of one system.")
    groups: dict[tuple[str, str], list[Run]] = {}
    seeds: dict[tuple[str, int], Path] = {}
    for run in runs:
        if run.name is not None:
            key = ("name", run.name)
        elif (made := _recipe(run)) is not None:
            said, seed = made
            if (said, seed) in seeds:
                raise DataFileError(
                    f"{seeds[said, seed]} and {run.path} hold one recipe with one seed, {seed}, which is one run and "
                    "not two. Leave one out, or name both: NAME=RUN."
                )
            seeds[said, seed] = run.path
            key = ("recipe", said)
        else:
            key = ("path", str(run.path))
        groups.setdefault(key, []).append(run)
    found: dict[str, list[Run]] = {}
    for group in groups.values():
        name = group[0].name or _shared_name(group)
        if name in found:
            raise DataFileError(
                f"{found[name][0].path} and {group[0].path} would both be called {name!r}: name each, as in "
                f"A={found[name][0].path} B={group[0].path}; with one name for both, they are seeds of one system."
            )
        found[name] = group
    return found


def _shared_name(group: Sequence[Run]) -> str:
    names = [run.path.resolve().name if run.is_folder else run.path.name.partition(".")[0] for run in group]
    shared = takewhile(lambda signs: len(set(signs)) == 1, zip(*names, strict=False))
    return "".join(sign for sign, *_ in shared).rstrip("-_. ") or names[0]


def _recipe(run: Run) -> tuple[str, int] | None:
    """What the recipe in a training's folder says, but for what belongs to one run alone; and its seed."""
    file = run.path / "recipe.yaml"
    if not file.is_file():
        return None
    # What reads recipes takes seconds to import, and files of predictions do without.
    from transformers import TrainingArguments

    from .recipe_files import read_yaml

    said = read_yaml(file.read_text(encoding="utf-8"), str(file))
    if not isinstance(said, dict) or not isinstance(said.get("training"), dict):
        raise DataFileError(f"{file}: not a recipe. Name its folder to do without it: NAME={run.path}.")
    said = {section: part for section, part in said.items() if section not in _OF_A_RUN}
    training = dict(said["training"])
    seed = training.pop("seed", TrainingArguments.__dataclass_fields__["seed"].default)
    return json.dumps({**said, "training": training}, sort_keys=True), seed


def read_systems(runs: Sequence[str], references: Sequence[Any]) -> dict[str, list[list[dict[str, Any]]]]:
    """
    Read the predictions of systems, each with one run or several.

    Args:
        runs (sequence of `str`): `RUN` or `NAME=RUN`, as [`parse_run`] reads; grouped as [`group_runs`] says.
        references (sequence of `dict`): The gold documents in DocRED's form, which folders have to be evaluated on.

    Returns:
        `dict[str, list[list[dict]]]`: For each system the rows of its runs.

    Raises:
        DataFileError: If a run cannot be read, or is of other documents.
    """
    wanted = _titles(references)
    found: dict[str, list[list[dict[str, Any]]]] = {}
    for name, group in group_runs([parse_run(text) for text in runs]).items():
        found[name] = []
        for run in group:
            if run.is_folder:
                rows, titles = read_evaluation(run.path)
                _check_evaluation(run.path, set(titles), wanted)
            else:
                rows = read_prediction_rows(run.path)
                _check_titles(run.path, _titles(rows), wanted)
            found[name].append(rows)
    return found


def _titles(rows: Sequence[Any]) -> set[str]:
    """The titles of rows; the scorer says what is wrong with others."""
    titles = (row.get("title") for row in rows if isinstance(row, dict))
    return {title for title in titles if isinstance(title, str)}


def _check_titles(path: Path, titles: set[Any], wanted: set[Any]) -> None:
    unknown = sorted(map(str, titles - wanted))
    if unknown:
        raise DataFileError(
            f"{path} holds predictions for other documents: {len(unknown)} of its {len(titles)} titles are not among "
            f"the {len(wanted)} references, such as {unknown[0]!r}. Pass predictions of one set of documents, and its "
            "gold file."
        )


def _check_evaluation(folder: Path, titles: set[Any], wanted: set[Any]) -> None:
    more, fewer = titles - wanted, wanted - titles
    if not more and not fewer:
        return
    parts = [f"{len(more)} of its {len(titles)} are not among the references"] if more else []
    parts += [f"{len(fewer)} of the {len(wanted)} references were not evaluated"] if fewer else []
    first = min(map(str, more or fewer))
    raise DataFileError(
        f"{folder} was evaluated on other documents: {' and '.join(parts)}, such as {first!r}. Pass the documents "
        "that the recipe's data.eval names as references (docre convert --documents takes a slice), or let the model "
        f"predict these: docre extract GOLD -o predictions.json --format submission --model {folder}"
    )


def read_log(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """
    Read what a training has logged.

    Args:
        path (`str` or `os.PathLike`): The folder of a training, done or under way, or a checkpoint.

    Returns:
        `list[dict]`: The entries, in their order.

    Raises:
        DataFileError: If nothing was logged there.
    """
    from .loss_parts import TRAINER_STATE_NAME, last_checkpoint

    folder = Path(path)
    # A training under way has its log in its last checkpoint.
    place = folder if (folder / TRAINER_STATE_NAME).is_file() else last_checkpoint(folder)
    if place is None:
        raise DataFileError(
            f"{folder}: neither {TRAINER_STATE_NAME} nor a checkpoint, where a training keeps its log. Pass the "
            "output_dir of a training."
        )
    file = Path(place) / TRAINER_STATE_NAME
    try:
        return list(json.loads(file.read_text(encoding="utf-8"))["log_history"])
    except (ValueError, KeyError, TypeError):
        raise DataFileError(f"{file}: not the state of a training, with its log_history.") from None


__all__ = ["Run", "group_runs", "parse_run", "read_log", "read_systems"]
