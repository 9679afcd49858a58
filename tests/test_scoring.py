from __future__ import annotations

import copy
import doctest
import gzip
import json
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeling_docre.metrics.docred import scoring
from modeling_docre.metrics.docred.scoring import (
    ScoringError,
    UnlabelledError,
    read_json,
    relation_counts,
    score,
    write_submission,
)

OTHERS = ("macro_f1_at_", "macro_f1_scaled_", "f1_cluster_", "infer_", "outcome_")
OTHER_SLICES = ("_inter_long", "_head", "_middle", "_tail")
RELATIONS = ["P17", "P131", "P19", "P25", "P26"]


def row(title, head, tail, relation, evidence=None):
    return {"title": title, "h_idx": head, "t_idx": tail, "r": relation, "evidence": evidence}


def label(head, tail, relation, evidence=()):
    return {"h": head, "t": tail, "r": relation, "evidence": list(evidence)}


def document(title, entities, labels):
    """Entities as lists of (name, sentence)."""
    vertex_set = [[{"name": name, "sent_id": sentence} for name, sentence in entity] for entity in entities]
    return {"title": title, "vertexSet": vertex_set, "labels": labels}


@pytest.fixture
def harbour():
    return document(
        "Harbour",
        [[("Sorrel Bay", 0), ("the Bay", 2)], [("Vellmark", 0)], [("Ines Tarrow", 1)], [("Oskar Tarrow", 2)]],
        [label(0, 1, "P17", [0]), label(2, 3, "P26", [1, 2]), label(2, 1, "P27", [0, 1])],
    )


# --- an independent scorer: plain loops over sorted rows -------------------------------------------------------------


def ratio(part, whole):
    return part / whole if whole else 0.0


def harmonic(precision, recall):
    return 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0


def deduplicated(rows):
    rows = sorted(rows, key=lambda r: (r["title"], r["h_idx"], r["t_idx"], r["r"]))
    kept = []
    for r in rows:
        if not kept or any(kept[-1][key] != r[key] for key in ("title", "h_idx", "t_idx", "r")):
            kept.append(r)
    return kept


def is_gold(r, documents):
    return any(
        d["title"] == r["title"] and (g["h"], g["t"], g["r"]) == (r["h_idx"], r["t_idx"], r["r"])
        for d in documents
        for g in d["labels"]
    )


def gold_keys(documents):
    keys = []
    for d in documents:
        for g in d["labels"]:
            if (d["title"], g["h"], g["t"], g["r"]) not in keys:
                keys.append((d["title"], g["h"], g["t"], g["r"]))
    return keys


def in_training(r, documents, train):
    entities = next(d["vertexSet"] for d in documents if d["title"] == r["title"])
    for d in train:
        for g in d["labels"]:
            for a in d["vertexSet"][g["h"]]:
                for b in d["vertexSet"][g["t"]]:
                    for m in entities[r["h_idx"]]:
                        for n in entities[r["t_idx"]]:
                            if (a["name"], b["name"], g["r"]) == (m["name"], n["name"], r["r"]):
                                return True
    return False


def distance(key, documents):
    for d in documents:
        if d["title"] == key[0] and max(key[1:3]) < len(d["vertexSet"]):
            return min(
                abs(a["sent_id"] - b["sent_id"]) for a in d["vertexSet"][key[1]] for b in d["vertexSet"][key[2]]
            )
    return None


def loop_evidence_sentences(correct, documents):
    predicted = right = gold = 0
    for x in correct:
        chosen = None
        for d in documents:
            for g in d["labels"]:
                if (d["title"], g["h"], g["t"], g["r"]) == (x["title"], x["h_idx"], x["t_idx"], x["r"]):
                    chosen = g["evidence"]
        for sentence in range(5) if chosen else ():
            here, there = sentence in (x.get("evidence") or []), sentence in chosen
            predicted, gold, right = predicted + here, gold + there, right + (here and there)
    p, r = ratio(right, predicted), ratio(right, gold)
    return {"evidence_sentence_precision": p, "evidence_sentence_recall": r, "evidence_sentence_f1": harmonic(p, r)}


def loop_scores(predictions, documents, train_annotated, train_distant):
    rows, gold = deduplicated(predictions), gold_keys(documents)
    correct = [r for r in rows if is_gold(r, documents)]
    p, r = ratio(len(correct), len(rows)), ratio(len(correct), len(gold))
    out = {"precision": p, "recall": r, "f1": harmonic(p, r)}

    predicted_evidence = right_evidence = gold_evidence = 0
    for x in rows:
        if any(d["title"] == x["title"] for d in documents):
            predicted_evidence += len(set(x.get("evidence") or []))
    for x in correct:
        last = [
            g
            for d in documents
            if d["title"] == x["title"]
            for g in d["labels"]
            if (g["h"], g["t"], g["r"]) == (x["h_idx"], x["t_idx"], x["r"])
        ][-1]
        right_evidence += len(set(last["evidence"]) & set(x.get("evidence") or []))
    for d in documents:
        for g in d["labels"]:
            gold_evidence += len(g["evidence"])
    ep, er = ratio(right_evidence, predicted_evidence), ratio(right_evidence, gold_evidence)
    out |= {"evidence_precision": ep, "evidence_recall": er, "evidence_f1": harmonic(ep, er)}

    out |= loop_evidence_sentences(correct, documents)

    for train, suffix in ((train_annotated, ""), (train_distant, "_distant")):
        known = sum(in_training(x, documents, train) for x in correct)
        ign = ratio(len(correct) - known, len(rows) - known)
        out |= {f"ign_precision{suffix}": ign, f"ign_f1{suffix}": harmonic(ign, r)}

    def sliced(name, keep):
        keys = [(x["title"], x["h_idx"], x["t_idx"], x["r"]) for x in rows]
        hits = sum(keep(k) for k in keys if k in gold)
        sp, sr = ratio(hits, sum(map(keep, keys))), ratio(hits, sum(map(keep, gold)))
        return {f"precision{name}": sp, f"recall{name}": sr, f"f1{name}": harmonic(sp, sr)}

    out |= sliced("_intra", lambda k: distance(k, documents) == 0)
    out |= sliced("_inter", lambda k: (distance(k, documents) or 0) > 0)
    out |= sliced("_frequent", lambda k: k[3] in {"P17", "P131"})
    out |= sliced("_long_tail", lambda k: k[3] not in {"P17", "P131"})
    relation_f1 = {}
    for relation in sorted({k[3] for k in gold} | {x["r"] for x in rows}):
        figures = sliced("", lambda k, relation=relation: k[3] == relation)
        out |= {f"relation/{relation}/{name}": value for name, value in figures.items()}
        relation_f1[relation] = figures["f1"]
    sizes = {d["title"]: len(d["vertexSet"]) for d in documents}
    found = {(x["title"], x["h_idx"], x["t_idx"]) for x in rows}
    wanted = {k[:3] for k in gold}
    rp, rr = ratio(len(found & wanted), len(found)), ratio(len(found & wanted), len(wanted))
    out |= {"rela_precision": rp, "rela_recall": rr, "rela_f1": harmonic(rp, rr)}
    everyone = [(t, h, o) for t, n in sizes.items() for h in range(n) for o in range(n) if h != o]
    out["rela_accuracy"] = ratio(sum((pair in found) == (pair in wanted) for pair in everyone), len(everyone))
    with_gold = {k[3] for k in gold}
    out["macro_f1"] = ratio(sum(relation_f1[x] for x in with_gold), len(with_gold))
    everywhere = with_gold | {g["r"] for d in train_annotated for g in d["labels"]}
    out["macro_f1_all"] = ratio(sum(relation_f1.get(x, 0) for x in everywhere if x in with_gold), len(everywhere))
    return out


names = st.sampled_from(["Vellmark", "Sorrel Bay", "Ines", "Oskar", "vellmark"])


@st.composite
def documents_of(draw, titles):
    documents = []
    for title in titles:
        mention = st.tuples(names, st.integers(0, 2))
        entities = draw(st.lists(st.lists(mention, min_size=1, max_size=3), min_size=2, max_size=4))
        entity = st.integers(0, len(entities) - 1)
        evidence = st.lists(st.integers(0, 2), max_size=3)
        labels = draw(st.lists(st.builds(label, entity, entity, st.sampled_from(RELATIONS), evidence), max_size=7))
        documents.append(document(title, entities, labels))
    return documents


predictions_of = st.lists(
    st.builds(
        row,
        st.sampled_from(["A", "B", "C", "unknown"]),
        st.integers(0, 4),
        st.integers(0, 4),
        st.sampled_from(RELATIONS),
        st.none() | st.lists(st.integers(0, 3), max_size=3),
    ),
    max_size=25,
)


@settings(max_examples=40)
@given(
    predictions=predictions_of,
    copied=st.integers(0, 10),
    references=documents_of(["A", "B", "C"]),
    annotated=documents_of(["D", "E"]),
    distant=documents_of(["F"]),
)
def test_equals_plain_loops(predictions, copied, references, annotated, distant):
    # Random rows are seldom right, so some gold triples are predicted as well, the first of them twice.
    right = [row(d["title"], g["h"], g["t"], g["r"], [0]) for d in references for g in d["labels"]][:copied]
    predictions = predictions + right + [dict(r, evidence=[1, 2]) for r in right[:1]]
    for prediction in predictions[::3]:
        if prediction["evidence"] is None:
            del prediction["evidence"]
    result = score(predictions, references, train_annotated=annotated, train_distant=distant)
    expected = loop_scores(predictions, references, annotated, distant)
    assert {key: result[key] for key in expected} == pytest.approx(expected, abs=1e-12)
    rest = result.keys() - expected.keys()
    # Those of tests/test_measures.py.
    assert all(key.startswith(OTHERS) or key.endswith(OTHER_SLICES) or "_related_" in key for key in rest)
    assert all(0.0 <= value <= 1.0 and isinstance(value, float) for value in result.values())


# --- the published scorers -------------------------------------------------------------------------------------------


def read_golden(path):
    return json.loads(gzip.decompress(path.read_bytes()))


@pytest.mark.parametrize("name", ["main", "no_evidence"])
def test_published_scorers(golden_dir, name):
    folder = golden_dir / "evaluation"
    gold = read_golden(folder / "gold.json.gz")
    by_title = {d["title"]: d for d in gold["dev"] + gold["train_annotated_extra"]}
    result = score(
        read_golden(folder / f"pred_{name}.json.gz"),
        gold["dev"],
        train_annotated=[by_title[title] for title in gold["train_annotated_titles"]],
        train_distant=[by_title[title] for title in gold["train_distant_titles"]],
    )
    published = json.loads((folder / "scores.json").read_text())[name]
    official, benchmark = published["docred_official"], published["redocred_benchmark"]
    expected = {
        "f1": official["RE_F1"],
        "evidence_f1": official["Evi_F1"],
        "ign_f1": official["RE_ignore_annotated_F1"],
        "ign_f1_distant": official["RE_ignore_distant_F1"],
        "precision": benchmark["re_p"],
        "recall": benchmark["re_r"],
        "f1_frequent": benchmark["re_f1_freq"],
        "precision_frequent": benchmark["re_p_freq"],
        "recall_frequent": benchmark["re_r_freq"],
        "f1_long_tail": benchmark["re_f1_long_tail"],
        "precision_long_tail": benchmark["re_p_long_tail"],
        "recall_long_tail": benchmark["re_r_long_tail"],
        "f1_intra": benchmark["re_f1_intra"],
        "f1_inter": benchmark["re_f1_inter"],
    }
    assert {key: result[key] for key in expected} == pytest.approx(expected, abs=1e-12, rel=0)


def test_real_gold_scores_one_and_quickly(data_dir):
    gold = json.loads((data_dir / "re-docred" / "dev_revised.json").read_text(encoding="utf-8"))
    rows = [row(d["title"], g["h"], g["t"], g["r"], g["evidence"]) for d in gold for g in d["labels"]]
    wrong = [dict(r, h_idx=r["t_idx"], t_idx=r["h_idx"], r=f"{r['r']}-{k}") for k in range(5) for r in rows]
    start = time.perf_counter()
    result = score(rows + wrong, gold, train_annotated=gold)
    assert time.perf_counter() - start < 20, "100,000 rows take about a second on an idle machine"
    assert result["recall"] == result["evidence_recall"] == result["macro_f1"] == 1.0
    assert result["precision"] == pytest.approx(1 / 6)
    assert result["ign_precision"] == 0.0


# --- definitions, by hand --------------------------------------------------------------------------------------------


def test_first_duplicate_keeps_its_evidence(harbour):
    once = [row("Harbour", 2, 3, "P26", [1])]
    assert score(once, [harbour])["evidence_precision"] == 1.0
    twice = [*once, row("Harbour", 2, 3, "P26", [0, 2])]
    assert score(twice, [harbour]) == score(once, [harbour])
    assert score(twice[::-1], [harbour])["evidence_precision"] == 0.5


def test_repeated_gold_label_counts_once_with_all_its_evidence(harbour):
    harbour["labels"].append(label(0, 1, "P17", [1]))
    figures = score([row("Harbour", 0, 1, "P17", [0, 1])], [harbour])
    assert figures["recall"] == 1 / 3
    assert figures["evidence_precision"] == 1 / 2
    assert figures["evidence_recall"] == 1 / 6
    assert score([row("Harbour", 0, 1, "P17", [0])], [harbour])["evidence_f1"] == 0.0, "the last list is compared"
    harbour["labels"] = [label(0, 1, "P17", [1, 1])]
    assert score([row("Harbour", 0, 1, "P17", [1, 1])], [harbour])["evidence_recall"] == 1 / 2


def evidence_figures(rows, gold, kind="evidence_sentence"):
    figures = score(rows, gold)
    return tuple(figures[f"{kind}_{name}"] for name in ("precision", "recall", "f1"))


def test_evidence_sentences_count_right_triples_with_gold_evidence_only(harbour):
    harbour["labels"].append(label(3, 2, "P26"))
    rows = [
        row("Harbour", 0, 1, "P17", [0, 0, 2, 3]),  # right, gold {0}: one of three sentences
        row("Harbour", 2, 3, "P26", [1]),  # right, gold {1, 2}: one of one
        row("Harbour", 3, 2, "P26", [0, 1, 2]),  # right, without gold evidence
        row("Harbour", 3, 1, "P27", [0, 1]),  # wrong
        row("Nowhere", 0, 1, "P17", [0]),
    ]
    assert evidence_figures(rows, [harbour]) == (2 / 4, 2 / 3, pytest.approx(4 / 7))
    assert evidence_figures(rows, [harbour], "evidence") == (2 / 9, 2 / 5, pytest.approx(2 / 7)), "the official ones"
    assert evidence_figures(rows[2:], [harbour]) == (0.0, 0.0, 0.0)
    assert evidence_figures([row("Harbour", 0, 1, "P17")], [harbour]) == (0.0, 0.0, 0.0), "gold 1, predicted 0"


def test_evidence_sentences_of_repeated_rows_and_labels(harbour):
    rows = [row("Harbour", 2, 3, "P26", [1]), row("Harbour", 2, 3, "P26", [0, 2])]
    assert evidence_figures(rows, [harbour]) == (1.0, 1 / 2, pytest.approx(2 / 3)), "the first row counts"
    harbour["labels"] += [label(2, 3, "P26", [0, 0])]
    assert evidence_figures(rows[::-1], [harbour]) == (1 / 2, 1.0, pytest.approx(2 / 3)), "the last label counts"
    harbour["labels"] += [label(2, 3, "P26")]
    assert evidence_figures(rows, [harbour]) == (0.0, 0.0, 0.0), "and has no evidence here"


@settings(max_examples=40)
@given(
    references=documents_of(["A", "B"]),
    evidence=st.lists(st.sets(st.integers(0, 3)), min_size=14, max_size=14),
    more=predictions_of,
    data=st.data(),
)
def test_evidence_sentence_figures_depend_on_right_triples_alone(references, evidence, more, data):
    keys = gold_keys(references)
    chosen = data.draw(st.lists(st.sampled_from(keys), unique=True)) if keys else []
    rows = [row(*key, sorted(sentences)) for key, sentences in zip(chosen, evidence, strict=False)]
    figures = evidence_figures(rows, references)
    wrong = [r for r in more if not is_gold(r, references)]
    assert evidence_figures(data.draw(st.permutations(rows + wrong)), references) == figures, "wrong triples"
    extra = [document("C", [[("Ines", 0)], [("Oskar", 1)]], [label(0, 1, "P25", [0]), label(1, 0, "P25")])]
    assert evidence_figures([*rows, row("C", 1, 0, "P25", [0, 1])], references + extra) == figures, "no gold evidence"
    assert evidence_figures(rows, references + extra) == figures, "missed triples"
    last = {(d["title"], g["h"], g["t"], g["r"]): g["evidence"] for d in references for g in d["labels"]}
    perfect = evidence_figures([row(*key, last[key]) for key in chosen], references)
    assert perfect == ((1.0,) * 3 if any(last[key] for key in chosen) else (0.0,) * 3)


def test_unknown_titles_and_entities_are_wrong_and_reported(harbour, caplog):
    rows = [row("Harbour", 0, 1, "P17", [0]), row("Nowhere", 0, 1, "P17", [0]), row("Harbour", 0, 9, "P17", [0])]
    figures = score(rows, [harbour], train_annotated=[], train_distant=[])
    assert figures["precision"] == 1 / 3
    assert figures["relation/P17/precision"] == 1 / 3
    assert figures["evidence_precision"] == 1 / 2, "evidence under an unknown title is not counted"
    assert figures["precision_intra"] == 1.0, "a pair that no document has is neither intra nor inter"
    assert "1 of 3 predictions name a title that no reference has" in caplog.text
    assert "1 of 3 predictions name an entity that their document lacks" in caplog.text


def test_empty_inputs_score_zero(harbour):
    for figures in (score([], [harbour], train_annotated=[], train_distant=[]), score([], [])):
        accuracy, missed = figures.pop("rela_accuracy"), figures.pop("outcome_missed")
        # Of four pairs, three have no relation.
        assert set(figures.values()) == {0.0} and (accuracy, missed) in ((0.75, 1.0), (0.0, 0.0))
    assert score([row("Harbour", 0, 1, "P17")], [])["f1"] == 0.0


def test_ign_f1_leaves_known_facts_out_of_precision_only(harbour):
    rows = [row("Harbour", 0, 1, "P17"), row("Harbour", 2, 1, "P27"), row("Harbour", 3, 1, "P27")]
    train = [document("Maps", [[("the Bay", 0)], [("Vellmark", 1)]], [label(0, 1, "P17"), label(1, 0, "P27")])]
    figures = score(rows, [harbour], train_annotated=train)
    assert figures["precision"] == figures["recall"] == 2 / 3
    assert figures["ign_precision"] == 1 / 2
    assert figures["ign_f1"] == pytest.approx(2 * (1 / 2) * (2 / 3) / (1 / 2 + 2 / 3))
    train[0]["vertexSet"][1][0]["name"] = "vellmark"
    assert score(rows, [harbour], train_annotated=train)["ign_precision"] == 2 / 3, "names are compared literally"


def test_all_known_facts_do_not_divide_by_zero(harbour):
    figures = score([row("Harbour", 0, 1, "P17")], [harbour], train_annotated=[harbour], train_distant=[harbour])
    assert figures["ign_precision"] == figures["ign_f1"] == figures["ign_f1_distant"] == 0.0


def test_figures_that_need_training_documents_are_absent_without_them(harbour):
    keys = score([], [harbour]).keys()
    needy = [
        key for key in keys if key.startswith(("ign_", "macro_f1_")) or key.endswith(("_head", "_middle", "1_tail"))
    ]
    assert not needy
    distant = score([], [harbour], train_distant=[harbour]).keys()
    assert distant - keys == {"ign_precision_distant", "ign_f1_distant"}


def test_intra_and_inter(harbour):
    rows = [row("Harbour", 0, 1, "P17"), row("Harbour", 2, 3, "P26"), row("Harbour", 0, 3, "P6")]
    figures = score(rows, [harbour])
    assert (figures["precision_intra"], figures["recall_intra"]) == (1 / 2, 1.0)
    assert (figures["precision_inter"], figures["recall_inter"]) == (1.0, 1 / 2)


def test_macro_averages_relations_that_have_gold():
    entities = [[("a", 0)], [("b", 0)], [("c", 0)]]
    gold = document("T", entities, [label(0, 1, "P17"), label(0, 2, "P17"), label(1, 2, "P19")])
    rows = [row("T", 0, 1, "P17"), row("T", 1, 2, "P25"), row("T", 2, 1, "P25")]
    figures = score(rows, [gold])
    assert figures["relation/P17/f1"] == pytest.approx(2 / 3)
    assert (figures["relation/P19/f1"], figures["relation/P25/f1"]) == (0.0, 0.0)
    assert figures["macro_f1"] == pytest.approx((2 / 3 + 0) / 2), "P25 is predicted only, and not in the mean"
    assert "relation/P26/f1" not in figures


def training(counts):
    """One document for each relation; every pair of its entities is another triple."""
    documents = []
    for relation, count in counts.items():
        entities = [[(f"{relation}-{i}", 0)] for i in range(count + 1)]
        documents.append(document(relation, entities, [label(0, i + 1, relation) for i in range(count)]))
    return documents


def test_macro_at_k_is_strict_and_counts_triples():
    counts = {"R500": 500, "R499": 499, "R200": 200, "R199": 199, "R100": 100, "R99": 99, "unused": 1}
    train = training(counts)
    train[-2]["labels"] += train[-2]["labels"][:5]
    entities = [[("a", 0)], [("b", 0)]]
    relations = [name for name in counts if name != "unused"] + ["unseen"]
    gold = document("T", entities, [label(0, 1, name) for name in relations])
    figures = score([row("T", 0, 1, name) for name in ("R499", "R199", "R99")], [gold], train_annotated=train)
    assert figures["macro_f1"] == pytest.approx(3 / 7)
    assert figures["macro_f1_at_500"] == pytest.approx(3 / 6)
    assert figures["macro_f1_at_200"] == pytest.approx(2 / 4)
    assert figures["macro_f1_at_100"] == pytest.approx(1 / 2), "R99 stays below 100: repeated labels count once"
    assert figures["macro_f1_all"] == pytest.approx(3 / 8), "'unused' counts as 0"


def test_head_middle_and_tail_are_ranked_by_training_triples():
    counts = {f"R{i:02d}": 40 - i for i in range(33)}
    gold = document("T", [[("a", 0)], [("b", 0)]], [label(0, 1, name) for name in counts])
    predicted = ["R00", "R09", "R10", "R12", "R13", "R32", "never seen"]
    figures = score([row("T", 0, 1, name) for name in predicted], [gold], train_annotated=training(counts))
    assert (figures["precision_head"], figures["recall_head"]) == (1.0, 2 / 10)
    assert (figures["precision_middle"], figures["recall_middle"]) == (1.0, 2 / 3)
    assert (figures["precision_tail"], figures["recall_tail"]) == (2 / 3, 2 / 20)


def test_few_relations_have_no_middle():
    counts = {f"R{i:02d}": 40 - i for i in range(12)}
    gold = document("T", [[("a", 0)], [("b", 0)]], [label(0, 1, name) for name in counts])
    figures = score([row("T", 0, 1, name) for name in counts], [gold], train_annotated=training(counts))
    assert (figures["f1_head"], figures["f1_middle"], figures["f1_tail"]) == (1.0, 0.0, 1.0)


def test_relation_counts(harbour):
    harbour["labels"].append(label(0, 1, "P17"))
    other = document("Other", [[("a", 0)], [("b", 0)]], [label(0, 1, "P17")])
    assert relation_counts([harbour, other]) == {"P17": 2, "P26": 1, "P27": 1}


def test_inputs_are_not_changed_and_generators_do(harbour):
    rows, documents = [row("Harbour", 0, 1, "P17")], [harbour]
    before = copy.deepcopy((rows, documents))
    figures = score(iter(rows), iter(documents), train_annotated=iter(documents), train_distant=iter(documents))
    assert (rows, documents) == before
    assert figures == score(rows, documents, train_annotated=documents, train_distant=documents)


def test_integers_of_arrays_and_tables(harbour):
    rows = [row("Harbour", np.int64(0), 1.0, "P17", np.array([0]))]
    assert score(rows, [harbour])["evidence_precision"] == 1.0


def test_missing_sentences_leave_a_pair_out_of_intra_and_inter(harbour):
    for entity in harbour["vertexSet"]:
        for mention in entity:
            del mention["sent_id"]
    figures = score([row("Harbour", 0, 1, "P17")], [harbour])
    assert (figures["recall"], figures["f1_intra"], figures["f1_inter"]) == (1 / 3, 0.0, 0.0)


def test_documents_that_share_a_title_are_joined_with_a_warning(harbour, caplog):
    twin = document("Harbour", [[("a", 0)], [("b", 4)]], [label(0, 1, "P99")])
    figures = score([row("Harbour", 2, 3, "P26"), row("Harbour", 0, 1, "P99")], [harbour, twin], train_annotated=[])
    assert figures["recall"] == 2 / 4
    assert (figures["f1_intra"], figures["precision_inter"]) == (0.0, 1.0), "entities are those of the later document"
    assert "another document with other entities has the same title" in caplog.text
    caplog.clear()
    score([], [harbour, copy.deepcopy(harbour)])
    assert not caplog.text


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["absent", "none"])
def test_unlabelled_gold_is_refused_in_one_sentence(harbour, missing):
    if missing == "absent":
        del harbour["labels"]
    else:
        harbour["labels"] = None
    message = "references: the data has no labels .none of 1 documents.; DocRED's test split is scored on CodaLab only"
    with pytest.raises(UnlabelledError, match=message) as caught:
        score([], [harbour])
    assert isinstance(caught.value, ValueError)
    assert "\n" not in str(caught.value)
    for name in ("train_annotated", "train_distant"):
        with pytest.raises(UnlabelledError, match=f"{name}: .*pass the labelled training documents") as caught:
            score([], [], **{name: [harbour]})
        assert "CodaLab" not in str(caught.value)


def test_partly_labelled_gold_names_the_first_document_without_labels(harbour):
    other = {"title": "Lighthouse", "vertexSet": []}
    with pytest.raises(UnlabelledError, match=r"1 of 2 documents.*references\[1\] \('Lighthouse'\).*\"labels\": \[\]"):
        score([], [harbour, other])
    assert score([], [harbour, {**other, "labels": []}])["recall"] == 0.0


def test_real_test_split_is_refused(data_dir):
    test = json.loads((data_dir / "docred" / "test.json").read_text(encoding="utf-8"))
    with pytest.raises(UnlabelledError, match="none of 1000 documents"):
        score([], test)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"h_idx": 0, "t_idx": 1, "r": "P17"}, r"predictions\[1\]: 'title' is missing; a row is \{"),
        ({"title": "Harbour", "t_idx": 1, "r": "P17"}, r"predictions\[1\]: 'h_idx' is missing"),
        (row("Harbour", 0, None, "P17"), r"predictions\[1\]: 't_idx' is missing"),
        (row("Harbour", "0", 1, "P17"), r"predictions\[1\]: 'h_idx' must be an integer, got '0'"),
        (row("Harbour", 0.5, 1, "P17"), r"predictions\[1\]: 'h_idx' must be an integer, got 0.5"),
        (row("Harbour", float("nan"), 1, "P17"), r"predictions\[1\]: 'h_idx' must be an integer, got nan"),
        (row("Harbour", 0, 1, 17), r"predictions\[1\]: 'r' must be a string, got 17"),
        (row(["Harbour"], 0, 1, "P17"), r"predictions\[1\]: 'title' must be a string"),
        (row("Harbour", 0, 1, "P17", "01"), r"predictions\[1\]: 'evidence' must be a list of sentence numbers"),
        (row("Harbour", 0, 1, "P17", 3), r"predictions\[1\]: 'evidence' must be a list of sentence numbers"),
        (row("Harbour", 0, 1, "P17", ["0"]), r"predictions\[1\]: 'evidence' must be an integer, got '0'"),
        (row("Harbour", 10**30, 1, "P17"), r"predictions\[1\]: 'h_idx' is 10+, which is out of range"),
        (row("Harbour", 0, 1, "P17", [-(10**30)]), r"predictions\[1\]: 'evidence' is -10+, which is out of range"),
        (row("\ud800", 0, 1, "P17"), r"predictions\[1\]: 'title' is '\\ud800': half of a surrogate pair"),
        ("Harbour", r"predictions\[1\]: expected a row such as"),
        (None, r"predictions\[1\]: expected a row such as"),
    ],
)
def test_bad_rows_are_named(harbour, bad, message):
    with pytest.raises(ScoringError, match=message):
        score([row("Harbour", 0, 1, "P17"), bad], [harbour])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vertexSet": None}, r"references\[0\] \('Harbour'\): 'vertexSet' must be a list of entities"),
        ({"vertexSet": [{"name": "a"}]}, r"vertexSet\[0\] must be a list of mentions"),
        ({"labels": {"h": [0]}}, "'labels' must be a list of labels such as"),
        ({"labels": [label(0, 4, "P17")]}, r"labels\[0\]: 't' is 4, but the document has 4 entities"),
        ({"labels": [label(-1, 0, "P17")]}, r"labels\[0\]: 'h' is -1, but the document has 4 entities"),
        ({"labels": [{"h": 0, "t": 1}]}, r"labels\[0\]: 'r' must be a string, got None"),
        ({"labels": [{"h": 0, "r": "P17"}]}, r"labels\[0\]: 't' must be an integer, got None"),
        ({"labels": ["P17"]}, r"labels\[0\]: expected a label such as"),
        ({"title": None}, "'title' must be a string, got None"),
    ],
)
def test_bad_documents_are_named(harbour, change, message):
    with pytest.raises(ScoringError, match=message):
        score([], [{**harbour, **change}])


@pytest.mark.parametrize("wrong", ["result.json", Path("result.json"), {"title": "Harbour"}, None, 3])
def test_a_path_or_a_dict_in_place_of_a_list(harbour, wrong):
    with pytest.raises(ScoringError, match="predictions: expected a list of rows"):
        score(wrong, [harbour])
    with pytest.raises(ScoringError, match="references: expected a list of documents"):
        score([], wrong)


def test_a_mention_without_name_matters_for_ign_f1_only(harbour):
    del harbour["vertexSet"][0][0]["name"]
    rows = [row("Harbour", 0, 1, "P17")]
    assert score(rows, [harbour])["precision"] == 1.0
    with pytest.raises(ScoringError, match="a mention has no 'name'; Ign F1 compares mention names"):
        score(rows, [harbour], train_annotated=[harbour])


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["result.json", "submission.zip"])
def test_submission_round_trip(tmp_path, name):
    rows = [
        {"title": "Überfahrt", "h_idx": np.int64(1), "t_idx": 0, "r": "P17", "evidence": [2, 0], "score": 0.7},
        {"title": "Überfahrt", "h_idx": 0, "t_idx": 1, "r": "P17"},
        {"title": "Überfahrt", "h_idx": 0, "t_idx": 1, "r": "Na"},
        {"title": "Überfahrt", "h_idx": 0, "t_idx": 1, "r": "NA"},
    ]
    assert write_submission(iter(rows), tmp_path / name) == 2
    if name.endswith(".zip"):
        assert zipfile.ZipFile(tmp_path / name).namelist() == ["result.json"]
    assert read_json(tmp_path / name) == [
        {"title": "Überfahrt", "h_idx": 1, "t_idx": 0, "r": "P17", "evidence": [2, 0]},
        {"title": "Überfahrt", "h_idx": 0, "t_idx": 1, "r": "P17", "evidence": []},
    ]


def test_bad_submission_leaves_no_file(tmp_path):
    with pytest.raises(ScoringError, match=r"rows\[0\]: 'r' is missing"):
        write_submission([{"title": "T", "h_idx": 0, "t_idx": 1}], tmp_path / "result.json")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b'[{"title": "T"', b"", b"\xff\xfe\xff", b"PK but no archive", b"[" * 100_000])
@pytest.mark.parametrize("name", ["gold.json", "gold.zip"])
def test_files_that_are_not_json_are_named(tmp_path, content, name):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ScoringError, match=rf"{name}: not a JSON file"):
        read_json(tmp_path / name)


def test_archive_with_two_files_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        archive.writestr("a.json", "[]")
        archive.writestr("b.json", "[]")
    with pytest.raises(ScoringError, match="must hold one JSON file"):
        read_json(tmp_path / "two.zip")


def test_docstring_example():
    results = doctest.testmod(scoring)
    assert results.attempted >= 3
    assert results.failed == 0
