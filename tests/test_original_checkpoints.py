"""Checkpoints in the layouts of the methods' published code."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import save_file

from modeling_docre import METHODS, DocREConfig, DocREForRelationExtraction
from modeling_docre.cli import main
from modeling_docre.decisions import predict
from modeling_docre.original_checkpoints import OriginalCheckpointError, import_checkpoint

# A wrong epsilon already moves logits by 4e-5.
TOLERANCE = {"atol": 5e-6, "rtol": 0}
SHAPE = {
    "vocab_size": 120,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 37,
}
FILES = {
    "atlop_bert": "atlop",
    "atlop_roberta": "atlop",
    "pemscl_bert": "pemscl",
    "kd_docre_bert": "kd-docre",
    "vaediff_stage1_bert": "vaediff",
    "docunet_bert": "docunet",
}


def encoder_of(name):
    if name.endswith("bert") and "roberta" not in name:
        return transformers.BertConfig(**SHAPE)
    return transformers.RobertaConfig(**SHAPE, max_position_embeddings=514, type_vocab_size=1, pad_token_id=1)


def batch_of(arrays, case):
    mentions = [(document, entity, start + 1) for document, entity, start, _ in arrays[f"{case}/entity_pos"].tolist()]
    return {
        "input_ids": torch.tensor(arrays[f"{case}/input_ids"]).long(),
        "attention_mask": torch.tensor(arrays[f"{case}/attention_mask"]),
        "mentions": torch.tensor(mentions),
        "pairs": torch.tensor(arrays[f"{case}/hts"]),
        "num_entities": torch.tensor(arrays[f"{case}/n_entities"]).long(),
        "labels": torch.tensor(arrays[f"{case}/labels"]),
    }


@pytest.mark.parametrize("name", FILES)
def test_the_authors_numbers(golden_dir, tmp_path, name):
    file = golden_dir / "models" / f"{name}.safetensors"
    _, report = import_checkpoint(file, FILES[name], encoder_of(name), tmp_path)
    assert all("pooler" in key or key.startswith("bilinear.") for key in report.unused)
    model = DocREForRelationExtraction.from_pretrained(tmp_path)
    with np.load(golden_dir / "models" / f"{name}.npz") as arrays:
        cases = sorted({key.split("/")[0] for key in arrays.files if re.fullmatch(r"\w+/logits", key)})
        assert "short" in cases
        for case in cases:
            with torch.no_grad():
                output = model(**batch_of(arrays, case))
            torch.testing.assert_close(output.logits, torch.tensor(arrays[f"{case}/logits"]), **TOLERANCE, msg=case)
            predicted = predict(output.logits, model.config.decision, max_relations=4)
            assert torch.equal(predicted.int(), torch.tensor(arrays[f"{case}/pred_k4"]).int()), case
            parts = {"pmt": "loss_pmtem", "contrastive": "loss_scl"}
            if name == "pemscl_bert":
                parts["contrastive"] = "loss_scl_labels_with_na"
            for part, loss in output.losses.items():
                key = f"{case}/{parts.get(part, 'loss')}"
                if key in arrays.files:
                    assert loss.item() == pytest.approx(float(arrays[key]), rel=1e-6, abs=5e-6), key


def test_published_training_masks_padding(golden_dir):
    model, _ = import_checkpoint(
        golden_dir / "models" / "kd_docre_bert.safetensors",
        "kd-docre",
        transformers.BertConfig(**SHAPE, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0),
    )
    with np.load(golden_dir / "models" / "kd_docre_bert.npz") as arrays, torch.no_grad():
        output = model.train()(**batch_of(arrays, "short"))
        expected = torch.tensor(arrays["short/train_mask_dropprob0/logits"])
        torch.testing.assert_close(output.logits, expected, **TOLERANCE)
        assert output.loss.item() == pytest.approx(float(arrays["short/train_mask_dropprob0/loss"]), abs=5e-6)
        # The diagonal counts in the mean whether it is among the pairs or not.
        batch = batch_of(arrays, "short")
        others = batch["pairs"][:, 1] != batch["pairs"][:, 2]
        without = model(**batch | {"pairs": batch["pairs"][others], "labels": batch["labels"][others]})
        assert without.loss.item() == pytest.approx(output.loss.item(), rel=1e-6)


# ---------------------------------------------------------------------------------------------------------------------
# Layouts written by hand, for what needs no numbers of others
# ---------------------------------------------------------------------------------------------------------------------

# Our modules to theirs, one by one; encoders apart.
BILINEAR = {"head.head_projection": "head_extractor", "head.tail_projection": "tail_extractor"}
LAYERS = {
    "bilinear": {**BILINEAR, "head.classifier": "bilinear"},
    "axial": {
        **BILINEAR,
        "head.projection": "projection",
        "head.classifier": "classifier",
        **{
            f"head.layers.{number}.{ours}": theirs.format(number)
            for number in range(3)
            for ours, theirs in {
                "columns.to_q": "axial_transformer.axial_attns.{}.axial_attentions.0.fn.to_q",
                "columns.to_kv": "axial_transformer.axial_attns.{}.axial_attentions.0.fn.to_kv",
                "columns.to_out": "axial_transformer.axial_attns.{}.axial_attentions.0.fn.to_out",
                "rows.to_q": "axial_transformer.axial_attns.{}.axial_attentions.1.fn.to_q",
                "rows.to_kv": "axial_transformer.axial_attns.{}.axial_attentions.1.fn.to_kv",
                "rows.to_out": "axial_transformer.axial_attns.{}.axial_attentions.1.fn.to_out",
                "feed_forward": "axial_transformer.ffns.{}",
                "norm": "axial_transformer.lns.{}",
            }.items()
        },
    },
    "unet": {
        **BILINEAR,
        "head.classifier": "bilinear",
        "head.channels": "liner",
        "head.unet.out": "segmentation_net.outc.conv",
        **{
            f"head.unet.{ours}.{layer}": f"segmentation_net.{theirs}.double_conv.{number}"
            for ours, theirs in {
                "inside": "inc.conv",
                "down1": "down1.maxpool_conv.1",
                "down2": "down2.maxpool_conv.1",
                "up1": "up1.conv",
                "up2": "up2.conv",
            }.items()
            for layer, number in {"first": 0, "first_norm": 1, "second": 3, "second_norm": 4}.items()
        },
    },
}
SIZES = {"emb_size": 16, "block_size": 4, "axial_layers": 3, "axial_heads": 8, "unet_width": 4, "unet_outputs": 6}


PUBLISHED = [row.name for row in METHODS if row.published]


def published(method, encoder_config, relations=("r1", "r2", "r3")):
    """A random model and its weights under the published names."""
    torch.manual_seed(0)
    model = DocREForRelationExtraction(
        DocREConfig.for_method(method, list(relations), encoder_config=encoder_config, **SIZES)
    )
    head = model.config.head
    prefix = "bert_model." if head == "unet" else "model."
    state = {}
    for name, tensor in model.state_dict().items():
        if name.startswith("docre.encoder."):
            state[prefix + name.removeprefix("docre.encoder.")] = tensor.clone()
        else:
            module, part = name.rsplit(".", 1)
            state[f"{LAYERS[head][module]}.{part}"] = tensor.clone()
    hidden = model.config.get_text_config().hidden_size
    state[f"{prefix}pooler.dense.weight"] = torch.zeros(hidden, hidden)
    state[f"{prefix}embeddings.position_ids"] = torch.arange(512)[None]
    if head == "axial":
        state["bilinear.weight"], state["bilinear.bias"] = torch.zeros(4, 64), torch.zeros(4)
    return model, state


@pytest.fixture(scope="module")
def bert(tiny_bert_dir):
    return transformers.AutoConfig.from_pretrained(tiny_bert_dir)


@pytest.mark.parametrize("method", PUBLISHED)
@pytest.mark.parametrize("form", ["safetensors", "pt", "checkpoint"])
def test_every_tensor_finds_its_place(tmp_path, bert, method, form):
    original, state = published(method, bert)
    file = tmp_path / ("weights.safetensors" if form == "safetensors" else "weights.pt")
    if form == "safetensors":
        save_file(state, file)
    elif form == "pt":
        torch.save(state, file)
    else:
        torch.save({"epoch": 3, "checkpoint": state, "best_f1": 0.5}, file, _use_new_zipfile_serialization=False)
    model, report = import_checkpoint(file, method, bert, tmp_path / "out", relations=["r1", "r2", "r3"])
    for name, tensor in original.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name
    assert report.used == len(original.state_dict())
    assert len(report.unused) == (4 if model.config.head == "axial" else 2)
    assert set(state) >= set(report.unused) and not report.tokenizer
    again = DocREForRelationExtraction.from_pretrained(tmp_path / "out")
    assert again.config.to_diff_dict() == model.config.to_diff_dict()
    assert (again.config.window_mode, again.config.max_length) == ("reference", 1024)
    if model.config.head != "bilinear":
        assert (again.config.pad_to, again.config.mask_padding) == (42, False)


# Beside those of all: what is not the default of the method's row.
REFERENCE = {
    "pemscl": {
        "loss_arguments": {"reference_broadcast": True},
        "contrastive_arguments": {"temperature": 2.0, "reference": True},
    },
    "kd-docre": {"include_diagonal_in_mean": True, "pad_to": 42, "mask_padding": False},
    "vaediff": {
        "include_diagonal_in_mean": True,
        "pad_to": 42,
        "mask_padding": False,
        "loss_arguments": {"reference_broadcast": True},
        "contrastive_arguments": {"form": "vaediff", "reference": True},
    },
    "docunet": {"pad_to": 42, "mask_padding": False, "marker_style": "unused"},
}


@pytest.mark.parametrize("method", PUBLISHED)
def test_the_config_has_the_reference_settings_and_no_others(tmp_path, bert, method):
    _, state = published(method, bert)
    save_file(state, tmp_path / "weights.safetensors")
    model, _ = import_checkpoint(tmp_path / "weights.safetensors", method, bert, relations=["r1", "r2", "r3"])
    expected = {"max_length": 1024, "window_size": 512, "window_mode": "reference"} | REFERENCE.get(method, {})
    row = DocREConfig.for_method(method, ["r1", "r2", "r3"], encoder_config=bert).to_dict()
    # Read off the file.
    widths = {"emb_size", "block_size", "axial_layers", "unet_width", "unet_outputs", "entity_types"}
    found = {name: value for name, value in model.config.to_dict().items() if row.get(name) != value}
    assert {name: value for name, value in found.items() if name in expected or name not in widths} == {
        name: value for name, value in expected.items() if row[name] != value
    }


@pytest.mark.parametrize(
    ("keys", "prefix", "wrappers"),
    [
        ([], "module.", ["module."]),
        (["model_state_dict"], "", ["model_state_dict"]),
        (["state_dict"], "_orig_mod.", ["state_dict", "_orig_mod."]),
        (["model", "state_dict"], "module._orig_mod.", ["model", "state_dict", "module.", "_orig_mod."]),
        (["safetensors"], "_orig_mod.module.", ["_orig_mod.", "module."]),
    ],
)
def test_what_is_around_the_tensors_is_taken_off_and_said(tmp_path, bert, capsys, keys, prefix, wrappers):
    original, state = published("kd-docre", bert)
    state = {prefix + name: tensor for name, tensor in state.items()}
    file = tmp_path / "weights.pt"
    if keys == ["safetensors"]:
        save_file(state, file := tmp_path / "weights.safetensors")
    else:
        content = state
        for key in reversed(keys):
            content = {"epoch": 3, key: content, "optimizer": {"state": {}}}
        torch.save(content, file)
    model, report = import_checkpoint(file, "kd-docre", bert, relations=["r1", "r2", "r3"])
    for name, tensor in original.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name
    assert report.wrappers == wrappers
    # By the names that the file has.
    assert set(report.unused) == {
        f"{prefix}{name}"
        for name in ("model.pooler.dense.weight", "model.embeddings.position_ids", "bilinear.weight", "bilinear.bias")
    }
    bert.save_pretrained(tmp_path / "encoder")
    (tmp_path / "relations.json").write_text('["r1", "r2", "r3"]')
    arguments = ["import", str(file), "--method", "kd-docre", "--encoder", str(tmp_path / "encoder")]
    assert main([*arguments, "-o", str(tmp_path / "out"), "--relations", str(tmp_path / "relations.json")]) == 0
    said = capsys.readouterr().err
    assert f"unwrapped: {', '.join(wrappers)}\n" in said
    assert f"not used: {prefix}bilinear.weight (" in said


def test_tensors_beside_the_weights_are_accounted_for(tmp_path, bert):
    original, state = published("atlop", bert)
    averaged = {"n_averaged": torch.tensor(3)} | {f"module.{name}": tensor for name, tensor in state.items()}
    content = {"state_dict": averaged, "temperature": torch.ones(1), "optimizer": {"state": {0: {"m": torch.ones(2)}}}}
    torch.save({"model": content, "epoch": 3, "ema": {"w": torch.ones(2), "b": torch.ones(2)}}, tmp_path / "file.pt")
    model, report = import_checkpoint(tmp_path / "file.pt", "atlop", bert, relations=["r1", "r2", "r3"])
    for name, tensor in original.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name
    assert report.wrappers == ["model", "state_dict", "module."]
    beside = {name: reason for name, reason in report.unused.items() if not name.startswith("module.")}
    assert beside == {
        "ema": "tensors beside the weights: 2",
        "model.temperature": "tensors beside the weights: 1",
        "model.optimizer": "tensors beside the weights: 1",
        "n_averaged": "no weight",
    }
    # What has such a name, and no tensors, holds no weights.
    torch.save({"checkpoint": {"step": 3}, "state_dict": state, "model": {"epoch": 1}}, tmp_path / "steps.pt")
    _, report = import_checkpoint(tmp_path / "steps.pt", "atlop", bert, relations=["r1", "r2", "r3"])
    assert report.wrappers == ["state_dict"]
    torch.save({**state, "history": [torch.ones(1), {"w": torch.ones(2)}], "epoch": 3}, tmp_path / "flat.pt")
    _, report = import_checkpoint(tmp_path / "flat.pt", "atlop", bert, relations=["r1", "r2", "r3"])
    assert report.unused["history"] == "tensors beside the weights: 2" and "epoch" not in report.unused


def test_an_encoder_of_fewer_positions_has_smaller_windows(tmp_path, bert):
    _, state = published("atlop", bert)
    name = "model.embeddings.position_embeddings.weight"
    few = transformers.BertConfig(**{**bert.to_dict(), "max_position_embeddings": 64})
    torch.save({**state, name: state[name][:64]}, tmp_path / "file.pt")
    model, _ = import_checkpoint(tmp_path / "file.pt", "atlop", few, relations=["r1", "r2", "r3"])
    assert model.config.window_size == 64


def test_two_tensors_for_one_place_are_refused(tmp_path, bert):
    _, state = published("atlop", bert)
    name = "model.embeddings.LayerNorm.weight"
    torch.save({**state, name.replace("weight", "gamma"): state[name] + 1}, tmp_path / "file.pt")
    with pytest.raises(OriginalCheckpointError, match=r"LayerNorm\.weight and .*LayerNorm\.gamma are one tensor"):
        import_checkpoint(tmp_path / "file.pt", "atlop", bert, relations=["r1", "r2", "r3"])


def test_the_tokenizer_comes_along_where_there_is_one(tmp_path, tiny_bert_dir, bert):
    _, state = published("atlop", bert)
    save_file(state, tmp_path / "weights.safetensors")
    _, report = import_checkpoint(
        tmp_path / "weights.safetensors", "atlop", tiny_bert_dir, tmp_path / "out", relations=["r1", "r2", "r3"]
    )
    assert report.tokenizer
    extract = transformers.pipeline("docre", model=str(tmp_path / "out"))
    document = {"text": "Ada was in London.", "entities": [{"mentions": [{"start": 0, "end": 3}]}] * 2}
    assert extract(document, threshold=0.0)["relations"]
    assert str(tiny_bert_dir) not in (tmp_path / "out" / "config.json").read_text()


@pytest.mark.parametrize(
    ("method", "words", "reason"),
    [
        ("atlop", -1, r"has [\d,]+ words, but the file embeddings of [\d,]+"),
        ("docunet", 0, r"lacks the markers \[unused1\] \[unused51\] .*"),
    ],
)
def test_a_tokenizer_that_does_not_go_with_the_file_is_not_called_missing(
    tmp_path, tiny_bert_dir, bert, capsys, method, words, reason
):
    folder = shutil.copytree(tiny_bert_dir, tmp_path / "encoder")
    config = transformers.BertConfig(**{**bert.to_dict(), "vocab_size": bert.vocab_size + words})
    config.save_pretrained(folder)
    _, state = published(method, config)
    torch.save(state, tmp_path / "weights.pt")
    (tmp_path / "relations.json").write_text('["r1", "r2", "r3"]')
    arguments = ["import", str(tmp_path / "weights.pt"), "--method", method, "--encoder", str(folder)]
    assert main([*arguments, "-o", str(tmp_path / "out"), "--relations", str(tmp_path / "relations.json")]) == 0
    said = capsys.readouterr().err
    assert re.search(rf"The tokenizer in {folder} {reason}: copy those files of the right one", said), said
    assert not (tmp_path / "out" / "tokenizer.json").exists()


def test_the_encoder_of_a_model_of_this_library(tmp_path, tiny_checkpoint):
    own = DocREForRelationExtraction.from_pretrained(tiny_checkpoint)
    original, state = published("atlop", own.config.encoder)
    save_file(state, tmp_path / "weights.safetensors")
    for encoder in (tiny_checkpoint, own.config):
        model, _ = import_checkpoint(tmp_path / "weights.safetensors", "atlop", encoder, relations=["r1", "r2", "r3"])
        assert model.config.encoder.model_type == "bert" and len(model.state_dict()) == len(original.state_dict())


def test_encoders_other_than_bert_end_windows_with_two_tokens(tmp_path, tiny_roberta_dir):
    config = transformers.AutoConfig.from_pretrained(tiny_roberta_dir)
    _, state = published("docunet", config)
    save_file(state, tmp_path / "weights.safetensors")
    model, _ = import_checkpoint(tmp_path / "weights.safetensors", "docunet", config, relations=["r1", "r2", "r3"])
    assert (model.config.end_tokens, model.config.marker_style) == (2, "asterisk")


def test_docunet_has_berts_unused_tokens_for_markers(tmp_path, bert):
    _, state = published("docunet", bert)
    save_file(state, tmp_path / "weights.safetensors")
    model, _ = import_checkpoint(tmp_path / "weights.safetensors", "docunet", bert, relations=["r1", "r2", "r3"])
    assert model.config.marker_style == "unused"
    assert model.config.entity_types == ["ORG", "LOC", "TIME", "PER", "MISC", "NUM"]


def test_the_published_readers_features(golden_dir):
    import gzip

    from modeling_docre import DocREProcessor, Document

    folder = golden_dir / "preprocess"
    with gzip.open(folder / "docs.json.gz") as file:
        documents = [Document.from_docred(data, keep_duplicate_mentions=True) for data in json.load(file)]
    with gzip.open(folder / "features.json.gz") as file:
        expected = json.load(file)["docunet"]
    lines = (folder / "vocab.txt").read_text().splitlines()
    tokenizer = transformers.BertTokenizer(
        vocab={piece: index for index, piece in enumerate(lines)}, do_lower_case=False
    )
    relations = sorted(classes := json.loads((folder / "rel2id.json").read_text()), key=classes.get)[1:]
    config = DocREConfig.for_method(
        "docunet",
        relations,
        marker_style="unused",
        entity_types=["ORG", "LOC", "TIME", "PER", "MISC", "NUM"],
        max_length=1024,
        window_mode="reference",
    )
    features = DocREProcessor.from_encoder(tokenizer, config=config)(documents)
    for feature, theirs in zip(features, expected, strict=True):
        assert feature["input_ids"] == theirs["input_ids"], theirs["title"]


# ---------------------------------------------------------------------------------------------------------------------
# What is refused
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "method", "message"),
    [
        ("kd-docre", "atlop", r"is no atlop checkpoint.*kd-docre or vaediff\. Pass --method kd-docre\|vaediff"),
        ("docunet", "kd-docre", r"is no kd-docre checkpoint.*Pass --method docunet"),
        ("atlop", "docunet", r"is no docunet checkpoint.*atlop or atlop-bce or ncrl or pemscl"),
    ],
)
def test_the_wrong_method(tmp_path, bert, given, method, message):
    _, state = published(given, bert)
    save_file(state, tmp_path / "weights.safetensors")
    with pytest.raises(OriginalCheckpointError, match=message):
        import_checkpoint(tmp_path / "weights.safetensors", method, bert)


MISSING = {
    "atlop": ["tail_extractor.bias", "model.encoder.layer.0.output.dense.weight", "bilinear.bias"],
    "kd-docre": [
        "axial_transformer.axial_attns.2.axial_attentions.0.fn.to_q.weight",
        "axial_transformer.axial_attns.1.axial_attentions.1.fn.to_kv.weight",
        "axial_transformer.ffns.0.bias",
        "axial_transformer.lns.2.weight",
        "classifier.bias",
    ],
    "docunet": [
        "liner.bias",
        "segmentation_net.outc.conv.bias",
        "segmentation_net.down1.maxpool_conv.1.double_conv.4.running_var",
        "bert_model.embeddings.word_embeddings.weight",
    ],
}


@pytest.mark.parametrize(("method", "name"), [(method, name) for method, names in MISSING.items() for name in names])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_missing_and_misshapen_tensors_have_their_names_in_the_file(tmp_path, bert, method, name, prefix):
    _, state = published(method, bert)
    state = {prefix + key: tensor for key, tensor in state.items()}
    file = tmp_path / "weights.safetensors"
    own = state.pop(prefix + name)
    shape = tuple(own.shape)
    save_file(state, file)
    with pytest.raises(OriginalCheckpointError) as missing:
        import_checkpoint(file, method, bert, relations=["r1", "r2", "r3"])
    assert f"{file}: it lacks {prefix}{name}, of shape {shape}. Pass the" in str(missing.value)
    other = (shape[0] + 1, *shape[1:])
    save_file(state | {prefix + name: torch.zeros(other)}, file)
    with pytest.raises(OriginalCheckpointError) as misshapen:
        import_checkpoint(file, method, bert, relations=["r1", "r2", "r3"])
    expected = f"{file}: {prefix}{name} has shape {other}, where the model has {shape}. Pass the"
    assert expected in str(misshapen.value)
    for error in (missing.value, misshapen.value):
        assert "docre." not in str(error).replace(str(file), "") and "head." not in str(error)


@pytest.mark.parametrize(
    ("method", "name", "shape", "message"),
    [
        ("atlop", "head_extractor.weight", None, r"lacks _orig_mod\.head_extractor\.weight, which every"),
        ("atlop", "head_extractor.weight", (16,), r"_orig_mod\.head_extractor\.weight has shape \(16,\), where 2 num"),
        ("atlop", "bilinear.weight", (4, 5), r"bilinear\.weight has shape \(4, 5\).*16, the rows of _orig_mod\.head_"),
        ("kd-docre", "projection.weight", (0, 64), r"_orig_mod\.projection\.weight has shape \(0, 64\)"),
        ("kd-docre", "projection.bias", (64,), r"_orig_mod\.projection\.bias, of shape \(64,\), has no place"),
        ("kd-docre", "classifier.weight", None, r"lacks _orig_mod\.classifier\.weight, which every"),
        (
            "docunet",
            "segmentation_net.inc.conv.double_conv.0.weight",
            (5, 3, 3, 3),
            r"_orig_mod\.segmentation_net\.inc\.conv\.double_conv\.0\.weight has shape \(5, 3, 3, 3\).*even",
        ),
    ],
)
def test_tensors_that_tell_the_widths_are_named_too(tmp_path, bert, method, name, shape, message):
    _, state = published(method, bert)
    state.pop(name, None)
    if shape is not None:
        state[name] = torch.zeros(shape)
    save_file({f"_orig_mod.{key}": tensor for key, tensor in state.items()}, tmp_path / "weights.safetensors")
    with pytest.raises(OriginalCheckpointError, match=message):
        import_checkpoint(tmp_path / "weights.safetensors", method, bert, relations=["r1", "r2", "r3"])


def test_another_encoder_is_an_error_that_names_tensors(tmp_path, bert):
    _, state = published("atlop", bert)
    save_file(state, tmp_path / "weights.safetensors")
    for change, message in (
        (
            {"num_hidden_layers": bert.num_hidden_layers - 1},
            rf"model\.encoder\.layer\.{bert.num_hidden_layers - 1}\S*, of shape \S+.*no place.*and \d+ more\.",
        ),
        (
            {"num_hidden_layers": bert.num_hidden_layers + 1},
            rf"lacks model\.encoder\.layer\.{bert.num_hidden_layers}\.",
        ),
        ({"vocab_size": 1000}, r"model\.embeddings\.word_embeddings\.weight has shape .* the model has \(1000, "),
    ):
        other = transformers.BertConfig(**{**bert.to_dict(), **change})
        with pytest.raises(OriginalCheckpointError, match=f"{message}.*Pass the encoder that"):
            import_checkpoint(tmp_path / "weights.safetensors", "atlop", other, relations=["r1", "r2", "r3"])


def test_unknown_tensors_are_reported_not_lost(tmp_path, bert):
    _, state = published("atlop", bert)
    save_file(state | {"extra.weight": torch.zeros(2)}, tmp_path / "weights.safetensors")
    _, report = import_checkpoint(tmp_path / "weights.safetensors", "atlop", bert, relations=["r1", "r2", "r3"])
    assert report.unused["extra.weight"] == "no part of this model has that name"


def test_relations_must_be_as_many_as_classes(tmp_path, bert):
    _, state = published("atlop", bert)
    save_file(state, tmp_path / "weights.safetensors")
    with pytest.raises(OriginalCheckpointError, match=r"has 4 classes.*there are 96 relations.*class 0 left out"):
        import_checkpoint(tmp_path / "weights.safetensors", "atlop", bert)
    # As rel2id.json has them, read with json alone.
    numbers = {"Na": 0, "r1": 1, "r2": 2, "r3": 3}
    with pytest.raises(ValueError, match=r"relations has 0 for 'Na', .*read_relations"):
        import_checkpoint(tmp_path / "weights.safetensors", "atlop", bert, relations=numbers)


@pytest.mark.parametrize("relations", ["r1", "abc", "rel2id.json"])
def test_one_string_is_not_read_letter_by_letter(tmp_path, bert, relations):
    _, state = published("atlop", bert)
    save_file(state, tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match=rf"relations='{relations}' is one string; pass a list.*read_relations"):
        import_checkpoint(tmp_path / "weights.safetensors", "atlop", bert, relations=relations)


def test_docred_is_the_default(tmp_path, bert):
    _, state = published("atlop", bert, relations=[f"r{number}" for number in range(96)])
    save_file(state, tmp_path / "weights.safetensors")
    model, _ = import_checkpoint(tmp_path / "weights.safetensors", "atlop", bert)
    assert model.config.relations[:4] == ["P17", "P131", "P27", "P150"]
    assert model.config.relation_label("P17") == "country"


def test_files_that_are_none(tmp_path, bert):
    with pytest.raises(OriginalCheckpointError, match="there is no such file"):
        import_checkpoint(tmp_path / "none.pt", "atlop", bert)
    torch.save({"anything.weight": torch.zeros(1000)}, tmp_path / "whole.pt")
    for name, content in (
        ("half.pt", (tmp_path / "whole.pt").read_bytes()[:2000]),
        ("weights.pt", b"not weights"),
        ("text.pt", b"hello there"),
        ("weights.safetensors", b"\x00" * 4),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(OriginalCheckpointError, match="no file of weights, or not the whole of one"):
            import_checkpoint(tmp_path / name, "atlop", bert)
    torch.save({"state_dict": {"anything.weight": torch.zeros(2)}}, tmp_path / "other.pt")
    with pytest.raises(OriginalCheckpointError, match="none of the published layouts"):
        import_checkpoint(tmp_path / "other.pt", "atlop", bert)
    torch.save({"epoch": 3}, tmp_path / "empty.pt")
    with pytest.raises(OriginalCheckpointError, match=r"without tensors \(epoch\).*'model_state_dict'"):
        import_checkpoint(tmp_path / "empty.pt", "atlop", bert)
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(OriginalCheckpointError, match="a list, where a state dict"):
        import_checkpoint(tmp_path / "list.pt", "atlop", bert)
    torch.save({"ema_model.norm.weight": torch.zeros(2)}, tmp_path / "prior.pt")
    with pytest.raises(OriginalCheckpointError, match="stage 2"):
        import_checkpoint(tmp_path / "prior.pt", "vaediff", bert)


class Dangerous:
    """What runs code when it is unpickled."""

    def __reduce__(self):
        return print, ("code ran",)


def test_another_loss_has_none_of_the_arithmetic_of_the_published_one(tmp_path, bert):
    _, state = published("pemscl", bert)
    torch.save(state, tmp_path / "file.pt")
    for loss, expected in (("pmt", {"reference_broadcast": True}), ("atl", {})):
        model, _ = import_checkpoint(tmp_path / "file.pt", "pemscl", bert, relations=["r1", "r2", "r3"], loss=loss)
        assert model.config.loss_arguments == expected
        assert model.config.encoder is not bert
    arguments = {"temperature": 0.2}
    model, _ = import_checkpoint(
        tmp_path / "file.pt", "pemscl", bert, relations=["r1", "r2", "r3"], contrastive_arguments=arguments
    )
    assert model.config.contrastive_arguments == {"temperature": 0.2, "reference": True}


def test_a_pickle_that_would_run_code_is_refused(tmp_path, bert, capsys):
    torch.save({"state_dict": Dangerous()}, tmp_path / "weights.pt")
    with pytest.raises(OriginalCheckpointError, match="more than tensors"):
        import_checkpoint(tmp_path / "weights.pt", "atlop", bert)
    assert "code ran" not in capsys.readouterr().out


def test_unknown_method(tmp_path, bert):
    with pytest.raises(ValueError, match="There is no method 'atlopp'"):
        import_checkpoint(tmp_path / "weights.pt", "atlopp", bert)


def test_our_own_checkpoint_is_not_imported(tmp_path, bert):
    model, _ = published("atlop", bert)
    model.save_pretrained(tmp_path)
    with pytest.raises(OriginalCheckpointError, match="load its folder with from_pretrained"):
        import_checkpoint(tmp_path / "model.safetensors", "atlop", bert)


# ---------------------------------------------------------------------------------------------------------------------
# The command
# ---------------------------------------------------------------------------------------------------------------------


def test_ids_that_docred_has_too_get_its_words_and_words_alone_are_no_order(tmp_path, tiny_bert_dir, bert, capsys):
    _, state = published("atlop", bert)
    torch.save(state, tmp_path / "weights.pt")
    arguments = ["import", str(tmp_path / "weights.pt"), "--method", "atlop", "--encoder", str(tiny_bert_dir)]
    relations = tmp_path / "relations.json"
    arguments += ["-o", str(tmp_path / "out"), "--relations", str(relations)]
    relations.write_text('{"P131": "located in", "P17": "country", "mine": "mine"}')
    assert main(arguments) == 1 and not (tmp_path / "out").exists()
    assert "not the order of the checkpoint's classes: pass rel2id.json, or a list" in capsys.readouterr().err
    relations.write_text('["P131", "mine", "P17"]')
    assert main(arguments) == 0
    config = DocREConfig.from_pretrained(tmp_path / "out")
    assert config.relations == ["P131", "mine", "P17"]
    assert config.relation_label("P17") == "country" and config.relation_label("mine") == "mine"


@pytest.mark.parametrize("method", ["era", "eracl"])
def test_a_method_of_which_nothing_is_published_is_not_imported(tmp_path, bert, method):
    _, state = published("atlop", bert)
    save_file(state, tmp_path / "weights.safetensors")
    with pytest.raises(OriginalCheckpointError, match="--method atlop"):
        import_checkpoint(tmp_path / "weights.safetensors", method, bert, relations=["r1", "r2", "r3"])


def test_command(tmp_path, tiny_bert_dir, bert, capsys):
    _, state = published("kd-docre", bert)
    torch.save(state, tmp_path / "weights.pt")
    (tmp_path / "rel2id.json").write_text(json.dumps({"Na": 0, "r2": 2, "r1": 1, "r3": 3}))
    folder = tmp_path / "encoder"
    folder.mkdir()
    shutil.copy(tiny_bert_dir / "config.json", folder)
    arguments = ["import", str(tmp_path / "weights.pt"), "--method", "kd-docre", "--encoder", str(folder)]
    arguments += ["-o", str(tmp_path / "out"), "--relations", str(tmp_path / "rel2id.json")]
    assert main(arguments) == 0
    said = capsys.readouterr().err
    assert "not used: model.pooler.dense.weight (the encoder's pooler, which no method reads)" in said
    assert "not used: bilinear.weight" in said
    assert "The tokenizer was not found" in said
    model = DocREForRelationExtraction.from_pretrained(tmp_path / "out")
    assert model.config.relations == ["r1", "r2", "r3"]
    assert main(arguments) == 1
    assert "is there already, and not empty" in capsys.readouterr().err
    arguments[3], arguments[7] = "atlop", str(tmp_path / "other")
    assert main(arguments) == 1
    assert "Pass --method kd-docre|vaediff" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["import", "--help"])
    assert "docre import atlop.pt" in capsys.readouterr().out


def test_methods_command(capsys):
    assert main(["methods"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:2] == ["method", "pair"]
    assert [line.split()[0] for line in lines[1:]] == [row.name for row in METHODS]
