"""What is in documents, counted as they go by."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable
from typing import Any

from .documents import Document


def describe_documents(documents: Iterable[Document]) -> dict[str, Any]:
    """
    Count what is in documents. None of them stays in memory: only counts do, and how often each length occurs.

    Args:
        documents (iterable of [`Document`]): The documents. Those that reading could not make anything of, which have
            no text, are counted among the repairs alone.

    Returns:
        `dict`: Plain JSON.

        - `documents`, `unlabelled`, `sentences`, `words`, `entities`, `mentions`, `facts`: numbers of these;
        - `candidate_pairs`: ordered pairs of entities, those that a document lists where it has a list;
          `pairs_with_relation` and `pairs_with_several_relations` of these, in labelled documents;
        - `facts_within_a_sentence`: share of the facts whose head and tail have mentions in one sentence; `None`
          where there is no fact;
        - `relations`: facts by relation, the most frequent first, and `entity_types`: entities by type; those
          without one are `entities_without_type`;
        - `words_per_document`, `entities_per_document` and, of labelled documents, `facts_per_document`: `mean`,
          `median`, `95%` (the smallest number that 95% of the documents do not exceed) and `longest`; `None` of
          nothing;
        - `repairs`: what reading repaired or skipped, by cause.

    Example:
    ```python
    >>> from modeling_docre import Document
    >>> from modeling_docre.data_statistics import describe_documents

    >>> ada = Document.from_markup("[Ada](:PER) lived in [London](:LOC).")
    >>> found = describe_documents([ada])
    >>> found["words"], found["entity_types"]
    (5, {'LOC': 1, 'PER': 1})
    ```
    """
    counts: Counter[str] = Counter()
    relations: Counter[str] = Counter()
    types: Counter[str] = Counter()
    repairs: Counter[str] = Counter()
    words: Counter[int] = Counter()
    entities: Counter[int] = Counter()
    facts: Counter[int] = Counter()
    for document in documents:
        repairs.update(dict(document.repairs))
        if not document.text:
            continue
        counts["documents"] += 1
        counts["sentences"] += len(document.sentences)
        counts["mentions"] += sum(len(entity.mentions) for entity in document.entities)
        words[sum(map(len, document.sentences))] += 1
        entities[len(document.entities)] += 1
        size = len(document.entities)
        counts["candidates"] += size * (size - 1) if document.pairs is None else len(document.pairs)
        types.update(entity.type for entity in document.entities if entity.type is not None)
        if document.relations is None:
            counts["unlabelled"] += 1
            continue
        facts[len(document.relations)] += 1
        relations.update(fact.relation for fact in document.relations)
        _count_pairs(document, counts)
    number = _total(facts)
    return {
        "documents": counts["documents"],
        "unlabelled": counts["unlabelled"],
        "sentences": counts["sentences"],
        "words": _total(words),
        "entities": _total(entities),
        "mentions": counts["mentions"],
        "facts": number,
        "candidate_pairs": counts["candidates"],
        "pairs_with_relation": counts["pairs"],
        "pairs_with_several_relations": counts["several"],
        "facts_within_a_sentence": counts["within"] / number if number else None,
        "words_per_document": _lengths(words),
        "entities_per_document": _lengths(entities),
        "facts_per_document": _lengths(facts),
        "relations": _by_frequency(relations),
        "entity_types": _by_frequency(types),
        "entities_without_type": _total(entities) - types.total(),
        "repairs": dict(repairs),
    }


def relations_of(documents: Iterable[Document]) -> dict[str, int]:
    """
    Count the facts of each relation that documents have.

    Args:
        documents (iterable of [`Document`]): The documents; unlabelled ones have none.

    Returns:
        `dict[str, int]`: Facts by relation id, the most frequent first, equally frequent ones by name. Its keys are
        what `DocREConfig` and `from_encoder` take as `relations`.

    Example:
    ```python
    >>> from modeling_docre.data_files import iter_documents
    >>> from modeling_docre.data_statistics import relations_of

    >>> relations = list(relations_of(iter_documents("train.jsonl")))  # doctest: +SKIP
    ```
    """
    return _by_frequency(Counter(fact.relation for document in documents for fact in document.relations or ()))


def _count_pairs(document: Document, counts: Counter[str]) -> None:
    pairs = Counter((fact.head, fact.tail) for fact in document.relations or ())
    counts["pairs"] += len(pairs)
    counts["several"] += sum(number > 1 for number in pairs.values())
    places = [{mention.sentence for mention in entity.mentions} for entity in document.entities]
    counts["within"] += sum(number for (head, tail), number in pairs.items() if places[head] & places[tail])


def _by_frequency(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _total(lengths: Counter[int]) -> int:
    return sum(length * number for length, number in lengths.items())


def _lengths(lengths: Counter[int]) -> dict[str, float] | None:
    number = lengths.total()
    if not number:
        return None
    return {
        "mean": _total(lengths) / number,
        "median": _quantile(lengths, 50),
        "95%": _quantile(lengths, 95),
        "longest": max(lengths),
    }


def _quantile(lengths: Counter[int], percent: int) -> int:
    """The smallest length that so many percent of all do not exceed."""
    ordered = sorted(lengths)
    below = itertools.accumulate(lengths[length] for length in ordered)
    return next(
        length for length, number in zip(ordered, below, strict=True) if 100 * number >= percent * lengths.total()
    )


__all__ = ["describe_documents", "relations_of"]
