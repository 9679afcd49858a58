"""DWIE: news articles, each in a file of its own, with entities at characters of the article's text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from modeling_docre.document_parts import Reading, as_int, show
from modeling_docre.documents import DocumentError
from modeling_docre.regimes import SEED, lot

from .json_files import first_entry, iterate_values

# 98 of the 700 articles that are tagged `train`.
VALIDATION_PART = 98 / 700
# Where the published repository, and its script that fetches the texts, put the files; those with texts come first.
_FOLDERS = (".", "annos_with_content", "data/annos_with_content", "annos", "data/annos")

# The types of DWIE are a tree, written as a flat list of tags; these are its general ones, and the roots above them.
_GENERAL = ("person", "organization", "location", "event", "misc")
_ROOTS = ("entity", "value", "other")
_TYPE = "type::"


def find_articles(folder: Path, any_name: bool = False) -> list[Path]:
    """
    Find the files of DWIE in a folder, or in one that its repository has below it.

    Args:
        folder (`Path`): The folder.
        any_name (`bool`, *optional*, defaults to `False`): Whether all `.json` files are taken, not `DW_*.json` alone.

    Returns:
        `list[Path]`: The files; none where there are none.
    """
    for place in _FOLDERS:
        found = sorted((folder / place).glob("*.json" if any_name else "DW_*.json"))
        if found:
            return found
    return []


def split_articles(files: Iterable[Path]) -> dict[str, list[Path]]:
    """
    Put articles into splits: those tagged `test`, and of the others 98 of 700 for validation.

    Which 98 the papers took is not published; ours are those with the lowest lots by a fixed seed and their names.
    What cannot be read lies in the training split, where reading it says why.

    Args:
        files (iterable of `Path`): The articles.

    Returns:
        `dict[str, list[Path]]`: The files of each split that has any.
    """
    splits: dict[str, list[Path]] = {"train": [], "validation": [], "test": []}
    for path in files:
        entry = first_entry(path)
        tags = entry.get("tags") if isinstance(entry, Mapping) else None
        splits["test" if isinstance(tags, list) and "test" in tags else "train"].append(path)
    number = round(VALIDATION_PART * len(splits["train"]))
    chosen = set(sorted(splits["train"], key=lambda path: lot(SEED, "validation of DWIE", path.name))[:number])
    splits["validation"] = [path for path in splits["train"] if path in chosen]
    splits["train"] = [path for path in splits["train"] if path not in chosen]
    return {split: paths for split, paths in splits.items() if paths}


def iterate_dwie(
    files: Sequence[Path], *, strict: bool, repairs: Counter[str]
) -> Iterator[tuple[str, Mapping[str, Any] | DocumentError]]:
    """
    Read articles of DWIE as dicts in text form.

    Left out and counted: mentions without a concept, concepts without mentions and the relations of these. The type of
    an entity is the general one of its tags `type::...` (`person`, `organization`, `location`, `event`, `misc`), else
    the first that is not the root of the tree.

    Args:
        files (sequence of `Path`): The files; each holds an article, or a list of them.
        strict (`bool`): Whether nonsense is an error.
        repairs (`collections.Counter`): Takes what is skipped and left out.

    Yields:
        `tuple`: Where the article stands, and the article, or why it cannot be read.
    """
    seen: set[str] = set()
    for path in files:
        try:
            for where, entry in iterate_values(path):
                reading = Reading(where, strict)
                try:
                    article = _read_article(entry, seen, reading)
                except DocumentError as error:
                    yield where, error
                    continue
                repairs.update(reading.counts)
                yield where, article
        except DocumentError as error:
            yield str(path), error


def _read_article(entry: Any, seen: set[str], reading: Reading) -> dict[str, Any]:
    mend = 'An article is {"id": "DW_1", "content": "...", "mentions": [...], "concepts": [...], "relations": [...]}'
    if not isinstance(entry, Mapping):
        raise reading.error("article", entry, f"not a dict but a {type(entry).__name__}", mend)
    if not isinstance(entry.get("id"), str) or not entry["id"]:
        raise reading.error("id", entry.get("id"), "missing, or not a string", mend)
    if entry["id"] in seen:
        raise reading.error("id", entry["id"], "an article before it has the same one", "Leave one of them out")
    content = entry.get("content")
    if not isinstance(content, str):
        raise reading.error(
            "content",
            content,
            "the article's text is missing; DWIE is published as annotations without it",
            "Run the script of its repository that fetches the texts, and pass the files of data/annos_with_content",
        )
    for key in ("mentions", "concepts", "relations"):
        if not isinstance(entry.get(key), list):
            raise reading.error(key, entry.get(key), "missing, or not a list", mend)
    seen.add(entry["id"])
    kinds = _read_concepts(entry["concepts"], reading)
    mentions: dict[int, list[dict[str, int]]] = {concept: [] for concept in kinds}
    for number, item in enumerate(entry["mentions"]):
        found = _read_mention(item, f"mentions[{number}]", content, kinds, reading)
        if found is not None:
            mentions[found[0]].append({"start": found[1], "end": found[2]})
    kept = [concept for concept in kinds if mentions[concept]]
    reading.repair("concept without mentions", len(kinds) - len(kept))
    place = {concept: number for number, concept in enumerate(kept)}
    return {
        "title": entry["id"],
        "text": content,
        "entities": [{"type": kinds[concept], "mentions": mentions[concept]} for concept in kept],
        "relations": _read_relations(entry["relations"], kinds, place, reading),
    }


def _read_concepts(items: Sequence[Any], reading: Reading) -> dict[int, str | None]:
    """Return the type of every concept."""
    example = '{"concept": 0, "text": "Ostania", "tags": ["type::location"]}'
    kinds: dict[int, str | None] = {}
    for number, item in enumerate(items):
        field = f"concepts[{number}]"
        data = reading.mapping(item, "concept that is not a dict", field, example)
        if data is None:
            continue
        concept = as_int(data.get("concept"))
        if concept is None or concept in kinds:
            problem = "not a whole number" if concept is None else "the number of a concept before it"
            reading.nonsense("broken concept", f"{field}.concept", data.get("concept"), problem, f"Write {example}")
            continue
        tags = data.get("tags")
        kinds[concept] = _choose_type(tags if isinstance(tags, list) else ())
    return kinds


def _choose_type(tags: Sequence[Any]) -> str | None:
    types = [tag.removeprefix(_TYPE) for tag in tags if isinstance(tag, str) and tag.startswith(_TYPE)]
    general = [kind for kind in _GENERAL if kind in types]
    return next(iter(general or [kind for kind in types if kind not in _ROOTS] or types), None)


def _read_mention(
    item: Any, field: str, content: str, kinds: Mapping[int, Any], reading: Reading
) -> tuple[int, int, int] | None:
    """Return concept, start and end."""
    example = '{"begin": 0, "end": 7, "text": "Ostania", "concept": 0}'
    data = reading.mapping(item, "mention that is not a dict", field, example)
    if data is None:
        return None
    if data.get("concept") is None:
        reading.repair("mention without a concept")
        return None
    begin, end, concept = (as_int(data.get(key)) for key in ("begin", "end", "concept"))
    if begin is None or end is None or not 0 <= begin < end <= len(content):
        problem = f"not `begin` and `end` in the text, which has {len(content)} characters"
        value = [data.get("begin"), data.get("end")]
        reading.nonsense("mention outside the text", f"{field}.begin", value, problem, f"Write {example}")
        return None
    if data.get("text") != content[begin:end]:
        problem = f"characters {begin} to {end} of `content` are {show(content[begin:end])}"
        reading.nonsense("mention with another text", f"{field}.text", data.get("text"), problem, "Mend the offsets")
        return None
    if concept is None or concept not in kinds:
        problem = "no concept has that number"
        reading.nonsense(
            "mention of a missing concept", f"{field}.concept", data["concept"], problem, f"Write {example}"
        )
        return None
    return concept, begin, end


def _read_relations(
    items: Sequence[Any], kinds: Mapping[int, Any], place: Mapping[int, int], reading: Reading
) -> list[dict[str, Any]]:
    example = '{"s": 0, "p": "based_in0", "o": 1}'
    relations = []
    for number, item in enumerate(items):
        field = f"relations[{number}]"
        data = reading.mapping(item, "relation that is not a dict", field, example)
        if data is None:
            continue
        ends = [as_int(data.get(key)) for key in ("s", "o")]
        wrong = [key for key, end in zip(("s", "o"), ends, strict=True) if end not in kinds]
        if wrong:
            problem = "no concept has that number"
            key = f"{field}.{wrong[0]}"
            reading.nonsense("relation of a missing concept", key, data.get(wrong[0]), problem, f"Write {example}")
            continue
        if not isinstance(data.get("p"), str) or not data["p"]:
            reading.nonsense("relation without a name", f"{field}.p", data.get("p"), "no name", f"Write {example}")
            continue
        head, tail = (place.get(end) for end in ends if end is not None)
        if head is None or tail is None:
            reading.repair("relation of a concept without mentions")
            continue
        relations.append({"head": head, "tail": tail, "relation": data["p"]})
    return relations


__all__ = ["VALIDATION_PART", "find_articles", "iterate_dwie", "split_articles"]
