"""What the commands of `docre` share."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any


def add_command(commands: Any, name: str, summary: str, example: str) -> argparse.ArgumentParser:
    """Add a command, with what it does and an example."""
    return commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


@contextmanager
def without_progress_bar() -> Iterator[None]:
    """Leave out that of loading weights, which takes no time."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def split_relations(values: list[str] | None, config: Any) -> list[str] | None:
    """Split at commas, but for words that hold one: "languages spoken, written or signed"."""
    from .names import fold_name

    if values is None:
        return None
    known = {fold_name(name) for name in (*config.relations, *config.relation_names.values())}
    names = [name.strip() for value in values for name in ([value] if fold_name(value) in known else value.split(","))]
    if not all(names):
        raise ValueError("--relations names nothing: pass ids or words, such as --relations P17,P131.")
    return names


def print_table(rows: Sequence[tuple[str, ...]]) -> None:
    """Print rows in columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def print_counts(counts: Mapping[str, Any], start: str = "") -> None:
    """Say on the standard error what was done, repaired and left out."""
    said = [
        f"{cause}: {count}"
        for cause, count in counts.items()
        if isinstance(count, int) and (count or cause in ("documents", "relations", "facts used"))
    ]
    print(start + ", ".join(said), file=sys.stderr)


__all__ = ["add_command", "print_counts", "print_table", "split_relations", "without_progress_bar"]
