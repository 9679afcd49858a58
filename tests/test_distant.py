"""Distant labels: which pairs get which relations, and that nothing is lost without a count."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from collections import Counter

import pytest

from modeling_docre import Document
from modeling_docre.data_files import iter_documents, write_documents
from modeling_docre.distant import gather_facts, gather_facts_from_files, label_documents, label_files
from modeling_docre.fact_table import FactTable, iter_facts, normalise_name, read_aliases, read_facts, write_facts
from modeling_docre.metrics.docred.scoring import score
from modeling_docre.output_files import DataFileError
from modeling_docre.pronouns import is_pronoun
from modeling_docre.recipes import build_trainer, load_recipe


def entry(*entities, title="Story", **more):
    """A document in text form; an entity is the names that it has in the text, and more of it in a dict at the end."""
    text, items = "", []
    for names in entities:
        own = names[-1] if isinstance(names[-1], dict) else {}
        mentions = []
        for name in names[: -1 if own else None]:
            mentions.append({"start": len(text), "end": len(text) + len(name)})
            text += f"{name} and "
        items.append({"mentions": mentions, **own})
    return {"title": title, "text": f"{text}nothing else.", "entities": items, **more}


def label(entries, facts, aliases=None):
    """The labels of documents as (head, relation, tail), and the counts."""
    counts = Counter()
    table = FactTable(facts, aliases)
    documents = list(label_documents([Document.from_dict(item) for item in entries], table, counts))
    found = [[(row.head, row.relation, row.tail) for row in document.relations] for document in documents]
    return found, counts + table.counts


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("London", "  LONDON ", True),
        ("New  York\tCity", "New York City", True),
        ("the Hague", "The Hague", True),
        ("The Hague", "Hague", True),
        ("Ｌondon", "London", True),
        ("Cafe\u0301", "Café", True),
        ("Straße", "STRASSE", True),
        ("Café", "Cafe", False),
        ("US", "U.S.", False),
        ("Theodore", "odore", False),
        ("London", "Londinium", False),
        ("The", "A", False),
    ],
)
def test_which_names_are_the_same(one, other, same):
    assert (normalise_name(one) == normalise_name(other)) is same


def test_a_pair_gets_every_relation_of_its_facts_in_their_direction():
    facts = [("ada", "P19", "London"), ("Ada", "P20", "LONDON"), ("England", "P36", "London"), ("Bo", "P19", "Rome")]
    (labels,), counts = label([entry(["Ada Lovelace", "Ada"], ["London"], ["England"])], facts)
    assert labels == [(0, "P19", 1), (0, "P20", 1), (2, "P36", 1)]
    assert counts["pairs"] == 6 and counts["pairs with a relation"] == 2 and counts["relations"] == 3
    assert counts["facts read"] == 4 and counts["facts used"] == 3
    assert counts["entities that the facts know"] == 3


def test_names_are_those_of_mentions_of_the_entity_and_of_the_text():
    canonical = entry(["she", {"name": "Ada Lovelace"}], ["the city", {"name": "London"}])
    canonical["entities"][1]["mentions"][0]["name"] = "Londinium"
    for tail in ("London", "londinium", "The City"):
        assert label([canonical], [("Ada Lovelace", "P19", tail)])[0] == [[(0, "P19", 1)]]


def test_two_entities_of_one_name_both_get_the_fact_and_an_entity_none_with_itself():
    facts = [("Ada", "P19", "London"), ("Ada", "P735", "ADA "), ("Ada", "P1559", "Ada Byron")]
    (labels,), counts = label([entry(["Ada", "Ada Byron"], ["London"], ["Ada"])], facts)
    assert labels == [(0, "P19", 1), (2, "P1559", 0), (2, "P19", 1)]
    assert counts["facts of an entity with itself"] == 1  # in the table
    assert counts["facts on a pair of one entity with itself"] == 1  # in the document
    assert counts["facts used"] == 2


def test_a_document_without_a_fact_is_labelled_as_without_relation():
    found, counts = label([entry(["Ada"], ["Rome"]), entry(["Ada"], ["London"]), entry()], [("Ada", "P19", "London")])
    assert found == [[], [(0, "P19", 1)], []]
    assert counts["documents"] == 3 and counts["documents with a relation"] == 1


def test_only_candidate_pairs_are_labelled():
    item = entry(["Ada"], ["London"], ["England"], pairs=[[0, 1]])
    (labels,), counts = label([item], [("Ada", "P19", "London"), ("England", "P36", "London")])
    assert labels == [(0, "P19", 1)]
    assert counts["facts on a pair that is no candidate"] == 1 and counts["pairs"] == 1


def test_labels_that_were_there_are_replaced_and_counted():
    item = entry(["Ada"], ["London"], relations=[{"head": 1, "tail": 0, "relation": "P999", "evidence": [0]}])
    (labels,), counts = label(
        [
            item,
        ],
        [("Ada", "P19", "London")],
    )
    assert labels == [(0, "P19", 1)] and counts["documents whose labels were replaced"] == 1


ALIASES = {
    "Q90": ["Paris", "City of Light"],
    "Q8": ["Paris", "Paris, Texas"],
    "Q142": ["France"],
    "Q1439": ["Texas"],
}
BY_ID = [("Q142", "P36", "Q90"), ("Q8", "P131", "Q1439")]


def test_aliases_bring_names_to_ids():
    found, counts = label([entry(["France"], ["City of Light"], ["Texas"], ["Paris, Texas"])], BY_ID, ALIASES)
    assert found == [[(0, "P36", 1), (3, "P131", 2)]]
    assert counts["ambiguous names"] == 1 and counts["entities with an ambiguous name"] == 0


def test_an_ambiguous_name_stands_for_nothing_by_itself():
    found, counts = label([entry(["France"], ["Paris"], ["Texas"])], BY_ID, ALIASES)
    assert found == [[]] and counts["entities with an ambiguous name"] == 1


def test_an_ambiguous_name_is_clear_beside_another_one_or_an_id():
    two = entry(["France"], ["Paris", "City of Light"], ["Texas"])
    by_id = entry(["France"], ["Paris", {"id": "Q8"}], ["Texas"])
    found, counts = label([two, by_id], BY_ID, ALIASES)
    assert found == [[(0, "P36", 1)], [(1, "P131", 2)]] and counts["entities with an ambiguous name"] == 0


def test_an_id_decides_against_the_names():
    facts = [("Q90", "P17", "France"), ("Q8", "P17", "USA")]
    item = entry(["City of Light", {"id": "Q8"}], ["France"], ["USA"])
    assert label([item], facts, ALIASES)[0] == [[(0, "P17", 2)]]
    # One that the table does not know says nothing.
    item["entities"][0]["id"] = "Q999"
    assert label([item], facts, ALIASES)[0] == [[(0, "P17", 1)]]


def test_ids_of_both_forms_count_and_numbers_are_none():
    rows = [
        entry(["a", {"id": "Q1"}], ["b", {"id": 7}], ["c"]),
        {
            "sents": [["a", "b"]],
            "vertexSet": [
                [{"sent_id": 0, "pos": [0, 1], "id": "Q1"}, {"sent_id": 0, "pos": [1, 2], "id": "Q2"}],
                [{"sent_id": 0, "pos": [1, 2], "id": 3}],
            ],
        },
    ]
    # Beside words, `entities` is another key that documents leave out.
    rows.append({**rows[1], "entities": [{"id": "Q8"}, {"id": "Q9"}]})
    documents = [Document.from_dict(row) for row in rows]
    found = [[entity.ids for entity in document.entities] for document in documents]
    assert found == [[("Q1",), (), ()], [("Q1", "Q2"), ()], [("Q1", "Q2"), ()]]
    assert [dict(document.repairs)["entity with an id that is not a string"] for document in documents] == [1, 1, 1]
    # They are written again, in both forms.
    for document in documents:
        for written in (document.to_dict(), document.to_docred()):
            assert Document.from_dict(json.loads(json.dumps(written))).entities == document.entities
    # Without a table of aliases, ids are the ends of facts letter by letter.
    assert label([rows[0]], [("Q1", "P1", "c")])[0] == [[(0, "P1", 2)]]
    assert label([rows[0]], [("q1", "P1", "c")])[0] == [[]]


def test_facts_are_gathered_under_ids_too():
    document = entry(["Orla", {"id": "Q1"}], ["Sande", {"id": ["Q2", "Q3"]}])
    document["relations"] = [{"head": 0, "tail": 1, "relation": "P19"}]
    facts = list(gather_facts([Document.from_dict(document)]))
    assert facts == [(head, "P19", tail) for head in ("Orla", "Q1") for tail in ("Sande", "Q2", "Q3")]
    counts: Counter[str] = Counter()
    document["entities"][1]["id"] = ["Q 2", "Sande"]  # no column of a table holds the one, and the other is the name
    assert len(list(gather_facts([Document.from_dict(document)], counts))) == 2
    assert counts["ids with white space, which a table of facts cannot hold"] == 1
    # An id that the facts know decides against the names: namesakes have others.
    by_name = label([entry(["Orla", {"id": "Q1"}], ["Sande", {"id": "Q3"}])], [*facts, ("Orla", "P26", "Sande")])
    assert by_name[0] == [[(0, "P19", 1)]]
    # An entity by another name is found by its id.
    assert label([entry(["O. Tarn", {"id": "Q1"}], ["the town", {"id": "Q3"}])], facts)[0] == [[(0, "P19", 1)]]


def test_a_fact_with_an_ambiguous_name_is_not_used_but_counted():
    table = FactTable([("Paris", "P17", "France"), ("City of Light", "P17", "France")], ALIASES)
    assert table.facts == 1
    assert table.counts["facts with an ambiguous name"] == 1 and table.counts["facts read"] == 2


def test_the_same_fact_counts_once():
    table = FactTable([("Ada", "P19", "London"), ("ADA", "P19", "the London"), ("Ada", "P20", "London")])
    assert table.facts == 2 and table.counts["facts read again"] == 1


ROWS = [("Ada", "P19", "London"), ('Willi " W. " S.', "P20", "Köln, am Rhein")]


@pytest.mark.parametrize("name", ["kb.json", "kb.jsonl", "kb.csv", "kb.tsv", "kb.jsonl.gz", "kb.tsv.gz"])
def test_facts_are_written_as_they_are_read(tmp_path, name):
    assert write_facts(ROWS, tmp_path / name) == 2
    assert list(iter_facts(tmp_path / name)) == ROWS
    if name.endswith(".gz"):
        gzip.decompress((tmp_path / name).read_bytes())


@pytest.mark.parametrize("name", ["kb.json", "kb.jsonl", "kb.csv", "kb.tsv"])
def test_gathered_relations_are_read_again_as_they_were(tmp_path, name):
    relations = ["works at", "works  at", " at", "at ", "a\tb", "a\nb", "a\rb", "a\vb", "a\x1cb", "a\x85b", "a\u2028b"]
    relations += ["a\xa0b", "\u3000at", '"at"', "at,", "#at", ""]
    found = []
    for relation in relations:
        document = entry(["Orla"], ["Sande"])
        document["relations"] = [{"head": 0, "tail": 1, "relation": relation}]
        try:
            found.append(Document.from_dict(document))
        except ValueError:
            continue
    counts: Counter[str] = Counter()
    facts = list(gather_facts(found, counts))
    assert write_facts(facts, tmp_path / name) == len(facts)
    assert list(iter_facts(tmp_path / name)) == facts
    told = [relation for _, relation, _ in facts]
    assert {"works at", "works  at", "a\xa0b", '"at"', "at,", "#at"} <= set(told)
    assert len(facts) + counts["relations whose id has white space that a table of facts cannot hold"] == len(found)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("kb.json", '[["Ada", "P19", "London"], {"tail": "Rome", "relation": "P20", "head": " Bo ", "more": 1}]'),
        ("kb.jsonl", '["Ada", "P19", "London"]\n\n{"tail": "Rome", "relation": "P20", "head": "Bo"}\n'),
        ("kb.csv", "\ufeffAda,P19,London\nBo,P20,Rome\n"),
        ("kb.csv", 'tail,Head,note,relation\r\nLondon,Ada,"a, b",P19\r\n\r\nRome,"Bo",,P20\r\n'),
        ("kb.tsv", "Ada\tP19\tLondon\nBo\tP20\tRome"),
    ],
)
def test_forms_of_facts(tmp_path, name, content):
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert list(iter_facts(tmp_path / name)) == [("Ada", "P19", "London"), ("Bo", "P20", "Rome")]


@pytest.mark.parametrize(
    ("name", "content", "place", "cause"),
    [
        ("kb.jsonl", '["a", "r", "b"]\n["a", "r"]\n', "line 2", "fact rows without head, relation and tail"),
        ("kb.jsonl", '["a", "r", "b"]\n{"head": "a"}\n', "line 2", "fact rows without head, relation and tail"),
        ("kb.jsonl", '["a", "r", "b"]\n["a", "r", 3]\n', "line 2: the tail is 3", "fact rows with a broken tail"),
        ("kb.jsonl", '["a", "r", "b"]\n["  ", "r", "b"]\n', "line 2: the head is", "fact rows with a broken head"),
        ("kb.jsonl", '["a", "r", "b"]\n["a", "", "b"]\n', "line 2: the relation", "fact rows with a broken relation"),
        ("kb.jsonl", '["a", "r", "b"]\n{"head" 1}\n', "line 2, column 9", "fact rows that are not JSON"),
        ("kb.json", '[["a", "r", "b"], 7]', "row 1: 7 is no fact", "fact rows without head, relation and tail"),
        ("kb.csv", "a,r,b\na,r\n", "line 2", "fact rows without head, relation and tail"),
        ("kb.csv", "head,relation,tail,note\na,r,b,n\na,r,b\n", "line 3", "fact rows without head, relation and tail"),
        ("kb.tsv", "a\tr\tb\na\tr\t \n", "line 2: the tail", "fact rows with a broken tail"),
    ],
)
def test_a_wrong_row_is_an_error_with_its_place_or_is_counted(tmp_path, name, content, place, cause):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(DataFileError, match=rf"{name}, {place}.*pass strict=False to skip it with a count"):
        read_facts(path)
    table = read_facts(path, strict=False)
    assert table.facts == 1 and table.counts[cause] == 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("kb.jsonl", "", "there is no fact to use"),
        ("kb.tsv", "Ada\tP735\tada\n", "there is no fact to use .*1 facts of an entity with itself"),
        ("kb.json", "[[1", "line 1"),
        ("kb.csv", 'a,r,b\n"a" x,r,b\n', "line 2: not a row of CSV"),
        ("kb.csv", "Subject,Predicate,Object\nAda,P19,London\n", "line 1: call the columns head, relation, tail"),
        ("kb.tsv", "head\trel\ttail\nAda\tP19\tLondon\n", "line 1: call the columns head, relation, tail"),
        ("kb.xlsx", "a", r"facts are in files that end in \.json"),
    ],
)
def test_what_is_no_table_of_facts(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    for strict in (True, False):
        with pytest.raises(DataFileError, match=message):
            read_facts(tmp_path / name, strict=strict)
    with pytest.raises(DataFileError, match="no such file"):
        read_facts(tmp_path / "nowhere.tsv")


def test_forms_of_aliases(tmp_path):
    (tmp_path / "a.json").write_text('{"Q1": ["Ada", "Countess"], "Q2": "Bo"}')
    (tmp_path / "a.tsv").write_text("Q1\tAda\nQ2\tBo\t\nQ1\tCountess\n")
    expected = {"Q1": ["Ada", "Countess"], "Q2": ["Bo"]}
    assert read_aliases(tmp_path / "a.json") == read_aliases(tmp_path / "a.tsv") == expected


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", "[1]", "Write names by id"),
        ("a.json", '{"Q1": []}', "'Q1'.*where an id and its names"),
        ("a.json", '{"Q1": ["Ada", 3]}', "'Q1'.*where an id and its names"),
        ("a.json", '{"Q1": null}', "'Q1'.*where an id and its names"),
        ("a.csv", "Q1,Ada\nQ2\n", "line 2"),
        ("a.jsonl", "{}", "aliases are in files that end in"),
    ],
)
def test_what_is_no_table_of_aliases(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataFileError, match=message):
        read_aliases(tmp_path / name)


def test_facts_gathered_from_documents_have_all_names_and_each_once():
    rows = [
        entry(["Ada", "ADA", "Lovelace"], ["London"], relations=[{"head": 0, "tail": 1, "relation": "P19"}]),
        entry(["ada"], ["london"], relations=[{"head": 0, "tail": 1, "relation": "P19"}]),
        entry(["ada"], ["london"]),
    ]
    counts = Counter()
    found = list(gather_facts([Document.from_dict(row) for row in rows], counts))
    assert sorted(found) == [("Ada", "P19", "London"), ("Lovelace", "P19", "London")]
    assert +counts == Counter({"documents": 3, "unlabelled documents": 1, "relations": 2, "facts": 2})


@pytest.mark.parametrize("name", ["she", "Her", "itself", "Their", "I", " this ", "who", "ｈｅ"])
def test_pronouns_are_no_names(name):
    assert is_pronoun(name)


@pytest.mark.parametrize("name", ["US", "IT", "HE", "WHO", "The Who", "the us", "iT", "Ada", "My Chemist", ""])
def test_what_only_looks_like_a_pronoun_is_a_name(name):
    assert not is_pronoun(name)


@pytest.mark.parametrize("relation", ["born\tin", " P1", "P1\u00a0", "a\nb"])
def test_relations_that_a_table_cannot_hold_are_counted(relation):
    relations = [{"head": 0, "tail": 1, "relation": name} for name in (relation, "né\u00a0à")]
    document = Document.from_dict(entry(["Ada"], ["London"], relations=relations))
    counts = Counter()
    assert list(gather_facts([document], counts)) == [("Ada", "né\u00a0à", "London")]
    assert counts["relations whose id has white space that a table of facts cannot hold"] == 1


def test_facts_are_not_gathered_under_pronouns():
    rows = [
        entry(
            ["Ada", "She", "she", "her"], ["it", "US"], ["They", "them"], ["He"],
            relations=[
                {"head": 0, "tail": 1, "relation": "P27"},
                {"head": 2, "tail": 1, "relation": "P27"},
                {"head": 2, "tail": 2, "relation": "P26"},
            ],
        )
    ]  # fmt: skip
    counts = Counter()
    assert list(gather_facts(map(Document.from_dict, rows), counts)) == [("Ada", "P27", "US")]
    assert +counts == Counter({
        "documents": 1, "relations": 3, "facts": 1,
        # she, her; it; they, them. The entity without a fact has lost nothing.
        "names that are pronouns": 5, "relations of an entity without a name": 2,
    })  # fmt: skip


def test_a_pronoun_of_a_document_is_not_looked_up():
    facts = [("She", "P27", "us"), ("He", "P31", "gas"), ("Ada", "P27", "us")]
    rows = [
        entry(["She"], ["us"], ["He"], ["gas"]),
        entry(["Ada", "she"], ["US"], ["He", {"id": "He"}], ["gas"]),
    ]
    found, counts = label(rows, facts)
    assert found == [[], [(0, "P27", 1), (2, "P31", 3)]]
    assert counts["names that are pronouns"] == 5 and counts["entities that the facts know"] == 5


def test_facts_of_documents_give_these_documents_their_labels_back(tmp_path):
    rows = [
        entry([f"P{n}"], [f"L{n}"], title=str(n), relations=[{"head": 0, "tail": 1, "relation": f"R{n % 3}"}])
        for n in range(9)
    ]
    write_documents(map(Document.from_dict, rows), tmp_path / "gold.jsonl")
    counts = gather_facts_from_files(tmp_path / "gold.jsonl", tmp_path / "kb.csv")
    assert (counts["documents"], counts["relations"], counts["facts"]) == (9, 9, 9)
    counts = label_files(tmp_path / "gold.jsonl", tmp_path / "kb.csv", tmp_path / "again.jsonl")
    assert counts["relations"] == counts["facts used"] == 9
    gold, again = (list(iter_documents(tmp_path / name)) for name in ("gold.jsonl", "again.jsonl"))
    assert gold == again


@pytest.fixture
def corpus(tmp_path):
    """A folder of documents in several forms, the facts among them, and a document that is wrong in a file beside."""
    folder = tmp_path / "docs"
    folder.mkdir()
    first, second = entry(["Ada"], ["London"], title="1"), entry(["Bo"], ["Rome"], title="2")
    (folder / "one.jsonl").write_text(json.dumps(first) + "\n")
    (folder / "two.json").write_text(json.dumps([Document.from_dict(second).to_docred()]))
    (folder / "three.txt").write_text("[Ada](:PER) left [London](:LOC).")
    (folder / "facts.jsonl").write_text('["Ada", "P19", "London"]\n["Bo", "P19", "Rome"]\n["Bo", "P20", "Oslo"]\n')
    broken = entry(["Ada"], ["London"], title="4")
    broken["entities"][1]["mentions"][0]["end"] = 999
    (tmp_path / "wrong.jsonl").write_text(json.dumps(broken) + "\nno JSON\n")
    return folder


def test_the_commands_on_folders_files_and_streams(docre, corpus, tmp_path):
    out = corpus / "distant.json"
    for _ in range(2):  # the output is no input of the next run
        ran = docre("label-distant", corpus, "--facts", corpus / "facts.jsonl", "-o", out)
        assert ran.code == 0, ran.err
        assert ran.err.startswith("documents: 3, documents with a relation: 3, relations: 3, pairs: 6, ")
        assert "facts read: 3, different facts: 3, facts used: 2" in ran.err and "No fact" not in ran.err
    assert [(row["title"], row["labels"]) for row in json.loads(out.read_text())] == [
        (title, [{"h": 0, "t": 1, "r": "P19", "evidence": []}]) for title in ("1", "three.txt", "2")
    ]
    ran = docre("label-distant", corpus / "one.jsonl", "--facts", corpus / "facts.jsonl")
    assert ran.code == 0 and [row["relation"] for row in json.loads(ran.out)["relations"]] == ["P19"]
    ran = docre("facts", out, "-o", tmp_path / "kb.tsv")
    assert ran.code == 0 and ran.err == "documents: 3, relations: 3, facts: 2\n"
    assert (tmp_path / "kb.tsv").read_text().splitlines()[1:] == ["Ada\tP19\tLondon", "Bo\tP19\tRome"]
    ran = docre("facts", out)
    assert json.loads(ran.out.splitlines()[0]) == {"head": "Ada", "relation": "P19", "tail": "London"}


def test_the_command_reads_the_standard_input(corpus, docre):
    ran = docre("label-distant", "-", "--facts", corpus / "facts.jsonl", stdin=(corpus / "one.jsonl").read_text())
    assert ran.code == 0 and json.loads(ran.out)["relations"][0]["relation"] == "P19"


def test_the_command_says_that_no_fact_fits(docre, corpus, tmp_path):
    (tmp_path / "kb.tsv").write_text("Q7259\tP19\tQ84\n")
    ran = docre("label-distant", corpus / "one.jsonl", "--facts", tmp_path / "kb.tsv", "-o", tmp_path / "out.jsonl")
    assert ran.code == 0 and "facts used: 0" in ran.err and "No fact is of two entities of one document" in ran.err


def test_the_command_says_that_documents_have_no_facts(docre, tmp_path):
    (tmp_path / "bare.jsonl").write_text('{"text": "Ada."}\n')
    ran = docre("facts", tmp_path / "bare.jsonl", "-o", tmp_path / "kb.tsv")
    assert ran.code == 0 and ran.err.endswith("There is no fact in them: facts are those of labelled documents.\n")


def test_the_command_refuses_or_skips_and_counts(docre, corpus, tmp_path):
    wrong, out = tmp_path / "wrong.jsonl", tmp_path / "out.jsonl"
    (tmp_path / "kb.tsv").write_text("Ada\tP19\tLondon\nAda\tP19\n")
    ran = docre("label-distant", wrong, "--facts", corpus / "facts.jsonl", "-o", out)
    assert ran.code == 1 and "wrong.jsonl, line 1" in ran.err and "--skip-invalid" in ran.err and not out.exists()
    ran = docre("label-distant", corpus, "--facts", tmp_path / "kb.tsv", "-o", out)
    assert ran.code == 1 and "kb.tsv, line 2" in ran.err and "--skip-invalid" in ran.err and not out.exists()
    ran = docre("label-distant", wrong, "--facts", tmp_path / "kb.tsv", "-o", out, "--skip-invalid")
    assert ran.code == 0 and len(list(iter_documents(out))) == 1
    for said in ("fact rows without head", "mention outside the text: 1", "line that is not JSON: 1", "documents: 1,"):
        assert said in ran.err


def test_memory_does_not_grow_with_the_documents(tmp_path):
    (tmp_path / "kb.tsv").write_text("Ada\tP19\tLondon\n")
    line = json.dumps(entry(["Ada"], ["London"], *([f"thing {n}"] for n in range(8)))) + "\n"
    peaks = []
    for count in (30, 400):
        (tmp_path / "docs.jsonl").write_text(line * count)
        tracemalloc.start()
        label_files(tmp_path / "docs.jsonl", tmp_path / "kb.tsv", tmp_path / "out.json")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 200_000


def test_distant_data_is_what_a_recipe_trains_on(tmp_path, tiny_bert_dir):
    rows = [entry(["Ada"], ["London"], [f"thing {n}"], title=str(n)) for n in range(4)]
    (tmp_path / "docs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "kb.tsv").write_text("Ada\tborn_in\tLondon\n")
    label_files(tmp_path / "docs.jsonl", tmp_path / "kb.tsv", tmp_path / "distant.json")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"output_dir: {tmp_path}/run\nmodel: {{encoder: {tiny_bert_dir}, emb_size: 16, block_size: 4}}\n"
        f"data: {{train: {tmp_path}/distant.json}}\n"
        "training: {max_steps: 1, use_cpu: true, disable_tqdm: true, save_strategy: 'no'}\n"
    )
    trainer = build_trainer(load_recipe(recipe))
    assert trainer.model.config.relations == ["born_in"]
    assert trainer.train().training_loss > 0


def test_real_documents(data_dir, tmp_path):
    documents = list(iter_documents(data_dir / "re-docred" / "dev_revised.json"))
    write_documents(documents[:400], tmp_path / "train.json")
    write_documents(documents[400:], tmp_path / "last.json")
    gathered = gather_facts_from_files(tmp_path / "train.json", tmp_path / "kb.tsv")
    assert (gathered["documents"], gathered["relations"], gathered["facts"]) == (400, 13957, 19518)

    counts = label_files(data_dir / "docred" / "test.json", tmp_path / "kb.tsv", tmp_path / "distant.json")
    found = [row["labels"] for row in json.loads((tmp_path / "distant.json").read_text())]
    assert counts["documents"] == len(found) == 1000 and counts["different facts"] == 19518
    assert counts["relations"] == sum(map(len, found)) == 2711
    assert counts["documents with a relation"] == sum(map(bool, found)) == 541
    assert counts["pairs"] == 392158 and counts["facts used"] == 1218

    # What such labels are worth, against those of people; the figures of docs/how-to/distant-labels.md.
    label_files(tmp_path / "last.json", tmp_path / "kb.tsv", tmp_path / "again.json")
    rows = [
        {"title": document["title"], "h_idx": row["h"], "t_idx": row["t"], "r": row["r"]}
        for document in json.loads((tmp_path / "again.json").read_text())
        for row in document["labels"]
    ]
    figures = score(rows, json.loads((tmp_path / "last.json").read_text()))
    assert figures["precision"] == pytest.approx(0.691, abs=0.001)
    assert figures["recall"] == pytest.approx(0.0511, abs=0.0005)
