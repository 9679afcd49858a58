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
_ENTITY = ("name", "type", "mentions", "id", "ids")
_MENTION = {"text": ("start", "end", "text", "name", "type"), "sents": ("sent_id", "pos", "name", "type", "id")}
FACTS = {"text": ("relations", ("head", "tail", "relation")), "sents": ("labels", ("h", "t", "r"))}
"""For each form, the key of the facts of a document, and those of head, tail and relation in one."""
# What the other form calls them. Its entities are no others by another name: they are written in another way.
_OTHER_FORM = {
    form: dict(zip((facts, *ends), (FACTS[form][0], *FACTS[form][1]), strict=True))
    for form, (facts, ends) in (("text", FACTS["sents"]), ("sents", FACTS["text"]))
}
# Unless in other case. Short, and seldom there: many keys of people's own are near these.
_NEVER_MEANT = {"id", "ids", "score"}


def mend_keys(data: dict[str, Any], form: str) -> list[tuple[str, Any, str]]:
    """
    Write keys that nothing reads, and that look like one that is not there, as that one.

    Args:
        data (`dict`): A document, in whatever state; is changed.
        form (`str`): Its form, `"text"` or `"sents"`; see [`document_form`].

    Returns:
        `list[tuple[str, Any, str]]`:
            What was changed: the field as it was, such as `"entities[0].typ"`; its value; the key that it stands for.
    """
    found = []
    # Parts are found as they are after the keys around them were mended.
    for field, part, keys, others in _parts(data, form):
        if not isinstance(part, dict):
            continue
        for key in list(part):
            meant = _stands_for(key, keys, others)
            if meant is not None and part.get(meant) is None:
                part[meant] = part.pop(key)
                found.append((f"{field}{key}", part[meant], meant))
    return found


def guess_form(data: Mapping[str, Any]) -> str | None:
    """Return the form whose words a document has under a key that nothing reads; `None` where there is no such key."""
    return next((form for form in _DOCUMENT for key in data if _stands_for(key, _DOCUMENT[form], {}) == form), None)


def _stands_for(key: object, keys: tuple[str, ...], others: Mapping[str, str]) -> str | None:
    return others.get(key) or _meant(key, keys) if isinstance(key, str) and key not in keys else None


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
        yield f"{facts}[{number}].", fact, (*keys, "evidence", "score"), _OTHER_FORM[form]


@lru_cache(maxsize=1024)
def _meant(key: str, keys: tuple[str, ...]) -> str | None:
    """The key that another one stands for, where it is near enough to be sure."""
    names = {name.casefold(): name for name in keys}
    guessed = [folded for folded, name in names.items() if name not in _NEVER_MEANT]
    near = [key.casefold()] if key.casefold() in names else difflib.get_close_matches(key.casefold(), guessed, 1, 0.75)
    return names[near[0]] if near else None


__all__ = ["FACTS", "guess_form", "mend_keys"]
