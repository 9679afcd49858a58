"""Files that are written as a whole or not at all, and the error that names what is wrong with a file."""

from __future__ import annotations

import errno
import gzip
import io
import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TextIO, cast

# Errors that only writing gives.
_NO_ROOM = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)


class DataFileError(ValueError):
    """A file that cannot be read or written as what it should be; the message names file, place and remedy."""


def write_list(rows: Iterable[Any], stream: TextIO) -> int:
    """Write a JSON list with a row on each line, as the rows come; return how many there were."""
    number = 0
    for number, row in enumerate(rows, 1):
        stream.write(("[\n" if number == 1 else ",\n") + json.dumps(row, ensure_ascii=False))
    stream.write("\n]\n" if number else "[]\n")
    return number


def write_lines(rows: Iterable[Any], stream: TextIO) -> int:
    """Write JSON Lines, as the rows come; return how many there were."""
    written = (stream.write(json.dumps(row, ensure_ascii=False) + "\n") for row in rows)
    return sum(1 for _ in written)


@contextmanager
def open_output(path: str | os.PathLike[str] | None) -> Iterator[TextIO]:
    """Open a file to write as a whole or not at all; `None` or `-` is the standard output.

    Args:
        path (`str` or `os.PathLike`, *optional*):
            The file, gzipped where it ends in `.gz`. What is no file, as [`output_file`] says, is written to as it
            goes.

    Yields:
        `TextIO`: The stream. The file appears under its name when the `with` block is left without an error.

    Raises:
        DataFileError: when the file cannot be made, or there is no room for it.
    """
    if path is None or str(path) == "-":
        yield sys.stdout
        return
    file = output_file(path)
    target = Path(path) if file is None else file
    unfinished = target if file is None else target.with_name(f".{target.name}.partial")
    created = _create(unfinished, target)
    try:
        with _as_text(created, gzipped=target.suffix.lower() == ".gz") as stream:
            yield stream
        if file is not None:
            _write_through(unfinished)
            unfinished.replace(target)
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        raise DataFileError(f"{target} cannot be written ({error.strerror}).") from None
    finally:
        if file is not None:
            unfinished.unlink(missing_ok=True)


def output_file(path: str | os.PathLike[str] | None) -> Path | None:
    """Return the file that a name of an output means, which may not exist yet.

    Args:
        path (`str` or `os.PathLike`, *optional*): As for [`open_output`].

    Returns:
        `pathlib.Path`, *optional*: The file, behind symbolic links; `None` for what cannot be replaced by a file: the
        standard output, a pipe, a device.
    """
    # Names in /dev may lead to files that a shell has opened: those are the shell's.
    if path is None or str(path) == "-" or os.path.abspath(path).startswith("/dev/"):
        return None
    target = Path(os.path.realpath(path)) if os.path.islink(path) else Path(path)
    return None if target.exists() and not target.is_file() and not target.is_dir() else target


def redirected_output() -> list[str]:
    """Find the file that the standard output goes to: in a folder that is read, it would feed on itself."""
    path = os.path.realpath("/dev/stdout")
    return [path] if os.path.isfile(path) else []


def _write_through(path: Path) -> None:
    """Let the disk have a file before something else relies on its being there."""
    with open(path, "rb") as stream:
        os.fsync(stream.fileno())


@contextmanager
def _as_text(file: BinaryIO, *, gzipped: bool) -> Iterator[TextIO]:
    with file, ExitStack() as stack:
        if gzipped:
            # Without name and time in it, the same text is the same bytes.
            packed = gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0)
            file = cast(BinaryIO, stack.enter_context(packed))
        yield stack.enter_context(io.TextIOWrapper(file, encoding="utf-8"))


def _create(unfinished: Path, target: Path) -> BinaryIO:
    try:
        if target.is_dir():
            raise IsADirectoryError(0, "it is a folder")
        # What a shell has opened to append to keeps what is in there.
        return open(unfinished, "ab" if unfinished == target else "wb")
    except OSError as error:
        missing = "" if target.parent.is_dir() else f": there is no folder {target.parent}"
        raise DataFileError(f"{target} cannot be written ({error.strerror}{missing}).") from None


def lock_file(stream: BinaryIO, name: Path) -> None:
    """Take a file for this process alone; the system frees it when the process ends, however it ends.

    Args:
        stream (`BinaryIO`): The file, open.
        name (`pathlib.Path`): What to call it.

    Raises:
        DataFileError: when another process has it.
    """
    try:
        import fcntl
    except ImportError:  # not a Unix: two runs for one output are then not noticed
        return
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise DataFileError(
            f"{name} is being written by another process: wait until that run ends, or end it first."
        ) from None
    except OSError:  # disks of some clusters have no locks
        pass


__all__ = [
    "DataFileError",
    "lock_file",
    "open_output",
    "output_file",
    "redirected_output",
    "write_lines",
    "write_list",
]
