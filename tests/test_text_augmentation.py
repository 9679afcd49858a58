"""Altered copies of training documents: what is altered, how often, and that a training reads others in each epoch."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from training_helpers import arguments, assert_close, fictional, make, parameters, trainer_for

from modeling_docre import DocREProcessor, Document
from modeling_docre.document_batches import DocumentBatchSampler
from modeling_docre.training_augmentation import alter_text

LONG = Document.from_docred(
    {
        "title": "Long",
        "sents": [["Ada", "and", "Bo", "Orle", *(f"w{number}" for number in range(996))] for _ in range(4)],
        "vertexSet": [
            [{"name": "Ada", "sent_id": number, "pos": [0, 1], "type": "PER"} for number in range(4)],
            [{"name": "Bo Orle", "sent_id": 2, "pos": [2, 4], "type": "PER"}],
        ],
        "labels": [{"h": 0, "t": 1, "r": "rules", "evidence": [2]}],
    }
)


def names(document: Document) -> list[list[tuple[int, list[str]]]]:
    """For each entity the sentence and the words of its mentions."""
    return [
        [(one.sentence, document.words[one.sentence][slice(*one.words)]) for one in entity.mentions]
        for entity in document.entities
    ]


@pytest.mark.parametrize("form", ["deletion", "mask"])
@pytest.mark.parametrize("probability", [0.1, 0.4])
def test_words_outside_of_mentions_are_altered_as_often_as_asked(form, probability):
    altered = alter_text(LONG, form, probability, np.random.default_rng(3))
    assert names(altered) == names(LONG)
    assert (altered.relations, altered.pairs, altered.title) == (LONG.relations, LONG.pairs, LONG.title)
    free = sum(map(len, LONG.words)) - 6
    if form == "deletion":
        lost = sum(map(len, LONG.words)) - sum(map(len, altered.words))
        for before, after in zip(LONG.words, altered.words, strict=True):
            # What is left is in its order.
            rest = iter(before)
            assert all(word in rest for word in after)
    else:
        pairs = [
            (a, b)
            for first, second in zip(LONG.words, altered.words, strict=True)
            for a, b in zip(first, second, strict=True)
        ]
        assert {b for a, b in pairs if a != b} == {"[MASK]"}
        lost = sum(a != b for a, b in pairs)
    assert abs(lost / free - probability) < 5 * math.sqrt(probability * (1 - probability) / free)


@given(
    number=st.integers(0, 8),
    form=st.sampled_from(["deletion", "mask"]),
    probability=st.floats(0.0, 1.0),
    seed=st.integers(0, 99),
)
def test_any_alteration_is_a_document_with_the_same_entities(number, form, probability, seed):
    document = replace(Document.from_dict(fictional(number)), pairs=((0, 1),), repairs=(("empty sentence", 1),))
    altered = alter_text(document, form, probability, np.random.default_rng(seed))
    assert names(altered) == names(document)
    assert altered.pairs == document.pairs and altered.repairs == document.repairs
    assert [[(m.name, m.type) for m in entity.mentions] for entity in altered.entities] == [
        [(m.name, m.type) for m in entity.mentions] for entity in document.entities
    ]
    if probability == 0.0:
        assert altered.words == document.words


def test_a_document_that_loses_all_words_is_one():
    plain = Document.from_text("Nobody is here.")
    assert alter_text(plain, "deletion", 1.0, np.random.default_rng(0)).words == [[]]
    assert alter_text(Document("", "", ()), "mask", 0.5, np.random.default_rng(0)).words == []


@pytest.mark.parametrize("family", ["bert", "roberta", "xlm-roberta", "deberta-v2"])
def test_a_masked_word_is_one_mask_token(tiny_encoder, family):
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_encoder(family))
    _, processor = make(tiny_encoder(family))
    document = Document.from_dict(fictional(2))
    masked = alter_text(document, "mask", 1.0, np.random.default_rng(0), mask_token=tokenizer.mask_token)
    features, before = processor([masked])[0], processor([document])[0]
    words = sum(map(len, document.words)) - sum(len(entity.mentions) for entity in document.entities)
    assert features["input_ids"].count(tokenizer.mask_token_id) == words
    for part in ("labels", "pairs", "num_entities"):
        assert features[part] == before[part]

    def opened(item):
        # The mention itself, from its marker to the next.
        return [item["input_ids"][token : token + 3] for _, token in item["mentions"]]

    assert opened(features) == opened(before)


# In training


def dataset_for(encoder, folder, **settings):
    return trainer_for(encoder, folder, 9, text_augmentation="deletion", **settings).train_dataset


def test_documents_with_a_rare_relation_are_copied(tiny_bert_dir, tmp_path):
    # Three of the stories hold the rarest relation, and with the next it is six.
    for limit, copies, expected in ((6, 1, [2, 5, 8]), (6, 2, [2, 5, 8] * 2), (7, 1, [1, 2, 4, 5, 7, 8]), (3, 1, [])):
        dataset = dataset_for(tiny_bert_dir, tmp_path, era_max_facts=limit, text_augmentation_copies=copies)
        assert len(dataset) == 9 + len(expected) and len(dataset.documents) == 9
        assert dataset.sources == [*dataset.documents, *(dataset.documents[index] for index in expected)]
    named = dataset_for(tiny_bert_dir, tmp_path, model_settings={"era_relations": ["rules"]})
    assert len(named) == 12
    assert len(trainer_for(tiny_bert_dir, tmp_path, 9).train_dataset) == 9


def test_each_epoch_reads_other_copies_and_the_same_documents(tiny_bert_dir, tmp_path):
    settings = {"era_max_facts": 7, "text_augmentation": "mask", "text_augmentation_probability": 0.5}
    trainer = trainer_for(tiny_bert_dir, tmp_path, 9, per_device_train_batch_size=4, **settings)
    loader, dataset = trainer.get_train_dataloader(), trainer.train_dataset
    read = []
    for epoch in (0, 1, 0):
        loader.set_epoch(epoch)
        indices = sorted(index for batch in loader for index in batch["document_index"].tolist())
        assert indices == [*range(9), *range(9 + 6 * epoch, 15 + 6 * epoch)]
        read.append([dataset[index]["input_ids"] for index in indices])
    assert read[0] == read[2] and read[0][:9] == read[1][:9]
    assert sum(first != second for first, second in zip(read[0][9:], read[1][9:], strict=True)) >= 5
    # A filler is one of them, and the seed of the order decides.
    assert dataset[-1 - 12]["input_ids"] == read[0][12]
    other = trainer_for(tiny_bert_dir, tmp_path, 9, seed=7, **settings).train_dataset
    assert [other[index]["input_ids"] for index in range(9, 15)] != read[0][9:]


@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("limit", [None, 9])
def test_the_sampler_renews_the_last_documents(world, limit):
    settings = {"pairs": [3] * 10, "max_pairs": limit, "epochs": 3, "world_size": world, "renewed": 4}
    samplers = [DocumentBatchSampler(10, 4, rank=rank, **settings) for rank in range(world)]
    for epoch in range(3):
        for sampler in samplers:
            sampler.set_epoch(epoch)
        seen = [index for sampler in samplers for batch in sampler for index in batch]
        assert sorted(index for index in seen if index >= 0) == [*range(6), *range(6 + 4 * epoch, 10 + 4 * epoch)]
        assert all(-1 - index in (*range(6), *range(6 + 4 * epoch, 10 + 4 * epoch)) for index in seen if index < 0)


def test_a_run_resumes_to_the_same_numbers(tiny_bert_dir, tmp_path):
    settings = {
        "era_max_facts": 7,
        "text_augmentation": "deletion",
        "text_augmentation_probability": 0.4,
        "dropout": True,
    }
    # Four steps an epoch: the checkpoint is inside of the second.
    straight = trainer_for(tiny_bert_dir, tmp_path, save_strategy="steps", save_steps=6, **settings)
    assert straight.train().global_step == 8
    resumed = trainer_for(tiny_bert_dir, tmp_path, dataloader_num_workers=1, **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-6"))
    assert_close(parameters(straight.model), parameters(resumed.model), 0.0)


def test_copies_are_no_documents_where_these_are_counted(tiny_bert_dir, tmp_path):
    settings = {"era_max_facts": 7, "text_augmentation": "deletion", "prior_bias": True, "num_train_epochs": 1}
    trainer = trainer_for(tiny_bert_dir, tmp_path, 9, **settings)
    plain = trainer_for(tiny_bert_dir, tmp_path, 9)
    trainer.set_prior_bias()
    plain.set_prior_bias()
    torch.testing.assert_close(trainer.model.head.classifier.bias, plain.model.head.classifier.bias, atol=0, rtol=0)
    trainer.train()
    assert trainer.train_dataset.left_out.keys() == set(range(9))
    trainer.create_model_card()
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "9 documents, 18 facts" in card and "| text_augmentation | deletion |" in card


def test_a_cache_of_frozen_layers_keeps_no_altered_copy(tiny_bert_dir, tmp_path):
    settings = {"freeze_layers": 1, "frozen_cache_dir": str(tmp_path / "cache"), "eval_strategy": "epoch"}
    altering = {"era_max_facts": 7, "text_augmentation": "deletion", "text_augmentation_probability": 0.5}
    trained = []
    for cache in (settings, {"freeze_layers": 1}):
        trainer = trainer_for(tiny_bert_dir, tmp_path / "run", 9, num_train_epochs=3, **cache, **altering)
        trainer.train()
        trained.append(parameters(trainer.model))
    assert_close(*trained, 1e-4)
    stored = sum(len(path.read_text().splitlines()) for path in (tmp_path / "cache").rglob("*.jsonl"))
    assert stored == 9


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"text_augmentation": "delete"}, "text_augmentation='delete' is not known: pass 'deletion', 'mask' or None"),
        ({"text_augmentation_probability": 1.0}, "text_augmentation_probability=1.0 .*between 0 and 1"),
        ({"text_augmentation_copies": 0}, "text_augmentation_copies=0.*1 copy or more"),
    ],
)
def test_settings_out_of_range(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        arguments(tmp_path, **settings)


def test_masking_without_a_mask_token_is_refused(tiny_bert_dir, tmp_path):
    model, _ = make(tiny_bert_dir)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_bert_dir)
    tokenizer.mask_token = None
    own = {"model": model, "processing_class": DocREProcessor(tokenizer, model.config)}
    with pytest.raises(ValueError, match=r"needs a mask token.*pass 'deletion', or set processor\.tokenizer"):
        trainer_for(tiny_bert_dir, tmp_path, trainer=own, text_augmentation="mask")
