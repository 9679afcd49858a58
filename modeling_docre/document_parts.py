"""What a document is made of, the error that all reading raises, and the tally of what reading repaired."""

from __future__ import annotations

import math
import operator
import reprlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


class DocumentError(ValueError):
    """
    A document that cannot be read or written as asked.

    The message names the document (its title, or its index where there is no title), the field, the value and the
    way to mend it.
    """


@dataclass(frozen=True, slots=True)
class Mention:
    """
    One place where an entity is named.

    Args:
        start (`int`): First character of the mention in `Document.text`.
        end (`int`): Character after the last one.
        sentence (`int`): Index of the sentence that holds the mention.
        words (`tuple[int, int]`): `[start, end)` word positions inside that sentence.
        name (`str`): The mention's name as the data gave it, which may differ from the characters that it covers.
        type (`str`, *optional*): Type of the mention, such as `"PER"`.
    """

    start: int
    end: int
    sentence: int
    words: tuple[int, int]
    name: str
    type: str | None = None


@dataclass(frozen=True, slots=True)
class Entity:
    """
    Something that the document talks about: all mentions of it.

    Args:
        mentions (`tuple[Mention, ...]`): In the order of the data. Empty only where every mention was skipped.
        name (`str`): What to call the entity: the longest name of a mention (the first on ties) unless one was given.
        type (`str`, *optional*): The type of the mention with the longest name (the first on ties) unless given.
        ids (`tuple[str, ...]`, *optional*, defaults to `()`): What knowledge bases call it, such as `("Q90",)`.
    """

    mentions: tuple[Mention, ...]
    name: str
    type: str | None = None
    ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Relation:
    """
    A fact: `relation` holds from the entity `head` to the entity `tail`.

    Args:
        head (`int`): Index of the head entity in `Document.entities`.
        tail (`int`): Index of the tail entity. Some corpora hold facts whose head is their tail; these are kept.
        relation (`str`): Relation id, such as `"P17"`.
        evidence (`tuple[int, ...]`, *optional*, defaults to `()`): Indices of the sentences that show the fact.
        score (`float`, *optional*): Probability in `[0, 1]` of a predicted fact.
    """

    head: int
    tail: int
    relation: str
    evidence: tuple[int, ...] = ()
    score: float | None = None


_shortener = reprlib.Repr()
_shortener.maxstring = _shortener.maxother = 80
_shortener.maxlist = _shortener.maxtuple = _shortener.maxdict = 6


def show(value: object) -> str:
    """Write a value for a message, shortened where it is long."""
    try:
        shown = _shortener.repr(value)
    except Exception:  # a message must never fail on the value that it complains about
        return f"a {type(value).__name__}"
    return shown.encode("utf-8", "backslashreplace").decode("utf-8")


def name_document(title: object, fallback: str) -> str:
    """Name a document in messages: by its title where it has one."""
    return f"document {show(title)}" if isinstance(title, str) and title else fallback


def as_int(value: object) -> int | None:
    """Return the value as an `int` where it is a whole number (numpy's included) and not a bool, else `None`."""
    if isinstance(value, bool):
        return None
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        return None


def as_list(value: object) -> Sequence[Any] | None:
    """Return the value where it is a list or a tuple, else `None`."""
    return value if isinstance(value, list | tuple) else None


def as_score(value: object) -> float | None:
    """Return the value as a `float` where it is a number in `[0, 1]`, else `None`."""
    if isinstance(value, bool | str | bytes):
        return None
    try:
        score = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return score if math.isfinite(score) and 0.0 <= score <= 1.0 else None


def lone_surrogate(text: str) -> int | None:
    """Find the first half of a broken surrogate pair, which no tokenizer can encode; `None` where there is none."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        return error.start
    return None


def replace_surrogates(text: str) -> str:
    """Put U+FFFD in the place of every lone surrogate; the length stays."""
    return "".join("\ufffd" if "\ud800" <= character <= "\udfff" else character for character in text)


class Reading:
    """
    One document being read: how to name it in messages, how strict to be, and what was repaired so far.

    Args:
        where (`str`): How messages name the document.
        strict (`bool`): Whether nonsense is an error; otherwise it is skipped and counted.
    """

    def __init__(self, where: str, strict: bool) -> None:
        self.where = where
        self.strict = strict
        self.counts: Counter[str] = Counter()

    @property
    def repairs(self) -> tuple[tuple[str, int], ...]:
        """What was repaired or skipped: `(cause, count)`, in the order of the first case."""
        return tuple(self.counts.items())

    def repair(self, cause: str, count: int = 1) -> None:
        """Count known dirt that was mended."""
        if count:
            self.counts[cause] += count

    def error(self, field: str, value: object, problem: str, mend: str) -> DocumentError:
        """Word an error."""
        if getattr(value, "ndim", 0):  # a dataset whose format is "numpy" or "torch" gives arrays
            problem, mend = f"not a list but a {type(value).__name__}", "Remove the format: dataset.with_format(None)"
        return DocumentError(f"{self.where}: `{field}` is {show(value)}: {problem}. {mend}.")

    def nonsense(self, cause: str, field: str, value: object, problem: str, mend: str) -> None:
        """
        Refuse nonsense, or count it where the reading is not strict; the caller then skips it.

        Raises:
            DocumentError: If the reading is strict.
        """
        if self.strict:
            raise self.error(field, value, problem, f"{mend}, or pass strict=False to skip it with a count")
        self.counts[cause] += 1

    def mapping(self, value: object, cause: str, field: str, example: str) -> Mapping[str, Any] | None:
        """Return the value where it is a dict; else nonsense."""
        if isinstance(value, Mapping):
            return value
        self.nonsense(
            cause, field, value, f"not a dict but a {type(value).__name__}", f"Write a dict, as in {example}"
        )
        return None

    def items(self, value: object, cause: str, field: str, example: str) -> Sequence[Any]:
        """Return the value where it is a list or a tuple; else nonsense, read as an empty list."""
        items = as_list(value)
        if items is None:
            problem = f"not a list but a {type(value).__name__}"
            self.nonsense(cause, field, value, problem, f"Write a list, as in {example}")
        return items or ()

    def index(self, value: object, size: int, cause: str, field: str, of: str) -> int | None:
        """Return the value where it is a whole number in `[0, size)`; else nonsense."""
        number = as_int(value)
        if number is not None and 0 <= number < size:
            return number
        have = f"the document has {size} {of}, counted from 0"
        problem = have if number is not None else f"not a whole number but a {type(value).__name__} ({have})"
        self.nonsense(cause, field, value, problem, f"Give the index of one of the {of}")
        return None

    def optional_string(self, value: object, cause: str, field: str) -> tuple[str | None, bool]:
        """Return `(string or None, whether it can be read)`."""
        if value is None:
            return None, True
        if isinstance(value, str) and lone_surrogate(value) is None:
            return value, True
        problem = f"not a string but a {type(value).__name__}"
        if isinstance(value, str):
            problem = f"broken at character {lone_surrogate(value)} (half of a surrogate pair)"
        self.nonsense(cause, field, value, problem, "Write a string, or leave it out")
        return None, False
