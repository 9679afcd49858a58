from __future__ import annotations

import random
from types import SimpleNamespace

import pytest
import torch

from modeling_docre import DocREConfig, Document
from modeling_docre.decisions import predict
from modeling_docre.document_results import SMALLEST_SCORE, choose_threshold, document_results, score_documents

RELATIONS = [f"r{number}" for number in range(7)]
PEOPLE = ["Ada", "Bo", "Cleo", "Dag"]


def document(facts: list[tuple[int, int, str]]) -> Document:
    return Document.from_docred(
        {
            "title": "Four people",
            "sents": [[*PEOPLE, "met", "."]],
            "vertexSet": [
                [{"name": name, "sent_id": 0, "pos": [number, number + 1], "type": "PER"}]
                for number, name in enumerate(PEOPLE)
            ],
            "labels": [{"h": head, "t": tail, "r": relation, "evidence": []} for head, tail, relation in facts],
        }
    )


PAIRS = torch.tensor([[0, head, tail] for head in range(4) for tail in range(4) if head != tail])


def f1_of(predicted: torch.Tensor, gold: set[tuple[int, int, str]]) -> float:
    found = {
        (*PAIRS[row, 1:].tolist(), RELATIONS[label - 1]) for row, label in predicted.nonzero().tolist() if label > 0
    }
    return 2 * len(found & gold) / (len(found) + len(gold)) if found else 0.0


@pytest.mark.parametrize("decision", ["threshold-class", "zero", "probability"])
@pytest.mark.parametrize("scale", [0.3, 3.0, 30.0, 300.0])
@pytest.mark.parametrize("most", [1, 3, None])
def test_the_chosen_threshold_keeps_its_promise_when_predicting(decision, scale, most):
    config = DocREConfig.for_method(
        "atlop", relations=RELATIONS, decision=decision, max_relations_per_pair=most, emb_size=8, block_size=4
    )
    for seed in range(40):
        generator = torch.Generator().manual_seed(seed)
        logits = scale * (torch.randn(len(PAIRS), 8, generator=generator) - 0.5)
        chooser = random.Random(seed)
        gold = {
            (*PAIRS[row, 1:].tolist(), RELATIONS[label])
            for row in range(len(PAIRS))
            for label in range(7)
            if chooser.random() < torch.sigmoid(logits[row, label + 1] / scale)
        }
        documents = [document(sorted(gold))]
        outputs = SimpleNamespace(logits=logits, pairs=PAIRS)
        results = document_results(outputs, [0], documents, config, candidates=True)
        threshold, f1 = choose_threshold(documents, results)
        assert SMALLEST_SCORE <= threshold < 1
        predicted = predict(logits, decision, max_relations=most, threshold=threshold)
        assert f1 == pytest.approx(f1_of(predicted, gold)), seed
        # Nor is there a better one among those that are allowed.
        for other in (0.01, 0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99):
            assert f1_of(predict(logits, decision, max_relations=most, threshold=other), gold) <= f1 + 1e-9
        config.threshold = threshold
        (result,) = document_results(outputs, [0], documents, config)
        assert score_documents(documents, [result], [])["f1"] == pytest.approx(f1)


def test_a_threshold_is_not_put_where_probabilities_round_to_one():
    config = DocREConfig.for_method("atlop", relations=RELATIONS, emb_size=8, block_size=4)
    logits = torch.full((len(PAIRS), 8), -50.0)
    logits[:, 0] = 0.0
    logits[:, 1] = torch.linspace(35.0, 38.5, len(PAIRS))
    outputs = SimpleNamespace(logits=logits, pairs=PAIRS)
    for number in range(1, len(PAIRS)):
        gold = {(*pair[1:], "r0") for pair in PAIRS[number:].tolist()}
        documents = [document(sorted(gold))]
        threshold, f1 = choose_threshold(documents, document_results(outputs, [0], documents, config, candidates=True))
        assert f1 == pytest.approx(f1_of(predict(logits, "threshold-class", threshold=threshold), gold)), number


def test_gold_facts_of_pairs_that_are_no_candidates_are_counted_by_document():
    config = DocREConfig.for_method("atlop", relations=RELATIONS, emb_size=8, block_size=4)
    documents = [document([(0, 1, "r0"), (1, 0, "r1"), (2, 3, "r2")]), document([(0, 1, "r0")])]
    # Row 0 of the batch is document 1.
    pairs = torch.tensor([[0, 1, 0], [1, 0, 1], [1, 2, 3]])
    results = document_results(SimpleNamespace(logits=torch.zeros(3, 8), pairs=pairs), [1, 0], documents, config)
    assert [(result.index, result.gold_not_scored) for result in results] == [(1, 1), (0, 1)]
    assert score_documents(documents, results[::-1], [])["gold_not_scored"] == 2
