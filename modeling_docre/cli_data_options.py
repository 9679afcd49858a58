"""What may be written after `docre data` and `docre convert`."""

from __future__ import annotations

import argparse
from typing import Any

from .cli_parts import add_command


def add_data(commands: Any) -> None:
    """Add the commands that read documents without a model."""
    add_convert(commands, "docre")
    data = add_command(
        commands, "data", "check, count, split and prepare documents",
        "docre data check mine.jsonl --relations rel_info.json",
    )  # fmt: skip
    _add_actions(data.add_subparsers(title="actions", required=True, metavar="ACTION", dest="action"))


def add_convert(commands: Any, above: str) -> None:
    """Add `convert`, which stands beside the other commands and among those of data."""
    convert = add_command(
        commands, "convert", "convert documents between DocRED files, JSON Lines and dataset repositories",
        f"{above} convert dev.json documents.jsonl\n  {above} convert Re-DocRED/ my-dataset/ --license mit\n"
        f"  {above} convert train.json incomplete.json --drop-labels 0.7 --seed 13",
    )  # fmt: skip
    convert.add_argument("source", metavar="IN", help="file, folder or Hub id to read; - for JSON Lines on stdin")
    convert.add_argument(
        "output", metavar="OUT", help=".jsonl, .json (DocRED's form), or a new folder: a dataset repository"
    )
    convert.add_argument("--split", help="the only split to read of a folder or dataset repository")
    convert.add_argument("--license", help="the Hub's identifier of the licence, for the card of a dataset repository")
    convert.add_argument("--documents", metavar="SLICE", help="which documents of a file to take, such as 0:400")
    convert.add_argument(
        "--drop-labels", type=float, metavar="PART", help="leave out this part of the facts, drawn by --seed"
    )
    convert.add_argument("--seed", type=int, help="which facts --drop-labels leaves out; 13 without it")
    convert.add_argument("--skip-invalid", action="store_true", help="skip and count what is wrong in a document")
    _add_forms(convert)


def _add_actions(actions: Any) -> None:
    check = add_command(
        actions, "check", "find every problem of documents; exit code 1 if there is one",
        "docre data check mine.jsonl --relations rel_info.json\n  docre data check train/ dev.json --json",
    )  # fmt: skip
    check.add_argument("sources", metavar="FILE", nargs="+", help="files or folders, as docre extract takes them")
    check.add_argument(
        "--relations", metavar="TABLE", help="the relations that facts may have: rel_info.json, rel2id.json, or a list"
    )
    check.add_argument("--limit", type=int, default=20, help="problems to tell in full; 20 without it")
    check.add_argument("--json", action="store_true", help="print the report as JSON")

    stats = add_command(
        actions, "stats", "count what is in documents: entities, facts, relations, lengths",
        "docre data stats mine.jsonl\n  docre data stats Re-DocRED/ --json",
    )  # fmt: skip
    stats.add_argument("sources", metavar="SOURCE", nargs="+", help="files, folders of splits, or Hub ids")
    stats.add_argument("--json", action="store_true", help="print all figures as JSON")

    split = add_command(
        actions, "split", "share documents among splits, with the same relations in each",
        "docre data split mine.jsonl mine/ --parts train=0.8,validation=0.1,test=0.1 --seed 13",
    )  # fmt: skip
    split.add_argument("source", metavar="SOURCE", help="file, folder or Hub id to read")
    split.add_argument("output", metavar="OUT", help="new folder: train.jsonl and so on")
    split.add_argument(
        "--parts", required=True, help="shares by name, such as train=0.8,validation=0.1,test=0.1; together 1"
    )
    split.add_argument("--seed", type=int, help="decides between documents that are alike; 13 without it")

    prepare = add_command(
        actions, "prepare", "make a dataset repository for the Hub: Parquet files and a card",
        "docre data prepare mine/ my-dataset/ --license cc-by-4.0 --name Violins --citation violins.bib",
    )  # fmt: skip
    prepare.add_argument("source", metavar="SOURCE", help="file, folder or Hub id to read")
    prepare.add_argument("output", metavar="OUT", help="new folder")
    prepare.add_argument("--license", required=True, help="the Hub's identifier of the licence, such as mit")
    prepare.add_argument("--name", help="what people call the data set; the folder's name without it")
    prepare.add_argument("--language", action="append", help="ISO code, may be repeated; en without it")
    prepare.add_argument("--origin", help="where the data comes from, such as an address")
    prepare.add_argument(
        "--relation-names", metavar="TABLE", help="JSON of ids with words; rel_info.json beside the data without it"
    )
    prepare.add_argument("--citation", metavar="FILE", help="what to cite, in BibTeX")

    relations = add_command(
        actions, "relations", "list the relations of documents by their facts, or write them as a table",
        "docre data relations mine.jsonl\n  docre data relations mine/ --split train -o rel_info.json",
    )  # fmt: skip
    relations.add_argument("source", metavar="SOURCE", help="file, folder or Hub id to read")
    relations.add_argument(
        "-o", "--output", metavar="TABLE", help="JSON file of ids with their words; a list on stdout without it"
    )
    for command in (split, prepare, relations):
        command.add_argument("--split", help="the only split to read of a folder or dataset repository")
    for command in (stats, split, prepare, relations):
        _add_forms(command)
        command.add_argument("--skip-invalid", action="store_true", help="skip and count what is wrong in a document")
    add_convert(actions, "docre data")


def _add_forms(command: argparse.ArgumentParser) -> None:
    """Add how to read what data sets are published as."""
    command.add_argument(
        "--format",
        choices=("docred", "hacred", "dwie", "pubtator", "edge-oriented", "renet"),
        help="form of the published files; found by content and name without it",
    )
    command.add_argument("--view", choices=("char", "word"), help="which view of HacRED to read; char without it")
    command.add_argument(
        "--mesh-tree", metavar="FILE", help="tree of MeSH; leaves out negative pairs of CDR and GDA with a hypernym"
    )


__all__ = ["add_data"]
