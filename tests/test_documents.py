from __future__ import annotations

import copy
import json
import pickle
import time
from collections import Counter
from dataclasses import replace

import pytest

from modeling_docre.documents import (
    Document,
    DocumentError,
    Entity,
    Mention,
    Relation,
    count_repairs,
    read_documents,
)

TEXT = "Mirel Osk was born in Tavenna. She left Tavenna for Quill Harbour."


def docred() -> dict:
    return {
        "title": "Mirel Osk",
        "sents": [
            ["Mirel", "Osk", "was", "born", "in", "Tavenna", "."],
            ["She", " ", "left", "Tavenna", "."],
        ],
        "vertexSet": [
            [
                {"name": "Osk", "sent_id": 0, "pos": [1, 2], "type": "ORG"},
                {"name": "Mirel Osk", "sent_id": 0, "pos": [0, 2], "type": "PER"},
                {"name": "She", "sent_id": 1, "pos": [0, 1], "type": "MISC"},
            ],
            [
                {"name": "Tavenna", "sent_id": 1, "pos": [3, 4], "type": "LOC"},
                {"name": "Tavenna", "sent_id": 0, "pos": [5, 6], "type": "ORG"},
            ],
        ],
        "labels": [{"h": 0, "t": 1, "r": "P19", "evidence": [0]}],
    }


def spans_of(text: str, *names: str) -> list[dict]:
    """One entity per name, with every place where the name stands."""
    entities = []
    for name in names:
        starts = [place for place in range(len(text)) if text.startswith(name, place)]
        entities.append({"name": name, "mentions": [{"start": start, "end": start + len(name)} for start in starts]})
    return entities


# --- DocRED's form ---


def test_docred_words_join_to_text_and_mentions_point_into_it():
    document = Document.from_docred(docred())
    assert document.text == "Mirel Osk was born in Tavenna . She   left Tavenna ."
    assert document.words == docred()["sents"]
    first = document.entities[0].mentions[1]
    assert (document.text[first.start : first.end], first.sentence, first.words) == ("Mirel Osk", 0, (0, 2))
    second = document.entities[1].mentions[0]
    assert (document.text[second.start : second.end], second.sentence, second.words) == ("Tavenna", 1, (3, 4))
    assert document.sentence_spans == [(0, 31), (32, 52)]
    assert document.relations == (Relation(0, 1, "P19", (0,)),)
    assert document.repairs == ()


def test_entity_takes_name_and_type_of_its_longest_mention_and_the_first_on_ties():
    document = Document.from_docred(docred())
    assert [(entity.name, entity.type) for entity in document.entities] == [("Mirel Osk", "PER"), ("Tavenna", "LOC")]
    assert [mention.type for mention in document.entities[0].mentions] == ["ORG", "PER", "MISC"]


def test_mention_name_is_kept_even_if_it_differs_from_the_words():
    data = docred()
    data["vertexSet"][1][0]["name"] = "Tavenna City"
    document = Document.from_docred(data)
    assert document.entities[1].mentions[0].name == "Tavenna City"
    assert document.to_docred() == data


def test_mention_without_name_or_type_takes_its_words():
    data = docred()
    data["vertexSet"][0] = [{"sent_id": 0, "pos": [0, 2]}]
    entity = Document.from_docred(data).entities[0]
    assert (entity.name, entity.type, entity.mentions[0].name) == ("Mirel Osk", None, "Mirel Osk")


def test_docred_round_trip_is_exact_with_blank_and_empty_words_and_empty_sentences():
    data = docred()
    data["sents"].insert(0, [])
    data["sents"].append(["", "\t", "end", ""])
    for vertex in data["vertexSet"]:
        for mention in vertex:
            mention["sent_id"] += 1
    data["labels"][0]["evidence"] = [1, 0]
    document = Document.from_docred(data)
    assert document.to_docred() == data
    assert Document.from_docred(document.to_docred()) == document
    assert dict(document.repairs) == {"empty sentence": 1}
    assert document.sentence_spans[0] == (0, 0)


@pytest.mark.parametrize(("labels", "relations"), [(None, None), ("missing", None), ([], ())])
def test_unlabelled_is_none_and_no_relation_is_empty(labels, relations):
    data = docred()
    data["labels"] = labels
    if labels == "missing":
        del data["labels"]
    document = Document.from_docred(data)
    assert document.relations == relations
    assert ("labels" in document.to_docred()) == (relations is not None)
    assert ("relations" in document.to_dict()) == (relations is not None)


def test_missing_title_is_empty():
    data = docred()
    del data["title"]
    assert Document.from_docred(data).title == ""
    data["title"] = None
    assert Document.from_docred(data).title == ""


def test_known_dirt_is_repaired_and_counted():
    data = docred()
    data["sents"].append([])
    data["vertexSet"][0].append({"name": "Mirel", "sent_id": 0, "pos": [0, 2], "type": "LOC"})
    data["vertexSet"].append([{"name": "Tavenna", "sent_id": 0, "pos": [5, 6], "type": "LOC"}])
    data["labels"] += [
        {"h": 0, "t": 1, "r": "P19", "evidence": [1, 0]},
        {"h": 1, "t": 0, "r": "P17", "evidence": None},
        {"h": 1, "t": 2, "r": "P17", "evidence": [1, 1]},
        {"h": 2, "t": 1, "r": "P17"},
    ]
    data["pairs"] = [[0, 1], [1, 0], [0, 1]]
    document = Document.from_docred(data)
    assert dict(document.repairs) == {
        "empty sentence": 1,
        "duplicate mention": 1,
        "two entities on one span": 1,
        "duplicate label": 1,
        "missing evidence": 1,
        "duplicate evidence": 1,
        "duplicate pair": 1,
    }
    assert [mention.name for mention in document.entities[0].mentions] == ["Osk", "Mirel Osk", "She"]
    assert document.relations == (
        Relation(0, 1, "P19", (0, 1)),
        Relation(1, 0, "P17"),
        Relation(1, 2, "P17", (1,)),
        Relation(2, 1, "P17"),
    )
    assert document.pairs == ((0, 1), (1, 0))


def test_duplicate_mentions_can_be_kept():
    data = docred()
    data["vertexSet"][0].append(dict(data["vertexSet"][0][0]))
    document = Document.from_docred(data, keep_duplicate_mentions=True)
    assert len(document.entities[0].mentions) == 4
    assert document.repairs == ()
    assert document.to_docred() == data


def change(path: list, value: object):
    def apply(data: dict) -> None:
        for key in path[:-1]:
            data = data[key]
        if value is KeyError:
            del data[path[-1]]
        else:
            data[path[-1]] = value

    return apply


NONSENSE = [
    # path, value, parts of the message, count when it is skipped
    (
        ["vertexSet", 1, 0, "pos"],
        [3, 9],
        ["`vertexSet[1][0].pos`", "[3, 9]", "5 words"],
        "mention outside its sentence",
    ),
    (["vertexSet", 1, 0, "pos"], [-1, 2], ["[-1, 2]", "5 words"], "mention outside its sentence"),
    (["vertexSet", 1, 0, "pos"], [2, 2], ["empty"], "mention without words"),
    (["vertexSet", 1, 0, "pos"], [3, 2], ["empty"], "mention without words"),
    (["vertexSet", 1, 0, "pos"], [3], ["two whole numbers"], "mention with broken positions"),
    (["vertexSet", 1, 0, "pos"], "34", ["two whole numbers", "'34'"], "mention with broken positions"),
    (["vertexSet", 1, 0, "pos"], [3.0, 4.0], ["two whole numbers"], "mention with broken positions"),
    (["vertexSet", 1, 0, "pos"], [False, True], ["two whole numbers"], "mention with broken positions"),
    (["vertexSet", 1, 0, "pos"], KeyError, ["`vertexSet[1][0].pos`", "missing"], "missing field"),
    (["vertexSet", 1, 0, "sent_id"], 2, ["`vertexSet[1][0].sent_id`", "2 sentences"], "mention of a missing sentence"),
    (["vertexSet", 1, 0, "sent_id"], "0", ["not a whole number", "str"], "mention of a missing sentence"),
    (["vertexSet", 1, 0, "sent_id"], True, ["not a whole number", "bool"], "mention of a missing sentence"),
    (["vertexSet", 1, 0, "sent_id"], float("nan"), ["nan", "not a whole number"], "mention of a missing sentence"),
    (["vertexSet", 1, 0, "sent_id"], KeyError, ["missing"], "missing field"),
    (["vertexSet", 1, 0, "name"], 7, ["`vertexSet[1][0].name`", "int"], "mention with a broken name"),
    (["vertexSet", 1, 0, "type"], ["LOC"], ["`vertexSet[1][0].type`", "list"], "mention with a broken type"),
    (["vertexSet", 1, 0], None, ["`vertexSet[1][0]`", "not a dict"], "mention that is not a dict"),
    (["vertexSet", 1], {}, ["`vertexSet[1]`", "not a list but a dict"], "entity that is not a list"),
    (["vertexSet"], "none", ["`vertexSet`", "not a list"], "entities that are not a list"),
    (["vertexSet"], KeyError, ["`vertexSet`", "missing", '"vertexSet": []'], "missing field"),
    (["sents", 0, 2], None, ["`sents[0][2]`", "not a string"], "word that is not a string"),
    (["sents", 0], "Mirel Osk", ["`sents[0]`", "not a list but a str"], "sentence that is not a list"),
    (["labels", 0, "h"], 2, ["`labels[0].h`", "2 entities"], "label to a missing entity"),
    (["labels", 0, "t"], -1, ["`labels[0].t`", "-1"], "label to a missing entity"),
    (["labels", 0, "t"], "1", ["not a whole number"], "label to a missing entity"),
    (["labels", 0, "r"], 17, ["`labels[0].r`", "17"], "label without a relation"),
    (["labels", 0, "r"], " ", ["`labels[0].r`"], "label without a relation"),
    (["labels", 0, "r"], KeyError, ["`labels[0].r`", "missing"], "missing field"),
    (["labels", 0, "score"], float("nan"), ["`labels[0].score`", "nan", "0 to 1"], "broken score"),
    (["labels", 0, "score"], 1.5, ["`labels[0].score`"], "broken score"),
    (["labels", 0, "evidence"], [0, 7], ["`labels[0].evidence[1]`", "2 sentences"], "evidence outside the document"),
    (["labels", 0, "evidence"], 0, ["`labels[0].evidence`", "not a list"], "evidence that is not a list"),
    (["labels", 0], 3, ["`labels[0]`", "not a dict"], "label that is not a dict"),
    (["labels"], {"h": 0}, ["`labels`", "not a list"], "labels that are not a list"),
    (["pairs"], [[0, 0]], ["`pairs[0]`", "same entity"], "pair of one entity"),
    (["pairs"], [[0, 5]], ["`pairs[0][1]`", "2 entities"], "pair of a missing entity"),
    (["pairs"], [[0]], ["`pairs[0]`", "[head, tail]"], "broken pair"),
    (["pairs"], 5, ["`pairs`", "not a list"], "pairs that are not a list"),
    (["title"], 12, ["`title`", "12", "not a string"], "title that is not a string"),
    (["sents", 0, 0], "\ud83d", ["surrogate"], "broken character"),
]


@pytest.mark.parametrize(("path", "value", "parts", "cause"), NONSENSE)
def test_nonsense_names_place_value_and_mend_and_is_counted_when_not_strict(path, value, parts, cause):
    data = docred()
    change(path, value)(data)
    before = copy.deepcopy(data)
    with pytest.raises(DocumentError) as caught:
        Document.from_docred(data)
    message = str(caught.value)
    for part in [*parts, "strict=False"]:
        assert part in message
    if path != ["title"]:
        assert "'Mirel Osk'" in message
    document = Document.from_docred(data, strict=False)
    assert dict(document.repairs)[cause] >= 1
    assert repr(data) == repr(before)
    json.dumps(document.to_docred()).encode()


def test_not_strict_keeps_places_and_drops_only_what_is_broken():
    data = docred()
    data["vertexSet"].append([{"name": "Nobody", "sent_id": 9, "pos": [0, 1], "type": "PER"}])
    data["vertexSet"].append([{"name": "left", "sent_id": 1, "pos": [2, 3], "type": "MISC"}])
    data["labels"] += [{"h": 3, "t": 2, "r": "P1", "evidence": [0, 99]}, {"h": 0, "t": 44, "r": "P2"}]
    data["sents"][0][2] = 5
    document = Document.from_docred(data, strict=False)
    assert [entity.name for entity in document.entities] == ["Mirel Osk", "Tavenna", "", "left"]
    assert document.entities[2].mentions == ()
    assert document.relations == (Relation(0, 1, "P19", (0,)), Relation(3, 2, "P1", (0,)))
    assert document.words[0] == ["Mirel", "Osk", "", "born", "in", "Tavenna", "."]
    assert dict(document.repairs) == {
        "word that is not a string": 1,
        "mention of a missing sentence": 1,
        "entity without mentions": 1,
        "evidence outside the document": 1,
        "label to a missing entity": 1,
    }


def test_unreadable_labels_leave_the_document_unlabelled_rather_than_without_facts():
    data = docred()
    data["labels"] = "P17"
    assert Document.from_docred(data, strict=False).relations is None


@pytest.mark.parametrize("sents", [None, [], [[]], [["", " "]], "Ada", 5, {"a": 1}])
@pytest.mark.parametrize("strict", [True, False])
def test_a_document_without_words_is_always_an_error(sents, strict):
    with pytest.raises(DocumentError, match=r"'Mirel Osk': `sents` is .*, as in"):
        Document.from_docred(docred() | {"sents": sents}, strict=strict)


def test_a_self_relation_is_kept():
    data = docred()
    data["labels"] = [{"h": 1, "t": 1, "r": "P150", "evidence": []}]
    assert Document.from_docred(data).relations == (Relation(1, 1, "P150"),)


def test_numpy_integers_are_whole_numbers():
    numpy = pytest.importorskip("numpy")
    data = docred()
    data["vertexSet"][1][0] |= {"sent_id": numpy.int64(1), "pos": list(numpy.array([3, 4]))}
    document = Document.from_docred(data)
    assert json.dumps(document.to_docred()) == json.dumps(docred())


# --- plain text ---


def test_text_with_offsets():
    entities = spans_of(TEXT, "Mirel Osk", "Tavenna", "Quill Harbour")
    entities[0]["type"] = "PER"
    entities[0]["mentions"].append({"start": 31, "end": 34})
    relations = [{"head": 0, "tail": 1, "relation": "P19", "evidence": [0]}, Relation(0, 2, "P551", (), 0.5)]
    document = Document.from_text(TEXT, entities, title="Osk", relations=relations, pairs=[[0, 1], (0, 2)])
    assert document.text == TEXT
    assert document.words == [
        ["Mirel", "Osk", "was", "born", "in", "Tavenna", "."],
        ["She", "left", "Tavenna", "for", "Quill", "Harbour", "."],
    ]
    assert document.sentence_spans == [(0, 30), (31, 66)]
    she = document.entities[0].mentions[1]
    assert she == Mention(31, 34, 1, (0, 1), "She", "PER")
    assert [mention.words for mention in document.entities[1].mentions] == [(5, 6), (2, 3)]
    assert document.entities[2] == Entity((Mention(52, 65, 1, (4, 6), "Quill Harbour"),), "Quill Harbour", None)
    assert document.relations == (Relation(0, 1, "P19", (0,)), Relation(0, 2, "P551", (), 0.5))
    assert document.pairs == ((0, 1), (0, 2))
    assert Document.from_dict(document.to_dict()) == document
    assert Document.from_dict(json.loads(json.dumps(document.to_dict()))) == document


def test_to_dict_has_the_promised_shape():
    document = Document.from_text(TEXT, spans_of(TEXT, "Quill Harbour"), title="Osk", relations=[])
    assert document.to_dict() == {
        "title": "Osk",
        "text": TEXT,
        "sentences": [[0, 30], [31, 66]],
        "entities": [{"name": "Quill Harbour", "type": None, "mentions": [{"start": 52, "end": 65}]}],
        "relations": [],
    }


def test_names_may_be_canonical_and_extra_keys_are_ignored():
    entity = {"id": 5, "name": "Osk, M.", "type": None, "mentions": [{"start": 0, "end": 9, "note": "x"}]}
    document = Document.from_text(TEXT, [entity])
    assert document.entities[0].name == "Osk, M."
    assert document.entities[0].mentions[0].name == "Mirel Osk"


def test_without_a_name_the_longest_mention_names_the_entity():
    document = Document.from_text(TEXT, [{"mentions": [{"start": 31, "end": 34}, {"start": 0, "end": 9}]}])
    assert document.entities[0].name == "Mirel Osk"


def test_entities_of_a_document_can_be_passed_on():
    document = Document.from_text(TEXT, spans_of(TEXT, "Tavenna"))
    assert Document.from_text(TEXT, document.entities) == document


def test_mention_edges_break_words_and_hold_sentences_together():
    text = "The Acme Inc. The Band played in Westtown-upon-Sea."
    document = Document.from_text(
        text, [{"mentions": [{"start": 4, "end": 22}]}, {"mentions": [{"start": 37, "end": 41}]}]
    )
    assert len(document.sentences) == 1
    mention = document.entities[1].mentions[0]
    assert document.words[0][slice(*mention.words)] == ["town"]
    assert len(Document.from_text(text).sentences) == 2


def test_white_space_at_the_edges_of_a_mention_is_allowed():
    document = Document.from_text(TEXT, [{"mentions": [{"start": 21, "end": 29}, {"start": 29, "end": 34}]}])
    first = document.entities[0].mentions[0]
    assert (first.start, first.end, first.words, first.name) == (21, 29, (5, 6), " Tavenna")
    assert Document.from_dict(document.to_dict()) == document


def test_given_sentences_are_used_and_may_be_empty():
    spans = [[0, 0], [0, 31], [31, 39], [39, 66]]
    document = Document.from_text(TEXT, spans_of(TEXT, "Tavenna"), sentences=spans)
    assert [len(sentence) for sentence in document.words] == [0, 7, 2, 5]
    assert [mention.sentence for mention in document.entities[0].mentions] == [1, 3]
    assert dict(document.repairs) == {"empty sentence": 1}
    assert Document.from_dict(document.to_dict()) == document


def test_chinese_text():
    text = "李明出生于北京。他在清华大学学习！"
    document = Document.from_text(text, spans_of(text, "李明", "北京", "清华大学"))
    assert document.words == [list("李明出生于北京。"), list("他在清华大学学习！")]
    assert [entity.mentions[0].words for entity in document.entities] == [(0, 2), (5, 7), (2, 6)]


def test_emoji_combining_marks_and_right_to_left_text_keep_their_offsets():
    text = "👩‍👩‍👧 Zoe\u0301 visited 🇵🇹 . הלכה לירושלים."
    document = Document.from_text(text, spans_of(text, "Zoe\u0301", "🇵🇹", "ירושלים"))
    assert document.words[0][:4] == ["👩‍👩‍👧", "Zoe\u0301", "visited", "🇵🇹"]
    for entity, name in zip(document.entities, ["Zoe\u0301", "🇵🇹", "ירושלים"], strict=True):
        mention = entity.mentions[0]
        assert text[mention.start : mention.end] == name
        assert "".join(document.words[mention.sentence][slice(*mention.words)]) == name


TEXT_NONSENSE = [
    ({"start": 60, "end": 70}, ["[60, 70]", "66 characters", "'rbour.'", "'Q'"], "mention outside the text"),
    ({"start": -3, "end": 2}, ["[-3, 2]", "outside the text"], "mention outside the text"),
    ({"start": 5, "end": 5}, ["empty", "end exclusive"], "mention without characters"),
    ({"start": 9, "end": 5}, ["empty"], "mention without characters"),
    ({"start": 9, "end": 10}, ["white space alone", "' '"], "mention of white space"),
    (
        {"start": "0", "end": 3},
        ["`entities[0].mentions[0].start`", "not a whole number"],
        "mention with a broken start",
    ),
    ({"start": 0, "end": True}, ["`entities[0].mentions[0].end`", "not a whole number"], "mention with a broken end"),
    ({"start": 0}, ["`entities[0].mentions[0].end`", "missing"], "mention with a broken end"),
    ([0, 3], ["not a dict", '{"start": 0, "end": 3}'], "mention that is not a dict"),
    ({"start": 0, "end": 3, "name": 4}, ["`entities[0].mentions[0].name`"], "mention with a broken name"),
]


def test_entities_in_docreds_form_are_not_dropped_beside_a_text():
    data = {"text": "Ada met Bo.", "vertexSet": [[{"name": "Ada", "sent_id": 0, "pos": [0, 1]}]]}
    with pytest.raises(DocumentError, match=r"`vertexSet` is .*Pass `sents` too, or `entities`"):
        Document.from_dict(data)
    assert dict(Document.from_dict(data, strict=False).repairs) == {"vertexSet beside a text": 1}
    assert Document.from_dict({**data, "entities": []}).entities == ()
    assert Document.from_dict({**data, "vertexSet": []}).entities == ()
    with pytest.raises(DocumentError, match="Remove the format"):
        Document.from_dict({**data, "vertexSet": pytest.importorskip("numpy").array([1, 2])})


@pytest.mark.parametrize(("mention", "parts", "cause"), TEXT_NONSENSE)
def test_nonsense_in_text_form(mention, parts, cause):
    entities = [{"name": "Q", "mentions": [mention]}, *spans_of(TEXT, "Tavenna")]
    with pytest.raises(DocumentError) as caught:
        Document.from_text(TEXT, entities, title="Osk")
    for part in ["'Osk'", "entities[0].mentions[0]", *parts, "strict=False"]:
        assert part in str(caught.value)
    document = Document.from_text(TEXT, entities, title="Osk", strict=False)
    assert dict(document.repairs) == {cause: 1, "entity without mentions": 1}
    assert document.entities[0] == Entity((), "Q", None)
    assert len(document.entities[1].mentions) == 2


@pytest.mark.parametrize(
    ("entities", "part"),
    [
        ("Ada", "`entities` is 'Ada': not a list"),
        ([5], "`entities[0]` is 5: not a dict"),
        ([{"name": "Ada"}], "`entities[0].mentions` is None: missing"),
        ([{"name": 3, "mentions": [{"start": 0, "end": 1}]}], "`entities[0].name` is 3"),
        ([{"mentions": 3}], "`entities[0].mentions` is 3: not a list"),
    ],
)
def test_broken_entities(entities, part):
    with pytest.raises(DocumentError) as caught:
        Document.from_text(TEXT, entities)
    assert part in str(caught.value)
    assert Document.from_text(TEXT, entities, strict=False).repairs


def test_an_empty_list_of_mentions_is_kept_and_counted():
    data = docred()
    data["vertexSet"].insert(1, [])
    data["labels"][0]["t"] = 2
    document = Document.from_docred(data)
    assert document.entities[1] == Entity((), "", None)
    assert dict(document.repairs) == {"entity without mentions": 1}
    entities = [{"name": "Bo", "type": "PER", "mentions": []}, *spans_of(TEXT, "Tavenna")]
    document = Document.from_text(TEXT, entities)
    assert document.entities[0] == Entity((), "Bo", "PER")
    assert dict(document.repairs) == {"entity without mentions": 1}


@pytest.mark.parametrize("form", ["to_docred", "to_dict"])
def test_what_was_read_leniently_is_read_strictly_when_it_is_written(form):
    data = docred()
    data["vertexSet"].insert(0, [{"name": "lost", "sent_id": 9, "pos": [0, 1], "type": "MISC"}])
    data["labels"][0] = {"h": 1, "t": 2, "r": "P19", "evidence": [0]}
    document = Document.from_docred(data, strict=False)
    again = Document.from_dict(getattr(document, form)())
    assert again.entities == document.entities or form == "to_dict"
    assert [entity.name for entity in again.entities] == ["", "Mirel Osk", "Tavenna"]
    assert again.relations == (Relation(1, 2, "P19", (0,)),)


def test_a_mention_has_its_entitys_type_unless_it_says_otherwise():
    mentions = [
        {"start": 0, "end": 9},
        {"start": 31, "end": 34, "type": None},
        {"start": 22, "end": 29, "type": "LOC"},
    ]
    document = Document.from_text(TEXT, [{"type": "PER", "mentions": mentions}])
    assert [mention.type for mention in document.entities[0].mentions] == ["PER", None, "LOC"]
    assert Document.from_dict(document.to_dict()) == document
    typed = Entity((Mention(0, 3, 0, (0, 1), "Ada", "PER"),), "Ada", None)
    document = by_hand(entities=(typed,))
    assert Document.from_dict(document.to_dict()) == document


def test_a_sentence_that_cuts_a_mention_is_an_error_with_a_mend():
    entities = spans_of(TEXT, "Quill Harbour")
    sentences = [[0, 30], [31, 57], [57, 66]]
    with pytest.raises(
        DocumentError, match=r"'Quill Harbour' does not lie inside one sentence: sentence 1 ends at char"
    ):
        Document.from_text(TEXT, entities, sentences=sentences)
    document = Document.from_text(TEXT, entities, sentences=sentences, strict=False)
    assert dict(document.repairs) == {"mention outside its sentence": 1, "entity without mentions": 1}


@pytest.mark.parametrize(
    ("sentences", "part"),
    [
        ([[0, 40], [31, 66]], "overlaps"),
        ([[0, 90]], "66 characters"),
        ([[31, 66], [0, 30]], "overlaps"),
        ([["0", 66]], "two whole numbers"),
        ("all", "not a list"),
    ],
)
def test_sentences_that_cannot_be_used(sentences, part):
    with pytest.raises(DocumentError, match=part):
        Document.from_text(TEXT, sentences=sentences)
    document = Document.from_text(TEXT, sentences=sentences, strict=False)
    assert dict(document.repairs) == {"sentences that cannot be used": 1}
    assert len(document.sentences) == 2


def test_text_outside_every_sentence_is_not_lost_silently():
    with pytest.raises(DocumentError, match="characters 30 to 66 lie in no sentence"):
        Document.from_text(TEXT, sentences=[[0, 30]])
    document = Document.from_text(TEXT, sentences=[[0, 30]], strict=False)
    assert dict(document.repairs) == {"text outside every sentence": 1}
    assert document.sentence_spans == [(0, 30), (31, 66)]
    assert len(Document.from_text(TEXT, sentences=[], strict=False).sentences) == 2


@pytest.mark.parametrize(
    ("sentences", "cause"),
    [([[0, 5], [5, 30]], "text outside every sentence"), ([[0, 40], [31, 66]], "sentences that cannot be used")],
)
def test_evidence_does_not_move_to_other_sentences(sentences, cause):
    relations = [{"head": 0, "tail": 1, "relation": "P19", "evidence": [0, 1]}]
    entities = spans_of(TEXT, "Mirel Osk", "Tavenna")
    document = Document.from_text(TEXT, entities, relations=relations, sentences=sentences, strict=False)
    assert document.relations == (Relation(0, 1, "P19"),)
    assert dict(document.repairs) == {cause: 1, "evidence of sentences that cannot be used": 2}


@pytest.mark.parametrize("text", ["", "  \n ", None, 5, b"Ada", ["Ada"]])
@pytest.mark.parametrize("strict", [True, False])
def test_empty_text_is_always_an_error(text, strict):
    with pytest.raises(DocumentError, match="`text` is"):
        Document.from_text(text, strict=strict)


def test_half_a_surrogate_pair_is_named_or_replaced():
    text = "Ada \ud83d lived."
    with pytest.raises(DocumentError, match="character 4 is half of a surrogate pair"):
        Document.from_text(text)
    document = Document.from_text(text, strict=False)
    assert document.text == "Ada \ufffd lived."
    assert dict(document.repairs) == {"broken character": 1}


def test_duplicate_mentions_and_shared_spans_in_text_form():
    ada = {"mentions": [{"start": 0, "end": 9}, {"start": 0, "end": 10}]}
    document = Document.from_text(TEXT, [ada, {"mentions": [{"start": 0, "end": 9}]}])
    assert dict(document.repairs) == {
        "duplicate mention": 1,
        "two entities on one span": 1,
        "mention with white space at its edges": 1,
    }


def test_document_of_a_hundred_thousand_words_is_fast():
    text = "Mirel met Osk, who's from Tavenna, in 1,905 well-known places of Quill Harbour. " * 6_000
    starts = range(0, len(text), len(text) // 1_000)
    entities = [
        {"mentions": [{"start": start, "end": start + 5}]} for start in starts if text[start : start + 5].strip()
    ]
    begin = time.process_time()
    document = Document.from_text(text, entities)
    elapsed = time.process_time() - begin
    assert sum(map(len, document.sentences)) > 100_000
    assert len(document.entities) >= 1_000
    assert elapsed < 4  # about 0.6 s on an idle core


# --- either form, many documents ---


def test_from_dict_takes_either_form():
    assert Document.from_dict(docred()) == Document.from_docred(docred())
    data = {"text": TEXT, "entities": spans_of(TEXT, "Tavenna"), "title": "T"}
    assert Document.from_dict(data) == Document.from_text(TEXT, data["entities"], title="T")
    # a table's row has every column
    assert Document.from_dict(docred() | {"text": None, "entities": None}) == Document.from_docred(docred())
    assert Document.from_dict(docred() | {"text": "x"}).entities
    assert Document.from_dict({"text": TEXT, "entities": None, "relations": None}).entities == ()


@pytest.mark.parametrize("data", [{}, {"title": "T", "tokens": []}, {"text": None}, "Ada lived.", None, 5, [docred()]])
def test_from_dict_says_what_to_pass(data):
    for strict in (True, False):
        with pytest.raises(DocumentError, match=r'Pass \{"text": .*DocRED'):
            Document.from_dict(data, strict=strict)


def test_docred_document_survives_to_dict_but_for_its_words():
    document = Document.from_docred(docred())
    again = Document.from_dict(document.to_dict())
    assert (again.text, again.relations) == (document.text, document.relations)
    for entity, other in zip(document.entities, again.entities, strict=True):
        assert (entity.name, entity.type) == (other.name, other.type)
        for mention, found in zip(entity.mentions, other.mentions, strict=True):
            for key in ("start", "end", "sentence", "name", "type"):
                assert getattr(mention, key) == getattr(found, key)


def test_read_documents_names_the_index_where_there_is_no_title():
    broken = docred()
    broken["vertexSet"][0][0]["sent_id"] = 8
    with pytest.raises(DocumentError, match="document 'Mirel Osk'"):
        list(read_documents([docred(), broken]))
    del broken["title"]
    with pytest.raises(DocumentError, match="document 1: `vertexSet"):
        list(read_documents([docred(), broken]))
    with pytest.raises(DocumentError, match="document 2: 'text'"):
        list(read_documents([docred(), Document.from_docred(docred()), "text"]))


@pytest.mark.parametrize("items", [5, None, "documents.json", docred()])
def test_read_documents_wants_a_list(items):
    with pytest.raises(DocumentError, match=r"documents: .* Pass a list of documents"):
        list(read_documents(items, strict=False))


@pytest.mark.parametrize("format", ["numpy", "torch"])
def test_rows_of_a_formatted_dataset_are_refused_with_the_mend(format):
    data = pytest.importorskip("datasets").Dataset.from_list([docred()])
    with pytest.raises(DocumentError, match=r"Remove the format: dataset\.with_format\(None\)"):
        list(read_documents(data.with_format(format)))
    assert list(read_documents(data.with_format(None))) == [Document.from_docred(docred())]


def test_read_documents_keeps_the_order_when_not_strict():
    documents = list(read_documents([docred(), None, {"sents": []}, docred()], strict=False))
    assert [document.title for document in documents] == ["Mirel Osk", "", "", "Mirel Osk"]
    assert documents[1].words == []
    assert count_repairs(documents) == Counter({"unreadable document": 2})


def test_read_documents_is_lazy():
    def items():
        yield docred()
        raise RuntimeError("read too far")

    assert next(read_documents(items())).title == "Mirel Osk"


def test_count_repairs_adds_up():
    data = docred()
    data["labels"] *= 3
    documents = [Document.from_docred(data), Document.from_docred(docred()), Document.from_docred(data)]
    assert count_repairs(documents) == {"duplicate label": 4}


# --- documents built by hand ---


def by_hand(**changes) -> Document:
    mention = Mention(0, 3, 0, (0, 1), "Ada", "PER")
    fields = {
        "title": "T",
        "text": "Ada lived.",
        "sentences": (((0, 3), (4, 9), (9, 10)),),
        "entities": (Entity((mention,), "Ada", "PER"), Entity((), "Bo", None)),
    }
    return Document(**(fields | changes))


def test_by_hand():
    assert by_hand().words == [["Ada", "lived", "."]]
    assert by_hand(pairs=((0, 1), (1, 0)), relations=(Relation(0, 1, "P1", (0,), 1.0),)).pairs == ((0, 1), (1, 0))
    assert Document("", "", ()).words == []


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"title": None}, "`title` is None"),
        ({"text": b"Ada"}, "`text`"),
        ({"sentences": [((0, 3),)]}, "`sentences`"),
        ({"sentences": ([(0, 3)],)}, "`sentences[0]`"),
        ({"sentences": (((0, 3), (2, 5)),)}, "`sentences[0][1]` is (2, 5)"),
        ({"sentences": (((0, 30),),)}, "10 characters"),
        ({"sentences": (((0, "3"),),)}, "two int"),
        ({"entities": [Entity((), "x", None)]}, "`entities`"),
        ({"entities": (Entity([Mention(0, 3, 0, (0, 1), "x")], "x", None),)}, "`entities[0].mentions`"),
        (
            {"entities": (Entity((Mention(0, 3, 1, (0, 1), "x"),), "x", None),)},
            "`entities[0].mentions[0].sentence` is 1",
        ),
        ({"entities": (Entity((Mention(0, 3, 0, (0, 4), "x"),), "x", None),)}, "which has 3 words"),
        ({"entities": (Entity((Mention(0, 3, 0, (1, 1), "x"),), "x", None),)}, "mentions[0].words` is (1, 1)"),
        ({"entities": (Entity((Mention(0, 4, 0, (1, 2), "x"),), "x", None),)}, "(4, 9)"),
        ({"entities": (Entity((Mention(0, 99, 0, (0, 1), "x"),), "x", None),)}, "(0, 99)"),
        ({"entities": (Entity((), 5, None),)}, "`entities[0].name`"),
        ({"entities": (Entity((), "x", 5),)}, "`entities[0].type`"),
        ({"relations": (Relation(0, 2, "P1"),)}, "`relations[0].tail` is 2"),
        ({"relations": (Relation(0, 1, ""),)}, "`relations[0].relation`"),
        ({"relations": (Relation(0, 1, "P1", (1,)),)}, "`relations[0].evidence`"),
        ({"relations": (Relation(0, 1, "P1", [0]),)}, "`relations[0].evidence`"),
        ({"relations": (Relation(0, 1, "P1", (), float("nan")),)}, "`relations[0].score`"),
        ({"pairs": ((0, 0),)}, "`pairs[0]`"),
        ({"pairs": ((0, 2),)}, "`pairs[0]`"),
        ({"pairs": ((0, 1), (0, 1))}, "twice"),
        ({"pairs": [(0, 1)]}, "`pairs`"),
        ({"relations": (Relation(0, 1, "P1"), Relation(0, 1, "P1", (0,)))}, "a fact occurs twice"),
        ({"text": "Ada\ud800lived."}, "`text` is 'Ada\\ud800lived.': character 3 is half of a surrogate pair"),
        ({"title": "T\ud800"}, "`title` is 'T\\ud800': character 1"),
        ({"entities": (Entity((), "\ud800"),)}, "`entities[0].name`"),
        ({"entities": (Entity((), "x", "\ud800"),)}, "`entities[0].type`"),
        ({"entities": (Entity((Mention(0, 3, 0, (0, 1), "\ud800"),), "x"),)}, "`entities[0].mentions[0].name`"),
        ({"relations": (Relation(0, 1, "P\ud800"),)}, "`relations[0].relation`"),
        ({"repairs": {"duplicate mention": 1}}, "`repairs`"),
        ({"repairs": (("duplicate mention",),)}, "`repairs[0]`"),
    ],
)
def test_by_hand_nonsense(changes, part):
    with pytest.raises(DocumentError) as caught:
        by_hand(**changes)
    assert part in str(caught.value)
    assert "document" in str(caught.value)


def test_documents_are_frozen_hashable_and_picklable():
    document = Document.from_docred(docred())
    assert hash(document) == hash(Document.from_docred(docred()))
    assert pickle.loads(pickle.dumps(document)) == document
    assert copy.deepcopy(document) == document
    for target, name in ((document, "text"), (document.entities[0], "name"), (document.relations[0], "head")):
        with pytest.raises(AttributeError):
            setattr(target, name, "x")


def test_repairs_are_not_part_of_equality():
    data = docred()
    data["labels"] *= 2
    assert Document.from_docred(data) == Document.from_docred(docred())
    assert Document.from_docred(data).repairs != Document.from_docred(docred()).repairs


def test_messages_stay_short_on_large_values():
    data = docred()
    data["vertexSet"][0][0]["name"] = ["x" * 100_000] * 1_000
    with pytest.raises(DocumentError) as caught:
        Document.from_docred(data)
    assert len(str(caught.value)) < 1_000


# --- real data ---


@pytest.mark.parametrize(
    ("name", "count", "repairs"),
    [
        ("re-docred/dev_revised.json", 500, {"duplicate mention": 35, "two entities on one span": 1}),
        ("docred/test.json", 1000, {"duplicate mention": 264, "two entities on one span": 8}),
    ],
)
def test_real_documents_round_trip(data_dir, name, count, repairs):
    path = data_dir / name
    if not path.exists():
        pytest.skip(f"{path} is absent")
    items = json.loads(path.read_text(encoding="utf-8"))
    assert len(items) == count
    kept = {"mention": ("name", "sent_id", "pos", "type"), "label": ("h", "t", "r", "evidence")}
    for item in items:
        plain = {"title": item["title"], "sents": item["sents"]}
        plain["vertexSet"] = [
            [{key: row[key] for key in kept["mention"]} for row in rows] for rows in item["vertexSet"]
        ]
        if "labels" in item:
            plain["labels"] = [{key: row[key] for key in kept["label"]} for row in item["labels"]]
        document = Document.from_docred(item, keep_duplicate_mentions=True)
        assert document.to_docred() == plain
        assert document.text == " ".join(word for words in item["sents"] for word in words)
        cleaned = Document.from_docred(item)
        for rows in plain["vertexSet"]:
            seen: set = set()
            rows[:] = [
                row
                for row in rows
                if (row["sent_id"], *row["pos"]) not in seen and not seen.add((row["sent_id"], *row["pos"]))
            ]
        assert cleaned.to_docred() == plain
        assert Document.from_docred(cleaned.to_docred()) == cleaned
        text_form = Document.from_dict(cleaned.to_dict())
        assert Document.from_dict(text_form.to_dict()) == text_form
        assert text_form.entities == tuple(
            Entity(
                tuple(
                    Mention(mention.start, mention.end, mention.sentence, found.words, mention.name, mention.type)
                    for mention, found in zip(entity.mentions, other.mentions, strict=True)
                ),
                entity.name,
                entity.type,
            )
            for entity, other in zip(cleaned.entities, text_form.entities, strict=True)
        )
    assert count_repairs(read_documents(items)) == repairs


def test_a_mention_may_give_its_text_as_a_check_of_its_offsets():
    text = "Ada was born in London."
    right = Document.from_text(text, [{"mentions": [{"start": 16, "end": 22, "text": "London"}]}])
    assert right.entities[0].name == "London"
    wrong = [{"mentions": [{"start": 15, "end": 21, "text": "London"}]}]
    with pytest.raises(DocumentError, match="gives the text 'London', but these characters are ' Londo'"):
        Document.from_text(text, wrong)
    assert dict(Document.from_text(text, wrong, strict=False).repairs)["mention with another text"] == 1


def test_white_space_at_the_edges_of_a_mention_is_counted():
    document = Document.from_text("Ada was born in London.", [{"mentions": [{"start": 15, "end": 22}]}])
    assert document.repairs == (("mention with white space at its edges", 1),)
    assert document.entities[0].mentions[0].words == (4, 5)


def test_ids_of_entities_stay_and_what_is_no_id_is_counted():
    entities = [
        {"id": " Q1 ", "mentions": [{"start": 0, "end": 3}]},
        {"id": 1, "ids": ["Q2", "Q2", "D5"], "mentions": [{"start": 8, "end": 11}]},  # as results have them
        {"id": [7, True, "", None, "Q3"], "mentions": [{"start": 16, "end": 19}]},
    ]
    document = Document.from_text("Ada met Ben and Cyd.", [*entities[:2]])
    assert [entity.ids for entity in document.entities] == [("Q1",), ("Q2", "D5")] and not document.repairs
    document = Document.from_text("Ada met Ben and Cyd.", entities)
    assert document.entities[2].ids == ("Q3",)
    assert document.repairs == (("entity with an id that is not a string", 2),)
    again = Document.from_text(document.text, document.entities)
    assert again.entities == document.entities and not again.repairs
    assert [entity.get("id") for entity in document.to_dict()["entities"]] == ["Q1", ["Q2", "D5"], "Q3"]
    assert [row[0]["id"] for row in document.to_docred()["vertexSet"]] == ["Q1", ["Q2", "D5"], "Q3"]
    with pytest.raises(DocumentError, match=r"`entities\[0\]\.ids` is \(7,\): not a tuple of str"):
        replace(document, entities=(replace(document.entities[0], ids=(7,)), *document.entities[1:]))
    with pytest.raises(DocumentError, match="an id is blank"):
        replace(document, entities=(replace(document.entities[0], ids=(" ",)), *document.entities[1:]))
