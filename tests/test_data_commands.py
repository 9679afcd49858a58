from __future__ import annotations

import json
import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
import yaml
from datasets import load_dataset, load_from_disk
from forked import run_docre

from modeling_docre import Document
from modeling_docre.data_files import iter_documents, write_documents
from modeling_docre.data_statistics import describe_documents, relations_of
from modeling_docre.datasets_scripts import convert, load_docre, open_splits, split_source, write_dataset_repo
from modeling_docre.datasets_scripts.sources import Split
from modeling_docre.documents import DocumentError
from modeling_docre.recipes import build_trainer, load_recipe
from modeling_docre.stratification import stratify

PARTS = {"train": 0.8, "validation": 0.1, "test": 0.1}


def letter(number: int, relations: list[str]) -> dict[str, Any]:
    """A document with a fact of each relation, between two people who are named once."""
    return {
        "title": f"Letter {number}",
        "text": f"Orla wrote to Wim about number {number}.  It rained.",
        "entities": [
            {"type": "PER", "mentions": [{"start": 0, "end": 4}]},
            {"type": "PER", "mentions": [{"start": 14, "end": 17}]},
        ],
        "relations": [{"head": 0, "tail": 1, "relation": relation} for relation in relations],
    }


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def skewed(number: int, seed: int = 0) -> list[list[str]]:
    """Relations of documents: a few are frequent, and each is half as frequent as the one before."""
    draw = random.Random(seed)
    return [[f"r{kind}" for kind in range(9) if draw.random() < 0.6 * 0.55**kind] for _ in range(number)]


# ---------------------------------------------------------------------------------------------------------------------
# Statistics
# ---------------------------------------------------------------------------------------------------------------------


def test_statistics_of_known_documents():
    first = Document.from_markup("[Ada](:PER) met [Bo](:PER) in [Oslo](:LOC). [She](Ada) left it.")
    docred = {
        "title": "Two",
        "sents": [["Ada", "met", "Bo", "."], ["Cy", "slept", "."]],
        "vertexSet": [
            [{"name": "Ada", "sent_id": 0, "pos": [0, 1], "type": "PER"}],
            [{"name": "Bo", "sent_id": 0, "pos": [2, 3], "type": None}],
            [{"name": "Cy", "sent_id": 1, "pos": [0, 1], "type": "PER"}],
        ],
        "labels": [
            {"h": 0, "t": 1, "r": "met"},
            {"h": 0, "t": 1, "r": "knows"},
            {"h": 0, "t": 2, "r": "knows"},
            {"h": 0, "t": 2, "r": "knows"},
        ],
    }
    unread = Document("line 3", "", (), repairs=(("unreadable document", 1),))
    found = describe_documents([first, Document.from_docred(docred), unread])
    assert found == {
        "documents": 2,
        "unlabelled": 1,
        "sentences": 4,
        "words": 17,
        "entities": 6,
        "mentions": 7,
        "facts": 3,
        "candidate_pairs": 12,
        "pairs_with_relation": 2,
        "pairs_with_several_relations": 1,
        "facts_within_a_sentence": 2 / 3,
        "words_per_document": {"mean": 8.5, "median": 7, "95%": 10, "longest": 10},
        "entities_per_document": {"mean": 3.0, "median": 3, "95%": 3, "longest": 3},
        "facts_per_document": {"mean": 3.0, "median": 3, "95%": 3, "longest": 3},
        "relations": {"knows": 2, "met": 1},
        "entity_types": {"PER": 4, "LOC": 1},
        "entities_without_type": 1,
        "repairs": {"duplicate label": 1, "unreadable document": 1},
    }


def test_quantiles_are_those_of_the_sorted_lengths():
    texts = [Document.from_text("a " * length) for length in [*range(1, 20), 500]]
    found = describe_documents(reversed(texts))["words_per_document"]
    assert found == {"mean": (190 + 500) / 20, "median": 10, "95%": 19, "longest": 500}
    empty = describe_documents([])
    assert empty["words_per_document"] is None and empty["facts_within_a_sentence"] is None


def test_relations_by_frequency():
    documents = [Document.from_dict(letter(n, kinds)) for n, kinds in enumerate([["b", "a"], ["a"], ["c"], []])]
    assert list(relations_of(documents).items()) == [("a", 2), ("b", 1), ("c", 1)]


def test_stats_on_the_command_line(tmp_path, docre):
    (tmp_path / "mine").mkdir()
    write(tmp_path / "mine" / "train.jsonl", [letter(number, ["wrote_to"]) for number in range(3)])
    write(tmp_path / "mine" / "dev.jsonl", [letter(number, ["wrote_to", "knows"]) for number in range(3, 5)])
    ran = docre("data", "stats", tmp_path / "mine", "--json")
    found = json.loads(ran.out)
    assert {split: figures["facts"] for split, figures in found.items()} == {"train": 3, "validation": 4}
    ran = docre("data", "stats", tmp_path / "mine")
    assert ran.code == 0
    table = {line[:30].strip(): line[30:].split() for line in ran.out.splitlines() if line.strip()}
    assert table["documents"] == ["3", "2"]
    assert "wrote_to  3  2" in ran.out
    both = docre("data", "stats", tmp_path / "mine" / "train.jsonl", tmp_path / "mine" / "dev.jsonl", "--json")
    assert len(json.loads(both.out)) == 2


# ---------------------------------------------------------------------------------------------------------------------
# Splitting
# ---------------------------------------------------------------------------------------------------------------------


def deviation(relations: list[list[str]], places: list[int], shares: list[float]) -> float:
    """How far each part's facts of a relation are from its share, in facts, summed over relations and parts."""
    totals = Counter(relation for kinds in relations for relation in kinds)
    found = [Counter() for _ in shares]
    for kinds, place in zip(relations, places, strict=True):
        found[place].update(kinds)
    return sum(
        abs(found[part][relation] - share * total)
        for part, share in enumerate(shares)
        for relation, total in totals.items()
    )


def test_strata_are_better_than_chance():
    relations = skewed(400)
    facts = [Counter(kinds) for kinds in relations]
    shares = list(PARTS.values())
    draw = random.Random(1)
    ours = deviation(relations, stratify(facts, [draw.random() for _ in facts], shares), shares)
    random_ones = []
    for _ in range(20):
        places = [0] * 320 + [1] * 40 + [2] * 40
        draw.shuffle(places)
        random_ones.append(deviation(relations, places, shares))
    assert ours < min(random_ones) / 2


def test_parts_have_their_sizes_and_each_document_one_part():
    facts = [Counter(kinds) for kinds in skewed(400)]
    places = stratify(facts, [number / 400 for number in range(400)], list(PARTS.values()))
    sizes = Counter(places)
    assert set(places) == {0, 1, 2}
    assert abs(sizes[0] - 320) <= 12 and abs(sizes[1] - 40) <= 8 and abs(sizes[2] - 40) <= 8


def test_a_small_case_by_hand():
    # `rare` first: its two documents go to the two halves; then `common`, of which each half wants two.
    facts = [Counter(rare=1, common=1), Counter(rare=1), Counter(common=2), Counter(common=1), Counter()]
    assert stratify(facts, [0.0, 0.1, 0.2, 0.3, 0.4], [0.5, 0.5]) == [0, 1, 1, 0, 0]


def test_split_writes_every_document_once_and_in_its_own_words(tmp_path):
    rows: list[Any] = [letter(number, kinds) for number, kinds in enumerate(skewed(60))]
    docred = Document.from_docred({
        "title": "words of its own", "sents": [["a-b", "c", "."]],
        "vertexSet": [[{"name": "b", "sent_id": 0, "pos": [0, 1], "type": "X"}]], "labels": [],
    })  # fmt: skip
    source = write(tmp_path / "mine.jsonl", [*rows, docred.to_docred()])
    report = split_source(source, tmp_path / "out", PARTS)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "test.jsonl", "train.jsonl", "validation.jsonl",
    ]  # fmt: skip
    written = {part: list(iter_documents(tmp_path / "out" / f"{part}.jsonl")) for part in PARTS}
    assert {part: len(found) for part, found in written.items()} == report.documents
    everything = sorted((document for found in written.values() for document in found), key=lambda one: one.title)
    assert everything == sorted(iter_documents(source), key=lambda one: one.title)
    assert load_docre(tmp_path / "out").num_rows == report.documents
    assert report.facts == {part: sum(len(one.relations) for one in found) for part, found in written.items()}


def test_split_is_decided_by_seed_and_content(tmp_path):
    rows = [letter(number, kinds) for number, kinds in enumerate(skewed(60))]

    def titles(name: str, given: list[dict], seed: int) -> dict[str, list[str]]:
        split_source(write(tmp_path / f"{name}.jsonl", given), tmp_path / name, PARTS, seed=seed)
        return {
            part: sorted(document.title for document in iter_documents(tmp_path / name / f"{part}.jsonl"))
            for part in PARTS
        }

    first = titles("first", rows, 13)
    assert titles("again", rows, 13) == first
    assert titles("turned", rows[::-1], 13) == first
    assert titles("other", rows, 14) != first


def test_relations_too_rare_for_all_parts_are_told(tmp_path, docre):
    rows = [letter(number, ["wrote_to"]) for number in range(20)]
    rows[3]["relations"] += [{"head": 1, "tail": 0, "relation": "owes"}, {"head": 0, "tail": 1, "relation": "owes"}]
    source = write(tmp_path / "mine.jsonl", rows)
    report = split_source(source, tmp_path / "out", PARTS)
    assert report.scarce == {"owes": 1}
    assert report.relations["owes"] == {"train": 2, "validation": 0, "test": 0}, "most of it is wanted in training"
    assert report.missing == {"train": [], "validation": ["owes"], "test": ["owes"]}
    ran = docre("data", "split", source, tmp_path / "cli", "--parts", "train=0.8, validation=0.1, test=0.1")
    assert ran.code == 0, ran.err
    assert "not every part has them: owes (1)" in ran.err
    assert "validation: documents: 2, facts: 2, relations without a fact: 1" in ran.err


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ("train=0.8,test=0.1", "add up to 1"),
        ("train=1", "between 0 and 1"),
        ("train=0.8,dev=0.1,validation=0.1", "two names for one split"),
        ("train=0.8,mine=0.2", "'mine', which no file"),
        ("train=0.8,test", "--parts has 'test'"),
        ("train=0.5,train=0.5", "'train' twice"),
        ("train=0.99,test=0.01", "none would be left for test"),
    ],
)
def test_parts_that_are_none(tmp_path, docre, parts, said):
    source = write(tmp_path / "mine.jsonl", [letter(number, ["a"]) for number in range(10)])
    ran = docre("data", "split", source, tmp_path / "out", "--parts", parts)
    assert (ran.code, said in ran.err) == (1, True), ran.err
    assert not (tmp_path / "out").exists()


def test_splitting_refuses_what_it_cannot_do(tmp_path, monkeypatch):
    source = write(tmp_path / "mine.jsonl", [letter(number, ["a"]) for number in range(20)])
    with pytest.raises(ValueError, match="only once"):
        split_source("-", tmp_path / "out", PARTS)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "keep.txt").write_text("me")
    with pytest.raises(FileExistsError):
        split_source(source, tmp_path / "full", PARTS)
    (tmp_path / "several").mkdir()
    for name in ("train", "test"):
        write(tmp_path / "several" / f"{name}.jsonl", [letter(1, ["a"])])
    with pytest.raises(ValueError, match="has the splits train, test"):
        split_source(tmp_path / "several", tmp_path / "out", PARTS)
    # A file that changes between the two readings.
    readings = iter([range(20), range(1, 21)])
    found = Split("mine", lambda: (Document.from_dict(letter(n, ["a"])) for n in next(readings)), None)  # type: ignore[arg-type]
    monkeypatch.setattr("modeling_docre.datasets_scripts.splitting.open_splits", lambda *_, **__: {"train": found})
    with pytest.raises(ValueError, match="changed while it was read"):
        split_source(source, tmp_path / "out", PARTS)
    assert not (tmp_path / "out").exists()


# ---------------------------------------------------------------------------------------------------------------------
# Repositories
# ---------------------------------------------------------------------------------------------------------------------


def test_prepare_writes_a_repository_with_a_whole_card(tmp_path, docre):
    (tmp_path / "mine").mkdir()
    write(tmp_path / "mine" / "train.jsonl", [letter(number, ["wrote_to"]) for number in range(3)])
    write(tmp_path / "mine" / "test.jsonl", [letter(number, []) for number in range(3, 5)])
    bib = "@misc{letters,\n  title = {Letters to Wim},\n  note = {with ``` in it}\n}\n"
    (tmp_path / "letters.bib").write_text(bib)
    ran = docre(
        "data", "prepare", tmp_path / "mine", tmp_path / "hub", "--license", "cc-by-4.0", "--name", "Letters",
        "--language", "en", "--language", "de", "--origin", "a drawer", "--citation", tmp_path / "letters.bib",
        "--relation-names", write(tmp_path / "words.json", [{"wrote_to": "a | letter to"}]),
    )  # fmt: skip
    assert ran == (0, "", "train: documents: 3, facts: 3\ntest: documents: 2\n")
    _, header, body = (tmp_path / "hub" / "README.md").read_text().split("---\n", 2)
    card = yaml.safe_load(header)
    assert (card["license"], card["language"], card["pretty_name"]) == ("cc-by-4.0", ["en", "de"], "Letters")
    assert "Source: a drawer" in body and "| `train` | 3 | 6 | 6 | 6 | 6 | 3 | 0 |" in body
    assert f"## Citation\n\n````bibtex\n{bib}````\n" in body
    assert "| `wrote_to` | a \\| letter to | 3 | 0 |" in body
    assert json.loads((tmp_path / "hub" / "rel_info.json").read_text()) == {"wrote_to": "a | letter to"}
    assert load_dataset(str(tmp_path / "hub")).num_rows == {"train": 3, "test": 2}
    ran = docre("data", "prepare", tmp_path / "mine", tmp_path / "b.jsonl", "--license", "mit", "--split", "train")
    assert ran.code == 1 and "name a folder" in ran.err
    assert docre("data", "prepare", tmp_path / "mine", tmp_path / "c").code == 2, "a card needs a licence"
    ids = write(tmp_path / "ids.json", [["wrote_to"]])
    ran = docre("data", "prepare", tmp_path / "mine", tmp_path / "c", "--license", "mit", "--relation-names", ids)
    assert ran.code == 1 and "ids.json: ids without words" in ran.err


def test_prepare_says_where_the_table_of_names_and_the_data_differ(tmp_path):
    write(tmp_path / "mine.jsonl", [letter(0, ["wrote_to", "owes"]), letter(1, ["owes"])])
    words = {"wrote_to": "wrote to", **{f"P{number}": "?" for number in range(7)}}
    (tmp_path / "words.json").write_text(json.dumps(words))
    given = ["--license", "mit", "--relation-names", "words.json"]
    ran = run_docre("data", "prepare", "mine.jsonl", "hub", *given, cwd=tmp_path)
    assert ran.returncode == 0
    assert ran.stderr.splitlines() == [
        "Relations of the data that have no words: 1 (owes).",
        "Words for relations that have no fact in the data: 7 (P0, P1, P2, P3, P4, ...).",
        "documents: 2, facts: 3",
    ]
    # Nobody labelled these: that the table has more says nothing.
    write(tmp_path / "bare.jsonl", [{"text": "Orla wrote."}])
    ran = run_docre("data", "prepare", "bare.jsonl", "bare", *given, cwd=tmp_path)
    assert (ran.returncode, ran.stderr) == (0, "documents: 1, unlabelled: 1\n")


@pytest.mark.parametrize("folder", ["hub", "json", 'made here/the "hub"', "../over there"])
def test_the_card_shows_how_to_load_the_folder_and_no_place_of_this_machine(tmp_path, monkeypatch, folder):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / folder).parent.mkdir(exist_ok=True)
    repo = write_dataset_repo(
        load_docre(write(tmp_path / "mine.jsonl", [letter(0, ["a"])])), folder, name="x", license="mit"
    )
    (code,) = re.findall(r"^```python\n(.*?)^```$", (repo / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    assert str(tmp_path) not in code
    monkeypatch.chdir(repo.resolve().parent)
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["dataset"].num_rows == 1


def test_large_splits_go_into_several_files(tmp_path, monkeypatch):
    monkeypatch.setattr("modeling_docre.datasets_scripts.dataset_repo._GROUP_ROWS", 2)
    source = write(tmp_path / "train.jsonl", [letter(number, ["wrote_to"]) for number in range(10)])
    small = write_dataset_repo(load_docre(source), tmp_path / "one", name="x", license="mit")
    assert [path.name for path in sorted((small / "data").iterdir())] == ["train-00000-of-00001.parquet"]
    rows = {"train": open_splits(source)["train"].table}
    repo = write_dataset_repo(rows, tmp_path / "repo", name="x", license="mit", shard_size=1)
    names = [path.name for path in sorted((repo / "data").iterdir())]
    assert names == [f"train-{number:05}-of-00005.parquet" for number in range(5)]
    card = yaml.safe_load((repo / "README.md").read_text().split("---\n")[1])
    assert card["configs"][0]["data_files"] == [{"split": "train", "path": "data/train-*"}]
    info = card["dataset_info"]
    assert info["splits"][0]["num_examples"] == 10
    assert info["download_size"] == sum(path.stat().st_size for path in (repo / "data").iterdir())
    expected = load_docre(source).to_list()
    assert load_dataset(str(repo), split="train").to_list() == expected
    assert load_docre(repo, "train").to_list() == load_docre(small, "train").to_list() == expected
    # And read as they stand, in their order.
    titles = [document.title for document in open_splits(repo)["train"].documents()]
    assert titles == [f"Letter {number}" for number in range(10)]
    with pytest.raises(ValueError, match="shard_size"):
        write_dataset_repo(load_docre(source), tmp_path / "no", name="x", license="mit", shard_size=0)


def test_a_split_without_rows_is_a_file_too(tmp_path):
    data = load_docre(write(tmp_path / "train.jsonl", [letter(0, [])]))
    repo = write_dataset_repo(
        {"train": data, "test": data.filter(lambda _: False)}, tmp_path / "repo", name="x", license="mit"
    )
    assert pyarrow.parquet.read_metadata(repo / "data" / "test-00000-of-00001.parquet").num_rows == 0
    assert load_dataset(str(repo), split="train").num_rows == 1


def test_a_document_that_cannot_be_read_leaves_no_repository(tmp_path):
    rows = [letter(0, ["a"]), letter(1, ["a"])]
    rows[1]["relations"][0]["tail"] = 9
    source = write(tmp_path / "train.jsonl", rows)
    with pytest.raises(DocumentError, match="line 2"):
        convert(source, tmp_path / "repo", license="mit")
    assert [path.name for path in tmp_path.iterdir()] == ["train.jsonl"]
    report = convert(source, tmp_path / "repo", license="mit", strict=False)
    assert report["train"]["repairs"] == {"label to a missing entity": 1}
    card = (tmp_path / "repo" / "README.md").read_text(encoding="utf-8")
    assert "- `train`: 1 x label to a missing entity" in card
    assert "Relations that have a fact: 1.\n" in card and "| `a` |  | 1 |" in card


def test_the_card_says_no_repairs_of_rows_that_were_chosen(tmp_path):
    rows = [letter(number, ["a"]) for number in range(3)]
    rows[1]["relations"] *= 2
    data = load_docre(write(tmp_path / "train.jsonl", rows))
    said = "- `train`: 1 x duplicate label"
    # The same numbers of documents and facts say nothing: the second of these has the repaired one no more.
    chosen = [(data, said), (data.select([0, 2, 2]), None), (data.select([0, 2]), None)]
    data.save_to_disk(tmp_path / "kept")
    chosen.append((load_from_disk(tmp_path / "kept"), said))
    for number, (part, said) in enumerate(chosen):
        repo = write_dataset_repo(part, tmp_path / str(number), name="x", license="mit")
        card = (repo / "README.md").read_text(encoding="utf-8")
        assert said in card if said else "Repaired" not in card


def test_a_card_lists_the_commonest_of_many_relations(tmp_path):
    data = load_docre(write(tmp_path / "train.jsonl", [letter(0, [f"r{number}" for number in range(120)])]))
    card = (write_dataset_repo(data, tmp_path / "repo", name="x", license="mit") / "README.md").read_text()
    assert "Relations that have a fact: 120." in card and "And 20 more, none with more facts than these." in card


def test_every_file_form_becomes_a_repository(tmp_path):
    document = Document.from_markup("[Ada](:PER) met [Bo](:PER).", title="ada.txt")
    (tmp_path / "ada.txt").write_text("[Ada](:PER) met [Bo](:PER).")
    convert(tmp_path / "ada.txt", tmp_path / "a")
    write_documents([document], tmp_path / "ada.json")
    convert(tmp_path / "ada.json", tmp_path / "b")
    (parquet,) = (tmp_path / "b" / "data").iterdir()
    report = convert(parquet, tmp_path / "c")
    assert report == {"train": {"documents": 1, "unlabelled": 1, "facts": 0, "repairs": {}}}
    tables = [load_dataset(str(tmp_path / name), split="train").to_list() for name in "abc"]
    assert tables[0] == tables[1] == tables[2]


def test_mirrors_are_read_through_datasets(tmp_path):
    mention = {"name": "Ada", "sent_id": 0, "pos": [0, 1], "type": "PER"}
    row = {"title": "T", "sents": [["Ada", "left", "."]], "vertexSet": [[mention]]}
    labels = {"head": [0], "tail": [0], "relation_id": ["P1"], "evidence": [[0]]}
    (tmp_path / "hub").mkdir()
    pyarrow.parquet.write_table(
        pyarrow.Table.from_pylist([{**row, "labels": labels}]), tmp_path / "hub" / "train.parquet"
    )
    (split,) = open_splits(tmp_path / "hub").values()
    assert [fact.relation for document in split.documents() for fact in document.relations] == ["P1"]


# ---------------------------------------------------------------------------------------------------------------------
# Relations, and the commands as a whole
# ---------------------------------------------------------------------------------------------------------------------


def test_relations_as_a_list_and_as_a_table(tmp_path, docre):
    source = write(tmp_path / "mine.jsonl", [letter(0, ["wrote_to", "P7"]), letter(1, ["wrote_to"])])
    ran = docre("data", "relations", source)
    assert [line.split("  ") for line in ran.out.splitlines()] == [
        ["wrote_to", "wrote to", "2"], ["P7", "", "", "", "P7", "", "", "", "1"],
    ]  # fmt: skip
    (tmp_path / "rel_info.json").write_text(json.dumps({"P7": "owes", "P8": "not here"}))
    ran = docre("data", "relations", source, "-o", tmp_path / "table.json")
    assert ran == (0, "", "relations: 2, facts: 3\n")
    assert json.loads((tmp_path / "table.json").read_text()) == {"wrote_to": "wrote to", "P7": "owes"}
    unlabelled = write(tmp_path / "none.jsonl", [{"text": "Ada."}])
    assert "no document has a fact" in docre("data", "relations", unlabelled).err


def test_a_recipe_takes_relations_from_its_training_data(tmp_path, tiny_bert_dir):
    write(tmp_path / "mine.jsonl", [letter(0, ["wrote_to", "owes"]), letter(1, ["wrote_to"])])
    (tmp_path / "recipe.yaml").write_text(
        f"output_dir: {tmp_path}/out\n"
        f"model: {{encoder: {tiny_bert_dir}, method: atlop, emb_size: 32, block_size: 8}}\n"
        f"data: {{train: {tmp_path}/mine.jsonl}}\ntraining: {{report_to: none}}\n"
    )
    trainer = build_trainer(load_recipe(tmp_path / "recipe.yaml"))
    assert trainer.model.config.relations == ["owes", "wrote_to"]


def test_the_commands_one_after_the_other(tmp_path):
    rows = [letter(number, ["wrote_to"]) for number in range(20)]
    rows[4]["relations"][0]["tail"] = 5
    write(tmp_path / "mine.jsonl", rows)
    ran = run_docre("data", "check", "mine.jsonl", "--json", cwd=tmp_path)
    assert ran.returncode == 1
    report = json.loads(ran.stdout)
    assert report["clean"] is False and report["documents"] == 20
    assert [(one["row"], one["field"], one["value"]) for one in report["problems"]] == [
        ("line 5", "relations[0].tail", "5")
    ]
    ran = run_docre("data", "check", "mine.jsonl", cwd=tmp_path)
    assert ran.returncode == 1 and ran.stderr == ""
    assert ran.stdout.startswith("mine.jsonl, line 5: document 'Letter 4': `relations[0].tail` is 5: ")
    assert "documents: 20, problems: 1\n" in ran.stdout
    rows[4]["relations"][0]["tail"] = 1
    write(tmp_path / "mine.jsonl", rows)
    assert run_docre("data", "check", "mine.jsonl", cwd=tmp_path).returncode == 0
    assert run_docre("data", "check", "absent.jsonl", cwd=tmp_path).returncode == 1


def test_convert_is_one_command_under_two_names(tmp_path, docre):
    source = write(tmp_path / "mine.jsonl", [letter(0, ["a"])])
    first = docre("convert", source, tmp_path / "a.json")
    assert docre("data", "convert", source, tmp_path / "b.json") == first
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_the_way_there_and_back(tmp_path):
    """Text form, DocRED's form and the repository: what each keeps is what the docs say."""
    source = write(tmp_path / "text.jsonl", [letter(0, ["a"])])
    (own,) = iter_documents(source)
    convert(source, tmp_path / "docred.json")
    convert(tmp_path / "docred.json", tmp_path / "repo")
    convert(tmp_path / "repo", tmp_path / "back.jsonl")
    (back,) = iter_documents(tmp_path / "back.jsonl")
    assert "  " in own.text and back.text == " ".join(word for sentence in own.words for word in sentence)
    assert (back.words, back.relations) == (own.words, own.relations)
    assert [[mention.name for mention in entity.mentions] for entity in back.entities] == [["Orla"], ["Wim"]]


@pytest.mark.parametrize("action", ["check", "stats", "split", "convert", "prepare", "relations"])
def test_help_of_every_action_has_an_example_that_parses(docre, action):
    from modeling_docre.cli_options import make_parser

    shown = docre("data", action, "--help")
    assert shown.code == 0
    examples = [line.strip() for line in shown.out.partition("example:")[2].splitlines() if line.strip()]
    assert examples
    for example in examples:
        assert example.split()[:3] == ["docre", "data", action]
        make_parser().parse_args(example.split()[1:])


def test_statistics_of_unlabelled_and_labelled_splits(tmp_path):
    (tmp_path / "mine").mkdir()
    bare = {name: value for name, value in letter(0, []).items() if name != "relations"}
    write(tmp_path / "mine" / "train.jsonl", [bare])
    write(tmp_path / "mine" / "test.jsonl", [letter(1, ["r0", "r1"])])
    ran = run_docre("data", "stats", "mine", "mine", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    lines = [line for line in ran.stdout.splitlines() if line.startswith("facts per document")]
    assert len(lines) == 1 and lines[0].split()[3:6] == ["-", "mean", "2.0,"]
