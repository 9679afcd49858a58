"""Write the tables of docs/results.md from the record of the small protocol.

    python benchmarks/results_page.py

A table stands between `<!-- table: GROUP -->` and `<!-- end of table -->`; `GROUP macro` has macro F1 over rare
relations in its columns, and `generators` what a classifier learns of generated pairs. A row is written when all its
seeds are recorded (`small_protocol.py --record`). Without a group here, a table is left as it is.
"""

from __future__ import annotations

import re
from pathlib import Path

from protocol_rows import ROWS, STAGES
from small_protocol import COLUMNS, MACRO_COLUMNS, SEEDS, Folders, compare, rates, recorded

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
        *(
            "atlop",
            "paee",
            "paee-hard-attention",
            "paee-no-pair-grid",
            "paee-no-entity-encoder",
            "paee-no-sliding-window",
        ),
        *("paee-no-potential-pairs",),
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
    nowhere = Folders(Path(), Path("no runs"))
    group = (GROUPS | GENERATORS).get(found["group"], ())
    rows = sorted((row for row in (*STAGES, *ROWS) if row.name in group), key=lambda row: group.index(row.name))
    whole = [row for row in rows if all((row.name, rates(nowhere, row)[0], seed) in recorded() for seed in SEEDS)]
    columns = MACRO_COLUMNS if found["macro"] else COLUMNS
    if found["group"] in GENERATORS:
        columns = GENERATOR_COLUMNS
    return compare(nowhere, whole, list(SEEDS), columns) if whole else None


if __name__ == "__main__":
    PAGE.write_text(write_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
