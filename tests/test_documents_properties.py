from __future__ import annotations

import json
import unicodedata

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from modeling_docre.documents import Document, DocumentError, read_documents
from modeling_docre.markup import parse_markup
from modeling_docre.text import split_sentences, split_words

# Pieces that rules trip over, glued in any order
PIECES = st.sampled_from(
    [
        "Ada", "osk", "U.S.", "Dr.", "No.", "5", "3.14", "1,000", ".", "!", "?", "…", "'s", "n't", "'", "’", "“", "”",
        "-", "[", "]", "(", ")", "\\", ":", "*", "_", "[1]", "](", " ", "  ", "\n", "\r\n", "\n\n", "\t", "\u00a0",
        "\u2029", "北", "京", "。", "！", "」", "タ", "ー", "한", "สวั", "हि", "न्", "שלום", "سلام", "؟", "।", "\u200f",
        "\u200d", "\u200c", "\u0301", "\ufe0f", "👍", "🏽", "👩‍👧", "🇵", "🇹", "1️⃣", "é", "\x00", "\u00ad", "ﬁ", "İ",
    ]
)  # fmt: skip
TEXTS = st.one_of(st.lists(PIECES, max_size=30).map("".join), st.text(st.characters(codec="utf-8"), max_size=40))


@st.composite
def spans(draw, text: str) -> tuple[int, int]:
    start = draw(st.integers(0, len(text) - 1))
    return start, draw(st.integers(start + 1, len(text)))


@st.composite
def texts_with_entities(draw, nested: bool = False, own_names: bool = False) -> tuple[str, list[dict]]:
    text = draw(TEXTS.filter(str.strip))
    chosen = [span for span in draw(st.lists(spans(text), max_size=8)) if text[slice(*span)].strip()]
    if nested:
        kept: list[tuple[int, int]] = []
        for start, end in chosen:
            if not any(a < start < b < end or start < a < end < b for a, b in kept):
                kept.append((start, end))
        chosen = kept
    entities: dict[int, dict] = {}
    for start, end in chosen:
        entity = entities.setdefault(draw(st.integers(0, 3)), {"mentions": []})
        own = st.fixed_dictionaries(
            {}, optional={"name": st.just("N."), "type": st.sampled_from([None, "PER", "ORG"])}
        )
        entity["mentions"].append({"start": start, "end": end} | (draw(own) if own_names else {}))
    for entity in entities.values():
        kind = draw(st.sampled_from([None, "PER", "LOC", "a:b", "(x]"]))
        if kind is not None:
            entity["type"] = kind
        if draw(st.booleans()):
            entity["name"] = draw(st.text(st.characters(codec="utf-8"), max_size=5))
    return text, list(entities.values())


def uncovered(text: str, found: list[tuple[int, int]]) -> str:
    """What is left of the text outside of the spans, which must stand in order and hold something."""
    left, previous = [], 0
    for start, end in found:
        assert previous <= start < end <= len(text)
        left.append(text[previous:start])
        previous = end
    return "".join(left) + text[previous:]


@given(TEXTS, st.data())
def test_words_cover_all_but_white_space_and_break_at_boundaries(text, data):
    boundaries = data.draw(st.lists(st.integers(-2, len(text) + 2), max_size=5))
    found = split_words(text, boundaries=boundaries)
    assert not uncovered(text, found).strip()
    for start, end in found:
        assert not any(character.isspace() for character in text[start:end])
        assert not any(start < boundary < end for boundary in boundaries)


@given(TEXTS)
@example("U.S.\u0301 U.S.\u200d")
def test_words_never_cut_marks_from_their_base(text):
    for start, _ in split_words(text):
        if start and not text[start - 1].isspace():
            character = text[start]
            assert not unicodedata.category(character).startswith("M")
            assert character not in "\u200d\ufe0f🏽"
            if unicodedata.category(character) == "So" and not 0x1F1E6 <= ord(character) <= 0x1F1FF:
                assert text[start - 1] != "\u200d" or unicodedata.category(text[start - 2 : start - 1] or " ") != "So"


@given(texts_with_entities())
def test_sentences_cover_all_but_white_space_and_never_cut_a_mention(drawn):
    text, entities = drawn
    protected = [(mention["start"], mention["end"]) for entity in entities for mention in entity["mentions"]]
    found = split_sentences(text, protected)
    assert not uncovered(text, found).strip()
    for start, end in found:
        assert text[start:end] == text[start:end].strip()
    for first, last in protected:
        core = text[first:last].strip()
        begin = first + text[first:last].index(core)
        assert sum(start <= begin and begin + len(core) <= end for start, end in found) == 1


@given(texts_with_entities(own_names=True), st.booleans())
@settings(max_examples=200)
def test_text_documents_round_trip(drawn, labelled):
    text, entities = drawn
    relations = None
    pairs = None
    if labelled and len(entities) > 1:
        relations = [
            {"head": 0, "tail": 1, "relation": "P1", "evidence": [0]},
            {"head": 1, "tail": 1, "relation": "P2"},
        ]
        pairs = [[1, 0], [0, 1]]
    document = Document.from_text(text, entities, title="T", relations=relations, pairs=pairs)
    assert document.text == text
    for entity, given_entity in zip(document.entities, entities, strict=True):
        for mention in entity.mentions:
            assert (mention.start, mention.end) in {(item["start"], item["end"]) for item in given_entity["mentions"]}
            words = document.sentences[mention.sentence][slice(*mention.words)]
            assert text[words[0][0] : words[-1][1]] == text[mention.start : mention.end].strip()
    data = document.to_dict()
    assert Document.from_dict(json.loads(json.dumps(data))) == document
    words_form = Document.from_docred(document.to_docred())
    assert words_form.words == document.words
    assert Document.from_docred(words_form.to_docred()) == words_form


@given(texts_with_entities(nested=True))
@settings(max_examples=200)
def test_markup_round_trip(drawn):
    text, entities = drawn
    document = Document.from_text(text, entities)
    assume(all(entity.type is None or entity.type == entity.type.strip() for entity in document.entities))
    again = Document.from_markup(document.to_markup())

    def shape(read: Document) -> set:
        return {
            (entity.type, frozenset((mention.start, mention.end) for mention in entity.mentions))
            for entity in read.entities
        }

    assert again.text == text
    assert shape(again) == shape(document)
    first = [min((mention.start, -mention.end) for mention in entity.mentions) for entity in document.entities]
    if first == sorted(set(first)):
        assert [entity.type for entity in again.entities] == [entity.type for entity in document.entities]
        assert [len(entity.mentions) for entity in again.entities] == [
            len(entity.mentions) for entity in document.entities
        ]
    assert Document.from_markup(again.to_markup()) == again


@given(st.lists(PIECES, max_size=20).map("".join))
@example("[" * 50)
@example("[a](" * 50)
def test_any_string_is_markup_or_a_document_error(string):
    try:
        text, entities = parse_markup(string)
    except DocumentError as error:
        assert "character" in str(error)
        return
    for entity in entities:
        for mention in entity["mentions"]:
            assert text[mention["start"] : mention["end"]].strip()


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 4), st.integers(), st.floats(), st.text(max_size=5), st.just("\ud800")
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=4)),
    max_leaves=8,
)


def mostly(strategy: st.SearchStrategy) -> st.SearchStrategy:
    """The right thing, or anything at all."""
    return st.integers(0, 11).flatmap(lambda roll: JSON if roll == 0 else strategy)


def fields(**strategies: st.SearchStrategy) -> st.SearchStrategy:
    return mostly(st.fixed_dictionaries({}, optional={name: mostly(value) for name, value in strategies.items()}))


def lists(strategy: st.SearchStrategy, **sizes: int) -> st.SearchStrategy:
    return mostly(st.lists(mostly(strategy), **({"max_size": 4} | sizes)))


NUMBERS = st.integers(-1, 4)
PAIRS = lists(lists(NUMBERS, min_size=2, max_size=2))
DOCRED = fields(
    title=st.text(max_size=3),
    sents=lists(lists(st.sampled_from(["Ada", "", " ", "x.", "🇵"]), min_size=1)),
    vertexSet=lists(lists(fields(name=st.text(max_size=3), sent_id=NUMBERS, pos=lists(NUMBERS), type=st.just("PER")))),
    labels=lists(fields(h=NUMBERS, t=NUMBERS, r=st.just("P1"), evidence=lists(NUMBERS), score=st.floats(0, 1))),
    pairs=PAIRS,
)
TEXT_FORM = fields(
    title=st.text(max_size=3),
    text=TEXTS,
    sentences=lists(lists(NUMBERS, min_size=2, max_size=2)),
    entities=lists(fields(name=st.text(max_size=3), mentions=lists(fields(start=NUMBERS, end=NUMBERS)))),
    relations=lists(fields(head=NUMBERS, tail=NUMBERS, relation=st.just("P1"), evidence=lists(NUMBERS))),
    pairs=PAIRS,
)


@given(st.one_of(JSON, DOCRED, TEXT_FORM), st.booleans())
@settings(max_examples=600)
def test_any_json_is_a_document_or_a_document_error(data, strict):
    try:
        document = Document.from_dict(data, strict=strict)
    except DocumentError as error:
        assert "document" in str(error)
        str(error).encode()
        return
    hash(document)
    json.dumps(document.to_dict()).encode()
    json.dumps(document.to_docred()).encode()
    assert Document.from_dict(document.to_docred(), strict=False).words == document.words
    assert Document.from_dict(document.to_docred()).words == document.words


@given(st.lists(st.one_of(JSON, DOCRED, TEXT_FORM), max_size=4))
def test_lenient_reading_gives_one_document_per_item(items):
    documents = list(read_documents(items, strict=False))
    assert len(documents) == len(items)
