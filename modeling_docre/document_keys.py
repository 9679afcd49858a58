"""The keys of a document's two forms, and which of them a key that nothing reads stands for."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from .document_parts import as_list

_DOCUMENT = {
    "text": ("title", "text", "sentences", "entities", "relations", "pairs"),
    "sents": ("title", "sents", "vertexSet", "labels", "pairs"),
}
# What the other form calls it.
_OTHER_FORM = {
    "text": {"labels": "relations", "vertexSet": "entities"},
    "sents": {"relations": "labels", "entities": "vertexSet"},
}
_ENTITY = ("name", "type", "mentions", "id", "ids")
_MENTION = {"text": ("start", "end", "text", "name", "type"), "sents": ("sent_id", "pos", "name", "type", "id")}
FACTS = {"text": ("relations", ("head", "tail", "relation")), "sents": ("labels", ("h", "t", "r"))}
"""For each form, the key of the facts of a document, and those of head, tail and relation in one."""
# Unless in other case. Short, and seldom there: many keys of people's own are near these.
_NEVER_MEANT = {"id", "ids", "score"}


def unread_keys(data: Mapping[str, Any], form: str) -> Iterator[tuple[str, Any, str]]:
    """
    Find keys that nothing reads and that look like one that is not there.

    Args:
        data (`Mapping`): A document, in whatever state.
        form (`str`): Its form, `"text"` or `"sents"`; see [`document_form`].

    Yields:
        `tuple[str, Any, str]`: The field, such as `"entities[0].typ"`; its value; the key that it stands for.
    """
    for field, part, keys, others in _parts(data, form):
        if not isinstance(part, Mapping):
            continue
        for key, value in part.items():
            if not isinstance(key, str) or key in keys:
                continue
            meant = others.get(key) or _meant(key, keys)
            if meant is not None and part.get(meant) is None:
                yield f"{field}{key}", value, meant


def _parts(data: Mapping[str, Any], form: str) -> Iterator[tuple[str, Any, tuple[str, ...], Mapping[str, str]]]:
    """Find all parts of a document that have keys: where each is, itself, its keys, other names of these."""
    yield "", data, _DOCUMENT[form], _OTHER_FORM[form]
    entities = "entities" if form == "text" else "vertexSet"
    for number, entity in enumerate(as_list(data.get(entities)) or ()):
        field = f"{entities}[{number}]"
        mentions = entity
        if form == "text":
            yield f"{field}.", entity, _ENTITY, {}
            field, mentions = f"{field}.mentions", entity.get("mentions") if isinstance(entity, Mapping) else None
        for place, mention in enumerate(as_list(mentions) or ()):
            yield f"{field}[{place}].", mention, _MENTION[form], {}
    facts, keys = FACTS[form]
    for number, fact in enumerate(as_list(data.get(facts)) or ()):
        yield f"{facts}[{number}].", fact, (*keys, "evidence", "score"), {}


@lru_cache(maxsize=1024)
def _meant(key: str, keys: tuple[str, ...]) -> str | None:
    """The key that another one stands for, where it is near enough to be sure."""
    names = {name.casefold(): name for name in keys}
    guessed = [folded for folded, name in names.items() if name not in _NEVER_MEANT]
    near = [key.casefold()] if key.casefold() in names else difflib.get_close_matches(key.casefold(), guessed, 1, 0.75)
    return names[near[0]] if near else None


__all__ = ["FACTS", "unread_keys"]
