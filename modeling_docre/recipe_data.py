"""The data that a recipe names: files, slices, and the regimes that make less of them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from transformers.utils import logging

from .data_files import iter_documents
from .documents import Document
from .recipe_checks import RecipeError
from .regimes import SEED, choose_fraction, choose_slice, drop_labels, read_slice

logger = logging.get_logger(__name__)


def read_entry(entry: Any, place: str) -> list[Document]:
    """
    Reads the documents of an entry of `data`: a path, a mapping of `ENTRY_KEYS`, or a list of such. Of a mapping, in
    this order: the slice `documents` of the file at `path`; those of them whose title is in `titles`; the `fraction`
    of these; without the part `drop_labels` of their facts.

    Args:
        entry: The entry; [`check_recipe`] has looked at it.
        place (`str`): Where it stands, for messages.

    Returns:
        `list[Document]`: The documents, in their order.

    Raises:
        RecipeError: If there is no such file, or no document is left.
    """
    if isinstance(entry, list):
        return [document for i, part in enumerate(entry) for document in read_entry(part, f"{place}[{i}]")]
    entry = {"path": entry} if isinstance(entry, str) else entry
    documents = _read_slice(entry, place)
    if entry.get("titles") is not None:
        other = entry["titles"]
        other = {"path": other} if isinstance(other, str) else other
        titles = {document.title for document in _read_slice(other, f"{place}.titles")}
        documents = [document for document in documents if document.title in titles]
        if not documents:
            raise RecipeError(f"{place}: none of the documents has a title of {place}.titles: {other['path']}.")
    return _apply_regime(documents, entry, place)


def _read_slice(entry: Mapping[str, Any], place: str) -> list[Document]:
    path = find_file(entry["path"], f"{place}.path")
    try:
        chosen = read_slice(str(entry.get("documents", ":")))
    except ValueError as error:
        raise RecipeError(f"{place}.documents: {error}") from None
    documents = list(choose_slice(iter_documents(path), chosen))
    if not documents:
        raise RecipeError(f"{place}: there are no documents left of {path} (documents: {entry.get('documents')}).")
    return documents


def _apply_regime(documents: list[Document], entry: Mapping[str, Any], place: str) -> list[Document]:
    fraction, rate, seed = entry.get("fraction"), entry.get("drop_labels"), entry.get("seed")
    seed = SEED if seed is None else seed
    if fraction is not None:
        total = len(documents)
        documents = choose_fraction(documents, fraction, seed)
        say_once(f"{place}: {len(documents):,} of {total:,} documents are taken (fraction {fraction}, seed {seed}).")
    if rate is not None:
        facts = sum(len(document.relations or ()) for document in documents)
        documents = [drop_labels(document, rate, seed) for document in documents]
        dropped = facts - sum(len(document.relations or ()) for document in documents)
        say_once(f"{place}: {dropped:,} of {facts:,} facts are dropped (drop_labels {rate}, seed {seed}).")
    return documents


def describe_regime(entry: Any) -> str:
    """What an entry of `data` leaves out of its documents and labels by lot, in words; nothing is `""`."""
    parts = entry if isinstance(entry, list) else [entry]
    found = [_left_out(part) if isinstance(part, dict) else "" for part in parts]
    if len(parts) > 1:
        found = [f"of set {number}, {words}" for number, words in enumerate(found, 1) if words]
    return "; ".join(filter(None, found))


def _left_out(entry: Mapping[str, Any]) -> str:
    fraction, rate = entry.get("fraction"), entry.get("drop_labels")
    seed = SEED if entry.get("seed") is None else entry["seed"]
    words = []
    if fraction not in (None, 1):
        words.append(f"all but {100 * fraction:.4g}% of the documents (fraction {fraction}, seed {seed})")
    if rate:
        words.append(
            f"about {100 * rate:.4g}% of {'their' if words else 'the'} facts (drop_labels {rate}, seed {seed})"
        )
    return " and ".join(words)


def say_once(message: str) -> None:
    """Say what was done, in one process of several."""
    if os.environ.get("RANK", "0") == "0":
        logger.warning(message)


def find_file(text: str, place: str) -> str:
    """
    Returns the path of a file that a recipe names, with environment variables expanded.

    Raises:
        RecipeError: If there is no such file, or a variable is not set.
    """
    path = expand_path(text, place)
    if not os.path.isfile(path):
        raise RecipeError(
            f"{place}: there is no file {path} (working directory: {os.getcwd()}). Paths in recipes start at the "
            "working directory."
        )
    return path


def expand_path(text: str, place: str) -> str:
    """
    Returns a path with environment variables expanded.

    Raises:
        RecipeError: If a variable is not set.
    """
    expanded = os.path.expanduser(os.path.expandvars(text))
    missing = re.search(r"\$\{?(\w+)\}?", expanded)
    if missing is not None:
        raise RecipeError(
            f"{place} is {text!r}, but the environment variable {missing[1]} is not set: export {missing[1]}=FOLDER."
        )
    return expanded


__all__ = ["describe_regime", "expand_path", "find_file", "read_entry", "say_once"]
