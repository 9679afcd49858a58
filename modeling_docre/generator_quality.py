"""How good a generator of pair embeddings is: what a classifier learns from generated embeddings alone."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import torch

from .output_files import DataFileError
from .pair_embeddings import PairEmbeddingStore
from .plot_style import import_part
from .vaediff import VaeDiffModel


def score_generator(
    generator: VaeDiffModel,
    train: PairEmbeddingStore,
    held_out: PairEmbeddingStore,
    *,
    max_pairs: int = 4000,
    seed: int = 13,
) -> dict[str, float]:
    """
    Train two classifiers alike, on embeddings of training pairs and on as many generated ones of the same relations,
    and score both on pairs that neither has seen.

    They are logistic regressions, one for each relation, on numbers that are scaled to unit variance; a relation is
    predicted from a probability of 0.5. The nearer the second comes to the first, the more of what tells relations
    apart is in what is generated.

    Args:
        generator ([`VaeDiffModel`]): The generator.
        train ([`PairEmbeddingStore`]): Embeddings that it learned from.
        held_out ([`PairEmbeddingStore`]): Of other documents, by the same model.
        max_pairs (`int`, *optional*, defaults to 4000): Training pairs at most, drawn by `seed`.
        seed (`int`, *optional*, defaults to 13): What pairs are drawn, and embeddings generated, with.

    Returns:
        `dict[str, float]`: `f1_real`, `f1_generated`, over all facts of the held-out pairs; `macro_f1_real` and
        `macro_f1_generated`, means over the relations that occur there; and the numbers of pairs and relations.

    Raises:
        DataFileError: If the embeddings are not those of the model that the generator's are of, or there are none.
        ModuleNotFoundError: If scikit-learn isn't installed.
    """
    metrics = import_part("sklearn.metrics")
    for store, what in ((train, "training"), (held_out, "held-out")):
        check_embeddings(generator, store, f"the {what} ones: pass those of the model that it learned from")
        if not len(store.embeddings):
            raise DataFileError(f"No {what} pair has a relation: take more documents.")
    rows = np.arange(len(train.embeddings))
    if len(rows) > max_pairs:
        rows = np.sort(np.random.default_rng(seed).choice(rows, max_pairs, replace=False))
    labels = np.asarray(train.labels[rows])
    drawn = draw_embeddings(generator, labels, seed)
    expected = np.asarray(held_out.labels)[:, 1:]
    occurs = expected.any(0)
    figures: dict[str, float] = {}
    for name, learnt in (("real", np.asarray(train.embeddings[rows])), ("generated", drawn)):
        predict = _classifier(learnt, labels[:, 1:])
        found = predict(np.asarray(held_out.embeddings))
        figures[f"f1_{name}"] = float(metrics.f1_score(expected, found, average="micro", zero_division=0))
        of_each = metrics.f1_score(expected[:, occurs], found[:, occurs], average="macro", zero_division=0)
        figures[f"macro_f1_{name}"] = float(of_each)
    return {
        **figures,
        "train_pairs": len(rows),
        "held_out_pairs": len(expected),
        "relations": int(occurs.sum()),
    }


def draw_embeddings(generator: VaeDiffModel, labels: np.ndarray, seed: int) -> np.ndarray:
    """
    Draw one embedding for each row of labels.

    Args:
        generator ([`VaeDiffModel`]): The generator.
        labels (`numpy.ndarray` of shape `(num_pairs, num_classes)`): Multi-hot.
        seed (`int`): What to draw with.

    Returns:
        `numpy.ndarray` of shape `(num_pairs, embedding_size)`, float32.
    """
    wanted = torch.from_numpy(labels).float()
    return generator.sample(wanted, generator=torch.Generator().manual_seed(seed)).float().cpu().numpy()


def check_embeddings(generator: VaeDiffModel, store: PairEmbeddingStore, whose: str) -> None:
    """
    Check that a generator's embeddings are of the model that those of a store are of.

    Args:
        generator ([`VaeDiffModel`]): The generator.
        store ([`PairEmbeddingStore`]): The store.
        whose (`str`): What to say of the store, and what to do instead.

    Raises:
        DataFileError: If they are not.
    """
    about, config = store.manifest, generator.config
    same = about["relations"] == config.relations and about["width"] == config.embedding_size
    if not same or config.embeddings_of not in (None, about["embeddings_of"]):
        raise DataFileError(f"The generator learned the pair embeddings of another model than {whose}.")


def _classifier(embeddings: np.ndarray, labels: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    pipeline = import_part("sklearn.pipeline").make_pipeline(
        import_part("sklearn.preprocessing").StandardScaler(),
        import_part("sklearn.multiclass").OneVsRestClassifier(
            import_part("sklearn.linear_model").LogisticRegression(max_iter=1000)
        ),
    )
    with warnings.catch_warnings():
        # A relation that no pair has, or all have, is not to be learned.
        warnings.filterwarnings("ignore", message="Label .* is present in all training examples")
        warnings.filterwarnings("ignore", message="Label not .* is present in all training examples")
        pipeline.fit(embeddings, labels)
    return lambda given: np.asarray(pipeline.predict(given)).reshape(len(given), labels.shape[1])


__all__ = ["check_embeddings", "draw_embeddings", "score_generator"]
