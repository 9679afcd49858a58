"""What pictures share: their forms, and lines and bars that print, also in black and white, keeps apart."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PLOTS = "pip install 'modeling-docre[plots]'"
FORMATS = (".png", ".svg")
# Okabe and Ito's colours, which colour-blind people tell apart.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000", "#F0E442")
MARKERS = "osD^vPX*"
DASHES = ("-", "--", ":", "-.", (0, (5, 1)), (0, (1, 1)), (0, (3, 1, 1, 1)), (0, (8, 2)))
HATCHES = ("", "////", "....", "xxxx", "\\\\\\\\", "++", "oo", "--")
# A column of a page with two, and both, in inches.
COLUMN, PAGE = 3.3, 6.8
_STYLE = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "hatch.linewidth": 0.5,
    # Words stay words, and the same data the same file.
    "svg.fonttype": "none",
    "svg.hashsalt": "modeling-docre",
}


def import_part(name: str) -> Any:
    """
    Import a module that comes with the extra for pictures.

    Raises:
        ModuleNotFoundError: If it isn't installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"Pictures and their figures need {error.name}: {PLOTS}.", name=error.name) from None


def check_picture(path: str | os.PathLike[str]) -> Path:
    """
    Check the name of a picture.

    Args:
        path (`str` or `os.PathLike`): The file to write.

    Raises:
        ValueError: If the picture has another form.
    """
    found = Path(path)
    if found.suffix.lower() not in FORMATS:
        raise ValueError(f"{path} is neither a .png nor an .svg file, which are the forms of pictures.")
    return found


@contextmanager
def drawing(path: str | os.PathLike[str], width: float, height: float) -> Iterator[Any]:
    """
    Make a figure, and write it when it is drawn.

    Args:
        path (`str` or `os.PathLike`): The picture, `.png` or `.svg`.
        width (`float`): Its width in inches: `COLUMN` or `PAGE`.
        height (`float`): Its height in inches.

    Yields:
        `matplotlib.figure.Figure`: The figure, empty.

    Raises:
        ValueError: If the picture has another form.
        ModuleNotFoundError: If matplotlib isn't installed.
    """
    target = check_picture(path)
    matplotlib = import_part("matplotlib")
    with matplotlib.rc_context(_STYLE):
        figure = import_part("matplotlib.figure").Figure(figsize=(width, height), layout="constrained")
        yield figure
        undated = {"Date": None} if target.suffix.lower() == ".svg" else {}
        figure.savefig(target, dpi=300, metadata=undated)


def line_style(number: int) -> dict[str, Any]:
    """
    Return how to draw the line of a system.

    Args:
        number (`int`): Which one it is; the ninth looks like the first.
    """
    return {
        "color": COLOURS[number % len(COLOURS)],
        "marker": MARKERS[number % len(MARKERS)],
        "linestyle": DASHES[number % len(DASHES)],
    }


def bar_style(number: int) -> dict[str, Any]:
    """
    Return how to draw the bars of a system.

    Args:
        number (`int`): Which one it is; the ninth looks like the first.
    """
    return {
        "color": COLOURS[number % len(COLOURS)],
        "hatch": HATCHES[number % len(HATCHES)],
        "edgecolor": "black",
        "linewidth": 0.4,
    }


__all__ = [
    "COLOURS",
    "COLUMN",
    "DASHES",
    "FORMATS",
    "MARKERS",
    "PAGE",
    "bar_style",
    "check_picture",
    "drawing",
    "import_part",
    "line_style",
]
