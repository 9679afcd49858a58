"""The entries of JSON and JSON Lines files, one at a time, so that a corpus of any size fits into memory."""

from __future__ import annotations

import gzip
import json
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO, cast

from modeling_docre.data_files import file_kind
from modeling_docre.documents import DocumentError
from modeling_docre.json_stream import JsonProblem, JsonWindow

_CHUNK = 1 << 20
_SPACE = " \t\r\n"
_DOCRED = 'Documents have "title", "sents" (lists of words), "vertexSet" and, where labelled, "labels"'


def iterate_entries(path: Path, *, strict: bool = True, repairs: Counter[str]) -> Iterator[tuple[str, Any]]:
    """
    Read the entries of a file that holds a JSON list, or JSON Lines, whatever its name.

    Args:
        path (`Path`): The file; gzip where its name ends in `.gz`.
        strict (`bool`, *optional*, defaults to `True`):
            Whether a line of JSON Lines that is not JSON is an error; if `False` it is counted and skipped.
        repairs (`collections.Counter`): Takes that count.

    Yields:
        `tuple[str, Any]`: Where the entry stands, for messages, and the entry.

    Raises:
        DocumentError: If the file is not UTF-8, not JSON (with line and column), or one object instead of a list.
    """
    try:
        with _open_text(path) as stream:
            start = stream.read(_CHUNK)
            while start and not start.strip(_SPACE):
                start = stream.read(_CHUNK)
            first = start.lstrip(_SPACE)[:1]
            stream.seek(0)
            if not first:
                raise DocumentError(f"{path}: the file is empty. {_DOCRED}: write a list of them.")
            if first == "[":
                yield from _iterate_list(stream, path)
                return
            if first != "{":
                shown = start.lstrip(_SPACE)[:40]
                raise DocumentError(f"{path}: not JSON, it begins with {shown!r}. {_DOCRED}: write a list of them.")
            if file_kind(path) != ".jsonl" and not _is_json_lines(stream):
                stream.seek(0)
                raise DocumentError(f"{path}: {_explain_single(stream, path)}")
            stream.seek(0)
            yield from _iterate_lines(stream, path, strict, repairs)
    except UnicodeDecodeError as error:
        raise DocumentError(f"{path}: not a text file in UTF-8 ({error.reason}). Save it as UTF-8.") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DocumentError(f"{path}: broken gzip file ({error}). Fetch it again, or unpack it first.") from None


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
    if keys & {"vertex_char", "vertex_word"}:
        return (
            "this is HacRED's form, with two views of a document. Choose one and write it as "
            '{"title": row["id"], "sents": row["sents_char"], "vertexSet": row["vertex_char"], '
            '"labels": row["labels_char"]}.'
        )
    if {"mentions", "concepts"} <= keys:
        text = "" if "content" in keys else ", as published without the article's text (`content`)"
        return f"this is an annotation file of DWIE{text}, not DocRED's form. {_DOCRED}."
    if {"h_idx", "t_idx"} <= keys:
        return f"this is a prediction (`h_idx`, `t_idx`, `r`), not a document. {_DOCRED}."
    if "text" not in keys:
        return f"neither `sents` nor `text` among the keys {sorted(map(str, keys))[:12]}. {_DOCRED}."
    return None


def _open_text(path: Path) -> TextIO:
    opened = gzip.open if path.name.lower().endswith(".gz") else open
    # A byte order mark is what some editors put in front of UTF-8; it is no part of the JSON.
    return cast(TextIO, opened(path, "rt", encoding="utf-8-sig"))


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


def _iterate_lines(stream: TextIO, path: Path, strict: bool, repairs: Counter[str]) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(stream, start=1):
        if not line.strip(_SPACE):
            continue
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError) as error:
            if strict:
                problem = f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else error
                raise DocumentError(
                    f"{path}, line {number}: not valid JSON: {problem}. The line may be truncated: write it again, or "
                    "pass strict=False to skip it with a count."
                ) from None
            repairs["line that is not JSON"] += 1
            continue
        yield f"{path}, line {number}", entry


def _is_json_lines(stream: TextIO) -> bool:
    """Whether the first line of several is a JSON object: many tools write such files with the suffix `.json`."""
    lines = (line for line in stream if line.strip(_SPACE))
    first = next(lines, "")
    if not next(lines, ""):
        return False
    try:
        return isinstance(json.loads(first), dict)
    except json.JSONDecodeError:
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
