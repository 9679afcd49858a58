"""What a run of extraction has done so far, on disk: enough to go on after it was killed at any moment."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple

from .output_files import DataFileError

_RUN = "run.json"
_PART = "part-"
_JOURNAL = ".journal"


class _Chunk(NamedTuple):
    """Where the answers of one chunk lie."""

    part: Path
    start: int
    end: int


class ExtractionParts:
    """The folder `OUT.partial`, which holds the answers to the documents that are done until all are.

    Documents are done in chunks of a fixed number, numbered in the order of the input. A process appends the answers
    of a chunk to a file of its own, `part-00000`, and when these are on the disk a line to `part-00000.journal`,
    which says where they are and what was counted. So a chunk is done when its line is there: whatever a killed
    process left behind the last one is cut off. `run.json` says of which input, model and settings the answers are.

    Args:
        output (`pathlib.Path`): The file that will be written.
        process (`int`, *optional*, defaults to 0): The number of this process.
    """

    def __init__(self, output: Path, process: int = 0) -> None:
        self.folder = partial_folder(output)
        self._part = self.folder / f"{_PART}{process:05d}"
        self._chunks: dict[int, _Chunk] = {}
        self._counts: dict[int, Counter[str]] = {}
        self._answers: BinaryIO | None = None
        self._journal: BinaryIO | None = None
        # Of this process' own part: bytes of journal and of answers that count.
        self._valid = self._size = 0

    # Of the run: one process calls these.

    def begin(self, run: Mapping[str, Any], *, resume: bool) -> None:
        """Make the folder, or check that it is this run's.

        Args:
            run (`Mapping[str, Any]`): What the answers depend on, as JSON.
            resume (`bool`): Whether to go on with what is there.

        Raises:
            DataFileError: when it holds answers and `resume` is `False`, or those of another run; when it cannot be
                made.
        """
        run = json.loads(json.dumps(run))
        for part in self._parts():
            with open(part, "ab") as stream:
                _lock(stream, part)
        described = self.folder / _RUN
        # It is written last: a folder without it holds nothing.
        known = json.loads(described.read_text(encoding="utf-8")) if described.is_file() else None
        done = self._read_all() if known is not None else 0
        if done and not resume:
            raise DataFileError(
                f"{self.folder} holds the answers to {done} documents, of a run that did not end. To go on after "
                "them, pass resume=True; to begin anew, remove that folder."
            )
        if done and known is not None:
            changes = list(_compare(known, run))
            if changes:
                raise DataFileError(
                    f"{self.folder} is of another run: {'; '.join(changes)}. Take what was taken then, or remove that "
                    "folder to begin anew."
                )
        if not done:
            self._make(run)
        elif known != run:
            # A strict run that goes on as one that skips.
            self._describe(run)

    def _make(self, run: Mapping[str, Any]) -> None:
        try:
            if self.folder.is_dir():
                shutil.rmtree(self.folder)
            self.folder.mkdir()
            self._describe(run)
        except OSError as error:
            missing = "" if self.folder.parent.is_dir() else f": there is no folder {self.folder.parent}"
            raise DataFileError(f"{self.folder} cannot be made ({error.strerror}{missing}).") from None

    def _describe(self, run: Mapping[str, Any]) -> None:
        unfinished = self.folder / f".{_RUN}"
        with open(unfinished, "w", encoding="utf-8") as stream:
            json.dump(run, stream, indent=1)
            stream.flush()
            os.fsync(stream.fileno())
        unfinished.replace(self.folder / _RUN)

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    # Of a part: each process calls these.

    def __enter__(self) -> ExtractionParts:
        """Open the part of this process, without what is behind the last chunk that is done."""
        self._answers = self._part.open("ab")
        _lock(self._answers, self._part)
        self._journal = _journal_of(self._part).open("ab")
        self._read_all()
        self._answers.truncate(self._size)
        self._journal.truncate(self._valid)
        # Files that are opened to append know their place only after having written.
        self._answers.seek(0, os.SEEK_END)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the part."""
        for stream in (self._answers, self._journal):
            if stream is not None:
                with suppress(OSError):  # a full disk says so a second time
                    stream.close()
        self._answers = self._journal = None

    def is_done(self, chunk: int) -> bool:
        """Whether the answers of a chunk are there."""
        return chunk in self._chunks

    def documents_done(self, process: int, processes: int) -> int:
        """Count the documents of one process' chunks that are there."""
        return sum(counts["documents"] for chunk, counts in self._counts.items() if chunk % processes == process)

    def add(self, chunk: int, lines: list[str], counts: Mapping[str, int]) -> None:
        """Store the answers of a chunk; they are on the disk when this returns.

        Args:
            chunk (`int`): Its number.
            lines (`list[str]`): An answer for each document, as JSON on one line that ends in a line break.
            counts (`Mapping[str, int]`): What was counted, `documents` among it.

        Raises:
            DataFileError: when there is no room, or another reason not to write.
        """
        assert self._answers is not None and self._journal is not None
        start = self._answers.tell()
        try:
            self._answers.write("".join(lines).encode())
            end = self._answers.tell()
            _flush(self._answers)
            entry = {"chunk": chunk, "start": start, "end": end, "counts": dict(counts)}
            self._journal.write(f"{json.dumps(entry)}\n".encode())
            _flush(self._journal)
        except OSError as error:
            raise DataFileError(f"{self._part} cannot be written ({error.strerror}).") from None
        self._chunks[chunk] = _Chunk(self._part, start, end)
        self._counts[chunk] = Counter(counts)

    # Of all parts, when all processes are done.

    def counts(self) -> Counter[str]:
        """Add up what was counted in all chunks that are done."""
        self._read_all()
        total: Counter[str] = Counter()
        for chunk in sorted(self._counts):
            total.update(self._counts[chunk])
        return total

    def lines(self, chunks: int) -> Iterator[str]:
        """Read the answers in the order of the input.

        Args:
            chunks (`int`): How many chunks the input has.

        Yields:
            `str`: The answer to a document, with a line break.

        Raises:
            DataFileError: when a chunk is missing.
        """
        self._read_all()
        missing = [chunk for chunk in range(chunks) if chunk not in self._chunks]
        if missing:
            raise DataFileError(
                f"{self.folder} lacks {len(missing)} of {chunks} chunks: another process has not done its part. Start "
                "the run again, and pass resume=True."
            )
        with ExitStack() as stack:
            parts = {part: stack.enter_context(open(part, "rb")) for part in self._parts()}
            for number in range(chunks):
                part, start, end = self._chunks[number]
                parts[part].seek(start)
                # No other character ends a line: an answer may hold some that `splitlines` takes for such.
                for line in parts[part].read(end - start).decode().split("\n")[:-1]:
                    yield f"{line}\n"

    def _read_all(self) -> int:
        """Read the journals of all parts, and return how many documents are done."""
        self._chunks, self._counts, self._valid, self._size = {}, {}, 0, 0
        for part in self._parts():
            journal = _journal_of(part)
            size = part.stat().st_size
            for line in journal.read_bytes().split(b"\n")[:-1] if journal.is_file() else ():
                entry = _parse(line)
                if entry is None or entry["end"] > size:
                    break
                self._chunks[entry["chunk"]] = _Chunk(part, entry["start"], entry["end"])
                self._counts[entry["chunk"]] = Counter(entry["counts"])
                if part == self._part:
                    self._valid += len(line) + 1
                    self._size = entry["end"]
        return sum(counts["documents"] for counts in self._counts.values())

    def _parts(self) -> list[Path]:
        return sorted(path for path in self.folder.glob(f"{_PART}*") if path.suffix != _JOURNAL)


def partial_folder(output: Path) -> Path:
    """Return the folder of the answers that an output file will be made of."""
    return output.with_name(f"{output.name}.partial")


def _journal_of(part: Path) -> Path:
    return part.with_name(part.name + _JOURNAL)


def _flush(stream: BinaryIO) -> None:
    stream.flush()
    os.fsync(stream.fileno())


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and {"chunk", "start", "end", "counts"} <= set(entry) else None


def _compare(known: Mapping[str, Any], run: Mapping[str, Any]) -> Iterator[str]:
    """Say what differs between two runs."""
    for name in sorted({*known, *run}):
        before, now = known.get(name), run.get(name)
        if before == now or (name == "strict" and before):
            continue
        if isinstance(before, Mapping) or isinstance(now, Mapping) or len(f"{before}{now}") > 100:
            yield f"{name} changed since"
        else:
            yield f"{name} was {json.dumps(before)} and is {json.dumps(now)} now"


try:
    import fcntl
except ImportError:  # not a Unix: two runs for one output are then not noticed

    def _lock(stream: BinaryIO, part: Path) -> None:
        pass

else:

    def _lock(stream: BinaryIO, part: Path) -> None:
        """Take a file for this process alone; the system frees it when the process ends, however it ends."""
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise DataFileError(
                f"{part} is being written by another process: wait until that run ends, or end it first."
            ) from None


__all__ = ["ExtractionParts", "partial_folder"]
