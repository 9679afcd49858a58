"""Text of a model card that stays text on a web page: one line, escaped; numbers, tables, fences."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

# Control characters, and those that turn the direction of what follows.
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]+")
_MARKDOWN = re.compile(r"[\\`*\[\]|~$]|(?<![^\W_])_|_(?![^\W_])")
_LINK = re.compile(r"(?<=:)//|(?<=www)\.|@", re.IGNORECASE)


def plain(text: object) -> str:
    """
    One line that Markdown and HTML show as it is.

    Args:
        text (`object`): What to write; `str` of it is.

    Returns:
        `str`: The text in one line, with everything escaped that Markdown, its tables or HTML would read as more
        than text; addresses are no links.
    """
    line = " ".join(_UNSEEN.sub(" ", str(text)).split()).encode("utf-8", "replace").decode("utf-8")
    # Some pages set formulas between `\\(` and `\\)`, so that a backslash before a bracket can't mean itself.
    line = _MARKDOWN.sub(
        lambda match: f"&#{ord(match[0])};" if match[0] in "\\|" else f"\\{match[0]}", html.escape(line, quote=False)
    )
    return _LINK.sub(lambda match: "".join(f"&#{ord(character)};" for character in match[0]), line)


def fence(code: str) -> str:
    """A fence that no line of the code can close."""
    return "`" * max([3, *(len(run) + 1 for run in re.findall("`+", code))])


def percent(value: float | None) -> str:
    """A fraction in percent, to one digit: `"59.4"`."""
    return "" if value is None else f"{100 * value:.1f}"


def duration(seconds: float) -> str:
    """A duration in the two units that matter: `"1 h 3 min"`, `"12 s"`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes = whole // 60
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {whole % 60} s"


def count(number: int, noun: str) -> str:
    """A number with its noun: `"1 relation"`, `"1,234 facts"`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def table(header: Sequence[str], rows: Sequence[Sequence[object]], *, escaped: bool = False) -> str:
    """A Markdown table; cells are escaped unless they are so already."""
    cells = [[str(cell) if escaped else plain(cell) for cell in row] for row in rows]
    lines = [list(header), ["---"] * len(header), *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


__all__ = ["count", "duration", "fence", "percent", "plain", "table"]
