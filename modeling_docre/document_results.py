"""What evaluation keeps of each document, and the thresholds that suit it best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from .configuration_docre import DocREConfig
from .decisions import best_threshold
from .documents import Document, Relation
from .evidence import choose_evidence_threshold
from .metrics.docred.scoring import score
from .predicted_relations import find_relations

# Below this probability no threshold worth having lies, and the number of candidates to sort stays small.
SMALLEST_SCORE = 0.01


@dataclass(frozen=True, slots=True)
class DocumentResult:
    """
    What evaluation keeps of one document: little, because all of it travels between processes.

    Args:
        index (`int`):
            The position of the document in the evaluation data.
        relations (`tuple[Relation, ...]`):
            What is predicted, the best first.
        gold_not_scored (`int`):
            How many gold facts are of a pair that was no candidate.
        candidates (`tuple[Relation, ...]`, *optional*):
            What some threshold would predict.
        sentence_attention (`tuple[tuple[float, ...], ...]`, *optional*):
            For each of `relations`, how much its pair looks at each sentence of the document.
    """

    index: int
    relations: tuple[Relation, ...]
    gold_not_scored: int
    candidates: tuple[Relation, ...] | None = None
    sentence_attention: tuple[tuple[float, ...], ...] | None = None


def document_results(
    outputs: Any,
    index: Sequence[int],
    documents: Sequence[Document],
    config: DocREConfig,
    *,
    candidates: bool = False,
    attention: bool = False,
) -> list[DocumentResult]:
    """
    Takes the outputs of a batch apart by document.

    Args:
        outputs ([`DocRERelationOutput`]):
            `logits` `(num_pairs, num_classes)`, `pairs` `(num_pairs, 3)` and `entities_read` are read, and
            `sentence_attention` `(num_pairs, sentences)` where there is one.
        index (`Sequence[int]`):
            The position in `documents` of each document of the batch.
        documents (`Sequence[Document]`):
            All documents of the evaluation.
        config ([`DocREConfig`]):
            The decision, its limits, and the relations' names.
        candidates (`bool`, *optional*, defaults to `False`):
            Whether to keep what [`choose_threshold`] needs.
        attention (`bool`, *optional*, defaults to `False`):
            Whether to keep what [`tune_evidence`] needs.

    Returns:
        `list[DocumentResult]`: One for each document of the batch, in its order.
    """
    # In float64 scores tell apart what logits do, almost everywhere.
    logits = outputs.logits.detach().cpu().double()
    chosen = find_relations(outputs, logits, config, config.threshold)
    ranked = find_relations(outputs, logits, config, SMALLEST_SCORE) if candidates else {}
    scored = {tuple(pair) for pair in outputs.pairs.tolist()}
    looks = outputs.sentence_attention.cpu() if attention else None
    results = []
    for row, position in enumerate(index):
        document, relations = documents[position], chosen.get(row, [])
        results.append(
            DocumentResult(
                index=position,
                relations=tuple(relation for relation, _ in relations),
                gold_not_scored=sum(
                    (row, relation.head, relation.tail) not in scored for relation in document.relations or ()
                ),
                candidates=tuple(relation for relation, _ in ranked.get(row, [])) if candidates else None,
                sentence_attention=(
                    None
                    if looks is None
                    else tuple(tuple(looks[pair, : len(document.sentence_spans)].tolist()) for _, pair in relations)
                ),
            )
        )
    return results


def choose_threshold(documents: Sequence[Document], results: Sequence[DocumentResult]) -> tuple[float, float]:
    """
    Chooses the probability above which a relation is predicted.

    Args:
        documents (`Sequence[Document]`):
            Labelled documents.
        results (`Sequence[DocumentResult]`):
            Their results, with `candidates`.

    Returns:
        `tuple[float, float]`: The threshold with the highest micro F1, and that F1, both in [0, 1].
    """
    scores: list[float] = []
    correct: list[bool] = []
    for result in results:
        gold = {fact_of(relation) for relation in documents[result.index].relations or ()}
        for candidate in result.candidates or ():
            scores.append(candidate.score or 0.0)
            correct.append(fact_of(candidate) in gold)
    num_gold = sum(len({fact_of(relation) for relation in document.relations or ()}) for document in documents)
    threshold, f1 = best_threshold(
        torch.tensor(scores, dtype=torch.float64), torch.tensor(correct, dtype=torch.bool), num_gold
    )
    # Below, relations would come in that were no candidates here.
    return max(threshold, SMALLEST_SCORE), f1


def tune_evidence(documents: Sequence[Document], results: Sequence[DocumentResult]) -> tuple[float, float] | None:
    """
    Chooses the share of a pair's attention above which a sentence is evidence.

    Args:
        documents (`Sequence[Document]`):
            Labelled documents.
        results (`Sequence[DocumentResult]`):
            Their results, with `sentence_attention`.

    Returns:
        `tuple[float, float]`: The threshold with the highest micro F1 over the sentences of correctly predicted
        relations that have gold evidence, and that F1, both in [0, 1]; `None` if there is no such relation.
    """
    attention: list[tuple[float, ...]] = []
    gold: list[tuple[int, ...]] = []
    for result in results:
        evidence = {fact_of(relation): relation.evidence for relation in documents[result.index].relations or ()}
        for relation, row in zip(result.relations, result.sentence_attention or (), strict=True):
            if fact_of(relation) in evidence:
                attention.append(row)
                gold.append(evidence[fact_of(relation)])
    return choose_evidence_threshold(attention, gold)


def score_documents(
    documents: Sequence[Document],
    results: Sequence[DocumentResult],
    training_facts: list[dict[str, Any]],
    *,
    evidence: bool = True,
) -> dict[str, float]:
    """
    Scores predicted relations.

    Args:
        documents (`Sequence[Document]`):
            Labelled documents.
        results (`Sequence[DocumentResult]`):
            Their results, in their order.
        training_facts (`list[dict]`):
            The training documents, each as a [`reference`], or none.
        evidence (`bool`, *optional*, defaults to `True`):
            Whether evidence was predicted, and is to be scored where there is gold evidence.

    Returns:
        `dict[str, float]`: `f1`, `precision`, `recall`; with training documents `ign_f1`; with gold evidence
        `evidence_sentence_f1`, `evidence_sentence_precision` and `evidence_sentence_recall`, over the sentences of
        correct relations; and `gold_not_scored`, a count, if it isn't 0.
    """
    rows = [
        {
            "title": str(result.index),
            "h_idx": relation.head,
            "t_idx": relation.tail,
            "r": relation.relation,
            "evidence": list(relation.evidence),
        }
        for result in results
        for relation in result.relations
    ]
    references = [reference(document, str(index)) for index, document in enumerate(documents)]
    scores = score(rows, references, train_annotated=training_facts or None)
    names = ["f1", "precision", "recall", "ign_f1"]
    if evidence and has_evidence(documents):
        names += ["evidence_sentence_f1", "evidence_sentence_precision", "evidence_sentence_recall"]
    metrics = {name: scores[name] for name in names if name in scores}
    missed = sum(result.gold_not_scored for result in results)
    return {**metrics, "gold_not_scored": missed} if missed else metrics


def fact_of(relation: Relation) -> tuple[int, int, str]:
    """What is compared of a relation: head, tail and its id."""
    return relation.head, relation.tail, relation.relation


def has_evidence(documents: Sequence[Document]) -> bool:
    """Whether any gold relation comes with its evidence."""
    return any(relation.evidence for document in documents for relation in document.relations or ())


def reference(document: Document, title: str) -> dict[str, Any]:
    """
    What the scorer reads of a labelled document, without its text.

    Args:
        document (`Document`): The document.
        title (`str`): The title to give it; two documents may share theirs, and the scorer would merge them.

    Returns:
        `dict`: `title`, `vertexSet` and `labels` in DocRED's form.
    """
    return {
        "title": title,
        "vertexSet": [
            [{"name": mention.name, "sent_id": mention.sentence} for mention in entity.mentions]
            for entity in document.entities
        ],
        "labels": [
            {"h": relation.head, "t": relation.tail, "r": relation.relation, "evidence": list(relation.evidence)}
            for relation in document.relations or ()
        ],
    }


__all__ = [
    "DocumentResult",
    "choose_threshold",
    "document_results",
    "fact_of",
    "has_evidence",
    "reference",
    "score_documents",
    "tune_evidence",
]
