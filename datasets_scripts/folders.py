"""Folders of data sets as published: which files are which split."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from pathlib import Path

from .dwie import find_articles, split_articles
from .published_files import FileSource, ReadingOptions, find_form
from .renet import FILES, is_renet

logger = logging.getLogger(__name__)

# The authors' names, and those that one would give a file of one's own.
SPLITS = {
    "train_annotated": "train",
    "train_revised": "train",
    "train_filter": "train",
    "CDR_TrainingSet": "train",
    "train": "train",
    "train_distant": "train_distant",
    "dev": "validation",
    "dev_revised": "validation",
    "dev_filter": "validation",
    "CDR_DevelopmentSet": "validation",
    "validation": "validation",
    "test": "test",
    "test_revised": "test",
    "test_filter": "test",
    "CDR_TestSet": "test",
}

_SUFFIXES = ("json", "jsonl", "data", "pubtator", "pubtator.txt")
_TRAINING, _TESTING = "training_data", "testing_data"


def file_stem(path: Path) -> str:
    """Return the name of a file up to its first dot."""
    return path.name.split(".", 1)[0]


def split_name(path: Path) -> str:
    """Return the split that a file is by its name; `"train"` where that says nothing."""
    return SPLITS.get(file_stem(path), "train")


def is_repository(folder: Path) -> bool:
    """Whether a folder is a dataset repository: whether it holds Parquet files."""
    return any(folder.glob("*.parquet")) or any(folder.glob("*/*.parquet"))


def file_source(path: Path, options: ReadingOptions) -> FileSource:
    """
    Name a file, in the form that it has or is said to have.

    Raises:
        ValueError: If it is one of the files of RENET, which are read together.
    """
    if options.format in (None, "renet") and path.name in FILES and is_renet(path.parent):
        raise ValueError(f"{path} is one of three files that belong together ({', '.join(FILES)}): pass the folder.")
    if options.format == "renet":
        raise ValueError(f"{path} is a file; the form 'renet' is a folder of {', '.join(FILES)}: pass that.")
    return FileSource.of(path, [path], options.format or find_form(path), options)


def folder_sources(folder: Path, options: ReadingOptions) -> dict[str, FileSource]:
    """
    Find the splits of a data set in a folder.

    Args:
        folder (`Path`): The folder.
        options ([`ReadingOptions`]): How to read the files.

    Returns:
        `dict[str, FileSource]`: The files of every split.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If two files are the same split.
    """
    folder = Path(os.path.abspath(folder))
    if options.format in (None, "renet"):
        found = _find_renet(folder, options)
        if found:
            return found
        if options.format == "renet":
            raise FileNotFoundError(
                f"{folder} holds neither {', '.join(FILES)} nor folders {_TRAINING} and {_TESTING} with these."
            )
    is_named = any(map(_is_split, folder.iterdir()))
    if options.format == "dwie" or (options.format is None and not is_named):
        files = find_articles(folder, any_name=options.format == "dwie")
        if files:
            splits = split_articles(files).items()
            return {split: FileSource.of(folder, paths, "dwie", options) for split, paths in splits}
    return {split: file_source(path, options) for split, path in find_splits(folder).items()}


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
    for path in sorted(files, key=lambda path: list(SPLITS).index(file_stem(path))):
        split = SPLITS[file_stem(path)]
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
            f"{folder} holds {shown}: no Parquet files, no DW_*.json, not {', '.join(FILES)}, and none of "
            f"{', '.join(f'{stem}.json' for stem in SPLITS)} (.jsonl, .data, .PubTator.txt and .gz will do too). "
            "Rename the files, or pass the path of one."
        )
    others = [path.name for path in sorted(folder.iterdir()) if _is_other(path)]
    if others:
        logger.warning("%s: left out %s; the names of splits are %s.", folder, ", ".join(others), ", ".join(SPLITS))
    return found


def _find_renet(folder: Path, options: ReadingOptions) -> dict[str, FileSource]:
    roots = [folder] if is_renet(folder) else [folder / name for name in (_TRAINING, _TESTING)]
    found: dict[str, FileSource] = {}
    for root in filter(is_renet, roots):
        source = FileSource.of(root, [root / name for name in FILES], "renet", options)
        if root.name == _TRAINING:
            found |= {part: replace(source, part=part) for part in ("train", "validation")}
        else:
            found["test" if root.name == _TESTING else "train"] = source
    return found


def _has_suffix(path: Path) -> bool:
    return path.name.partition(".")[2].lower().removesuffix(".gz") in _SUFFIXES


def _is_split(path: Path) -> bool:
    return file_stem(path) in SPLITS and _has_suffix(path) and path.is_file()


def _is_other(path: Path) -> bool:
    return file_stem(path) not in SPLITS and not path.name.startswith("rel") and _has_suffix(path)


__all__ = ["SPLITS", "file_source", "file_stem", "find_splits", "folder_sources", "is_repository", "split_name"]
