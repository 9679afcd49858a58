"""The page's HTML, made from the pipeline's answer. Whatever a person or a model wrote is escaped here."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from heapq import heapify, heappop, heappush
from html import escape
from typing import Any

# More rows make the page slow and nobody reads them; the JSON has them all.
MAX_ROWS = 400
# A longer list of entities starts folded.
_OPEN = 24
_HINT = (
    "Choose a relation: its entities and its evidence sentences light up. Raised numbers are sentences, lowered ones "
    "entities, as in the JSON."
)


def message_html(title: str, text: str) -> str:
    """Show what went wrong and how to mend it.

    Args:
        title (`str`): The message in a few words.
        text (`str`): All of it; line breaks are kept.
    """
    return f'<div class="docre-message" role="alert"><strong>{escape(title)}</strong><p>{escape(text)}</p></div>'


def answer_html(answer: Mapping[str, Any], threshold: float, graph: str = "", notes: Iterable[str] = ()) -> str:
    """Show a document, its entities and its relations.

    Relations at or below the threshold are in the page, not shown: the slider brings them out without asking the
    model again.

    Args:
        answer (`Mapping`): What the pipeline gave for one document, with `text`, at the lowest threshold of the page.
        threshold (`float`): Probability above which a relation is shown.
        graph (`str`, *optional*): The SVG of [`~drawing.draw_graph`].
        notes (`Iterable[str]`, *optional*): Sentences to add to the line on coverage.
    """
    data = escape(json.dumps(answer, ensure_ascii=False, separators=(",", ":")))
    return (
        f'<div class="docre-answer" data-threshold="{threshold!r}" data-answer="{data}">'
        '<div class="docre-columns"><section class="docre-panel"><h3>Document</h3>'
        f'<p class="docre-reason" aria-live="polite" data-hint="{_HINT}">{_HINT}</p>'
        f'<div class="docre-text" dir="auto">{text_html(answer)}</div>{_legend(answer["entities"])}</section>'
        f'<section class="docre-panel">{_relations(answer, threshold)}</section></div>'
        f"{graph}{_coverage(answer['coverage'], notes)}</div>"
    )


def hue(entity: int) -> str:
    """Return the colour of an entity as a style: steps of the golden angle keep neighbours apart."""
    return f"--hue:{entity * 137.508 % 360:.0f}"


def text_html(answer: Mapping[str, Any]) -> str:
    """Return the text of a document with its sentences and mentions as elements.

    A mention inside another is an element inside another; of two that cross, the later one is cut in two.

    Args:
        answer (`Mapping`): `text`, `sentences` and `entities` are read.
    """
    text, parts, position = answer["text"], [], 0
    inside: dict[int, list[tuple[int, int, int]]] = {}
    for entity in answer["entities"]:
        for mention in entity["mentions"]:
            inside.setdefault(mention["sentence"], []).append((mention["start"], mention["end"], entity["id"]))
    for number, (start, end) in enumerate(answer["sentences"]):
        parts.append(escape(text[position:start]))
        marked = "".join(_marked(text, start, end, inside.get(number, ())))
        parts.append(f'<span class="docre-sentence" data-sentence="{number}">{marked}</span>')
        position = end
    return "".join(parts) + escape(text[position:])


def _marked(text: str, start: int, end: int, mentions: Sequence[tuple[int, int, int]]) -> Iterator[str]:
    waiting = [(first, -last, entity) for first, last, entity in mentions]
    heapify(waiting)
    ends: list[int] = []
    position = start

    def close(until: int) -> Iterator[str]:
        nonlocal position
        while ends and ends[-1] <= until:
            last = ends.pop()
            yield f"{escape(text[position:last])}</mark>"
            position = last

    while waiting:
        first, last, entity = heappop(waiting)
        last = -last
        yield from close(first)
        if ends and last > ends[-1]:
            heappush(waiting, (ends[-1], -last, entity))
            last = ends[-1]
        yield f'{escape(text[position:first])}<mark data-entity="{entity}" style="{hue(entity)}">'
        position = first
        ends.append(last)
    yield from close(end)
    yield escape(text[position:end])


def _legend(entities: Sequence[Mapping[str, Any]]) -> str:
    if not entities:
        return ""
    items = "".join(
        f"<li>{_chip(entity['id'], entity['name'])}<small>{escape(entity['type'] or 'no type')}"
        f"{' ×' + str(len(entity['mentions'])) if len(entity['mentions']) > 1 else ''}</small></li>"
        for entity in entities
    )
    state = " open" if len(entities) <= _OPEN else ""
    return (
        f'<details class="docre-entities"{state}><summary>Entities <span>{len(entities)}</span></summary>'
        f"<ul>{items}</ul></details>"
    )


def _chip(entity: int, name: str) -> str:
    return f'<span class="docre-chip" dir="auto" data-entity="{entity}" style="{hue(entity)}">{escape(name)}</span>'


def _relations(answer: Mapping[str, Any], threshold: float) -> str:
    relations = answer["relations"]
    shown = sum(relation["score"] > threshold for relation in relations)
    rows = "".join(_row(number, relation, threshold) for number, relation in enumerate(relations[:MAX_ROWS]))
    head = "".join(f'<th scope="col">{name}</th>' for name in ("Head", "Relation", "Tail", "Score", "Evidence"))
    more = (
        f'<p class="docre-note">The table has the {MAX_ROWS} most probable relations; the JSON has all.</p>'
        if len(relations) > MAX_ROWS
        else ""
    )
    return (
        f'<div class="docre-bar"><h3>Relations <span class="docre-count">{shown}</span></h3>'
        '<button type="button" class="docre-download">Download JSON</button></div>'
        f'<div class="docre-table"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
        f'<p class="docre-none{" docre-off" if shown else ""}">No relation above the threshold.</p></div>{more}'
    )


def _row(number: int, relation: Mapping[str, Any], threshold: float) -> str:
    score, evidence = relation["score"], relation["evidence"]
    sentences = ", ".join(map(str, evidence)) or '<span title="The model names no sentence">–</span>'
    off = "" if score > threshold else ' class="docre-off"'
    return (
        f'<tr data-relation="{number}" data-score="{score!r}"{off}>'
        f"<td>{_chip(relation['head'], relation['head_name'])}</td>"
        f'<td><button type="button" aria-pressed="false">{escape(relation["label"])}</button></td>'
        f"<td>{_chip(relation['tail'], relation['tail_name'])}</td>"
        f'<td class="docre-score" style="--score:{score:.3f}">{score:.2f}</td><td>{sentences}</td></tr>'
    )


def _coverage(coverage: Mapping[str, int], notes: Iterable[str]) -> str:
    """Say what was read and what was not: `x` and `x_read` where both are there, and every other count."""
    whole, lost, other = [], [], list(notes)
    for name, count in coverage.items():
        if name.endswith(("_read", "_scored")):
            continue
        read = coverage.get(f"{name}_read", coverage.get(f"{name}_scored"))
        if read is None:
            other.append(f"{name}: {count:,}.")
        elif read < count:
            lost.append(f"{read:,} of {count:,} {name}")
        else:
            whole.append(f"{count:,} {name}")
    sentences = [f"Read: all of {', '.join(whole)}."] if whole else []
    if lost:
        sentences.append(f"Read in part: {', '.join(lost)}. The model's limits left out the rest.")
    warns = " docre-warning" if lost else ""
    return f'<p class="docre-coverage{warns}">{escape(" ".join([*sentences, *other]))}</p>'


__all__ = ["MAX_ROWS", "answer_html", "hue", "message_html", "text_html"]
