r"""
Inline markup that a person types by hand: `[Ada Lovelace](ada:PER) lived in [London](:LOC). [She](ada) loved it.`

A mention is written `[words](key:TYPE)`. Mentions with the same key are the same entity; without a key the words are
the key, so that equal names are one entity. Mentions may nest. Brackets without `(` right after them are plain text,
and `\[`, `\]`, `\(`, `\)`, `\\` stand for the characters themselves (after `](` also `\:`).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from .document_parts import DocumentError, Entity, Mention, name_document

if TYPE_CHECKING:
    from .documents import Document

_ESCAPED = "[]()\\"
_SPECIAL = re.compile(r"[\[\]\\]")
_LINK = re.compile(r"\s*\w+://")
_NO_BRACKET = re.compile(r"[^\[\]()\n\\]+\([^\[\]()\s:]*:[A-Z]\w*\)")
# A key of this form, written for different words, is a type without its colon; one of these is, whatever the words.
_TYPE = re.compile(r"[A-Z]{2,}")
_USUAL_TYPES = {"PER", "LOC", "ORG", "TIME", "NUM", "MISC"}
_LEGEND = "Write [words](key:TYPE), and \\[ or \\] for a plain bracket"

Target = tuple[int, str, "str | None"]  # end in the string, key, type


def parse_markup(string: str) -> tuple[str, list[dict[str, Any]]]:
    r"""
    Read inline markup.

    Args:
        string (`str`):
            Text in which mentions are written `[words](key:TYPE)`; key and type are optional: `[London](:LOC)`,
            `[She](ada)`, `[London]()`. The first type given for a key holds for all its mentions.

    Returns:
        `tuple[str, list[dict]]`: The text without the markup, and the entities in the form that
        [`Document.from_text`] takes, in the order of their first mentions.

    Raises:
        DocumentError: If markup is begun and not ended, a mention has no words, a key gets two types, or a key looks
            like a type that lacks its colon; the message has the character position and what to write.

    Example:
    ```python
    >>> parse_markup("[Ada](ada:PER) lived. [She](ada) loved it.")
    ('Ada lived. She loved it.', [{'type': 'PER', 'mentions': [{'start': 0, 'end': 3}, {'start': 11, 'end': 14}]}])
    ```
    """
    if not isinstance(string, str):
        raise DocumentError(f"markup: not a string but a {type(string).__name__}. {_LEGEND}.")
    openings, targets = _match_brackets(string)
    pieces: list[str] = []
    size = position = 0
    stack: list[tuple[int, int]] = []  # (place in the string, start in the text)
    found: list[tuple[int, int, int, str, str | None]] = []  # (place in the string, start, end, key, type)
    while position < len(string):
        if position in openings:
            stack.append((position, size))
            position += 1
            continue
        if position in targets:
            place, start = stack.pop()
            position, key, kind = targets[position]
            found.append((place, start, size, key, kind))
            continue
        escaped = string[position] == "\\" and string[position + 1 : position + 2] in tuple(_ESCAPED)
        position += escaped
        following = _SPECIAL.search(string, position + 1)
        end = following.start() if following else len(string)
        pieces.append(string[position:end])
        size += end - position
        position = end
    text = "".join(pieces)
    entities: dict[str, dict[str, Any]] = {}
    for place, start, end, key, kind in sorted(found):
        words = text[start:end].strip()
        if not words:
            raise _error(string, place, "a mention without words", _LEGEND)
        key = key or words
        entity = entities.setdefault(key, {"type": None, "mentions": []})
        if kind is not None and entity["type"] not in (None, kind):
            problem = f"the key {key!r} has the type {entity['type']!r} already, and here {kind!r}"
            raise _error(string, place, problem, "Use one type, or two keys")
        entity["type"] = entity["type"] or kind
        entity["mentions"].append({"start": start, "end": end})
    for place, _, _, key, _ in sorted(found):
        if _TYPE.fullmatch(key) and entities[key]["type"] is None:
            names = {text[mention["start"] : mention["end"]].strip() for mention in entities[key]["mentions"]}
            if (len(names) > 1 or key in _USUAL_TYPES) and key not in names:
                shown = ", ".join(map(repr, sorted(names)[:3]))
                problem = f"{key!r} is the key of {shown}, where the type would be (:{key})"
                raise _error(string, place, problem, "Write a key in small letters if it is one")
    return text, list(entities.values())


def format_markup(document: Document) -> str:
    """
    Write a document's text and mentions as inline markup, the inverse of [`parse_markup`].

    A key is written only where the words do not say which entity is meant. Title, relations, and names that the text
    does not use are not part of the markup, a mention's own type gives way to its entity's, and entities that do not
    stand in the order of their first mentions are in that order when it is read again.

    Args:
        document (`Document`): The document.

    Returns:
        `str`: The markup.

    Raises:
        DocumentError: If two mentions cross each other, an entity has no mention, or a type is blank or has white
            space at its edges.
    """
    where = name_document(document.title, "document")
    keys = _choose_keys(document, where)
    rows = [(mention, number) for number, entity in enumerate(document.entities) for mention in entity.mentions]
    rows.sort(key=lambda row: (row[0].start, -row[0].end, row[1]))
    typed: set[int] = set()
    inserts: list[str] = []
    stack: list[tuple[Mention, str]] = []
    position = 0

    def copy_to(place: int) -> None:
        nonlocal position
        # In a mention, a `(` could look like its end, the `]` left out.
        inserts.append(_escape(document.text[position:place], "[](\\" if stack else "[]\\"))
        position = place

    def write_to(place: int) -> None:
        while stack and stack[-1][0].end <= place:
            copy_to(stack[-1][0].end)
            inserts.append(f"]({stack.pop()[1]})")
        copy_to(place)

    for mention, number in rows:
        write_to(mention.start)
        if stack and mention.end > stack[-1][0].end:
            other = stack[-1][0]
            crossing = [(outer.start, outer.end) for outer in (other, mention)]
            texts = [document.text[start:end] for start, end in crossing]
            raise DocumentError(
                f"{where}: the mentions {texts[0]!r} {crossing[0]} and {texts[1]!r} {crossing[1]} cross each other, "
                "which brackets cannot show. Shorten one of them, or use `to_dict`."
            )
        kind = document.entities[number].type
        target = _escape(keys[number], "[]():\\")
        if kind is not None and number not in typed:
            target += ":" + _escape(kind, "[]():\\")
        typed.add(number)
        inserts.append("[")
        stack.append((mention, target))
    write_to(len(document.text))
    return "".join(inserts)


def _match_brackets(string: str) -> tuple[set[int], dict[int, Target]]:
    """Find the `[` that open mentions, and per closing `]` of a mention the target after it."""
    openings: set[int] = set()
    targets: dict[int, Target] = {}
    stack: list[int] = []
    position = 0
    while position < len(string):
        character = string[position]
        if character == "\\":
            position += 2 if string[position + 1 : position + 2] in tuple(_ESCAPED) else 1
            continue
        if character == "[":
            if _NO_BRACKET.match(string, position + 1):
                raise _error(string, position, "the `]` before `(` is missing", _LEGEND)
            stack.append(position)
        elif character == "]":
            if string[position + 1 : position + 2] == "(":
                if not stack:
                    raise _error(string, position, "`](` without a `[` before it", _LEGEND)
                openings.add(stack[-1])
                targets[position] = _read_target(string, stack[-1], position + 2)
                position = targets[position][0]
                stack.pop()
                continue
            if stack:
                stack.pop()
        position += 1
    return openings, targets


def _read_target(string: str, opening: int, start: int) -> Target:
    """Read `key:TYPE)` from the character after `(`."""
    parts = [""]
    position = start
    while position < len(string) and string[position] not in "[](\n\r":
        character = string[position]
        if character == ")":
            if _LINK.match(string, start, position):
                mend = "Write \\[ for the bracket of a link; a mention is [words](key:TYPE)"
                raise _error(string, opening, "a link, not a mention", mend)
            kind = parts.pop().strip() if len(parts) > 1 else None
            return position + 1, ":".join(parts).strip(), kind or None
        if character == "\\" and string[position + 1 : position + 2] in (*_ESCAPED, ":"):
            position += 1
            parts[-1] += string[position]
        elif character == ":":
            parts.append("")
        else:
            parts[-1] += character
        position += 1
    raise _error(string, opening, "the `)` that ends the mention is missing", _LEGEND)


def _choose_keys(document: Document, where: str) -> list[str]:
    """Choose one key per entity; `""` where its words are enough."""
    names: list[str] = []
    for number, entity in enumerate(document.entities):
        kind = entity.type
        if not entity.mentions:
            raise DocumentError(
                f"{where}: entities[{number}] {entity.name!r} has no mention, which markup cannot show. Use `to_dict`."
            )
        if kind is not None and (not kind or kind != kind.strip() or len(kind.splitlines()) > 1):
            raise DocumentError(
                f"{where}: the type {kind!r} of entities[{number}] is blank or has white space at its edges, which "
                "markup cannot show. Rename it, or use `to_dict`."
            )
        words = {_words(document, mention) for mention in entity.mentions}
        names.append(words.pop() if len(words) == 1 else "")
    plain = {name for name in names if name and names.count(name) == 1}
    keys: list[str] = []
    used = set(names)
    for number, (entity, name) in enumerate(zip(document.entities, names, strict=True)):
        if name in plain:
            keys.append("")
            continue
        key = _key_of(entity)
        while not key or key in used or _TYPE.fullmatch(key):
            key = f"{key or 'e'}{number + 1}"
        used.add(key)
        keys.append(key)
    return keys


def _key_of(entity: Entity) -> str:
    return " ".join(entity.name.split())


def _words(document: Document, mention: Mention) -> str:
    return document.text[mention.start : mention.end].strip()


def _escape(text: str, characters: str) -> str:
    return "".join("\\" + character if character in characters else character for character in text)


def _error(string: str, position: int, problem: str, mend: str) -> DocumentError:
    snippet = string[position : position + 40] + ("…" if len(string) > position + 40 else "")
    return DocumentError(f"markup, character {position} ({snippet!r}): {problem}. {mend}.")
