"""Files that are written as a whole or not at all, and the error that names what is wrong with a file."""

from __future__ import annotations

import gzip
import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO, cast


class DataFileError(ValueError):
    """A file that cannot be read or written as what it should be; the message names file, place and remedy."""


def write_list(rows: Iterable[Any], stream: TextIO) -> None:
    """Write a JSON list with a row on each line, as the rows come."""
    separator = "[\n"
    for row in rows:
        stream.write(separator + json.dumps(row, ensure_ascii=False))
        separator = ",\n"
    stream.write("[]\n" if separator == "[\n" else "\n]\n")


def write_lines(rows: Iterable[Any], stream: TextIO) -> None:
    """Write JSON Lines, as the rows come."""
    for row in rows:
        stream.write(json.dumps(row, ensure_ascii=False) + "\n")


@contextmanager
def open_output(path: str | os.PathLike[str] | None) -> Iterator[TextIO]:
    """Open a file to write as a whole or not at all; `None` or `-` is the standard output.

    Args:
        path (`str` or `os.PathLike`, *optional*): The file, gzipped where it ends in `.gz`.

    Yields:
        `TextIO`: The stream. The file appears under its name when the `with` block is left without an error.

    Raises:
        DataFileError: when the file cannot be made.
    """
    if path is None or str(path) == "-":
        yield sys.stdout
        return
    target = Path(path)
    # What is no file (a pipe, /dev/null) cannot be replaced by one.
    special = target.exists() and not target.is_file() and not target.is_dir()
    unfinished = target if special else target.with_name(f".{target.name}.partial")
    stream = _create(unfinished, target)
    try:
        with stream:
            yield stream
        if not special:
            _write_through(unfinished)
            unfinished.replace(target)
    finally:
        if not special:
            unfinished.unlink(missing_ok=True)


def _write_through(path: Path) -> None:
    """Let the disk have a file before something else relies on its being there."""
    with open(path, "rb") as stream:
        os.fsync(stream.fileno())


def _create(unfinished: Path, target: Path) -> TextIO:
    try:
        if target.is_dir():
            raise IsADirectoryError(0, "it is a folder")
        if target.suffix == ".gz":
            return cast(TextIO, gzip.open(unfinished, "wt", encoding="utf-8"))
        return open(unfinished, "w", encoding="utf-8")
    except OSError as error:
        missing = "" if target.parent.is_dir() else f": there is no folder {target.parent}"
        raise DataFileError(f"{target} cannot be written ({error.strerror}{missing}).") from None


__all__ = ["DataFileError", "open_output", "write_lines", "write_list"]
