"""The commands of `docre data`: a user's own documents checked, counted, shared out and prepared."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from .cli_parts import print_counts, print_table
from .documents import Document

_SHOWN = 20  # relations and types that a table of statistics lists; --json has all


_COUNTED = ("words", "entities", "facts")
_FORMS = ("format", "view", "mesh_tree")


def _given(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Return the options that were given."""
    return {name: value for name in names if (value := getattr(options, name)) is not None}


def convert(options: argparse.Namespace) -> None:
    """Run `docre convert`, which is `docre data convert`."""
    from .datasets_scripts import convert

    reports = convert(
        options.source,
        options.output,
        split=options.split,
        strict=not options.skip_invalid,
        **_given(options, "license", "documents", "drop_labels", "seed", *_FORMS),
    )
    _print_reports(reports)


def _print_reports(reports: Mapping[str, Mapping[str, Any]]) -> None:
    for split, report in reports.items():
        print_counts({**report, **report["repairs"]}, f"{split}: " if len(reports) > 1 else "")


def _check(options: argparse.Namespace) -> int:
    from .data_check import check_files

    report = check_files(options.sources, relations=options.relations, limit=options.limit)
    if options.json:
        print(json.dumps(report.to_dict(), indent=1))
        return int(bool(report.counts))
    for problem in report.problems:
        print(problem)
    more = report.different - len(report.problems)
    if more:
        print(f"and {more:,} more (--limit {report.different} tells all)")
    different = f" ({report.different:,} different ones)" if report.different < report.total else ""
    print(f"documents: {report.documents:,}, problems: {report.total:,}{different}")
    for title, counts in (("problems", report.counts), ("warnings", report.warnings)):
        if counts:
            print(f"\n{title}:")
            print_table(
                [
                    (f"{count:>8,}", cause, f"first: {report.first[cause]}" if cause in report.first else "")
                    for cause, count in counts.items()
                ]
            )
    for what, slips in (("relations", report.misspellings), ("entity types", report.misspelt_types)):
        if slips:
            print(f"\n{what} that look misspelt:")
        for name, found in slips.items():
            meant, times = found["meant"], found["count_of_meant"]
            print(f"{found['count']:>8,}  {name!r}, beside {times:,} x {meant!r}; first: {found['first']}")
    return int(bool(report.counts))


def _stats(options: argparse.Namespace) -> None:
    from .data_statistics import describe_documents
    from .datasets_scripts import open_splits

    found: dict[str, dict[str, Any]] = {}
    for source in dict.fromkeys(options.sources):
        splits = open_splits(source, strict=not options.skip_invalid, **_given(options, *_FORMS))
        for name, split in splits.items():
            # Two files may be the same split by their names.
            key = f"{source}: {name}" if len(options.sources) > 1 else name
            found[key] = figures = describe_documents(split.documents())
            figures["repairs"] = {**split.repairs, **figures["repairs"]}
    if options.json:
        print(json.dumps(found, indent=1, ensure_ascii=False))
        return
    tables, lengths = ("relations", "entity_types", "repairs"), [f"{n}_per_document" for n in _COUNTED]
    single = [name for name in next(iter(found.values())) if name not in (*tables, *lengths)]
    rows = [("", *found)]
    for name in single:
        rows.append((name.replace("_", " "), *(_number(figures[name]) for figures in found.values())))
    for name in lengths:
        rows.append((name.replace("_", " "), *(_lengths(figures[name]) for figures in found.values())))
    print_table(rows)
    for name in tables:
        _print_counts_by_name(name, {key: figures[name] for key, figures in found.items()})


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1%}" if isinstance(value, float) else f"{value:,}"


def _lengths(value: Mapping[str, float] | None) -> str:
    if value is None:
        return "-"
    mean, *others = value.values()
    return f"mean {mean:.1f}, median {others[0]:,}, 95% {others[1]:,}, longest {others[2]:,}"


def _print_counts_by_name(title: str, counts: Mapping[str, Mapping[str, int]]) -> None:
    """Print what splits have of each name, as far as the list is not too long."""
    totals: dict[str, int] = {}
    for of_split in counts.values():
        for name, count in of_split.items():
            totals[name] = totals.get(name, 0) + count
    if not totals:
        return
    print(f"\n{title.replace('_', ' ')} ({len(totals):,}):")
    names = sorted(totals, key=lambda name: (-totals[name], name))
    print_table([(name, *(f"{of_split.get(name, 0):,}" for of_split in counts.values())) for name in names[:_SHOWN]])
    if len(names) > _SHOWN:
        rest = sum(totals[name] for name in names[_SHOWN:])
        print(f"and {len(names) - _SHOWN:,} more with {rest:,} in all (--json lists them)")


def _split(options: argparse.Namespace) -> None:
    from .datasets_scripts import split_source

    report = split_source(
        options.source,
        options.output,
        _read_parts(options.parts),
        split=options.split,
        strict=not options.skip_invalid,
        **_given(options, "seed", *_FORMS),
    )
    facts, missing = report.facts, report.missing
    for part, number in report.documents.items():
        print_counts(
            {"documents": number, "facts": facts[part], "relations without a fact": len(missing[part])}, f"{part}: "
        )
    if report.repairs:
        print_counts(report.repairs)
    if report.scarce:
        shown = [f"{relation} ({number})" for relation, number in report.scarce.items()]
        more = f", and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
        print(
            f"In fewer documents than there are parts, so that not every part has them: {', '.join(shown[:_SHOWN])}"
            f"{more}",
            file=sys.stderr,
        )


def _read_parts(text: str) -> dict[str, float]:
    parts: dict[str, float] = {}
    for part in text.split(","):
        name, _, share = part.partition("=")
        try:
            number = float(share)
        except ValueError:
            raise ValueError(
                f"--parts has {part.strip()!r}; write names with shares, such as train=0.8,validation=0.1,test=0.1."
            ) from None
        if name.strip() in parts:
            raise ValueError(f"--parts has {name.strip()!r} twice: write each part once.")
        parts[name.strip()] = number
    return parts


def _prepare(options: argparse.Namespace) -> None:
    from .data_files import DataFileError, open_text
    from .datasets_scripts import convert
    from .relation_files import read_relations

    chosen = _given(options, "name", "language", "origin", *_FORMS)
    if options.citation is not None:
        with open_text(options.citation) as stream:
            chosen["citation"] = stream.read()
    if options.relation_names is not None:
        chosen["relation_names"] = names = read_relations(options.relation_names)
        if not isinstance(names, dict):
            raise DataFileError(f'{options.relation_names}: ids without words. Write {{"P17": "country"}}.')
    reports = convert(
        options.source,
        options.output,
        split=options.split,
        strict=not options.skip_invalid,
        license=options.license,
        **chosen,
    )
    _print_reports(reports)


def _relations(options: argparse.Namespace) -> None:
    from .data_statistics import relations_of
    from .datasets_scripts import open_splits, relation_words
    from .output_files import open_output

    def documents() -> Iterator[Document]:
        forms = _given(options, *_FORMS)
        for split in open_splits(options.source, options.split, strict=not options.skip_invalid, **forms).values():
            yield from split.documents()

    counts = relations_of(documents())
    if not counts:
        raise ValueError(f"{options.source}: no document has a fact, so there are no relations to list. Label some.")
    words = relation_words(options.source, counts)
    if options.output is None:
        print_table([(relation, words[relation], f"{count:,}") for relation, count in counts.items()])
        return
    with open_output(options.output) as stream:
        json.dump(words, stream, ensure_ascii=False, indent=2)
        stream.write("\n")
    print_counts({"relations": len(words), "facts": sum(counts.values())})


ACTIONS: dict[str, Callable[[argparse.Namespace], int | None]] = {
    "check": _check,
    "stats": _stats,
    "split": _split,
    "convert": convert,
    "prepare": _prepare,
    "relations": _relations,
}

__all__ = ["ACTIONS", "convert"]
