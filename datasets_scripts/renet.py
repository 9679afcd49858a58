"""GDA as RENET publishes it: a folder with abstracts, mentions of genes and diseases, and labels of their pairs."""

from __future__ import annotations

import codecs
import csv
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from modeling_docre.document_parts import Reading
from modeling_docre.documents import DocumentError
from modeling_docre.regimes import SEED, lot

from .annotations import Task, build_entry, join_abstract, read_annotation
from .mesh import IdPair, MeshTree
from .text_lines import Block, decode_line, iterate_blocks, iterate_lines, open_bytes

GDA = Task("Gene", "Disease", "GDA")
ABSTRACTS, ANNOTATIONS, LABELS = FILES = ("abstracts.txt", "anns.txt", "labels.csv")
TRAIN_PART = 0.8

_FORM = "It has, for each abstract, a line with its id, one with the title, one with the text, and an empty line"
_MISSING = "row of a missing abstract"
_UNREADABLE = "row that cannot be read"


@dataclass
class _Rows:
    """What the two other files have on one abstract."""

    places: list[tuple[int, int, int]] = field(default_factory=list)  # first byte, first line, number of lines
    labels: dict[IdPair, str] = field(default_factory=dict)


def is_renet(folder: Path) -> bool:
    """Whether a folder has the three files."""
    return all((folder / name).is_file() for name in FILES)


def choose_validation(folder: Path) -> set[str]:
    """
    Choose the abstracts for validation: a fifth, those with the lowest lots by a fixed seed and their ids.

    Which fifth the papers took is not published.

    Args:
        folder (`Path`): The training data.

    Returns:
        `set[str]`: Their ids.
    """
    blocks = iterate_blocks(folder / ABSTRACTS, _FORM)
    ids = {block[0][1].decode("utf-8", "replace").strip() for block in blocks}
    number = len(ids) - int(TRAIN_PART * len(ids))
    return set(sorted(ids, key=lambda pmid: lot(SEED, "validation of GDA", pmid))[:number])


def iterate_renet(
    folder: Path, part: str | None, tree: MeshTree | None, *, strict: bool, repairs: Counter[str]
) -> Iterator[tuple[str, Mapping[str, Any] | DocumentError]]:
    """
    Read abstracts as dicts in text form; an entity is a concept, candidate pairs are those of a gene and a disease.

    A candidate without a row in `labels.csv` is a negative one, and counted. The abstracts are read one by one; of
    the mentions only the places in the file are in memory.

    Args:
        folder (`Path`): Has `abstracts.txt`, `anns.txt` and `labels.csv`.
        part (`str`, *optional*): `"train"` or `"validation"`, one of the parts of the training data; all if not given.
        tree ([`MeshTree`], *optional*): Leaves out negative pairs; see [`drop_hypernyms`].
        strict (`bool`): Whether nonsense is an error.
        repairs (`collections.Counter`): Takes what is skipped and left out.

    Yields:
        `tuple`: Where the abstract begins, and the abstract, or why it cannot be read.
    """
    path = folder / ABSTRACTS
    common = Reading("", strict)
    rows: dict[str, _Rows] = {}
    _find_annotations(folder / ANNOTATIONS, rows, common)
    _read_labels(folder / LABELS, rows, common)
    validation = choose_validation(folder) if part is not None else set()
    seen: set[str] = set()
    with open(folder / ANNOTATIONS, "rb") as annotations:
        for block in iterate_blocks(path, _FORM):
            where = f"{path}, line {block[0][0]}"
            pmid = block[0][1].decode("utf-8", "replace").strip()
            repeated = pmid in seen
            seen.add(pmid)
            if part is not None and (pmid in validation) != (part == "validation"):
                continue
            reading = Reading(where, strict)
            try:
                if repeated:
                    raise reading.error(
                        "pmid", pmid, "an abstract before it has the same one", "Leave one of them out"
                    )
                parts = _read_abstract(path, block, reading)
                entry = _read_entry(pmid, parts, rows.get(pmid, _Rows()), annotations, tree, reading)
            except DocumentError as error:
                yield where, error
                continue
            repairs.update(reading.counts)
            yield where, entry
    unknown = sorted(set(rows) - seen)
    if unknown:
        common.where = str(path)
        problem = f"{ANNOTATIONS} or {LABELS} have rows of {len(unknown)} ids that have no abstract here"
        common.nonsense(_MISSING, "pmid", unknown[0], problem, "The file may be cut off")
        lost = sum(len(rows[key].labels) + sum(length for *_, length in rows[key].places) for key in unknown)
        common.repair(_MISSING, lost - 1)
    if part != "validation":  # what belongs to no abstract is said once
        repairs.update(common.counts)


def _find_annotations(path: Path, rows: dict[str, _Rows], reading: Reading) -> None:
    """Note where the rows of each abstract lie."""
    at, last = 0, None
    with open(path, "rb") as stream:
        for number, line in enumerate(stream, start=1):
            start, at = at, at + len(line)
            if number == 1 and line.startswith(codecs.BOM_UTF8):
                start, line = len(codecs.BOM_UTF8), line.removeprefix(codecs.BOM_UTF8)
            pmid, tab, _ = line.partition(b"\t")
            key = pmid.decode("utf-8", "replace").strip()
            if tab and key == last:
                first, place, length = rows[key].places[-1]
                rows[key].places[-1] = (first, place, length + 1)
            elif tab:
                rows.setdefault(key, _Rows()).places.append((start, number, 1))
            elif key:
                reading.where = f"{path}, line {number}"
                problem = "a single column; a row has pmid, start, end, text, type and id, with tabs"
                reading.nonsense(_UNREADABLE, "row", key, problem, "Fetch the file again, or mend it there")
            last = key if tab else None


def _read_labels(path: Path, rows: dict[str, _Rows], reading: Reading) -> None:
    with open_bytes(path) as stream:
        for number, raw in iterate_lines(stream):
            reading.where = f"{path}, line {number}"
            line = raw.decode("utf-8", "replace")
            columns = [column.strip() for column in next(csv.reader([line]), [""])]
            if not line.strip() or (number == 1 and columns[-1] not in ("0", "1")):
                continue
            if len(columns) != 4 or columns[3] not in ("0", "1") or "\ufffd" in line:
                problem = "not pmid, gene id, disease id and 0 or 1, with commas and in UTF-8"
                reading.nonsense(_UNREADABLE, "row", line, problem, "Fetch the file again, or mend it there")
                continue
            labels = rows.setdefault(columns[0], _Rows()).labels
            pair = (columns[1], columns[2])
            if labels.setdefault(pair, columns[3]) != columns[3]:
                problem = f"a row before it says {labels[pair]} of {pair[0]} and {pair[1]}"
                reading.nonsense("label that contradicts another", "label", columns[3], problem, "Leave one out")


def _read_abstract(path: Path, block: Block, reading: Reading) -> tuple[str, str]:
    lines = [decode_line(line, f"{path}, line {number}") for number, line in block]
    if len(lines) != 3:
        field = ("title", "abstract")[len(lines) - 1] if len(lines) < 3 else "abstract"
        problem = f"{len(lines)} lines instead of 3: id, title, abstract"
        raise reading.error(field, lines[-1], problem, "The file may be cut off: fetch it again, or mend it there")
    return lines[1], lines[2]


def _read_entry(
    pmid: str, parts: tuple[str, str], rows: _Rows, stream: BinaryIO, tree: MeshTree | None, reading: Reading
) -> dict[str, Any]:
    where, path = reading.where, stream.name
    text = join_abstract(*parts)
    annotations = []
    for first, number, length in rows.places:
        stream.seek(first)
        for place in range(number, number + length):
            reading.where = f"{path}, line {place}"
            columns = decode_line(stream.readline().rstrip(b"\r\n"), reading.where).split("\t")
            if len(columns) != 6:
                problem = f"{len(columns)} columns instead of 6: pmid, start, end, text, type, id"
                mend = "Fetch the file again, or mend it there"
                reading.nonsense(_UNREADABLE, "row", "\t".join(columns), problem, mend)
                continue
            found = read_annotation(columns[1:], text, reading)
            if found is not None:
                annotations.append(found)
    reading.where = where
    facts = [pair for pair, label in rows.labels.items() if label == "1"]
    unlisted = {
        (gene, disease)
        for one in annotations
        if one.type == GDA.head
        for gene in one.ids
        for other in annotations
        if other.type == GDA.tail
        for disease in other.ids
    } - set(rows.labels)
    reading.repair("candidate pair without a row of labels, which is a negative one", len(unlisted))
    return build_entry(pmid, parts, annotations, facts, GDA, tree, reading)


__all__ = ["ABSTRACTS", "FILES", "GDA", "TRAIN_PART", "choose_validation", "is_renet", "iterate_renet"]
