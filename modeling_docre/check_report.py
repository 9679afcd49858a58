"""What the check of a user's documents found: problems, each with its place and the way to mend it, and warnings."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from .document_parts import name_document

_PLACES = 3  # of a problem that occurs again


@dataclass(frozen=True)
class Problem:
    """
    Something in a file that reading refuses.

    Args:
        file (`str`): The file.
        row (`str`): The place in it, such as `"line 12"`; empty for the file as a whole.
        title (`str`): The document's title, empty where there is none.
        cause (`str`): What kind of problem it is; problems are counted by it.
        field (`str`): The field of the document, such as `"relations[0].tail"`; empty for the document as a whole.
        value (`str`): What stands there, shortened.
        problem (`str`): What is wrong with it.
        mend (`str`): What to do about it.
        count (`int`, *optional*, defaults to 1):
            How often the same problem is there: a key that is misspelt or missing, a relation, or a form of rows, that
            is wrong in many places is told once, where it is first.
        next_places (`tuple[str, ...]`, *optional*, defaults to `()`): The next few rows with it.
    """

    file: str
    row: str
    title: str
    cause: str
    field: str
    value: str
    problem: str
    mend: str
    count: int = 1
    next_places: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        """File and row."""
        return ", ".join(filter(None, [self.file, self.row]))

    def __str__(self) -> str:
        document = name_document(self.title, "")
        what = f"`{self.field}` is {self.value}" if self.field else ""
        said = ": ".join(filter(None, [self.place, document, what, self.problem]))
        again = f"It is there {self.count:,} times" if self.count > 1 else ""
        if self.next_places:
            again += f", next in {'; '.join(self.next_places)}"
        return " ".join(part if part.endswith((".", "?")) else f"{part}." for part in (said, self.mend, again) if part)

    def again(self, place: str) -> Problem:
        """Return the problem with another place where it is."""
        places = self.next_places
        if len(places) < _PLACES and place not in (self.place, *places):
            places = (*places, place)
        return replace(self, count=self.count + 1, next_places=places)


@dataclass(frozen=True)
class CheckReport:
    """
    What a check found.

    Args:
        documents (`int`): Rows that were looked at, readable or not.
        problems (`list[Problem]`): The first ones, up to the limit. What only follows from another one is none.
        different (`int`): How many problems there are, those beyond the limit included, and the same one counted once.
        counts (`dict[str, int]`): How often there are problems of each cause, those beyond the limit included.
        warnings (`dict[str, int]`):
            What is allowed and seldom meant, by cause; duplicates that reading repairs too. Of documents with a
            problem, from which the rest may follow, titles alone.
        first (`dict[str, str]`): For each cause of problems and warnings, the place of the first case.
        misspellings (`dict[str, dict]`):
            Relations that look like another, much more frequent one: `count`, `meant`, `count_of_meant` and `first`,
            the place of the first case. Looked for where no table of relations is given.
        misspelt_types (`dict[str, dict]`): Types of entities that look so, likewise, with or without such a table.
    """

    documents: int
    problems: list[Problem]
    different: int
    counts: dict[str, int]
    warnings: dict[str, int]
    first: dict[str, str]
    misspellings: dict[str, dict[str, Any]]
    misspelt_types: dict[str, dict[str, Any]]

    @property
    def total(self) -> int:
        """How often there are problems."""
        return sum(self.counts.values())

    def to_dict(self) -> dict[str, Any]:
        """Write the report as plain JSON."""
        return {"clean": not self.counts, **asdict(self)}


__all__ = ["CheckReport", "Problem"]
