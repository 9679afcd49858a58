"""The check of a user's own documents: every problem at once, each with its place and the way to mend it."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from .check_report import CheckReport, Problem
from .corpus import Corpus
from .data_files import DataFileError, file_kind, read_markup, readable, row_readers
from .docred_format import read_docred
from .document_keys import FACTS, guess_form, mend_keys
from .document_parts import DocumentError, Reading, as_list, show
from .document_reading import document_form, published_as, say_published
from .documents import Document
from .entity_filters import did_you_mean
from .markup import parse_markup
from .misspellings import find_misspellings
from .names import closest_relations
from .parquet_files import table_entries
from .relation_files import read_relations
from .text_format import read_text

LIMIT = 20  # problems that are told in full
# A type is a slip of one that occurs so many times as often. Types are few and short, and PER is not far from PET.
_TYPE_SLIPS = {"times": 20, "shortest": 3}
_MOST_TYPES = 2000  # more are no types, but names or sentences under that key: comparing them takes long
_REMEDIES = 3  # of one field that is missing, each for other words

_FORMS = 'Write {"title", "text", "entities", "relations"}, or DocRED\'s {"title", "sents", "vertexSet", "labels"}'


def check_files(
    sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    relations: str | os.PathLike[str] | Mapping[str, str] | Sequence[str] | None = None,
    limit: int = LIMIT,
) -> CheckReport:
    r"""
    Read all documents of files and find every problem, instead of stopping at the first one.

    Documents are read one after the other; what stays in memory of each is a hash of its title.

    Args:
        sources (`str`, `os.PathLike` or a sequence of them): Files and folders, see [`Corpus`].
        relations (`str`, `os.PathLike`, `Mapping` or sequence of `str`, *optional*):
            The relations that facts may have: a file, see [`read_relations`], ids with words, or ids. Others are
            problems. Without it, names that look misspelt are found by their counts.
        limit (`int`, *optional*, defaults to 20): How many problems to tell in full; the others are counted.

    Returns:
        `CheckReport`: Problems, warnings, and their counts by cause.

    Raises:
        DataFileError: If a source does not exist or is no file of documents, or `relations` cannot be read.
        ValueError: If the limit is negative.

    Example:
    ```python
    >>> from modeling_docre.data_check import check_files

    >>> report = check_files("mine.jsonl", relations="rel_info.json")  # doctest: +SKIP
    >>> print(*report.problems, sep="\n")  # doctest: +SKIP
    ```
    """
    if limit < 0:
        raise ValueError(f"`limit` is {limit}: write how many problems to tell in full, from 0 on.")
    if isinstance(relations, str | os.PathLike):
        known = _words(read_relations(relations))
        check = _Check(known, str(relations), limit)
    else:
        check = _Check(None if relations is None else _words(relations), "the given ones", limit)
    corpus = Corpus([sources] if isinstance(sources, str | os.PathLike) else list(sources))
    for file in corpus.files():
        check.read_file(readable(file), _rows(file))
    return check.finish(corpus.left_out)


def _words(relations: Mapping[str, str] | Sequence[str]) -> dict[str, str]:
    return dict(relations) if isinstance(relations, Mapping) else {name: name for name in relations}


def _rows(file: str) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Find the rows of a file: where each stands in it, and what gives it."""
    kind = file_kind(file)
    if kind == ".txt":
        yield "", partial(_read_markup, file)
    elif kind == ".parquet":
        for where, entry in table_entries(file):
            yield where.removeprefix(f"{file}, "), partial(lambda row: row, entry)
    else:
        for where, read in row_readers(file):
            yield where.rpartition(", ")[2], read


def _read_markup(file: str) -> dict[str, Any]:
    text, entities = parse_markup(read_markup(file))
    return {"title": Path(file).name, "text": text, "entities": entities}


class _Findings(Reading):
    """A reading that goes on after nonsense and keeps what it would have said."""

    def __init__(self) -> None:
        super().__init__("document", strict=False)
        self.found: list[tuple[str, str, object, str, str]] = []

    def causes(self) -> list[tuple[str, str, object, str, str]]:
        """Return what was found, without what only follows from another finding."""
        broken = {name for _, name, *_ in self.found}
        # Where a part cannot be read, what points into it seems wrong for no other reason.
        following: set[str] = set()
        if broken & {"entities", "vertexSet"}:
            following |= {"label to a missing entity", "pair of a missing entity"}
        if any(name.startswith("sentences") for name in broken):
            following.add("evidence outside the document")
        lost = {f"outside sentence {name[6:-1]}," for name in broken if re.fullmatch(r"sents\[\d+\]", name)}
        emptied = any(re.fullmatch(r"sents\[\d+\]\[\d+\]", name) for name in broken)
        return [
            finding
            for finding in self.found
            if finding[0] not in following
            and not any(finding[3].startswith(start) for start in lost)
            and not (emptied and _is_of_a_broken_word(finding))
        ]

    def error(self, field: str, value: object, problem: str, mend: str) -> DocumentError:
        self.found.append(("document that cannot be read", field, value, problem, mend))
        return super().error(field, value, problem, mend)

    def nonsense(self, cause: str, field: str, value: object, problem: str, mend: str) -> None:
        self.found.append((cause, field, value, problem, mend))


@dataclass
class _Check:
    """A check under way."""

    known: dict[str, str] | None
    table: str
    limit: int
    documents: int = 0
    different: int = 0
    problems: list[Problem] = field(default_factory=list)
    told: dict[tuple[str, str], int] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    warnings: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)
    relations: Counter[str] = field(default_factory=Counter)
    first_fact: dict[str, str] = field(default_factory=dict)
    types: Counter[str] = field(default_factory=Counter)
    first_type: dict[str, str] = field(default_factory=dict)
    suggestions: dict[str, list[str]] = field(default_factory=dict)
    mends: dict[str, list[str]] = field(default_factory=dict)
    titles: set[int] = field(default_factory=set)
    typed: int = 0
    labelled: int = 0

    def read_file(self, file: str, rows: Iterator[tuple[str, Callable[[], Any]]]) -> None:
        """Check the rows of a file."""
        before = self.documents
        try:
            for row, read in rows:
                self.documents += 1
                self._read_row(file, row, read)
        except DataFileError as error:
            cause = "file that cannot be read to its end"
            self._add(Problem(file, "", "", cause, "", "", _without_place(error, file), ""))
            return
        if self.documents == before:
            self._add(Problem(file, "", "", "file without documents", "", "", "there is no document in it", _FORMS))

    def finish(self, left_out: int) -> CheckReport:
        """Say what all documents together show."""
        self._warn_of("files of a folder that are no documents", left_out)
        if not self.typed:
            self.warnings.pop("entities without a type, where others have one", None)
        if not self.labelled:
            self.warnings.pop("unlabelled documents, where others have labels", None)
        slips = find_misspellings(self.relations) if self.known is None else {}
        sure = self.relations.keys() - slips.keys() - self.suggestions.keys()
        self._warn_of("relations that one fact alone has", sum(self.relations[name] == 1 for name in sure))
        if self.known is not None:
            meant = {name for names in self.suggestions.values() for name in names}
            self._warn_of("known relations without a fact", len(self.known.keys() - self.relations.keys() - meant))
        if len(self.types) > _MOST_TYPES:
            self._warn_of("types of entities, too many to look for misspelt ones", len(self.types))
        return CheckReport(
            self.documents,
            self.problems,
            self.different,
            dict(self.counts),
            dict(self.warnings),
            {cause: self.first[cause] for cause in (*self.counts, *self.warnings) if cause in self.first},
            _describe_slips(slips, self.relations, self.first_fact),
            _describe_slips(
                find_misspellings(self.types, **_TYPE_SLIPS) if len(self.types) <= _MOST_TYPES else {},
                self.types,
                self.first_type,
            ),
        )

    def _add(self, problem: Problem, same: str | None = None) -> None:
        """Count a problem; those of one cause that have the same words for what is wrong are told as one."""
        self.counts[problem.cause] += 1
        self.first.setdefault(problem.cause, problem.place)
        key = (problem.cause, same or "")
        if same is not None and key in self.told:
            number = self.told[key]
            if number < len(self.problems):
                self.problems[number] = self.problems[number].again(problem.place)
            return
        if same is not None:
            self.told[key] = self.different
        self.different += 1
        if len(self.problems) < self.limit:
            self.problems.append(problem)

    def _warn_of(self, cause: str, count: int, place: str | None = None) -> None:
        if count:
            self.warnings[cause] += count
            if place is not None:
                self.first.setdefault(cause, place)

    def _read_row(self, file: str, row: str, read: Callable[[], Any]) -> None:
        at = partial(Problem, file, row)
        try:
            data = read()
        except DataFileError as error:
            place = f"{'standard input' if file == '-' else file}, {row}"
            self._add(at("", "row that is not JSON", "", "", _without_place(error, place), ""))
            return
        except DocumentError as error:
            self._add(at("", "markup that cannot be read", "", "", str(error), ""))
            return
        cause = "row that is no document"
        if not isinstance(data, dict):
            kind = type(data).__name__
            self._add(at("", cause, "", "", f"{show(data)} is not an object but a {kind}", _FORMS), kind)
            return
        given = data.get("title")
        title = given if isinstance(given, str) else ""
        known = published_as(data)
        form = document_form(data) or (guess_form(data) if known is None else None)
        if form is None:
            problem = f"neither `text` nor `sents` among the keys {show(list(data))}"
            said = (problem, _FORMS) if known is None else (say_published(known), "")
            self._add(at(title, cause, "", "", *said), said[0])
            return
        before = self.counts.total()
        for name, value, meant in mend_keys(data, form):
            problem = f"nothing reads this key in this form of a document, and there is no `{meant}`"
            self._add(at(title, "key that is not read", name, show(value), problem, f"Write `{meant}`"), _part(name))
        place = ", ".join(filter(None, [file, row]))
        given = data.get("title")
        self._warn_of("documents with a title that another one has", int(self._is_known_title(given)), place)
        reading = _Findings()
        try:
            parts = read_text(data, reading) if form == "text" else read_docred(data, reading, False)
            document = Document(**parts)
        except DocumentError:
            if not reading.found:
                raise
            document = None
        for cause, name, value, problem, mend in reading.causes():
            found = at(title, cause, name, show(value), problem, mend)
            self._add(*((found, None) if value is not None else self._of_a_missing_field(found)))
        self._check_relations(data, form, at, title, place)
        if document is not None:
            self._look_at(document, place, is_whole=self.counts.total() == before)

    def _of_a_missing_field(self, found: Problem) -> tuple[Problem, str]:
        """Tell the first remedies of a field that is missing; the others are counted together."""
        part = _part(found.field)
        mends = self.mends.setdefault(part, [])
        if found.mend in mends or len(mends) < _REMEDIES:
            if found.mend not in mends:
                mends.append(found.mend)
            return found, f"{part} {found.mend}"
        return replace(found, mend="Mend these likewise"), part

    def _check_relations(
        self, data: Mapping[str, Any], form: str, at: Callable[..., Problem], title: str, place: str
    ) -> None:
        """Count and look up the relations of all facts, those that cannot be read for another reason too."""
        name, (*ends, key) = FACTS[form]
        seen = set()
        for number, fact in enumerate(as_list(data.get(name)) or ()):
            relation = fact.get(key) if isinstance(fact, Mapping) else None
            if not isinstance(relation, str) or not relation.strip():
                continue
            # A fact that is there twice is one.
            parts = (*(repr(fact.get(end)) for end in ends), relation)
            self.relations[relation] += parts not in seen
            seen.add(parts)
            self.first_fact.setdefault(relation, place)
            if self.known is not None and relation not in self.known:
                problem = f"none of the {len(self.known)} relations of {self.table}"
                if relation not in self.suggestions:
                    self.suggestions[relation] = closest_relations(relation, self.known, most=1)
                mend = f"Write one of them, or add it there.{did_you_mean(self.suggestions[relation])}"
                found = at(title, "unknown relation", f"{name}[{number}].{key}", show(relation), problem, mend)
                self._add(found, relation)

    def _look_at(self, document: Document, place: str, is_whole: bool) -> None:
        facts = document.relations or ()
        entities = document.entities
        pairs = None if document.pairs is None else set(document.pairs)
        untyped = sum(entity.type is None for entity in entities)
        self.typed += len(entities) - untyped
        self.labelled += document.relations is not None
        for entity in entities:
            for kind in sorted(filter(None, {entity.type, *(mention.type for mention in entity.mentions)})):
                self.types[kind] += 1
                self.first_type.setdefault(kind, place)
        if not is_whole:
            return
        for cause, count in [
            ("documents without a title", not document.title),
            ("documents without entities", not entities),
            ("labelled documents without a fact", document.relations == ()),
            ("unlabelled documents, where others have labels", document.relations is None),
            ("entities without a type, where others have one", untyped),
            (
                "mentions that begin or end inside a word",
                sum(
                    _cuts_word(document.text, mention.start) or _cuts_word(document.text, mention.end)
                    for entity in entities
                    for mention in entity.mentions
                ),
            ),
            ("facts of an entity with itself", sum(fact.head == fact.tail for fact in facts)),
            (
                "facts of no candidate pair",
                0 if pairs is None else sum((fact.head, fact.tail) not in pairs for fact in facts),
            ),
            *((f"when read: {cause}", count) for cause, count in document.repairs),
        ]:
            self._warn_of(cause, int(count), place)

    def _is_known_title(self, title: object) -> bool:
        if not isinstance(title, str) or not title:
            return False
        number, before = hash(title), len(self.titles)
        self.titles.add(number)
        return len(self.titles) == before


def _is_of_a_broken_word(finding: tuple[str, str, object, str, str]) -> bool:
    """Whether a mention has word positions, and no words under them."""
    cause, _, value, *_ = finding
    positions = as_list(value) or (0, 0)
    return cause == "mention without words" and positions[0] < positions[1]


def _cuts_word(text: str, place: int) -> bool:
    """Whether letters or digits go on there; letters without case are of scripts that may not part words."""
    return all(
        letter.isdigit() or letter.lower() != letter.upper() for letter in text[max(0, place - 1) : place + 1]
    ) and 0 < place < len(text)


def _part(name: str) -> str:
    """Name a field of all entities, mentions or facts alike."""
    return re.sub(r"\[\d+\]", "[]", name)


def _describe_slips(
    slips: Mapping[str, str], counts: Mapping[str, int], first: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    return {
        name: {"count": counts[name], "meant": meant, "count_of_meant": counts[meant], "first": first[name]}
        for name, meant in slips.items()
    }


def _without_place(error: DataFileError, place: str) -> str:
    return str(error).removeprefix(place).lstrip(",: ")


__all__ = ["CheckReport", "Problem", "check_files"]
