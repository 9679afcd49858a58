from __future__ import annotations

import copy
import gzip
import json
import logging
from collections import Counter
from pathlib import Path

import datasets
import pytest
import yaml
from datasets import Dataset, DatasetDict, Features, List, Value, load_dataset
from forked import run_python

from modeling_docre import DocREForRelationExtraction, DocREProcessor, DocRETrainer, DocRETrainingArguments, Document
from modeling_docre.data_files import DataFileError, iter_documents
from modeling_docre.datasets_scripts import (
    FEATURES,
    convert,
    json_files,
    load_docre,
    reading_report,
    rows,
    to_dataset,
    write_dataset_repo,
)
from modeling_docre.documents import DocumentError, read_documents
from modeling_docre.training_data import as_documents

QUIL = {
    "title": "Quil Harbour",
    "sents": [["Quil", "Harbour", "lies", "in", "Ostania", "."], ["Mara", "Voss", " ", "was", "born", "there", "."]],
    "vertexSet": [
        [{"name": "Quil Harbour", "pos": [0, 2], "sent_id": 0, "type": "LOC"}],
        [{"name": "Ostania", "pos": [4, 5], "sent_id": 0, "type": "LOC"}],
        [{"name": "Mara Voss", "pos": [0, 2], "sent_id": 1, "type": "PER"}],
    ],
    "labels": [{"h": 0, "t": 1, "r": "P17", "evidence": [0]}, {"h": 2, "t": 0, "r": "P19", "evidence": []}],
    "pairs": None,
}
TARN = {
    "title": "Tarn",
    "sents": [["塔恩", "\u00a0", "is", "🇴🇸", "a", 'river"', "."]],
    "vertexSet": [[{"name": "塔恩", "pos": [0, 1], "sent_id": 0, "type": None}]],
    "labels": [],
    "pairs": None,
}


def documents(number: int = 2) -> list[dict]:
    return [{**copy.deepcopy((QUIL, TARN)[index % 2]), "title": f"document {index}"} for index in range(number)]


def unlabelled(number: int = 2) -> list[dict]:
    return [{key: value for key, value in row.items() if key != "labels"} for row in documents(number)]


def plain(row: dict) -> dict:
    """The row as it is written to a file: a table has a column for what it lacks."""
    return {key: value for key, value in row.items() if value is not None}


def dirty() -> dict:
    row = copy.deepcopy(QUIL)
    row["vertexSet"][0].append(dict(row["vertexSet"][0][0], global_pos=[0, 0], index="0_1"))
    row["labels"] += [{"h": 0, "t": 1, "r": "P17", "evidence": [0, 1], "pred_label": "TP"}]
    row["notes"] = "unknown keys are left out"
    return row


def write(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def message(function, *args, **kwargs) -> str:
    with pytest.raises(ValueError) as caught:
        function(*args, **kwargs)
    assert type(caught.value) is DocumentError
    return str(caught.value)


# ---------------------------------------------------------------------------------------------------------------------
# One file
# ---------------------------------------------------------------------------------------------------------------------


def test_a_file_becomes_a_dataset_in_the_schema(tmp_path):
    data = load_docre(write(tmp_path / "dev.json", [QUIL, TARN]))
    assert isinstance(data, Dataset)
    assert data.features == FEATURES
    assert isinstance(data.features["labels"], List)
    assert str(data.split) == "validation"
    assert data.to_list() == [QUIL, TARN]
    assert list(read_documents(data)) == [Document.from_docred(QUIL), Document.from_docred(TARN)]


def test_an_unlabelled_document_has_no_labels_rather_than_none_that_hold(tmp_path):
    data = load_docre(write(tmp_path / "test.json", unlabelled()))
    assert data["labels"] == [None, None]
    assert data.features == FEATURES
    assert [document.relations for document in read_documents(data)] == [None, None]
    assert reading_report(data) == {"documents": 2, "unlabelled": 2, "facts": 0, "repairs": {}}
    labelled = load_docre(write(tmp_path / "dev.json", [TARN]))
    assert labelled["labels"] == [[]]


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.json.gz", "a.jsonl.gz", "lines.json", "bom.json"])
def test_every_file_form(tmp_path, name):
    lines = "jsonl" in name or name == "lines.json"
    content = "\n".join(json.dumps(row, ensure_ascii=False) for row in documents(3)) + "\n\n"
    content = content if lines else json.dumps(documents(3), indent=1, ensure_ascii=False)
    raw = ("\ufeff" * (name == "bom.json") + content).encode()
    (tmp_path / name).write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
    assert load_docre(tmp_path / name).to_list() == documents(3)


def test_files_larger_than_what_is_read_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(json_files, "_CHUNK", 7)
    path = write(tmp_path / "a.json", json.dumps(documents(4), indent=2, ensure_ascii=False))
    entries = list(json_files.iterate_entries(path, repairs=Counter()))
    assert entries == [(f"{path}, entry {index}", row) for index, row in enumerate(documents(4))]
    path = write(tmp_path / "b.json", " \n" * 20 + "[ ]")
    assert list(json_files.iterate_entries(path, repairs=Counter())) == []


def test_a_file_is_read_piece_by_piece(tmp_path, monkeypatch):
    # A corpus of a gigabyte must not be one string: the first documents come before the broken end is seen.
    monkeypatch.setattr(json_files, "_CHUNK", 64)
    path = write(tmp_path / "a.json", json.dumps(documents(50))[:-1] + ", oops")
    entries = json_files.iterate_entries(path, repairs=Counter())
    assert [next(entries)[1]["title"] for _ in range(50)] == [f"document {index}" for index in range(50)]
    with pytest.raises(DocumentError, match="Expecting value"):
        next(entries)


def test_documents_in_text_form_become_words(tmp_path):
    row = {
        "title": "Voss",
        "text": "Mara Voss left Ostania.",
        "entities": [
            {"type": "PER", "mentions": [{"start": 0, "end": 9}]},
            {"type": "LOC", "mentions": [{"start": 15, "end": 22}]},
        ],
        "relations": [{"head": 0, "tail": 1, "relation": "P27"}],
    }
    (read,) = load_docre(write(tmp_path / "own.jsonl", row))
    assert read["sents"] == [["Mara", "Voss", "left", "Ostania", "."]]
    assert read["vertexSet"][1] == [{"name": "Ostania", "pos": [3, 4], "sent_id": 0, "type": "LOC"}]
    assert read["labels"] == [{"h": 0, "t": 1, "r": "P27", "evidence": []}]


def test_split_names_one_file(tmp_path):
    path = write(tmp_path / "my.corpus.json", documents())
    assert str(load_docre(path).split) == "train"
    assert str(load_docre(path, "test").split) == "test"
    with pytest.raises(ValueError, match="my split"):
        load_docre(path, "my split")


# ---------------------------------------------------------------------------------------------------------------------
# Repairs, the report, the cache
# ---------------------------------------------------------------------------------------------------------------------


def test_repairs_are_made_counted_and_said_once(tmp_path, caplog):
    path = write(tmp_path / "train_annotated.json", [dirty(), dirty(), TARN])
    with caplog.at_level(logging.WARNING, logger="modeling_docre"):
        data = load_docre(path)
    assert data[0]["vertexSet"] == QUIL["vertexSet"]
    assert data[0]["labels"][0] == {"h": 0, "t": 1, "r": "P17", "evidence": [0, 1]}
    repairs = {"duplicate mention": 2, "duplicate label": 2}
    assert reading_report(data) == {"documents": 3, "unlabelled": 0, "facts": 4, "repairs": repairs}
    (record,) = [record for record in caplog.records if record.name.startswith("modeling_docre.datasets_scripts")]
    assert record.getMessage() == (
        f"{path}, split train: repaired or noticed 2 x duplicate mention, 2 x duplicate label."
    )


def test_the_second_reading_comes_from_the_cache_with_the_same_report(tmp_path, monkeypatch, caplog):
    path = write(tmp_path / "dev.json", [dirty(), TARN])
    first = load_docre(path, cache_dir=tmp_path / "cache")
    monkeypatch.setattr(rows.Rows, "_read", lambda *args: pytest.fail("read again"))
    with caplog.at_level(logging.WARNING, logger="modeling_docre"):
        second = load_docre(path, cache_dir=tmp_path / "cache")
    assert second.to_list() == first.to_list()
    assert reading_report(second) == reading_report(first)
    assert "1 x duplicate mention" in caplog.text


def test_a_changed_file_is_read_again(tmp_path):
    path = write(tmp_path / "dev.json", documents(1))
    assert load_docre(path).num_rows == 1
    changed = documents(1)
    changed[0]["sents"][0][2] = "sits"  # of the same length: the size alone would not tell
    write(path, changed)
    assert load_docre(path)[0]["sents"][0][2] == "sits"
    assert load_docre(write(path, documents(2))).num_rows == 2


def test_strictness_is_part_of_what_is_cached(tmp_path):
    row = copy.deepcopy(QUIL)
    row["labels"].append({"h": 0, "t": 9, "r": "P17"})
    path = write(tmp_path / "dev.json", [row])
    assert reading_report(load_docre(path, strict=False))["repairs"] == {"label to a missing entity": 1}
    assert "`labels[2].t` is 9" in message(load_docre, path)


def test_a_report_that_was_never_written_is_made_again(tmp_path):
    path = write(tmp_path / "dev.json", [dirty()])
    expected = reading_report(load_docre(path, cache_dir=tmp_path / "cache"))
    (report,) = (tmp_path / "cache").rglob("docre-report.json")
    report.unlink()
    assert reading_report(load_docre(path, cache_dir=tmp_path / "cache")) == expected
    assert report.exists()


def test_the_report_stays_through_filters_and_is_asked_for_politely(tmp_path):
    data = load_docre(write(tmp_path / "dev.json", documents(4)))
    assert reading_report(data.filter(lambda row: row["labels"]))["documents"] == 4
    with pytest.raises(ValueError, match="load_docre"):
        reading_report(Dataset.from_list(documents(1)))


# ---------------------------------------------------------------------------------------------------------------------
# Folders
# ---------------------------------------------------------------------------------------------------------------------


def test_folder_of_docred(tmp_path):
    for number, name in enumerate(("train_annotated", "train_distant", "dev", "test"), start=1):
        write(tmp_path / f"{name}.json", unlabelled(number) if name == "test" else documents(number))
    write(tmp_path / "rel_info.json", {"P17": "country"})
    data = load_docre(tmp_path)
    assert isinstance(data, DatasetDict)
    assert data.num_rows == {"train": 1, "train_distant": 2, "validation": 3, "test": 4}
    assert {part.features == FEATURES for part in data.values()} == {True}
    assert data["test"]["labels"] == [None] * 4
    assert load_docre(str(tmp_path), "train_distant").to_list() == documents(2)


def test_folder_of_re_docred_packed(tmp_path):
    for number, name in enumerate(("train_revised", "dev_revised", "test_revised"), start=1):
        (tmp_path / f"{name}.json.gz").write_bytes(gzip.compress(json.dumps(documents(number)).encode()))
    assert load_docre(tmp_path).num_rows == {"train": 1, "validation": 2, "test": 3}


def test_the_split_asked_for_is_the_only_one_read(tmp_path):
    write(tmp_path / "dev.json", documents())
    write(tmp_path / "test.json", "broken")
    assert load_docre(tmp_path, "validation").num_rows == 2
    with pytest.raises(ValueError, match="no split 'dev', but 'validation', 'test'"):
        load_docre(tmp_path, "dev")


def test_two_files_for_one_split(tmp_path):
    write(tmp_path / "dev.json", documents())
    write(tmp_path / "dev_revised.json", documents())
    with pytest.raises(ValueError, match=r"dev\.json and dev_revised\.json are both the split 'validation'"):
        load_docre(tmp_path)


def test_a_folder_without_files_of_ours_says_what_it_holds(tmp_path):
    write(tmp_path / "DV_1.json", {})
    with pytest.raises(FileNotFoundError, match=r"holds DV_1\.json: .*train_annotated\.json"):
        load_docre(tmp_path)


def test_files_that_a_folder_reading_leaves_out_are_named(tmp_path, caplog):
    for name in ("train", "val", "rel2id"):
        write(tmp_path / f"{name}.json", documents())
    with caplog.at_level(logging.WARNING, logger="modeling_docre"):
        assert set(load_docre(tmp_path)) == {"train"}
    assert "left out val.json;" in caplog.text


# ---------------------------------------------------------------------------------------------------------------------
# Dataset repositories and the Hub
# ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def repo(tmp_path) -> Path:
    write(tmp_path / "raw" / "train_annotated.json", documents(3))
    write(tmp_path / "raw" / "test.json", unlabelled(2))
    return write_dataset_repo(
        load_docre(tmp_path / "raw"),
        tmp_path / "ostania",
        name='Ostania: a "toy" corpus',
        license="cc-by-4.0",
        language=["en", "zh"],
        source="https://example.org/ostania",
        relation_names={"P17": "country", "P19": "lieu de naissance né"},
    )


def test_load_dataset_reads_a_written_repository(repo):
    data = load_dataset(str(repo))
    assert data.num_rows == {"train": 3, "test": 2}
    assert data["train"].features == FEATURES and data["test"].features == FEATURES
    assert data["train"].to_list() == documents(3)
    assert data["test"].to_list() == [{**row, "labels": None} for row in unlabelled(2)]
    streamed = load_dataset(str(repo), split="train", streaming=True)
    assert streamed.features == FEATURES and next(iter(streamed)) == documents(1)[0]


def test_the_card(repo):
    _, header, body = (repo / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    card = yaml.safe_load(header)
    files = ["train-00000-of-00001.parquet", "test-00000-of-00001.parquet"]
    assert sorted(path.name for path in (repo / "data").iterdir()) == sorted(files)
    assert card["configs"] == [
        {
            "config_name": "default",
            "data_files": [
                {"split": "train", "path": f"data/{files[0]}"},
                {"split": "test", "path": f"data/{files[1]}"},
            ],
        }
    ]
    assert card["language"] == ["en", "zh"]
    assert card["license"] == "cc-by-4.0"
    assert card["pretty_name"] == 'Ostania: a "toy" corpus'
    assert card["task_categories"] and card["source_datasets"] == ["extended|other"]
    assert card["size_categories"] == ["n<1K"]
    info = card["dataset_info"]
    assert [feature["name"] for feature in info["features"]] == list(FEATURES)
    assert [(split["name"], split["num_examples"]) for split in info["splits"]] == [("train", 3), ("test", 2)]
    assert info["download_size"] == sum(path.stat().st_size for path in (repo / "data").iterdir())
    assert "https://example.org/ostania" in body and "rel_info.json" in body
    # documents 0 and 2 are QUIL (2 sentences, 3 entities, 3 mentions, 2 facts), document 1 is TARN (1, 1, 1, 0)
    assert "| `train` | 3 | 5 | 7 | 7 | 12 | 4 | 0 |" in body
    assert "| `test` | 2 | 3 | 4 | 4 | 6 | 0 | 2 |" in body
    assert "Relations that have a fact: 2." in body and "| `P17` | country | 2 | 0 |" in body
    assert "Repaired" not in body
    names = json.loads((repo / "rel_info.json").read_text(encoding="utf-8"))
    assert names == {"P17": "country", "P19": "lieu de naissance né"}


def test_the_card_of_one_split_of_our_own(tmp_path):
    data = to_dataset([Document.from_docred(QUIL)])
    repo = write_dataset_repo(data, tmp_path / "own", name="Own", license="mit")
    card = yaml.safe_load((repo / "README.md").read_text(encoding="utf-8").split("---\n")[1])
    assert card["language"] == ["en"] and card["source_datasets"] == ["original"]
    assert not (repo / "rel_info.json").exists()
    assert load_dataset(str(repo))["train"].to_list() == [QUIL]


def test_load_docre_reads_a_written_repository(repo, monkeypatch):
    data = load_docre(repo)
    assert data["train"].to_list() == documents(3)
    assert data["test"]["labels"] == [None, None]
    assert reading_report(data["train"]) == {"documents": 3, "unlabelled": 0, "facts": 4, "repairs": {}}
    part = load_docre(repo, "train[1:]")
    assert part.to_list() == documents(3)[1:] and str(part.split) == "train"
    monkeypatch.setattr(rows.Rows, "_read", lambda *args: pytest.fail("read again"))
    assert load_docre(repo, "test").num_rows == 2


@pytest.mark.parametrize("form", ["list of dicts", "dict of lists"])
def test_mirrors_with_other_names_in_labels(tmp_path, form):
    part = {
        "head": Value("int32"),
        "tail": Value("int32"),
        "evidence": List(Value("int32")),
        "relation_id": Value("string"),
        "relation_text": Value("string"),
    }
    folded = form == "dict of lists"
    labels = {key: List(value) for key, value in part.items()} if folded else List(part)
    features = Features({**FEATURES, "labels": labels, "source": Value("string")})

    def mirror(row: dict) -> dict:
        facts = [
            {
                "head": fact["h"],
                "tail": fact["t"],
                "evidence": fact["evidence"],
                "relation_id": fact["r"],
                "relation_text": "",
            }
            for fact in row.get("labels", [])
        ]
        value = {key: [fact[key] for fact in facts] for key in part} if folded else facts
        return {**row, "labels": value, "source": "here"}

    for split, read in (("train", documents(2)), ("test", unlabelled(2))):
        (tmp_path / "hub" / "data").mkdir(parents=True, exist_ok=True)
        data = Dataset.from_list([mirror(row) for row in read], features=features)
        data.to_parquet(tmp_path / "hub" / "data" / f"{split}-00000-of-00001.parquet")
    loaded = load_docre(tmp_path / "hub")
    assert loaded["train"].features == FEATURES
    assert loaded["train"].to_list() == documents(2)
    # A dict of lists cannot be null: there, a split without any fact is one that nobody labelled.
    assert loaded["test"]["labels"] == ([None, None] if folded else [[], []])


def test_a_hub_id_goes_to_load_dataset(monkeypatch, tmp_path):
    asked = []

    def load(name, split=None, cache_dir=None):
        asked.append((name, split, cache_dir))
        return DatasetDict({"validation": Dataset.from_list([dirty()])})

    monkeypatch.setattr(datasets, "load_dataset", load)
    data = load_docre("ostania/toy", cache_dir=str(tmp_path))
    assert asked == [("ostania/toy", None, str(tmp_path))]
    assert data["validation"].features == FEATURES
    assert reading_report(data["validation"])["repairs"] == {"duplicate mention": 1, "duplicate label": 1}


def test_the_hub_out_of_reach(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConnectionError, match=r"'ostania/toy' is no file or folder in .*HF_HUB_OFFLINE"):
        load_docre("ostania/toy")


@pytest.mark.parametrize("name", ["dev.json", "./data", "raw/docred/data", "~/no-such-folder", "dev.jsonl.gz"])
def test_a_missing_path_is_not_looked_for_on_the_hub(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **kwargs: pytest.fail("asked the Hub"))
    with pytest.raises(FileNotFoundError, match="no file or folder"):
        load_docre(name)


def test_a_repository_with_other_columns(tmp_path):
    (tmp_path / "hub").mkdir()
    Dataset.from_list([{"tokens": ["a"], "tags": [0]}]).to_parquet(tmp_path / "hub" / "train.parquet")
    assert "columns are ['tokens', 'tags']" in message(load_docre, tmp_path / "hub")


def test_a_repository_with_a_loading_script(monkeypatch):
    def load(*args, **kwargs):
        raise RuntimeError("Dataset scripts are no longer supported, but found docred.py")

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(ValueError, match=r"loading script.*Download the JSON files"):
        load_docre("ostania/old")


def test_writing_needs_our_schema_and_an_empty_folder(tmp_path):
    good = to_dataset([Document.from_docred(QUIL)])
    with pytest.raises(ValueError, match="load_docre"):
        write_dataset_repo(Dataset.from_list([{"a": 1}]), tmp_path / "out", name="x", license="mit")
    with pytest.raises(ValueError, match="a list"):
        write_dataset_repo({"train": [QUIL]}, tmp_path / "out", name="x", license="mit")
    with pytest.raises(ValueError, match="no split"):
        write_dataset_repo({}, tmp_path / "out", name="x", license="mit")
    assert list(tmp_path.iterdir()) == []
    write(tmp_path / "out" / "mine.txt", "keep me")
    with pytest.raises(FileExistsError, match="not an empty folder"):
        write_dataset_repo(good, tmp_path / "out", name="x", license="mit")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]
    (tmp_path / "empty").mkdir()
    write_dataset_repo(good, tmp_path / "empty", name="x", license="mit")
    assert (tmp_path / "empty" / "README.md").exists()


def test_a_failed_writing_leaves_nothing_behind(tmp_path):
    data = to_dataset([Document.from_docred(QUIL)])
    with pytest.raises(TypeError):
        write_dataset_repo(data, tmp_path / "out", name="x", license="mit", relation_names={"P17": object()})
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------------------------------------------------------
# What is no document
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("empty.json", "", "the file is empty"),
        ("blank.jsonl", " \n\n", "the file is empty"),
        ("list.json", "[]", "there is no document in it"),
        ("one.json", QUIL, "one document instead of a list of documents"),
        ("text.json", {"title": "T", "text": "Mara left."}, "one document instead of a list of documents"),
        ("nested.json", {"data": [QUIL]}, "If they are in `data`"),
        ("mixed.json", [QUIL, {"id": "1", "vertex_char": []}], "entry 1: this is HacRED's form"),
        ("mixed2.json", [QUIL, {"mentions": [], "concepts": []}], "entry 1: this is an annotation of DWIE"),
        ("rel_info.json", {"P17": "country"}, "a table of names"),
        ("rel2id.json", {"P17": 1}, "a table of numbers"),
        ("result.json", [{"title": "T", "h_idx": 0, "t_idx": 1, "r": "P17"}], "this is a prediction"),
        ("other.json", [{"tokens": ["a"]}], "neither `sents` nor `text` among the keys ['tokens']"),
        ("strings.json", ["Mara left."], "entry 0: document: 'Mara left.' is not a dict but a str"),
        ("number.json", "17", "not JSON, it begins with '17'"),
        ("abstracts.txt", "227508 t Naloxone", "not JSON, it begins with '227508 t Naloxone'"),
        ("twice.json", "[]\n[]", "something follows the list at line 2 column 1"),
        (
            "comma.json",
            f"[\n{json.dumps(QUIL)}\n  {json.dumps(TARN)}]",
            "expected a comma or the end of the list at line 3 column 3",
        ),
        ("trailing.json", json.dumps([QUIL])[:-1] + ",]", "not valid JSON: Expecting value at line 1 column"),
        (
            "broken.json",
            '[\n {"title": "T",\n  "sents": [[oops]]}]',
            "Expecting value at line 3 column 14. Mend the file",
        ),
        ("cut.json", json.dumps([QUIL, TARN])[:-40], "The file may be truncated"),
        ("deep.json", "[" * 100_000, "not valid JSON"),
        ("digits.jsonl", '{"title": ' + "1" * 5000 + "}", "line 1: not valid JSON"),
    ],
)
def test_other_files_are_recognised(tmp_path, name, content, expected):
    path = write(tmp_path / name, content)
    error = message(load_docre, path)
    assert error.startswith(str(path)) and expected in error


@pytest.mark.parametrize("chunk", [1, 5, 64, 1 << 20])
def test_the_place_of_an_error_does_not_depend_on_how_the_file_is_read(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(json_files, "_CHUNK", chunk)
    good = json.dumps(documents(3), indent=2, ensure_ascii=False)
    for place in (good.index("Quil"), good.index("塔恩") + 3, good.rindex("P19") + 4):
        broken = good[:place] + '"' + good[place:]
        try:
            json.loads(broken)
        except json.JSONDecodeError as error:
            expected = f"{error.msg} at line {error.lineno} column {error.colno}"
        assert expected in message(load_docre, write(tmp_path / f"{place}.json", broken))


def test_a_truncated_line_is_named_or_counted(tmp_path):
    lines = [json.dumps(row) for row in documents(3)]
    path = write(tmp_path / "a.jsonl", "\n".join(lines)[:-25])
    error = message(load_docre, path)
    assert f"{path}, line 3: not valid JSON" in error and "strict=False" in error
    data = load_docre(path, strict=False)
    assert data.to_list() == documents(2)
    assert reading_report(data)["repairs"] == {"line that is not JSON": 1}


def test_files_that_are_no_text(tmp_path):
    (tmp_path / "latin.json").write_bytes('[{"title": "né"}]'.encode("latin-1"))
    assert "not a text file in UTF-8" in message(load_docre, tmp_path / "latin.json")
    (tmp_path / "fake.json.gz").write_bytes(b"[]")
    assert "broken gzip file" in message(load_docre, tmp_path / "fake.json.gz")
    (tmp_path / "cut.json.gz").write_bytes(gzip.compress(json.dumps(documents(9)).encode())[:-30])
    assert "broken gzip file" in message(load_docre, tmp_path / "cut.json.gz")


def test_damage_inside_a_gzip_file(tmp_path):
    packed = bytearray(gzip.compress(json.dumps(documents(30)).encode()))
    packed[len(packed) // 2 : len(packed) // 2 + 40] = b"\xff" * 40
    (tmp_path / "a.json.gz").write_bytes(packed)
    assert "broken gzip file" in message(load_docre, tmp_path / "a.json.gz")


def test_nonsense_is_named_by_file_entry_document_and_field(tmp_path):
    rows_ = documents(3)
    rows_[2]["vertexSet"][1][0]["pos"] = [4, 99]
    path = write(tmp_path / "a.json", rows_)
    error = message(load_docre, path)
    assert error.startswith(f"{path}, entry 2: document 'document 2': `vertexSet[1][0].pos` is [4, 99]")


def test_what_cannot_be_read_is_skipped_and_counted_if_asked(tmp_path):
    lost = copy.deepcopy(QUIL)
    lost["vertexSet"][0][0]["sent_id"] = 7
    path = write(tmp_path / "a.json", [lost, {"title": "no words", "sents": []}, {"P17": "country"}, TARN])
    data = load_docre(path, strict=False)
    assert data["title"] == ["Quil Harbour", "Tarn"]
    # Entities are known by their positions, so that one without mentions stays, and its facts with it.
    assert [[mention["name"] for mention in vertex] for vertex in data[0]["vertexSet"]] == [
        [],
        ["Ostania"],
        ["Mara Voss"],
    ]
    assert data[0]["labels"] == QUIL["labels"]
    assert reading_report(data)["repairs"] == {
        "mention of a missing sentence": 1,
        "entity without mentions": 1,
        "unreadable document": 2,
    }
    # What was written can be read by all that read strictly.
    assert len(list(read_documents(data))) == 2


@pytest.mark.parametrize(
    ("entry", "problem"), [({"title": "T", "sents": []}, "`sents` is"), ({"P17": "country"}, "neither `sents`")]
)
def test_nothing_but_unreadable_documents(tmp_path, entry, problem):
    path = write(tmp_path / "a.json", [entry, entry])
    error = message(load_docre, path, strict=False)
    assert "there is no document in it (2 x unreadable document)" in error
    assert f"{path}, entry 0: " in error and problem in error


def test_candidate_pairs_are_kept(tmp_path):
    row = {**copy.deepcopy(QUIL), "pairs": [[0, 1], [2, 0]]}
    data = load_docre(write(tmp_path / "a.json", [row, TARN]))
    assert data["pairs"] == [[[0, 1], [2, 0]], None]
    assert [document.pairs for document in read_documents(data)] == [((0, 1), (2, 0)), None]
    assert reading_report(data)["repairs"] == {}
    write_dataset_repo(data, tmp_path / "repo", name="Toy", license="mit")
    assert load_docre(tmp_path / "repo", "train")["pairs"] == data["pairs"]


def test_what_the_schema_has_no_column_for_is_counted_and_said(tmp_path, caplog):
    row = copy.deepcopy(QUIL)
    row["labels"][0]["score"] = 0.5
    data = load_docre(write(tmp_path / "a.json", [row]))
    assert data.column_names == list(FEATURES)
    assert reading_report(data)["repairs"] == {"score left out (no column for it)": 1}
    caplog.clear()
    ada = {"name": "Countess of Lovelace", "type": "WRITER", "mentions": [{"start": 0, "end": 3, "type": "PER"}]}
    bob = {"type": "PER", "mentions": [{"start": 8, "end": 11}]}
    named = to_dataset([Document.from_text("Ada met Bob.", [ada, bob])])
    counts = {"entity's own name or type left out (no column for it)": 1}
    assert reading_report(named)["repairs"] == counts
    assert "documents: repaired or noticed 1 x entity's own name or type left out" in caplog.text


# ---------------------------------------------------------------------------------------------------------------------
# Documents to datasets, conversion
# ---------------------------------------------------------------------------------------------------------------------


def test_to_dataset_and_back():
    read = [Document.from_docred(dirty()), Document.from_docred(unlabelled(1)[0])]
    data = to_dataset(iter(read))
    assert data.features == FEATURES
    assert list(read_documents(data)) == read
    assert reading_report(data)["repairs"] == {"duplicate mention": 1, "duplicate label": 1}
    with pytest.raises(DocumentError, match="document 0: a dict, not a Document"):
        to_dataset([QUIL])
    with pytest.raises(DocumentError, match="there is no document in it"):
        to_dataset([])


def test_convert_to_a_repository_and_back(tmp_path):
    raw = tmp_path / "raw"
    write(raw / "train_annotated.json", [dirty(), TARN])
    write(raw / "test.json", unlabelled(3))
    write(raw / "rel_info.json", {"P17": "country"})
    reports = convert(raw, tmp_path / "repo", license="mit", name="Toy", origin="a drawer")
    assert {split: report["documents"] for split, report in reports.items()} == {"train": 2, "test": 3}
    assert reports["train"]["repairs"] == {"duplicate mention": 1, "duplicate label": 1}
    assert json.loads((tmp_path / "repo" / "rel_info.json").read_text()) == {"P17": "country"}
    header = yaml.safe_load((tmp_path / "repo" / "README.md").read_text().split("---\n")[1])
    assert (header["pretty_name"], header["license"]) == ("Toy", "mit")

    convert(tmp_path / "repo", tmp_path / "back" / "test.json", split="test")
    assert json.loads((tmp_path / "back" / "test.json").read_text()) == list(map(plain, unlabelled(3)))
    convert(tmp_path / "repo", tmp_path / "train.json.gz", split="train")
    with gzip.open(tmp_path / "train.json.gz", "rt", encoding="utf-8") as stream:
        assert [row["title"] for row in json.load(stream)] == ["Quil Harbour", "Tarn"]
    with pytest.raises(ValueError, match=r"has the splits train, test, but .* holds one: pass `split`"):
        convert(tmp_path / "repo", tmp_path / "all.json")
    with pytest.raises(FileExistsError):
        convert(raw, tmp_path / "repo")


def test_convert_to_documents_and_back(tmp_path):
    source = write(tmp_path / "dev.json", [QUIL, unlabelled(1)[0]])
    assert convert(source, tmp_path / "new" / "dev.jsonl")["validation"] == {
        "documents": 2, "unlabelled": 1, "facts": 2, "repairs": {}
    }  # fmt: skip
    path = tmp_path / "new" / "dev.jsonl"
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert lines == [Document.from_docred(row).to_dict() for row in (QUIL, unlabelled(1)[0])]
    assert list(convert(path, tmp_path / "again.json", split="train")) == ["train"]
    first, second = json.loads((tmp_path / "again.json").read_text(encoding="utf-8"))
    assert first["vertexSet"] == QUIL["vertexSet"] and first["labels"] == QUIL["labels"]
    assert "labels" not in second


def test_from_file_to_file_documents_keep_their_own_text(tmp_path):
    mara = {"id": ["Q7", "D3"], "mentions": [{"start": 0, "end": 4}]}
    row = {"title": "T", "text": "Mara  left;\nshe's gone.", "entities": [mara]}
    source = write(tmp_path / "a.jsonl", json.dumps(row))
    convert(source, tmp_path / "b.jsonl.gz")
    assert list(iter_documents(tmp_path / "b.jsonl.gz")) == [Document.from_dict(row)]
    # Ids go into files of either form; tables have no column for them, and that is counted.
    convert(source, tmp_path / "c.json")
    assert next(iter_documents(tmp_path / "c.json")).entities[0].ids == ("Q7", "D3")
    named = {**mara, "name": "Mara Voss"}, {"id": "Q8", "mentions": []}
    source_of_names = write(tmp_path / "named.jsonl", json.dumps({**row, "entities": named}))
    assert convert(source_of_names, tmp_path / "named.json")["train"]["repairs"] == {
        "entity without mentions": 1,
        "entity's own name or type left out (DocRED's form has them in mentions)": 1,
        "entity's ids left out (DocRED's form has them in mentions)": 1,
    }
    with pytest.raises(ValueError, match="name one, such as documents"):
        convert(source, "-")
    report = convert(source, tmp_path / "repository", license="mit")
    assert report["train"]["repairs"] == {"entity's ids left out (no column for them)": 1}


def test_convert_skips_and_counts_what_is_wrong(tmp_path):
    lines = [json.dumps(QUIL), '{"text": "cut', json.dumps({**QUIL, "labels": QUIL["labels"] * 2})]
    source = write(tmp_path / "a.jsonl", "\n".join(lines))
    with pytest.raises(DataFileError, match="line 2"):
        convert(source, tmp_path / "b.json")
    assert not (tmp_path / "b.json").exists()
    report = convert(source, tmp_path / "b.json", strict=False)["train"]
    assert report["repairs"] == {"line that is not JSON": 1, "duplicate label": 2}
    assert report["documents"] == 2
    # A file may be converted in its place.
    assert convert(tmp_path / "b.json", tmp_path / "b.json")["train"]["documents"] == 2
    assert len(json.loads((tmp_path / "b.json").read_text(encoding="utf-8"))) == 2


def test_a_failed_conversion_leaves_the_old_file(tmp_path):
    output = write(tmp_path / "out.json", "precious")
    with pytest.raises(DataFileError):
        convert(write(tmp_path / "dev.json", "[{"), output)
    assert output.read_text() == "precious"
    convert(write(tmp_path / "dev.json", [QUIL]), output)
    assert json.loads(output.read_text(encoding="utf-8")) == [plain(QUIL)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dev.json", "out.json"]


def test_a_broken_table_of_names(tmp_path):
    write(tmp_path / "dev.json", documents())
    write(tmp_path / "rel_info.json", ["P17"])
    assert "not a table of names" in message(convert, tmp_path, tmp_path / "repo")
    write(tmp_path / "rel_info.json", "{")
    assert "not valid JSON" in message(convert, tmp_path, tmp_path / "repo")
    assert not (tmp_path / "repo").exists()


# ---------------------------------------------------------------------------------------------------------------------
# The trainer, and the package itself
# ---------------------------------------------------------------------------------------------------------------------


def test_the_trainer_takes_such_a_dataset(tmp_path, tiny_bert_dir):
    data = load_docre(write(tmp_path / "train.json", documents(4)))
    test = load_docre(write(tmp_path / "test.json", unlabelled(2)))
    model = DocREForRelationExtraction.from_encoder(str(tiny_bert_dir), method="atlop", relations=["P17", "P19"])
    processor = DocREProcessor.from_encoder(str(tiny_bert_dir), config=model.config)
    arguments = DocRETrainingArguments(
        output_dir=str(tmp_path / "run"),
        max_steps=1,
        per_device_train_batch_size=2,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
    )
    trainer = DocRETrainer(
        model=model, args=arguments, train_dataset=data, eval_dataset=data, processing_class=processor
    )
    trainer.train()
    assert 0.0 <= trainer.evaluate()["eval_f1"] <= 1.0
    assert [document.relations for document in as_documents(test, "dataset")] == [None, None]
    with pytest.raises(ValueError, match="has no labels"):
        DocRETrainer(model=model, args=arguments, train_dataset=test, processing_class=processor)


@pytest.mark.parametrize("package", ["datasets", "pyarrow"])
@pytest.mark.parametrize("command", ["stats", "convert", "prepare"])
def test_without_the_extra_a_command_says_what_to_install(tmp_path, package, command):
    (tmp_path / "run.py").write_text(
        f"import sys; sys.modules[{package!r}] = None\n"
        "from modeling_docre.cli import main\n"
        "sys.exit(main(['data', *sys.argv[1:]]))"
    )
    (tmp_path / "mine.jsonl").write_text('{"text": "Orla wrote."}\n')
    arguments = {"stats": [], "convert": ["hub"], "prepare": ["hub", "--license", "mit"]}[command]
    ran = run_python("run.py", command, "mine.jsonl", *arguments, cwd=tmp_path)
    assert ran.returncode == 1
    assert ran.stderr.strip().endswith("needs `datasets`: pip install 'modeling-docre[data]'"), ran.stderr


# ---------------------------------------------------------------------------------------------------------------------
# Published data
# ---------------------------------------------------------------------------------------------------------------------


def test_re_docred(data_dir, tmp_path):
    data = load_docre(data_dir / "re-docred", "validation")
    raw = json.loads((data_dir / "re-docred" / "dev_revised.json").read_text(encoding="utf-8"))
    assert data.num_rows == 500
    assert sum(map(len, data["labels"])) == 17_284
    assert data["sents"] == [row["sents"] for row in raw]
    assert reading_report(data)["repairs"] == {"duplicate mention": 35, "two entities on one span": 1}
    repo = write_dataset_repo({"validation": data}, tmp_path / "repo", name="Re-DocRED", license="mit")
    again = load_dataset(str(repo), split="validation")
    assert again.features == FEATURES
    assert list(read_documents(again)) == [Document.from_docred(row) for row in raw]


def test_docred_without_labels(data_dir, tmp_path):
    data = load_docre(data_dir / "docred")
    assert data.num_rows == {"test": 1000}
    report = reading_report(data["test"])
    assert (report["unlabelled"], report["facts"]) == (1000, 0)
    assert report["repairs"] == {"duplicate mention": 264, "two entities on one span": 8}
    convert(data_dir / "docred", tmp_path / "repo")
    names = json.loads((tmp_path / "repo" / "rel_info.json").read_text(encoding="utf-8"))
    assert len(names) == 96 and names["P17"] == "country"
    back = load_dataset(str(tmp_path / "repo"), split="test")
    assert back["labels"] == [None] * 1000 and back["sents"] == data["test"]["sents"]


def test_tables_of_published_data_are_no_documents(data_dir):
    assert "a table of numbers" in message(load_docre, data_dir / "docred" / "rel2id.json")
