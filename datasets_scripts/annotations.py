"""Abstracts with concepts at characters, as PubTator writes them: what CDR and GDA have in common."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from modeling_docre.document_parts import Reading, show
from modeling_docre.text import split_sentences

from .mesh import IdPair, MeshTree, drop_hypernyms

# What stands where a mention has no concept.
_NO_ID = ("", "-", "-1")


@dataclass(frozen=True)
class Task:
    """
    What a data set asks of its abstracts.

    Args:
        head (`str`): Type of the heads of candidate pairs.
        tail (`str`): Type of their tails.
        relation (`str`): Name of the one relation.
    """

    head: str
    tail: str
    relation: str


@dataclass(frozen=True)
class Annotation:
    """
    A mention.

    Args:
        start (`int`): First character in the text.
        end (`int`): Character after the last one.
        type (`str`): Type of its concepts.
        ids (`tuple[str, ...]`): Its concepts; several of a composite mention ("ocular and auditory toxicity").
    """

    start: int
    end: int
    type: str
    ids: tuple[str, ...]


def join_abstract(title: str, abstract: str) -> str:
    """Join title and abstract as offsets count them: by one character."""
    return f"{title} {abstract}"


def read_annotation(columns: Sequence[str], text: str, reading: Reading) -> Annotation | None:
    """
    Read the columns start, end, text, type and ids of a mention; what has no concept is counted.

    Args:
        columns (sequence of `str`): The five columns.
        text (`str`): What the offsets count in.
        reading (`Reading`): Names the line, says how strict to be, and takes the counts.

    Returns:
        [`Annotation`], *optional*: `None` where it is left out.

    Raises:
        DocumentError: On nonsense where the reading is strict.
    """
    start, end, words, kind, concepts = columns
    mend = "Give character offsets into title + one character + abstract, end exclusive"
    for field, value in (("start", start), ("end", end)):
        if not (value.isascii() and value.isdigit()):
            reading.nonsense("mention with a broken offset", field, value, "not a whole number", mend)
            return None
    first, last = int(start), int(end)
    if not first < last <= len(text):
        problem = f"outside the text, which has {len(text)} characters"
        reading.nonsense("mention outside the text", "start, end", [first, last], problem, mend)
        return None
    if text[first:last] != words:
        problem = f"characters {first} to {last} of the text are {show(text[first:last])}"
        reading.nonsense("mention with another text", "text", words, problem, mend)
        return None
    if not kind:
        reading.nonsense("mention without a type", "type", kind, "empty", "Write a type, such as Disease")
        return None
    parts = re.split(r"[|;]", concepts)
    ids = tuple(dict.fromkeys(part for part in parts if part not in _NO_ID))
    if not ids:
        reading.repair("mention without a concept")
        return None
    if len(parts) > 1:
        reading.repair("composite mention, which counts for each of its concepts")
        reading.repair("part of a composite mention without a concept", sum(part in _NO_ID for part in parts))
    return Annotation(first, last, kind, ids)


def build_entry(
    title: str,
    parts: tuple[str, str],
    annotations: Iterable[Annotation],
    facts: Sequence[IdPair] | None,
    task: Task,
    tree: MeshTree | None,
    reading: Reading,
) -> dict[str, Any]:
    """
    Build a document in text form: an entity for each concept, candidates from each head type to each tail type.

    Args:
        title (`str`): Key of the document.
        parts (`tuple[str, str]`): Title and abstract; no sentence goes from one into the other.
        annotations (iterable of [`Annotation`]): The mentions.
        facts (sequence of `tuple[str, str]`, *optional*): Ids of head and tail; `None` for an unlabelled document.
        task ([`Task`]): Types and relation.
        tree ([`MeshTree`], *optional*): Leaves out what [`drop_hypernyms`] says.
        reading (`Reading`): Takes the counts.

    Returns:
        `dict`: The document.
    """
    mentions: dict[tuple[str, str], list[dict[str, int]]] = {}
    for found in annotations:
        for concept in found.ids:
            mentions.setdefault((found.type, concept), []).append({"start": found.start, "end": found.end})
    place = {key: number for number, key in enumerate(mentions)}
    heads, tails = ([concept for kind, concept in mentions if kind == wanted] for wanted in (task.head, task.tail))
    pairs = [(head, tail) for head in heads for tail in tails]
    candidates = set(pairs)
    known = [pair for pair in facts or () if pair in candidates]
    mentioned = {concept for _, concept in mentions}
    for pair in facts or ():
        if pair not in candidates and mentioned.issuperset(pair):
            problem = f"no {task.head} and {task.tail} in this order"
            reading.nonsense("fact of no candidate pair", "ids", pair, problem, "Exchange them, or mend the types")
        elif pair not in candidates:
            reading.repair("fact of a concept without mentions")
    if tree is not None:
        kept = drop_hypernyms(pairs, known, tree)
        reading.repair("candidate pair with a hypernym of a fact's disease", len(pairs) - len(kept))
        pairs = kept

    def places(pair: IdPair) -> list[int]:
        return [place[task.head, pair[0]], place[task.tail, pair[1]]]

    text = join_abstract(*parts)
    spans = [(found["start"], found["end"]) for row in mentions.values() for found in row]
    return {
        "title": title,
        "text": text,
        "sentences": _split_parts(text, len(parts[0]), spans),
        "entities": [{"type": kind, "id": concept, "mentions": row} for (kind, concept), row in mentions.items()],
        "relations": None
        if facts is None
        else [{"head": h, "tail": t, "relation": task.relation} for h, t in map(places, known)],
        "pairs": [places(pair) for pair in pairs],
    }


def _split_parts(text: str, middle: int, mentions: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Find the sentences of title and abstract; where a mention lies in both, so does a sentence."""
    if any(start < middle < end for start, end in mentions):
        return [list(span) for span in split_sentences(text, mentions)]
    sentences = []
    for first, last in ((0, middle), (middle, len(text))):
        inside = [(start - first, end - first) for start, end in mentions if first <= start and end <= last]
        sentences += [[first + start, first + end] for start, end in split_sentences(text[first:last], inside)]
    return sentences


__all__ = ["Annotation", "Task", "build_entry", "join_abstract", "read_annotation"]
