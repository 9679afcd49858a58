"""Predictions in files: rows of a submission, what `docre extract` writes, and what a training leaves behind."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .data_files import file_kind, read_json, read_rows
from .documents import Document, Relation
from .metrics.docred.scoring import read_json as read_archive
from .output_files import DataFileError, open_output, write_list

# The underscore keeps it from the Hub: titles are a part of the documents.
EVALUATION = "_evaluation"
"""Folder in that of a training, with what it predicted when it was evaluated last."""
PREDICTIONS, DOCUMENTS = "predictions.json", "documents.json"


def submission_rows(documents: Sequence[Document], predictions: Sequence[Iterable[Relation]]) -> list[dict[str, Any]]:
    """
    Make rows of a submission of the relations of documents.

    Args:
        documents (sequence of [`Document`]): The documents.
        predictions (sequence of iterables of [`Relation`]): What was found in each, in their order.

    Returns:
        `list[dict]`: `title`, `h_idx`, `t_idx`, `r`, `evidence`, and `score`, which scorers do not read.
    """
    return [
        {
            "title": document.title,
            "h_idx": relation.head,
            "t_idx": relation.tail,
            "r": relation.relation,
            "evidence": list(relation.evidence),
            "score": relation.score,
        }
        for document, relations in zip(documents, predictions, strict=True)
        for relation in relations
    ]


def write_evaluation(folder: Path, documents: Sequence[Document], predictions: Sequence[Iterable[Relation]]) -> None:
    """
    Write what an evaluation predicted into the folder of a training.

    Args:
        folder (`pathlib.Path`): The folder of the training.
        documents (sequence of [`Document`]): The documents that were evaluated on.
        predictions (sequence of iterables of [`Relation`]): What was found in each, in their order.
    """
    place = folder / EVALUATION
    place.mkdir(parents=True, exist_ok=True)
    with open_output(place / PREDICTIONS) as stream:
        write_list(submission_rows(documents, predictions), stream)
    # A document without predictions is in no row.
    with open_output(place / DOCUMENTS) as stream:
        json.dump([document.title for document in documents], stream, ensure_ascii=False)


def discard_evaluation(folder: Path) -> None:
    """Remove what an earlier model of a training's folder predicted, if anything."""
    shutil.rmtree(folder / EVALUATION, ignore_errors=True)


def read_evaluation(folder: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """
    Read what a training predicted when it was evaluated at its end.

    Args:
        folder (`pathlib.Path`): The folder of the training.

    Returns:
        `tuple[list[dict], list[str]]`: Rows of a submission, and the titles of all documents.

    Raises:
        DataFileError: If there is nothing of the kind.
    """
    place = folder / EVALUATION
    if not (place / PREDICTIONS).is_file() or not (place / DOCUMENTS).is_file():
        raise DataFileError(
            f"{folder}: no predictions of its evaluation ({EVALUATION}/{PREDICTIONS}): the training is not at its "
            "end, had no evaluation documents, or is of an earlier version. Let its model predict, docre extract "
            f"GOLD -o predictions.json --format submission --model {folder}, and pass that file."
        )
    return read_prediction_rows(place / PREDICTIONS), list(read_json(place / DOCUMENTS))


def read_prediction_rows(path: str | Path) -> list[dict[str, Any]]:
    """
    Read predictions as rows of a submission.

    Args:
        path (`str` or `pathlib.Path`):
            A list or JSON Lines of rows, a `.zip` that holds the list, or what `docre extract` writes as `.json` or
            `.jsonl`: then rows have a `score` as well.

    Returns:
        `list[dict]`: The rows.

    Raises:
        DataFileError: If the file cannot be read, or holds documents instead of predictions.
        ScoringError: If an archive does not hold one JSON file.
    """
    rows = read_archive(path) if file_kind(path) == ".zip" else read_rows(path)
    if not isinstance(rows, list):
        raise DataFileError(f"{path}: {type(rows).__name__}, where a list of predictions should be.")
    if not any(isinstance(row, Mapping) and ("relations" in row or "vertexSet" in row) for row in rows):
        return rows
    return [row for number, answer in enumerate(rows) for row in _rows_of_answer(answer, f"{path}, entry {number}")]


def _rows_of_answer(answer: Any, where: str) -> list[dict[str, Any]]:
    found = answer.get("relations") if isinstance(answer, Mapping) else None
    keys = {"head", "tail", "relation", "score"}
    if not isinstance(found, list) or not all(isinstance(item, Mapping) and item.keys() >= keys for item in found):
        raise DataFileError(
            f"{where}: neither a prediction nor an answer of docre extract, whose relations all have "
            f"{', '.join(sorted(keys))}. Labelled documents are what predictions are compared "
            "with: pass them as references."
        )
    return [
        {
            "title": answer.get("title"),
            "h_idx": item["head"],
            "t_idx": item["tail"],
            "r": item["relation"],
            "evidence": item.get("evidence"),
            "score": item["score"],
        }
        for item in found
    ]


__all__ = [
    "DOCUMENTS",
    "EVALUATION",
    "PREDICTIONS",
    "discard_evaluation",
    "read_evaluation",
    "read_prediction_rows",
    "submission_rows",
    "write_evaluation",
]
