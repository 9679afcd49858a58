"""Soft labels on disk: what a teacher answers to documents, written once and read a document at a time."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .configuration_docre import DocREConfig
from .corpus_parts import partial_folder
from .documents import Document
from .output_files import DataFileError

# Raise when what the files hold changes its meaning.
FORMAT = 2

MANIFEST = "soft_labels.json"
INDEX = "index.npy"

# Before the logits of a document: its digest, entities, pairs, how many of these are listed (all or none, where they
# are all ordered pairs), checksum of what follows.
_HEADER = struct.Struct("<16sIIII")
_NUMBERS = [(name, "<u4") for name in ("entities", "pairs", "listed", "crc", "shard")]
# Bytes of one length can be sorted although numpy takes zeros off their ends.
_INDEX = np.dtype([("digest", "S16"), *_NUMBERS, ("start", "<u8")])
_MOST = float(torch.finfo(torch.float16).max)


class TaughtClasses(NamedTuple):
    """What the columns of a teacher's logits mean."""

    relations: tuple[str, ...]
    decision: str
    names: Mapping[str, str]

    @classmethod
    def of(cls, config: DocREConfig) -> TaughtClasses:
        """Read them from a model's settings."""
        return cls(tuple(config.relations), config.decision, dict(config.relation_names))

    def columns(self, config: DocREConfig, teacher: str) -> list[int]:
        """Find the columns of another model's classes.

        Args:
            config ([`DocREConfig`]): Of the other model, the student.
            teacher (`str`): What to call the teacher.

        Returns:
            `list[int]`: For each class of the student that of the teacher.

        Raises:
            ValueError: when one knows a relation that the other does not, or the two decide by something else.
        """
        ours, theirs = list(self.relations), list(config.relations)
        names = {**self.names, **config.relation_names}
        lacking = [
            f"{who} lacks {_list([name for name in wanted if name not in known], names)}"
            for who, wanted, known in ((teacher, theirs, set(ours)), ("the student", ours, set(theirs)))
            if set(wanted) - known
        ]
        if lacking:
            raise ValueError(
                f"{teacher} and its student must know the same relations, in any order: {'; '.join(lacking)}. Make "
                "the student with the teacher's relations (in a recipe model.relations: a list, or a file that "
                "`docre data relations` writes), or take a teacher that was trained on these."
            )
        if self.decision != config.decision:
            raise ValueError(
                f"{teacher} decides by {self.decision!r}, the student by {config.decision!r}: their logits mean "
                "different things. Take a teacher of a method with the student's decision (`docre methods`)."
            )
        return [0, *(ours.index(name) + 1 for name in theirs)]


def document_digest(document: Document) -> bytes:
    """
    What a document is known by: 16 bytes of what models read of it, its words and the mentions and types of its
    entities. Title, names, relations and candidate pairs are no part of it.
    """
    entities = [
        [entity.type, [[mention.sentence, *mention.words, mention.type] for mention in entity.mentions]]
        for entity in document.entities
    ]
    content = json.dumps([document.words, entities], ensure_ascii=True, separators=(",", ":"))
    return hashlib.blake2b(content.encode(), digest_size=16).digest()


def pack(document: Document, pairs: Sequence[tuple[int, int]], logits: Tensor) -> bytes:
    """Write the soft labels of a document.

    Args:
        document ([`Document`]): The document.
        pairs (sequence of `(head, tail)`): Those that the logits are of.
        logits (`torch.Tensor` of shape `(num_pairs, num_classes)`): The teacher's, in any precision.

    Raises:
        ValueError: when they do not fit half precision.
    """
    half = logits.detach().cpu().to(torch.float16)
    if not bool(half.isfinite().all()):
        raise ValueError(
            f"The teacher gives {document.title!r} logits beyond {_MOST:,.0f}, or none that are numbers, which half "
            "precision can't hold. Take a teacher whose training did not diverge."
        )
    entities = len(document.entities)
    listed = b""
    if list(pairs) != list(itertools.permutations(range(entities), 2)):
        listed = np.array(pairs, "<u4").reshape(-1, 2).tobytes()
    content = listed + half.contiguous().numpy().astype("<f2").tobytes()
    number = len(pairs) if listed else 0
    return _HEADER.pack(document_digest(document), entities, len(pairs), number, zlib.crc32(content)) + content


def write_index(folder: Path, places: Iterable[tuple[Path, int, int]], about: Mapping[str, Any]) -> int:
    """Make a store of shards: find what is in them, write the index and, when that is on the disk, the manifest.

    Args:
        folder (`pathlib.Path`): Where the shards are.
        places (iterable of `(shard, start, end)`): Blocks of what [`pack`] has made.
        about (`Mapping[str, Any]`): What else the manifest says; `relations` among it.

    Returns:
        `int`: How many documents there are. One that was there twice counts once: its block with all pairs stays, or,
        where there is none, each block with other candidate pairs, and the pairs of all can be read.
    """
    width = 2 * (len(about["relations"]) + 1)
    # By document and, where these are not all, by pairs.
    blocks: dict[bytes, dict[bytes | None, tuple[Any, ...]]] = {}
    shards: dict[Path, int] = {}
    for shard, start, end in places:
        number = shards.setdefault(shard, len(shards))
        with open(shard, "rb") as stream:
            while start < end:
                stream.seek(start)
                header = _HEADER.unpack(stream.read(_HEADER.size))
                digest, entities, pairs, listed, _ = header
                of_pairs = None
                if pairs != entities * (entities - 1):
                    of_pairs = hashlib.blake2b(stream.read(listed * 8), digest_size=16).digest()
                blocks.setdefault(digest, {}).setdefault(of_pairs, (*header, number, start + _HEADER.size))
                start += _HEADER.size + pairs * width + listed * 8
    rows = [row for known in blocks.values() for row in ([known[None]] if None in known else known.values())]
    index = np.array(rows, _INDEX)
    index = index[np.argsort(index["digest"], kind="stable")]
    manifest = {
        "format": FORMAT,
        **about,
        "documents": len(blocks),
        "blocks": len(index),
        "pairs": int(index["pairs"].sum(dtype=np.int64)),
        "shards": {shard.name: shard.stat().st_size for shard in shards},
    }
    with open(folder / INDEX, "wb") as binary:
        np.save(binary, index, allow_pickle=False)
        binary.flush()
        os.fsync(binary.fileno())
    with open(folder / MANIFEST, "w", encoding="utf-8") as text:
        json.dump(manifest, text, indent=1)
        text.flush()
        os.fsync(text.fileno())
    return len(blocks)


class SoftLabelStore:
    """The soft labels that `docre distill` wrote. What is asked for is read through memory mapping, and checked.

    Args:
        folder (`str` or `os.PathLike`): The store.

    Raises:
        DataFileError: when it is none, is of another version, or lacks a part of a file.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.manifest = self._read_manifest()
        self.classes = TaughtClasses(
            tuple(self.manifest["relations"]), self.manifest["decision"], self.manifest.get("relation_names", {})
        )
        self._shards = list(self.manifest["shards"])
        for name, size in self.manifest["shards"].items():
            path = self.folder / name
            found = path.stat().st_size if path.is_file() else None
            if found != size:
                what = "is missing" if found is None else f"has {found:,} bytes, and had {size:,}"
                raise DataFileError(f"{path} {what}: {self._again()}")
        self._index = self._read_index()
        self._digests = np.ascontiguousarray(self._index["digest"])
        self._maps: dict[int, np.memmap] = {}

    def _again(self) -> str:
        return f"the store is damaged. Copy it again, or write it anew with `docre distill DOCS -o {self.folder}`."

    def _read_manifest(self) -> dict[str, Any]:
        path = self.folder / MANIFEST
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            unfinished = partial_folder(self.folder)
            instead = "Write one: `docre distill DOCS --model TEACHER -o STORE`."
            if unfinished.is_dir():
                instead = f"{unfinished} is one that is not whole: pass --resume to the same `docre distill`."
            raise DataFileError(f"{self.folder} is no store of soft labels: it has no {MANIFEST}. {instead}") from None
        except ValueError:
            raise DataFileError(f"{path} is not JSON: {self._again()}") from None
        known = manifest.get("format") if isinstance(manifest, dict) else None
        if known != FORMAT:
            raise DataFileError(
                f"{self.folder} has format {known}, and this version of the library reads {FORMAT}. Write it anew "
                "with `docre distill`, or read it with the version that wrote it."
            )
        return manifest

    def _read_index(self) -> np.ndarray:
        path = self.folder / INDEX
        try:
            index = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError):
            index = None
        if index is None or index.dtype != _INDEX or len(index) != self.manifest["blocks"]:
            raise DataFileError(f"{path} is no index of {self.manifest['blocks']:,} blocks: {self._again()}")
        return index

    def __len__(self) -> int:
        return int(self.manifest["documents"])

    def find(self, documents: Iterable[Document]) -> np.ndarray:
        """Find documents by what is in them.

        Args:
            documents (iterable of [`Document`]): Any.

        Returns:
            `numpy.ndarray` of shape `(documents,)`: The row of each in the store, -1 where it has none.
        """
        wanted = np.array([document_digest(document) for document in documents], "S16")
        if not len(self):
            return np.full(len(wanted), -1)
        places = np.minimum(np.searchsorted(self._digests, wanted), len(self._digests) - 1)
        return np.where(self._digests[places] == wanted, places, -1)

    def read(self, row: int, pairs: Sequence[tuple[int, int]] | None = None) -> Tensor:
        """Read the soft labels of a document, and nothing else.

        Args:
            row (`int`): Of [`SoftLabelStore.find`].
            pairs (sequence of `(head, tail)`, *optional*):
                Which; all of the document's when left out, or, where its candidates are in several blocks, those of
                the block that was written first.

        Returns:
            `torch.Tensor` of shape `(num_pairs, num_classes)`, float16: In the order of `pairs`.

        Raises:
            DataFileError: when the bytes are not those that were written, or a pair is not there.
        """
        known, logits = self._block(row)
        if pairs is None or list(pairs) == list(known):
            return torch.from_numpy(logits.astype(np.float16))
        digest, wanted = self._digests[row], set(pairs)
        while not wanted <= known.keys():
            row += 1
            if row == len(self._digests) or self._digests[row] != digest:
                missing = [pair for pair in pairs if pair not in known]
                raise DataFileError(
                    f"{self.folder} lacks {len(missing)} of {len(pairs)} pairs of a document, such as {missing[0]}: "
                    "its teacher was asked for other candidates, or leaves pairs out by `pair_types`. Write it anew "
                    "from the documents that are trained on, with a teacher that scores all of their pairs."
                )
            more, others = self._block(row)
            known = {pair: place + len(logits) for pair, place in more.items()} | known
            logits = np.concatenate([logits, others])
        return torch.from_numpy(logits[[known[pair] for pair in pairs]].astype(np.float16))

    def _block(self, row: int) -> tuple[dict[tuple[int, int], int], np.ndarray]:
        """Read what stands in one place: the pairs with their places, and the logits."""
        entry = self._index[row]
        number, listed, width = int(entry["pairs"]), int(entry["listed"]), len(self.classes.relations) + 1
        size = listed * 8 + number * width * 2
        content = self._bytes(int(entry["shard"]), int(entry["start"]), size)
        if len(content) != size or zlib.crc32(content) != int(entry["crc"]):
            raise DataFileError(f"{self.folder / self._shards[int(entry['shard'])]} has changed: {self._again()}")
        logits = np.frombuffer(content, "<f2", offset=listed * 8).reshape(number, width)
        pairs: Iterable[Any] = itertools.permutations(range(int(entry["entities"])), 2) if number else ()
        if listed:
            pairs = map(tuple, np.frombuffer(content, "<u4", count=listed * 2).reshape(-1, 2).tolist())
        return {pair: place for place, pair in enumerate(pairs)}, logits

    def _bytes(self, shard: int, start: int, size: int) -> bytes:
        if not size:
            return b""
        if shard not in self._maps:
            self._maps[shard] = np.memmap(self.folder / self._shards[shard], np.uint8, mode="r")
        return self._maps[shard][start : start + size].tobytes()

    def __getstate__(self) -> dict[str, Any]:
        # A map that is pickled, as for a worker, would be copied as a whole.
        return {**vars(self), "_maps": {}}


class DocumentSoftLabels:
    """The soft labels of certain documents, in the classes of one student.

    Args:
        store ([`SoftLabelStore`]): Where they are.
        documents (sequence of [`Document`]): All that will be asked for, by their place here.
        config ([`DocREConfig`]): The student's.

    Raises:
        DataFileError: when documents are not in the store.
        ValueError: when the student has other relations, or decides by something else.
    """

    def __init__(self, store: SoftLabelStore, documents: Sequence[Document], config: DocREConfig) -> None:
        self.store = store
        self.columns = store.classes.columns(config, f"The teacher of {store.folder}")
        self.rows = store.find(documents)
        missing = np.flatnonzero(self.rows < 0)
        if len(missing):
            first = int(missing[0])
            raise DataFileError(
                f"{store.folder} lacks {len(missing):,} of {len(documents):,} training documents, the first of them "
                f"number {first} ({documents[first].title!r}). Documents are known by their words and entities. Write "
                "a store of the files that are trained on: `docre distill FILE ... --model TEACHER -o STORE`."
            )

    def __call__(self, place: int, pairs: Sequence[tuple[int, int]]) -> Tensor:
        """Read those of one document, `(num_pairs, num_classes)`, as [`SoftLabelStore.read`] does."""
        return self.store.read(int(self.rows[place]), pairs)[:, self.columns]


def _list(relations: Sequence[str], names: Mapping[str, str], most: int = 5) -> str:
    shown = [f"{name!r} ({names[name]})" if names.get(name, name) != name else repr(name) for name in relations[:most]]
    return ", ".join(shown) + (f" and {len(relations) - most} more" if len(relations) > most else "")


__all__ = [
    "INDEX",
    "MANIFEST",
    "DocumentSoftLabels",
    "SoftLabelStore",
    "TaughtClasses",
    "document_digest",
    "pack",
    "write_index",
]
