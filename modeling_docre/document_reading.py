"""What both readers of documents share: titles, entities, relations, candidate pairs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .document_parts import (
    Entity,
    Mention,
    Reading,
    Relation,
    as_int,
    as_list,
    as_score,
    lone_surrogate,
    replace_surrogates,
)

Span = tuple[int, int]
Sentences = tuple[tuple[Span, ...], ...]

_DOCRED_LABEL = '{"h": 0, "t": 1, "r": "P17", "evidence": [0]}'
_TEXT_LABEL = '{"head": 0, "tail": 1, "relation": "P17", "evidence": [0]}'


def document_form(data: Mapping[str, Any]) -> str | None:
    """Return the key that holds the words of a document's dict: `"text"` or `"sents"`; `None` where neither is there.

    `vertexSet` without `entities` marks DocRED's form where both are there.
    """
    has_text = data.get("text") is not None
    if data.get("sents") is not None and (not has_text or ("vertexSet" in data and "entities" not in data)):
        return "sents"
    return "text" if has_text else None


def published_as(data: Mapping[str, Any]) -> str | None:
    """Name the data set in whose published form a dict is, which `docre data convert` reads; `None` if in none."""
    if data.keys() & {"vertex_char", "vertex_word"}:
        return "HacRED"
    return "DWIE" if data.keys() >= {"mentions", "concepts"} else None


def say_published(name: str) -> str:
    """Say what to do with documents in a published form."""
    return f"published in the form of {name}: `docre data convert` makes documents of it, from the files as they are"


def read_title(data: Mapping[str, Any], reading: Reading) -> str:
    """Return the title, `""` where there is none."""
    return reading.optional_string(data.get("title"), "title that is not a string", "title")[0] or ""


def mend_surrogates(text: str, field: str, reading: Reading) -> str:
    """Return a text that can be encoded: halves of surrogate pairs are nonsense, or become U+FFFD."""
    place = lone_surrogate(text)
    if place is None:
        return text
    problem = f"character {place} is half of a surrogate pair and cannot be encoded"
    mend = "Decode the data with errors='replace'"
    reading.nonsense("broken character", field, text[max(0, place - 20) : place + 20], problem, mend)
    return replace_surrogates(text)


def read_ids(values: Iterable[object], reading: Reading, place: int | None = None) -> tuple[str, ...]:
    """
    Read what knowledge bases call an entity; what is no string is counted, never refused.

    Args:
        values (iterable): Each an id, a list of ids, or `None`.
        reading (`Reading`): Takes the counts.
        place (`int`, *optional*): Where the entity stands. That number is no id: results name an entity by it.

    Returns:
        `tuple[str, ...]`: Each once, in order, without white space around it.
    """
    ids: dict[str, None] = {}
    for value in values:
        items = as_list(value)
        for item in [value] if items is None else items:
            if item is None or (place is not None and as_int(item) == place):
                continue
            if isinstance(item, str) and lone_surrogate(item) is None:
                ids[item.strip()] = None
            else:
                reading.repair("entity with an id that is not a string")
    ids.pop("", None)
    return tuple(ids)


def build_entity(mentions: list[Mention], ids: tuple[str, ...], reading: Reading, keep_duplicates: bool) -> Entity:
    """
    Build an entity from its mentions; those on the same words are one, unless duplicates are kept.

    The name and the type come from the mention with the longest name among those that stay, so that writing the
    document and reading it again changes neither. An entity without mentions keeps its place, so that the indices of
    the others stay; a strict reading comes here with none only where none were given.
    """
    if not mentions:
        reading.repair("entity without mentions")
        return Entity((), "", ids=ids)
    first: dict[tuple[int, Span], Mention] = {}
    for mention in mentions:
        first.setdefault((mention.sentence, mention.words), mention)
    unique = list(first.values())
    if len(unique) != len(mentions) and not keep_duplicates:
        reading.repair("duplicate mention", len(mentions) - len(unique))
        mentions = unique
    longest = max(mentions, key=lambda mention: len(mention.name))  # max keeps the first on ties
    return Entity(tuple(mentions), longest.name, longest.type, ids)


def count_shared_spans(entities: Sequence[Entity], reading: Reading) -> None:
    """Count the spans that mentions of several entities share; they stay, since the data may mean it."""
    owners: dict[tuple[int, Span], int] = {}
    shared = set()
    for number, entity in enumerate(entities):
        for mention in entity.mentions:
            span = (mention.sentence, mention.words)
            if owners.setdefault(span, number) != number:
                shared.add(span)
    reading.repair("two entities on one span", len(shared))


def read_relations(
    value: object, field: str, keys: tuple[str, str, str], num_entities: int, num_sentences: int, reading: Reading
) -> tuple[Relation, ...] | None:
    """Read label rows; rows of the same fact become one row with the evidence of all."""
    if value is None:
        return None
    example = _DOCRED_LABEL if field == "labels" else _TEXT_LABEL
    if as_list(value) is None:
        reading.items(value, "labels that are not a list", field, f"[{example}]")
        return None  # an unreadable list says nothing about what does not hold: the document counts as unlabelled
    facts: dict[tuple[int, int, str], Relation] = {}
    for number, item in enumerate(as_list(value) or ()):
        fact = _read_relation(item, f"{field}[{number}]", keys, num_entities, num_sentences, reading)
        if fact is None:
            continue
        key = (fact.head, fact.tail, fact.relation)
        if key in facts:
            reading.repair("duplicate label")
            first = facts[key]
            evidence = tuple(dict.fromkeys(first.evidence + fact.evidence))
            fact = Relation(*key, evidence, fact.score if first.score is None else first.score)
        facts[key] = fact
    return tuple(facts.values())


def _read_relation(
    item: object, field: str, keys: tuple[str, str, str], num_entities: int, num_sentences: int, reading: Reading
) -> Relation | None:
    example = _DOCRED_LABEL if keys[0] == "h" else _TEXT_LABEL
    if isinstance(item, Relation):
        values = (item.head, item.tail, item.relation, item.evidence, item.score)
        item = dict(zip((*keys, "evidence", "score"), values, strict=True))
    data = reading.mapping(item, "label that is not a dict", field, example)
    if data is None:
        return None
    for key in keys:
        if data.get(key) is None:
            reading.nonsense("missing field", f"{field}.{key}", None, "missing", f"Give it, as in {example}")
            return None
    ends = []
    for key in keys[:2]:
        end = reading.index(data[key], num_entities, "label to a missing entity", f"{field}.{key}", "entities")
        if end is None:
            return None
        ends.append(end)
    relation = data[keys[2]]
    if not isinstance(relation, str) or not relation.strip() or lone_surrogate(relation) is not None:
        problem = "not a relation's id"
        reading.nonsense(
            "label without a relation", f"{field}.{keys[2]}", relation, problem, 'Write a string, as in "P17"'
        )
        return None
    score = data.get("score")
    if score is not None and as_score(score) is None:
        mend = "Write a number from 0 to 1, or leave it out"
        reading.nonsense("broken score", f"{field}.score", score, "not a probability", mend)
        return None
    evidence = _read_evidence(data, field, num_sentences, reading)
    return Relation(ends[0], ends[1], relation, evidence, None if score is None else as_score(score))


def _read_evidence(data: Mapping[str, Any], field: str, num_sentences: int, reading: Reading) -> tuple[int, ...]:
    value = data.get("evidence", ())
    if value is None:
        reading.repair("missing evidence")
        return ()
    items = reading.items(value, "evidence that is not a list", f"{field}.evidence", "[0, 2]")
    evidence: list[int] = []
    for place, item in enumerate(items):
        where = f"{field}.evidence[{place}]"
        number = reading.index(item, num_sentences, "evidence outside the document", where, "sentences")
        if number is not None:
            evidence.append(number)
    unique = tuple(dict.fromkeys(evidence))
    reading.repair("duplicate evidence", len(evidence) - len(unique))
    return unique


def read_pairs(value: object, num_entities: int, reading: Reading) -> tuple[Span, ...] | None:
    """Read candidate pairs; a pair that occurs twice becomes one."""
    if value is None:
        return None
    if as_list(value) is None:
        reading.items(value, "pairs that are not a list", "pairs", "a list of [head, tail] entity indices")
        return None
    pairs: list[Span] = []
    for number, item in enumerate(as_list(value) or ()):
        field = f"pairs[{number}]"
        ends = as_list(item)
        if ends is None or len(ends) != 2:
            reading.nonsense("broken pair", field, item, "not two entity indices", "Write [head, tail]")
            continue
        head = reading.index(ends[0], num_entities, "pair of a missing entity", f"{field}[0]", "entities")
        tail = reading.index(ends[1], num_entities, "pair of a missing entity", f"{field}[1]", "entities")
        if head is None or tail is None:
            continue
        if head == tail:
            reading.nonsense("pair of one entity", field, item, "head and tail are the same entity", "Leave it out")
            continue
        pairs.append((head, tail))
    unique = tuple(dict.fromkeys(pairs))
    reading.repair("duplicate pair", len(pairs) - len(unique))
    return unique


def join_spans(sentences: Iterable[Sequence[Span]]) -> list[Span]:
    """Return the character span of every sentence; an empty one is a point at the end of the one before."""
    spans: list[Span] = []
    previous = 0
    for words in sentences:
        spans.append((words[0][0], words[-1][1]) if words else (previous, previous))
        previous = spans[-1][1]
    return spans
