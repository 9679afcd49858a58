"""The command `docre`: thin shells over the library's functions. Exit codes: 0 done, 1 failed, 2 wrong usage."""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any

from .cli_figures import compare, plot
from .cli_options import make_parser
from .cli_parts import print_counts, print_table, split_relations, without_progress_bar


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `docre` with `arguments` (the command line's when left out) and return its exit code."""
    # Not the terminal's own encoding: names and JSON may hold any character.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")
    parser = make_parser()
    options, rest = parser.parse_known_args(arguments)
    if rest and options.command != "train":
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        code = _COMMANDS[options.command](options, rest)
        sys.stdout.flush()
        return code or 0
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
        ("split", "`split`", "--split NAME"),
    ]:
        if hasattr(options, name):
            message = message.replace(f"pass {argument}", f"pass {option}")
    if not hasattr(options, "skip_invalid"):
        message = re.sub(r" Or pass strict=False[\w ]+\.|, or pass strict=False[\w ]+", "", message)
    if options.command == "extract":
        model = "" if options.model is None else f" --model {options.model}"
        lists = f"`docre relations{model}` lists all"
        # A function, because backslashes of a path mean something in a replacement.
        message = re.sub(r"model\.config\.relation\w+ has all", lambda _: lists, message)
    return message


def _extract(options: argparse.Namespace, _: list[str]) -> None:
    from .data_files import UNREADABLE
    from .entity_filters import did_you_mean
    from .extraction import choose_format, extract_files, load_pipeline

    form = choose_format(options.format, options.output)
    with without_progress_bar():
        pipe = load_pipeline(options.model, options.device)
    filters = {
        "threshold": options.threshold,
        "relations": split_relations(options.relations, pipe.model.config),
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
    print_counts(counts)
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


def _distill(options: argparse.Namespace, _: list[str]) -> None:
    from .distillation import Teacher, distill_files

    with without_progress_bar():
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
    print_counts(report.counts)
    if report.documents > 1:
        print(report.throughput, file=sys.stderr)
    if report.unreadable:
        print(f"skipped, among others: {'; '.join(report.unreadable)}", file=sys.stderr)


def _train(options: argparse.Namespace, overrides: list[str]) -> None:
    from .processes import leave_processes
    from .recipes import train_from_recipe

    results = train_from_recipe(options.recipe, overrides, resume=options.resume)
    print(json.dumps(results, indent=1, default=str))
    leave_processes()


def _evaluate(options: argparse.Namespace, _: list[str]) -> None:
    from .data_files import read_docred_rows
    from .evaluation_report import format_figures
    from .metrics.docred.scoring import score, score_counts
    from .prediction_files import read_prediction_rows

    if options.few_facts is not None and options.train_annotated is None:
        raise ValueError("--few-facts counts facts of training documents: pass --train-annotated FILE.")
    train = {
        name: read_docred_rows(path)
        for name in ("train_annotated", "train_distant")
        if (path := getattr(options, name)) is not None
    }
    rows = read_prediction_rows(options.predictions), read_docred_rows(options.references)
    figures = score(*rows, **train, few_facts=options.few_facts)
    if options.json:
        print(json.dumps(figures, indent=1))
        return
    annotated = train.get("train_annotated")
    print(format_figures(figures, score_counts(*rows, train_annotated=annotated, few_facts=options.few_facts)))
    if "ign_f1" not in figures:
        print(
            "Ign F1, and figures by how many facts relations have in training (head, middle, tail, Macro@k, ...), "
            "need the training documents: --train-annotated FILE",
            file=sys.stderr,
        )


def _data(options: argparse.Namespace, _: list[str]) -> int:
    from .cli_data import ACTIONS

    return ACTIONS[options.action](options) or 0


def _convert(options: argparse.Namespace, _: list[str]) -> None:
    from .cli_data import convert

    convert(options)


def _label_distant(options: argparse.Namespace, _: list[str]) -> None:
    from .distant import label_files

    strict = not options.skip_invalid
    counts = label_files(options.sources, options.facts, options.output, aliases=options.aliases, strict=strict)
    print_counts(counts)
    if not counts["facts used"]:
        print(
            "No fact is of two entities of one document: a fact names its ends as a document names its entities, or "
            "by their ids, or --aliases joins the two.",
            file=sys.stderr,
        )


def _facts(options: argparse.Namespace, _: list[str]) -> None:
    from .distant import gather_facts_from_files

    counts = gather_facts_from_files(options.sources, options.output, strict=not options.skip_invalid)
    print_counts(counts)
    if not counts["facts"]:
        print("There is no fact in them: facts are those of labelled documents.", file=sys.stderr)


def _import(options: argparse.Namespace, _: list[str]) -> None:
    from .original_checkpoints import import_checkpoint

    relations = _relations_in_order(options.relations)
    model, report = import_checkpoint(
        options.file, options.method, options.encoder, options.output, relations=relations
    )
    _report_import(model, report, options.output)
    if not report.tokenizer:
        found = f"The tokenizer was not found in {options.encoder}: copy its files"
        if report.no_tokenizer:
            found = f"The tokenizer in {options.encoder} {report.no_tokenizer}: copy those files of the right one"
        print(f"{found} (tokenizer.json, vocab.txt, ...) to {options.output} before extracting.", file=sys.stderr)


def _import_generator(options: argparse.Namespace, _: list[str]) -> None:
    from .original_vaediff import import_generator

    relations = _relations_in_order(options.relations)
    model, report = import_generator(options.vae, options.prior, options.output, relations=relations)
    _report_import(model, report, options.output)


def _relations_in_order(file: str | None) -> list[str] | None:
    from .relation_files import read_relations
    from .tensor_files import OriginalCheckpointError

    relations = None if file is None else read_relations(file)
    if isinstance(relations, dict):
        raise OriginalCheckpointError(
            f"{file} has words for its relations, and not the order of the checkpoint's classes: pass rel2id.json, or "
            "a list of ids in this order."
        )
    return relations


def _report_import(model: Any, report: Any, output: str) -> None:
    if report.wrappers:
        print(f"unwrapped: {', '.join(report.wrappers)}", file=sys.stderr)
    for name, reason in report.unused.items():
        print(f"not used: {name} ({reason})", file=sys.stderr)
    print(f"{report.used} tensors, {model.num_parameters():,} parameters, saved to {output}", file=sys.stderr)


def _methods(_: argparse.Namespace, __: list[str]) -> None:
    from .methods import methods_table

    print_table([tuple(cell.replace("`", "") for cell in row) for row in methods_table()])


def _list_relations(options: argparse.Namespace, _: list[str]) -> None:
    from .extraction import load_config

    config = load_config(options.model)
    print_table([(relation, config.relation_names.get(relation, "")) for relation in config.relations])


def _demo(options: argparse.Namespace, _: list[str]) -> None:
    from .spaces_app.app import serve  # isort: skip  # what is missing is said before the model is loaded
    from .extraction import load_pipeline

    serve(load_pipeline(options.model, options.device), host=options.host, port=options.port)


_COMMANDS: dict[str, Callable[[argparse.Namespace, list[str]], int | None]] = {
    "extract": _extract,
    "train": _train,
    "distill": _distill,
    "evaluate": _evaluate,
    "compare": compare,
    "convert": _convert,
    "data": _data,
    "label-distant": _label_distant,
    "facts": _facts,
    "import": _import,
    "import-generator": _import_generator,
    "plot": plot,
    "methods": _methods,
    "relations": _list_relations,
    "demo": _demo,
}

if __name__ == "__main__":
    sys.exit(main())
