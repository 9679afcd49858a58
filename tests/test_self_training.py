"""Self-training: which pseudo-labels are kept, that no model sees what it labels, and runs that are killed."""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import signal
import subprocess
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import yaml
from forked import run_python
from training_helpers import LAUNCHER, fictional

from modeling_docre import DocREForRelationExtraction, Document, Relation, recipes, self_training
from modeling_docre.document_results import fact_of
from modeling_docre.extraction import load_pipeline
from modeling_docre.metrics.docred.scoring import score
from modeling_docre.pseudo_labels import (
    RelationCounts,
    count_relations,
    find_pseudo_labels,
    keep_probability,
    resample,
    split_folds,
)
from modeling_docre.recipes import RecipeError, load_recipe, train_from_recipe
from modeling_docre.regimes import drop_labels
from modeling_docre.self_training import SelfTraining
from modeling_docre.training import DocRETrainer, last_checkpoint


def story(number: int) -> dict:
    """A document in DocRED's form with words that no other has."""
    document = fictional(number % 9, f"Story {number}")
    document["sents"].append(["This", "is", "chapter", str(number), "."])
    return document


DOCUMENTS = [Document.from_docred(story(number)) for number in range(120)]


# Which pseudo-labels are kept


@pytest.mark.parametrize("folds", [2, 5, 7, 120])
def test_folds_are_equal_parts_of_all_documents(folds):
    parts = split_folds(DOCUMENTS, folds, 3)
    assert sorted(place for part in parts for place in part) == list(range(120))
    assert {len(part) for part in parts} <= {120 // folds, 120 // folds + 1}
    assert all(part == sorted(part) for part in parts)


def test_folds_depend_on_seed_and_texts_and_not_on_order_or_labels():
    def titles(documents, *arguments):
        return [{documents[place].title for place in part} for part in split_folds(documents, *arguments)]

    expected = titles(DOCUMENTS, 5, 3)
    assert titles(random.Random(0).sample(DOCUMENTS, 120), 5, 3) == expected
    assert titles([replace(document, relations=()) for document in DOCUMENTS], 5, 3) == expected
    assert titles(DOCUMENTS, 5, 4) != expected


def test_documents_with_the_same_text_are_held_out_together():
    twins = [replace(document, title=f"Another {document.title}", relations=()) for document in DOCUMENTS[:30]]
    parts = split_folds([*DOCUMENTS, *twins], 4)
    fold = {place: number for number, part in enumerate(parts) for place in part}
    assert all(fold[place] == fold[120 + place] for place in range(30))
    with pytest.raises(ValueError, match=r"3 different documents are too few for self_training\.folds: 4"):
        split_folds([*DOCUMENTS[:3], *twins[:3]], 4)


def guesses(document: Document, chance: random.Random) -> list[Relation]:
    pairs = [(h, t) for h in range(len(document.entities)) for t in range(len(document.entities)) if h != t]
    names = ["born_in", "part_of", "unknown"]
    return [Relation(*pair, chance.choice(names), score=chance.random()) for pair in pairs if chance.random() < 0.7]


def test_counts_are_those_of_loops_and_of_the_scorer():
    chance = random.Random(1)
    predictions = [guesses(document, chance) for document in DOCUMENTS]
    counts = count_relations(DOCUMENTS, predictions)
    figures = score(
        [
            {"title": document.title, "h_idx": item.head, "t_idx": item.tail, "r": item.relation}
            for document, found in zip(DOCUMENTS, predictions, strict=True)
            for item in found
        ],
        [document.to_docred() for document in DOCUMENTS],
    )
    assert list(counts) == ["born_in", "part_of", "rules", "unknown"]
    for name, counted in counts.items():
        labels = predicted = correct = 0
        for document, found in zip(DOCUMENTS, predictions, strict=True):
            gold = [(item.head, item.tail) for item in document.relations if item.relation == name]
            labels += len(gold)
            for item in found:
                predicted += item.relation == name
                correct += item.relation == name and (item.head, item.tail) in gold
        assert (counted.labels, counted.predicted, counted.correct) == (labels, predicted, correct)
        assert (counted.precision or 0.0) == figures[f"relation/{name}/precision"]
        assert (counted.recall or 0.0) == figures[f"relation/{name}/recall"]
    assert counts["rules"].precision is None and counts["unknown"].recall is None


@pytest.mark.parametrize("alpha", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("beta", [0.0, 0.25, 1.0, 3.0])
def test_the_probability_is_that_of_the_paper(alpha, beta):
    for labels, predicted, correct in [(10, 8, 6), (100, 4, 4), (7, 70, 7), (5, 5, 5), (9, 3, 0)]:
        precision, recall = correct / predicted, correct / labels
        expected = (precision * (1 - recall) ** beta) ** alpha
        assert keep_probability(RelationCounts(labels, predicted, correct), alpha, beta) == pytest.approx(expected)
    # Precise and missed beats precise and found, and imprecise and missed.
    rare, common, wrong = RelationCounts(100, 10, 9), RelationCounts(100, 90, 81), RelationCounts(100, 90, 9)
    best = keep_probability(rare, alpha, beta)
    assert best > keep_probability(wrong, alpha, beta)
    assert best > keep_probability(common, alpha, beta) or beta == 0.0


def test_relations_that_have_no_precision_or_no_recall():
    never_predicted, never_labelled = RelationCounts(10, 0, 0), RelationCounts(0, 10, 0)
    for counts in (never_predicted, never_labelled, RelationCounts()):
        assert keep_probability(counts, 0.5, 1.0) == 0.0
        # Plain self-training keeps all, whatever is known.
        assert keep_probability(counts, 0.0, 1.0) == 1.0
    assert keep_probability(RelationCounts(10, 10, 10), 1.0, 1.0) == 0.0
    assert keep_probability(RelationCounts(10, 10, 10), 1.0, 0.0) == 1.0


def test_pseudo_labels_are_the_predictions_that_are_no_labels():
    document = DOCUMENTS[2]
    known = document.relations[0]
    new = [Relation(0, 2, "born_in", score=0.6), Relation(*fact_of(known)[:2], "part_of", score=0.9)]
    predictions = [replace(known, score=0.8, evidence=()), *new]
    assert find_pseudo_labels(document, predictions) == sorted(new, key=fact_of)
    assert find_pseudo_labels(document, predictions[::-1]) == sorted(new, key=fact_of)
    assert find_pseudo_labels(document, [predictions[0]]) == []


PROBABILITIES = {"born_in": 0.9, "part_of": 0.2, "unknown": 0.0}


def kept(documents, labels, seed=3, number=0, probabilities=PROBABILITIES):
    """What is kept, by title and fact."""
    return {
        (document.title, *fact_of(item))
        for document, found in zip(documents, labels, strict=True)
        for item in resample(document, found, probabilities, seed, number)
    }


@pytest.fixture(scope="module")
def crowd():
    """Many documents, and pseudo-labels of each."""
    chance = random.Random(2)
    documents = [Document.from_docred(story(number)) for number in range(1500)]
    return documents, [find_pseudo_labels(document, guesses(document, chance)) for document in documents]


def test_each_relation_is_kept_at_its_rate(crowd):
    documents, labels = crowd
    total = Counter(item.relation for found in labels for item in found)
    found = Counter(fact[-1] for fact in kept(documents, labels))
    for name, rate in PROBABILITIES.items():
        assert total[name] > 1000
        assert abs(found[name] - rate * total[name]) <= 4 * (total[name] * rate * (1 - rate)) ** 0.5
    everything = kept(documents, labels, probabilities=dict.fromkeys(PROBABILITIES, 1.0))
    assert len(everything) == sum(map(len, labels))


def test_what_is_kept_depends_on_seed_round_and_fact_alone(crowd):
    documents, labels = (part[:300] for part in crowd)
    expected = kept(documents, labels)
    assert kept(documents[::-1], [found[::-1] for found in labels][::-1]) == expected
    assert kept(documents[:9], labels[:9]) == {
        fact for fact in expected if fact[0] in {f"Story {n}" for n in range(9)}
    }
    other_seed, other_round = kept(documents, labels, seed=4), kept(documents, labels, number=1)
    assert expected != other_seed != other_round != expected
    # A higher rate keeps what a lower one does.
    assert expected < kept(documents, labels, probabilities=dict.fromkeys(PROBABILITIES, 0.95))


def test_facts_that_were_dropped_are_kept_no_more_often_than_others(crowd):
    documents, _ = crowd
    pseudo = []
    for document in documents:
        left = set(drop_labels(document, 0.5, 3).relations)
        pseudo.append([fact for fact in document.relations if fact not in left])
    rates = {"born_in": 0.5, "part_of": 0.5, "rules": 0.5}
    total = sum(map(len, pseudo))
    assert total > 1000
    assert abs(len(kept(documents, pseudo, probabilities=rates)) - total / 2) < 4 * (total / 4) ** 0.5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"folds": 1}, "folds is 1"),
        ({"rounds": 0}, "rounds is 0"),
        ({"alpha": -0.1}, r"alpha is -0\.1"),
        ({"alpha": float("nan")}, "alpha is nan"),
        ({"beta": float("inf")}, "beta is inf"),
        ({"measured_on": "test"}, "write folds or validation"),
    ],
)
def test_settings_that_mean_nothing(settings, message):
    with pytest.raises(ValueError, match=message):
        SelfTraining(**settings)


# Runs


def write_recipe(folder, encoder, **changes):
    """A recipe of two rounds of two folds over 18 documents: five models, of a second each."""
    (folder / "stories.json").write_text(json.dumps([story(number) for number in range(24)]))
    content = {
        "output_dir": str(folder / "run"),
        "model": {"encoder": str(encoder), "emb_size": 16, "block_size": 4},
        "data": {
            "train": {"path": str(folder / "stories.json"), "documents": "0:18", "drop_labels": 0.4},
            "eval": {"path": str(folder / "stories.json"), "documents": "18:"},
        },
        "training": {
            "num_train_epochs": 6,
            "per_device_train_batch_size": 2,
            "learning_rate": 3e-3,
            "head_learning_rate": 1e-2,
            "prior_bias": True,
            "use_cpu": True,
            "disable_tqdm": True,
            "eval_strategy": "epoch",
            "save_strategy": "epoch",
            "save_total_limit": 1,
            "load_best_model_at_end": True,
        },
        "self_training": {"folds": 2, "rounds": 2, "alpha": 0.3, "beta": 0.5, "seed": 21},
        **changes,
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture
def recipe(tmp_path, tiny_bert_dir):
    return write_recipe(tmp_path, tiny_bert_dir)


class Straight(NamedTuple):
    """A run that nobody disturbed."""

    folder: Path
    recipe: Path
    trained: list[tuple[str, list[Document], list[Document]]]
    asked: list[list[Document]]


@pytest.fixture(scope="module")
def straight(tmp_path_factory, tiny_bert_dir):
    folder = tmp_path_factory.mktemp("straight")
    recipe = write_recipe(folder, tiny_bert_dir)
    trained, asked = [], []
    train, predict = DocRETrainer.train, DocRETrainer.predict

    def watched_train(self, *arguments, **others):
        place = str(Path(self.args.output_dir).relative_to(folder))
        trained.append((place, self.train_dataset.documents, self.eval_dataset.documents))
        return train(self, *arguments, **others)

    def watched_predict(self, documents, *arguments, **others):
        asked.append(list(documents))
        return predict(self, documents, *arguments, **others)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DocRETrainer, "train", watched_train)
        patch.setattr(DocRETrainer, "predict", watched_predict)
        train_from_recipe(recipe)
    return Straight(folder / "run", recipe, trained, asked)


def outcome(folder):
    """What a run must give again: all but durations."""
    metrics = json.loads((folder / "all_results.json").read_text())
    durations = ("runtime", "per_second")
    files = [
        path for path in (folder / "_self_training").rglob("*") if path.is_file() and path.name != "settings.json"
    ]
    return (
        {name: value for name, value in metrics.items() if not any(part in name for part in durations)},
        {str(path.relative_to(folder)): path.read_text() for path in files},
        (folder / "model.safetensors").read_bytes(),
    )


def rows(folder, number):
    return json.loads((folder / "_self_training" / f"round-{number}" / "train.json").read_text())


def report(folder, number):
    return json.loads((folder / "_self_training" / f"round-{number}" / "report.json").read_text())


def predictions(folder, number, fold):
    return json.loads(
        (folder / "_self_training" / f"round-{number}" / f"fold-{fold}" / "predictions.json").read_text()
    )


def annotated():
    return [drop_labels(Document.from_docred(story(number)), 0.4) for number in range(18)]


def facts(document):
    return {fact_of(relation) for relation in document.relations}


def test_no_model_has_seen_what_it_labels(straight):
    places = [f"run/_self_training/round-{number}/fold-{fold}/model" for number in (0, 1) for fold in (0, 1)]
    assert [place for place, *_ in straight.trained] == [*places, "run"]
    everything = {f"Story {number}" for number in range(18)}
    for (_, documents, evaluation), asked in zip(straight.trained, straight.asked, strict=False):
        learnt, held_out = ({document.title for document in part} for part in (documents, asked))
        assert learnt | held_out == everything and not learnt & held_out
        assert not {document.text for document in (*documents, *evaluation)} & {document.text for document in asked}
        assert all(document.relations is None for document in asked)
    # Each round asks about every document once.
    assert len(straight.asked) == 4
    for pair in (straight.asked[:2], straight.asked[2:]):
        assert Counter(document.title for part in pair for document in part) == Counter(everything)


def test_labels_stay_and_what_is_added_is_marked_and_learnt(straight):
    before = annotated()
    config = DocREForRelationExtraction.from_pretrained(straight.folder).config
    assert config.relations == ["born_in", "part_of", "rules"]
    for number in (0, 1):
        after = [Document.from_docred(row) for row in rows(straight.folder, number)]
        added = 0
        for original, old, new, row in zip(annotated(), before, after, rows(straight.folder, number), strict=True):
            assert new.relations[: len(old.relations)] == old.relations
            assert replace(new, relations=()) == replace(original, relations=())
            marked = [bool(label.get("pseudo_label")) for label in row["labels"]]
            assert marked == [place >= len(original.relations) for place in range(len(marked))]
            assert all(0.5 < relation.score <= 1.0 for relation in new.relations[len(original.relations) :])
            added += len(new.relations) - len(old.relations)
        assert added == report(straight.folder, number)["kept"]
        by_title = {document.title: document for document in after}
        for place, documents, _ in straight.trained:
            if place.startswith(f"run/_self_training/round-{number + 1}") or (number == 1 and place == "run"):
                assert all(document == by_title[document.title] for document in documents)
        before = after
    assert sum(len(document.relations) for document in before) > sum(len(item.relations) for item in annotated())


def test_the_report_is_what_the_formula_makes_of_the_predictions(straight):
    before = annotated()
    for number in (0, 1):
        found = {}
        for fold, part in enumerate(split_folds(annotated(), 2, 21)):
            found |= dict(zip(part, predictions(straight.folder, number, fold)["held_out"], strict=True))
        after = [Document.from_docred(row) for row in rows(straight.folder, number)]
        written = report(straight.folder, number)
        assert written["labels"] == sum(len(document.relations) for document in before)
        for name in ("born_in", "part_of", "rules"):
            gold = {(place, *fact) for place, item in enumerate(before) for fact in facts(item) if fact[2] == name}
            said = {
                (place, row["head"], row["tail"], name)
                for place in found
                for row in found[place]
                if row["relation"] == name
            }
            now = {(place, *fact) for place, item in enumerate(after) for fact in facts(item) if fact[2] == name}
            figures = written["relations"][name]
            assert (figures["labels"], figures["predicted"], figures["correct"]) == (
                len(gold),
                len(said),
                len(gold & said),
            )
            precision = len(gold & said) / len(said) if said else 0.0
            expected = (precision * (1 - len(gold & said) / len(gold)) ** 0.5) ** 0.3
            assert figures["keep_probability"] == pytest.approx(expected)
            assert figures["pseudo_labels"] == len(said - gold) and figures["kept"] == len(now - gold)
            assert now - gold <= said - gold
        probabilities = {name: figures["keep_probability"] for name, figures in written["relations"].items()}
        for place, (old, new) in enumerate(zip(before, after, strict=True)):
            said = [Relation(row["head"], row["tail"], row["relation"]) for row in found[place]]
            kept = resample(old, find_pseudo_labels(old, said), probabilities, 21, number)
            assert {fact_of(relation) for relation in kept} == facts(new) - facts(old)
        before = after


def test_a_run_that_is_done_stays_as_it_is(straight, tmp_path):
    before = outcome(straight.folder)
    written = (straight.folder / "model.safetensors").stat().st_mtime_ns
    metrics = train_from_recipe(straight.recipe)
    assert metrics == json.loads((straight.folder / "all_results.json").read_text())
    assert outcome(straight.folder) == before
    assert (straight.folder / "model.safetensors").stat().st_mtime_ns == written


def test_what_is_left_is_an_ordinary_model_of_those_labels(straight, tmp_path, monkeypatch):
    assert sorted(path.name for path in straight.folder.rglob("model*")) == ["model.safetensors"] * 2
    assert [path.name for path in straight.folder.glob("checkpoint-*")] != []
    assert "self_training" in yaml.safe_load((straight.folder / "recipe.yaml").read_text())
    labels = straight.folder / "_self_training" / "round-1" / "train.json"
    changes = {"self_training": None, "output_dir": str(tmp_path / "plain"), "data.train": str(labels)}
    train_from_recipe(straight.recipe, changes)
    plain, self_trained = (folder / "model.safetensors" for folder in (tmp_path / "plain", straight.folder))
    assert plain.read_bytes() == self_trained.read_bytes()
    assert "self_training" not in yaml.safe_load((tmp_path / "plain" / "recipe.yaml").read_text())
    # Ign F1 and the card know of the labels that were there before.
    count = sum(len(document.relations) for document in annotated())
    more = sum(report(straight.folder, number)["kept"] for number in (0, 1))
    card = (straight.folder / "README.md").read_text()
    assert f"18 documents, {count} facts" in card and f"{more} pseudo-labels beside these facts" in card
    assert f"18 documents, {count + more} facts" in (tmp_path / "plain" / "README.md").read_text()


@pytest.mark.slow
def test_a_run_that_stops_again_and_again_ends_as_one_that_does_not(straight, recipe, tmp_path, monkeypatch):
    started, steps, written = [], itertools.count(1), itertools.count(1)
    train, step, write = DocRETrainer.train, DocRETrainer.training_step, self_training._write_found

    def watched(self, resume_from_checkpoint=None):
        started.append((Path(self.args.output_dir), resume_from_checkpoint is not None))
        return train(self, resume_from_checkpoint)

    def breaking_step(self, *arguments, **others):
        if next(steps) % 13 == 0 and last_checkpoint(self.args.output_dir):
            raise KeyboardInterrupt
        return step(self, *arguments, **others)

    def breaking_write(*arguments):
        number = next(written)
        if number == 1:
            raise KeyboardInterrupt
        write(*arguments)
        # Between what a fold has found and the end of its model.
        if number == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(DocRETrainer, "train", watched)
    with monkeypatch.context() as breaking:
        breaking.setattr(DocRETrainer, "training_step", breaking_step)
        breaking.setattr(self_training, "_write_found", breaking_write)
        stopped = 0
        while True:
            try:
                train_from_recipe(recipe)
                break
            except KeyboardInterrupt:
                stopped += 1
                assert stopped < 30
    assert stopped >= 6
    # Every model began once, and all went on.
    assert set(Counter(place for place, resumed in started if not resumed).values()) == {1}
    assert len({place for place, resumed in started if resumed}) == 5
    assert outcome(tmp_path / "run") == outcome(straight.folder)
    # What is done is not done again.
    del started[:]
    train_from_recipe(recipe)
    assert not started
    assert outcome(tmp_path / "run") == outcome(straight.folder)


@pytest.mark.slow
def test_a_run_that_is_killed_ends_as_one_that_is_not(straight, recipe, tmp_path):
    command = ("-m", "modeling_docre.cli", "train", recipe)
    moments = (
        "_self_training/round-0/fold-1/model/checkpoint-*/trainer_state.json",
        "_self_training/round-1/fold-0/predictions.json",
        "checkpoint-*/trainer_state.json",
    )
    for moment in moments:
        killed = run_python(*command, kill_at=f"{tmp_path}/run/{moment}")
        assert killed.returncode == -signal.SIGKILL, (moment, killed.stderr)
    assert not (tmp_path / "run" / "all_results.json").exists()
    ran = run_python(*command)
    assert ran.returncode == 0, ran.stderr
    assert outcome(tmp_path / "run") == outcome(straight.folder)


@pytest.mark.slow
def test_two_processes_end_as_one(tiny_bert_dir, tmp_path):
    for name, batch in (("one", 2), ("two", 1)):
        (tmp_path / name).mkdir()
        path = write_recipe(tmp_path / name, tiny_bert_dir)
        content = yaml.safe_load(path.read_text())
        # Without dropout, which each process draws by itself.
        content["model"]["encoder_settings"] = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        content["training"] |= {"per_device_train_batch_size": batch, "optim": "sgd"}
        content["training"] |= {"learning_rate": 0.1, "head_learning_rate": 1.0, "max_grad_norm": 1.0}
        content["self_training"] |= {"alpha": 0.0, "rounds": 1}
        if name == "two":
            content["training"]["ddp_backend"] = "gloo"
        path.write_text(yaml.safe_dump(content))
    command = ("-m", "modeling_docre.cli", "train")
    ran = run_python(*command, tmp_path / "one" / "recipe.yaml")
    assert ran.returncode == 0, ran.stderr
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    launched = [*LAUNCHER, *command, str(tmp_path / "two" / "recipe.yaml")]
    said = subprocess.run(launched, check=True, env=environment, timeout=300, capture_output=True, text=True).stderr
    assert said.count("pseudo-labels") == 1 and said.count("documents to train on") == 2
    one, two = tmp_path / "one" / "run", tmp_path / "two" / "run"
    assert report(one, 0)["kept"] > 0
    assert report(one, 0) == report(two, 0)
    first, second = (DocREForRelationExtraction.from_pretrained(folder).state_dict() for folder in (one, two))
    for name, value in first.items():
        torch.testing.assert_close(value, second[name], rtol=0, atol=1e-4)
    # Started again, with a fold that is not done, it goes on and ends: no process waits for another.
    shutil.rmtree(two / "_self_training" / "round-0" / "fold-1")
    ran = run_python(*command, tmp_path / "two" / "recipe.yaml", processes=2)
    assert ran.returncode == 0, ran.stderr
    assert report(two, 0) == report(one, 0)


def test_when_nothing_is_kept_training_is_the_plain_one(recipe, tmp_path, caplog):
    train_from_recipe(recipe, {"self_training.alpha": 1000, "self_training.rounds": 1})
    assert report(tmp_path / "run", 0)["pseudo_labels"] > report(tmp_path / "run", 0)["kept"] == 0
    assert [Document.from_docred(row) for row in rows(tmp_path / "run", 0)] == annotated()
    assert "What follows learns the same labels as without self-training." in caplog.text
    train_from_recipe(recipe, {"self_training": None, "output_dir": str(tmp_path / "plain")})
    first, second = (tmp_path / name / "model.safetensors" for name in ("run", "plain"))
    assert first.read_bytes() == second.read_bytes()


def test_pseudo_labels_of_a_relation_that_validation_lacks_have_no_precision(recipe, tmp_path, monkeypatch):
    content = yaml.safe_load(recipe.read_text())
    # Without `rules` and `part_of`, which one and two thirds of the stories have.
    content["data"]["eval"]["documents"] = "18:19"
    recipe.write_text(yaml.safe_dump(content))
    changes = {"rounds": 1, "alpha": 0.3, "measured_on": "validation"}
    # Nor says a model that there were some.
    monkeypatch.setattr(
        "modeling_docre.self_training._predict",
        lambda _, documents: [
            [] if len(documents) == 1 else [Relation(0, 1, "rules", score=0.9)] for document in documents
        ],
    )
    train_from_recipe(recipe, {f"self_training.{name}": value for name, value in changes.items()})
    written = report(tmp_path / "run", 0)["relations"]["rules"]
    assert written["pseudo_labels"] > 0 and written["predicted"] == written["labels"] == 0
    assert written["precision"] is None


def test_folds_of_a_later_round_score_with_the_labels_that_people_gave(recipe, tmp_path, monkeypatch):
    told = []
    set_annotated = DocRETrainer.set_annotated

    def watched(self, documents):
        told.append((Path(self.args.output_dir).parent.parent.name, list(documents)))
        set_annotated(self, documents)

    monkeypatch.setattr(DocRETrainer, "set_annotated", watched)
    train_from_recipe(recipe, {"self_training.alpha": 0.0})
    assert report(tmp_path / "run", 0)["kept"] > 0
    rounds = [name for name, _ in told]
    assert rounds.count("round-1") == 2 and "round-0" not in rounds
    given = {document.title: facts(document) for document in annotated()}
    for _, documents in told:
        assert all(facts(document) == given[document.title] for document in documents)
    assert sorted(one.title for name, part in told if name == "round-1" for one in part) == sorted(given)


def test_measured_on_validation_with_models_that_are_kept(recipe, tmp_path):
    changes = {"rounds": 1, "alpha": 0, "measured_on": "validation", "keep_models": True}
    train_from_recipe(recipe, {f"self_training.{name}": value for name, value in changes.items()})
    written = report(tmp_path / "run", 0)
    gold = [Document.from_docred(story(number)) for number in range(18, 24)]
    answers = [predictions(tmp_path / "run", 0, fold)["validation"] for fold in (0, 1)]
    for name in ("born_in", "part_of", "rules"):
        labels = predicted = correct = 0
        for answer in answers:
            for document, found in zip(gold, answer, strict=True):
                said = {(row["head"], row["tail"], name) for row in found if row["relation"] == name}
                true = {fact for fact in facts(document) if fact[2] == name}
                labels, predicted, correct = labels + len(true), predicted + len(said), correct + len(true & said)
        figures = written["relations"][name]
        assert (figures["labels"], figures["predicted"], figures["correct"]) == (labels, predicted, correct)
    # Plain self-training keeps all.
    assert written["kept"] == written["pseudo_labels"] > 0
    # A model that was kept answers as it did.
    folder = tmp_path / "run" / "_self_training" / "round-0" / "fold-0" / "model"
    pipe = load_pipeline(str(folder), "cpu")
    for document, found in zip(gold, answers[0], strict=True):
        relations = pipe(replace(document, relations=None))["relations"]
        assert {(row["head"], row["tail"], row["relation"]) for row in relations} == {
            (row["head"], row["tail"], row["relation"]) for row in found
        }


# What is refused


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"self_training.alpha": 0.4},
            r"compare self_training\.alpha in .*settings\.json.*Remove .*run to begin again",
        ),
        ({"learning_rate": 1e-3}, r"compare training\.learning_rate in"),
        ({"model.loss": "afl"}, r"compare model\.loss in"),
        ({"data.train.drop_labels": 0.9}, r"compare data\.train\.drop_labels, documents\.train in"),
    ],
)
def test_a_folder_of_other_settings_is_refused(straight, changes, message):
    before = outcome(straight.folder)
    with pytest.raises(ValueError, match=message):
        train_from_recipe(straight.recipe, changes)
    assert outcome(straight.folder) == before


def test_a_folder_of_other_documents_is_refused(straight, monkeypatch):
    stories = straight.recipe.with_name("stories.json")
    text = stories.read_text()
    try:
        stories.write_text(text.replace("chapter", "section"))
        with pytest.raises(ValueError, match=r"compare documents\.eval, documents\.train in"):
            train_from_recipe(straight.recipe)
    finally:
        stories.write_text(text)


def test_the_model_of_a_fold_knows_all_relations_and_is_not_uploaded(recipe, monkeypatch):
    built = []

    def build(recipe, train, evaluation, *, known):
        built.append((recipe.training["push_to_hub"], len(train), known))
        raise KeyboardInterrupt

    monkeypatch.setattr(recipes, "_build_trainer", build)
    with pytest.raises(KeyboardInterrupt):
        train_from_recipe(recipe, {"push_to_hub": True})
    ((uploaded, size, known),) = built
    assert uploaded is False and size < len(known) == len(recipes._read_data(load_recipe(recipe))[0])


def test_rounds_that_do_not_say_of_what_are_refused(recipe):
    rounds = Path(load_recipe(recipe).output_dir) / "_self_training"
    (rounds / "round-0" / "fold-0").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"holds rounds, and no settings\.json.*--output_dir=FOLDER"):
        train_from_recipe(recipe)
    assert not (rounds / "settings.json").exists()


def test_a_folder_of_plain_training_is_refused(recipe, tmp_path):
    train_from_recipe(recipe, {"self_training": None, "num_train_epochs": 1})
    with pytest.raises(ValueError, match=r"holds checkpoints of a training without these rounds.*--output_dir=FOLDER"):
        train_from_recipe(recipe, resume=True)
    # And plain training still refuses a folder with checkpoints.
    with pytest.raises(RecipeError, match="--resume"):
        train_from_recipe(recipe, {"self_training": None})


NO_EVALUATION = {"data.eval": None, "training.eval_strategy": "no", "training.load_best_model_at_end": False}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data.train.documents": "0:19"}, r"data\.eval holds 1 documents of data\.train, such as 'Story 18'"),
        ({"data.train.documents": "0:1"}, r"1 different documents are too few for self_training\.folds: 2"),
        ({"self_training.measured_on": "validation", **NO_EVALUATION}, "name them as data.eval"),
    ],
)
def test_documents_that_do_not_do(recipe, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        train_from_recipe(recipe, changes)
    assert not (tmp_path / "run").exists()


def test_documents_without_labels(recipe, tmp_path):
    content = [story(number) for number in range(18)]
    del content[3]["labels"]
    (tmp_path / "stories.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"data\.train\[3\].*'Story 3'.*has no labels"):
        train_from_recipe(recipe, {**NO_EVALUATION, "data.train": str(tmp_path / "stories.json")})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--self_training=3"], "write its settings, as in self_training: {folds: 5"),
        (["--self_training.alhpa=1"], "self_training has no setting 'alhpa'. Did you mean 'alpha'"),
        (["--self_training.folds=2.5"], "self_training.folds is 2.5, but must be a whole number"),
        (["--self_training.folds=true"], "self_training.folds is True, but must be a whole number"),
        (["--self_training.alpha=-1"], "self_training.alpha is -1"),
        (["--self_training.measured_on=dev"], "write folds or validation"),
        (["--after=[other.yaml]"], "does not go with after, which may come from documents"),
        (["--model={checkpoint: x}"], "does not go with model.checkpoint"),
        (["--teacher=x"], "does not go with training.teacher"),
        (["--soft_labels=x"], "does not go with training.soft_labels"),
        (["--model.objective=contrastive"], "needs a model that predicts relations"),
    ],
)
def test_what_does_not_go_together(recipe, changes, message):
    with pytest.raises(RecipeError) as error:
        load_recipe(recipe, changes)
    assert message in str(error.value)


def test_a_recipe_that_extends_another_changes_settings_or_takes_them_out(recipe):
    more = recipe.with_name("more.yaml")
    more.write_text("extends: recipe.yaml\nself_training: {alpha: 0.7}\n")
    assert load_recipe(more).self_training == {"folds": 2, "rounds": 2, "alpha": 0.7, "beta": 0.5, "seed": 21}
    more.write_text("extends: recipe.yaml\nself_training: null\n")
    assert load_recipe(more).self_training is None
    assert load_recipe(more, ["--self_training.folds=4"]).self_training == {"folds": 4}
