from __future__ import annotations

import pytest

from modeling_docre.documents import Document, DocumentError, Entity, Mention
from modeling_docre.markup import format_markup, parse_markup

MARKUP = "[Mirel Osk](osk:PER) lived in [Tavenna](:LOC). [She](osk) loved [Tavenna]()."


def named(string: str) -> list[tuple[str | None, list[str]]]:
    text, entities = parse_markup(string)
    return [
        (entity["type"], [text[mention["start"] : mention["end"]] for mention in entity["mentions"]])
        for entity in entities
    ]


def test_markup():
    text, entities = parse_markup(MARKUP)
    assert text == "Mirel Osk lived in Tavenna. She loved Tavenna."
    assert entities == [
        {"type": "PER", "mentions": [{"start": 0, "end": 9}, {"start": 28, "end": 31}]},
        {"type": "LOC", "mentions": [{"start": 19, "end": 26}, {"start": 38, "end": 45}]},
    ]
    document = Document.from_markup(MARKUP, title="Osk")
    assert (document.title, document.text) == ("Osk", text)
    assert [(entity.name, entity.type) for entity in document.entities] == [("Mirel Osk", "PER"), ("Tavenna", "LOC")]


def test_words_are_the_key_where_none_is_given():
    assert named("[Tavenna](:LOC), [the town](Tavenna)") == [("LOC", ["Tavenna", "the town"])]
    assert named("[ Tavenna ](:LOC), [Tavenna]()") == [("LOC", [" Tavenna ", "Tavenna"])]


def test_type_may_come_with_a_later_mention_and_may_be_missing():
    assert named("[She](osk) [Osk](osk:PER) [it]()") == [("PER", ["She", "Osk"]), (None, ["it"])]


def test_keys_may_hold_colons_and_spaces():
    assert named("[a](x:y:PER) [b]( x:y : PER )") == [("PER", ["a", "b"])]
    assert named("[a](x\\:y) [b](x\\:y:LOC)") == [("LOC", ["a", "b"])]


def test_mentions_nest_and_entities_stand_in_the_order_of_their_starts():
    string = "[University of [Tavenna](:LOC)](:ORG), [[Osk](:PER)'s mother](m:PER)"
    assert parse_markup(string)[0] == "University of Tavenna, Osk's mother"
    assert named(string) == [
        ("ORG", ["University of Tavenna"]),
        ("LOC", ["Tavenna"]),
        ("PER", ["Osk's mother"]),
        ("PER", ["Osk"]),
    ]


@pytest.mark.parametrize(
    "text",
    ["see [1], a[0] (b)", "x] y", "a [b", "*bold* _it_ 👩‍👧 `c` (d:PER)", "[a] (b:PER)", "\\n \\", "[a][b]", "[[x]]"],
)
def test_other_brackets_are_plain_text(text):
    assert parse_markup(text) == (text, [])


def test_escapes():
    assert parse_markup(r"\[Osk\](x) \(a\) \\ \* \:")[0] == r"[Osk](x) (a) \ \* \:"
    assert named(r"[Osk \[sic\]](\(k\):P)") == [("P", ["Osk [sic]"])]
    assert named(r"[a\\](k)") == [(None, ["a\\"])]


@pytest.mark.parametrize(
    ("string", "position", "problem"),
    [
        ("So [Osk](osk:PER lived in [Tavenna](:LOC).", 3, "`)` that ends the mention is missing"),
        ("So [Osk](osk:PER", 3, "`)` that ends the mention is missing"),
        ("So [Osk](osk:PER\n) x", 3, "`)` that ends the mention is missing"),
        ("So Osk](osk:PER) x", 6, "without a `[`"),
        ("So [Osk(osk:PER) x", 3, "`]` before `(` is missing"),
        ("So [](osk:PER)", 3, "without words"),
        ("So [ ](osk:PER)", 3, "without words"),
        ("[a](k:PER) [b](k:LOC)", 11, "the key 'k' has the type 'PER' already, and here 'LOC'"),
        ("So [Ada](PER) met [Bob](PER).", 3, "'PER' is the key of 'Ada', 'Bob', where the type would be (:PER)"),
        ("So [Ada](:PER) met [Rome](LOC).", 19, "'LOC' is the key of 'Rome', where the type would be (:LOC)"),
        ("see [this](https://example.org)", 4, "a link, not a mention"),
    ],
)
def test_broken_markup_names_the_character_and_the_mend(string, position, problem):
    with pytest.raises(DocumentError) as caught:
        parse_markup(string)
    message = str(caught.value)
    assert f"character {position} ({string[position : position + 40]!r}" in message
    assert problem in message
    assert "[words](key:TYPE)" in message or "Use one type" in message or "Write a key in small" in message
    with pytest.raises(DocumentError, match="document 'T': markup, character"):
        Document.from_markup(string, title="T")


@pytest.mark.parametrize("value", [None, 5, b"[a](b)", ["[a](b)"]])
def test_markup_must_be_a_string(value):
    with pytest.raises(DocumentError, match="not a string"):
        parse_markup(value)


def test_empty_markup_is_an_empty_document():
    with pytest.raises(DocumentError, match="not a single word"):
        Document.from_markup(" ")


def test_format_writes_keys_only_where_needed():
    assert Document.from_markup(MARKUP).to_markup() == (
        "[Mirel Osk](Mirel Osk:PER) lived in [Tavenna](:LOC). [She](Mirel Osk) loved [Tavenna]()."
    )


@pytest.mark.parametrize(
    "string",
    [
        MARKUP,
        "[University of [Tavenna](:LOC)](:ORG) \\[1\\](x) \\\\ (a)",
        "[Osk](a:PER) and [Osk](b:PER) and [Osk](a)",  # two people of one name
        "[[Osk](a:PER)](b:ORG)",
        "[x](a) [y](a) [a](b) [z](b)",
        "[x:1](a) [y](a) [q](x\\:1)",
        "[李明](:PER)出生于[北京](:LOC)。[他](李明)",
    ],
)
def test_format_is_the_inverse(string):
    document = Document.from_markup(string)
    again = Document.from_markup(document.to_markup())
    assert again == document


def test_capital_keys_are_keys_where_they_cannot_be_types():
    assert named("[IBM]() and [the firm](IBM)") == [(None, ["IBM", "the firm"])]
    assert named("[Ada](ADA:PER) and [she](ADA)") == [("PER", ["Ada", "she"])]
    assert named("[Ada](ADA) and [Ada](ADA)") == [(None, ["Ada", "Ada"])]
    mentions = [{"start": 0, "end": 3}, {"start": 8, "end": 11}]
    document = Document.from_text("The and its.", [{"name": "OECD", "mentions": mentions}])
    assert len(Document.from_markup(document.to_markup()).entities[0].mentions) == 2


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ("see foo(bar:BAZ) now", [(4, 16)]),
        ("a foo(bar:BAZ) b", [(0, 16)]),
        ("x y foo(bar:BAZ) b", [(0, 18), (2, 3), (4, 18)]),
    ],
)
def test_round_brackets_in_a_mention(text, spans):
    document = Document.from_text(text, [{"mentions": [{"start": start, "end": end}]} for start, end in spans])
    assert Document.from_markup(document.to_markup()) == document


def test_entities_come_back_in_the_order_of_their_first_mentions():
    entities = [{"mentions": [{"start": 8, "end": 11}]}, {"mentions": [{"start": 0, "end": 3}]}]
    again = Document.from_markup(Document.from_text("Ada met Bob.", entities).to_markup())
    assert [entity.name for entity in again.entities] == ["Ada", "Bob"]


def test_plain_text_stays_as_typed():
    text = "A *b* [1] \\ (c) ](d)"
    document = Document.from_text(text)
    assert Document.from_markup(format_markup(document)).text == text


def test_crossing_mentions_cannot_be_written():
    text = "Old Tavenna Town"
    entities = [{"mentions": [{"start": 0, "end": 11}]}, {"mentions": [{"start": 4, "end": 16}]}]
    with pytest.raises(DocumentError, match=r"'Old Tavenna' \(0, 11\) and 'Tavenna Town' \(4, 16\) cross .*to_dict"):
        Document.from_text(text, entities, title="T").to_markup()


def test_what_markup_cannot_show_is_refused():
    mention = Mention(0, 3, 0, (0, 1), "Ada")
    spans = (((0, 3),),)
    with pytest.raises(DocumentError, match=r"entities\[0\] 'Ada' has no mention"):
        Document("", "Ada", spans, (Entity((), "Ada"),)).to_markup()
    for kind in ("", " PER"):
        with pytest.raises(DocumentError, match="blank or has white space"):
            Document("", "Ada", spans, (Entity((mention,), "Ada", kind),)).to_markup()


def test_long_and_deep_markup():
    deep = "[" * 3_000 + "x" + "](k)" * 3_000
    assert len(parse_markup(deep)[1][0]["mentions"]) == 3_000
    assert len(parse_markup(MARKUP * 3_000)[1]) == 2
