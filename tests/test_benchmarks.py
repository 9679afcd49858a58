"""The benchmarks run and print their tables; no figure is held to a value, since machines differ."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys

import pytest
from training_helpers import fictional

from modeling_docre import DEFAULT_MODEL

SMALL = ("--models", "tiny", "--rounds", "1")
GENERATED = ("--batch", "2", "--tokens", "40", "--entities", "3,5")


@pytest.fixture
def bench(repository, tmp_path):
    """A function that runs a benchmark in a process of its own and returns what it printed."""

    def run(script: str, *arguments: object) -> str:
        ran = subprocess.run(
            [sys.executable, repository / "benchmarks" / script, *map(str, arguments)],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
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


def test_profile_names_every_part(bench):
    first, second = tables(bench("profile_model.py", *SMALL, *GENERATED))
    for table in (first, second):
        parts = [row["part"] for row in table]
        assert parts[0] == "encoder" and parts[-2:] == ["the rest", "whole model"]
        assert {"attention rows", "localized context", "bilinear", "loss"} < set(parts)
        assert table[0]["to the encoder"] == table[0]["both to the encoder"] == "1.000"
        bilinear = next(row for row in table if row["part"] == "bilinear")
        assert float(bilinear["training forward, ms"]) > 0 and float(bilinear["backward, ms"]) > 0


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
