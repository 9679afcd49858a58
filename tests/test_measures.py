"""The figures that papers add to the official ones, each against plain loops over triples and by hand."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_scoring import document, documents_of, gold_keys, harmonic, label, predictions_of, ratio, row, training

from modeling_docre.metrics.docred.measures import DOCRED_FACTS
from modeling_docre.metrics.docred.scoring import ScoringError, score, score_counts

SHARES = ("0_2", "2_4", "4_6", "6_8", "8_10", "10_100")
OUTCOMES = ("correct", "wrong", "missed", "more")


def entities(number):
    return [[(f"entity {i}", 0)] for i in range(number)]


def triple_figures(figures, name):
    return tuple(figures[name.replace("*", figure)] for figure in ("precision", "recall", "f1"))


# --- plain loops over triples ----------------------------------------------------------------------------------------


def loop_slice(predicted, gold, keep):
    right = [x for x in predicted if x in gold and keep(x)]
    p = ratio(len(right), len([x for x in predicted if keep(x)]))
    r = ratio(len(right), len([x for x in gold if keep(x)]))
    return p, r, harmonic(p, r)


def nearest(key, documents):
    """Sentences between the nearest mentions, the longest way to say it."""
    for d in documents:
        if d["title"] == key[0] and min(key[1:3]) >= 0 and max(key[1:3]) < len(d["vertexSet"]):
            pairs = [(m["sent_id"], n["sent_id"]) for m in d["vertexSet"][key[1]] for n in d["vertexSet"][key[2]]]
            return min(max(pair) - min(pair) for pair in pairs)
    return None


def share_of(title, documents):
    """Percentage of the ordered pairs of a document that have a gold relation; `None` if there is no such document."""
    for d in documents:
        if d["title"] == title:
            everyone = [(h, t) for h in range(len(d["vertexSet"])) for t in range(len(d["vertexSet"])) if h != t]
            related = [pair for pair in everyone if any((g["h"], g["t"]) == pair for g in d["labels"])]
            return ratio(100 * len(related), len(everyone))
    return None


def in_two_steps(facts):
    found = []
    for x in facts:
        for y in facts:
            for z in facts:
                in_one_document = x[0] == y[0] == z[0]
                way = x[1] == y[1] and y[2] == z[1] and z[2] == x[2]
                if in_one_document and way and len({x[1], x[2], y[2]}) == 3 and x not in found:
                    found.append(x)
    return found


def loop_measures(predictions, documents, train, few_facts):
    predicted = []
    for x in predictions:
        key = (x["title"], x["h_idx"], x["t_idx"], x["r"])
        if key not in predicted:
            predicted.append(key)
    gold = gold_keys(documents)
    out = {"*_inter_long": loop_slice(predicted, gold, lambda k: (nearest(k, documents) or 0) > 5)}
    for name in SHARES:
        low, high = map(int, name.split("_"))
        out[f"*_related_{name}"] = loop_slice(
            predicted,
            gold,
            lambda k, low=low, high=high: (
                (share := share_of(k[0], documents)) is not None and low <= share < (101 if high == 100 else high)
            ),
        )
    facts = [x[3] for x in gold_keys(train)]
    out["*_few_facts"] = loop_slice(predicted, gold, lambda k: facts.count(k[3]) < few_facts)
    out["*_many_facts"] = loop_slice(predicted, gold, lambda k: facts.count(k[3]) >= few_facts)
    wanted, found = in_two_steps(gold), in_two_steps(predicted)
    right = [x for x in found if x in wanted]
    p, r = ratio(len(right), len(found)), ratio(len(right), len(wanted))
    out["infer_*"] = (p, r, harmonic(p, r))
    single = {}
    outcomes = Counter()
    for x in predicted:
        related = any(x[:3] == y[:3] for y in gold)
        outcomes["correct" if x in gold else "wrong" if related else "more"] += 1
    for x in gold:
        outcomes["missed"] += not any(x[:3] == y[:3] for y in predicted)
    for name in OUTCOMES:
        single[f"outcome_{name}"] = ratio(outcomes[name], outcomes.total())

    def mean(relations):
        of_each = [loop_slice(predicted, gold, lambda k, name=name: k[3] == name)[2] for name in relations]
        return ratio(sum(of_each), len(of_each))

    with_gold = sorted({x[3] for x in gold})
    for limit in (500, 200, 100):
        rare = [name for name in with_gold if facts.count(name) < limit / 38_180 * len(facts)]
        single[f"macro_f1_scaled_{limit}"] = mean(rare)
    everything = sorted({*with_gold, *facts}, key=lambda name: (-facts.count(name), name))
    for number in range(10):
        own = everything[number : number + 1]
        single[f"f1_cluster_{number + 1}"] = mean([name for name in own if name in with_gold])
    return out, single


@st.composite
def wide_documents(draw, titles):
    """Documents whose entities may be far apart, with related pairs from none to all."""
    documents = []
    for title in titles:
        number = draw(st.integers(1, 7))
        sentences = st.lists(st.integers(0, 14), min_size=1, max_size=2)
        mentions = draw(st.lists(sentences, min_size=number, max_size=number))
        entity = st.integers(0, number - 1)
        labels = draw(st.lists(st.builds(label, entity, entity, st.sampled_from("ABC")), max_size=8))
        documents.append(document(title, [[("x", s) for s in own] for own in mentions], labels))
    return documents


@settings(max_examples=40)
@given(
    predictions=st.lists(
        st.builds(
            row,
            st.sampled_from(["A", "B", "unknown"]),
            st.integers(0, 5),
            st.integers(0, 5),
            st.sampled_from("ABCD"),
        ),
        max_size=12,
    ),
    copied=st.integers(0, 8),
    references=wide_documents(["A", "B"]),
    train=wide_documents(["C", "D"]),
    few_facts=st.integers(1, 6),
)
def test_equals_plain_loops(predictions, copied, references, train, few_facts):
    right = [row(d["title"], g["h"], g["t"], g["r"]) for d in references for g in d["labels"]][:copied]
    predictions = predictions + right
    figures = score(predictions, references, train_annotated=train, few_facts=few_facts)
    three, one = loop_measures(predictions, references, train, few_facts)
    assert {key: figures[key] for key in one} == pytest.approx(one, abs=1e-12)
    for name, expected in three.items():
        assert triple_figures(figures, name) == pytest.approx(expected, abs=1e-12), name
    assert all(0.0 <= value <= 1.0 and isinstance(value, float) for value in figures.values())


@settings(max_examples=30)
@given(predictions=predictions_of, references=documents_of(["A", "B", "C"]), train=documents_of(["D"]))
def test_counts_are_what_the_figures_are_made_of(predictions, references, train):
    figures = score(predictions, references, train_annotated=train, few_facts=2)
    counts = score_counts(iter(predictions), iter(references), train_annotated=iter(train), few_facts=2)
    assert all(isinstance(number, int) and number >= 0 for number in counts.values())
    names = [key.replace("gold", "{}") for key in counts if "gold" in key]
    assert len(names) == 21
    for name in names:
        correct, predicted, gold = (counts[name.replace("{}", key)] for key in ("correct", "predicted", "gold"))
        assert figures[name.replace("{}", "precision")] == ratio(correct, predicted), name
        assert figures[name.replace("{}", "recall")] == ratio(correct, gold), name
    assert sum(counts[f"outcome_{name}"] for name in ("correct", "wrong", "more")) == counts["predicted"]
    assert sum(counts[f"outcome_{name}"] for name in ("correct", "missed", "overlooked")) == counts["gold"]
    assert sum(counts[f"documents_related_{name}"] for name in SHARES) == len(references)
    assert sum(counts[f"gold_related_{name}"] for name in SHARES) == counts["gold"]
    assert sum(counts[f"f1_cluster_{number + 1}_relations"] for number in range(10)) == counts["macro_f1_relations"]
    assert {key.removesuffix("_relations") for key in counts if key.endswith("_relations")} == {
        key for key in figures if key.startswith(("macro_f1", "f1_cluster"))
    }
    assert sum(figures[f"outcome_{name}"] for name in OUTCOMES) == pytest.approx(
        1.0 if predictions or counts["gold"] else 0.0
    )


# --- by hand ---------------------------------------------------------------------------------------------------------


def test_long_distance_is_more_than_five_sentences():
    gold = document(
        "T",
        [[("a", 0), ("a", 9)], [("b", 5)], [("c", 6)], [("d", 15)]],
        [label(0, 1, "P17"), label(0, 2, "P17"), label(0, 3, "P17"), label(1, 3, "P17")],
    )
    # Sentences from nearest to nearest mention: 4, 3, 6 and 10.
    rows = [row("T", 0, 1, "P17"), row("T", 0, 3, "P17"), row("T", 3, 0, "P17"), row("T", 2, 3, "P17")]
    figures = score(rows, [gold])
    assert triple_figures(figures, "*_inter_long") == (1 / 3, 1 / 2, pytest.approx(2 / 5))
    assert (figures["precision_inter"], figures["recall_inter"]) == (2 / 4, 2 / 4)
    gold["vertexSet"][0][1]["sent_id"] = 10
    assert score(rows, [gold])["recall_inter_long"] == 0.0, "five sentences are not more than five"


def test_infer_f1():
    gold = document(
        "T",
        entities(5),
        [
            label(0, 1, "P131"),
            label(1, 2, "P17"),
            label(0, 2, "P17"),  # through 1
            label(0, 2, "P27"),  # as well: another relation of the same pair
            label(2, 3, "P26"),
            label(3, 2, "P26"),  # 2 to 3 and back leads to no third entity
            label(4, 4, "P17"),
            label(4, 3, "P17"),  # and neither does a relation of an entity to itself
        ],
    )
    other = document("U", entities(3), [label(1, 2, "P17"), label(0, 2, "P17")])
    rows = [
        row("T", 0, 2, "P17"),
        row("T", 0, 1, "P131"),
        row("T", 1, 2, "P131"),  # wrong, but leads from 1 to 2
        row("T", 0, 3, "P17"),  # wrong, and follows from the next one
        row("T", 2, 3, "P26"),
        row("U", 0, 2, "P17"),  # the way to 1 is in the other document
    ]
    # Gold: (0, 2, P17), (0, 2, P27). Predicted: (0, 2, P17), (0, 3, P17).
    assert triple_figures(score(rows, [gold, other]), "infer_*") == (1 / 2, 1 / 2, 1 / 2)
    del rows[2]
    assert triple_figures(score(rows, [gold, other]), "infer_*") == (0.0, 0.0, 0.0), "(0, 2) follows from nothing now"
    assert triple_figures(score(rows[:2], [other]), "infer_*") == (0.0, 0.0, 0.0)


def test_outcomes():
    gold = document(
        "T",
        entities(4),
        [label(0, 1, "P17"), label(0, 2, "P17"), label(0, 2, "P27"), label(1, 2, "P17"), label(1, 2, "P27")],
    )
    rows = [
        row("T", 0, 1, "P17"),
        row("T", 0, 1, "P27"),  # wrong, beside a right one
        row("T", 0, 2, "P131"),  # wrong: both gold relations of the pair are overlooked
        row("T", 1, 0, "P17"),
        row("T", 3, 0, "P17"),
        row("Nowhere", 3, 0, "P17"),
    ]
    counts = score_counts(rows, [gold])
    expected = {"correct": 1, "wrong": 2, "missed": 2, "more": 3, "overlooked": 2}
    assert {name: counts[f"outcome_{name}"] for name in expected} == expected
    figures = score(rows, [gold])
    assert [figures[f"outcome_{name}"] for name in OUTCOMES] == [1 / 8, 2 / 8, 2 / 8, 3 / 8]
    assert "outcome_overlooked" not in figures


def test_outcomes_are_those_of_the_published_table():
    """KD-DocRE, table 7, makes precision and recall of its table 8 only if it counts triples, and not pairs."""
    correct, wrong, missed, more = 8273, 242, 3761, 3814
    assert correct / (correct + wrong + more) == pytest.approx(0.6710, abs=5e-5)
    # One document, with as many pairs and relations as make that table.
    gold = [*((0, n, "R") for n in range(correct)), *((2, n, "R") for n in range(missed))]
    gold += [(1, n, "R") for n in range(wrong)]
    predicted = [*gold[:correct], *((1, n, "S") for n in range(wrong)), *((3, n, "R") for n in range(more))]
    labels = [label(*key) for key in gold]
    rows = [row("T", *key) for key in predicted]
    figures = score(rows, [document("T", [[]] * 9000, labels)])
    assert [round(100 * figures[f"outcome_{name}"], 1) for name in OUTCOMES] == [51.4, 1.5, 23.4, 23.7]


def test_documents_by_their_share_of_related_pairs():
    def of(title, number, related):
        pairs = [(h, t) for h in range(number) for t in range(number) if h != t]
        return document(title, entities(number), [label(*pair, "P17") for pair in pairs[:related]])

    # PAEE's figure 1: 21 entities, 420 pairs, 11 of them related are 2.62 %.
    example, edge = of("example", 21, 11), of("edge", 11, 11)
    everything, alone = of("all", 2, 2), of("alone", 1, 0)
    example["labels"] += [label(0, 1, "P27"), label(5, 5, "P27")]
    rows = [
        row("example", 0, 1, "P17"),
        row("edge", 0, 1, "P17"),
        row("edge", 0, 1, "P27"),
        row("all", 0, 1, "P17"),
        row("alone", 0, 1, "P17"),
        row("Nowhere", 0, 1, "P17"),
    ]
    figures = score(rows, [example, edge, everything, alone])
    assert (figures["precision_related_2_4"], figures["recall_related_2_4"]) == (1.0, 1 / 13)
    assert (figures["precision_related_10_100"], figures["recall_related_10_100"]) == (2 / 3, 2 / 13)
    assert score_counts(rows, [example, edge, everything, alone])["predicted_related_0_2"] == 1
    counts = score_counts(rows, [example, edge, everything, alone])
    assert [counts[f"documents_related_{name}"] for name in SHARES] == [1, 1, 0, 0, 0, 2]


def test_clusters_are_tenths_of_the_relations_by_training_facts():
    # As many relations as DocRED has: six clusters of ten and four of nine.
    counts = {f"R{i:02d}": 96 - i for i in range(95)}
    gold = document("T", entities(2), [label(0, 1, name) for name in counts if name != "R00"] + [label(0, 1, "new")])
    predicted = [*(f"R{i:02d}" for i in range(10)), *(f"R{i:02d}" for i in range(60, 64)), "new", "unknown"]
    rows = [row("T", 0, 1, name) for name in predicted]
    figures = score(rows, [gold], train_annotated=training(counts))
    clusters = [figures[f"f1_cluster_{number + 1}"] for number in range(10)]
    assert clusters == [1.0, 0, 0, 0, 0, 0, 4 / 9, 0, 0, 1 / 9], "R00 has no gold triple, and is not in the mean"
    sizes = score_counts(rows, [gold], train_annotated=training(counts))
    assert [sizes[f"f1_cluster_{number + 1}_relations"] for number in range(10)] == [9, 10, 10, 10, 10, 10, 9, 9, 9, 9]


def test_ties_of_clusters_go_by_id_and_few_relations_leave_clusters_empty():
    train = training({"B": 1, "A": 1, "C": 2})
    gold = document("T", entities(2), [label(0, 1, name) for name in "ABC"])
    figures = score([row("T", 0, 1, "A")], [gold], train_annotated=train)
    assert [figures[f"f1_cluster_{number + 1}"] for number in range(10)] == [0.0, 1.0] + [0.0] * 8


def test_scaled_thresholds_are_strict():
    # 76.36 training facts are 0.2 % of DocRED's, so that its 500 are exactly 1 here.
    assert DOCRED_FACTS == 38_180 and DOCRED_FACTS % 20 == 0
    half = DOCRED_FACTS // 20
    counts = {"R25": 25, "R24": 24, "R10": 10, "R9": 9, "R5": 5, "R4": 4}
    counts["rest"] = half - sum(counts.values())
    gold = document("T", entities(2), [label(0, 1, name) for name in counts])
    rows = [row("T", 0, 1, name) for name in ("R25", "R24", "R9", "R4")]
    figures = score(rows, [gold], train_annotated=training(counts))
    assert figures["macro_f1_scaled_500"] == pytest.approx(3 / 5), "fewer than 25: R24, R10, R9, R5, R4"
    assert figures["macro_f1_scaled_200"] == pytest.approx(2 / 3), "fewer than 10"
    assert figures["macro_f1_scaled_100"] == pytest.approx(1 / 1), "fewer than 5"
    assert figures["macro_f1_at_100"] == pytest.approx(4 / 6)
    assert score(rows, [gold], train_annotated=[])["macro_f1_scaled_500"] == 0.0, "none has fewer than no facts"


def test_few_and_many_facts():
    train = training({"A": 3, "B": 2})
    gold = document("T", entities(2), [label(0, 1, name) for name in ("A", "B", "unseen")])
    rows = [row("T", 0, 1, "A"), row("T", 1, 0, "A"), row("T", 0, 1, "B")]
    figures = score(rows, [gold], train_annotated=train, few_facts=3)
    assert triple_figures(figures, "*_few_facts") == (1.0, 1 / 2, pytest.approx(2 / 3))
    assert triple_figures(figures, "*_many_facts") == (1 / 2, 1.0, pytest.approx(2 / 3))
    assert "f1_few_facts" not in score(rows, [gold], train_annotated=train)


@pytest.mark.parametrize(
    ("bound", "train", "message"),
    [
        (3, None, "few_facts is 3, a number of training facts: pass train_annotated"),
        (0, [], "few_facts is 0; no relation has fewer"),
        ("3", [], "'few_facts' must be an integer, got '3'"),
    ],
)
@pytest.mark.parametrize("function", [score, score_counts])
def test_a_bound_that_cannot_be_used_is_refused(function, bound, train, message):
    with pytest.raises(ScoringError, match=message):
        function([], [], train_annotated=train, few_facts=bound)


def test_one_relation_and_candidate_pairs():
    """CDR and GDA: F1 of the positive class, over candidate pairs."""
    gold = document(
        "abstract",
        [[("drug", 0)], [("pain", 0)], [("fever", 1)], [("salt", 3)]],
        [label(0, 1, "CID"), label(0, 2, "CID"), label(3, 2, "CID")],
    )
    gold["pairs"] = [[0, 1], [0, 2], [3, 1]]
    free = document("free", entities(2), [label(0, 1, "CID")])
    rows = [row("abstract", 0, 1, "CID"), row("abstract", 3, 1, "CID"), row("abstract", 1, 0, "CID")]
    figures = score([*rows, row("free", 1, 0, "CID")], [gold, free])
    assert triple_figures(figures, "*") == (1 / 4, 1 / 4, 1 / 4) == triple_figures(figures, "relation/CID/*")
    assert triple_figures(figures, "*_candidates") == (1 / 3, 1 / 3, 1 / 3), "all pairs of `free` are candidates"
    assert (figures["precision_intra"], figures["recall_inter"]) == (1 / 3, 0.0)
    assert "f1_candidates" not in score(rows, [free])
    gold["pairs"] = []
    assert score(rows, [gold])["f1_candidates"] == 0.0


@pytest.mark.parametrize(
    "wrong", ["01", 3, [[0]], [[0, 1, 2]], ["01"], [0, 1], [{"h": 0, "t": 1}], [[0, "1"]], [[0, 2]], [[-1, 0]]]
)
def test_pairs_that_are_none_are_named(wrong):
    gold = document("T", entities(2), []) | {"pairs": wrong}
    with pytest.raises(ScoringError, match=r"references\[0\] \('T'\): 'pairs' (must be|has)"):
        score([], [gold])


def test_head_middle_and_tail_of_docred_are_10_66_and_20():
    """PEMSCL's table 3 says 10, 70 and 20, which are more than the 96 relations that there are."""
    counts = {f"R{i:02d}": 96 - i for i in range(96)}
    gold = document("T", entities(2), [label(0, 1, name) for name in counts])
    numbers = score_counts([], [gold], train_annotated=training(counts))
    assert [numbers[f"gold_{band}"] for band in ("head", "middle", "tail")] == [10, 66, 20]


def test_real_documents(data_dir):
    documents = json.loads((data_dir / "re-docred" / "dev_revised.json").read_text(encoding="utf-8"))
    train, gold = documents[:400], documents[400:]
    rows = [row(d["title"], g["h"], g["t"], g["r"]) for d in gold for g in d["labels"]]
    figures = score(rows, gold, train_annotated=train, few_facts=500)
    names = [key for key in figures if not key.startswith(("relation/", "evidence", "ign_", "macro_f1_all"))]
    zero = {key for key in names if figures[key] == 0.0}
    assert zero == {"outcome_wrong", "outcome_missed", "outcome_more"}
    assert {figures[key] for key in names} == {0.0, 1.0}
    counts = score_counts(rows, gold, train_annotated=train)
    assert counts["gold_inter"] > counts["gold_inter_long"] > 0
    assert sum(counts[f"documents_related_{name}"] for name in SHARES) == 100
