"""ATLOP against numbers from its published code: logits, losses, gradients and features."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file

from modeling_docre import DocREConfig, DocREForRelationExtraction, DocREProcessor, Document
from modeling_docre.decisions import predict
from modeling_docre.encoding import localized_context

# A wrong epsilon already moves logits by 4e-5.
TOLERANCE = {"atol": 5e-6, "rtol": 0}
END_TOKENS = {"bert": 1, "roberta": 2}


@pytest.fixture(scope="module")
def relations(golden_dir):
    classes = json.loads((golden_dir / "preprocess" / "rel2id.json").read_text())
    return sorted(classes, key=classes.get)[1:]


def rename(key: str) -> str | None:
    if "pooler" in key or "position_ids" in key:
        return None
    if key.startswith("model."):
        return "docre.encoder." + key.removeprefix("model.")
    layers = {
        "head_extractor": "head_projection",
        "tail_extractor": "tail_projection",
        "bilinear": "classifier",
    }
    name, part = key.split(".")
    return f"head.{layers[name]}.{part}"


def load(golden_dir, relations, family: str) -> tuple[DocREForRelationExtraction, dict[str, np.ndarray]]:
    shape = {
        "vocab_size": 120,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 37,
    }
    encoder = (
        transformers.BertConfig(**shape)
        if family == "bert"
        else transformers.RobertaConfig(**shape, max_position_embeddings=514, type_vocab_size=1, pad_token_id=1)
    )
    config = DocREConfig.for_method(
        "atlop",
        relations,
        encoder_config=encoder,
        emb_size=32,
        block_size=8,
        window_mode="reference",
        end_tokens=END_TOKENS[family],
    )
    model = DocREForRelationExtraction(config).eval()
    weights = load_file(golden_dir / "models" / f"atlop_{family}.safetensors")
    model.load_state_dict({rename(key): value for key, value in weights.items() if rename(key)})
    with np.load(golden_dir / "models" / f"atlop_{family}.npz") as file:
        return model, {key: file[key] for key in file.files}


def run(model, arrays, case):
    entities = [(document, entity, start + 1) for document, entity, start, _ in arrays[f"{case}/entity_pos"].tolist()]
    return model(
        input_ids=torch.tensor(arrays[f"{case}/input_ids"]).long(),
        attention_mask=torch.tensor(arrays[f"{case}/attention_mask"]),
        mentions=torch.tensor(entities),
        pairs=torch.tensor(arrays[f"{case}/hts"]),
        num_entities=torch.tensor(arrays[f"{case}/n_entities"]).long(),
        labels=torch.tensor(arrays[f"{case}/labels"]),
    )


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_logits_losses_and_predictions(golden_dir, relations, family):
    model, arrays = load(golden_dir, relations, family)
    cases = sorted({key.split("/")[0] for key in arrays if key.endswith("/logits")})
    assert "short" in cases
    for case in cases:
        with torch.no_grad():
            output = run(model, arrays, case)
        torch.testing.assert_close(output.logits, torch.tensor(arrays[f"{case}/logits"]), **TOLERANCE, msg=case)
        if f"{case}/loss" in arrays:
            assert output.loss.item() == pytest.approx(float(arrays[f"{case}/loss"]), abs=5e-6)
        predicted = predict(output.logits, "threshold-class", max_relations=4)
        assert torch.equal(predicted.int(), torch.tensor(arrays[f"{case}/pred_k4"]).int()), case


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_states_on_the_way(golden_dir, relations, family):
    model, arrays = load(golden_dir, relations, family)
    hidden = []
    original = model.head.pair_embeddings
    model.head.pair_embeddings = lambda *args: hidden.append(args) or original(*args)
    with torch.no_grad():
        run(model, arrays, "short")
    states, entities, attention, _, pairs = hidden[0]
    real = torch.tensor(arrays["short/attention_mask"]).bool()
    torch.testing.assert_close(states[real], torch.tensor(arrays["short/sequence_output"])[real], **TOLERANCE)
    for name, column in (("hs", 1), ("ts", 2)):
        got = entities[pairs[:, 0], pairs[:, column]]
        torch.testing.assert_close(got, torch.tensor(arrays[f"short/{name}"]), **TOLERANCE)
    context = localized_context(states, attention, pairs)
    torch.testing.assert_close(context, torch.tensor(arrays["short/rs"]), **TOLERANCE)


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_gradients(golden_dir, relations, family):
    model, arrays = load(golden_dir, relations, family)
    run(model, arrays, "short").loss.backward()
    parameters = dict(model.named_parameters())
    compared = set()
    for key, expected in arrays.items():
        if not key.startswith("short/grad/"):
            continue
        name = rename(key.removeprefix("short/grad/"))
        if name is not None:
            torch.testing.assert_close(parameters[name].grad, torch.tensor(expected), **TOLERANCE, msg=name)
            compared.add(name)
    # Through the attention rows of the last layer, and through the whole encoder.
    assert any(name.endswith("layer.1.attention.self.query.weight") for name in compared)
    assert any(name.endswith("word_embeddings.weight") for name in compared)


@pytest.mark.parametrize(("name", "max_length"), [("atlop", 1024), ("atlop_maxlen300", 300)])
def test_features(golden_dir, relations, name, max_length):
    folder = golden_dir / "preprocess"
    with gzip.open(folder / "docs.json.gz") as file:
        documents = [Document.from_docred(data, keep_duplicate_mentions=True) for data in json.load(file)]
    with gzip.open(folder / "features.json.gz") as file:
        expected = json.load(file)[name]
    lines = (folder / "vocab.txt").read_text().splitlines()
    tokenizer = transformers.BertTokenizer(
        vocab={piece: index for index, piece in enumerate(lines)}, do_lower_case=False
    )
    config = DocREConfig.for_method("atlop", relations, max_length=max_length, window_mode="reference")
    processor = DocREProcessor.from_encoder(tokenizer, config=config)
    features = processor(documents)
    assert len(features) == len(expected)
    for document, feature, published in zip(documents, features, expected, strict=True):
        assert document.title == published["title"]
        assert feature["input_ids"] == published["input_ids"]
        starts = [
            [entity, start + 1] for entity, mentions in enumerate(published["entity_pos"]) for start, _ in mentions
        ]
        assert [list(mention) for mention in feature["mentions"]] == starts
        number = len(document.entities)
        assert sorted(map(tuple, published["hts"])) == [
            (head, tail) for head in range(number) for tail in range(number) if head != tail
        ]
        assert feature["pairs"] == sorted(map(tuple, published["hts"]))
        if document.relations is None:
            assert "labels" not in feature
        else:
            labels = {(*published["hts"][row], class_id) for row, class_id in published["labels_nonzero"] if class_id}
            assert {(*feature["pairs"][row], class_id) for row, class_id in feature["labels"]} == labels
    batch = processor.collate(features)
    # The first mention beyond a cut document reads the end token, later ones nothing, as published.
    for row, published in enumerate(expected):
        length = len(published["input_ids"])
        read = [
            [entity, start + 1]
            for entity, mentions in enumerate(published["entity_pos"])
            for start, _ in mentions
            if start + 1 < length
        ]
        assert batch["mentions"][batch["mentions"][:, 0] == row, 1:].tolist() == read
