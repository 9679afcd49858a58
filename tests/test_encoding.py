"""Windows, entity states and pair contexts against plain loops written from their definitions."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from modeling_docre import DocREConfig, encoding
from modeling_docre.attention import AttentionRows
from modeling_docre.encoding import Encoded, all_pairs, encode, localized_context, plan_windows, pool_entities


@pytest.fixture(scope="module")
def make_encoders(tiny_encoder):
    """A function from a family to two equal encoders: an ordinary eager one, and one that gives rows."""

    def build(family: str):
        plain = transformers.AutoModel.from_pretrained(tiny_encoder(family), attn_implementation="eager")
        ours = transformers.AutoModel.from_pretrained(tiny_encoder(family))
        for model in (plain, ours):
            generator = torch.Generator().manual_seed(2)
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
            model.eval()
        return plain, ours, AttentionRows(ours)

    return build


def documents(lengths: list[int], seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, 60, (len(lengths), max(lengths)), generator=generator)
    ids[:, 0] = 2
    mask = torch.zeros_like(ids)
    for row, length in enumerate(lengths):
        mask[row, :length] = 1
        ids[row, length - 1] = 3
        ids[row, length:] = 0
    return ids, mask


@torch.no_grad()
def read(encoder, ids: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    output = encoder(
        input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, len(ids)).long(), output_attentions=True
    )
    return output.last_hidden_state[0], output.attentions[-1][0]


def published_two_windows(
    encoder, ids: torch.Tensor, mask: torch.Tensor, size: int, start: int, end: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Hidden states and whole attention maps, document by document and token by token, as published."""
    batch, tokens = ids.shape
    all_hidden, all_maps = [], []
    for row in range(batch):
        length = int(mask[row].sum())
        document = ids[row, :length].tolist()
        if length <= size:
            hidden, attention = read(encoder, document)
            full = torch.zeros(tokens, hidden.shape[1])
            full[:length] = hidden
            maps = torch.zeros(attention.shape[0], tokens, tokens)
            maps[:, :length, :length] = attention
        else:
            first = document[: size - end] + [document[-1]] * end
            second = [document[0]] * start + document[length - size + start :]
            # position in window -> position in document
            places = [
                (first, {slot: slot for slot in range(size - end)}),
                (second, {slot: length - size + slot for slot in range(start, size)}),
            ]
            hidden_sum, count, maps = None, torch.zeros(tokens), None
            for window, place in places:
                hidden, attention = read(encoder, window)
                if hidden_sum is None:
                    hidden_sum = torch.zeros(tokens, hidden.shape[1])
                    maps = torch.zeros(attention.shape[0], tokens, tokens)
                for slot, token in place.items():
                    hidden_sum[token] += hidden[slot]
                    count[token] += 1
                slots, targets = torch.tensor(list(place)), torch.tensor(list(place.values()))
                block = attention[:, slots][:, :, slots]
                maps[:, targets[:, None], targets[None, :]] += block
            full = hidden_sum / (count[:, None] + 1e-10)
            maps = maps / (maps.sum(-1, keepdim=True) + 1e-10)
        all_hidden.append(full)
        all_maps.append(maps)
    return torch.stack(all_hidden), torch.stack(all_maps)


@pytest.mark.parametrize(
    ("family", "start", "end", "lengths"),
    [
        ("bert", 1, 1, [511, 512, 513]),
        ("bert", 1, 1, [700, 300, 513]),
        ("bert", 1, 1, [1021, 1022, 1023, 1024]),
        ("roberta", 1, 2, [512, 40, 513]),
        ("roberta", 1, 2, [1020, 1021, 1022, 1024]),
        ("deberta-v2", 1, 1, [600, 20]),
    ],
)
def test_reference_mode_is_the_published_arithmetic(make_encoders, family, start, end, lengths):
    plain, ours, rows = make_encoders(family)
    ids, mask = documents(lengths)
    tokens = [0, 1, 255, 509, 510, 511, 512, 513, 600, 1019, 1020, 1023]
    mentions = torch.tensor(
        [[row, 0, token] for row, length in enumerate(lengths) for token in tokens if token < length]
    )
    expected_hidden, maps = published_two_windows(plain, ids, mask, 512, start, end)
    with torch.no_grad():
        encoded = encode(
            ours, rows, ids, mask, mentions,
            window_size=512, window_mode="reference", start_tokens=start, end_tokens=end,
        )  # fmt: skip
    real = mask.bool()
    torch.testing.assert_close(encoded.hidden_states[real], expected_hidden[real], atol=2e-5, rtol=0)
    expected_rows = torch.stack([maps[row, :, token] for row, _, token in mentions.tolist()])
    torch.testing.assert_close(encoded.mention_rows, expected_rows, atol=1e-6, rtol=0)
    assert encoded.mention_reached.all()
    for row, length in enumerate(lengths):
        gap = [token for token in range(length) if 512 - end <= token < length - 512 + start]
        assert len(gap) == max(0, length - 1024 + start + end)
        for token in gap:
            assert encoded.hidden_states[row, token].abs().max() == 0
            here = (mentions[:, 0] == row) & (mentions[:, 2] == token)
            assert encoded.mention_rows[here].abs().sum() == 0


def test_the_published_gap_is_where_a_mention_is_all_zeros(make_encoders):
    _, ours, rows = make_encoders("bert")
    ids, mask = documents([1024])
    mentions = torch.tensor([[0, 0, 511], [0, 1, 512], [0, 2, 513]])
    with torch.no_grad():
        reference = encode(ours, rows, ids, mask, mentions, window_size=512, window_mode="reference")
        cover = encode(ours, rows, ids, mask, mentions, window_size=512)
    assert reference.mention_rows.sum((1, 2)).tolist() == pytest.approx([0.0, 0.0, 4.0], abs=1e-4)
    assert cover.mention_rows.sum((1, 2)).tolist() == pytest.approx([4.0, 4.0, 4.0], abs=1e-4)
    assert (cover.hidden_states[0].abs().amax(-1) > 0).all()


def cover_by_loops(encoder, ids, mask, size, overlap, start, end):
    """As the docstring of `plan_windows` says it: first from the start, last to the end, evenly spaced between."""
    hidden_all, maps_all = [], []
    for row in range(len(ids)):
        length = int(mask[row].sum())
        document = ids[row, :length].tolist()
        room = size - start - end
        step = room - min(overlap, room // 2)
        number = 1 if length <= size else 1 + math.ceil((length - size) / step)
        hidden_sum, count, maps = torch.zeros(ids.shape[1], 32), torch.zeros(ids.shape[1]), None
        for window in range(number):
            begin = 0 if number == 1 else window * (length - size) // (number - 1)
            content = document[begin : begin + size]
            keep = list(range(len(content)))
            if window > 0:
                content[:start], keep = [document[0]] * start, keep[start:]
            if window < number - 1:
                content[-end:], keep = [document[-1]] * end, keep[:-end]
            hidden, attention = read(encoder, content)
            if maps is None:
                maps = torch.zeros(attention.shape[0], ids.shape[1], ids.shape[1])
            slots = torch.tensor(keep)
            hidden_sum[slots + begin] += hidden[slots]
            count[slots + begin] += 1
            maps[:, (slots + begin)[:, None], (slots + begin)[None, :]] += attention[:, slots][:, :, slots]
        hidden_all.append(hidden_sum / count.clamp(min=1)[:, None])
        maps_all.append(maps / (maps.sum(-1, keepdim=True) + 1e-10))
    return torch.stack(hidden_all), torch.stack(maps_all)


@pytest.mark.parametrize(("family", "start", "end"), [("bert", 1, 1), ("roberta", 1, 2), ("modernbert", 1, 1)])
def test_cover_mode_stitches_any_number_of_windows(make_encoders, family, start, end):
    plain, ours, rows = make_encoders(family)
    lengths = [150, 24, 61, 25, 3]
    ids, mask = documents(lengths)
    mentions = torch.tensor([[row, 0, token] for row, length in enumerate(lengths) for token in range(0, length, 2)])
    expected_hidden, maps = cover_by_loops(plain, ids, mask, 24, 7, start, end)
    with torch.no_grad():
        encoded = encode(
            ours, rows, ids, mask, mentions, window_size=24, window_overlap=7, start_tokens=start, end_tokens=end
        )
    real = mask.bool()
    torch.testing.assert_close(encoded.hidden_states[real], expected_hidden[real], atol=2e-5, rtol=0)
    expected_rows = torch.stack([maps[row, :, token] for row, _, token in mentions.tolist()])
    torch.testing.assert_close(encoded.mention_rows, expected_rows, atol=2e-6, rtol=0)
    torch.testing.assert_close(encoded.mention_rows.sum(-1), torch.ones(len(mentions), 4), atol=1e-5, rtol=0)
    assert (encoded.mention_rows * (1 - mask[mentions[:, 0]])[:, None, :]).abs().max() == 0


@settings(max_examples=150)
@given(
    lengths=st.lists(st.integers(1, 5000), min_size=1, max_size=4),
    size=st.integers(4, 600),
    overlap=st.integers(0, 700),
    start=st.integers(1, 2),
    end=st.integers(1, 2),
)
def test_cover_plan(lengths, size, overlap, start, end):
    size = max(size, start + end + 1)
    plan = plan_windows(torch.tensor(lengths), size, overlap=overlap, start_tokens=start, end_tokens=end)
    room = size - start - end
    asked = min(overlap, room // 2)
    assert plan.source.shape[1] == min(size, max(lengths))
    assert plan.document.tolist() == sorted(plan.document.tolist())
    for row, length in enumerate(lengths):
        windows = (plan.document == row).nonzero()[:, 0].tolist()
        assert len(windows) == (1 if length <= size else 1 + math.ceil((length - size) / (room - asked)))
        spans = []
        for number, window in enumerate(windows):
            filled = int(plan.mask[window].sum())
            source = plan.source[window].tolist()[:filled]
            owned = plan.owned[window].tolist()[:filled]
            assert filled == min(length, size)
            assert plan.mask[window, :filled].all() and not plan.owned[window, filled:].any()
            first = start if number > 0 else 0
            last = filled - (end if number < len(windows) - 1 else 0)
            assert source[:first] == [0] * first
            assert source[last:] == [length - 1] * (filled - last)
            assert owned == [first <= slot < last for slot in range(filled)]
            span = source[first:last]
            assert span == list(range(span[0], span[0] + len(span)))
            spans.append((span[0], span[-1] + 1))
        assert spans[0][0] == 0 and spans[-1][1] == length
        for before, after in itertools.pairwise(spans):
            assert before[0] < after[0]
            assert before[1] - after[0] >= asked, "a token is left out, or less is shared than asked for"


@given(
    length=st.integers(3, 200),
    start=st.integers(1, 2),
    end=st.integers(1, 2),
    mode=st.sampled_from(["cover", "reference"]),
)
def test_tokens_that_no_window_reads(length, start, end, mode):
    plan = plan_windows(torch.tensor([length]), 64, overlap=10, start_tokens=start, end_tokens=end, mode=mode)
    config = DocREConfig(window_size=64, window_mode=mode, start_tokens=start, end_tokens=end)
    unread = set(range(length)) - set(plan.source[plan.owned].tolist())
    assert set(config.unread_tokens(length)) == unread
    assert bool(unread) == (mode == "reference" and length > 128 - start - end)


@given(length=st.integers(1, 200), overlap=st.integers(0, 30))
def test_both_modes_agree_where_two_windows_are_enough(length, overlap):
    size = 64
    cover = plan_windows(torch.tensor([length, 10]), size, overlap=overlap)
    reference = plan_windows(torch.tensor([length, 10]), size, overlap=overlap, mode="reference")
    assert (reference.document == 0).sum() == (1 if length <= size else 2)
    if length - size <= size - 2 - overlap:
        for name in ("document", "source", "mask", "owned"):
            assert torch.equal(getattr(cover, name), getattr(reference, name)), name
    else:
        assert (cover.document == 0).sum() > 2


def test_a_document_of_5000_tokens(make_encoders):
    _, ours, rows = make_encoders("bert")
    ids, mask = documents([5000])
    mentions = torch.tensor([[0, number, token] for number, token in enumerate(range(1, 4999, 357))])
    with torch.no_grad():
        encoded = encode(ours, rows, ids, mask, mentions, window_size=512)
    assert (encoded.hidden_states[0].abs().amax(-1) > 0).all()
    torch.testing.assert_close(encoded.mention_rows.sum(-1), torch.ones(len(mentions), 4), atol=1e-5, rtol=0)
    for row, (_, _, token) in zip(encoded.mention_rows, mentions.tolist(), strict=True):
        seen = row.sum(0).nonzero()[:, 0]
        assert token - 1024 < int(seen.min()) <= token <= int(seen.max()) < token + 1024


@pytest.mark.parametrize("mode", ["cover", "reference"])
@pytest.mark.parametrize("family", ["bert", "roberta", "deberta-v2", "modernbert"])
def test_short_documents_do_not_notice_long_ones_beside_them(make_encoders, family, mode):
    _, ours, rows = make_encoders(family)
    lengths = [70, 12, 32, 7]
    ids, mask = documents(lengths)
    mentions = torch.tensor([[row, 0, token] for row, length in enumerate(lengths) for token in (0, 3, length - 1)])
    with torch.no_grad():
        together = encode(ours, rows, ids, mask, mentions, window_size=32, window_overlap=8, window_mode=mode)
        for row, length in enumerate(lengths):
            own = mentions[mentions[:, 0] == row].clone()
            own[:, 0] = 0
            alone = encode(
                ours, rows, ids[row : row + 1, :length], mask[row : row + 1, :length], own,
                window_size=32, window_overlap=8, window_mode=mode,
            )  # fmt: skip
            torch.testing.assert_close(
                together.hidden_states[row, :length], alone.hidden_states[0], atol=5e-6, rtol=1e-5
            )
            torch.testing.assert_close(
                together.mention_rows[mentions[:, 0] == row][:, :, :length], alone.mention_rows, atol=1e-6, rtol=0
            )


def test_gradients_reach_the_encoder_through_stitched_windows(make_encoders):
    # The same numbers by loops that torch differentiates: one window after another.
    _, ours, rows = make_encoders("bert")
    ids, mask = documents([50, 9])
    mentions = torch.tensor([[0, 0, 3], [0, 0, 25], [0, 1, 47], [1, 0, 2]])
    weights = torch.randn(4, 4, 50, generator=torch.Generator().manual_seed(0))

    def gradients(loss):
        ours.zero_grad()
        loss.backward()
        return {name: p.grad.clone() for name, p in ours.named_parameters() if p.grad is not None}

    encoded = encode(ours, rows, ids, mask, mentions, window_size=30, window_overlap=4, window_mode="cover")
    got = gradients((encoded.mention_rows * weights).sum() + encoded.hidden_states.sum())

    # 50 tokens in windows of 30: two windows that start at 0 and 20 and share the tokens 21 to 28.
    first = [*ids[0, :29].tolist(), int(ids[0, 49])]
    second = [int(ids[0, 0]), *ids[0, 21:50].tolist()]
    hidden, attention = [], []
    for window, wanted in ((first, [3, 25]), (second, [5, 27]), (ids[1, :9].tolist(), [2])):
        state, row = rows(ours, torch.tensor([window]), torch.ones(1, len(window)).long(), torch.tensor([wanted]))
        hidden.append(state[0])
        attention.append(row[0])
    total = hidden[2].sum()
    for token in range(50):
        seen = [hidden[0][token]] if token < 29 else []
        seen += [hidden[1][token - 20]] if token >= 21 else []
        total = total + sum(seen).sum() / len(seen)
    places = [[(0, 0)], [(0, 1), (1, 0)], [(1, 1)], [(2, 0)]]
    for mention, sources in enumerate(places):
        summed = torch.zeros(4, 50)
        for window, rank in sources:
            row = attention[window][:, rank]
            if window == 0:
                summed = summed + torch.nn.functional.pad(row[:, :29], (0, 21))
            elif window == 1:
                summed = summed + torch.nn.functional.pad(row[:, 1:], (21, 0))
            else:
                summed = summed + torch.nn.functional.pad(row, (0, 41))
        summed = summed / (summed.sum(-1, keepdim=True) + 1e-10)
        total = total + (summed * weights[mention]).sum()
    expected = gradients(total)
    floor = 0.01 * max(float(g.abs().max()) for g in expected.values())
    for name, gradient in expected.items():
        scale = max(floor, float(gradient.abs().max()))
        torch.testing.assert_close(got[name] / scale, gradient / scale, atol=2e-4, rtol=0, msg=name)


def test_mentions_out_of_reach_are_marked_and_empty(make_encoders):
    _, ours, rows = make_encoders("bert")
    ids, mask = documents([20, 12])
    mentions = torch.tensor([[0, 0, 19], [0, 1, 20], [1, 0, 12], [1, 1, 15], [1, 2, -1], [1, 3, 900]])
    with torch.no_grad():
        for size in (512, 16):
            encoded = encode(ours, rows, ids, mask, mentions, window_size=size)
            assert encoded.mention_reached.tolist() == [True, False, False, False, False, False]
            assert encoded.mention_rows[1:].abs().max() == 0


# ---------------------------------------------------------------------------------------------------------------------
# Entities, contexts and pairs
# ---------------------------------------------------------------------------------------------------------------------

COUNTS = [4, 0, 2, 1]
MENTIONS = torch.tensor(
    [[0, 0, 1], [0, 0, 5], [0, 0, 8], [0, 1, 5], [0, 3, 9], [2, 0, 0], [2, 1, 3], [2, 1, 3], [3, 0, 2], [0, 2, 40]]
)


def states(dtype=torch.float64) -> Encoded:
    generator = torch.Generator().manual_seed(7)
    hidden = torch.randn(4, 11, 6, generator=generator, dtype=dtype) * 3
    rows = torch.rand(len(MENTIONS), 3, 11, generator=generator, dtype=dtype)
    rows = rows / rows.sum(-1, keepdim=True)
    reached = MENTIONS[:, 2] < 11
    return Encoded(hidden.requires_grad_(), (rows * reached[:, None, None]).requires_grad_(), reached)


def pool_by_loops(encoded: Encoded, most: int) -> tuple[torch.Tensor, torch.Tensor]:
    embeddings, attentions = [], []
    for document in range(4):
        for entity in range(most):
            mine = [i for i, (d, e, t) in enumerate(MENTIONS.tolist()) if (d, e) == (document, entity) and t < 11]
            if mine:
                vectors = [encoded.hidden_states[document, MENTIONS[i, 2]] for i in mine]
                embeddings.append(torch.log(sum(vector.exp() for vector in vectors)))
                attentions.append(sum(encoded.mention_rows[i] for i in mine) / len(mine))
            else:
                embeddings.append(torch.zeros(6, dtype=torch.float64))
                attentions.append(torch.zeros(3, 11, dtype=torch.float64))
    return torch.stack(embeddings).view(4, most, 6), torch.stack(attentions).view(4, most, 3, 11)


def test_entities_are_logsumexp_and_mean_over_mentions():
    results = []
    for function in (lambda e: pool_entities(e, MENTIONS, 4), lambda e: pool_by_loops(e, 4)):
        encoded = states()
        embeddings, attention = function(encoded)
        (embeddings.sin().sum() + (attention * torch.arange(11)).sin().sum()).backward()
        results.append((embeddings, attention, encoded.hidden_states.grad, encoded.mention_rows.grad))
    for got, expected in zip(*results, strict=True):
        assert got.dtype == torch.float64
        torch.testing.assert_close(got, expected, atol=1e-12, rtol=1e-12)
    embeddings, attention = results[0][:2]
    # Entity 2 of document 0 has its only mention beyond the tokens; the others are padding.
    assert embeddings[0, 2].abs().sum() == 0 and attention[0, 2].abs().sum() == 0
    assert embeddings[1].abs().sum() == 0 and embeddings[2, 2:].abs().sum() == 0
    # One mention alone is its own vector, to the last bit.
    assert torch.equal(embeddings[3, 0], states().hidden_states[3, 2])


def test_large_hidden_states_do_not_overflow():
    encoded = states(torch.float32)
    big = Encoded(encoded.hidden_states.detach() * 1000, encoded.mention_rows, encoded.mention_reached)
    embeddings, _ = pool_entities(big, MENTIONS, 4)
    assert torch.isfinite(embeddings).all()
    torch.testing.assert_close(embeddings[0, 0], big.hidden_states[0, [1, 5, 8]].amax(0))


def test_pooling_without_mentions_or_entities():
    encoded = states()
    nothing = Encoded(encoded.hidden_states, encoded.mention_rows[:0], encoded.mention_reached[:0])
    embeddings, attention = pool_entities(nothing, MENTIONS[:0], 3)
    assert embeddings.shape == (4, 3, 6) and attention.shape == (4, 3, 3, 11)
    assert embeddings.abs().sum() == 0 and attention.abs().sum() == 0
    embeddings, attention = pool_entities(nothing, MENTIONS[:0], 0)
    assert embeddings.shape == (4, 0, 6) and attention.shape == (4, 0, 3, 11)
    context = localized_context(encoded.hidden_states, attention, torch.zeros(0, 3).long())
    assert context.shape == (0, 6)


def test_nan_is_not_hidden():
    encoded = states()
    hidden = encoded.hidden_states.detach().clone()
    hidden[0, 5, 2] = math.nan
    rows = encoded.mention_rows.detach().clone()
    rows[8, 1, 4] = math.nan
    embeddings, attention = pool_entities(Encoded(hidden, rows, encoded.mention_reached), MENTIONS, 4)
    assert embeddings[0, 0].isnan().tolist() == [False, False, True, False, False, False]
    assert embeddings[0, 1].isnan().any() and not embeddings[0, 3].isnan().any()
    assert attention[3, 0].isnan().any()
    context = localized_context(hidden, attention, torch.tensor([[3, 0, 0], [2, 0, 1], [0, 0, 1]]))
    assert context[0].isnan().any() and not context[1].isnan().any() and context[2].isnan().any()


def context_by_loops(hidden, attention, cells, reduce, eps):
    result = []
    for document, head, tail in cells.tolist():
        weights = []
        for token in range(hidden.shape[1]):
            of_head, of_tail = attention[document, head, :, token], attention[document, tail, :, token]
            if reduce == "first":
                of_head, of_tail = of_head.mean()[None], of_tail.mean()[None]
            products = [one * other for one, other in zip(of_head, of_tail, strict=True)]
            weights.append(sum(products) / (3 if reduce == "mean" else 1))
        total = sum(weights) + eps
        result.append(sum(w * hidden[document, token] for token, w in enumerate(weights)) / total)
    return torch.stack(result)


CELLS = torch.tensor([[0, 1, 0], [2, 0, 1], [0, 2, 2], [0, 0, 1], [3, 0, 3], [2, 1, 0], [1, 3, 3], [0, 3, 1]])


@pytest.mark.parametrize("budget", [1 << 24, 4 * 4 * 11 * 2, 1])
@pytest.mark.parametrize(("reduce", "eps"), [("mean", 1e-5), ("sum", 1e-10), ("first", 1e-5)])
def test_context_of_any_cells_sliced_or_not(monkeypatch, budget, reduce, eps):
    monkeypatch.setattr(encoding, "_CONTEXT_BUDGET", budget)
    generator = torch.Generator().manual_seed(4)
    data = (
        torch.randn(4, 11, 6, generator=generator, dtype=torch.float64),
        torch.rand(4, 4, 3, 11, generator=generator, dtype=torch.float64) / 50,
    )
    results = []
    for function in (
        lambda hidden, attention: localized_context(hidden, attention, CELLS, reduce=reduce, eps=eps),
        lambda hidden, attention: context_by_loops(hidden, attention, CELLS, reduce, eps),
    ):
        hidden, attention = (tensor.clone().requires_grad_() for tensor in data)
        context = function(hidden, attention)
        context.sin().sum().backward()
        results.append((context, hidden.grad, attention.grad))
    for got, expected in zip(*results, strict=True):
        torch.testing.assert_close(got, expected, atol=1e-11, rtol=1e-11)
    with torch.no_grad():
        again = localized_context(*data, CELLS, reduce=reduce, eps=eps)
    torch.testing.assert_close(again, results[1][0].detach(), atol=1e-12, rtol=0)


def test_slices_are_recomputed_and_not_kept(monkeypatch):
    # 30 entities and 60 tokens: the whole product is 54,000 numbers, a slice 3,600.
    monkeypatch.setattr(encoding, "_CONTEXT_BUDGET", 3600)
    hidden, attention = torch.randn(1, 60, 4).requires_grad_(), torch.rand(1, 30, 2, 60).requires_grad_()
    saved: dict[int, torch.Tensor] = {}

    def keep(tensor):
        saved[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        localized_context(hidden, attention, all_pairs(torch.tensor([30])))
    assert sum(tensor.untyped_storage().nbytes() // 4 for tensor in saved.values()) < 54_000 / 4


@pytest.mark.parametrize("budget", [1 << 24, 40])
def test_few_candidates_among_many_entities(monkeypatch, budget):
    monkeypatch.setattr(encoding, "_CONTEXT_BUDGET", budget)
    generator = torch.Generator().manual_seed(6)
    data = (
        torch.randn(3, 11, 6, generator=generator, dtype=torch.float64),
        torch.rand(3, 20, 3, 11, generator=generator, dtype=torch.float64) / 50,
    )
    cells = torch.tensor([[2, 19, 0], [0, 3, 17], [0, 17, 3], [2, 19, 5], [0, 3, 3], [0, 3, 17]])
    results = []
    for function in (localized_context, context_by_loops):
        hidden, attention = (tensor.clone().requires_grad_() for tensor in data)
        context = function(hidden, attention, cells, reduce="mean", eps=1e-5)
        context.sin().sum().backward()
        results.append((context, hidden.grad, attention.grad))
    for got, expected in zip(*results, strict=True):
        torch.testing.assert_close(got, expected, atol=1e-11, rtol=1e-11)


def test_few_candidates_build_no_table_of_all_entities():
    hidden, attention = torch.randn(1, 8, 4), torch.rand(1, 3000, 2, 8)
    cells = torch.tensor([[0, 2999, 7], [0, 5, 0]])
    built = []

    class Sizes(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
            out = function(*arguments, **(keywords or {}))
            built.append(out.numel() if isinstance(out, torch.Tensor) else 0)
            return out

    with Sizes():
        localized_context(hidden, attention, cells)
    # The whole table would have 9 million cells.
    assert max(built) <= attention.numel()


def test_context_needs_no_attention_to_be_finite():
    context = localized_context(torch.randn(1, 5, 3), torch.zeros(1, 2, 4, 5), torch.tensor([[0, 0, 1]]))
    assert context.tolist() == [[0.0, 0.0, 0.0]]


def test_context_is_not_rounded_by_autocast():
    hidden, attention = torch.randn(1, 40, 8), torch.rand(1, 3, 2, 40)
    cells = torch.tensor([[0, 0, 1], [0, 2, 1]])
    exact = localized_context(hidden, attention, cells)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = localized_context(hidden, attention, cells)
    assert got.dtype == torch.float32 and torch.equal(got, exact)


@given(counts=st.lists(st.integers(0, 6), min_size=0, max_size=5))
def test_all_pairs(counts):
    expected = [
        [document, head, tail]
        for document, count in enumerate(counts)
        for head in range(count)
        for tail in range(count)
        if head != tail
    ]
    got = all_pairs(torch.tensor(counts, dtype=torch.long))
    assert got.shape == (len(expected), 3) and got.dtype == torch.long
    assert got.tolist() == expected
