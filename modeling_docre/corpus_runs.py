"""Runs over a corpus, chunk by chunk, in one process or several, that are killed and go on."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from transformers.utils import logging

from .corpus import Corpus
from .corpus_parts import CorpusParts
from .documents import Document
from .extraction_report import ExtractionReport
from .output_files import DataFileError
from .processes import Processes

logger = logging.get_logger(__name__)

Reader = Callable[[], Document]
"""A document that is not read yet."""

_NOT_KEPT = "they are not kept"


@dataclass(frozen=True)
class CorpusRun:
    """A run of a model over a corpus. What it writes is what an undisturbed run would, wherever it was killed.

    Args:
        parts ([`CorpusParts`]): Where the answers are until all are there.
        corpus ([`Corpus`]): The documents; the same for all processes.
        processes ([`Processes`]): Those that share the work.
        size (`int`): Documents of a chunk.
        answer (`Callable`):
            Makes the bytes of the answers of a chunk, a list of [`Reader`]s, and counts in the [`ExtractionReport`]
            that it gets, which is that chunk's.
        write (`Callable`):
            Makes the output, in process 0, of all answers; it gets the number of chunks and the report of all.
        end (`Callable`, *optional*): What then becomes of the parts; they are removed when left out.
    """

    parts: CorpusParts
    corpus: Corpus
    processes: Processes
    size: int
    answer: Callable[[list[Reader], ExtractionReport], bytes]
    write: Callable[[int, ExtractionReport], None]
    end: Callable[[], None] | None = None

    def go(self, describe: Callable[[], Mapping[str, Any]], *, resume: bool) -> ExtractionReport:
        """Do what is not done, and make the output.

        Args:
            describe (`Callable`):
                Names all that the answers depend on, `input` as [`Corpus.describe`] does; called by process 0.
            resume (`bool`): Whether to go on with what an earlier run has done.

        Returns:
            [`ExtractionReport`].

        Raises:
            DataFileError: when what is to be resumed is another run, or the input changes while it is read.
        """
        parts = self.parts

        def begin() -> None:
            done = parts.begin(describe(), resume=resume)
            if resume and not done:
                logger.warning(f"{parts.folder} holds nothing to go on from; extraction starts at the beginning.")

        try:
            self.processes.first(begin)
            return self.run()
        finally:
            parts.release()

    def run(self) -> ExtractionReport:
        """As [`CorpusRun.go`], of a run that has begun."""
        parts = self.parts
        try:
            with parts:
                report, chunks = self._fill()
                self._check_unchanged()
                self._add_up(report)
                if self.processes.rank == 0:
                    report.counts.update(parts.counts())
                    self.write(chunks, report)
            if self.processes.rank == 0:
                (self.end or parts.remove)()
        except BaseException as error:
            done = parts.counts()["documents"]
            # What cannot be looked at now may be there again later; going on compares it then.
            with suppress(OSError, DataFileError):
                known = parts.run()
                if done and known is not None and known["input"] != self.corpus.describe():
                    parts.void()
                    done = 0
                    error.add_note(say_changed(self.corpus, _NOT_KEPT))
            if done:
                error.add_note(
                    f"The answers to {done} documents are kept in {parts.folder}. To go on after them, pass "
                    "resume=True."
                )
            elif self.processes.size == 1:
                parts.remove()
            raise
        return report

    def _check_unchanged(self) -> None:
        """Refuse what was read if it need not be what the run began with: each process reads the input by itself."""
        known = self.parts.run()
        try:
            unchanged = (
                known is not None and self.corpus.has_read(known["input"]) and known["input"] == self.corpus.describe()
            )
        except (OSError, DataFileError):
            unchanged = False
        if not unchanged:
            # Not even for a later run that finds the first input again.
            self.parts.void()
            raise DataFileError(say_changed(self.corpus, _NOT_KEPT))

    def _fill(self) -> tuple[ExtractionReport, int]:
        """Do the chunks of this process that are not done, and return how many there are of all."""
        parts, corpus, rank = self.parts, self.corpus, self.processes.rank
        report = ExtractionReport(process=rank)
        began = time.monotonic()
        number = -1
        with show_progress(corpus, self.processes, parts.documents_done(rank, self.processes.size)) as bar:
            for number, chunk in enumerate(cut(corpus, self.size)):
                if parts.is_done(number):
                    if parts.read(number) != corpus.read:
                        # Files that were there for a while: its answers are of other documents.
                        parts.void()
                        raise DataFileError(say_changed(corpus, _NOT_KEPT))
                    continue
                if number % self.processes.size != rank:
                    continue
                read = corpus.read
                done = ExtractionReport()
                answers = self.answer(chunk, done)
                parts.add(number, answers, done.counts, read)
                report.documents += done.documents
                report.pairs += done.pairs
                report.tokens += done.tokens
                report.add_like(done.like)
                report.add_unreadable(done.unreadable)
                bar.update(len(chunk))
        report.seconds = time.monotonic() - began
        return report, number + 1

    def _add_up(self, report: ExtractionReport) -> None:
        """Make the figures of one process those of all, when all are done."""
        figures = self.processes.collect((report.documents, report.pairs, report.tokens, report.seconds))
        documents, pairs, tokens, seconds = zip(*figures, strict=True)
        report.documents, report.pairs, report.tokens = sum(documents), sum(pairs), sum(tokens)
        report.seconds = max(seconds)


def cut(corpus: Corpus, size: int) -> Iterator[list[Reader]]:
    """Cut a corpus into chunks of `size` documents."""
    readers = corpus.readers()
    while chunk := list(itertools.islice(readers, size)):
        yield chunk


def show_progress(corpus: Corpus, processes: Processes, done: int) -> Any:
    """Make a progress bar, which is seen in a terminal alone; `done` documents were done before."""
    shown = processes.rank == 0 and sys.stderr.isatty() and logging.is_progress_bar_enabled()
    total = None if not shown or processes.size > 1 else corpus.count()
    # Others' documents are not known here.
    name = f"process 0 of {processes.size}" if processes.size > 1 else None
    return logging.tqdm(total=total, initial=done, unit=" documents", desc=name, disable=not shown)


def say_changed(corpus: Corpus, consequence: str) -> str:
    """Say that the input changed, and what follows for the answers."""
    return (
        f"The input changed while it was read ({', '.join(corpus.sources)}: names, sizes or times of change), so "
        f"that it is not sure which documents the answers belong to: {consequence}. Start again when nothing writes "
        "there, or read a copy."
    )


__all__ = ["CorpusRun", "Reader", "cut", "say_changed", "show_progress"]
