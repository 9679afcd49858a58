"""Distillation losses: against plain loops, in half precision, and as a part of the method's loss."""

from __future__ import annotations

import math

import pytest
import torch
from training_helpers import RELATIONS, fictional, make

from modeling_docre import DocREConfig, Document
from modeling_docre.distillation_losses import distillation_kl_loss, distillation_mse_loss
from modeling_docre.method_loss import method_losses, rows_in_mean

BOTH = [distillation_mse_loss, distillation_kl_loss]
SIZES = {"axial_layers": 2, "axial_heads": 4}


def draw(pairs: int = 5, classes: int = 4, seed: int = 0, scale: float = 3.0):
    generator = torch.Generator().manual_seed(seed)
    student, teacher = scale * torch.randn(2, pairs, classes, generator=generator, dtype=torch.float64)
    return student.requires_grad_(), teacher.requires_grad_()


def plain_mse(student, teacher):
    values = []
    for one, other in zip(student, teacher, strict=True):
        values.append(sum((a - b) ** 2 for a, b in zip(one, other, strict=True)) / len(one))
    return torch.stack(values)


def plain_kl(student, teacher):
    values = []
    for one, other in zip(student, teacher, strict=True):
        p_student, p_teacher = one.exp() / one.exp().sum(), other.exp() / other.exp().sum()
        values.append(sum(p * (p / q).log() for p, q in zip(p_teacher, p_student, strict=True)))
    return torch.stack(values)


@pytest.mark.parametrize(
    ("loss", "plain"), [(distillation_mse_loss, plain_mse), (distillation_kl_loss, plain_kl)], ids=["mse", "kl"]
)
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_values_and_gradients_are_those_of_a_plain_loop(loss, plain, reduction):
    student, teacher = draw()
    expected = plain(student, teacher.detach())
    expected = {"none": expected, "sum": expected.sum(), "mean": expected.mean()}[reduction]
    value = loss(student, teacher, reduction=reduction)
    torch.testing.assert_close(value, expected)
    weights = torch.arange(1.0, 1 + value.numel(), dtype=torch.float64).reshape(value.shape)
    (found,) = torch.autograd.grad((value * weights).sum(), student)
    (wanted,) = torch.autograd.grad((expected * weights).sum(), student)
    torch.testing.assert_close(found, wanted)


def test_the_mean_is_torchs_own():
    student, teacher = draw(7, 97)
    torch.testing.assert_close(distillation_mse_loss(student, teacher), torch.nn.functional.mse_loss(student, teacher))
    logs = [part.log_softmax(1) for part in (student, teacher)]
    expected = torch.nn.functional.kl_div(*logs, reduction="batchmean", log_target=True)
    torch.testing.assert_close(distillation_kl_loss(student, teacher), expected)


@pytest.mark.parametrize("loss", BOTH)
def test_no_gradient_reaches_the_teacher(loss):
    student, teacher = draw()
    loss(student, teacher).backward()
    assert student.grad is not None and teacher.grad is None


@pytest.mark.parametrize("loss", BOTH)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_extreme_logits_in_half_precision_are_finite(loss, dtype):
    most = torch.finfo(torch.float16).max
    teacher = torch.tensor([[most, -most, 0.0], [-most, most, most], [0.0, 0.0, 0.0]]).to(dtype)
    student = teacher.flip(0).neg().requires_grad_()
    value = loss(student, teacher)
    value.backward()
    assert value.dtype == torch.float32 and bool(value.isfinite()) and bool(student.grad.isfinite().all())
    exact = loss(student.detach().double(), teacher.double())
    torch.testing.assert_close(value.detach().double(), exact, rtol=1e-6, atol=0)


@pytest.mark.parametrize("loss", BOTH)
def test_precisions_mix_and_equal_logits_cost_nothing(loss):
    student, teacher = draw()
    assert loss(student.float(), teacher.half()).dtype == torch.float32
    assert loss(student.half().double(), teacher.half()).dtype == torch.float64
    assert float(loss(teacher, teacher).detach()) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("loss", BOTH)
def test_no_pairs_are_a_loss_of_zero_that_trains(loss):
    student = torch.zeros(0, 4, requires_grad=True)
    value = loss(student, torch.zeros(0, 4))
    value.backward()
    assert float(value) == 0.0


@pytest.mark.parametrize("loss", BOTH)
@pytest.mark.parametrize("shape", [(5, 3), (4, 4), (5,)])
def test_shapes_that_do_not_fit_are_refused(loss, shape):
    with pytest.raises(ValueError, match="rows for the same pairs"):
        loss(torch.zeros(5, 4), torch.zeros(shape))


# As a part of the method's loss


def batch_of(numbers: list[int], encoder, **settings):
    model, processor = make(encoder, method="kd-docre", **SIZES, **settings)
    documents = [Document.from_docred(fictional(number)) for number in numbers]
    return model.eval(), processor.collate(processor(documents))


@pytest.mark.parametrize("name", ["mse", "kl"])
def test_the_part_has_its_weight_and_the_rest_stays(tiny_bert_dir, name):
    model, batch = batch_of([1, 2, 3], tiny_bert_dir, distillation_loss=name, distillation_weight=0.25)
    plain = model(**batch)
    teacher = torch.randn(plain.logits.shape, generator=torch.Generator().manual_seed(1))
    taught = model(**batch, teacher_logits=teacher)
    function = dict(mse=distillation_mse_loss, kl=distillation_kl_loss)[name]
    assert set(taught.losses) == {"afl", "distillation"} and set(plain.losses) == {"afl"}
    torch.testing.assert_close(taught.losses["distillation"], 0.25 * function(plain.logits, teacher))
    torch.testing.assert_close(taught.loss, plain.loss + taught.losses["distillation"])


def test_a_weight_of_zero_is_the_plain_method_to_the_bit(tiny_bert_dir):
    model, batch = batch_of([1, 2], tiny_bert_dir, distillation_weight=0.0)
    teacher = torch.randn(len(batch["pairs"]), 4)
    losses, gradients = [], []
    for more in ({}, {"teacher_logits": teacher}):
        model.zero_grad()
        output = model(**batch, **more)
        output.loss.backward()
        losses.append(output.losses)
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert losses[0].keys() == losses[1].keys() and torch.equal(losses[0]["afl"], losses[1]["afl"])
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))


@pytest.mark.parametrize("diagonal", [False, True])
@pytest.mark.parametrize("name", ["mse", "kl"])
def test_micro_batches_add_up_to_one_large_batch(name, diagonal):
    config = DocREConfig.for_method(
        "atlop", RELATIONS, emb_size=8, block_size=4, include_diagonal_in_mean=diagonal, distillation_loss=name
    )
    sizes, parts = (3, 12, 1), []
    for document, size in enumerate(sizes):
        student, teacher = draw(size, seed=document)
        labels = torch.zeros(size, 4)
        labels[:, 0] = 1
        pairs = torch.stack([torch.zeros(size), torch.arange(size), torch.arange(size) + 1], 1).long()
        parts.append((student, labels, torch.zeros(size, 2), pairs, torch.tensor([size + 1]), teacher))

    def part(logits, labels, embeddings, pairs, entities, teacher, **numbers):
        losses = method_losses(
            config, logits, labels, embeddings, pairs, entities, training=True, teacher_logits=teacher, **numbers
        )
        return losses["distillation"]

    whole = [torch.cat(items) for items in zip(*parts, strict=True)]
    whole[3][:, 0] = torch.repeat_interleave(torch.arange(3), torch.tensor(sizes))
    rows = rows_in_mean(config, whole[3], whole[4])
    assert rows == sum(sizes) + (sum(sizes) + 3 if diagonal else 0)
    expected = part(*whole)
    torch.testing.assert_close(sum(part(*one, num_items_in_batch=rows) for one in parts), expected)
    function = dict(mse=distillation_mse_loss, kl=distillation_kl_loss)[name]
    torch.testing.assert_close(expected, function(whole[0], whole[5], reduction="sum") / rows)


def test_the_published_mean_counts_zeros_on_the_diagonal(tiny_bert_dir):
    model, batch = batch_of([2], tiny_bert_dir, include_diagonal_in_mean=True)
    entities = int(batch["num_entities"])
    table = torch.randn(entities, entities, 4, generator=torch.Generator().manual_seed(1))
    rows = batch["pairs"][:, 1], batch["pairs"][:, 2]
    found = model(**batch, teacher_logits=table[rows])
    # As the authors do it: all cells of the table, both sides 0 on the diagonal.
    student = torch.zeros(entities, entities, 4).index_put(rows, found.logits)
    cells = torch.where(torch.eye(entities, dtype=torch.bool)[..., None], 0.0, table)
    torch.testing.assert_close(found.losses["distillation"], torch.nn.functional.mse_loss(student, cells))
    # Asked for, the diagonal's cells are zeros whatever the teacher says of them.
    cell = torch.tensor([[0, entity, entity] for entity in range(entities)])
    explicit = {**batch, "pairs": torch.cat([batch["pairs"], cell])}
    explicit["labels"] = torch.cat([batch["labels"], torch.zeros(entities, 4)])
    again = model(**explicit, teacher_logits=torch.cat([table[rows], table[cell[:, 1], cell[:, 2]]]))
    torch.testing.assert_close(again.losses["distillation"], found.losses["distillation"])


def test_documents_without_pairs_have_a_loss(tiny_bert_dir):
    model, processor = make(tiny_bert_dir)
    documents = [Document.from_markup("[Ada](:PER) slept."), Document.from_text("Nobody came.")]
    batch = processor.collate(processor(documents))
    batch["labels"] = torch.zeros(0, 4)
    output = model(**batch, teacher_logits=torch.zeros(0, 4))
    output.loss.backward()
    assert float(output.losses["distillation"].detach()) == 0.0


def test_teacher_logits_travel_with_the_features(tiny_bert_dir):
    _, processor = make(tiny_bert_dir)
    features = processor([Document.from_docred(fictional(number)) for number in (1, 2)])
    given = [torch.randn(len(item["pairs"]), 4).half() for item in features]
    added = [{**item, "teacher_logits": part} for item, part in zip(features, given, strict=True)]
    assert torch.equal(processor.collate(added)["teacher_logits"], torch.cat(given))
    with pytest.raises(ValueError, match=r"1 of 2 documents have teacher_logits.*for all documents, or for none"):
        processor.collate([added[0], features[1]])
    assert "teacher_logits" in processor.model_input_names


def test_what_can_not_be_distilled_is_refused(tiny_bert_dir):
    model, batch = batch_of([1], tiny_bert_dir)
    logits = torch.zeros(len(batch["pairs"]), 4)
    with pytest.raises(ValueError, match="needs `labels` too"):
        model(**{name: value for name, value in batch.items() if name != "labels"}, teacher_logits=logits)
    with pytest.raises(ValueError, match="rows for the same pairs"):
        model(**batch, teacher_logits=logits[1:])
    for settings, message in (
        ({"distillation_weight": -1.0}, "distillation_weight=-1.0 is no weight; pass a positive number, or 0"),
        ({"distillation_weight": math.nan}, "distillation_weight=nan is no weight"),
        ({"distillation_loss": "msee"}, "Did you mean 'mse'"),
    ):
        with pytest.raises(ValueError, match=message):
            DocREConfig.for_method("atlop", RELATIONS, **settings)
