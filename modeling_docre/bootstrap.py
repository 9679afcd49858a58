"""Figures of resampled documents: how sure a difference between two systems is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

# Resamples at once: their weights are a table of so many rows, one column for each document.
_BLOCK = 1000

RESAMPLED = ("f1", "precision", "recall", "ign_f1", "ign_precision", "macro_f1")
"""Figures of the scorer that sums over documents give, so that they can be resampled."""


@dataclass(frozen=True, slots=True)
class DocumentCounts:
    """
    What a run predicted in each document, counted.

    Args:
        correct (`numpy.ndarray` of shape `(documents, relations)`): Right predictions.
        predicted (`numpy.ndarray` of shape `(documents, relations)`): Predictions.
        gold (`numpy.ndarray` of shape `(documents, relations)`): Gold facts.
        known (`numpy.ndarray` of shape `(documents,)`, *optional*): Right predictions whose fact the training
            documents name.
    """

    correct: np.ndarray
    predicted: np.ndarray
    gold: np.ndarray
    known: np.ndarray | None = None

    def figures(self, weights: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
        """
        Score collections of the documents.

        Args:
            weights (`numpy.ndarray` of shape `(collections, documents)`): How often a document is in each.
            names (sequence of `str`): Which of `RESAMPLED` to compute.

        Returns:
            `dict[str, numpy.ndarray]`: Figures of shape `(collections,)`, as the scorer has them for each.
        """
        correct, predicted, gold = (
            weights @ part.sum(1).astype(float) for part in (self.correct, self.predicted, self.gold)
        )
        known = np.zeros_like(correct) if self.known is None else weights @ self.known.astype(float)
        recall = _ratio(correct, gold)
        micro: dict[str, Callable[[], np.ndarray]] = {
            "f1": lambda: _f1(_ratio(correct, predicted), recall),
            "precision": lambda: _ratio(correct, predicted),
            "recall": lambda: recall,
            "ign_precision": lambda: _ratio(correct - known, predicted - known),
            "ign_f1": lambda: _f1(_ratio(correct - known, predicted - known), recall),
            "macro_f1": lambda: self._macro(weights),
        }
        return {name: micro[name]() for name in names}

    def _macro(self, weights: np.ndarray) -> np.ndarray:
        correct, predicted, gold = (weights @ part.astype(float) for part in (self.correct, self.predicted, self.gold))
        each = _f1(_ratio(correct, predicted), _ratio(correct, gold))
        # A relation counts where it has a gold fact, in each collection anew.
        return _ratio((each * (gold > 0)).sum(1), (gold > 0).sum(1).astype(float))


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def _f1(precision: np.ndarray, recall: np.ndarray) -> np.ndarray:
    return _ratio(2.0 * precision * recall, precision + recall)


def resample(
    systems: Mapping[str, Sequence[DocumentCounts]], names: Sequence[str], *, samples: int = 10_000, seed: int = 13
) -> dict[str, dict[str, np.ndarray]]:
    """
    Score systems on the same resampled documents.

    A resample has as many documents as there are, drawn with replacement. A system with several runs has the mean
    over them in each resample.

    Args:
        systems (`Mapping`): For each system the counts of its runs, over the same documents.
        names (sequence of `str`): Which of `RESAMPLED` to compute.
        samples (`int`, *optional*, defaults to 10000): How many resamples.
        seed (`int`, *optional*, defaults to 13): What to draw with.

    Returns:
        `dict[str, dict[str, numpy.ndarray]]`: By system and figure, an array of shape `(samples + 1,)`, whose first
        entry is of the documents as they are.
    """
    documents = len(next(iter(systems.values()))[0].correct)
    blocks: list[dict[str, dict[str, np.ndarray]]] = [_score_all(systems, names, np.ones((1, documents)))]
    generator = np.random.default_rng(seed)
    for start in range(0, samples, _BLOCK):
        weights = generator.multinomial(documents, np.full(documents, 1 / documents), min(_BLOCK, samples - start))
        blocks.append(_score_all(systems, names, weights.astype(float)))
    return {
        system: {name: np.concatenate([block[system][name] for block in blocks]) for name in names}
        for system in systems
    }


def _score_all(
    systems: Mapping[str, Sequence[DocumentCounts]], names: Sequence[str], weights: np.ndarray
) -> dict[str, dict[str, np.ndarray]]:
    found = {}
    for system, runs in systems.items():
        each = [run.figures(weights, names) for run in runs]
        found[system] = {name: np.mean([figures[name] for figures in each], axis=0) for name in names}
    return found


@dataclass(frozen=True, slots=True)
class PairedTest:
    """
    A paired bootstrap test of two systems.

    Args:
        figure (`str`): The figure that is compared.
        system (`str`): The one.
        other (`str`): The other.
        difference (`float`): The figure of `system` minus that of `other`.
        low (`float`): Lower end of the 95% confidence interval of the difference.
        high (`float`): Its upper end.
        p (`float`): p-value of "`system` is better than `other`"; that of "worse" is 1 less it.
    """

    figure: str
    system: str
    other: str
    difference: float
    low: float
    high: float
    p: float

    def better_first(self) -> PairedTest:
        """The same test with the system first that is better."""
        if self.difference >= 0:
            return self
        return PairedTest(self.figure, self.other, self.system, -self.difference, -self.high, -self.low, 1.0 - self.p)


def paired_test(figure: str, system: str, other: str, ours: np.ndarray, theirs: np.ndarray) -> PairedTest:
    """
    Test a difference by its resamples.

    A p-value is the part of the resamples whose difference is beyond twice the measured one: a resample scatters
    around the measured difference as the measured one does around a true difference of 0 (Berg-Kirkpatrick et al.,
    2012, section 3). Resamples that equal it count by half, and the measured difference counts as one of them, so that
    two systems that always agree have 0.5. The interval holds the middle 95% of the resampled differences.

    Args:
        figure (`str`): What is compared.
        system (`str`): The one system.
        other (`str`): The other.
        ours (`numpy.ndarray` of shape `(samples + 1,)`): Figures of `system`, as [`resample`] returns them.
        theirs (`numpy.ndarray` of shape `(samples + 1,)`): Those of `other`, on the same documents.

    Returns:
        [`PairedTest`]: The test.
    """
    differences = ours - theirs
    measured, drawn = float(differences[0]), differences[1:]
    low, high = np.quantile(drawn, [0.025, 0.975])
    # Sums of floats: what is equal but for rounding is equal.
    beyond = np.where(np.isclose(drawn, 2 * measured, rtol=0, atol=1e-12), 0.0, np.sign(drawn - 2 * measured))
    p = (np.sum(beyond > 0) + np.sum(beyond == 0) / 2 + 0.5) / (len(drawn) + 1)
    return PairedTest(figure, system, other, measured, float(low), float(high), float(p))


__all__ = ["RESAMPLED", "DocumentCounts", "PairedTest", "paired_test", "resample"]
