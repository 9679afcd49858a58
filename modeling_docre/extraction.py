"""Relations of the documents of a file, written to a file: what `docre extract` does."""

from __future__ import annotations

import os
import re
import sys
import unicodedata
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

from transformers import Pipeline, pipeline
from transformers.utils import logging

from .checkpoints import DEFAULT_MODEL
from .data_files import DataFileError, file_kind, iter_documents, open_output, write_lines, write_list
from .documents import Document
from .modeling_docre import DocREForRelationExtraction
from .processing_docre import DocREProcessor

FORMATS = ("table", "json", "jsonl", "submission")

_Answers = Iterable[tuple[Document, dict[str, Any]]]


def load_pipeline(model: str | None = None, device: str | None = None) -> Pipeline:
    """Build the pipeline of a checkpoint.

    Args:
        model (`str`, *optional*): Folder or Hub id; the embedded model when left out.
        device (`str`, *optional*): Where it runs, such as `"cpu"` or `"cuda:0"`.

    Returns:
        `Pipeline`: As `pipeline("docre", ...)` gives it.

    Raises:
        OSError: when there is no such checkpoint, or a part of it is missing.
        ValueError: when the checkpoint is none of this library.
    """
    name = str(DEFAULT_MODEL) if model is None else model
    _check_checkpoint(name, embedded=model is None)
    loaded = DocREForRelationExtraction.from_pretrained(name)
    processor = DocREProcessor.from_pretrained(name)
    return pipeline("docre", model=loaded, processor=processor, device=device)  # type: ignore[call-overload]


def _check_checkpoint(name: str, *, embedded: bool) -> None:
    """Refuse what cannot be a checkpoint, before it is taken for the id of one on the Hub."""
    folder = Path(name)
    if folder.is_dir():
        if (folder / "config.json").is_file():
            return
        inside = sorted(path.parent.name for path in folder.glob("*/config.json"))
        instead = f" Name one of the folders in it: {', '.join(inside[:5])}." if inside else ""
        raise FileNotFoundError(f"{name} is a folder without a checkpoint: it has no config.json.{instead}")
    if embedded:
        raise FileNotFoundError(
            f"The embedded model is missing from this installation ({name}): install the package again, or name a "
            "model of your own with --model."
        )
    if folder.exists():
        raise NotADirectoryError(f"{name} is a file. Name the folder of the checkpoint.")
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) or name.startswith("."):
        raise FileNotFoundError(f"There is no folder {name} (working directory: {os.getcwd()}).")


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
        output (`str` or `os.PathLike`, *optional*):
            File to write, as a whole or not at all; gzipped where it ends in `.gz`. The standard output when left out.
        format (`str`, *optional*):
            `"jsonl"`, the pipeline's answer with title and text on a line for each document, which
            [`iter_documents`] reads again; `"json"`, the same in one list; `"submission"`, rows as CodaLab and
            `docre evaluate` take them; `"table"`, for people. By the name of `output` when left out, a table without
            one.
        strict (`bool`, *optional*, defaults to `True`): Stop at nonsense in a document; otherwise skip and count it.
        options: What the pipeline takes at call time.

    Returns:
        `Counter`: `documents`, `relations`, and what was repaired or left out, by cause.

    Raises:
        DataFileError: when a file cannot be read or written.
        DocumentError: when a document is wrong.
    """
    format = choose_format(format, output)
    counts: Counter[str] = Counter(documents=0, relations=0)
    answers = _answers(pipe, source, strict, options, counts)
    if format == "submission":
        answers = _count_titles(answers, counts)
    with open_output(output) as stream:
        _WRITERS[format](answers, stream)
    return counts


def _answers(
    pipe: Pipeline, source: str | os.PathLike[str], strict: bool, options: dict[str, Any], counts: Counter[str]
) -> Iterator[tuple[Document, dict[str, Any]]]:
    documents: deque[Document] = deque()

    def remembered() -> Iterator[Document]:
        for document in iter_documents(source, strict=strict):
            documents.append(document)
            yield document

    found = pipe(remembered(), **options)
    for answer in logging.tqdm(found, unit=" documents", disable=not sys.stderr.isatty()):
        document = documents.popleft()
        counts["documents"] += 1
        counts["relations"] += len(answer["relations"])
        counts.update(dict(document.repairs))
        coverage = answer["coverage"]
        counts["mentions beyond the length limit"] += coverage["mentions"] - coverage["mentions_read"]
        counts["documents without entities"] += bool(document.text) and not document.entities
        yield document, answer


def _count_titles(answers: _Answers, counts: Counter[str]) -> Iterator[tuple[Document, dict[str, Any]]]:
    """Count what a submission cannot tell apart: it knows documents by their titles alone."""
    titles: set[str] = set()
    for document, answer in answers:
        counts["documents without a title"] += not document.title
        counts["documents with the title of another"] += bool(document.title) and document.title in titles
        titles.add(document.title)
        yield document, answer


def _rows(answers: _Answers) -> Iterator[dict[str, Any]]:
    for document, answer in answers:
        yield {"title": document.title, "text": document.text, **answer}


def _write_jsonl(answers: _Answers, stream: TextIO) -> None:
    write_lines(_rows(answers), stream)


def _write_json(answers: _Answers, stream: TextIO) -> None:
    write_list(_rows(answers), stream)


def _write_submission(answers: _Answers, stream: TextIO) -> None:
    rows = (
        {
            "title": document.title,
            "h_idx": relation["head"],
            "t_idx": relation["tail"],
            "r": relation["relation"],
            "evidence": relation["evidence"],
        }
        for document, answer in answers
        for relation in answer["relations"]
    )
    write_list(rows, stream)


def _write_table(answers: _Answers, stream: TextIO) -> None:
    for number, (document, answer) in enumerate(answers):
        rows = [
            (item["head_name"], item["label"], item["tail_name"], f"{item['score']:.2f}")
            for item in answer["relations"]
        ]
        if number:
            stream.write("\n")
        entities = _count(len(answer["entities"]), "entity", "entities")
        title = f"{_on_one_line(document.title)}: " if document.title else ""
        stream.write(f"{title}{entities}, {_count(len(rows), 'relation', 'relations')}\n")
        if rows:
            _write_columns([("HEAD", "RELATION", "TAIL", "SCORE"), *rows], stream)


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


_WRITERS = {"table": _write_table, "json": _write_json, "jsonl": _write_jsonl, "submission": _write_submission}

__all__ = ["FORMATS", "choose_format", "extract_file", "load_pipeline"]
