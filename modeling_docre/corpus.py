"""Many files as one sequence of documents: folders, file by file, in an order that stays."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from transformers.utils import logging

from .corpus_parts import is_partial_folder
from .data_files import check_document_file, document_readers, file_kind, is_document_file, readable
from .documents import Document, DocumentError
from .output_files import DataFileError
from .parquet_files import open_table

logger = logging.get_logger(__name__)

# What lies beside the documents of published data, under names that documents could have.
_NO_DOCUMENTS = (
    *("rel_info.json", "rel2id.json", "ner2id.json", "word2id.json", "char2id.json"),
    *("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "soft_labels.json"),
)


class Corpus:
    """The documents of files and folders, in the order of their names.

    Of a folder, the names in it are in memory while it is read; the names of folders, and of files that were named or
    linked to, to the end.

    Args:
        sources (sequence of `str` or `os.PathLike`):
            Files as [`iter_documents`] takes them, and folders, which are read with all folders in them, sorted by
            name. Links are followed; no folder and no file is read twice, whichever sources and links lead there:
            what is met again is counted in `met_again`. What begins with a dot, has another ending, or is a table
            that comes with published data (such as `rel_info.json`) is left out of folders and counted in `left_out`,
            and so is the folder of an extraction that has not ended.
        strict (`bool`, *optional*, defaults to `True`):
            As for [`iter_documents`]. If not, what cannot be read of a file is also skipped: it becomes one empty
            document that has the file's name for its title.
        without (sequence of `os.PathLike`, *optional*): Files and folders that are no input: the output.

    Raises:
        DataFileError: when a source does not exist, or its name is none of a document file.
    """

    def __init__(
        self,
        sources: Sequence[str | os.PathLike[str]],
        *,
        strict: bool = True,
        without: Sequence[str | os.PathLike[str]] = (),
    ) -> None:
        if not sources:
            raise DataFileError("There is nothing to read: name a file or a folder.")
        self.sources = [str(source) for source in sources]
        self.strict = strict
        self._without = set(map(os.path.realpath, without))
        self._names_without = set(map(os.path.basename, self._without))
        self.left_out = self.met_again = 0
        self._read = hashlib.sha256()
        for source in self.sources:
            if not os.path.isdir(source):
                check_document_file(source)
                if os.path.realpath(source) in self._without:
                    raise DataFileError(f"{source} is read and written: choose another name for the output.")

    @property
    def reads_once(self) -> bool:
        """Whether a source can be read only once: the standard input, or a pipe that has a name."""
        return any(map(_reads_once, self.sources))

    def files(self) -> Iterator[str]:
        """Find the files.

        Yields:
            `str`: Their names, in order.

        Raises:
            DataFileError: when a folder holds no document file, or cannot be read.
        """
        self.left_out = self.met_again = 0
        seen, nothing = _Seen(), True
        for source in self.sources:
            if not os.path.isdir(source):
                if not _reads_once(source) and not seen.add_file(os.path.realpath(source)):
                    self.met_again += 1
                    continue
                nothing = False
                yield source
                continue
            before, empty, real = self.met_again, True, os.path.realpath(source)
            if not seen.add_folder(real):
                self.met_again += 1
                continue
            for file in self._walk(source, real, seen):
                empty = nothing = False
                yield file
            if empty and (nothing or self.met_again == before):
                raise DataFileError(
                    f"{source}: no document file is in this folder. Documents are in files that end in .json, .jsonl, "
                    ".parquet or .txt."
                )

    def _walk(self, folder: str, real: str, seen: _Seen) -> Iterator[str]:
        """Find the files in a folder, without what was seen already: links may lead in circles."""
        try:
            with os.scandir(folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except PermissionError:
            raise DataFileError(f"{folder}: the folder may not be read. Change its permissions.") from None
        for entry in entries:
            path, name, link = entry.path, entry.name, entry.is_symlink()
            # Following every name to its end would take most of the time.
            if (link or name in self._names_without) and os.path.realpath(path) in self._without:
                continue
            end = os.path.realpath(path) if link else os.path.join(real, name)
            if not name.startswith("."):
                if os.path.isdir(path) if link else entry.is_dir():
                    if not is_partial_folder(path):
                        if seen.add_folder(end):
                            yield from self._walk(path, end, seen)
                        else:
                            self.met_again += 1
                        continue
                elif (os.path.isfile(path) if link else entry.is_file()) and _may_hold_documents(name):
                    if seen.add_file(end) if link else end not in seen.files:
                        yield path
                    else:
                        self.met_again += 1
                    continue
            self.left_out += 1

    def readers(self) -> Iterator[Callable[[], Document]]:
        """Find the documents without reading what is in them.

        Yields:
            `Callable`: As [`document_readers`] gives it.

        Raises:
            DataFileError: when a file is not what its name says.
        """
        self._read = hashlib.sha256()
        for file in self.files():
            with suppress(OSError):  # whoever reads the file says so
                self._read.update(_fingerprint(file))
            if self.strict:
                yield from document_readers(file)
                continue
            try:
                for read in document_readers(file, strict=False):
                    yield partial(_read_or_skip, read, file)
            except DataFileError as error:
                yield partial(_skip, file, error)

    def describe(self) -> dict[str, Any]:
        """Describe what the files hold, as far as their names, sizes and times of change tell.

        Raises:
            DataFileError: as [`Corpus.files`] does, and, if strict, when a file may not be read.
            OSError: when a file is gone.
        """
        digest = hashlib.sha256()
        number = size = 0
        for file in self.files():
            number += 1
            digest.update(_fingerprint(file))
            if _reads_once(file):
                continue
            if self.strict and not os.access(file, os.R_OK):
                raise DataFileError(f"{file}: the file may not be read. Change its permissions.")
            size += os.path.getsize(file)
        return {"files": number, "bytes": size, "digest": digest.hexdigest()}

    @property
    def read(self) -> int:
        """A number for the files that [`Corpus.readers`] has come to so far, as [`Corpus.describe`] looks at them."""
        return _number(self._read.hexdigest())

    def has_read(self, described: Mapping[str, Any]) -> bool:
        """Whether [`Corpus.readers`], at its end, has come to what was described, and nothing else."""
        return self.read == _number(described["digest"])

    def count(self) -> int | None:
        """Count the documents, where that costs little: `None` where it would mean to decode the files, or fails."""
        if self.reads_once:
            return None
        try:
            return self._count()
        except (DataFileError, OSError, ModuleNotFoundError):
            # Whoever reads the file says what is wrong with it, or skips it.
            return None

    def _count(self) -> int | None:
        total = 0
        for file in self.files():
            kind = file_kind(file)
            if kind == ".parquet":
                with open_table(file) as table:
                    total += table.metadata.num_rows
            elif kind == ".jsonl" and not file.lower().endswith(".gz"):
                with open(file, "rb") as stream:
                    total += sum(not line.isspace() for line in stream)
            elif kind == ".txt":
                total += 1
            else:
                return None
        return total


class _Seen:
    """Real paths of what was read: folders, and the files that were not met in their own folder."""

    def __init__(self) -> None:
        self.folders: set[str] = set()
        self.files: set[str] = set()

    def add_folder(self, real: str) -> bool:
        """Add a folder, and return whether it is new."""
        new = real not in self.folders
        self.folders.add(real)
        return new

    def add_file(self, real: str) -> bool:
        """Add a file that was named or linked to, and return whether it is new."""
        folder, name = os.path.split(real)
        in_folder = folder in self.folders and not name.startswith(".") and _may_hold_documents(name)
        new = not in_folder and real not in self.files
        if new:
            self.files.add(real)
        return new


def _fingerprint(file: str) -> bytes:
    """Name, size and times of a file: of its content, of itself, which nobody can set back, and of a link to it.

    Of what can be read only once, there is only the name.
    """
    figures: tuple[int, ...] = ()
    if not _reads_once(file):
        status = os.stat(file)
        figures = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, os.lstat(file).st_ctime_ns)
    return os.fsencode(os.path.abspath(file)) + "".join(f"\0{figure}" for figure in figures).encode() + b"\n"


def _number(digest: str) -> int:
    return int(digest[:14], 16)


def _reads_once(source: str) -> bool:
    return source == "-" or (os.path.exists(source) and not (os.path.isdir(source) or os.path.isfile(source)))


def _may_hold_documents(name: str) -> bool:
    return is_document_file(name) and name not in _NO_DOCUMENTS


def _read_or_skip(read: Callable[[], Document], file: str) -> Document:
    try:
        return read()
    except DataFileError as error:
        return _skip(file, error)


def _skip(file: str, error: DataFileError | DocumentError) -> Document:
    # A name that is not UTF-8 could not be written to a log.
    logger.warning(f"Skipped: {readable(str(error))}")
    return Document(readable(file), "", (), repairs=(("file that cannot be read to its end", 1),))


__all__ = ["Corpus"]
