"""Compare methods under the small protocol: train, score, print a table.

    pip install -e '.[train-default]'
    DOCRE_DATA=data python benchmarks/small_protocol.py --output runs/small

DOCRE_DATA holds docred/ and re-docred/. A method is four runs and an ablation three, one after the other: of some
seven minutes of one core with the bilinear head, 20 to 30 with tables of entities, and 3 GB of memory.

Every method has the same two trials, the learning rates of its head in `TRIALS`, with the first seed; the better one
runs with the other seeds. An ablation takes over the rate of its method. Which trial is better, and the one
probability of `atlop-bce`, is decided on the recipe's validation documents; the figures are those of 100 others. Runs
that are done are kept: called again, it goes on with those that are missing, and refuses those that were done with
other overrides or another recipe. `--commands` prints what trains each run instead, with the better rate alone where
its trials are done in `--output`.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import hashlib
import json
import os
import resource
import shlex
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from common import peak_memory

RECIPE = Path(__file__).resolve().parents[1] / "recipes" / "protocols" / "small.yaml"
TRIALS = ("1e-3", "3e-4")
SEEDS = (13, 14, 15)
TRAINING, VALIDATION, SCORED = slice(0, 250), slice(300, 400), slice(400, 500)


# Relations to augment: those with fewer facts than 500 of DocRED's are here.
FEW_FACTS = ("--training.era_max_facts=500", "--training.era_scale_facts=true")


class Row(NamedTuple):
    """A row of the table: overrides of the recipe, and the row whose learning rate it takes over."""

    name: str
    overrides: tuple[str, ...]
    rate_of: str = ""


def method(name: str, *overrides: str) -> Row:
    """Make the row of a method."""
    return Row(name, (f"--model.method={name}", *overrides))


ROWS = (
    method("atlop"),
    method("atlop-bce", "--training.tune_threshold=true"),
    method("ncrl"),
    Row("ncrl-shift", ("--model.method=ncrl", "--model.loss_arguments={shift: 0.05}"), "ncrl"),
    method(
        "pemscl",
        "--model.contrastive_weight=0.1",
        "--model.contrastive_arguments={temperature: 0.2}",
    ),
    Row(
        "pemscl-no-entropy",
        (
            "--model.method=pemscl",
            "--model.contrastive_weight=0.1",
            "--model.contrastive_arguments={temperature: 0.2}",
            "--model.loss_arguments={entropy: false}",
        ),
        "pemscl",
    ),
    Row("pemscl-no-contrastive-loss", ("--model.method=pemscl", "--model.contrastive_weight=0.0"), "pemscl"),
    Row(
        "pemscl-neither",
        ("--model.method=pemscl", "--model.contrastive_weight=0.0", "--model.loss_arguments={entropy: false}"),
        "pemscl",
    ),
    method("kd-docre"),
    Row("kd-docre-no-axial-attention", ("--model.method=kd-docre", "--model.axial_layers=0"), "kd-docre"),
    Row("kd-docre-atl-for-afl", ("--model.method=kd-docre", "--model.loss=atl"), "kd-docre"),
    method("docunet"),
    method("era", *FEW_FACTS),
    Row("era-no-augmentation", ("--model.method=era", "--model.era_copies=0"), "era"),
    Row("atlop-deletion", ("--model.method=atlop", "--training.text_augmentation=deletion", *FEW_FACTS), "atlop"),
    Row("atlop-mask", ("--model.method=atlop", "--training.text_augmentation=mask", *FEW_FACTS), "atlop"),
    Row("atlop-afl", ("--model.method=atlop", "--model.loss=afl"), "atlop"),
)


class Folders(NamedTuple):
    """Where data is and results go."""

    data: Path
    output: Path


def run(folders: Folders, row: Row, rate: str, seed: int) -> dict[str, Any]:
    """Train and score once, unless that is done; return the figures."""
    folder = run_folder(folders, row, rate, seed)
    done = finished(folders, row, rate, seed)
    if done is None:
        began = processor_seconds()
        command = [sys.executable, "-m", "modeling_docre.cli", *training(folders, row, rate, seed)]
        log = folders.output / f"{folder.name}.log"
        with log.open("w") as stream:
            environment = os.environ | {"DOCRE_DATA": str(folders.data), "OMP_NUM_THREADS": "1"}
            process = subprocess.Popen(command, stdout=stream, stderr=stream, env=environment)
            peak = 0
            while process.poll() is None:
                peak = max(peak, peak_memory(process.pid))
                time.sleep(0.5)
        if process.returncode:
            raise SystemExit(f"{' '.join(command)} failed; see {log}.")
        done = {"seconds": processor_seconds() - began, "peak_mib": peak / 2**20, **score(folders, folder, SCORED)}
        done["validation_f1"] = score(folders, folder, VALIDATION)["f1"]
        done |= made_with(row, rate, seed)
        (folder / "figures.json").write_text(json.dumps(done, indent=1))
        (folder / "model.safetensors").unlink()
    return done


def finished(folders: Folders, row: Row, rate: str, seed: int) -> dict[str, Any] | None:
    """Return the figures of a run that is done, `None` where it is not; refuse those of another recipe."""
    figures = run_folder(folders, row, rate, seed) / "figures.json"
    if not figures.is_file():
        return None
    found = json.loads(figures.read_text())
    for name, value in made_with(row, rate, seed).items():
        if found.get(name) != value:
            raise SystemExit(
                f"{figures} was made with another recipe or other overrides: its {name!r} is {found.get(name)!r}, "
                f"where this run has {value!r}. Pass another folder, --output FOLDER."
            )
    return found


def made_with(row: Row, rate: str, seed: int) -> dict[str, Any]:
    """Return what tells a run from others: the overrides, and the recipe with what it extends. Code and data may
    change too: then pass another folder.
    """
    return {"overrides": overrides(row, rate, seed), "recipe": recipe_digest()}


@functools.cache
def recipe_digest() -> str:
    """Return the SHA-256 of what the recipe says, its comments apart."""
    from modeling_docre.recipes import load_recipe

    recipe = dataclasses.asdict(load_recipe(RECIPE))
    del recipe["after"]
    said = json.dumps(recipe, sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()


def run_folder(folders: Folders, row: Row, rate: str, seed: int) -> Path:
    """Return where a run goes."""
    return folders.output / f"{row.name}-{rate}-{seed}"


def training(folders: Folders, row: Row, rate: str, seed: int) -> list[str]:
    """Return what `docre` is told to train a run."""
    return [
        "train",
        os.path.relpath(RECIPE),
        *overrides(row, rate, seed),
        f"--output_dir={run_folder(folders, row, rate, seed)}",
        f"--training.frozen_cache_dir={folders.output / 'frozen'}",
    ]


def overrides(row: Row, rate: str, seed: int) -> list[str]:
    """Return the changes of the recipe that make a run."""
    return [*row.overrides, f"--training.head_learning_rate={rate}", f"--training.seed={seed}"]


def processor_seconds() -> float:
    """Return the processor time of the runs that have ended, which other work on the machine changes little."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def score(folders: Folders, model: Path, part: slice) -> dict[str, float]:
    """Score the relations that the pipeline finds in a part of the documents."""
    from transformers import pipeline

    from modeling_docre.metrics.docred.scoring import score as score_docred

    documents = json.loads((folders.data / "re-docred" / "dev_revised.json").read_text(encoding="utf-8"))
    extract = pipeline("docre", model=str(model))
    plain = [{key: value for key, value in document.items() if key != "labels"} for document in documents[part]]
    found = [
        {"title": document["title"], "h_idx": relation["head"], "t_idx": relation["tail"], "r": relation["relation"]}
        for document, answer in zip(plain, extract(plain), strict=True)
        for relation in answer["relations"]
    ]
    figures = score_docred(found, documents[part], train_annotated=documents[TRAINING])
    return {name: value for name, value in figures.items() if not name.startswith("relation/")}


def method_of(row: Row) -> Row:
    """Return the row whose trials decide on the learning rate."""
    return next((other for other in ROWS if other.name == row.rate_of), row)


def commands(folders: Folders, rows: list[Row], seeds: list[int]) -> list[str]:
    """Return the commands that train the runs of each row, below its name."""
    lines: list[str] = []
    for row in rows:
        trials = {rate: finished(folders, method_of(row), rate, seeds[0]) for rate in TRIALS}
        done = {rate: figures["validation_f1"] for rate, figures in trials.items() if figures is not None}
        rates = [max(done, key=lambda rate: done[rate])] if len(done) == len(TRIALS) else TRIALS
        runs = [shlex.join(["docre", *training(folders, row, rate, seed)]) for rate in rates for seed in seeds]
        lines += [f"# {row.name}", *(f"OMP_NUM_THREADS=1 {command}" for command in runs)]
    return lines


def compare(folders: Folders, rows: list[Row], seeds: list[int]) -> None:
    """Run what is missing, and print the table."""
    columns = ("f1", "ign_f1", "precision", "recall", "f1_frequent", "f1_long_tail", "macro_f1")
    names = ("F1", "Ign F1", "precision", "recall", "frequent F1", "long-tail F1", "macro F1")
    lines: list[str] = []
    for row in rows:
        scores = {trial: run(folders, method_of(row), trial, seeds[0])["validation_f1"] for trial in TRIALS}
        rate = max(scores, key=lambda trial: scores[trial])
        runs = [run(folders, row, rate, seed) for seed in seeds]
        cells = [spread([100 * found[column] for found in runs]) for column in columns]
        cost = [
            f"{statistics.mean(found['seconds'] for found in runs):.0f}",
            f"{max(found['peak_mib'] for found in runs):,.0f}",
        ]
        lines.append(f"| {' | '.join([row.name, rate, *cells, *cost])} |")
        print(lines[-1], file=sys.stderr, flush=True)
    print(f"| {' | '.join(['method', 'rate', *names, 'CPU seconds', 'MiB'])} |")
    print("| --- | ---: |" + " ---: |" * (len(columns) + 2))
    print("\n".join(lines))


def spread(values: list[float]) -> str:
    """Write mean and standard deviation."""
    return f"{statistics.mean(values):.1f}" + (f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else "")


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs/small"), help="runs/small without it")
    parser.add_argument("--rows", nargs="+", choices=[row.name for row in ROWS], help="all without it")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS), help="13 14 15 without it")
    parser.add_argument("--commands", action="store_true", help="print what trains each run instead")
    options = parser.parse_args()
    folders = Folders(Path(os.environ.get("DOCRE_DATA", "")), options.output)
    rows = [row for row in ROWS if options.rows is None or row.name in options.rows]
    if options.commands:
        print("\n".join(commands(folders, rows, options.seeds)))
        return
    if "DOCRE_DATA" not in os.environ:
        parser.error("DOCRE_DATA is not set: export DOCRE_DATA=FOLDER, which holds re-docred/ and docred/")
    folders.output.mkdir(parents=True, exist_ok=True)
    compare(folders, rows, options.seeds)


if __name__ == "__main__":
    main()
