"""A document's relations as a graph: a small SVG of its own, with every string escaped."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

WIDTH, HEIGHT, MARGIN = 1160, 480, 10
# What can still be told apart at this size.
MAX_NODES, MAX_EDGES = 30, 90
_CHARACTER, _NAME, _LINE = 7.3, 24, 28
_STEPS = 120
_TIP = (
    '<marker id="{}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
    'markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0.8 7.4 4 0 7.2z"/></marker>'
)

Point = tuple[float, float]


def draw_graph(answer: Mapping[str, Any], threshold: float, style: Callable[[int], str]) -> str:
    """Draw the entities that have relations, and an arrow from head to tail for each.

    Args:
        answer (`Mapping`): `entities` and `relations` are read, the best relations first.
        threshold (`float`): Probability above which a relation is shown; the others wait for the slider.
        style (`Callable`): From an entity's number to its colour, as a style; see [`~rendering.hue`].

    Returns:
        `str`: A figure, or nothing where there is no relation.
    """
    nodes: dict[int, int] = {}
    edges: list[tuple[int, int, int]] = []
    for number, relation in enumerate(answer["relations"]):
        new = {relation["head"], relation["tail"]} - nodes.keys()
        if len(edges) < MAX_EDGES and len(nodes) + len(new) <= MAX_NODES:
            for entity in sorted(new):
                nodes[entity] = len(nodes)
            edges.append((number, relation["head"], relation["tail"]))
    if not edges:
        return ""
    names = {entity["id"]: _short(entity["name"]) for entity in answer["entities"]}
    sizes = [_CHARACTER * _columns(names[entity]) + 26 for entity in nodes]
    places = _places(sizes, sorted({(nodes[head], nodes[tail]) for _, head, tail in edges}))
    drawn: dict[frozenset[int], int] = {}
    lines, labels = [], []
    shown: set[int] = set()
    for number, head, tail in edges:
        relation = answer["relations"][number]
        between = frozenset((head, tail))
        bend = drawn[between] = drawn.get(between, 0) + 1
        off = relation["score"] <= threshold
        if not off:
            shown |= between
        ends = [(places[nodes[entity]], sizes[nodes[entity]]) for entity in (head, tail)]
        line, label = _edge(number, relation, ends, bend, off)
        lines.append(line)
        labels.append(label)
    chips = [
        _node(entity, names[entity], places[nodes[entity]], sizes[nodes[entity]], style(entity), entity not in shown)
        for entity in nodes
    ]
    left = len(answer["relations"]) - len(edges)
    note = f"<figcaption>The graph leaves out {left} of the less probable relations.</figcaption>" if left else ""
    return (
        '<figure class="docre-graph docre-panel"><h3>Graph</h3><div class="docre-scroll">'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="Graph of the relations in the table">'
        f"<defs>{_TIP.format('docre-tip')}{_TIP.format('docre-tip-picked')}</defs>"
        f"{''.join(lines)}{''.join(chips)}{''.join(labels)}</svg></div>{note}</figure>"
    )


def _node(entity: int, name: str, place: Point, width: float, style: str, alone: bool) -> str:
    x, y = place
    return (
        f'<g class="docre-node{" docre-alone" if alone else ""}" data-entity="{entity}" style="{style}">'
        f'<rect x="{x - width / 2:.1f}" y="{y - 12:.1f}" width="{width:.1f}" height="24" rx="12"/>'
        f'<text x="{x:.1f}" y="{y + 4.5:.1f}" text-anchor="middle">{escape(name)}</text></g>'
    )


def _edge(
    number: int, relation: Mapping[str, Any], ends: Sequence[tuple[Point, float]], bend: int, off: bool
) -> tuple[str, str]:
    ((ax, ay), aw), ((bx, by), bw) = ends
    dx, dy = bx - ax, by - ay
    length = math.hypot(dx, dy) or 1.0
    # Arrows between the same two entities bend to one side and the other in turn, each pair more than the last.
    lift = (14 + 18 * ((bend - 1) // 2)) * (1 if (bend % 2 == 1) == (relation["head"] < relation["tail"]) else -1)
    mx, my = (ax + bx) / 2 - dy / length * lift * 2, (ay + by) / 2 + dx / length * lift * 2
    sx, sy = _border((ax, ay), aw, (mx, my), 0)
    tx, ty = _border((bx, by), bw, (mx, my), 3)
    curve = f"M{sx:.1f} {sy:.1f}Q{mx:.1f} {my:.1f} {tx:.1f} {ty:.1f}"
    label, said = relation["label"], f"{relation['head_name']} — {relation['label']} → {relation['tail_name']}"
    lx, ly = (sx + 2 * mx + tx) / 4, (sy + 2 * my + ty) / 4
    half = _CHARACTER * _columns(label) / 2
    lx = min(max(lx, half + 4), WIDTH - half - 4)
    return (
        f'<g class="docre-edge{" docre-off" if off else ""}" data-relation="{number}" '
        f'data-score="{relation["score"]!r}" data-head="{relation["head"]}" data-tail="{relation["tail"]}">'
        f"<title>{escape(said)} ({relation['score']:.2f})</title>"
        f'<path class="docre-hit" d="{curve}"/><path d="{curve}"/></g>',
        f'<text class="docre-label" data-relation="{number}" x="{lx:.1f}" y="{ly + 4:.1f}" text-anchor="middle">'
        f"{escape(label)}</text>",
    )


def _border(centre: Point, width: float, towards: Point, gap: float) -> Point:
    """Where the line from the middle of a box of this width to another point leaves the box."""
    dx, dy = towards[0] - centre[0], towards[1] - centre[1]
    reach = min((width / 2 + gap) / (abs(dx) or 1e-9), (12 + gap) / (abs(dy) or 1e-9))
    return centre[0] + dx * reach, centre[1] + dy * reach


def _places(sizes: Sequence[float], edges: Sequence[tuple[int, int]]) -> list[Point]:
    """Lay out the boxes: springs along the edges, all boxes push each other off, the same every time."""
    number = len(sizes)
    degree = [sum(node in edge for edge in edges) for node in range(number)]
    order = sorted(range(number), key=lambda node: -degree[node])
    xs, ys = [0.0] * number, [0.0] * number
    for rank, node in enumerate(order):
        angle, radius = rank * 2.39996, math.sqrt(rank + 0.5)
        xs[node], ys[node] = radius * math.cos(angle), radius * math.sin(angle)
    for step in range(_STEPS):
        fx, fy = [-0.06 * x for x in xs], [-0.06 * y for y in ys]
        for a in range(number):
            for b in range(a):
                dx, dy = xs[a] - xs[b], ys[a] - ys[b]
                push = 1.6 / (dx * dx + dy * dy + 0.01)
                fx[a] += dx * push
                fy[a] += dy * push
                fx[b] -= dx * push
                fy[b] -= dy * push
        for a, b in edges:
            dx, dy = xs[b] - xs[a], ys[b] - ys[a]
            pull = 0.12 * math.hypot(dx, dy)
            fx[a] += dx * pull
            fy[a] += dy * pull
            fx[b] -= dx * pull
            fy[b] -= dy * pull
        most = 0.5 * (1 - step / _STEPS) + 0.01
        for node in range(number):
            force = math.hypot(fx[node], fy[node]) or 1.0
            xs[node] += fx[node] / force * min(force, most)
            ys[node] += fy[node] / force * min(force, most)
    return _spread(_fit(xs, [MARGIN + size / 2 for size in sizes], WIDTH), _fit(ys, [26.0] * number, HEIGHT), sizes)


def _fit(values: Sequence[float], margins: Sequence[float], extent: float) -> list[float]:
    low, high = min(values), max(values)
    margin = max(margins)
    if high - low < 1e-6:
        return [extent / 2] * len(values)
    # Half by place, half by rank: the middle, where the most connected stand, gets room.
    order = sorted(range(len(values)), key=values.__getitem__)
    rank = {node: at / (len(values) - 1) for at, node in enumerate(order)}
    shares = [((value - low) / (high - low) + rank[node]) / 2 for node, value in enumerate(values)]
    return [margin + share * (extent - 2 * margin) for share in shares]


def _spread(xs: list[float], ys: list[float], sizes: Sequence[float]) -> list[Point]:
    """Push boxes apart that overlap, inside the picture."""
    for _ in range(80):
        moved = False
        for a in range(len(xs)):
            for b in range(a):
                overlap_x = (sizes[a] + sizes[b]) / 2 + 10 - abs(xs[a] - xs[b])
                overlap_y = _LINE + 10 - abs(ys[a] - ys[b])
                if overlap_x > 0 and overlap_y > 0:
                    moved = True
                    if overlap_x < overlap_y:
                        sign = 1 if xs[a] >= xs[b] else -1
                        xs[a] += sign * overlap_x / 2
                        xs[b] -= sign * overlap_x / 2
                    else:
                        sign = 1 if ys[a] >= ys[b] else -1
                        ys[a] += sign * overlap_y / 2
                        ys[b] -= sign * overlap_y / 2
        for node, size in enumerate(sizes):
            xs[node] = min(max(xs[node], MARGIN + size / 2), WIDTH - MARGIN - size / 2)
            ys[node] = min(max(ys[node], 20.0), HEIGHT - 20.0)
        if not moved:
            break
    return list(zip(xs, ys, strict=True))


def _short(name: str) -> str:
    name = " ".join(name.split())
    return name if len(name) <= _NAME else name[: _NAME - 1].rstrip() + "…"


def _columns(text: str) -> int:
    """Width in characters: those of East Asian scripts are about twice as wide."""
    return sum(2 if ord(character) >= 0x2E80 else 1 for character in text)


__all__ = ["MAX_EDGES", "MAX_NODES", "draw_graph"]
