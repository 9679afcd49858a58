"""The entries of JSON and JSON Lines files, one at a time, so that a corpus of any size fits into memory."""

from __future__ import annotations

import codecs
import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from modeling_docre.data_files import file_kind
from modeling_docre.document_reading import published_as
from modeling_docre.documents import DocumentError
from modeling_docre.json_stream import JsonProblem, JsonWindow

from .text_lines import decode_line, iterate_lines, open_bytes

_CHUNK = 1 << 20
_DOCRED = 'Documents have "title", "sents" (lists of words), "vertexSet" and, where labelled, "labels"'


def iterate_entries(
    path: Path, *, strict: bool = True, repairs: Counter[str], lines: bool = False
) -> Iterator[tuple[str, Any]]:
    """
    Read the entries of a file that holds a JSON list, or JSON Lines, whatever its name.

    Args:
        path (`Path`): The file; gzip where its name ends in `.gz`.
        strict (`bool`, *optional*, defaults to `True`):
            Whether a line of JSON Lines that is not JSON is an error; if `False` it is counted and skipped.
        repairs (`collections.Counter`): Takes that count.
        lines (`bool`, *optional*, defaults to `False`):
            Whether a file that begins with an object is JSON Lines even if it holds that object alone.

    Yields:
        `tuple[str, Any]`: Where the entry stands, for messages, and the entry.

    Raises:
        DocumentError: If the file is not UTF-8, not JSON (with line and column), or one object instead of a list.
    """
    with open_bytes(path) as stream:
        start = _skip_space(stream)
        first = start[:1]
        stream.seek(0)
        if not first:
            raise DocumentError(f"{path}: the file is empty. {_DOCRED}: write a list of them.")
        if first == b"[":
            yield from _iterate_list(as_text(stream), path)
            return
        if first != b"{":
            shown = start[:40].decode("utf-8", "replace")
            raise DocumentError(f"{path}: not JSON, it begins with {shown!r}. {_DOCRED}: write a list of them.")
        if not lines and file_kind(path) != ".jsonl" and not _is_json_lines(stream):
            stream.seek(0)
            raise DocumentError(f"{path}: {_explain_single(as_text(stream), path)}")
        stream.seek(0)
        yield from _iterate_lines(stream, path, strict, repairs)


def iterate_values(path: Path) -> Iterator[tuple[str, Any]]:
    """
    Read the entries of a file that holds a JSON list, one object, or objects that follow each other.

    Args:
        path (`Path`): The file; gzip where its name ends in `.gz`.

    Yields:
        `tuple[str, Any]`: Where the entry stands, for messages, and the entry.

    Raises:
        DocumentError: If the file is empty, not UTF-8 or not JSON (with line and column).
    """
    with open_bytes(path) as binary, _worded(path):
        window = JsonWindow(as_text(binary), _CHUNK)
        first = window.peek()
        if not first:
            raise DocumentError(f"{path}: the file is empty. Fetch it again.")
        if first == "[":
            for index, entry in enumerate(window.items()):
                yield f"{path}, entry {index}", entry
            return
        entry = window.value()
        if not window.peek():
            yield str(path), entry
            return
        yield f"{path}, entry 0", entry
        index = 0
        while window.peek():
            index += 1
            yield f"{path}, entry {index}", window.value()


def first_entry(path: Path) -> Any:
    """Return the first entry of a file of JSON, whichever form it has; `None` where it cannot be read."""
    try:
        return next(iter(iterate_values(path)), (None, None))[1]
    except DocumentError:
        return None


def explain_entry(entry: object) -> str | None:
    """
    Say what an entry is that is certainly not a document, and what to do about it.

    Args:
        entry (`object`): One entry of a file.

    Returns:
        `str`, *optional*: A sentence, or `None` for an entry that may be a document.
    """
    if not isinstance(entry, Mapping) or "sents" in entry:
        return None
    keys = set(entry)
    published = published_as(entry)
    if published == "HacRED":
        return 'this is HacRED\'s form, with two views of a document: pass format="hacred".'
    if published == "DWIE":
        return 'this is an annotation of DWIE, not DocRED\'s form: pass format="dwie".'
    if {"h_idx", "t_idx"} <= keys:
        return f"this is a prediction (`h_idx`, `t_idx`, `r`), not a document. {_DOCRED}."
    if "text" not in keys:
        return f"neither `sents` nor `text` among the keys {sorted(map(str, keys))[:12]}. {_DOCRED}."
    return None


def as_text(stream: BinaryIO) -> TextIO:
    """Decode a stream; a byte order mark is what some editors put in front of UTF-8, and no part of the JSON."""
    return io.TextIOWrapper(stream, encoding="utf-8-sig")


def _skip_space(stream: BinaryIO) -> bytes:
    """Read what follows the white space that a file begins with; `b""` where there is nothing else."""
    start = stream.read(_CHUNK + len(codecs.BOM_UTF8)).removeprefix(codecs.BOM_UTF8).lstrip()
    while not start:
        more = stream.read(_CHUNK)
        if not more:
            break
        start = more.lstrip()
    return start


def _iterate_list(stream: TextIO, path: Path) -> Iterator[tuple[str, Any]]:
    with _worded(path):
        for index, entry in enumerate(JsonWindow(stream, _CHUNK).items()):
            yield f"{path}, entry {index}", entry


@contextmanager
def _worded(path: Path) -> Iterator[None]:
    """Say in which file there is a problem, and what to do about it."""
    try:
        yield
    except JsonProblem as problem:
        mend = "The file may be truncated: fetch or write it again" if problem.cut else "Mend the file there"
        raise DocumentError(f"{path}: not valid JSON: {problem}. {mend}.") from None


def _iterate_lines(stream: BinaryIO, path: Path, strict: bool, repairs: Counter[str]) -> Iterator[tuple[str, Any]]:
    for number, line in iterate_lines(stream):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            entry = json.loads(decode_line(line, where))
        except (ValueError, RecursionError) as error:
            if not strict:
                repairs["line that is not JSON"] += 1
                continue
            if isinstance(error, DocumentError):
                raise
            problem = f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else error
            raise DocumentError(
                f"{where}: not valid JSON: {problem}. The line may be truncated: write it again, or pass strict=False "
                "to skip it with a count."
            ) from None
        yield where, entry


def _is_json_lines(stream: BinaryIO) -> bool:
    """Whether the first line of several is a JSON object: many tools write such files with the suffix `.json`."""
    lines = (line for _, line in iterate_lines(stream) if line.strip())
    first = next(lines, b"")
    if not next(lines, b""):
        return False
    try:
        return isinstance(json.loads(first.decode("utf-8", "replace")), dict)
    except (ValueError, RecursionError):
        return False


_TABLES: tuple[tuple[type, str], ...] = ((str, "names"), (int, "numbers"))


def _explain_single(stream: TextIO, path: Path) -> str:
    """Say what a file is that holds one JSON value which is not a list."""
    window = JsonWindow(stream, _CHUNK)
    with _worded(path):
        window.peek()
        value = window.value()
        if window.peek():
            raise window.error("something follows the first value", window.at)
    for kind, what in _TABLES:
        if value and all(isinstance(item, kind) for item in value.values()) and not {"text", "title"} & set(value):
            return f"a table of {what} (such as rel_info.json or rel2id.json), not documents. {_DOCRED}."
    if "sents" in value or ("text" in value and explain_entry(value) is None):
        return "one document instead of a list of documents. Put it in brackets: [{...}], or name the file .jsonl."
    lists = [key for key, item in value.items() if isinstance(item, list) and item and isinstance(item[0], dict)]
    explained = explain_entry(value) or ""
    if lists and explained.startswith("neither"):
        return f"a dict instead of a list of documents. If they are in `{lists[0]}`, write that list alone to a file."
    return f"a dict instead of a list of documents: {explained}"
