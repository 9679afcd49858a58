from __future__ import annotations

import gzip
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modeling_docre.data_check import check_files
from modeling_docre.data_files import DataFileError, iter_documents
from modeling_docre.documents import DocumentError
from modeling_docre.misspellings import find_misspellings


def row(number: int = 0, **changes: Any) -> dict[str, Any]:
    """A document in text form that has nothing wrong with it."""
    return {
        "title": f"Letter {number}",
        "text": "Orla wrote to Wim. He lives in Sande.",
        "sentences": [[0, 18], [19, 37]],
        "entities": [
            {"type": "PER", "mentions": [{"start": 0, "end": 4}]},
            {"type": "PER", "mentions": [{"start": 14, "end": 17}]},
            {"type": "LOC", "mentions": [{"start": 31, "end": 36}]},
        ],
        "relations": [
            {"head": 0, "tail": 1, "relation": "wrote_to", "evidence": [0]},
            {"head": 1, "tail": 2, "relation": "lives_in", "evidence": [0, 1]},
        ],
        **changes,
    }


def lines(path: Path, *rows: Any) -> Path:
    path.write_text("".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in rows))
    return path


def test_clean_documents_are_clean(tmp_path):
    report = check_files(lines(tmp_path / "a.jsonl", row(0), row(1)), relations=["wrote_to", "lives_in"])
    assert (report.documents, report.problems, report.counts, report.warnings) == (2, [], {}, {})
    assert report.to_dict()["clean"] is True


def test_every_problem_is_found_with_its_place(tmp_path):
    broken = row(1)
    broken["entities"][0]["mentions"][0]["end"] = 99
    broken["relations"][0]["tail"] = 7
    broken["relations"][1]["evidence"] = [0, 5]
    file = lines(tmp_path / "a.jsonl", row(0), broken, '{"text": "cut', "", [1], {"tokens": []}, row(2, text="  "))
    report = check_files(file)
    found = [(problem.row, problem.field, problem.value) for problem in report.problems]
    assert found == [
        ("line 2", "entities[0].mentions[0]", "[0, 99]"),
        ("line 2", "relations[0].tail", "7"),
        ("line 2", "relations[1].evidence[1]", "5"),
        ("line 3", "", ""),
        ("line 5", "", ""),
        ("line 6", "", ""),
        ("line 7", "text", "'  '"),
    ]
    assert report.documents == 6
    said = str(report.problems[1])
    assert said.startswith(f"{file}, line 2: document 'Letter 1': `relations[0].tail` is 7: ")
    assert said.endswith("Give the index of one of the entities.")
    assert "strict" not in "".join(map(str, report.problems)), "a check skips nothing"
    assert report.counts == {
        "mention outside the text": 1,
        "label to a missing entity": 1,
        "evidence outside the document": 1,
        "row that is not JSON": 1,
        "row that is no document": 2,
        "document that cannot be read": 1,
    }
    assert report.first["evidence outside the document"] == f"{file}, line 2"


def test_the_limit_shortens_the_list_and_not_the_counts(tmp_path):
    broken = [row(number, relations=[{"head": 0, "tail": 9, "relation": "lives_in"}] * 3) for number in range(5)]
    report = check_files(lines(tmp_path / "a.jsonl", *broken), limit=4)
    assert len(report.problems) == 4
    assert report.counts == {"label to a missing entity": 15} and report.total == 15
    assert check_files(tmp_path / "a.jsonl", limit=0).problems == []
    with pytest.raises(ValueError, match="limit"):
        check_files(tmp_path / "a.jsonl", limit=-1)


def test_unknown_relations_get_the_nearest_known_one(tmp_path):
    one = row(0)
    one["relations"][1]["relation"] = "livesin"
    two = row(1)
    two["relations"][1]["relation"] = "country"
    file = lines(tmp_path / "a.jsonl", one, two)
    (tmp_path / "rel_info.json").write_text(
        json.dumps({"wrote_to": "wrote to", "lives_in": "lives in", "P17": "country"})
    )
    report = check_files(file, relations=tmp_path / "rel_info.json")
    assert report.counts == {"unknown relation": 2}
    first, second = report.problems
    assert (first.row, first.field, first.value) == ("line 1", "relations[1].relation", "'livesin'")
    assert "Did you mean 'lives_in'?" in first.mend
    assert "Did you mean 'P17'?" in second.mend, "words of a relation stand for its id"
    assert report.warnings == {}, "that nothing has the two suggested ones follows, and that these occur once"
    (tmp_path / "rel2id.json").write_text(json.dumps({"Na": 0, "wrote_to": 1, "lives_in": 2}))
    assert check_files(file, relations=tmp_path / "rel2id.json").counts == {"unknown relation": 2}
    assert not check_files(file, relations=["wrote_to", "lives_in", "livesin", "country"]).counts


def test_facts_under_a_key_that_nothing_reads(tmp_path):
    lost = row(0)
    lost["labels"] = lost.pop("relations")
    slip = row(1)
    slip["entitys"] = slip.pop("entities")
    slip["relations"] = []
    extra = row(2, relation="a note of our own, beside the facts")
    report = check_files(lines(tmp_path / "a.jsonl", lost, slip, extra))
    assert [(problem.row, problem.field, problem.mend) for problem in report.problems] == [
        ("line 1", "labels", "Write `relations`"),
        ("line 2", "entitys", "Write `entities`"),
    ]


def test_keys_inside_entities_mentions_and_facts(tmp_path):
    typo = row(1)
    typo["entities"][0]["typ"] = typo["entities"][0].pop("type")
    typo["entities"][1]["mentions"][0]["nmae"] = "Wim"
    typo["entities"][2]["kind"] = "town"
    typo["entities"][2]["idx"] = 2
    typo["entities"][2]["ID"] = "Q1"
    typo["relations"][0]["core"] = True
    typo["relations"][1]["evidences"] = typo["relations"][1].pop("evidence")
    mention = {"name": "Orla", "sent_id": 0, "pos": [0, 1], "Type": "PER", "global_pos": [0, 1]}
    label = {"h": 0, "t": 0, "r": "writes", "evidense": [0]}
    docred = {"title": "Letter", "sents": [["Orla", "wrote"]], "vertexSet": [[mention], 3], "labels": [label, 4]}
    report = check_files(lines(tmp_path / "a.jsonl", row(), typo, docred))
    assert "It is there" not in "".join(map(str, report.problems))
    assert [(p.row, p.field, p.mend) for p in report.problems if p.cause == "key that is not read"] == [
        ("line 2", "entities[0].typ", "Write `type`"),
        ("line 2", "entities[1].mentions[0].nmae", "Write `name`"),
        ("line 2", "entities[2].ID", "Write `id`"),
        ("line 2", "relations[1].evidences", "Write `evidence`"),
        ("line 3", "vertexSet[0][0].Type", "Write `type`"),
        ("line 3", "labels[0].evidense", "Write `evidence`"),
    ]


def test_a_misspelt_key_is_told_once_and_what_is_under_it_is_checked(tmp_path):
    rows = [row(number) for number in range(7)]
    for one in rows[1:]:
        one["entitites"] = one.pop("entities")
        one["entitites"][0]["typ"] = one["entitites"][0].pop("type")
        one["entitites"][1]["mentions"][0]["strat"] = one["entitites"][1]["mentions"][0].pop("start")
        for fact in one["relations"]:
            fact["relaton"] = fact.pop("relation")
    rows[4]["entitites"][2]["mentions"][0]["end"] = 99
    file = lines(tmp_path / "a.jsonl", *rows)
    report = check_files(file)
    assert [(p.row, p.field, p.count, len(p.next_places)) for p in report.problems] == [
        ("line 2", "entitites", 6, 3),
        ("line 2", "entities[0].typ", 6, 3),
        ("line 2", "entities[1].mentions[0].strat", 6, 3),
        ("line 2", "relations[0].relaton", 12, 3),
        ("line 5", "entities[2].mentions[0]", 1, 0),
    ]
    assert str(report.problems[3]).endswith(
        f"Write `relation`. It is there 12 times, next in {file}, line 3; {file}, line 4; {file}, line 5."
    )
    assert (report.different, report.total) == (5, 31)
    assert report.counts == {"key that is not read": 30, "mention outside the text": 1}
    assert report.warnings == {}
    assert [p.count for p in check_files(file, limit=2).problems] == [6, 6]


def told(file: Path, **options: Any) -> list[tuple[str, str, str]]:
    return [(problem.field, problem.value, problem.mend) for problem in check_files(file, **options).problems]


def test_keys_of_people_s_own_are_no_misspelt_ones(tmp_path):
    own = {"h": 0, "t": 1, "r": "P17", "names": ["Orla"], "subtitle": "To Wim", "relation": "letters", "sentence": "x"}
    document = row(0, **own)
    del document["title"], document["sentences"]
    document["relations"][0] |= {"labels": [], "kind": "x"}
    document["entities"][0] |= {"names": ["Orla"], "types": ["PER"]}
    assert told(lines(tmp_path / "a.jsonl", document)) == []
    document["_id"] = document["entities"][0]["_id"] = document["relations"][0]["_score"] = "5f0a"
    document["entities"][0]["mentions"][0] |= {"text_id": "x", "start_token": 0}
    assert told(lines(tmp_path / "a.jsonl", document)) == []
    # In other case, keys are those that are read, whatever is under them.
    for changes in (
        {"relations": None, "Relations": {}},
        {"title": None, "Title": 17},
        {"entities": None, "Entities": {}},
    ):
        assert len(told(lines(tmp_path / "b.jsonl", row(0, **changes)))) >= 2
    assert told(lines(tmp_path / "b.jsonl", row(0, Relations=None))) == []
    for key, meant in (("relations_", "relations"), ("_relations", "relations"), ("Labels", "relations")):
        facts = row(0)
        facts[key] = facts.pop("relations")
        assert [(field, mend) for field, _, mend in told(lines(tmp_path / "b.jsonl", facts))] == [
            (key, f"Write `{meant}`")
        ]
    # No text is under these.
    for other in ({"train": [], "test": []}, {"next": None}):
        (problem,) = check_files(lines(tmp_path / "b.jsonl", other)).problems
        assert problem.cause == "row that is no document"
    # In another form of document, what is meant is told where it stands.
    words = {"sents": [["Orla", "wrote", "."]], "vertexSet": [], "relation": []}
    assert told(lines(tmp_path / "c.jsonl", words)) == []
    words = {"sents": [["Orla", "wrote", "."]], "vertexSet": [], "relations": []}
    assert told(lines(tmp_path / "c.jsonl", words)) == [("relations", "[]", "Write `labels`")]


def test_the_value_of_a_misspelt_key_is_what_stands_in_the_file(tmp_path):
    document = row(0)
    document["Entities"] = document.pop("entities")
    document["Entities"][0] = {"Type": "PER", "Mentions": [{"Start": 0, "End": 4}]}
    document["relations"] = []
    first = told(lines(tmp_path / "a.jsonl", document))[0]
    assert first[0] == "Entities" and first[1].startswith("[{'Mentions': [{'End': 4, 'Start': 0}], 'Type': 'PER'}")


def test_what_is_wrong_beside_a_broken_word_or_sentence_is_told(tmp_path):
    places = [(0, [0, 1]), (1, [2, 9]), (0, [1, 3])]
    mentions = [[{"sent_id": sentence, "pos": pos} for sentence, pos in places]]
    base = {"sents": [["Orla", "wrote", "."], ["She", "left", "."]], "vertexSet": mentions}
    broken_word = {**base, "sents": [["Orla", 7, "."], ["She", "left", "."]]}
    found = told(lines(tmp_path / "a.jsonl", broken_word))
    assert [field for field, *_ in found] == ["sents[0][1]", "vertexSet[0][1].pos"]
    # What is empty for the word, and what is empty for another reason.
    mentions[0] += [{"sent_id": 0, "pos": [1, 2]}, {"sent_id": 1, "pos": [1, 1]}]
    found = told(lines(tmp_path / "a.jsonl", broken_word))
    assert [field for field, *_ in found] == ["sents[0][1]", "vertexSet[0][1].pos", "vertexSet[0][4].pos"]
    broken_sentence = {**base, "sents": ["Orla wrote.", ["She", "left", "."]]}
    found = told(lines(tmp_path / "a.jsonl", broken_sentence))
    assert [field for field, *_ in found] == ["sents[0]", "vertexSet[0][1].pos", "vertexSet[0][4].pos"]


def test_missing_offsets_keep_their_own_remedies(tmp_path):
    document = row(0)
    for entity, words in zip(document["entities"], ("Orla", "Wim", "Sande"), strict=True):
        entity["mentions"] = [{"end": 1, "text": words}]
    document["relations"] = []
    mends = [mend for *_, mend in told(lines(tmp_path / "a.jsonl", document, document))]
    assert [mend.split(", where")[0] for mend in mends] == [
        f'Write {{"start": {start}, "end": {end}}}' for start, end in ((0, 4), (14, 17), (31, 36))
    ]
    # The others do not fill the list.
    many = [
        {"text": f"A{number} met {'x' * number}.", "entities": [{"mentions": [{"text": f"A{number} met"}]}]}
        for number in range(30)
    ]
    for number, other in enumerate(many):
        other["entities"][0]["mentions"][0]["text"] = "x" * number + "."
    report = check_files(lines(tmp_path / "b.jsonl", *many, row(0, pairs=[[0, 9]])))
    assert [problem.count for problem in report.problems][:4] == [1, 1, 1, 27] and len(report.problems) == 5
    assert report.problems[3].mend == "Mend these likewise"


def test_of_too_many_types_none_is_compared_and_that_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr("modeling_docre.data_check._MOST_TYPES", 2)
    report = check_files(lines(tmp_path / "a.jsonl", row(0), row(1)))
    assert "types of entities, too many to look for misspelt ones" not in report.warnings
    entities = [{"type": kind, "mentions": [{"start": 0, "end": 4}]} for kind in ("PER", "LOC", "ORG")]
    report = check_files(lines(tmp_path / "a.jsonl", row(0, entities=entities, relations=[])))
    assert report.warnings["types of entities, too many to look for misspelt ones"] == 3


def test_mentions_that_cut_words_are_warned_of(tmp_path):
    text = "Malmö is near Lund, 東京は大きい."
    places = [(1, 6), (14, 18), (20, 22), (0, 5), (0, 4)]
    document = {"text": text, "entities": [{"mentions": [{"start": a, "end": b}]} for a, b in places]}
    assert check_files(lines(tmp_path / "a.jsonl", document)).warnings["mentions that begin or end inside a word"] == 2


def test_words_under_a_misspelt_key(tmp_path):
    slip = row(0)
    slip["txt"] = slip.pop("text")
    docred = {"title": "D", "sent": [["Orla", "left"]], "vertexSet": [], "labels": []}
    other = {"id": 1, "body": "Orla left."}
    report = check_files(lines(tmp_path / "a.jsonl", slip, docred, *[other] * 3, *[[1], [2]]))
    assert [(p.row, p.field, p.mend, p.count) for p in report.problems[:2]] == [
        ("line 1", "txt", "Write `text`", 1),
        ("line 2", "sent", "Write `sents`", 1),
    ]
    assert [(p.row, p.cause, p.count) for p in report.problems[2:]] == [
        ("line 3", "row that is no document", 3),
        ("line 6", "row that is no document", 2),
    ]


def test_keys_of_facts_in_the_other_form(tmp_path):
    text, docred = row(0), {"title": "D", "sents": [["Orla", "left"]]}
    text["labels"] = [{"h": 0, "t": 1, "r": "wrote_to"}]
    del text["relations"]
    docred["vertexSet"] = [
        [{"sent_id": 0, "pos": [0, 1], "type": "PER"}],
        [{"sent_id": 0, "pos": [1, 2], "type": "PER"}],
    ]
    docred["relations"] = [{"head": 0, "tail": 1, "relation": "wrote_to"}] * 2
    report = check_files(lines(tmp_path / "a.jsonl", text, docred))
    assert [(p.field, p.mend, p.count) for p in report.problems] == [
        ("labels", "Write `relations`", 1),
        ("relations[0].h", "Write `head`", 1),
        ("relations[0].t", "Write `tail`", 1),
        ("relations[0].r", "Write `relation`", 1),
        ("relations", "Write `labels`", 1),
        ("labels[0].head", "Write `h`", 2),
        ("labels[0].tail", "Write `t`", 2),
        ("labels[0].relation", "Write `r`", 2),
    ]


def test_what_follows_from_a_problem_is_not_told(tmp_path):
    entities = row(0, entities="Orla", pairs=[[0, 1]])
    offsets = {
        "title": "D",
        "sents": [["Orla", "left"]],
        "entities": row()["entities"],
        "labels": [{"h": 0, "t": 1, "r": "x"}],
    }
    words = {"title": "E", "text": "Orla left.", "vertexSet": [[{"sent_id": 0, "pos": [0, 1]}]]}
    words["relations"] = [{"head": 0, "tail": 0, "relation": "x"}]
    sentences = row(3, text=row()["text"].replace(".", ","), sentences=[[0, 99]])
    sents = {"title": "F", "sents": ["Orla", ["left"]], "vertexSet": [[{"sent_id": 0, "pos": [0, 1]}]], "labels": []}
    report = check_files(lines(tmp_path / "a.jsonl", entities, offsets, words, sentences, sents))
    assert [(p.row, p.field, p.cause) for p in report.problems] == [
        ("line 1", "entities", "entities that are not a list"),
        ("line 2", "vertexSet", "missing field"),
        ("line 3", "vertexSet", "vertexSet beside a text"),
        ("line 4", "sentences[0]", "sentences that cannot be used"),
        ("line 5", "sents[0]", "sentence that is not a list"),
    ]
    assert "the `entities`, which belong to a `text`" in report.problems[1].mend
    assert report.warnings == {}


def test_documents_with_problems_are_warned_of_for_their_titles_alone(tmp_path):
    broken = row(
        0, entities=[{"mentions": [{"start": 90, "end": 99}]}], relations=[{"head": 0, "tail": 4, "relation": "x"}]
    )
    report = check_files(lines(tmp_path / "a.jsonl", row(0), broken, row(1, title=4, entities=[], relations=[])))
    assert report.counts == {
        "mention outside the text": 1, "label to a missing entity": 1, "title that is not a string": 1,
    }  # fmt: skip
    assert report.warnings == {
        "documents with a title that another one has": 1, "relations that one fact alone has": 3,
    }  # fmt: skip
    # A misspelt key is a problem too, and a title counts where nothing else can be read.
    selfish = row(1, relation=[{"head": 0, "tail": 0, "relation": "knows"}])
    selfish["relatons"] = selfish.pop("relation")
    del selfish["relations"]
    report = check_files(lines(tmp_path / "b.jsonl", selfish, row(1, text=" "), row(1, text=" ")))
    assert report.warnings["documents with a title that another one has"] == 2
    assert "facts of an entity with itself" not in report.warnings


def test_a_field_that_is_missing_everywhere_is_told_once(tmp_path):
    rows = [row(number) for number in range(5)]
    for one in rows:
        for fact in one["relations"]:
            del fact["relation"]
    (problem,) = check_files(lines(tmp_path / "a.jsonl", *rows)).problems
    assert (problem.field, problem.count, problem.problem) == ("relations[0].relation", 10, "missing")
    assert problem.mend.startswith('Give it, as in {"head": 0')


def test_the_same_unknown_relation_is_told_once(tmp_path):
    file = lines(tmp_path / "a.jsonl", *(row(number) for number in range(4)))
    (problem,) = check_files(file, relations=["wrote_to", "livesin"]).problems
    assert (problem.value, problem.count) == ("'lives_in'", 4) and "Did you mean 'livesin'?" in problem.mend


def test_remedies_are_of_this_document_or_say_that_they_are_the_form(tmp_path):
    one = row(0)
    one["text"] += " Orla left."
    del one["sentences"]
    one["entities"] = [{"mentions": [
        {"start": 15, "end": 18, "text": "Wim"},
        {"start": 1, "end": 5, "text": "Orla"},
        {"start": 1, "end": 5, "text": "Willem"},
        {"start": 200, "end": 205, "text": "Sande"},
        {"text": "wrote to"},
        {"start": 40, "end": 99},
        {"start": 17, "end": 14},
    ]}]  # fmt: skip
    del one["relations"]
    said = [(p.problem, p.mend) for p in check_files(lines(tmp_path / "a.jsonl", one)).problems]
    form = 'Give character offsets into the text, end exclusive, as in {"start": 0, "end": 3}'
    assert [mend for _, mend in said] == [
        'Write {"start": 14, "end": 17}, where \'Wim\' stands',
        form,  # it stands in two places
        f"{form}; 'Willem' does not stand in the text",
        'Write {"start": 31, "end": 36}, where \'Sande\' stands',
        'Write {"start": 5, "end": 13}, where \'wrote to\' stands',
        form,
        form,
    ]
    assert "it covers 'la left.'" in said[5][0] and "from 14 to 17 stands 'Wim'" in said[6][0]


def test_published_forms_are_told_and_not_taken_for_text(tmp_path):
    (tmp_path / "a.txt").write_text("12|t|A title.\n12|a|An abstract.\n")
    (tmp_path / "b.jsonl").write_text(json.dumps({"id": 1, "mentions": [], "concepts": []}) + "\n")
    (tmp_path / "c.jsonl").write_text(json.dumps({"id": 1, "vertex_char": []}) + "\n")
    for name, form in (("a.txt", "PubTator"), ("b.jsonl", "DWIE"), ("c.jsonl", "HacRED")):
        report = check_files(tmp_path / name)
        assert report.total == 1 and f"in the form of {form}: `docre data convert`" in str(report.problems[0])
        with pytest.raises(DocumentError, match=f"in the form of {form}"):
            list(iter_documents(tmp_path / name))


def test_warnings_are_counted(tmp_path):
    bare = row(3, entities=[], relations=[])
    unlabelled = row(4)
    del unlabelled["relations"]
    unlabelled["title"] = ""
    untyped = row(5, relations=None)
    del untyped["entities"][0]["type"]
    own = row(0, relations=[{"head": 1, "tail": 1, "relation": "knows"}], pairs=[[0, 1]])
    twice = row(6)
    twice["entities"][0]["mentions"] *= 2
    report = check_files(lines(tmp_path / "a.jsonl", row(0), own, bare, unlabelled, untyped, twice))
    assert report.counts == {}
    assert report.warnings == {
        "documents with a title that another one has": 1,
        "facts of an entity with itself": 1,
        "facts of no candidate pair": 1,
        "documents without entities": 1,
        "labelled documents without a fact": 1,
        "documents without a title": 1,
        "unlabelled documents, where others have labels": 2,
        "entities without a type, where others have one": 1,
        "when read: duplicate mention": 1,
        "relations that one fact alone has": 1,
    }
    assert report.first["documents with a title that another one has"].endswith("line 2")


def test_what_nobody_has_is_no_warning(tmp_path):
    one = row(0, relations=None)
    for entity in one["entities"]:
        del entity["type"]
    assert check_files(lines(tmp_path / "a.jsonl", one)).warnings == {}


def test_misspelt_relations_are_found_by_their_counts(tmp_path):
    many = [row(number) for number in range(20)]
    slip = row(20)
    slip["relations"][0]["relation"] = "wroteto"
    slip["relations"][1]["relation"] = "livse_in"
    file = lines(tmp_path / "a.jsonl", *many, slip)
    report = check_files(file)
    assert report.counts == {}
    assert report.misspellings == {
        "wroteto": {"count": 1, "meant": "wrote_to", "count_of_meant": 20, "first": f"{file}, line 21"},
        "livse_in": {"count": 1, "meant": "lives_in", "count_of_meant": 20, "first": f"{file}, line 21"},
    }
    known = ["wrote_to", "lives_in", "wroteto", "livse_in"]
    assert check_files(file, relations=known).misspellings == {}, "whoever lists them means them"
    unreadable = {**slip, "text": "  "}
    assert set(check_files(lines(tmp_path / "b.jsonl", *many, unreadable)).misspellings) == {"wroteto", "livse_in"}


def test_types_that_look_misspelt_are_warned_of(tmp_path, docre):
    many = [row(number) for number in range(10)]
    for one in many[3:]:
        one["entities"][2]["mentions"][0]["type"] = "TOWN"  # seldom enough, and another word
    many[7]["entities"][0]["type"] = "PRE"
    many[8]["entities"][0]["type"] = "ORG"
    many[9]["entities"][0]["type"] = "per"
    file = lines(tmp_path / "a.jsonl", *many)
    assert check_files(file).misspelt_types == {
        "per": {"count": 1, "meant": "PER", "count_of_meant": 17, "first": f"{file}, line 10"},
    }, "17 times as often is too seldom for another order of letters"
    with file.open("a") as stream:
        stream.writelines(json.dumps(row(number)) + "\n" for number in range(10, 13))
    report = check_files(file, relations=["wrote_to", "lives_in"])
    assert report.counts == {} and report.misspellings == {}
    assert report.misspelt_types == {
        "PRE": {"count": 1, "meant": "PER", "count_of_meant": 23, "first": f"{file}, line 8"},
        "per": {"count": 1, "meant": "PER", "count_of_meant": 23, "first": f"{file}, line 10"},
    }
    ran = docre("data", "check", file)
    assert ran.code == 0, "a warning is no problem"
    assert "entity types that look misspelt:\n" in ran.out
    assert f"       1  'PRE', beside 23 x 'PER'; first: {file}, line 8\n" in ran.out


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"PER": 40, "PRE": 2}, {"PRE": "PER"}),
        ({"PER": 39, "PRE": 2}, {}),
        ({"PER": 400, "PERS": 1, "PET": 1, "PR": 1}, {"PERS": "PER"}),
        ({"DNA": 4000, "RNA": 9, "NDA": 9}, {"NDA": "DNA"}),
        ({"person": 4000, "persom": 9, "prson": 2, "reason": 3}, {"persom": "person", "prson": "person"}),
        ({"gpe1": 4000, "gpe2": 9}, {}),
    ],
)
def test_what_a_misspelt_type_is(counts, expected):
    assert find_misspellings(counts, times=20, shortest=3) == expected


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"born_in": 240, "bornin": 1}, {"bornin": "born_in"}),
        ({"born_in": 3, "Born-In": 3}, {"born_in": "Born-In"}),
        ({"P17": 900, "P170": 1, "P19": 1, "P71": 1}, {}),
        ({"place_of_birth": 200, "palce_of_birht": 2, "place_of_death": 2}, {"palce_of_birht": "place_of_birth"}),
        ({"member_of": 30, "members_of": 4}, {}),
        ({"member_of": 40, "members_of": 4}, {"members_of": "member_of"}),
        ({"located_in": 500, "located_at": 3}, {}),
        ({"son": 500, "sun": 1}, {}),
        ({"country": 300, "countri": 10, "countr": 1}, {"countri": "country", "countr": "country"}),
        ({}, {}),
    ],
)
def test_what_a_misspelling_is(counts, expected):
    assert find_misspellings(counts) == expected


def test_every_form_of_file(tmp_path):
    docred = {
        "title": "D",
        "sents": [["Orla", "left", "."]],
        "vertexSet": [[{"name": "Orla", "sent_id": 0, "pos": [0, 9], "type": "PER"}]],
        "labels": [{"h": 0, "t": 0, "r": " "}],
    }
    (tmp_path / "a.json").write_text(json.dumps([docred, docred]))
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(json.dumps(docred).encode()))
    (tmp_path / "c.txt").write_text("[Orla](:PER left.")
    (tmp_path / "d.txt").write_text("[Orla](:PER) left.")
    (tmp_path / "rel_info.json").write_text("{}")
    report = check_files(tmp_path, limit=100)
    assert report.documents == 5
    assert [(Path(problem.file).name, problem.row, problem.field) for problem in report.problems] == [
        ("a.json", "row 0", "vertexSet[0][0].pos"),
        ("a.json", "row 0", "labels[0].r"),
        ("a.json", "row 1", "vertexSet[0][0].pos"),
        ("a.json", "row 1", "labels[0].r"),
        ("b.jsonl.gz", "line 1", "vertexSet[0][0].pos"),
        ("b.jsonl.gz", "line 1", "labels[0].r"),
        ("c.txt", "", ""),
    ]
    assert report.warnings["files of a folder that are no documents"] == 1


def test_parquet_rows_are_checked(tmp_path):
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.Table.from_pylist([row(0), row(1, relations=[{"head": 0, "tail": 8, "relation": "x"}])])
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    (problem,) = check_files(tmp_path / "a.parquet").problems
    assert (problem.row, problem.field, problem.value) == ("row 1", "relations[0].tail", "8")


def test_a_file_that_is_no_json_lines_at_all_is_one_problem(tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps([row(0), row(1)], indent=1))
    (tmp_path / "b.jsonl").write_text(json.dumps(row(0)) + "\n" + json.dumps(row(1)), encoding="utf-16")
    first, second = check_files([tmp_path / "a.jsonl", tmp_path / "b.jsonl"]).problems
    assert first.problem.endswith("Such a file ends in .json.") and "line 1: JSON over several" in first.problem
    assert second.problem.endswith("line 1: the file is in UTF-16. Save it as UTF-8.")
    for name in "ab":
        with pytest.raises(DataFileError, match=rf"{name}\.jsonl, line 1: "):
            list(iter_documents(tmp_path / f"{name}.jsonl", strict=False))


def test_a_file_that_ends_in_the_middle_does_not_end_the_check(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps([row(0), row(1)])[:-30])
    (tmp_path / "b.jsonl").write_text("\n")
    lines(tmp_path / "c.jsonl", row(2, text=5))
    report = check_files([tmp_path / "a.json", tmp_path / "b.jsonl", tmp_path / "c.jsonl"])
    assert report.counts == {
        "file that cannot be read to its end": 1,
        "file without documents": 1,
        "document that cannot be read": 1,
    }
    assert "cut off" in str(report.problems[0])
    with pytest.raises(DataFileError, match="no such file"):
        check_files(tmp_path / "absent.jsonl")


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(tmp_path, monkeypatch):
    text = json.dumps(row(0, text=row()["text"] + " " + "More was said. " * 200, sentences=None))

    def peak(number: int) -> int:
        with open(tmp_path / "many.jsonl", "w") as stream:
            stream.writelines(text.replace("Letter 0", f"Letter {place}") + "\n" for place in range(number))
        check_files(tmp_path / "many.jsonl")  # what is loaded once
        tracemalloc.start()
        try:
            assert check_files(tmp_path / "many.jsonl").documents == number
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    # 270 more documents of 3 kB: less than 200 bytes of each may stay.
    assert peak(300) - peak(30) < 270 * 200


def test_the_order_of_rows_is_that_of_the_file(tmp_path):
    def numbers() -> Iterator[str]:
        for problem in check_files(tmp_path / "a.jsonl", limit=50).problems:
            yield problem.row

    lines(tmp_path / "a.jsonl", *(row(number, relations="none") for number in range(30)))
    assert list(numbers()) == [f"line {number}" for number in range(1, 31)]
