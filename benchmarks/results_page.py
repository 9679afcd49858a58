"""Write the tables of docs/results.md from the record of the small protocol.

    python benchmarks/results_page.py

A table stands between `<!-- table: GROUP -->` and `<!-- end of table -->`; `GROUP macro` has macro F1 over rare
relations in its columns, `generators` what a classifier learns of generated pairs, `tuned` has methods with one
probability for all relations, over the seeds of which all were scored so, and `pruning` what is lost with the pairs
that PAEE takes for unrelated, over the seeds that were scored so. Another row is written when all its seeds are
recorded (`small_protocol.py --record`). Without a group here, a table is left as it is.
"""

from __future__ import annotations

import re
from pathlib import Path

from protocol_rows import ROWS, STAGES
from small_protocol import COLUMNS, MACRO_COLUMNS, SEEDS, TUNED, Folders, compare, rates, recorded, spread

PAGE = Path(__file__).resolve().parents[1] / "docs" / "results.md"
GROUPS = {
    "augmentation": (
        *("atlop", "atlop-deletion", "atlop-mask", "era-no-augmentation", "era"),
        *("eracl-no-augmentation", "eracl"),
    ),
    "incomplete": (
        *("atlop-incomplete", "atlop-incomplete-sampling", "atlop-incomplete-cast"),
        *("pemscl-incomplete", "pemscl-incomplete-sampling"),
    ),
    "distillation": (
        *("atlop", "atlop-continued", "student-naive", "student-naive-continued", "student", "student-continued"),
        *("student-kl", "student-kl-continued"),
    ),
    "generated pairs": (
        *("vaediff", "vaediff-gaussian", "vaediff-generated", "vaediff-continued"),
        *("vaediff-continued-generated",),
    ),
    "pair-aware": (
        *("atlop", "atlop-types", "atlop-types-adaptive", "paee", "paee-hard-attention", "paee-no-pair-grid"),
        *("paee-no-entity-encoder", "paee-no-sliding-window", "paee-no-potential-pairs"),
    ),
}
# Of stages that predict nothing themselves.
GENERATORS = {"generators": ("vaediff-generator",)}
GENERATOR_COLUMNS = {
    "F1 from generated pairs": "f1_generated",
    "from real ones": "f1_real",
    "macro F1 from generated pairs": "macro_f1_generated",
    "from real pairs": "macro_f1_real",
}
TABLE = re.compile(
    r"(<!-- table: (?P<group>[a-z -]+?)(?P<macro> macro)? -->\n)(?P<table>.*?)(<!-- end of table -->)", re.DOTALL
)


def write_tables(page: str) -> str:
    """Return the page with its tables written anew."""

    def write(found: re.Match[str]) -> str:
        written = table(found)
        return found[1] + (found["table"] if written is None else f"\n{written}\n\n") + found[5]

    return TABLE.sub(write, page)


def table(found: re.Match[str]) -> str | None:
    """Return a table, `None` where nothing of it is recorded."""
    if found["group"] == "pruning":
        return pruning()
    if found["group"] == "tuned":
        return tuned()
    nowhere = Folders(Path(), Path("no runs"))
    group = (GROUPS | GENERATORS).get(found["group"], ())
    rows = sorted((row for row in (*STAGES, *ROWS) if row.name in group), key=lambda row: group.index(row.name))
    whole = [row for row in rows if all((row.name, rates(nowhere, row)[0], seed) in recorded() for seed in SEEDS)]
    columns = MACRO_COLUMNS if found["macro"] else COLUMNS
    if found["group"] in GENERATORS:
        columns = GENERATOR_COLUMNS
    return compare(nowhere, whole, list(SEEDS), columns) if whole else None


def tuned() -> str | None:
    """Return the table of methods with one probability for all relations, `None` without runs.

    Raises:
        ValueError: when there is no seed that all of them were run with.
    """
    rows: dict[str, dict[int, dict[str, float]]] = {}
    for row in ROWS:
        if row.name in GROUPS["generated pairs"]:
            (rate, *_) = rates(Folders(Path(), Path("no runs")), row)
            known = {seed: recorded().get((row.name, rate, seed), {}) for seed in SEEDS}
            runs = {seed: figures["tuned"] for seed, figures in known.items() if "tuned" in figures}
            rows |= {row.name: runs} if runs else {}
    common = [seed for seed in SEEDS if all(seed in runs for runs in rows.values())]
    if not rows:
        return None
    if not common:
        raise ValueError(f"No seed is that of all of {', '.join(rows)}: run what is missing.")
    lines = [f"| {' | '.join(['method', *TUNED])} |", f"| --- |{' ---: |' * len(TUNED)}"]
    for name, runs in rows.items():
        cells = [spread([100 * runs[seed][figure] for seed in common]) for figure in TUNED.values()]
        lines.append(f"| {' | '.join([name, *cells])} |")
    return "\n".join(lines)


def pruning() -> str | None:
    """Return the table of what is found with pairs left out below some probabilities, `None` without runs."""
    (row,) = (row for row in ROWS if row.prunes)
    known = (recorded().get((row.name, row.rate, seed), {}) for seed in SEEDS)
    runs = [figures for figures in known if "pruned" in figures]
    if not runs:
        return None
    lines = ["| left out below | pairs classified | F1 | recall |", "| ---: | ---: | ---: | ---: |"]
    whole = [{"threshold": 0.0, "classified": 1.0, "f1": run["f1"], "recall": run["recall"]} for run in runs]
    pruned = zip(*(run["pruned"] for run in runs), strict=True)
    # The lowest threshold first, which leaves out least.
    for found in (whole, *sorted(pruned, key=lambda one: one[0]["threshold"])):
        (threshold,) = {one["threshold"] for one in found}
        cells = [spread([100 * one[figure] for one in found]) for figure in ("classified", "f1", "recall")]
        lines.append(f"| {' | '.join([f'{threshold:g}' if threshold else 'nothing', *cells])} |")
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(write_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
