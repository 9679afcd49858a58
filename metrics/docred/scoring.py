"""Scores for document-level relation extraction, equal to the official DocRED scorer to the last digit.

With `rows.py` on the standard library alone: both travel with the `evaluate` module, and score the same without
torch.

Sources: the official scorer (Yao et al., 2019, DocRED) for precision, recall, F1, evidence and Ign F1; Tan et al.
(2022, Re-DocRED) for frequent / long-tail and intra / inter; the paper on easy relation augmentation (ERA,
section 5.2) for Macro and Macro@k; Guo et al. (2023, PEMSCL, section 4.4) for head / middle / tail; the paper on
pair-aware and entity-enhanced representations (PAEE, section 3.1) for Rela.
"""

from __future__ import annotations

import json
import logging
import zipfile
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

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

FREQUENT_RELATIONS = frozenset({"P17", "P131", "P27", "P150", "P175", "P577", "P463", "P527", "P495", "P361"})
MACRO_THRESHOLDS = (500, 200, 100)
NUM_HEAD_RELATIONS = 10
NUM_TAIL_RELATIONS = 20

_relation_of = itemgetter(3)


def score(
    predictions: Iterable[Mapping[str, Any]],
    references: Iterable[Mapping[str, Any]],
    *,
    train_annotated: Iterable[Mapping[str, Any]] | None = None,
    train_distant: Iterable[Mapping[str, Any]] | None = None,
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
            intra / inter), `labels` (`[]` where a document has no relation). Other keys are allowed.
        train_annotated (`Iterable[Mapping]`, *optional*):
            Human-annotated training documents. They give the facts that Ign F1 leaves out and the counts behind
            Macro@k and head / middle / tail; without them these figures are absent.
        train_distant (`Iterable[Mapping]`, *optional*):
            Distantly supervised training documents, for `ign_precision_distant` and `ign_f1_distant`.

    Returns:
        `dict[str, float]`: fractions in [0, 1], 0.0 where a figure is 0 / 0.

        - `precision`, `recall`, `f1`: micro-averaged over all triples.
        - `evidence_precision`, `evidence_recall`, `evidence_f1`: over sentences, right only under a right triple.
        - `evidence_sentence_precision`, `evidence_sentence_recall`, `evidence_sentence_f1`: over the sentences of
          right predictions whose gold triple has evidence, and of no others. They judge the choice of sentences apart
          from the choice of triples, and do not suffer where the gold file leaves evidence out, as Re-DocRED's does
          for more than half of its labels.
        - `ign_precision`, `ign_f1` (with `train_annotated`): a right prediction whose fact (a mention name of the
          head, one of the tail, the relation) stands in the training labels leaves numerator and denominator of the
          precision; recall is the plain one. `ign_precision_distant`, `ign_f1_distant`: same with `train_distant`.
        - `precision_`, `recall_`, `f1_` followed by `intra` (head and tail share a sentence), `inter` (they do not;
          pairs whose sentences are not known are in neither), `frequent` (Re-DocRED's ten relations), `long_tail`
          (all others), and with `train_annotated` by `head` (the 10 relations with the most training triples), `tail`
          (the 20 with the fewest) and `middle`. Each is micro-averaged over the triples of its slice.
        - `macro_f1`: mean F1 of the relations that have gold triples. A relation that is only predicted is not in the
          mean, so that all systems are averaged over the same relations; micro precision counts those predictions.
        - `macro_f1_at_500`, `macro_f1_at_200`, `macro_f1_at_100` (with `train_annotated`): the same over relations
          with strictly fewer training triples. `macro_f1_all`: over every relation of `train_annotated` and the gold,
          0 where it has no gold triple.
        - `rela_precision`, `rela_recall`, `rela_f1`: over pairs of entities instead of triples, whether a relation is
          predicted, and whether there is one, whichever it is. The paper does not define its Rela; of what it may be,
          this F1 fits its numbers. `rela_accuracy`: part of all ordered pairs of different entities where both agree,
          nearly all of which have none.
        - `relation/P17/precision`, `relation/P17/recall`, `relation/P17/f1`: each relation in gold or predictions.

    Raises:
        UnlabelledError: If a reference or training document has no `labels` (DocRED's test split has none).
        ScoringError: If a row or a document is malformed.

    Example:
    ```python
    >>> pair = [[{"name": "Mirel", "sent_id": 0}], [{"name": "Ostania", "sent_id": 0}]]
    >>> gold = [{"title": "Mirel", "vertexSet": pair, "labels": [{"h": 0, "t": 1, "r": "P17", "evidence": [0]}]}]
    >>> score([{"title": "Mirel", "h_idx": 0, "t_idx": 1, "r": "P17"}], gold)["f1"]
    1.0

    ```
    """
    gold = read_references(references)
    predicted = read_predictions(predictions)
    _log_surprises(predicted, gold)
    correct = predicted.keys() & gold.evidence.keys()
    counts = _Counts(correct, predicted.keys(), gold.evidence.keys())
    gold_relations = {relation for *_, relation in gold.evidence}

    figures = _figures(len(correct), len(predicted), len(gold.evidence))
    figures |= _figures(
        sum(len(predicted[triple] & gold.evidence[triple]) for triple in correct),
        sum(len(evidence) for triple, evidence in predicted.items() if triple[0] in gold.entities),
        gold.evidence_total,
        prefix="evidence_",
    )
    with_evidence = [triple for triple in correct if gold.evidence[triple]]
    figures |= _figures(
        sum(len(predicted[triple] & gold.evidence[triple]) for triple in with_evidence),
        sum(len(predicted[triple]) for triple in with_evidence),
        sum(len(gold.evidence[triple]) for triple in with_evidence),
        prefix="evidence_sentence_",
    )
    training_counts: Counter[str] | None = None
    if train_annotated is not None:
        known, training_counts = _scan_training(train_annotated, "train_annotated", correct, gold)
        figures |= _ignoring(known, counts, figures["recall"])
    if train_distant is not None:
        known, _ = _scan_training(train_distant, "train_distant", correct, gold)
        figures |= _ignoring(known, counts, figures["recall"], suffix="_distant")
    figures |= counts.slices(_distance(gold), ("intra", "inter"))
    figures |= counts.slices(_frequency, ("frequent", "long_tail"))
    if training_counts is not None:
        figures |= counts.slices(_band(training_counts, gold_relations), ("head", "middle", "tail"))
    figures |= _related_pairs(predicted.keys(), gold)
    by_relation = counts.relations()
    figures |= _macro(by_relation, gold_relations, training_counts)
    for relation, values in by_relation.items():
        figures |= {f"relation/{relation}/{name}": value for name, value in values.items()}
    return figures


def relation_counts(documents: Iterable[Mapping[str, Any]]) -> Counter[str]:
    """Counts the triples of each relation; a triple that a document repeats counts once.

    Applied to the gold documents this is the support behind the `relation/...` figures, applied to the training
    documents the counts behind Macro@k and head / middle / tail.

    Args:
        documents (`Iterable[Mapping]`): Labelled documents in DocRED's form.

    Returns:
        `Counter[str]`: number of triples by relation id.

    Raises:
        UnlabelledError: If a document has no `labels`.
        ScoringError: If a document is malformed.
    """
    counts: Counter[str] = Counter()
    for *_, labels in read_labelled(documents, "documents"):
        counts.update(relation for *_, relation in _distinct(labels))
    return counts


# --- figures -------------------------------------------------------------------------------------------------------


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _f1(precision: float, recall: float) -> float:
    return 2.0 * precision * recall / (precision + recall) if precision + recall else 0.0


def _figures(correct: int, predicted: int, gold: int, *, prefix: str = "", suffix: str = "") -> dict[str, float]:
    precision, recall = _ratio(correct, predicted), _ratio(correct, gold)
    named = {"precision": precision, "recall": recall, "f1": _f1(precision, recall)}
    return {f"{prefix}{name}{suffix}": value for name, value in named.items()}


def _ignoring(known: int, counts: _Counts, recall: float, *, suffix: str = "") -> dict[str, float]:
    precision = _ratio(len(counts.correct) - known, len(counts.predicted) - known)
    return {f"ign_precision{suffix}": precision, f"ign_f1{suffix}": _f1(precision, recall)}


def _related_pairs(predicted: Collection[Triple], gold: Gold) -> dict[str, float]:
    found, wanted = ({triple[:3] for triple in triples} for triples in (predicted, gold.evidence))
    sizes = {title: len(entities) for title, entities in gold.entities.items()}
    # What is no pair of different entities of a document is wrong, and none of those that accuracy is a part of.
    differs = sum(
        head != tail and 0 <= head < sizes.get(title, 0) and 0 <= tail < sizes[title]
        for title, head, tail in found ^ wanted
    )
    pairs = sum(size * (size - 1) for size in sizes.values())
    figures = _figures(len(found & wanted), len(found), len(wanted), prefix="rela_")
    return {**figures, "rela_accuracy": _ratio(pairs - differs, pairs)}


@dataclass(frozen=True, slots=True)
class _Counts:
    correct: Collection[Triple]
    predicted: Collection[Triple]
    gold: Collection[Triple]

    def _by(self, group: Callable[[Triple], str | None]) -> tuple[Counter[str | None], ...]:
        return tuple(Counter(map(group, triples)) for triples in (self.correct, self.predicted, self.gold))

    def slices(self, group: Callable[[Triple], str | None], names: Sequence[str]) -> dict[str, float]:
        counters = self._by(group)
        figures: dict[str, float] = {}
        for name in names:
            figures |= _figures(*(counter[name] for counter in counters), suffix=f"_{name}")
        return figures

    def relations(self) -> dict[str, dict[str, float]]:
        correct, predicted, gold = self._by(_relation_of)
        names = sorted(str(name) for name in predicted.keys() | gold.keys())
        return {name: _figures(correct[name], predicted[name], gold[name]) for name in names}


def _frequency(triple: Triple) -> str:
    return "frequent" if triple[3] in FREQUENT_RELATIONS else "long_tail"


def _distance(gold: Gold) -> Callable[[Triple], str | None]:
    def sentences_of(entity: Sequence[Mapping[str, Any]], where: str) -> set[int]:
        known = (mention["sent_id"] for mention in entity if mention.get("sent_id") is not None)
        return {read_integer(sentence, where, "sent_id") for sentence in known}

    sentences = {
        title: [sentences_of(entity, f"references ({title!r})") for entity in entities]
        for title, entities in gold.entities.items()
    }

    def group(triple: Triple) -> str | None:
        title, head, tail, _ = triple
        entities = sentences.get(title, ())
        if not (0 <= head < len(entities) and 0 <= tail < len(entities) and entities[head] and entities[tail]):
            return None
        return "inter" if entities[head].isdisjoint(entities[tail]) else "intra"

    return group


def _band(training_counts: Counter[str], gold_relations: set[str]) -> Callable[[Triple], str]:
    # Predictions do not take part in the ranking: the bands have to be the same for every system that is compared.
    ranked = sorted(training_counts.keys() | gold_relations, key=lambda name: (-training_counts[name], name))
    bands = dict.fromkeys(ranked[:NUM_HEAD_RELATIONS], "head")
    bands |= dict.fromkeys(ranked[NUM_HEAD_RELATIONS:-NUM_TAIL_RELATIONS], "middle")
    return lambda triple: bands.get(triple[3], "tail")


def _macro(
    by_relation: Mapping[str, Mapping[str, float]], gold_relations: set[str], training_counts: Counter[str] | None
) -> dict[str, float]:
    def mean(relations: Collection[str]) -> float:
        return sum(by_relation[name]["f1"] for name in sorted(relations & by_relation.keys())) / (len(relations) or 1)

    figures = {"macro_f1": mean(gold_relations)}
    if training_counts is not None:
        for limit in MACRO_THRESHOLDS:
            rare = {name for name in gold_relations if training_counts[name] < limit}
            figures[f"macro_f1_at_{limit}"] = mean(rare)
        figures["macro_f1_all"] = mean(gold_relations | training_counts.keys())
    return figures


def _scan_training(
    train: Iterable[Mapping[str, Any]], name: str, correct: Collection[Triple], gold: Gold
) -> tuple[int, Counter[str]]:
    # Only facts of correct predictions can matter, so those are looked up in the training file: collecting all facts
    # of the distant file, as the official scorer does, takes more than a gigabyte.
    facts = [
        _facts(gold.entities[title], head, tail, relation, f"references ({title!r})")
        for title, head, tail, relation in correct
    ]
    wanted = set().union(*facts)
    seen: set[tuple[str, str, str]] = set()
    counts: Counter[str] = Counter()
    for where, _, entities, labels in read_labelled(train, name):
        for head, tail, relation in _distinct(labels):
            counts[relation] += 1
            seen |= wanted & _facts(entities, head, tail, relation, where)
    return sum(not seen.isdisjoint(candidates) for candidates in facts), counts


def _facts(entities: Entities, head: int, tail: int, relation: str, where: str) -> set[tuple[str, str, str]]:
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


__all__ = ["ScoringError", "UnlabelledError", "read_json", "relation_counts", "score", "write_submission"]
