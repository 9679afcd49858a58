"""The regimes OOG and OGG: DocRED's incomplete labels for training, Re-DocRED's for what is measured."""

from __future__ import annotations

import os

from datasets import Dataset, DatasetDict

from .docred import build, find_sources
from .published_files import FileSource, ReadingOptions
from .rows import Rows, TableSource, TitleSource

REGIMES = ("oog", "ogg")


def load_regime(
    docred: str | os.PathLike[str],
    re_docred: str | os.PathLike[str],
    regime: str,
    *,
    strict: bool = True,
    cache_dir: str | os.PathLike[str] | None = None,
) -> DatasetDict:
    """
    Load one of the regimes in which PEMSCL's paper measures what incomplete labels do: the letters say whose labels
    train, validation and test have, DocRED's original ones or Re-DocRED's, which count as gold.

    Train is DocRED's; test is Re-DocRED's; validation are the documents of Re-DocRED's development split, found in
    DocRED's by title, with DocRED's labels (`"oog"`), or with their own (`"ogg"`).

    Args:
        docred (`str` or `os.PathLike`): Folder or Hub id of DocRED, with `train_annotated.json` and `dev.json`.
        re_docred (`str` or `os.PathLike`): Folder or Hub id of Re-DocRED, with `dev_revised.json` and
            `test_revised.json`.
        regime (`str`): `"oog"` or `"ogg"`.
        strict (`bool`, *optional*, defaults to `True`): As for [`load_docre`].
        cache_dir (`str` or `os.PathLike`, *optional*): As for [`load_docre`].

    Returns:
        `DatasetDict`: `train`, `validation` and `test`. The [`reading_report`] of the validation split counts titles
        that DocRED's development split lacks.

    Raises:
        ValueError: If there is no such regime, or a split is missing; otherwise as for [`load_docre`].

    Example:
    ```python
    >>> from modeling_docre.datasets_scripts import load_regime

    >>> data = load_regime("DocRED/data", "Re-DocRED/data", "oog")  # doctest: +SKIP
    ```
    """
    if regime not in REGIMES:
        raise ValueError(f"`regime` is {regime!r}: pass one of {', '.join(map(repr, REGIMES))}.")
    cache = None if cache_dir is None else str(cache_dir)
    original, gold = (find_sources(path, None, ReadingOptions(), cache) for path in (docred, re_docred))
    needed = [(docred, original, "train"), (re_docred, gold, "validation"), (re_docred, gold, "test")]
    if regime == "oog":
        needed.append((docred, original, "validation"))
    for path, sources, split in needed:
        if split not in sources:
            raise ValueError(f"{path} has no split {split!r}, but {', '.join(map(repr, sources))}: {regime} needs it.")

    def load(source: FileSource | TableSource, split: str) -> Dataset:
        return build(Rows(source, strict), split, cache)

    validation = load(gold["validation"], "validation")
    if regime == "oog":
        titles = tuple(dict.fromkeys(validation["title"]))
        validation = build(Rows(TitleSource(original["validation"], titles), strict), "validation", cache)
    return DatasetDict(
        {
            "train": load(original["train"], "train"),
            "validation": validation,
            "test": load(gold["test"], "test"),
        }
    )


__all__ = ["REGIMES", "load_regime"]
