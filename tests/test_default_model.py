from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from transformers import pipeline

from modeling_docre import DEFAULT_MODEL, DocREPipeline, Document
from modeling_docre.data_files import iter_documents
from modeling_docre.metrics.docred.scoring import score

pytestmark = pytest.mark.skipif(not DEFAULT_MODEL.is_dir(), reason=f"the embedded model is absent: {DEFAULT_MODEL}")

# What everybody would read out of the example document.
FACTS = {
    ("Marta Oliveira", "date of birth", "14 May 1961"),
    ("Marta Oliveira", "place of birth", "Porto"),
    ("Lisbon", "country", "Portugal"),
}


@pytest.fixture(scope="module")
def extract() -> DocREPipeline:
    return pipeline("docre", device="cpu")


@pytest.fixture(scope="module")
def harbour(repository: Path) -> Path:
    return repository / "examples" / "documents" / "harbour.txt"


def test_no_model_is_the_embedded_one_in_float32_on_a_cpu(extract):
    assert Path(extract.model.name_or_path) == DEFAULT_MODEL
    assert extract.model.dtype == torch.float32
    assert not extract.model.training


def test_the_example_document_gives_its_obvious_facts(extract, harbour):
    (document,) = iter_documents(harbour)
    relations = extract(document)["relations"]
    found = {(item["head_name"], item["label"], item["tail_name"]) for item in relations}
    assert found >= FACTS
    assert 8 <= len(relations) <= 80
    assert all(item["head"] != item["tail"] for item in relations)
    best = extract(document, top_k=5)["relations"]
    assert [item["score"] > 0.9 for item in best] == [True] * 5


def test_entities_without_types_do_as_well(extract, harbour):
    (typed,) = iter_documents(harbour)
    untyped = Document.from_text(
        typed.text,
        [
            {"mentions": [{"start": mention.start, "end": mention.end} for mention in entity.mentions]}
            for entity in typed.entities
        ],
    )
    found = {(item["head_name"], item["label"], item["tail_name"]) for item in extract(untyped)["relations"]}
    assert ("Marta Oliveira", "place of birth", "Porto") in found
    assert 4 <= len(found) <= 120


def test_the_command_prints_the_example(docre, harbour, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    ran = docre("extract", harbour, "--device", "cpu")
    assert ran.code == 0, ran.err
    rows = {tuple(re.split(r"  +", line)[:3]) for line in ran.out.splitlines()[2:]}
    assert rows >= FACTS


def test_figures_on_documents_that_it_learned_from(extract, data_dir):
    rows = json.loads((data_dir / "re-docred" / "dev_revised.json").read_text(encoding="utf-8"))[:10]
    answers = extract([{key: row[key] for key in ("title", "sents", "vertexSet")} for row in rows])
    predictions = [
        {"title": row["title"], "h_idx": item["head"], "t_idx": item["tail"], "r": item["relation"]}
        for row, answer in zip(rows, answers, strict=True)
        for item in answer["relations"]
    ]
    assert score(predictions, rows)["f1"] > 0.6


def test_it_is_small_and_in_half_precision():
    files = [path for path in DEFAULT_MODEL.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 60e6
    with safe_open(DEFAULT_MODEL / "model.safetensors", framework="pt") as weights:
        kinds = {weights.get_slice(name).get_dtype() for name in weights.keys()}  # noqa: SIM118
    assert kinds == {"F16"}


def test_it_carries_nothing_of_the_machine_that_made_it():
    assert not list(DEFAULT_MODEL.rglob("*.py"))
    assert not [path.name for path in DEFAULT_MODEL.iterdir() if path.suffix in (".pt", ".pth", ".bin")]
    for path in DEFAULT_MODEL.glob("*.json"):
        content = path.read_text(encoding="utf-8")
        if path.name != "tokenizer.json":
            assert not re.search(r'"(/|[A-Z]:\\|~)', content), f"{path.name} names a path of one machine"
        assert "custom_pipelines" not in content
        assert "auto_map" not in content


def test_it_knows_the_relations_of_docred_by_words(extract):
    config = extract.model.config
    assert len(config.relations) == 96
    assert all(re.fullmatch(r"P\d+", relation) for relation in config.relations)
    assert set(config.relation_names) == set(config.relations)
    assert config.relation_label("P17") == "country"
    assert set(config.entity_types) == {"LOC", "MISC", "NUM", "ORG", "PER", "TIME"}
    assert config.max_length is None, "documents are read to their end"


def test_its_card_says_data_protocol_figures_limits_and_licence():
    card = (DEFAULT_MODEL / "README.md").read_text(encoding="utf-8")
    front = card.split("---\n")[1]
    assert re.search(r"^license: apache-2\.0$", front, re.MULTILINE)
    for word in ("Re-DocRED", "MiniLM", "F1", "threshold", "recipes/", "Limits"):
        assert word.casefold() in card.casefold(), f"the card says nothing about {word}"
