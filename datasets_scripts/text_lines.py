"""Files as bytes and as numbered lines, gzipped or not; what is wrong with one is said with its name."""

from __future__ import annotations

import codecs
import gzip
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from modeling_docre.documents import DocumentError

Block = list[tuple[int, bytes]]


@contextmanager
def open_bytes(path: Path) -> Iterator[BinaryIO]:
    """
    Open a file without what gzip did to it, and word what goes wrong while it is read.

    Args:
        path (`Path`): The file; gzip where its name ends in `.gz`.

    Yields:
        `BinaryIO`: Its bytes.

    Raises:
        DocumentError: If it is a broken gzip file, or not UTF-8 where the caller decodes it.
    """
    try:
        with (gzip.open if path.name.lower().endswith(".gz") else open)(path, "rb") as stream:
            yield cast(BinaryIO, stream)
    except UnicodeDecodeError as error:
        raise DocumentError(f"{path}: not a text file in UTF-8 ({error.reason}). Save it as UTF-8.") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DocumentError(f"{path}: broken gzip file ({error}). Fetch it again, or unpack it first.") from None


def iterate_lines(stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """
    Number the lines of a file, from 1, without line ends and without a byte order mark.

    They stay bytes, so that one that is not UTF-8 takes no other with it.
    """
    for number, line in enumerate(stream, start=1):
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        yield number, line.rstrip(b"\r\n")


def iterate_blocks(path: Path, form: str, begins: Callable[[bytes], bool] | None = None) -> Iterator[Block]:
    """
    Read the blocks of a file: lines between empty ones.

    Args:
        path (`Path`): The file; gzip where its name ends in `.gz`.
        form (`str`): What a file has, for the message.
        begins (`Callable`, *optional*): Whether a line begins a block although none is empty before it.

    Yields:
        [`Block`]: The lines with their numbers.

    Raises:
        DocumentError: If there is none.
    """
    block: Block = []
    empty = True
    with open_bytes(path) as stream:
        for number, line in iterate_lines(stream):
            is_blank = not line.strip()
            if block and (is_blank or (begins is not None and begins(line))):
                yield block
                block = []
            if not is_blank:
                block.append((number, line))
                empty = False
    if block:
        yield block
    if empty:
        raise DocumentError(f"{path}: the file is empty. {form}: fetch it again.")


def decode_line(line: bytes, where: str) -> str:
    """
    Decode a line.

    Args:
        line (`bytes`): The line.
        where (`str`): File and line, for the message.

    Raises:
        DocumentError: If it is not UTF-8; the message names the column.
    """
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        column = len(line[: error.start].decode("utf-8")) + 1
        raise DocumentError(
            f"{where}, column {column}: not a text file in UTF-8 ({error.reason}). Save it as UTF-8."
        ) from None


__all__ = ["Block", "decode_line", "iterate_blocks", "iterate_lines", "open_bytes"]
