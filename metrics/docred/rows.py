"""Rows of predictions and reference documents, read and checked for scoring; on the standard library alone."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import index
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

Triple = tuple[str, int, int, str]
"""Title of the document, head entity, tail entity, relation: what makes two predictions the same one."""

Entities = Sequence[Sequence[Mapping[str, Any]]]
"""A document's `vertexSet`: entities, each a list of mentions."""

_ROW = '{"title": "...", "h_idx": 0, "t_idx": 1, "r": "P17", "evidence": [0]}'
_LABEL = '{"h": 0, "t": 1, "r": "P17", "evidence": [0]}'


class ScoringError(ValueError):
    """Predictions or reference documents that cannot be scored; the message names the row and the field."""


class UnlabelledError(ScoringError):
    """A reference or training document has no labels, so there is nothing to score against."""


@dataclass(frozen=True, slots=True)
class Label:
    """One gold relation of a document.

    Args:
        head (`int`): Position of the head entity in the document's `vertexSet`.
        tail (`int`): Position of the tail entity.
        relation (`str`): Relation id, such as `"P17"`.
        evidence (`tuple[int, ...]`): Numbers of the evidence sentences, repetitions kept.
    """

    head: int
    tail: int
    relation: str
    evidence: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Gold:
    """The reference documents.

    Args:
        evidence (`dict[Triple, frozenset[int]]`): The gold relations, each with its evidence sentences.
        evidence_total (`int`): Evidence sentences of all labels, repetitions counted, as the official scorer does.
        entities (`dict[str, Entities]`): The entities of each document, by title.
        candidates (`dict[str, set[tuple[int, int]]]`):
            The candidate pairs of each document that lists them, by title.
    """

    evidence: dict[Triple, frozenset[int]]
    evidence_total: int
    entities: dict[str, Entities]
    candidates: dict[str, set[tuple[int, int]]]


def read_predictions(predictions: Iterable[Mapping[str, Any]]) -> dict[Triple, frozenset[int]]:
    """Checks a submission; of rows that say the same, the first one's evidence counts.

    Raises:
        ScoringError: If a row is malformed.
    """
    _refuse_file(predictions, "predictions", f"rows such as {_ROW}")
    predicted: dict[Triple, frozenset[int]] = {}
    for number, row in enumerate(predictions):
        triple, evidence = read_prediction(row, f"predictions[{number}]")
        predicted.setdefault(triple, frozenset(evidence))
    return predicted


def read_prediction(row: Mapping[str, Any], where: str = "prediction") -> tuple[Triple, tuple[int, ...]]:
    """Checks one row of a submission.

    Args:
        row (`Mapping`): `title`, `h_idx`, `t_idx`, `r` and optionally `evidence`; other keys are ignored.
        where (`str`, *optional*, defaults to `"prediction"`): Place of the row, for the error message.

    Returns:
        `tuple[Triple, tuple[int, ...]]`: the triple and its evidence sentences.

    Raises:
        ScoringError: If a key is missing or a value has the wrong type.
    """
    if not _is_mapping(row):
        raise ScoringError(f"{where}: expected a row such as {_ROW}, got {row!r:.80}")
    for key in ("title", "h_idx", "t_idx", "r"):
        if row.get(key) is None:
            raise ScoringError(f"{where}: '{key}' is missing; a row is {_ROW}")
    triple = (
        read_text(row["title"], where, "title"),
        read_integer(row["h_idx"], where, "h_idx"),
        read_integer(row["t_idx"], where, "t_idx"),
        read_text(row["r"], where, "r"),
    )
    return triple, _evidence(row.get("evidence"), where)


def read_references(references: Iterable[Mapping[str, Any]]) -> Gold:
    """Checks reference documents, and joins the labels of those that share a title.

    Raises:
        ScoringError: If a document is malformed.
        UnlabelledError: If a document has no labels.
    """
    gold: dict[Triple, frozenset[int]] = {}
    all_entities: dict[str, Entities] = {}
    candidates: dict[str, set[tuple[int, int]]] = {}
    total = 0
    for where, document, entities, labels in read_labelled(references, "references"):
        title = read_text(document.get("title"), where, "title")
        if all_entities.get(title, entities) != entities:
            logger.warning(
                "%s: another document with other entities has the same title; their labels are joined", where
            )
        all_entities[title] = entities
        if (pairs := read_pairs(document.get("pairs"), len(entities), where)) is not None:
            candidates.setdefault(title, set()).update(pairs)
        for label in labels:
            gold[title, label.head, label.tail, label.relation] = frozenset(label.evidence)
            total += len(label.evidence)
    return Gold(gold, total, all_entities, candidates)


def read_labelled(
    documents: Iterable[Mapping[str, Any]], name: str
) -> Iterator[tuple[str, Mapping[str, Any], Entities, list[Label]]]:
    """Checks labelled documents, called `name` in messages: place, document, entities and labels of each.

    Raises:
        ScoringError: If a document is malformed.
        UnlabelledError: After the last one, if any has no labels.
    """
    _refuse_file(documents, name, "documents in DocRED's form")
    total = 0
    unlabelled: list[str] = []
    for document in documents:
        where = f"{name}[{total}]"
        if not isinstance(document, Mapping):
            raise ScoringError(f"{where}: expected a document in DocRED's form, got {document!r:.80}")
        where += f" ({document.get('title')!r})"
        entities, labels = read_document(document, where)
        total += 1
        if labels is None:
            unlabelled.append(where)
        else:
            yield where, document, entities, labels
    if unlabelled and len(unlabelled) == total:
        mend = "pass the labelled training documents"
        if name == "references":
            mend = (
                "DocRED's test split is scored on CodaLab only, so make its file with write_submission, or score "
                "against a labelled split"
            )
        raise UnlabelledError(f"{name}: the data has no labels (none of {total} documents); {mend}")
    if unlabelled:
        raise UnlabelledError(
            f"{name}: {len(unlabelled)} of {total} documents have no labels, the first is {unlabelled[0]}; give those "
            'without relations "labels": [] ("relations": [] in text form), and leave unlabelled ones out'
            + (" together with their predictions" if name == "references" else "")
        )


def _refuse_file(rows: object, name: str, expected: str) -> None:
    if isinstance(rows, (str, bytes, Path, Mapping)) or not isinstance(rows, Iterable):
        raise ScoringError(
            f"{name}: expected a list of {expected}, got {type(rows).__name__}; read files with read_json(path) first"
        )


def read_document(document: Mapping[str, Any], where: str = "document") -> tuple[Entities, list[Label] | None]:
    """Checks the entities and labels of one document in DocRED's form.

    Args:
        document (`Mapping`): `vertexSet` and `labels`; other keys are ignored.
        where (`str`, *optional*, defaults to `"document"`): Place of the document, for the error message.

    Returns:
        `tuple`: the `vertexSet` (list of entities, each a list of mentions) and the labels, `None` if there are none.

    Raises:
        ScoringError: If a key is missing, a value has the wrong type or a label names an entity that is not there.
    """
    entities, labels = document.get("vertexSet"), document.get("labels")
    if not isinstance(entities, (list, tuple)):
        raise ScoringError(f"{where}: 'vertexSet' must be a list of entities, each a list of mentions")
    for number, entity in enumerate(entities):
        if not isinstance(entity, (list, tuple)) or not all(map(_is_mapping, entity)):
            raise ScoringError(f"{where}: vertexSet[{number}] must be a list of mentions, each a dict")
    if labels is None:
        return entities, None
    if not isinstance(labels, (list, tuple)):
        raise ScoringError(f"{where}: 'labels' must be a list of labels such as {_LABEL}")
    return entities, [_label(label, f"{where}: labels[{i}]", len(entities)) for i, label in enumerate(labels)]


def _label(label: Mapping[str, Any], where: str, num_entities: int) -> Label:
    if not _is_mapping(label):
        raise ScoringError(f"{where}: expected a label such as {_LABEL}, got {label!r:.80}")
    head, tail = read_integer(label.get("h"), where, "h"), read_integer(label.get("t"), where, "t")
    for key, entity in (("h", head), ("t", tail)):
        if not 0 <= entity < num_entities:
            raise ScoringError(f"{where}: '{key}' is {entity}, but the document has {num_entities} entities")
    return Label(head, tail, read_text(label.get("r"), where, "r"), _evidence(label.get("evidence"), where))


def read_pairs(value: Any, num_entities: int, where: str = "document") -> list[tuple[int, int]] | None:
    """Checks the candidate pairs of a document.

    Args:
        value (`list[list[int]]`, *optional*): `[head, tail]` of each pair; `None` where all pairs are candidates.
        num_entities (`int`): How many entities the document has.
        where (`str`, *optional*, defaults to `"document"`): Place of the document, for the error message.

    Returns:
        `list[tuple[int, int]]`: head and tail of each, or `None`.

    Raises:
        ScoringError: If it is anything else, or a pair names an entity that is not there.
    """
    if value is None:
        return None
    wrong = f"{where}: 'pairs' must be a list of pairs such as [0, 1], or missing where all pairs are candidates"
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        raise ScoringError(f"{wrong}, got {value!r:.80}")
    pairs = []
    for pair in value:
        if isinstance(pair, (str, bytes, Mapping)) or not isinstance(pair, Iterable) or len(ends := list(pair)) != 2:
            raise ScoringError(f"{wrong}, got the pair {pair!r:.80}")
        head, tail = (read_integer(end, where, "pairs") for end in ends)
        if not (0 <= head < num_entities and 0 <= tail < num_entities):
            raise ScoringError(f"{where}: 'pairs' has {[head, tail]}, but the document has {num_entities} entities")
        pairs.append((head, tail))
    return pairs


def read_mention(mention: Mapping[str, Any], where: str = "mention") -> dict[str, Any]:
    """Checks what the scores read of a mention.

    Args:
        mention (`Mapping`): `name` and `sent_id`, each of which may be missing; other keys are ignored.
        where (`str`, *optional*, defaults to `"mention"`): Place of the mention, for the error message.

    Returns:
        `dict[str, Any]`: `name` and `sent_id`, `None` where missing.

    Raises:
        ScoringError: If a value has the wrong type.
    """
    name, sentence = mention.get("name"), mention.get("sent_id")
    return {
        "name": None if name is None else read_text(name, where, "name"),
        "sent_id": None if sentence is None else read_integer(sentence, where, "sent_id"),
    }


def _is_mapping(value: object) -> bool:
    # Most are dicts, and to ask for the abstract class takes long.
    return type(value) is dict or isinstance(value, Mapping)


# Tables hold integers of 64 bits and text that can be encoded; what neither file nor table can hold is refused here.


def read_text(value: Any, where: str, key: str) -> str:
    """Checks a value that must be text; `where` and `key` name it in the `ScoringError`."""
    if not isinstance(value, str):
        raise ScoringError(f"{where}: '{key}' must be a string, got {value!r:.80}")
    if value.isascii():
        return value
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise ScoringError(f"{where}: '{key}' is {value!r:.80}: half of a surrogate pair is no character") from None
    return value


def read_integer(value: Any, where: str, key: str) -> int:
    """Checks that a value is an integer that a table can hold.

    Raises:
        ScoringError: If it is not.
    """
    try:
        # Tables turn a column of integers with a gap into floats; 3.0 is entity 3 for the official scorer too.
        number = int(value) if isinstance(value, float) and value.is_integer() else index(value)
    except TypeError:
        raise ScoringError(f"{where}: '{key}' must be an integer, got {value!r:.80}") from None
    if not -(2**63) <= number < 2**63:
        raise ScoringError(f"{where}: '{key}' is {value!r:.80}, which is out of range for an integer of 64 bits")
    return number


def _evidence(value: Any, where: str) -> tuple[int, ...]:
    if value is None:
        return ()
    if type(value) is not list and (isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable)):
        raise ScoringError(f"{where}: 'evidence' must be a list of sentence numbers, got {value!r:.80}")
    return tuple(read_integer(sentence, where, "evidence") for sentence in value)


__all__ = [
    "Entities",
    "Gold",
    "Label",
    "ScoringError",
    "Triple",
    "UnlabelledError",
    "read_document",
    "read_integer",
    "read_labelled",
    "read_mention",
    "read_pairs",
    "read_prediction",
    "read_predictions",
    "read_references",
    "read_text",
]
