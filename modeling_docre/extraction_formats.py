"""The forms that the relations of documents are written in."""

from __future__ import annotations

import json
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, TextIO

from .data_files import file_kind
from .output_files import DataFileError, write_list

FORMATS = ("table", "json", "jsonl", "submission")


def choose_format(format: str | None, output: str | os.PathLike[str] | None) -> str:
    """Return the form of the output: the one that was named, or that of the file's name, or a table.

    Args:
        format (`str`, *optional*): One of `FORMATS`.
        output (`str` or `os.PathLike`, *optional*): File to write; `None` or `-` for the standard output.

    Raises:
        DataFileError: when neither says one that exists.
    """
    if format is None:
        kind = "-" if output is None else file_kind(output)
        format = {"-": "table", ".txt": "table"}.get(kind, kind.lstrip("."))
        if format not in FORMATS:
            raise DataFileError(f"{output}: no output format goes by this name. End it in .jsonl, or name a format.")
    if format not in FORMATS:
        raise DataFileError(f"There is no output format {format!r}: choose {', '.join(FORMATS)}.")
    return format


def write_answers(lines: Iterable[str], stream: TextIO, format: str, counts: Counter[str]) -> None:
    """Write answers as they come.

    Args:
        lines (iterable of `str`):
            The answer to each document with its `title` and `text`, as JSON on one line that ends in a line break.
        stream (`TextIO`): Where to.
        format (`str`): One of `FORMATS`.
        counts (`collections.Counter`): Takes what the form cannot tell apart.
    """
    if format == "jsonl":
        stream.writelines(lines)
    elif format == "json":
        _write_json(lines, stream)
    elif format == "submission":
        write_list(_submission_rows(map(json.loads, lines), counts), stream)
    else:
        _write_table(map(json.loads, lines), stream)


def _write_json(lines: Iterable[str], stream: TextIO) -> None:
    separator = "[\n"
    for line in lines:
        stream.write(separator + line.rstrip("\n"))
        separator = ",\n"
    stream.write("[]\n" if separator == "[\n" else "\n]\n")


def _submission_rows(answers: Iterable[dict[str, Any]], counts: Counter[str]) -> Iterator[dict[str, Any]]:
    """Make the rows of a submission, and count what it cannot tell apart: it knows documents by their titles alone."""
    titles: set[str] = set()
    for answer in answers:
        title = answer["title"]
        counts["documents without a title"] += not title
        counts["documents with the title of another"] += bool(title) and title in titles
        titles.add(title)
        for relation in answer["relations"]:
            yield {
                "title": title,
                "h_idx": relation["head"],
                "t_idx": relation["tail"],
                "r": relation["relation"],
                "evidence": relation["evidence"],
            }


def _write_table(answers: Iterable[dict[str, Any]], stream: TextIO) -> None:
    for number, answer in enumerate(answers):
        rows = [
            (
                item["head_name"],
                item["label"],
                item["tail_name"],
                f"{item['score']:.2f}",
                ", ".join(map(str, item["evidence"])),
            )
            for item in answer["relations"]
        ]
        if number:
            stream.write("\n")
        entities = _count(len(answer["entities"]), "entity", "entities")
        title = f"{_on_one_line(answer['title'])}: " if answer["title"] else ""
        stream.write(f"{title}{entities}, {_count(len(rows), 'relation', 'relations')}\n")
        if rows:
            _write_columns([("HEAD", "RELATION", "TAIL", "SCORE", "EVIDENCE"), *rows], stream)


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _write_columns(rows: list[tuple[str, ...]], stream: TextIO) -> None:
    rows = [tuple(_on_one_line(cell) for cell in row) for row in rows]
    widths = [max(_columns(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [cell + " " * (width - _columns(cell)) for cell, width in zip(row, widths, strict=True)]
        stream.write("  ".join(cells).rstrip() + "\n")


def _on_one_line(text: str) -> str:
    """Leave out what would break the table, or command the terminal."""
    return "".join(char for char in " ".join(text.split()) if unicodedata.category(char) != "Cc")


def _columns(text: str) -> int:
    """Terminal columns of a text: wide characters take two, combining and invisible ones none."""
    return sum(
        0 if unicodedata.category(char) in ("Mn", "Me", "Cf") else 1 + (unicodedata.east_asian_width(char) in "WF")
        for char in text
    )


__all__ = ["FORMATS", "choose_format", "write_answers"]
