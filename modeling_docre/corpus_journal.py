"""The journal beside a part of a run over a corpus: which chunks are done, and where their answers are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .output_files import DataFileError

JOURNAL = ".journal"


def journal_of(part: Path) -> Path:
    """Return the file that says what is done of a part."""
    return part.with_name(part.name + JOURNAL)


def read_journal(part: Path) -> Iterator[tuple[dict[str, Any], int]]:
    """Read which chunks are done, up to the first line that a killed process or a failing disk has left in pieces.

    Args:
        part (`pathlib.Path`): The file of the answers.

    Yields:
        `tuple[dict[str, Any], int]`: What was written of a chunk, and the byte of the journal where that ends.

    Raises:
        DataFileError: when a line is none that a run has written.
    """
    journal = journal_of(part)
    if not journal.is_file():
        return
    size = part.stat().st_size
    read = 0
    with open(journal, "rb") as lines:
        for number, line in enumerate(lines, 1):
            entry = _parse(line)
            if entry is not None and not _is_entry(entry):
                found = line[:60].decode(errors="replace").strip()
                raise DataFileError(
                    f"{journal}, line {number}: {found!r} is not what a run writes there. Remove {part.parent} to "
                    "begin anew."
                )
            if entry is None or entry["end"] > size:
                return
            read += len(line)
            yield entry, read


def _parse(line: bytes) -> Any:
    """Read a line; `None` for a piece of one."""
    if not line.endswith(b"\n"):
        return None
    try:
        return json.loads(line)
    except ValueError:
        return None


def _is_entry(entry: Any) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get("counts"), dict):
        return False
    counts = entry["counts"]
    numbers = [*(entry.get(name) for name in ("chunk", "start", "end", "read")), counts.get("documents")]
    numbers += counts.values()
    # What an array of numbers can hold.
    return all(type(number) is int and 0 <= number < 1 << 63 for number in numbers) and entry["start"] <= entry["end"]


__all__ = ["JOURNAL", "journal_of", "read_journal"]
