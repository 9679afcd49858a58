"""Documents of one source shared among the splits of a data set, with the same relations in each."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modeling_docre.documents import Document
from modeling_docre.output_files import DataFileError, open_output
from modeling_docre.regimes import SEED, document_key, lot
from modeling_docre.stratification import stratify

from .folders import SPLITS
from .sources import Split, open_splits


@dataclass(frozen=True)
class SplitReport:
    """
    What went where.

    Args:
        documents (`dict[str, int]`): Documents of each part.
        relations (`dict[str, dict[str, int]]`): Facts of each part by relation, the most frequent relation first.
        scarce (`dict[str, int]`):
            Relations that fewer documents have than there are parts, with the number of these documents: not every
            part can have them.
        repairs (`dict[str, int]`): What reading repaired or skipped, by cause.
    """

    documents: dict[str, int]
    relations: dict[str, dict[str, int]]
    scarce: dict[str, int]
    repairs: dict[str, int]

    @property
    def facts(self) -> dict[str, int]:
        """Facts of each part."""
        return {part: sum(counts[part] for counts in self.relations.values()) for part in self.documents}

    @property
    def missing(self) -> dict[str, list[str]]:
        """For each part, the relations that it has no fact of."""
        return {
            part: [relation for relation, counts in self.relations.items() if not counts[part]]
            for part in self.documents
        }


def split_source(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    parts: Mapping[str, float],
    *,
    seed: int = SEED,
    split: str | None = None,
    strict: bool = True,
    format: str | None = None,
    view: str = "char",
    mesh_tree: str | os.PathLike[str] | None = None,
) -> SplitReport:
    """
    Share documents among the parts of a data set, so that each has the facts of every relation in about the same
    proportion; see [`stratify`]. Parts are JSON Lines that [`load_docre`] finds in the folder by their names.

    The source is read twice. Of each document its relations stay in memory, and not its text. Which document goes
    where depends on what is in all of them and on the seed; their order matters only to equal ones. A document is
    written in text form where that loses nothing, such as words that its text does not show, else in DocRED's.

    Args:
        source (`str` or `os.PathLike`): As for [`open_splits`], but not the standard input.
        output (`str` or `os.PathLike`): A folder, which must be new or empty.
        parts (`Mapping[str, float]`): Share of the documents by the name of the part, such as `{"train": 0.8,
            "validation": 0.1, "test": 0.1}`; names are those that [`load_docre`] knows.
        seed (`int`, *optional*, defaults to 13): Decides between documents that are alike.
        split (`str`, *optional*): The split of the source to share out; needed if it has several.
        strict (`bool`, *optional*, defaults to `True`): As for [`load_docre`].
        format (`str`, *optional*): As for [`load_docre`].
        view (`str`, *optional*, defaults to `"char"`): As for [`load_docre`].
        mesh_tree (`str` or `os.PathLike`, *optional*): As for [`load_docre`].

    Returns:
        `SplitReport`: Documents and facts of each part, and the relations that are too rare for all of them.

    Raises:
        ValueError: If the parts are none, one of them would be empty, or the source has several splits and none is
            chosen; otherwise as for [`open_splits`].
        FileExistsError: If the folder is not empty.
        DataFileError: If the source changes while it is read.

    Example:
    ```python
    >>> from modeling_docre.datasets_scripts import split_source

    >>> split_source("mine.jsonl", "mine", {"train": 0.8, "validation": 0.2}).documents  # doctest: +SKIP
    {'train': 96, 'validation': 24}
    ```
    """
    _check_parts(parts)
    if str(source) == "-":
        raise ValueError("Documents are read twice to be split, and the standard input only once: pass a file.")
    folder = Path(output).expanduser()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} is not an empty folder: remove it, or choose another one.")
    splits = open_splits(source, split, strict=strict, format=format, view=view, mesh_tree=mesh_tree)
    if len(splits) > 1:
        raise ValueError(f"{source} has the splits {', '.join(splits)}: pass the one to be shared out as `split`.")
    (found,) = splits.values()
    repairs: Counter[str] = Counter(found.repairs)
    facts: list[Counter[str]] = []
    lots: list[float] = []
    for document in _readable(found, repairs):
        facts.append(Counter(fact.relation for fact in document.relations or ()))
        lots.append(lot(seed, document_key(document)))
    names = list(parts)
    places = stratify(facts, lots, [parts[name] for name in names])
    sizes = Counter(places)
    empty = [name for number, name in enumerate(names) if not sizes[number]]
    if empty:
        raise ValueError(
            f"{found.name} has {len(facts)} documents, of which none would be left for {', '.join(empty)}. Ask for "
            "larger shares, or for fewer parts."
        )
    _write_parts(found, folder, [names[place] for place in places], lots, seed)
    return _report(facts, [names[place] for place in places], names, repairs)


def _check_parts(parts: Mapping[str, float]) -> None:
    known = ", ".join(SPLITS)
    for name, share in parts.items():
        if name not in SPLITS:
            raise ValueError(f"`parts` has {name!r}, which no file of a data set is called. Known names: {known}.")
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0.0 < share < 1.0:
            raise ValueError(f"`parts` has {name}={share!r}; write a share between 0 and 1, such as 0.8.")
    if len({SPLITS[name] for name in parts}) < len(parts):
        raise ValueError(f"`parts` has two names for one split: {', '.join(parts)}. Known names: {known}.")
    if len(parts) < 2 or not math.isclose(sum(parts.values()), 1.0, abs_tol=1e-6):
        raise ValueError(
            f"`parts` are {dict(parts)}; write two or more whose shares add up to 1, such as train=0.8, "
            "validation=0.1 and test=0.1."
        )


def _readable(source: Split, repairs: Counter[str]) -> Iterator[Document]:
    for document in source.documents():
        repairs.update(dict(document.repairs))
        if document.text:
            yield document


def _write_parts(source: Split, folder: Path, parts: list[str], lots: list[float], seed: int) -> None:
    """Read the documents again and write each into the file of its part: all files, or none."""
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    changed = DataFileError(f"{source.name} changed while it was read: split it again.")
    try:
        with ExitStack() as stack:
            streams = {part: stack.enter_context(open_output(folder / f"{part}.jsonl")) for part in sorted({*parts})}
            number = 0
            for number, document in enumerate(_readable(source, Counter()), 1):
                if number > len(lots) or lot(seed, document_key(document)) != lots[number - 1]:
                    raise changed
                streams[parts[number - 1]].write(json.dumps(_as_row(document), ensure_ascii=False) + "\n")
            if number != len(lots):
                raise changed
    except BaseException:
        if made:
            folder.rmdir()
        raise


def _as_row(document: Document) -> dict[str, Any]:
    """A document in text form; in DocRED's where its words would become other ones."""
    row = document.to_dict()
    if Document.from_dict(row, strict=False) == document:
        return row
    words = document.to_docred()
    return words if Document.from_docred(words, strict=False) == document else row


def _report(facts: list[Counter[str]], places: list[str], names: list[str], repairs: Counter[str]) -> SplitReport:
    totals: Counter[str] = Counter()
    holders: Counter[str] = Counter()
    by_part: dict[str, Counter[str]] = {name: Counter() for name in names}
    for counts, place in zip(facts, places, strict=True):
        totals.update(counts)
        holders.update(counts.keys())
        by_part[place].update(counts)
    relations = sorted(totals, key=lambda relation: (-totals[relation], relation))
    return SplitReport(
        {name: places.count(name) for name in names},
        {relation: {name: by_part[name][relation] for name in names} for relation in relations},
        {relation: holders[relation] for relation in relations if holders[relation] < len(names)},
        dict(repairs),
    )
