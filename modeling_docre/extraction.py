"""Relations of the documents of a file, written to a file: what `docre extract` does."""

from __future__ import annotations

import json
import os
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

from transformers import Pipeline
from transformers.utils import logging

from .data_files import DataFileError, iter_documents
from .documents import Document

FORMATS = ("table", "json", "jsonl", "submission")


def extract_file(
    pipe: Pipeline,
    source: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    format: str | None = None,
    strict: bool = True,
    **options: Any,
) -> Counter[str]:
    """Extract the relations of every document of a file.

    Args:
        pipe (`Pipeline`): `pipeline("docre", ...)`.
        source (`str` or `os.PathLike`): See [`iter_documents`].
        output (`str` or `os.PathLike`, *optional*): File to write; the standard output when left out.
        format (`str`, *optional*):
            `"jsonl"`, the pipeline's answer and the title on a line for each document; `"json"`, the same in one list;
            `"submission"`, rows as CodaLab and `docre evaluate` take them; `"table"`, for people. By the name of
            `output` when left out, a table without one.
        strict (`bool`, *optional*, defaults to `True`): Stop at nonsense in a document; otherwise skip and count it.
        options: What the pipeline takes at call time.

    Returns:
        `Counter`: `documents`, `relations`, and what was repaired or left out, by cause.
    """
    if format is None:
        format = "table" if output is None else Path(output).suffix.lower().lstrip(".")
    if format not in FORMATS:
        raise DataFileError(f"There is no output format {format!r}: choose {', '.join(FORMATS)}, or name OUT .jsonl.")
    counts: Counter[str] = Counter()
    answers = _answers(pipe, source, strict, options, counts)
    if output is None:
        _WRITERS[format](answers, sys.stdout)
        return counts
    # Written beside and moved at the end: a run that fails leaves no half of a file behind.
    partial = Path(f"{output}.partial")
    with open(partial, "w", encoding="utf-8") as stream:
        _WRITERS[format](answers, stream)
    partial.replace(output)
    return counts


def _answers(
    pipe: Pipeline, source: str | os.PathLike[str], strict: bool, options: dict[str, Any], counts: Counter[str]
) -> Iterator[tuple[Document, dict[str, Any]]]:
    documents: list[Document] = []

    def remembered() -> Iterator[Document]:
        for document in iter_documents(source, strict=strict):
            documents.append(document)
            yield document

    found = pipe(remembered(), **options)
    for answer in logging.tqdm(found, unit=" documents", disable=not sys.stderr.isatty()):
        document = documents.pop(0)
        counts["documents"] += 1
        counts["relations"] += len(answer["relations"])
        counts.update(dict(document.repairs))
        coverage = answer["coverage"]
        counts["mentions beyond the length limit"] += coverage["mentions"] - coverage["mentions_read"]
        yield document, answer


def _write_jsonl(answers: Iterable[tuple[Document, dict[str, Any]]], stream: TextIO) -> None:
    for document, answer in answers:
        stream.write(json.dumps({"title": document.title, **answer}, ensure_ascii=False) + "\n")


def _write_json(answers: Iterable[tuple[Document, dict[str, Any]]], stream: TextIO) -> None:
    rows = [{"title": document.title, **answer} for document, answer in answers]
    stream.write(json.dumps(rows, ensure_ascii=False, indent=1) + "\n")


def _write_submission(answers: Iterable[tuple[Document, dict[str, Any]]], stream: TextIO) -> None:
    rows = [
        {
            "title": document.title,
            "h_idx": relation["head"],
            "t_idx": relation["tail"],
            "r": relation["relation"],
            "evidence": relation["evidence"],
        }
        for document, answer in answers
        for relation in answer["relations"]
    ]
    stream.write(json.dumps(rows, ensure_ascii=False) + "\n")


def _write_table(answers: Iterable[tuple[Document, dict[str, Any]]], stream: TextIO) -> None:
    for number, (document, answer) in enumerate(answers):
        rows = [
            (item["head_name"], item["label"], item["tail_name"], f"{item['score']:.2f}")
            for item in answer["relations"]
        ]
        if number:
            stream.write("\n")
        count = f"{len(answer['entities'])} entities, {len(rows)} relation{'s' * (len(rows) != 1)}"
        stream.write(f"{document.title + ': ' if document.title else ''}{count}\n")
        if rows:
            _write_columns([("HEAD", "RELATION", "TAIL", "SCORE"), *rows], stream)


def _write_columns(rows: list[tuple[str, ...]], stream: TextIO) -> None:
    rows = [tuple(" ".join(cell.split()) for cell in row) for row in rows]
    widths = [max(_columns(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [cell + " " * (width - _columns(cell)) for cell, width in zip(row, widths, strict=True)]
        stream.write("  ".join(cells).rstrip() + "\n")


def _columns(text: str) -> int:
    """Terminal columns of a text: wide characters take two, combining ones none."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )


_WRITERS = {"table": _write_table, "json": _write_json, "jsonl": _write_jsonl, "submission": _write_submission}

__all__ = ["FORMATS", "extract_file"]
