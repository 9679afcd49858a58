"""The splits of whatever holds documents, each to be read as a stream, and as often as one likes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet
from datasets import Dataset, Features, load_dataset_builder

from modeling_docre.data_files import check_document_file, file_kind, is_document_file, iter_documents
from modeling_docre.documents import Document, read_documents

from .docred import load_docre, reading_report, refuse_options
from .folders import file_source, folder_sources, is_repository, split_name
from .published_files import FileSource, ReadingOptions
from .reported_sizes import Sizes
from .rows import FEATURES, Rows


@dataclass(frozen=True)
class Split:
    """
    A split of a source.

    Args:
        name (`str`): Where its documents are, for messages.
        documents (`Callable`):
            Reads its documents, from the first one on whenever it is called. With `strict=False` those that cannot be
            read come as [`iter_documents`] gives them: without text, and with the cause among their repairs.
        table (`Rows` or `Dataset`): The same documents in the schema of [`load_docre`].
        repairs (`Mapping[str, int]`, *optional*): What was repaired before `documents` has a chance to count it.
    """

    name: str
    documents: Callable[[], Iterator[Document]]
    table: Rows | Dataset
    repairs: Mapping[str, int] = field(default_factory=dict)

    @property
    def source(self) -> object:
        """Where the rows come from."""
        return self.table.source if isinstance(self.table, Rows) else None

    def report(self) -> dict[str, Any]:
        """Say what was read and repaired, as [`reading_report`] does; of rows, after they were read."""
        return self.table.report if isinstance(self.table, Rows) else reading_report(self.table)

    def sizes(self) -> Sizes:
        """Say how large it is; of rows, after they were read."""
        if isinstance(self.table, Dataset):
            return Sizes.of(self.table)
        return Sizes(self.table.report["documents"], self.table.report["facts"], self.table.relations)


@dataclass(frozen=True)
class _Files:
    """Files that [`iter_documents`] reads, one after the other."""

    name: str
    files: tuple[str, ...]

    def documents(self, strict: bool) -> Iterator[Document]:
        for file in self.files:
            yield from iter_documents(file, strict=strict)

    def entries(self, strict: bool, repairs: Counter[str]) -> Iterator[tuple[str, Any]]:
        """Yield where each document stands, and the document; count what was repaired when it was read."""
        for document in self.documents(strict):
            repairs.update(dict(document.repairs))
            if document.text:
                yield self.name, document


def open_splits(
    source: str | os.PathLike[str],
    split: str | None = None,
    *,
    strict: bool = True,
    format: str | None = None,
    view: str = "char",
    mesh_tree: str | os.PathLike[str] | None = None,
) -> dict[str, Split]:
    """
    Open a source of documents; nothing is in memory as a whole.

    Args:
        source (`str` or `os.PathLike`):
            - a file as [`iter_documents`] takes it: one split, by default the one that its name says;
            - a file in another published form, or a folder with files under the authors' names, see [`load_docre`];
              documents keep their own text;
            - a dataset repository, as a folder or as a Hub id. Of a folder in our own schema the Parquet files are
              read as they stand; others go through [`load_docre`], which keeps them on disk.
        split (`str`, *optional*): The only split to open; for a file, what to call it.
        strict (`bool`, *optional*, defaults to `True`): As for [`load_docre`].
        format (`str`, *optional*): As for [`load_docre`].
        view (`str`, *optional*, defaults to `"char"`): As for [`load_docre`].
        mesh_tree (`str` or `os.PathLike`, *optional*): As for [`load_docre`].

    Returns:
        `dict[str, Split]`: The splits by name.

    Raises:
        FileNotFoundError: If there is no such file, folder or repository.
        ValueError: If there is no such split; otherwise as for [`iter_documents`] and [`load_docre`].
    """
    options = ReadingOptions(format, view, mesh_tree)
    path = Path(source).expanduser()
    if path.is_file():
        return {split or split_name(path): _open_source(file_source(path, options), strict)}
    if is_document_file(path) and not path.is_dir():  # the standard input, or nothing
        check_document_file(path)
        return {split or split_name(path): _open_files([path], strict)}
    files = _find_repository(path, split) if path.is_dir() else None
    if files is not None:
        refuse_options(path, options)
        opened = {name: _open_files(found, strict) for name, found in files.items()}
    elif path.is_dir() and not is_repository(path):
        opened = {name: _open_source(found, strict) for name, found in folder_sources(path, options).items()}
    else:
        return _load(source, split, strict=strict, format=format, view=view, mesh_tree=mesh_tree)
    if split is not None and split not in opened:
        raise ValueError(f"{path} has no split {split!r}, but {', '.join(map(repr, opened))}: pass one of these.")
    return {name: found for name, found in opened.items() if split in (None, name)}


def _load(source: str | os.PathLike[str], split: str | None, **options: Any) -> dict[str, Split]:
    """Open what [`load_docre`] keeps on disk."""
    loaded = load_docre(source, split, **options)
    splits = {str(loaded.split): loaded} if isinstance(loaded, Dataset) else dict(loaded)
    return {
        name: Split(
            f"{source}, split {name}",
            partial(read_documents, dataset),
            dataset,
            reading_report(dataset)["repairs"],
        )
        for name, dataset in splits.items()
    }


def _open_source(source: FileSource, strict: bool) -> Split:
    rows = Rows(source, strict)
    path = Path(source.name)
    if source.form == "docred" and is_document_file(path):
        return _open_files([path], strict, rows)
    return Split(source.name, rows.documents, rows)


def _open_files(files: list[Path], strict: bool, rows: Rows | None = None) -> Split:
    source = _Files(str(files[0] if len(files) == 1 else files[0].parent), tuple(map(str, files)))
    # Of JSON, the reader of published files says better what is no document.
    is_json = rows is not None and file_kind(files[0]) in (".json", ".jsonl")
    return Split(source.name, partial(source.documents, strict), rows if is_json else Rows(source, strict))


def _find_repository(folder: Path, split: str | None) -> dict[str, list[Path]] | None:
    """Find the files of each split of a dataset repository that can be read as they stand; `None` where none can."""
    if not is_repository(folder) or (split is not None and "[" in split):
        return None
    found = load_dataset_builder(str(folder)).config.data_files or {}
    files = {str(name): [Path(file) for file in names] for name, names in found.items()}
    return files if files and all(map(_has_our_schema, files.values())) else None


def _has_our_schema(files: list[Path]) -> bool:
    if any(file_kind(file) != ".parquet" for file in files):
        return False
    features = Features.from_arrow_schema(pyarrow.parquet.read_schema(files[0]))
    return all(features.get(column) == FEATURES[column] for column in ("sents", "vertexSet", "labels"))
