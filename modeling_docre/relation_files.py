"""Files of relations: their ids in class order, and words for them."""

from __future__ import annotations

import os
from collections.abc import Mapping

from .data_files import file_kind, read_json
from .output_files import DataFileError

_REMEDY = (
    "Write a list of ids, or an object from ids to words or to class numbers; `docre data relations DOCUMENTS -o "
    "rel_info.json` makes one from labelled documents."
)


def read_relations(path: str | os.PathLike[str]) -> dict[str, str] | list[str]:
    """Read relation ids in class order.

    Args:
        path (`str` or `os.PathLike`):
            JSON: a list of ids, ids with words for them (`{"P17": "country"}`), or ids with numbers, as the published
            `rel2id.json`: 1, 2, ... each once, and 0, "no relation", which is left out.

    Returns:
        `list[str]` or `dict[str, str]`: The ids, with words where the file has them.

    Raises:
        DataFileError: when the file is missing or holds something else, or numbers are missing or occur twice.
    """
    if file_kind(path) in (".jsonl", ".parquet"):
        raise DataFileError(f"{path} is no file of relations, but one of documents. {_REMEDY}")
    found = read_json(path)
    if isinstance(found, dict) and found and all(type(number) is int for number in found.values()):
        return _in_class_order(found, path)
    if isinstance(found, dict) and all(isinstance(words, str) for words in found.values()):
        return found
    if isinstance(found, list) and all(isinstance(name, str) for name in found):
        return found
    raise DataFileError(f"{path}: no relations. {_REMEDY}")


def _in_class_order(numbers: Mapping[str, int], path: str | os.PathLike[str]) -> list[str]:
    names = sorted(numbers, key=lambda name: numbers[name])
    first = 0 if 0 in numbers.values() else 1
    for place, name in enumerate(names):
        number, expected = numbers[name], first + place
        if number == expected:
            continue
        problem = f"{name!r} has {number}, and none has {expected}"
        if place and number == expected - 1:
            problem = f"{names[place - 1]!r} and {name!r} both have {number}"
        raise DataFileError(
            f'{path}: class numbers are 0 for "no relation", then 1, 2, ... for the relations, each once, but '
            f"{problem}. Write the numbers that the model was trained with, or a list of ids in their order."
        )
    return [name for name in names if numbers[name]]


__all__ = ["read_relations"]
