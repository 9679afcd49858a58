"""Distant labels: documents with entities, and a table of facts, make training data that nobody has labelled."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from .corpus import Corpus
from .data_files import write_documents
from .documents import Document, Entity, Relation
from .fact_table import Fact, FactTable, normalise_name, read_facts, write_facts
from .output_files import output_file, redirected_output
from .pronouns import is_pronoun

# Around a relation's id, or a tab or line break inside.
_UNHELD = re.compile(r"^\s|\s$|[\t\n\r]")

_Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


def label_documents(
    documents: Iterable[Document], facts: FactTable, counts: Counter[str] | None = None
) -> Iterator[Document]:
    """
    Label documents with the facts of a table: a pair of entities gets every relation of a fact whose head is the head
    entity and whose tail is the tail entity, by an id or any name of each that is no pronoun.

    Args:
        documents (iterable of [`Document`]):
            Documents with entities. Labels that they have are replaced.
        facts ([`FactTable`]): The facts.
        counts (`collections.Counter`, *optional*): Takes the counts of what was done.

    Yields:
        [`Document`]: The documents with relations without evidence, `()` where there is none.
    """
    counts = Counter() if counts is None else counts
    used = bytearray(facts.facts)
    for document in documents:
        relations, numbers = _label(document, facts, counts)
        for number in numbers:
            counts["facts used"] += not used[number]
            used[number] = 1
        pairs = len(document.entities) * (len(document.entities) - 1)
        counts["documents"] += 1
        counts["documents with a relation"] += bool(relations)
        counts["pairs"] += pairs if document.pairs is None else len(document.pairs)
        counts["pairs with a relation"] += len({(relation.head, relation.tail) for relation in relations})
        counts["relations"] += len(relations)
        counts["documents whose labels were replaced"] += document.relations is not None
        yield replace(document, relations=tuple(relations))


def _label(document: Document, facts: FactTable, counts: Counter[str]) -> tuple[list[Relation], set[int]]:
    known: list[set[int]] = []
    places: dict[int, list[int]] = {}
    for place, entity in enumerate(document.entities):
        names, pronouns = _without_pronouns(_names(entity, document.text))
        counts["names that are pronouns"] += pronouns
        found, ambiguous = facts.identify(names, entity.ids)
        known.append(found)
        counts["entities that the facts know"] += bool(found)
        counts["entities with an ambiguous name"] += ambiguous
        for number in found:
            places.setdefault(number, []).append(place)
    candidates = None if document.pairs is None else set(document.pairs)
    labels: dict[tuple[int, int, str], None] = {}
    numbers = set()
    for head, found in enumerate(known):
        for tail, relation, number in _facts_of(found, facts, places):
            if head == tail:
                counts["facts on a pair of one entity with itself"] += 1
            elif candidates is not None and (head, tail) not in candidates:
                counts["facts on a pair that is no candidate"] += 1
            else:
                labels[head, tail, relation] = None
                numbers.add(number)
    return [Relation(*label) for label in sorted(labels)], numbers


def _facts_of(
    heads: set[int], facts: FactTable, places: Mapping[int, Sequence[int]]
) -> Iterator[tuple[int, str, int]]:
    """Find the facts of a head whose tail is in the document: place of the tail, relation, number of the fact."""
    for head in heads:
        tails = facts.tails(head)
        # A country has more tails in the table than a document has entities.
        for tail in tails if len(tails) < len(places) else places:
            for relation, number in tails.get(tail, ()):
                for place in places.get(tail, ()):
                    yield place, relation, number


def _names(entity: Entity, text: str) -> Iterator[str]:
    """All that a document calls an entity."""
    yield entity.name
    for mention in entity.mentions:
        yield mention.name
        yield text[mention.start : mention.end]


def _without_pronouns(names: Iterable[str]) -> tuple[list[str], int]:
    """Leave out names that are pronouns; and how many different ones these are."""
    kept, pronouns = [], set()
    for name in names:
        if is_pronoun(name):
            pronouns.add(normalise_name(name))
        else:
            kept.append(name)
    return kept, len(pronouns)


def label_files(
    sources: _Paths,
    facts: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    aliases: str | os.PathLike[str] | None = None,
    strict: bool = True,
) -> Counter[str]:
    """
    Make distant data of files and folders of documents. Memory grows with the table, not with the documents.

    Args:
        sources (`str`, `os.PathLike`, or a sequence of them): See [`Corpus`].
        facts (`str` or `os.PathLike`): See [`iter_facts`].
        output (`str` or `os.PathLike`, *optional*): See [`write_documents`]; the standard output when left out.
        aliases (`str` or `os.PathLike`, *optional*): See [`read_aliases`].
        strict (`bool`, *optional*, defaults to `True`):
            Whether nonsense in a document and a wrong row of facts are errors; otherwise they are skipped and counted.

    Returns:
        `collections.Counter`: What was read, used, labelled, repaired and left out, by cause.

    Raises:
        DataFileError: when a file cannot be read or written, or there is no fact.
        DocumentError: when a document is wrong.

    Example:
    ```python
    >>> from modeling_docre.distant import label_files

    >>> counts = label_files("unlabelled.jsonl", "facts.tsv", "distant.json")  # doctest: +SKIP
    ```
    """
    table = read_facts(facts, aliases, strict=strict)
    counts: Counter[str] = Counter(dict.fromkeys(_FIRST, 0))
    corpus = _corpus(sources, output, strict, [facts] if aliases is None else [facts, aliases])
    write_documents(label_documents(_readable(corpus, counts), table, counts), output)
    counts.update(table.counts)
    counts["different facts"] = table.facts
    counts["files that are no documents"] += corpus.left_out
    counts["files and folders that were met again"] += corpus.met_again
    return counts


# In this order they are said.
_FIRST = (
    *("documents", "documents with a relation", "relations", "pairs", "pairs with a relation"),
    *("facts read", "different facts", "facts used"),
)


def gather_facts(documents: Iterable[Document], counts: Counter[str] | None = None) -> Iterator[Fact]:
    """
    Gather the facts of labelled documents, by all names and ids that their entities have there; pronouns are none.

    Args:
        documents (iterable of [`Document`]): Labelled ones; others are counted and left out.
        counts (`collections.Counter`, *optional*): Takes the counts of what was done.

    Yields:
        `tuple[str, str, str]`: Head, relation, tail; each once, however its names are written.
    """
    counts = Counter() if counts is None else counts
    seen: set[Fact] = set()
    for document in documents:
        counts["documents"] += 1
        counts["unlabelled documents"] += document.relations is None
        relations = document.relations or ()
        names = {
            place: _distinct_names(document.entities[place], counts)
            for place in sorted({end for relation in relations for end in (relation.head, relation.tail)})
        }
        for relation in relations:
            counts["relations"] += 1
            if _UNHELD.search(relation.relation):
                counts["relations whose id has white space that a table of facts cannot hold"] += 1
                continue
            counts["relations of an entity without a name"] += not (names[relation.head] and names[relation.tail])
            for head, folded_head in names[relation.head]:
                for tail, folded_tail in names[relation.tail]:
                    key = (folded_head, relation.relation, folded_tail)
                    if folded_head == folded_tail:
                        counts["facts of a name with itself"] += 1
                    elif key not in seen:
                        seen.add(key)
                        counts["facts"] += 1
                        yield head, relation.relation, tail


def _distinct_names(entity: Entity, counts: Counter[str]) -> list[tuple[str, str]]:
    """Names and ids of an entity, one of each that count as equal, with what they are compared by."""
    found: dict[str, str] = {}
    names, pronouns = _without_pronouns((entity.name, *(mention.name for mention in entity.mentions)))
    counts["names that are pronouns"] += pronouns
    for name in names:
        found.setdefault(normalise_name(name), " ".join(name.split()))
    found.pop("", None)
    ids = [key for key in entity.ids if key.split() == [key]]
    counts["ids with white space, which a table of facts cannot hold"] += len(entity.ids) - len(ids)
    named = set(found.values())
    return [(name, folded) for folded, name in found.items()] + [(key, key) for key in ids if key not in named]


def gather_facts_from_files(
    sources: _Paths, output: str | os.PathLike[str] | None = None, *, strict: bool = True
) -> Counter[str]:
    """
    Write the facts of files and folders of labelled documents as a table that [`label_files`] reads.

    Args:
        sources (`str`, `os.PathLike`, or a sequence of them): See [`Corpus`].
        output (`str` or `os.PathLike`, *optional*): See [`write_facts`]; the standard output when left out.
        strict (`bool`, *optional*, defaults to `True`): Whether nonsense in a document is an error.

    Returns:
        `collections.Counter`: What was read, gathered, repaired and left out, by cause.

    Raises:
        DataFileError: when a file cannot be read or written.
        DocumentError: when a document is wrong.
    """
    counts: Counter[str] = Counter(documents=0, relations=0, facts=0)
    corpus = _corpus(sources, output, strict)
    write_facts(gather_facts(_readable(corpus, counts), counts), output)
    counts["files that are no documents"] += corpus.left_out
    counts["files and folders that were met again"] += corpus.met_again
    return counts


def _corpus(
    sources: _Paths,
    output: str | os.PathLike[str] | None,
    strict: bool,
    tables: Sequence[str | os.PathLike[str]] = (),
) -> Corpus:
    sources = [sources] if isinstance(sources, str | os.PathLike) else list(sources)
    target = output_file(output)
    written = redirected_output() if target is None else [target]
    named = {os.path.realpath(source) for source in sources}
    # In a folder that is read, tables are no documents.
    beside = [table for table in tables if os.path.realpath(table) not in named]
    return Corpus(sources, strict=strict, without=[*written, *beside])


def _readable(corpus: Corpus, counts: Counter[str]) -> Iterator[Document]:
    """Read documents, and leave out those that are none: their place is all that is known of them."""
    for read in corpus.readers():
        document = read()
        counts.update(dict(document.repairs))
        if document.text:
            yield document


__all__ = [
    "gather_facts",
    "gather_facts_from_files",
    "label_documents",
    "label_files",
]
