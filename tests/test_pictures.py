"""Pictures are files of their form and size, with the words and the numbers that they should have."""

from __future__ import annotations

import json
import math
import re
import struct
from xml.etree import ElementTree

import pytest
from forked import run_python
from test_plot_data import LOG, row, story

from modeling_docre import cli
from modeling_docre.output_files import DataFileError
from modeling_docre.plot_runs import plot_sampling, plot_training
from modeling_docre.plot_scores import plot_calibration, plot_clusters, plot_related_pairs, plot_relations
from modeling_docre.plot_style import bar_style, line_style

pytest.importorskip("matplotlib")

GOLD = [
    story(f"d{number}", 4 + 3 * (number % 2), *[(0, 1, "x"), (1, 2, "x"), (2, 3, "y"), (3, 0, "z")][: number % 4 + 1])
    for number in range(20)
]
ROWS = [
    row(document["title"], label["h"], label["t"], label["r"], score=0.15 + 0.1 * (place % 8))
    for place, document in enumerate(GOLD)
    for label in document["labels"]
]
SYSTEMS = {"base & co": [ROWS[::2], ROWS[1::2]], "über <all>": [ROWS]}


def words(path) -> list[str]:
    """The text of an SVG file, all of it at least 8 points high."""
    found = []
    for element in ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}text"):
        size = re.search(r"font(?:-size)?: (?:[\w ]+ )?([\d.]+)px", element.get("style", ""))
        # A unit of the file is a point in print.
        assert size and float(size[1]) >= 8, ElementTree.tostring(element)
        found.append("".join(element.itertext()))
    return found


def size_of(path) -> tuple[int, int]:
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n") and content.endswith(b"IEND\xaeB`\x82")
    return struct.unpack(">II", content[16:24])


def test_relations(tmp_path):
    assert plot_relations(GOLD, tmp_path / "a.svg") == [("x", 35), ("y", 10), ("z", 5)]
    found = words(tmp_path / "a.svg")
    assert {"facts", "relation, by number of facts", "x: 35"} <= set(found)
    assert {"1 relation: half of all facts", "2 relations: the other half"} <= set(found)
    plot_relations(GOLD, tmp_path / "a.png")
    assert size_of(tmp_path / "a.png") == (990, 630)  # 3.3 x 2.1 inches, 300 dots each
    plot_relations(GOLD, tmp_path / "again.svg")
    assert (tmp_path / "again.svg").read_bytes() == (tmp_path / "a.svg").read_bytes()
    plot_relations(GOLD[:1], tmp_path / "one.svg")
    assert "1 relation: half of all facts" in words(tmp_path / "one.svg")


def test_clusters(tmp_path):
    found = plot_clusters(SYSTEMS, GOLD, GOLD, tmp_path / "a.svg")
    assert found["über <all>"][:4] == [(1.0, 0.0), (1.0, 0.0), (1.0, 0.0), None]
    said = words(tmp_path / "a.svg")
    assert {*SYSTEMS, "mean F1 of the relations (%)", "cluster of relations, commonest to rarest"} <= set(said)
    assert {str(number) for number in range(1, 11)} <= set(said)
    plot_clusters(SYSTEMS, GOLD, GOLD, tmp_path / "a.png")
    assert size_of(tmp_path / "a.png") == (990, 720)


def test_related_pairs(tmp_path):
    groups = plot_related_pairs(SYSTEMS, GOLD, tmp_path / "a.svg")
    said = words(tmp_path / "a.svg")
    assert {*SYSTEMS, "F1 (%)"} <= set(said) and any("pairs of a document with a relation (%)" in one for one in said)
    for group in groups:
        assert f"({group.documents})" in said and f"{group.low} to" in said
    # The bars of a system alone have their values on them.
    alone = plot_related_pairs({"half": [ROWS[::2]]}, GOLD, tmp_path / "b.svg")
    values = {f"{100 * group.f1['half'][0]:.1f}" for group in alone}
    assert len(values) > 1 and values <= set(words(tmp_path / "b.svg"))
    plot_related_pairs(SYSTEMS, GOLD, tmp_path / "a.png")
    assert size_of(tmp_path / "a.png") == (990, 780)


def test_calibration(tmp_path):
    wrong = [{**one, "r": "w"} for one in ROWS[:10]]
    found = plot_calibration({"a": [ROWS + wrong], "b": [ROWS, wrong]}, GOLD, tmp_path / "a.svg")
    # Runs are taken together, each with documents of its own.
    assert found["a"] == found["b"] and sum(found["b"].number) == len(ROWS) + 10
    twice = plot_calibration({"a": [ROWS, ROWS]}, GOLD, tmp_path / "b.svg")["a"]
    assert sum(twice.number) == 2 * len(ROWS) and set(twice.correct) == {1.0, None}
    said = set(words(tmp_path / "a.svg"))
    assert {"score", "part that is right", "predictions", "perfectly calibrated"} <= said
    assert {f"{name}, ECE {100 * found[name].error:.1f}" for name in "ab"} <= said
    plot_calibration({"a": [ROWS]}, GOLD, tmp_path / "a.png")
    assert size_of(tmp_path / "a.png") == (990, 1020)


def sweep(*labels: str) -> list[dict]:
    return [
        {"loss": loss, "rate": rate, "seed": seed, "scores": {name: {"f1": rate / 2} for name in labels}}
        for loss in ("atl", "pmt", "bce")
        for rate in (0.1, 1.0)
        for seed in (1, 2)
    ]


def test_sampling(tmp_path):
    plot_sampling(sweep("clean labels", "incomplete labels"), tmp_path / "a.svg")
    said = words(tmp_path / "a.svg")
    assert {"clean labels", "incomplete labels", "ATLOP (atl)", "PEMSCL (pmt)", "bce", "F1 (%)"} <= set(said)
    assert said.count("part of negative labels kept") == 2 and said.count("ATLOP (atl)") == 1
    plot_sampling(sweep("clean"), tmp_path / "a.png")
    assert size_of(tmp_path / "a.png") == (990, 720)
    with pytest.raises(DataFileError, match="no point yet"):
        plot_sampling([], tmp_path / "b.png")


def test_training(tmp_path):
    plot_training({"run": LOG}, tmp_path / "a.svg")
    said = words(tmp_path / "a.svg")
    assert {"training loss", "F1 in evaluation (%)", "loss", "pmt", "contrastive"} <= set(said)
    assert said.count("step") == 2 and "run" not in said
    plot_training({"one": LOG, "two": LOG[:1] + LOG[2:3]}, tmp_path / "b.svg")
    assert {"one, loss", "two, loss", "two, pmt", "one", "two"} - set(words(tmp_path / "b.svg")) == {"two"}
    plot_training({"run": LOG}, tmp_path / "a.png")
    assert size_of(tmp_path / "a.png") == (2040, 780)
    # A training that evaluates nothing has one panel.
    plot_training({"generator": LOG[:1]}, tmp_path / "b.png")
    assert size_of(tmp_path / "b.png") == (990, 780)
    with pytest.raises(DataFileError, match="silent has logged no loss and no F1"):
        plot_training({"silent": LOG[3:5]}, tmp_path / "c.png")


def test_drawn_points_are_the_numbers(tmp_path, monkeypatch):
    from matplotlib.axes import Axes

    drawn = []

    def keep(name):
        original = getattr(Axes, name)
        monkeypatch.setattr(Axes, name, lambda self, *a, **k: drawn.append((name, a)) or original(self, *a, **k))

    for name in ("bar", "plot", "errorbar"):
        keep(name)
    frequencies = plot_relations(GOLD, tmp_path / "a.svg")
    assert [height for name, a in drawn if name == "bar" for height in a[1]] == [count for _, count in frequencies]
    drawn.clear()
    clusters = plot_clusters(SYSTEMS, GOLD, GOLD, tmp_path / "a.svg")["base & co"]
    _, (places, means, errors) = next(call for call in drawn if call[0] == "errorbar")
    assert list(places) == [*range(1, 11)] and list(means[:3]) == [100 * one[0] for one in clusters[:3]]
    assert list(errors[:3]) == [100 * one[1] for one in clusters[:3]] and any(errors[:3])
    # Where there is nothing, no line goes.
    assert clusters[3:] == [None] * 7 and all(map(math.isnan, means[3:]))
    drawn.clear()
    plot_training({"run": LOG}, tmp_path / "a.svg")
    assert [a for name, a in drawn if name == "plot"] == [
        ((10, 20), (3.0, 2.0)), ((10, 20), (2.0, 1.5)), ((10, 20), (1.0, 0.5)), ((10,), (10.0,)),
    ]  # fmt: skip


def test_systems_differ_without_colour():
    lines = [line_style(number) for number in range(8)]
    assert len({line["marker"] for line in lines}) == len({str(line["linestyle"]) for line in lines}) == 8
    assert len({bar_style(number)["hatch"] for number in range(8)}) == 8


def test_commands(tmp_path, capsys):
    gold, rows = tmp_path / "gold.json", tmp_path / "rows.json"
    gold.write_text(json.dumps(GOLD))
    rows.write_text(json.dumps(ROWS))
    (tmp_path / "sweep.json").write_text(json.dumps({"regime": "tiny", "points": sweep("clean")}))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "trainer_state.json").write_text(json.dumps({"log_history": LOG, "global_step": 20}))
    of_runs = [f"all={rows}", "--references", gold]
    for number, (printed, *command) in enumerate(
        [
            (r"x +35\ny +10", "relations", gold),
            (r"1 +100\.00\n2 +100\.00\n3 +100\.00\n4 +-", "clusters", *of_runs, "--train-annotated", gold),
            (r"4 to 6% +5 +100\.00", "related-pairs", *of_runs),
            (r"all +50 +0\.\d{4} +0\.1500", "calibration", *of_runs),
            ("^$", "sampling", tmp_path / "sweep.json"),
            ("^$", "training", f"it={tmp_path / 'run'}"),
        ]
    ):
        picture = tmp_path / f"{number}.svg"
        assert cli.main(["plot", *map(str, command), "-o", str(picture)]) == 0
        ran = capsys.readouterr()
        assert re.search(printed, ran.out), command
        assert ("--threshold 0" in ran.err) == (command[0] == "calibration")
        assert len(words(picture)) > 5
        assert cli.main(["plot", *map(str, command), "-o", str(tmp_path / "a.gif")]) == 1
        assert "neither a .png nor an .svg" in capsys.readouterr().err
    assert cli.main(["plot", "sampling", str(gold), "-o", str(tmp_path / "b.png")]) == 1
    assert "no points of a sweep" in capsys.readouterr().err
    twice = [f"a={tmp_path / 'run'}"] * 2
    assert cli.main(["plot", "training", *twice, "-o", str(tmp_path / "b.png")]) == 1
    assert "Two trainings would be called 'a'" in capsys.readouterr().err
    assert not (tmp_path / "b.png").exists() and not (tmp_path / "a.gif").exists()


def test_what_is_missing_for_a_picture_is_said(tmp_path):
    """In a process whose import of matplotlib fails."""
    (tmp_path / "gold.json").write_text(json.dumps(GOLD))
    (tmp_path / "plot.py").write_text(
        "import sys; sys.modules['matplotlib'] = None\n"
        "from modeling_docre.cli import main\n"
        "sys.exit(main(['plot', 'relations', *sys.argv[1:]]))"
    )
    ran = run_python(tmp_path / "plot.py", tmp_path / "gold.json", "-o", tmp_path / "a.png")
    assert ran.returncode == 1 and "pip install 'modeling-docre[plots]'" in ran.stderr
