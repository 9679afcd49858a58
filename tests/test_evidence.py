"""Evidence sentences against plain loops written from their definition, through model, processor and trainer."""

from __future__ import annotations

import itertools
import logging
from types import SimpleNamespace

import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from training_helpers import fictional, make, trainer_for

from modeling_docre import (
    DocREConfig,
    DocREForRelationExtraction,
    DocREProcessor,
    Document,
    evidence,
    read_documents,
)
from modeling_docre.decisions import evidence_sentences
from modeling_docre.document_results import document_results, score_documents, tune_evidence
from modeling_docre.encoding import localized_context
from modeling_docre.evidence import choose_evidence_threshold, sentence_attention


def shares_by_hand(attention, sentence_ids, cells, *, reduce, eps):
    """Share of each sentence in the context of each cell, token by token and attention head by attention head."""
    count = max(int(sentence_ids.max()) + 1, 0)
    rows = []
    for document, head, tail in cells.tolist():
        weights = []
        for token in range(attention.shape[-1]):
            products = [
                float(attention[document, head, layer, token]) * float(attention[document, tail, layer, token])
                for layer in range(attention.shape[2])
            ]
            weights.append(sum(products) / (len(products) if reduce == "mean" else 1))
        total = sum(weights) + eps
        rows.append(
            [
                sum(w for w, s in zip(weights, sentence_ids[document].tolist(), strict=True) if s == sentence) / total
                for sentence in range(count)
            ]
        )
    return torch.tensor(rows, dtype=torch.float64).view(len(rows), count)


@pytest.mark.parametrize("budget", [evidence._MEMBERSHIP_BUDGET, 40, 1])
@pytest.mark.parametrize(("reduce", "eps"), [("mean", 1e-5), ("sum", 1e-10)])
def test_sentence_attention_is_the_context_weight_summed_by_sentence(reduce, eps, budget, monkeypatch):
    monkeypatch.setattr(evidence, "_MEMBERSHIP_BUDGET", budget)
    generator = torch.Generator().manual_seed(0)
    attention = torch.rand(2, 4, 3, 9, generator=generator, dtype=torch.float64).softmax(-1)
    attention[1, 3] = 0.0
    sentence_ids = torch.tensor([[-1, 0, 0, 1, 1, 1, 2, 2, -1], [-1, 0, 0, 0, 1, -1, -1, -1, -1]])
    cells = torch.tensor([[1, 0, 1], [0, 3, 2], [0, 2, 3], [1, 2, 2], [1, 3, 0]])
    got = sentence_attention(attention, sentence_ids, cells, reduce=reduce, eps=eps)
    want = shares_by_hand(attention, sentence_ids, cells, reduce=reduce, eps=eps)
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-14)
    assert torch.equal(got[4], torch.zeros(3, dtype=torch.float64))
    assert bool((got.sum(1) <= 1).all())


def test_a_long_text_does_not_fill_the_memory_with_its_sentences(monkeypatch):
    held = []

    def watched(members, *arguments, **settings):
        held.append(members.numel())
        return localized_context(members, *arguments, **settings)

    monkeypatch.setattr(evidence, "localized_context", watched)
    sentence_ids = torch.arange(90_000).div(12, rounding_mode="floor")[None]
    attention = torch.full((1, 2, 1, 90_000), 1 / 90_000)
    got = sentence_attention(attention, sentence_ids, torch.tensor([[0, 0, 1]]), eps=0.0)
    torch.testing.assert_close(got, torch.full((1, 7500), 1 / 7500))
    assert max(held) <= 1 << 24 and sum(held) == 90_000 * 7500


def test_no_pairs_and_no_sentences_are_fine():
    attention = torch.rand(1, 2, 3, 4)
    assert sentence_attention(attention, torch.zeros(1, 4).long(), torch.zeros(0, 3).long()).shape == (0, 1)
    assert sentence_attention(attention, torch.full((1, 4), -1), torch.tensor([[0, 0, 1]])).shape == (1, 0)


def test_evidence_is_strictly_above_the_threshold_and_ascending():
    attention = torch.tensor([[0.5, 0.125, 0.3], [0.1, 0.1, 0.1], [0.0, 0.25, 0.75]])
    assert evidence_sentences(attention, 0.125) == [(0, 2), (), (1, 2)]
    assert evidence_sentences(attention, 0.0) == [(0, 1, 2), (0, 1, 2), (1, 2)]
    assert evidence_sentences(attention[:0], 0.2) == []


def sentence_f1(attention, gold, threshold):
    right = predicted = wanted = 0
    for row, sentences in zip(attention, gold, strict=True):
        if sentences:
            chosen = {number for number, share in enumerate(row) if share > threshold}
            right += len(chosen & set(sentences))
            predicted += len(chosen)
            wanted += len(set(sentences))
    return 2 * right / (predicted + wanted) if right else 0.0


shares = st.lists(st.sampled_from([0.0, 0.1, 0.2, 0.25, 0.4, 0.6, 1.0]), min_size=3, max_size=3)


@given(st.lists(st.tuples(shares, st.sets(st.integers(0, 2))), min_size=1, max_size=6))
def test_no_other_evidence_threshold_is_better(triples):
    attention = [row for row, _ in triples]
    gold = [sorted(sentences) for _, sentences in triples]
    chosen = choose_evidence_threshold(attention, gold)
    # 0 lets in every sentence that is looked at; below it there is no threshold.
    best = max(sentence_f1(attention, gold, cut) for cut in (0.0, 0.05, 0.15, 0.22, 0.3, 0.5, 0.8, 1.0))
    if best == 0.0:
        assert chosen is None
        return
    threshold, f1 = chosen
    assert f1 == pytest.approx(sentence_f1(attention, gold, threshold))
    assert f1 == pytest.approx(best)


def test_where_nobody_looks_at_the_evidence_there_is_nothing_to_choose():
    assert choose_evidence_threshold([[0.0, 1.0], [0.3]], [[0], [4]]) is None
    assert choose_evidence_threshold([], []) is None


def test_the_chosen_threshold_lets_in_what_it_was_chosen_to_let_in():
    # Two neighbouring float32 numbers: the middle between them, rounded to float32, would be one of them.
    for low in (0.3, 0.1, 0.044, 0.7):
        above = torch.nextafter(torch.tensor(low), torch.tensor(1.0))
        shares_of = torch.tensor([[low, float(above)]])
        threshold, f1 = choose_evidence_threshold(shares_of.tolist(), [[1]])
        assert f1 == 1.0
        assert evidence_sentences(shares_of, threshold) == [(1,)]


def test_a_share_that_rounds_above_one_is_taken():
    assert choose_evidence_threshold([[1.0000001, 0.0]], [[0]]) == (pytest.approx(0.5), 1.0)


# ---------------------------------------------------------------------------------------------------------------------
# The model
# ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def loaded(tiny_checkpoint):
    model = DocREForRelationExtraction.from_pretrained(tiny_checkpoint).eval()
    # Attention of random weights is flat; this makes pairs look at different sentences.
    generator = torch.Generator().manual_seed(5)
    for name, parameter in model.docre.encoder.named_parameters():
        if "query" in name or "key" in name:
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.8)
    return model, DocREProcessor(DocREProcessor.from_pretrained(tiny_checkpoint).tokenizer, model.config)


DOCUMENTS = [
    Document.from_markup(
        "[Ada](ada:PER) was born in [London](:LOC). It was the city of the [River](:ORG). "
        "[She](ada) was in [Rome](:LOC)."
    ),
    Document.from_markup("[Bo](:PER) in the city. [Pell](:LOC) and [Quay](:LOC)."),
]


def test_the_model_gives_the_attention_of_the_last_layer_by_sentence(loaded):
    model, processor = loaded
    batch = processor.collate(processor(DOCUMENTS))
    with torch.no_grad():
        got = model(**batch, output_sentence_attention=True)
        # From the encoder's own attention, as any model of transformers gives it.
        eager = transformers.AutoModel.from_config(model.config.encoder, attn_implementation="eager").eval()
        eager.load_state_dict(model.docre.encoder.state_dict(), strict=False)
        maps = eager(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], output_attentions=True
        ).attentions[-1]
    rows = {}
    for document, entity, token in batch["mentions"].tolist():
        rows.setdefault((document, entity), []).append(maps[document, :, token])
    most = int(batch["num_entities"].max())
    attention = torch.zeros(2, most, maps.shape[1], maps.shape[-1])
    for (document, entity), found in rows.items():
        attention[document, entity] = torch.stack(found).mean(0)
    want = shares_by_hand(attention, batch["sentence_ids"], batch["pairs"], reduce="mean", eps=1e-5)
    assert got.sentence_attention.shape == (len(batch["pairs"]), 3)
    torch.testing.assert_close(got.sentence_attention.double(), want, rtol=0, atol=2e-5)
    assert float(got.sentence_attention.std()) > 0.05
    # The second document has two sentences.
    assert float(got.sentence_attention[batch["pairs"][:, 0] == 1, 2].abs().max()) == 0.0


def test_rows_follow_the_pairs_asked_for_and_come_on_request_only(loaded):
    model, processor = loaded
    batch = processor.collate(processor(DOCUMENTS))
    with torch.no_grad():
        whole = model(**batch, output_sentence_attention=True)
        order = torch.tensor([7, 2, 13])
        part = model(**{**batch, "pairs": batch["pairs"][order]}, output_sentence_attention=True)
        assert model(**batch).sentence_attention is None
    torch.testing.assert_close(part.sentence_attention, whole.sentence_attention[order], rtol=0, atol=1e-6)
    del batch["sentence_ids"]
    with pytest.raises(ValueError, match="sentence_ids"):
        model(**batch, output_sentence_attention=True)


def test_evidence_of_a_document_longer_than_the_encoder(loaded):
    model, processor = loaded
    text = "Ada was in Rome. " + "The city of the River in London. " * 150 + "Bo was in London."
    document = Document.from_text(
        text,
        entities=[
            {"mentions": [{"start": text.index(name), "end": text.index(name) + len(name)}]}
            for name in ("Ada", "Rome", "Bo")
        ],
    )
    features = processor([document])
    assert len(features[0]["input_ids"]) > 2 * model.config.window_size
    with torch.no_grad():
        outputs = model(**processor.collate(features), output_sentence_attention=True)
    assert outputs.sentence_attention.shape == (6, len(document.sentence_spans))
    # Both entities of the first pair are in the first window: what they look at is there.
    first = outputs.sentence_attention[0]
    assert float(first.sum()) == pytest.approx(1.0, abs=0.05)
    assert float(first[-40:].sum()) == 0.0


# ---------------------------------------------------------------------------------------------------------------------
# From there to relations
# ---------------------------------------------------------------------------------------------------------------------


def test_decode_gives_evidence_to_every_relation_of_a_pair(loaded):
    model, processor = loaded
    batch = processor.collate(processor(DOCUMENTS))
    with torch.no_grad():
        outputs = model(**batch, output_sentence_attention=True)
    found = processor.decode(outputs, DOCUMENTS, threshold=0.0)
    seen = 0
    for number, relations in enumerate(found):
        for relation in relations:
            row = batch["pairs"].tolist().index([number, relation.head, relation.tail])
            assert relation.evidence == evidence_sentences(outputs.sentence_attention[[row]], 0.05)[0]
            assert all(sentence < len(DOCUMENTS[number].sentence_spans) for sentence in relation.evidence)
            seen += len(relation.evidence)
    assert seen
    outputs.sentence_attention = None
    assert {item.evidence for items in processor.decode(outputs, DOCUMENTS, threshold=0.0) for item in items} == {()}


def test_the_pipeline_gives_evidence_unless_the_config_says_none(loaded):
    model, processor = loaded
    pipe = transformers.pipeline("docre", model=model, processor=processor)
    answers = pipe(DOCUMENTS, threshold=0.0)
    evidence = [relation["evidence"] for answer in answers for relation in answer["relations"]]
    assert any(evidence)
    assert all(isinstance(item, list) and item == sorted(set(item)) for item in evidence)
    model.config.evidence_threshold = None
    try:
        for answer in pipe(DOCUMENTS, threshold=0.0):
            assert {tuple(relation["evidence"]) for relation in answer["relations"]} == {()}
    finally:
        model.config.evidence_threshold = 0.05


def test_the_threshold_is_kept_in_the_config_and_checked(tmp_path):
    config = DocREConfig.for_method("atlop", relations=["r"], evidence_threshold=0.35)
    config.save_pretrained(tmp_path)
    assert DocREConfig.from_pretrained(tmp_path).evidence_threshold == 0.35
    assert DocREConfig.for_method("atlop", relations=["r"]).evidence_threshold == 0.05
    for wrong in (-0.1, 1.5):
        with pytest.raises(ValueError, match="evidence_threshold"):
            DocREConfig.for_method("atlop", relations=["r"], evidence_threshold=wrong)


# ---------------------------------------------------------------------------------------------------------------------
# Evaluation and tuning
# ---------------------------------------------------------------------------------------------------------------------


def test_tuning_looks_at_correct_triples_with_gold_evidence_alone():
    config = DocREConfig.for_method("atlop", relations=["born_in", "part_of", "rules"], emb_size=8, block_size=4)
    documents = list(read_documents([fictional(2), {**fictional(5), "labels": fictional(5)["labels"][:1]}]))
    documents[1] = Document.from_docred({**fictional(5), "labels": [{"h": 0, "t": 1, "r": "born_in", "evidence": []}]})
    pairs = torch.tensor(
        [[number, head, tail] for number in range(2) for head, tail in itertools.permutations(range(4), 2)]
    )
    logits = torch.full((len(pairs), 4), -5.0)
    logits[:, 0] = 0.0
    attention = torch.full((len(pairs), 3), 0.01)
    for number, head, tail, label, shares_of in (
        (0, 0, 1, 1, [0.50, 0.10, 0.30]),  # correct, gold [0]
        (0, 1, 2, 2, [0.20, 0.45, 0.10]),  # correct, gold [1]
        (0, 2, 1, 2, [0.90, 0.90, 0.90]),  # wrong
        (1, 0, 1, 1, [0.05, 0.05, 0.90]),  # correct, no gold evidence
    ):
        row = pairs.tolist().index([number, head, tail])
        logits[row, label] = 5.0
        attention[row] = torch.tensor(shares_of)
    outputs = SimpleNamespace(logits=logits, pairs=pairs, sentence_attention=attention)
    results = document_results(outputs, [0, 1], documents, config, attention=True)
    threshold, f1 = tune_evidence(documents, results)
    assert f1 == 1.0
    assert threshold == pytest.approx((0.45 + 0.30) / 2)
    config.evidence_threshold = threshold
    figures = score_documents(documents, document_results(outputs, [0, 1], documents, config), [])
    assert figures["evidence_sentence_f1"] == 1.0
    config.evidence_threshold = 0.25
    figures = score_documents(documents, document_results(outputs, [0, 1], documents, config), [])
    assert figures["evidence_sentence_precision"] == pytest.approx(2 / 3)
    assert figures["evidence_sentence_recall"] == 1.0


def test_the_trainer_chooses_the_threshold_and_reports_what_it_gives(tiny_bert_dir, tmp_path):
    trainer = trainer_for(tiny_bert_dir, tmp_path, num_train_epochs=12, tune_threshold=True)
    output = trainer.train()
    chosen = trainer.model.config.evidence_threshold
    assert output.metrics["train_evidence_threshold"] == chosen != 0.05
    logged = next(entry for entry in trainer.state.log_history if "evidence_threshold_f1" in entry)
    figures = trainer.evaluate()
    assert figures["eval_f1"] > 0.5
    assert figures["eval_evidence_sentence_f1"] == pytest.approx(logged["evidence_threshold_f1"])
    trainer.save_model(tmp_path / "saved")
    assert DocREConfig.from_pretrained(tmp_path / "saved").evidence_threshold == chosen
    # What the pipeline says is what was scored.
    documents = list(read_documents([fictional(number) for number in range(5)]))
    answers = transformers.pipeline("docre", model=str(tmp_path / "saved"))(documents)
    predicted = trainer.predict(documents).predictions
    for answer, relations in zip(answers, predicted, strict=True):
        assert [item["evidence"] for item in answer["relations"]] == [list(item.evidence) for item in relations]


def test_without_gold_evidence_there_is_no_figure_and_nothing_to_choose(tiny_bert_dir, tmp_path):
    documents = [fictional(number) for number in range(5)]
    for document in documents:
        for label in document["labels"]:
            label["evidence"] = []
    trainer = trainer_for(
        tiny_bert_dir, tmp_path, num_train_epochs=1, tune_threshold=True, trainer={"eval_dataset": documents}
    )
    output = trainer.train()
    assert trainer.model.config.evidence_threshold == 0.05
    assert "train_evidence_threshold" not in output.metrics
    assert not any("evidence" in name for name in trainer.evaluate())
    trainer.model.forward = None
    assert trainer.tune_evidence_threshold() is None, "no document is read for it"


def test_a_model_that_is_always_wrong_has_nothing_to_choose_and_says_so(tiny_bert_dir, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    monkeypatch.setattr(logging.getLogger("modeling_docre"), "propagate", True)
    trainer = trainer_for(tiny_bert_dir, tmp_path)
    trainer.model.config.threshold = 1.0
    assert trainer.tune_evidence_threshold() is None
    assert trainer.model.config.evidence_threshold == 0.05
    assert "evidence_threshold stays 0.05" in caplog.text


def test_tuning_does_not_switch_evidence_on(tiny_bert_dir, tmp_path):
    model, processor = make(tiny_bert_dir, evidence_threshold=None)
    own = {"model": model, "processing_class": processor}
    output = trainer_for(tiny_bert_dir, tmp_path, tune_threshold=True, trainer=own).train()
    assert model.config.evidence_threshold is None
    assert "train_evidence_threshold" not in output.metrics
    assert "train_threshold" in output.metrics


def test_a_model_without_evidence_is_evaluated_without_it(tiny_bert_dir, tmp_path):
    model, processor = make(tiny_bert_dir, evidence_threshold=None)
    trainer = trainer_for(tiny_bert_dir, tmp_path, trainer={"model": model, "processing_class": processor})
    model.config.threshold = 0.0
    assert {item.evidence for relations in trainer.predict(DOCUMENTS).predictions for item in relations} == {()}
    assert not any("evidence" in name for name in trainer.evaluate())
