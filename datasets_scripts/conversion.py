"""From published files to dataset repositories and back, in one call."""

from __future__ import annotations

import itertools
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from modeling_docre import regimes
from modeling_docre.data_files import file_kind, is_document_file, write_documents
from modeling_docre.documents import Document, DocumentError

from .dataset_repo import write_dataset_repo
from .docred import log_sizes
from .rows import is_renamed
from .sources import Split, open_splits


def convert(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    split: str | None = None,
    strict: bool = True,
    documents: str | None = None,
    drop_labels: float | None = None,
    seed: int = regimes.SEED,
    name: str | None = None,
    license: str = "unknown",
    language: str | Sequence[str] = "en",
    origin: str | None = None,
    relation_names: Mapping[str, str] | None = None,
    citation: str | None = None,
    format: str | None = None,
    view: str = "char",
    mesh_tree: str | os.PathLike[str] | None = None,
) -> dict[str, dict[str, Any]]:
    """
    Convert documents from any form to the form that the output's name asks for.

    - `*.json` (or `.json.gz`): a list of documents in DocRED's form.
    - `*.jsonl` (or `.jsonl.gz`): one document per line in text form, as [`Document.to_dict`] writes it.
    - any other name: the folder of a dataset repository; see [`write_dataset_repo`].

    From files into files, documents keep their own text; in a repository, it becomes their words joined by spaces.

    Args:
        source (`str` or `os.PathLike`):
            A file of documents, see [`iter_documents`]; otherwise a file in another published form, a folder or a Hub
            id, see [`load_docre`]. Documents are read one after the other, whatever there is; a file is not in memory
            as a whole.
        output (`str` or `os.PathLike`): A file, which is replaced, or a folder, which must be new or empty.
        split (`str`, *optional*): The split to convert; needed for a file if the source has several.
        strict (`bool`, *optional*, defaults to `True`): As for [`load_docre`].
        documents (`str`, *optional*): Which documents to take, such as `"0:400"`. From a file into another alone.
        drop_labels (`float`, *optional*):
            Part of the facts to leave out, for training on incomplete labels; see [`regimes.drop_labels`]. Into files
            alone.
        seed (`int`, *optional*, defaults to 13): Decides which facts `drop_labels` leaves out.
        name (`str`, *optional*): Title of the repository's card; the name of the output folder if not given.
        license (`str`, *optional*, defaults to `"unknown"`): The Hub's identifier of the licence, for the card.
        language (`str` or sequence of `str`, *optional*, defaults to `"en"`): ISO code, for the card.
        origin (`str`, *optional*): Where the data comes from, for the card.
        relation_names (`Mapping[str, str]`, *optional*):
            Relation id -> words, for the repository; read from a `rel_info.json` beside the source's files if there
            is one.
        citation (`str`, *optional*): What to cite, as BibTeX, for the card.
        format (`str`, *optional*): As for [`load_docre`].
        view (`str`, *optional*, defaults to `"char"`): As for [`load_docre`].
        mesh_tree (`str` or `os.PathLike`, *optional*): As for [`load_docre`].

    Returns:
        `dict[str, dict]`: The [`reading_report`] of every split, with the `dropped facts` where some were to go.

    Raises:
        ValueError: If the output is `-`; if it is a file and the source has several splits, or a licence is given, or
            it is none and facts are to be dropped; if `documents` are chosen on another way than from file to file, or
            are no slice, or none are left; otherwise as for [`iter_documents`] and [`load_docre`].
        FileExistsError: If the output is a folder that is not empty.

    Example:
    ```python
    >>> from modeling_docre.datasets_scripts import convert

    >>> report = convert("Re-DocRED/data", "re-docred", license="mit")  # doctest: +SKIP
    ```
    """
    if str(output) == "-":
        raise ValueError("The output is a file or a folder: name one, such as documents.jsonl.")
    output = Path(output).expanduser()
    is_file = file_kind(output) in (".json", ".jsonl")
    if not is_file and output.is_dir() and any(output.iterdir()):
        raise FileExistsError(f"{output} is not an empty folder: remove it, or choose another one.")
    if is_file and license != "unknown":
        raise ValueError(
            f"{output} is a file, and a licence goes on the card of a dataset repository: name a folder, or leave the "
            "licence out."
        )
    if drop_labels is not None and not is_file:
        raise ValueError(
            f"{output} is no file, and facts are dropped on the way into one: write .json or .jsonl, and convert that."
        )
    path = Path(source).expanduser()
    chosen = regimes.read_slice(documents or ":")
    if documents is not None and not (is_file and is_document_file(path)):
        raise ValueError(
            f"Documents are chosen from a file into another: {path if is_file else output} is none. Convert it first."
        )
    splits = open_splits(source, split, strict=strict, format=format, view=view, mesh_tree=mesh_tree)
    if is_file:
        if len(splits) > 1:
            raise ValueError(f"{source} has the splits {', '.join(splits)}, but {output} holds one: pass `split`.")
        ((key, found),) = splits.items()
        return {key: _convert_file(found, output, chosen, drop_labels, seed)}
    write_dataset_repo(
        {key: found.table for key, found in splits.items()},
        output,
        name=name or output.name,
        license=license,
        language=language,
        source=origin,
        relation_names=_find_names(path) if relation_names is None else relation_names,
        citation=citation,
    )
    log_sizes(
        path, {key: found.source for key, found in splits.items()}, {key: s.sizes() for key, s in splits.items()}
    )
    return {key: found.report() for key, found in splits.items()}


def _convert_file(source: Split, output: Path, chosen: slice, rate: float | None, seed: int) -> dict[str, Any]:
    counts = Counter({"documents": 0, "unlabelled": 0, "facts": 0})
    repairs: Counter[str] = Counter(source.repairs)

    def readable() -> Iterator[Document]:
        for document in regimes.choose_slice(source.documents(), chosen):
            repairs.update(dict(document.repairs))
            if document.text:
                counts["documents"] += 1
                counts["unlabelled"] += document.relations is None
                counts["facts"] += len(document.relations or ())
                yield document

    documents = _drop(readable(), rate, seed, counts)
    if file_kind(output) == ".json":
        documents = _count_losses(documents, repairs)
    first = next(documents, None)
    if first is None and chosen != slice(None):
        raise ValueError(
            f"{source.name}: there are no documents left (documents: {chosen.start or 0}:{chosen.stop or ''})."
        )
    _write_file(documents if first is None else itertools.chain([first], documents), output)
    return {**counts, "repairs": dict(+repairs)}


def _count_losses(documents: Iterator[Document], repairs: Counter[str]) -> Iterator[Document]:
    """Count what DocRED's form has no place for."""
    for document in documents:
        for entity in document.entities:
            repairs["entity's own name or type left out (DocRED's form has them in mentions)"] += is_renamed(entity)
            repairs["entity's ids left out (DocRED's form has them in mentions)"] += bool(
                entity.ids and not entity.mentions
            )
        yield document


def _drop(documents: Iterator[Document], rate: float | None, seed: int, counts: Counter[str]) -> Iterator[Document]:
    """Leave facts out, where a rate is given, and count them."""
    for document in documents:
        less = document if rate is None else regimes.drop_labels(document, rate, seed)
        if rate is not None:
            counts["dropped facts"] += len(document.relations or ()) - len(less.relations or ())
        yield less


def _write_file(documents: Iterator[Document], output: Path) -> None:
    output.parent.mkdir(parents=True, exist_ok=True)
    write_documents(documents, output)


def relation_words(source: str | os.PathLike[str], relations: Iterable[str]) -> dict[str, str]:
    """
    Find words for relations: those of a `rel_info.json` beside the files of a source, where there is one that has
    them; else the id itself, with spaces for `_`.

    Args:
        source (`str` or `os.PathLike`): As for [`convert`].
        relations (iterable of `str`): Relation ids.

    Returns:
        `dict[str, str]`: Words by id, in the order of the ids.

    Raises:
        DocumentError: If `rel_info.json` is no table of names.
    """
    known = _find_names(Path(source).expanduser()) or {}
    return {relation: known.get(relation, relation.replace("_", " ")) for relation in relations}


def _find_names(source: Path) -> dict[str, str] | None:
    path = (source if source.is_dir() else source.parent) / "rel_info.json"
    if not source.exists() or not path.is_file():
        return None
    try:
        names = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise DocumentError(f"{path}: not valid JSON: {error}. Mend it, or pass `relation_names`.") from None
    if not isinstance(names, dict) or not all(isinstance(word, str) for word in names.values()):
        raise DocumentError(f'{path}: not a table of names such as {{"P17": "country"}}. Pass `relation_names`.')
    return names
