"""The scripts of `examples/`, each in a process of its own. Those for bulk are tested with the bulk function."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from forked import run_python

from modeling_docre import DocREConfig
from modeling_docre.data_files import iter_documents
from modeling_docre.metrics.docred.scoring import score

SCRIPTS = sorted((Path(__file__).resolve().parents[1] / "examples").glob("*.py"))


@pytest.fixture
def run(repository, tmp_path):
    """Runs an example in a process and an empty folder of its own, where what it writes stays."""

    def run(name: str, *arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
        ran = run_python(repository / "examples" / name, *arguments, cwd=tmp_path)
        assert ran.returncode == code, ran.stderr
        return ran

    return run


@pytest.fixture
def violins(repository) -> dict[str, Path]:
    return {name: repository / "examples" / "documents" / f"violins-{name}.jsonl" for name in ("train", "dev")}


def test_the_list_of_examples_is_complete(repository):
    listed = (repository / "examples" / "README.md").read_text(encoding="utf-8")
    for path in [*SCRIPTS, *(repository / "examples" / "documents").iterdir()]:
        assert f"]({path.relative_to(repository / 'examples').as_posix()})" in listed


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_its_first_lines_say_how_to_run_it(script):
    assert f"python examples/{script.name} " in script.read_text(encoding="utf-8").split('"""')[1]


def test_predict_quotes_the_evidence(run, repository, tiny_checkpoint, tmp_path):
    settings = DocREConfig.from_pretrained(tiny_checkpoint)
    settings.evidence_threshold = 0.01
    model = tmp_path / "model"
    model.mkdir()
    for path in tiny_checkpoint.iterdir():
        (model / path.name).write_bytes(path.read_bytes())
    settings.save_pretrained(model)
    harbour = repository / "examples" / "documents" / "harbour.txt"
    (document,) = iter_documents(harbour)

    answer = json.loads(run("predict.py", harbour, "--model", model, "--json", "--top-k", 3).stdout)
    assert answer["text"] == document.text
    assert len(answer["relations"]) == 3

    shown = run("predict.py", harbour, "--model", model, "--top-k", 3).stdout.splitlines()
    expected = ["harbour.txt"]
    for relation in answer["relations"]:
        names = " | ".join(relation[key] for key in ("head_name", "label", "tail_name"))
        expected.append(f"  {relation['score']:.2f}  {names}")
        for number in relation["evidence"]:
            start, end = document.sentence_spans[number]
            expected.append(f"        [{number}] {document.text[start:end]}")
    assert shown == expected
    assert any(line.startswith("        [") for line in shown)


def test_predict_names_a_file_that_is_not_there(run, tiny_checkpoint):
    ran = run("predict.py", "nowhere.jsonl", "--model", tiny_checkpoint, code=1)
    assert "nowhere.jsonl: there is no such file" in ran.stderr.splitlines()[-1]


def test_train_then_evaluate_what_it_saved(run, violins, tiny_bert_dir, tmp_path):
    names = tmp_path / "names.json"
    names.write_text(json.dumps({"made_by": "made by"}), encoding="utf-8")
    ran = run(
        "train.py", violins["train"], violins["dev"], "--encoder", tiny_bert_dir, "--relation-names", names,
        "--output", "mine", "--epochs", 2,
    )  # fmt: skip
    trained = json.loads(ran.stdout[ran.stdout.rindex("{\n") :])
    config = DocREConfig.from_pretrained(tmp_path / "mine")
    assert config.relations == ["made_by", "pupil_of", "works_in"]
    assert config.relation_names == {"made_by": "made by", "pupil_of": "pupil_of", "works_in": "works_in"}
    assert config.threshold is not None

    arguments = (violins["dev"], "--model", "mine", "--train-annotated", violins["train"])
    by_function, by_module = (run("evaluate_model.py", *arguments, *more).stdout for more in ([], ["--module"]))
    assert by_module == by_function
    figures = {name: float(value) for name, value in map(str.split, by_function.splitlines())}
    for name in ("f1", "precision", "recall", "ign_f1", "evidence_sentence_f1"):
        assert figures[name] == pytest.approx(trained[f"eval_{name}"], abs=6e-5)


def test_evaluate_refuses_documents_without_labels(run, repository, tiny_checkpoint):
    ran = run(
        "evaluate_model.py", repository / "examples" / "documents" / "harbour.txt", "--model", tiny_checkpoint, code=1
    )
    assert "documents without labels" in ran.stderr


def test_draw_relations_shows_every_name_and_escapes_it(run, tiny_checkpoint, tmp_path):
    source = tmp_path / "source.txt"
    source.write_text("[A & <b>B</b>](:PER) was born in [London](:LOC).", encoding="utf-8")
    run("draw_relations.py", source, "out.svg", "--model", tiny_checkpoint)
    picture = (tmp_path / "out.svg").read_text(encoding="utf-8")
    assert picture.startswith("<svg ")
    assert "A &amp; &lt;b&gt;B&lt;/b&gt;" in picture
    assert "<b>" not in picture
    assert "country" in picture or "located in" in picture


def test_the_violins_are_whole(violins):
    for name, documents in ((name, list(iter_documents(path))) for name, path in violins.items()):
        assert {"train": 12, "dev": 4}[name] == len(documents)
        for document in documents:
            assert document.relations
            assert not document.repairs
            assert all(relation.evidence for relation in document.relations)
    dev, train = ([document.to_docred() for document in iter_documents(violins[name])] for name in ("dev", "train"))
    gold = [
        {"title": document["title"], "h_idx": label["h"], "t_idx": label["t"], "r": label["r"]}
        for document in dev
        for label in document["labels"]
    ]
    # No fact of the one is a fact of the other: Ign F1 counts them all.
    assert score(gold, dev, train_annotated=train)["ign_f1"] == 1.0
