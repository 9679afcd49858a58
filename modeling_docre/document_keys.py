"""The keys of a document's two forms, and which of them a key that nothing reads stands for."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from .document_parts import as_list
from .misspellings import is_slip
from .names import fold_name

_DOCUMENT = {
    "text": ("title", "text", "sentences", "entities", "relations", "pairs"),
    "sents": ("title", "sents", "vertexSet", "labels", "pairs"),
}
_ENTITY = ("name", "type", "mentions", "id", "ids")
_MENTION = {"text": ("start", "end", "text", "name", "type"), "sents": ("sent_id", "pos", "name", "type", "id", "ids")}
FACTS = {"text": ("relations", ("head", "tail", "relation")), "sents": ("labels", ("h", "t", "r"))}
"""For each form, the key of the facts of a document, and those of head, tail and relation in one."""
# What the other form calls its facts, and their parts. Its entities are no others by another name: they are written in
# another way.
_OTHER_FACTS = {"text": {"labels": "relations"}, "sents": {"relations": "labels"}}
_OTHER_PARTS = {
    form: dict(zip(FACTS[other][1], FACTS[form][1], strict=True))
    for form, other in (("text", "sents"), ("sents", "text"))
}
# But in other case. Short, and seldom there: many keys of people's own are near these.
_NEVER_MEANT = {"id", "ids", "score"}
# A value of another kind stands under a key of its own: `names` is a list, and no `name` written wrongly.
_KINDS = {
    **dict.fromkeys(("title", "text", "name", "type", "relation", "r"), str),
    **dict.fromkeys(("start", "end", "sent_id", "head", "tail", "h", "t"), int),
    **dict.fromkeys(("sentences", "entities", "relations", "pairs", "mentions", "evidence"), list),
    **dict.fromkeys(("sents", "vertexSet", "labels", "pos"), list),
}


def mend_keys(data: dict[str, Any], form: str) -> Iterator[tuple[str, Any, str]]:
    """
    Write keys that nothing reads, and that look like one that is not there, as that one.

    Args:
        data (`dict`): A document, in whatever state; is changed, and what is in a part after the part itself.
        form (`str`): Its form, `"text"` or `"sents"`; see [`document_form`].

    Yields:
        `tuple[str, Any, str]`:
            What was changed: the field as it was, such as `"entities[0].typ"`; its value; the key that it stands for.
    """
    # Parts are found as they are after the keys around them were mended.
    for field, part, keys, others in _parts(data, form):
        if not isinstance(part, dict):
            continue
        for key in list(part):
            meant = _stands_for(key, part[key], keys, others)
            if meant is not None and part.get(meant) is None:
                part[meant] = part.pop(key)
                yield f"{field}{key}", part[meant], meant


def guess_form(data: Mapping[str, Any]) -> str | None:
    """Return the form whose words a document has under a key that nothing reads; `None` where there is no such key."""
    for form, keys in _DOCUMENT.items():
        if any(_stands_for(key, value, keys, {}) == form for key, value in data.items()):
            return form
    return None


def _stands_for(key: object, value: object, keys: tuple[str, ...], others: Mapping[str, str]) -> str | None:
    if not isinstance(key, str) or key in keys:
        return None
    in_other_case = next((name for name in keys if name.casefold() == key.casefold()), None)
    if in_other_case is not None:
        return in_other_case if value is not None else None
    meant = others.get(key.casefold()) or _meant(key, keys)
    return meant if meant is not None and isinstance(value, _KINDS.get(meant, object)) else None


def _parts(data: Mapping[str, Any], form: str) -> Iterator[tuple[str, Any, tuple[str, ...], Mapping[str, str]]]:
    """Find all parts of a document that have keys: where each is, itself, its keys, other names of these."""
    yield "", data, _DOCUMENT[form], _OTHER_FACTS[form]
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
        yield f"{facts}[{number}].", fact, (*keys, "evidence", "score"), _OTHER_PARTS[form]


@lru_cache(maxsize=1024)
def _meant(key: str, keys: tuple[str, ...]) -> str | None:
    """The key that another one stands for, where it is near enough to be sure."""
    names = {fold_name(name): name for name in keys if name not in _NEVER_MEANT}
    parts = set(key.casefold().split("_")) - {""}
    # `title_id` is a key of its own; `sent_ids` is none.
    if len(parts) > 1 and not parts.isdisjoint(names):
        return None
    folded = fold_name(key)
    near = difflib.get_close_matches(folded, names, 1, 0.8) or [name for name in names if is_slip(folded, name)]
    return names[near[0]] if near else None


__all__ = ["FACTS", "guess_form", "mend_keys"]
