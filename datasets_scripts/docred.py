"""Documents in any published form, as one `datasets.Dataset` schema."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import datasets
from datasets import Dataset, DatasetDict
from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError

from modeling_docre.data_files import file_kind
from modeling_docre.documents import Document, DocumentError
from modeling_docre.output_files import open_output

from .folders import file_source, folder_sources, is_repository, split_name
from .published_files import FileSource, ReadingOptions
from .reported_sizes import Sizes, compare_counts, known_data_set
from .rows import FEATURES, DocumentSource, Rows, TableSource, find_report, list_counts

logger = logging.getLogger(__name__)

_REPORT = "docre-report.json"


def load_docre(
    path_or_id: str | os.PathLike[str],
    split: str | None = None,
    *,
    strict: bool = True,
    cache_dir: str | os.PathLike[str] | None = None,
    format: str | None = None,
    view: str = "char",
    mesh_tree: str | os.PathLike[str] | None = None,
) -> Dataset | DatasetDict:
    """
    Load documents in DocRED's form, or in that of another published data set, checked, repaired, and in one schema
    ([`FEATURES`]).

    Columns: `title`, `sents`, `vertexSet`, `labels`, which is `None` for an unlabelled document, and `pairs`, which is
    `None` for a document whose candidate pairs are all pairs. What reading
    repaired or skipped is logged once per split, by cause, and [`reading_report`] returns it. Other keys of the
    files (such as Re-DocRED's `global_pos` and `index`) are left out. Read once, a file comes from the cache until it
    changes. Where a folder is a published data set, sizes that differ from the papers' are logged; see
    [`compare_counts`].

    Args:
        path_or_id (`str` or `os.PathLike`):
            - a file: a JSON list of documents, or JSON Lines, also with `.gz`. Documents in text form (`text` and
              `entities`, as [`Document.to_dict`] writes them) are taken too, and become words;
            - a folder with the authors' files: `train_annotated.json` -> `train`, `train_distant.json` ->
              `train_distant`, `dev.json` -> `validation`, `test.json` -> `test`; `train_revised.json`,
              `dev_revised.json` and `test_revised.json` likewise; or `train.json` and `validation.json`;
            - a file of HacRED (JSON Lines with `sents_char`, ...), of DWIE (an article as JSON), in PubTator, or a
              table `*.data` of the edge-oriented-graph project;
            - a folder of such files under the authors' names (`CDR_TrainingSet.PubTator.txt`, `train_filter.data`);
              of DWIE's `DW_*.json`; of RENET's `abstracts.txt`, `anns.txt` and `labels.csv`, or with `training_data`
              and `testing_data`, which hold these;
            - a folder or Hub id of a dataset repository, such as [`write_dataset_repo`] writes.
        split (`str`, *optional*):
            The split to load; all of them if not given. For a file it is the split's name, by default the one of
            the list above, else `train`.
        strict (`bool`, *optional*, defaults to `True`):
            Whether nonsense, such as a mention outside its sentence, is an error. If `False` it is skipped and
            counted, together with documents that cannot be read at all. Entities that lose all their mentions stay,
            with none.
        cache_dir (`str` or `os.PathLike`, *optional*): As for `datasets.load_dataset`.
        format (`str`, *optional*):
            The form of the files, where it cannot be told by content and name: `"docred"`, `"hacred"`, `"dwie"`,
            `"pubtator"`, `"edge-oriented"` or `"renet"`.
        view (`str`, *optional*, defaults to `"char"`): Which view of HacRED's to read, `"char"` or `"word"`.
        mesh_tree (`str` or `os.PathLike`, *optional*):
            For CDR and GDA, where the concepts of MeSH hang in its tree: the descriptors as `d2017.bin`, or a table
            with tabs. With it, negative candidate pairs whose disease is an ancestor of that of a fact with the same
            chemical or gene are left out, and counted.

    Returns:
        `Dataset` or `DatasetDict`: A `Dataset` for a file or with `split`, else a `DatasetDict`.

    Raises:
        FileNotFoundError: If there is no such file, folder or repository, or no file of documents in a folder.
        ConnectionError: If the Hub cannot be reached.
        DocumentError: If a file isn't JSON, holds something else than documents, or, if `strict`, holds nonsense.
        ValueError: If there is no such split, format or view, two files of a folder are the same split, or an option
            is given that the form has no use for.

    Example:
    ```python
    >>> from modeling_docre.datasets_scripts import load_docre

    >>> data = load_docre("Re-DocRED/data")  # doctest: +SKIP
    >>> data["validation"].num_rows  # doctest: +SKIP
    500
    ```
    """
    options = ReadingOptions(format, view, mesh_tree)
    path = Path(path_or_id).expanduser()
    cache = None if cache_dir is None else str(cache_dir)
    sources = find_sources(path_or_id, split, options, cache)
    if path.is_file() or split is not None:
        ((name, source),) = sources.items()
        return build(Rows(source, strict), name, cache)
    data = DatasetDict({name: build(Rows(source, strict), name, cache) for name, source in sources.items()})
    log_sizes(path, sources, {name: Sizes.of(part) for name, part in data.items()})
    return data


def find_sources(
    path_or_id: str | os.PathLike[str], split: str | None, options: ReadingOptions, cache_dir: str | None
) -> dict[str, FileSource | TableSource]:
    """
    Find where the documents of each split come from; arguments are as for [`load_docre`].

    Returns:
        `dict[str, FileSource | TableSource]`: The source of every split, or of the one that is asked for.
    """
    path = Path(path_or_id).expanduser()
    if path.is_file():
        return {split or split_name(path): file_source(path, options)}
    is_repo = path.is_dir() and is_repository(path)
    if is_repo or not path.is_dir():
        _refuse_missing_path(str(path_or_id))
        refuse_options(path_or_id, options)
        return _find_repo(str(path if is_repo else path_or_id), split, cache_dir)
    found = folder_sources(path, options)
    if split is None:
        return dict(found)
    if split not in found:
        raise ValueError(f"{path} has no split {split!r}, but {', '.join(map(repr, found))}: pass one of these.")
    return {split: found[split]}


def refuse_options(repository: str | os.PathLike[str], options: ReadingOptions) -> None:
    """Refuse options of published files for a dataset repository."""
    if options not in (ReadingOptions(), ReadingOptions("docred")):
        raise ValueError(
            f"{repository} is a dataset repository; `format`, `view` and `mesh_tree` are for published files: leave "
            "them out."
        )


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
    return _describe(dataset, rows)


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
    report = find_report(dataset)
    if report is None:
        raise ValueError("This dataset carries no report of its reading. Load it with `load_docre(...)`.")
    return {key: value for key, value in report.items() if key != "digest"}


def build(rows: Rows, split: str, cache_dir: str | None) -> Dataset:
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
        rows.digest = rows.report.pop("digest")
    elif not rows.report:
        for _ in rows():  # interrupted before it was written: count again
            pass
    if not path.exists():
        with open_output(path) as stream:
            json.dump({**rows.report, "digest": rows.digest}, stream)
    _log_repairs(f"{rows.source.name}, split {split}", rows.report)
    return _describe(dataset, rows)


def log_sizes(path: Path, sources: Mapping[str, object], sizes: Mapping[str, Sizes]) -> None:
    """Say where the splits of a published data set have other sizes than the papers report."""
    files = {split: source for split, source in sources.items() if isinstance(source, FileSource)}
    name = known_data_set(files, sizes)
    differences = {} if name is None else compare_counts(sizes, name)
    if differences:
        shown = ", ".join(f"{what}: {found:,} instead of {size:,}" for what, (found, size) in differences.items())
        logger.warning("%s: the papers report other sizes of %s. %s.", path, name, shown)


def _log_repairs(where: str, report: dict[str, Any]) -> None:
    if report["repairs"]:
        logger.warning("%s: repaired or noticed %s.", where, list_counts(report["repairs"]))


def _describe(dataset: Dataset, rows: Rows) -> Dataset:
    dataset.info.description = json.dumps({**rows.report, "digest": rows.digest})
    return dataset


def _find_repo(name: str, split: str | None, cache_dir: str | None) -> dict[str, FileSource | TableSource]:
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
        return {str(part.split or "train").split("[")[0]: TableSource(name, part)}
    return {key: TableSource(name, part) for key, part in parts.items()}


def _refuse_missing_path(name: str) -> None:
    """A Hub id is `name` or `organisation/name`; everything else was meant to be a path."""
    path = Path(name).expanduser()
    if path.exists():
        return
    if (
        path.is_absolute()
        or name.startswith((".", "~"))
        or name.count("/") > 1
        or file_kind(path) in (".json", ".jsonl", ".data", ".txt")
    ):
        raise FileNotFoundError(f"There is no file or folder {str(path)!r} in {Path.cwd()}: check the path.")
