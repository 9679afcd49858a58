from __future__ import annotations

import copy
import doctest
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from modeling_docre.metrics.docred.docred import Docred
from modeling_docre.metrics.docred.scoring import UnlabelledError, score

evaluate = pytest.importorskip("evaluate")

FOLDER = Path(__file__).resolve().parents[1] / "metrics" / "docred"

HARBOUR = {
    "title": "Harbour",
    "sents": [["Sorrel", "Bay"]],
    "vertexSet": [
        [{"name": "Sorrel Bay", "sent_id": 0, "pos": [0, 2], "type": "LOC"}, {"name": "the Bay", "sent_id": 2}],
        [{"name": "Vellmark", "sent_id": 0}],
        [{"name": "Ines Tarrow"}],
    ],
    "labels": [{"h": 0, "t": 1, "r": "P17", "evidence": [0]}, {"h": 2, "t": 1, "r": "P27"}],
}
EMPTY = {"title": "Empty", "vertexSet": [], "labels": []}
ROWS = [
    {"title": "Harbour", "h_idx": 0, "t_idx": 1, "r": "P17", "evidence": [0, 1], "score": 0.9},
    {"title": "Harbour", "h_idx": 0, "t_idx": 1, "r": "P17", "evidence": [0]},
    {"title": "Harbour", "h_idx": 2, "t_idx": 1, "r": "P26", "evidence": None},
    {"title": "Nowhere", "h_idx": 0, "t_idx": 1, "r": "P17"},
]


@pytest.fixture(scope="module")
def metric():
    return evaluate.load(str(FOLDER))


def test_loaded_module_equals_score(metric):
    train = [HARBOUR]
    figures = metric.compute(
        predictions=[ROWS, []], references=[HARBOUR, EMPTY], train_annotated=train, train_distant=[]
    )
    assert figures == score(ROWS, [HARBOUR, EMPTY], train_annotated=train, train_distant=[])
    assert figures["precision"] == 1 / 3
    assert figures["evidence_precision"] == 1 / 2
    assert [figures[f"evidence_sentence_{name}"] for name in ("precision", "recall")] == [1 / 2, 1.0]
    assert figures["ign_f1"] == 0.0
    assert metric.name == "docred"


def test_class_without_loading():
    inputs = copy.deepcopy((ROWS, HARBOUR))
    assert Docred().compute(predictions=[ROWS], references=[HARBOUR]) == score(ROWS, [HARBOUR])
    assert inputs == (ROWS, HARBOUR)


def test_add_and_add_batch_fill_missing_keys(metric):
    expected = score(ROWS, [HARBOUR, EMPTY])
    metric.add(prediction=[], reference=EMPTY)
    metric.add(prediction=ROWS, reference=HARBOUR)
    assert metric.compute() == expected
    metric.add(predictions=ROWS, references=HARBOUR)
    metric.add_batch(predictions=[[]], references=[EMPTY])
    assert metric.compute() == expected


def test_rows_of_a_whole_file_in_one_entry(metric):
    assert metric.compute(predictions=[ROWS, []], references=[EMPTY, HARBOUR]) == score(ROWS, [HARBOUR, EMPTY])


def test_nothing_at_all_scores_zero(metric):
    assert set(metric.compute(predictions=[], references=[]).values()) == {0.0}


def test_golden_predictions(metric, golden_dir):
    import gzip

    folder = golden_dir / "evaluation"
    gold = json.loads(gzip.decompress((folder / "gold.json.gz").read_bytes()))["dev"]
    rows = json.loads(gzip.decompress((folder / "pred_main.json.gz").read_bytes()))
    entries = {document["title"]: [] for document in gold}
    for row in rows:
        entries[row["title"]].append(row)
    figures = metric.compute(predictions=list(entries.values()), references=gold)
    assert figures["f1"] == pytest.approx(
        json.loads((folder / "scores.json").read_text())["main"]["docred_official"]["RE_F1"], abs=1e-12, rel=0
    )
    assert figures == score(rows, gold)


def test_hub_dataset_columns_go_in(metric):
    datasets = pytest.importorskip("datasets")
    table = datasets.Dataset.from_list([{key: HARBOUR[key] for key in ("title", "vertexSet", "labels")}])
    assert metric.compute(predictions=[ROWS], references=table) == score(ROWS, [HARBOUR])


def refused(metric, message, **inputs):
    with pytest.raises(ValueError, match=message):
        metric.compute(**inputs)
    assert metric.compute(predictions=[ROWS], references=[HARBOUR])["precision"] == 1 / 3, "usable afterwards"


def test_refusals_leave_the_metric_usable(metric):
    unlabelled = {key: HARBOUR[key] for key in ("title", "vertexSet")}
    refused(metric, "has no labels.*CodaLab", predictions=[ROWS], references=[unlabelled])
    refused(metric, "has no labels", predictions=[ROWS], references=[HARBOUR | {"labels": None}])
    refused(
        metric,
        "train_annotated: the data has no labels",
        predictions=[ROWS],
        references=[HARBOUR],
        train_annotated=[unlabelled],
    )
    refused(metric, r"predictions\[0\]\[0\]: 'h_idx' is missing", predictions=[[{"title": "T"}]], references=[HARBOUR])
    refused(metric, r"predictions\[0\]: expected the list of rows", predictions=ROWS, references=[HARBOUR])
    refused(metric, r"predictions=\[rows\]", predictions=[ROWS], references=[HARBOUR, EMPTY])
    refused(metric, r"references\[0\]: expected a document", predictions=[ROWS], references=[[HARBOUR]])
    huge = {"title": "Harbour", "h_idx": 10**30, "t_idx": 0, "r": "P17"}
    refused(metric, r"predictions\[0\]\[0\]: 'h_idx' is 10+, which is out", predictions=[[huge]], references=[HARBOUR])
    broken = HARBOUR | {"title": "\ud800"}
    refused(metric, r"references\[0\].*: 'title' is .*surrogate", predictions=[ROWS], references=[broken])
    for key, value in (("sent_id", 10**30), ("sent_id", "0"), ("name", 5), ("name", "\ud800")):
        vertices = [[{"name": "a", "sent_id": 0, key: value}]] * 4
        wrong = HARBOUR | {"vertexSet": vertices, "labels": []}
        refused(metric, rf"vertexSet\[0\]: '{key}'", predictions=[ROWS], references=[wrong])
    refused(metric, "must be given together", predictions=[ROWS], references=None)
    with pytest.raises(UnlabelledError):
        Docred().add(prediction=ROWS, reference=unlabelled)


def test_folder_works_alone_after_upload(tmp_path):
    """A copy of the folder, in a process whose path holds neither the repository nor the package."""
    shutil.copytree(FOLDER, tmp_path / "docred", ignore=shutil.ignore_patterns("__pycache__"))
    code = (
        "import json, sys, evaluate\n"
        "sys.modules['modeling_docre'] = None\n"
        "inputs = json.load(sys.stdin)\n"
        "print(json.dumps(evaluate.load('docred').compute(**inputs)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        input=json.dumps(
            {"predictions": [ROWS], "references": [HARBOUR], "train_annotated": [HARBOUR], "few_facts": 2}
        ),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == score(ROWS, [HARBOUR], train_annotated=[HARBOUR], few_facts=2)


def test_the_card_is_in_the_order_of_the_hub():
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    prose = re.sub(r"^```.*?^```$", "", card, flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ [A-Z].*$", prose, re.MULTILINE)
    assert headings == [
        "# Metric Card for DocRED",
        "## Metric Description",
        "## How to Use",
        "### Inputs",
        "### Output Values",
        "#### Values from Popular Papers",
        "### Examples",
        "## Limitations and Bias",
        "## Citation",
        "## Further References",
    ]
    import yaml

    header = yaml.safe_load(card.split("---\n")[1])
    assert header["sdk"] == "gradio" and (FOLDER / header["app_file"]).is_file()
    assert {"evaluate", "metric"} <= set(header["tags"]) and header["title"] and header["description"]
    needed = {line.split(">")[0] for line in (FOLDER / "requirements.txt").read_text().split()}
    assert {"evaluate", "datasets"} <= needed


def test_metric_card_examples_run(monkeypatch):
    monkeypatch.chdir(FOLDER.parents[1])
    results = doctest.testfile(str(FOLDER / "README.md"), module_relative=False)
    assert results.attempted >= 10
    assert results.failed == 0


def test_metric_card_lists_every_key(metric):
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    figures = metric.compute(
        predictions=[ROWS],
        references=[HARBOUR | {"pairs": []}],
        train_annotated=[HARBOUR],
        train_distant=[HARBOUR],
        few_facts=2,
    )
    for key in figures:
        name = key.replace("P26", "P17").replace("P27", "P17")
        pattern = re.sub("precision|recall|f1", "*", name)
        assert f"`{name}`" in card or f"`{pattern}`" in card, key


def test_candidate_pairs_go_in(metric):
    listed = HARBOUR | {"pairs": [[0, 1], [1, 0]]}
    figures = metric.compute(predictions=[ROWS, []], references=[listed, EMPTY])
    assert figures == score(ROWS, [listed, EMPTY])
    assert figures["precision_candidates"] == 1 / 2, "the title that is unknown has no list"
    metric.add(prediction=ROWS, reference=HARBOUR | {"pairs": []})
    assert metric.compute()["recall_candidates"] == 0.0, "an empty list is none that is missing"
    refused(metric, "'pairs' must be a list", predictions=[ROWS], references=[HARBOUR | {"pairs": [0]}])


def test_space_scores_uploaded_files(tmp_path):
    pytest.importorskip("gradio")
    from modeling_docre.metrics.docred import app

    (tmp_path / "result.json").write_text(json.dumps(ROWS))
    (tmp_path / "gold.json").write_text(json.dumps([HARBOUR, EMPTY]))
    (tmp_path / "broken.json").write_text("[{")
    (tmp_path / "dict.json").write_text("{}")
    result, gold = str(tmp_path / "result.json"), str(tmp_path / "gold.json")
    assert app.score_files(result, gold) == score(ROWS, [HARBOUR, EMPTY])
    assert app.score_files(result, gold, gold)["ign_f1"] == 0.0
    for arguments, message in (
        ((result, None), "Upload a submission"),
        ((result, str(tmp_path / "broken.json")), "Expecting"),
        ((str(tmp_path / "dict.json"), gold), "must hold a JSON list"),
    ):
        with pytest.raises(app.gr.Error, match=message):
            app.score_files(*arguments)


@pytest.mark.slow
def test_the_space_starts_where_it_was_cloned_to(tmp_path):
    pytest.importorskip("gradio")
    from gradio_client import Client, handle_file

    clone = tmp_path / "docred"
    shutil.copytree(FOLDER, clone, ignore=shutil.ignore_patterns("__pycache__"))
    for name, content in (("result", ROWS), ("gold", [HARBOUR, EMPTY])):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "GRADIO_ANALYTICS_ENABLED": "False"}
    space = subprocess.Popen(
        [sys.executable, "-P", "app.py"],
        cwd=clone,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        said = ""
        while not (url := re.search(r"http://\S+", said)):
            line = space.stdout.readline()
            assert line, said
            said += line
        files = [handle_file(str(tmp_path / f"{name}.json")) for name in ("result", "gold", "gold")]
        figures = Client(url[0], verbose=False).predict(*files, api_name="/score_files")
    finally:
        space.terminate()
        space.wait(60)
    assert figures == score(ROWS, [HARBOUR, EMPTY], train_annotated=[HARBOUR, EMPTY])
