"""Parquet files of documents, one in each row."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .output_files import DataFileError

# Of a table with more columns, these alone are read.
_COLUMNS = ("title", "text", "sentences", "entities", "relations", "sents", "vertexSet", "labels", "pairs")
# Rows of a table that are in memory at once, and bytes of each of its columns before they are decoded.
_ROWS = 64
_COLUMN_BUFFER = 1 << 20


def table_entries(path: str | os.PathLike[str]) -> Iterator[tuple[str, Any]]:
    """Read the documents of a table, a few at a time.

    Args:
        path (`str` or `os.PathLike`): The file.

    Yields:
        `tuple[str, Any]`: Where a row stands, for messages, and what it holds, without columns that are empty there.

    Raises:
        ModuleNotFoundError: when pyarrow is not installed.
        DataFileError: when it is no Parquet file, broken, or its columns are not those of documents.
    """
    with open_table(path) as table:
        columns = [name for name in _COLUMNS if name in table.schema_arrow.names]
        if not {"text", "sents"} & set(columns):
            raise DataFileError(
                f"{path}: the columns are {', '.join(table.schema_arrow.names[:12])}, where documents have `sents` "
                "and `vertexSet`, or `text` and `entities`. Rename them."
            )
        number = 0
        for batch in table.iter_batches(batch_size=_ROWS, columns=columns, use_threads=False):
            for row in batch.to_pylist():
                yield f"{path}, row {number}", {name: value for name, value in row.items() if value is not None}
                number += 1


@contextmanager
def open_table(path: str | os.PathLike[str]) -> Iterator[Any]:
    """Open a Parquet file.

    Args:
        path (`str` or `os.PathLike`): The file.

    Yields:
        `pyarrow.parquet.ParquetFile`: The open file.

    Raises:
        ModuleNotFoundError: when pyarrow is not installed.
        DataFileError: when it is no Parquet file, or broken, wherever in the `with` block that turns out.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            f"{path}: Parquet files need pyarrow: pip install 'modeling-docre[data]'.", name="pyarrow"
        ) from None
    try:
        # A row group is read piece by piece, not as a whole.
        with pyarrow.parquet.ParquetFile(path, pre_buffer=False, buffer_size=_COLUMN_BUFFER) as table:
            yield table
    except PermissionError:
        raise DataFileError(f"{path}: the file may not be read. Change its permissions.") from None
    except FileNotFoundError:
        raise DataFileError(f"{path}: there is no such file (working directory: {os.getcwd()}).") from None
    except (pyarrow.ArrowException, OSError, EOFError, UnicodeDecodeError) as error:
        raise DataFileError(f"{path}: broken, or no Parquet file ({error}). Fetch or write it again.") from None


__all__ = ["open_table", "table_entries"]
