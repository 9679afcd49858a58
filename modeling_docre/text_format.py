"""Reader of plain text with entities at character offsets."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence, Sized
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

from .document_parts import Entity, Mention, Reading, as_int, as_list, show
from .document_reading import (
    Span,
    build_entity,
    count_shared_spans,
    mend_surrogates,
    read_ids,
    read_pairs,
    read_relations,
    read_title,
)
from .text import split_sentences, split_words

_MENTION = '{"start": 0, "end": 3}'
_ENTITY = f'{{"name": "Ada", "type": "PER", "mentions": [{_MENTION}]}}'

# (span as given, span without white space at its edges, own name, own type where it is given, field)
_Place = tuple[Span, Span, "str | None", "tuple[str | None] | None", str]


def read_text(data: Mapping[str, Any], reading: Reading) -> dict[str, Any]:
    """
    Read a plain text with entities at character offsets.

    Args:
        data (`Mapping`): `text`, and optionally `title`, `entities`, `sentences`, `relations` and `pairs`.
        reading (`Reading`): Names the document, says how strict to be, and takes the counts.

    Returns:
        `dict`: The arguments of a `Document`.

    Raises:
        DocumentError: On nonsense where the reading is strict, and on an empty text.
    """
    title = read_title(data, reading)
    text = _check_text(data.get("text"), reading)
    field = "entities"
    given = data.get(field)
    if given is None and not _is_empty(data.get("vertexSet")):
        reading.nonsense(
            "vertexSet beside a text",
            "vertexSet",
            data["vertexSet"],
            "it counts the words of `sents`, which are not given",
            "Pass `sents` too, or `entities` with offsets in `text`",
        )
    items = reading.items([] if given is None else given, "entities that are not a list", field, f"[{_ENTITY}]")
    places = [_read_entity(item, f"{field}[{number}]", text, reading) for number, item in enumerate(items)]
    ids = [_read_ids(item, number, reading) for number, item in enumerate(items)]

    cores = [core for _, _, mentions in places for _, core, _, _, _ in mentions]
    given_spans = _read_sentences(data.get("sentences"), text, reading)
    spans = split_sentences(text, cores) if given_spans is None else given_spans
    kept = [[_locate(mention, spans, text, reading) for mention in mentions] for _, _, mentions in places]

    edges = sorted({edge for row in kept for found in row if found is not None for edge in found[0]})
    sentences = []
    for start, end in spans:
        inside = edges[bisect_left(edges, start) : bisect_right(edges, end)]
        sentences.append(tuple(split_words(text, start, end, inside)))
    reading.repair("empty sentence", sum(not words for words in sentences))
    starts = [[word[0] for word in words] for words in sentences]

    entities = []
    for (name, kind, mentions), known_as, row in zip(places, ids, kept, strict=True):
        built = []
        for ((start, end), _, own_name, own_type, _), found in zip(mentions, row, strict=True):
            if found is None:
                continue
            core, sentence = found
            words = (bisect_left(starts[sentence], core[0]), bisect_left(starts[sentence], core[1]))
            own_name = text[start:end] if own_name is None else own_name
            (mention_type,) = own_type or kind or (None,)
            built.append(Mention(start, end, sentence, words, own_name, mention_type))
        entity = build_entity(built, known_as, reading, False)
        (entity_type,) = kind or (entity.type,)
        entities.append(replace(entity, name=entity.name if name is None else name, type=entity_type))
    count_shared_spans(entities, reading)
    keys = ("head", "tail", "relation")
    relations = read_relations(data.get("relations"), "relations", keys, len(entities), len(sentences), reading)
    if relations and given_spans is None and data.get("sentences") is not None:
        reading.repair("evidence of sentences that cannot be used", sum(len(fact.evidence) for fact in relations))
        relations = tuple(replace(fact, evidence=()) for fact in relations)
    return {
        "title": title,
        "text": text,
        "sentences": tuple(sentences),
        "entities": tuple(entities),
        "relations": relations,
        "pairs": read_pairs(data.get("pairs"), len(entities), reading),
        "repairs": reading.repairs,
    }


def _check_text(text: object, reading: Reading) -> str:
    mend = 'Pass the document as a string, as in {"text": "Ada lived in London.", "entities": [...]}'
    if not isinstance(text, str):
        raise reading.error("text", text, f"not a string but a {type(text).__name__}", mend)
    if not text.strip():
        raise reading.error("text", text, "there is not a single word", mend)
    return mend_surrogates(text, "text", reading)


def _is_empty(value: object) -> bool:
    return value is None or (isinstance(value, Sized) and len(value) == 0)


def _read_entity(
    item: object, field: str, text: str, reading: Reading
) -> tuple[str | None, tuple[str | None] | None, list[_Place]]:
    """Return the name, the type where it is given, and the places of the mentions, as far as they can be read."""
    if isinstance(item, Entity):
        item = {"name": item.name, "type": item.type, "mentions": item.mentions}
    data = reading.mapping(item, "entity that is not a dict", field, _ENTITY)
    if data is None:
        return None, None, []
    name, _ = reading.optional_string(data.get("name"), "entity with a broken name", f"{field}.name")
    kind, _ = _read_type(data, "entity with a broken type", field, reading)
    mentions = data.get("mentions")
    place = f"{field}.mentions"
    if mentions is None:
        reading.nonsense("missing field", place, None, "missing", f"Give it, as in {_ENTITY}")
        return name, kind, []
    places = []
    items = reading.items(mentions, "mentions that are not a list", place, f"[{_MENTION}]")
    for number, mention in enumerate(items):
        found = _read_place(mention, f"{place}[{number}]", name, text, reading)
        if found is not None:
            places.append(found)
    return name, kind, places


def _read_ids(item: object, place: int, reading: Reading) -> tuple[str, ...]:
    if isinstance(item, Entity):
        return item.ids
    # Results of the pipeline have the place for `id`, and these beside it.
    return read_ids([item.get("id"), item.get("ids")], reading, place) if isinstance(item, Mapping) else ()


def _read_place(item: object, field: str, entity: str | None, text: str, reading: Reading) -> _Place | None:
    if isinstance(item, Mention):
        item = {"start": item.start, "end": item.end, "name": item.name, "type": item.type}
    data = reading.mapping(item, "mention that is not a dict", field, _MENTION)
    if data is None:
        return None
    remedy = partial(_place_of, data.get("text"), text)
    of = f" of {entity!r}" if entity else ""
    start, end = as_int(data.get("start")), as_int(data.get("end"))
    if start is None or end is None:
        key = "start" if start is None else "end"
        problem = "missing" if data.get(key) is None else "not a whole number"
        reading.nonsense(f"mention with a broken {key}", f"{field}.{key}", data.get(key), f"{problem}{of}", remedy())
        return None
    value = [start, end]
    if not 0 <= start <= len(text) or not 0 <= end <= len(text):
        covered = f"; it covers {text[max(0, start) : max(0, end)][:60]!r}" if start < end else ""
        problem = f"the mention{of} lies outside the text, which has {len(text)} characters{covered}"
        reading.nonsense("mention outside the text", field, value, problem, remedy())
        return None
    if start >= end:
        problem = f"the mention{of} is empty"
        if start > end:
            problem += f": it ends before it starts; from {end} to {start} stands {text[end:start][:60]!r}"
        reading.nonsense("mention without characters", field, value, problem, remedy())
        return None
    covered = text[start:end]
    if not covered.strip():
        problem = f"the mention{of} covers white space alone: {covered[:60]!r}"
        reading.nonsense("mention of white space", field, value, problem, remedy())
        return None
    if data.get("text") not in (None, covered):
        problem = f"the mention{of} gives the text {show(data['text'])}, but these characters are {covered[:60]!r}"
        reading.nonsense("mention with another text", field, value, problem, remedy())
        return None
    reading.repair("mention with white space at its edges", covered != covered.strip())
    name, name_is_read = reading.optional_string(data.get("name"), "mention with a broken name", f"{field}.name")
    kind, kind_is_read = _read_type(data, "mention with a broken type", field, reading)
    if not (name_is_read and kind_is_read):
        return None
    core = (end - len(covered.lstrip()), start + len(covered.rstrip()))
    return (start, end), core, name, kind, field


def _place_of(words: object, text: str) -> str:
    """Say how to give offsets: those of the words that a mention has with it, where these stand in one place alone."""
    mend = f"Give character offsets into the text, end exclusive, as in {_MENTION}"
    if not isinstance(words, str) or not words.strip():
        return mend
    start = text.find(words)
    if start < 0:
        return f"{mend}; {show(words)} does not stand in the text"
    if text.find(words, start + 1) >= 0:
        return mend
    return f'Write {{"start": {start}, "end": {start + len(words)}}}, where {show(words)} stands'


def _read_type(
    data: Mapping[str, Any], cause: str, field: str, reading: Reading
) -> tuple[tuple[str | None] | None, bool]:
    """Return `((type,), whether it can be read)`: a given `None` means no type, a missing key takes it over."""
    kind, is_read = reading.optional_string(data.get("type"), cause, f"{field}.type")
    return ((kind,) if is_read and "type" in data else None), is_read


def _read_sentences(value: object, text: str, reading: Reading) -> list[Span] | None:
    """Check the sentences that the caller gave; `None` where there are none, or none that can be used."""
    if value is None:
        return None
    mend = "Give [start, end] character offsets in the order of the text, or leave `sentences` out to have them found"
    cause = "sentences that cannot be used"
    if as_list(value) is None:
        reading.nonsense(cause, "sentences", value, "not a list", mend)
        return None
    spans: list[Span] = []
    previous = 0
    for number, item in enumerate(as_list(value) or ()):
        numbers = [as_int(edge) for edge in as_list(item) or ()]
        field = f"sentences[{number}]"
        if len(numbers) != 2 or numbers[0] is None or numbers[1] is None:
            reading.nonsense(cause, field, item, "not two whole numbers", mend)
            return None
        start, end = numbers[0], numbers[1]
        if not previous <= start <= end <= len(text):
            problem = f"it overlaps the sentence before, or lies outside the text of {len(text)} characters"
            reading.nonsense(cause, field, item, problem, mend)
            return None
        spans.append((start, end))
        previous = end
    for (_, end), (start, _) in pairwise([(0, 0), *spans, (len(text), len(text))]):
        if text[end:start].strip():
            _report_gap(text, end, start, reading)
            return None
    return spans


def _report_gap(text: str, start: int, end: int, reading: Reading) -> None:
    problem = f"characters {start} to {end} lie in no sentence"
    mend = "Widen the sentences, or leave `sentences` out to have them found"
    reading.nonsense("text outside every sentence", "sentences", text[start:end], problem, mend)


def _locate(mention: _Place, spans: Sequence[Span], text: str, reading: Reading) -> tuple[Span, int] | None:
    """Find the sentence of a mention: `(span without white space, sentence index)`."""
    (start, end), core, _, _, field = mention
    # an empty sentence may share its start with the next one, which bisect_right prefers
    sentence = bisect_right(spans, core[0], key=lambda span: span[0]) - 1
    if sentence >= 0 and core[1] <= spans[sentence][1]:
        return core, sentence
    problem = f"the mention {text[start:end][:60]!r} does not lie inside one sentence"
    if sentence >= 0 and core[0] < spans[sentence][1]:
        problem += f": sentence {sentence} ends at character {spans[sentence][1]}"
    mend = "Move the sentence's edge, or leave `sentences` out to have them found around the mentions"
    reading.nonsense("mention outside its sentence", field, [start, end], problem, mend)
    return None
