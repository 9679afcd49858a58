"""PubTator: the form that BC5CDR is published in, a block of lines for each abstract."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from modeling_docre.document_parts import Reading
from modeling_docre.documents import DocumentError

from .annotations import Annotation, Task, build_entry, join_abstract, read_annotation
from .mesh import IdPair, MeshTree
from .text_lines import Block, decode_line, iterate_blocks, iterate_lines, open_bytes

CDR = Task("Chemical", "Disease", "CID")

_TITLE = re.compile(rb"[^|\t]+\|t\|")
_FORM = "PubTator has lines `pmid|t|title`, `pmid|a|abstract`, then rows with tabs, then an empty line"


def is_pubtator(line: bytes) -> bool:
    """Whether a line is the first one of an abstract."""
    return _TITLE.match(line) is not None


def iterate_pubtator(
    path: Path, tree: MeshTree | None, *, strict: bool, repairs: Counter[str]
) -> Iterator[tuple[str, Mapping[str, Any] | DocumentError]]:
    """
    Read the abstracts of a file as dicts in text form.

    An entity is a concept: all mentions with its id. A composite mention counts for each of its ids. Mentions without
    an id are left out. Candidate pairs are those of a chemical and a disease. A file without any row of a relation is
    an unlabelled one.

    Args:
        path (`Path`): The file; gzip where its name ends in `.gz`.
        tree ([`MeshTree`], *optional*): Leaves out negative pairs; see [`drop_hypernyms`].
        strict (`bool`): Whether nonsense is an error.
        repairs (`collections.Counter`): Takes what is skipped and left out.

    Yields:
        `tuple`: Where the abstract begins, and the abstract, or why it cannot be read.
    """
    labelled = _is_labelled(path)
    seen: set[str] = set()
    for block in iterate_blocks(path, _FORM, is_pubtator):
        reading = Reading("", strict)
        where = f"{path}, line {block[0][0]}"
        try:
            entry = _read_block(path, block, seen, labelled, tree, reading)
        except DocumentError as error:
            yield where, error
            continue
        repairs.update(reading.counts)
        yield where, entry


def _is_labelled(path: Path) -> bool:
    """Whether there is a row of a relation: four columns, the second of which is a name."""
    with open_bytes(path) as stream:
        rows = (line.split(b"\t") for _, line in iterate_lines(stream))
        return any(len(row) == 4 and not row[1].isdigit() for row in rows)


def _read_block(
    path: Path, block: Block, seen: set[str], labelled: bool, tree: MeshTree | None, reading: Reading
) -> dict[str, Any]:
    lines = [decode_line(line, f"{path}, line {number}") for number, line in block]
    parts = []
    pmid = lines[0].split("|", 1)[0].split("\t", 1)[0]
    for at, (sign, field) in enumerate((("t", "title"), ("a", "abstract"))):
        columns = lines[at].split("|", 2) if at < len(lines) else []
        reading.where = f"{path}, line {block[min(at, len(block) - 1)][0]}"
        if len(columns) != 3 or columns[:2] != [pmid, sign]:
            shown = lines[at] if at < len(lines) else None
            problem = f"not the {field} of {pmid}: the file may be cut off or out of order"
            raise reading.error(field, shown, problem, f"{_FORM}: fetch the file again, or mend it there")
        parts.append(columns[2])
    reading.where = f"{path}, line {block[0][0]}"
    if pmid in seen:
        raise reading.error("pmid", pmid, "an abstract before it has the same one", "Leave one of them out")
    text = join_abstract(parts[0], parts[1])
    annotations: list[Annotation] = []
    facts: list[IdPair] = []
    for (number, _), line in zip(block[2:], lines[2:], strict=True):
        reading.where = f"{path}, line {number}"
        _read_row(line, pmid, text, annotations, facts, reading)
    reading.where = f"{path}, line {block[0][0]}"
    entry = build_entry(pmid, (parts[0], parts[1]), annotations, facts if labelled else None, CDR, tree, reading)
    seen.add(pmid)
    return entry


def _read_row(
    line: str, pmid: str, text: str, annotations: list[Annotation], facts: list[IdPair], reading: Reading
) -> None:
    columns = line.split("\t")
    cause = "row that cannot be read"
    if columns[0] != pmid:
        reading.nonsense(cause, "pmid", columns[0], f"the abstract is {pmid}", "Put an empty line between abstracts")
    elif len(columns) in (6, 7):  # the seventh has the parts of a composite mention in words
        found = read_annotation(columns[1:6], text, reading)
        if found is not None:
            annotations.append(found)
    elif len(columns) != 4:
        problem = f"{len(columns)} columns instead of 6 or 7 (a mention) or 4 (a relation); the file may be cut off"
        reading.nonsense(cause, "row", line, problem, "Fetch the file again, or mend it there")
    elif columns[1] != CDR.relation:
        reading.nonsense(cause, "relation", columns[1], "not CID, the relation of this form", "Leave the row out")
    else:
        facts.append((columns[2], columns[3]))


__all__ = ["CDR", "is_pubtator", "iterate_pubtator"]
