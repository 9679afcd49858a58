"""Dataset repositories for the Hub: Parquet files and the card that lets `load_dataset` find them."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow
import pyarrow.parquet
import yaml
from datasets import Dataset, DatasetInfo
from datasets.info import DatasetInfosDict
from datasets.splits import SplitDict, SplitInfo

from .rows import FEATURES, RowDigest, Rows, find_report, list_counts

logger = logging.getLogger(__name__)

_COLUMNS = """| column | content |
| --- | --- |
| `title` | key of the document |
| `sents` | sentences, each a list of words |
| `vertexSet` | entities, each a list of mentions |
| `vertexSet[][].name`, `.type` | the mention's words and type, where known |
| `vertexSet[][].sent_id`, `.pos` | its sentence, and its `[start, end)` word positions in that sentence |
| `labels` | facts; null in a document that was not labelled, empty in one without facts |
| `labels[].h`, `.t` | head and tail: positions in `vertexSet` |
| `labels[].r`, `.evidence` | relation id, and the sentences that show the fact |
| `pairs` | candidate pairs `[head, tail]`; null where all pairs are |
"""

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_HUGE = "n>1M"

_COUNTS = ("documents", "sentences", "entities", "mentions", "candidate pairs", "facts", "unlabelled documents")
_MOST_RELATIONS = 100  # that a card lists
_TOLD = 5  # ids that a message lists
# Bytes of a Parquet file before compression, as `Dataset.push_to_hub` makes them.
SHARD_SIZE = 500 << 20
# A group of rows ends where it has so many rows or words: it is in memory as a whole when it is written, and read.
_GROUP_ROWS = 1_000
_GROUP_WORDS = 1_000_000


class _Written(NamedTuple):
    """A split that is on disk: its files, its size, and what is in it."""

    files: list[str]
    size: SplitInfo
    counts: dict[str, int]
    relations: Counter[str]
    repairs: dict[str, int]


def write_dataset_repo(
    dataset: Dataset | Mapping[str, Dataset | Rows],
    folder: str | os.PathLike[str],
    *,
    name: str,
    license: str,
    language: str | Sequence[str] = "en",
    source: str | None = None,
    relation_names: Mapping[str, str] | None = None,
    citation: str | None = None,
    shard_size: int = SHARD_SIZE,
) -> Path:
    """
    Write a folder that is a dataset repository: `datasets.load_dataset(folder)` reads it, `hf upload` publishes it.

    Documents are read once and go to disk as they come. The folder holds `data/*.parquet`, a `README.md` whose header
    names the splits and the schema, and whose text counts what is in each split, its relations, and what was repaired
    or left out on the way; with `relation_names`, a `rel_info.json`. There is no code in it.

    Args:
        dataset (`Dataset`, `DatasetDict` or `dict`):
            One split or several by name, in the schema of [`load_docre`]; or [`Rows`], which are read on the way.
        folder (`str` or `os.PathLike`): Must not exist, or be empty.
        name (`str`): What people call the data set: the card's title.
        license (`str`): The Hub's identifier of the licence, such as `"mit"`; `"unknown"` where it is.
        language (`str` or sequence of `str`, *optional*, defaults to `"en"`): ISO code.
        source (`str`, *optional*):
            Where the data comes from, such as the address of the published files; if not given, the card says that
            the data is original.
        relation_names (`Mapping[str, str]`, *optional*):
            Relation id -> words, as in `{"P17": "country"}`. Relations of the data that lack words, and words for
            relations that the data lack, are logged.
        citation (`str`, *optional*): What to cite, as BibTeX, for the card.
        shard_size (`int`, *optional*, defaults to 500 MiB):
            Bytes, before compression, after which a split goes on in another Parquet file.

    Returns:
        `Path`: The folder.

    Raises:
        FileExistsError: If the folder isn't empty.
        ValueError: If a split has another schema, or there is none, or `shard_size` is not above 0.
        DocumentError: If a document of [`Rows`] cannot be read.
    """
    if shard_size <= 0:
        raise ValueError(f"`shard_size` is {shard_size}: write how many bytes a file may have, above 0.")
    splits = {str(dataset.split or "train"): dataset} if isinstance(dataset, Dataset) else dict(dataset)
    _check_splits(splits)
    folder = Path(folder).expanduser()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} is not an empty folder: remove it, or choose another one.")
    # A folder that was left half written would load as if it were whole.
    unfinished = folder.with_name(f".unfinished-{folder.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    (unfinished / "data").mkdir(parents=True)
    try:
        written = {split: _write_split(part, unfinished, split, shard_size) for split, part in splits.items()}
        if relation_names is not None:
            text = json.dumps(dict(relation_names), ensure_ascii=False, indent=2)
            (unfinished / "rel_info.json").write_text(text + "\n", encoding="utf-8")
            _compare_names(relation_names, set().union(*(split.relations for split in written.values())))
        header = _write_header(written, name, license, language, source)
        files = [file for split in written.values() for file in split.files]
        download_size = sum((unfinished / file).stat().st_size for file in files)
        header["dataset_info"] |= {"download_size": download_size}
        shown = yaml.safe_dump(header, sort_keys=False, allow_unicode=True)
        body = _write_body(written, folder, name, license, source, relation_names, citation)
        (unfinished / "README.md").write_text(f"---\n{shown}---\n\n{body}", encoding="utf-8")
        if folder.exists():
            folder.rmdir()
        unfinished.replace(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def _write_split(part: Dataset | Rows, folder: Path, split: str, shard_size: int) -> _Written:
    """Write the rows of a split as they come, in as many files as they need."""
    digest = RowDigest()
    # Rows that are read here say themselves what was repaired; those of a table may be others than when it was read.
    rows = part() if isinstance(part, Rows) else digest.taking(part.with_format(None))
    counts: Counter[str] = Counter(dict.fromkeys(_COUNTS, 0))
    relations: Counter[str] = Counter()
    schema = FEATURES.arrow_schema
    names: list[Path] = []
    total = 0
    groups = _groups(_counted(rows, counts, relations))
    group = next(groups, None)
    # A split without rows, such as a filtered one, is a file too.
    while group is not None or not names:
        names.append(folder / "data" / f"{split}-{len(names):05}.parquet")
        # What `Dataset.to_parquet` asks for: chunks that the Hub knows again in another version of a file.
        with pyarrow.parquet.ParquetWriter(
            names[-1], schema, use_content_defined_chunking=True, write_page_index=True
        ) as writer:
            size = 0
            while group is not None and size < shard_size:
                table = pyarrow.Table.from_pylist(group, schema=schema)
                writer.write_table(table)
                size += table.nbytes
                group = next(groups, None)
        total += size
    files = [f"data/{split}-{number:05}-of-{len(names):05}.parquet" for number in range(len(names))]
    for name, file in zip(names, files, strict=True):
        name.rename(folder / file)
    size = SplitInfo(split, num_bytes=total, num_examples=counts["documents"])
    return _Written(files, size, dict(counts), relations, _repairs_of(part, str(digest)))


def _repairs_of(part: Dataset | Rows, digest: str) -> dict[str, int]:
    """Return what was repaired in the rows that were written."""
    if isinstance(part, Rows):
        return part.report["repairs"]
    report = find_report(part) or {}
    # Of rows that were chosen, changed or put together since, it is not known which of them were repaired.
    return report["repairs"] if report.get("digest") == digest else {}


def _compare_names(names: Mapping[str, str], relations: set[str]) -> None:
    """Say where a table of names and the relations of the data differ."""
    unnamed = sorted(relations - names.keys())
    # Documents that nobody labelled have no relations, and say nothing of the table.
    unused = sorted(names.keys() - relations) if relations else []
    for what, ids in (
        ("Relations of the data that have no words", unnamed),
        ("Words for relations that have no fact in the data", unused),
    ):
        if ids:
            more = ", ..." if len(ids) > _TOLD else ""
            logger.warning("%s: %d (%s%s).", what, len(ids), ", ".join(ids[:_TOLD]), more)


def _groups(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    group: list[dict[str, Any]] = []
    words = 0
    for row in rows:
        group.append(row)
        words += sum(map(len, row["sents"]))
        if len(group) >= _GROUP_ROWS or words >= _GROUP_WORDS:
            yield group
            group, words = [], 0
    if group:
        yield group


def _check_splits(splits: Mapping[str, Dataset | Rows]) -> None:
    if not splits:
        raise ValueError("There is no split: pass a Dataset, or a dict of them such as {'train': dataset}.")
    for split, part in splits.items():
        if not isinstance(part, Rows) and (not isinstance(part, Dataset) or part.features != FEATURES):
            what = f"the features {part.features}" if isinstance(part, Dataset) else f"a {type(part).__name__}"
            raise ValueError(
                f"The split {split!r} has not the schema of documents, but {what}. Make it with `load_docre(path)` or "
                "`to_dataset(documents)`."
            )


def _write_header(
    written: Mapping[str, _Written],
    name: str,
    license: str,
    language: str | Sequence[str],
    source: str | None,
) -> dict[str, Any]:
    sizes = [split.size for split in written.values()]
    total = sum(size.num_examples for size in sizes)
    header: dict[str, Any] = {
        "language": [language] if isinstance(language, str) else list(language),
        "license": license,
        "pretty_name": name,
        "task_categories": ["token-classification", "text-classification"],
        "size_categories": [next((size for limit, size in _SIZES if total < limit), _HUGE)],
        "source_datasets": ["original" if source is None else "extended|other"],
        "tags": ["relation-extraction", "document-level-relation-extraction", "docred"],
        "configs": [
            {
                "config_name": "default",
                "data_files": [
                    {"split": name, "path": split.files[0] if len(split.files) == 1 else f"data/{name}-*"}
                    for name, split in written.items()
                ],
            }
        ],
    }
    splits = SplitDict()
    for size in sizes:
        splits.add(size)
    info = DatasetInfo(features=FEATURES, splits=splits, dataset_size=sum(size.num_bytes for size in sizes))
    DatasetInfosDict({"default": info}).to_dataset_card_data(header)
    return header


def _counted(
    rows: Iterable[dict[str, Any]], counts: Counter[str], relations: Counter[str]
) -> Iterator[dict[str, Any]]:
    """Count what goes by."""
    for row in rows:
        entities, pairs = len(row["vertexSet"]), row["pairs"]
        counts["documents"] += 1
        counts["sentences"] += len(row["sents"])
        counts["entities"] += entities
        counts["mentions"] += sum(map(len, row["vertexSet"]))
        counts["candidate pairs"] += entities * (entities - 1) if pairs is None else len(pairs)
        counts["facts"] += len(row["labels"] or ())
        relations.update(label["r"] for label in row["labels"] or ())
        counts["unlabelled documents"] += row["labels"] is None
        yield row


def _write_body(
    written: Mapping[str, _Written],
    folder: Path,
    name: str,
    license: str,
    source: str | None,
    relation_names: Mapping[str, str] | None,
    citation: str | None,
) -> str:
    table = [f"| split | {' | '.join(_COUNTS)} |", f"| --- |{' ---: |' * len(_COUNTS)}"]
    for split, found in written.items():
        table.append(f"| `{split}` | {' | '.join(f'{found.counts[column]:,}' for column in _COUNTS)} |")
    # With the dot it is a folder, and neither a reader of `datasets` such as "json" nor a repository on the Hub.
    quoted = json.dumps(f"./{folder.resolve().name}", ensure_ascii=False)
    parts = [
        f"# {name}",
        "Documents for document-level relation extraction: text as words, entities with all their mentions, and the "
        "relations that\nhold between the entities.",
        "" if source is None else f"Source: {source}",
        f"Licence: `{license}`",
        "## Content",
        "\n".join(table),
        _COLUMNS.strip(),
        _write_repairs(written),
        _write_relations(written, relation_names),
        "## Use",
        "```python\nfrom datasets import load_dataset\n\n"
        f'dataset = load_dataset({quoted}, split="{next(iter(written))}")\n```',
        "The first argument is this folder, seen from the one that it is in. Once it is on the Hub, put the id of the "
        'repository there,\nsuch as `"my-name/my-dataset"`.',
        "Rows are what `modeling_docre` trains on: pass the dataset to `DocRETrainer`, or a row to "
        '`pipeline("docre")`.',
        "" if citation is None else _write_citation(citation),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _write_repairs(written: Mapping[str, _Written]) -> str:
    repairs = {split: found.repairs for split, found in written.items() if found.repairs}
    if not repairs:
        return ""
    lines = [f"- `{split}`: {list_counts(counts)}" for split, counts in repairs.items()]
    return "\n".join(["Repaired or left out when the documents were read:", "", *lines])


def _write_relations(written: Mapping[str, _Written], names: Mapping[str, str] | None) -> str:
    total: Counter[str] = Counter()
    for found in written.values():
        total.update(found.relations)
    if not total:
        return "" if names is None else "`rel_info.json` has the words for each relation id."
    rows = [
        f"| `{_cell(relation)}` | {_cell((names or {}).get(relation, ''))} | "
        f"{' | '.join(f'{found.relations[relation]:,}' for found in written.values())} |"
        for relation, _ in sorted(total.items(), key=lambda item: (-item[1], item[0]))[:_MOST_RELATIONS]
    ]
    split_names = " | ".join(f"`{split}`" for split in written)
    more = len(total) - len(rows)
    return "\n\n".join(
        [
            f"## Relations\n\nRelations that have a fact: {len(total):,}."
            + ("" if names is None else " `rel_info.json` has the words for each relation id."),
            "\n".join([f"| relation | words | {split_names} |", f"| --- | --- |{' ---: |' * len(written)}", *rows]),
            *([f"And {more:,} more, none with more facts than these."] if more else []),
        ]
    )


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _write_citation(citation: str) -> str:
    # Longer than any run of them in it.
    fence = "`" * max([3, *(len(run) + 1 for run in re.findall("`+", citation))])
    return f"## Citation\n\n{fence}bibtex\n{citation.strip()}\n{fence}"
