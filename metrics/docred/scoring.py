"""Scores for document-level relation extraction, equal to the official DocRED scorer to the last digit.

With `measures.py` and `rows.py` on the standard library alone: all three travel with the `evaluate` module, and score
the same without torch.

Sources: the official scorer (Yao et al., 2019, DocRED) for precision, recall, F1, evidence and Ign F1; Tan et al.
(2022, Re-DocRED) and the evaluation published with it for frequent / long-tail and intra / inter / inter long; the
paper on easy relation augmentation (ERA, section 5.2 and figure 3) for Macro, Macro@k and clusters; Guo et al. (2023,
PEMSCL, section 4.4) for head / middle / tail; Tan et al. (2022, KD-DocRE, section 4, tables 7 and 8) for outcomes and
Rela, which it calls binary labels; the paper on pair-aware and entity-enhanced representations (PAEE, sections 3.1 and
3.4) for the name Rela and for documents by their share of related pairs; Zeng et al. (2020, GAIN) for Infer-F1.
"""

from __future__ import annotations

import json
import logging
import zipfile
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from .measures import Compared, count, figures, harmonic_mean, ratio
from .rows import (
    Entities,
    Gold,
    Label,
    ScoringError,
    Triple,
    UnlabelledError,
    read_integer,
    read_labelled,
    read_prediction,
    read_predictions,
    read_references,
)

logger = logging.getLogger(__name__)


def score(
    predictions: Iterable[Mapping[str, Any]],
    references: Iterable[Mapping[str, Any]],
    *,
    train_annotated: Iterable[Mapping[str, Any]] | None = None,
    train_distant: Iterable[Mapping[str, Any]] | None = None,
    few_facts: int | None = None,
) -> dict[str, float]:
    """Scores predicted relations against gold documents.

    Predictions that repeat a triple (title, head, tail, relation) count once: the first one, with its evidence. A gold
    triple that is repeated counts once: its last evidence list is the one compared, while all its evidence entries
    stand in the denominator of evidence recall (those of the last in that of evidence sentence recall). A prediction
    for an unknown title, or for an entity that its document does not have, is a wrong prediction; a warning in the log
    says how many there are.

    Args:
        predictions (`Iterable[Mapping]`):
            Rows of a submission: `title`, `h_idx`, `t_idx`, `r` and optionally `evidence` (missing or `None`: empty).
        references (`Iterable[Mapping]`):
            Gold documents in DocRED's form: `title`, `vertexSet` (mentions need `name` for Ign F1 and `sent_id` for
            intra / inter), `labels` (`[]` where a document has no relation) and optionally `pairs`, the candidate
            pairs `[head, tail]`. Other keys are allowed.
        train_annotated (`Iterable[Mapping]`, *optional*):
            Human-annotated training documents. They give the facts that Ign F1 leaves out and the counts by which
            relations are rare or frequent; without them these figures are absent.
        train_distant (`Iterable[Mapping]`, *optional*):
            Distantly supervised training documents, for `ign_precision_distant` and `ign_f1_distant`.
        few_facts (`int`, *optional*):
            The number of training facts below which a relation is one of `few_facts`; needs `train_annotated`.

    Returns:
        `dict[str, float]`: fractions in [0, 1], 0.0 where a figure is 0 / 0. A name with `*` is three figures,
        `precision`, `recall` and `f1`, micro-averaged over the triples that it is about.

        - `*`: all triples. For data with one relation, such as CDR and GDA, this is the F1 of the positive class.
        - `evidence_*`: over sentences, right only under a right triple.
        - `evidence_sentence_*`: over the sentences of right predictions whose gold triple has evidence, and of no
          others. They judge the choice of sentences apart from the choice of triples, and do not suffer where the
          gold file leaves evidence out, as Re-DocRED's does for more than half of its labels.
        - `ign_precision`, `ign_f1` (with `train_annotated`): a right prediction whose fact (a mention name of the
          head, one of the tail, the relation) stands in the training labels leaves numerator and denominator of the
          precision; recall is the plain one. `ign_precision_distant`, `ign_f1_distant`: same with `train_distant`.
        - `*_intra` (head and tail share a sentence), `*_inter` (they do not; pairs whose sentences are not known are
          in neither), `*_inter_long` (their nearest mentions are more than 5 sentences apart).
        - `*_candidates` (if a reference has `pairs`): triples of candidate pairs; where a document has no list, all.
        - `*_frequent` (Re-DocRED's ten relations), `*_long_tail` (all others); with `train_annotated` `*_head` (the
          10 relations with the most training triples), `*_tail` (the 20 with the fewest), `*_middle`; with `few_facts`
          `*_few_facts` (relations with fewer training triples) and `*_many_facts` (all others).
        - `*_related_0_2`, `2_4`, `4_6`, `6_8`, `8_10`, `10_100`: documents by the percentage of their ordered pairs of
          different entities that are related, the lower bound included.
        - `infer_*`: facts r(h, t) for which some other entity o has facts (h, o) and (o, t), all three different; gold
          facts among gold ones, predicted facts among predicted ones.
        - `rela_*`: over pairs of entities instead of triples, whether a relation is predicted, and whether there is
          one, whichever it is. `rela_accuracy`: part of all ordered pairs of different entities where both agree,
          nearly all of which have none.
        - `outcome_correct`, `outcome_wrong` (predicted for a related pair, but not its relation), `outcome_missed`
          (gold, and nothing is predicted for its pair), `outcome_more` (predicted for a pair that is not related):
          shares of these four, which sum to 1. Gold triples that are not found at pairs where something is predicted
          are in none of them.
        - `macro_f1`: mean F1 of the relations that have gold triples. A relation that is only predicted is not in the
          mean, so that all systems are averaged over the same relations; micro precision counts those predictions.
        - `macro_f1_at_500`, `macro_f1_at_200`, `macro_f1_at_100` (with `train_annotated`): the same over relations
          with strictly fewer training triples. `macro_f1_scaled_500`, ...: with fewer than so many of DocRED's 38,180,
          for training documents that have other numbers of facts. `macro_f1_all`: over every relation of
          `train_annotated` and the gold, 0 where it has no gold triple.
        - `f1_cluster_1` to `f1_cluster_10` (with `train_annotated`): the same as `macro_f1` over tenths of the
          relations of `train_annotated` and the gold, the most frequent in training first.
        - `relation/P17/precision`, `relation/P17/recall`, `relation/P17/f1`: each relation in gold or predictions.

    Raises:
        UnlabelledError: If a reference or training document has no `labels` (DocRED's test split has none).
        ScoringError: If a row or a document is malformed, or `few_facts` cannot be used.

    Example:
    ```python
    >>> pair = [[{"name": "Mirel", "sent_id": 0}], [{"name": "Ostania", "sent_id": 0}]]
    >>> gold = [{"title": "Mirel", "vertexSet": pair, "labels": [{"h": 0, "t": 1, "r": "P17", "evidence": [0]}]}]
    >>> score([{"title": "Mirel", "h_idx": 0, "t_idx": 1, "r": "P17"}], gold)["f1"]
    1.0

    ```
    """
    few_facts = _read_few_facts(few_facts, train_annotated)
    gold = read_references(references)
    predicted = read_predictions(predictions)
    _log_surprises(predicted, gold)
    compared = Compared.of(predicted, gold.evidence)
    training: Counter[str] | None = None
    ignored: dict[str, int] = {}
    if train_annotated is not None:
        ignored[""], training = _scan_training(train_annotated, "train_annotated", compared.correct, gold)
    if train_distant is not None:
        ignored["_distant"], _ = _scan_training(train_distant, "train_distant", compared.correct, gold)
    counted = count(predicted, gold, compared, training, few_facts)

    values: dict[str, float] = {}
    for name, counts in counted.triples.items():
        values |= figures(counts, name)
    for suffix, known in ignored.items():
        precision = ratio(compared.counts.correct - known, compared.counts.predicted - known)
        values[f"ign_precision{suffix}"] = precision
        values[f"ign_f1{suffix}"] = harmonic_mean(precision, values["recall"])
    values["rela_accuracy"] = counted.pair_accuracy
    shares = {name: count for name, count in counted.outcomes.items() if name != "overlooked"}
    values |= {f"outcome_{name}": ratio(count, sum(shares.values())) for name, count in shares.items()}
    by_relation = {relation: figures(counts) for relation, counts in counted.by_relation.items()}
    for name, relations in counted.averaged.items():
        values[name] = ratio(
            sum(by_relation[relation]["f1"] for relation in sorted(relations) if relation in by_relation),
            len(relations),
        )
    for relation, own in by_relation.items():
        values |= {f"relation/{relation}/{name}": value for name, value in own.items()}
    return values


def score_counts(
    predictions: Iterable[Mapping[str, Any]],
    references: Iterable[Mapping[str, Any]],
    *,
    train_annotated: Iterable[Mapping[str, Any]] | None = None,
    few_facts: int | None = None,
) -> dict[str, int]:
    """Counts what the figures of [`score`] are made of: how much a figure rests on, or how high a bar is.

    Args:
        predictions (`Iterable[Mapping]`): Rows of a submission.
        references (`Iterable[Mapping]`): Gold documents in DocRED's form.
        train_annotated (`Iterable[Mapping]`, *optional*): Human-annotated training documents.
        few_facts (`int`, *optional*): As for [`score`].

    Returns:
        `dict[str, int]`: for each name with `*` of [`score`] three numbers, `correct`, `predicted` and `gold`, such as
        `gold_intra`; `outcome_correct`, `outcome_wrong`, `outcome_missed`, `outcome_more` and `outcome_overlooked`,
        the gold triples that are in none of these; `documents_related_0_2` and so on; and how many relations a mean
        is over, such as `macro_f1_at_500_relations` and `f1_cluster_1_relations`.

    Raises:
        UnlabelledError: If a document has no `labels`.
        ScoringError: If a row or a document is malformed, or `few_facts` cannot be used.
    """
    few_facts = _read_few_facts(few_facts, train_annotated)
    gold = read_references(references)
    predicted = read_predictions(predictions)
    training = None if train_annotated is None else _count_relations(train_annotated, "train_annotated")
    counted = count(predicted, gold, Compared.of(predicted, gold.evidence), training, few_facts)
    return {
        **{name.replace("{}", key): n for name, own in counted.triples.items() for key, n in own._asdict().items()},
        **{f"outcome_{name}": number for name, number in counted.outcomes.items()},
        **{f"documents_{name}": number for name, number in counted.documents.items()},
        **{f"{name}_relations": len(relations) for name, relations in counted.averaged.items()},
    }


def relation_counts(documents: Iterable[Mapping[str, Any]]) -> Counter[str]:
    """Counts the triples of each relation; a triple that a document repeats counts once.

    Applied to the gold documents this is the support behind the `relation/...` figures, applied to the training
    documents the counts by which relations are rare or frequent.

    Args:
        documents (`Iterable[Mapping]`): Labelled documents in DocRED's form.

    Returns:
        `Counter[str]`: number of triples by relation id.

    Raises:
        UnlabelledError: If a document has no `labels`.
        ScoringError: If a document is malformed.
    """
    return _count_relations(documents, "documents")


def _count_relations(documents: Iterable[Mapping[str, Any]], name: str) -> Counter[str]:
    counts: Counter[str] = Counter()
    for *_, labels in read_labelled(documents, name):
        counts.update(relation for *_, relation in _distinct(labels))
    return counts


def _read_few_facts(few_facts: int | None, train_annotated: object) -> int | None:
    if few_facts is None:
        return None
    bound = read_integer(few_facts, "arguments", "few_facts")
    if bound < 1:
        raise ScoringError(f"few_facts is {bound}; no relation has fewer facts than that, so pass 1 or more")
    if train_annotated is None:
        raise ScoringError(f"few_facts is {bound}, a number of training facts: pass train_annotated, to count them in")
    return bound


def _scan_training(
    train: Iterable[Mapping[str, Any]], name: str, correct: Collection[Triple], gold: Gold
) -> tuple[int, Counter[str]]:
    # Only facts of correct predictions can matter, so those are looked up in the training file: collecting all facts
    # of the distant file, as the official scorer does, takes more than a gigabyte.
    facts = [
        fact_names(gold.entities[title], head, tail, relation, f"references ({title!r})")
        for title, head, tail, relation in correct
    ]
    wanted = set().union(*facts)
    seen: set[tuple[str, str, str]] = set()
    counts: Counter[str] = Counter()
    for where, _, entities, labels in read_labelled(train, name):
        for head, tail, relation in _distinct(labels):
            counts[relation] += 1
            seen |= wanted & fact_names(entities, head, tail, relation, where)
    return sum(not seen.isdisjoint(candidates) for candidates in facts), counts


def fact_names(entities: Entities, head: int, tail: int, relation: str, where: str) -> set[tuple[str, str, str]]:
    """Says by which names a fact is known, for Ign F1: a mention's of the head, one's of the tail, the relation.

    Args:
        entities (`Entities`): Those of the document.
        head (`int`): The head.
        tail (`int`): The tail.
        relation (`str`): The relation's id.
        where (`str`): What to call the document.

    Raises:
        ScoringError: If a mention has no name.
    """
    # Two documents that share a title may leave a gold label that points past the entities of the later one.
    first, second = (entities[entity] if entity < len(entities) else () for entity in (head, tail))
    if not all(isinstance(mention.get("name"), str) for mention in (*first, *second)):
        raise ScoringError(f"{where}: a mention has no 'name'; Ign F1 compares mention names")
    return {(a["name"], b["name"], relation) for a in first for b in second}


def _distinct(labels: Iterable[Label]) -> set[tuple[int, int, str]]:
    return {(label.head, label.tail, label.relation) for label in labels}


def _log_surprises(predicted: Collection[Triple], gold: Gold) -> None:
    unknown, outside = [], []
    for triple in predicted:
        entities = gold.entities.get(triple[0])
        if entities is None:
            unknown.append(triple)
        elif not (0 <= triple[1] < len(entities) and 0 <= triple[2] < len(entities)):
            outside.append(triple)
    message = "%d of %d predictions name %s, so they count as wrong; the first is %s"
    if unknown:
        logger.warning(message, len(unknown), len(predicted), "a title that no reference has", unknown[0])
    if outside:
        logger.warning(message, len(outside), len(predicted), "an entity that their document lacks", outside[0])
    if gold.entities and not gold.evidence:
        logger.warning("the references have no relation at all, so recall and F1 are 0.0")


# --- files ---------------------------------------------------------------------------------------------------------


def write_submission(rows: Iterable[Mapping[str, Any]], path: str | Path) -> int:
    """Writes predictions in the form that DocRED's CodaLab task takes.

    Args:
        rows (`Iterable[Mapping]`):
            Predictions: `title`, `h_idx`, `t_idx`, `r` and optionally `evidence`. Other keys are left out, and so are
            rows whose relation is class 0 (`NA` in any case).
        path (`str` or `Path`):
            File to write. A path that ends in `.zip` gives an archive with the one member `result.json`, which is what
            CodaLab wants to be uploaded.

    Returns:
        `int`: number of rows written.

    Raises:
        ScoringError: If a row is malformed.
    """
    path = Path(path)
    kept = []
    for number, row in enumerate(rows):
        (title, head, tail, relation), evidence = read_prediction(row, f"rows[{number}]")
        if relation.upper() != "NA":
            kept.append({"title": title, "h_idx": head, "t_idx": tail, "r": relation, "evidence": list(evidence)})
    content = json.dumps(kept, ensure_ascii=False)
    if path.suffix.lower() == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("result.json", content)
    else:
        path.write_text(content, encoding="utf-8")
    return len(kept)


def read_json(path: str | Path) -> Any:
    """Reads a JSON file, or the one JSON file in a `.zip` archive such as a CodaLab submission.

    Args:
        path (`str` or `Path`): File to read.

    Returns:
        `Any`: the parsed content.

    Raises:
        ScoringError: If the content is not JSON, or the archive does not hold exactly one JSON file.
        OSError: If the file cannot be opened.
    """
    path = Path(path)
    try:
        if path.suffix.lower() != ".zip":
            return json.loads(path.read_bytes())
        with zipfile.ZipFile(path) as archive:
            members = [name for name in archive.namelist() if name.endswith(".json")]
            if len(members) != 1:
                raise ScoringError(f"{path}: the archive must hold one JSON file, it holds {members}")
            return json.loads(archive.read(members[0]))
    except (ValueError, RecursionError, zipfile.BadZipFile) as error:
        if isinstance(error, ScoringError):
            raise
        raise ScoringError(f"{path}: not a JSON file ({error})") from None


__all__ = [
    "ScoringError",
    "UnlabelledError",
    "read_json",
    "relation_counts",
    "score",
    "score_counts",
    "write_submission",
]
