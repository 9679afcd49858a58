"""Reader of DocRED's form of a document: words and word positions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .document_parts import Mention, Reading, as_int, as_list
from .document_reading import (
    Sentences,
    Span,
    build_entity,
    count_shared_spans,
    mend_surrogates,
    read_ids,
    read_pairs,
    read_relations,
    read_title,
)

_MENTION = '{"name": "Ada", "sent_id": 0, "pos": [0, 1], "type": "PER"}'


def read_docred(data: Mapping[str, Any], reading: Reading, keep_duplicate_mentions: bool) -> dict[str, Any]:
    """
    Read a DocRED dict.

    Args:
        data (`Mapping`): `title`, `sents`, `vertexSet`, `labels` and `pairs`; the last two are optional.
        reading (`Reading`): Names the document, says how strict to be, and takes the counts.
        keep_duplicate_mentions (`bool`): Whether an entity keeps mentions that stand on the same words.

    Returns:
        `dict`: The arguments of a `Document`.

    Raises:
        DocumentError: On nonsense where the reading is strict, and on a document without words.
    """
    title = read_title(data, reading)
    text, sentences = _read_words(data, reading)
    field = "vertexSet"
    if data.get(field) is None:
        mend = 'Pass "vertexSet": [] for no entities'
        if as_list(data.get("entities")):
            mend = f"Write the `entities`, which belong to a `text`, as lists of mentions: [[{_MENTION}]] is the form"
        reading.nonsense("missing field", field, data.get(field), "missing", mend)
    vertices = reading.items(data.get(field) or [], "entities that are not a list", field, f"[[{_MENTION}]]")
    entities = []
    for position, vertex in enumerate(vertices):
        place = f"{field}[{position}]"
        items = reading.items(vertex, "entity that is not a list", place, f"[{_MENTION}]")
        mentions = []
        for number, item in enumerate(items):
            mention = _read_mention(item, f"{place}[{number}]", text, sentences, reading)
            if mention is not None:
                mentions.append(mention)
        known_as = [item.get(key) for item in items if isinstance(item, Mapping) for key in ("id", "ids")]
        entities.append(build_entity(mentions, read_ids(known_as, reading), reading, keep_duplicate_mentions))
    count_shared_spans(entities, reading)
    keys = ("h", "t", "r")
    return {
        "title": title,
        "text": text,
        "sentences": sentences,
        "entities": tuple(entities),
        "relations": read_relations(data.get("labels"), "labels", keys, len(entities), len(sentences), reading),
        "pairs": read_pairs(data.get("pairs"), len(entities), reading),
        "repairs": reading.repairs,
    }


def _read_words(data: Mapping[str, Any], reading: Reading) -> tuple[str, Sentences]:
    """Join all words by single spaces; a blank or empty word keeps its place, since positions count it."""
    mend = 'Write a list of sentences, each a list of words, as in [["Ada", "lived", "."]]'
    rows = as_list(data.get("sents"))
    if rows is None:
        problem = "missing" if data.get("sents") is None else "not a list"
        raise reading.error("sents", data.get("sents"), problem, mend)
    words: list[str] = []
    sentences: list[tuple[Span, ...]] = []
    position = 0
    for number, row in enumerate(rows):
        items = reading.items(row, "sentence that is not a list", f"sents[{number}]", '["Ada", "."]')
        spans = []
        for place, word in enumerate(items):
            if not isinstance(word, str):
                field, problem = f"sents[{number}][{place}]", f"not a string but a {type(word).__name__}"
                reading.nonsense("word that is not a string", field, word, problem, "Write every word as a string")
                word = ""  # keeps its place: mention positions count it
            words.append(word)
            spans.append((position, position + len(word)))
            position += len(word) + 1
        sentences.append(tuple(spans))
    text = " ".join(words)
    if not text.strip():
        raise reading.error("sents", rows, "there is not a single word", mend)
    reading.repair("empty sentence", sum(not spans for spans in sentences))
    return mend_surrogates(text, "sents", reading), tuple(sentences)


def _read_mention(item: object, field: str, text: str, sentences: Sentences, reading: Reading) -> Mention | None:
    data = reading.mapping(item, "mention that is not a dict", field, _MENTION)
    if data is None:
        return None
    for key in ("sent_id", "pos"):
        if data.get(key) is None:
            reading.nonsense("missing field", f"{field}.{key}", None, "missing", f"Give it, as in {_MENTION}")
            return None
    size = len(sentences)
    sentence = reading.index(data["sent_id"], size, "mention of a missing sentence", f"{field}.sent_id", "sentences")
    if sentence is None:
        return None
    name, name_is_read = reading.optional_string(data.get("name"), "mention with a broken name", f"{field}.name")
    kind, kind_is_read = reading.optional_string(data.get("type"), "mention with a broken type", f"{field}.type")
    if not (name_is_read and kind_is_read):
        return None
    pos = data["pos"]
    place = f"{field}.pos"
    numbers = [as_int(number) for number in as_list(pos) or ()]
    mend = "Write [start, end): word positions in the sentence, counted from 0, end exclusive"
    if len(numbers) != 2 or numbers[0] is None or numbers[1] is None:
        reading.nonsense("mention with broken positions", place, pos, "not a list of two whole numbers", mend)
        return None
    start, end = numbers[0], numbers[1]
    words = sentences[sentence]
    if not (0 <= start < len(words) + 1 and end <= len(words)):
        problem = f"outside sentence {sentence}, which has {len(words)} words"
        reading.nonsense("mention outside its sentence", place, pos, problem, mend)
        return None
    if start >= end or words[start][0] == words[end - 1][1]:
        reading.nonsense("mention without words", place, pos, "the span is empty", mend)
        return None
    first, last = words[start][0], words[end - 1][1]
    return Mention(first, last, sentence, (start, end), text[first:last] if name is None else name, kind)
