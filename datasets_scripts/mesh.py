"""The tree of MeSH: which disease is a more general word for which."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path

from modeling_docre.documents import DocumentError

from .text_lines import decode_line, iterate_lines, open_bytes

# Concepts of MeSH, by id, and where they hang in its tree: C14.280 is below C14.
MeshTree = Mapping[str, tuple[str, ...]]
IdPair = tuple[str, str]

_ID = re.compile(r"[DC]\d{6,}")
_NUMBER = re.compile(r"[A-Z]\d{2}(?:\.\d{3})*")
_SEPARATOR = re.compile(r"[;,|\s]+")


def read_mesh_tree(path: Path) -> dict[str, tuple[str, ...]]:
    """
    Read where the concepts of MeSH hang in its tree.

    Args:
        path (`Path`):
            The descriptors as the National Library of Medicine publishes them in ASCII (`d2017.bin`: records with
            `MN = C14.280` and `UI = D006331`), or a table with tabs that has an id and its tree numbers on each line,
            in any order of columns. It may end in `.gz`.

    Returns:
        `dict[str, tuple[str, ...]]`: The tree numbers of every id.

    Raises:
        DocumentError: If the file is not UTF-8, or holds no id with a tree number.
    """
    tree: dict[str, list[str]] = {}
    numbers: list[str] = []
    with open_bytes(path) as stream:
        for place, raw in iterate_lines(stream):
            line = decode_line(raw, f"{path}, line {place}")
            if line == "*NEWRECORD":
                numbers = []
            elif line.startswith("MN = "):
                numbers.append(line[5:].strip())
            elif line.startswith("UI = "):
                tree.setdefault(line[5:].strip(), []).extend(numbers)
            else:
                ids, found = _read_columns(line)
                for concept in ids:
                    tree.setdefault(concept, []).extend(found)
    known = {concept: tuple(dict.fromkeys(found)) for concept, found in tree.items() if found}
    if not known:
        raise DocumentError(
            f"{path}: no line has an id of MeSH (D006331) and a tree number (C14.280). Pass the ASCII descriptors "
            "(such as d2017.bin), or a table with tabs; a list of names and tree numbers does not do."
        )
    return known


def _read_columns(line: str) -> tuple[list[str], list[str]]:
    """Find ids and tree numbers among the columns of a line; a name such as "Vitamin B12" is neither."""
    ids: list[str] = []
    numbers: list[str] = []
    for column in line.split("\t"):
        words = [word for word in _SEPARATOR.split(column) if word]
        if words and all(map(_NUMBER.fullmatch, words)):
            numbers += words
        elif len(words) == 1 and _ID.fullmatch(words[0]):
            ids += words
    return ids, numbers


def drop_hypernyms(pairs: Collection[IdPair], facts: Collection[IdPair], tree: MeshTree) -> list[IdPair]:
    """
    Leave out negative pairs whose disease is a more general word (an ancestor in the tree) for that of a fact with the
    same chemical or gene.

    The annotators marked the most specific disease alone: a chemical that induces atrial fibrillation induces
    arrhythmia as well, so that this pair is unmarked but no negative. Descendants stay: of a chemical that is marked
    with arrhythmia, the text need not say that it induces atrial fibrillation.

    Args:
        pairs (collection of `tuple[str, str]`): Candidate pairs of ids, disease last.
        facts (collection of `tuple[str, str]`): Those that hold.
        tree ([`MeshTree`]): As [`read_mesh_tree`] reads it.

    Returns:
        `list[tuple[str, str]]`: The pairs that stay, in their order.
    """
    positive: dict[str, list[str]] = {}
    for head, disease in facts:
        positive.setdefault(head, []).extend(_places(disease, tree))

    def is_general(head: str, disease: str) -> bool:
        above = tuple(f"{number}." for number in _places(disease, tree))
        return any(number.startswith(above) for number in positive.get(head, ()))

    known = set(facts)
    return [pair for pair in pairs if pair in known or not is_general(*pair)]


def _places(disease: str, tree: MeshTree) -> tuple[str, ...]:
    return tree.get(disease.removeprefix("MESH:"), ())


__all__ = ["IdPair", "MeshTree", "drop_hypernyms", "read_mesh_tree"]
