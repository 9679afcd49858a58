"""Contrastive pre-training with one queue per relation: the loss, the queues, the momentum copy, the trainer."""

from __future__ import annotations

import math
from collections import deque
from pathlib import Path

import pytest
import torch
from forked import run_python
from torch.nn import functional
from training_helpers import (
    RELATIONS,
    arguments,
    assert_close,
    fictional,
    make,
    parameters,
    parameters_of,
    train_in_processes,
    train_killed_and_resumed,
)

from modeling_docre import (
    DocREConfig,
    DocREForContrastivePreTraining,
    DocREForRelationExtraction,
    Document,
)
from modeling_docre.contrastive import info_nce_loss
from modeling_docre.contrastive_pretraining import ContrastivePreTrainer
from modeling_docre.relation_queues import RelationQueues
from modeling_docre.training import DocRETrainer

# The loss


def by_loops(embeddings, keys, positives, negatives, temperature, positive_reduction):
    """Equation 15, key by key."""
    total = []
    for i, anchor in enumerate(embeddings):
        scores = [functional.cosine_similarity(anchor, key, dim=0) / temperature for key in keys]
        against = [scores[k] for k in range(len(keys)) if negatives[i, k]]
        costs = [
            -(scores[k].exp() / (scores[k].exp() + sum(score.exp() for score in against))).log()
            for k in range(len(keys))
            if positives[i, k] and against
        ]
        cost = sum(costs) if costs else anchor.sum() * 0
        total.append(cost / max(int(positives[i].sum()), 1) if positive_reduction == "mean" else cost)
    return torch.stack(total)


@pytest.mark.parametrize("positive_reduction", ["mean", "sum"])
@pytest.mark.parametrize("temperature", [0.2, 0.5])
def test_info_nce_by_loops(temperature, positive_reduction):
    generator = torch.Generator().manual_seed(3)
    embeddings = torch.randn(5, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    keys = torch.randn(7, 4, generator=generator, dtype=torch.float64)
    kind = torch.randint(3, (5, 7), generator=generator)
    kind[3] = 1  # no negative key
    kind[4] = 2  # no positive key
    positives, negatives = kind == 1, kind == 2
    settings = {"temperature": temperature, "positive_reduction": positive_reduction}
    expected = by_loops(embeddings, keys, positives, negatives, temperature, positive_reduction)
    found = info_nce_loss(embeddings, keys, positives, negatives, reduction="none", **settings)
    torch.testing.assert_close(found, expected)
    assert found[3] == found[4] == 0
    weights = torch.arange(1.0, 6, dtype=torch.float64)
    gradients = [torch.autograd.grad((one * weights).sum(), embeddings)[0] for one in (found, expected)]
    torch.testing.assert_close(*gradients)
    for reduction, value in (("sum", found.sum()), ("mean", found.mean())):
        got = info_nce_loss(embeddings, keys, positives, negatives, reduction=reduction, **settings)
        torch.testing.assert_close(got, value)


@pytest.mark.parametrize(("anchors", "keys"), [(0, 0), (0, 3), (3, 0)])
def test_info_nce_of_nothing_is_nothing(anchors, keys):
    embeddings = torch.randn(anchors, 4, requires_grad=True)
    mask = torch.ones(anchors, keys, dtype=torch.bool)
    for reduction in ("mean", "sum"):
        loss = info_nce_loss(embeddings, torch.randn(keys, 4), mask, ~mask, reduction=reduction)
        assert loss == 0
        loss.backward()
        assert torch.isfinite(embeddings.grad).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_info_nce_in_half_precision_and_with_embeddings_of_zeros(dtype):
    # What comes out of a ReLU may be all zeros.
    embeddings = (torch.randn(6, 4, generator=torch.Generator().manual_seed(1)).relu() * 100).to(dtype)
    embeddings[2] = 0
    embeddings.requires_grad_()
    keys = embeddings.detach().clone()
    positives = torch.eye(6, dtype=torch.bool)
    loss = info_nce_loss(embeddings, keys, positives, ~positives, temperature=0.05)
    loss.backward()
    assert loss.dtype == torch.float32 and torch.isfinite(loss) and torch.isfinite(embeddings.grad).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"temperature": 0.0}, "temperature"),
        ({"positive_reduction": "max"}, r'"mean" or "sum", got .max'),
        ({"reduction": "median"}, "median"),
        (
            {"negatives": torch.ones(2, 2, dtype=torch.bool)},
            r"`negatives` must be \(num_anchors, num_keys\), \(2, 3\)",
        ),
    ],
)
def test_wrong_arguments_of_info_nce(arguments, message):
    mask = torch.ones(2, 3, dtype=torch.bool)
    given = {"positives": mask, "negatives": mask, **arguments}
    with pytest.raises(ValueError, match=message):
        info_nce_loss(torch.randn(2, 4), torch.randn(3, 4), **given)


# The queues


def test_queues_are_first_in_first_out_for_each_relation():
    generator = torch.Generator().manual_seed(0)
    queues, plain, number = RelationQueues(3, 4, 1), [deque(maxlen=4) for _ in range(3)], 0
    for size in (2, 5, 0, 9, 1, 30, 3):
        labels = torch.rand(size, 3, generator=generator) < 0.4
        ids = torch.arange(number, number + size, dtype=torch.float32)[:, None] + 1
        queues.push(ids, labels.float())
        for item, row in zip(ids[:, 0].tolist(), labels.tolist(), strict=True):
            for relation, holds in enumerate(row):
                if holds:
                    plain[relation].append(item)
        number += size
        for relation in range(3):
            anchor = torch.zeros(1, 3)
            anchor[0, relation] = 1
            keys, positives, _ = queues.compare(anchor)
            assert keys[positives[0], 0].tolist() == list(plain[relation])
        # A pair of several relations is there once, and not longer than a queue holds it.
        keys = queues.compare(torch.zeros(0, 3))[0][:, 0].tolist()
        assert sorted(keys) == sorted({item for queue in plain for item in queue})


def test_keys_that_share_a_relation_are_no_negatives():
    queues = RelationQueues(3, 2, 1)
    labels = torch.tensor([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0], [1, 0, 0]])
    queues.push(torch.arange(6.0)[:, None], labels)
    keys, positives, negatives = queues.compare(torch.tensor([[1, 0, 0], [0, 1, 1]]))
    # Keys 0 and 1 have left the first queue; 1 is still in the second, and shares the first relation.
    assert keys[:, 0].tolist() == [1, 2, 3, 4, 5]
    assert positives.tolist() == [[False, False, False, True, True], [True, True, True, False, False]]
    assert negatives.tolist() == [[False, True, True, False, False], [False, False, False, True, True]]


def test_empty_queues_and_relations_never_seen():
    queues = RelationQueues(2, 3, 4)
    keys, positives, negatives = queues.compare(torch.tensor([[1, 0]]))
    assert keys.shape == (0, 4) and positives.shape == negatives.shape == (1, 0)
    queues.push(torch.ones(1, 4), torch.tensor([[1, 0]]))
    _, positives, negatives = queues.compare(torch.tensor([[0, 1]]))
    assert not positives.any() and negatives.all()


# The model


def batch_of(processor, numbers):
    return processor.collate(processor([Document.from_docred(fictional(number)) for number in numbers]))


def test_a_step_by_hand(tiny_bert_dir):
    model, processor = make(tiny_bert_dir, pretraining=True, moco_queue_size=50, moco_temperature=0.3)
    first, second = batch_of(processor, [0, 1]), batch_of(processor, [2, 5])
    model.train()
    model(**first)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.startswith("momentum."):
                parameter.add_(0.01)
    before = {name: value.clone() for name, value in model.momentum.state_dict().items()}
    stored = model.queues.compare(torch.zeros(0, 3))[0]
    output = model(**second)
    for name, value in model.momentum.state_dict().items():
        online = dict(model.named_parameters()) | dict(model.named_buffers())
        if value.is_floating_point():
            torch.testing.assert_close(value, 0.99 * before[name] + 0.01 * online[name], atol=1e-6, rtol=1e-5)
    related = (second["labels"][:, 1:] > 0).any(1)
    assert torch.equal(output.pairs, second["pairs"][related])
    # Both branches are the bilinear head up to its classifier, two linear layers and one ReLU (equations 9, 10, 13).
    for branch, expected in ((model, output.embeddings), (model.momentum, None)):
        states = branch.docre(**{k: second[k] for k in ("input_ids", "attention_mask", "mentions", "num_entities")})
        factors = branch.head.pair_embeddings(
            states.last_hidden_state, states.entity_embeddings, states.entity_attention, states.num_entities,
            output.pairs,
        )  # fmt: skip
        lower, upper, _ = branch.projection
        found = (torch.cat(factors, 1) @ lower.weight.t() + lower.bias) @ upper.weight.t() + upper.bias
        found = found.clamp(min=0)
        if expected is not None:
            torch.testing.assert_close(found, expected)
    keys = torch.cat([stored, functional.normalize(found, dim=1, eps=1e-6)])
    of_keys = torch.cat([first["labels"], second["labels"]])[:, 1:]
    of_keys = of_keys[(of_keys > 0).any(1)] > 0
    shares = of_keys[len(stored) :].float() @ of_keys.float().t() > 0
    expected = by_loops(output.embeddings, keys, shares, ~shares, 0.3, "mean").mean()
    torch.testing.assert_close(output.loss, expected, atol=1e-5, rtol=1e-5)
    assert not any(parameter.requires_grad for parameter in model.momentum.parameters())


@pytest.mark.parametrize("probability", [0.0, 0.4])
def test_masked_copies_are_anchors_and_keys(tiny_bert_dir, probability):
    settings = {"era_copies": 2, "era_mask_probability": probability, "era_relations": ["born_in"]}
    model, processor = make(tiny_bert_dir, pretraining=True, moco_queue_size=50, **settings)
    batch = batch_of(processor, [0, 1, 2])
    output = model.train()(**batch)
    # Of the 6 pairs with a relation, each document has one of birth.
    born = (batch["labels"][:, 1:] > 0)[(batch["labels"][:, 1:] > 0).any(1)][:, 0].nonzero()[:, 0].tolist()
    copied = [row for row in born for _ in range(2)]
    assert len(born) == 3 and len(output.embeddings) == len(output.pairs) == 12 and model.queues.filled == 12
    assert torch.equal(output.pairs[6:], output.pairs[copied])
    distances = (output.embeddings[6:] - output.embeddings[copied]).abs().amax(1)
    assert (distances < 1e-6).all() if probability == 0 else distances.max() > 1e-6
    # Copies come into the queues right behind their pairs.
    arrival = [row for pair in range(6) for row in [pair] + [pair] * (2 if pair in born else 0)]
    relations = batch["labels"][:, 1:][(batch["labels"][:, 1:] > 0).any(1)] > 0
    assert torch.equal(model.queues.labels[:12], relations[arrival])
    if probability == 0:
        alone, _ = make(tiny_bert_dir, pretraining=True, moco_queue_size=50, **settings, method="atlop")
        alone.config.era_copies = 0
        alone.train()(**batch)
        torch.testing.assert_close(model.queues.embeddings[:12], alone.queues.embeddings[:6][arrival])
    halved = model(**batch, num_items_in_batch=24, update=False)
    assert halved.loss < output.loss
    assert len(model.eval()(**batch).embeddings) == 6


def test_copies_count_as_anchors_of_a_step(tiny_bert_dir, tmp_path):
    trainer = trainer_for(tiny_bert_dir, tmp_path, model_settings={"era_copies": 2, "era_relations": ["born_in"]})
    batches = [trainer.data_collator([trainer.train_dataset[number]]) for number in (0, 1, 2)]
    assert trainer._get_num_items_in_batch(batches, torch.device("cpu")) == 6 + 3 * 2


def test_the_copy_begins_as_one(tiny_bert_dir):
    model, _ = make(tiny_bert_dir, pretraining=True)
    for each in (model, DocREForContrastivePreTraining(model.config)):
        for part in ("docre", "head", "projection"):
            assert_close(parameters(getattr(each.momentum, part)), parameters(getattr(each, part)), 0.0)


def test_the_copy_follows_by_a_power_of_its_momentum(tiny_bert_dir):
    model, _ = make(tiny_bert_dir, pretraining=True, moco_momentum=0.9)
    weight, copied = model.head.head_projection.weight, model.momentum.head.head_projection.weight
    before = copied.clone()
    with torch.no_grad():
        weight.add_(1.0)
    for _ in range(5):
        model.update_momentum()
    torch.testing.assert_close(copied, weight - 0.9**5)
    assert torch.equal(weight, before + 1)


def test_evaluation_changes_neither_copy_nor_queues(tiny_bert_dir):
    model, processor = make(tiny_bert_dir, pretraining=True)
    batch = batch_of(processor, [0, 1, 2])
    model.train()(**batch)
    with torch.no_grad():
        model.head.head_projection.weight.add_(1.0)
    before = parameters(model)
    output = model.eval()(**batch)
    assert output.loss > 0
    assert_close(parameters(model), before, 0.0)
    everything = model(**{name: value for name, value in batch.items() if name != "labels"})
    assert everything.loss is None and len(everything.embeddings) == len(batch["pairs"])
    assert model(**batch, return_dict=False)[0] == output.loss


def test_documents_without_relations_cost_nothing(tiny_bert_dir):
    model, processor = make(tiny_bert_dir, pretraining=True)
    batch = batch_of(processor, [0, 1])
    batch["labels"] = torch.zeros_like(batch["labels"])
    batch["labels"][:, 0] = 1
    output = model.train()(**batch)
    output.loss.backward()
    assert output.loss == 0 and model.queues.filled == 0


def test_encoder_and_fusion_layers_go_on_into_relation_extraction(tiny_bert_dir, tmp_path):
    model, processor = make(tiny_bert_dir, pretraining=True)
    model.train()(**batch_of(processor, [0, 1, 2]))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.01)
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    loaded = DocREForContrastivePreTraining.from_pretrained(tmp_path)
    assert_close(parameters(loaded), parameters(model), 0.0)
    for source, kind in (
        (str(tmp_path), DocREForRelationExtraction),
        (model, DocREForRelationExtraction),
        (str(tmp_path), DocREForContrastivePreTraining),
    ):
        tokenizer = None if isinstance(source, str) else processor.tokenizer
        relations = kind.from_encoder(source, relations=["x", "y"], emb_size=16, block_size=4, tokenizer=tokenizer)
        for layer in ("head_projection", "tail_projection"):
            assert torch.equal(getattr(relations.head, layer).weight, getattr(model.head, layer).weight)
        assert_close(parameters(relations.docre.encoder), parameters(model.docre.encoder), 0.0)
    # It is a copy.
    with torch.no_grad():
        relations.head.head_projection.weight.add_(1.0)
    assert not torch.equal(relations.head.head_projection.weight, model.head.head_projection.weight)


def test_what_does_not_fit_says_what_would(tiny_bert_dir, tmp_path):
    model, processor = make(tiny_bert_dir, pretraining=True)
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="had 16: pass emb_size=16"):
        DocREForRelationExtraction.from_encoder(str(tmp_path), relations=["x"], emb_size=32, block_size=4)
    with pytest.raises(ValueError, match="take the encoder alone"):
        DocREForRelationExtraction.from_encoder(
            str(tmp_path), "kd-docre", ["x"], emb_size=16, block_size=4, axial_heads=4
        )
    with pytest.raises(ValueError, match=r"lacks weights.*head\.classifier.*are pre-trained.*from_encoder"):
        DocREForRelationExtraction.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="contrastive pre-training is for the bilinear head"):
        DocREForContrastivePreTraining(DocREConfig.for_method("kd-docre", RELATIONS))
    for settings in ({"moco_positives": "max"}, {"moco_queue_size": 0}, {"moco_temperature": 0}, {"moco_momentum": 2}):
        with pytest.raises(ValueError, match=next(iter(settings))):
            DocREConfig.for_method("atlop", RELATIONS, **settings)


# The trainer


def trainer_for(encoder, folder, *, dropout=False, model_settings=None, **settings):
    model, processor = make(encoder, dropout=dropout, pretraining=True, **(model_settings or {}))
    documents = [fictional(number) for number in range(9)]
    return ContrastivePreTrainer(
        model, arguments(folder, **settings), train_dataset=documents, processing_class=processor
    )


def test_pre_training_tells_relations_apart(tiny_bert_dir, tmp_path):
    settings = {"moco_queue_size": 20, "moco_momentum": 0.8, "moco_temperature": 0.2}
    trainer = trainer_for(tiny_bert_dir, tmp_path, num_train_epochs=20, model_settings=settings)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert sum(losses[-5:]) < 0.5 * sum(losses[3:8])
    model, processor = trainer.model.eval(), trainer.processing_class
    batch = batch_of(processor, range(9))
    embeddings = functional.normalize(model(**batch).embeddings.detach(), dim=1)
    labels = batch["labels"][:, 1:][(batch["labels"][:, 1:] > 0).any(1)].argmax(1)
    same = labels[:, None] == labels
    cosines = embeddings @ embeddings.t()
    assert cosines[same].mean() > cosines[~same].mean() + 0.5


def test_micro_batches_count_by_anchors_and_the_copy_follows_once_a_step(tiny_bert_dir, tmp_path, monkeypatch):
    trainer = trainer_for(tiny_bert_dir, tmp_path, per_device_train_batch_size=1, gradient_accumulation_steps=3)
    updates = []
    monkeypatch.setattr(type(trainer.model), "update_momentum", lambda model: updates.append(1))
    collate = trainer.data_collator
    batches = [collate([trainer.train_dataset[number]]) for number in (0, 1, 2)]
    number = trainer._get_num_items_in_batch(batches, torch.device("cpu"))
    assert number == 1 + 2 + 3 and [batch["update"] for batch in batches] == [True, False, False]
    trainer.train()
    assert len(updates) == 2 * 3


def test_what_would_not_be_used_is_refused(tiny_bert_dir, tmp_path):
    model, processor = make(tiny_bert_dir, pretraining=True)
    documents = [fictional(0)]
    for settings, given in (
        ({}, {"eval_dataset": documents}),
        ({"tune_threshold": True}, {"eval_dataset": documents}),
        ({"prior_bias": True}, {}),
        ({"text_augmentation": "mask", "era_max_facts": 5}, {}),
        ({"soft_labels": "store"}, {}),
    ):
        with pytest.raises(ValueError, match=next(iter({**settings, **given}))):
            ContrastivePreTrainer(
                model, arguments(tmp_path, **settings), train_dataset=documents, processing_class=processor, **given
            )
    with pytest.raises(TypeError, match=r"DocREForContrastivePreTraining\.from_encoder"):
        ContrastivePreTrainer(make(tiny_bert_dir)[0], arguments(tmp_path), processing_class=processor)
    with pytest.raises(TypeError, match=r"DocREForContrastivePreTraining\.from_encoder"):
        ContrastivePreTrainer(
            args=arguments(tmp_path), processing_class=processor, model_init=lambda: make(tiny_bert_dir)[0]
        )
    with pytest.raises(TypeError, match=r"train this one with ContrastivePreTrainer"):
        DocRETrainer(model, arguments(tmp_path), processing_class=processor)


def test_what_predicts_nothing_is_not_asked(tiny_bert_dir, tmp_path):
    trainer = trainer_for(tiny_bert_dir, tmp_path)
    for ask in (trainer.evaluate, trainer.predict):
        with pytest.raises(ValueError, match="evaluate the model that"):
            ask([fictional(1)])
    for save in (trainer.save_model, trainer.model.save_pretrained):
        with pytest.raises(ValueError, match="include_code=True is for models that extract relations"):
            save(str(tmp_path / "saved"), include_code=True)
    assert not (tmp_path / "saved").exists()
    batch = trainer.data_collator([trainer.train_dataset[1]])
    with pytest.raises(ValueError, match=r"torch\.bfloat16, in which the steps"):
        trainer.model.to(torch.bfloat16).train()(**{name: batch[name] for name in ("input_ids", "mentions", "labels")})


def test_its_card_shows_how_to_go_on(tiny_bert_dir, tmp_path):
    trainer = trainer_for(tiny_bert_dir, tmp_path / "made", num_train_epochs=1)
    trainer.train()
    trainer.save_model()
    card = (tmp_path / "made" / "README.md").read_text()
    assert "pipeline" not in card and "queues of 3 pairs per relation" in card
    code = card.split("```python\n")[1].split("```")[0].replace('"made"', repr(str(tmp_path / "made")))
    code = code.replace("runs/relations", str(tmp_path / "relations"))
    (tmp_path / "card.py").write_text(
        f"import sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from training_helpers import fictional\nfrom modeling_docre import Document\n"
        "documents = [Document.from_docred(fictional(number)) for number in range(2)]\n" + code
    )
    ran = run_python(tmp_path / "card.py")
    assert ran.returncode == 0, ran.stderr


@pytest.mark.slow
def test_a_killed_run_resumes_with_its_queues(tiny_bert_dir, tmp_path):
    options = ["--batch=2", "--dropout", "--pretraining"]
    train_in_processes(tiny_bert_dir, tmp_path / "straight", *options, "--save_steps=3")
    train_killed_and_resumed(tiny_bert_dir, tmp_path / "killed", *options)
    straight, resumed = (parameters_of(tmp_path / name) for name in ("straight", "killed"))
    assert straight["queues.filled"] > 5
    assert_close(straight, resumed, 0.0)


@pytest.mark.slow
def test_two_processes_fill_the_queues_of_one(tiny_bert_dir, tmp_path):
    # Nine documents: in the last step one process has a filler, whose keys are in no queue.
    # Copies without a mask, in queues that are full: processes draw from generators of their own.
    options = ["--pretraining", "--copies=2", "--mask_probability=0"]
    train_in_processes(tiny_bert_dir, tmp_path / "one", *options, "--batch=2")
    train_in_processes(tiny_bert_dir, tmp_path / "two", *options, "--batch=1", processes=2)
    single, first, second = (torch.load(tmp_path / f"{name}.pt") for name in ("one.0", "two.0", "two.1"))
    assert_close(first, second, 0.0)
    assert_close(single, first, 1e-5)
    assert math.isfinite(single["queues.embeddings"].sum())
