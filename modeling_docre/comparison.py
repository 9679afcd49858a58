"""Comparison of systems on one set of documents: figures over seeds, paired tests, and relations won and lost."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .bootstrap import RESAMPLED, DocumentCounts, PairedTest, paired_test, resample
from .metrics.docred.rows import Gold, Triple, read_labelled, read_predictions, read_references
from .metrics.docred.scoring import fact_names, relation_counts, score
from .names import suggest_name

SURE = 0.025
"""p-value below which the best system counts as better than another: which one is the best is looked up in the same
documents, so that half of 0.05 stands for each direction."""
_SAME = 1e-12


class ComparisonError(ValueError):
    """Systems that cannot be compared; the message says which, and what to do instead."""


@dataclass(frozen=True, slots=True)
class SystemFigures:
    """
    The figures of a system.

    Args:
        name (`str`): Its name.
        runs (`int`): How many runs it has, each with another seed.
        mean (`dict[str, float]`): Each figure's mean over the runs.
        deviation (`dict[str, float]`, *optional*): Its sample standard deviation; `None` with one run.
        silent (`int`): Documents with gold relations in which no run predicts any.
    """

    name: str
    runs: int
    mean: dict[str, float]
    deviation: dict[str, float] | None
    silent: int


@dataclass(frozen=True, slots=True)
class RelationFigures:
    """
    F1 of a relation.

    Args:
        relation (`str`): Its id.
        gold (`int`): Gold facts of it.
        f1 (`dict[str, float]`): For each system the mean over its runs.
    """

    relation: str
    gold: int
    f1: dict[str, float]


@dataclass(frozen=True, slots=True)
class Comparison:
    """
    What [`compare`] finds.

    Args:
        figures (`list[str]`): The figures, as the scorer calls them.
        systems (`list[SystemFigures]`): The systems, in their order.
        tests (`list[PairedTest]`): For each figure that can be resampled, each system against each one before it.
        relations (`list[RelationFigures]`): The relations with gold facts, most facts first.
        documents (`int`): How many documents were scored.
        samples (`int`): How many resamples the tests have.
        seed (`int`): What they were drawn with.
    """

    figures: list[str]
    systems: list[SystemFigures]
    tests: list[PairedTest]
    relations: list[RelationFigures]
    documents: int
    samples: int
    seed: int

    def best(self, figure: str) -> str | None:
        """
        Find the system that a figure is highest for, where the tests say that it is better than each other one.

        Args:
            figure (`str`): One of `figures`.

        Returns:
            `str`, *optional*: Its name; `None` where a test leaves a doubt, or there is none.
        """
        name = max(self.systems, key=lambda system: system.mean[figure]).name
        tests = [test for test in self.tests if test.figure == figure]
        chances = [
            test.p if test.system == name else 1 - test.p for test in tests if name in (test.system, test.other)
        ]
        return name if chances and max(chances) < SURE else None

    def gains(self, system: str) -> list[tuple[RelationFigures, float]]:
        """
        Compare the relations of a system with those of the first one.

        Args:
            system (`str`): The system's name.

        Returns:
            `list`: Each relation with its F1 less that of the first system, the largest gain first; a relation with
            more gold facts first where it is equal.
        """
        first = self.systems[0].name
        found = [(relation, relation.f1[system] - relation.f1[first]) for relation in self.relations]
        return sorted(found, key=lambda pair: -round(pair[1], 12))

    def wins(self, system: str) -> tuple[int, int, int]:
        """
        Count relations: those that a system is better at than the first one, as good, and worse.

        Args:
            system (`str`): The system's name.
        """
        differences = [gain for _, gain in self.gains(system)]
        better, worse = sum(gain > _SAME for gain in differences), sum(gain < -_SAME for gain in differences)
        return better, len(differences) - better - worse, worse


def compare(
    systems: Mapping[str, Sequence[Iterable[Mapping[str, Any]]]],
    references: Sequence[Mapping[str, Any]],
    *,
    train_annotated: Sequence[Mapping[str, Any]] | None = None,
    figures: Sequence[str] | None = None,
    samples: int = 10_000,
    seed: int = 13,
) -> Comparison:
    """
    Compare what systems predict in the same documents.

    Each figure is the mean over a system's runs, with their sample standard deviation. Differences are tested by a
    paired bootstrap over documents (Koehn, 2004; Berg-Kirkpatrick et al., 2012): documents are drawn with replacement,
    and all runs of both systems are scored on the same ones, again with the mean over runs. So a test says whether
    other documents would give the same order, and takes the runs as they are; what other seeds would give, the
    standard deviation says. Documents that share a title are one, as they are for the scorer.

    Args:
        systems (`Mapping[str, Sequence]`):
            Two systems or more, by name: for each its runs, each the rows of a submission.
        references (sequence of `Mapping`):
            Gold documents in DocRED's form.
        train_annotated (sequence of `Mapping`, *optional*):
            Training documents, for Ign F1, Macro@k and head, middle and tail.
        figures (sequence of `str`, *optional*):
            What to compare: any figure of [`score`]. Those of `RESAMPLED` are tested. Defaults to F1, Ign F1 where
            there are training documents, precision, recall and Macro F1.
        samples (`int`, *optional*, defaults to 10000):
            Resamples of the documents.
        seed (`int`, *optional*, defaults to 13):
            What they are drawn with.

    Returns:
        [`Comparison`]: What was found.

    Raises:
        ComparisonError: If there is one system alone, a system without runs, a figure that is unknown or needs the
            training documents, no documents, or a run predicts relations of documents that are not there.
        ScoringError: If a row or a document is malformed.
    """
    _check_wishes(systems, samples)
    gold = read_references(references)
    rows = {name: [read_predictions(run) for run in runs] for name, runs in systems.items()}
    _check_titles(rows, gold)
    scores = {
        name: [score(_as_rows(run), references, train_annotated=train_annotated) for run in runs]
        for name, runs in rows.items()
    }
    figures = _check_figures(figures, next(iter(scores.values()))[0], train_annotated is not None)
    tested = [figure for figure in figures if figure in RESAMPLED]
    facts = None if train_annotated is None else _training_facts(train_annotated)
    counts = {name: [_count(run, gold, facts) for run in runs] for name, runs in rows.items()}
    drawn = resample(counts, tested, samples=samples, seed=seed) if tested else {}
    names = list(systems)
    return Comparison(
        figures=figures,
        systems=[_figures_of(name, scores[name], figures, rows[name], gold) for name in names],
        tests=[
            paired_test(figure, name, other, drawn[name][figure], drawn[other][figure])
            for figure in tested
            for number, name in enumerate(names)
            for other in names[:number]
        ],
        relations=[
            RelationFigures(
                relation,
                facts_of_it,
                {name: statistics.fmean(run[f"relation/{relation}/f1"] for run in scores[name]) for name in names},
            )
            for relation, facts_of_it in sorted(relation_counts(references).items(), key=lambda one: (-one[1], one[0]))
        ],
        documents=len(gold.entities),
        samples=samples,
        seed=seed,
    )


def _check_wishes(systems: Mapping[str, Sequence[Any]], samples: int) -> None:
    if len(systems) < 2:
        only = next(iter(systems), None)
        raise ComparisonError(
            f"{'There is no system' if only is None else f'There is one system alone, {only!r}'}: pass two or more. "
            "Runs with one name, or with recipes that differ in their seed alone, are seeds of one system; docre "
            "evaluate scores one file of predictions."
        )
    empty = [name for name, runs in systems.items() if not runs]
    if empty:
        raise ComparisonError(f"System {empty[0]!r} has no run: pass its predictions, or leave it out.")
    if samples < 1:
        raise ComparisonError(f"samples is {samples}: pass 1 or more; 10,000 are usual.")


def _check_titles(rows: Mapping[str, Sequence[Iterable[Triple]]], gold: Gold) -> None:
    if not gold.entities:
        raise ComparisonError("The references hold no document: pass labelled ones.")
    for name, runs in rows.items():
        for number, run in enumerate(runs, 1):
            titles = {title for title, *_ in run}
            unknown = sorted(titles - gold.entities.keys())
            if unknown:
                raise ComparisonError(
                    f"System {name!r}, run {number} predicts relations of other documents: {len(unknown)} of its "
                    f"{len(titles)} titles are not among the {len(gold.entities)} references, such as "
                    f"{unknown[0]!r}. Compare predictions of one set of documents, with its gold file."
                )


def _check_figures(wanted: Sequence[str] | None, scores: Mapping[str, float], trained: bool) -> list[str]:
    if wanted is None:
        return [name for name in ("f1", "ign_f1", "precision", "recall", "macro_f1") if name in scores]
    known = [name for name in scores if not name.startswith("relation/")]
    for name in wanted:
        if name not in known:
            remedy = suggest_name(name, known)
            if not trained:
                remedy += (
                    " Figures about training facts need the training documents: train_annotated (--train-annotated)."
                )
            raise ComparisonError(f"There is no figure {name!r}.{remedy}")
    if not wanted:
        raise ComparisonError("No figure is named: pass some, such as f1, or leave figures out.")
    return list(dict.fromkeys(wanted))


def _as_rows(run: Mapping[Triple, frozenset[int]]) -> list[dict[str, Any]]:
    return [
        {"title": title, "h_idx": head, "t_idx": tail, "r": relation, "evidence": sorted(evidence)}
        for (title, head, tail, relation), evidence in run.items()
    ]


def _figures_of(
    name: str,
    scores: Sequence[Mapping[str, float]],
    figures: Sequence[str],
    runs: Sequence[Iterable[Triple]],
    gold: Gold,
) -> SystemFigures:
    values = {figure: [run[figure] for run in scores] for figure in figures}
    spoken = {title for run in runs for title, *_ in run}
    return SystemFigures(
        name,
        len(scores),
        {figure: statistics.fmean(of_runs) for figure, of_runs in values.items()},
        {figure: statistics.stdev(of_runs) for figure, of_runs in values.items()} if len(scores) > 1 else None,
        len({title for title, *_ in gold.evidence} - spoken),
    )


def _training_facts(documents: Iterable[Mapping[str, Any]]) -> set[tuple[str, str, str]]:
    return {
        fact
        for where, _, entities, labels in read_labelled(documents, "train_annotated")
        for label in labels
        for fact in fact_names(entities, label.head, label.tail, label.relation, where)
    }


def _count(run: Iterable[Triple], gold: Gold, facts: set[tuple[str, str, str]] | None) -> DocumentCounts:
    documents = {title: row for row, title in enumerate(gold.entities)}
    columns = {relation: column for column, relation in enumerate(sorted({triple[3] for triple in gold.evidence}))}
    # Relations that no gold document has share the last column.
    shape = (len(documents), len(columns) + 1)

    def table(triples: Iterable[Triple]) -> np.ndarray:
        cells = Counter((documents[title], columns.get(relation, len(columns))) for title, _, _, relation in triples)
        found = np.zeros(shape, dtype=np.int32)
        for cell, number in cells.items():
            found[cell] = number
        return found

    correct = [triple for triple in run if triple in gold.evidence]
    known = None
    if facts is not None:
        known = np.zeros(len(documents), dtype=np.int32)
        for title, head, tail, relation in correct:
            named = fact_names(gold.entities[title], head, tail, relation, f"references ({title!r})")
            known[documents[title]] += not facts.isdisjoint(named)
    return DocumentCounts(table(correct), table(run), table(gold.evidence), known)


__all__ = ["SURE", "Comparison", "ComparisonError", "RelationFigures", "SystemFigures", "compare"]
