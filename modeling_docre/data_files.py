"""Files of documents: JSON, JSON Lines, inline markup. What is wrong with one is said with its file and line."""

from __future__ import annotations

import gzip
import json
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

from .documents import Document, DocumentError, read_documents

_KINDS = (
    "Pass .json (one document, or a list of them), .jsonl (a document on each line) or .txt (text with inline markup "
    "like [Ada](:PER)); each may end in .gz."
)


class DataFileError(ValueError):
    """A file that cannot be read as what it should be; the message names the file, the place and the way to mend it."""


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file, gzipped or not.

    Raises:
        DataFileError: when the file is missing, is not UTF-8 or is not JSON; the message names line and column.
    """
    with _open(path) as stream:
        return _parse(stream.read(), str(path), 1)


def iter_documents(path: str | os.PathLike[str], *, strict: bool = True) -> Iterator[Document]:
    """Read the documents of a file, one after the other.

    Args:
        path (`str` or `os.PathLike`):
            `.json`, one document or a list; `.jsonl`, a document on each line, read as it goes; `.txt`, one document in
            inline markup; `-` for JSON Lines on the standard input. Documents are in DocRED's form or in that of
            [`Document.to_dict`].
        strict (`bool`, *optional*, defaults to `True`): Raise for nonsense in a document; otherwise skip and count it.

    Yields:
        [`Document`].

    Raises:
        DataFileError: when the file is not what its name says; a truncated line is named by its number.
        DocumentError: when a document is wrong, with the file it is in.
    """
    name = str(path)
    suffix = Path(name.removesuffix(".gz")).suffix.lower()
    try:
        if name == "-" or suffix == ".jsonl":
            yield from read_documents(_lines(name), strict=strict)
        elif suffix == ".json":
            content = read_json(path)
            if not isinstance(content, list | dict):
                raise DataFileError(f"{name}: a {type(content).__name__}, where a document or a list of them should be.")
            yield from read_documents(content if isinstance(content, list) else [content], strict=strict)
        elif suffix == ".txt":
            with _open(path) as stream:
                yield Document.from_markup(stream.read().strip(), title=Path(name).name, strict=strict)
        else:
            raise DataFileError(f"{name}: nothing is known about files that end in {suffix!r}. {_KINDS}")
    except DocumentError as error:
        raise DocumentError(f"{name}: {error}") from None


def write_documents(documents: Iterable[Document], path: str | os.PathLike[str]) -> int:
    """Write documents: `.jsonl` in the form of [`Document.to_dict`], `.json` as a list in DocRED's form.

    Returns:
        `int`: How many were written.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in (".json", ".jsonl"):
        raise DataFileError(f"{path}: documents are written as .jsonl (one a line) or .json (DocRED's form).")
    number = 0
    with open(path, "w", encoding="utf-8") as stream:
        if suffix == ".jsonl":
            for number, document in enumerate(documents, 1):
                stream.write(json.dumps(document.to_dict(), ensure_ascii=False) + "\n")
        else:
            rows = [document.to_docred() for document in documents]
            json.dump(rows, stream, ensure_ascii=False)
            number = len(rows)
    return number


def _lines(name: str) -> Iterator[Any]:
    with _open(name) as stream:
        for number, line in enumerate(stream, 1):
            if line.strip():
                yield _parse(line, name, number)


def _open(path: str | os.PathLike[str]) -> TextIO:
    name = str(path)
    if name == "-":
        return sys.stdin
    try:
        if name.endswith(".gz"):
            return gzip.open(name, "rt", encoding="utf-8")  # type: ignore[return-value]
        return open(name, encoding="utf-8")
    except FileNotFoundError:
        raise DataFileError(f"{name}: there is no such file.") from None
    except IsADirectoryError:
        raise DataFileError(f"{name}: a folder, where a file should be. {_KINDS}") from None


def _parse(text: str, name: str, line: int) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        at = line + error.lineno - 1
        cut = " The text ends in the middle: was the file cut off?" if error.pos >= len(text.rstrip()) else ""
        raise DataFileError(f"{name}, line {at}, column {error.colno}: not JSON ({error.msg}).{cut}") from None
    except UnicodeDecodeError as error:
        raise DataFileError(f"{name}: not UTF-8 text ({error}).") from None


__all__ = ["DataFileError", "iter_documents", "read_json", "write_documents"]
