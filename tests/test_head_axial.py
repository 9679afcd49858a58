"""The axial head against attention written cell by cell."""

from __future__ import annotations

import math

import pytest
import torch
from table_heads import BLOCK, HIDDEN, axial_head, documents
from torch.nn import functional

from modeling_docre import DocREConfig, head_axial
from modeling_docre.encoding import all_pairs
from modeling_docre.entity_table import EntityTable
from modeling_docre.head_bilinear import grouped_outer

COUNTS = torch.tensor([4, 1, 3])


def first_cells(head, hidden, entities, attention, count):
    """Equations 5 and 6 for the table of one document: `(count, count, hidden)`."""
    rows = []
    for subject in range(count):
        for target in range(count):
            weights = (attention[subject] * attention[target]).sum(0)
            context = (weights[:, None] * hidden).sum(0) / (weights.sum() + 1e-10)
            z_head = torch.tanh(head.head_projection(torch.cat([entities[subject], context])))
            z_tail = torch.tanh(head.tail_projection(torch.cat([entities[target], context])))
            value = head.projection.weight @ grouped_outer(z_head[None], z_tail[None], BLOCK)[0]
            rows.append(value if head.projection.bias is None else value + head.projection.bias)
    return torch.stack(rows).view(count, count, HIDDEN)


def attend(attention, query, cells, scale, heads):
    """What one cell takes from the cells of a line."""
    q = attention.to_q(query).view(heads, -1)
    key, value = attention.to_kv(torch.stack(cells)).chunk(2, dim=1)
    parts = []
    for head in range(heads):
        width = HIDDEN // heads
        part = slice(head * width, (head + 1) * width)
        scores = torch.stack([(q[head] * one[part]).sum() * scale for one in key])
        parts.append((scores.softmax(0)[:, None] * value[:, part]).sum(0))
    return attention.to_out(torch.cat(parts))


def by_loops(head, config, table):
    """The layers, cell by cell."""
    count = len(table)
    plain = config["axial_form"] == "paper"
    heads = config["axial_heads"]
    scale = 1.0 if plain else 1 / math.sqrt(HIDDEN // heads)
    cells = {(s, o): table[s, o] for s in range(count) for o in range(count)}
    start = dict(cells)
    for layer in head.layers:
        columns, rows = layer.columns, layer.columns if layer.rows is None else layer.rows
        down = {
            (s, o): cells[s, o] + attend(columns, cells[s, o], [cells[i, o] for i in range(count)], scale, heads)
            for s, o in cells
        }
        read = down if config["axial_order"] == "sequential" else cells
        new = {
            (s, o): down[s, o] + attend(rows, read[s, o], [read[s, i] for i in range(count)], scale, heads)
            for s, o in cells
        }
        cells = new if plain else {key: layer.norm(layer.feed_forward(cell)) for key, cell in new.items()}
    return cells if plain else {key: cell + start[key] for key, cell in cells.items()}


FORMS = [
    {"axial_form": "code", "axial_order": "parallel", "axial_heads": 2},
    {"axial_form": "code", "axial_order": "sequential", "axial_heads": 4},
    {"axial_form": "paper", "axial_order": "parallel", "axial_heads": 1, "axial_layers": 1},
    {"axial_form": "paper", "axial_order": "sequential", "axial_heads": 1, "axial_layers": 1},
]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: f"{form['axial_form']}-{form['axial_order']}")
def test_logits_and_gradients_by_loops(form):
    pairs = all_pairs(COUNTS)
    results = []
    for loops in (False, True):
        head = axial_head(**form)
        inputs = [tensor.requires_grad_() for tensor in documents(COUNTS)]
        if loops:
            hidden, entities, attention = inputs
            tables = [
                by_loops(head, form, first_cells(head, hidden[d], entities[d], attention[d], int(count)))
                for d, count in enumerate(COUNTS)
            ]
            logits = head.classifier(torch.stack([tables[d][s, o] for d, s, o in pairs.tolist()]))
        else:
            logits = head.classify(head.pair_embeddings(*inputs, COUNTS, pairs))
        logits.cos().sum().backward()
        gradients = {f"input {n}": tensor.grad for n, tensor in enumerate(inputs)}
        gradients |= {name: parameter.grad for name, parameter in head.named_parameters()}
        results.append((logits, gradients))
    (got, got_gradients), (expected, expected_gradients) = results
    torch.testing.assert_close(got, expected, atol=1e-11, rtol=1e-11)
    for name, gradient in expected_gradients.items():
        # What lies beyond a document's entities has no influence.
        mine = got_gradients[name]
        torch.testing.assert_close(
            mine, torch.zeros_like(mine) if gradient is None else gradient, atol=1e-10, rtol=1e-9
        )


def test_the_paper_has_one_matrix_for_both_axes_and_a_bias_before():
    head = axial_head(axial_form="paper", axial_heads=1, axial_layers=1)
    names = {name for name, _ in head.named_parameters()}
    assert {name for name in names if name.startswith("layers")} == {
        "layers.0.columns.to_q.weight",
        "layers.0.columns.to_kv.weight",
    }
    assert "projection.bias" in names
    assert "projection.bias" not in {name for name, _ in axial_head().named_parameters()}


def test_published_padding_takes_part_and_is_nothing_in_training():
    inputs, pairs = documents(COUNTS), all_pairs(COUNTS)
    masked = axial_head().pair_embeddings(*inputs, COUNTS, pairs)
    published = axial_head(pad_to=6, mask_padding=False)
    assert (published.pair_embeddings(*inputs, COUNTS, pairs) - masked).abs().max() > 1e-3
    # By a table of six documents' entities, of which those beyond the count are zero vectors in both places.
    hidden, entities, attention = (tensor[:1] for tensor in inputs)
    for training in (False, True):
        published.train(training)
        table = first_cells(published, hidden[0], entities[0], attention[0], 4)
        nothing = (
            published.projection.weight
            @ grouped_outer(
                torch.tanh(published.head_projection.bias)[None],
                torch.tanh(published.tail_projection.bias)[None],
                BLOCK,
            )[0]
        )
        padded = (torch.zeros_like(nothing) if training else nothing).repeat(6, 6, 1)
        padded[:4, :4] = table
        cells = by_loops(published, {**FORMS[0]}, padded)
        counts = COUNTS[:1]
        got = published.pair_embeddings(hidden, entities, attention, counts, all_pairs(counts))
        expected = torch.stack([cells[s, o] for _, s, o in all_pairs(counts).tolist()])
        torch.testing.assert_close(got, expected, atol=1e-11, rtol=1e-11)


def test_the_order_of_entities_makes_no_difference():
    head, inputs = axial_head(), documents(torch.tensor([4]))
    order = torch.tensor([2, 0, 3, 1])
    hidden, entities, attention = inputs
    counts = torch.tensor([4])
    pairs = all_pairs(counts)
    moved = torch.stack([pairs[:, 0], order[pairs[:, 1]], order[pairs[:, 2]]], 1)
    before = head.pair_embeddings(hidden, entities, attention, counts, moved)
    after = head.pair_embeddings(hidden, entities[:, order], attention[:, order], counts, pairs)
    torch.testing.assert_close(after, before, atol=1e-12, rtol=1e-12)


def test_layers_keep_nothing_for_the_backward_pass():
    kept = {}
    for layers in (1, 6):
        head, inputs, pairs = axial_head(axial_layers=layers), documents(COUNTS), all_pairs(COUNTS)
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda one, sizes=sizes: sizes.append(one.numel()) or one, lambda one: one
        ):
            head.pair_embeddings(*inputs, COUNTS, pairs)
        kept[layers] = sum(sizes)
    assert kept[6] == kept[1]


@pytest.mark.parametrize("budget", [1, 17, 1000])
def test_documents_together_or_one_by_one(monkeypatch, budget):
    pairs = all_pairs(COUNTS)
    results = []
    for size in (10_000, budget):
        monkeypatch.setattr(head_axial, "_CELL_BUDGET", size)
        for settings in ({}, {"pad_to": 5, "mask_padding": False}):
            head = axial_head(**settings)
            inputs = [tensor.requires_grad_() for tensor in documents(COUNTS)]
            found = head.pair_embeddings(*inputs, COUNTS, pairs)
            found.sin().sum().backward()
            results.append([found, *(one.grad for one in inputs), *(p.grad for p in head.parameters())])
    for one, other in zip([*results[0], *results[1]], [*results[2], *results[3]], strict=True):
        if one is not None or other is not None:
            torch.testing.assert_close(one, other, atol=1e-11, rtol=1e-10)


def test_a_table_beyond_the_budget_is_computed_in_parts_once_more(monkeypatch):
    # Otherwise the backward pass of one large table would hold all layers of it.
    counts = torch.tensor([5])
    runs = {}
    for budget in (25, 24):
        monkeypatch.setattr(head_axial, "_CELL_BUDGET", budget)
        head, inputs, seen = axial_head(), documents(counts), []
        head.layers[0].columns.to_q.register_forward_hook(lambda *given, seen=seen: seen.append(len(given[1][0])))
        head.pair_embeddings(*inputs, counts, all_pairs(counts)).sum().backward()
        assert set(seen) == {25}
        runs[budget] = len(seen)
    # Forward, for the table, for the layer, for the attention.
    assert runs == {25: 2, 24: 4}


def test_half_precision_computes_the_same_attention():
    # On a CPU its training has another kernel than its inference has.
    pairs, found = all_pairs(COUNTS), {}
    for dtype in (torch.float32, torch.bfloat16):
        head = axial_head().float()
        inputs = [tensor.float().requires_grad_() for tensor in documents(COUNTS)]
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            trained = head.pair_embeddings(*inputs, COUNTS, pairs)
            with torch.no_grad():
                answered = head.pair_embeddings(*inputs, COUNTS, pairs)
        trained.float().sin().sum().backward()
        torch.testing.assert_close(trained.detach(), answered, atol=0.03, rtol=0.03)
        found[dtype] = [trained.detach(), *(one.grad for one in inputs), head.layers[0].columns.to_kv.weight.grad]
    for exact, rounded in zip(found[torch.float32], found[torch.bfloat16], strict=True):
        assert (rounded - exact).norm() < 0.02 * exact.norm()


def test_the_places_of_a_table():
    table = EntityTable.of(COUNTS, 4, masked=True)
    values = torch.arange(len(table.cells), dtype=torch.float64)[:, None]
    filled = table.fill(values)
    assert filled.shape == (3, 4, 4, 1)
    assert torch.equal(table.take(filled), values)
    assert torch.equal(table.rows_of(table.cells), torch.arange(len(table.cells)))
    assert (
        functional.pad(torch.ones(3, 3), (0, 1, 0, 1))
        .bool()
        .equal(EntityTable.of(torch.tensor([3]), 4, masked=True).fill(torch.ones(9, 1))[0, :, :, 0].bool())
    )


def test_the_row_of_the_method():
    config = DocREConfig.for_method("kd-docre", ["R1"])
    assert (config.head, config.loss, config.decision, config.emb_size) == ("axial", "afl", "threshold-class", 1024)
    assert (config.context_head_reduce, config.context_eps) == ("sum", 1e-10)
    assert (config.axial_layers, config.axial_heads) == (6, 8)
