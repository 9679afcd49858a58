"""The pair-aware and entity-enhanced head against loops written from PAEE's equations."""

from __future__ import annotations

import math

import pytest
import torch
from table_heads import BLOCK, HIDDEN, TOKENS, config_for, documents, settle
from torch import nn
from training_helpers import RELATIONS, assert_close, fictional, make, parameters, trainer_for

from modeling_docre import DocREConfig, DocREForRelationExtraction, DocREPipeline, DocREProcessor, Document
from modeling_docre.decisions import predict, relation_scores
from modeling_docre.distillation import Teacher
from modeling_docre.encoding import all_pairs
from modeling_docre.extraction_report import ExtractionReport
from modeling_docre.hard_attention import HardAttentionNetwork
from modeling_docre.head_bilinear import grouped_outer
from modeling_docre.head_pair_aware import PairAwareHead
from modeling_docre.pair_aware_loss import entity_role_loss, entity_roles, pair_aware_losses, potential_pair_loss
from modeling_docre.sentence_features import sentence_features

COUNTS = torch.tensor([5, 1, 3])
# The first document's third sentence has no token; the second has one sentence.
SENTENCES = torch.tensor(
    [[-1, 0, 0, 0, 1, 1, 3, 3, -1], [-1, 0, 0, 0, 0, 0, -1, -1, -1], [-1, 0, 0, 1, 1, 2, 2, 2, -1]]
)
# Document, entity, token; not in order of appearance, with an entity in two sentences and one that is out of reach.
MENTIONS = torch.tensor(
    [[0, 0, 6], [0, 1, 2], [0, 2, 1], [0, 2, 7], [0, 3, 4], [0, 4, 99], [1, 0, 3], [2, 0, 5], [2, 1, 1], [2, 2, 3]]
)
TYPES = torch.tensor([[1, 2, 0, 1, 2], [2, 0, 0, 0, 0], [0, 1, 1, 0, 0]])
LENGTHS = torch.tensor([9, 9, 9])
PLACES = [[3, 1, 0, 2, 4], [0], [2, 0, 1]]


def head_for(dtype=torch.float64, **settings) -> PairAwareHead:
    torch.manual_seed(0)
    settings = {"unet_width": 4, "unet_outputs": 6, "pad_to": 7, "pair_type_size": 2, "entity_encoder_heads": 2,
                "entity_types": ["A", "B"], **settings}  # fmt: skip
    head = settle(PairAwareHead(config_for("paee", **settings)).to(dtype).eval())
    if head.potential is not None:
        # Some pairs above 0.3, some below.
        head.potential.bias.data -= 1.15
    return head


def inputs_for(dtype=torch.float64):
    return documents(COUNTS, dtype), sentence_features(MENTIONS, TYPES, SENTENCES, COUNTS, LENGTHS)


def logits_of(head, inputs, features, counts, pairs):
    states = head.represent(*inputs, counts, pairs, features)
    return head.classify(head.factors(states, pairs)), states


# By loops


def transformer(encoder, rows):
    """Post-norm layers, head by head and row by row; `rows` are those that are there."""
    for layer in encoder.layers.layers:
        attention = layer.self_attn
        heads, width = attention.num_heads, HIDDEN // attention.num_heads
        query, key, value = (rows @ attention.in_proj_weight.T + attention.in_proj_bias).chunk(3, 1)
        attended = []
        for row in range(len(rows)):
            parts = []
            for number in range(heads):
                part = slice(number * width, (number + 1) * width)
                scores = torch.stack([query[row, part] @ key[other, part] for other in range(len(rows))]) / width**0.5
                weights = scores.exp() / scores.exp().sum()
                parts.append(sum(weight * value[other, part] for other, weight in enumerate(weights)))
            attended.append(attention.out_proj(torch.cat(parts)))
        rows = torch.stack([layer.norm1(row + more) for row, more in zip(rows, attended, strict=True)])
        rows = torch.stack([layer.norm2(row + layer.linear2(layer.linear1(row).relu())) for row in rows])
    return rows


def sentences_by_loops(encoder, hidden, document):
    """The largest of each number over the tokens of a sentence, and its position."""
    sentences = []
    for sentence in sorted({int(one) for one in SENTENCES[document] if one >= 0}):
        tokens = [hidden[token] for token in range(TOKENS) if SENTENCES[document, token] == sentence]
        largest = [max((token[k] for token in tokens), key=lambda value: value.item()) for k in range(HIDDEN)]
        sentences.append(torch.stack(largest) + encoder.positions.weight[sentence])
    return sentences


def read_image(network, image, count):
    if isinstance(network, HardAttentionNetwork):
        return network(image[None], torch.tensor([count]), masked=False)[0]
    return network(image[None], None)[0]


def by_loops(head, hidden, entities, attention, document, count, *, tiles=True, size=7):
    """Logits, potential logits and role logits of a document."""
    grid, encoder = head.grid, head.encoder
    types = grid.types(TYPES[document])
    sentences_of = [set() for _ in range(count)]
    for of_document, entity, token in MENTIONS.tolist():
        if of_document == document and token < TOKENS:
            sentences_of[entity].add(int(SENTENCES[document, token]))

    def beside(s, o):
        shared = torch.tensor([float(bool(sentences_of[s] & sentences_of[o]))], dtype=hidden.dtype)
        return torch.cat([types[s], types[o], shared])

    # Equation 3.
    cells = {}
    for s in range(count):
        for o in range(count):
            weights = (attention[s] * attention[o]).mean(0)
            context = (weights[:, None] * hidden).sum(0) / (weights.sum() + 1e-5)
            cells[s, o] = grid.channels(torch.cat([context, beside(s, o)]))
    # Equation 4: rows and columns by first appearance, and again from the first where they end.
    places = PLACES[document]
    order = sorted(range(count), key=lambda entity: places[entity])
    image = torch.zeros(len(cells[0, 0]), size, size, dtype=hidden.dtype)
    for i in range(size):
        for j in range(size):
            if tiles or (i < count and j < count):
                image[:, i, j] = cells[order[i % count], order[j % count]]
    read = read_image(grid.network, image, count)
    # Equation 6.
    sentences = sentences_by_loops(encoder, hidden, document)
    seen = transformer(encoder, torch.stack([*entities[:count], *sentences]))[:count]
    # Equation 7.
    roles = torch.stack([head.roles(row).view(2, -1) for row in seen])
    heads, tails = (torch.cat([seen, 1 / (1 + (-roles[:, k]).exp())], 1) for k in (0, 1))
    logits, potential = [], []
    for s in range(count):
        for o in range(count):
            if s == o:
                continue
            cell = read[:, places[s], places[o]]
            # Equation 5.
            chance = head.potential(torch.cat([cell, beside(s, o)]))[0]
            potential.append(chance)
            tag = torch.tensor([float(1 / (1 + (-chance).exp()) > 0.3)], dtype=hidden.dtype)
            # Equation 8.
            z_head = head.head_projection(torch.cat([heads[s], cell, tag])).tanh()
            z_tail = head.tail_projection(torch.cat([tails[o], cell, tag])).tanh()
            logits.append(
                head.classifier.weight @ grouped_outer(z_head[None], z_tail[None], BLOCK)[0] + head.classifier.bias
            )
    return logits, potential, roles


@pytest.mark.parametrize(
    "settings", [{}, {"grid_fill": "zeros"}, {"pad_to": 4}, {"grid_network": "hard-attention", "pad_to": 20}]
)
def test_logits_by_loops(settings):
    head, (inputs, features) = head_for(**settings), inputs_for()
    pairs = all_pairs(COUNTS)
    logits, states = logits_of(head, inputs, features, COUNTS, pairs)
    expected, potential = [], []
    for document, count in enumerate(COUNTS.tolist()):
        size = max(settings.get("pad_to", 7), count)
        tiles = settings.get("grid_fill") != "zeros"
        found = by_loops(head, *(part[document] for part in inputs), document, count, tiles=tiles, size=size)
        expected += found[0]
        potential += found[1]
        torch.testing.assert_close(states.roles[document, :count], found[2])
    torch.testing.assert_close(states.potential, torch.stack(potential))
    torch.testing.assert_close(logits, torch.stack(expected))
    assert 0 < int((torch.sigmoid(states.potential) > 0.3).sum()) < len(pairs)


def test_gradients_by_loops():
    results = []
    for loops in (False, True):
        head, (inputs, features) = head_for(), inputs_for()
        inputs = [tensor.requires_grad_() for tensor in inputs]
        if loops:
            rows = [
                torch.stack(row) if isinstance(row, list) else row
                for row in by_loops(head, *(part[0] for part in inputs), 0, 5)
            ]
            total = rows[0].sin().sum() + rows[1].sin().sum() + rows[2].sin().sum()
        else:
            counts, pairs = COUNTS[:1], all_pairs(COUNTS[:1])
            logits, states = logits_of(
                head, [part[:1] for part in inputs], features.take(torch.tensor([0]), 5), counts, pairs
            )
            total = logits.sin().sum() + states.potential.sin().sum() + states.roles.sin().sum()
        total.backward()
        gradients = {name: value.grad for name, value in head.named_parameters()}
        results.append(gradients | {str(number): part.grad for number, part in enumerate(inputs)})
    assert all(value is not None and value.abs().sum() > 0 for value in results[1].values())
    for name, value in results[1].items():
        torch.testing.assert_close(results[0][name], value, msg=lambda m, n=name: f"{n}: {m}")


# Which entity is which


def test_the_order_of_entities_makes_no_difference():
    head, (inputs, features) = head_for(), inputs_for()
    pairs = all_pairs(COUNTS[:1])
    hidden, entities, attention = (part[:1] for part in inputs)
    logits, _ = logits_of(head, (hidden, entities, attention), features.take(torch.tensor([0]), 5), COUNTS[:1], pairs)
    mixed = torch.tensor([3, 0, 4, 1, 2])  # who stands where now
    where = mixed.argsort()
    mentions = MENTIONS[MENTIONS[:, 0] == 0].clone()
    mentions[:, 1] = where[mentions[:, 1]]
    again = sentence_features(mentions, TYPES[:1, mixed], SENTENCES[:1], COUNTS[:1], LENGTHS[:1])
    renamed = torch.stack([pairs[:, 0], where[pairs[:, 1]], where[pairs[:, 2]]], 1)
    found, _ = logits_of(head, (hidden, entities[:, mixed], attention[:, mixed]), again, COUNTS[:1], renamed)
    torch.testing.assert_close(found, logits)


def test_entities_with_one_first_mention_stand_by_what_else_they_have():
    """A marker of two nested mentions; entities out of reach, of several types."""
    mentions = torch.tensor([[0, 0, 2], [0, 1, 2], [0, 1, 5], [0, 2, 2]])
    # Two more with the first and the sum in common.
    mentions = torch.tensor([*mentions.tolist(), *([0, 5, at] for at in (1, 4, 7)), *([0, 6, at] for at in (1, 5, 6))])
    types = torch.tensor([[1, 1, 2, 2, 1, 1, 1]])
    rows = torch.tensor([[-1, 0, 0, 0, 1, 1, 3, 3, -1]])
    counts, lengths = torch.tensor([7]), torch.tensor([9])
    places = sentence_features(mentions, types, rows, counts, lengths).places[0]
    assert places.tolist() == [2, 4, 3, 6, 5, 1, 0]
    for mixed in (torch.tensor([4, 6, 2, 1, 0, 5, 3]), torch.tensor([1, 5, 0, 3, 6, 4, 2])):
        again = mentions.clone()
        again[:, 1] = mixed.argsort()[mentions[:, 1]]
        found = sentence_features(again, types[:, mixed], rows, counts, lengths).places[0]
        assert found.tolist() == places[mixed].tolist()


def test_mentions_behind_a_document_are_ignored():
    nothing = sentence_features(MENTIONS, TYPES, SENTENCES, COUNTS, torch.tensor([9, 9, 4]))
    assert nothing.places[2, :3].tolist() == [2, 0, 1] and not nothing.shared[2, 0].any()


def test_padding_and_unread_tokens_are_in_no_sentence():
    padded = SENTENCES.clone()
    padded[1, 6:] = 0
    lengths = torch.tensor([9, 6, 9])
    features = sentence_features(MENTIONS, TYPES, padded, COUNTS, lengths)
    assert features.sentence_ids[1].tolist() == [-1, 0, 0, 0, 0, 0, -1, -1, -1] and padded[1, 6:].tolist() == [0] * 3
    unread = sentence_features(MENTIONS, TYPES, SENTENCES, COUNTS, lengths, lambda length: range(3, length - 3))
    for row, middle in enumerate((slice(3, 6), slice(3, 3), slice(3, 6))):
        expected = SENTENCES[row].clone()
        expected[middle] = -1
        assert unread.sentence_ids[row].tolist() == expected.tolist()


def test_the_order_of_appearance_makes_one():
    head, (inputs, features) = head_for(), inputs_for()
    pairs = all_pairs(COUNTS)
    logits, _ = logits_of(head, inputs, features, COUNTS, pairs)
    other = features._replace(places=torch.tensor([[0, 1, 2, 3, 4], [0, 1, 2, 3, 4], [2, 0, 1, 3, 4]]))
    found, _ = logits_of(head, inputs, other, COUNTS, pairs)
    same = pairs[:, 0] != 0
    torch.testing.assert_close(found[same], logits[same])
    assert not torch.allclose(found[~same], logits[~same], atol=1e-4)


def test_what_is_not_known_of_a_document():
    head, (inputs, _) = head_for(), inputs_for()
    pairs = all_pairs(COUNTS)
    mentions = torch.tensor([[d, e, e] for d in range(3) for e in range(5)])
    nothing = sentence_features(mentions, torch.zeros_like(TYPES), torch.full_like(SENTENCES, -1), COUNTS, LENGTHS)
    expected, _ = logits_of(head, inputs, nothing, COUNTS, pairs)
    torch.testing.assert_close(head.classify(head.pair_embeddings(*inputs, COUNTS, pairs)), expected)


def test_features_of_sentences():
    features = sentence_features(MENTIONS, TYPES, SENTENCES, COUNTS, LENGTHS)
    for document, places in enumerate(PLACES):
        assert features.places[document, : len(places)].tolist() == places
    shared = features.shared[0].int().tolist()
    # Entities 0 and 2 meet in the last sentence, 1 and 2 in the first; the last entity is nowhere.
    assert shared == [[1, 0, 1, 0, 0], [0, 1, 1, 0, 0], [1, 1, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 0]]


VARIANTS = [
    *({}, {"mask_padding": True}, {"grid_fill": "zeros"}, {"pad_to": 2}, {"use_pair_grid": False}),
    *({"use_entity_encoder": False}, {"use_potential_pairs": False}, {"potential_feature": "probability"}),
    *({"grid_network": "hard-attention", "mask_padding": masked, "unet_width": 5} for masked in (False, True)),
]


@pytest.mark.parametrize("settings", VARIANTS)
def test_a_document_alone_has_the_logits_that_it_has_in_a_batch(settings):
    head, (inputs, features) = head_for(**settings), inputs_for()
    pairs = all_pairs(COUNTS)
    together, _ = logits_of(head, inputs, features, COUNTS, pairs)
    for document, count in enumerate(COUNTS.tolist()):
        alone = [inputs[0][document : document + 1], *(one[document : document + 1, :count] for one in inputs[1:])]
        counts = COUNTS[document : document + 1]
        mentions = MENTIONS[MENTIONS[:, 0] == document] - torch.tensor([document, 0, 0])
        rows = slice(document, document + 1)
        own = sentence_features(mentions, TYPES[rows, :count], SENTENCES[rows], counts, LENGTHS[rows])
        found, _ = logits_of(head, alone, own, counts, all_pairs(counts))
        torch.testing.assert_close(found, together[pairs[:, 0] == document], atol=1e-12, rtol=1e-12)
    chosen = torch.tensor([21, 2, 2, 25])
    some, _ = logits_of(head, inputs, features, COUNTS, pairs[chosen])
    torch.testing.assert_close(some, together[chosen])


def test_parts_that_are_off_have_no_parameters():
    names = {name for name, _ in head_for().named_parameters()}
    without_grid = {name for name, _ in head_for(use_pair_grid=False).named_parameters()}
    assert names - without_grid == {name for name in names if name.startswith(("grid.", "potential."))}
    without_encoder = {name for name, _ in head_for(use_entity_encoder=False).named_parameters()}
    assert names - without_encoder == {name for name in names if name.startswith(("encoder.", "roles."))}
    assert names - {n for n, _ in head_for(use_potential_pairs=False).named_parameters()} == {
        "potential.weight", "potential.bias",
    }  # fmt: skip


@pytest.mark.parametrize("network", ["unet", "hard-attention"])
@pytest.mark.parametrize("mask_padding", [False, True])
@pytest.mark.parametrize("counts", [[], [0], [1], [0, 2], [1, 1]])
def test_few_entities(counts, mask_padding, network):
    counts = torch.tensor(counts, dtype=torch.long)
    head = head_for(mask_padding=mask_padding, grid_network=network).train()
    inputs = [tensor.requires_grad_() for tensor in documents(counts)]
    most = inputs[1].shape[1]
    features = sentence_features(
        torch.zeros(0, 3, dtype=torch.long),
        torch.zeros(len(counts), most, dtype=torch.long),
        torch.full((len(counts), TOKENS), -1),
        counts,
        torch.full((len(counts),), TOKENS),
    )
    pairs = all_pairs(counts)
    logits, states = logits_of(head, inputs, features, counts, pairs)
    assert logits.shape == (len(pairs), 3) and logits.isfinite().all() and states.roles.isfinite().all()
    (logits.sum() + states.roles.sum() + states.potential.sum()).backward()
    for name, parameter in head.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), name


# The losses


def test_the_losses_of_equations_10_to_12_by_loops():
    head, (inputs, features) = head_for(), inputs_for()
    pairs = all_pairs(COUNTS)
    _, states = logits_of(head, inputs, features, COUNTS, pairs)
    labels = torch.zeros(len(pairs), 3)
    labels[:, 0] = 1
    for row, relation in ((1, 1), (4, 2), (4, 1), (21, 2)):
        labels[row, relation], labels[row, 0] = 1, 0
    config = config_for("paee", potential_weight=0.5, role_weight=2.0)
    losses = pair_aware_losses(config, states, labels, pairs, COUNTS)
    chances = torch.sigmoid(states.potential)
    potential = -sum(
        (chance if row[1:].any() else 1 - chance).log() for chance, row in zip(chances, labels, strict=True)
    ) / len(pairs)
    torch.testing.assert_close(losses["potential"], 0.5 * potential)
    total = 0.0
    for role in (0, 1):
        for document, count in enumerate(COUNTS.tolist()):
            for entity in range(count):
                for relation in (1, 2):
                    holds = any(
                        labels[row, relation] and pair[0] == document and pair[1 + role] == entity
                        for row, pair in enumerate(pairs.tolist())
                    )
                    chance = torch.sigmoid(states.roles[document, entity, role, relation - 1])
                    total = total - (chance if holds else 1 - chance).log()
    # The mean over relations and entities, of heads and of tails, and half of their sum.
    torch.testing.assert_close(losses["roles"], 2.0 * total / (2 * int(COUNTS.sum())) / 2)
    parts = []
    for document in range(3):
        rows = pairs[:, 0] == document
        own = pairs[rows] - torch.tensor([document, 0, 0])
        part = states._replace(potential=states.potential[rows], roles=states.roles[document : document + 1])
        parts.append(
            pair_aware_losses(
                config, part, labels[rows], own, COUNTS[document : document + 1],
                num_items_in_batch=len(pairs), num_entities_in_batch=int(COUNTS.sum()),
            )
        )  # fmt: skip
    for name, value in losses.items():
        torch.testing.assert_close(sum(part[name] for part in parts), value)


def test_pairs_with_oneself_are_no_potential_pairs():
    head, (inputs, features) = head_for(), inputs_for()
    pairs = all_pairs(COUNTS)
    both = torch.cat([torch.tensor([[0, 1, 1], [2, 0, 0]]), pairs])
    _, states = logits_of(head, inputs, features, COUNTS, both)
    labels = torch.zeros(len(both), 3)
    labels[:, 0] = 1
    labels[5] = torch.tensor([0.0, 1.0, 0.0])
    found = pair_aware_losses(config_for("paee"), states, labels, both, COUNTS)["potential"]
    expected = potential_pair_loss(states.potential[2:], labels[2:], reduction="sum") / len(both)
    torch.testing.assert_close(found, expected)


def test_entities_of_a_step_that_are_not_counted_are_as_many_for_each_pair():
    head, (inputs, features) = head_for(), inputs_for()
    pairs = all_pairs(COUNTS)
    _, states = logits_of(head, inputs, features, COUNTS, pairs)
    labels = torch.zeros(len(pairs), 3)
    labels[2, 1] = 1
    config = config_for("paee")
    alone = pair_aware_losses(config, states, labels, pairs, COUNTS)["roles"]
    third = pair_aware_losses(config, states, labels, pairs, COUNTS, num_items_in_batch=3 * len(pairs))["roles"]
    torch.testing.assert_close(third, alone / 3)


def test_losses_of_nothing_are_attached_zeros():
    scores = torch.zeros(0, requires_grad=True)
    roles = torch.zeros(0, 2, 3, requires_grad=True)
    total = potential_pair_loss(scores, torch.zeros(0, 4)) + entity_role_loss(roles, torch.zeros(0, 2, 3))
    total.backward()
    assert total == 0.0 and scores.grad is not None


def test_roles_of_entities():
    pairs = torch.tensor([[0, 0, 1], [0, 1, 0], [1, 0, 1]])
    labels = torch.tensor([[0, 1, 1], [1, 0, 0], [0, 0, 1]])
    found = entity_roles(labels, pairs, torch.zeros(2, 2, 2, 2))
    expected = torch.zeros(2, 2, 2, 2)
    expected[0, 0, 0] = expected[0, 1, 1] = torch.tensor([1.0, 1.0])
    expected[1, 0, 0] = expected[1, 1, 1] = torch.tensor([0.0, 1.0])
    assert torch.equal(found, expected)


# In the model

SMALL = {"method": "paee", "unet_width": 4, "unet_outputs": 6, "pad_to": 5, "entity_encoder_heads": 2,
         "entity_types": ["LOC", "PER"]}  # fmt: skip


def test_the_model_gives_potential_pairs_and_all_losses(tiny_bert_dir):
    model, processor = make(tiny_bert_dir, **SMALL)
    batch = processor.collate(processor([fictional(number) for number in range(4)]))
    output = model.eval()(**batch)
    assert output.losses.keys() == {"adaptive", "potential", "roles"}
    assert output.loss.item() == pytest.approx(sum(value.item() for value in output.losses.values()))
    assert output.potential_pairs.shape == (len(batch["pairs"]),)
    assert ((output.potential_pairs > 0) & (output.potential_pairs < 1)).all()
    with pytest.raises(ValueError, match="pass the sentence of each token"):
        model(**{**batch, "sentence_ids": batch["sentence_ids"][:, :5]})
    without = {name: value for name, value in batch.items() if name != "sentence_ids"}
    with pytest.raises(ValueError, match='head="pair-aware" needs `sentence_ids`'):
        model(**without)


@pytest.mark.parametrize("settings", [{"method": "atlop"}, {**SMALL, "use_potential_pairs": False}])
def test_who_predicts_no_potential_pairs_does_not_prune(tiny_bert_dir, settings):
    model, processor = make(tiny_bert_dir, **settings)
    with pytest.raises(ValueError, match=r'prune_threshold=0\.1 needs a model that .* method="paee"'):
        model.eval()(**processor.collate(processor([fictional(1)])), prune_threshold=0.1)


def test_tags_that_nothing_trains_are_refused_in_training(tiny_bert_dir, tmp_path):
    model, processor = make(tiny_bert_dir, **SMALL)
    model.config.potential_weight = 0.0
    model.save_pretrained(tmp_path)
    # It predicts, and does not learn.
    saved = DocREForRelationExtraction.from_pretrained(tmp_path)
    batch = processor.collate(processor([fictional(1)]))
    assert torch.equal(saved.eval()(**batch).logits, model.eval()(**batch).logits)
    with pytest.raises(ValueError, match="potential_weight=0 leaves untrained"):
        trainer_for(tiny_bert_dir, tmp_path, 3, trainer={"model": saved, "processing_class": processor})
    with pytest.raises(ValueError, match="potential_weight=0 leaves untrained"):
        make(tiny_bert_dir, **{**SMALL, "potential_weight": 0.0})
    for settings in ({"potential_feature": "probability"}, {"use_potential_pairs": False}, {"use_pair_grid": False}):
        trainer_for(tiny_bert_dir, tmp_path, 3, model_settings={**SMALL, "potential_weight": 0.0, **settings})


def test_sentences_that_published_windows_leave_unread_have_no_tokens(tiny_bert_dir):
    model, processor = make(tiny_bert_dir, **SMALL, window_mode="reference", window_size=20)
    documents = [fictional(1)]
    documents[0]["sents"] = [*documents[0]["sents"], *[["Nobody", "read", "this", "."]] * 20]
    batch = processor.collate(processor(documents))
    unread = model.config.unread_tokens(int(batch["attention_mask"].sum()))
    assert len(unread) > 20
    other = {**batch, "sentence_ids": batch["sentence_ids"].clone()}
    other["sentence_ids"][0, unread.start : unread.stop] = 0
    assert torch.equal(model.eval()(**other).logits, model(**batch).logits)
    everything = make(tiny_bert_dir, **SMALL, window_size=20)[0].eval()
    assert not torch.equal(everything(**other).logits, everything(**batch).logits)


def test_hidden_types_are_hidden_from_the_grid(tiny_bert_dir):
    model, processor = make(tiny_bert_dir, **SMALL, entity_type_dropout=1.0)
    for module in model.modules():
        if isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.0
    batch = processor.collate(processor([fictional(number) for number in range(3)]))
    unknown = {**batch, "entity_types": torch.zeros_like(batch["entity_types"])}
    assert torch.equal(model.train()(**batch).logits, model(**unknown).logits)
    model.config.entity_type_dropout = 0.0
    assert not torch.equal(model(**batch).logits, model(**unknown).logits)


@pytest.mark.parametrize("grid", [True, False])
def test_types_that_nothing_reads_are_not_hidden(tiny_bert_dir, monkeypatch, grid):
    model, processor = make(tiny_bert_dir, **SMALL, entity_type_dropout=0.5, use_pair_grid=grid)
    drawn, rand = [], torch.rand
    monkeypatch.setattr(torch, "rand", lambda *shape, **options: drawn.append(shape) or rand(*shape, **options))
    model.train()(**processor.collate(processor([fictional(number) for number in range(3)])))
    assert drawn == ([(3, 1)] if grid else [])


def test_biases_start_at_the_log_odds_of_their_labels(tiny_bert_dir, tmp_path):
    trainer = trainer_for(tiny_bert_dir, tmp_path, 9, model_settings=SMALL)
    trainer.set_prior_bias()
    head, documents = trainer.model.head, trainer.train_dataset.documents
    pairs = sum(len(document.entities) * (len(document.entities) - 1) for document in documents)
    entities = sum(len(document.entities) for document in documents)

    def log_odds(count, of):
        return math.log((count + 0.5) / (of + 1)) - math.log1p(-(count + 0.5) / (of + 1))

    facts = [{(fact.head, fact.tail, fact.relation) for fact in document.relations} for document in documents]
    related = sum(len({(h, t) for h, t, _ in found}) for found in facts)
    assert head.potential.bias.item() == pytest.approx(log_odds(related, pairs))
    roles = head.roles.bias.view(2, -1)
    for number, relation in enumerate(trainer.model.config.relations):
        held = sum(fact[2] == relation for found in facts for fact in found)
        assert head.classifier.bias[number + 1].item() == pytest.approx(log_odds(held, pairs), abs=1e-5)
        for role in (0, 1):
            those = sum(len({fact[role] for fact in found if fact[2] == relation}) for found in facts)
            assert roles[role, number].item() == pytest.approx(log_odds(those, entities), abs=1e-5)
    assert len({round(value, 4) for value in roles.flatten().tolist()}) > 2
    # And so do those of heads that predict less.
    other = trainer_for(tiny_bert_dir, tmp_path, 9, model_settings={**SMALL, "use_pair_grid": False})
    other.set_prior_bias()
    assert torch.equal(other.model.head.roles.bias, head.roles.bias) and other.model.head.potential is None


def test_pruned_pairs_have_no_relation_and_others_stay(tiny_bert_dir, monkeypatch):
    model, processor = make(tiny_bert_dir, **SMALL)
    batch = processor.collate(processor([fictional(number) for number in range(6)]))
    del batch["labels"]
    model.eval()
    plain = model(**batch)
    model.config.prune_threshold = float(
        plain.potential_pairs.detach().sort().values[len(batch["pairs"]) // 2 :][:2].mean()
    )
    pruned = model(**batch)
    kept = plain.potential_pairs > model.config.prune_threshold
    assert 0 < int(kept.sum()) < len(kept)
    assert plain.pruned is None and torch.equal(pruned.pruned, ~kept)
    torch.testing.assert_close(pruned.logits[kept], plain.logits[kept])
    assert (pruned.logits[~kept].argmax(1) == 0).all()
    documents = [Document.from_docred(fictional(number)) for number in range(6)]
    found = processor.decode(pruned, documents)
    assert len(found) == 6
    for decision in ("threshold-class", "zero", "probability"):
        for dtype in (torch.float16, torch.bfloat16, torch.float32):
            everything = predict(pruned.logits.to(dtype), decision, max_relations=None, threshold=0.0)[:, 1:]
            assert everything[kept].all() and not everything[~kept].any()
    answers = processor.decode(pruned, documents, threshold=0.0)
    pairs = {tuple(row) for row in batch["pairs"][kept].tolist()}
    assert {(n, one.head, one.tail) for n, found in enumerate(answers) for one in found} == pairs
    scores = relation_scores(pruned.logits, "threshold-class")
    assert scores.isfinite().all() and (scores[~kept, 1:] == 0).all()
    extract = DocREPipeline(model=model, processor=processor)
    for size in (1, 8):
        found = [answer["coverage"] for answer in extract(documents, batch_size=size)]
        counted = [coverage["pairs left out as unrelated"] for coverage in found]
        assert counted == [int((~kept[batch["pairs"][:, 0] == number]).sum()) for number in range(6)]
    report = ExtractionReport()
    noted = {"pairs left out as unrelated": 3, "entities of unknown type": 2}
    report.add(documents[0], {"relations": [], "coverage": found[0] | noted}, {})
    assert {name: report.counts[name] for name in noted} == noted
    monkeypatch.setattr(model.config, "prune_threshold", 0.999)
    monkeypatch.setattr(model.config, "max_length", 14)
    short = extract(max(documents, key=lambda document: len(document.entities)))["coverage"]
    assert 0 < short["pairs left out as unrelated"] == short["pairs_scored"] < short["pairs"]
    # The published windows read what lies beyond them as zeros: all pairs count as scored.
    monkeypatch.setattr(model.config, "window_mode", "reference")
    blind = extract(max(documents, key=lambda document: len(document.entities)))["coverage"]
    assert blind["pairs left out as unrelated"] == blind["pairs_scored"] == blind["pairs"]
    monkeypatch.undo()
    # The tags of the classifier have a threshold of their own; a call may ask for another one than the config.
    model.config.potential_threshold = float(plain.potential_pairs.detach().median())
    careful = float(plain.potential_pairs.detach().quantile(0.2))
    tagged, carefully = model(**batch, prune_threshold=0.0), model(**batch, prune_threshold=careful)
    few = plain.potential_pairs > careful
    assert int(few.sum()) > int(kept.sum())
    assert not torch.equal(tagged.logits, plain.logits)
    torch.testing.assert_close(carefully.logits[few], tagged.logits[few])
    assert (carefully.logits[~few].argmax(1) == 0).all()
    model.config.potential_threshold = 0.3
    assert torch.equal(model(**batch, prune_threshold=0).logits, model(**batch, prune_threshold=0.0).logits)
    for wrong in ("0.3", False, 1.0, float("nan")):
        with pytest.raises(ValueError, match=f"prune_threshold={wrong!r} is not a probability"):
            model(**batch, prune_threshold=wrong)
    # Others are not classified, which is the time that is saved; in training all are.
    classified, classify = [], model.head.classify
    monkeypatch.setattr(
        model.head, "classify", lambda factors: classified.append(len(factors[0])) or classify(factors)
    )
    model(**batch)
    model.train()(**batch)
    assert classified == [int(kept.sum()), len(kept)]
    model.eval()
    # Evaluation scores what is answered, and its loss is that of all pairs.
    labels = processor.collate(processor(documents))["labels"]
    evaluated, without = model(**batch, labels=labels), model(**batch, labels=labels, prune_threshold=0.0)
    torch.testing.assert_close(evaluated.logits, pruned.logits)
    assert torch.equal(evaluated.loss, without.loss) and torch.equal(without.logits, plain.logits)
    asked = model(**batch, output_pair_embeddings=True)
    assert len(asked.pair_embeddings) == len(asked.logits) and torch.equal(asked.logits, evaluated.logits)
    # A student learns of all pairs.
    teacher = Teacher([(model, processor)])
    features = teacher.features(documents)
    torch.testing.assert_close(teacher.logits(features, batch["pairs"]), plain.logits)


@pytest.mark.parametrize("settings", [{}, {"use_entity_types": True}, {"grid_network": "hard-attention"}])
def test_it_learns_saves_and_resumes(tiny_bert_dir, tmp_path, settings):
    def run(folder):
        return trainer_for(
            tiny_bert_dir, folder, 8, dropout=True, model_settings={**SMALL, **settings},
            trainer={"eval_dataset": None}, num_train_epochs=8, save_strategy="steps", save_steps=4,
            head_learning_rate=3e-3,
        )  # fmt: skip

    trainer = run(tmp_path)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[-1] < 0.8 * losses[0]
    assert all({"loss_adaptive", "loss_potential", "loss_roles"} <= entry.keys()
               for entry in trainer.state.log_history if "loss" in entry)  # fmt: skip
    resumed = run(tmp_path)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-8"))
    first, second = parameters(trainer.model), parameters(resumed.model)
    assert all(torch.equal(first[name], second[name]) for name in first)
    trainer.save_model(str(tmp_path / "saved"))
    loaded = DocREForRelationExtraction.from_pretrained(tmp_path / "saved").eval()
    processor = DocREProcessor.from_pretrained(tmp_path / "saved")
    batch = processor.collate(processor([fictional(3)]))
    torch.testing.assert_close(loaded(**batch).logits, trainer.model.eval()(**batch).logits)


@pytest.mark.parametrize("settings", [{"use_pair_grid": False}, {"grid_network": "hard-attention"}])
def test_accumulation_equals_one_batch(tiny_bert_dir, tmp_path, settings):
    """But for the U-Net, whose batch norm knows a micro-batch."""
    ends = []
    for batch, accumulate in ((6, 1), (2, 3)):
        trainer = trainer_for(
            tiny_bert_dir, tmp_path / str(batch), 6, model_settings={**SMALL, **settings},
            trainer={"eval_dataset": None}, per_device_train_batch_size=batch,
            gradient_accumulation_steps=accumulate, optim="sgd", max_steps=2, lr_scheduler_type="constant",
            warmup_steps=0,
        )  # fmt: skip
        for module in trainer.model.head.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
            if isinstance(module, nn.MultiheadAttention):
                module.dropout = 0.0
        trainer.train()
        ends.append(parameters(trainer.model))
    assert_close(*ends, 1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"marker_style": "unused", "entity_types": [str(number) for number in range(25)]},
            "tokens for 24 entity types",
        ),
        ({"grid_fill": "wrap"}, "grid_fill='wrap' is not one of"),
        ({"grid_network": "tnet"}, "grid_network='tnet' is not one of"),
        ({"attended_share": 0.0}, "attended_share=0.0 is no part"),
        ({"entity_encoder_heads": 3}, "such as entity_encoder_heads=2"),
        ({"potential_threshold": 1.0}, "potential_threshold=1.0 is not a probability"),
        ({"prune_threshold": 0.1, "use_potential_pairs": False}, "Take these, or prune_threshold=0"),
        ({"prune_threshold": 0.1, "head": "bilinear"}, "Take these, or prune_threshold=0"),
        ({"prune_threshold": -0.1}, "prune_threshold=-0.1 is not a probability"),
        ({"role_weight": -1.0}, "role_weight=-1.0 is no weight"),
        ({"unet_width": 5}, "unet_width=5 is odd"),
    ],
)
def test_wrong_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        config_for("paee", **{"entity_encoder_heads": 2, **settings})


def test_settings_of_parts_that_are_off_are_not_checked():
    config_for("atlop", marker_style="unused", entity_types=[str(number) for number in range(24)])
    config_for("atlop", marker_style="typed", entity_types=[str(number) for number in range(25)])
    config_for("paee", use_entity_encoder=False, entity_encoder_heads=3)
    config_for("paee", entity_encoder_heads=2, grid_network="hard-attention", unet_width=5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(tiny_bert_dir, dtype):
    model, processor = make(tiny_bert_dir, **SMALL)
    batch = processor.collate(processor([fictional(number) for number in range(3)]))
    exact = model.eval()(**batch).logits
    output = model.to(dtype)(**batch)
    assert output.loss.dtype == torch.float32 and output.loss.isfinite()
    assert (output.logits.float() - exact).abs().max() < 0.5


def test_more_sentences_than_have_a_position(tiny_bert_dir):
    model, processor = make(tiny_bert_dir, **SMALL)
    sentences = [["Ada", "met", "Bo", "."], *[["So", "."]] * 300]
    entities = [
        [{"name": name, "sent_id": 0, "pos": [at, at + 1], "type": "PER"}] for name, at in (("Ada", 0), ("Bo", 2))
    ]
    batch = processor.collate(processor([{"title": "Long", "sents": sentences, "vertexSet": entities, "labels": []}]))
    assert int(batch["sentence_ids"].max()) == 300
    assert model(**batch).loss.isfinite()


def test_many_entities(tiny_bert_dir):
    """More than the published 42, in a table of their own."""
    torch.manual_seed(0)
    sentences = [[f"Name{number}", "met", f"Name{number + 1}", "."] for number in range(0, 100, 2)]
    entities = [[{"name": f"Name{n}", "sent_id": n // 2, "pos": [2 * (n % 2), 2 * (n % 2) + 1], "type": "PER"}]
                for n in range(100)]  # fmt: skip
    story = {
        "title": "Crowd",
        "sents": sentences,
        "vertexSet": entities,
        "labels": [{"h": 0, "t": 1, "r": RELATIONS[0]}],
    }
    model, processor = make(tiny_bert_dir, **SMALL)
    batch = processor.collate(processor([story]))
    output = model(**batch)
    assert output.logits.shape == (9900, 4) and output.loss.isfinite()
    output.loss.backward()


def test_the_published_grid_is_the_default():
    config = DocREConfig.for_method("paee", RELATIONS)
    assert (config.pad_to, config.mask_padding, config.grid_fill) == (42, False, "tile")
    assert (config.potential_threshold, config.unet_channels, config.unet_outputs) == (0.3, 3, 256)
    assert (config.potential_weight, config.role_weight, config.marker_style) == (
        1,
        1,
        "tags",
    )
