"""What a run of extraction did: what it counted, and what it met that somebody should know of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .data_files import UNREADABLE
from .documents import Document
from .entity_filters import missing_names
from .names import closest_names

# Of documents that could not be read, so many are named.
_PLACES = 3
# Of what coverage counts beside what was read.
_NOTED = ("entities of unknown type", "pairs left out as unrelated")


@dataclass
class ExtractionReport:
    """What a run did.

    Args:
        counts (`collections.Counter`):
            `documents`, `relations`, and what was repaired or left out, by cause; of the whole output, whichever run
            made it.
        documents, pairs, tokens (`int`): What this run extracted from, in all its processes.
        seconds (`float`): How long that took, without loading the model.
        process (`int`): The number of this process; only process 0 knows the counts.
        like (`dict[str, list[str]]`):
            The names in the filters `head` and `tail`, each with names like it in documents that lack it.
        unreadable (`list[str]`): Places of the first documents that this process could not read and skipped.
    """

    counts: Counter[str] = field(default_factory=lambda: Counter(documents=0, relations=0))
    documents: int = 0
    pairs: int = 0
    tokens: int = 0
    seconds: float = 0.0
    process: int = 0
    like: dict[str, list[str]] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)

    @property
    def throughput(self) -> str:
        """Documents, pairs and tokens per second, in words."""
        seconds = max(self.seconds, 1e-9)
        rates = [
            f"{getattr(self, what) / seconds:,.{1 if what == 'documents' else 0}f} {what}/s"
            for what in ("documents", "pairs", "tokens")
        ]
        return f"{self.documents:,} documents in {self.seconds:,.1f} s: {', '.join(rates)}"

    @property
    def unknown_names(self) -> dict[str, list[str]]:
        """Names of `head` and `tail` that no entity of any document has, each with names like it."""
        documents = self.counts["documents"]
        return {name: like for name, like in self.like.items() if documents == self.counts[_without(name)] > 0}

    def add(self, document: Document, answer: Mapping[str, Any], options: Mapping[str, Any]) -> None:
        """Count a document and its answer."""
        for name, like in missing_names(document, (options.get("head"), options.get("tail"))).items():
            self.counts[_without(name)] += 1
            self.add_like({name: like})
        self.counts["relations"] += len(answer["relations"])
        self.add_document(document, answer["coverage"])

    def add_document(self, document: Document, coverage: Mapping[str, int]) -> None:
        """Count a document, and what was read of it."""
        self.documents += 1
        self.pairs += coverage["pairs_scored"]
        self.tokens += coverage["tokens_read"]
        self.counts["documents"] += 1
        self.counts.update(dict(document.repairs))
        if any(cause in UNREADABLE for cause, _ in document.repairs):
            self.add_unreadable([document.title])
        self.counts["mentions beyond the length limit"] += coverage["mentions"] - coverage["mentions_read"]
        self.counts["documents without entities"] += bool(document.text) and not document.entities
        self.counts.update({name: coverage[name] for name in _NOTED if name in coverage})

    def add_unreadable(self, places: Iterable[str]) -> None:
        """Keep the first places of documents that could not be read."""
        self.unreadable = [*self.unreadable, *places][:_PLACES]

    def add_like(self, found: Mapping[str, list[str]]) -> None:
        """Keep of the names like one that is missing the likeliest."""
        for name, like in found.items():
            self.like[name] = closest_names(name, [*self.like.get(name, ()), *like])


def _without(name: str) -> str:
    return f"documents without an entity {name!r}"


__all__ = ["ExtractionReport"]
