"""DocRED and Re-DocRED, and whatever has their form, as one `datasets.Dataset` schema."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import datasets
from datasets import Dataset, DatasetDict
from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError

from modeling_docre.data_files import file_kind
from modeling_docre.documents import Document, DocumentError
from modeling_docre.output_files import open_output

from .rows import FEATURES, DocumentSource, FileSource, Rows, TableSource, list_counts

logger = logging.getLogger(__name__)

# The authors' names, and those that one would give a file of one's own.
SPLITS = {
    "train_annotated": "train",
    "train_revised": "train",
    "train": "train",
    "train_distant": "train_distant",
    "dev": "validation",
    "dev_revised": "validation",
    "validation": "validation",
    "test": "test",
    "test_revised": "test",
}

_REPORT = "docre-report.json"
_SUFFIXES = ("json", "jsonl", "json.gz", "jsonl.gz")


def load_docre(
    path_or_id: str | os.PathLike[str],
    split: str | None = None,
    *,
    strict: bool = True,
    cache_dir: str | os.PathLike[str] | None = None,
) -> Dataset | DatasetDict:
    """
    Load documents in DocRED's form, checked, repaired, and in one schema ([`FEATURES`]).

    Columns: `title`, `sents`, `vertexSet`, `labels`, which is `None` for an unlabelled document, and `pairs`, which is
    `None` for a document whose candidate pairs are all pairs. What reading
    repaired or skipped is logged once per split, by cause, and [`reading_report`] returns it. Other keys of the
    files (such as Re-DocRED's `global_pos` and `index`) are left out. Read once, a file comes from the cache until it
    changes.

    Args:
        path_or_id (`str` or `os.PathLike`):
            - a file: a JSON list of documents, or JSON Lines, also with `.gz`. Documents in text form (`text` and
              `entities`, as [`Document.to_dict`] writes them) are taken too, and become words;
            - a folder with the authors' files: `train_annotated.json` -> `train`, `train_distant.json` ->
              `train_distant`, `dev.json` -> `validation`, `test.json` -> `test`; `train_revised.json`,
              `dev_revised.json` and `test_revised.json` likewise; or `train.json` and `validation.json`;
            - a folder or Hub id of a dataset repository, such as [`write_dataset_repo`] writes.
        split (`str`, *optional*):
            The split to load; all of them if not given. For a file it is the split's name, by default the one of
            the list above, else `train`.
        strict (`bool`, *optional*, defaults to `True`):
            Whether nonsense, such as a mention outside its sentence, is an error. If `False` it is skipped and
            counted, together with documents that cannot be read at all. Entities that lose all their mentions stay,
            with none.
        cache_dir (`str` or `os.PathLike`, *optional*): As for `datasets.load_dataset`.

    Returns:
        `Dataset` or `DatasetDict`: A `Dataset` for a file or with `split`, else a `DatasetDict`.

    Raises:
        FileNotFoundError: If there is no such file, folder or repository.
        ConnectionError: If the Hub cannot be reached.
        DocumentError: If a file isn't JSON, holds something else than documents, or, if `strict`, holds nonsense.
        ValueError: If there is no such split, or two files of a folder are the same split.

    Example:
    ```python
    >>> from modeling_docre.datasets_scripts import load_docre

    >>> data = load_docre("Re-DocRED/data")  # doctest: +SKIP
    >>> data["validation"].num_rows  # doctest: +SKIP
    500
    ```
    """
    path = Path(path_or_id).expanduser()
    cache = None if cache_dir is None else str(cache_dir)
    if path.is_file():
        return _build(Rows(FileSource.of(path), strict), split or split_name(path), cache)
    if not path.is_dir():
        return _load_repo(str(path_or_id), split, strict, cache)
    if any(path.glob("*.parquet")) or any(path.glob("*/*.parquet")):
        return _load_repo(str(path), split, strict, cache)
    files = find_splits(path)
    if split is not None:
        if split not in files:
            raise ValueError(f"{path} has no split {split!r}, but {', '.join(map(repr, files))}: pass one of these.")
        return _build(Rows(FileSource.of(files[split]), strict), split, cache)
    return DatasetDict({name: _build(Rows(FileSource.of(file), strict), name, cache) for name, file in files.items()})


def split_name(path: Path) -> str:
    """Return the split that a file is by its name; `"train"` where that says nothing."""
    return SPLITS.get(_stem(path), "train")


def find_splits(folder: Path) -> dict[str, Path]:
    """
    Find the files of a data set that lie in a folder under the authors' names.

    Args:
        folder (`Path`): The folder.

    Returns:
        `dict[str, Path]`: The file of every split.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If two files are the same split.
    """
    found: dict[str, Path] = {}
    files = [path for path in sorted(folder.iterdir()) if _is_split(path)]
    for path in sorted(files, key=lambda path: list(SPLITS).index(_stem(path))):
        split = SPLITS[_stem(path)]
        if split in found:
            raise ValueError(
                f"{folder}: {found[split].name} and {path.name} are both the split {split!r}. Move one of them to "
                "another folder, or pass the path of the file that you want."
            )
        found[split] = path
    if not found:
        names = sorted(path.name for path in folder.iterdir())
        shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "") if names else "nothing"
        raise FileNotFoundError(
            f"{folder} holds {shown}: no Parquet files, and none of {', '.join(f'{stem}.json' for stem in SPLITS)} "
            "(.jsonl and .gz will do too). Rename the files, or pass the path of one."
        )
    others = [path.name for path in sorted(folder.iterdir()) if _is_other(path)]
    if others:
        logger.warning("%s: left out %s; the names of splits are %s.", folder, ", ".join(others), ", ".join(SPLITS))
    return found


def to_dataset(documents: Iterable[Document]) -> Dataset:
    """
    Put documents into the schema of [`load_docre`], in memory. `read_documents(dataset)` is the way back.

    Args:
        documents (iterable of `Document`): The documents; the text of each becomes its words joined by spaces.

    What the schema has no column for (names and types of entities that none of their mentions has, scores) is left
    out, logged and counted in the [`reading_report`].

    Returns:
        `Dataset`: One row per document.

    Raises:
        DocumentError: If there is no document.
    """
    rows = Rows(DocumentSource(documents), strict=True)
    dataset = Dataset.from_list(list(rows()), features=FEATURES)
    _log_repairs(rows.source.name, rows.report)
    return _describe(dataset, rows.report)


def reading_report(dataset: Dataset) -> dict[str, Any]:
    """
    Say what was read, repaired and skipped when a dataset was loaded; later filters do not change it.

    Args:
        dataset (`Dataset`): What [`load_docre`] or [`to_dataset`] returned.

    Returns:
        `dict`: `documents`, `unlabelled` (documents without labels), `facts`, and `repairs`: count by cause.

    Raises:
        ValueError: If the dataset was loaded in another way.
    """
    try:
        report = json.loads(dataset.info.description)
    except (json.JSONDecodeError, TypeError):
        report = None
    if not isinstance(report, dict) or "repairs" not in report:
        raise ValueError("This dataset carries no report of its reading. Load it with `load_docre(...)`.")
    return report


def _build(rows: Rows, split: str, cache_dir: str | None) -> Dataset:
    """Read rows into the cache of `datasets`, or take them from there."""
    try:
        dataset = Dataset.from_generator(
            rows, features=FEATURES, cache_dir=cache_dir, split=datasets.NamedSplit(split)
        )
    except DatasetGenerationError as error:
        if isinstance(error.__cause__, DocumentError):
            raise error.__cause__ from None
        raise
    path = Path(dataset.cache_files[0]["filename"]).with_name(_REPORT)
    if not rows.report and path.exists():
        rows.report = json.loads(path.read_text(encoding="utf-8"))
    elif not rows.report:
        for _ in rows():  # interrupted before it was written: count again
            pass
    if not path.exists():
        with open_output(path) as stream:
            json.dump(rows.report, stream)
    _log_repairs(f"{rows.source.name}, split {split}", rows.report)
    return _describe(dataset, rows.report)


def _log_repairs(where: str, report: dict[str, Any]) -> None:
    if report["repairs"]:
        logger.warning("%s: repaired or noticed %s.", where, list_counts(report["repairs"]))


def _describe(dataset: Dataset, report: dict[str, Any]) -> Dataset:
    dataset.info.description = json.dumps(report)
    return dataset


def _stem(path: Path) -> str:
    return path.name.split(".", 1)[0]


def _is_split(path: Path) -> bool:
    stem, _, suffix = path.name.partition(".")
    return stem in SPLITS and suffix in _SUFFIXES and path.is_file()


def _is_other(path: Path) -> bool:
    stem, _, suffix = path.name.partition(".")
    return stem not in SPLITS and not stem.startswith("rel") and suffix in _SUFFIXES


def _load_repo(name: str, split: str | None, strict: bool, cache_dir: str | None) -> Dataset | DatasetDict:
    _refuse_missing_path(name)
    try:
        loaded = datasets.load_dataset(name, split=split, cache_dir=cache_dir)
    except DatasetNotFoundError as error:
        raise FileNotFoundError(
            f"{name!r} is no file or folder in {Path.cwd()}, and no data set on the Hub: {error}"
        ) from None
    except ConnectionError as error:
        raise ConnectionError(
            f"{name!r} is no file or folder in {Path.cwd()}, and the Hub cannot be asked for it: {error}. Pass the "
            "path of the downloaded files, or try again with a network and without HF_HUB_OFFLINE."
        ) from None
    except RuntimeError as error:
        if "scripts are no longer supported" not in str(error):
            raise
        raise ValueError(
            f"{name!r} holds a loading script instead of data, which `datasets` no longer runs. Download the JSON "
            "files and pass their folder."
        ) from None
    parts = loaded if isinstance(loaded, DatasetDict) else DatasetDict({split or "train": loaded})
    for part in parts.values():
        if "sents" not in part.column_names or "vertexSet" not in part.column_names:
            raise DocumentError(
                f"{name}: the columns are {part.column_names}; documents have `title`, `sents`, `vertexSet` and, "
                "where labelled, `labels`. Load it with `datasets`, rename the columns, and write it with "
                "`dataset.to_json(path)`."
            )
    if split is not None:
        part = parts[split]
        return _build(Rows(TableSource(name, part), strict), str(part.split or "train").split("[")[0], cache_dir)
    return DatasetDict(
        {key: _build(Rows(TableSource(name, part), strict), key, cache_dir) for key, part in parts.items()}
    )


def _refuse_missing_path(name: str) -> None:
    """A Hub id is `name` or `organisation/name`; everything else was meant to be a path."""
    path = Path(name).expanduser()
    if path.exists():
        return
    if (
        path.is_absolute()
        or name.startswith((".", "~"))
        or name.count("/") > 1
        or file_kind(path) in (".json", ".jsonl")
    ):
        raise FileNotFoundError(f"There is no file or folder {str(path)!r} in {Path.cwd()}: check the path.")
