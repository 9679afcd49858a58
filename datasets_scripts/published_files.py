"""Files in the forms that data sets are published in: which form one has, and the documents in it."""

from __future__ import annotations

import codecs
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from modeling_docre.documents import DocumentError

from .dwie import iterate_dwie
from .edge_oriented import is_edge_oriented, iterate_edge_oriented
from .hacred import VIEWS, iterate_hacred
from .json_files import first_entry, iterate_entries
from .mesh import read_mesh_tree
from .pubtator import is_pubtator, iterate_pubtator
from .renet import iterate_renet
from .text_lines import open_bytes

FORMATS = ("docred", "hacred", "dwie", "pubtator", "edge-oriented", "renet")
# Those with candidate pairs whose tail is a disease.
_WITH_DISEASES = ("pubtator", "edge-oriented", "renet")
# Bytes of a line that are looked at; a whole corpus may be one line.
_HEAD = 1 << 16


@dataclass(frozen=True)
class FileStamp:
    """
    A file as it was found.

    Args:
        name (`str`): Its absolute path.
        size (`int`): Bytes.
        changed (`int`): When it was last changed, in nanoseconds.
    """

    name: str
    size: int
    changed: int

    @classmethod
    def of(cls, path: Path) -> FileStamp:
        """Name a file as it is now; a link keeps its own name, which says more than what it leads to."""
        status = path.stat()
        return cls(os.path.abspath(path), status.st_size, status.st_mtime_ns)


@dataclass(frozen=True)
class ReadingOptions:
    """
    How to read what the form of a file leaves open.

    Args:
        format (`str`, *optional*): One of [`FORMATS`]; found by content and name if not given.
        view (`str`, *optional*, defaults to `"char"`): For HacRED, `"char"` or `"word"`.
        mesh_tree (`str` or `os.PathLike`, *optional*): For CDR and GDA, the tree of MeSH.

    Raises:
        ValueError: If there is no such format or view.
        FileNotFoundError: If there is no such tree.
    """

    format: str | None = None
    view: str = "char"
    mesh_tree: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        """Check what can be checked without a file."""
        if self.format not in (None, *FORMATS):
            raise ValueError(f"`format` is {self.format!r}: pass one of {', '.join(map(repr, FORMATS))}.")
        if self.view not in VIEWS:
            raise ValueError(f"`view` is {self.view!r}: pass one of {', '.join(map(repr, VIEWS))}.")
        if self.mesh_tree is not None and not Path(self.mesh_tree).expanduser().is_file():
            raise FileNotFoundError(f"`mesh_tree`: there is no file {str(self.mesh_tree)!r} in {Path.cwd()}.")


@dataclass(frozen=True)
class FileSource:
    """
    The files of a split.

    Args:
        name (`str`): Path of the file, or of the folder where there are several.
        files (`tuple[FileStamp, ...]`): The files.
        form (`str`): One of [`FORMATS`].
        view (`str`, *optional*): Which view of HacRED's.
        mesh_tree ([`FileStamp`], *optional*): The tree of MeSH.
        part (`str`, *optional*): Which part of RENET's training data, `"train"` or `"validation"`.
    """

    name: str
    files: tuple[FileStamp, ...]
    form: str
    view: str | None = None
    mesh_tree: FileStamp | None = None
    part: str | None = None

    @classmethod
    def of(cls, path: Path, files: Iterable[Path], form: str, options: ReadingOptions) -> FileSource:
        """
        Name the files as they are now.

        Raises:
            ValueError: If an option is given that the form has no use for.
        """
        if options.mesh_tree is not None and form not in _WITH_DISEASES:
            raise ValueError(f"`mesh_tree` is for {', '.join(_WITH_DISEASES)}, and {path} is in the form {form!r}.")
        if options.view != VIEWS[0] and form != "hacred":
            raise ValueError(f"`view` is for HacRED, and {path} is in the form {form!r}: leave it out.")
        source = cls(os.path.abspath(path), tuple(map(FileStamp.of, files)), form)
        if form == "hacred":
            return replace(source, view=options.view)
        if options.mesh_tree is not None:
            return replace(source, mesh_tree=FileStamp.of(Path(options.mesh_tree).expanduser()))
        return source

    def entries(self, strict: bool, repairs: Counter[str]) -> Iterator[tuple[str, Mapping[str, Any] | DocumentError]]:
        """
        Yield where each entry stands, and the entry, or why it cannot be read; count what had to be skipped.

        Entries are dicts in one of the two forms that [`Document.from_dict`] reads.
        """
        path = Path(self.name)
        tree = None if self.mesh_tree is None else read_mesh_tree(Path(self.mesh_tree.name))
        if self.form == "hacred":
            return iterate_hacred(path, self.view or VIEWS[0], strict=strict, repairs=repairs)
        if self.form == "dwie":
            return iterate_dwie([Path(file.name) for file in self.files], strict=strict, repairs=repairs)
        if self.form == "pubtator":
            return iterate_pubtator(path, tree, strict=strict, repairs=repairs)
        if self.form == "edge-oriented":
            return iterate_edge_oriented(path, tree, strict=strict, repairs=repairs)
        if self.form == "renet":
            return iterate_renet(path, self.part, tree, strict=strict, repairs=repairs)
        return iterate_entries(path, strict=strict, repairs=repairs)


def find_form(path: Path) -> str:
    """
    Find the form of a file by what it begins with, or by its name where that says nothing.

    Args:
        path (`Path`): The file.

    Returns:
        `str`: One of [`FORMATS`]; `"docred"` also for what is in no known form.
    """
    try:
        with open_bytes(path) as stream:
            first = stream.readline(_HEAD).removeprefix(codecs.BOM_UTF8)
            while first and not first.strip():
                first = stream.readline(_HEAD)
    except DocumentError:  # broken; reading it as anything says so
        first = b""
    name = path.name.lower()
    if first.lstrip()[:1] in (b"[", b"{"):
        entry = first_entry(path)
        keys = set(entry) if isinstance(entry, Mapping) else set()
        if keys & {"vertex_char", "vertex_word", "sents_char", "sents_word"}:
            return "hacred"
        return "dwie" if {"mentions", "concepts"} <= keys else "docred"
    if is_pubtator(first):
        return "pubtator"
    if is_edge_oriented(first):
        return "edge-oriented"
    if name.removesuffix(".gz").endswith(".data"):
        return "edge-oriented"
    return "pubtator" if "pubtator" in name else "docred"


__all__ = ["FORMATS", "FileSource", "FileStamp", "ReadingOptions", "find_form"]
