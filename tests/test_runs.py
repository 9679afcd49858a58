"""Runs that are compared: files and folders, which are seeds of one system, and the commands that read them."""

from __future__ import annotations

import csv
import io
import json
import re

import pytest
import yaml
from training_helpers import fictional, trainer_for

from modeling_docre import Document, cli
from modeling_docre.comparison import compare
from modeling_docre.comparison_tables import to_markdown
from modeling_docre.data_files import write_documents
from modeling_docre.metrics.docred.scoring import score
from modeling_docre.output_files import DataFileError
from modeling_docre.prediction_files import EVALUATION, read_evaluation, read_prediction_rows
from modeling_docre.recipes import train_from_recipe
from modeling_docre.runs import group_runs, parse_run, read_log, read_systems

GOLD = [fictional(number, f"Story {number}") for number in range(8)]


def rows_of(documents: list[dict], leave: int = 0) -> list[dict]:
    rows = [
        {"title": document["title"], "h_idx": label["h"], "t_idx": label["t"], "r": label["r"], "evidence": []}
        for document in documents
        for label in document["labels"]
    ]
    return rows[leave:]


@pytest.fixture
def files(tmp_path):
    """Gold, and predictions in every form."""
    (tmp_path / "gold.json").write_text(json.dumps(GOLD))
    for name, leave in (("all", 0), ("most", 3), ("some", 8), ("few", 12)):
        (tmp_path / f"{name}.json").write_text(json.dumps(rows_of(GOLD, leave)))
    return tmp_path


def folder(place, name, seed=None, rows=(), documents=GOLD, **settings):
    """What a training leaves behind, as far as it is read."""
    made = place / name
    (made / EVALUATION).mkdir(parents=True)
    training = {"learning_rate": 1e-3, **({} if seed is None else {"seed": seed}), **settings}
    recipe = {"output_dir": str(made), "model": {"method": "atlop"}, "data": {"train": "a.json"}, "training": training}
    (made / "recipe.yaml").write_text(yaml.safe_dump({**recipe, "card": {"model_name": name}}))
    (made / EVALUATION / "predictions.json").write_text(json.dumps(list(rows)))
    (made / EVALUATION / "documents.json").write_text(json.dumps([document["title"] for document in documents]))
    return str(made)


def grouped(*runs):
    return {name: [run.path.name for run in group] for name, group in group_runs([*map(parse_run, runs)]).items()}


def test_folders_whose_recipes_differ_in_the_seed_alone_are_one_system(tmp_path):
    same = [folder(tmp_path, f"atlop-1e-3-{seed}", seed) for seed in (13, 14)]
    other = folder(tmp_path, "atlop-2e-3-13", 13, learning_rate=2e-3)
    assert grouped(*same, other) == {
        "atlop-1e-3-1": ["atlop-1e-3-13", "atlop-1e-3-14"], "atlop-2e-3-13": ["atlop-2e-3-13"],
    }  # fmt: skip
    default = folder(tmp_path, "atlop-1e-3", None)
    assert grouped(other, default, *same)["atlop-1e-3"] == ["atlop-1e-3", "atlop-1e-3-13", "atlop-1e-3-14"]
    # A name joins what recipes keep apart.
    assert grouped(f"A={same[0]}", f"A={other}", same[1]) == {
        "A": ["atlop-1e-3-13", "atlop-2e-3-13"], "atlop-1e-3-14": ["atlop-1e-3-14"],
    }  # fmt: skip


def test_one_recipe_with_one_seed_is_one_run(tmp_path):
    first, again = folder(tmp_path, "a", 42), folder(tmp_path, "b")  # 42 is what a recipe without a seed has
    with pytest.raises(DataFileError, match=r"a and .*b hold one recipe with one seed, 42"):
        grouped(first, again)
    with pytest.raises(DataFileError, match="is there twice"):
        grouped(first, f"B={first}")


def test_files_are_systems_of_their_own(files, tmp_path):
    (tmp_path / "a=b.json").write_text("[]")
    assert grouped(str(files / "all.json"), str(files / "most.json"), f"few={files / 'few.json'}") == {
        "all": ["all.json"], "most": ["most.json"], "few": ["few.json"],
    }  # fmt: skip
    assert grouped(str(tmp_path / "a=b.json")) == {"a=b": ["a=b.json"]}
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "all.json").write_text("[]")
    with pytest.raises(DataFileError, match=r"would both be called 'all': name each, as in A="):
        grouped(str(files / "all.json"), str(tmp_path / "other" / "all.json"))
    with pytest.raises(DataFileError, match=r"no such file or folder"):
        parse_run("A=nowhere.json")
    with pytest.raises(DataFileError, match=r"no name stands before"):
        parse_run(f"={files / 'all.json'}")


def test_predictions_in_every_form_are_the_same_rows(files, tmp_path):
    answers = [
        {
            "title": document["title"],
            "text": "",
            "relations": [
                {"head": label["h"], "tail": label["t"], "relation": label["r"], "evidence": [], "score": 0.5}
                for label in document["labels"]
            ],
        }
        for document in GOLD
    ]
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps(answer) + "\n" for answer in answers))
    read = read_prediction_rows(tmp_path / "answers.jsonl")
    assert read == [{**row, "score": 0.5} for row in rows_of(GOLD)]
    assert read_prediction_rows(files / "all.json") == rows_of(GOLD)
    with pytest.raises(DataFileError, match=r"gold\.json, entry 0: neither a prediction nor an answer.*as references"):
        read_prediction_rows(files / "gold.json")
    write_documents(map(Document.from_docred, GOLD), tmp_path / "gold.jsonl")
    with pytest.raises(DataFileError, match=r"gold\.jsonl, entry 0: neither a prediction nor an answer"):
        read_prediction_rows(tmp_path / "gold.jsonl")


def test_runs_of_other_documents_are_refused(files, tmp_path):
    part = folder(tmp_path, "part", rows=rows_of(GOLD[:5]), documents=GOLD[:5])
    with pytest.raises(DataFileError, match=r"part was evaluated on other documents: 3 of the 8 references were not"):
        read_systems([part], GOLD)
    with pytest.raises(DataFileError, match=r"4 of its 5 are not among the references"):
        read_systems([part], GOLD[4:5])
    with pytest.raises(DataFileError, match=r"all\.json holds predictions for other documents: 3 of its 8 titles"):
        read_systems([str(files / "all.json")], GOLD[3:])
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataFileError, match=r"empty: no predictions of its evaluation .*docre extract GOLD"):
        read_systems([str(empty)], GOLD)
    (empty / "recipe.yaml").write_text("- 1\n")
    with pytest.raises(DataFileError, match=r"recipe\.yaml: not a recipe"):
        read_systems([str(empty)], GOLD)


# What a training leaves behind


@pytest.fixture
def recipe(tmp_path, tiny_bert_dir):
    (tmp_path / "stories.json").write_text(json.dumps(GOLD))
    path = tmp_path / "recipe.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "output_dir": str(tmp_path / "run"),
                "model": {"encoder": str(tiny_bert_dir), "emb_size": 16, "block_size": 4, "threshold": 0.2},
                "data": {"train": str(tmp_path / "stories.json"), "eval": str(tmp_path / "stories.json")},
                "training": {
                    "num_train_epochs": 3, "head_learning_rate": 3e-2, "use_cpu": True, "disable_tqdm": True,
                    "save_strategy": "no", "eval_strategy": "epoch", "logging_steps": 1,
                },
            }
        )
    )  # fmt: skip
    return path


def test_a_training_leaves_what_it_predicted_and_seeds_are_compared(recipe, tmp_path, capsys):
    metrics = [train_from_recipe(recipe, [f"--seed={seed}", f"--output_dir={tmp_path}/r-{seed}"]) for seed in (3, 4)]
    for seed, scores in zip((3, 4), metrics, strict=True):
        rows, titles = read_evaluation(tmp_path / f"r-{seed}")
        assert titles == [document["title"] for document in GOLD]
        figures = score(rows, GOLD)
        assert figures["f1"] == pytest.approx(scores["eval_f1"]) and figures["recall"] > 0
        assert all(0.2 <= row["score"] <= 1 for row in rows)
    train_from_recipe(recipe, ["--seed=3", f"--output_dir={tmp_path}/other", "--model.method=pemscl"])
    gold = tmp_path / "stories.json"
    command = ["compare", str(tmp_path / "r-3"), str(tmp_path / "r-4"), str(tmp_path / "other"), "--samples", "50"]
    capsys.readouterr()
    assert cli.main([*command, "--references", str(gold), "--json"]) == 0
    ran = capsys.readouterr()
    said = json.loads(ran.out)
    assert [(system["name"], system["runs"]) for system in said["systems"]] == [("r", 2), ("other", 1)]
    mean = (metrics[0]["eval_f1"] + metrics[1]["eval_f1"]) / 2
    assert said["systems"][0]["mean"]["f1"] == pytest.approx(mean)
    assert "r: 2 runs" in ran.err and "other: 1 run\n" in ran.err


def test_predictions_of_an_earlier_model_do_not_stay(recipe, tmp_path):
    train_from_recipe(recipe, ["--num_train_epochs=1"])
    assert (tmp_path / "run" / EVALUATION / "predictions.json").is_file()
    train_from_recipe(recipe, ["--num_train_epochs=1", "--eval_strategy=no", "--data.eval=null"])
    assert not (tmp_path / "run" / EVALUATION).exists()


def test_predictions_stay_on_this_machine(recipe, tmp_path, monkeypatch):
    """What goes to the Hub at the end of a training that is pushed."""
    from fnmatch import fnmatch

    from modeling_docre import recipes

    sent = {}
    monkeypatch.setattr(recipes.HfApi, "upload_folder", lambda self, **given: sent.update(given))
    trainer = type("T", (), {})()
    trainer._finish_current_push, trainer.hub_model_id = lambda: None, "me/it"
    trainer.args = type("A", (), {"hub_token": None, "hub_revision": None})()
    recipes._upload(trainer, str(tmp_path))
    assert any(fnmatch(f"{EVALUATION}/predictions.json", pattern) for pattern in sent["ignore_patterns"])


def test_a_trainer_saves_what_it_predicted_last(tiny_bert_dir, tmp_path, monkeypatch):
    stories = {"dev": GOLD[:3], "news": GOLD[3:6] + GOLD[3:4]}
    trainer = trainer_for(
        tiny_bert_dir, tmp_path / "run", trainer={"eval_dataset": stories}, model_settings={"threshold": 0.05}
    )
    with pytest.raises(ValueError, match=r"no evaluation 'eval' \(there was: none\)"):
        trainer.save_predictions()
    scores = trainer.evaluate()
    said = []
    monkeypatch.setattr("modeling_docre.training_record.logger.warning", said.append)
    trainer.save_predictions("eval_dev")
    rows, titles = read_evaluation(tmp_path / "run")
    assert titles == ["Story 0", "Story 1", "Story 2"] and not said
    assert rows and score(rows, GOLD[:3])["f1"] == pytest.approx(scores["eval_dev_f1"])
    # Other documents under that name are no evaluation of this set.
    trainer.predict(GOLD[6:], metric_key_prefix="eval_dev")
    trainer.save_predictions("eval_dev")
    assert read_evaluation(tmp_path / "run") == (rows, titles)
    trainer.save_predictions("eval_news")
    assert len(said) == 1 and said[0].startswith("1 of 4 evaluation documents have the title of another")


def test_logs_of_trainings(recipe, tmp_path):
    train_from_recipe(recipe, ["--save_strategy=epoch"])
    log = read_log(tmp_path / "run")
    assert any("loss" in entry for entry in log) and any("eval_f1" in entry for entry in log)
    # One that is under way.
    (tmp_path / "run" / "trainer_state.json").unlink()
    under_way = read_log(tmp_path / "run")
    assert under_way == log[: len(under_way)] and len(under_way) > 2
    with pytest.raises(DataFileError, match=r"neither trainer_state\.json nor a checkpoint"):
        read_log(tmp_path)
    (tmp_path / "trainer_state.json").write_text("{}")
    with pytest.raises(DataFileError, match="not the state of a training"):
        read_log(tmp_path)


# The command


def test_the_command_prints_what_the_functions_write(files, capsys):
    runs = [f"one={files / 'all.json'}", f"one={files / 'most.json'}", f"two={files / 'some.json'}"]
    command = ["compare", *runs, "--references", str(files / "gold.json"), "--samples", "30"]
    assert cli.main(command) == 0
    systems = {"one": [rows_of(GOLD), rows_of(GOLD, 3)], "two": [rows_of(GOLD, 8)]}
    assert capsys.readouterr().out == to_markdown(compare(systems, GOLD, samples=30))
    trained = [*command, "--train-annotated", str(files / "gold.json"), "--figures", "macro_f1, ign_f1"]
    assert cli.main([*trained, "--format", "csv"]) == 0
    row, _ = csv.DictReader(io.StringIO(capsys.readouterr().out))
    expected = compare(systems, GOLD, train_annotated=GOLD, figures=["macro_f1", "ign_f1"], samples=1)
    assert list(row) == ["system", "runs", "macro_f1", "macro_f1_sd", "ign_f1", "ign_f1_sd"]
    assert float(row["macro_f1"]) == expected.systems[0].mean["macro_f1"]
    assert cli.main([*command, "--format", "latex", "--relations"]) == 0
    assert re.search(r"^born\\_in & \d+ & ", capsys.readouterr().out, re.MULTILINE)


def test_what_is_wrong_with_a_comparison_is_said(files, capsys):
    gold = ["--references", str(files / "gold.json")]
    assert cli.main(["compare", str(files / "all.json"), *gold]) == 1
    assert "one system alone, 'all': pass two or more" in capsys.readouterr().err
    assert cli.main(["compare", str(files / "all.json"), str(files / "gold.json"), *gold]) == 1
    assert "Labelled documents are what predictions are compared with" in capsys.readouterr().err
    ran = ["compare", str(files / "all.json"), str(files / "few.json"), *gold, "--figures", "ign_f1"]
    assert cli.main(ran) == 1
    assert "--train-annotated" in capsys.readouterr().err
