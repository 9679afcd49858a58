"""Extra pairs in training: what they cost, when they begin, where they come from, and which generator is refused."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch.nn import functional
from training_helpers import RELATIONS, arguments, assert_close, fictional, make, parameters, trainer_for
from transformers import TrainerCallback
from vaediff_helpers import axial_model, stories

from modeling_docre import DocREForRelationExtraction, DocREProcessor, VaeDiffConfig, VaeDiffModel
from modeling_docre.augmentation import noisy_copies
from modeling_docre.contrastive import supervised_contrastive_loss
from modeling_docre.contrastive_pretraining import ContrastivePreTrainer
from modeling_docre.losses import pairwise_moving_threshold_loss
from modeling_docre.pair_augmentation import PairAugmentation
from modeling_docre.pair_embeddings import store_pair_embeddings
from modeling_docre.training import DocRETrainer

WIDTH = 32
AXIAL = {"method": "vaediff", "axial_layers": 1, "axial_heads": 2}


def generator_for(**settings) -> VaeDiffModel:
    torch.manual_seed(9)
    settings = {"relations": RELATIONS, "embedding_size": WIDTH, "num_steps": 3, **settings}
    config = VaeDiffConfig(latent_size=6, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, **settings)
    return VaeDiffModel(config)


def batch_of(encoder, count: int = 4):
    model, processor = axial_model(encoder)
    features = processor([fictional(number) for number in range(count)])
    return model.eval(), processor.collate(features)


def extra_pairs(number: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(5)
    labels = torch.zeros(number, 1 + len(RELATIONS))
    for row in range(number):
        labels[row, 1 + row % len(RELATIONS)] = 1
    labels[0, 1:3] = 1
    return torch.randn(number, WIDTH), labels


# The loss


def moving_threshold(logits, labels):
    """PEMSCL, equations 4 to 6, of one pair: both sides of the threshold, and their entropies."""
    z = logits.detach().double().tolist()
    total = 0.0
    for number in range(1, len(z)):
        # Of a relation and the threshold, the right one is to win.
        right, wrong = (number, 0) if labels[number] else (0, number)
        total += math.log(1 + math.exp(z[wrong] - z[right]))
    return total


def contrastive(embeddings, labels, temperature=1.0):
    """VaeDiff-DocRE, equation 28, the logarithm inside the mean."""
    rows = [row for row in range(len(labels)) if labels[row, 1:].any()]
    unit = functional.normalize(embeddings.detach().double(), dim=1)
    total = 0.0
    for anchor in rows:
        others = [row for row in rows if row != anchor]
        shares = [row for row in others if (labels[row, 1:] * labels[anchor, 1:]).any()]
        below = sum(math.exp(float(unit[anchor] @ unit[row]) / temperature) for row in others)
        if shares:
            ratios = [math.log(math.exp(float(unit[anchor] @ unit[row]) / temperature) / below) for row in shares]
            total -= sum(ratios) / len(shares)
    return total / len(rows)


def test_extra_pairs_have_a_mean_of_their_own_and_are_compared(tiny_bert_dir):
    model, batch = batch_of(tiny_bert_dir)
    embeddings, labels = extra_pairs()
    model.config.loss_arguments = {"entropy": False}
    plain = model(**batch, output_pair_embeddings=True)
    output = model(**batch, extra_pair_embeddings=embeddings, extra_labels=labels, output_pair_embeddings=True)
    assert torch.equal(output.logits, plain.logits) and torch.equal(output.losses["pmt"], plain.losses["pmt"])
    logits = model.head.classify(embeddings)
    expected = sum(moving_threshold(*row) for row in zip(logits, labels, strict=True)) / len(labels)
    assert output.losses["extra"].item() == pytest.approx(expected, rel=1e-5)
    compared = contrastive(torch.cat([output.pair_embeddings, embeddings]), torch.cat([batch["labels"], labels]))
    weight = model.config.contrastive_weight
    assert output.losses["contrastive"].item() == pytest.approx(weight * compared, rel=1e-5)
    assert plain.losses["contrastive"].item() != pytest.approx(weight * compared, rel=1e-3)
    assert output.loss.item() == pytest.approx(sum(value.item() for value in output.losses.values()), rel=1e-6)
    # The classifier learns of them as by itself.
    model.zero_grad()
    output.losses["extra"].backward()
    found = model.head.classifier.weight.grad.clone()
    model.zero_grad()
    pairwise_moving_threshold_loss(model.head.classify(embeddings), labels, entropy=False).backward()
    torch.testing.assert_close(found, model.head.classifier.weight.grad)


def test_without_extra_pairs_nothing_changes(tiny_bert_dir):
    model, batch = batch_of(tiny_bert_dir)
    plain = model(**batch)
    nothing = model(**batch, extra_pair_embeddings=torch.zeros(0, WIDTH), extra_labels=torch.zeros(0, 4))
    assert nothing.losses.keys() == plain.losses.keys() and torch.equal(nothing.loss, plain.loss)


def test_parts_of_a_step_add_up(tiny_bert_dir):
    model, processor = axial_model(tiny_bert_dir)
    model.eval()
    features = processor([fictional(number) for number in range(4)])
    embeddings, labels = extra_pairs(6)
    whole = model(**processor.collate(features), extra_pair_embeddings=embeddings, extra_labels=labels)
    pairs = sum(len(item["pairs"]) for item in features)
    parts = []
    for part, rows in ((features[:1], slice(0, 2)), (features[1:], slice(2, 6))):
        batch = processor.collate(part)
        parts.append(
            model(
                **batch,
                extra_pair_embeddings=embeddings[rows],
                extra_labels=labels[rows],
                num_items_in_batch=pairs,
                num_extra_in_batch=6,
            )
        )
    for name in ("pmt", "extra"):
        torch.testing.assert_close(sum(part.losses[name] for part in parts), whole.losses[name])


def test_pairs_of_pemscls_form_are_divided_by_all_that_is_compared(tiny_bert_dir):
    model, batch = batch_of(tiny_bert_dir)
    model.config.contrastive_arguments = {"form": "pemscl"}
    embeddings, labels = extra_pairs()
    output = model(**batch, extra_pair_embeddings=embeddings, extra_labels=labels, output_pair_embeddings=True)
    joined, theirs = torch.cat([output.pair_embeddings, embeddings]), torch.cat([batch["labels"], labels])
    total = supervised_contrastive_loss(joined, theirs, reduction="sum")
    expected = model.config.contrastive_weight * total / len(theirs)
    torch.testing.assert_close(output.losses["contrastive"], expected)
    given = {"num_items_in_batch": len(batch["pairs"]), "num_extra_in_batch": len(labels)}
    again = model(**batch, extra_pair_embeddings=embeddings, extra_labels=labels, **given)
    torch.testing.assert_close(again.losses["contrastive"], expected)


def test_extra_pairs_are_in_the_precision_of_the_pairs(tiny_bert_dir):
    """Processes join them with pairs of others, which may have none."""
    model, batch = batch_of(tiny_bert_dir)
    embeddings, labels = extra_pairs()
    seen = []

    def gather(labels, joined):
        seen.append(joined.dtype)
        return (labels, joined), slice(0, len(labels))

    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(**batch, gather_rows=gather)
        model(**batch, gather_rows=gather, extra_pair_embeddings=embeddings, extra_labels=labels)
    assert seen[0] == seen[1]


def test_extra_pairs_know_no_entity_types(tiny_bert_dir):
    torch.manual_seed(4)
    model = DocREForRelationExtraction.from_encoder(
        tiny_bert_dir, relations=RELATIONS, emb_size=16, block_size=4, use_entity_types=True,
        entity_types=["PER", "LOC"], **AXIAL,
    ).eval()  # fmt: skip
    torch.nn.init.normal_(model.type_pair_bias.weight)
    processor = DocREProcessor.from_encoder(tiny_bert_dir, config=model.config)
    batch = processor.collate(processor([fictional(1)]))
    embeddings, labels = extra_pairs()
    output = model(**batch, extra_pair_embeddings=embeddings, extra_labels=labels)
    scores = model.head.classify(embeddings) + model.type_pair_bias.weight[0]
    torch.testing.assert_close(output.losses["extra"], pairwise_moving_threshold_loss(scores, labels))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"extra_pair_embeddings": torch.zeros(2, WIDTH)}, "pass both, or neither"),
        ({"extra_labels": torch.zeros(2, 4)}, "pass both, or neither"),
        ({"extra_pair_embeddings": torch.zeros(2, 7), "extra_labels": torch.zeros(2, 4)}, r"\(2, 7\)"),
        ({"extra_pair_embeddings": torch.zeros(2, WIDTH), "extra_labels": torch.zeros(1, 4)}, r"\(1, 4\)"),
    ],
)
def test_extra_pairs_of_other_shapes_are_refused(tiny_bert_dir, given, message):
    model, batch = batch_of(tiny_bert_dir, 1)
    with pytest.raises(ValueError, match=message):
        model(**batch, **given)


@pytest.mark.parametrize("given", [{"noise_copies": 1}, {"extra_pair_embeddings": torch.zeros(1, WIDTH)}])
def test_extra_pairs_need_labels_and_one_vector_for_a_pair(tiny_bert_dir, given):
    model, batch = batch_of(tiny_bert_dir, 1)
    given = {**given, "extra_labels": torch.zeros(1, 4)} if "noise_copies" not in given else given
    without = {name: value for name, value in batch.items() if name != "labels"}
    with pytest.raises(ValueError, match="`labels` too"):
        model(**without, **given)
    other, _ = make(tiny_bert_dir)
    with pytest.raises(ValueError, match='head="axial"'):
        other(**batch, **given)


# Noise


def test_noise_is_in_proportion_to_the_spread_of_each_dimension():
    torch.manual_seed(0)
    scale = torch.tensor([0.5, 3.0, 0.0])
    embeddings = (torch.randn(40, 3) * scale + 1).requires_grad_()
    labels = torch.zeros(40, 4)
    labels[:, 0] = 1
    labels[10:30, 2] = 1
    labels[10:30, 0] = 0
    with torch.no_grad():
        embeddings[:10] *= 50  # has no relation, and no part
    noisy, rows = noisy_copies(embeddings, labels, 500, scale=0.2)
    assert rows.tolist() == [row for row in range(10, 30) for _ in range(500)]
    apart = (noisy - embeddings[rows]).detach()
    spread = embeddings[10:30].detach().std(0, correction=0)
    assert apart.mean(0).abs().max() < 0.02
    torch.testing.assert_close(apart.std(0), 0.2 * spread, rtol=0.03, atol=1e-6)
    # Each by itself: no two copies or dimensions alike.
    assert abs(torch.corrcoef(apart[:, :2].T)[0, 1]) < 0.05
    # The gradient is that of the pair itself, as often as it is copied.
    noisy.sum().backward()
    expected = torch.zeros(40, 3)
    expected[10:30] = 500
    torch.testing.assert_close(embeddings.grad, expected)
    again = [noisy_copies(embeddings, labels, 2, generator=torch.Generator().manual_seed(3))[0] for _ in range(2)]
    assert torch.equal(*again)


def test_noise_of_one_pair_and_of_none():
    embeddings, labels = torch.randn(3, 5), torch.tensor([[1.0, 0], [0, 1], [1, 0]])
    noisy, rows = noisy_copies(embeddings, labels, 2)
    assert torch.equal(noisy, embeddings[[1, 1]]) and rows.tolist() == [1, 1]
    noisy, rows = noisy_copies(embeddings, labels * torch.tensor([1.0, 0]), 2)
    assert noisy.shape == (0, 5) and rows.shape == (0,)


def test_noisy_copies_enter_the_loss(tiny_bert_dir):
    model, batch = batch_of(tiny_bert_dir)
    plain = model(**batch, output_pair_embeddings=True)
    rows = (batch["labels"][:, 1:] > 0).any(1).nonzero().squeeze(1).repeat_interleave(2)
    # Without noise, they are the pairs once more.
    output = model(**batch, noise_copies=2, noise_scale=0.0)
    expected = model(
        **batch, extra_pair_embeddings=plain.pair_embeddings[rows].detach(), extra_labels=batch["labels"][rows]
    )
    for name in ("pmt", "extra", "contrastive"):
        torch.testing.assert_close(output.losses[name], expected.losses[name])
    noisy = model(**batch, noise_copies=2, noise_scale=0.5)
    assert not torch.allclose(noisy.losses["extra"], output.losses["extra"])
    assert torch.equal(noisy.losses["pmt"], plain.losses["pmt"])


# In training


class Steps(TrainerCallback):
    """The parameters after each step."""

    def __init__(self) -> None:
        self.seen = []

    def on_step_end(self, args, state, control, model, **_):
        self.seen.append(parameters(model))


def train(encoder, folder, *, generator=None, model_settings=None, trainer=None, **settings):
    callback = Steps()
    torch.manual_seed(1)
    found = trainer_for(
        encoder,
        folder,
        dropout=True,
        model_settings={**AXIAL, **(model_settings or {})},
        trainer={"callbacks": [callback], "eval_dataset": None, "generator": generator, **(trainer or {})},
        **settings,
    )
    output = found.train()
    return found, callback.seen, output


@pytest.fixture(scope="module")
def plain(tiny_bert_dir, tmp_path_factory):
    return train(tiny_bert_dir, tmp_path_factory.mktemp("plain"))


@pytest.mark.parametrize("augmentation", ["vaediff", "gaussian"])
def test_no_copies_train_as_without(tiny_bert_dir, tmp_path, plain, augmentation):
    generator = generator_for() if augmentation == "vaediff" else None
    _, steps, output = train(
        tiny_bert_dir, tmp_path, generator=generator, augmentation=augmentation, augmentation_copies=0,
    )  # fmt: skip
    assert len(steps) == len(plain[1]) > 3
    for found, expected in zip(steps, plain[1], strict=True):
        assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert output.training_loss == plain[2].training_loss


@pytest.mark.parametrize("augmentation", ["vaediff", "gaussian"])
def test_extra_pairs_begin_after_the_warm_up(tiny_bert_dir, tmp_path, plain, augmentation):
    generator = generator_for() if augmentation == "vaediff" else None
    settings = {"augmentation": augmentation, "augmentation_warmup_epochs": 1, "augmentation_warmup_contrastive": True}
    trainer, steps, _ = train(tiny_bert_dir, tmp_path, generator=generator, **settings)
    half = len(steps) // 2
    for number, (found, expected) in enumerate(zip(steps, plain[1], strict=True)):
        alike = all(torch.equal(found[name], expected[name]) for name in expected)
        assert alike == (number < half), number
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert [("loss_extra" in entry) for entry in logs] == [False] * half + [True] * half
    assert all("loss_contrastive" in entry for entry in logs)


def test_the_contrastive_loss_waits_for_extra_pairs(tiny_bert_dir, tmp_path, plain):
    trainer, steps, _ = train(
        tiny_bert_dir, tmp_path / "a", augmentation="gaussian", augmentation_warmup_epochs=1, logging_steps=1
    )
    half = len(steps) // 2
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert [("loss_contrastive" in entry) for entry in logs] == [False] * half + [True] * half
    for entry in logs:
        assert entry["loss"] == pytest.approx(sum(v for k, v in entry.items() if k.startswith("loss_")), rel=1e-4)
    # Until then, it trains as a model without one.
    _, without, _ = train(tiny_bert_dir, tmp_path / "b", model_settings={"contrastive_weight": 0.0})
    for number, (found, expected) in enumerate(zip(steps, without, strict=True)):
        if number < half:
            assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_accumulation_equals_one_batch(tiny_bert_dir, tmp_path):
    settings = {
        "augmentation": "gaussian", "augmentation_warmup_epochs": 0, "augmentation_noise": 0.0, "optim": "sgd",
        "max_steps": 2, "lr_scheduler_type": "constant", "warmup_steps": 0,
    }  # fmt: skip
    ends = []
    for batch, accumulate in ((6, 1), (2, 3)):
        folder = tmp_path / str(batch)
        trainer = trainer_for(
            tiny_bert_dir, folder, 6, model_settings={**AXIAL, "contrastive_weight": 0.0},
            trainer={"eval_dataset": None}, per_device_train_batch_size=batch,
            gradient_accumulation_steps=accumulate, **settings,
        )  # fmt: skip
        trainer.train()
        logs = [entry["loss_extra"] for entry in trainer.state.log_history if "loss" in entry]
        ends.append((parameters(trainer.model), logs))
    assert_close(ends[0][0], ends[1][0], 1e-5)
    assert ends[0][1] == pytest.approx(ends[1][1], rel=1e-4)


@pytest.mark.parametrize("settings", [{"augmentation": "vaediff"}, {"augmentation": "gaussian"},
                                      {"augmentation": "vaediff", "augmentation_bank": 3}])  # fmt: skip
def test_a_resumed_training_draws_what_it_would_have_drawn(tiny_bert_dir, tmp_path, settings):
    def run(folder, **more):
        generator = generator_for() if settings["augmentation"] == "vaediff" else None
        return trainer_for(
            tiny_bert_dir, folder, dropout=True, model_settings=AXIAL,
            trainer={"eval_dataset": None, "generator": generator}, augmentation_warmup_epochs=0.5,
            save_strategy="steps", save_steps=4, **settings, **more,
        )  # fmt: skip

    whole = run(tmp_path)
    whole.train()
    resumed = run(tmp_path)
    torch.manual_seed(77)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    first, second = parameters(whole.model), parameters(resumed.model)
    assert all(torch.equal(first[name], second[name]) for name in first)


# Where they come from


def test_generated_pairs_have_the_labels_of_their_pairs(tiny_bert_dir, tmp_path):
    args = arguments(tmp_path, augmentation="vaediff", augmentation_warmup_epochs=1, augmentation_copies=3)
    generator = generator_for()
    augmentation = PairAugmentation(args, generator)
    _, batch = batch_of(tiny_bert_dir)
    assert [augmentation.has_begun(epoch) for epoch in (None, 0.0, 0.9, 1.0, 2.5)] == [False] * 3 + [True] * 2
    torch.manual_seed(8)
    made = augmentation.inputs(batch["labels"])
    positive = batch["labels"][(batch["labels"][:, 1:] > 0).any(1)]
    assert torch.equal(made["extra_labels"], positive.repeat_interleave(3, 0))
    assert augmentation.count(batch["labels"]) == len(made["extra_labels"]) == len(made["extra_pair_embeddings"])
    torch.manual_seed(8)
    assert torch.equal(made["extra_pair_embeddings"], generator.sample(positive, 3))


def test_a_step_counts_extra_pairs_among_its_anchors(tiny_bert_dir, tmp_path):
    trainer = trainer_for(
        tiny_bert_dir, tmp_path, model_settings=AXIAL, augmentation="gaussian", augmentation_warmup_epochs=1,
        augmentation_copies=3,
    )  # fmt: skip
    batches = [batch_of(tiny_bert_dir, count)[1] for count in (2, 4)]
    anchors = sum(int((batch["labels"][:, 1:] > 0).any(1).sum()) for batch in batches)
    trainer.state.epoch = 0.5
    assert trainer._count_items(batches)["num_anchors_in_batch"] == anchors
    assert "num_extra_in_batch" not in trainer._count_items(batches)
    trainer.state.epoch = 1.0
    counted = trainer._count_items(batches)
    assert (counted["num_anchors_in_batch"], counted["num_extra_in_batch"]) == (4 * anchors, 3 * anchors)


def test_a_training_without_extra_pairs_says_so(tiny_bert_dir, tmp_path, caplog):
    settings = {"augmentation": "gaussian", "augmentation_warmup_epochs": 2, "max_steps": 4}
    with pytest.raises(ValueError, match=r"augmentation_warmup_epochs=2 of 1\.33333 epochs leave none"):
        train(tiny_bert_dir, tmp_path / "a", **settings)

    class Stop(TrainerCallback):
        def on_epoch_end(self, args, state, control, **_):
            control.should_training_stop = True

    train(tiny_bert_dir, tmp_path / "b", trainer={"callbacks": [Stop()]}, **{**settings, "max_steps": -1,
          "num_train_epochs": 3})  # fmt: skip
    assert "was trained for 1 epochs, of which all were without extra pairs" in caplog.text
    # The model that is kept is that of the last epoch before them.
    caplog.clear()
    augmentation = PairAugmentation(arguments(tmp_path, augmentation="gaussian", augmentation_warmup_epochs=2,
                                              num_train_epochs=3))  # fmt: skip
    augmentation.report(2.001)
    assert not caplog.text
    augmentation.report(2.0)
    assert "was trained for 2 epochs" in caplog.text


def test_drawing_is_exact_in_a_training_of_half_precision():
    generator = generator_for(num_steps=50)
    wanted = torch.eye(4)[1:]
    exact = generator.sample(wanted, generator=torch.Generator().manual_seed(1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(generator.sample(wanted, generator=torch.Generator().manual_seed(1)), exact)


def test_a_bank_is_drawn_from_by_relations(tiny_bert_dir, tmp_path):
    args = arguments(tmp_path, augmentation="vaediff", augmentation_warmup_epochs=1, augmentation_bank=4)
    model, batch = batch_of(tiny_bert_dir)
    generator = generator_for()
    banks = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        augmentation = PairAugmentation(args, generator)
        augmentation.fill_bank(stories(), model.config)
        # What a training draws is left as it is.
        assert torch.equal(before, torch.get_rng_state())
        banks.append(augmentation._bank)
    assert torch.equal(*banks) and banks[0].shape == (3, 4, WIDTH)
    draws = [augmentation.inputs(batch["labels"]) for _ in range(30)]
    labels = draws[0]["extra_labels"]
    for row in range(len(labels)):
        number = int(labels[row, 1:].argmax())
        # Sets of relations stand in the order of their classes here.
        drawn = {tuple(draw["extra_pair_embeddings"][row].tolist()) for draw in draws}
        assert drawn == {tuple(vector.tolist()) for vector in banks[0][number]}


def test_no_pair_with_a_relation_adds_none(tiny_bert_dir, tmp_path):
    for settings in ({"augmentation": "vaediff"}, {"augmentation": "vaediff", "augmentation_bank": 2}):
        augmentation = PairAugmentation(arguments(tmp_path, augmentation_warmup_epochs=0, **settings), generator_for())
        model, batch = batch_of(tiny_bert_dir)
        augmentation.fill_bank([], model.config)
        labels = torch.zeros_like(batch["labels"])
        labels[:, 0] = 1
        made = augmentation.inputs(labels)
        assert made["extra_pair_embeddings"].shape == (0, WIDTH) and augmentation.count(labels) == 0
        assert "extra" not in model(**{**batch, "labels": labels}, **made).losses


# Which generator


def own_generator(model, processor, tmp_path, **settings) -> VaeDiffModel:
    about = store_pair_embeddings(model, processor, stories(), tmp_path / "pairs").manifest
    return generator_for(embeddings_of=about["embeddings_of"], **settings)


def test_a_generator_of_this_model_alone_is_taken(tiny_bert_dir, tmp_path):
    model, processor = axial_model(tiny_bert_dir)
    generator = own_generator(model, processor, tmp_path)
    args = arguments(tmp_path / "run", augmentation="vaediff", augmentation_warmup_epochs=0)
    given = {"train_dataset": [fictional(1)], "processing_class": processor, "generator": generator}
    DocRETrainer(model, args, **given).train()
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.head.classifier.bias[1] += 1e-3
    trainer = DocRETrainer(other, args, eval_dataset=[fictional(2)], **given)
    # It may be evaluated, and not trained.
    trainer.evaluate()
    with pytest.raises(ValueError, match=r"than the one that is to be trained.*generator_of=FOLDER"):
        trainer.train()
    # A new model is trained, where that one is named: as it was before training.
    model, _ = axial_model(tiny_bert_dir)
    model.save_pretrained(tmp_path / "first")
    processor.save_pretrained(tmp_path / "first")
    args.generator_of = str(tmp_path / "first")
    DocRETrainer(other, args, **given).train()
    other.save_pretrained(tmp_path / "second")
    processor.save_pretrained(tmp_path / "second")
    args.generator_of = str(tmp_path / "second")
    with pytest.raises(ValueError, match="another model, or with other settings, than generator_of="):
        DocRETrainer(other, args, **given).train()


def test_a_generator_from_a_folder_goes_on(tiny_bert_dir, tmp_path):
    model, processor = axial_model(tiny_bert_dir)
    own_generator(model, processor, tmp_path).save_pretrained(tmp_path / "generator")
    args = arguments(
        tmp_path / "run", augmentation="vaediff", augmentation_warmup_epochs=0, generator=str(tmp_path / "generator")
    )
    documents = [fictional(number) for number in range(4)]
    trainer = DocRETrainer(model, args, train_dataset=documents, processing_class=processor)
    trainer.train()
    assert all("loss_extra" in entry for entry in trainer.state.log_history if "loss" in entry)


@pytest.mark.parametrize("passed", ["object", "argument"])
def test_the_card_names_the_generator(tiny_bert_dir, tmp_path, passed):
    model, processor = axial_model(tiny_bert_dir)
    folder = tmp_path / "generator"
    own_generator(model, processor, tmp_path).save_pretrained(folder)
    given = {"generator": str(folder)} if passed == "argument" else {}
    args = arguments(tmp_path / "run", augmentation="vaediff", augmentation_warmup_epochs=0, max_steps=1, **given)
    generator = VaeDiffModel.from_pretrained(folder) if passed == "object" else None
    documents = [fictional(number) for number in range(4)]
    trainer = DocRETrainer(model, args, train_dataset=documents, processing_class=processor, generator=generator)
    trainer.train()
    trainer.save_model(str(tmp_path / "model"))
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    assert "| generator | generator |" in card and str(tmp_path) not in card


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"relations": RELATIONS[::-1]}, "not in their order"),
        ({"relations": [*RELATIONS, "P17"]}, "knows 4 relations, which are not the 3"),
        ({"embedding_size": 16}, "of 16 numbers"),
    ],
)
def test_a_generator_of_other_relations_or_width_is_refused(tiny_bert_dir, tmp_path, settings, message):
    model, processor = axial_model(tiny_bert_dir)
    args = arguments(tmp_path, augmentation="vaediff", augmentation_warmup_epochs=0)
    with pytest.raises(ValueError, match=message):
        DocRETrainer(model, args, processing_class=processor, generator=generator_for(**settings))


def test_a_generator_that_does_not_say_whose_it_is_is_taken_with_a_word(tiny_bert_dir, tmp_path, caplog):
    model, processor = axial_model(tiny_bert_dir)
    args = arguments(tmp_path, augmentation="vaediff", augmentation_warmup_epochs=0)
    DocRETrainer(model, args, [fictional(1)], processing_class=processor, generator=generator_for()).train()
    assert "does not say of which model" in caplog.text


def test_methods_with_two_vectors_for_a_pair_are_refused(tiny_bert_dir, tmp_path):
    with pytest.raises(ValueError, match='head="axial"'):
        trainer_for(tiny_bert_dir, tmp_path, augmentation="gaussian", augmentation_warmup_epochs=0)


def test_generators_that_are_missing_or_idle_are_refused(tiny_bert_dir, tmp_path):
    model, processor = axial_model(tiny_bert_dir)
    args = arguments(tmp_path, augmentation="vaediff", augmentation_warmup_epochs=0)
    with pytest.raises(ValueError, match="needs one generator"):
        DocRETrainer(model, args, processing_class=processor)
    with pytest.raises(TypeError, match=r"VaeDiffModel\.from_pretrained"):
        DocRETrainer(model, args, processing_class=processor, generator="runs/generator")
    with pytest.raises(ValueError, match="would not be used"):
        DocRETrainer(model, arguments(tmp_path), processing_class=processor, generator=generator_for())
    contrastive_model, its_processor = make(tiny_bert_dir, pretraining=True)
    with pytest.raises(ValueError, match="augmentation would not be used"):
        ContrastivePreTrainer(contrastive_model, args, processing_class=its_processor)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"augmentation": "noise"}, "is not known"),
        ({"augmentation": "vaediff", "augmentation_noise": 0.2}, "augmentation_noise would do nothing"),
        ({"augmentation": "gaussian", "augmentation_bank": 3}, "augmentation_bank would do nothing"),
        ({"augmentation": "gaussian", "generator": "x"}, "generator would do nothing"),
        ({"augmentation_copies": 3}, "augmentation_copies would do nothing with augmentation='none'"),
        ({"generator_of": "x"}, "generator_of would do nothing"),
        ({"augmentation": "gaussian", "augmentation_copies": -1}, "pass 0 or more"),
        ({"augmentation": "gaussian", "augmentation_noise": float("nan")}, "pass 0 or more"),
        ({"augmentation": "gaussian", "augmentation_warmup_epochs": 2}, "leave none to augment"),
        ({"augmentation": "vaediff", "augmentation_warmup_epochs": 0, "generator": ["a"]}, "not one folder or Hub id"),
    ],
)
def test_arguments_that_say_nothing_are_refused(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        arguments(tmp_path, **settings)


def test_settings_that_are_null_are_the_defaults(tmp_path):
    args = arguments(tmp_path, augmentation_copies=None, augmentation_warmup_epochs=None, generator=None)
    assert (args.augmentation_copies, args.augmentation_warmup_epochs) == (2, 5.0)


def test_a_step_without_pairs_learns_nothing(tiny_bert_dir, tmp_path):
    """Documents of one entity each, and so nothing that a mean is over."""
    alone = [{**fictional(0, f"Alone {number}"), "labels": []} for number in range(2)]
    for story in alone:
        story["vertexSet"] = story["vertexSet"][:1]
    trainer, _, output = train(
        tiny_bert_dir, tmp_path, trainer={"train_dataset": alone}, augmentation="gaussian",
        augmentation_warmup_epochs=0, optim="sgd", weight_decay=0.0,
    )  # fmt: skip
    assert output.training_loss == 0.0
    first, _ = make(tiny_bert_dir, dropout=True, **AXIAL)
    assert all(torch.equal(value, parameters(first)[name]) for name, value in parameters(trainer.model).items())
