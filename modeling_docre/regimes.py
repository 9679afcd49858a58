"""Regimes of training data: a part of the documents, or labels with holes, chosen by what is in the documents."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from .documents import Document

SEED = 13


def read_slice(text: str) -> slice:
    """
    Read which documents to take.

    Args:
        text (`str`): As in Python, such as `"0:400"`, `"400:"` or `"-100:"`.

    Raises:
        ValueError: If the text is no slice.
    """
    match = re.fullmatch(r"(-?\d+)?:(-?\d+)?", text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no slice; write which documents to take as '0:400' (from 0, up to 399).")
    return slice(*(None if part is None else int(part) for part in match.groups()))


def choose_slice(documents: Iterable[Document], chosen: slice) -> Iterator[Document]:
    """Choose the documents of a slice; those behind the last wanted one are not read, where that can be known."""
    if (chosen.start or 0) < 0 or (chosen.stop or 0) < 0:
        return iter(list(documents)[chosen])
    return itertools.islice(documents, chosen.start, chosen.stop)


def choose_fraction(documents: Sequence[Document], fraction: float, seed: int = SEED) -> list[Document]:
    """
    Choose a part of documents.

    A document's lot is a hash of seed, title and text; those with the lowest lots are chosen. So the order of the
    documents, and their labels, do not matter, and a smaller part is within every larger one of the same seed.

    Args:
        documents (sequence of [`Document`]): The documents.
        fraction (`float`): Their part, above 0 and at most 1; at least one document is chosen.
        seed (`int`, *optional*, defaults to 13): Another one chooses others.

    Returns:
        `list[Document]`: The chosen ones, in their order.

    Raises:
        ValueError: If the fraction is none.
    """
    if not 0.0 < fraction <= 1.0:
        raise ValueError(f"`fraction` is a part, above 0 and at most 1, got {fraction}. Write 0.05 for 5%.")
    number = max(1, round(fraction * len(documents)))
    ranked = sorted(range(len(documents)), key=lambda place: lot(seed, document_key(documents[place])))
    return [documents[place] for place in sorted(ranked[:number])]


def drop_labels(document: Document, rate: float, seed: int = SEED) -> Document:
    """
    Make the labels of a document incomplete: each fact goes, with its evidence, or stays.

    A fact goes where a hash of seed, title, text and the fact itself, a number in [0, 1), is below the rate. So a
    higher rate drops what a lower one drops, and more.

    Args:
        document ([`Document`]): The document; an unlabelled one stays as it is.
        rate (`float`): Part of the facts that go, from 0 to 1; of few facts it is about that part.
        seed (`int`, *optional*, defaults to 13): Another one drops others.

    Returns:
        [`Document`]: The document, labelled with what is left.

    Raises:
        ValueError: If the rate is none.
    """
    if not 0.0 <= rate <= 1.0:
        raise ValueError(
            f"`drop_labels` is a part, from 0 to 1, got {rate}. Write 0.7 to drop about 70% of the facts."
        )
    if document.relations is None:
        return document
    key = document_key(document)
    kept = tuple(fact for fact in document.relations if lot(seed, key, fact.head, fact.tail, fact.relation) >= rate)
    return replace(document, relations=kept)


def document_key(document: Document) -> str:
    """What a document is known by when lots are drawn: its title and text, and not its labels."""
    return _digest([document.title, document.text]).hex()


def lot(*parts: object) -> float:
    """
    Return a number in [0, 1) that the parts decide, and that is as good as random. What is drawn for another purpose
    needs a part that says so: equal parts are equal lots.
    """
    return int.from_bytes(_digest(parts)[:6], "big") / (1 << 48)


def _digest(parts: Sequence[object]) -> bytes:
    return hashlib.sha256(json.dumps(parts).encode()).digest()


__all__ = ["SEED", "choose_fraction", "choose_slice", "document_key", "drop_labels", "lot", "read_slice"]
