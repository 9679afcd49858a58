"""Documents on their way into a `datasets.Dataset`: where they come from, their rows, and what was repaired."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from datasets import Dataset, Features, List, Value

from modeling_docre import __version__
from modeling_docre.documents import Document, DocumentError, Entity

from .json_files import explain_entry
from .published_files import FileSource

# `Sequence({...})` would be a dict of lists instead of the list of dicts that the files hold.
FEATURES = Features(
    {
        "title": Value("string"),
        "sents": List(List(Value("string"))),
        "vertexSet": List(
            List(
                {
                    "name": Value("string"),
                    "pos": List(Value("int32")),
                    "sent_id": Value("int32"),
                    "type": Value("string"),
                }
            )
        ),
        "labels": List(
            {"h": Value("int32"), "t": Value("int32"), "r": Value("string"), "evidence": List(Value("int32"))}
        ),
        "pairs": List(List(Value("int32"))),
    }
)

_MENTION = ("name", "pos", "sent_id", "type")
# As mirrors on the Hub name the parts of a label.
_MIRRORED = {"head": "h", "tail": "t", "relation_id": "r"}


# Places that documents come from. `datasets` hashes their attributes to find in its cache what was read before,
# so they name the content: a changed file is another source.


@dataclass(frozen=True)
class TableSource:
    """
    A dataset in DocRED's form, or nearly so.

    Args:
        name (`str`): Path or Hub id.
        dataset (`Dataset`): Has the columns `sents` and `vertexSet`.
    """

    name: str
    dataset: Dataset

    def entries(self, strict: bool, repairs: Counter[str]) -> Iterator[tuple[str, Any]]:
        """Yield where each row stands, and the row with labels under DocRED's names."""
        # A dict of lists cannot be None: in that form, a split without any label is an unlabelled one.
        folded = isinstance(self.dataset.features.get("labels"), Mapping)
        unlabelled = folded and not any(_unfold(row["labels"]) for row in self.dataset.select_columns(["labels"]))
        for index, row in enumerate(self.dataset):
            yield f"{self.name}, row {index}", {**row, "labels": None if unlabelled else _unfold(row.get("labels"))}


@dataclass(frozen=True)
class DocumentSource:
    """
    Documents in memory.

    Args:
        documents (iterable of `Document`): The documents.
    """

    documents: Iterable[Document]
    name: str = "documents"

    def entries(self, strict: bool, repairs: Counter[str]) -> Iterator[tuple[str, Any]]:
        """Yield where each document stands, and the document; count what was repaired when it was read."""
        for index, document in enumerate(self.documents):
            if not isinstance(document, Document):
                raise DocumentError(
                    f"document {index}: a {type(document).__name__}, not a Document. Pass read_documents(...) of it."
                )
            for cause, count in document.repairs:
                repairs[cause] += count
            yield f"document {index}", document


@dataclass(frozen=True)
class TitleSource:
    """
    The documents of another source that have certain titles.

    Args:
        source (`FileSource` or `TableSource`): The source.
        titles (`tuple[str, ...]`): The titles.
    """

    source: FileSource | TableSource
    titles: tuple[str, ...]

    @property
    def name(self) -> str:
        """Path or Hub id."""
        return self.source.name

    def entries(self, strict: bool, repairs: Counter[str]) -> Iterator[tuple[str, Any]]:
        """Yield where each entry stands, and the entry; count titles that none has."""
        missing = set(self.titles)
        wanted = frozenset(missing)
        for where, entry in self.source.entries(strict, repairs):
            title = entry.get("title") if isinstance(entry, Mapping) else None
            if title in wanted:
                missing.discard(title)
                yield where, entry
        if missing:
            repairs["title that no document has"] += len(missing)


class Source(Protocol):
    """Where the documents of a split come from."""

    @property
    def name(self) -> str:
        """What to call it in messages."""

    def entries(self, strict: bool, repairs: Counter[str]) -> Iterator[tuple[str, Any]]:
        """Yield where each entry stands, and the entry; count what had to be skipped."""


class RowDigest:
    """A digest of rows in their order: equal digests are of equal rows."""

    def __init__(self) -> None:
        self._digest = hashlib.blake2b(digest_size=16)

    def add(self, row: Mapping[str, Any]) -> None:
        """Take the next row."""
        # Arrow may give the keys of a row in another order.
        self._digest.update(json.dumps(row, sort_keys=True).encode())

    def taking(self, rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Take rows as they go by."""
        for row in rows:
            self.add(row)
            yield row

    def __str__(self) -> str:
        return self._digest.hexdigest()


class Rows:
    """
    The rows of one split in the schema [`FEATURES`]; calling it reads them, and leaves report and digest behind.

    Args:
        source ([`Source`]): Where the documents come from.
        strict (`bool`): Whether nonsense is an error.
    """

    def __init__(self, source: Source, strict: bool) -> None:
        self.source = source
        self.strict = strict
        self.version = __version__  # another version may repair in another way: it must not find this one's cache
        self.report: dict[str, Any] = {}
        self.digest = ""
        self.relations: set[str] = set()
        self._first_problem = ""

    def __call__(self) -> Iterator[dict[str, Any]]:
        """
        Read the rows.

        Yields:
            `dict`: A row.

        Raises:
            DocumentError: If a document cannot be read and reading is strict, or if there is none.
        """
        repairs: Counter[str] = Counter()
        counts = {"documents": 0, "unlabelled": 0, "facts": 0}
        self.relations = set()
        self._first_problem = ""
        digest = RowDigest()
        for where, entry in self.source.entries(self.strict, repairs):
            document = self._read(entry, where, repairs)
            if document is None:
                continue
            row = _to_row(document, repairs)
            counts["documents"] += 1
            counts["unlabelled"] += row["labels"] is None
            counts["facts"] += len(row["labels"] or ())
            self.relations.update(label["r"] for label in row["labels"] or ())
            digest.add(row)
            yield row
        if not counts["documents"]:
            skipped = f" ({list_counts(repairs)})" if repairs else ""
            raise DocumentError(
                f"{self.source.name}: there is no document in it{skipped}. Pass at least one.{self._first_problem}"
            )
        self.report = {**counts, "repairs": dict(repairs)}
        self.digest = str(digest)

    def documents(self) -> Iterator[Document]:
        """
        Read the documents. What was left out on the way to one stands among its repairs; where reading is not strict,
        what cannot be read comes without text, as [`iter_documents`] gives it.

        Yields:
            `Document`: A document.

        Raises:
            DocumentError: If one cannot be read and reading is strict.
        """
        repairs: Counter[str] = Counter()
        for where, entry in self.source.entries(self.strict, repairs):
            document = self._read(entry, where, repairs)
            yield replace(document or Document("", "", ()), repairs=tuple(repairs.items()))
            repairs.clear()
        if repairs:
            yield Document("", "", (), repairs=tuple(repairs.items()))

    def _read(self, entry: object, where: str, repairs: Counter[str]) -> Document | None:
        if isinstance(entry, Document):
            return entry
        try:
            if isinstance(entry, DocumentError):
                raise entry
            explained = explain_entry(entry)
            if explained is not None:
                raise DocumentError(explained)
            document = Document.from_dict(entry, strict=self.strict)  # type: ignore[arg-type]
        except DocumentError as error:
            problem = str(error) if error is entry else f"{where}: {error}"
            if self.strict:
                raise DocumentError(problem) from None
            repairs["unreadable document"] += 1
            self._first_problem = self._first_problem or f" {problem}"
            return None
        for cause, count in document.repairs:
            repairs[cause] += count
        return document


def find_report(dataset: Dataset) -> dict[str, Any] | None:
    """
    Return what a dataset says of how it was read, with the `digest` of the rows that this is true of; `None` if it was
    loaded in another way.
    """
    try:
        report = json.loads(dataset.info.description)
    except (json.JSONDecodeError, TypeError):
        return None
    return report if isinstance(report, dict) and "repairs" in report else None


def list_counts(counts: Mapping[str, int]) -> str:
    """Write counts by cause for a message."""
    return ", ".join(f"{count} x {cause}" for cause, count in counts.items())


def _to_row(document: Document, repairs: Counter[str]) -> dict[str, Any]:
    data = document.to_docred()
    labels = data.get("labels")
    scored = sum("score" in label for label in labels or ())
    if scored:
        repairs["score left out (no column for it)"] += scored
    linked = sum(bool(entity.ids) for entity in document.entities)
    if linked:
        repairs["entity's ids left out (no column for them)"] += linked
    renamed = sum(is_renamed(entity) for entity in document.entities)
    if renamed:
        repairs["entity's own name or type left out (no column for it)"] += renamed
    if labels is not None:
        labels = [{key: label[key] for key in ("h", "t", "r", "evidence")} for label in labels]
    return {
        "title": data["title"],
        "sents": data["sents"],
        "vertexSet": [[{key: mention[key] for key in _MENTION} for mention in row] for row in data["vertexSet"]],
        "labels": labels,
        "pairs": data.get("pairs"),
    }


def is_renamed(entity: Entity) -> bool:
    """Whether an entity has another name or type than `Document.from_docred` takes from its mentions."""
    longest = max(entity.mentions, key=lambda mention: len(mention.name), default=Entity((), ""))
    return (entity.name, entity.type) != (longest.name, longest.type)


def _unfold(labels: Any) -> list[dict[str, Any]] | None:
    """Return labels as rows under DocRED's names; mirrors have a dict of lists, and words for names."""
    if labels is None:
        return None
    if isinstance(labels, Mapping):
        labels = [dict(zip(labels, row, strict=True)) for row in zip(*labels.values(), strict=True)]
    return [{_MIRRORED.get(key, key): value for key, value in label.items()} for label in labels]
