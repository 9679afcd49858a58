from __future__ import annotations

import copy
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from training_helpers import (
    RELATIONS,
    arguments,
    assert_close,
    fictional,
    make,
    parameters,
    parameters_of,
    result_of,
    train_in_processes,
    train_killed_and_resumed,
    train_under_torchrun,
    trainer_for,
)
from transformers import TrainerCallback

from modeling_docre import (
    DocREConfig,
    DocREForRelationExtraction,
    DocREProcessor,
    Document,
    VaeDiffConfig,
    VaeDiffModel,
)
from modeling_docre.metrics.docred.scoring import score
from modeling_docre.remote_code import CODE_FILES
from modeling_docre.training import DocRETrainer, DocRETrainingArguments, last_checkpoint

# What training does


def test_training_learns_the_stories_and_saves_a_model_that_loads(tiny_bert_dir, tmp_path):
    trainer = trainer_for(
        tiny_bert_dir,
        tmp_path,
        num_train_epochs=15,
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=1,
        load_best_model_at_end=True,
    )
    before = trainer.evaluate()
    output = trainer.train()
    after = trainer.evaluate()
    assert output.global_step == 15 * 3
    assert after["eval_loss"] < before["eval_loss"] / 2
    assert after["eval_f1"] > 0.9
    assert trainer.state.best_metric == after["eval_f1"]
    trainer.save_model(tmp_path / "final")
    saved = DocREForRelationExtraction.from_pretrained(tmp_path / "final")
    assert_close(parameters(trainer.model), parameters(saved), 0.0)
    assert DocREProcessor.from_pretrained(tmp_path / "final").config.relations == RELATIONS
    config = json.loads((tmp_path / "final" / "config.json").read_text())
    assert "use_cache" not in config


def test_half_precision_weights_halve_the_saved_model_and_load_as_float32(tiny_bert_dir, tmp_path):
    trainer = trainer_for(tiny_bert_dir, tmp_path, max_steps=2, half_precision_weights=True, save_strategy="epoch")
    trainer.train()
    trainer.save_model(tmp_path / "final")
    exact = DocREForRelationExtraction.from_pretrained(last_checkpoint(str(tmp_path)))
    assert_close(parameters(trainer.model), parameters(exact), 0.0)
    saved = DocREForRelationExtraction.from_pretrained(tmp_path / "final")
    assert {parameter.dtype for parameter in saved.parameters()} == {torch.float32}
    halved = {name: value.half().float() for name, value in parameters(trainer.model).items()}
    assert_close(halved, parameters(saved), 0.0)
    sizes = [Path(folder, "model.safetensors").stat().st_size for folder in (tmp_path / "final", exact.name_or_path)]
    assert sizes[0] < 0.7 * sizes[1]
    # The code lies beside them, and goes again.
    trainer.save_model(tmp_path / "final", include_code=True)
    assert (tmp_path / "final" / "model.safetensors").stat().st_size == sizes[0]
    assert "custom_pipelines" in json.loads((tmp_path / "final" / "config.json").read_text())
    assert "auto_map" in json.loads((tmp_path / "final" / "processor_config.json").read_text())
    assert {*CODE_FILES, "README.md"} <= {path.name for path in (tmp_path / "final").iterdir()}
    trainer.save_model(tmp_path / "final")
    assert not list((tmp_path / "final").glob("*.py"))
    # As `push_to_hub` does before it uploads.
    trainer.save_model(_internal_call=True)
    assert (tmp_path / "model.safetensors").stat().st_size == sizes[0]


def test_the_parts_of_the_loss_are_logged_as_means_per_step(tiny_bert_dir, tmp_path):
    trainer = trainer_for(tiny_bert_dir, tmp_path, logging_steps=3, gradient_accumulation_steps=2, num_train_epochs=3)
    trainer.train()
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert len(logged) == 2
    for entry in logged:
        # ATL is the whole loss here, so the part must be equal to the whole.
        assert entry["loss_atl"] == pytest.approx(entry["loss"], abs=1e-6)


def logged_parts(trainer: DocRETrainer) -> list[tuple[float, float]]:
    return [(entry["loss_atl"], entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]


def test_the_parts_of_the_loss_are_right_with_evaluation_resume_and_a_second_run(tiny_bert_dir, tmp_path):
    settings = {"num_train_epochs": 4, "logging_steps": 5, "eval_strategy": "steps", "eval_steps": 4}
    trainer = trainer_for(tiny_bert_dir, tmp_path, save_strategy="steps", save_steps=7, **settings)
    trainer.train()
    trainer.train()
    assert len(logged_parts(trainer)) == 2
    resumed = trainer_for(tiny_bert_dir, tmp_path, **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-7"))
    for part, whole in logged_parts(trainer) + logged_parts(resumed):
        assert part == pytest.approx(whole, abs=1e-6)


def one_step(encoder: Path, folder: Path, **settings) -> dict[str, torch.Tensor]:
    trainer = trainer_for(encoder, folder, count=8, num_train_epochs=1, optim="sgd", max_grad_norm=0.0, **settings)
    trainer.train()
    return parameters(trainer.model)


def test_accumulation_equals_one_large_batch(tiny_bert_dir, tmp_path):
    large = one_step(tiny_bert_dir, tmp_path / "a", per_device_train_batch_size=4)
    small = one_step(tiny_bert_dir, tmp_path / "b", per_device_train_batch_size=2, gradient_accumulation_steps=2)
    assert_close(large, small, 1e-6)


def test_micro_batch_normalisation_is_the_mean_of_means(tiny_bert_dir, tmp_path):
    # Documents have 2, 6 and 12 pairs, so that averaging by micro-batch is another number.
    large = one_step(tiny_bert_dir, tmp_path / "a", per_device_train_batch_size=4)
    small = one_step(
        tiny_bert_dir,
        tmp_path / "b",
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        normalise="micro-batch",
    )
    name = "head.classifier.bias"
    assert (large[name] - small[name]).abs().max() > 1e-5

    trainer = trainer_for(tiny_bert_dir, tmp_path / "c", count=2, normalise="micro-batch")
    batch = trainer.data_collator([trainer.train_dataset[0], trainer.train_dataset[1]])
    loss = trainer.compute_loss(
        trainer.model, batch, num_items_in_batch=trainer._get_num_items_in_batch([batch], "cpu")
    )
    batch = {name: value for name, value in batch.items() if name not in ("document_index", "left_out")}
    assert loss.item() == pytest.approx(trainer.model(**batch).loss.item())


def test_a_limit_on_pairs_changes_batches_and_not_what_is_learnt_from_them(tiny_bert_dir, tmp_path):
    trainer = trainer_for(tiny_bert_dir, tmp_path, max_pairs_per_batch=12, num_train_epochs=3)
    sizes = [len(batch["pairs"]) for batch in trainer.get_train_dataloader()]
    assert max(sizes) == 12 and sum(sizes) == 3 * (2 + 6 + 12)
    assert trainer.train().global_step == 3 * len(sizes)


@pytest.mark.slow
def test_two_processes_equal_one(tiny_bert_dir, tmp_path):
    # Nine documents by four: the last step has one document, which two processes can't share.
    train_in_processes(tiny_bert_dir, tmp_path / "one", "--batch=4")
    train_under_torchrun(tiny_bert_dir, tmp_path / "two", "--batch=2")
    one, two = (result_of(tmp_path / name) for name in ("one", "two"))
    assert two["world_size"] == 2
    assert one["steps"] == two["steps"] == 6
    for name in ("eval_f1", "eval_precision", "eval_recall", "eval_loss"):
        assert one["metrics"][name] == pytest.approx(two["metrics"][name], abs=1e-5), name
    assert one["predictions"] == two["predictions"]
    assert one["losses"] == pytest.approx(two["losses"], abs=1e-5)
    assert one["parts"] == pytest.approx(two["parts"], abs=1e-5)
    first, second = (parameters_of(tmp_path / name) for name in ("one", "two"))
    assert_close(first, second, 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "normalise", "more"),
    [
        ("pemscl", "global", []),
        ("pemscl", "micro-batch", []),
        ("vaediff", "global", []),
        ("vaediff", "global", ["--noisy_copies=2"]),
    ],
)
def test_the_contrastive_loss_is_that_of_one_batch_in_two_processes(tiny_bert_dir, tmp_path, method, normalise, more):
    # Nine documents, one a batch: in the last step, one process has a filler. The published mean over micro-batches
    # compares the pairs of each alone, as accumulation does.
    options = [f"--method={method}", f"--normalise={normalise}", *more]
    large = ["--batch=2"] if normalise == "global" else ["--batch=1", "--accumulate=2"]
    train_in_processes(tiny_bert_dir, tmp_path / "one", *options, *large)
    train_in_processes(tiny_bert_dir, tmp_path / "two", *options, "--batch=1", processes=2)
    first, second = (parameters_of(tmp_path / name) for name in ("one", "two"))
    assert_close(first, second, 1e-6)


@pytest.mark.slow
def test_a_process_without_extra_pairs_keeps_up_in_half_precision(tiny_bert_dir, tmp_path):
    config = VaeDiffConfig(
        RELATIONS, embedding_size=32, latent_size=6, hidden_size=8, num_hidden_layers=1, num_attention_heads=1,
        num_steps=3,
    )  # fmt: skip
    VaeDiffModel(config).save_pretrained(tmp_path / "generator")
    options = ["--method=vaediff", f"--generator={tmp_path / 'generator'}", "--batch=1", "--bf16"]
    train_in_processes(tiny_bert_dir, tmp_path / "two", *options, processes=2)
    assert all(math.isfinite(loss) for loss in result_of(tmp_path / "two")["losses"])


@pytest.mark.slow
@pytest.mark.parametrize("options", [["--method=era", "--mask_probability=0"], ["--text_augmentation=mask"]])
def test_augmentation_counts_alike_in_two_processes_and_in_one(tiny_bert_dir, tmp_path, options):
    # No token is left out of contexts: processes draw from generators of their own.
    train_in_processes(tiny_bert_dir, tmp_path / "one", *options, "--batch=2", "--accumulate=2")
    train_in_processes(tiny_bert_dir, tmp_path / "two", *options, "--batch=2", processes=2)
    first, second = (parameters_of(tmp_path / name) for name in ("one", "two"))
    assert_close(first, second, 1e-6)
    losses = [result_of(tmp_path / name)["losses"] for name in ("one", "two")]
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)


def test_leaving_the_processes_waits_for_their_threads():
    script = """
import os, torch
from torch import distributed
from modeling_docre.processes import leave_processes

def threads():
    return [open(f"/proc/self/task/{task}/comm").read().strip() for task in os.listdir("/proc/self/task")]

def train():
    model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(4, 4))
    model.itself = model
    model(torch.ones(2, 4)).sum().backward()

leave_processes()
distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
train()
print(any("gloo" in name for name in threads()))
leave_processes()
print(any("gloo" in name for name in threads()), distributed.is_initialized())
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["True", "False", "False"]


@pytest.mark.slow
def test_a_filler_takes_no_part_in_the_mean_over_processes(tiny_bert_dir, tmp_path):
    # The fifth batch of two has no partner on the other process.
    options = ["--batch=2", "--normalise=micro-batch"]
    train_in_processes(tiny_bert_dir, tmp_path / "one", *options, "--accumulate=2")
    train_in_processes(tiny_bert_dir, tmp_path / "two", *options, processes=2)
    one, two = (result_of(tmp_path / name) for name in ("one", "two"))
    assert one["steps"] == two["steps"] == 6
    assert one["losses"] == pytest.approx(two["losses"], abs=1e-5)
    first, second = (parameters_of(tmp_path / name) for name in ("one", "two"))
    assert_close(first, second, 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("logging_steps", [1, 4])
def test_a_killed_run_resumes_to_the_same_numbers(tiny_bert_dir, tmp_path, logging_steps):
    # What a checkpoint of step 3 has not logged yet is logged with step 4.
    options = ["--batch=2", "--dropout", "--max_pairs=14", f"--logging_steps={logging_steps}"]
    train_in_processes(tiny_bert_dir, tmp_path / "straight", *options, "--save_steps=3")
    train_killed_and_resumed(tiny_bert_dir, tmp_path / "killed", *options)
    straight, resumed = (result_of(tmp_path / name) for name in ("straight", "killed"))
    timings = ("runtime", "per_second")
    for name, value in straight["metrics"].items():
        if not any(part in name for part in timings):
            assert resumed["metrics"][name] == value, name
    assert resumed["losses"] == straight["losses"] and len(straight["losses"]) > 1
    assert len({*resumed["training_loss"], *straight["training_loss"]}) == 1
    assert resumed["parts"] == straight["parts"] == pytest.approx(straight["losses"], abs=1e-6)
    first, second = (parameters_of(tmp_path / name) for name in ("straight", "killed"))
    assert_close(first, second, 0.0)


def test_half_a_checkpoint_is_passed_over(tiny_bert_dir, tmp_path):
    straight = trainer_for(tiny_bert_dir, tmp_path / "a", dropout=True)
    straight.train()
    stopped = trainer_for(tiny_bert_dir, tmp_path / "b", dropout=True, save_strategy="steps", save_steps=2)
    stopped.train()
    # As if the process had died while it wrote checkpoint 6, and another while it wrote the state of checkpoint 4.
    (tmp_path / "b" / "checkpoint-6" / "trainer_state.json").unlink()
    (tmp_path / "b" / "checkpoint-4" / "trainer_state.json").write_text('{"global_st')
    resumed = trainer_for(tiny_bert_dir, tmp_path / "b", dropout=True)
    assert last_checkpoint(tmp_path / "b").endswith("checkpoint-2")
    resumed.train(resume_from_checkpoint=True)
    assert_close(parameters(straight.model), parameters(resumed.model), 0.0)
    with pytest.raises(ValueError, match="no complete checkpoint"):
        trainer_for(tiny_bert_dir, tmp_path / "c").train(resume_from_checkpoint=True)


def test_a_run_resumes_in_its_second_epoch(tiny_bert_dir, tmp_path):
    straight = trainer_for(tiny_bert_dir, tmp_path, dropout=True, save_strategy="steps", save_steps=4)
    straight.train()
    resumed = trainer_for(tiny_bert_dir, tmp_path, dropout=True)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    assert_close(parameters(straight.model), parameters(resumed.model), 0.0)


def test_training_in_bfloat16_learns_and_keeps_float32_weights(tiny_bert_dir, tmp_path):
    trainer = trainer_for(tiny_bert_dir, tmp_path, num_train_epochs=10, bf16=True)
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    assert trainer.evaluate()["eval_loss"] < before / 2
    assert {parameter.dtype for parameter in trainer.model.parameters()} == {torch.float32}


def test_evaluation_in_between_does_not_change_training(tiny_bert_dir, tmp_path):
    plain = trainer_for(tiny_bert_dir, tmp_path / "a", dropout=True)
    plain.train()
    evaluated = trainer_for(tiny_bert_dir, tmp_path / "b", dropout=True, eval_strategy="steps", eval_steps=1)
    evaluated.train()
    assert_close(parameters(plain.model), parameters(evaluated.model), 0.0)


def test_early_stopping(tiny_bert_dir, tmp_path):
    trainer = trainer_for(
        tiny_bert_dir,
        tmp_path,
        num_train_epochs=50,
        learning_rate=0.0,
        head_learning_rate=0.0,
        early_stopping_patience=2,
        eval_strategy="epoch",
        save_strategy="epoch",
        load_best_model_at_end=True,
    )
    trainer.train()
    # The first evaluation is the best so far; two more that are no better end the run.
    assert trainer.state.epoch == 3


# Parameters


def test_parameter_groups(tiny_bert_dir, tmp_path):
    trainer = trainer_for(
        tiny_bert_dir,
        tmp_path,
        weight_decay=0.3,
        head_weight_decay=0.2,
        module_learning_rates={"tail_projection": 5e-4},
        freeze_embeddings=True,
    )
    optimizer = trainer.create_optimizer()
    names = {id(parameter): name for name, parameter in trainer.model.named_parameters()}
    found = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            found[names[id(parameter)]] = (group["lr"], group["weight_decay"])
    assert found["docre.encoder.encoder.layer.0.attention.self.query.weight"] == (1e-3, 0.3)
    assert found["docre.encoder.encoder.layer.0.attention.self.query.bias"] == (1e-3, 0.0)
    assert found["docre.encoder.encoder.layer.1.output.LayerNorm.weight"] == (1e-3, 0.0)
    assert found["head.classifier.weight"] == (1e-2, 0.2)
    assert found["head.classifier.bias"] == (1e-2, 0.0)
    assert found["head.tail_projection.weight"] == (5e-4, 0.2)
    assert "docre.encoder.embeddings.word_embeddings.weight" not in found
    assert len(found) == sum(parameter.requires_grad for parameter in trainer.model.parameters())


def test_documents_that_teach_little_are_told_before_training(tiny_bert_dir, tmp_path, monkeypatch):
    said: list[str] = []
    monkeypatch.setattr("modeling_docre.training_checks.logger.warning", said.append)
    stories = [fictional(number) for number in range(4)]
    paee = {"method": "paee", "unet_width": 4, "unet_outputs": 4, "entity_encoder_heads": 2}

    def warnings(documents, **settings):
        said.clear()
        given = {"train_dataset": documents, "eval_dataset": None}
        trainer_for(tiny_bert_dir, tmp_path, 4, model_settings=settings, trainer=given, max_steps=1).train()
        return list(said)

    entities = sum(len(story["vertexSet"]) for story in stories)
    types = sorted({entity[0]["type"] for story in stories for entity in story["vertexSet"]})
    assert len(types) > 1
    told = warnings(stories, **paee)
    assert len(told) == 1 and f"know {len(types)} of {len(types)} entity types" in told[0]
    assert "from_encoder(..., entity_types=[" in told[0]
    assert f"{entities} of {entities} entities with a type" in told[0] and f"entity_types={types!r}" in told[0]
    some = sum(entity[0]["type"] != types[0] for story in stories for entity in story["vertexSet"])
    untyped = [json.loads(json.dumps(story)) for story in stories]
    untyped[0]["vertexSet"][0][0].pop("type")
    hidden = stories[0]["vertexSet"][0][0]["type"] != types[0]
    for settings in (paee, {"use_entity_types": True}, {"marker_style": "typed"}, {"marker_style": "unused"}):
        told = warnings(untyped, **settings, entity_types=types[:1])
        assert f"{some - hidden} of {entities - 1} entities with a type" in told[0]
        assert f"know {len(types) - 1} of {len(types)} entity types" in told[0] and f"={types!r}" in told[0]
    assert warnings(stories, **paee, entity_types=types) == warnings(stories) == []
    assert warnings(stories, **paee, use_pair_grid=False) == []
    told = warnings([{**story, "labels": []} for story in stories])
    assert len(told) == 1 and told[0].startswith("None of the 4 training documents has a fact")


def test_an_unknown_module_name_says_what_there_is(tiny_bert_dir, tmp_path):
    trainer = trainer_for(tiny_bert_dir, tmp_path, module_learning_rates={"unet": 1e-3})
    with pytest.raises(ValueError, match=r"'unet'.*head\.classifier"):
        trainer.create_optimizer()


def test_prior_bias_is_the_log_odds_of_each_relation(tiny_bert_dir, tmp_path):
    trainer = trainer_for(tiny_bert_dir, tmp_path, prior_bias=True, max_steps=1, learning_rate=0, head_learning_rate=0)
    trainer.train()
    pairs = 3 * (2 + 6 + 12)
    counts = [9, 6, 3]
    expected = [0.0] + [math.log((c + 0.5) / (pairs + 1) / (1 - (c + 0.5) / (pairs + 1))) for c in counts]
    assert trainer.model.head.classifier.bias.tolist() == pytest.approx(expected, abs=1e-5)
    without = trainer_for(tiny_bert_dir, tmp_path, max_steps=1).evaluate()
    assert trainer.evaluate()["eval_loss"] < without["eval_loss"]


def test_warm_up_is_a_share_of_the_steps(tiny_bert_dir, tmp_path):
    trainer = trainer_for(tiny_bert_dir, tmp_path, num_train_epochs=10, warmup_steps=0.2)
    trainer.train()
    rates = [entry["learning_rate"] for entry in trainer.state.log_history if "learning_rate" in entry]
    # 30 steps, of which 6 climb and 24 descend to 0; the first step has rate 0.
    assert rates[3] == pytest.approx(1e-3 * 3 / 6) and rates[6] == pytest.approx(1e-3)
    assert rates[18] == pytest.approx(1e-3 * 12 / 24)


# Evaluation


def test_metrics_are_those_of_the_scorer_on_decoded_relations(tiny_bert_dir, tmp_path):
    trainer = trainer_for(tiny_bert_dir, tmp_path, num_train_epochs=8)
    trainer.train()
    trainer.model.eval()
    # Two documents of the same title must not be merged.
    data = [fictional(number, title="Same") for number in range(7)]
    rows, gold = [], []
    for number, item in enumerate(data):
        document = Document.from_docred(item)
        with torch.no_grad():
            outputs = trainer.model(**trainer.processing_class.collate(trainer.processing_class([document])))
        for relation in trainer.processing_class.decode(outputs, [document])[0]:
            rows.append({"title": str(number), "h_idx": relation.head, "t_idx": relation.tail, "r": relation.relation})
        gold.append({**item, "title": str(number)})
    expected = score(rows, gold, train_annotated=[fictional(number) for number in range(9)])
    assert 0 < expected["f1"] < 1
    for size in (1, 3, 8):
        trainer.args.per_device_eval_batch_size = size
        metrics = trainer.evaluate(data)
        for name in ("f1", "precision", "recall", "ign_f1"):
            assert metrics[f"eval_{name}"] == pytest.approx(expected[name]), (name, size)


def test_evaluation_loss_is_the_mean_over_pairs_whatever_the_batch(tiny_bert_dir, tmp_path):
    trainer = trainer_for(tiny_bert_dir, tmp_path)
    losses = []
    for size in (1, 2, 5):
        trainer.args.per_device_eval_batch_size = size
        losses.append(trainer.evaluate()["eval_loss"])
    documents = [Document.from_docred(fictional(number)) for number in range(5)]
    total = pairs = 0
    for document in documents:
        batch = trainer.processing_class.collate(trainer.processing_class([document]))
        with torch.no_grad():
            total += trainer.model.eval()(**batch).loss.item() * len(batch["pairs"])
        pairs += len(batch["pairs"])
    assert losses == pytest.approx([total / pairs] * 3, abs=1e-6)


def test_gold_facts_outside_the_candidates_are_counted_and_cost_recall(tiny_bert_dir, tmp_path):
    trainer = trainer_for(tiny_bert_dir, tmp_path, model_settings={"pair_types": [["PER", "LOC"]]})
    metrics = trainer.evaluate()
    # Documents 0 to 4 have 3 facts of LOC with LOC: 1, 2 and 4.
    assert metrics["eval_gold_not_scored"] == 3
    assert metrics["eval_recall"] <= 6 / 9


def test_predictions_come_in_the_callers_order_without_labels(tiny_bert_dir, tmp_path):
    trainer = trainer_for(tiny_bert_dir, tmp_path, num_train_epochs=12)
    trainer.train()
    data = [{key: value for key, value in fictional(number).items() if key != "labels"} for number in (2, 0, 1, 5, 3)]
    output = trainer.predict(data)
    assert not any(name.endswith("f1") for name in output.metrics)
    assert any(output.predictions)
    for item, relations in zip(data, output.predictions, strict=True):
        document = Document.from_docred(item)
        with torch.no_grad():
            outputs = trainer.model.eval()(**trainer.processing_class.collate(trainer.processing_class([document])))
        alone = trainer.processing_class.decode(outputs, [document])[0]
        assert [(r.head, r.tail, r.relation) for r in relations] == [(r.head, r.tail, r.relation) for r in alone]
        assert [r.score for r in relations] == pytest.approx([r.score for r in alone], abs=1e-5)
    labelled = trainer.predict([fictional(1)])
    assert 0 <= labelled.metrics["test_f1"] <= 1


def test_what_is_left_out_of_documents_is_said_once_by_cause(tiny_bert_dir, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr("modeling_docre.training_evaluation.logger.warning", said.append)
    trainer = trainer_for(
        tiny_bert_dir, tmp_path, num_train_epochs=3, model_settings={"pair_types": [["PER", "LOC"]], "max_length": 24}
    )
    trainer.train()
    trainer.evaluate()
    trainer.evaluate()
    training, evaluation = said
    # Of 60 pairs 3 x (1 + 2 + 4) are of a person with a place, 12 of them not read; a place with a place is lost.
    assert training.startswith("Of 9 training documents: ")
    assert "51 pairs not scored" in training and "6 relations outside the candidate pairs" in training
    assert "tokens not read" in training and "mentions not read" in training
    assert evaluation.startswith("Of 5 evaluation documents: ")


def test_several_evaluation_sets_by_name(tiny_bert_dir, tmp_path):
    model, processor = make(tiny_bert_dir)
    sets = {"even": [fictional(0), fictional(2)], "odd": [fictional(1)]}
    trainer = DocRETrainer(model=model, args=arguments(tmp_path), eval_dataset=sets, processing_class=processor)
    metrics = trainer.evaluate()
    assert {"eval_even_f1", "eval_odd_f1"} <= set(metrics)
    assert metrics["eval_even_f1"] == trainer.evaluate(sets["even"])["eval_f1"]


def test_of_several_evaluation_sets_the_first_decides_which_model_is_best(tiny_bert_dir, tmp_path):
    sets = {"even": [fictional(0), fictional(2)], "odd": [fictional(1)]}
    saving = {"eval_strategy": "epoch", "save_strategy": "epoch", "load_best_model_at_end": True}
    for given, metric in ({}, "even_f1"), ({"metric_for_best_model": "loss"}, "even_loss"):
        trainer = trainer_for(tiny_bert_dir, tmp_path, trainer={"eval_dataset": sets}, **saving, **given)
        trainer.train()
        found = [entry[f"eval_{metric}"] for entry in trainer.state.log_history if f"eval_{metric}" in entry]
        assert trainer.state.best_metric == (min if "loss" in metric else max)(found)


@pytest.mark.parametrize("data", [[], {}, {"even": []}], ids=str)
def test_an_empty_evaluation_set_is_refused(tiny_bert_dir, tmp_path, data):
    with pytest.raises(ValueError, match=r"holds no document|empty dict"):
        trainer_for(tiny_bert_dir, tmp_path, trainer={"eval_dataset": data})


def strange(number: int) -> dict:
    """A document with a fact of a relation that no model here knows."""
    document = fictional(number)
    return {**document, "labels": [*document["labels"], {"h": 1, "t": 0, "r": "haunts", "evidence": []}]}


def test_a_relation_that_the_model_does_not_know_costs_recall_and_is_counted(tiny_bert_dir, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr("modeling_docre.training_evaluation.logger.warning", said.append)
    trainer = trainer_for(
        tiny_bert_dir, tmp_path, trainer={"eval_dataset": [strange(0)]}, eval_strategy="epoch", num_train_epochs=12
    )
    trainer.train()
    assert trainer.evaluate([fictional(0)])["eval_recall"] == 1.0
    assert trainer.evaluate()["eval_recall"] == 0.5
    assert said == ["Of 1 evaluation documents: 1 relations unknown to the model."]
    with pytest.raises(ValueError, match=r"train_dataset\[1\].*'Story 3'.*'haunts' is not a relation of this model"):
        trainer_for(tiny_bert_dir, tmp_path, trainer={"train_dataset": [fictional(0), strange(3)]})


@pytest.mark.parametrize("workers", [0, 1])
def test_what_is_left_out_is_said_after_a_short_run_and_with_workers(tiny_bert_dir, tmp_path, monkeypatch, workers):
    said = []
    monkeypatch.setattr("modeling_docre.training_evaluation.logger.warning", said.append)
    trainer = trainer_for(
        tiny_bert_dir,
        tmp_path,
        model_settings={"pair_types": [["PER", "LOC"]]},
        max_steps=2,
        logging_steps=50,
        dataloader_num_workers=workers,
    )
    trainer.train()
    trainer.evaluate()
    training, evaluation = said
    assert training.startswith("Of 8 training documents: ") and "pairs not scored" in training
    assert evaluation.startswith("Of 5 evaluation documents: ")


def test_labels_are_not_sampled_in_evaluation(tiny_bert_dir, tmp_path):
    plain = trainer_for(tiny_bert_dir, tmp_path).evaluate()["eval_loss"]
    sampling = trainer_for(tiny_bert_dir, tmp_path, model_settings={"loss_arguments": {"negative_label_rate": 0.3}})
    assert sampling.evaluate()["eval_loss"] == sampling.evaluate()["eval_loss"] == plain


def test_documents_with_one_entity_or_none(tiny_bert_dir, tmp_path):
    alone = {**fictional(0), "vertexSet": fictional(0)["vertexSet"][:1], "labels": []}
    nobody = {**fictional(0), "vertexSet": [], "labels": []}
    model, processor = make(tiny_bert_dir)
    trainer = DocRETrainer(
        model=model,
        args=arguments(tmp_path, per_device_train_batch_size=1),
        train_dataset=[alone, nobody, fictional(1)],
        eval_dataset=[nobody, fictional(1), alone],
        processing_class=processor,
    )
    assert trainer.train().global_step == 6
    assert all(torch.isfinite(value).all() for value in parameters(model).values())
    assert [bool(relations) for relations in trainer.predict([alone, nobody]).predictions] == [False, False]
    assert math.isfinite(trainer.evaluate()["eval_loss"])


def test_the_tuned_threshold_is_the_best_one(tiny_bert_dir, tmp_path):
    trainer = trainer_for(tiny_bert_dir, tmp_path, num_train_epochs=4, tune_threshold=True)
    trainer.train()
    tuned = trainer.model.config.threshold
    best = trainer.evaluate()["eval_f1"]
    assert 0 < tuned < 1 and best > 0
    for threshold in [*(step / 50 for step in range(1, 50)), None]:
        trainer.model.config.threshold = threshold
        assert trainer.evaluate()["eval_f1"] <= best + 1e-9, threshold


# What can go wrong


def test_a_dictionary_of_splits_is_refused_with_the_split_to_take(tiny_bert_dir, tmp_path):
    datasets = pytest.importorskip("datasets")
    model, processor = make(tiny_bert_dir)
    split = datasets.Dataset.from_list([fictional(0)])
    splits = datasets.DatasetDict({"train": split, "validation": split})
    for name in ("train_dataset", "eval_dataset"):
        with pytest.raises(TypeError, match=rf"{name}=dataset\['train'\]"):
            DocRETrainer(model=model, args=arguments(tmp_path), processing_class=processor, **{name: splits})


def test_a_dataset_of_the_docred_schema_trains_like_the_list(tiny_bert_dir, tmp_path):
    datasets = pytest.importorskip("datasets")
    trainer = trainer_for(tiny_bert_dir, tmp_path / "a", count=4)
    trainer.train()
    model, processor = make(tiny_bert_dir)
    rows = datasets.Dataset.from_list([fictional(number) for number in range(4)])
    other = DocRETrainer(
        model=model, args=arguments(tmp_path / "b"), train_dataset=rows, eval_dataset=rows, processing_class=processor
    )
    other.train()
    assert_close(parameters(trainer.model), parameters(model), 0.0)
    with pytest.raises(TypeError, match=r"columns \[.*'tokens'.*\]"):
        other.evaluate(rows.rename_column("sents", "tokens"))


def test_unlabelled_documents_are_refused_by_name(tiny_bert_dir, tmp_path):
    model, processor = make(tiny_bert_dir)
    unlabelled = {key: value for key, value in fictional(3).items() if key != "labels"}
    for name in ("train_dataset", "eval_dataset"):
        with pytest.raises(ValueError, match=rf"{name}\[1\].*'Story 3'.*no labels"):
            DocRETrainer(
                model=model,
                args=arguments(tmp_path),
                processing_class=processor,
                **{name: [fictional(0), unlabelled]},
            )


@pytest.mark.parametrize("data", ["train.json", 3, fictional(0)], ids=["path", "number", "one document"])
def test_what_is_no_list_of_documents_is_refused(tiny_bert_dir, tmp_path, data):
    model, processor = make(tiny_bert_dir)
    with pytest.raises(TypeError, match="pass a list of documents"):
        DocRETrainer(model=model, args=arguments(tmp_path), processing_class=processor, train_dataset=data)


def test_a_missing_processor_is_named(tiny_bert_dir, tmp_path):
    model, _ = make(tiny_bert_dir)
    with pytest.raises(ValueError, match=r"DocREProcessor\.from_encoder"):
        DocRETrainer(model=model, args=arguments(tmp_path), train_dataset=[fictional(0)])


def test_several_gpus_without_a_launcher_are_refused(tiny_bert_dir, tmp_path, monkeypatch):
    model, processor = make(tiny_bert_dir)
    monkeypatch.setattr(DocRETrainingArguments, "n_gpu", property(lambda self: 3))
    with pytest.raises(ValueError, match="torchrun --nproc_per_node 3"):
        DocRETrainer(model=model, args=arguments(tmp_path), processing_class=processor)


@pytest.mark.parametrize("name", ["compute_metrics", "compute_loss_func", "preprocess_logits_for_metrics"])
def test_functions_that_would_not_be_called_are_refused(tiny_bert_dir, tmp_path, name):
    with pytest.raises(ValueError, match=f"`{name}` would not be used: "):
        trainer_for(tiny_bert_dir, tmp_path, trainer={name: print})


def test_another_collator_is_refused(tiny_bert_dir, tmp_path):
    _, processor = make(tiny_bert_dir)
    with pytest.raises(TypeError, match="DocumentCollator"):
        trainer_for(tiny_bert_dir, tmp_path, trainer={"data_collator": processor.collate})


def test_tuning_without_documents_is_refused_before_training(tiny_bert_dir, tmp_path):
    with pytest.raises(ValueError, match="tune_threshold=True needs labelled documents"):
        trainer_for(tiny_bert_dir, tmp_path, trainer={"eval_dataset": None}, tune_threshold=True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"relations": RELATIONS[::-1]}, "The processor has relations="),
        ({"entity_types": ["PER"]}, "The processor has entity_types="),
        ({"marker_style": "tags"}, "The processor has marker_style='tags', the model 'asterisk'"),
    ],
)
def test_a_processor_of_another_model_is_refused(tiny_bert_dir, tmp_path, settings, message):
    model, _ = make(tiny_bert_dir)
    config = DocREConfig.for_method("atlop", **{"relations": RELATIONS, **settings})
    processor = DocREProcessor.from_encoder(str(tiny_bert_dir), config=config)
    with pytest.raises(ValueError, match=f"{message}.*config=model.config"):
        trainer_for(tiny_bert_dir, tmp_path, trainer={"model": model, "processing_class": processor})
    with pytest.raises(ValueError, match=message):
        trainer_for(
            tiny_bert_dir,
            tmp_path,
            trainer={"model": None, "model_init": lambda: model, "processing_class": processor},
        )


def test_a_tuned_threshold_counts_for_a_processor_that_was_loaded_by_itself(tiny_bert_dir, tmp_path):
    model, processor = make(tiny_bert_dir)
    model.save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    loaded = DocREProcessor.from_pretrained(tmp_path / "model")
    trainer = trainer_for(
        tiny_bert_dir,
        tmp_path,
        trainer={"model": model, "processing_class": loaded},
        num_train_epochs=4,
        tune_threshold=True,
    )
    output = trainer.train()
    assert loaded.config.threshold == model.config.threshold == output.metrics["train_threshold"]
    assert 0 < loaded.config.threshold < 1


@pytest.mark.parametrize(
    ("arguments_of_loss", "message"),
    [
        ({"reference_broadcast": True}, 'normalise="micro-batch"'),
        ({"negative_labels_rate": 0.1}, "Did you mean 'negative_label_rate'"),
    ],
)
def test_what_the_loss_can_not_do_is_refused(tiny_bert_dir, tmp_path, arguments_of_loss, message):
    with pytest.raises(ValueError, match=message):
        trainer_for(tiny_bert_dir, tmp_path, model_settings={"loss": "pmt", "loss_arguments": arguments_of_loss})


def test_frozen_random_markers_are_warned_of(tiny_bert_dir, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr("modeling_docre.training.logger.warning", said.append)
    trainer_for(tiny_bert_dir, tmp_path, freeze_embeddings=True)
    assert not said
    trainer_for(tiny_bert_dir, tmp_path, freeze_embeddings=True, model_settings={"marker_style": "tags"})
    assert len(said) == 1 and said[0].startswith("freeze_embeddings=True freezes") and "marker_style='tags'" in said[0]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"label_smoothing_factor": 0.1}, "label_smoothing_factor=0.1 would not be used"),
        ({"include_for_metrics": ["inputs"]}, "include_for_metrics"),
        ({"prediction_loss_only": True}, "prediction_loss_only"),
        ({"tune_threshold": True, "bf16_full_eval": True}, "pass bf16=True"),
        ({"freeze_layers": 1, "frozen_cache_dir": "x", "torch_compile": True}, "leave torch_compile out"),
        ({"normalise": "batch"}, "'global' or 'micro-batch'"),
        ({"frozen_cache_dir": "x"}, "freeze_layers=N"),
        ({"max_pairs_per_batch": 0}, "positive number"),
        ({"train_sampling_strategy": "batch_rebalance"}, "max_pairs_per_batch"),
    ],
)
def test_arguments_that_contradict_each_other(tmp_path, setting, message):
    with pytest.raises(ValueError, match=message):
        arguments(tmp_path, **setting)


def test_model_init_starts_each_run_anew(tiny_bert_dir, tmp_path):
    _, processor = make(tiny_bert_dir)
    trainer = DocRETrainer(
        model_init=lambda: make(tiny_bert_dir)[0],
        args=arguments(tmp_path, freeze_layers=1, frozen_cache_dir=str(tmp_path / "cache"), prior_bias=True),
        train_dataset=[fictional(number) for number in range(5)],
        processing_class=processor,
    )
    trainer.train()
    first = parameters(trainer.model)
    trainer.train()
    assert_close(first, parameters(trainer.model), 0.0)


def test_the_callers_batches_stay_as_they_are(tiny_bert_dir, tmp_path):
    trainer = trainer_for(tiny_bert_dir, tmp_path)
    batch = trainer.data_collator([trainer.train_dataset[1]])
    before = copy.deepcopy(batch)
    trainer.compute_loss(trainer.model, batch)
    assert batch.keys() == before.keys()
    assert batch.pop("left_out") == before.pop("left_out")
    assert all(torch.equal(batch[name], before[name]) for name in batch)


class LowerCalls(TrainerCallback):
    """Counts how often the lowest layer's attention runs."""

    def __init__(self, model: nn.Module) -> None:
        self.count = 0
        attention = model.docre.encoder.encoder.layer[0].attention
        attention.register_forward_hook(lambda *_: setattr(self, "count", self.count + 1))


def frozen_run(encoder: Path, folder: Path, cache: Path | None) -> tuple[dict[str, torch.Tensor], int, DocRETrainer]:
    trainer = trainer_for(
        encoder,
        folder,
        dropout=True,
        num_train_epochs=3,
        freeze_layers=1,
        frozen_cache_dir=None if cache is None else str(cache),
    )
    calls = LowerCalls(trainer.model)
    start = parameters(trainer.model)
    trainer.train()
    end = parameters(trainer.model)
    for name in start:
        frozen = "embeddings" in name or "layer.0." in name
        assert torch.equal(start[name], end[name]) == frozen, name
    return end, calls.count, trainer


def test_frozen_layers_run_once_per_document_and_train_the_same(tiny_bert_dir, tmp_path):
    plain, calls, _ = frozen_run(tiny_bert_dir, tmp_path / "a", None)
    assert calls == 9  # steps
    cold, calls, trainer = frozen_run(tiny_bert_dir, tmp_path / "b", tmp_path / "cache")
    assert calls == 9  # documents
    warm, calls, _ = frozen_run(tiny_bert_dir, tmp_path / "c", tmp_path / "cache")
    assert calls == 1  # one look at the form of the layers' output
    assert_close(cold, warm, 0.0)
    assert_close(plain, cold, 1e-4)
    # After training the model is its own again.
    before = trainer.evaluate()
    with torch.no_grad():
        trainer.model.docre.encoder.embeddings.word_embeddings.weight.normal_()
    assert trainer.evaluate()["eval_loss"] != before["eval_loss"]
