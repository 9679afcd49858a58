"""The command `docre`: thin shells over the library's functions. Exit codes: 0 done, 1 failed, 2 wrong usage."""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from . import __version__


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `docre` with `arguments` (the command line's when left out) and return its exit code."""
    # Not the terminal's own encoding: names and JSON may hold any character.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    if rest and options.run is not _train:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        code = int(options.run(options, rest) or 0)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # Whoever read the output has seen enough; Python would complain again when it closes the stream.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt as error:
        for note in getattr(error, "__notes__", ()):
            print(f"docre: {_translate(note, options)}", file=sys.stderr)
        return 130
    except Exception as error:
        if options.traceback:
            raise
        print(f"docre: error: {_message(error, options)}", file=sys.stderr)
        return 1


def _message(error: Exception, options: argparse.Namespace) -> str:
    if not isinstance(error, (ValueError, TypeError, OSError, ImportError)):
        said = f"{type(error).__name__}: {error} (docre --traceback ... shows where it came from)"
    else:
        said = str(error)
    return _translate(" ".join([said, *getattr(error, "__notes__", ())]), options)


def _translate(message: str, options: argparse.Namespace) -> str:
    """Name the command's options where the library's messages name its arguments."""
    for name, argument, option in [
        ("skip_invalid", "strict=False", "--skip-invalid"),
        ("resume", "resume=True", "--resume"),
    ]:
        if hasattr(options, name):
            message = message.replace(f"pass {argument}", f"pass {option}")
    if not hasattr(options, "skip_invalid"):
        message = re.sub(r" Or pass strict=False[\w ]+\.|, or pass strict=False[\w ]+", "", message)
    if options.run is _extract:
        model = "" if options.model is None else f" --model {options.model}"
        lists = f"`docre relations{model}` lists all"
        # A function, because backslashes of a path mean something in a replacement.
        message = re.sub(r"model\.config\.relation\w+ has all", lambda _: lists, message)
    return message


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="docre",
        description="Document-level relation extraction: from a document to its relations.",
        epilog="docre COMMAND --help shows the options of a command, with an example.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"docre {__version__}")
    parser.add_argument("--traceback", action="store_true", help="show where an error came from")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    extract = _command(
        commands, "extract", _extract, "extract relations from documents",
        "docre extract examples/documents/harbour.txt\n"
        "  docre extract documents.jsonl -o relations.jsonl --threshold 0.7\n"
        "  docre extract dev.json -o result.json --format submission\n"
        "  docre extract folder/ more.parquet -o relations.jsonl --resume",
    )  # fmt: skip
    extract.add_argument(
        "sources",
        metavar="IN",
        nargs="+",
        help="files or folders: .json, .jsonl, .txt with [inline](:TYPE) markup (each may end in .gz), .parquet; "
        "- for JSON Lines on stdin",
    )
    extract.add_argument("-o", "--output", metavar="OUT", help="file to write (.jsonl or .json); a table without it")
    extract.add_argument("--model", help="folder or Hub id; the embedded model without it")
    extract.add_argument("--format", choices=("table", "json", "jsonl", "submission"), help="form of the output")
    extract.add_argument(
        "--threshold",
        type=float,
        help="probability above which a relation is returned; the model's own, tuned one without it",
    )
    extract.add_argument(
        "--relations",
        action="append",
        help="relations to return, ids or words with commas between them; may be repeated; docre relations lists them",
    )
    extract.add_argument("--top-k", type=int, help="relations of a document at most")
    extract.add_argument("--head", help="return relations of this head entity, by name")
    extract.add_argument("--tail", help="return relations of this tail entity, by name")
    extract.add_argument("--batch-size", type=int, help="documents that run at once")
    extract.add_argument("--device", help="where to run, such as cpu or cuda:0")
    extract.add_argument("--resume", action="store_true", help="go on after what an earlier run for OUT has done")
    extract.add_argument("--skip-invalid", action="store_true", help="skip and count what is wrong in a document")

    train = _command(
        commands, "train", _train, "train a model from a recipe",
        "docre train recipes/default-minilm.yaml --training.num_train_epochs=3",
    )  # fmt: skip
    train.add_argument("recipe", metavar="RECIPE.yaml", help="what to train; --name=value overrides a setting")
    train.add_argument("--resume", action="store_true", help="go on from the last checkpoint of output_dir")

    distill = _command(
        commands, "distill", _distill, "write a teacher's soft labels of documents, for training a student",
        "docre distill distant.jsonl --model runs/teacher -o runs/soft-labels\n"
        "  docre distill documents/ --model runs/teacher-1 --model runs/teacher-2 -o runs/soft-labels --resume",
    )  # fmt: skip
    distill.add_argument(
        "sources", metavar="IN", nargs="+", help="files or folders of documents, as docre extract takes them"
    )
    distill.add_argument(
        "-o", "--output", required=True, metavar="STORE", help="folder to write, for training.soft_labels"
    )
    distill.add_argument(
        "--model",
        action="append",
        help="folder or Hub id of the teacher; repeated, the mean of several; the embedded model without it",
    )
    distill.add_argument("--batch-size", type=int, default=8, help="documents that run at once")
    distill.add_argument("--bf16", action="store_true", help="compute in bfloat16")
    distill.add_argument("--device", help="where to run, such as cpu or cuda:0")
    distill.add_argument("--resume", action="store_true", help="go on after what an earlier run for STORE has done")
    distill.add_argument("--skip-invalid", action="store_true", help="skip and count what is wrong in a document")

    evaluate = _command(
        commands, "evaluate", _evaluate, "score predictions against gold documents, as the official scorer does",
        "docre evaluate result.json dev.json --train-annotated train_annotated.json",
    )  # fmt: skip
    evaluate.add_argument(
        "predictions",
        metavar="PRED",
        help="JSON list or JSON Lines of {title, h_idx, t_idx, r, evidence?}, or a .zip that holds the list",
    )
    evaluate.add_argument(
        "references", metavar="GOLD", help="labelled documents, .json or .jsonl, in DocRED's form or with text"
    )
    evaluate.add_argument("--train-annotated", metavar="FILE", help="annotated training file, for Ign F1 and Macro@k")
    evaluate.add_argument("--train-distant", metavar="FILE", help="distant training file, for its own Ign F1")
    evaluate.add_argument("--json", action="store_true", help="print all figures as JSON, per relation too")

    convert = _command(
        commands, "convert", _convert, "convert documents between DocRED files, JSON Lines and dataset repositories",
        "docre convert dev.json documents.jsonl\n  docre convert Re-DocRED/ my-dataset/ --license mit\n"
        "  docre convert train.json incomplete.json --drop-labels 0.7 --seed 13",
    )  # fmt: skip
    convert.add_argument("source", metavar="IN", help="file, folder or Hub id to read; - for JSON Lines on stdin")
    convert.add_argument(
        "output", metavar="OUT", help=".jsonl, .json (DocRED's form), or a new folder: a dataset repository"
    )
    convert.add_argument("--split", help="the only split to read of a folder or dataset repository")
    convert.add_argument("--license", help="the Hub's identifier of the licence, for the card of a dataset repository")
    convert.add_argument(
        "--drop-labels", type=float, metavar="PART", help="leave out this part of the facts, drawn by --seed"
    )
    convert.add_argument("--seed", type=int, help="which facts --drop-labels leaves out; 13 without it")
    convert.add_argument("--skip-invalid", action="store_true", help="skip and count what is wrong in a document")

    distant = _command(
        commands, "label-distant", _label_distant, "label documents with the facts of a table, by names or ids",
        "docre label-distant documents.jsonl --facts facts.tsv -o distant.json\n"
        "  docre label-distant test.json --facts wikidata.jsonl --aliases names.json -o distant.json",
    )  # fmt: skip
    distant.add_argument(
        "sources",
        metavar="DOCS",
        nargs="+",
        help="files or folders of documents with entities, as docre extract reads",
    )
    distant.add_argument(
        "--facts",
        metavar="KB",
        required=True,
        help="rows of head, relation, tail: .json, .jsonl, .csv or .tsv; docre facts makes one of labelled documents",
    )
    distant.add_argument(
        "--aliases", metavar="FILE", help='names by id: .json, {"Q84": ["London", ...]}, or .csv or .tsv, Q84, London'
    )
    distant.add_argument(
        "-o", "--output", metavar="OUT", help=".json (DocRED's form) or .jsonl; JSON Lines on stdout without it"
    )
    distant.add_argument("--skip-invalid", action="store_true", help="skip and count wrong facts and documents")

    facts = _command(
        commands, "facts", _facts, "gather the facts of labelled documents as a table for docre label-distant",
        "docre facts train_annotated.json -o facts.tsv",
    )  # fmt: skip
    facts.add_argument("sources", metavar="DOCS", nargs="+", help="files or folders of labelled documents")
    facts.add_argument(
        "-o", "--output", metavar="KB", help=".json, .jsonl, .csv or .tsv; JSON Lines on stdout without it"
    )
    facts.add_argument("--skip-invalid", action="store_true", help="skip and count what is wrong in a document")

    importing = _command(
        commands, "import", _import, "make a model of a checkpoint that the authors of a method published",
        "docre import atlop.pt --method atlop --encoder google-bert/bert-base-cased -o my-atlop",
    )  # fmt: skip
    importing.add_argument("file", metavar="FILE", help=".pt, .bin or .safetensors: a state dict")
    importing.add_argument("--method", required=True, help="the method it is of; docre methods lists them")
    importing.add_argument(
        "--encoder", required=True, help="Hub id or folder of the encoder; its config.json is enough"
    )
    importing.add_argument("-o", "--output", required=True, metavar="OUT", help="folder to save the model to")
    importing.add_argument(
        "--relations", metavar="FILE", help="JSON of relation ids in class order, or rel2id.json; DocRED's without it"
    )

    _command(commands, "methods", _methods, "list the methods: what each is made of", "docre methods")

    relations = _command(
        commands, "relations", _list_relations, "list the relations that a model knows, with their words",
        "docre relations\n  docre relations --model my-model",
    )  # fmt: skip
    relations.add_argument("--model", help="folder or Hub id; the embedded model without it")

    demo = _command(
        commands, "demo", _demo, "show the relations of documents that you type on a page in the browser",
        "docre demo\n  docre demo --model my-model --port 8000",
    )  # fmt: skip
    demo.add_argument("--model", help="folder or Hub id; the embedded model without it")
    demo.add_argument("--device", help="where to run, such as cpu or cuda:0")
    demo.add_argument("--host", help="address to listen at, such as 0.0.0.0; this machine alone without it")
    demo.add_argument("--port", type=int, help="port to listen at; the first free one from 7860 on without it")
    return parser


def _command(
    commands: Any, name: str, run: Callable[[argparse.Namespace, list[str]], int | None], summary: str, example: str
) -> argparse.ArgumentParser:
    command = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.set_defaults(run=run)
    return command


def _extract(options: argparse.Namespace, _: list[str]) -> None:
    from .data_files import UNREADABLE
    from .entity_filters import did_you_mean
    from .extraction import choose_format, extract_files, load_pipeline

    form = choose_format(options.format, options.output)
    with _without_progress_bar():
        pipe = load_pipeline(options.model, options.device)
    filters = {
        "threshold": options.threshold,
        "relations": _relations(options.relations, pipe.model.config),
        "top_k": options.top_k,
        "head": options.head,
        "tail": options.tail,
        "batch_size": options.batch_size,
    }
    report = extract_files(
        pipe,
        options.sources,
        options.output,
        format=form,
        strict=not options.skip_invalid,
        resume=options.resume,
        **{name: value for name, value in filters.items() if value is not None},
    )
    if report.process:
        return
    counts = report.counts
    _report(counts)
    if report.documents > 1:
        print(report.throughput, file=sys.stderr)
    if report.unreadable:
        more = sum(counts[cause] for cause in UNREADABLE) - len(report.unreadable)
        print(f"skipped: {'; '.join(report.unreadable)}{f'; and {more} more' if more else ''}", file=sys.stderr)
    for name, like in report.unknown_names.items():
        print(f"No entity of any document is named {name!r}.{did_you_mean(like)}", file=sys.stderr)
    if counts["documents"] and counts["documents"] == counts["documents without entities"]:
        print(
            "No entity is marked, and this model relates entities that are given: write [Ada](:PER) in a .txt file, "
            'or "entities" in JSON.',
            file=sys.stderr,
        )


@contextmanager
def _without_progress_bar() -> Iterator[None]:
    """Leave out that of loading weights, which takes no time."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _distill(options: argparse.Namespace, _: list[str]) -> None:
    from .distillation import Teacher, distill_files

    with _without_progress_bar():
        teacher = Teacher.from_pretrained(options.model or [None], options.device)
    report = distill_files(
        teacher,
        options.sources,
        options.output,
        strict=not options.skip_invalid,
        resume=options.resume,
        batch_size=options.batch_size,
        bf16=options.bf16,
    )
    if report.process:
        return
    _report(report.counts)
    if report.documents > 1:
        print(report.throughput, file=sys.stderr)
    if report.unreadable:
        print(f"skipped, among others: {'; '.join(report.unreadable)}", file=sys.stderr)


def _relations(values: list[str] | None, config: Any) -> list[str] | None:
    """Split at commas, but for words that hold one: "languages spoken, written or signed"."""
    from .names import fold_name

    if values is None:
        return None
    known = {fold_name(name) for name in (*config.relations, *config.relation_names.values())}
    names = [name.strip() for value in values for name in ([value] if fold_name(value) in known else value.split(","))]
    if not all(names):
        raise ValueError("--relations names nothing: pass ids or words, such as --relations P17,P131.")
    return names


def _train(options: argparse.Namespace, overrides: list[str]) -> None:
    from .processes import leave_processes
    from .recipes import train_from_recipe

    results = train_from_recipe(options.recipe, overrides, resume=options.resume)
    print(json.dumps(results, indent=1, default=str))
    leave_processes()


def _evaluate(options: argparse.Namespace, _: list[str]) -> None:
    from .data_files import file_kind, read_docred_rows, read_rows
    from .metrics.docred.scoring import read_json, score

    train = {
        name: read_docred_rows(path)
        for name in ("train_annotated", "train_distant")
        if (path := getattr(options, name)) is not None
    }
    # A submission to CodaLab is an archive.
    read_predictions = read_json if file_kind(options.predictions) == ".zip" else read_rows
    figures = score(read_predictions(options.predictions), read_docred_rows(options.references), **train)
    if options.json:
        print(json.dumps(figures, indent=1))
        return
    for name, value in figures.items():
        if not name.startswith("relation/"):
            print(f"{name:27} {value:.4f}")
    if "ign_f1" not in figures:
        print("ign_f1 needs the training documents: --train-annotated FILE", file=sys.stderr)


def _convert(options: argparse.Namespace, _: list[str]) -> None:
    from .datasets_scripts import convert

    given = {"license": options.license, "drop_labels": options.drop_labels, "seed": options.seed}
    chosen = {name: value for name, value in given.items() if value is not None}
    reports = convert(options.source, options.output, split=options.split, strict=not options.skip_invalid, **chosen)
    for split, report in reports.items():
        _report({**report, **report["repairs"]}, f"{split}: " if len(reports) > 1 else "")


def _label_distant(options: argparse.Namespace, _: list[str]) -> None:
    from .distant import label_files

    strict = not options.skip_invalid
    _report(label_files(options.sources, options.facts, options.output, aliases=options.aliases, strict=strict))


def _facts(options: argparse.Namespace, _: list[str]) -> None:
    from .distant import gather_facts_from_files

    _report(gather_facts_from_files(options.sources, options.output, strict=not options.skip_invalid))


def _import(options: argparse.Namespace, _: list[str]) -> None:
    from .data_files import read_relations
    from .original_checkpoints import import_checkpoint

    relations = None if options.relations is None else read_relations(options.relations)
    model, report = import_checkpoint(
        options.file, options.method, options.encoder, options.output, relations=relations
    )
    if report.wrappers:
        print(f"unwrapped: {', '.join(report.wrappers)}", file=sys.stderr)
    for name, reason in report.unused.items():
        print(f"not used: {name} ({reason})", file=sys.stderr)
    print(f"{report.used} tensors, {model.num_parameters():,} parameters, saved to {options.output}", file=sys.stderr)
    if not report.tokenizer:
        found = f"The tokenizer was not found in {options.encoder}: copy its files"
        if report.no_tokenizer:
            found = f"The tokenizer in {options.encoder} {report.no_tokenizer}: copy those files of the right one"
        print(f"{found} (tokenizer.json, vocab.txt, ...) to {options.output} before extracting.", file=sys.stderr)


def _methods(_: argparse.Namespace, __: list[str]) -> None:
    from .methods import methods_table

    _print_table([tuple(cell.replace("`", "") for cell in row) for row in methods_table()])


def _list_relations(options: argparse.Namespace, _: list[str]) -> None:
    from .extraction import load_config

    config = load_config(options.model)
    _print_table([(relation, config.relation_names.get(relation, "")) for relation in config.relations])


def _print_table(rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _demo(options: argparse.Namespace, _: list[str]) -> None:
    from .spaces_app.app import serve  # isort: skip  # what is missing is said before the model is loaded
    from .extraction import load_pipeline

    serve(load_pipeline(options.model, options.device), host=options.host, port=options.port)


def _report(counts: Mapping[str, Any], start: str = "") -> None:
    """Say on the standard error what was done, repaired and left out."""
    said = [
        f"{cause}: {count}"
        for cause, count in counts.items()
        if isinstance(count, int) and (count or cause in ("documents", "relations", "facts used"))
    ]
    print(start + ", ".join(said), file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
