from __future__ import annotations

import json
import re

import pytest
import torch
import transformers

from modeling_docre import METHODS, DocREConfig, DocREForRelationExtraction
from modeling_docre.configuration_docre import encoder_window
from modeling_docre.methods import find_method


@pytest.mark.parametrize("method", METHODS, ids=lambda row: row.name)
def test_a_method_fills_its_columns_and_each_can_be_overridden(method):
    config = DocREConfig.for_method(method.name, ["P1", "P2"])
    assert (config.method, config.head, config.loss, config.decision) == method[:4]
    assert DocREConfig.for_method(method.name, ["P1"], loss="pmt", emb_size=64).loss == "pmt"
    assert find_method(method.name) is method


def test_classes_follow_the_order_of_the_relations():
    config = DocREConfig.for_method("atlop", {"P17": "country", "P6": "head of government"})
    assert config.relations == ["P17", "P6"]
    assert config.num_classes == 3 == config.num_labels
    assert config.id2label == {0: "NA", 1: "P17", 2: "P6"}
    assert config.label2id == {"NA": 0, "P17": 1, "P6": 2}
    assert [config.class_of(name) for name in config.relations] == [1, 2]
    assert config.relation_label("P17") == "country"
    assert DocREConfig(relations=["P5"]).relation_label("P5") == "P5"


def test_unknown_relations_come_with_a_suggestion():
    config = DocREConfig.for_method("atlop", {"P17": "country", "P131": "located in"})
    with pytest.raises(ValueError, match=r"'contry'.*did you mean 'P17' \(country\)"):
        config.class_of("contry")
    with pytest.raises(ValueError, match=r"did you mean 'P131' \(located in\)"):
        config.class_of("P1311")
    with pytest.raises(ValueError, match=r"it knows 2: 'P17' \(country\), 'P131' \(located in\)\.$"):
        config.class_of("zzzzzz")
    with pytest.raises(ValueError, match="'NA' is not a relation"):
        config.class_of("NA")


WORDS = {
    "P17": "country",
    "P19": "place of birth",
    "P1365": "replaces",
    "P569": "date of birth",
    "P20": "place of death",
    "P131": "located in the administrative territorial entity",
    "P108": "employer",
    "P6": "head of government",
}


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("birthplace", ["P19", "P569"]),
        ("birth place", ["P19"]),
        ("Birth", ["P19", "P569"]),
        ("born in", ["P19", "P569"]),
        ("died", ["P20"]),
        ("employed by", ["P108"]),
        ("head of goverment", ["P6"]),
        ("located in", ["P131"]),
        ("P191", ["P19"]),
        ("wife", []),
        ("P9999", []),
        ("the", []),
    ],
)
def test_suggestions_are_the_relations_that_share_words(name, meant):
    config = DocREConfig.for_method("atlop", WORDS)
    with pytest.raises(ValueError, match="is not a relation of this model") as raised:
        config.relation_id(name)
    said = str(raised.value)
    assert said.endswith("model.config.relation_names has all 8.")
    before, asked, after = said.partition("; did you mean ")
    assert re.findall(r"'(P\d+)' \(", after) == meant
    if not meant:
        assert not asked
        assert "it knows 8, such as 'P17' (country), 'P19' (place of birth), " in before


def test_relations_without_words_are_suggested_as_they_are():
    config = DocREConfig.for_method("atlop", ["born in", "studied at", "works for", "a", "b", "c"])
    with pytest.raises(ValueError, match=r"did you mean 'studied at'\? model\.config\.relations has all 6\.$"):
        config.relation_id("studied")


def test_a_relation_may_be_given_in_another_way_where_only_one_is_like_it():
    config = DocREConfig.for_method("atlop", {**WORDS, "p6": "Country", "P1": "replaces"})
    for name in ("P19", "p19", "place of birth", "Place of Birth", " place  of birth", "place_of_birth"):
        assert config.relation_id(name) == "P19"
    assert [config.relation_id(name) for name in ("P6", "p6", "country", "Country")] == ["P6", "p6", "P17", "p6"]
    for name, several in [
        ("COUNTRY", r"'P17' \(country\) or 'p6' \(Country\)"),
        ("replaces", r"'P1365' \(replaces\) or 'P1' \(replaces\)"),
    ]:
        with pytest.raises(ValueError, match=f"several relations: pass an id, {several}"):
            config.relation_id(name)


@pytest.mark.parametrize(
    "encoder",
    [
        transformers.BertConfig(hidden_size=32, num_attention_heads=4, vocab_size=77),
        transformers.DebertaV2Config(hidden_size=32, num_attention_heads=4, pos_att_type=["p2c"], position_buckets=7),
        transformers.ModernBertConfig(
            hidden_size=32, num_hidden_layers=2, layer_types=["sliding_attention", "full_attention"]
        ),
        transformers.DistilBertConfig(dim=32, n_heads=4),
    ],
    ids=lambda config: config.model_type,
)
def test_round_trip_through_the_file(tmp_path, encoder):
    config = DocREConfig(
        encoder_config=encoder,
        relations=["P17", "P6"],
        relation_names={"P17": "country"},
        entity_types=["PER", "LOC"],
        use_entity_types=True,
        entity_type_dropout=0.25,
        marker_style="typed",
        loss="pmt",
        loss_arguments={"entropy": False},
        emb_size=32,
        block_size=8,
        context_head_reduce="sum",
        context_eps=1e-10,
        max_relations_per_pair=None,
        threshold=0.3,
        pair_types=[("PER", "LOC")],
        max_length=300,
        window_size=100,
        window_mode="reference",
        window_overlap=17,
        end_tokens=2,
    )
    config.save_pretrained(tmp_path)
    loaded = DocREConfig.from_pretrained(tmp_path)
    assert type(loaded.encoder) is type(encoder)
    assert loaded.encoder.to_diff_dict() == config.encoder.to_diff_dict()
    assert loaded.get_text_config().hidden_size == 32
    written = {key: value for key, value in config.to_dict().items() if key != "encoder_config"}
    again = {key: value for key, value in loaded.to_dict().items() if key != "encoder_config"}
    assert json.loads(json.dumps(written)) == json.loads(json.dumps(again))
    assert loaded.id2label == {0: "NA", 1: "P17", 2: "P6"}
    assert transformers.AutoConfig.from_pretrained(tmp_path).relations == ["P17", "P6"]
    data = json.loads((tmp_path / "config.json").read_text())
    assert data["model_type"] == "docre" and data["encoder_config"]["model_type"] == encoder.model_type
    assert "auto_map" not in data and "custom_pipelines" not in data


def test_relations_alone_decide_the_labels(tmp_path):
    DocREConfig(relations=["A", "B"]).save_pretrained(tmp_path)
    loaded = DocREConfig.from_pretrained(tmp_path, relations=["C"])
    assert loaded.id2label == {0: "NA", 1: "C"} and loaded.num_classes == 2
    with pytest.raises(ValueError, match=r"threshold=7"):
        DocREConfig.from_pretrained(tmp_path, threshold=7.0)
    _, unused = DocREConfig.from_pretrained(tmp_path, threshold=0.7, nonsense=1, return_unused_kwargs=True)
    assert unused == {"nonsense": 1}


def test_two_configs_share_nothing():
    one, other = DocREConfig(), DocREConfig()
    one.loss_arguments["entropy"] = False
    one.relation_names["P1"] = "x"
    one.entity_types.append("PER")
    assert other.loss_arguments == {} and other.relation_names == {} and other.entity_types == []


@pytest.mark.parametrize(
    ("encoder", "window"),
    [
        (transformers.BertConfig(), 512),
        (transformers.RobertaConfig(max_position_embeddings=514, pad_token_id=1), 512),
        (transformers.XLMRobertaConfig(max_position_embeddings=514, pad_token_id=1), 512),
        (transformers.MPNetConfig(max_position_embeddings=514, pad_token_id=1), 512),
        (transformers.LongformerConfig(max_position_embeddings=4098, pad_token_id=1), 4096),
        (transformers.MarkupLMConfig(max_position_embeddings=514, pad_token_id=1), 512),
        (transformers.ModernBertConfig(), 8192),
        (transformers.XLNetConfig(), 512),
    ],
    ids=lambda value: getattr(value, "model_type", value),
)
def test_window_is_what_the_encoder_can_read(encoder, window):
    assert encoder_window(encoder) == window
    assert DocREConfig(encoder_config=encoder).window_size == window


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "atlopp"}, "method='atlopp' is not one of 'atlop'"),
        ({"head": "x"}, "head='x'"),
        ({"loss": "x"}, "loss='x'"),
        ({"decision": "x"}, "decision='x'"),
        ({"marker_style": "x"}, "marker_style='x'"),
        ({"window_mode": "x"}, "window_mode='x'"),
        ({"context_head_reduce": "max"}, "context_head_reduce='max'"),
        ({"era_copies": -1}, "era_copies=-1 is negative"),
        ({"era_copies": 1, "head": "unet"}, "one by one, and head='unet' .*: pass head=\"bilinear\", or era_copies=0"),
        ({"era_mask_probability": 1.1}, "era_mask_probability=1.1 is not a probability"),
        ({"era_relations": ["P2"], "relations": ["P1"]}, "era_relations has 'P2', which .* lacks.*P1"),
        ({"relations": ["P1", "P1"]}, "twice"),
        ({"relations": ["NA"]}, "threshold class"),
        ({"emb_size": 100, "block_size": 64}, "emb_size=100 is not a multiple of block_size=64"),
        ({"block_size": 0}, "block_size=0"),
        ({"threshold": 1.0}, r"threshold=1.0"),
        ({"entity_type_dropout": 1.5}, "entity_type_dropout=1.5"),
        ({"window_size": 2}, "window_size=2 leaves no room"),
        ({"window_overlap": -1}, "window_overlap=-1"),
        ({"max_length": 2}, "max_length=2"),
        ({"max_relations_per_pair": 0}, "max_relations_per_pair=0"),
        ({"context_eps": 0.0}, "context_eps"),
        ({"context_eps": 1e-50}, "above 1e-37"),
        ({"context_eps": float("inf")}, "above 1e-37"),
        ({"start_tokens": -1}, "counts of tokens"),
        ({"pair_types": [["PER"]]}, r"pair_types has \['PER'\]"),
        ({"pair_types": ["PER"]}, "pair_types has 'PER'"),
    ],
)
def test_settings_out_of_range_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        DocREConfig(**settings)


def test_errors_of_for_method():
    with pytest.raises(ValueError, match=r"There is no method 'gpt'\. Known names: atlop"):
        DocREConfig.for_method("gpt")
    with pytest.raises(ValueError, match=r"pass a list, relations=\['P17'\]"):
        DocREConfig.for_method("atlop", "P17")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"emb_sise": 64}, r"'emb_sise' is not a setting of DocREConfig. Did you mean 'emb_size'\?"),
        ({"entity_type": ["PER"]}, r"Did you mean 'entity_types'\?"),
        ({"zzzzzzzz": None}, r"'zzzzzzzz' is not a setting of DocREConfig. help\(DocREConfig\) lists them"),
    ],
)
def test_settings_that_there_are_not_come_with_a_suggestion(tiny_bert_dir, settings, message):
    with pytest.raises(ValueError, match=message):
        DocREConfig.for_method("atlop", ["P17"], **settings)
    with pytest.raises(ValueError, match=message):
        DocREForRelationExtraction.from_encoder(tiny_bert_dir, relations=["P17"], **settings)


def test_settings_of_every_config_are_taken():
    config = DocREConfig.for_method(
        "atlop", ["P17"], attn_implementation="eager", dtype="float16", architectures=["Mine"], name_or_path="here"
    )
    assert (config._attn_implementation, config.dtype, config.name_or_path) == ("eager", torch.float16, "here")
    assert config.architectures == ["Mine"]


def test_the_file_of_another_version_is_read(tmp_path):
    DocREConfig(relations=["P17"]).save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"emb_sise": 64, "of_a_later_version": {"a": 1}}))
    for read in (DocREConfig.from_pretrained, transformers.AutoConfig.from_pretrained):
        config = read(tmp_path)
        assert config.relations == ["P17"] and config.of_a_later_version == {"a": 1}
    assert DocREConfig.from_dict(config.to_dict()).relations == ["P17"]
    assert DocREConfig(of_a_later_version=2).of_a_later_version == 2
