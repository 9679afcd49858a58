"""What the papers report on the sizes of the published data sets, and whether what was loaded has them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from datasets import Dataset

from .folders import file_stem
from .published_files import FileSource


class ReportedSizes(NamedTuple):
    """
    Sizes of a data set.

    Args:
        relations (`int`): Kinds of relations.
        documents (`dict[str, int]`): Documents of each split.
        facts (`dict[str, int]`): Facts of each split, where they are reported.
    """

    relations: int
    documents: Mapping[str, int]
    facts: Mapping[str, int]


class Sizes(NamedTuple):
    """
    Sizes of what was read of a split.

    Args:
        documents (`int`): Its documents.
        facts (`int`): Their facts.
        relations (`set[str]`): The relations of these.
    """

    documents: int
    facts: int
    relations: set[str]

    @classmethod
    def of(cls, part: Dataset) -> Sizes:
        """Count what is in a dataset."""
        labels = [label["r"] for labels in part.with_format(None)["labels"] for label in labels or ()]
        return cls(part.num_rows, len(labels), set(labels))


def _splits(train: int, validation: int, test: int) -> dict[str, int]:
    return {"train": train, "validation": validation, "test": test}


REPORTED_SIZES = {
    "docred": ReportedSizes(96, _splits(3053, 1000, 1000), {}),
    "re-docred": ReportedSizes(96, _splits(3053, 500, 500), _splits(85_932, 17_284, 17_448)),
    "dwie": ReportedSizes(65, _splits(602, 98, 99), _splits(14_403, 2_624, 2_459)),
    "hacred": ReportedSizes(26, _splits(6231, 1500, 1500), {}),
    "cdr": ReportedSizes(1, _splits(500, 500, 500), {}),
    "gda": ReportedSizes(1, _splits(23_353, 5_839, 1_000), {}),
}


def compare_counts(data: Mapping[str, Dataset | Sizes], name: str) -> dict[str, tuple[int, int]]:
    """
    Compare what was loaded with the sizes that the papers report.

    Only splits that were loaded are compared, and facts only where their number is reported; relations only where
    the training split was loaded.

    Args:
        data (`DatasetDict` or `Mapping[str, Dataset]`): As [`load_docre`] returns it; or [`Sizes`] of the splits.
        name (`str`): `"docred"`, `"re-docred"`, `"dwie"`, `"hacred"`, `"cdr"` or `"gda"`.

    Returns:
        `dict[str, tuple[int, int]]`: What differs, such as `{"train documents": (3052, 3053)}`: found, reported.

    Raises:
        ValueError: If the name is not known.

    Example:
    ```python
    >>> from modeling_docre.datasets_scripts import compare_counts, load_docre

    >>> compare_counts(load_docre("Re-DocRED/data"), "re-docred")  # doctest: +SKIP
    {}
    ```
    """
    if name not in REPORTED_SIZES:
        raise ValueError(f"No sizes are known of {name!r}, but of {', '.join(map(repr, REPORTED_SIZES))}.")
    reported = REPORTED_SIZES[name]
    pairs: dict[str, tuple[int, int]] = {}
    relations: set[str] = set()
    for split, part in data.items():
        if split not in reported.documents:
            continue
        sizes = Sizes.of(part) if isinstance(part, Dataset) else part
        relations |= sizes.relations
        pairs[f"{split} documents"] = (sizes.documents, reported.documents[split])
        if split in reported.facts:
            pairs[f"{split} facts"] = (sizes.facts, reported.facts[split])
    if "train" in data:
        pairs["relations"] = (len(relations), reported.relations)
    return {what: (found, expected) for what, (found, expected) in pairs.items() if found != expected}


def known_data_set(sources: Mapping[str, FileSource], sizes: Mapping[str, Sizes]) -> str | None:
    """
    Say which published data set the splits of a folder are, by their form, the names of files, and the relation.

    Args:
        sources (`Mapping[str, FileSource]`): As [`folder_sources`] finds them.
        sizes (`Mapping[str, Sizes]`): Of what was read of them.

    Returns:
        `str`, *optional*: A name for [`compare_counts`]; `None` for data of one's own.
    """
    forms = {source.form for source in sources.values()}
    if len(forms) != 1:
        return None
    stems = {file_stem(Path(source.name)) for source in sources.values()}
    form = forms.pop()
    if form == "docred":
        if stems & {"train_annotated", "train_distant"}:
            return "docred"
        return "re-docred" if stems & {"train_revised", "dev_revised", "test_revised"} else None
    if form == "pubtator":
        return "cdr" if any(stem.startswith("CDR_") for stem in stems) else None
    if form == "edge-oriented":
        relations = set().union(*(part.relations for part in sizes.values()))
        return {"CID": "cdr", "GDA": "gda"}.get(min(relations, default="")) if len(relations) == 1 else None
    return {"hacred": "hacred", "dwie": "dwie", "renet": "gda"}[form]


__all__ = ["REPORTED_SIZES", "Sizes", "compare_counts", "known_data_set"]
