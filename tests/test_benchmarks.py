"""The benchmarks run and print their tables; no figure is held to a value, since machines differ."""

from __future__ import annotations

import importlib
import json
import re
import shlex
import sys
from pathlib import Path

import pytest
import torch
from forked import run_python
from training_helpers import fictional, make

from modeling_docre import DEFAULT_MODEL, Document
from modeling_docre.recipes import load_recipe

SMALL = ("--models", "tiny", "--rounds", "1")
GENERATED = ("--batch", "2", "--tokens", "40", "--entities", "3,5")


@pytest.fixture
def bench(repository, tmp_path):
    """A function that runs a benchmark in a process of its own and returns what it printed."""

    def run(script: str, *arguments: object) -> str:
        ran = run_python(repository / "benchmarks" / script, *arguments, cwd=tmp_path)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    return run


def tables(printed: str) -> list[list[dict[str, str]]]:
    """The Markdown tables of an output, each a list of rows."""
    found = []
    for block in re.findall(r"(?:^\|.*\|\n)+", printed, re.MULTILINE):
        columns, rule, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()]
        assert all(re.fullmatch(r"-+:?", cell) for cell in rule)
        found.append([dict(zip(columns, row, strict=True)) for row in rows])
    return found


@pytest.mark.slow
def test_speed_prints_time_and_memory_of_every_step(bench):
    time, memory = tables(bench("speed.py", *SMALL, *GENERATED))
    steps = ["inference", "training", "training without dropout"]
    assert [(row["pairs"], row["step"]) for row in time] == [(pairs, step) for pairs in ("12", "40") for step in steps]
    for row in time:
        assert re.fullmatch(r"\d+\.\d\d \(\d+\.\d\d-\d+\.\d\d\)", row["CPU time ratio"]), row
        assert float(row["ours, CPU s"]) > 0 and float(row["encoder, CPU s"]) > 0
    assert [(row["step"], row["pairs"]) for row in memory] == [
        (step, pairs) for step in steps for pairs in ("12", "40")
    ]
    # 4 x (97 classes + 3 x 32) floats of 4 bytes.
    assert {row["bound"] for row in memory} == {"3,088"}
    assert [row["bytes per further pair"] == "-" for row in memory] == [True, False] * 3


def test_queues_are_measured_when_they_are_full(bench):
    (rows,) = tables(bench("queues.py", *SMALL, *GENERATED, "--capacities", "2,3"))
    # Of 96 relations; keys with several relations are kept once.
    assert [row["a queue"] for row in rows] == ["2", "3", "2", "3"]
    assert all(96 < int(row["keys"]) <= 96 * int(row["a queue"]) for row in rows)
    assert all(float(row["step"]) > float(row["of it the copy"]) > 0 for row in rows)


def test_extra_pairs_are_measured_with_what_draws_them(bench):
    (rows,) = tables(bench("generation.py", "--models", "tiny-vaediff", "--rounds", "1", *GENERATED[:-1], "5"))
    assert [row["extra pairs"] for row in rows] == ["none", "noisy", "generated", "from a bank"]
    shares = [float(row["of it drawing"].rstrip("%")) for row in rows]
    assert shares[0] == 0 and shares[2] > shares[3]
    assert all(float(row["step"]) > 0 for row in rows)


def test_pruning_is_measured_for_each_share_of_pairs(bench):
    options = ("--models", "tiny-paee", "--rounds", "1", *GENERATED[:-1], "5", "--percent", "100,20")
    (rows,) = tables(bench("pruning.py", *options))
    assert [(row["pairs"], row["classified"]) for row in rows] == [("40", "40"), ("40", "8")]
    assert all(float(row["to the encoder"]) > 0 for row in rows)


@pytest.mark.slow
@pytest.mark.skipif(not DEFAULT_MODEL.is_dir(), reason=f"the embedded model is absent: {DEFAULT_MODEL}")
def test_speed_takes_real_documents(bench, tmp_path):
    path = tmp_path / "stories.json"
    path.write_text(json.dumps([fictional(number) for number in range(3)]))
    options = ("--documents", path, "--batch", 2, "--measure", "time", "--dtype", "bfloat16", "--json")
    result = json.loads(bench("speed.py", *SMALL, *options))
    assert result["environment"]["dtype"] == "bfloat16" and "memory" not in result
    for row in result["time"]:
        assert row["work"] == "2 of stories.json" and row["pairs"] > 0
        assert row["ours_cpu_s"] > 0 and row["wall_ratio"]["median"] > 0


def test_generated_documents_are_of_the_shape_asked_for(repository, monkeypatch):
    monkeypatch.syspath_prepend(repository / "benchmarks")
    common = importlib.import_module("common")
    work = common.generate_work(20)
    batch = work.batch
    assert (work.tokens, work.pairs) == (8 * 464, 8 * 20 * 19) and (batch["num_entities"] == 20).all()
    document, entity, token = batch["mentions"].unbind(1)
    assert (token < batch["attention_mask"].sum(1)[document]).all()
    assert len({(int(d), int(e)) for d, e in zip(document, entity, strict=True)}) == 8 * 20
    assert 1.2 < len(document) / (8 * 20) < 1.6
    assert (batch["labels"].sum(1) == 1).all() and 0.04 < float((batch["labels"][:, 0] == 0).float().mean()) < 0.1
    again = common.generate_work(20)
    assert all(batch[name].equal(again.batch[name]) for name in batch)
    with pytest.raises(SystemExit, match="ask for fewer"):
        common.generate_work(30, documents=2, tokens=40)


def test_documents_of_the_data_benchmark_are_decided_by_the_seed(repository, monkeypatch):
    monkeypatch.syspath_prepend(repository / "benchmarks")
    make_documents = importlib.import_module("data").make_documents
    first = list(make_documents(20, 13))
    assert first == list(make_documents(20, 13)) != list(make_documents(20, 14))
    read = [Document.from_docred(row) for row in first]
    assert {len(document.entities) for document in read} == {10}
    assert all(document.relations for document in read)


@pytest.mark.slow
def test_profile_names_every_part_of_every_head(bench):
    own = {"tiny": set(), "tiny-kd-docre": {"axial attention"}, "tiny-docunet": {"U-Net"}}
    own["tiny-paee"] = {"grid", "entity encoder"}
    found = tables(bench("profile_model.py", "--rounds", "1", *GENERATED, "--models", *own))
    assert len(found) == 2
    for table in found:
        for model, parts_of_head in own.items():
            rows = {row["part"]: row for row in table if row["model"] == model}
            parts = list(rows)
            assert parts[0] == "encoder" and parts[-3:] == ["loss", "the rest", "whole model"]
            common = {"attention rows", "entity pooling", "localized context", "projections", "bilinear"}
            assert set(parts[1:-3]) == common | parts_of_head
            assert rows["encoder"]["to the encoder"] == rows["encoder"]["both to the encoder"] == "1.000"
            for part in ("bilinear", *parts_of_head):
                for column in ("training forward, ms", "backward, ms"):
                    assert float(rows[part][column].replace(",", "")) > 0


def test_pipeline_prints_throughput_and_shares(bench, tiny_checkpoint, tmp_path):
    options = ("--model", tiny_checkpoint, "--rounds", 1)
    printed = bench("pipeline.py", *options, "--number", 4)
    throughput, steps = tables(printed)
    assert all(float(row["documents"]) > 0 for row in throughput)
    assert sum(float(row["share"].rstrip("%")) for row in steps) == pytest.approx(100, abs=1)
    assert "4 documents" in printed

    path = tmp_path / "stories.json"
    path.write_text(json.dumps([fictional(number) for number in range(3)]))
    result = json.loads(bench("pipeline.py", *options, "--documents", path, "--number", 2, "--json"))
    assert result["speed"]["documents"] == 2 and result["speed"]["documents_per_second"]["median"] > 0
    assert [step["share"] > 0 for step in result["steps"]] == [True] * 5


@pytest.fixture
def protocol(repository, tmp_path, monkeypatch):
    """The module of the small protocol, in the repository's folder, without what is recorded there."""
    monkeypatch.chdir(repository)
    monkeypatch.syspath_prepend(repository / "benchmarks")
    module = importlib.import_module("small_protocol")
    monkeypatch.setattr(module, "RECORD", tmp_path / "record.jsonl")
    module.recorded.cache_clear()
    yield module
    module.recorded.cache_clear()


def finish(protocol, folders, name, rate, seed, f1, validation_f1=0.0):
    """Write the figures of a run, as it does."""
    row = next(row for row in (*protocol.STAGES, *protocol.ROWS) if row.name == name)
    folder = protocol.run_folder(folders, row, rate, seed)
    folder.mkdir(parents=True)
    figures = {"f1": f1, "validation_f1": validation_f1}
    (folder / "figures.json").write_text(json.dumps(figures | protocol.made_with(row, rate, seed)))
    return folder / "figures.json"


def test_the_small_protocol_prints_commands_that_are_whole(protocol, tmp_path, monkeypatch, capsys):
    # As where no trial has found its rate yet.
    unknown = tuple(row._replace(rate="") if row.name == "paee" else row for row in protocol.ROWS)
    for module in (protocol, importlib.import_module("protocol_rows")):
        monkeypatch.setattr(module, "ROWS", unknown)
    monkeypatch.setattr(sys, "argv", ["small_protocol.py", "--commands", "--output", str(tmp_path)])
    protocol.main()
    lines = capsys.readouterr().out.splitlines()
    names = [line[2:] for line in lines if line.startswith("# ")]
    assert set(names) == {row.name for row in (*protocol.ROWS, *protocol.STAGES)} and len(names) == len(set(names))
    for row in protocol.ROWS:
        assert not row.stage or names.index(row.stage) < names.index(row.name)
    folders = set()
    rows = {row.name: row for row in (*protocol.ROWS, *protocol.STAGES)}
    for line in lines:
        if line.startswith("# "):
            name = line[2:]
            continue
        _, docre, train, recipe, *changes = shlex.split(line)
        assert (docre, train) == ("docre", "train")
        read = load_recipe(recipe, changes)
        assert read.output_dir == f"{tmp_path}/{Path(read.output_dir).name}"
        assert read.output_dir.endswith(f"-{read.training['seed']}")
        if recipe.endswith("small.yaml"):
            assert str(read.training["head_learning_rate"]) in ("0.001", "0.0003")
        folders.add(read.output_dir)
        named = [read.training.get(name) for name in ("generator", "generator_of")]
        places = [
            read.model.get("checkpoint"),
            read.model.get("encoder"),
            *(read.training.get("teacher") or []),
            *named,
        ]
        before = {place for place in places if isinstance(place, str)}
        stages = [read.output_dir.replace(name, stage.name) for stage in protocol.stages_of(rows[name])]
        # What is read is made before, and the stage right before is read.
        assert before <= set(stages) and stages[-1:] == [place for place in stages[-1:] if place in before]
    trials = [name for name in names if len(protocol.rates(protocol.Folders(tmp_path, tmp_path), rows[name])) > 1]
    assert len(folders) == (len(names) + len(trials)) * 3 and set(trials) == {
        name for name in names if name.startswith("paee")
    }
    assert len(trials) == 6


def test_the_small_protocol_scores_documents_that_it_chooses_nothing_by(protocol):
    def written(part):
        return f"{part.start}:{part.stop}"

    recipe = load_recipe(protocol.RECIPE)
    assert recipe.data["train"]["documents"] == written(protocol.TRAINING) == "0:250"
    assert recipe.data["eval"]["documents"] == written(protocol.VALIDATION)
    assert written(protocol.SCORED) == "400:500"
    parts = [set(range(500)[part]) for part in (protocol.TRAINING, protocol.VALIDATION, protocol.SCORED)]
    assert len(set.union(*parts)) == sum(map(len, parts)) == 450


COLUMNS = ("ign_f1", "precision", "recall", "f1_frequent", "f1_long_tail", "macro_f1", "seconds", "peak_mib")


def test_the_better_rate_of_the_small_protocol_holds_for_ablations_too(protocol, tmp_path):
    folders = protocol.Folders(tmp_path, tmp_path)
    rows = [row for row in protocol.ROWS if row.name == "paee-no-pair-grid"]
    # The better one on the documents that are kept for choosing.
    for rate, f1, validation_f1 in (("1e-3", 0.5, 0.2), ("3e-4", 0.4, 0.3)):
        finish(protocol, folders, "paee", rate, 13, f1, validation_f1)
    lines = protocol.commands(folders, rows, [13, 14])
    assert lines[0] == "# paee-no-pair-grid" and len(lines) == 3
    assert all("--model.use_pair_grid=false --training.head_learning_rate=3e-4" in line for line in lines[1:])
    figures = finish(protocol, folders, rows[0].name, "3e-4", 13, 0.4)
    figures.write_text(json.dumps(json.loads(figures.read_text()) | dict.fromkeys(COLUMNS, 0.5)))
    assert "| paee-no-pair-grid | 3e-4 | 40.0 |" in protocol.compare(folders, rows, [13], protocol.COLUMNS)


def test_runs_of_the_record_are_not_done_again(protocol, tmp_path, monkeypatch):
    folders = protocol.Folders(tmp_path, tmp_path / "runs")
    for seed, f1 in ((13, 0.4), (14, 0.5)):
        figures = finish(protocol, folders, "atlop-afl", "3e-4", seed, f1)
        figures.write_text(json.dumps(json.loads(figures.read_text()) | dict.fromkeys(COLUMNS, 0.123456789)))
    assert protocol.record(folders) == 2
    protocol.recorded.cache_clear()
    elsewhere = protocol.Folders(tmp_path, tmp_path / "elsewhere")
    rows = [row for row in protocol.ROWS if row.name == "atlop-afl"]
    monkeypatch.setattr(protocol.subprocess, "Popen", lambda *_, **__: pytest.fail("it is done"))
    assert "| atlop-afl | 3e-4 | 45.0 ± 7.1 | 12.3 ± 0.0 |" in protocol.compare(
        elsewhere, rows, [13, 14], protocol.COLUMNS
    )
    # What was recorded before stays, and what was made with another recipe is refused.
    finish(protocol, elsewhere, "atlop", "3e-4", 13, 0.3)
    assert protocol.record(elsewhere) == 3
    protocol.recorded.cache_clear()
    protocol.RECORD.write_text(protocol.RECORD.read_text().replace("--model.loss=afl", "--model.loss=atl"))
    with pytest.raises(SystemExit, match=r"record\.jsonl was made with another recipe or other overrides.*--anew"):
        protocol.run(elsewhere, rows[0], "3e-4", 13)

    def train(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(protocol.subprocess, "Popen", train)
    with pytest.raises(KeyboardInterrupt):
        protocol.run(elsewhere._replace(with_record=False), rows[0], "3e-4", 13)


def test_a_row_whose_stage_was_made_with_other_settings_is_refused(protocol, tmp_path, monkeypatch):
    folders = protocol.Folders(tmp_path, tmp_path)
    finish(protocol, folders, "atlop", "3e-4", 13, 0.4)
    finish(protocol, folders, "atlop-continued", "3e-4", 13, 0.5)
    (row,) = (row for row in protocol.ROWS if row.name == "atlop-continued")
    assert protocol.run(folders, row, "3e-4", 13)["f1"] == 0.5
    stage = protocol.run_folder(folders, protocol.stage_of(row), "3e-4", 13) / "figures.json"
    stage.write_text(stage.read_text().replace("--model.method=atlop", "--model.method=ncrl"))
    with pytest.raises(SystemExit, match=r"atlop-3e-4-13/figures\.json was made with another recipe"):
        protocol.run(folders, row, "3e-4", 13)


def test_a_stage_whose_model_is_not_there_is_trained_again(protocol, tmp_path, monkeypatch):
    folders = protocol.Folders(tmp_path, tmp_path)
    finish(protocol, folders, "atlop", "3e-4", 13, 0.4)
    (row,) = (row for row in protocol.ROWS if row.name == "student")
    started = []

    def train(command, **_):
        started.append(command[-3:])
        raise KeyboardInterrupt

    monkeypatch.setattr(protocol.subprocess, "Popen", train)
    with pytest.raises(KeyboardInterrupt):
        protocol.run(folders, row, "3e-4", 13)
    frozen = f"--training.frozen_cache_dir={tmp_path}/frozen"
    assert started == [[f"--output_dir={tmp_path}/atlop-3e-4-13", frozen, "--resume"]]


def test_the_results_page_is_written_from_the_record(protocol, tmp_path, monkeypatch):
    folders = protocol.Folders(tmp_path, tmp_path / "runs")
    page = importlib.import_module("results_page")
    mark = "<!-- table: incomplete{} -->\n\n{}\n\n<!-- end of table -->\n"
    text = "# Results\n\n" + mark.format("", "old") + "words\n" + mark.format(" macro", "old")
    assert page.write_tables(text) == text
    macro = [name for name in protocol.MACRO_COLUMNS.values()]
    for row in ("atlop-incomplete", "atlop-incomplete-sampling"):
        for seed in protocol.SEEDS[: 3 if row == "atlop-incomplete" else 2]:
            figures = finish(protocol, folders, row, "3e-4", seed, 0.2)
            figures.write_text(json.dumps(json.loads(figures.read_text()) | dict.fromkeys([*COLUMNS, *macro], 0.5)))
    protocol.record(folders)
    protocol.recorded.cache_clear()
    written = page.write_tables(text)
    assert written.count("| atlop-incomplete | 3e-4 |") == 2 and "old" not in written and "sampling" not in written
    assert "@500 scaled" in written.split("words")[1] and "@500 scaled" not in written.split("words")[0]
    assert page.write_tables(written) == written
    for seed in protocol.SEEDS:
        figures = finish(protocol, folders, "vaediff-generator", "3e-4", seed, 0.2)
        own = dict.fromkeys([*page.GENERATOR_COLUMNS.values(), "seconds", "peak_mib"], 0.25)
        figures.write_text(json.dumps(json.loads(figures.read_text()) | own))
    protocol.record(folders)
    protocol.recorded.cache_clear()
    generators = page.write_tables(mark.format("", "old").replace("incomplete", "generators"))
    assert "from real pairs" in generators and "| vaediff-generator | 3e-4 | 25.0 ± 0.0 |" in generators
    assert page.write_tables(text.replace("\nold\n\n", "")) == written, "from places that are still empty"
    for seed, more in zip((14, 15), (0.0, 0.2), strict=True):
        figures = finish(protocol, folders, "paee", "3e-4", seed, 0.2)
        pruned = [
            {"threshold": threshold, "classified": threshold + more, "f1": 0.5 + more, "recall": 0.25}
            for threshold in (0.3, 0.01)
        ]
        figures.write_text(json.dumps(json.loads(figures.read_text()) | {"f1": 0.75, "recall": 0.5, "pruned": pruned}))
    empty = mark.format("", "old").replace("incomplete", "pruning")
    assert page.write_tables(empty) == empty
    protocol.record(folders)
    protocol.recorded.cache_clear()
    lines = page.write_tables(empty).splitlines()
    assert lines[4:7] == [
        "| nothing | 100.0 ± 0.0 | 75.0 ± 0.0 | 50.0 ± 0.0 |",
        "| 0.01 | 11.0 ± 14.1 | 60.0 ± 14.1 | 25.0 ± 0.0 |",
        "| 0.3 | 40.0 ± 14.1 | 60.0 ± 14.1 | 25.0 ± 0.0 |",
    ]
    none = mark.format("", "old").replace("incomplete", "tuned")
    assert page.write_tables(none) == none
    for name, seeds in (("vaediff", protocol.SEEDS), ("vaediff-gaussian", (14, 15))):
        for seed in seeds:
            figures = finish(protocol, folders, name, "3e-4", seed, 0.2)
            tuned = {name: seed / 100 for name in protocol.TUNED.values()}
            figures.write_text(json.dumps(json.loads(figures.read_text()) | {"tuned": tuned}))
        protocol.record(folders)
        protocol.recorded.cache_clear()
        lines = page.write_tables(none).splitlines()
        assert lines[2] == "| method | probability | F1 | precision | recall | frequent F1 | long-tail F1 | macro F1 |"
        mean = "14.0 ± 1.0" if len(seeds) == 3 else "14.5 ± 0.7"
        assert lines[4] == f"| vaediff |{f' {mean} |' * 7}"
    assert lines[5] == f"| vaediff-gaussian |{' 14.5 ± 0.7 |' * 7}" and not lines[6]


def test_the_tables_of_the_results_page_are_those_of_the_record(repository, monkeypatch):
    monkeypatch.syspath_prepend(repository / "benchmarks")
    page = importlib.import_module("results_page")
    text = page.PAGE.read_text(encoding="utf-8")
    assert page.write_tables(text) == text
    # The first table is older than the record: what is in both has the same figures there.
    figures: dict[str, set[tuple[str, ...]]] = {}
    for table in tables(text):
        for row in table:
            if "Ign F1" in row and "rate" in row:
                columns = ("rate", *list(page.COLUMNS))
                figures.setdefault(row["method"], set()).add(tuple(row[column] for column in columns))
    assert len(figures) > 20 and {len(found) for found in figures.values()} == {1}


@pytest.mark.parametrize("change", [{"overrides": ["--model.method=atlop"]}, {"recipe": "0"}, {"recipe": None}])
def test_figures_of_another_recipe_are_refused(protocol, tmp_path, monkeypatch, change):
    folders = protocol.Folders(tmp_path, tmp_path)
    atlop = protocol.ROWS[0]
    figures = finish(protocol, folders, "atlop", "1e-3", 13, 0.5)
    monkeypatch.setattr(protocol.subprocess, "Popen", lambda *_, **__: pytest.fail("it is done"))
    assert protocol.run(folders, atlop, "1e-3", 13)["f1"] == 0.5
    content = json.loads(figures.read_text()) | change
    figures.write_text(json.dumps({name: value for name, value in content.items() if value is not None}))
    with pytest.raises(
        SystemExit, match=rf"figures\.json was made with another recipe.*{next(iter(change))}.*--output"
    ):
        protocol.run(folders, atlop, "1e-3", 13)


def test_the_digest_is_of_what_the_recipe_says(protocol, tmp_path, monkeypatch):
    base = Path(protocol.RECIPE).read_text()
    (tmp_path / "base.yaml").write_text(base)
    recipe = tmp_path / "recipe.yaml"
    monkeypatch.setattr(protocol, "RECIPE", recipe)

    def digest(text):
        recipe.write_text(text)
        protocol.recipe_digest.cache_clear()
        return protocol.recipe_digest(protocol.RECIPE)

    own = digest(base)
    assert digest("# More to say.\n" + base) == own == digest("extends: base.yaml\n")
    assert digest(base.replace("num_train_epochs: 8", "num_train_epochs: 9")) != own
    (tmp_path / "base.yaml").write_text(base.replace("num_train_epochs: 8", "num_train_epochs: 9"))
    assert digest("extends: base.yaml\n") != own
    protocol.recipe_digest.cache_clear()


def test_pairs_are_left_out_and_scored_below_each_probability(protocol, tmp_path, tiny_bert_dir, monkeypatch):
    monkeypatch.setattr(protocol, "TRAINING", slice(0, 2))
    monkeypatch.setattr(protocol, "SCORED", slice(2, 6))
    (tmp_path / "re-docred").mkdir()
    stories = [fictional(number) for number in range(6)]
    (tmp_path / "re-docred" / "dev_revised.json").write_text(json.dumps(stories))
    model, processor = make(tiny_bert_dir, method="paee", unet_width=4, unet_outputs=6, entity_encoder_heads=2)
    model.set_class_bias(torch.tensor([0.0, 9.0, 9.0, 9.0]))
    for part in (model, processor):
        part.save_pretrained(tmp_path / "model")
    folders = protocol.Folders(tmp_path, tmp_path)
    found = [protocol.score_pruned(folders, tmp_path / "model", threshold) for threshold in (0.0, 0.999)]
    assert [one["classified"] for one in found] == [1.0, 0.0]
    assert found[0]["recall"] > 0.5 and found[1]["recall"] == found[1]["f1"] == 0.0
    assert found[0]["f1"] == pytest.approx(protocol.score(folders, tmp_path / "model", slice(2, 6))["f1"])


def test_the_one_probability_is_the_best_on_the_validation_documents(protocol, tmp_path, tiny_bert_dir, monkeypatch):
    for name, part in (("TRAINING", slice(0, 2)), ("VALIDATION", slice(2, 8)), ("SCORED", slice(8, 14))):
        monkeypatch.setattr(protocol, name, part)
    (tmp_path / "re-docred").mkdir()
    stories = [fictional(number) for number in range(14)]
    (tmp_path / "re-docred" / "dev_revised.json").write_text(json.dumps(stories))
    model, processor = make(tiny_bert_dir, method="atlop")
    for part in (model, processor):
        part.save_pretrained(tmp_path / "model")
    folders = protocol.Folders(tmp_path, tmp_path)
    tuned = protocol.score_tuned(folders, tmp_path / "model")
    assert tuned.keys() == set(protocol.TUNED.values()) and protocol.LOWEST < tuned["threshold"] < 1.0
    scores = {
        threshold: protocol.score(folders, tmp_path / "model", slice(2, 8), threshold=threshold)["f1"]
        for threshold in (tuned["threshold"], *(number / 20 for number in range(1, 20)))
    }
    assert scores[tuned["threshold"]] == max(scores.values()) > min(scores.values())
    own = protocol.score(folders, tmp_path / "model", slice(8, 14), threshold=tuned["threshold"])
    assert tuned["f1"] == own["f1"] and tuned["macro_f1"] == own["macro_f1"]
