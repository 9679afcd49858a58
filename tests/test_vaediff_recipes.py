"""The three stages of VaeDiff-DocRE as recipes: in order, once, and from where they were interrupted."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import pytest
import torch
import yaml
from forked import run_python
from safetensors.torch import load_file
from training_helpers import RELATIONS, fictional

from modeling_docre import DocREForRelationExtraction, VaeDiffModel
from modeling_docre.output_files import DataFileError
from modeling_docre.pair_embeddings import PairEmbeddingStore
from modeling_docre.recipe_generator import EMBEDDINGS
from modeling_docre.recipes import RecipeError, build_trainer, load_recipe, train_from_recipe
from modeling_docre.vaediff_training import VaeDiffTrainer


def write_chain(folder: Path, encoder: Path) -> Path:
    """Recipes of three stages, each trained for a second or two; the last one's path."""
    (folder / "stories.json").write_text(json.dumps([fictional(number) for number in range(9)]))
    training = {"num_train_epochs": 2, "use_cpu": True, "disable_tqdm": True, "save_strategy": "epoch"}
    first = {
        "output_dir": str(folder / "first"),
        "model": {
            **{"encoder": str(encoder), "method": "vaediff", "emb_size": 16, "block_size": 4},
            **{"axial_layers": 1, "axial_heads": 2},
        },
        "data": {"train": {"path": str(folder / "stories.json")}},
        "training": training,
    }
    second = {
        "after": ["first.yaml"],
        "output_dir": str(folder / "second"),
        "model": {
            **{"objective": "generator", "checkpoint": str(folder / "first"), "latent_size": 6, "num_steps": 3},
            **{"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1},
        },
        "data": first["data"],
        "training": {**training, "num_train_epochs": 5, "autoencoder_epochs": 2, "per_device_train_batch_size": 3},
    }
    third = {
        "extends": "first.yaml",
        "after": ["second.yaml"],
        "output_dir": str(folder / "third"),
        "training": {
            **{"augmentation": "vaediff", "augmentation_warmup_epochs": 1, "logging_steps": 1},
            **{"generator": str(folder / "second"), "generator_of": str(folder / "first")},
        },
    }
    for name, content in (("first", first), ("second", second), ("third", third)):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content))
    return folder / "third.yaml"


@pytest.fixture
def chain(tiny_bert_dir, tmp_path):
    return write_chain(tmp_path, tiny_bert_dir)


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def test_three_stages_run_in_order_and_once(chain, tmp_path, caplog):
    train_from_recipe(chain)
    generator = VaeDiffModel.from_pretrained(tmp_path / "second")
    assert generator.config.relations == sorted(RELATIONS) and generator.config.latent_size == 6
    assert (
        generator.config.embeddings_of
        == PairEmbeddingStore(tmp_path / "second" / EMBEDDINGS).manifest["embeddings_of"]
    )
    # What is shared is what is drawn with: not the network that its average follows.
    assert not any(name.startswith("learner.") for name in weights_of(tmp_path / "second"))
    assert generator.config.architectures == ["VaeDiffModel"]
    checkpoint = max((tmp_path / "second").glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    trained = weights_of(checkpoint)
    assert all(torch.equal(trained[name], value) for name, value in weights_of(tmp_path / "second").items())
    metrics = json.loads((tmp_path / "second" / "all_results.json").read_text())
    assert metrics["epoch"] == 5 and metrics["train_runtime"] > 0
    history = json.loads((tmp_path / "third" / "trainer_state.json").read_text())["log_history"]
    assert [("loss_extra" in entry) for entry in history if "loss" in entry] == [False] * 3 + [True] * 3
    DocREForRelationExtraction.from_pretrained(tmp_path / "third")
    card = (tmp_path / "third" / "README.md").read_text()
    assert "| augmentation | vaediff |" in card and str(tmp_path) not in card
    # The second time, nothing is left to do but the last.
    made = {name: (tmp_path / name / "model.safetensors").stat().st_mtime_ns for name in ("first", "second")}
    train_from_recipe(chain, {"output_dir": str(tmp_path / "again")})
    assert made == {name: (tmp_path / name / "model.safetensors").stat().st_mtime_ns for name in made}
    assert caplog.text.count("is done") == 2
    for name, value in weights_of(tmp_path / "third").items():
        assert torch.equal(value, weights_of(tmp_path / "again")[name])


def test_a_generator_that_would_learn_nothing_is_told_before_the_first_stage(chain, tmp_path):
    second = yaml.safe_load((tmp_path / "second.yaml").read_text())
    second["training"]["autoencoder_epochs"] = 5
    (tmp_path / "second.yaml").write_text(yaml.safe_dump(second))
    with pytest.raises(ValueError, match="autoencoder_epochs=5 epochs, and there are 5: the prior would never learn"):
        train_from_recipe(chain)
    assert not (tmp_path / "first").exists()


@pytest.mark.slow
def test_a_generator_that_was_killed_goes_on(chain, tmp_path, tiny_bert_dir):
    other = tmp_path / "whole"
    other.mkdir()
    train_from_recipe(write_chain(other, tiny_bert_dir))
    slow = (
        "import sys, time\n"
        "from modeling_docre.recipes import train_from_recipe\n"
        "from modeling_docre.vaediff import VaeDiffForTraining\n"
        "forward = VaeDiffForTraining.forward\n"
        "VaeDiffForTraining.forward = lambda *a, **k: time.sleep(0.4) or forward(*a, **k)\n"
        "train_from_recipe(sys.argv[1])\n"
    )
    (tmp_path / "slow.py").write_text(slow)
    # Nine documents, three a step: after the fourth epoch, in which the prior has learned.
    moment = tmp_path / "second" / "checkpoint-12" / "trainer_state.json"
    killed = run_python(tmp_path / "slow.py", chain, kill_at=str(moment), seconds_later=0.2)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (tmp_path / "second" / "model.safetensors").exists() and not (tmp_path / "third").exists()
    ran = run_python("-m", "modeling_docre.cli", "train", chain)
    assert ran.returncode == 0, ran.stderr
    assert "first.yaml is done" in ran.stderr
    for stage in ("second", "third"):
        found, expected = weights_of(tmp_path / stage), weights_of(other / stage)
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=0, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")
    history = [json.loads((place / "second" / "trainer_state.json").read_text())["log_history"]
               for place in (tmp_path, other)]  # fmt: skip
    for found, expected in zip(*([e for e in entries if "loss" in e] for entries in history), strict=True):
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_what_a_kill_leaves_between_its_files_is_made_again(chain, tmp_path):
    train_from_recipe(chain)
    made = {stage: weights_of(tmp_path / stage) for stage in ("first", "second", "third")}
    # The model is written before the state that says so.
    (tmp_path / "second" / "trainer_state.json").unlink()
    shutil.rmtree(tmp_path / "second" / EMBEDDINGS)
    (tmp_path / "second" / f".{EMBEDDINGS}.partial").mkdir()
    (tmp_path / "second" / f".{EMBEDDINGS}.partial" / "embeddings.f32").write_bytes(b"half")
    shutil.rmtree(tmp_path / "third")
    train_from_recipe(chain)
    for stage, weights in made.items():
        found = weights_of(tmp_path / stage)
        assert all(torch.equal(found[name], value) for name, value in weights.items()), stage


def test_what_is_wrong_with_the_last_recipe_is_said_first(chain, tmp_path):
    with pytest.raises(ValueError, match="augmentation_copies=-1"):
        train_from_recipe(chain, ["--training.augmentation_copies=-1"])
    assert not (tmp_path / "first").exists()


def test_folds_have_no_generator(chain):
    with pytest.raises(RecipeError, match=r"self_training does not go with training\.generator"):
        load_recipe(chain, ["--self_training={folds: 3}", "--after=null"])


def test_embeddings_of_another_first_stage_are_not_learned(chain, tmp_path):
    train_from_recipe(tmp_path / "second.yaml")
    (tmp_path / "second" / "trainer_state.json").unlink()
    model = DocREForRelationExtraction.from_pretrained(tmp_path / "first")
    model.set_class_bias(torch.ones(4))
    model.save_pretrained(tmp_path / "first")
    with pytest.raises(DataFileError, match="the pair embeddings of another model"):
        train_from_recipe(tmp_path / "second.yaml", resume=True)


def test_settings_of_a_generator_are_set_and_checked(chain, tmp_path):
    train_from_recipe(tmp_path / "first.yaml")
    second = tmp_path / "second.yaml"
    trainer = build_trainer(load_recipe(second, ["--latent_size=4", "--training.kl_weight=2e-3"]))
    assert isinstance(trainer, VaeDiffTrainer)
    assert trainer.generator.config.latent_size == 4 and trainer.args.kl_weight == 2e-3
    for override, message in (
        ("--model.latent_sise=4", r"model has no setting 'latent_sise'.*latent_size"),
        ("--training.freeze_layers=2", "training has no setting 'freeze_layers'"),
        ("--model.latent_size=four", "model.latent_size is 'four', but must be a whole number"),
        ("--model.checkpoint=null", "write its folder"),
        ("--model.encoder=x", "model has no setting 'encoder'"),
        ("--model.relations=[a]", "model has no setting 'relations'"),
        ("--data.eval=dev.json", "scores no documents"),
        ("--training.push_to_hub=true", r"VaeDiffModel\.from_pretrained\(FOLDER\)\.push_to_hub"),
        ("--card.description=x", "card has no setting"),
        ("--model.objective=generate", "write one of relations, contrastive, generator. .*generator"),
    ):
        with pytest.raises(RecipeError, match=message):
            load_recipe(second, [override])
