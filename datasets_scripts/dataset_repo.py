"""Dataset repositories for the Hub: Parquet files and the card that lets `load_dataset` find them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from datasets import Dataset, DatasetInfo
from datasets.info import DatasetInfosDict
from datasets.splits import SplitDict, SplitInfo

from .rows import FEATURES

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


def write_dataset_repo(
    dataset: Dataset | Mapping[str, Dataset],
    folder: str | os.PathLike[str],
    *,
    name: str,
    license: str,
    language: str | Sequence[str] = "en",
    source: str | None = None,
    relation_names: Mapping[str, str] | None = None,
) -> Path:
    """
    Write a folder that is a dataset repository: `datasets.load_dataset(folder)` reads it, `hf upload` publishes it.

    It holds `data/*.parquet`, a `README.md` whose header names the splits and the schema, and, with
    `relation_names`, a `rel_info.json`. There is no code in it.

    Args:
        dataset (`Dataset`, `DatasetDict` or `dict`):
            One split or several by name, in the schema of [`load_docre`].
        folder (`str` or `os.PathLike`): Must not exist, or be empty.
        name (`str`): What people call the data set: the card's title.
        license (`str`): The Hub's identifier of the licence, such as `"mit"`; `"unknown"` where it is.
        language (`str` or sequence of `str`, *optional*, defaults to `"en"`): ISO code.
        source (`str`, *optional*):
            Where the data comes from, such as the address of the published files; if not given, the card says that
            the data is original.
        relation_names (`Mapping[str, str]`, *optional*): Relation id -> words, as in `{"P17": "country"}`.

    Returns:
        `Path`: The folder.

    Raises:
        FileExistsError: If the folder isn't empty.
        ValueError: If a split has another schema, or there is none.
    """
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
        sizes, files = {}, {}
        for split, part in splits.items():
            file = f"data/{split}-00000-of-00001.parquet"
            sizes[split] = SplitInfo(split, num_bytes=part.to_parquet(unfinished / file), num_examples=len(part))
            files[split] = file
        if relation_names is not None:
            text = json.dumps(dict(relation_names), ensure_ascii=False, indent=2)
            (unfinished / "rel_info.json").write_text(text + "\n", encoding="utf-8")
        header = _write_header(sizes, files, name, license, language, source)
        download_size = sum((unfinished / file).stat().st_size for file in files.values())
        header["dataset_info"] |= {"download_size": download_size}
        shown = yaml.safe_dump(header, sort_keys=False, allow_unicode=True)
        body = _write_body(splits, folder.name, name, license, source, relation_names)
        (unfinished / "README.md").write_text(f"---\n{shown}---\n\n{body}", encoding="utf-8")
        if folder.exists():
            folder.rmdir()
        unfinished.replace(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def _check_splits(splits: Mapping[str, Dataset]) -> None:
    if not splits:
        raise ValueError("There is no split: pass a Dataset, or a dict of them such as {'train': dataset}.")
    for split, part in splits.items():
        if not isinstance(part, Dataset) or part.features != FEATURES:
            what = f"the features {part.features}" if isinstance(part, Dataset) else f"a {type(part).__name__}"
            raise ValueError(
                f"The split {split!r} has not the schema of documents, but {what}. Make it with `load_docre(path)` or "
                "`to_dataset(documents)`."
            )


def _write_header(
    sizes: Mapping[str, SplitInfo],
    files: Mapping[str, str],
    name: str,
    license: str,
    language: str | Sequence[str],
    source: str | None,
) -> dict[str, Any]:
    total = sum(size.num_examples for size in sizes.values())
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
                "data_files": [{"split": split, "path": file} for split, file in files.items()],
            }
        ],
    }
    splits = SplitDict()
    for size in sizes.values():
        splits.add(size)
    info = DatasetInfo(features=FEATURES, splits=splits, dataset_size=sum(size.num_bytes for size in sizes.values()))
    DatasetInfosDict({"default": info}).to_dataset_card_data(header)
    return header


def _count(part: Dataset) -> dict[str, int]:
    counts = {"documents": 0, "sentences": 0, "entities": 0, "mentions": 0, "facts": 0, "unlabelled documents": 0}
    for row in part:
        counts["documents"] += 1
        counts["sentences"] += len(row["sents"])
        counts["entities"] += len(row["vertexSet"])
        counts["mentions"] += sum(map(len, row["vertexSet"]))
        counts["facts"] += len(row["labels"] or ())
        counts["unlabelled documents"] += row["labels"] is None
    return counts


def _write_body(
    splits: Mapping[str, Dataset],
    folder: str,
    name: str,
    license: str,
    source: str | None,
    relation_names: Mapping[str, str] | None,
) -> str:
    counts = {split: _count(part) for split, part in splits.items()}
    columns = list(next(iter(counts.values())))
    table = [f"| split | {' | '.join(columns)} |", f"| --- |{' ---: |' * len(columns)}"]
    table += [f"| `{split}` | {' | '.join(f'{value:,}' for value in row.values())} |" for split, row in counts.items()]
    parts = [
        f"# {name}",
        "Documents for document-level relation extraction: text as words, entities with all their mentions, and the "
        "relations that\nhold between the entities.",
        "" if source is None else f"Source: {source}",
        f"Licence: `{license}`",
        "## Content",
        "\n".join(table),
        _COLUMNS.strip(),
        "" if relation_names is None else "`rel_info.json` has the words for each relation id.",
        "## Use",
        "```python\nfrom datasets import load_dataset\n\n"
        f'dataset = load_dataset("{folder}", split="{next(iter(splits))}")\n```',
        "Rows are what `modeling_docre` trains on: pass the dataset to `DocRETrainer`, or a row to "
        '`pipeline("docre")`.',
    ]
    return "\n\n".join(part for part in parts if part) + "\n"
