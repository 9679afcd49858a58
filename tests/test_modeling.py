"""The assembled model: starting, saving, loading, scoring and training it."""

from __future__ import annotations

import copy
import json
import math
import shutil
import warnings

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import nn

from modeling_docre import DocREConfig, DocREForRelationExtraction, DocREModel, DocREProcessor, Document, losses
from modeling_docre.encoding import all_pairs

RELATIONS = {"P17": "country", "P19": "place of birth", "P131": "located in"}
TYPES = ["PER", "LOC"]
SMALL = {"emb_size": 32, "block_size": 8}


def make(folder, **settings) -> DocREForRelationExtraction:
    torch.manual_seed(0)
    model = DocREForRelationExtraction.from_encoder(folder, relations=RELATIONS, **{**SMALL, **settings})
    return sharpened(model).eval()


def sharpened(model):
    """Larger weights than at the start of training, so that every part shows in the logits."""
    generator = torch.Generator().manual_seed(9)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model


def inputs(counts=(4, 2, 3), lengths=(30, 12, 21), seed=0) -> dict[str, torch.Tensor]:
    """Documents with `counts` entities, one or two mentions each."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, 60, (len(counts), max(lengths)), generator=generator)
    mask = torch.zeros_like(ids)
    mentions = []
    for row, (count, length) in enumerate(zip(counts, lengths, strict=True)):
        ids[row, length:] = 0
        mask[row, :length] = 1
        for entity in range(count):
            for _ in range(1 + entity % 2):
                mentions.append([row, entity, int(torch.randint(1, length - 1, (1,), generator=generator))])
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "mentions": torch.tensor(mentions).view(-1, 3),
        "num_entities": torch.tensor(counts),
    }


def labels_for(pairs: torch.Tensor, seed=1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    labels = (torch.rand(len(pairs), 4, generator=generator) < 0.3).float()
    labels[:, 0] = (labels[:, 1:].sum(1) == 0).float()
    return labels


# ---------------------------------------------------------------------------------------------------------------------
# Starting from an encoder
# ---------------------------------------------------------------------------------------------------------------------


def test_from_encoder_takes_weights_and_grows_for_markers(tiny_encoder_dir):
    plain = transformers.AutoModel.from_pretrained(tiny_encoder_dir)
    before = plain.get_input_embeddings().num_embeddings
    torch.manual_seed(0)
    model = DocREForRelationExtraction.from_encoder(
        tiny_encoder_dir, "atlop", RELATIONS, marker_style="typed", entity_types=TYPES, **SMALL
    )
    processor = DocREProcessor.from_encoder(tiny_encoder_dir, config=model.config)
    embeddings = model.get_input_embeddings()
    assert embeddings.num_embeddings == before + 6 == model.config.encoder.vocab_size
    assert model.docre.encoder.config is model.config.encoder
    kept = dict(model.docre.encoder.named_parameters())
    for name, parameter in plain.named_parameters():
        if "pooler" not in name:
            assert torch.equal(kept[name][: len(parameter)], parameter), name
    assert not [name for name in kept if "pooler" in name]
    document = Document.from_markup("[Ada](a:PER) was born in [London](l:LOC). [She](a) left the [River](:X).")
    output = model.eval()(**processor.collate(processor([document])))
    assert output.logits.shape == (6, 4) and torch.isfinite(output.logits).all()


def test_from_encoder_with_stars_leaves_the_vocabulary_alone(tiny_bert_dir):
    model = DocREForRelationExtraction.from_encoder(str(tiny_bert_dir), relations=["R"], **SMALL)
    plain = transformers.AutoModel.from_pretrained(tiny_bert_dir)
    assert model.get_input_embeddings().num_embeddings == plain.get_input_embeddings().num_embeddings
    assert model.config.relations == ["R"] and model.config.relation_names == {}


def test_from_encoder_takes_a_loaded_encoder_and_leaves_it_alone(tiny_bert_dir):
    encoder = transformers.AutoModel.from_pretrained(tiny_bert_dir)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_bert_dir)
    before = copy.deepcopy(encoder.state_dict())
    model = DocREForRelationExtraction.from_encoder(
        encoder, relations=RELATIONS, tokenizer=tokenizer, marker_style="tags", **SMALL
    )
    assert model.config.encoder.vocab_size == len(tokenizer) == len(before["embeddings.word_embeddings.weight"]) + 2
    assert encoder.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())
    assert encoder.config.vocab_size == len(before["embeddings.word_embeddings.weight"])
    model.docre.encoder.embeddings.word_embeddings.weight.data.zero_()
    assert encoder.embeddings.word_embeddings.weight.abs().sum() > 0


def test_errors_of_from_encoder_print_the_code_to_write(tiny_bert_dir):
    with pytest.raises(ValueError, match=r'from_encoder\("enc", relations=\["P17", "P131"\]\)'):
        DocREForRelationExtraction.from_encoder("enc")
    with pytest.raises(ValueError, match="There is no method"):
        DocREForRelationExtraction.from_encoder(tiny_bert_dir, "nothing", RELATIONS)
    config = DocREConfig.for_method("kd-docre", RELATIONS)
    for arguments, settings in (((config,), {}), ((), {"config": config})):
        with pytest.raises(TypeError, match=r'from_encoder\(ENCODER, "kd-docre", relations='):
            DocREForRelationExtraction.from_encoder(tiny_bert_dir, *arguments, **settings)


@pytest.mark.parametrize("name", ["/nonexistent/bert", "./bert", "../bert", "~/bert", "models/of/bert"])
def test_a_folder_that_is_missing_is_not_taken_for_a_repository(name):
    from modeling_docre import DocREConfig, DocREProcessor
    from modeling_docre.original_checkpoints import import_checkpoint

    for load in (
        lambda: DocREForRelationExtraction.from_encoder(name, relations=RELATIONS),
        lambda: DocREForRelationExtraction.from_pretrained(name),
        lambda: DocREProcessor.from_encoder(name, config=DocREConfig()),
        lambda: DocREProcessor.from_pretrained(name),
        lambda: import_checkpoint("atlop.pt", "atlop", name, "imported"),
    ):
        with pytest.raises(FileNotFoundError, match=f"There is no folder {name}") as raised:
            load()
        assert ("write /" in str(raised.value)) == name.startswith("~")


def test_a_missing_folder_that_could_be_a_repository_is_told_from_the_network(monkeypatch, tmp_path):
    from modeling_docre.distillation import Teacher
    from modeling_docre.encoders import load_encoder_config
    from modeling_docre.extraction import load_config

    monkeypatch.chdir(tmp_path)
    for load in (
        DocREForRelationExtraction.from_pretrained,
        DocREProcessor.from_pretrained,
        Teacher.from_pretrained,
        load_config,
        load_encoder_config,
    ):
        with pytest.raises(OSError, match="There is no folder runs/teacher") as raised:
            load("runs/teacher")
        assert str(tmp_path) in str(raised.value) and "on the Hub: " in str(raised.value)


def test_from_encoder_takes_the_encoder_of_another_of_our_models(tiny_bert_dir, tmp_path):
    first = make(tiny_bert_dir)
    first.save_pretrained(tmp_path)
    DocREProcessor.from_encoder(tiny_bert_dir, config=first.config).save_pretrained(tmp_path)
    for source in (tmp_path, first):
        second = DocREForRelationExtraction.from_encoder(source, relations=["other"], **SMALL)
        assert second.config.relations == ["other"]
        expected = first.docre.encoder.state_dict()
        assert all(torch.equal(value, expected[name]) for name, value in second.docre.encoder.state_dict().items())


def test_from_encoder_takes_what_is_below_another_head(tiny_bert_dir):
    headed = transformers.BertForMaskedLM.from_pretrained(tiny_bert_dir)
    model = DocREForRelationExtraction.from_encoder(headed, relations=RELATIONS, **SMALL)
    expected = headed.bert.encoder.layer[1].output.dense.weight
    assert torch.equal(model.docre.encoder.encoder.layer[1].output.dense.weight, expected)


def test_encoder_decoders_are_refused():
    config = DocREConfig(encoder_config=transformers.T5Config(d_model=32, num_layers=1, num_heads=2), **SMALL)
    with pytest.raises(ValueError, match="'t5' is an encoder-decoder"):
        DocREForRelationExtraction(config)


def test_the_head_starts_as_torch_linear_layers_do(tiny_bert_dir):
    torch.manual_seed(0)
    model = DocREForRelationExtraction.from_encoder(
        tiny_bert_dir, relations=RELATIONS, use_entity_types=True, entity_types=TYPES, emb_size=64, block_size=16
    )
    bound = 1 / math.sqrt(64 * 16)
    weight = model.head.classifier.weight
    assert weight.abs().max() <= bound and weight.abs().max() > 0.95 * bound and abs(weight.mean()) < 0.1 * bound
    assert model.type_pair_bias.weight.abs().sum() == 0
    assert 0.01 < model.docre.type_embeddings.weight.std() < 0.04


# ---------------------------------------------------------------------------------------------------------------------
# Saving and loading
# ---------------------------------------------------------------------------------------------------------------------


def test_save_and_load_give_the_same_logits(tiny_encoder_dir, tmp_path):
    model = make(tiny_encoder_dir, marker_style="tags", use_entity_types=True, entity_types=TYPES)
    batch = inputs()
    batch["entity_types"] = torch.randint(0, 3, (3, 4), generator=torch.Generator().manual_seed(0))
    model.save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    loaded = DocREForRelationExtraction.from_pretrained(tmp_path)
    assert not loaded.training
    with torch.no_grad():
        expected, got = model(**batch).logits, loaded(**batch).logits
    assert torch.equal(got, expected)
    assert type(loaded.config.encoder) is type(model.config.encoder)
    assert loaded.config.encoder.vocab_size == loaded.get_input_embeddings().num_embeddings
    headless = DocREModel.from_pretrained(tmp_path)
    with torch.no_grad():
        assert torch.equal(headless(**batch).last_hidden_state, model.docre(**batch).last_hidden_state)
    data = json.loads((tmp_path / "config.json").read_text())
    assert "custom_pipelines" not in data and "auto_map" not in data
    assert "docre_rows" not in (tmp_path / "config.json").read_text()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_stored_loaded_and_run(tiny_encoder_dir, tmp_path, dtype):
    model, batch = make(tiny_encoder_dir), inputs()
    with torch.no_grad():
        exact = model(**batch).logits
    model.to(dtype).save_pretrained(tmp_path)
    assert {value.dtype for value in load_file(tmp_path / "model.safetensors").values()} == {dtype}
    for loaded in (
        DocREForRelationExtraction.from_pretrained(tmp_path),
        DocREForRelationExtraction.from_pretrained(tmp_path, dtype=dtype),
    ):
        assert {parameter.dtype for parameter in loaded.parameters()} == {dtype}
        with torch.no_grad():
            output = loaded(**batch, labels=labels_for(all_pairs(batch["num_entities"])))
        assert output.loss.dtype == torch.float32 and torch.isfinite(output.loss)
        assert (output.logits.float() - exact).abs().max() < 0.5
    upcast = DocREForRelationExtraction.from_pretrained(tmp_path, dtype=torch.float32)
    assert {parameter.dtype for parameter in upcast.parameters()} == {torch.float32}


def test_float64_is_float64_all_the_way(tiny_bert_dir):
    model, batch = make(tiny_bert_dir), inputs()
    with torch.no_grad():
        single = model(**batch).logits
        logits = model.double()(**batch).logits
        # Rounding to float32 on the way would show between two equal computations of different shape.
        alone = {key: value[:1] for key, value in batch.items() if key != "mentions"}
        alone["mentions"] = batch["mentions"][batch["mentions"][:, 0] == 0]
        first = model(**alone).logits
    assert logits.dtype == torch.float64
    torch.testing.assert_close(logits.float(), single, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(first, logits[:12], atol=1e-12, rtol=0)


def test_another_kind_of_checkpoint_prints_the_code_to_write(tiny_bert_dir):
    with pytest.raises(ValueError, match=r"'bert' checkpoint[\s\S]*DocREForRelationExtraction.from_encoder\("):
        DocREForRelationExtraction.from_pretrained(tiny_bert_dir)
    with pytest.raises(ValueError, match=r"DocREForRelationExtraction.from_encoder\("):
        DocREModel.from_pretrained(str(tiny_bert_dir))


def test_missing_weights_are_named(tiny_bert_dir, tmp_path):
    make(tiny_bert_dir).save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["head.classifier.bias"], weights["docre.encoder.encoder.layer.1.output.dense.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"layer\.1\.output\.dense\.weight, head\.classifier\.bias"):
        DocREForRelationExtraction.from_pretrained(tmp_path)
    headless = tmp_path / "headless"
    DocREModel(DocREConfig(encoder_config=transformers.AutoConfig.from_pretrained(tiny_bert_dir))).save_pretrained(
        headless
    )
    with pytest.raises(ValueError, match=r"head\.classifier\.weight"):
        DocREForRelationExtraction.from_pretrained(headless)


def test_loading_info_is_returned_when_asked_for(tiny_bert_dir, tmp_path):
    make(tiny_bert_dir).save_pretrained(tmp_path)
    model, info = DocREForRelationExtraction.from_pretrained(tmp_path, output_loading_info=True)
    assert isinstance(model, DocREForRelationExtraction) and not info["missing_keys"]


def test_settings_can_be_overridden_while_loading(tiny_bert_dir, tmp_path):
    make(tiny_bert_dir).save_pretrained(tmp_path)
    model = DocREForRelationExtraction.from_pretrained(tmp_path, threshold=0.25, window_mode="reference")
    assert (model.config.threshold, model.config.window_mode) == (0.25, "reference")
    with pytest.raises(ValueError, match="threshold"):
        DocREForRelationExtraction.from_pretrained(tmp_path, threshold=25.0)


def test_settings_that_change_sizes_are_named(tiny_bert_dir, tmp_path):
    make(tiny_bert_dir).save_pretrained(tmp_path)
    sizes = (
        r"has weights of other sizes than .*head\.classifier\.bias \(4,\) instead of \(2,\), head\.classifier\.weight"
    )
    anew = r"To train parts of another size anew, pass ignore_mismatched_sizes=True\."
    with pytest.raises(ValueError, match=sizes + rf".*passed \(relations, threshold\): leave out those .*{anew}"):
        DocREForRelationExtraction.from_pretrained(tmp_path, relations=["P17"], threshold=0.25)
    config = DocREConfig.from_pretrained(tmp_path, relations=["P17"])
    with pytest.raises(ValueError, match=sizes + rf".*\. The config that was passed is not that of these.*{anew}"):
        DocREForRelationExtraction.from_pretrained(tmp_path, config=config)
    # What is missing is never begun at random, so that the message does not offer it.
    for more in ({}, {"ignore_mismatched_sizes": True}):
        with pytest.raises(ValueError, match=r"lacks weights of .*type_embeddings.*\(use_entity_types\)") as found:
            DocREForRelationExtraction.from_pretrained(tmp_path, use_entity_types=True, **more)
        assert "ignore_mismatched_sizes" not in str(found.value)
    with pytest.raises(ValueError, match=r"lacks weights of .*, and has weights of other sizes than"):
        DocREForRelationExtraction.from_pretrained(tmp_path, use_entity_types=True, relations=["P17"])
    model = DocREForRelationExtraction.from_pretrained(tmp_path, relations=["P17"], ignore_mismatched_sizes=True)
    assert model.head.classifier.out_features == 2
    config.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=sizes + r".*\. Its config\.json and its weights are not of one model\."):
        DocREForRelationExtraction.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        *(("treshold", "'threshold'"), ("revison", "'revision'"), ("offload_fodler", "'offload_folder'")),
        *(("qqqq", None), ("modeltype", None), ("proxies_of", None)),
    ],
)
def test_misspelt_arguments_of_loading_are_suggested(tiny_bert_dir, tmp_path, monkeypatch, wrong, hint):
    make(tiny_bert_dir).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=f"'{wrong}' is no argument of from_pretrained, nor a setting") as found:
        DocREForRelationExtraction.from_pretrained(tmp_path, **{wrong: 0.5})
    assert (f"Did you mean {hint}?" in str(found.value)) if hint else "Did you mean" not in str(found.value)

    def fail(*_):
        raise TypeError("__init__() got an unexpected keyword argument 'elsewhere'")

    with pytest.raises(ValueError, match=r"num_labels would not be read.*relations=\["):
        DocREForRelationExtraction.from_pretrained(tmp_path, num_labels=5)
    config = DocREConfig.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="'threshold' is a setting, and settings are not read beside config="):
        DocREForRelationExtraction.from_pretrained(tmp_path, config=config, threshold=0.5)
    monkeypatch.setattr("modeling_docre.modeling_base.build_encoder", fail)
    with pytest.raises(TypeError, match="elsewhere"):
        DocREForRelationExtraction.from_pretrained(tmp_path, threshold=0.5)


# ---------------------------------------------------------------------------------------------------------------------
# Scoring
# ---------------------------------------------------------------------------------------------------------------------


def test_default_pairs_are_all_ordered_pairs_document_by_document(tiny_bert_dir):
    model, batch = make(tiny_bert_dir), inputs()
    with torch.no_grad():
        output = model(**batch)
    assert torch.equal(output.pairs, all_pairs(torch.tensor([4, 2, 3])))
    assert output.logits.shape == (12 + 2 + 6, 4)
    assert output.loss is None and output.losses is None and output.pair_embeddings is None


def test_a_pair_is_scored_the_same_whatever_else_is_asked_for(tiny_bert_dir):
    model, batch = make(tiny_bert_dir), inputs()
    with torch.no_grad():
        full = model(**batch)
        rows = {tuple(pair): logits for pair, logits in zip(full.pairs.tolist(), full.logits, strict=True)}
        for chosen in ([[2, 1, 0], [0, 3, 1], [0, 1, 3], [1, 0, 1]], [[1, 1, 0]], [[0, 0, 1], [0, 0, 1]]):
            output = model(**batch, pairs=torch.tensor(chosen))
            assert output.pairs.tolist() == chosen
            for pair, logits in zip(chosen, output.logits, strict=True):
                torch.testing.assert_close(logits, rows[tuple(pair)], atol=1e-5, rtol=0)


def test_documents_do_not_depend_on_their_neighbours(tiny_encoder_dir):
    # Lengths on both sides of the window, so that windows, padding and entity tables all differ.
    model = make(tiny_encoder_dir, window_size=24, window_overlap=6)
    batch = inputs((5, 2, 3), (60, 11, 24))
    with torch.no_grad():
        together = model(**batch)
        for row, length in enumerate((60, 11, 24)):
            mentions = batch["mentions"][batch["mentions"][:, 0] == row].clone()
            mentions[:, 0] = 0
            alone = model(
                batch["input_ids"][row : row + 1, :length],
                batch["attention_mask"][row : row + 1, :length],
                mentions,
                num_entities=batch["num_entities"][row : row + 1],
            )
            torch.testing.assert_close(
                together.logits[together.pairs[:, 0] == row], alone.logits, atol=2e-5, rtol=1e-4
            )


@pytest.mark.parametrize("counts", [(0,), (1,), (0, 0), (0, 3), (2, 0, 1)])
def test_documents_with_few_or_no_entities(tiny_bert_dir, counts):
    model = make(tiny_bert_dir, use_entity_types=True, entity_types=TYPES).train()
    batch = inputs(counts, (10, 14, 12)[: len(counts)])
    pairs = all_pairs(torch.tensor(counts))
    output = model(**batch, labels=torch.zeros(len(pairs), 4))
    assert output.logits.shape == (len(pairs), 4) and output.pairs.tolist() == pairs.tolist()
    output.loss.backward()
    assert torch.isfinite(output.loss)
    for parameter in model.parameters():
        assert parameter.grad is None or torch.isfinite(parameter.grad).all()
    if not len(pairs):
        assert output.loss.item() == 0.0


def test_eighty_entities_in_a_long_document(tiny_bert_dir):
    model = make(tiny_bert_dir)
    batch = inputs((80,), (700,))
    with torch.no_grad():
        output = model(**batch)
    assert output.logits.shape == (80 * 79, 4) and torch.isfinite(output.logits).all()


def test_nothing_but_tokens_is_needed(tiny_bert_dir):
    model = make(tiny_bert_dir)
    ids = torch.randint(5, 60, (2, 9))
    assert model(ids).logits.shape == (0, 4)
    output = model(ids, mentions=torch.tensor([[0, 0, 1], [0, 2, 4], [1, 1, 3]]))
    assert output.pairs.tolist() == all_pairs(torch.tensor([3, 2])).tolist()
    masked = model(ids, torch.ones_like(ids), torch.tensor([[0, 0, 1], [0, 2, 4], [1, 1, 3]]))
    assert torch.equal(output.logits, masked.logits)


def test_mentions_beyond_the_document_are_ignored(tiny_bert_dir):
    model, batch = make(tiny_bert_dir), inputs()
    beyond = torch.tensor([[0, 0, 30], [0, 3, 500], [1, 1, 12], [1, 0, 29]])
    with torch.no_grad():
        expected = model(**batch).logits
        batch["mentions"] = torch.cat([beyond, batch["mentions"]])
        assert torch.equal(model(**batch).logits, expected)


def test_entities_that_are_not_there_are_refused(tiny_bert_dir):
    model, batch = make(tiny_bert_dir), inputs()
    for wrong in ([1, 2, 3], [3, 0, 1], [0, -1, 1], [-1, 0, 1]):
        mentions = torch.cat([batch["mentions"], torch.tensor([wrong])])
        with pytest.raises(ValueError, match=rf"mentions\[{len(mentions) - 1}\] is \[{wrong[0]}, {wrong[1]}\]"):
            model(**{**batch, "mentions": mentions})
    with pytest.raises(ValueError, match=r"pairs\[1\] is \[1, 0, 2\].*\[4, 2, 3\] entities"):
        model(**batch, pairs=torch.tensor([[0, 0, 3], [1, 0, 2]]))
    with pytest.raises(ValueError, match=r"entity_types has shape \(3, 3\); the batch needs \(3, 4\)"):
        make(tiny_bert_dir, use_entity_types=True)(**batch, entity_types=torch.zeros(3, 3).long())


def test_index_and_mask_dtypes_do_not_matter(tiny_bert_dir):
    model, batch = make(tiny_bert_dir, window_size=16, use_entity_types=True, entity_types=TYPES), inputs()
    batch["pairs"] = torch.tensor([[0, 1, 2], [2, 1, 0]])
    batch["entity_types"] = torch.ones(3, 4).long()
    with torch.no_grad():
        expected = model(**batch).logits
        assert torch.equal(model(**{key: value.int() for key, value in batch.items()}).logits, expected)
        for dtype in (torch.bool, torch.float32):
            got = model(**{**batch, "attention_mask": batch["attention_mask"].to(dtype)}).logits
            torch.testing.assert_close(got, expected)


def test_outputs_on_request(tiny_bert_dir):
    model, batch = make(tiny_bert_dir), inputs()
    with torch.no_grad():
        output = model(**batch, output_pair_embeddings=True, output_entity_embeddings=True)
        assert output.pair_embeddings.shape == (20, 32 * 8) and output.entity_embeddings.shape == (3, 4, 32)
        rebuilt = nn.functional.linear(
            output.pair_embeddings, model.head.classifier.weight, model.head.classifier.bias
        )
        torch.testing.assert_close(rebuilt, output.logits, atol=1e-5, rtol=1e-5)
        logits, pairs, *_ = model(**batch, return_dict=False)
    assert torch.equal(logits, output.logits) and torch.equal(pairs, output.pairs)


def test_nan_weights_show_in_the_logits(tiny_bert_dir):
    for name in ("docre.encoder.encoder.layer.1.attention.self.key.bias", "head.tail_projection.weight"):
        model = make(tiny_bert_dir)
        dict(model.named_parameters())[name].data.view(-1)[0] = math.nan
        assert model(**inputs()).logits.isnan().any(1).all(), name


# ---------------------------------------------------------------------------------------------------------------------
# Entity types
# ---------------------------------------------------------------------------------------------------------------------


def test_types_change_logits_only_where_the_model_has_them(tiny_bert_dir):
    batch, types = inputs(), torch.tensor([[1, 2, 1, 0], [1, 1, 0, 0], [2, 2, 2, 0]])
    without = make(tiny_bert_dir, entity_types=TYPES)
    assert without.type_pair_bias is None and without.docre.type_embeddings is None
    assert not [name for name, _ in without.named_parameters() if "type_pair" in name or "docre.type_" in name]
    model = make(tiny_bert_dir, entity_types=TYPES, use_entity_types=True)
    with torch.no_grad():
        assert torch.equal(without(**batch).logits, without(**batch, entity_types=types).logits)
        untyped = model(**batch).logits
        typed = model(**batch, entity_types=types)
        assert torch.equal(untyped, model(**batch, entity_types=torch.zeros(3, 4).long()).logits)
        assert (typed.logits - untyped).abs().amax(1).min() > 1e-3
        # By loops: the embedding enters the entity, the bias is that of the ordered pair of types.
        states = model.docre(**batch)
        plain = states.entity_embeddings - model.docre.type_embeddings.weight[0]
        embeddings = plain + model.docre.type_embeddings.weight[types]
        factors = model.head.pair_embeddings(
            states.last_hidden_state, embeddings, states.entity_attention, states.num_entities, typed.pairs
        )
        expected = model.head.classify(factors)
        for row, (document, head, tail) in enumerate(typed.pairs.tolist()):
            pair = int(types[document, head]) * 3 + int(types[document, tail])
            expected[row] += model.type_pair_bias.weight[pair]
    torch.testing.assert_close(typed.logits, expected, atol=1e-5, rtol=1e-5)


def test_type_dropout_hides_all_types_of_a_document_in_training_only(tiny_bert_dir):
    types = torch.tensor([[1, 2, 1, 2], [1, 1, 0, 0], [2, 2, 2, 0]])
    batch = {**inputs(), "entity_types": types}
    model = make(tiny_bert_dir, entity_types=TYPES, use_entity_types=True, entity_type_dropout=0.5)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    with torch.no_grad():
        typed = model(**batch).logits
        untyped = model(**{**batch, "entity_types": None}).logits
        again = model(**batch).logits
        assert torch.equal(typed, again), "dropped outside of training"
        model.train()
        seen = set()
        for seed in range(20):
            torch.manual_seed(seed)
            logits = model(**batch).logits
            rows = all_pairs(batch["num_entities"])[:, 0]
            pattern = []
            for document in range(3):
                here = rows == document
                hidden = torch.allclose(logits[here], untyped[here], atol=1e-5)
                assert hidden or torch.allclose(logits[here], typed[here], atol=1e-5)
                pattern.append(hidden)
            seen.add(tuple(pattern))
    assert len(seen) > 3, "documents are not drawn one by one"


@pytest.mark.parametrize(
    ("settings", "training", "draws"),
    [
        ({"use_entity_types": True, "entity_type_dropout": 0.5}, True, True),
        ({"use_entity_types": True, "entity_type_dropout": 0.5}, False, False),
        ({"use_entity_types": True, "entity_type_dropout": 0.0}, True, False),
        ({"use_entity_types": False, "entity_type_dropout": 0.5}, True, False),
        ({"marker_style": "typed", "entity_type_dropout": 0.5}, True, False),
    ],
)
def test_what_is_off_draws_nothing(tiny_bert_dir, settings, training, draws):
    model = make(tiny_bert_dir, entity_types=TYPES, **settings).train(training)
    model.config.encoder.attention_probs_dropout_prob = 0.0
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if hasattr(module, "dropout_prob"):
            module.dropout_prob = 0.0
    state = torch.get_rng_state()
    model(**inputs(), entity_types=torch.ones(3, 4).long())
    assert torch.equal(torch.get_rng_state(), state) != draws


# ---------------------------------------------------------------------------------------------------------------------
# Training
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "arguments", "function"),
    [
        ("atl", {}, losses.adaptive_thresholding_loss),
        ("pmt", {"entropy": False}, losses.pairwise_moving_threshold_loss),
        ("pmt", {}, losses.pairwise_moving_threshold_loss),
        ("bce", {}, losses.binary_cross_entropy_loss),
    ],
)
def test_loss_is_that_of_the_config(tiny_bert_dir, name, arguments, function):
    model, batch = make(tiny_bert_dir, loss=name, loss_arguments=arguments), inputs()
    labels = labels_for(all_pairs(batch["num_entities"]))
    before = labels.clone()
    for dtype in (torch.float32, torch.int8, torch.bool):
        output = model(**batch, labels=labels.to(dtype))
        expected = function(output.logits, labels, **arguments)
        torch.testing.assert_close(output.loss, expected)
        assert list(output.losses) == [name]
        torch.testing.assert_close(output.losses[name], expected)
    assert torch.equal(labels, before)
    scaled = model(**batch, labels=labels, num_items_in_batch=50)
    torch.testing.assert_close(scaled.loss, expected * 20 / 50)
    tensor = model(**batch, labels=labels, num_items_in_batch=torch.tensor(50))
    torch.testing.assert_close(tensor.loss, expected * 20 / 50)


def test_accumulated_gradients_are_those_of_one_batch(tiny_bert_dir):
    model, batch = make(tiny_bert_dir), inputs()
    pairs = all_pairs(batch["num_entities"])
    labels = labels_for(pairs)
    model(**batch, labels=labels, num_items_in_batch=len(pairs)).loss.backward()
    expected = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    for row in range(3):
        mentions = batch["mentions"][batch["mentions"][:, 0] == row].clone()
        mentions[:, 0] = 0
        part = {key: batch[key][row : row + 1] for key in ("input_ids", "attention_mask", "num_entities")}
        model(
            **part, mentions=mentions, labels=labels[pairs[:, 0] == row], num_items_in_batch=len(pairs)
        ).loss.backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], atol=1e-5, rtol=1e-3, msg=name)


def test_labels_of_other_pairs_are_refused(tiny_bert_dir):
    with pytest.raises(ValueError, match="labels"):
        make(tiny_bert_dir)(**inputs(), labels=torch.zeros(5, 4))


def test_every_parameter_learns_and_the_loss_falls(tiny_encoder_dir):
    torch.manual_seed(0)
    model = DocREForRelationExtraction.from_encoder(
        tiny_encoder_dir, relations=RELATIONS, use_entity_types=True, entity_types=TYPES, **SMALL
    ).train()
    batch = {**inputs(), "entity_types": torch.randint(0, 3, (3, 4))}
    labels = labels_for(all_pairs(batch["num_entities"]))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    values = []
    for step in range(12):
        loss = model(**batch, labels=labels).loss
        loss.backward()
        if step == 0:
            unused = [name for name, parameter in model.named_parameters() if parameter.grad is None]
            assert not unused, "DistributedDataParallel stops at parameters without gradient"
        optimizer.step()
        optimizer.zero_grad()
        values.append(loss.item())
    assert values[-1] < 0.7 * values[0]


def test_training_under_bfloat16_autocast_follows_full_precision(tiny_bert_dir):
    model, batch = make(tiny_bert_dir), inputs()
    labels = labels_for(all_pairs(batch["num_entities"]))
    gradients = []
    for enabled in (False, True):
        model.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            loss = model(**batch, labels=labels).loss
        assert loss.dtype == torch.float32
        loss.backward()
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]))
        assert gradients[-1].dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(*gradients, dim=0) > 0.98


TINY = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}


@pytest.mark.parametrize(
    ("encoder", "limit"),
    [
        (transformers.BertConfig(**TINY, max_position_embeddings=64), 64),
        (transformers.RobertaConfig(**TINY, max_position_embeddings=64, pad_token_id=1), 62),
        (transformers.DistilBertConfig(dim=32, n_heads=2, n_layers=1, hidden_dim=32, max_position_embeddings=64), 64),
        (transformers.RoFormerConfig(**TINY, max_position_embeddings=64), 64),
        (transformers.IBertConfig(**TINY, max_position_embeddings=64, pad_token_id=1), 62),
    ],
    ids=lambda value: getattr(value, "model_type", value),
)
def test_windows_end_where_the_positions_do(encoder, limit):
    config = DocREConfig(encoder_config=encoder, relations=["P1"], **SMALL, window_size=limit + 1)
    with pytest.raises(ValueError, match=rf"window_size={limit + 1} is more than the {limit} positions"):
        DocREForRelationExtraction(config)
    config.window_size = limit
    model = DocREForRelationExtraction(config)
    mentions = torch.tensor([[0, 0, 1], [0, 1, limit - 2]])
    assert model(torch.full((1, limit), 5), mentions=mentions).logits.isfinite().all()


@pytest.mark.parametrize("family", ["modernbert", "deberta-v2"])
def test_encoders_of_relative_positions_have_windows_of_any_size(tiny_encoder, family):
    model = make(tiny_encoder(family))
    settings = {"window_size": 4 * model.config.window_size}
    if family == "deberta-v2":
        model.config.encoder.position_biased_input = False
    model = DocREForRelationExtraction(DocREConfig(**{**model.config.to_diff_dict(), **settings}))
    batch = inputs((2,), (2 * model.config.encoder.max_position_embeddings,))
    assert model(**batch).logits.isfinite().all()


@pytest.mark.parametrize("family", ["bert", "modernbert", "deberta-v2"])
def test_activation_checkpointing_gives_the_same_gradients(tiny_encoder, family):
    model = make(tiny_encoder(family), window_size=16, window_overlap=4)
    batch = inputs()
    labels = labels_for(all_pairs(batch["num_entities"]))
    gradients = []
    for turn in range(2):
        if turn:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)
                model.gradient_checkpointing_enable()
            assert any(getattr(module, "gradient_checkpointing", False) for module in model.docre.encoder.modules())
        model.train()
        model.config.encoder.attention_probs_dropout_prob = 0.0
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
            for name in ("dropout_prob", "attention_dropout"):
                if hasattr(module, name):
                    setattr(module, name, 0.0)
        model.zero_grad()
        model(**batch, labels=labels).loss.backward()
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]))
    torch.testing.assert_close(*gradients, atol=1e-5, rtol=1e-4)


# ---------------------------------------------------------------------------------------------------------------------
# What the Hugging Face stack does to models
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["bert", "roberta", "modernbert", "deberta-v2"])
def test_attention_implementations_agree(tiny_encoder, tmp_path, family):
    model, batch = make(tiny_encoder(family)), inputs()
    model.save_pretrained(tmp_path)
    with torch.no_grad():
        expected = model(**batch).logits
        eager = DocREForRelationExtraction.from_pretrained(tmp_path, attn_implementation="eager")
        torch.testing.assert_close(eager(**batch).logits, expected, atol=1e-4, rtol=1e-4)
        assert eager.config.encoder._attn_implementation == "eager"
        if family != "deberta-v2":
            assert model.config.encoder._attn_implementation == "sdpa"
            model.set_attn_implementation("eager")
            assert model.config.encoder._attn_implementation == "eager"
            torch.testing.assert_close(model(**batch).logits, expected, atol=1e-4, rtol=1e-4)
            model.set_attn_implementation({"encoder_config": "sdpa"})
            assert model.docre.encoder.config._attn_implementation == "sdpa"
            torch.testing.assert_close(model(**batch).logits, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", ["bert", "deberta-v2"])
def test_a_copy_lives_on_its_own(tiny_encoder, family):
    model, batch = make(tiny_encoder(family)), inputs()
    expected = model(**batch).logits
    duplicate = copy.deepcopy(model)
    with torch.no_grad():
        torch.testing.assert_close(duplicate(**batch).logits, expected)
        for parameter in model.parameters():
            parameter.zero_()
        model(**batch)
        torch.testing.assert_close(duplicate(**batch).logits, expected)
        assert duplicate.docre.attention_rows is not model.docre.attention_rows


@pytest.mark.slow
def test_torch_compile_traces_the_model(tiny_bert_dir):
    model, batch = make(tiny_bert_dir), inputs()
    batch["pairs"] = all_pairs(batch["num_entities"])
    with torch.no_grad():
        expected = model(**batch).logits
        compiled = torch.compile(model, backend="eager")
        torch.testing.assert_close(compiled(**batch).logits, expected, atol=1e-5, rtol=1e-5)


def test_flex_attention_is_refused(tiny_bert_dir, tmp_path):
    make(tiny_bert_dir).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="flex"):
        DocREForRelationExtraction.from_pretrained(tmp_path, attn_implementation="flex_attention")


def test_a_model_without_a_tokenizer_loads(tiny_bert_dir, tmp_path):
    make(tiny_bert_dir).save_pretrained(tmp_path)
    assert DocREForRelationExtraction.from_pretrained(tmp_path).config.relations == list(RELATIONS)
    with pytest.raises(OSError, match=r"has no tokenizer that loads.*DocREProcessor\.from_encoder"):
        DocREProcessor.from_pretrained(tmp_path)
    shutil.copytree(tiny_bert_dir, tmp_path / "copy")
    with pytest.raises(ValueError, match=r"'bert' checkpoint"):
        DocREProcessor.from_pretrained(tmp_path / "copy")


def test_trainer_must_not_divide_the_loss_again():
    assert DocREForRelationExtraction.accepts_loss_kwargs is True


def test_types_do_not_reach_entities_that_were_not_read(tiny_bert_dir):
    model = make(tiny_bert_dir, use_entity_types=True, entity_types=["PER"]).eval()
    input_ids = torch.tensor([[2, 7, 8, 9, 3]])
    mentions = torch.tensor([[0, 0, 1], [0, 1, 9]])
    output = model(input_ids, mentions=mentions, entity_types=torch.tensor([[1, 1]]), output_entity_embeddings=True)
    assert output.entities_read.tolist() == [[True, False]]
    assert output.entity_embeddings[0, 0].abs().sum() > 0
    assert output.entity_embeddings[0, 1].abs().sum() == 0


def test_marker_tokens_need_the_tokenizer(tiny_bert_dir):
    encoder = transformers.AutoModel.from_pretrained(tiny_bert_dir)
    with pytest.raises(ValueError, match="pass the encoder's tokenizer too"):
        DocREForRelationExtraction.from_encoder(encoder, relations=RELATIONS, marker_style="tags", **SMALL)
