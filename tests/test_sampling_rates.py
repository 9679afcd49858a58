"""The sweep of the rate of negative labels: points, what is kept of them, and the picture."""

from __future__ import annotations

import importlib
import json
import subprocess

import pytest
import yaml
from training_helpers import fictional

from modeling_docre.recipe_checks import check_recipe
from modeling_docre.recipes import load_recipe


@pytest.fixture
def sampling(repository, monkeypatch):
    """The module of the sweep, in the repository's folder."""
    monkeypatch.chdir(repository)
    monkeypatch.syspath_prepend(repository / "benchmarks")
    return importlib.import_module("sampling_rates")


@pytest.fixture
def tiny(sampling, tmp_path, tiny_bert_dir, monkeypatch):
    """A regime that trains for a second, the labels that it scores by, and the folder of the sweep."""
    path = tmp_path / "stories.json"
    path.write_text(json.dumps([fictional(number % 9, f"Story {number}") for number in range(16)]))
    recipe = tmp_path / "recipe.yaml"
    last = {"path": str(path), "documents": "12:16"}
    recipe.write_text(
        yaml.safe_dump(
            {
                "output_dir": "replaced",
                "model": {"encoder": str(tiny_bert_dir), "emb_size": 16, "block_size": 4},
                "data": {"train": {"path": str(path), "documents": "0:12", "drop_labels": 0.3}, "eval": last},
                "training": {
                    "num_train_epochs": 4,
                    "head_learning_rate": 3e-2,
                    "use_cpu": True,
                    "disable_tqdm": True,
                    "save_strategy": "epoch",
                },
            }
        )
    )
    regime = sampling.Regime(
        {"atl": (str(recipe),), "pmt": (str(recipe), "--model.method=pemscl")},
        {"incomplete": {**last, "drop_labels": 0.5}, "clean": last},
    )
    monkeypatch.setitem(sampling.REGIMES, "tiny", regime)
    monkeypatch.setenv("DOCRE_DATA", str(tmp_path))
    return tmp_path / "out"


def sweep(sampling, out, *options):
    sampling.main(["tiny", "--output", str(out), *options])
    return json.loads((out / "tiny.json").read_text())["points"]


@pytest.mark.slow
def test_two_points_end_in_figures_and_a_picture_and_are_not_run_again(sampling, tiny, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    points = sweep(sampling, tiny, "--losses", "atl", "--rates", "0.2", "1")
    assert [(point["loss"], point["rate"], point["seed"]) for point in points] == [("atl", 0.2, 13), ("atl", 1.0, 13)]
    assert (tiny / "tiny.png").read_bytes().startswith(b"\x89PNG")
    for point in points:
        folder = tiny / "tiny" / f"atl-{point['rate']:g}-13"
        trained = load_recipe(folder / "recipe.yaml")
        assert trained.model["loss_arguments"] == {"negative_label_rate": point["rate"]}
        # What the trainer saw on the same labels, without the weights, which nobody needs any more.
        assert point["scores"]["clean"]["f1"] == json.loads((folder / "all_results.json").read_text())["eval_f1"]
        assert not list(folder.glob("checkpoint-*")) and not (folder / "model.safetensors").exists()
    assert any(point["scores"]["clean"]["f1"] > 0 for point in points)
    assert points[0]["scores"]["clean"] != points[0]["scores"]["incomplete"]
    printed = capsys.readouterr().out
    assert "| atl | 0.2 | 1 |" in printed and "F1, clean" in printed

    (tiny / "tiny.png").unlink()
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("it is done"))
    assert sweep(sampling, tiny, "--losses", "atl", "--rates", "1", "0.2") == points
    assert (tiny / "tiny.png").is_file()


def stopped(sampling, monkeypatch):
    """The commands that a sweep runs, none of which does anything."""
    ran = []

    def run(command, **_):
        ran.append(command)
        return subprocess.CompletedProcess(command, 0)

    figures = {name: dict.fromkeys(sampling.FIGURES, 0.5) for name in sampling.REGIMES["tiny"].scored}
    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(sampling.Sweep, "score", lambda *_: figures)
    monkeypatch.setattr("modeling_docre.plot_runs.plot_sampling", lambda *_: None)
    monkeypatch.setattr(sampling.importlib.util, "find_spec", lambda _: True)
    return ran


def test_only_missing_points_run_and_a_killed_one_goes_on(sampling, tiny, monkeypatch):
    ran = stopped(sampling, monkeypatch)
    sweep(sampling, tiny, "--rates", "0.5")
    assert [command[-2].rpartition("/")[2] for command in ran] == ["atl-0.5-13", "pmt-0.5-13"]
    assert "--model.method=pemscl" in ran[1] and "--model.method=pemscl" not in ran[0]
    # One that was killed goes on.
    assert all(command[-1] == "--resume" for command in ran)
    points = sweep(sampling, tiny, "--rates", "0.5", "0.7", "--losses", "atl", "--seeds", "13", "14")
    assert [command[-2].rpartition("/")[2] for command in ran[2:]] == ["atl-0.7-13", "atl-0.5-14", "atl-0.7-14"]
    assert len(points) == 5  # those of before are kept


def test_points_of_another_recipe_are_refused(sampling, tiny, monkeypatch):
    ran = stopped(sampling, monkeypatch)
    options = ("--losses", "atl", "--rates", "0.5")
    sweep(sampling, tiny, *options)
    with pytest.raises(SystemExit, match=r"tiny\.json: atl-0\.5-13 was made with another recipe.*--output FOLDER"):
        sweep(sampling, tiny, *options, "--changes", "training.num_train_epochs=3")
    # And one that had only begun.
    begun = tiny / "tiny" / "atl-0.7-13"
    begun.mkdir(parents=True)
    recipe = yaml.safe_load((tiny.parent / "recipe.yaml").read_text())
    (begun / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    with pytest.raises(SystemExit, match=r"atl-0\.7-13: atl-0\.7-13 was made with another recipe"):
        sweep(sampling, tiny, "--losses", "atl", "--rates", "0.7")
    assert len(ran) == 1
    assert "--training.num_train_epochs=3" in sampling.Sweep(
        "tiny", tiny, ["--training.num_train_epochs=3"]
    ).arguments(sampling.Point("atl", 0.5, 13))


def test_a_training_that_fails_names_its_log(sampling, tiny, monkeypatch):
    stopped(sampling, monkeypatch)
    monkeypatch.setattr(subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 1))
    with pytest.raises(SystemExit, match=r"atl-0\.5-13 failed; see .*atl-0\.5-13\.log"):
        sweep(sampling, tiny, "--rates", "0.5")


@pytest.mark.parametrize("options", [("--rates", "2"), ("--losses", "bce"), ("--no-such=1",)])
def test_wrong_options(sampling, tiny, options):
    with pytest.raises(SystemExit) as error:
        sampling.main(["tiny", *options])
    assert error.value.code == 2


def test_every_regime_names_recipes_and_labels_that_exist(sampling, monkeypatch, tmp_path):
    monkeypatch.setenv("DOCRE_DATA", "somewhere")
    assert set(sampling.REGIMES) == {
        f"{data}-{kind}" for data in ("incomplete", "dev51", "docred") for kind in ("oog", "ogg")
    }
    for name, regime in sampling.REGIMES.items():
        sweep = sampling.Sweep(name, tmp_path, [])
        recipes = [sweep.recipe(sampling.Point(loss, 0.1, 7)) for loss in ("atl", "pmt")]
        assert [recipe.model["method"] for recipe in recipes] == ["atlop", "pemscl"]
        for recipe in recipes:
            assert recipe.model["loss_arguments"] == {"negative_label_rate": 0.1} and recipe.training["seed"] == 7
            assert recipe.data["train"] == recipes[0].data["train"] and recipe.data["eval"] == recipes[0].data["eval"]
            assert recipe.training["load_best_model_at_end"]
        for entry in regime.scored.values():
            tree = {"model": {"encoder": "x"}, "data": {"train": entry}, "training": {}, "card": {}, "output_dir": "x"}
            check_recipe(tree, name)
