"""Pictures of generated pair embeddings, as PNG or SVG: told apart by colour and by shape or words."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .documents import Document
from .generator_quality import check_embeddings, draw_embeddings, score_generator
from .modeling_docre import DocREForRelationExtraction
from .output_files import DataFileError
from .pair_embeddings import PairEmbeddingStore, store_pair_embeddings
from .plot_style import COLOURS, check_picture, import_part
from .processing_docre import DocREProcessor
from .vaediff import VaeDiffModel

# Pairs of a relation that are drawn at most, and that it needs to be drawn.
_MOST, _LEAST = 80, 5


def plot_generator(
    generator: VaeDiffModel,
    model: DocREForRelationExtraction,
    processor: DocREProcessor,
    documents: Sequence[Document],
    path: str | os.PathLike[str],
    *,
    train: PairEmbeddingStore | None = None,
    relations: Sequence[str] | None = None,
    number: int = 6,
    seed: int = 13,
) -> dict[str, float]:
    """
    Draw pair embeddings that a model encodes, and those that its generator draws (VaeDiff-DocRE, figures 2 and 5).

    Two panels, each a t-SNE of its own: the commonest relations as they are encoded, and the rarest, encoded against
    generated. Of each encoded pair there, one is generated with the same relations. A pair with several relations
    stands for the rarest of those that are drawn. A relation needs 5 pairs in the documents; of 80 at most, drawn by
    `seed`, each has a point.

    Args:
        generator ([`VaeDiffModel`]): The generator.
        model ([`DocREForRelationExtraction`]): The model whose embeddings it learned.
        processor ([`DocREProcessor`]): The processor of the model.
        documents (sequence of [`Document`]): Labelled documents that neither has learned from.
        path (`str` or `os.PathLike`): The picture, `.png` or `.svg`.
        train ([`PairEmbeddingStore`], *optional*):
            What the generator learned from: says which relations are rare, and adds the figures of
            [`score_generator`].
        relations (sequence of `str`, *optional*):
            Ids or words of those to draw on the right, instead of the rarest; one pair is enough for these.
        number (`int`, *optional*, defaults to 6): Relations in a panel, 8 at most.
        seed (`int`, *optional*, defaults to 13): What embeddings are generated, and points placed, with.

    Returns:
        `dict[str, float]`: The figures, where there is `train`.

    Raises:
        DataFileError: If the model is another one than the generator's, or the documents have too few pairs, of all
            relations or of one that is named.
        ValueError: If a relation is unknown, the number is not from 1 to 8, or the picture has another form.
        ModuleNotFoundError: If scikit-learn or matplotlib isn't installed.
    """
    path = check_picture(path)
    relations = list(dict.fromkeys(model.config.relation_id(name) for name in relations or ()))
    if not (1 <= number <= len(COLOURS) and len(relations) <= len(COLOURS)):
        raise ValueError(f"A panel shows 1 to {len(COLOURS)} relations; pass number={len(COLOURS)}, or name fewer.")
    figures_of = import_part("matplotlib.figure")
    import_part("sklearn.manifold")
    classes = [model.config.class_of(relation) for relation in relations]
    with tempfile.TemporaryDirectory() as folder:
        store = store_pair_embeddings(model, processor, documents, Path(folder) / "pairs")
        check_embeddings(generator, store, "the model that is given: pass the one that it learned from")
        embeddings, labels = np.array(store.embeddings), np.array(store.labels)
        figures = {} if train is None else score_generator(generator, train, store, seed=seed)
    counts = (labels if train is None else np.asarray(train.labels)).sum(0)
    for relation, number_of_pairs in zip(relations, labels[:, classes].sum(0), strict=True):
        if not number_of_pairs:
            raise DataFileError(f"No pair of the documents has {relation}: take more of them, or leave it out.")
    drawable = [number for number in range(1, labels.shape[1]) if labels[:, number].sum() >= _LEAST]
    if not drawable and not classes:
        raise DataFileError(f"No relation has {_LEAST} pairs in the documents: take more of them.")
    by_rarity = sorted(drawable, key=lambda one: (counts[one], one))
    common, rare = by_rarity[::-1][:number] or classes, classes or by_rarity[:number]
    words = [model.config.relation_label(relation) for relation in model.config.relations]
    figure = figures_of.Figure(figsize=(11, 5.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    draw = _Panel(embeddings, labels, counts, words, seed)
    draw(left, dict(zip(common, COLOURS, strict=False)), None)
    left.set_title(f"encoded pairs of {'the commonest' if drawable else 'some'} relations")
    draw(right, _colours(rare, common), generator)
    right.set_title(f"{'some' if classes else 'the rarest'} relations: encoded and generated pairs")
    figure.savefig(path, dpi=150)
    return figures


def _colours(rare: Sequence[int], common: Sequence[int]) -> dict[int, str]:
    """A relation has one colour in both panels."""
    kept = {number: colour for number, colour in zip(common, COLOURS, strict=False) if number in rare}
    free = iter([colour for colour in COLOURS if colour not in kept.values()])
    return {number: kept[number] if number in kept else next(free) for number in rare}


class _Panel:
    def __init__(
        self, embeddings: np.ndarray, labels: np.ndarray, counts: np.ndarray, words: Sequence[str], seed: int
    ) -> None:
        self.embeddings, self.labels, self.counts = embeddings, labels, counts
        self.words, self.seed = words, seed

    def __call__(self, axes: Any, colours: Mapping[int, str], generator: VaeDiffModel | None) -> None:
        rows, owners = self._choose(list(colours))
        points = self.embeddings[rows]
        if generator is not None:
            points = np.concatenate([points, draw_embeddings(generator, self.labels[rows], self.seed)])
        perplexity = min(30.0, max(1.0, (len(points) - 1) / 3))
        place = import_part("sklearn.manifold").TSNE(init="pca", perplexity=perplexity, random_state=self.seed)
        places = place.fit_transform(points)
        for number, colour in colours.items():
            own = owners == number
            if not own.any():
                # All its pairs stand for rarer ones.
                continue
            encoded = places[: len(rows)][own]
            axes.scatter(*encoded.T, s=22, c=colour, alpha=0.75, linewidths=0)
            if generator is not None:
                axes.scatter(*places[len(rows) :][own].T, s=30, c=colour, marker="x", linewidths=1.2)
            axes.annotate(
                self.words[number - 1],
                # Above the middle, where it hides few of the points.
                np.median(encoded, axis=0),
                xytext=(0, 12),
                textcoords="offset points",
                fontsize=8,
                ha="center",
                bbox={"boxstyle": "round,pad=0.2", "fc": "white", "ec": colour, "alpha": 0.85},
            )
        axes.set(xticks=[], yticks=[])
        axes.scatter([], [], s=22, c="#555555", label="encoded")
        if generator is not None:
            axes.scatter([], [], s=30, c="#555555", marker="x", label="generated")
        axes.legend(loc="best", fontsize=8)

    def _choose(self, classes: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Rows of pairs with one of the relations, and the rarest of these that each has."""
        rarest_first = sorted(classes, key=lambda number: (self.counts[number], number))
        owners = np.zeros(len(self.labels), dtype=int)
        for number in reversed(rarest_first):
            owners[self.labels[:, number] > 0] = number
        generator = np.random.default_rng(self.seed)
        rows = []
        for number in rarest_first:
            own = np.flatnonzero(owners == number)
            rows.append(np.sort(generator.permutation(own)[:_MOST]))
        chosen = np.concatenate(rows)
        if len(chosen) < 2:
            raise DataFileError("One pair has no place beside others: take more documents, or more relations.")
        return chosen, owners[chosen]


__all__ = ["plot_generator"]
