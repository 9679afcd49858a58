"""What the figures are made of: counts of triples, in all and by slice, and the relations that a mean is over.

On the standard library alone, like the rest of the scorer. [`scoring.score`] names the source of each measure.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import itemgetter
from typing import Any, NamedTuple

from .rows import Gold, Triple, read_integer

FREQUENT_RELATIONS = frozenset({"P17", "P131", "P27", "P150", "P175", "P577", "P463", "P527", "P495", "P361"})
MACRO_THRESHOLDS = (500, 200, 100)

DOCRED_FACTS = 38_180
"""Facts of DocRED's annotated training documents, for which the thresholds of Macro@k were chosen."""

NUM_HEAD_RELATIONS = 10
NUM_TAIL_RELATIONS = 20
NUM_CLUSTERS = 10

LONG_DISTANCE = 5
"""How many sentences apart the nearest mentions may be; Re-DocRED's evaluation calls more `inter_long`."""

RELATED_SHARES = (0, 2, 4, 6, 8, 10, 100)
"""Bounds of the groups of documents by the percentage of their pairs that are related. PAEE has no numbers for its."""


Pairs = set[tuple[str, int, int]]
"""Title of the document, head entity, tail entity."""


class Counts(NamedTuple):
    """How many triples, sentences or pairs are right, how many are predicted, and how many there are."""

    correct: int
    predicted: int
    gold: int


@dataclass(frozen=True, slots=True)
class Compared:
    """Predicted and gold triples, taken apart.

    Args:
        correct (`Collection[Triple]`): Those that are both.
        wrong (`Collection[Triple]`): Predicted ones that are not gold.
        missed (`Collection[Triple]`): Gold ones that are not predicted.
    """

    correct: Collection[Triple]
    wrong: Collection[Triple]
    missed: Collection[Triple]

    @classmethod
    def of(cls, predicted: Mapping[Triple, Any], gold: Mapping[Triple, Any]) -> Compared:
        """Compares the keys of two mappings."""
        return cls(predicted.keys() & gold.keys(), predicted.keys() - gold.keys(), gold.keys() - predicted.keys())

    @property
    def counts(self) -> Counts:
        """All of them."""
        correct = len(self.correct)
        return Counts(correct, correct + len(self.wrong), correct + len(self.missed))

    def by(self, group: Callable[[Triple], Any]) -> dict[Any, Counts]:
        """Counts triples by what `group` makes of them."""
        correct, wrong, missed = (Counter(map(group, part)) for part in (self.correct, self.wrong, self.missed))
        return {
            name: Counts(correct[name], correct[name] + wrong[name], correct[name] + missed[name])
            for name in correct | wrong | missed
        }


def total(counts: Iterable[Counts]) -> Counts:
    """Adds counts up."""
    sums = [sum(column) for column in zip(*counts, strict=True)]
    return Counts(*sums) if sums else Counts(0, 0, 0)


def ratio(part: float, whole: float) -> float:
    """Divides; 0 / 0 is 0.0."""
    return part / whole if whole else 0.0


def harmonic_mean(precision: float, recall: float) -> float:
    """F1."""
    return 2.0 * precision * recall / (precision + recall) if precision + recall else 0.0


def figures(counts: Counts, name: str = "{}") -> dict[str, float]:
    """Makes precision, recall and F1 of counts, each under `name` with its own name in the place of the braces."""
    precision, recall = ratio(counts.correct, counts.predicted), ratio(counts.correct, counts.gold)
    named = {"precision": precision, "recall": recall, "f1": harmonic_mean(precision, recall)}
    return {name.replace("{}", key): value for key, value in named.items()}


# --- slices of the triples -----------------------------------------------------------------------------------------


def by_distance(compared: Compared, gold: Gold) -> dict[str, Counts]:
    """Counts by how many sentences apart the nearest mentions are: none, some, and more than `LONG_DISTANCE`."""
    by = compared.by(_distance(gold))
    known = [(distance, counts) for distance, counts in by.items() if distance is not None]
    return {
        "{}_intra": by.get(0, Counts(0, 0, 0)),
        "{}_inter": total(counts for distance, counts in known if distance > 0),
        "{}_inter_long": total(counts for distance, counts in known if distance > LONG_DISTANCE),
    }


def _distance(gold: Gold) -> Callable[[Triple], int | None]:
    def sentences_of(entity: Sequence[Mapping[str, Any]], where: str) -> set[int]:
        known = (mention["sent_id"] for mention in entity if mention.get("sent_id") is not None)
        return {read_integer(sentence, where, "sent_id") for sentence in known}

    sentences = {
        title: [sentences_of(entity, f"references ({title!r})") for entity in entities]
        for title, entities in gold.entities.items()
    }

    def distance(triple: Triple) -> int | None:
        title, head, tail, _ = triple
        entities = sentences.get(title, ())
        if not (0 <= head < len(entities) and 0 <= tail < len(entities) and entities[head] and entities[tail]):
            return None
        if not entities[head].isdisjoint(entities[tail]):
            return 0
        return min(abs(first - second) for first in entities[head] for second in entities[tail])

    return distance


def of_candidates(compared: Compared, gold: Gold) -> dict[str, Counts]:
    """Counts the triples of candidate pairs, where documents say which these are."""
    if not gold.candidates:
        return {}

    def is_candidate(triple: Triple) -> bool:
        return triple[0] not in gold.candidates or triple[1:3] in gold.candidates[triple[0]]

    return {"{}_candidates": compared.by(is_candidate).get(True, Counts(0, 0, 0))}


def by_related_share(compared: Compared, gold: Gold, wanted: Pairs) -> tuple[dict[str, Counts], dict[str, int]]:
    """Counts triples, and documents, by the percentage of the document's pairs that are `wanted`, the gold ones."""
    related = Counter(title for title, head, tail in wanted if head != tail)
    names = [f"{low}_{high}" for low, high in pairwise(RELATED_SHARES)]
    groups = {}
    for title, entities in gold.entities.items():
        share = ratio(100 * related[title], len(entities) * (len(entities) - 1))
        # Documents that share a title may have more labels than pairs, and none is above the last bound.
        groups[title] = names[bisect_right(RELATED_SHARES[1:-1], share)]
    by, documents = compared.by(lambda triple: groups.get(triple[0])), Counter(groups.values())
    return (
        {f"{{}}_related_{name}": by.get(name, Counts(0, 0, 0)) for name in names},
        {f"related_{name}": documents[name] for name in names},
    )


def by_group(
    by_relation: Mapping[str, Counts], group: Callable[[str], Any], names: Mapping[str, Any]
) -> dict[str, Counts]:
    """Counts by what `group` makes of the relation; `names` has what it has to be for each slice."""
    return {
        f"{{}}_{name}": total(counts for relation, counts in by_relation.items() if group(relation) == wanted)
        for name, wanted in names.items()
    }


def by_bands(by_relation: Mapping[str, Counts], ranked: Sequence[str]) -> dict[str, Counts]:
    """Counts by whether a relation is among the first, the last or the other ranks; one that has none is last."""
    bands = dict.fromkeys(ranked[:NUM_HEAD_RELATIONS], "head")
    bands |= dict.fromkeys(ranked[NUM_HEAD_RELATIONS:-NUM_TAIL_RELATIONS], "middle")
    names = ("head", "middle", "tail")
    return by_group(by_relation, lambda relation: bands.get(relation, "tail"), dict(zip(names, names, strict=True)))


def inferred(compared: Compared) -> Counts:
    """Counts the facts that two others lead to: gold ones of gold ones, predicted ones of predicted ones."""
    predicted, gold = (_two_hops([*compared.correct, *part]) for part in (compared.wrong, compared.missed))
    return Counts(len(predicted & gold), len(predicted), len(gold))


def _two_hops(triples: Collection[Triple]) -> set[Triple]:
    heads: defaultdict[tuple[str, int], set[int]] = defaultdict(set)
    tails: defaultdict[tuple[str, int], set[int]] = defaultdict(set)
    for title, head, tail, _ in triples:
        # Without these, what the two sets share is neither the head nor the tail of a fact.
        if head != tail:
            heads[title, tail].add(head)
            tails[title, head].add(tail)
    return {
        triple
        for triple in triples
        if triple[1] != triple[2] and not tails[triple[0], triple[1]].isdisjoint(heads[triple[0], triple[2]])
    }


# --- pairs ---------------------------------------------------------------------------------------------------------


def pairs_of(triples: Iterable[Triple]) -> Pairs:
    """Takes the relations away."""
    return {triple[:3] for triple in triples}


def outcomes(compared: Compared, found: Pairs, wanted: Pairs) -> dict[str, int]:
    """Counts triples by what became of them, given the predicted and the gold pairs."""
    wrong = sum(triple[:3] in wanted for triple in compared.wrong)
    missed = sum(triple[:3] not in found for triple in compared.missed)
    return {
        "correct": len(compared.correct),
        "wrong": wrong,
        "missed": missed,
        "more": len(compared.wrong) - wrong,
        "overlooked": len(compared.missed) - missed,
    }


def pair_accuracy(found: Pairs, wanted: Pairs, gold: Gold) -> float:
    """Says for which part of all pairs prediction and gold agree on whether there is a relation."""
    sizes = {title: len(entities) for title, entities in gold.entities.items()}
    # What is no pair of different entities of a document is wrong, and none of those that accuracy is a part of.
    differs = sum(
        head != tail and 0 <= head < sizes.get(title, 0) and 0 <= tail < sizes[title]
        for title, head, tail in found ^ wanted
    )
    pairs = sum(size * (size - 1) for size in sizes.values())
    return ratio(pairs - differs, pairs)


# --- relations that a mean is over ---------------------------------------------------------------------------------


def rank(training: Counter[str], gold_relations: Collection[str]) -> list[str]:
    """Sorts relations by training facts, the most frequent first; ties go by id.

    Predictions do not take part: ranks have to be the same for every system that is compared.
    """
    return sorted({*training, *gold_relations}, key=lambda name: (-training[name], name))


def averaged_relations(gold_relations: Collection[str], training: Counter[str] | None) -> dict[str, set[str]]:
    """Says which relations each mean of F1 is over."""
    named = {"macro_f1": set(gold_relations)}
    if training is None:
        return named
    for name, facts, of_facts in (("at", 1, 1), ("scaled", training.total(), DOCRED_FACTS)):
        for limit in MACRO_THRESHOLDS:
            rare = {relation for relation in gold_relations if training[relation] * of_facts < limit * facts}
            named[f"macro_f1_{name}_{limit}"] = rare
    named["macro_f1_all"] = {*gold_relations, *training}
    ranked = rank(training, gold_relations)
    size, larger = divmod(len(ranked), NUM_CLUSTERS)
    start = 0
    for number in range(NUM_CLUSTERS):
        end = start + size + (number < larger)
        named[f"f1_cluster_{number + 1}"] = {name for name in ranked[start:end] if name in gold_relations}
        start = end
    return named


# --- everything ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Counted:
    """What the figures are made of.

    Args:
        triples (`dict[str, Counts]`): Counts by the name of the three figures, with `{}` where theirs goes.
        by_relation (`dict[str, Counts]`): Counts of each relation.
        averaged (`dict[str, set[str]]`): The relations that each mean of F1 is over.
        outcomes (`dict[str, int]`): Triples by what became of them.
        documents (`dict[str, int]`): Documents by group.
        pair_accuracy (`float`): The one figure that is none of counts of triples.
    """

    triples: dict[str, Counts]
    by_relation: dict[str, Counts]
    averaged: dict[str, set[str]]
    outcomes: dict[str, int]
    documents: dict[str, int]
    pair_accuracy: float


def count(
    predicted: Mapping[Triple, frozenset[int]],
    gold: Gold,
    compared: Compared,
    training: Counter[str] | None,
    few_facts: int | None,
) -> Counted:
    """Counts all that figures are made of.

    Args:
        predicted (`Mapping[Triple, frozenset[int]]`): Predicted triples with their evidence.
        gold (`Gold`): The reference documents.
        compared (`Compared`): The triples of both.
        training (`Counter[str]`, *optional*): Training triples by relation.
        few_facts (`int`, *optional*): Below how many of them a relation has few.

    Returns:
        `Counted`: the counts.
    """
    by_relation = dict(sorted(compared.by(itemgetter(3)).items()))
    gold_relations = {name for name, counts in by_relation.items() if counts.gold}
    found, wanted = pairs_of(predicted), pairs_of(gold.evidence)
    by_share, documents = by_related_share(compared, gold, wanted)
    triples = {
        "{}": compared.counts,
        **_evidence(predicted, gold, compared.correct),
        **by_distance(compared, gold),
        **of_candidates(compared, gold),
        **by_group(by_relation, lambda name: name in FREQUENT_RELATIONS, {"frequent": True, "long_tail": False}),
    }
    if training is not None:
        triples |= by_bands(by_relation, rank(training, gold_relations))
        if few_facts is not None:
            triples |= by_group(
                by_relation, lambda name: training[name] < few_facts, {"few_facts": True, "many_facts": False}
            )
    triples |= by_share
    triples["infer_{}"] = inferred(compared)
    triples["rela_{}"] = Counts(len(found & wanted), len(found), len(wanted))
    return Counted(
        triples=triples,
        by_relation=by_relation,
        averaged=averaged_relations(gold_relations, training),
        outcomes=outcomes(compared, found, wanted),
        documents=documents,
        pair_accuracy=pair_accuracy(found, wanted, gold),
    )


def _evidence(
    predicted: Mapping[Triple, frozenset[int]], gold: Gold, correct: Collection[Triple]
) -> dict[str, Counts]:
    right = sum(len(predicted[triple] & gold.evidence[triple]) for triple in correct)
    everything = sum(len(evidence) for triple, evidence in predicted.items() if triple[0] in gold.entities)
    with_evidence = [triple for triple in correct if gold.evidence[triple]]
    return {
        "evidence_{}": Counts(right, everything, gold.evidence_total),
        # Where there is no gold evidence, none is right.
        "evidence_sentence_{}": Counts(
            right,
            sum(len(predicted[triple]) for triple in with_evidence),
            sum(len(gold.evidence[triple]) for triple in with_evidence),
        ),
    }
