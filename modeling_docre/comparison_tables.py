"""The forms that a comparison is written in: Markdown, LaTeX, CSV and JSON."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Callable, Sequence

from .bootstrap import PairedTest
from .comparison import SURE, Comparison

_SHOWN = 5
_PLAIN = {"f1": "F1", "ign": "Ign", "macro": "Macro", "rela": "Rela"}
_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}


def figure_label(name: str) -> str:
    """
    Return what readers call a figure: `Ign F1` for `ign_f1`.

    Args:
        name (`str`): What the scorer calls it.
    """
    words = [_PLAIN.get(word, word) for word in name.split("_")]
    return " ".join(words)[:1].upper() + " ".join(words)[1:]


def to_markdown(comparison: Comparison, *, relations: bool = False) -> str:
    """
    Write a comparison as tables in Markdown: figures in percent, tests, relations won and lost.

    Args:
        comparison ([`Comparison`]): What to write.
        relations (`bool`, *optional*, defaults to `False`): Whether to add the F1 of every relation.

    Returns:
        `str`: The text.
    """

    def table(header: Sequence[str], rows: Sequence[Sequence[str]], words: int) -> str:
        lines = [header, ["---"] * words + ["---:"] * (len(header) - words), *rows]
        return "".join(f"| {' | '.join(line)} |\n" for line in lines)

    header, rows = _systems(comparison, "**{}**", " ± ", _escape_markdown)
    parts = [table(header, rows, 1), _note(comparison)]
    if comparison.tests:
        header, rows = _tests(comparison, _escape_markdown)
        parts.append(table(header, rows, 2))
    header, rows = _wins(comparison, _escape_markdown)
    parts.append(table(header, rows, 1))
    if relations:
        header, rows = _relations(comparison, _escape_markdown)
        parts.append(table(header, rows, 1))
    return "\n".join(parts)


def to_latex(comparison: Comparison, *, relations: bool = False) -> str:
    """
    Write the figures of a comparison as a table for LaTeX with `booktabs`; what tests say stands in comments.

    Args:
        comparison ([`Comparison`]): What to write.
        relations (`bool`, *optional*, defaults to `False`): Whether to add a table with the F1 of every relation.

    Returns:
        `str`: The text.
    """

    def table(header: Sequence[str], rows: Sequence[Sequence[str]], columns: str) -> str:
        lines = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", " & ".join(header) + r" \\", r"\midrule"]
        lines += [" & ".join(row) + r" \\" for row in rows]
        return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])

    header, rows = _systems(comparison, r"\textbf{{{}}}", r" $\pm$ ", _escape_latex)
    text = table(header, rows, "l" + "r" * (len(header) - 1))
    notes = [_note(comparison).strip()]
    if comparison.tests:
        names, tests = _tests(comparison, str)
        notes += [" | ".join(row) for row in (names, *tests)]
    text += "".join(f"% {line}\n" for note in notes for line in note.splitlines())
    if relations:
        header, rows = _relations(comparison, _escape_latex)
        text += "\n" + table(header, rows, "l" + "r" * (len(header) - 1))
    return text


def to_csv(comparison: Comparison, *, relations: bool = False) -> str:
    """
    Write a comparison as CSV: a row for each system, with means and standard deviations, as parts of 1 and unrounded.

    Args:
        comparison ([`Comparison`]): What to write.
        relations (`bool`, *optional*, defaults to `False`):
            Whether to write a row for each relation, with the F1 of each system, instead.

    Returns:
        `str`: The text.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    if relations:
        writer.writerow(["relation", "gold", *(system.name for system in comparison.systems)])
        writer.writerows([one.relation, one.gold, *one.f1.values()] for one in comparison.relations)
        return stream.getvalue()
    names = comparison.figures
    writer.writerow(["system", "runs", *(f"{name}{end}" for name in names for end in ("", "_sd"))])
    for system in comparison.systems:
        deviation = system.deviation or {}
        values = [value for name in names for value in (system.mean[name], deviation.get(name, ""))]
        writer.writerow([system.name, system.runs, *values])
    return stream.getvalue()


def to_json(comparison: Comparison) -> str:
    """
    Write all that a comparison found as JSON, as parts of 1 and unrounded.

    Args:
        comparison ([`Comparison`]): What to write.

    Returns:
        `str`: The text.
    """
    wins = {
        system.name: dict(zip(("better", "equal", "worse"), comparison.wins(system.name), strict=True))
        for system in comparison.systems[1:]
    }
    best = {figure: comparison.best(figure) for figure in comparison.figures}
    return json.dumps({**dataclasses.asdict(comparison), "best": best, "wins": wins}, indent=1, ensure_ascii=False)


# The cells of the tables


def _systems(
    comparison: Comparison, best: str, between: str, escape: Callable[[str], str]
) -> tuple[list[str], list[list[str]]]:
    rows = []
    for system in comparison.systems:
        cells = [escape(system.name), str(system.runs)]
        for figure in comparison.figures:
            cell = f"{100 * system.mean[figure]:.2f}"
            if comparison.best(figure) == system.name:
                cell = best.format(cell)
            if system.deviation is not None:
                cell += f"{between}{100 * system.deviation[figure]:.2f}"
            cells.append(cell)
        rows.append(cells)
    return ["system", "runs", *(figure_label(figure) for figure in comparison.figures)], rows


def _note(comparison: Comparison) -> str:
    said = f"In percent, on {comparison.documents:,} documents"
    if any(system.deviation for system in comparison.systems):
        said += "; mean and standard deviation over the runs"
    if comparison.tests:
        said += (
            f". Bold: better than each other system at p < {SURE} (paired bootstrap over documents, "
            f"{comparison.samples:,} resamples, seed {comparison.seed})"
        )
    silent = [f"{one.name!r} predicts nothing in {one.silent:,}" for one in comparison.systems if one.silent]
    if silent:
        said += f". Of the documents with gold relations, {', '.join(silent)}"
    return f"{said}.\n"


def _tests(comparison: Comparison, escape: Callable[[str], str]) -> tuple[list[str], list[list[str]]]:
    rows = [
        [
            escape(f"{test.system} - {test.other}"),
            figure_label(test.figure),
            f"{100 * test.difference:+.2f}",
            f"{100 * test.low:+.2f} to {100 * test.high:+.2f}",
            f"{test.p:.4f}" if test.p >= 0.0001 else "<0.0001",
        ]
        for test in map(PairedTest.better_first, comparison.tests)
    ]
    return ["difference", "figure", "points", "95% interval", "p (the first is better)"], rows


def _wins(comparison: Comparison, escape: Callable[[str], str]) -> tuple[list[str], list[list[str]]]:
    rows = []
    for system in comparison.systems[1:]:
        gains = comparison.gains(system.name)
        ends = [
            ", ".join(f"{one.relation} {100 * gain:+.1f} ({one.gold})" for one, gain in part)
            for part in (
                [pair for pair in gains[:_SHOWN] if pair[1] > 0],
                [pair for pair in gains[::-1][:_SHOWN] if pair[1] < 0],
            )
        ]
        rows.append([escape(system.name), *map(str, comparison.wins(system.name)), *(escape(end) for end in ends)])
    first = escape(comparison.systems[0].name)
    header = [f"relations, against {first}", "better", "equal", "worse", "most gained (gold facts)", "most lost"]
    return header, rows


def _relations(comparison: Comparison, escape: Callable[[str], str]) -> tuple[list[str], list[list[str]]]:
    names = [system.name for system in comparison.systems]
    rows = [
        [escape(one.relation), str(one.gold), *(f"{100 * one.f1[name]:.1f}" for name in names)]
        for one in comparison.relations
    ]
    return ["relation", "gold facts", *map(escape, names)], rows


def _escape_markdown(text: str) -> str:
    return "".join(f"\\{sign}" if sign in "\\|*_`[]<>" else sign for sign in " ".join(text.split()))


def _escape_latex(text: str) -> str:
    return "".join(_LATEX.get(sign, sign) for sign in text)


__all__ = ["figure_label", "to_csv", "to_json", "to_latex", "to_markdown"]
