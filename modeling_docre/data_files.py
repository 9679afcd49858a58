"""Files of documents: JSON, JSON Lines, inline markup. What is wrong with one is said with its file and line."""

from __future__ import annotations

import gzip
import io
import json
import os
import sys
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO, cast

from .documents import Document, DocumentError

_SUFFIXES = (".json", ".jsonl", ".txt")
_KINDS = (
    "Pass .json (one document, or a list of them), .jsonl (a document on each line) or .txt (text with inline markup "
    "like [Ada](:PER)); each may end in .gz"
)


class DataFileError(ValueError):
    """A file that cannot be read or written as what it should be; the message names file, place and remedy."""


def file_kind(path: str | os.PathLike[str]) -> str:
    """Return the suffix of a file, in lower case and without an additional `.gz`; `"-"` for a standard stream."""
    name = str(path)
    return name if name == "-" else Path(name.removesuffix(".gz")).suffix.lower()


def is_document_file(path: str | os.PathLike[str]) -> bool:
    """Whether a name is one that [`iter_documents`] reads."""
    return file_kind(path) in (*_SUFFIXES, "-")


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file, gzipped or not.

    Args:
        path (`str` or `os.PathLike`): The file.

    Returns:
        `Any`: What it holds.

    Raises:
        DataFileError: when the file is missing, is not UTF-8 or is not JSON; the message names line and column.
    """
    with _open_input(path) as stream:
        return _parse(stream.read(), str(path), 1)


def iter_documents(path: str | os.PathLike[str], *, strict: bool = True) -> Iterator[Document]:
    """Read the documents of a file, one after the other.

    Args:
        path (`str` or `os.PathLike`):
            `.json`, one document or a list; `.jsonl`, a document on each line, read as it goes; `.txt`, one document
            in inline markup, which takes the file's name for its title; `-` for JSON Lines on the standard input.
            Documents are in DocRED's form or in that of [`Document.to_dict`]. All are UTF-8, and may end in `.gz`.
        strict (`bool`, *optional*, defaults to `True`):
            Raise for nonsense in a document; otherwise skip and count it. An entry that cannot be read at all becomes
            an empty document with a repair that says so, so that the order stays.

    Yields:
        [`Document`].

    Raises:
        DataFileError: when the file is not what its name says; a truncated line is named by its number.
        DocumentError: when a document is wrong, with the file it is in and its place there.
    """
    kind = file_kind(path)
    if kind not in (*_SUFFIXES, "-"):
        known = f"nothing is known about files that end in {kind!r}" if kind else "the name has no ending"
        raise DataFileError(f"{path}: {'a folder' if os.path.isdir(path) else known}. {_KINDS}.")
    if kind == ".txt":
        with _open_input(path) as stream:
            # Space in front stays, so that places in messages are those in the file.
            markup = stream.read().rstrip()
        yield _read(str(path), strict, lambda: Document.from_markup(markup, title=Path(path).name, strict=strict))
        return
    for where, entry in _list_entries(path) if kind == ".json" else _line_entries(path, strict):
        if isinstance(entry, Document):
            yield entry
        else:
            yield _read(where, strict, lambda entry=entry: Document.from_dict(entry, strict=strict))


def write_documents(documents: Iterable[Document], path: str | os.PathLike[str]) -> int:
    """Write documents: `.jsonl` in the form of [`Document.to_dict`], `.json` as a list in DocRED's form.

    Args:
        documents (iterable of [`Document`]): What to write.
        path (`str` or `os.PathLike`): The file; it may end in `.gz`. It is written as a whole or not at all.

    Returns:
        `int`: How many were written.

    Raises:
        DataFileError: when the name ends in something else, or cannot be written to.
    """
    if file_kind(path) not in (".json", ".jsonl"):
        raise DataFileError(f"{path}: documents are written as .jsonl (one a line) or .json (DocRED's form).")
    number = 0

    def counted() -> Iterator[Document]:
        nonlocal number
        for document in documents:
            number += 1
            yield document

    with open_output(path) as stream:
        if file_kind(path) == ".json":
            write_list((document.to_docred() for document in counted()), stream)
        else:
            write_lines((document.to_dict() for document in counted()), stream)
    return number


def read_rows(path: str | os.PathLike[str]) -> list[Any]:
    """Read the rows of a file, whatever they are: predictions, or documents that are not to be checked.

    Args:
        path (`str` or `os.PathLike`):
            `.jsonl` or `-`, a row on each line; any other name, a JSON list (or one row alone). It may end in `.gz`.

    Returns:
        `list`: The rows.

    Raises:
        DataFileError: when the file cannot be read, or is not JSON; the message names line and column.
    """
    entries = _line_entries(path, strict=True) if file_kind(path) in (".jsonl", "-") else _list_entries(path)
    return [entry for _, entry in entries]


def read_docred_rows(path: str | os.PathLike[str]) -> list[Any]:
    """Read documents as rows in DocRED's form; such rows stay as they are, with what reading them would repair.

    Args:
        path (`str` or `os.PathLike`): As for [`read_rows`]; documents in text form are converted.

    Returns:
        `list`: The rows.

    Raises:
        DataFileError: as [`read_rows`] does.
        DocumentError: when a document in text form is wrong.
    """
    return [
        _read(f"{path}, document {number}", True, lambda row=row: Document.from_dict(row)).to_docred()
        if isinstance(row, Mapping) and "text" in row and "vertexSet" not in row
        else row
        for number, row in enumerate(read_rows(path))
    ]


def write_list(rows: Iterable[Any], stream: TextIO) -> None:
    """Write a JSON list with a row on each line, as the rows come."""
    separator = "[\n"
    for row in rows:
        stream.write(separator + json.dumps(row, ensure_ascii=False))
        separator = ",\n"
    stream.write("[]\n" if separator == "[\n" else "\n]\n")


def write_lines(rows: Iterable[Any], stream: TextIO) -> None:
    """Write JSON Lines, as the rows come."""
    for row in rows:
        stream.write(json.dumps(row, ensure_ascii=False) + "\n")


@contextmanager
def open_output(path: str | os.PathLike[str] | None) -> Iterator[TextIO]:
    """Open a file to write as a whole or not at all; `None` or `-` is the standard output.

    Args:
        path (`str` or `os.PathLike`, *optional*): The file, gzipped where it ends in `.gz`.

    Yields:
        `TextIO`: The stream. The file appears under its name when the `with` block is left without an error.

    Raises:
        DataFileError: when the file cannot be made.
    """
    if path is None or str(path) == "-":
        yield sys.stdout
        return
    target = Path(path)
    # What is no file (a pipe, /dev/null) cannot be replaced by one.
    special = target.exists() and not target.is_file() and not target.is_dir()
    partial = target if special else target.with_name(f".{target.name}.partial")
    stream = _create(partial, target)
    try:
        with stream:
            yield stream
        if not special:
            partial.replace(target)
    finally:
        if not special:
            partial.unlink(missing_ok=True)


def _create(partial: Path, target: Path) -> TextIO:
    try:
        if target.is_dir():
            raise IsADirectoryError(0, "it is a folder")
        if target.suffix == ".gz":
            return cast(TextIO, gzip.open(partial, "wt", encoding="utf-8"))
        return open(partial, "w", encoding="utf-8")
    except OSError as error:
        missing = "" if target.parent.is_dir() else f": there is no folder {target.parent}"
        raise DataFileError(f"{target} cannot be written ({error.strerror}{missing}).") from None


@contextmanager
def _open_input(path: str | os.PathLike[str]) -> Iterator[TextIO]:
    """Open a file, and word what goes wrong while it is read."""
    name = str(path)
    if "\0" in name:
        raise DataFileError(f"{name!r} is not the name of a file: it holds a null character. Leave that out.")
    try:
        if name == "-":
            # Not with the encoding of the terminal, which may be another one.
            stream = io.TextIOWrapper(sys.stdin.buffer, encoding="utf-8-sig")
            try:
                yield stream
            finally:
                stream.detach()
            return
        # Some editors put a byte order mark in front of UTF-8.
        opened = gzip.open if name.endswith(".gz") else open
        with opened(name, "rt", encoding="utf-8-sig") as file:
            yield cast(TextIO, file)
    except UnicodeDecodeError as error:
        raise DataFileError(f"{name}: not a text file in UTF-8 ({error.reason}). Save it as UTF-8.") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataFileError(f"{name}: broken gzip file ({error}). Fetch it again, or unpack it first.") from None
    except FileNotFoundError:
        raise DataFileError(f"{name}: there is no such file (working directory: {os.getcwd()}).") from None
    except IsADirectoryError:
        raise DataFileError(f"{name}: a folder, where a file should be. {_KINDS}.") from None
    except PermissionError:
        raise DataFileError(f"{name}: the file may not be read. Change its permissions.") from None


def _list_entries(path: str | os.PathLike[str]) -> Iterator[tuple[str, Any]]:
    content = read_json(path)
    if isinstance(content, dict):
        yield str(path), content
    elif isinstance(content, list):
        for number, entry in enumerate(content):
            yield f"{path}, document {number}", entry
    else:
        raise DataFileError(f"{path}: {json.dumps(content)[:60]}, where a document or a list of them should be.")


def _line_entries(path: str | os.PathLike[str], strict: bool) -> Iterator[tuple[str, Any]]:
    with _open_input(path) as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            where = f"{'standard input' if str(path) == '-' else path}, line {number}"
            try:
                entry = _parse(line, str(path), number)
            except DataFileError:
                if strict:
                    raise
                entry = Document("", "", (), repairs=(("line that is not JSON", 1),))
            if strict and isinstance(entry, list):
                raise DataFileError(
                    f"{where}: a list, where one document should be. JSON Lines holds a document on each line; a list "
                    "of documents belongs into a file that ends in .json."
                )
            yield where, entry


def _read(where: str, strict: bool, read: Any) -> Document:
    try:
        return cast(Document, read())
    except DocumentError as error:
        if not strict:
            return Document("", "", (), repairs=(("unreadable document", 1),))
        raise DocumentError(f"{where}: {str(error).removeprefix('document: ')}") from None


def _parse(text: str, name: str, line: int) -> Any:
    name = "standard input" if name == "-" else name
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        remedy = ""
        if not text.strip():
            remedy = " The file is empty."
        elif error.msg == "Extra data" and error.lineno > 1:
            remedy = " If there is a document on each line, let the file end in .jsonl."
        elif error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string"):
            remedy = " The text ends in the middle: was the file cut off?"
        place = f"line {line + error.lineno - 1}, column {error.colno}"
        raise DataFileError(f"{name}, {place}: not JSON ({error.msg}).{remedy}") from None
    except (ValueError, RecursionError) as error:
        raise DataFileError(f"{name}, line {line}: not JSON that can be read ({error}).") from None


__all__ = [
    "DataFileError",
    "file_kind",
    "is_document_file",
    "iter_documents",
    "open_output",
    "read_docred_rows",
    "read_json",
    "read_rows",
    "write_documents",
    "write_lines",
    "write_list",
]
