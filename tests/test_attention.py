"""The attention rows against what the encoder itself calls its attention, for every route to them."""

from __future__ import annotations

import copy
import logging
import warnings

import pytest
import torch
import transformers
from torch import nn

from modeling_docre.attention import AttentionRows, attention_rows

DEBERTA = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "intermediate_size": 64,
    "relative_attention": True,
    "pos_att_type": ["c2p", "p2c"],
    "type_vocab_size": 0,
    "position_biased_input": False,
}
ROUTES = {
    "bert": "delegate",
    "roberta": "delegate",
    "xlm-roberta": "delegate",
    "electra": "delegate",
    "distilbert": "delegate",
    "modernbert": "delegate",
    "modernbert-sliding": "delegate",
    "deberta-v2": "hook",
    "deberta-v2-plain": "hook",
    "deberta": "hook",
    "albert": "eager",
    "mpnet": "eager",
}
ONE_OF_EACH_ROUTE = ["bert", "deberta-v2", "albert"]


@pytest.fixture(scope="module")
def make_encoder(tiny_encoder):
    """A function from a name to a fresh encoder whose attention is far from uniform, dropout off."""

    def build(name: str, **kwargs) -> transformers.PreTrainedModel:
        shape = {"hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 2, "intermediate_size": 64}
        match name:
            case "modernbert-sliding":
                config = transformers.AutoConfig.from_pretrained(tiny_encoder("modernbert"))
                config.layer_types = ["full_attention", "sliding_attention"]
                model = transformers.AutoModel.from_config(config, **kwargs)
            case "deberta":
                model = transformers.AutoModel.from_config(transformers.DebertaConfig(**DEBERTA), **kwargs)
            case "deberta-v2-plain":  # the form of version 2: no buckets, keys of positions not shared
                model = transformers.AutoModel.from_config(transformers.DebertaV2Config(**DEBERTA), **kwargs)
            case "albert":
                config = transformers.AlbertConfig(**shape, vocab_size=60, embedding_size=16)
                model = transformers.AutoModel.from_config(config, **kwargs)
            case "mpnet":
                config = transformers.MPNetConfig(**shape, vocab_size=60, max_position_embeddings=514)
                model = transformers.AutoModel.from_config(config, **kwargs)
            case _:
                model = transformers.AutoModel.from_pretrained(tiny_encoder(name), **kwargs)
        generator = torch.Generator().manual_seed(5)
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
        return model.eval()

    return build


def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Three windows of 24, 17 and 9 tokens, and five positions in each."""
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(5, 60, (3, 24), generator=generator)
    mask = torch.ones(3, 24, dtype=torch.long)
    for row, length in enumerate((24, 17, 9)):
        mask[row, length:] = 0
        ids[row, length:] = 0
    positions = torch.tensor([[0, 23, 5, 5, 11], [16, 1, 2, 3, 8], [8, 7, 0, 0, 0]])
    return ids, mask, positions


def reference(encoder, ids, mask, positions) -> tuple[torch.Tensor, torch.Tensor]:
    """Last hidden states and rows from `output_attentions`, picked one by one."""
    output = encoder(input_ids=ids, attention_mask=mask, output_attentions=True)
    attention = output.attentions[-1]
    rows = [
        torch.stack([attention[window, :, token] for token in positions[window].tolist()], 1)
        for window in range(len(ids))
    ]
    return output.last_hidden_state, torch.stack(rows)


@pytest.mark.parametrize("name", ROUTES)
def test_rows_and_states_are_those_of_eager_attention(make_encoder, name):
    ids, mask, positions = batch()
    ours = make_encoder(name)
    rows = AttentionRows(ours)
    assert rows.route == ROUTES[name]
    with torch.no_grad():
        expected_hidden, expected_rows = reference(
            make_encoder(name, attn_implementation="eager"), ids, mask, positions
        )
        hidden, got = rows(ours, ids, mask, positions)
    assert expected_rows.amax(-1).mean() > 0.2, "attention is too even to tell mistakes apart"
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, expected_rows, atol=2e-5, rtol=0)
    real = mask.bool()
    torch.testing.assert_close(hidden[real], expected_hidden[real], atol=5e-5, rtol=1e-4)
    assert got[1, :, :, 17:].abs().max() == 0, "padding is looked at"
    torch.testing.assert_close(got.sum(-1), torch.ones(3, 4, 5))


@pytest.mark.parametrize("name", ROUTES)
def test_gradients_are_those_of_eager_attention(make_encoder, name):
    ids, mask, positions = batch()
    plain, ours = make_encoder(name, attn_implementation="eager"), make_encoder(name)
    rows = AttentionRows(ours)
    weights = torch.randn(3, 4, 5, 24, generator=torch.Generator().manual_seed(1))
    for encoder, (hidden, got) in (
        (plain, reference(plain, ids, mask, positions)),
        (ours, rows(ours, ids, mask, positions)),
    ):
        ((got * weights).sum() + hidden[mask.bool()].tanh().sum()).backward()
        assert got.requires_grad, type(encoder).__name__
    # The gradient of key biases is rounding alone, hence the floor.
    floor = 0.01 * max(float(p.grad.abs().max()) for p in plain.parameters() if p.grad is not None)
    for (key, expected), (_, parameter) in zip(plain.named_parameters(), ours.named_parameters(), strict=True):
        if expected.grad is None:
            assert parameter.grad is None, key
        else:
            scale = max(floor, float(expected.grad.abs().max()))
            torch.testing.assert_close(parameter.grad / scale, expected.grad / scale, atol=2e-4, rtol=0, msg=key)


def test_every_layer_keeps_its_fused_attention(make_encoder, monkeypatch):
    calls = []
    fused = nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        nn.functional,
        "scaled_dot_product_attention",
        lambda *args, **kwargs: calls.append(1) or fused(*args, **kwargs),
    )
    encoder = make_encoder("bert")
    AttentionRows(encoder)(encoder, *batch())
    assert len(calls) == 2


@pytest.mark.parametrize("name", ["bert", "modernbert", "deberta-v2", "albert"])
def test_attention_implementation_can_be_changed_at_any_time(make_encoder, name):
    ids, mask, positions = batch()
    with torch.no_grad():
        _, expected = reference(make_encoder(name, attn_implementation="eager"), ids, mask, positions)
        encoder = make_encoder(name, attn_implementation="eager")
        rows = AttentionRows(encoder)
        torch.testing.assert_close(rows(encoder, ids, mask, positions)[1], expected, atol=2e-5, rtol=0)
        if ROUTES[name] == "delegate":
            for implementation in ("sdpa", "eager", "sdpa"):
                encoder.set_attn_implementation(implementation)
                torch.testing.assert_close(rows(encoder, ids, mask, positions)[1], expected, atol=2e-5, rtol=0)


def test_fallback_without_attention_is_an_error_not_a_guess(make_encoder):
    encoder = make_encoder("albert")
    rows = AttentionRows(encoder)
    encoder.set_attn_implementation("sdpa")
    with pytest.raises(RuntimeError, match='attn_implementation="eager"'):
        rows(encoder, *batch())


def test_sparse_attention_is_refused():
    config = transformers.LongformerConfig(
        vocab_size=60,
        hidden_size=32,
        num_attention_heads=4,
        num_hidden_layers=2,
        intermediate_size=64,
        attention_window=8,
        max_position_embeddings=100,
    )
    encoder = transformers.AutoModel.from_config(config).eval()
    rows = AttentionRows(encoder)
    with pytest.raises(RuntimeError, match="sparse attention"):
        rows(encoder, *batch())


@pytest.mark.parametrize("name", ["bert", "modernbert", "deberta-v2", "albert"])
def test_rows_under_bfloat16_autocast(make_encoder, name):
    ids, mask, positions = batch()
    encoder = make_encoder(name)
    rows = AttentionRows(encoder)
    with torch.no_grad():
        _, expected = rows(encoder, ids, mask, positions)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            _, got = rows(encoder, ids, mask, positions)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got.sum(-1), torch.ones(3, 4, 5), atol=1e-2, rtol=0)
    # bfloat16 has 8 bits: scores of a few units are off by a few hundredths.
    torch.testing.assert_close(got, expected, atol=0.15, rtol=0)
    assert (got - expected).abs().mean() < 5e-3


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("name", ONE_OF_EACH_ROUTE)
def test_rows_of_encoders_in_other_precisions(make_encoder, name, dtype):
    ids, mask, positions = batch()
    plain, encoder = make_encoder(name, attn_implementation="eager").to(dtype), make_encoder(name).to(dtype)
    with torch.no_grad():
        _, expected = reference(plain, ids, mask, positions)
        _, got = AttentionRows(encoder)(encoder, ids, mask, positions)
    assert got.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    tolerance = 1e-10 if dtype == torch.float64 else 0.1
    torch.testing.assert_close(got, expected.to(got.dtype), atol=tolerance, rtol=0)


def checkpointed(encoder, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        encoder.gradient_checkpointing_enable(**kwargs)
    encoder.train()
    for module in encoder.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    encoder.config.attention_probs_dropout_prob = 0.0
    return encoder


@pytest.mark.parametrize("name", ["bert", "modernbert", "deberta-v2"])
def test_activation_checkpointing_keeps_the_gradients(make_encoder, name):
    # Two calls before one backward, as gradient accumulation over two losses does it.
    ids, mask, positions = batch()
    plain, encoder = make_encoder(name), checkpointed(make_encoder(name))
    total = 0.0
    for model in (plain, encoder):
        rows = AttentionRows(model)
        first = rows(model, ids, mask, positions)[1]
        second = rows(model, ids.flip(0), mask.flip(0), positions.flip(0))[1]
        total = (first[..., 3] ** 2).sum() + (second[..., 1] ** 3).sum()
        total.backward()
    for (key, expected), (_, parameter) in zip(plain.named_parameters(), encoder.named_parameters(), strict=True):
        if expected.grad is not None:
            torch.testing.assert_close(parameter.grad, expected.grad, atol=1e-5, rtol=1e-4, msg=key)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_hook_keeps_nothing_after_the_step(make_encoder, checkpointing):
    encoder = checkpointed(make_encoder("deberta-v2")) if checkpointing else make_encoder("deberta-v2")
    rows = AttentionRows(encoder)
    rows(encoder, *batch())[1].square().sum().backward()
    assert not [value for value in vars(rows).values() if isinstance(value, torch.Tensor)]


def test_reentrant_checkpointing_is_refused_where_it_would_lose_gradients(make_encoder):
    encoder = checkpointed(make_encoder("bert"), gradient_checkpointing_kwargs={"use_reentrant": True})
    encoder.enable_input_require_grads()
    with pytest.raises(RuntimeError, match="use_reentrant"):
        AttentionRows(encoder)(encoder, *batch())


@pytest.mark.parametrize("name", ONE_OF_EACH_ROUTE)
def test_a_copy_reads_its_own_attention(make_encoder, name):
    class Holder(nn.Module):
        def __init__(self, encoder):
            super().__init__()
            self.encoder = encoder
            self.rows = AttentionRows(encoder)

        def forward(self, *args):
            return self.rows(self.encoder, *args)[1]

    original = Holder(make_encoder(name))
    kept = original(*batch())  # with a graph: what a hook keeps must not stand in the way of a copy
    duplicate = copy.deepcopy(original)
    with torch.no_grad():
        for parameter in duplicate.parameters():
            parameter.mul_(0.5)
        changed = duplicate(*batch())
        again = original(*batch())
        expected = reference(copy.deepcopy(duplicate.encoder), *batch())[1] if name == "albert" else None
    torch.testing.assert_close(again, kept)
    assert (changed - kept).abs().max() > 0.01
    if expected is not None:
        torch.testing.assert_close(changed, expected)
    with torch.no_grad():
        for parameter in original.parameters():
            parameter.zero_()
        torch.testing.assert_close(duplicate(*batch()), changed)


def test_preparing_an_encoder_twice_changes_nothing(make_encoder):
    encoder = make_encoder("bert")
    first = AttentionRows(encoder)(encoder, *batch())[1]
    torch.testing.assert_close(AttentionRows(encoder)(encoder, *batch())[1], first)


@pytest.mark.parametrize("name", ["bert", "deberta-v2"])
def test_a_prepared_encoder_saves_as_an_ordinary_one(make_encoder, name, tmp_path):
    encoder = make_encoder(name)
    rows = AttentionRows(encoder)
    encoder.save_pretrained(tmp_path)
    loaded = transformers.AutoModel.from_pretrained(tmp_path, attn_implementation="eager")
    with torch.no_grad():
        torch.testing.assert_close(reference(loaded, *batch())[1], rows(encoder, *batch())[1], atol=2e-5, rtol=0)
    assert "docre" not in (tmp_path / "config.json").read_text()


def test_last_layer_with_a_sliding_window_warns(make_encoder, caplog):
    with caplog.at_level(logging.WARNING):
        AttentionRows(make_encoder("modernbert"))
        assert not caplog.records
        AttentionRows(make_encoder("modernbert-sliding"))
    assert "sliding window" in caplog.text


def test_a_window_without_tokens_keeps_gradients_finite():
    query = torch.randn(1, 2, 4, 3, requires_grad=True)
    key = torch.randn(1, 2, 4, 3, requires_grad=True)
    rows = attention_rows(query, key, torch.zeros(1, 4), 1.0, torch.tensor([[0, 2]]))
    (rows * torch.randn(rows.shape)).sum().backward()
    assert torch.isfinite(query.grad).all() and torch.isfinite(key.grad).all()


@pytest.mark.parametrize("form", ["boolean", "additive", "boolean per query", "padding"])
def test_mask_forms(form):
    generator = torch.Generator().manual_seed(0)
    query, key = (torch.randn(2, 3, 5, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    allowed = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]).bool()
    per_query = allowed[:, None, None, :].expand(2, 1, 5, 5)
    if form == "boolean per query":
        per_query = per_query & (torch.arange(5)[:, None] >= torch.arange(5)[None, :])
    mask = {
        "boolean": allowed[:, None, None, :],
        "additive": torch.where(allowed[:, None, None, :], 0.0, torch.finfo(torch.float32).min),
        "boolean per query": per_query,
        "padding": allowed.long(),
    }[form]
    positions = torch.tensor([[4, 0], [1, 2]])
    got = attention_rows(query, key, mask, 0.7, positions)
    for window in range(2):
        for row in range(2):
            token = int(positions[window, row])
            seen = [other for other in range(5) if per_query[window, 0, token, other]]
            for head in range(3):
                scores = {k: 0.7 * float(query[window, head, token] @ key[window, head, k]) for k in seen}
                total = sum(torch.tensor(value).double().exp().item() for value in scores.values())
                for k in range(5):
                    expected = torch.tensor(scores[k]).double().exp().item() / total if k in seen else 0.0
                    assert got[window, head, row, k].item() == pytest.approx(expected, abs=1e-6)
