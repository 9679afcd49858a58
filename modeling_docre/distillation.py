"""Teachers: trained models whose answers a student learns from, on the fly or written to disk before."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from . import __version__
from .configuration_docre import DocREConfig
from .corpus import Corpus
from .corpus_parts import CorpusParts, partial_folder
from .corpus_runs import CorpusRun, Reader
from .document_batches import DocumentBatchSampler
from .documents import Document
from .extraction import load_pipeline
from .extraction_report import ExtractionReport
from .model_digest import digest_pipeline
from .modeling_docre import DocREForRelationExtraction
from .output_files import DataFileError
from .processes import join_processes
from .processing_docre import DocREProcessor
from .soft_labels import INDEX, MANIFEST, TaughtClasses, pack, write_index
from .training_arguments import TWO_TEACHERS, DocRETrainingArguments

BATCH_SIZE = 8
# Batches that are read ahead and sorted by length.
_READ_AHEAD = 8
# Pairs of a batch, per document that it may have.
_PAIRS = 512
# What a file of a store may hold before the next one is begun: less than the Hub takes at once.
SHARD_BYTES = 2 << 30


class Member(NamedTuple):
    """A model of a teacher, with its processor."""

    model: DocREForRelationExtraction
    processor: DocREProcessor


class Teacher:
    """
    Trained models that teach a student: the mean of their logits, without dropout and without a gradient.

    Each model reads documents by its own processor, so that it may have another tokenizer, other markers or entity
    types than the student. Relations are matched by their ids.

    Args:
        members (sequence of `(model, processor)`): One model, or an ensemble.

    Raises:
        ValueError: If there is none, or members differ in their relations, decision or candidate pairs.

    Example:

    ```python
    teacher = Teacher.from_pretrained("runs/docred/kd-docre-bert-base")
    trainer = DocRETrainer(model, args, train_dataset=distant, processing_class=processor, teacher=teacher)
    ```
    """

    def __init__(self, members: Iterable[tuple[DocREForRelationExtraction, DocREProcessor]]) -> None:
        self.members = [Member(*member) for member in members]
        if not self.members:
            raise ValueError("A teacher needs a model: pass [(model, processor)], or several for an ensemble.")
        first = self.members[0].model.config
        self.classes = TaughtClasses.of(first)
        self._columns = []
        for number, (model, _) in enumerate(self.members):
            self._columns.append(TaughtClasses.of(model.config).columns(first, f"Member {number} of the teacher"))
            if model.config.pair_types != first.pair_types:
                raise ValueError(
                    f"Members 0 and {number} of the teacher have different candidates: pair_types="
                    f"{first.pair_types} and {model.config.pair_types}. Their mean needs the same: leave one out."
                )
            if model.dtype.itemsize < 4:
                model.float()

    @classmethod
    def from_pretrained(
        cls, names: str | os.PathLike[str] | Sequence[str | os.PathLike[str] | None], device: str | None = None
    ) -> Teacher:
        """
        Args:
            names (`str`, `os.PathLike` or a list of them):
                Folders or Hub ids of the models; `None` in a list is the embedded one.
            device (`str`, *optional*): Where they run, as for [`load_pipeline`].

        Raises:
            OSError: If there is no such checkpoint, or it has no tokenizer.
            ValueError: If one is none of this library, and as for the class.
        """
        names = [names] if isinstance(names, str | os.PathLike) else names
        pipes = [load_pipeline(None if name is None else os.fspath(name), device) for name in names]
        return cls((cast(Any, pipe).model, cast(Any, pipe).processor) for pipe in pipes)

    def check_student(self, student: DocREForRelationExtraction) -> None:
        """
        Args:
            student ([`DocREForRelationExtraction`]): The model that is to learn.

        Raises:
            ValueError: If the student is the teacher, has other relations, decides by something else, or has candidate
                pairs that the teacher leaves out.
        """
        if any(member.model is student for member in self.members):
            raise ValueError(
                "The student is a model of its own teacher, which would teach it what it knows, without dropout. Load "
                "the teacher by itself: Teacher.from_pretrained(FOLDER)."
            )
        self.classes.columns(student.config, "The teacher")
        pair_types = self.members[0].model.config.pair_types
        if pair_types is not None and pair_types != student.config.pair_types:
            raise ValueError(
                f"The teacher scores pairs of pair_types={pair_types} alone, the student those of "
                f"{student.config.pair_types}, and nobody taught the teacher the others. Make the student with its "
                "pair_types."
            )

    def to(self, device: torch.device | str) -> Teacher:
        """Move the models to a device."""
        for member in self.members:
            member.model.to(device)  # type: ignore[arg-type]
        return self

    @property
    def names(self) -> list[str]:
        """Where each model was loaded from."""
        return [member.model.name_or_path or "unnamed" for member in self.members]

    def digests(self) -> list[str]:
        """What tells each model from others: settings, tokenizer and weights."""
        return [digest_pipeline(member) for member in self.members]

    def features(self, documents: Sequence[Document]) -> list[list[dict[str, Any]]]:
        """Read documents as each model does: features of each of them, `pairs` among them, by member."""
        return [member.processor(documents, strict=False) for member in self.members]

    @torch.no_grad()
    def logits(
        self, features: Sequence[Sequence[dict[str, Any]]], pairs: Tensor, config: DocREConfig | None = None
    ) -> Tensor:
        """
        Score pairs.

        Args:
            features (`list[list[dict]]`): Of the documents of a batch, from [`Teacher.features`].
            pairs (`torch.Tensor` of shape `(num_pairs, 3)`): Document in the batch, head, tail, in any order.
            config ([`DocREConfig`], *optional*):
                The student's, whose classes are the columns; the first member's when left out.

        Returns:
            `torch.Tensor` of shape `(num_pairs, num_classes)`, float32.
        """
        scored = []
        for (model, processor), own, columns in zip(self.members, features, self._columns, strict=True):
            batch = {**processor.collate(own), "pairs": pairs}
            batch.pop("labels", None)
            # `train()` of a model that is shared with somebody else would bring dropout back.
            # What a student learns is what the teacher gives each pair.
            inputs = {name: tensor.to(model.device) for name, tensor in batch.items()}
            outputs = model.eval()(**inputs, prune_threshold=0.0)
            scored.append(outputs.logits.float()[:, columns])
        mean = torch.stack(scored).mean(0)
        return mean if config is None else mean[:, self.classes.columns(config, "The teacher")]


def find_teacher(args: DocRETrainingArguments, teacher: Teacher | None = None) -> Teacher | None:
    """
    Load the teacher that arguments of training name.

    Args:
        args ([`DocRETrainingArguments`]): `teacher` and `soft_labels` are read.
        teacher ([`Teacher`], *optional*): One that is loaded already.

    Raises:
        ValueError: If there are two.
        TypeError: If `teacher` is something else.
    """
    if teacher is not None and (args.teacher or args.soft_labels):
        raise ValueError(f"{TWO_TEACHERS}: take teacher and soft_labels out of the arguments, or pass no teacher.")
    if teacher is not None and not isinstance(teacher, Teacher):
        raise TypeError(
            f"`teacher` is a {type(teacher).__name__}; pass Teacher.from_pretrained(FOLDER), or "
            "Teacher([(model, processor)])."
        )
    return Teacher.from_pretrained(args.teacher, "cpu") if args.teacher else teacher


def distill_files(
    teacher: Teacher,
    sources: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    strict: bool = True,
    resume: bool = False,
    batch_size: int = BATCH_SIZE,
    bf16: bool = False,
    shard_bytes: int = SHARD_BYTES,
) -> ExtractionReport:
    """
    Write a teacher's soft labels of every document of files and folders: a store that `training.soft_labels` reads.

    The store is a folder, which appears when it is whole. Until then it is `STORE.partial`, and a run that was killed
    at any moment can go on from there. Several processes, started by `torchrun`, each do a part of the documents.

    Args:
        teacher ([`Teacher`]): The teacher.
        sources (`str`, `Path`, or a sequence of them): See [`Corpus`]. Labels are not read.
        output (`str` or `Path`): The store.
        strict (`bool`, *optional*, defaults to `True`): Stop at nonsense in a document; otherwise skip and count it.
        resume (`bool`, *optional*, defaults to `False`): Go on after the documents that an earlier run has done.
        batch_size (`int`, *optional*, defaults to 8): Documents that run at once.
        bf16 (`bool`, *optional*, defaults to `False`): Compute in bfloat16.
        shard_bytes (`int`, *optional*): What a file of the store may hold before the next one is begun.

    Returns:
        [`ExtractionReport`]: Without relations.

    Raises:
        DataFileError: when a file cannot be read or written, something is there already, or what is to be resumed is
            another run.
        DocumentError: when a document is wrong.
        ValueError: when logits do not fit half precision.
    """
    sources = [sources] if isinstance(sources, str | Path) else list(sources)
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size} runs nothing; pass 1 or more.")
    target = Path(output)
    with join_processes() as processes:
        corpus = Corpus(sources, strict=strict, without=[target, partial_folder(target)])
        if corpus.reads_once:
            raise DataFileError("The standard input, or a pipe, can be read only once: name files.")
        parts = CorpusParts(target, processes.rank, limit=shard_bytes, others=(INDEX, MANIFEST))
        config = teacher.members[0].model.config
        about = {
            "version": __version__,
            "teachers": teacher.digests(),
            "precision": "bfloat16" if bf16 else str(teacher.members[0].model.dtype).removeprefix("torch."),
            "relations": list(config.relations),
            "relation_names": dict(config.relation_names),
            "decision": config.decision,
        }

        def describe() -> dict[str, Any]:
            if target.exists() and not (target.is_dir() and not any(target.iterdir())):
                whole = ", and whole: training.soft_labels may read it" if (target / MANIFEST).is_file() else ""
                raise DataFileError(
                    f"{target} is there already{whole}. Remove it, or choose another name for the store."
                )
            settings = {"strict": strict, "documents in a chunk": size, "documents in a batch": batch_size}
            return {**about, "input": corpus.describe(), **settings}

        def write(chunks: int, report: ExtractionReport) -> None:
            write_index(parts.folder, parts.places(chunks), about)

        size = batch_size * _READ_AHEAD
        answer = partial(_answer_chunk, teacher, batch_size, bf16)
        run = CorpusRun(parts, corpus, processes, size, answer, write, end=partial(parts.become, target))
        report = run.go(describe, resume=resume)
    report.counts["files that are no documents"] += corpus.left_out
    report.counts["files and folders that were met again"] += corpus.met_again
    del report.counts["relations"]
    return report


def _answer_chunk(
    teacher: Teacher, batch_size: int, bf16: bool, chunk: list[Reader], report: ExtractionReport
) -> bytes:
    documents = [read() for read in chunk]
    features = teacher.features(documents)
    pairs = [item["pairs"] for item in features[0]]
    batches = DocumentBatchSampler(
        len(documents),
        batch_size,
        pairs=list(map(len, pairs)),
        max_pairs=_PAIRS * batch_size,
        lengths=[len(item["input_ids"]) for item in features[0]],
        shuffle=False,
        even=False,
    )
    packed: list[bytes] = [b""] * len(documents)
    device = teacher.members[0].model.device
    for numbers in batches:
        rows = [[place, *pair] for place, number in enumerate(numbers) for pair in pairs[number]]
        own = [[items[number] for number in numbers] for items in features]
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            logits = teacher.logits(own, torch.tensor(rows, dtype=torch.long).view(-1, 3))
        for number, part in zip(numbers, logits.split([len(pairs[number]) for number in numbers]), strict=True):
            packed[number] = pack(documents[number], pairs[number], part)
    for document, item in zip(documents, features[0], strict=True):
        report.add_document(document, item["coverage"])
    return b"".join(packed)


__all__ = ["Teacher", "distill_files"]
