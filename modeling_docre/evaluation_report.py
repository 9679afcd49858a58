"""The figures of the scorer as a person reads them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

_COLUMNS = ("precision", "recall", "f1")

# What a group has, `*` standing for each of the columns. The last one takes what no other does.
_GROUPS = {
    "All facts": r"\*|(evidence|evidence_sentence|ign)_\*|ign_\*_distant|\*_candidates",
    "Facts by sentences between their entities": r"\*_(intra|inter|inter_long)",
    "Facts by frequency of their relation": r"\*_(frequent|long_tail|head|middle|tail|few_facts|many_facts)",
    "Facts by percentage of related pairs in their document": r"\*_related_\d+_\d+",
    "Facts that follow from two others, and pairs with any relation": r"(infer|rela)_\*",
    "F1, mean over relations": r"macro_f1\w*|f1_cluster_\d+",
    "Shares": r".*",
}


def format_figures(figures: Mapping[str, float], counts: Mapping[str, int] = MappingProxyType({})) -> str:
    """
    Lays out figures in groups, those of each relation left out.

    Args:
        figures (`Mapping[str, float]`): What [`~metrics.docred.scoring.score`] returns.
        counts (`Mapping[str, int]`, *optional*):
            What [`~metrics.docred.scoring.score_counts`] returns for the same; figures of nothing, neither gold nor
            predicted, which are 0, are written as `-` then.

    Returns:
        `str`: A heading for each group, and lines with a name and its precision, recall and F1 (`-` where there is
        none), or a name and one figure. A `*` in a name stands for `precision`, `recall` and `f1`.
    """
    rows: dict[str, dict[str, float]] = {}
    for name, value in figures.items():
        if not name.startswith("relation/"):
            row, column = _place(name, figures)
            found = rows.setdefault(row, {})
            if not _is_of_nothing(row, counts):
                found[column] = value
    width = max(map(len, rows), default=0)
    groups: dict[str, list[str]] = {heading: [] for heading in _GROUPS}
    for row in rows:
        groups[next(heading for heading, names in _GROUPS.items() if re.fullmatch(names, row))].append(row)
    blocks = []
    for heading, names in groups.items():
        if names:
            columns = _COLUMNS if "*" in names[0] else ("",)
            if "*" in names and columns == _COLUMNS:
                heading = f"{heading} (`*` in a name of --json is precision, recall or f1)"
            lines = [
                "  ".join([f"  {name:{width}}", *(_cell(rows[name], column) for column in columns)]) for name in names
            ]
            titles = "".join(f"  {column:>9}" for column in columns)
            blocks.append("\n".join([heading, *([f"  {'':{width}}{titles}"] if columns == _COLUMNS else []), *lines]))
    return "\n\n".join(blocks)


def _is_of_nothing(row: str, counts: Mapping[str, int]) -> bool:
    if row.startswith("outcome_"):
        made_of = [f"outcome_{what}" for what in ("correct", "wrong", "missed", "more")]
    elif "*" in row:
        # What training knows is left out of the precision alone: these are figures of all facts.
        all_facts = row.startswith("ign_")
        made_of = [what if all_facts else row.replace("*", what) for what in ("gold", "predicted")]
    else:
        made_of = [f"{row}_relations"]
    known = [counts[name] for name in made_of if name in counts]
    return bool(known) and not any(known)


def _place(name: str, figures: Mapping[str, float]) -> tuple[str, str]:
    for column in _COLUMNS:
        row = re.sub(rf"(?<![a-z]){column}(?![a-z0-9])", "*", name)
        # A mean of F1 has no precision.
        if row != name and row.replace("*", "precision") in figures:
            return row, column
    return name, ""


def _cell(row: Mapping[str, float], column: str) -> str:
    return f"{row[column]:9.4f}" if column in row else f"{'-':>9}"


__all__ = ["format_figures"]
