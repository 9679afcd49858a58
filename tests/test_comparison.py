"""Comparison of systems: figures over seeds, the paired bootstrap, relations won, and the forms of the tables."""

from __future__ import annotations

import csv
import io
import json
import shutil
import statistics
import subprocess
from collections import Counter

import numpy as np
import pytest

from modeling_docre.bootstrap import RESAMPLED, PairedTest, paired_test, resample
from modeling_docre.comparison import ComparisonError, _count, _training_facts, compare
from modeling_docre.comparison_tables import figure_label, to_csv, to_json, to_latex, to_markdown
from modeling_docre.metrics.docred.rows import read_predictions, read_references
from modeling_docre.metrics.docred.scoring import score

RELATIONS = ("born_in", "part_of", "rules")


def towns(number: int, seed: int = 0) -> list[dict]:
    """Documents with five named entities and some relations."""
    random = np.random.default_rng(seed)
    found = []
    for place in range(number):
        names = [f"Town {random.integers(12)}" for _ in range(5)]
        labels = {
            (int(head), int(tail), RELATIONS[min(2, int(random.integers(5)))])
            for head, tail in random.integers(0, 5, (6, 2))
            if head != tail
        }
        found.append(
            {
                "title": f"Story {place}",
                "vertexSet": [[{"name": name, "sent_id": 0}] for name in names],
                "labels": [{"h": head, "t": tail, "r": name, "evidence": []} for head, tail, name in sorted(labels)],
            }
        )
    return found


def guesses(documents: list[dict], keep: float, wrong: float, seed: int) -> list[dict]:
    """Part of the gold relations, and wrong ones, of which some are of a relation that is nowhere gold."""
    random = np.random.default_rng(seed)
    rows = []
    for document in documents:
        for label in document["labels"]:
            if random.random() < keep:
                rows.append({"title": document["title"], "h_idx": label["h"], "t_idx": label["t"], "r": label["r"]})
            if random.random() < wrong:
                name = ("born_in", "sees")[int(random.integers(2))]
                rows.append({"title": document["title"], "h_idx": label["t"], "t_idx": label["h"], "r": name})
    return rows


@pytest.fixture(scope="module")
def gold():
    return towns(30)


@pytest.fixture(scope="module")
def trained():
    return towns(6, seed=5)


@pytest.fixture(scope="module")
def systems(gold):
    return {
        "base": [guesses(gold, 0.5, 0.3, seed) for seed in (1, 2, 3)],
        "good": [guesses(gold, 0.9, 0.1, seed) for seed in (4, 5)],
    }


def test_figures_are_means_and_deviations_of_the_scorers(gold, trained, systems):
    found = compare(systems, gold, train_annotated=trained, samples=10)
    assert found.figures == ["f1", "ign_f1", "precision", "recall", "macro_f1"] and found.documents == 30
    for system in found.systems:
        scores = [score(run, gold, train_annotated=trained) for run in systems[system.name]]
        assert system.runs == len(scores)
        for name in found.figures:
            values = [figures[name] for figures in scores]
            assert system.mean[name] == pytest.approx(sum(values) / len(values))
            assert system.deviation[name] == pytest.approx(statistics.stdev(values))
    # By hand: 2 / (1 + 2) and 2 / (2 + 2), whose deviation is half their difference times the root of 2.
    one = [{"title": "A", "vertexSet": [[{"name": "a"}], [{"name": "b"}], [{"name": "c"}]], "labels": [
        {"h": 0, "t": 1, "r": "x", "evidence": []}, {"h": 1, "t": 2, "r": "x", "evidence": []}]}]  # fmt: skip
    right = {"title": "A", "h_idx": 0, "t_idx": 1, "r": "x"}
    by_hand = compare({"s": [[right], [right, {**right, "r": "y"}]], "t": [[right]]}, one, figures=["f1"], samples=5)
    assert by_hand.systems[0].mean["f1"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert by_hand.systems[0].deviation["f1"] == pytest.approx((2 / 3 - 1 / 2) / 2**0.5)
    assert by_hand.systems[1].deviation is None


def test_resampled_figures_are_those_of_the_scorer_on_the_drawn_documents(gold, trained, systems):
    """A plain loop over the same draws, which scores each collection of documents with the scorer itself."""
    samples = 12
    counts = {
        name: [_count(read_predictions(run), read_references(gold), _training_facts(trained)) for run in runs]
        for name, runs in systems.items()
    }
    found = resample(counts, RESAMPLED, samples=samples, seed=3)
    random = np.random.default_rng(3)
    draws = random.multinomial(len(gold), np.full(len(gold), 1 / len(gold)), samples)
    for number, weights in enumerate([np.ones(len(gold), dtype=int), *draws]):
        copies = [
            ({**document, "title": f"{document['title']} {copy}"}, document["title"], copy)
            for document, weight in zip(gold, weights, strict=True)
            for copy in range(weight)
        ]
        for name, runs in systems.items():
            scores = []
            for run in runs:
                by_title = {title: [row for row in run if row["title"] == title] for _, title, _ in copies}
                rows = [{**row, "title": f"{title} {copy}"} for _, title, copy in copies for row in by_title[title]]
                scores.append(score(rows, [document for document, _, _ in copies], train_annotated=trained))
            for figure in RESAMPLED:
                expected = sum(one[figure] for one in scores) / len(scores)
                assert found[name][figure][number] == pytest.approx(expected), (name, figure, number)


def test_tests_say_what_the_draws_say(gold, systems):
    found = compare(systems, gold, figures=["f1", "recall"], samples=200, seed=8)
    assert [(test.figure, test.system, test.other) for test in found.tests] == [
        ("f1", "good", "base"), ("recall", "good", "base"),
    ]  # fmt: skip
    counts = {
        name: [_count(read_predictions(run), read_references(gold), None) for run in runs]
        for name, runs in systems.items()
    }
    drawn = resample(counts, ["f1"], samples=200, seed=8)
    differences = sorted(a - b for a, b in zip(drawn["good"]["f1"][1:], drawn["base"]["f1"][1:], strict=True))
    test = found.tests[0]
    assert test.difference == pytest.approx(found.systems[1].mean["f1"] - found.systems[0].mean["f1"])
    assert differences[3] <= test.low <= differences[6] and differences[-7] <= test.high <= differences[-4]
    beyond = sum(one > 2 * test.difference for one in differences)
    assert test.p == pytest.approx((beyond + 0.5) / 201)
    assert test.p < 0.005 and found.best("f1") == "good"
    # The other way round, the same doubt stands on the other side.
    turned = compare(dict(reversed(systems.items())), gold, figures=["f1"], samples=200, seed=8).tests[0]
    assert turned.p == pytest.approx(1 - test.p) and turned.high == pytest.approx(-test.low)


def test_p_values_of_equal_systems_are_spread_evenly():
    """Systems that are as good as each other, on other documents each time."""
    values = []
    for seed in range(150):
        documents = towns(40, seed=100 + seed)
        pair = {name: [guesses(documents, 0.6, 0.3, 1000 + 2 * seed + number)] for number, name in enumerate("ab")}
        values.append(compare(pair, documents, figures=["f1"], samples=300).tests[0].p)
    assert sum(values) / len(values) == pytest.approx(0.5, abs=0.08)
    for limit in (0.1, 0.25, 0.5, 0.75, 0.9):
        assert sum(value < limit for value in values) / len(values) == pytest.approx(limit, abs=0.12)


def test_one_system_twice_has_a_p_value_of_a_half_and_no_winner(gold, systems):
    found = compare({"a": systems["base"], "b": systems["base"]}, gold, samples=50)
    assert {test.p for test in found.tests} == {0.5} and {test.difference for test in found.tests} == {0.0}
    assert not any(found.best(figure) for figure in found.figures)
    assert found.wins("b") == (0, 3, 0)


def test_the_test_of_a_normal_difference_is_the_one_of_the_books():
    drawn = np.random.default_rng(0).normal(1.0, 1.0, 100_000)
    test = paired_test("f1", "a", "b", np.concatenate([[1.0], drawn]), np.zeros(100_001))
    assert test.p == pytest.approx(0.1587, abs=0.005)  # of one standard deviation
    assert (test.low, test.high) == (pytest.approx(-0.96, abs=0.03), pytest.approx(2.96, abs=0.03))


def test_the_same_seed_gives_the_same_and_order_of_rows_does_not_count(gold, systems):
    again = {name: [run[::-1] + run[:3] for run in runs] for name, runs in systems.items()}
    assert compare(systems, gold, samples=40) == compare(again, gold, samples=40)
    assert compare(systems, gold, samples=40).tests != compare(systems, gold, samples=40, seed=2).tests


def test_relations_are_won_and_lost(gold):
    everything = guesses(gold, 1.0, 0.0, 1)
    base = [row for row in everything if row["r"] != "rules"]
    other = [row for row in everything if row["r"] != "part_of"]
    found = compare({"base": [base], "other": [other]}, gold, figures=["f1"], samples=5)
    counts = Counter(label["r"] for document in gold for label in document["labels"])
    assert [(one.relation, one.gold) for one in found.relations] == counts.most_common()
    assert {one.relation: one.f1["other"] for one in found.relations} == {"born_in": 1, "rules": 1, "part_of": 0}
    assert found.wins("other") == (1, 1, 1)
    gains = [(one.relation, gain) for one, gain in found.gains("other")]
    assert gains == [("rules", 1.0), ("born_in", 0.0), ("part_of", -1.0)]
    shown = to_markdown(found)
    assert (
        f"| other | 1 | 1 | 1 | rules +100.0 ({counts['rules']}) | part\\_of -100.0 ({counts['part_of']}) |" in shown
    )
    assert "| born\\_in |" not in shown and "| born\\_in |" in to_markdown(found, relations=True)


@pytest.fixture
def odd(gold, systems):
    """A comparison whose names are full of signs that mean something in some form."""
    names = {"a_b|50% & $c$": systems["base"], 'say "x", {y}~#\\^': systems["good"][:1]}
    return compare(names, gold, samples=50)


def test_markdown(odd):
    lines = to_markdown(odd).splitlines()
    assert lines[0] == "| system | runs | F1 | Precision | Recall | Macro F1 |"
    assert lines[2].startswith("| a\\_b\\|50% & $c$ | 3 | ") and " ± " in lines[2] and "**" not in lines[2]
    assert " | **" in lines[3] and " ± " not in lines[3]
    unescaped = [line.replace("\\|", "") for line in lines if line.startswith("|")]
    assert {line.count("|") for line in unescaped[:4]} == {7}
    assert any(line.endswith("| <0.0001 |") or "| 0.0" in line for line in lines)
    assert f"{100 * odd.systems[0].mean['f1']:.2f} ± {100 * odd.systems[0].deviation['f1']:.2f}" in lines[2]


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="there is no pdflatex")
def test_latex_compiles(odd, tmp_path):
    found = subprocess.run(["kpsewhich", "booktabs.sty"], capture_output=True)
    if found.returncode:
        pytest.skip("there is no booktabs")
    (tmp_path / "table.tex").write_text(
        "\\documentclass{article}\n\\usepackage{booktabs}\n\\begin{document}\n"
        + to_latex(odd, relations=True)
        + "\\end{document}\n",
        encoding="utf-8",
    )
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "table.tex"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", timeout=120)
    assert ran.returncode == 0 and (tmp_path / "table.pdf").is_file(), ran.stdout[-1000:]


def test_latex_is_escaped_and_balanced(odd):
    text = to_latex(odd, relations=True)
    assert r"a\_b|50\% \& \$c\$ & 3 & " in text
    assert r"\{y\}\textasciitilde{}\#\textbackslash{}\textasciicircum{}" in text
    assert text.startswith("\\begin{tabular}{lrrrrr}\n\\toprule\n") and r" $\pm$ " in text and r"\textbf{" in text
    rows = [line for line in text.splitlines() if line.endswith(r"\\") and not line.startswith("%")]
    assert {line.replace(r"\&", "").count("&") for line in rows[:3]} == {5}
    assert r"part\_of & " in text
    # What is left out of comments and escaped is balanced, and nothing of a name starts a comment or a formula.
    plain = "".join(line for line in text.splitlines(keepends=True) if not line.startswith("%"))
    plain = plain.replace(r"\textbackslash{}", "").replace(r"\{", "").replace(r"\}", "").replace(r"$\pm$", "")
    for sign in ("\\%", "\\&", "\\$", "\\#", "\\_"):
        plain = plain.replace(sign, "")
    assert plain.count("{") == plain.count("}") and not set(plain) & set("%$#_~^")


def test_csv_reads_back(odd):
    rows = list(csv.DictReader(io.StringIO(to_csv(odd))))
    for row, system in zip(rows, odd.systems, strict=True):
        assert row["system"] == system.name and int(row["runs"]) == system.runs
        for name in odd.figures:
            assert float(row[name]) == system.mean[name]
            assert row[f"{name}_sd"] == ("" if system.deviation is None else str(system.deviation[name]))
    rows = list(csv.DictReader(io.StringIO(to_csv(odd, relations=True))))
    assert [(row["relation"], float(row[odd.systems[1].name])) for row in rows] == [
        (one.relation, one.f1[odd.systems[1].name]) for one in odd.relations
    ]


def test_json_has_everything(odd):
    said = json.loads(to_json(odd))
    assert said["systems"][0]["mean"] == odd.systems[0].mean and said["tests"][0]["p"] == odd.tests[0].p
    assert said["best"]["f1"] == odd.systems[1].name
    assert sum(said["wins"][odd.systems[1].name].values()) == len(odd.relations) == len(said["relations"])


def test_what_a_system_is_silent_about_is_said(gold, systems):
    few = [row for row in systems["base"][0] if row["title"] in ("Story 1", "Story 2")]
    found = compare({"all": systems["base"], "few": [few]}, gold, samples=5)
    with_gold = sum(bool(document["labels"]) for document in gold)
    assert f"'few' predicts nothing in {with_gold - len({row['title'] for row in few})}" in to_markdown(found)
    assert "predicts nothing" not in to_markdown(compare(systems, gold, samples=5))


@pytest.mark.parametrize(
    ("name", "label"),
    [("f1", "F1"), ("ign_f1", "Ign F1"), ("macro_f1_at_500", "Macro F1 at 500"), ("recall", "Recall")],
)
def test_labels_of_figures(name, label):
    assert figure_label(name) == label


def test_figures_without_a_test_are_not_marked(gold, systems):
    found = compare(systems, gold, figures=["f1_intra", "f1"], samples=50)
    assert [test.figure for test in found.tests] == ["f1"] and found.best("f1_intra") is None
    without = compare(systems, gold, figures=["f1_intra"])
    assert not without.tests and "bootstrap" not in to_markdown(without) and "bootstrap" not in to_latex(without)


def test_documents_that_share_a_title_are_compared_as_they_are_scored():
    def story(entities, *facts):
        labels = [{"h": head, "t": tail, "r": "P1", "evidence": []} for head, tail in facts]
        return {"title": "A", "vertexSet": [[{"name": str(n)}] for n in range(entities)], "labels": labels}

    gold, train = [story(3, (2, 0)), story(2)], [story(3, (0, 1))]
    right = [{"title": "A", "h_idx": 2, "t_idx": 0, "r": "P1"}]
    found = compare({"a": [right], "b": [[]]}, gold, train_annotated=train, samples=20)
    assert found.systems[0].mean["ign_f1"] == score(right, gold, train_annotated=train)["ign_f1"] == 1.0


def test_the_better_system_stands_first():
    test = PairedTest("f1", "new", "old", -0.02, -0.03, 0.01, 0.97)
    turned = test.better_first()
    assert (turned.system, turned.other, turned.difference, turned.low, turned.high) == (
        "old",
        "new",
        0.02,
        -0.01,
        0.03,
    )
    assert turned.p == pytest.approx(0.03) and turned.better_first() is turned


def test_what_cannot_be_compared_is_said(gold, systems):
    def refused(match, systems=systems, references=gold, **wishes):
        with pytest.raises(ComparisonError, match=match):
            compare(systems, references, samples=wishes.pop("samples", 2), **wishes)

    refused("one system alone, 'base': pass two or more", {"base": systems["base"]})
    refused("There is no system", {})
    refused("'empty' has no run", {**systems, "empty": []})
    refused("samples is 0", samples=0)
    refused("holds? no document", references=[])
    refused(r"no figure 'macro_f2'\. Did you mean 'macro_f1'\?", figures=["macro_f2"])
    refused(r"no figure 'ign_f1'.*--train-annotated", figures=["ign_f1"])
    refused("No figure is named", figures=[])
    refused(
        r"System 'good', run 2 predicts relations of other documents: \d+ of its \d+ titles are not among the 10",
        {"base": [[]], "good": [[], systems["good"][1]]},
        gold[:10],
    )
