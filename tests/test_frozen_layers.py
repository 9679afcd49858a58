from __future__ import annotations

import json

import pytest
import torch
from training_helpers import fictional, make

from modeling_docre import Document
from modeling_docre.frozen_layers import FrozenLayers, StateStore


def batch_of(processor, numbers):
    documents = [Document.from_docred(fictional(number)) for number in numbers]
    return processor.collate(processor(documents))


def test_stored_states_give_the_same_logits_for_every_family(tiny_encoder_dir, tmp_path):
    model, processor = make(tiny_encoder_dir)
    model.eval()
    batch = batch_of(processor, (0, 2, 1))
    with torch.no_grad():
        plain = model(**batch).logits
        frozen = FrozenLayers(model.docre.encoder, 1)
        frozen.open_cache(tmp_path)
        cold = model(**batch).logits
        warm = model(**batch).logits
        frozen.close_cache()
        after = model(**batch).logits
    torch.testing.assert_close(cold, plain, atol=1e-5, rtol=0)
    assert torch.equal(cold, warm)
    assert torch.equal(after, plain)
    # What was stored alone is what another batch reads.
    other, _ = make(tiny_encoder_dir)
    other.eval()
    frozen = FrozenLayers(other.docre.encoder, 1)
    frozen.open_cache(tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(other(**batch_of(processor, (2,))).logits, plain[2:14], atol=1e-5, rtol=0)
    frozen.close_cache()
    assert len(list(tmp_path.iterdir())) == 1


def test_documents_longer_than_a_window(tiny_bert_dir, tmp_path):
    model, processor = make(tiny_bert_dir, window_size=24, window_overlap=6)
    model.eval()
    batch = batch_of(processor, (2, 0))
    assert batch["input_ids"].shape[1] > 24
    with torch.no_grad():
        plain = model(**batch).logits
        frozen = FrozenLayers(model.docre.encoder, 1)
        frozen.open_cache(tmp_path)
        torch.testing.assert_close(model(**batch).logits, plain, atol=1e-5, rtol=0)
        frozen.close_cache()


def test_gradients_of_the_upper_layers_are_the_same(tiny_bert_dir, tmp_path):
    gradients = []
    for cached in (False, True):
        model, processor = make(tiny_bert_dir)
        frozen = FrozenLayers(model.docre.encoder, 1)
        if cached:
            frozen.open_cache(tmp_path)
        model.train()
        frozen.eval()
        model(**batch_of(processor, (1, 2))).loss.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    assert "docre.encoder.encoder.layer.1.attention.self.query.weight" in gradients[0]
    assert not any("layer.0." in name or "embeddings.word" in name for name in gradients[0])
    for name in gradients[0]:
        torch.testing.assert_close(gradients[0][name], gradients[1][name], atol=1e-5, rtol=1e-4)


def test_dropout_is_off_in_the_frozen_part_alone(tiny_bert_dir):
    model, _ = make(tiny_bert_dir, dropout=True)
    frozen = FrozenLayers(model.docre.encoder, 1)
    model.train()
    frozen.eval()
    layers = model.docre.encoder.encoder.layer
    assert not any(module.training for module in layers[0].modules())
    assert not any(module.training for module in model.docre.encoder.embeddings.modules())
    assert all(module.training for module in layers[1].modules())


def test_other_weights_and_other_precision_have_another_cache(tiny_bert_dir, tmp_path):
    for change in (0.0, 0.5):
        model, processor = make(tiny_bert_dir)
        with torch.no_grad():
            model.docre.encoder.encoder.layer[0].output.dense.weight.add_(change)
        frozen = FrozenLayers(model.eval().docre.encoder, 1)
        frozen.open_cache(tmp_path)
        model(**batch_of(processor, (0,)))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            model(**batch_of(processor, (0,)))
        frozen.close_cache()
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.parametrize("number", [0, 2, 7])
def test_at_least_the_last_layer_is_trained(tiny_bert_dir, number):
    model, _ = make(tiny_bert_dir)
    with pytest.raises(ValueError, match=r"has 2 layers.*pass at most 1"):
        FrozenLayers(model.docre.encoder, number)


def test_stores_of_two_runs_that_write_by_turns_keep_to_themselves(tmp_path):
    stores = [StateStore(tmp_path) for _ in range(2)]
    assert not list(tmp_path.iterdir())
    tensors = {f"{run}-{step}": torch.randn(2 + step, 3) for step in range(4) for run in range(2)}
    for name, tensor in tensors.items():
        stores[int(name[0])].write(name, tensor)
    later = StateStore(tmp_path)
    for name, tensor in tensors.items():
        assert torch.equal(stores[int(name[0])].read(name), tensor), name
        assert torch.equal(later.read(name), tensor), name
    for store in (*stores, later):
        store.close()
    assert len(list(tmp_path.iterdir())) == 4


def test_a_cache_that_is_opened_twice_leaves_nothing_behind(tiny_bert_dir, tmp_path):
    model, processor = make(tiny_bert_dir)
    frozen = FrozenLayers(model.eval().docre.encoder, 1)
    for _ in range(2):
        frozen.open_cache(tmp_path)
        with torch.no_grad():
            model(**batch_of(processor, (0,)))
    frozen.close_cache()
    encoder = model.docre.encoder
    assert not any("forward" in vars(layer) for layer in encoder.encoder.layer)
    assert not any(
        hook.__self__ is frozen for hook in encoder._forward_pre_hooks.values() if hasattr(hook, "__self__")
    )


def test_a_store_survives_a_kill_in_the_middle_of_a_line(tmp_path):
    tensors = {name: torch.randn(3, 4).to(dtype) for name, dtype in [("a", torch.float32), ("b", torch.bfloat16)]}
    store = StateStore(tmp_path)
    for name, tensor in tensors.items():
        store.write(name, tensor)
    store.close()
    (index,) = tmp_path.glob("states-0-*.jsonl")
    # Half a line, and a line whose data never arrived.
    index.write_text(index.read_text() + json.dumps(["c", 72, [3, 4], "float32"]) + '\n["d", 120', encoding="utf-8")
    store = StateStore(tmp_path)
    assert store.read("c") is None and store.read("d") is None
    store.write("d", tensors["a"] + 1)
    store.close()
    store = StateStore(tmp_path, process=1)
    store.write("e", tensors["a"] + 2)
    for name, expected in {**tensors, "d": tensors["a"] + 1, "e": tensors["a"] + 2}.items():
        found = store.read(name)
        assert found.dtype == expected.dtype and torch.equal(found, expected), name
    store.close()
