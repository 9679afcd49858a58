"""Stores of pair embeddings: what is in them, and when they are used again or refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from training_helpers import RELATIONS
from vaediff_helpers import COUNT, axial_model, stories

from modeling_docre import DocREForRelationExtraction, DocREProcessor, Document
from modeling_docre.output_files import DataFileError
from modeling_docre.pair_embeddings import PairEmbeddingStore, store_pair_embeddings


@pytest.fixture(scope="module", name="stories")
def all_stories() -> list[Document]:
    return stories()


@pytest.fixture(scope="module")
def trained(tiny_bert_dir):
    return axial_model(tiny_bert_dir)


@pytest.fixture
def store(trained, stories, tmp_path) -> PairEmbeddingStore:
    return store_pair_embeddings(*trained, stories, tmp_path / "store", batch_size=3)


def test_embeddings_are_those_of_each_pair_with_a_relation(trained, stories, store):
    model, processor = trained
    assert len(store) == COUNT
    seen = 0
    for number, story in enumerate(stories):
        found = store[number]
        batch = processor.collate(processor([story]))
        labels = batch.pop("labels")
        with torch.no_grad():
            output = model.eval()(**batch, output_pair_embeddings=True)
        wanted: dict[tuple[int, int], set[str]] = {}
        for relation in story.relations:
            wanted.setdefault((relation.head, relation.tail), set()).add(relation.relation)
        rows = [row for row, (_, head, tail) in enumerate(output.pairs.tolist()) if (head, tail) in wanted]
        assert len(rows) == len(wanted) == len(found["embeddings"])
        torch.testing.assert_close(found["embeddings"], output.pair_embeddings[rows], atol=1e-5, rtol=1e-5)
        assert torch.equal(found["labels"], labels[rows].float())
        seen += len(rows)
    assert store.embeddings.shape == (seen, 32) and store.labels.shape == (seen, len(RELATIONS) + 1) and seen > COUNT
    assert len(store[3]["embeddings"]) == 0
    with pytest.raises(IndexError):
        store[COUNT]


def test_what_is_done_is_not_done_again(trained, stories, store, monkeypatch):
    def fail(*_, **__):
        raise AssertionError("computed again")

    monkeypatch.setattr(DocREForRelationExtraction, "forward", fail)
    again = store_pair_embeddings(*trained, stories, store.folder)
    assert np.array_equal(again.embeddings, store.embeddings)


def test_another_model_or_other_documents_are_refused(trained, stories, store):
    model, processor = trained
    fewer = [*stories[:-1], replace(stories[-1], relations=stories[-1].relations[1:])]
    with pytest.raises(DataFileError, match="of another model or of other documents"):
        store_pair_embeddings(model, processor, fewer, store.folder)
    with torch.no_grad():
        model.head.classifier.bias += 1
    try:
        with pytest.raises(DataFileError, match="of another model"):
            store_pair_embeddings(model, processor, stories, store.folder)
    finally:
        with torch.no_grad():
            model.head.classifier.bias -= 1


def test_a_model_that_was_saved_is_the_same(trained, stories, store, tmp_path):
    model, processor = trained
    model.save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    again = DocREForRelationExtraction.from_pretrained(tmp_path / "model")
    processor = DocREProcessor.from_pretrained(tmp_path / "model")
    assert len(store_pair_embeddings(again, processor, stories, store.folder)) == COUNT


def test_other_words_and_other_candidates_are_other_documents(trained, stories, store):
    first = stories[0]
    for other in (replace(first, text=f"Zoe{first.text[3:]}"), replace(first, pairs=((0, 1),))):
        with pytest.raises(DataFileError, match="of other documents"):
            store_pair_embeddings(*trained, [other, *stories[1:]], store.folder)


def test_pairs_that_were_not_read_are_counted_and_left_out(trained, stories, tmp_path, caplog):
    model, _ = trained
    model.config.max_length = 12
    try:
        short = DocREProcessor(trained[1].tokenizer, model.config)
        store = store_pair_embeddings(model, short, stories, tmp_path / "short")
        expected = 0
        for story in stories:
            (features,) = short([story])
            last = len(features["input_ids"]) - 1
            read = {entity for entity, token in features["mentions"] if token < last}
            expected += len({(r.head, r.tail) for r in story.relations if {r.head, r.tail} <= read})
    finally:
        model.config.max_length = None
    assert store.manifest["pairs"] == expected < sum(len(story.relations) for story in stories)
    assert sum(store.manifest["left_out"].values()) == sum(len(story.relations) for story in stories) - expected
    # Nothing is a vector of an entity that nobody saw.
    assert (np.abs(store.embeddings).sum(1) > 0).all()


def test_an_empty_folder_is_written_to(trained, stories, tmp_path):
    assert len(store_pair_embeddings(*trained, stories, tmp_path)) == COUNT


def test_dropout_is_off_and_the_model_stays_as_it_was(trained, stories, store, tmp_path):
    model, processor = trained
    model.train()
    again = store_pair_embeddings(model, processor, stories, tmp_path / "again", batch_size=3)
    assert model.training
    model.eval()
    assert np.array_equal(again.embeddings, store.embeddings)


def test_what_was_interrupted_leaves_no_store(trained, stories, tmp_path, monkeypatch):
    model, processor = trained
    original, calls = processor.collate, []

    def collate(features):
        if calls:
            raise KeyboardInterrupt
        calls.append(features)
        return original(features)

    monkeypatch.setattr(processor, "collate", collate)
    with pytest.raises(KeyboardInterrupt):
        store_pair_embeddings(model, processor, stories, tmp_path / "store", batch_size=3)
    assert not (tmp_path / "store").exists()
    monkeypatch.undo()
    assert len(store_pair_embeddings(model, processor, stories, tmp_path / "store", batch_size=3)) == COUNT
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_wrong_input(trained, stories, tiny_bert_dir, tmp_path):
    model, processor = trained
    with pytest.raises(ValueError, match=r"`documents\[1\]`.* has no labels"):
        store_pair_embeddings(model, processor, [stories[0], replace(stories[1], relations=None)], tmp_path / "store")
    flat = DocREForRelationExtraction.from_encoder(tiny_bert_dir, "atlop", RELATIONS, emb_size=16, block_size=4)
    with pytest.raises(ValueError, match=r"head='bilinear'.*take a model of a method with head=\"axial\""):
        store_pair_embeddings(flat, processor, stories, tmp_path / "store")
    with pytest.raises(DataFileError, match="holds no pair embeddings"):
        PairEmbeddingStore(tmp_path)


def test_damaged_stores(store):
    ends = (store.folder / "ends.npy").read_bytes()
    for content in (ends[:20], b""):
        (store.folder / "ends.npy").write_bytes(content)
        with pytest.raises(DataFileError, match=r"ends\.npy is damaged"):
            PairEmbeddingStore(store.folder)
    (store.folder / "ends.npy").write_bytes(ends)
    (store.folder / "labels.u8").write_bytes(b"0")
    with pytest.raises(DataFileError, match=r"labels\.u8 has 1 bytes, and had .*the store is damaged"):
        PairEmbeddingStore(store.folder)
    (store.folder / "labels.u8").unlink()
    with pytest.raises(DataFileError, match=r"labels\.u8 is missing"):
        PairEmbeddingStore(store.folder)
    (store.folder / "pair_embeddings.json").write_text("{")
    with pytest.raises(DataFileError, match="is damaged"):
        PairEmbeddingStore(store.folder)


def test_documents_without_any_relation(trained, stories, tmp_path):
    nothing = [replace(story, relations=()) for story in stories[:2]]
    store = store_pair_embeddings(*trained, nothing, tmp_path / "store")
    assert len(store) == 2 and store[1]["embeddings"].shape == (0, 32) and store.labels.shape == (0, 4)
