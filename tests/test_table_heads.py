"""What holds for every head that reads the table of a document's entities."""

from __future__ import annotations

import pytest
import torch
from table_heads import axial_head, documents, pair_aware_head, unet_head

from modeling_docre.encoding import all_pairs
from modeling_docre.head_bilinear import PairFactors

COUNTS = torch.tensor([5, 3, 2])
MAKERS = {"axial": axial_head, "unet": unet_head, "pair-aware": pair_aware_head}

pytestmark = pytest.mark.parametrize("name", MAKERS)


def rows_of(head, inputs, counts, pairs):
    """Pair embeddings and logits, side by side."""
    embeddings = head.pair_embeddings(*inputs, counts, pairs)
    parts = list(embeddings) if isinstance(embeddings, PairFactors) else [embeddings]
    return torch.cat([*parts, head.classify(embeddings)], 1)


@pytest.mark.parametrize(
    "settings",
    [{}, {"pad_to": 7}, {"pad_to": 11}, *({"pad_to": size, "mask_padding": False} for size in (None, 2, 4, 7))],
)
def test_a_document_alone_has_the_logits_that_it_has_in_a_batch(name, settings):
    head, inputs = MAKERS[name](**settings), documents(COUNTS)
    pairs = all_pairs(COUNTS)
    together = rows_of(head, inputs, COUNTS, pairs)
    for document, count in enumerate(COUNTS.tolist()):
        alone = [inputs[0][document : document + 1], *(one[document : document + 1, :count] for one in inputs[1:])]
        counts = COUNTS[document : document + 1]
        got = rows_of(head, alone, counts, all_pairs(counts))
        torch.testing.assert_close(got, together[pairs[:, 0] == document], atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("settings", [{}, {"pad_to": 4, "mask_padding": False}])
def test_any_pairs_in_any_order(name, settings):
    head, inputs = MAKERS[name](**settings), documents(COUNTS)
    everything = all_pairs(COUNTS)
    all_rows = rows_of(head, inputs, COUNTS, everything)
    chosen = torch.tensor([21, 2, 2, 25])
    got = rows_of(head, inputs, COUNTS, everything[chosen])
    torch.testing.assert_close(got, all_rows[chosen], atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("mask_padding", [False, True])
@pytest.mark.parametrize("counts", [[], [0], [1], [0, 2], [1, 1], [3]])
def test_few_entities(name, counts, mask_padding, training):
    counts = torch.tensor(counts, dtype=torch.long)
    head = MAKERS[name](mask_padding=mask_padding).train(training)
    inputs = [tensor.requires_grad_() for tensor in documents(counts)]
    pairs = all_pairs(counts)
    logits = head.classify(head.pair_embeddings(*inputs, counts, pairs))
    assert logits.shape == (len(pairs), 3) and logits.isfinite().all()
    logits.sum().backward()
    if name == "pair-aware" and not len(counts):
        # Its encoder does not run; a batch is never without documents.
        return
    for parameter_name, parameter in head.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), parameter_name


@pytest.mark.parametrize("settings", [{"pad_to": 4, "mask_padding": False}, {}])
def test_batch_norm_has_one_batch_in_training(name, settings):
    head = MAKERS[name](**settings).train()
    head.pair_embeddings(*documents(COUNTS), COUNTS, all_pairs(COUNTS))
    tracked = [module.num_batches_tracked for module in head.modules() if hasattr(module, "num_batches_tracked")]
    assert {int(one) for one in tracked} == (set() if name == "axial" else {1})


def test_autocast_stays_close_and_has_finite_gradients(name):
    head, inputs, pairs = MAKERS[name](torch.float32), documents(COUNTS, torch.float32), all_pairs(COUNTS)
    exact = head.classify(head.pair_embeddings(*inputs, COUNTS, pairs))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = head.classify(head.pair_embeddings(*inputs, COUNTS, pairs))
    torch.testing.assert_close(logits.float(), exact, atol=0.1, rtol=0.0 if name == "axial" else 0.05)
    logits.float().square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in head.parameters())
