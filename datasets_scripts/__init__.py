"""Readers of the published DocRE files, and what writes them as dataset repositories for the Hub."""

from __future__ import annotations

try:
    from .conversion import convert, relation_words
    from .dataset_repo import write_dataset_repo
    from .docred import load_docre, reading_report, to_dataset
    from .regimes_by_title import load_regime
    from .reported_sizes import compare_counts
    from .rows import FEATURES
    from .sources import open_splits
    from .splitting import SplitReport, split_source
except ModuleNotFoundError as error:
    # Whichever is missed first: both come with the extra.
    if error.name not in ("datasets", "pyarrow"):
        raise
    raise ImportError("Reading data sets needs `datasets`: pip install 'modeling-docre[data]'") from error

__all__ = [
    "FEATURES",
    "SplitReport",
    "compare_counts",
    "convert",
    "load_docre",
    "load_regime",
    "open_splits",
    "reading_report",
    "relation_words",
    "split_source",
    "to_dataset",
    "write_dataset_repo",
]
