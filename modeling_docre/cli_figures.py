"""The commands that compare systems and draw pictures: `docre compare` and `docre plot`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from typing import Any

from .cli_parts import print_table, split_relations, without_progress_bar


def compare(options: argparse.Namespace, _: list[str]) -> None:
    """Run `docre compare`."""
    from .comparison import compare as compare_systems
    from .comparison_tables import to_csv, to_json, to_latex, to_markdown

    systems, references = _systems(options)
    found = compare_systems(
        systems,
        references,
        train_annotated=_documents(options.train_annotated),
        figures=None if options.figures is None else [name.strip() for name in options.figures.split(",")],
        samples=options.samples,
        seed=options.seed,
    )
    for system in found.systems:
        print(f"{system.name}: {system.runs} {'run' if system.runs == 1 else 'runs'}", file=sys.stderr)
    if options.json:
        print(to_json(found))
        return
    write = {"markdown": to_markdown, "latex": to_latex, "csv": to_csv}[options.format]
    print(write(found, relations=options.relations), end="")


def plot(options: argparse.Namespace, _: list[str]) -> None:
    """Run `docre plot`."""
    from .plot_style import check_picture

    # What is wrong with the name is said before anything is read.
    check_picture(options.output)
    _PICTURES[options.picture](options)


def _documents(path: str | None) -> list[Any] | None:
    from .data_files import read_docred_rows

    return None if path is None else read_docred_rows(path)


def _systems(options: argparse.Namespace) -> tuple[dict[str, Any], list[Any]]:
    from .data_files import read_docred_rows
    from .runs import read_systems

    references = read_docred_rows(options.references)
    return read_systems(options.runs, references), references


def _plot_relations(options: argparse.Namespace) -> None:
    from .data_files import read_docred_rows
    from .plot_scores import plot_relations

    documents = [document for source in options.sources for document in read_docred_rows(source)]
    frequencies = plot_relations(documents, options.output)
    print_table([("relation", "facts"), *((relation, f"{count:,}") for relation, count in frequencies)])


def _plot_clusters(options: argparse.Namespace) -> None:
    from .data_files import read_docred_rows
    from .plot_scores import plot_clusters

    systems, references = _systems(options)
    found = plot_clusters(systems, references, read_docred_rows(options.train_annotated), options.output)
    rows = zip(*([_cell(cluster) for cluster in clusters] for clusters in found.values()), strict=True)
    print_table([("cluster", *found), *((str(number), *row) for number, row in enumerate(rows, 1))])


def _plot_related_pairs(options: argparse.Namespace) -> None:
    from .plot_scores import plot_related_pairs

    systems, references = _systems(options)
    found = plot_related_pairs(systems, references, options.output)
    rows = [(f"{one.low} to {one.high}%", str(one.documents), *map(_cell, one.f1.values())) for one in found]
    print_table([("related pairs", "documents", *systems), *rows])


def _plot_calibration(options: argparse.Namespace) -> None:
    from .plot_scores import plot_calibration

    systems, references = _systems(options)
    found = plot_calibration(systems, references, options.output)
    rows = [(name, f"{sum(one.number):,}", f"{one.error:.4f}", f"{one.lowest:.4f}") for name, one in found.items()]
    print_table([("system", "predictions", "calibration error", "lowest score"), *rows])
    cut = [name for name, one in found.items() if one.lowest > _LOW]
    if cut:
        print(
            f"{', '.join(cut)}: only what was predicted has a score. docre extract GOLD -o scored.jsonl --threshold 0 "
            "gives scores below the threshold too.",
            file=sys.stderr,
        )


def _plot_sampling(options: argparse.Namespace) -> None:
    from .data_files import read_json
    from .output_files import DataFileError
    from .plot_runs import plot_sampling

    sweep = read_json(options.source)
    if not isinstance(sweep, dict) or not isinstance(sweep.get("points"), list):
        raise DataFileError(
            f"{options.source}: no points of a sweep. Pass the .json that benchmarks/sampling_rates.py writes."
        )
    plot_sampling(sweep["points"], options.output)


def _plot_training(options: argparse.Namespace) -> None:
    from .plot_runs import plot_training
    from .runs import parse_run, read_log

    logs = {}
    for run in map(parse_run, options.runs):
        name = run.name or run.path.resolve().name
        if name in logs:
            raise ValueError(f"Two trainings would be called {name!r}: name them, as in A={run.path}.")
        logs[name] = read_log(run.path)
    plot_training(logs, options.output)


def _cell(value: tuple[float, float] | None) -> str:
    return "-" if value is None else f"{100 * value[0]:.2f}" + (f" ± {100 * value[1]:.2f}" if value[1] else "")


def _plot_vaediff(options: argparse.Namespace) -> None:
    from .data_files import iter_documents
    from .modeling_docre import DocREForRelationExtraction
    from .pair_embeddings import PairEmbeddingStore
    from .plots import plot_generator
    from .processing_docre import DocREProcessor
    from .recipe_generator import EMBEDDINGS
    from .regimes import choose_slice, read_slice
    from .vaediff import VaeDiffModel

    beside = os.path.join(options.generator, EMBEDDINGS)
    train = options.train or (beside if os.path.isdir(beside) else None)
    with without_progress_bar():
        generator = VaeDiffModel.from_pretrained(options.generator)
        model: Any = DocREForRelationExtraction.from_pretrained(options.model)
    relations = split_relations(options.relations, model.config)
    figures = plot_generator(
        generator,
        model,
        DocREProcessor.from_pretrained(options.model),
        list(choose_slice(iter_documents(options.source), read_slice(options.documents))),
        options.output,
        train=None if train is None else PairEmbeddingStore(train),
        relations=relations,
        number=options.number,
    )
    for name, value in figures.items():
        print(f"{name:20} {value:.4f}" if isinstance(value, float) else f"{name:20} {value:,}")
    if not figures:
        print("The figures need what the generator learned from: --train STORE", file=sys.stderr)


_LOW = 0.1
_PICTURES: dict[str, Callable[[argparse.Namespace], None]] = {
    "vaediff": _plot_vaediff,
    "relations": _plot_relations,
    "clusters": _plot_clusters,
    "related-pairs": _plot_related_pairs,
    "sampling": _plot_sampling,
    "training": _plot_training,
    "calibration": _plot_calibration,
}

__all__ = ["compare", "plot"]
