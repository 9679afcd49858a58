"""The method's whole loss: what its mean is over, how micro-batches add up, and which arguments are refused."""

from __future__ import annotations

import copy

import pytest
import torch
from training_helpers import RELATIONS, fictional, make, trainer_for

from modeling_docre import DocREConfig, Document, method_loss
from modeling_docre.contrastive import supervised_contrastive_loss
from modeling_docre.head_bilinear import PairFactors
from modeling_docre.losses import pairwise_moving_threshold_loss
from modeling_docre.method_loss import (
    LOSS_FUNCTIONS,
    check_loss_arguments,
    contrastive_sum,
    count_anchors,
    method_losses,
    rows_in_mean,
)

SIZES = {"axial_layers": 2, "axial_heads": 4}
WIDTH = 6


def config_for(**settings) -> DocREConfig:
    return DocREConfig.for_method("atlop", RELATIONS, emb_size=8, block_size=4, **settings)


def rows(count: int, related: list[int], seed: int = 0):
    """Logits, labels, embeddings and pairs of one document; the rows `related` share a relation."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.zeros(count, 4)
    labels[:, 0] = 1
    labels[related] = torch.tensor([0.0, 1, 0, 0])
    pairs = torch.stack([torch.zeros(count), torch.arange(count), torch.arange(count) + 1], 1).long()
    logits = torch.randn(count, 4, generator=generator, dtype=torch.float64)
    return logits, labels, torch.randn(count, WIDTH, generator=generator, dtype=torch.float64), pairs


def losses_of(config, batch, **numbers):
    logits, labels, embeddings, pairs = batch
    entities = torch.tensor([len(pairs) + 1])
    return method_losses(config, logits, labels, embeddings, pairs, entities, training=False, **numbers)


def test_the_numbers_of_one_micro_batch_change_nothing_with_a_diagonal():
    arguments = {"reference": True, "temperature": 1.0}
    config = config_for(contrastive_weight=0.5, contrastive_arguments=arguments, include_diagonal_in_mean=True)
    batch = rows(6, [1, 2])
    numbers = {
        "num_items_in_batch": rows_in_mean(config, batch[3], torch.tensor([7])),
        "num_anchors_in_batch": count_anchors(batch[1]),
    }
    whole, counted = losses_of(config, batch), losses_of(config, batch, **numbers)
    assert whole.keys() == counted.keys() == {"atl", "contrastive"} and float(whole["contrastive"]) > 0
    for name in whole:
        torch.testing.assert_close(counted[name], whole[name])


# What the mean is over


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([], 5),
        ([[0, 0, 1], [1, 1, 0]], 7),
        ([[0, 0, 0], [0, 0, 1]], 6),
        ([[0, 0, 0], [0, 1, 1], [0, 2, 2], [1, 0, 0], [1, 1, 1]], 5),
        # A pair that is asked for twice is two rows, and its entity still lacks none.
        ([[0, 1, 1], [0, 1, 1]], 6),
    ],
)
def test_rows_are_the_pairs_and_what_the_diagonal_lacks(pairs, expected):
    pairs, entities = torch.tensor(pairs).reshape(-1, 3).long(), torch.tensor([3, 2])
    assert rows_in_mean(config_for(include_diagonal_in_mean=True), pairs, entities) == expected
    assert rows_in_mean(config_for(), pairs, entities) == len(pairs)


def test_an_explicit_diagonal_is_not_counted_again(tiny_bert_dir, tmp_path):
    trainer = trainer_for(
        tiny_bert_dir, tmp_path, model_settings={"method": "kd-docre", "include_diagonal_in_mean": True, **SIZES}
    )
    batch = trainer.data_collator([trainer.train_dataset[2], trainer.train_dataset[0]])
    added = trainer._get_num_items_in_batch([dict(batch)], torch.device("cpu"))
    expected = trainer.compute_loss(trainer.model, batch, num_items_in_batch=added)
    diagonal = [[d, e, e] for d, count in enumerate(batch["num_entities"].tolist()) for e in range(count)]
    explicit = {
        **batch,
        "pairs": torch.cat([batch["pairs"], torch.tensor(diagonal)]),
        "labels": torch.cat([batch["labels"], batch["labels"].new_zeros(len(diagonal), 4)]),
    }
    number = trainer._get_num_items_in_batch([dict(explicit)], torch.device("cpu"))
    assert number == added == len(batch["pairs"]) + 4 + 2
    torch.testing.assert_close(trainer.compute_loss(trainer.model, explicit, num_items_in_batch=number), expected)
    torch.testing.assert_close(trainer.compute_loss(trainer.model, explicit), expected)


# Micro-batches of one step


@pytest.mark.parametrize("form", ["pemscl", "vaediff"])
def test_an_anchor_counts_as_much_in_any_micro_batch(form):
    config = config_for(contrastive_weight=0.5, contrastive_arguments={"form": form})
    # One anchor in few pairs, and one in many.
    batches = [rows(4, [0, 1, 2], seed=1), rows(30, [3, 8], seed=2), rows(6, [], seed=3)]
    numbers = {
        "num_items_in_batch": sum(len(batch[0]) for batch in batches),
        "num_anchors_in_batch": sum(count_anchors(batch[1]) for batch in batches),
    }
    total = sum(losses_of(config, batch, **numbers)["contrastive"] for batch in batches)
    each = [supervised_contrastive_loss(emb, labels, form=form, reduction="none") for _, labels, emb, _ in batches]
    assert len(torch.cat(each)) == 5
    # PEMSCL adds it to a sum over the same 40 pairs (equations 7, 10 and 11).
    torch.testing.assert_close(total, 0.5 * torch.cat(each).sum() / (40 if form == "pemscl" else 5))


@pytest.mark.parametrize("reference", [False, True])
def test_both_parts_of_pemscl_are_sums_over_the_same_rows(reference):
    arguments = {"temperature": 0.5, "reference": reference}
    config = config_for(loss="pmt", contrastive_weight=2.0, contrastive_arguments=arguments)
    batch = rows(12, [1, 2, 5])
    logits, labels, embeddings, _ = batch
    found = losses_of(config, batch)
    main = pairwise_moving_threshold_loss(logits, labels, reduction="sum") / 12
    if reference:
        expected = supervised_contrastive_loss(embeddings, labels, **arguments)
    else:
        expected = supervised_contrastive_loss(embeddings, labels, temperature=0.5, reduction="sum") / 12
    torch.testing.assert_close(found["pmt"], main)
    torch.testing.assert_close(found["contrastive"], 2.0 * expected)


def test_micro_batches_equal_one_large_batch_where_anchors_meet_the_same_pairs():
    # With this form pairs without relation are compared with nothing, and one micro-batch has all others.
    config = config_for(contrastive_weight=1.0, contrastive_arguments={"form": "vaediff"})
    first, second = rows(5, [0, 2, 3]), rows(20, [], seed=1)
    large = [torch.cat(both) for both in zip(first, second, strict=True)]
    large[3] = torch.stack([torch.zeros(25), torch.arange(25), torch.arange(25) + 1], 1).long()
    expected = losses_of(config, large)
    parts = [losses_of(config, one, num_items_in_batch=25, num_anchors_in_batch=3) for one in (first, second)]
    for name, value in expected.items():
        torch.testing.assert_close(sum(part[name] for part in parts), value)
    by_rows = [losses_of(config, one, num_items_in_batch=25)["contrastive"] for one in (first, second)]
    torch.testing.assert_close(sum(by_rows), expected["contrastive"] * 5 / 25)


@pytest.mark.parametrize("form", ["pemscl", "vaediff"])
@pytest.mark.parametrize("factors", [True, False])
def test_anchors_are_compared_some_at_a_time(monkeypatch, factors, form):
    config = config_for(contrastive_weight=1.0, contrastive_arguments={"form": form, "temperature": 0.5})
    labels, found, kept = rows(40, [1, 2, 5, 9, 30])[1], [], []
    labels[7] = torch.tensor([0.0, 0, 0, 1])  # an isolated one
    for numbers in (1_000_000, 80, 1):
        monkeypatch.setattr(method_loss, "_COMPARED", numbers)
        generator = torch.Generator().manual_seed(2)
        given = [torch.randn(40, 8, generator=generator, dtype=torch.float64, requires_grad=True) for _ in range(2)]
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda one, sizes=sizes: sizes.append(tuple(one.shape)) or one, lambda one: one
        ):
            total = contrastive_sum(config, PairFactors(*given) if factors else given[0], labels)
        total.backward()
        kept += sizes
        found.append([total.detach(), *(one.grad for one in given if one.grad is not None)])
    for other in found[1:]:
        for one, expected in zip(other, found[0], strict=True):
            torch.testing.assert_close(one, expected, atol=1e-12, rtol=1e-12)
    # No table of anchors by pairs waits for the backward pass.
    assert kept and (6, 40) not in kept


def test_a_step_without_relations_has_a_loss():
    config = config_for(contrastive_weight=1.0)
    for number in (0, torch.tensor(0)):
        assert losses_of(config, rows(4, []), num_items_in_batch=4, num_anchors_in_batch=number)["contrastive"] == 0


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("form", ["pemscl", "vaediff"])
def test_the_trainer_counts_the_anchors_of_a_step(tiny_bert_dir, tmp_path, accumulate, form):
    settings = {"method": "pemscl", "contrastive_arguments": {"form": form}}
    trainer = trainer_for(tiny_bert_dir, tmp_path, model_settings=settings)
    collate, model = trainer.data_collator, trainer.model
    # They have 1, 2 and 3 pairs with a relation, of 2, 6 and 12.
    groups = [[0], [1], [2]] if accumulate == 3 else [[0, 1, 2]]
    batches = [collate([trainer.train_dataset[number] for number in group]) for group in groups]
    before = [dict(batch) for batch in batches]
    number = trainer._get_num_items_in_batch(batches, torch.device("cpu"))
    assert number == 20
    found = sum(trainer.compute_loss(model, batch, num_items_in_batch=number) for batch in batches)
    outputs = [
        model(**{name: one[name] for name in one if name not in ("document_index", "left_out")}) for one in before
    ]
    anchors, pairs = ([1, 2, 3], [2, 6, 12]) if accumulate == 3 else ([6], [20])
    expected = sum(
        output.losses["pmt"] * pair / 20
        + output.losses["contrastive"] * (pair / 20 if form == "pemscl" else anchor / 6)
        for output, anchor, pair in zip(outputs, anchors, pairs, strict=True)
    )
    torch.testing.assert_close(found, expected)


# Arguments

WRONG = [
    ("pmt", "loss_arguments", {"entropi": False}, r"loss_arguments has 'entropi', .* 'pmt' .*Did you mean 'entropy'"),
    ("pmt", "loss_arguments", {"entropy": "no"}, r"loss_arguments has entropy='no': pass True or False"),
    ("pmt", "loss_arguments", {"entropy_norm": "sum"}, r"loss_arguments does not go .* 'pmt': `entropy_norm` is"),
    ("pmt", "loss_arguments", {"entropy_norm": 1}, r"entropy_norm=1: pass a name, such as 'count'"),
    ("pmt", "loss_arguments", {"generator": None}, r"loss_arguments has 'generator', which"),
    ("atl", "loss_arguments", {"negative_label_rate": 1.5}, r"does not go .* 'atl': .*negative_label_rate"),
    ("atl", "loss_arguments", {"negative_label_rate": "0.1"}, r"='0.1': pass a number or None"),
    ("atl", "loss_arguments", {"negative_label_rate": True}, r"=True: pass a number or None"),
    ("afl", "loss_arguments", {"gamma": -1}, r"does not go .* 'afl': `gamma` must not be negative"),
    ("afl", "loss_arguments", {"gamma": None}, r"gamma=None: pass a number\."),
    ("afl", "loss_arguments", {"offset": float("nan")}, r"offset=nan: pass a number\."),
    ("ncrl", "loss_arguments", {"shift": 1.0}, r"does not go .* 'ncrl': `shift`"),
    ("atl", "loss_arguments", ["gamma"], r"loss_arguments=\['gamma'\] is not a dict"),
    ("bce", "loss_arguments", {"gamma": 1.0}, r"which the loss 'bce' doesn't take. It takes: none"),
    ("atl", "contrastive_arguments", {"temprature": 0.2}, r"'contrastive' .*Did you mean 'temperature'"),
    ("atl", "contrastive_arguments", {"temperature": 0.0}, r"does not go .* 'contrastive': `temperature`"),
    ("atl", "contrastive_arguments", {"form": "x"}, r"contrastive_arguments does not go .*`form` is one of"),
]


@pytest.mark.parametrize(("loss", "field", "given", "message"), WRONG)
def test_wrong_arguments_are_refused_in_the_same_words(tiny_bert_dir, tmp_path, loss, field, given, message):
    with pytest.raises(ValueError, match=message) as first:
        make(tiny_bert_dir, loss=loss, **{field: given})
    # As of a config that was read from a file, or changed since.
    model, processor = make(tiny_bert_dir, loss=loss)
    setattr(model.config, field, given)
    batch = processor.collate(processor([Document.from_dict(fictional(1))]))
    with pytest.raises(ValueError, match=message) as second:
        model(**batch)
    with pytest.raises(ValueError, match=message) as third:
        trainer_for(tiny_bert_dir, tmp_path, trainer={"model": model, "processing_class": processor})
    assert str(first.value) == str(second.value) == str(third.value)
    # It still answers, and is still read.
    unlabelled = {name: value for name, value in batch.items() if name != "labels"}
    assert model(**unlabelled).logits.isfinite().all()
    if isinstance(given, dict) and "offset" not in given:  # JSON knows no NaN
        model.config.save_pretrained(tmp_path / "config")
        assert getattr(DocREConfig.from_pretrained(tmp_path / "config"), field) == given


def test_the_check_of_arguments_draws_nothing():
    arguments = {"negative_label_rate": 0.5, "shared_mask": True}
    config = config_for(loss="pmt", loss_arguments=arguments, contrastive_arguments={"temperature": 2})
    before, given = torch.get_rng_state(), copy.deepcopy(config.loss_arguments)
    check_loss_arguments(config)
    assert torch.equal(torch.get_rng_state(), before) and config.loss_arguments == given


@pytest.mark.slow
@pytest.mark.parametrize(
    ("loss", "arguments"), [("atl", {}), ("atl", {"negative_label_rate": 1.0}), ("pmt", {"entropy": False})]
)
def test_the_main_loss_compiles_as_a_whole(loss, arguments):
    config = config_for(loss=loss, loss_arguments=arguments)
    batch = rows(7, [1, 2])
    compiled = torch.compile(losses_of, backend="eager", fullgraph=True)
    want = LOSS_FUNCTIONS[loss](*batch[:2], **arguments)
    torch.testing.assert_close(compiled(config, batch)[loss], want)
