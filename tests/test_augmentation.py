"""Easy relation augmentation: the augmented rows against plain loops, the masks' statistics, and what is augmented."""

from __future__ import annotations

import math

import pytest
import torch
from training_helpers import arguments, assert_close, fictional, make, parameters, trainer_for

from modeling_docre import DocREConfig, DocREForRelationExtraction, Document, encoding, training
from modeling_docre.attention import at_least_float32
from modeling_docre.augmentation import keep_masks, pairs_to_augment
from modeling_docre.encoding import localized_context, masked_context
from modeling_docre.losses import adaptive_thresholding_loss
from modeling_docre.method_loss import count_augmented
from modeling_docre.metrics.docred.measures import DOCRED_FACTS

ERA = {"method": "era"}
# The stories hold nine facts of the first relation, six of the second, three of the third.
RARE = ["part_of", "rules"]


def batch_for(processor, numbers):
    return processor.collate(processor([Document.from_dict(fictional(number)) for number in numbers]))


# Masked contexts


CELLS = torch.tensor([[2, 1, 0], [0, 1, 0], [2, 0, 1], [0, 2, 2], [3, 0, 3], [0, 3, 1], [0, 3, 1]])


def masked_by_loops(hidden, attention, cells, keep, reduce, eps):
    result = []
    for cell, (document, head, tail) in enumerate(cells.tolist()):
        of_head, of_tail = attention[document, head], attention[document, tail]
        if reduce == "first":
            weights = of_head.mean(0) * of_tail.mean(0)
        else:
            weights = (of_head * of_tail).sum(0) / (len(of_head) if reduce == "mean" else 1)
        total = weights.sum() + eps
        for mask in keep[cell]:
            kept = [weights[token] * hidden[document, token] for token in range(len(weights)) if mask[token]]
            result.append(torch.stack([hidden.new_zeros(hidden.shape[-1]), *kept]).sum(0) / total)
    return torch.stack(result).view(*keep.shape[:2], -1)


@pytest.mark.parametrize("budget", [1 << 24, 4 * 11 * 3 * 2, 1])
@pytest.mark.parametrize(("reduce", "eps"), [("first", 1e-5), ("mean", 1e-5), ("sum", 1e-10)])
def test_masked_contexts_of_any_cells_sliced_or_not(monkeypatch, budget, reduce, eps):
    monkeypatch.setattr(encoding, "_CONTEXT_BUDGET", budget)
    generator = torch.Generator().manual_seed(4)
    data = (
        torch.randn(4, 11, 6, generator=generator, dtype=torch.float64),
        torch.rand(4, 4, 3, 11, generator=generator, dtype=torch.float64) / 50,
    )
    keep = keep_masks(len(CELLS), 2, 11, probability=0.4, generator=generator)
    results = []
    for function in (masked_context, masked_by_loops):
        hidden, attention = (tensor.clone().requires_grad_() for tensor in data)
        options = {"reduce": reduce, "eps": eps}
        context = function(hidden, attention, CELLS, keep, **options)
        context.sin().sum().backward()
        results.append((context, hidden.grad, attention.grad))
    for got, expected in zip(*results, strict=True):
        torch.testing.assert_close(got, expected, atol=1e-11, rtol=1e-11)
    whole = masked_context(*data, CELLS, torch.ones_like(keep), reduce=reduce, eps=eps)
    same = localized_context(*data, CELLS, reduce=reduce, eps=eps)
    torch.testing.assert_close(whole, same[:, None].expand_as(whole), atol=1e-12, rtol=1e-12)


def test_slices_of_masked_contexts_are_recomputed_and_not_kept(monkeypatch):
    # The products of 40 cells are 40 x 3 x 50 numbers, a slice of one cell 150.
    monkeypatch.setattr(encoding, "_CONTEXT_BUDGET", 150)
    hidden, attention = torch.randn(1, 50, 4).requires_grad_(), torch.rand(1, 7, 3, 50).requires_grad_()
    cells = torch.randint(0, 7, (40, 3))
    cells[:, 0] = 0
    keep = keep_masks(40, 2, 50)
    saved: dict[int, torch.Tensor] = {}

    def record(tensor):
        saved[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(record, lambda tensor: tensor):
        masked_context(hidden, attention, cells, keep)
    known = {tensor.untyped_storage().data_ptr() for tensor in (hidden, attention, keep)}
    kept = sum(tensor.untyped_storage().nbytes() for place, tensor in saved.items() if place not in known)
    assert kept < 4 * 40 * 3 * 50 / 4


def test_masked_contexts_are_not_rounded_by_autocast():
    hidden, attention = torch.randn(2, 40, 8), torch.rand(2, 3, 2, 40)
    cells = torch.tensor([[1, 0, 1], [0, 2, 1]])
    keep = keep_masks(2, 3, 40)
    exact = masked_context(hidden, attention, cells, keep)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = masked_context(hidden.bfloat16(), attention, cells, keep)
    rounded = masked_context(at_least_float32(hidden.bfloat16()), attention, cells, keep)
    assert got.dtype == exact.dtype == torch.float32 and torch.equal(got, rounded)


def test_no_cell_has_no_context():
    keep = keep_masks(0, 2, 5)
    for batch, entities in ((1, 3), (1, 0), (0, 0)):
        none = masked_context(torch.rand(batch, 5, 4), torch.rand(batch, entities, 2, 5), CELLS[:0], keep)
        assert none.shape == (0, 2, 4)


# Masks


@pytest.mark.parametrize("probability", [0.05, 0.1, 0.5])
def test_a_token_is_left_out_by_itself_in_each_copy_of_each_pair(probability):
    generator = torch.Generator().manual_seed(1)
    out = ~keep_masks(40, 3, 500, probability=probability, generator=generator)
    assert out.shape == (40, 3, 500)

    def check(events: torch.Tensor, expected: float) -> None:
        # Five standard deviations of a mean of so many independent events.
        spread = math.sqrt(expected * (1 - expected) / events.numel())
        assert abs(events.double().mean().item() - expected) < 5 * spread

    check(out, probability)
    both = probability**2
    for first, second in ((out[:, 0], out[:, 1]), (out[:20], out[20:]), (out[..., :250], out[..., 250:])):
        check(first & second, both)
    # Nothing in common among the lines either: their number of tokens varies as that of 500 coins.
    counts = out.sum(2).double().flatten()
    variance, n = 500 * probability * (1 - probability), counts.numel()
    assert abs(counts.var().item() - variance) < 5 * variance * math.sqrt(2 / (n - 1))


def test_the_ends_of_the_probability():
    assert keep_masks(3, 2, 50, probability=0.0).all() and not keep_masks(3, 2, 50, probability=1.0).any()


# Which pairs


def test_pairs_with_any_of_the_relations_and_no_other():
    labels = torch.tensor([[1, 0, 0, 0], [0, 1, 0, 0], [0, 1, 0, 1], [0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
    before = labels.clone()
    for classes, rows in (
        ([3], [2, 5]),
        ([1], [1, 2]),
        ([1, 2], [1, 2, 3]),
        ([], []),
        # Never those without relation, even where somebody asks for their class.
        ([0], []),
        ([0, 2], [3]),
        (None, [1, 2, 3, 5]),
    ):
        for dtype in (torch.long, torch.float32, torch.bool):
            assert pairs_to_augment(labels.to(dtype), classes).tolist() == rows
    assert torch.equal(labels, before)
    assert pairs_to_augment(labels[:0], [1]).tolist() == []
    config = DocREConfig(relations=["a", "b", "c"], era_copies=3, era_relations=["c"])
    assert count_augmented(config, labels) == 6
    config.era_copies = 0
    assert count_augmented(config, labels) == 0


# The whole loss


def loss_by_loops(model, batch, keep):
    """The mean of ATL over all pairs and the copies of those with a chosen relation, from the states on by loops."""
    config, head = model.config, model.head
    states = model.docre(batch["input_ids"], batch["attention_mask"], batch["mentions"], batch["num_entities"])
    hidden, attention = states.last_hidden_state, states.entity_attention.mean(2)
    chosen = [config.relations.index(name) + 1 for name in config.era_relations]
    logits, labels, number = [], [], 0
    copies = []
    for pair, label in zip(batch["pairs"].tolist(), batch["labels"], strict=True):
        masks = [torch.ones(hidden.shape[1])]
        if any(label[index] > 0 for index in chosen):
            masks += list(keep[number])
            number += 1
        for copy, mask in enumerate(masks):
            document, first, second = pair
            weights = attention[document, first] * attention[document, second]
            context = (weights * mask) @ hidden[document] / (weights.sum() + config.context_eps)
            entities = states.entity_embeddings[document]
            z = [
                torch.tanh(layer(torch.cat([entities[entity], context])))
                for layer, entity in ((head.head_projection, first), (head.tail_projection, second))
            ]
            blocks = [vector.view(-1, config.block_size) for vector in z]
            outer = torch.stack([torch.outer(a, b) for a, b in zip(*blocks, strict=True)]).flatten()
            row = head.classifier.weight @ outer + head.classifier.bias
            (copies if copy else logits).append((row, label))
    rows, labels = zip(*logits, *copies, strict=True)
    return adaptive_thresholding_loss(torch.stack(rows), torch.stack(labels).double()), len(copies)


def test_loss_and_gradients_of_augmented_rows_by_loops(tiny_bert_dir):
    model, processor = make(tiny_bert_dir, **ERA, era_relations=RARE, era_mask_probability=0.3, era_copies=3)
    model.double()
    batch = batch_for(processor, [2, 0, 1, 5])
    # Another relation of a pair goes along into its copies.
    row = int(batch["labels"][:, 3].nonzero()[0])
    batch["labels"][row, 1] = 1.0
    num_chosen = int((batch["labels"][:, 2:] > 0).any(1).sum())
    torch.manual_seed(11)
    keep = keep_masks(num_chosen, 3, batch["input_ids"].shape[1], probability=0.3)
    expected, copies = loss_by_loops(model, batch, keep.double())
    assert copies == 3 * num_chosen == 15 == count_augmented(model.config, batch["labels"])
    expected.backward()
    gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    torch.manual_seed(11)
    output = model(**batch)
    torch.testing.assert_close(output.loss, expected, atol=1e-12, rtol=1e-12)
    output.loss.backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], atol=1e-11, rtol=1e-9)
    # Counted in a step of two such batches, it is half.
    torch.manual_seed(11)
    pairs = len(batch["pairs"])
    half = model(**batch, num_items_in_batch=2 * pairs)
    torch.testing.assert_close(half.loss, expected / 2, atol=1e-12, rtol=1e-12)
    # Beside a batch with as many pairs and no copies.
    torch.manual_seed(11)
    part = model(**batch, num_items_in_batch=2 * pairs, num_augmented_in_batch=copies)
    torch.testing.assert_close(part.loss, expected * (pairs + copies) / (2 * pairs + copies), atol=1e-12, rtol=1e-12)


def test_logits_are_those_of_the_pairs(tiny_bert_dir):
    model, processor = make(tiny_bert_dir, **ERA)
    plain, _ = make(tiny_bert_dir, **ERA, era_copies=0)
    batch = batch_for(processor, [2, 1])
    output, expected = model(**batch, output_pair_embeddings=True), plain(**batch, output_pair_embeddings=True)
    assert torch.equal(output.logits, expected.logits) and torch.equal(output.pairs, batch["pairs"])
    assert torch.equal(output.pair_embeddings, expected.pair_embeddings)
    assert output.loss != expected.loss and output.losses.keys() == {"atl"}


def test_entity_types_of_a_pair_count_in_its_copies(tiny_bert_dir):
    types = {"use_entity_types": True, "entity_types": ["PER", "LOC"]}
    model, processor = make(tiny_bert_dir, **ERA, **types, era_mask_probability=0.0)
    plain, _ = make(tiny_bert_dir, **ERA, **types, era_copies=0)
    torch.nn.init.normal_(model.type_pair_bias.weight)
    plain.load_state_dict(model.state_dict())
    batch = batch_for(processor, [2, 1])
    weighted = adaptive_thresholding_loss(plain(**batch).logits, batch["labels"], reduction="none")
    times = 1 + 2 * (batch["labels"][:, 0] == 0)
    torch.testing.assert_close(model(**batch).loss, (weighted * times).sum() / times.sum())


@pytest.mark.parametrize("form", ["pemscl", "vaediff"])
def test_the_contrastive_loss_compares_the_pairs_themselves(tiny_bert_dir, form):
    settings = {"contrastive_weight": 0.5, "contrastive_arguments": {"form": form}}
    model, processor = make(tiny_bert_dir, **ERA, **settings)
    plain, _ = make(tiny_bert_dir, **ERA, era_copies=0, **settings)
    batch = batch_for(processor, [2, 1, 0, 5])
    expected = plain(**batch).losses["contrastive"]
    torch.testing.assert_close(model(**batch).losses["contrastive"], expected)
    pairs = len(batch["pairs"])
    torch.testing.assert_close(model(**batch, num_items_in_batch=pairs).losses["contrastive"], expected)


def test_a_teacher_is_asked_about_the_pairs_themselves(tiny_bert_dir):
    model, processor = make(tiny_bert_dir, **ERA)
    plain, _ = make(tiny_bert_dir, **ERA, era_copies=0)
    batch = batch_for(processor, [2, 1])
    batch["teacher_logits"] = torch.randn(len(batch["pairs"]), model.config.num_classes)
    expected = plain(**batch).losses["distillation"]
    torch.testing.assert_close(model(**batch).losses["distillation"], expected)
    pairs = len(batch["pairs"])
    torch.testing.assert_close(model(**batch, num_items_in_batch=pairs).losses["distillation"], expected)


def test_evidence_is_where_the_averaged_heads_look(tiny_bert_dir):
    model, processor = make(tiny_bert_dir, **ERA)
    batch = batch_for(processor, [2])
    output = model(**batch, output_sentence_attention=True)
    states = model.docre(**{name: batch[name] for name in ("input_ids", "attention_mask", "mentions", "num_entities")})
    attention = states.entity_attention[0].mean(1)
    for (_, head, tail), found in zip(output.pairs.tolist(), output.sentence_attention, strict=True):
        weights = attention[head] * attention[tail]
        weights = weights / (weights.sum() + model.config.context_eps)
        by_sentence = [weights[batch["sentence_ids"][0] == number].sum() for number in range(3)]
        torch.testing.assert_close(found, torch.stack(by_sentence))


# Nothing to augment


def unchanged_by(function) -> bool:
    before = torch.get_rng_state()
    function()
    return torch.equal(torch.get_rng_state(), before)


def test_nothing_is_drawn_where_nothing_is_augmented(tiny_bert_dir):
    model, processor = make(tiny_bert_dir, **ERA, era_relations=["rules"])
    with_rules, without = batch_for(processor, [2]), batch_for(processor, [0, 1])
    assert not unchanged_by(lambda: model(**with_rules))
    assert unchanged_by(lambda: model(**without))
    unlabelled = {name: tensor for name, tensor in with_rules.items() if name != "labels"}
    assert unchanged_by(lambda: model(**unlabelled))
    model.eval()
    assert unchanged_by(lambda: model(**with_rules))
    plain, _ = make(tiny_bert_dir, **ERA, era_copies=0)
    assert unchanged_by(lambda: plain(**with_rules))
    plain.eval()
    torch.testing.assert_close(model(**with_rules).loss, plain(**with_rules).loss, atol=0, rtol=0)


@pytest.mark.parametrize("relations", [None, [], ["rules"]])
def test_documents_without_a_pair_or_a_relation(tiny_bert_dir, relations):
    model, processor = make(tiny_bert_dir, **ERA, era_relations=relations)
    alone = {**fictional(0), "labels": []}
    alone["vertexSet"] = alone["vertexSet"][:1]
    for documents in ([alone], [alone, {**fictional(2), "labels": []}], [{**alone, "vertexSet": []}]):
        batch = processor.collate(processor([Document.from_dict(document) for document in documents]))
        output = model(**batch, num_items_in_batch=1)
        output.loss.backward()
        assert output.loss.isfinite() and len(output.logits) == len(batch["pairs"])


# Training


def test_without_copies_training_is_that_of_the_plain_method(tiny_bert_dir, tmp_path):
    plain = {"method": "atlop", "context_head_reduce": "first"}
    trained = []
    for name, settings in (("a", plain), ("b", {**ERA, "era_copies": 0})):
        trainer = trainer_for(tiny_bert_dir, tmp_path / name, dropout=True, model_settings=settings)
        trainer.train()
        trained.append(parameters(trainer.model))
        assert trainer.model.config.era_relations is None
    assert_close(*trained, 0.0)


@pytest.mark.parametrize("probability", [0.0, 0.3])
def test_the_trainer_counts_the_rows_of_a_step(tiny_bert_dir, tmp_path, probability):
    settings = {**ERA, "era_relations": RARE, "era_mask_probability": probability}
    trainer = trainer_for(tiny_bert_dir, tmp_path, model_settings=settings)
    groups = [[0], [1, 2], [3]]
    batches = [trainer.data_collator([trainer.train_dataset[number] for number in group]) for group in groups]
    assert trainer._get_num_items_in_batch(batches, torch.device("cpu")) == 2 + 6 + 12 + 2
    # Two copies of each pair with one of the two relations.
    assert {int(batch["num_augmented_in_batch"]) for batch in batches} == {2 * (1 + 2)}


def one_step(encoder, folder, probability, **settings):
    settings = {"num_train_epochs": 1, "optim": "sgd", "max_grad_norm": 0.0, "era_max_facts": 7, **settings}
    model_settings = {**ERA, "era_mask_probability": probability}
    trainer = trainer_for(encoder, folder, count=8, model_settings=model_settings, **settings)
    trainer.train()
    return parameters(trainer.model)


def test_accumulation_equals_one_large_batch(tiny_bert_dir, tmp_path):
    # Nothing is left out: masks would be drawn for other batches.
    large = one_step(tiny_bert_dir, tmp_path / "a", 0.0, per_device_train_batch_size=4)
    small = one_step(tiny_bert_dir, tmp_path / "b", 0.0, per_device_train_batch_size=2, gradient_accumulation_steps=2)
    assert_close(large, small, 1e-6)
    masked = one_step(tiny_bert_dir, tmp_path / "c", 0.5, per_device_train_batch_size=4)
    with pytest.raises(AssertionError):
        assert_close(large, masked, 1e-6)


def test_a_run_resumes_to_the_same_numbers(tiny_bert_dir, tmp_path):
    settings = {"model_settings": {**ERA, "era_mask_probability": 0.4}, "era_max_facts": 7, "dropout": True}
    straight = trainer_for(tiny_bert_dir, tmp_path, save_strategy="steps", save_steps=4, **settings)
    straight.train()
    resumed = trainer_for(tiny_bert_dir, tmp_path, **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    assert_close(parameters(straight.model), parameters(resumed.model), 0.0)
    assert resumed.model.config.era_relations == straight.model.config.era_relations == RARE
    saved = DocREForRelationExtraction.from_pretrained(tmp_path / "checkpoint-4")
    assert saved.config.era_relations == RARE


# Which relations


def chosen(encoder, folder, monkeypatch, model_settings=None, **settings):
    said = []
    monkeypatch.setattr(training.logger, "warning", said.append)
    trainer = trainer_for(
        encoder, folder, 9, model_settings={**ERA, **(model_settings or {})}, max_steps=1, **settings
    )
    trainer.train()
    return trainer.model.config.era_relations, said


def test_relations_with_few_training_facts_are_augmented_and_said(tiny_bert_dir, tmp_path, monkeypatch):
    relations, said = chosen(tiny_bert_dir, tmp_path, monkeypatch, era_max_facts=6)
    assert relations == ["rules"]
    (line,) = [text for text in said if "augmentation" in text]
    assert "2 copies" in line and "one of 1 relations, of 3: those with fewer than 6 facts" in line
    assert chosen(tiny_bert_dir, tmp_path, monkeypatch, era_max_facts=7)[0] == RARE
    # All of these have fewer than the paper's 500.
    assert chosen(tiny_bert_dir, tmp_path, monkeypatch)[0] == ["born_in", *RARE]


def test_a_number_of_docred_is_scaled_to_the_facts_there_are(tiny_bert_dir, tmp_path, monkeypatch):
    # 18 facts, of 38,180: 12,727 becomes 6.0002, below which are six facts.
    assert DOCRED_FACTS == 38_180
    for number, expected in ((12_727, RARE), (12_726, ["rules"])):
        found = chosen(tiny_bert_dir, tmp_path, monkeypatch, era_max_facts=number, era_scale_facts=True)
        assert found[0] == expected
    assert chosen(tiny_bert_dir, tmp_path, monkeypatch, era_scale_facts=True)[0] == []


def test_relations_by_name_stay_unless_others_are_asked_for(tiny_bert_dir, tmp_path, monkeypatch):
    named = {"era_relations": ["born_in"]}
    relations, said = chosen(tiny_bert_dir, tmp_path, monkeypatch, named)
    assert relations == ["born_in"] and not [text for text in said if "augmentation" in text]
    assert chosen(tiny_bert_dir, tmp_path, monkeypatch, named, era_max_facts=4)[0] == ["rules"]
    with pytest.raises(ValueError, match=r"era_max_facts=0 .*pass 1 or more"):
        arguments(tmp_path, era_max_facts=0)
