"""The numbers behind pictures, against what is counted by hand."""

from __future__ import annotations

import json

import pytest

from modeling_docre.metrics.docred.scoring import relation_counts, score
from modeling_docre.output_files import DataFileError
from modeling_docre.plot_data import (
    clusters_of,
    head_of,
    related_groups,
    relation_frequencies,
    reliability,
    sampling_lines,
    training_curves,
)


def story(title: str, entities: int, *facts: tuple[int, int, str]) -> dict:
    labels = [{"h": head, "t": tail, "r": name, "evidence": []} for head, tail, name in facts]
    return {"title": title, "vertexSet": [[{"name": f"{title} {n}"}] for n in range(entities)], "labels": labels}


def row(title: str, head: int, tail: int, name: str, **more) -> dict:
    return {"title": title, "h_idx": head, "t_idx": tail, "r": name, **more}


def test_frequencies_and_the_head():
    documents = [story("a", 3, (0, 1, "x"), (1, 2, "x"), (0, 2, "y"), (0, 1, "x")), story("b", 2, (0, 1, "z"))]
    assert relation_frequencies(documents) == [("x", 2), ("y", 1), ("z", 1)]
    assert head_of([("x", 2), ("y", 1), ("z", 1)]) == 1 and head_of([("x", 2), ("y", 2), ("z", 1)]) == 2
    assert head_of([("x", 1), ("y", 1), ("z", 1)]) == 2
    with pytest.raises(DataFileError, match="No document has a relation"):
        relation_frequencies([story("a", 2)])


def test_clusters_of_runs():
    documents = [story("a", 3, (0, 1, "x"), (1, 2, "x"), (0, 2, "y"))]
    training = [story("t", 3, (0, 1, "x"), (1, 2, "x"), (0, 2, "y"), (2, 0, "never"))]
    half, full = [row("a", 0, 1, "x")], [row("a", 0, 1, "x"), row("a", 1, 2, "x"), row("a", 0, 2, "y")]
    found = clusters_of({"s": [half, full], "t": [full]}, documents, training)
    # x, never, y: one in each of the first clusters.
    assert found["t"][:4] == [(1.0, 0.0), None, (1.0, 0.0), None]
    mean, deviation = found["s"][0]
    assert mean == pytest.approx((2 / 3 + 1) / 2) and deviation == pytest.approx((1 / 3) / 2**0.5)
    assert found["s"][2] == (pytest.approx(0.5), pytest.approx(0.5**0.5))


def test_groups_by_share_of_related_pairs():
    documents = [
        story("a", 5, (0, 1, "x"), (0, 1, "y")),  # 1 of 20 pairs
        story("b", 2),
        story("c", 1),
        story("d", 2, (0, 1, "x"), (1, 0, "x")),
    ]
    rows = [row("a", 0, 1, "x"), row("d", 0, 1, "x"), row("d", 1, 0, "y")]
    groups = related_groups({"s": [rows, rows[:1]]}, documents)
    assert [(group.low, group.high, group.documents) for group in groups] == [(0, 2, 2), (4, 6, 1), (10, 100, 1)]
    assert groups[0].f1["s"] == (0.0, 0.0) and groups[1].f1["s"] == (pytest.approx(2 / 3), 0.0)
    assert groups[2].f1["s"] == (pytest.approx(0.25), pytest.approx(0.5 / 2**0.5))


def test_groups_add_up_to_the_whole(data_dir):
    documents = json.loads((data_dir / "re-docred" / "dev_revised.json").read_text())[400:]
    rows = [
        row(document["title"], label["h"], label["t"], label["r"])
        for document in documents
        for number, label in enumerate(document["labels"])
        if number % 3
    ]
    groups = related_groups({"s": [rows]}, documents)
    assert sum(group.documents for group in groups) == 100 and len(groups) > 3
    found = clusters_of({"s": [rows]}, documents, documents)["s"]
    by_relation, counts = score(rows, documents), relation_counts(documents)
    ranked = sorted(counts, key=lambda name: (-counts[name], name))
    size = -(-len(ranked) // 10)
    assert found[0][0] == pytest.approx(sum(by_relation[f"relation/{name}/f1"] for name in ranked[:size]) / size)


def test_reliability_by_hand():
    documents = [story("a", 4, (0, 1, "x"), (1, 2, "x"), (2, 3, "y"))]
    rows = [
        row("a", 0, 1, "x", score=0.9), row("a", 1, 2, "x", score=1.0), row("a", 1, 3, "x", score=0.98),
        row("a", 2, 3, "y", score=0.25), row("a", 3, 2, "y", score=0.2), row("a", 0, 1, "x", score=0.1),
    ]  # fmt: skip
    found = reliability(rows, documents, bins=5)
    assert found.number == [0, 2, 0, 0, 3] and found.lowest == 0.2
    assert found.score == [None, pytest.approx(0.225), None, None, pytest.approx(0.96)]
    assert found.correct == [None, 0.5, None, None, pytest.approx(2 / 3)]
    assert found.error == pytest.approx((2 * 0.275 + 3 * (0.96 - 2 / 3)) / 5)
    for wrong in (None, 1.2, "0.5", True, float("nan")):
        with pytest.raises(DataFileError, match=r"predictions\[1\]: 'score' is .*docre extract -o FILE\.jsonl"):
            reliability([rows[0], row("a", 1, 2, "x", score=wrong)], documents)
    with pytest.raises(DataFileError, match="no predictions"):
        reliability([], documents)


LOG = [
    {"step": 10, "loss": 3.0, "loss_pmt": 2.0, "loss_contrastive": 1.0, "learning_rate": 1e-3},
    {"step": 10, "eval_f1": 0.1, "eval_ign_f1": 0.09, "eval_evidence_sentence_f1": 0.5, "eval_loss": 9.0},
    {"step": 20, "loss": 2.0, "loss_pmt": 1.5, "loss_contrastive": 0.5, "learning_rate": 1e-4},
    {"step": 20, "threshold": 0.3, "threshold_f1": 0.4},
    {"step": 20, "train_runtime": 1.0, "train_loss": 2.5},
    {"step": 20, "eval_f1": 0.3},
]


def test_curves_of_a_log():
    curves = training_curves(LOG)
    assert curves.losses == {
        "loss": [(10, 3.0), (20, 2.0)], "pmt": [(10, 2.0), (20, 1.5)], "contrastive": [(10, 1.0), (20, 0.5)],
    }  # fmt: skip
    assert curves.f1 == {"": [(10, 0.1)]}
    # Without evaluations during training, the one after it; a loss of one part is one line.
    short = [{"step": 10, "loss": 3.0, "loss_atl": 3.0}, *LOG[4:]]
    assert training_curves(short).f1 == {"": [(20, 0.3)]} and training_curves(short).losses == {"loss": [(10, 3.0)]}
    sets = [{"step": 5, "eval_dev_f1": 0.1, "eval_dev_ign_f1": 0.2, "eval_news_f1": 0.3}]
    assert training_curves(sets).f1 == {"dev": [(5, 0.1)], "news": [(5, 0.3)]}


def test_lines_of_a_sweep_are_means_over_seeds_in_percent():
    rows = [
        {"loss": loss, "rate": rate, "seed": seed, "scores": {"clean": {"f1": f1}}}
        for loss, rate, seed, f1 in (
            ("pmt", 1.0, 1, 0.2),
            ("pmt", 0.1, 1, 0.3),
            ("pmt", 0.1, 2, 0.5),
            ("atl", 1, 1, 0),
        )
    ]
    found = sampling_lines(rows, "clean")
    assert found["atl"] == [(1, 0.0, 0.0)]
    assert [point[:2] for point in found["pmt"]] == [(0.1, pytest.approx(40)), (1.0, pytest.approx(20))]
    assert found["pmt"][0][2] == pytest.approx(14.142, abs=1e-3)
