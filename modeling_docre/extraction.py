"""Relations of the documents of files, written to a file: what `docre extract` does."""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from transformers import AutoConfig, Pipeline, pipeline
from transformers.utils import logging

from . import __version__
from .checkpoints import DEFAULT_MODEL
from .configuration_docre import DocREConfig
from .corpus import Corpus
from .corpus_parts import CorpusParts, partial_folder
from .corpus_runs import CorpusRun, Reader, cut, say_changed, show_progress
from .documents import Document, DocumentError
from .extraction_formats import FORMATS, choose_format, write_answers
from .extraction_report import ExtractionReport
from .memory import steady_memory
from .model_digest import digest_pipeline
from .modeling_docre import DocREForRelationExtraction
from .output_files import DataFileError, open_output, output_file, redirected_output
from .processes import Processes, check_device, join_processes, own_device
from .processing_docre import DocREProcessor
from .remote_code import describe_other_checkpoint, looking_up

logger = logging.get_logger(__name__)


def load_pipeline(model: str | None = None, device: str | None = None) -> Pipeline:
    """Build the pipeline of a checkpoint.

    Args:
        model (`str`, *optional*): Folder or Hub id; the embedded model when left out.
        device (`str`, *optional*):
            Where it runs, such as `"cpu"` or `"cuda:0"`; each process of a launcher has its own GPU when left out.

    Returns:
        `Pipeline`: As `pipeline("docre", ...)` gives it.

    Raises:
        OSError: when there is no such checkpoint, or a part of it is missing.
        ValueError: when the checkpoint is none of this library, or there is no such device.
    """
    name = str(DEFAULT_MODEL) if model is None else model
    device = own_device() if device is None else check_device(device)
    _check_checkpoint(name, embedded=model is None)
    loaded = DocREForRelationExtraction.from_pretrained(name)
    processor = DocREProcessor.from_pretrained(name)
    return pipeline("docre", model=loaded, processor=processor, device=device)  # type: ignore[call-overload]


def load_config(model: str | None = None) -> DocREConfig:
    """Load the configuration of a checkpoint alone.

    Args:
        model (`str`, *optional*): Folder or Hub id; the embedded model when left out.

    Raises:
        OSError: when there is no such checkpoint.
        ValueError: when the checkpoint is none of this library.
    """
    name = str(DEFAULT_MODEL) if model is None else model
    _check_checkpoint(name, embedded=model is None)
    with looking_up(name):
        config = AutoConfig.from_pretrained(name)
    if not isinstance(config, DocREConfig):
        raise ValueError(describe_other_checkpoint(name, config.model_type))
    return config


def _check_checkpoint(name: str, *, embedded: bool) -> None:
    """Refuse what cannot be a checkpoint, before it is taken for the id of one on the Hub."""
    folder = Path(name)
    if folder.is_dir():
        if (folder / "config.json").is_file():
            return
        inside = sorted(path.parent.name for path in folder.glob("*/config.json"))
        instead = f" Name one of the folders in it: {', '.join(inside[:5])}." if inside else ""
        raise FileNotFoundError(f"{name} is a folder without a checkpoint: it has no config.json.{instead}")
    if embedded:
        raise FileNotFoundError(
            f"The embedded model is missing from this installation ({name}): install the package again, or name a "
            "model of your own with --model."
        )
    if folder.exists():
        raise NotADirectoryError(f"{name} is a file. Name the folder of the checkpoint.")


def extract_rows(
    pipe: Any, documents: Iterable[Document | Mapping[str, Any]], **options: Any
) -> Iterator[dict[str, Any]]:
    """Extract the relations of documents, as the rows that `docre extract` writes.

    Args:
        pipe (`DocREPipeline`): `pipeline("docre", ...)`.
        documents (iterable of [`Document`] or `dict`): What the pipeline takes, of any number.
        options: What the pipeline takes at call time.

    Yields:
        `dict`: Plain JSON: `title`, `text`, and the pipeline's answer. [`Document.from_dict`] reads it again.

    Raises:
        DocumentError: when a document is wrong; the message says which one, by its number from 0.
    """
    size = pipe.read_ahead(options.get("batch_size"))
    rest = enumerate(documents)
    while chunk := list(itertools.islice(rest, size)):
        read = [_read(pipe, item, number) for number, item in chunk]
        for document, answer in zip(read, pipe(read, **options), strict=True):
            yield {"title": document.title, "text": document.text, **answer}


def _read(pipe: Any, item: Document | Mapping[str, Any], number: int) -> Document:
    """Read a document, and let the pipeline refuse what it would refuse, in its words."""
    if isinstance(item, Document):
        return item
    document = None
    with suppress(DocumentError):
        document = Document.from_dict(item)
    if document is None or not document.entities:
        return cast(Document, pipe.preprocess(item, number).document)
    return document


def extract_files(
    pipe: Any,
    sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str] | None = None,
    *,
    format: str | None = None,
    strict: bool = True,
    resume: bool = False,
    **options: Any,
) -> ExtractionReport:
    """Extract the relations of every document of files and folders.

    Memory does not grow with the number of documents. An output file appears under its name when it is whole; until
    then the answers lie in a folder beside it, `OUT.partial`, and a run that was killed at any moment can go on from
    there. What it writes then is what an undisturbed run on this machine writes, byte for byte. Several processes,
    started by `torchrun`, each do a part of the documents, and process 0 writes the one output.

    Args:
        pipe (`DocREPipeline`): `pipeline("docre", ...)`.
        sources (`str`, `os.PathLike`, or a sequence of them): See [`Corpus`].
        output (`str` or `os.PathLike`, *optional*):
            File to write; gzipped where it ends in `.gz`. The standard output when left out.
        format (`str`, *optional*):
            `"jsonl"`, the pipeline's answer with title and text on a line for each document, which
            [`iter_documents`] reads again; `"json"`, the same in one list; `"submission"`, rows as CodaLab and
            `docre evaluate` take them; `"table"`, for people. By the name of `output` when left out, a table without
            one.
        strict (`bool`, *optional*, defaults to `True`): Stop at nonsense in a document; otherwise skip and count it.
        resume (`bool`, *optional*, defaults to `False`):
            Go on after the documents that an earlier run has done, with the same files (not copies of them), model
            and settings. Without it, such a run is an error.
        options: What the pipeline takes at call time.

    Returns:
        [`ExtractionReport`].

    Raises:
        DataFileError: when a file cannot be read or written, what is to be resumed is another run, or the input
            changes while it is read.
        DocumentError: when a document is wrong.
    """
    sources = [sources] if isinstance(sources, str | os.PathLike) else list(sources)
    format = choose_format(format, output)
    if pipe.device.type == "cpu":
        steady_memory()
    with join_processes() as processes:
        target = output_file(output)
        without = redirected_output() if target is None else [target, partial_folder(target)]
        corpus = Corpus(sources, strict=strict, without=without)
        _check(corpus, target, resume, processes)
        if target is None or corpus.reads_once:
            report = ExtractionReport()
            with open_output(output) as stream:
                write_answers(_extract_as_it_goes(pipe, corpus, options, report), stream, format, report.counts)
        else:
            report = _extract_in_parts(pipe, corpus, target, format, resume, processes, options)
    report.counts["files that are no documents"] += corpus.left_out
    report.counts["files and folders that were met again"] += corpus.met_again
    # An earlier run may have done all that is counted.
    asked = {**pipe._postprocess_params, **options}
    report.add_like({name: [] for name in (asked.get("head"), asked.get("tail")) if isinstance(name, str)})
    return report


def _check(corpus: Corpus, target: Path | None, resume: bool, processes: Processes) -> None:
    if target is not None and not corpus.reads_once:
        return
    what = "the standard input, or a pipe, can be read only once" if target is not None else "the output is no file"
    if resume:
        raise DataFileError(f"There is nothing to go on from: {what}. Read files and write one, or do not resume.")
    if processes.size > 1:
        raise DataFileError(f"Several processes need files to read from and one to write to, but {what}.")


def _extract_as_it_goes(pipe: Any, corpus: Corpus, options: dict[str, Any], report: ExtractionReport) -> Iterator[str]:
    before = corpus.describe()
    began = time.monotonic()
    with show_progress(corpus, Processes(), 0) as bar:
        for chunk in cut(corpus, pipe.read_ahead(options.get("batch_size"))):
            yield from _extract_chunk(pipe, chunk, options, report)
            bar.update(len(chunk))
            report.seconds = time.monotonic() - began
    now = None
    with suppress(OSError, DataFileError):
        now = corpus.describe()
    if now != before or not corpus.has_read(before):
        raise DataFileError(say_changed(corpus, "what was written is of no use"))


def _extract_in_parts(
    pipe: Any,
    corpus: Corpus,
    target: Path,
    format: str,
    resume: bool,
    processes: Processes,
    options: dict[str, Any],
) -> ExtractionReport:
    run = _prepare(pipe, corpus, target, format, processes, options)

    def describe() -> dict[str, Any]:
        if target.is_dir():
            raise DataFileError(f"{target} cannot be written (it is a folder).")
        return _describe(pipe, corpus, options)

    return run.go(describe, resume=resume)


def _prepare(
    pipe: Any, corpus: Corpus, target: Path, format: str, processes: Processes, options: dict[str, Any]
) -> CorpusRun:
    parts = CorpusParts(target, processes.rank)

    def write(chunks: int, report: ExtractionReport) -> None:
        with open_output(target) as stream:
            write_answers(parts.lines(chunks), stream, format, report.counts)

    def extract(chunk: list[Reader], report: ExtractionReport) -> bytes:
        return "".join(_extract_chunk(pipe, chunk, options, report)).encode()

    # Where the pipeline cuts, so that it makes the same batches whoever goes on from wherever.
    return CorpusRun(parts, corpus, processes, pipe.read_ahead(options.get("batch_size")), extract, write)


def _extract_chunk(pipe: Any, chunk: list[Reader], options: dict[str, Any], report: ExtractionReport) -> list[str]:
    documents = [read() for read in chunk]
    lines = []
    settings = {**pipe._postprocess_params, **options}
    for document, row in zip(documents, extract_rows(pipe, documents, **options), strict=True):
        report.add(document, row, settings)
        lines.append(json.dumps(row, ensure_ascii=False) + "\n")
    return lines


def _describe(pipe: Any, corpus: Corpus, options: Mapping[str, Any]) -> dict[str, Any]:
    """Name all that the answers depend on, but for the machine."""
    settings = {**pipe._postprocess_params, **options}
    settings.pop("batch_size", None)
    return {
        "version": __version__,
        "input": corpus.describe(),
        "model": digest_pipeline(pipe),
        "strict": corpus.strict,
        "documents in a chunk": pipe.read_ahead(options.get("batch_size")),
        **settings,
    }


__all__ = [
    "FORMATS",
    "ExtractionReport",
    "choose_format",
    "extract_files",
    "extract_rows",
    "load_config",
    "load_pipeline",
]
