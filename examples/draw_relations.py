"""Draw a document and its relations as an SVG picture.

python examples/draw_relations.py examples/documents/harbour.txt harbour.svg
"""

from __future__ import annotations

import argparse
import textwrap
from html import escape
from pathlib import Path

from transformers import pipeline

from modeling_docre import Document

CHAR, LINE, COLUMNS, MARGIN = 8.4, 26, 104, 24


def draw(document: Document, relations: list[dict]) -> str:
    """Return the picture: the text with its entities in colour, and a row for each relation."""
    # Steps of the golden angle around the colour circle keep any number of neighbours apart.
    colour = {number: f"hsl({number * 137.5 % 360:.0f} 75% 83%)" for number in range(len(document.entities))}
    parts: list[str] = []
    top = MARGIN
    spans = [
        (mention.start, mention.end, number) for number, e in enumerate(document.entities) for mention in e.mentions
    ]
    at = 0
    for line in textwrap.wrap(document.text, COLUMNS, break_long_words=False):
        first = document.text.index(line.split()[0], at)
        shown = document.text[first : first + len(line)].replace("\n", " ")
        for start, end, number in spans:
            begin, stop = max(start, first), min(end, first + len(line))
            if begin < stop:
                parts.append(_box(MARGIN + (begin - first) * CHAR, top, (stop - begin) * CHAR, colour[number]))
        parts.append(_text(MARGIN, top, shown))
        at, top = first + len(line), top + LINE
    top += 16
    for relation in relations:
        head, tail = relation["head_name"], relation["tail_name"]
        left = MARGIN
        parts.append(_box(left, top, len(head) * CHAR, colour[relation["head"]]) + _text(left, top, head))
        left += len(head) * CHAR + 14
        label = f"— {relation['label']} →"
        parts.append(_text(left, top, label, "#555"))
        left += len(label) * CHAR + 14
        parts.append(_box(left, top, len(tail) * CHAR, colour[relation["tail"]]) + _text(left, top, tail))
        parts.append(_text(MARGIN + (COLUMNS - 4) * CHAR, top, f"{relation['score']:.2f}", "#555"))
        top += LINE
    width = 2 * MARGIN + COLUMNS * CHAR
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {top + 8}" font-family="monospace" '
        f'font-size="14"><rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>\n'
    )


def _box(x: float, y: float, width: float, fill: str) -> str:
    return f'<rect x="{x - 3:.1f}" y="{y - 2}" width="{width + 6:.1f}" height="22" rx="5" fill="{fill}"/>'


def _text(x: float, y: float, text: str, fill: str = "#111") -> str:
    # textLength keeps characters on the grid of the boxes, whatever font the viewer has.
    length = f'textLength="{len(text) * CHAR:.1f}" lengthAdjust="spacingAndGlyphs"'
    return f'<text x="{x:.1f}" y="{y + 14}" fill="{fill}" xml:space="preserve" {length}>{escape(text)}</text>'


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, metavar="FILE.txt", help="a document with [inline](:TYPE) markup")
    parser.add_argument("target", type=Path, metavar="OUT.svg", help="the picture to write")
    parser.add_argument("--model", help="folder or Hub id; the embedded model without it")
    parser.add_argument("--top-k", type=int, default=14, help="relations to draw at most (default: %(default)s)")
    options = parser.parse_args()
    document = Document.from_markup(options.source.read_text(encoding="utf-8").strip())
    answer = pipeline("docre", model=options.model)(document, top_k=options.top_k)
    options.target.write_text(draw(document, answer["relations"]), encoding="utf-8")
