"""What may be written after `docre compare` and `docre plot`."""

from __future__ import annotations

import argparse
from typing import Any

from .cli_parts import add_command

_RUN = (
    "file of predictions (rows of a submission, or what docre extract writes) or folder of a training; NAME=RUN names "
    "its system, and runs with one name are seeds of it"
)
_GOLD = "labelled documents, .json or .jsonl, in DocRED's form or with text"


def add_comparison(commands: Any) -> None:
    """Add `docre compare`."""
    compare = add_command(
        commands, "compare", "compare systems over their seeds, and test the differences",
        "docre compare A=a.json B=b.json --references dev.json\n"
        "  docre compare runs/atlop-* runs/pemscl-* --references dev.json --train-annotated train.json",
    )  # fmt: skip
    _add_runs(compare)
    compare.add_argument("--train-annotated", metavar="FILE", help="training documents, for Ign F1 and Macro@k")
    compare.add_argument(
        "--figures", help="what to compare, with commas between: f1,ign_f1,macro_f1; any figure of docre evaluate"
    )
    compare.add_argument("--relations", action="store_true", help="print the F1 of every relation")
    compare.add_argument(
        "--format", choices=("markdown", "latex", "csv"), default="markdown", help="form of the tables"
    )
    compare.add_argument("--json", action="store_true", help="print all that is found as JSON")
    compare.add_argument("--samples", type=int, default=10_000, help="resamples of the documents; 10000 without it")
    compare.add_argument("--seed", type=int, default=13, help="what they are drawn with; 13 without it")


def add_plots(commands: Any) -> None:
    """Add `docre plot` with its pictures."""
    plot = add_command(
        commands, "plot", "draw pictures, .png or .svg",
        "docre plot vaediff runs/generator dev.json --model runs/stage1 -o generator.png",
    )  # fmt: skip
    pictures = plot.add_subparsers(title="pictures", required=True, metavar="PICTURE", dest="picture")
    vaediff = add_command(
        pictures, "vaediff", "draw generated and encoded pair embeddings, and say what a classifier learns of both",
        "docre plot vaediff runs/generator dev.json --model runs/stage1 -o generator.png\n"
        "  docre plot vaediff runs/generator dev.json --model runs/stage1 -o series.svg --documents 400:500 "
        "--relations P155,P156",
    )  # fmt: skip
    vaediff.add_argument("generator", metavar="GENERATOR", help="folder or Hub id of a generator of pair embeddings")
    vaediff.add_argument("source", metavar="DOCS", help="labelled documents that it has not learned from")
    vaediff.add_argument("-o", "--output", required=True, metavar="PICTURE", help="file to write, .png or .svg")
    vaediff.add_argument("--model", required=True, help="folder or Hub id of the model whose embeddings it learned")
    vaediff.add_argument("--documents", default=":", metavar="SLICE", help="which documents to take, such as 400:500")
    vaediff.add_argument(
        "--train",
        metavar="STORE",
        help="folder of the embeddings that it learned from; GENERATOR/pair_embeddings where that is there",
    )
    vaediff.add_argument(
        "--relations", action="append", help="relations to draw instead of the rarest, ids or words; may be repeated"
    )
    vaediff.add_argument("--number", type=int, default=6, help="relations in a panel, 8 at most; 6 without it")

    relations = add_command(
        pictures, "relations", "draw how frequent the relations of a data set are",
        "docre plot relations train_annotated.json -o relations.svg",
    )  # fmt: skip
    relations.add_argument("sources", metavar="DOCS", nargs="+", help=_GOLD)

    clusters = add_command(
        pictures, "clusters", "draw F1 by ten clusters of relations, commonest to rarest in training",
        "docre plot clusters A=a.json B=b.json --references dev.json --train-annotated train.json -o clusters.svg",
    )  # fmt: skip
    _add_runs(clusters)
    clusters.add_argument(
        "--train-annotated", metavar="FILE", required=True, help="training documents, which rank the relations"
    )

    pairs = add_command(
        pictures, "related-pairs", "draw F1 by the part of a document's pairs that has a relation",
        "docre plot related-pairs A=a.json B=b.json --references dev.json -o pairs.svg",
    )  # fmt: skip
    _add_runs(pairs)

    sampling = add_command(
        pictures, "sampling", "draw F1 over the rate of negative labels that a sweep of trainings keeps",
        "docre plot sampling runs/sampling/incomplete-oog.json -o sampling.svg",
    )  # fmt: skip
    sampling.add_argument("source", metavar="SWEEP", help="the .json of benchmarks/sampling_rates.py")

    training = add_command(
        pictures, "training", "draw losses and F1 over the steps of trainings",
        "docre plot training runs/atlop runs/pemscl -o training.svg",
    )  # fmt: skip
    training.add_argument(
        "runs", metavar="RUN", nargs="+", help="folder of a training, done or under way; NAME=RUN names it"
    )

    calibration = add_command(
        pictures, "calibration", "draw how often predictions are right over their scores",
        "docre extract dev.json -o scored.jsonl --threshold 0\n"
        "  docre plot calibration scored.jsonl --references dev.json -o calibration.svg",
    )  # fmt: skip
    _add_runs(calibration)
    for picture in (relations, clusters, pairs, sampling, training, calibration):
        picture.add_argument("-o", "--output", required=True, metavar="PICTURE", help="file to write, .png or .svg")


def _add_runs(command: argparse.ArgumentParser) -> None:
    command.add_argument("runs", metavar="RUN", nargs="+", help=_RUN)
    command.add_argument("--references", metavar="GOLD", required=True, help=_GOLD)


__all__ = ["add_comparison", "add_plots"]
