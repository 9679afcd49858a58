"""What a run over a corpus has done so far, on disk: enough to go on after it was killed at any moment."""

from __future__ import annotations

import json
import os
import re
import stat
from array import array
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from transformers.utils import logging

from .corpus_journal import JOURNAL, journal_of, read_journal
from .output_files import DataFileError, lock_file

logger = logging.get_logger(__name__)

_RUN = "run.json"
_PART = "part-"
_LOCK = ".lock"
_OURS = re.compile(rf"\.?{re.escape(_RUN)}|{_PART}\d+(-\d+)?({re.escape(JOURNAL)})?|{re.escape(_LOCK)}")
_AWAY = "Move it away, or choose another name for the output."
# Numbers that are known of a chunk: its part, start and end of its answers in there, files read so far, documents.
_FIELDS = 5


class CorpusParts:
    """The folder `OUT.partial`, which holds the answers to the documents that are done until all are.

    Answers are any bytes that a model's answers to documents are written as. Documents are done in chunks of a fixed
    number, numbered in the order of the input. A process appends the answers of a chunk to a file of its own,
    `part-00000`, and when these are on the disk a line to `part-00000.journal`, which says where they are and what was
    counted. So a chunk is done when its line is there: whatever a killed process left behind the last one is cut off.
    `run.json` says of which input, model and settings the answers are; a folder without it holds nothing, and the run
    that begins there removes what is left. Whoever holds `.lock`, from [`begin`] to [`release`], is the only run.

    Args:
        output (`pathlib.Path`): The file that will be written.
        process (`int`, *optional*, defaults to 0): The number of this process.
        limit (`int`, *optional*):
            Bytes after which a process goes on in another file, `part-00000-00001`. `None` is no limit.
        others (`Collection[str]`, *optional*): Names of other files that a run may have left in the folder.
    """

    def __init__(
        self, output: Path, process: int = 0, *, limit: int | None = None, others: Collection[str] = ()
    ) -> None:
        self.folder = partial_folder(output)
        self._own = f"{_PART}{process:05d}"
        self._part = self.folder / self._own
        self._limit = limit
        self._others = others
        self._parts: list[Path] = []
        # One after the other, for millions of documents; of a chunk that is not done, -1.
        self._chunks = array("q")
        self._counts: Counter[str] = Counter()
        self._held: BinaryIO | None = None
        self._answers: BinaryIO | None = None
        self._journal: BinaryIO | None = None
        # Of this process' own part: bytes of journal and of answers that count.
        self._valid = self._size = 0

    # Of the run: one process calls these.

    def begin(self, run: Mapping[str, Any], *, resume: bool) -> int:
        """Make the folder, or check that it is this run's, and take it for this run alone.

        Args:
            run (`Mapping[str, Any]`): What the answers depend on, as JSON.
            resume (`bool`): Whether to go on with what is there.

        Returns:
            `int`: How many documents are done.

        Raises:
            DataFileError: when it holds answers and `resume` is `False`, or those of another run, or what is none;
                when another run is at work there; when a journal in it is none that a run has written; when it cannot
                be made.
        """
        run = json.loads(json.dumps(run))
        self._take()
        # A process whose run has ended may still be at work.
        for part in self._find_parts():
            with open(part, "ab") as stream:
                lock_file(stream, part)
        known = self.run()
        done = self._read_all()
        if known is None and self._find_parts():
            logger.warning(
                f"{self.folder} has no {_RUN} that can be read: the answers there are of no use, and are removed."
            )
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
        return done

    def _take(self) -> None:
        """Make the folder, and make it this run's alone until it is released or the process ends."""
        path = self.folder / _LOCK
        while self._held is None:  # again if another run removed the folder just now
            try:
                self.folder.mkdir(exist_ok=True)
            except FileExistsError:
                self._refuse_a_file()
                continue
            except OSError as error:
                raise self._not_made(error) from None
            try:
                self._refuse_other_files()
                stream = open(path, "ab")  # noqa: SIM115  # held until the run ends
            except FileNotFoundError:
                continue
            except OSError as error:
                raise self._not_made(error) from None
            try:
                lock_file(stream, self.folder)
                with suppress(FileNotFoundError):
                    if os.path.samestat(path.stat(), os.fstat(stream.fileno())):
                        self._held = stream
            finally:
                if self._held is None:
                    stream.close()

    def _refuse_a_file(self) -> None:
        with suppress(FileNotFoundError):
            mode = os.lstat(self.folder).st_mode
            if not (stat.S_ISDIR(mode) or (stat.S_ISLNK(mode) and self.folder.is_dir())):
                raise DataFileError(
                    f"{self.folder} is no folder, but the answers go there until all are done. {_AWAY}"
                )

    def _refuse_other_files(self) -> None:
        names = set(os.listdir(self.folder)).difference(self._others)
        others = sorted(name for name in names if not _OURS.fullmatch(name))
        if others:
            raise DataFileError(
                f"{self.folder} holds what is not of such a run ({', '.join(others[:3])}), but the answers go "
                f"there until all are done. {_AWAY}"
            )

    def _not_made(self, error: OSError) -> DataFileError:
        missing = "" if self.folder.parent.is_dir() else f": there is no folder {self.folder.parent}"
        return DataFileError(f"{self.folder} cannot be made ({error.strerror}{missing}).")

    def _make(self, run: Mapping[str, Any]) -> None:
        try:
            self.void()
            for path in self._inside():
                path.unlink()
            self._describe(run)
        except OSError as error:
            self.remove()
            raise self._not_made(error) from None

    def _describe(self, run: Mapping[str, Any]) -> None:
        unfinished = self.folder / f".{_RUN}"
        with open(unfinished, "wb") as stream:
            stream.write(json.dumps(run, indent=1).encode())
            _flush(stream)
        unfinished.replace(self.folder / _RUN)

    def _inside(self) -> list[Path]:
        return [path for path in self.folder.iterdir() if path.name != _LOCK]

    def remove(self) -> None:
        """Remove the folder, if it is this run's."""
        if self._held is None:
            return
        with suppress(OSError):
            self.void()
            for path in self._inside():
                path.unlink()
            if os.name == "nt":
                self.release()  # what is open cannot be removed there
            # The last: from here on another run may take the folder, and then it stays.
            (self.folder / _LOCK).unlink()
            self.release()
            self.folder.rmdir()
        self.release()

    def become(self, target: Path) -> None:
        """Turn the folder, if it is this run's, into the output: the parts and `others` stay in it.

        Raises:
            DataFileError: when something is there already.
        """
        if os.name == "nt":
            self.release()  # what is open cannot be renamed there
        try:
            # At once, so that whoever is killed here has either all or what to go on from.
            self.folder.rename(target)
        except OSError as error:
            raise DataFileError(f"{target} cannot be made ({error.strerror}).") from None
        for path in (target / _RUN, target / _LOCK, *target.glob(f"{_PART}*{JOURNAL}")):
            with suppress(OSError):
                path.unlink(missing_ok=True)
        self.release()

    def release(self) -> None:
        """Leave the folder to other runs."""
        if self._held is not None:
            self._held.close()
            self._held = None

    # Of a part: each process calls these.

    def run(self) -> dict[str, Any] | None:
        """Read of what the answers are; `None` where nothing says so, and the folder holds none."""
        try:
            known = json.loads((self.folder / _RUN).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None
        return known if isinstance(known, dict) else None

    def void(self) -> None:
        """Let all answers count for nothing."""
        (self.folder / _RUN).unlink(missing_ok=True)

    def __enter__(self) -> CorpusParts:
        """Open the part of this process, without what is behind the last chunk that is done."""
        own = [part for part in self._find_parts() if re.fullmatch(rf"{self._own}(-\d+)?", part.name)]
        self._open(own[-1] if own else self._part)
        return self

    def _open(self, part: Path) -> None:
        self._part = part
        self._answers = self._part.open("ab")
        lock_file(self._answers, self._part)
        self._journal = journal_of(self._part).open("ab")
        self._read_all()
        self._answers.truncate(self._size)
        self._journal.truncate(self._valid)
        # Files that are opened to append know their place only after having written.
        self._answers.seek(0, os.SEEK_END)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the part."""
        self._close()

    def _close(self) -> None:
        for stream in (self._answers, self._journal):
            if stream is not None:
                with suppress(OSError):  # a full disk says so a second time
                    stream.close()
        self._answers = self._journal = None

    def is_done(self, chunk: int) -> bool:
        """Whether the answers of a chunk are there."""
        at = chunk * _FIELDS
        return at < len(self._chunks) and self._chunks[at] >= 0

    def read(self, chunk: int) -> int:
        """Return what was said of the files that had been read when a chunk was done that is there."""
        return self._chunks[chunk * _FIELDS + 3]

    def documents_done(self, process: int, processes: int) -> int:
        """Count the documents of one process' chunks that are there."""
        numbers = self._chunks[process * _FIELDS + _FIELDS - 1 :: processes * _FIELDS]
        return sum(number for number in numbers if number > 0)

    def add(self, chunk: int, answers: bytes, counts: Mapping[str, int], read: int = 0) -> None:
        """Store the answers of a chunk; they are on the disk when this returns.

        Args:
            chunk (`int`): Its number.
            answers (`bytes`): Those of all its documents.
            counts (`Mapping[str, int]`): What was counted, `documents` among it.
            read (`int`, *optional*, defaults to 0): A number for the files that were read up to here, for [`read`].

        Raises:
            DataFileError: when there is no room, or another reason not to write.
        """
        assert self._answers is not None and self._journal is not None
        try:
            if self._limit is not None and self._answers.tell() >= self._limit:
                number = int(self._part.name.removeprefix(self._own).lstrip("-") or 0)
                self._close()
                self._open(self.folder / f"{self._own}-{number + 1:05d}")
            start = self._answers.tell()
            self._answers.write(answers)
            end = self._answers.tell()
            _flush(self._answers)
            entry = {"chunk": chunk, "start": start, "end": end, "read": read, "counts": dict(counts)}
            self._journal.write(f"{json.dumps(entry)}\n".encode())
            _flush(self._journal)
        except OSError as error:
            raise DataFileError(f"{self._part} cannot be written ({error.strerror}).") from None
        self._note(self._part, entry)

    # Of all parts, when all processes are done.

    def counts(self) -> Counter[str]:
        """Add up what was counted in all chunks that are done."""
        self._read_all()
        return Counter(self._counts)

    def lines(self, chunks: int) -> Iterator[str]:
        """Read answers that are lines of text, in the order of the input.

        Args:
            chunks (`int`): How many chunks the input has.

        Yields:
            `str`: The answer to a document, with a line break.

        Raises:
            DataFileError: when a chunk is missing.
        """
        with ExitStack() as stack:
            parts: dict[Path, BinaryIO] = {}
            for part, start, end in self.places(chunks):
                if part not in parts:
                    parts[part] = stack.enter_context(open(part, "rb"))
                parts[part].seek(start)
                # No other character ends a line: an answer may hold some that `splitlines` takes for such.
                for line in parts[part].read(end - start).decode().split("\n")[:-1]:
                    yield f"{line}\n"

    def places(self, chunks: int) -> Iterator[tuple[Path, int, int]]:
        """Find the answers in the order of the input.

        Args:
            chunks (`int`): How many chunks the input has.

        Yields:
            `tuple[Path, int, int]`: For each chunk the file of its answers, and where in it they start and end.

        Raises:
            DataFileError: when a chunk is missing.
        """
        self._read_all()
        missing = sum(not self.is_done(chunk) for chunk in range(chunks))
        if missing:
            raise DataFileError(
                f"{self.folder} lacks {missing} of {chunks} chunks: another process has not done its part. Start "
                "the run again, and pass resume=True."
            )
        for number in range(chunks):
            part, start, end, *_ = self._chunks[number * _FIELDS : (number + 1) * _FIELDS]
            yield self._parts[part], start, end

    def _read_all(self) -> int:
        """Read the journals of all parts, and return how many documents are done."""
        self._parts, self._chunks, self._counts = [], array("q"), Counter()
        self._valid = self._size = 0
        if self.run() is None:
            return 0
        for part in self._find_parts():
            for entry, end in read_journal(part):
                self._note(part, entry)
                if part == self._part:
                    self._valid, self._size = end, entry["end"]
        return self._counts["documents"]

    def _note(self, part: Path, entry: Mapping[str, Any]) -> None:
        chunk, counts = entry["chunk"], entry["counts"]
        if self.is_done(chunk):
            return
        if part not in self._parts:
            self._parts.append(part)
        self._chunks.extend([-1] * ((chunk + 1) * _FIELDS - len(self._chunks)))
        place = (self._parts.index(part), entry["start"], entry["end"], entry["read"], counts["documents"])
        self._chunks[chunk * _FIELDS : (chunk + 1) * _FIELDS] = array("q", place)
        self._counts.update(counts)

    def _find_parts(self) -> list[Path]:
        return sorted(path for path in self.folder.glob(f"{_PART}*") if path.suffix != JOURNAL)


def partial_folder(output: Path) -> Path:
    """Return the folder of the answers that an output file will be made of."""
    return output.with_name(f"{output.name}.partial")


def is_partial_folder(path: str | os.PathLike[str]) -> bool:
    """Whether a folder holds the answers of a run that has not ended."""
    return str(path).endswith(".partial") and os.path.isfile(os.path.join(path, _RUN))


def _flush(stream: BinaryIO) -> None:
    stream.flush()
    os.fsync(stream.fileno())


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


__all__ = ["CorpusParts", "is_partial_folder", "partial_folder"]
