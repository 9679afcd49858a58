"""The training of a generator: what learns when, at which rate, and that it goes on where it was interrupted."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from training_helpers import RELATIONS
from transformers import TrainerCallback
from vaediff_helpers import axial_model, stories

from modeling_docre import VaeDiffConfig, VaeDiffModel
from modeling_docre.output_files import DataFileError
from modeling_docre.pair_embeddings import store_pair_embeddings
from modeling_docre.vaediff import VaeDiffForTraining
from modeling_docre.vaediff_training import VaeDiffTrainer, VaeDiffTrainingArguments


@pytest.fixture(scope="module")
def store(tiny_bert_dir, tmp_path_factory):
    return store_pair_embeddings(*axial_model(tiny_bert_dir), stories(), tmp_path_factory.mktemp("pairs") / "store")


def generator_for(**settings) -> VaeDiffForTraining:
    torch.manual_seed(2)
    sizes = {
        "embedding_size": 32,
        "latent_size": 6,
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
    }
    return VaeDiffForTraining(VaeDiffConfig(RELATIONS, **sizes, **settings))


def trainer_for(store, folder, callbacks=None, model=None, trainer_class=VaeDiffTrainer, **settings) -> VaeDiffTrainer:
    model = generator_for() if model is None else model
    settings = {
        "num_train_epochs": 4,
        "autoencoder_epochs": 2,
        "per_device_train_batch_size": 3,
        "use_cpu": True,
        "disable_tqdm": True,
        **settings,
    }
    args = VaeDiffTrainingArguments(output_dir=str(folder), **settings)
    return trainer_class(model, args, store, callbacks)


class Watch(TrainerCallback):
    """What the parameters and rates are at the end of each epoch; stops after some."""

    def __init__(self, stop: int | None = None) -> None:
        self.seen, self.rates, self.stop = [], [], stop

    def on_epoch_end(self, args, state, control, model, optimizer, **_):
        self.seen.append({name: value.detach().clone() for name, value in model.state_dict().items()})
        self.rates.append([group["lr"] for group in optimizer.param_groups])
        if self.stop == len(self.seen):
            control.should_training_stop = True


def test_the_autoencoder_learns_first_and_then_both(store, tmp_path):
    watch = Watch()
    trainer = trainer_for(store, tmp_path, [watch])
    start = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.train()
    steps = math.ceil(len(store) / 3)
    for epoch, seen in enumerate(watch.seen):
        learned = any(not torch.equal(seen[name], start[name]) for name in seen if name.startswith("learner."))
        assert learned == (epoch >= 2)
        assert not torch.equal(seen["vae.mean.weight"], start["vae.mean.weight"])
        assert int(seen["num_updates"]) == max(0, epoch - 1) * steps
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert [entry["epoch"] for entry in logs] == [1, 2, 3, 4]
    for entry in logs:
        weight = 1e-3 if entry["epoch"] > 2 else 1e-6
        expected = entry["loss_reconstruction"] + weight * (entry["loss_entropy"] + entry["loss_cross_entropy"])
        expected += entry.get("loss_prior", 0.0)
        assert entry["loss"] == pytest.approx(expected, rel=1e-4)
        assert ("loss_prior" in entry) == (entry["epoch"] > 2)
    # Down a cosine, and constant.
    total = 4 * steps
    for epoch, (autoencoder, prior) in enumerate(watch.rates, 1):
        cosine = (1 + math.cos(math.pi * epoch * steps / total)) / 2
        assert autoencoder == pytest.approx(2e-5 + 1.8e-4 * cosine) and prior == 5e-5


def test_a_store_without_pairs_is_refused(tiny_bert_dir, tmp_path):
    silent = [dataclasses.replace(document, relations=()) for document in stories()]
    empty = store_pair_embeddings(*axial_model(tiny_bert_dir), silent, tmp_path / "store")
    with pytest.raises(ValueError, match="holds no pair embeddings: no pair of its documents has a relation"):
        trainer_for(empty, tmp_path / "run")


def test_an_interrupted_training_goes_on_to_the_same_numbers(store, tmp_path):
    straight = trainer_for(store, tmp_path / "straight")
    straight.train()
    # In the epoch after the prior's first.
    trainer_for(store, tmp_path / "other", [Watch(stop=3)]).train()
    resumed = trainer_for(store, tmp_path / "other")
    with torch.no_grad():
        # The checkpoint brings all of it.
        for value in resumed.model.parameters():
            value += 1.0
    resumed.train(resume_from_checkpoint=True)
    for name, value in straight.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value), name
    logs = [
        [
            {key: entry[key] for key in entry if key.startswith("loss") or key == "epoch"}
            for entry in one.state.log_history
        ]
        for one in (straight, resumed)
    ]
    assert logs[0][:-1] == logs[1][:-1] and len(logs[0]) == 5


def test_a_step_is_a_mean_over_all_its_pairs(store, tmp_path):
    """Documents have different numbers of pairs, and one has none."""
    seen = []

    class Counting(VaeDiffTrainer):
        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            seen.append((len(inputs["labels"]), int(num_items_in_batch)))
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)

    trainer = trainer_for(store, tmp_path, trainer_class=Counting, per_device_train_batch_size=1,
                          gradient_accumulation_steps=3, autoencoder_epochs=1, num_train_epochs=2)  # fmt: skip
    trainer.train()
    steps = [seen[start : start + 3] for start in range(0, 6, 3)]
    for step in steps:
        assert {total for _, total in step} == {max(1, sum(count for count, _ in step))}
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    for entry in logs:
        weight = 1e-3 if entry["epoch"] > 1 else 1e-6
        terms = entry["loss_reconstruction"] + weight * (entry["loss_entropy"] + entry["loss_cross_entropy"])
        assert entry["loss"] == pytest.approx(terms + entry.get("loss_prior", 0.0), rel=1e-4)


def test_parts_of_the_optimizer_and_the_pace_of_the_average(store, tmp_path):
    class Follow(TrainerCallback):
        learned, average = [], []

        def on_step_end(self, args, state, control, model, **_):
            self.learned.append(model.learner.output.bias.detach().clone())
            self.average.append(model.denoiser.output.bias.detach().clone())

    watch = Follow()
    trainer = trainer_for(store, tmp_path, autoencoder_epochs=0, num_train_epochs=5, average_decay=0.5)
    trainer.add_callback(watch)
    trainer.train()
    assert [group["weight_decay"] for group in trainer.optimizer.param_groups] == [0.01, 0.01]
    counted = [sum(one.numel() for one in group["params"]) for group in trainer.optimizer.param_groups]
    assert counted == [
        sum(one.numel() for one in part.parameters()) for part in (trainer.generator.vae, trainer.generator.learner)
    ]
    expected = None
    for step, learned in enumerate(watch.learned, 1):
        expected = learned if step <= 10 else (expected + learned) / 2
        torch.testing.assert_close(watch.average[step - 1], expected)
    assert len(watch.learned) > 12


def test_what_is_saved_is_a_generator_of_those_embeddings(store, tmp_path):
    trainer = trainer_for(store, tmp_path, autoencoder_epochs=0, num_train_epochs=5, average_decay=0.5)
    trainer.train()
    trainer.save_model()
    generator = VaeDiffModel.from_pretrained(tmp_path)
    assert generator.config.embeddings_of == store.manifest["embeddings_of"]
    for name, value in trainer.model.denoiser.state_dict().items():
        assert torch.equal(generator.denoiser.state_dict()[name], value)
    assert not torch.equal(generator.denoiser.output.weight, trainer.model.learner.output.weight)
    assert generator.sample([["rules"]], 2).shape == (2, 32)


def test_embeddings_are_divided_by_their_deviation(store, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr("modeling_docre.vaediff_training.logger.warning", said.append)
    everything = np.asarray(store.embeddings, np.float64)
    deviation = np.sqrt((everything**2).mean())
    assert store.deviation() == pytest.approx(deviation) and store.deviation() != 1.0
    monkeypatch.setattr("modeling_docre.pair_embeddings._CHUNK", 3)
    assert store.deviation() == pytest.approx(deviation)
    assert store.share_beyond(0.5) == pytest.approx((abs(everything) > 0.5).mean()) and 0 < store.share_beyond(0.5) < 1
    assert trainer_for(store, tmp_path / "plain").generator.config.embedding_scale == 1.0 and not said
    trainer = trainer_for(store, tmp_path, model=generator_for(embedding_scale="deviation"))
    trainer.train()
    trainer.generator.without_learner().save_pretrained(tmp_path / "saved")
    saved = VaeDiffModel.from_pretrained(tmp_path / "saved")
    assert saved.config.embedding_scale == trainer.generator.embedding_scale == store.deviation()
    # A resumed training has the same.
    again = trainer_for(store, tmp_path, model=generator_for(embedding_scale="deviation"), num_train_epochs=5)
    again.train(resume_from_checkpoint=True)
    assert again.generator.embedding_scale == store.deviation() and not said
    other = trainer_for(store, tmp_path, model=generator_for(embedding_scale=7.0), num_train_epochs=6)
    with pytest.raises(ValueError, match=r"was trained with embedding_scale=0\.9.*, and this generator has 7\.0"):
        other.train(resume_from_checkpoint=True)


def test_numbers_out_of_reach_are_told(store, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr("modeling_docre.vaediff_training.logger.warning", said.append)
    numbers = np.zeros(store.embeddings.shape, np.float32)

    def make(share, **settings):
        numbers.flat[:] = 1.0
        numbers.flat[: round(share * numbers.size)] = -60.0
        monkeypatch.setattr(store, "embeddings", numbers.copy())
        return trainer_for(store, tmp_path, model=generator_for(**settings))

    make(0.009)
    assert not said
    make(0.012)
    assert len(said) == 1 and "1.3% of the numbers" in said[0] and "lie beyond 5, where the decoder's means" in said[0]
    assert "embedding_scale is 1, and their deviation 6." in said[0]
    make(0.2, embedding_scale="deviation")
    assert len(said) == 1, "60 is within five times 27"
    make(0.2, embedding_scale=11.0)
    assert len(said) == 2 and "lie beyond 55" in said[1]
    numbers[:] = np.nan
    monkeypatch.setattr(store, "embeddings", numbers)
    with pytest.raises(DataFileError, match="holds embeddings that are not finite"):
        trainer_for(store, tmp_path)


def test_half_a_checkpoint_is_passed_over(store, tmp_path):
    trainer_for(store, tmp_path).train()
    newest = max(tmp_path.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    (newest / "trainer_state.json").unlink()
    again = trainer_for(store, tmp_path)
    again.train(resume_from_checkpoint=True)
    assert again._resumed_from != str(newest) and again.state.epoch == 4
    with pytest.raises(ValueError, match="There is no complete checkpoint"):
        trainer_for(store, tmp_path / "nowhere").train(resume_from_checkpoint=True)


def test_saved_arguments_hold_no_token_and_no_place(store, tmp_path):
    args = VaeDiffTrainingArguments(output_dir=str(tmp_path / "somewhere"), hub_token="hf_secret", use_cpu=True)
    torch.save(args, tmp_path / "args.bin")
    content = (tmp_path / "args.bin").read_bytes()
    assert b"hf_secret" not in content and str(tmp_path).encode() not in content
    assert args.hub_token == "hf_secret" and args.output_dir == str(tmp_path / "somewhere")


def test_wrong_settings_and_embeddings_of_another_model(store, tmp_path):
    with pytest.raises(ValueError, match="are 32 wide: make it with embedding_size=32"):
        trainer_for(store, tmp_path, model=VaeDiffForTraining(VaeDiffConfig(RELATIONS, embedding_size=16)))
    with pytest.raises(ValueError, match="other relations than the embeddings"):
        trainer_for(store, tmp_path, model=VaeDiffForTraining(VaeDiffConfig(RELATIONS[::-1], embedding_size=32)))
    with pytest.raises(ValueError, match="autoencoder_epochs=4 epochs, and there are 4: the prior would never learn"):
        trainer_for(store, tmp_path, autoencoder_epochs=4)
    with pytest.raises(ValueError, match=r"there are 0\.666667"):
        trainer_for(store, tmp_path, max_steps=2, autoencoder_epochs=1)
    other = VaeDiffForTraining(VaeDiffConfig(RELATIONS, embedding_size=32, embeddings_of="abc"))
    with pytest.raises(ValueError, match="of another model than those of"):
        trainer_for(store, tmp_path, model=other)
    other.save_pretrained(tmp_path / "checkpoint-3")
    with pytest.raises(ValueError, match="checkpoint-3 was trained on the pair embeddings of another model"):
        trainer_for(store, tmp_path).train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    with pytest.raises(ValueError, match=r"min_learning_rate=0\.1 is above"):
        VaeDiffTrainingArguments(output_dir=str(tmp_path), min_learning_rate=0.1)
    with pytest.raises(ValueError, match="would not be used"):
        VaeDiffTrainingArguments(output_dir=str(tmp_path), lr_scheduler_type="cosine")
    for name, value in (("kl_weight", -1.0), ("average_decay", 1.5), ("autoencoder_epochs", -1)):
        with pytest.raises(ValueError, match=f"{name}="):
            VaeDiffTrainingArguments(output_dir=str(tmp_path), **{name: value})
