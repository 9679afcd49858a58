"""Tables of facts: which relations hold between which names or ids, read from files and looked up by name."""

from __future__ import annotations

import csv
import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, TextIO

from .data_files import file_kind, open_text, read_json, row_readers
from .document_parts import lone_surrogate, show
from .output_files import DataFileError, open_output, write_lines, write_list

COLUMNS = ("head", "relation", "tail")

# What other tables call their columns.
_OTHER_COLUMNS = frozenset({"subject", "predicate", "object", "property", "source", "target", "rel", "h", "r", "t"})

_SUFFIXES = (".json", ".jsonl", ".csv", ".tsv")
_ARTICLE = "the "
_ROW = '{"head": "Ada Lovelace", "relation": "P19", "tail": "London"}, or the three in this order'
_OFFER = " Or pass strict=False to skip it with a count."

Fact = tuple[str, str, str]


class _WrongRowError(DataFileError):
    """A row that is no fact, and how such rows are called where they are counted."""

    def __init__(self, message: str, cause: str) -> None:
        super().__init__(message)
        self.cause = cause


@lru_cache(maxsize=1 << 16)
def normalise_name(name: str) -> str:
    """
    Return a name without what the same name is written with or without: Unicode's compatibility forms (NFKC), case,
    the number of spaces, and an English "the" in front.

    Names are not shortened, split or compared by likeness: two that differ in more are two names, which an alias
    table may join.

    Args:
        name (`str`): A name, or an id.

    Returns:
        `str`: What is equal for names that count as equal; empty for white space alone.
    """
    folded = " ".join(unicodedata.normalize("NFKC", name).casefold().split())
    return folded[len(_ARTICLE) :] if folded.startswith(_ARTICLE) else folded


class FactTable:
    """
    Facts by the names and ids of their entities.

    An end of a fact is an id of the alias table, letter by letter, or a name. Names are compared as
    [`normalise_name`] writes them. A name that stands for one entity of the alias table is that entity; a name that it
    does not know is an entity of its own. A name that stands for several entities is ambiguous: by itself it stands
    for none, and a fact that names its head or tail so is not used.

    Args:
        facts (iterable of `tuple[str, str, str]`): Head, relation, tail; see [`iter_facts`].
        aliases (`Mapping[str, Iterable[str]]`, *optional*): The names of an entity, by its id or its main name.
    """

    def __init__(self, facts: Iterable[Fact], aliases: Mapping[str, Iterable[str]] | None = None) -> None:
        self.counts: Counter[str] = Counter()
        """What the table holds and what of the facts it does not use, by cause."""
        self.facts = 0
        """The number of facts that are used, each counted once."""
        self._ids: dict[str, int] = {}
        self._entities: dict[str, tuple[int, ...]] = {}
        self._tails: dict[int, dict[int, list[tuple[str, int]]]] = {}
        for key, names in (aliases or {}).items():
            entity = self._ids.setdefault(key, len(self._ids))
            for name in map(normalise_name, (key, *names)):
                known = self._entities.get(name, ())
                if name and entity not in known:
                    self._entities[name] = (*known, entity)
        self.counts["ambiguous names"] = sum(len(entities) > 1 for entities in self._entities.values())
        self._number = len(self._ids)
        for head, relation, tail in facts:
            self._add(head, relation, tail)

    def _add(self, head: str, relation: str, tail: str) -> None:
        self.counts["facts read"] += 1
        first, last = self._end(head), self._end(tail)
        if first is None or last is None:
            self.counts["facts with an ambiguous name"] += 1
            return
        if first == last:
            self.counts["facts of an entity with itself"] += 1
            return
        known = self._tails.setdefault(first, {}).setdefault(last, [])
        if any(relation == other for other, _ in known):
            self.counts["facts read again"] += 1
            return
        known.append((relation, self.facts))
        self.facts += 1

    def _end(self, text: str) -> int | None:
        """Return the entity that an end of a fact is, a new one where nobody knows it; `None` if it is ambiguous."""
        if text in self._ids:
            return self._ids[text]
        name = normalise_name(text)
        known = self._entities.get(name)
        if known is None:
            known = self._entities[name] = (self._number,)
            self._number += 1
        if len(known) > 1:
            return None
        return self._ids.setdefault(text, known[0])

    def identify(self, names: Iterable[str], ids: Iterable[str] = ()) -> tuple[set[int], bool]:
        """
        Find the entities of the table that an entity of a document is.

        Args:
            names (iterable of `str`): All names that the document has for it.
            ids (iterable of `str`, *optional*): Its ids; where the table knows one, names do not count.

        Returns:
            `tuple[set[int], bool]`: Numbers of entities, usually one or none; and whether there is none because all
            names that the table knows are ambiguous.
        """
        known = {self._ids[key] for key in ids if key in self._ids}
        if known:
            return known, False
        found = [self._entities.get(name, ()) for name in set(map(normalise_name, names))]
        sure = {entities[0] for entities in found if len(entities) == 1}
        return sure, not sure and any(found)

    def tails(self, head: int) -> Mapping[int, Sequence[tuple[str, int]]]:
        """Return the facts of a head: by tail, relations with the numbers of their facts."""
        return self._tails.get(head, {})


def read_facts(
    path: str | os.PathLike[str], aliases: str | os.PathLike[str] | None = None, *, strict: bool = True
) -> FactTable:
    """
    Read a table of facts.

    Args:
        path (`str` or `os.PathLike`): As for [`iter_facts`].
        aliases (`str` or `os.PathLike`, *optional*): As for [`read_aliases`].
        strict (`bool`, *optional*, defaults to `True`): As for [`iter_facts`].

    Returns:
        [`FactTable`]: Its `counts` also have the rows that were skipped.

    Raises:
        DataFileError: when a file cannot be read, a row is wrong and `strict`, or there is no fact.
    """
    skipped: Counter[str] = Counter()
    known = None if aliases is None else read_aliases(aliases)
    table = FactTable(iter_facts(path, strict=strict, skipped=skipped), known)
    table.counts.update(skipped)
    if not table.facts:
        left = ", ".join(f"{count} {cause}" for cause, count in table.counts.items() if count) or "no rows"
        raise DataFileError(f"{path}: there is no fact to use ({left}). Write rows such as {_ROW}.")
    return table


def iter_facts(
    path: str | os.PathLike[str], *, strict: bool = True, skipped: Counter[str] | None = None
) -> Iterator[Fact]:
    """
    Read the facts of a file, one after the other.

    Args:
        path (`str` or `os.PathLike`):
            `.json` or `.jsonl`, objects with `head`, `relation` and `tail`, or lists of the three; `.csv` or `.tsv`,
            with these three as names of columns in the first row, or without one and three columns in this order. In
            `.tsv` a quotation mark is a character like others. Text files are UTF-8 and may end in `.gz`.
        strict (`bool`, *optional*, defaults to `True`): Whether a wrong row is an error; otherwise it is skipped.
        skipped (`collections.Counter`, *optional*): Takes the counts of rows that were skipped, by cause.

    Yields:
        `tuple[str, str, str]`: Head, relation, tail.

    Raises:
        DataFileError: when the file cannot be read, or, if `strict`, a row is wrong; the message has its line.
    """
    kind = _check_kind(path, "facts")
    rows = _fact_columns(path) if kind in (".csv", ".tsv") else row_readers(path)
    for place, read in rows:
        try:
            fact = _read_fact(read(), place)
        except DataFileError as error:
            if strict:
                raise DataFileError(f"{error}{_OFFER}") from None
            if skipped is not None:
                skipped[getattr(error, "cause", "fact rows that are not JSON")] += 1
            continue
        yield fact


def write_facts(facts: Iterable[Fact], path: str | os.PathLike[str] | None) -> int:
    """
    Write facts as [`iter_facts`] reads them.

    Args:
        facts (iterable of `tuple[str, str, str]`): Head, relation, tail, without line breaks and tabs.
        path (`str` or `os.PathLike`): The file, in the form of its name; `None` or `-` is JSON Lines on the standard
            output.

    Returns:
        `int`: How many were written.

    Raises:
        DataFileError: when the name ends in something else, or cannot be written to.
    """
    kind = "-" if path is None or str(path) == "-" else _check_kind(path, "facts", exists=False)
    with open_output(path) as stream:
        if kind not in (".csv", ".tsv"):
            write = write_list if kind == ".json" else write_lines
            return write((dict(zip(COLUMNS, fact, strict=True)) for fact in facts), stream)
        write_row = csv.writer(stream, lineterminator="\n").writerow
        if kind == ".tsv":
            write_row = partial(_write_tabs, stream)
        write_row(COLUMNS)
        written = (write_row(fact) for fact in facts)
        return sum(1 for _ in written)


def read_aliases(path: str | os.PathLike[str]) -> dict[str, list[str]]:
    """
    Read which names entities have.

    Args:
        path (`str` or `os.PathLike`):
            `.json`, an object from ids (or main names) to lists of names, or to one name; `.csv` or `.tsv`, rows of
            an id and one name or more. May end in `.gz`.

    Returns:
        `dict[str, list[str]]`: The names by id; those of an id that occurs again are put together.

    Raises:
        DataFileError: when the file cannot be read, or holds something else.
    """
    kind = _check_kind(path, "aliases", (".json", ".csv", ".tsv"))
    aliases: dict[str, list[str]] = {}
    for place, key, names in _json_aliases(path) if kind == ".json" else _column_aliases(path):
        if not names or not all(map(_is_name, (key, *names))):
            raise DataFileError(
                f"{place}: {show([key, *names])}, where an id and its names should be, as in Q84, London, Londinium."
            )
        aliases.setdefault(key.strip(), []).extend(name.strip() for name in names)
    return aliases


def _json_aliases(path: str | os.PathLike[str]) -> Iterator[tuple[str, str, list[Any]]]:
    content = read_json(path)
    if not isinstance(content, dict):
        raise DataFileError(f'{path}: {show(content)}. Write names by id: {{"Q84": ["London", "Londinium"]}}.')
    for key, names in content.items():
        yield f"{path}, {show(key)}", key, names if isinstance(names, list) else [names]


def _column_aliases(path: str | os.PathLike[str]) -> Iterator[tuple[str, str, list[Any]]]:
    for place, row in _columns(path):
        # Tables of people are filled up with empty cells at their ends.
        yield place, row[0], [name for name in row[1:] if name.strip()]


def _check_kind(
    path: str | os.PathLike[str], what: str, known: Sequence[str] = _SUFFIXES, *, exists: bool = True
) -> str:
    kind = file_kind(path)
    if kind not in known:
        raise DataFileError(f"{path}: {what} are in files that end in {', '.join(known)} (or these and .gz).")
    if exists and not os.path.exists(path):
        raise DataFileError(f"{path}: there is no such file (working directory: {os.getcwd()}).")
    return kind


def _columns(path: str | os.PathLike[str]) -> Iterator[tuple[str, list[str]]]:
    """Read the rows of a .csv or .tsv file that are not empty, each with its place."""
    with open_text(path) as stream:
        if file_kind(path) == ".tsv":
            reader = csv.reader(stream, delimiter="\t", quoting=csv.QUOTE_NONE, strict=True)
        else:
            reader = csv.reader(stream, strict=True)
        while True:
            try:
                row = next(reader, None)
            except csv.Error as error:
                raise DataFileError(
                    f"{path}, line {reader.line_num}: not a row of {file_kind(path)[1:].upper()} ({error}). Put text "
                    'that holds a comma or " into "...", and write " in it twice; or take .tsv, which has no quotes.'
                ) from None
            if row is None:
                return
            if any(cell.strip() for cell in row):
                yield f"{path}, line {reader.line_num}", row


def _fact_columns(path: str | os.PathLike[str]) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Read rows of columns as [`row_readers`] does those of JSON; a first row of names says where the columns are."""
    names: list[str] | None = None
    for number, (place, row) in enumerate(_columns(path)):
        cells = [cell.strip().casefold() for cell in row]
        if number == 0 and set(COLUMNS) <= set(cells):
            names = cells
            continue
        if number == 0 and _OTHER_COLUMNS.union(COLUMNS).issuperset(cells):
            raise DataFileError(f"{place}: call the columns {', '.join(COLUMNS)} instead of {', '.join(row)}.")
        fact: Any = row
        if names is not None:
            # A tuple is no fact: cells may have moved to another column.
            fact = dict(zip(names, row, strict=True)) if len(row) == len(names) else tuple(row)
        yield place, partial(lambda fact: fact, fact)


def _read_fact(row: Any, place: str) -> Fact:
    if isinstance(row, Mapping) and all(name in row for name in COLUMNS):
        parts = [row[name] for name in COLUMNS]
    elif isinstance(row, list) and len(row) == len(COLUMNS):
        parts = row
    else:
        problem = f"{place}: {show(row)} is no fact. Write {_ROW}."
        raise _WrongRowError(problem, "fact rows without head, relation and tail")
    for name, part in zip(COLUMNS, parts, strict=True):
        if not _is_name(part):
            problem = f"{place}: the {name} is {show(part)}, where a name or an id should be. Write {_ROW}."
            raise _WrongRowError(problem, f"fact rows with a broken {name}")
    head, relation, tail = (part.strip() for part in parts)
    return head, relation, tail


def _is_name(text: object) -> bool:
    return isinstance(text, str) and bool(normalise_name(text)) and lone_surrogate(text) is None


def _write_tabs(stream: TextIO, row: Sequence[str]) -> None:
    stream.write("\t".join(row) + "\n")


__all__ = ["FactTable", "iter_facts", "normalise_name", "read_aliases", "read_facts", "write_facts"]
