"""Files of documents: JSON, JSON Lines, Parquet, inline markup. What is wrong with one is said with file and line."""

from __future__ import annotations

import codecs
import gzip
import io
import json
import os
import re
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TextIO, cast

from .document_reading import say_published
from .documents import Document, DocumentError
from .json_stream import JsonProblem, JsonWindow
from .output_files import DataFileError, open_output, write_lines, write_list
from .parquet_files import table_entries

_SUFFIXES = (".json", ".jsonl", ".parquet", ".txt")
_KINDS = (
    "Pass .json (one document, or a list of them), .jsonl (a document on each line), .txt (text with inline markup "
    "like [Ada](:PER)), each of which may end in .gz, or .parquet (a document in each row)"
)


# What no document could be made of; its place is the title of an empty one.
UNREADABLE = ("unreadable document", "line that is not JSON", "file that cannot be read to its end")
_OFFER = " Or pass strict=False to skip it with a count."


def file_kind(path: str | os.PathLike[str]) -> str:
    """Return the suffix of a file, in lower case and without an additional `.gz`; `"-"` for a standard stream."""
    name = str(path)
    return name if name == "-" else Path(name[:-3] if _is_gzipped(name) else name).suffix.lower()


def is_document_file(path: str | os.PathLike[str]) -> bool:
    """Whether a name is one that [`iter_documents`] reads."""
    return file_kind(path) in (*_SUFFIXES, "-") and not str(path).lower().endswith(".parquet.gz")


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file, gzipped or not.

    Args:
        path (`str` or `os.PathLike`): The file.

    Returns:
        `Any`: What it holds.

    Raises:
        DataFileError: when the file is missing, is not UTF-8 or is not JSON; the message names line and column.
    """
    with open_text(path) as stream:
        return _parse(stream.read(), str(path), 1)


def iter_documents(path: str | os.PathLike[str], *, strict: bool = True) -> Iterator[Document]:
    """Read the documents of a file, one after the other; no kind but `.txt` is in memory as a whole.

    Args:
        path (`str` or `os.PathLike`):
            `.json`, one document or a list; `.jsonl`, a document on each line; `.parquet`, one in each row; `.txt`,
            one document in inline markup, which takes the file's name for its title; `-` for JSON Lines on the
            standard input. Documents are in DocRED's form or in that of [`Document.to_dict`]. Text files are UTF-8,
            and may end in `.gz`.
        strict (`bool`, *optional*, defaults to `True`):
            Raise for nonsense in a document; otherwise skip and count it. An entry that cannot be read at all becomes
            an empty document with a repair that says so and its place for a title, so that the order stays.

    Yields:
        [`Document`].

    Raises:
        DataFileError: when the file is not what its name says; a truncated line is named by its number.
        DocumentError: when a document is wrong, with the file it is in and its place there.
        ModuleNotFoundError: when the file is Parquet and pyarrow is not installed.
    """
    for read in document_readers(path, strict=strict):
        yield read()


def document_readers(path: str | os.PathLike[str], *, strict: bool = True) -> Iterator[Callable[[], Document]]:
    """Find the documents of a file without reading what is in them, which costs far less.

    Args:
        path (`str` or `os.PathLike`): As for [`iter_documents`].
        strict (`bool`, *optional*, defaults to `True`): As for [`iter_documents`].

    Yields:
        `Callable`: Without arguments; gives the [`Document`], or raises what is wrong with it.

    Raises:
        DataFileError: as [`iter_documents`] does.
        ModuleNotFoundError: as [`iter_documents`] does.
    """
    check_document_file(path)
    suffix = file_kind(path)
    if suffix == ".txt":
        yield partial(_read_markup, path, strict)
    elif suffix in (".jsonl", "-"):
        with _open_binary(path) as stream:
            for number, line in _lines(stream, path):
                yield partial(_read_line, line, number, path, strict)
    else:
        for where, entry in _list_entries(path) if suffix == ".json" else table_entries(path):
            yield partial(_read_entry, entry, where, strict)


def check_document_file(path: str | os.PathLike[str]) -> None:
    """Refuse a name that [`iter_documents`] cannot read.

    Raises:
        DataFileError: when the name has another ending, or is that of a folder or of nothing.
    """
    name, kind = str(path), file_kind(path)
    if "\0" in name:
        raise DataFileError(f"{name!r} is not the name of a file: it holds a null character. Leave that out.")
    if not is_document_file(path):
        known = f"nothing is known about files that end in {kind!r}" if kind else "the name has no ending"
        if kind == ".parquet":
            known = "Parquet is compressed in itself: unpack it"
        raise DataFileError(f"{name}: {'a folder' if os.path.isdir(name) else known}. {_KINDS}.")
    if kind != "-" and not os.path.exists(name):
        raise DataFileError(f"{name}: there is no such file (working directory: {os.getcwd()}).")
    if os.path.isdir(name):
        raise DataFileError(f"{name}: a folder, where a file should be. {_KINDS}.")


def readable(name: str) -> str:
    """Return the name of a file, or a message with one, as text: names are bytes, which need not be UTF-8."""
    return os.fsencode(name).decode(errors="replace")


def write_documents(documents: Iterable[Document], path: str | os.PathLike[str] | None) -> int:
    """Write documents: `.jsonl` in the form of [`Document.to_dict`], `.json` as a list in DocRED's form.

    Args:
        documents (iterable of [`Document`]): What to write.
        path (`str` or `os.PathLike`):
            The file; it may end in `.gz`. It is written as a whole or not at all. `None` or `-` is JSON Lines on the
            standard output.

    Returns:
        `int`: How many were written.

    Raises:
        DataFileError: when the name ends in something else, or cannot be written to.
    """
    suffix = "-" if path is None else file_kind(path)
    if suffix not in (".json", ".jsonl", "-"):
        raise DataFileError(f"{path}: documents are written as .jsonl (one a line) or .json (DocRED's form).")
    with open_output(path) as stream:
        if suffix == ".json":
            return write_list((document.to_docred() for document in documents), stream)
        return write_lines((document.to_dict() for document in documents), stream)


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
    if file_kind(path) in (".jsonl", "-"):
        with _open_binary(path) as stream:
            return [_parse_line(line, number, path) for number, line in _lines(stream, path)]
    return [entry for _, entry in _list_entries(path)]


def row_readers(path: str | os.PathLike[str]) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Find the rows of a file of JSON, one after the other.

    Args:
        path (`str` or `os.PathLike`): As for [`read_rows`].

    Yields:
        `tuple`: The place of a row, for messages, and what gives it, or raises what is wrong with its line.

    Raises:
        DataFileError: as [`read_rows`] does, but for lines that are not JSON.
    """
    if file_kind(path) in (".jsonl", "-"):
        with _open_binary(path) as stream:
            for number, line in _lines(stream, path):
                yield _place(path, number), partial(_parse_line, line, number, path, strict=False)
    else:
        for number, (_, entry) in enumerate(_list_entries(path)):
            yield f"{path}, row {number}", partial(lambda row: row, entry)


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
        _read_entry(row, f"{path}, document {number}", True).to_docred()
        if isinstance(row, Mapping) and "text" in row and "vertexSet" not in row
        else row
        for number, row in enumerate(read_rows(path))
    ]


@contextmanager
def open_text(path: str | os.PathLike[str]) -> Iterator[TextIO]:
    """Open a file of text, gzipped or not, or the standard input, and word what goes wrong while it is read.

    Raises:
        DataFileError: when it cannot be read, or is not UTF-8.
    """
    try:
        with _open_binary(path) as stream:
            # Not with the encoding of the terminal; some editors put a byte order mark in front of UTF-8.
            text = io.TextIOWrapper(stream, encoding="utf-8-sig")
            try:
                yield text
            finally:
                text.detach()
    except UnicodeDecodeError as error:
        raise DataFileError(f"{path}: not a text file in UTF-8 ({error.reason}). Save it as UTF-8.") from None


@contextmanager
def _open_binary(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file without what gzip did to it, and word what goes wrong while it is read."""
    name = str(path)
    if "\0" in name:
        raise DataFileError(f"{name!r} is not the name of a file: it holds a null character. Leave that out.")
    try:
        if name == "-":
            yield sys.stdin.buffer
            return
        opened = gzip.open if _is_gzipped(name) else open
        with opened(name, "rb") as file:
            yield cast(BinaryIO, file)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataFileError(f"{name}: broken gzip file ({error}). Fetch it again, or unpack it first.") from None
    except FileNotFoundError:
        raise DataFileError(f"{name}: there is no such file (working directory: {os.getcwd()}).") from None
    except IsADirectoryError:
        raise DataFileError(f"{name}: a folder, where a file should be. {_KINDS}.") from None
    except PermissionError:
        raise DataFileError(f"{name}: the file may not be read. Change its permissions.") from None


def _list_entries(path: str | os.PathLike[str]) -> Iterator[tuple[str, Any]]:
    with open_text(path) as stream:
        window = JsonWindow(stream)
        if window.peek() == "[":
            try:
                for number, entry in enumerate(window.items()):
                    yield f"{path}, document {number}", entry
            except JsonProblem as problem:
                raise DataFileError(_word(problem, str(path))) from None
            return
    content = read_json(path)
    if not isinstance(content, dict):
        raise DataFileError(f"{path}: {json.dumps(content)[:60]}, where a document or a list of them should be.")
    yield str(path), content


def _word(problem: JsonProblem, name: str) -> str:
    if not problem.syntax:
        return f"{name}, line {problem.line}: not JSON that can be read ({problem.problem})."
    remedy = " The text ends in the middle: was the file cut off?" if problem.cut else ""
    return f"{name}, line {problem.line}, column {problem.column}: not JSON ({problem.problem}).{remedy}"


def _is_gzipped(name: str) -> bool:
    return name.lower().endswith(".gz")


def _lines(stream: BinaryIO, path: str | os.PathLike[str]) -> Iterator[tuple[int, bytes]]:
    """Number the lines that are not empty. They stay bytes, so that one that is not UTF-8 takes no other with it."""
    for number, line in enumerate(stream, 1):
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
            # Every line would be wrong for the one reason.
            if line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                raise DataFileError(f"{_place(path, 1)}: the file is in UTF-16. Save it as UTF-8.")
            if line.strip() == b"[":
                said = "JSON over several lines, where JSON Lines has a document on each. Such a file ends in .json."
                raise DataFileError(f"{_place(path, 1)}: {said}")
        if line.strip():
            yield number, line


def _parse_line(line: bytes, number: int, path: str | os.PathLike[str], *, strict: bool = True) -> Any:
    try:
        text = line.decode().rstrip("\r\n")
    except UnicodeDecodeError as error:
        column = len(line[: error.start].decode()) + 1
        raise DataFileError(
            f"{_place(path, number)}, column {column}: not a text file in UTF-8 ({error.reason}). Save it as UTF-8."
        ) from None
    entry = _parse(text, str(path), number)
    if strict and isinstance(entry, list):
        raise DataFileError(
            f"{_place(path, number)}: a list, where one document should be. JSON Lines holds a document on each "
            "line; a list of documents belongs into a file that ends in .json."
        )
    return entry


def _place(path: str | os.PathLike[str], number: int) -> str:
    return f"{'standard input' if str(path) == '-' else path}, line {number}"


def read_markup(path: str | os.PathLike[str]) -> str:
    """Read the text of a document in inline markup.

    Raises:
        DataFileError: when the file cannot be read.
        DocumentError: when it holds abstracts in PubTator's form.
    """
    with open_text(path) as stream:
        # Space in front stays, so that places in messages are those in the file.
        markup = stream.read().rstrip()
    if re.match(r"\s*\d+\|[ta]\|", markup):
        raise DocumentError(f"{say_published('PubTator')}.")
    return markup


def _read_markup(path: str | os.PathLike[str], strict: bool) -> Document:
    title = readable(Path(path).name)
    return _read(str(path), strict, lambda: Document.from_markup(read_markup(path), title=title, strict=strict))


def _read_line(line: bytes, number: int, path: str | os.PathLike[str], strict: bool) -> Document:
    try:
        entry = _parse_line(line, number, path, strict=strict)
    except DataFileError as error:
        if strict:
            raise DataFileError(f"{error}{_OFFER}") from None
        return Document(readable(_place(path, number)), "", (), repairs=(("line that is not JSON", 1),))
    return _read_entry(entry, _place(path, number), strict)


def _read_entry(entry: Any, where: str, strict: bool) -> Document:
    return _read(where, strict, lambda: Document.from_dict(entry, strict=strict))


def _read(where: str, strict: bool, read: Callable[[], Document]) -> Document:
    try:
        return read()
    except DocumentError as error:
        if not strict:
            return Document(readable(where), "", (), repairs=(("unreadable document", 1),))
        problem = str(error).removeprefix("document: ")
        raise DocumentError(f"{where}: {problem}{'' if 'strict=False' in problem else _OFFER}") from None


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
    "UNREADABLE",
    "check_document_file",
    "document_readers",
    "file_kind",
    "is_document_file",
    "iter_documents",
    "open_text",
    "read_docred_rows",
    "read_json",
    "read_markup",
    "read_rows",
    "readable",
    "row_readers",
    "write_documents",
]
