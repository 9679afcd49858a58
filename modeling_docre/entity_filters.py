"""The filters `head` and `tail`: an entity of a document by its number, or by one of its names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .documents import Document, Entity
from .names import closest_names


def is_entity(document: Document, entity: int, wanted: int | str | None) -> bool:
    """Whether a filter lets an entity of a document pass; the case of names does not matter."""
    if wanted is None:
        return True
    if isinstance(wanted, str):
        return wanted.casefold() in {name.casefold() for name in _names(document.entities[entity])}
    return entity == wanted


def check_entity(document: Document, wanted: int | str | None) -> None:
    """Check that a document has the entity of a number.

    Raises:
        ValueError: when it does not. A name is no error: of many documents, most lack it.
    """
    if isinstance(wanted, int) and not 0 <= wanted < len(document.entities):
        raise ValueError(f"There is no entity {wanted}: document {document.title!r} has {len(document.entities)}.")


def missing_names(document: Document, wanted: Iterable[Any]) -> dict[str, list[str]]:
    """Find the names in filters that no entity of a document has.

    Args:
        document ([`Document`]): The document.
        wanted (iterable of `int`, `str` or `None`): The filters.

    Returns:
        `dict[str, list[str]]`: Those names, each with the names in the document that are like it, the likeliest first.
    """
    numbers = range(len(document.entities))
    return {
        name: closest_names(name, dict.fromkeys(known for entity in document.entities for known in _names(entity)))
        for name in wanted
        if isinstance(name, str) and not any(is_entity(document, number, name) for number in numbers)
    }


def did_you_mean(names: Iterable[str]) -> str:
    """Return the end of a message about a name, with those that are like it; empty where there are none."""
    names = list(names)
    return f" Did you mean {' or '.join(map(repr, names))}?" if names else ""


def _names(entity: Entity) -> list[str]:
    return [entity.name, *(mention.name for mention in entity.mentions)]


__all__ = ["check_entity", "did_you_mean", "is_entity", "missing_names"]
