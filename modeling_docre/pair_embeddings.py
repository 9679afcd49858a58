"""Embeddings of the pairs with a relation, as a trained model sees them, on disk: what a generator learns from."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers.utils import logging

from .configuration_checks import check_one_vector
from .documents import Document
from .model_digest import digest_model
from .modeling_base import in_evaluation
from .modeling_docre import DocREForRelationExtraction
from .output_files import DataFileError
from .processing_docre import DocREProcessor
from .soft_labels import document_digest
from .training_data import describe_left_out, refuse_unlabelled

logger = logging.get_logger(__name__)

MANIFEST = "pair_embeddings.json"
_FORMAT = 1
# Pairs whose embeddings are looked at together.
_CHUNK = 4096
_EMBEDDINGS, _LABELS, _ENDS = "embeddings.f32", "labels.u8", "ends.npy"


class PairEmbeddingStore(Dataset[dict[str, Tensor]]):
    """Embeddings and labels of the pairs with a relation, by document, read through memory mapping.

    Args:
        folder (`str` or `os.PathLike`): Where [`store_pair_embeddings`] wrote them.

    Raises:
        DataFileError: when it is no such store, is of another version, or lacks a part of a file.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.manifest = _read_manifest(self.folder)
        pairs, width, classes = self.manifest["pairs"], self.manifest["width"], len(self.manifest["relations"]) + 1
        try:
            self._ends = np.load(self._whole(_ENDS, None), allow_pickle=False)
        except (ValueError, EOFError):
            self._ends = np.zeros(0, "<i8")
        if len(self._ends) != self.manifest["count"] or (len(self._ends) and self._ends[-1] != pairs):
            raise DataFileError(f"{self.folder / _ENDS} is damaged. Remove {self.folder} to have it written anew.")
        self.embeddings = self._map(_EMBEDDINGS, np.dtype("<f4"), (pairs, width))
        """`numpy.ndarray` of shape `(num_pairs, width)`: of all pairs, float32."""
        self.labels = self._map(_LABELS, np.dtype("u1"), (pairs, classes))
        """`numpy.ndarray` of shape `(num_pairs, num_classes)`: their relations, multi-hot."""

    def __len__(self) -> int:
        """Count the documents, those without such pairs included."""
        return len(self._ends)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return `embeddings` `(num_pairs, width)` and `labels` `(num_pairs, num_classes)` of a document."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        rows = slice(int(self._ends[index - 1]) if index else 0, int(self._ends[index]))
        return {
            "embeddings": torch.from_numpy(np.array(self.embeddings[rows])),
            "labels": torch.from_numpy(np.array(self.labels[rows])).float(),
        }

    def deviation(self) -> float:
        """Return the deviation from 0 of all numbers of all embeddings, their root mean square; 1.0 of none."""
        total = math.fsum(float(np.square(chunk).sum()) for chunk in self._chunks())
        return math.sqrt(total / max(self.embeddings.size, 1)) or 1.0

    def check_finite(self) -> None:
        """Check that all numbers are.

        Raises:
            DataFileError: when one is not.
        """
        if not all(np.isfinite(chunk).all() for chunk in self._chunks()):
            raise DataFileError(
                f"{self.folder} holds embeddings that are not finite: the model that they are of is broken."
            )

    def share_beyond(self, limit: float) -> float:
        """Return the share of the numbers of all embeddings that are larger than a limit, whatever their sign."""
        beyond = sum(int((np.abs(chunk) > limit).sum()) for chunk in self._chunks())
        return beyond / max(self.embeddings.size, 1)

    def _chunks(self) -> Iterator[np.ndarray]:
        for start in range(0, len(self.embeddings), _CHUNK):
            yield np.asarray(self.embeddings[start : start + _CHUNK], np.float64)

    def _whole(self, name: str, size: int | None) -> Path:
        path = self.folder / name
        found = path.stat().st_size if path.is_file() else None
        if found is None or (size is not None and found != size):
            what = "is missing" if found is None else f"has {found:,} bytes, and had {size:,}"
            raise DataFileError(f"{path} {what}: the store is damaged. Remove {self.folder} to have it written anew.")
        return path

    def _map(self, name: str, kind: np.dtype, shape: tuple[int, int]) -> np.ndarray:
        path = self._whole(name, kind.itemsize * shape[0] * shape[1])
        # Nothing cannot be mapped.
        return np.memmap(path, kind, "r", shape=shape) if shape[0] else np.zeros(shape, kind)


def store_pair_embeddings(
    model: DocREForRelationExtraction,
    processor: DocREProcessor,
    documents: Sequence[Document],
    folder: str | os.PathLike[str],
    *,
    batch_size: int = 8,
) -> PairEmbeddingStore:
    """Compute the embeddings of the pairs with a relation, unless that is done (VaeDiff-DocRE, section 2.3.2).

    Computed without dropout, in the model's precision. Pairs with an entity that a limit left unread are left out;
    these and other relations that have no embedding are counted in the manifest, and a warning says so. The folder
    appears under its name when it is whole.

    Args:
        model ([`DocREForRelationExtraction`]): A trained model, with a head that gives a pair one vector: axial.
        processor ([`DocREProcessor`]): Its processor.
        documents (sequence of [`Document`]): Labelled documents.
        folder (`str` or `os.PathLike`): Where they go.
        batch_size (`int`, *optional*, defaults to `8`): Documents that are read at once.

    Returns:
        [`PairEmbeddingStore`].

    Raises:
        ValueError: when documents lack labels, or the head gives a pair two vectors.
        DataFileError: when the folder holds something else, or the embeddings of another model or other documents.
    """
    target = Path(folder)
    refuse_unlabelled(documents, "documents", "a generator of pair embeddings")
    check_one_vector(model.config)
    made_of = {
        "format": _FORMAT,
        "embeddings_of": digest_model(model, processor),
        "documents": _digest(documents),
    }
    if target.is_dir() and not any(target.iterdir()):
        target.rmdir()
    if target.exists():
        found = PairEmbeddingStore(target)
        if any(found.manifest[name] != value for name, value in made_of.items()):
            raise DataFileError(
                f"{target} holds the pair embeddings of another model or of other documents. Remove it, or choose "
                "another folder."
            )
        return found
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    ends: list[int] = []
    left_out: Counter[str] = Counter()
    with (
        in_evaluation(model),
        open(partial / _EMBEDDINGS, "wb") as vectors,
        open(partial / _LABELS, "wb") as relations,
        logging.tqdm(total=len(documents), unit=" documents", desc="pair embeddings") as progress,
    ):
        for start in range(0, len(documents), batch_size):
            features = processor(documents[start : start + batch_size], strict=False)
            batch = processor.collate(features)
            for item in features:
                left_out.update({k: count for k, count in item["coverage"].items() if k.startswith("relations ")})
            batch = {name: value.to(model.device) for name, value in batch.items()}
            labels = batch.pop("labels")
            with torch.no_grad():
                output = model(**batch, output_pair_embeddings=True)
            document, head, tail = batch["pairs"].unbind(1)
            read = output.entities_read[document, head] & output.entities_read[document, tail]
            chosen = (labels[:, 1:] > 0).any(1) & read
            embeddings = output.pair_embeddings
            vectors.write(embeddings[chosen].float().cpu().numpy().astype("<f4").tobytes())
            relations.write((labels[chosen] > 0).cpu().numpy().astype("u1").tobytes())
            counts = torch.bincount(document[chosen], minlength=len(features))
            for count in counts.tolist():
                ends.append((ends[-1] if ends else 0) + count)
            progress.update(len(features))
    np.save(partial / _ENDS, np.array(ends, "<i8"), allow_pickle=False)
    if left_out:
        logger.warning(f"No pair embeddings of {describe_left_out({0: left_out})}.")
    manifest = {
        **made_of,
        "left_out": dict(left_out),
        "count": len(ends),
        "pairs": ends[-1] if ends else 0,
        "width": model.config.get_text_config().hidden_size,
        "relations": list(model.config.relations),
        "relation_names": dict(model.config.relation_names),
    }
    (partial / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    partial.rename(target)
    return PairEmbeddingStore(target)


def _digest(documents: Sequence[Document]) -> str:
    digest = hashlib.sha256()
    for document in documents:
        facts = sorted((relation.head, relation.tail, relation.relation) for relation in document.relations or ())
        digest.update(document_digest(document) + json.dumps([facts, document.pairs]).encode())
    return digest.hexdigest()


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise DataFileError(
            f"{folder} holds no pair embeddings: there is no {MANIFEST} in it. Remove it, or choose another folder."
        ) from None
    except ValueError:
        raise DataFileError(f"{path} is damaged. Remove {folder} to have it written anew.") from None
    if not isinstance(manifest, dict) or manifest.get("format") != _FORMAT:
        raise DataFileError(f"{path} is of another version. Remove {folder} to have it written anew.")
    return manifest


__all__ = ["PairEmbeddingStore", "store_pair_embeddings"]
