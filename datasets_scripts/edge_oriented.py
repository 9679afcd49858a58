"""CDR and GDA as the edge-oriented-graph project pre-processed them: a line of tabs for each abstract."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

from modeling_docre.document_parts import Reading
from modeling_docre.documents import DocumentError

from .mesh import IdPair, MeshTree, drop_hypernyms
from .text_lines import decode_line, iterate_lines, open_bytes

WIDTH = 17
_NEGATIVE, _LEFT_OUT = "NR", "not_include"
_RELATION = re.compile(r"1:(\w+):2")
_DIRECTIONS = ("L2R", "R2L")
_FORM = f"A line has an id, the text, and {WIDTH} columns for each pair, with tabs"


@dataclass
class _Concept:
    """An entity: its number, type, id, and its mentions `(first token, token after the last) -> name`."""

    number: int
    type: str
    id: str
    mentions: dict[tuple[int, int], str | None] = field(default_factory=dict)


def is_edge_oriented(line: bytes) -> bool:
    """Whether a line has the columns of a pair."""
    columns = line.rstrip(b"\r\n").split(b"\t")
    return len(columns) > 3 and columns[3].decode("utf-8", "replace") in _DIRECTIONS


def iterate_edge_oriented(
    path: Path, tree: MeshTree | None, *, strict: bool, repairs: Counter[str]
) -> Iterator[tuple[str, Mapping[str, Any] | DocumentError]]:
    """
    Read the abstracts of a file as dicts in DocRED's form.

    Candidate pairs are the pairs of the line, head first, but for those marked `not_include`, which are counted.

    Args:
        path (`Path`): The file; gzip where its name ends in `.gz`.
        tree ([`MeshTree`], *optional*): Leaves out negative pairs; see [`drop_hypernyms`].
        strict (`bool`): Whether nonsense is an error.
        repairs (`collections.Counter`): Takes what is skipped and left out.

    Yields:
        `tuple`: Where the abstract stands, and the abstract, or why it cannot be read.
    """
    seen: set[str] = set()
    empty = True
    with open_bytes(path) as stream:
        for number, line in iterate_lines(stream):
            if not line.strip():
                continue
            empty = False
            where = f"{path}, line {number}"
            reading = Reading(where, strict)
            try:
                entry = _read_line(decode_line(line, where), seen, tree, reading)
            except DocumentError as error:
                yield where, error
                continue
            repairs.update(reading.counts)
            yield where, entry
    if empty:
        raise DocumentError(f"{path}: the file is empty. {_FORM}: fetch it again.")


def _read_line(line: str, seen: set[str], tree: MeshTree | None, reading: Reading) -> dict[str, Any]:
    pmid, *rest = line.rstrip().split("\t")
    mend = f"{_FORM}: fetch the file again, or mend it there"
    if not rest or not rest[0].strip():
        raise reading.error("text", None, f"{pmid[:40]!r} has no text", mend)
    if (len(rest) - 1) % WIDTH:
        problem = f"{len(rest) + 1} columns, which is not 2 and {WIDTH} for each pair; the line may be cut off"
        raise reading.error("pairs", rest[-1], problem, mend)
    if pmid in seen:
        raise reading.error("pmid", pmid, "a line before it has the same one", "Leave one of them out")
    seen.add(pmid)
    sentences = [sentence.split(" ") for sentence in rest[0].split("|")]
    ends = list(accumulate(map(len, sentences)))
    concepts: dict[IdPair, _Concept] = {}
    relations: dict[IdPair, str] = {}
    keys: dict[IdPair, tuple[IdPair, IdPair]] = {}
    for number, start in enumerate(range(1, len(rest), WIDTH)):
        found = _read_pair(rest[start : start + WIDTH], f"pairs[{number}]", ends, concepts, reading)
        if found is None:
            continue
        relation, head, tail = found
        if relation == _LEFT_OUT:
            reading.repair("pair marked not_include")
            continue
        pair = (head[1], tail[1])
        if relations.setdefault(pair, relation) != relation:
            problem = f"a pair before it, of {pair[0]} and {pair[1]} as well, says {relations[pair]}"
            reading.nonsense("pair twice", f"pairs[{number}].relation", relation, problem, "Leave one out")
            continue
        keys[pair] = (head, tail)
    facts = [pair for pair, relation in relations.items() if relation != _NEGATIVE]
    pairs = list(relations)
    if tree is not None:
        pairs = drop_hypernyms(pairs, facts, tree)
        reading.repair("candidate pair with a hypernym of a fact's disease", len(relations) - len(pairs))

    def places(pair: IdPair) -> list[int]:
        return [concepts[key].number for key in keys[pair]]

    return {
        "title": pmid,
        "sents": sentences,
        "vertexSet": [_write_mentions(concept, ends) for concept in concepts.values()],
        "labels": [{"h": places(pair)[0], "t": places(pair)[1], "r": relations[pair]} for pair in facts],
        "pairs": [places(pair) for pair in pairs],
    }


def _read_pair(
    columns: Sequence[str], field: str, ends: Sequence[int], concepts: dict[IdPair, _Concept], reading: Reading
) -> tuple[str, IdPair, IdPair] | None:
    """Return relation, head and tail; the concepts take the mentions of both."""
    match = _RELATION.fullmatch(columns[0])
    if match is None and columns[0] != _LEFT_OUT:
        problem = "not 1:CID:2, 1:GDA:2, 1:NR:2 or not_include"
        reading.nonsense("pair that cannot be read", f"{field}.relation", columns[0], problem, "Mend the column")
        return None
    if columns[1] not in _DIRECTIONS:
        problem = "neither L2R nor R2L"
        reading.nonsense("pair that cannot be read", f"{field}.direction", columns[1], problem, "Mend the column")
        return None
    arguments = []
    for name, part in (("first", columns[5:11]), ("second", columns[11:17])):
        found = _read_mentions(part, f"{field}.{name}", ends, reading)
        if found is None:
            return None
        arguments.append(((part[2], part[0]), found))
    for key, found in arguments:
        concept = concepts.setdefault(key, _Concept(len(concepts), *key))
        for span, words in found.items():
            concept.mentions.setdefault(span, words)
    (first, _), (second, _) = arguments
    head, tail = (first, second) if columns[1] == "L2R" else (second, first)
    return (_LEFT_OUT if match is None else match[1]), head, tail


def _read_mentions(
    columns: Sequence[str], field: str, ends: Sequence[int], reading: Reading
) -> dict[tuple[int, int], str | None] | None:
    """Read the mentions of an argument: id, names, type, first tokens, tokens after the last, sentences."""
    starts, stops = columns[3].split(":"), columns[4].split(":")
    mend = "Write indices of tokens over the whole text, joined by colons, as many ends as starts"
    cause = "pair that cannot be read"
    if len(starts) != len(stops) or not all(place.isascii() and place.isdigit() for place in starts + stops):
        value = [columns[3], columns[4]]
        reading.nonsense(cause, f"{field}.start, end", value, "not as many ends as starts", mend)
        return None
    names = columns[1].split("|")
    found: dict[tuple[int, int], str | None] = {}
    for number, (start, stop) in enumerate(zip(map(int, starts), map(int, stops), strict=True)):
        sentence = next((end for end in ends if start < end), 0)
        if not start < stop <= sentence:
            problem = f"not tokens of one sentence; the text has {ends[-1]} tokens"
            reading.nonsense(cause, f"{field}.start, end", [start, stop], problem, mend)
            return None
        found[start, stop] = names[number] if len(names) == len(starts) else None
    return found


def _write_mentions(concept: _Concept, ends: Sequence[int]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for (start, stop), name in concept.mentions.items():
        sentence = next(number for number, end in enumerate(ends) if start < end)
        first = ends[sentence - 1] if sentence else 0
        rows.append({"name": name, "sent_id": sentence, "pos": [start - first, stop - first], "type": concept.type})
    rows[0]["id"] = concept.id
    return rows


__all__ = ["is_edge_oriented", "iterate_edge_oriented"]
