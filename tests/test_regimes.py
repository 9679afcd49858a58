"""Regimes of data: parts of documents and labels with holes, whatever the order, and as settings of recipes."""

from __future__ import annotations

import itertools
import json
import random
from collections import Counter

import pytest
import yaml
from training_helpers import fictional

from modeling_docre import Document
from modeling_docre.data_files import iter_documents
from modeling_docre.datasets_scripts import convert
from modeling_docre.model_card_facts import plain
from modeling_docre.recipe_data import describe_regime, read_entry
from modeling_docre.recipes import RecipeError, build_trainer, load_recipe, train_from_recipe
from modeling_docre.regimes import choose_fraction, drop_labels

DOCUMENTS = [Document.from_docred(fictional(number % 9, f"Story {number}")) for number in range(200)]


def titles(documents):
    return [document.title for document in documents]


def facts(documents):
    return {
        (document.title, fact.head, fact.tail, fact.relation) for document in documents for fact in document.relations
    }


def dropped(documents, *arguments):
    return facts(documents) - facts([drop_labels(document, *arguments) for document in documents])


def test_a_fraction_is_exact_and_within_every_larger_one():
    parts = [choose_fraction(DOCUMENTS, fraction, 3) for fraction in (0.05, 0.1, 0.5, 1.0)]
    assert [len(part) for part in parts] == [10, 20, 100, 200]
    for smaller, larger in itertools.pairwise(parts):
        assert set(titles(smaller)) < set(titles(larger))
    assert parts[-1] == DOCUMENTS and len(choose_fraction(DOCUMENTS, 0.001)) == 1
    # In the order of the documents.
    places = [DOCUMENTS.index(document) for document in parts[1]]
    assert places == sorted(places)


def test_a_fraction_depends_on_seed_and_documents_and_not_on_order_or_labels():
    chosen = set(titles(choose_fraction(DOCUMENTS, 0.1, 3)))
    shuffled = random.Random(0).sample(DOCUMENTS, len(DOCUMENTS))
    assert set(titles(choose_fraction(shuffled, 0.1, 3))) == chosen
    bare = [drop_labels(document, 1.0) for document in DOCUMENTS]
    assert set(titles(choose_fraction(bare, 0.1, 3))) == chosen
    assert set(titles(choose_fraction(DOCUMENTS, 0.1, 4))) != chosen
    counts = Counter(title for seed in range(300) for title in titles(choose_fraction(DOCUMENTS, 0.1, seed)))
    # 30 times each, give or take: no document is favoured.
    assert len(counts) == 200 and max(counts.values()) < 30 + 5 * 5.2 and min(counts.values()) > 30 - 5 * 5.2


def test_dropped_labels_are_about_the_part_asked_for_and_more_with_every_rate():
    total = len(facts(DOCUMENTS))
    sets = [dropped(DOCUMENTS, rate, 3) for rate in (0.0, 0.3, 0.7, 0.9, 1.0)]
    assert not sets[0] and len(sets[-1]) == total
    for rate, found in zip((0.3, 0.7, 0.9), sets[1:], strict=False):
        assert abs(len(found) - rate * total) < 4 * (total * rate * (1 - rate)) ** 0.5
    for smaller, larger in itertools.pairwise(sets):
        assert smaller < larger


def test_dropped_labels_depend_on_seed_document_and_fact_alone():
    expected = dropped(DOCUMENTS, 0.5, 3)
    assert dropped(DOCUMENTS[::-1], 0.5, 3) == expected
    assert dropped(DOCUMENTS[:50], 0.5, 3) == {fact for fact in expected if fact[0] in titles(DOCUMENTS[:50])}
    assert dropped(DOCUMENTS, 0.5, 4) != expected
    # The facts of one document go one by one: a document loses all of them no more often than chance has it.
    two = [document for document in DOCUMENTS if len(document.relations) == 2]
    left = Counter(len(drop_labels(document, 0.5, 3).relations) for document in two)
    assert all(left[number] > len(two) / 8 for number in range(3))
    again = drop_labels(drop_labels(DOCUMENTS[5], 0.3, 3), 0.7, 3)
    assert again == drop_labels(DOCUMENTS[5], 0.7, 3)


def test_facts_of_one_relation_in_one_document_go_one_by_one():
    people = [f"Ada {number}" for number in range(40)]
    entities = [
        [{"name": name, "sent_id": 0, "pos": [place, place + 1], "type": "PER"}]
        for place, name in enumerate([*people, "Orle"])
    ]
    labels = [{"h": number, "t": 40, "r": "born_in", "evidence": []} for number in range(40)]
    sentence = [name.replace(" ", "") for name in [*people, "Orle"]]
    document = Document.from_dict({"title": "Many", "sents": [sentence], "vertexSet": entities, "labels": labels})
    assert 10 <= len(drop_labels(document, 0.5, 3).relations) <= 30


def test_a_dropped_fact_takes_its_evidence_and_leaves_all_else():
    for document in DOCUMENTS[:20]:
        less = drop_labels(document, 0.5)
        assert less.entities == document.entities and less.text == document.text
        assert [fact for fact in document.relations if fact in less.relations] == list(less.relations)
    unlabelled = Document.from_text("Ada left.")
    assert drop_labels(unlabelled, 0.5).relations is None
    assert drop_labels(DOCUMENTS[0], 1.0).relations == ()


@pytest.mark.parametrize("value", [0, -0.1, 1.1, float("nan")])
def test_what_is_no_part(value):
    with pytest.raises(ValueError, match=r"Write 0\.05 for 5%"):
        choose_fraction(DOCUMENTS, value)
    if value != 0:
        with pytest.raises(ValueError, match=r"Write 0\.7 to drop"):
            drop_labels(DOCUMENTS[0], value)


@pytest.fixture
def stories(tmp_path):
    path = tmp_path / "stories.json"
    path.write_text(json.dumps([fictional(number % 9, f"Story {number}") for number in range(40)]))
    return path


@pytest.fixture
def said(monkeypatch):
    messages = []
    monkeypatch.setattr("modeling_docre.recipe_data.logger.warning", messages.append)
    return messages


def test_an_entry_is_sliced_then_joined_then_cut_then_dropped_and_says_so_once(stories, tmp_path, said):
    other = tmp_path / "other.json"
    other.write_text(json.dumps([fictional(number % 9, f"Story {number}") for number in (35, 3, 5, 7, 11, 13)]))
    joined = read_entry({"path": str(stories), "documents": "0:20", "titles": str(other)}, "data.train")
    assert titles(joined) == [f"Story {number}" for number in (3, 5, 7, 11, 13)] and not said
    few = {"path": str(stories), "titles": {"path": str(other), "documents": "1:3"}}
    assert titles(read_entry(few, "data.train")) == ["Story 3", "Story 5"]

    entry = {"path": str(stories), "fraction": 0.25, "drop_labels": 0.5, "seed": 7}
    found = read_entry(entry, "data.train")
    everything = list(iter_documents(stories))
    chosen = choose_fraction(everything, 0.25, 7)
    assert found == [drop_labels(document, 0.5, 7) for document in chosen]
    gone = len(facts(chosen)) - len(facts(found))
    assert said == [
        "data.train: 10 of 40 documents are taken (fraction 0.25, seed 7).",
        f"data.train: {gone} of {len(facts(chosen))} facts are dropped (drop_labels 0.5, seed 7).",
    ]
    assert 0 < gone < len(facts(chosen))


def test_only_one_of_several_processes_says_it(stories, said, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    read_entry({"path": str(stories), "fraction": 0.5}, "data.train")
    assert not said


def test_a_join_that_leaves_nothing_is_refused(stories, tmp_path):
    (tmp_path / "other.json").write_text(json.dumps([fictional(1, "Another")]))
    with pytest.raises(RecipeError, match=r"data.eval: none of the documents has a title of .*other\.json"):
        read_entry({"path": str(stories), "titles": str(tmp_path / "other.json")}, "data.eval")


@pytest.fixture
def recipe(tmp_path, tiny_bert_dir, stories):
    content = {
        "output_dir": str(tmp_path / "run"),
        "model": {"encoder": str(tiny_bert_dir), "emb_size": 16, "block_size": 4},
        "data": {"train": str(stories), "eval": {"path": str(stories), "documents": "30:40"}},
        "training": {"use_cpu": True, "disable_tqdm": True},
    }
    content["model"]["relations"] = ["born_in", "part_of", "rules"]
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_regimes_are_overrides_of_a_recipe(recipe):
    changes = ["--data.train.fraction=0.1", "--data.train.drop_labels=0.6", "--data.eval.drop_labels=0.6"]
    trainer = build_trainer(load_recipe(recipe, changes))
    train, evaluation = trainer.train_dataset.documents, trainer.eval_dataset.documents
    assert len(train) == 4 and len(evaluation) == 10
    everything = {document.title: document for document in iter_documents(load_recipe(recipe).data["train"])}
    for document in (*train, *evaluation):
        assert document == drop_labels(everything[document.title], 0.6)
    # The seed of the data is not that of the training.
    other = build_trainer(load_recipe(recipe, [*changes, "--training.seed=99"]))
    assert other.train_dataset.documents == train
    other = build_trainer(load_recipe(recipe, [*changes, "--data.train.seed=99"]))
    assert other.train_dataset.documents != train


def test_the_card_says_what_was_left_out(recipe, stories, tmp_path):
    changes = ["--data.train.fraction=0.1", "--data.train.drop_labels=0.6", "--data.eval.drop_labels=0.25"]
    train_from_recipe(recipe, [*changes, "--num_train_epochs=1", "--save_strategy=no"])
    card = (tmp_path / "run" / "README.md").read_text()
    told = plain(
        "all but 10% of the documents (fraction 0.1, seed 13) and about 60% of their facts (drop_labels 0.6, seed 13)"
    )
    assert f"- **Left out by lot:** {told}\n" in card
    told = plain("about 25% of the facts (drop_labels 0.25, seed 13)")
    assert f"- Left out of the evaluation documents by lot: {told}.\n" in card


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("a.json", ""),
        ({"path": "a.json", "seed": 3}, ""),
        ({"path": "a.json", "fraction": 1.0, "drop_labels": 0}, ""),
        ({"path": "a.json", "fraction": 0.95}, "all but 95% of the documents (fraction 0.95, seed 13)"),
        (
            ["a.json", {"path": "b.json", "drop_labels": 0.5, "seed": 3}],
            "of set 2, about 50% of the facts (drop_labels 0.5, seed 3)",
        ),
        (
            [{"path": "a.json", "fraction": 0.5}, {"path": "b.json", "drop_labels": 0.5}],
            "of set 1, all but 50% of the documents (fraction 0.5, seed 13); "
            "of set 2, about 50% of the facts (drop_labels 0.5, seed 13)",
        ),
    ],
)
def test_regimes_in_words(entry, words):
    assert describe_regime(entry) == words


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("--data.train.fraction=0", "data.train.fraction is 0, but must be a number above 0 and at most 1"),
        ("--data.train.fraction=5", "such as 0.05 for 5%"),
        ("--data.train.fraction=true", "data.train.fraction is True"),
        ("--data.train.drop_labels=70", "data.train.drop_labels is 70, but must be a number from 0 to 1"),
        ("--data.eval.drop_labels=much", "data.eval.drop_labels is 'much'"),
        ("--data.train.seed=x", "data.train.seed is 'x', but must be a whole number"),
        ("--data.train.titles=3", "data.train.titles needs a file"),
        ("--data.train.titles={path: a.json, fraction: 0.1}", "data.train.titles has no setting 'fraction'"),
        ("--data.train.drop_label=0.5", "Did you mean 'drop_labels'"),
        ("--data.train.titles=nowhere.json", "data.train.titles.path: there is no file nowhere.json"),
    ],
)
def test_what_is_wrong_with_a_regime_is_named(recipe, change, message):
    with pytest.raises(RecipeError) as error:
        build_trainer(load_recipe(recipe, ["--data.train.seed=13", change]))
    assert message in str(error.value)


def test_convert_drops_labels_into_files(docre, stories, tmp_path):
    expected = [drop_labels(document, 0.7, 5) for document in iter_documents(stories)]
    out = tmp_path / "incomplete.json"
    ran = docre("convert", stories, out, "--drop-labels", 0.7, "--seed", 5)
    gone = len(facts(list(iter_documents(stories)))) - len(facts(expected))
    assert ran.code == 0 and f"dropped facts: {gone}" in ran.err
    assert list(iter_documents(out)) == expected
    # By way of a dataset, which counts as well.
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "train.json").write_text(stories.read_text())
    report = convert(tmp_path / "folder", tmp_path / "again.json", drop_labels=0.7, seed=5)
    assert report["train"]["dropped facts"] == gone and list(iter_documents(tmp_path / "again.json")) == expected
    ran = docre("convert", stories, tmp_path / "repository", "--drop-labels", 0.7)
    assert ran.code == 1 and "is no file" in ran.err and not (tmp_path / "repository").exists()
    ran = docre("convert", stories, out, "--drop-labels", 7)
    assert ran.code == 1 and "from 0 to 1" in ran.err
    assert list(iter_documents(out)) == expected


@pytest.mark.parametrize("chosen", ["2:5", "3:", ":4", "-3:", "1:-2", ":"])
def test_convert_takes_a_slice_of_a_file(docre, stories, tmp_path, chosen):
    start, stop = (int(part) if part else None for part in chosen.split(":"))
    out = tmp_path / "some.jsonl"
    ran = docre("convert", stories, out, f"--documents={chosen}")
    expected = list(iter_documents(stories))[start:stop]
    assert ran.code == 0 and f"documents: {len(expected)}," in ran.err
    assert list(iter_documents(out)) == expected


def test_a_slice_reads_no_document_behind_it_and_is_one_of_files(docre, stories, tmp_path):
    rows = json.loads(stories.read_text())
    lines = tmp_path / "rows.jsonl"
    lines.write_text(f"{json.dumps(rows[0])}\n{json.dumps(rows[1])}\nno JSON\n")
    out = tmp_path / "some.json"
    assert docre("convert", lines, out, "--documents", "0:2").code == 0 and len(list(iter_documents(out))) == 2
    for target, chosen, message in (
        (out, "first", "'first' is no slice"),
        (out, "900:1000", "there are no documents left (documents: 900:1000)"),
        (tmp_path / "repository", "0:2", "from a file into another"),
    ):
        ran = docre("convert", stories, target, "--documents", chosen)
        assert ran.code == 1 and message in ran.err
    assert not (tmp_path / "repository").exists() and len(list(iter_documents(out))) == 2


def test_the_real_regimes(data_dir, repository, monkeypatch):
    monkeypatch.setenv("DOCRE_DATA", str(data_dir))
    monkeypatch.chdir(repository)
    found = {}
    for name in ("oog", "ogg"):
        data = load_recipe(repository / "recipes" / "docred" / f"pemscl-{name}-minilm.yaml").data
        found[name] = [read_entry(data[part], part) for part in ("train", "eval")]
        assert [len(part) for part in found[name]] == [40, 11]
    assert found["oog"][0] == found["ogg"][0]
    assert titles(found["oog"][1]) == titles(found["ogg"][1])
    # DocRED's labels are a part of those that were made from scratch.
    assert facts(found["oog"][1]) < facts(found["ogg"][1])
    assert not set(titles(found["oog"][0])) & set(titles(found["oog"][1]))
    data = load_recipe(repository / "recipes" / "protocols" / "incomplete-oog.yaml").data
    everything = list(iter_documents(data_dir / "re-docred" / "dev_revised.json"))
    train = read_entry(data["train"], "train")
    assert facts(train) < facts(everything[:250])
    assert len(facts(train)) == pytest.approx(0.3 * len(facts(everything[:250])), rel=0.03)
    assert len(choose_fraction(everything, 0.05)) == 25
