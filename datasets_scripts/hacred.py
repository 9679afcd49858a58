"""HacRED: Chinese documents, each in two views, by characters and by words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from modeling_docre.document_parts import Reading
from modeling_docre.documents import DocumentError

from .json_files import iterate_entries

VIEWS = ("char", "word")


def iterate_hacred(
    path: Path, view: str, *, strict: bool, repairs: Counter[str]
) -> Iterator[tuple[str, Mapping[str, Any] | DocumentError]]:
    """
    Read one view of the documents of HacRED as dicts in DocRED's form.

    Args:
        path (`Path`): JSON Lines, or a list.
        view (`str`): `"char"`, where every character is a word, or `"word"`.
        strict (`bool`): Whether a line that is not JSON is an error.
        repairs (`collections.Counter`): Takes what is skipped.

    Yields:
        `tuple`: Where the document stands, and the document, or why it cannot be read.
    """
    seen: set[str] = set()
    for where, entry in iterate_entries(path, strict=strict, repairs=repairs, lines=True):
        try:
            row = _read_view(entry, view, seen, Reading(where, strict))
        except DocumentError as error:
            yield where, error
            continue
        yield where, row


def _read_view(entry: Any, view: str, seen: set[str], reading: Reading) -> dict[str, Any]:
    mend = 'Write a row as {"id": "1", "sents_char": [...], "vertex_char": [...], "labels_char": [...]}'
    if not isinstance(entry, Mapping):
        raise reading.error("entry", entry, f"not a dict but a {type(entry).__name__}", mend)
    title = entry.get("id")
    if isinstance(title, bool) or not isinstance(title, str | int) or title == "":
        problem = "missing" if title is None else "not an id"
        raise reading.error("id", title, problem, mend)
    if str(title) in seen:
        raise reading.error("id", title, "a row before it has the same one", "Leave one of them out")
    for key in (f"sents_{view}", f"vertex_{view}"):
        if entry.get(key) is None:
            others = [other for other in VIEWS if entry.get(f"sents_{other}") is not None]
            hint = f'Pass view="{others[0]}", which the row has' if others and view not in others else mend
            raise reading.error(key, None, "missing", hint)
    seen.add(str(title))
    return {
        "title": str(title),
        "sents": entry[f"sents_{view}"],
        "vertexSet": entry[f"vertex_{view}"],
        "labels": entry.get(f"labels_{view}"),
    }


__all__ = ["VIEWS", "iterate_hacred"]
