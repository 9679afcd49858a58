"""Compare methods under the small protocol: train, score, print a table.

    pip install -e '.[train-default]'
    DOCRE_DATA=data python benchmarks/small_protocol.py --output runs/small

DOCRE_DATA holds docred/ and re-docred/. A method is four runs and an ablation three, one after the other: of some
seven minutes of one core with the bilinear head, 15 to 25 with tables of entities, and 3 GB of memory. Rows with a
stage before them, or with folds, take that for each. Distant labels are those that the facts of the training documents
give to the 1,000 documents of DocRED's test split, which come without labels.

Every method had the same two trials, the learning rates of its head in `TRIALS`, with seed 13; the better one stands
in its row (`protocol_rows.py`). Where a row has none yet, both are run. An ablation takes over the rate of its method.
Which trial is better, and the one probability of `atlop-bce` and `atlop-tuned`, is decided on the recipe's validation
documents; the figures are those of 100 others. Runs that are done are kept: called again, it goes on with those that
are missing, and refuses those that were done with other overrides or another recipe. A run that was killed begins
anew, or goes on where it has saved something, and its seconds are those of its last part. `--commands` prints what
trains each run instead. `small_protocol.jsonl` beside this file holds the figures of runs that were done, which
`--anew` does again; `--record` adds those in `--output`, and `results_page.py` writes the tables of docs/results.md
from it.
"""

from __future__ import annotations

import argparse
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
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from common import peak_memory
from protocol_rows import (
    DISTANT,
    GENERATOR,
    KEPT,
    RECIPE,
    ROWS,
    SOURCE,
    STAGE,
    STAGES,
    Row,
    method_of,
    stage_of,
    stages_of,
)

RECORD = Path(__file__).with_suffix(".jsonl")
TRIALS = ("1e-3", "3e-4")
SEEDS = (13, 14, 15)
# Probabilities of being related below which pairs are left out.
PRUNED = (0.3, 0.1, 0.03, 0.01)
# Figures with one probability for all relations, and the lowest that is looked at.
TUNED = {
    "probability": "threshold",
    "F1": "f1",
    "precision": "precision",
    "recall": "recall",
    "frequent F1": "f1_frequent",
    "long-tail F1": "f1_long_tail",
    "macro F1": "macro_f1",
}
LOWEST = 0.02
TRAINING, VALIDATION, SCORED = slice(0, 250), slice(300, 400), slice(400, 500)
COLUMNS = {
    "F1": "f1",
    "Ign F1": "ign_f1",
    "precision": "precision",
    "recall": "recall",
    "frequent F1": "f1_frequent",
    "long-tail F1": "f1_long_tail",
    "macro F1": "macro_f1",
}
# Over relations with fewer training facts than so many, and than so many of DocRED's are here.
MACRO_COLUMNS = {
    "macro F1": "macro_f1",
    **{f"@{limit}": f"macro_f1_at_{limit}" for limit in (500, 200, 100)},
    **{f"@{limit} scaled": f"macro_f1_scaled_{limit}" for limit in (500, 200, 100)},
}


class Folders(NamedTuple):
    """Where data is and results go, and whether runs of the record are done."""

    data: Path
    output: Path
    with_record: bool = True


def run(folders: Folders, row: Row, rate: str, seed: int, *, kept: bool = False) -> dict[str, Any]:
    """Train and score once, unless that is done; return the figures. With `kept` the model has to be there."""
    folder = run_folder(folders, row, rate, seed)
    done = finished(folders, row, rate, seed)
    if kept and not (folder / "model.safetensors").is_file():
        done = None
    if done is None:
        if row.stage:
            run(folders, stage_of(row), rate, seed, kept=True)
        if any(DISTANT in override for override in row.overrides):
            label_distant(folders)
        began = processor_seconds()
        # With nothing to go on from it begins.
        command = [sys.executable, "-m", "modeling_docre.cli", *training(folders, row, rate, seed), "--resume"]
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
        done = {"seconds": processor_seconds() - began, "peak_mib": peak / 2**20, **made_with(row, rate, seed)}
        if row.recipe == GENERATOR:
            done |= score_generator(folders, row, rate, seed)
        if row.predicts:
            done |= score(folders, folder, SCORED)
            done["validation_f1"] = score(folders, folder, VALIDATION)["f1"]
            if row.prunes:
                done["pruned"] = [score_pruned(folders, folder, threshold) for threshold in PRUNED]
            if row.tunes:
                done["tuned"] = score_tuned(folders, folder)
        (folder / "figures.json").write_text(json.dumps(done, indent=1))
        if row.name not in KEPT:
            (folder / "model.safetensors").unlink()
    return done


def label_distant(folders: Folders) -> Path:
    """Give labels to documents by the facts of the training documents, unless that is done; return the file."""
    target = folders.output / "distant.jsonl"
    if not target.is_file():
        annotated, facts = folders.output / "annotated.json", folders.output / "facts.jsonl"
        documents = read_documents(folders)
        annotated.write_text(json.dumps(documents[TRAINING]), encoding="utf-8")
        docre = [sys.executable, "-m", "modeling_docre.cli"]
        subprocess.run([*docre, "facts", str(annotated), "-o", str(facts)], check=True)
        unlabelled = str(folders.data / "docred" / "test.json")
        subprocess.run([*docre, "label-distant", unlabelled, "--facts", str(facts), "-o", str(target)], check=True)
    return target


def finished(folders: Folders, row: Row, rate: str, seed: int) -> dict[str, Any] | None:
    """Return the figures of a run that is done, `None` where it is not; refuse those of another recipe."""
    figures = run_folder(folders, row, rate, seed) / "figures.json"
    if figures.is_file():
        found = json.loads(figures.read_text())
        remedy = "Pass another folder, --output FOLDER."
    elif folders.with_record and (row.name, rate, seed) in recorded():
        figures, found = RECORD, recorded()[row.name, rate, seed]
        remedy = "Pass --anew to do runs of the record again."
    else:
        return None
    if row.stage:
        # What it was made from is made alike too.
        finished(folders, stage_of(row), rate, seed)
    for name, value in made_with(row, rate, seed).items():
        if found.get(name) != value:
            raise SystemExit(
                f"{figures} was made with another recipe or other overrides: its {name!r} is {found.get(name)!r}, "
                f"where this run has {value!r}. {remedy}"
            )
    return found


@functools.cache
def recorded() -> dict[tuple[str, str, int], dict[str, Any]]:
    """Return the figures of the record by row, learning rate and seed."""
    lines = [json.loads(line) for line in RECORD.read_text().splitlines()] if RECORD.is_file() else []
    return {(line["row"], line["rate"], line["seed"]): line["figures"] for line in lines}


def record(folders: Folders) -> int:
    """Add the runs that are done in the output folder to the record; return how many it holds now."""
    known = dict(recorded())
    for row in (*STAGES, *ROWS):
        for path in sorted(folders.output.glob(f"{row.name}-*e-*-*/figures.json")):
            rate, _, seed = path.parent.name.removeprefix(f"{row.name}-").rpartition("-")
            if rate in TRIALS and (figures := finished(folders, row, rate, int(seed))) is not None:
                known[row.name, rate, int(seed)] = rounded(figures)
    lines = [
        json.dumps({"row": name, "rate": rate, "seed": seed, "figures": known[name, rate, seed]})
        for name, rate, seed in sorted(known)
    ]
    RECORD.write_text("\n".join(lines) + "\n")
    return len(lines)


def rounded(value: Any) -> Any:
    """Return figures with six digits behind the point, those in lists and dicts too."""
    if isinstance(value, dict):
        return {key: rounded(part) for key, part in value.items()}
    if isinstance(value, list):
        return [rounded(part) for part in value]
    return round(value, 6) if isinstance(value, float) else value


def made_with(row: Row, rate: str, seed: int) -> dict[str, Any]:
    """Return what tells a run from others: the overrides, and the recipe with what it extends. Code and data may
    change too: then pass another folder.
    """
    return {"overrides": overrides(row, rate, seed), "recipe": recipe_digest(row.recipe)}


@functools.cache
def recipe_digest(recipe: Path) -> str:
    """Return the SHA-256 of what the recipe says, its comments apart."""
    from modeling_docre.recipe_files import as_written, load_recipe

    said = json.dumps(as_written(load_recipe(recipe)), sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()


def run_folder(folders: Folders, row: Row, rate: str, seed: int) -> Path:
    """Return where a run goes."""
    return folders.output / f"{row.name}-{rate}-{seed}"


def training(folders: Folders, row: Row, rate: str, seed: int) -> list[str]:
    """Return what `docre` is told to train a run."""
    return [
        "train",
        os.path.relpath(row.recipe),
        *(fill(folders, row, rate, seed, override) for override in overrides(row, rate, seed)),
        f"--output_dir={run_folder(folders, row, rate, seed)}",
        *([f"--training.frozen_cache_dir={folders.output / 'frozen'}"] if row.recipe == RECIPE else []),
    ]


def fill(folders: Folders, row: Row, rate: str, seed: int, override: str) -> str:
    """Put the places of this run into an override."""
    override = override.replace(DISTANT, str(folders.output / "distant.jsonl"))
    for place, stage in zip((STAGE, SOURCE), reversed(stages_of(row)), strict=False):
        override = override.replace(place, str(run_folder(folders, stage, rate, seed)))
    return override


def overrides(row: Row, rate: str, seed: int) -> list[str]:
    """Return the changes of the recipe that make a run."""
    # The rate is that of a head. A generator has the published ones.
    of_head = [f"--training.head_learning_rate={rate}"] if row.recipe == RECIPE else []
    return [*row.overrides, *of_head, f"--training.seed={seed}"]


def processor_seconds() -> float:
    """Return the processor time of the runs that have ended, which other work on the machine changes little."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def read_documents(folders: Folders) -> list[dict[str, Any]]:
    """Read the documents of which parts are trained on, chosen by and scored."""
    documents: list[dict[str, Any]] = json.loads((folders.data / "re-docred" / "dev_revised.json").read_text("utf-8"))
    return documents


def without_labels(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the documents as whoever has to find their relations gets them."""
    return [{key: value for key, value in document.items() if key != "labels"} for document in documents]


def score(folders: Folders, model: Path, part: slice, **settings: Any) -> dict[str, float]:
    """Score the relations that the pipeline finds in a part of the documents, with other settings of the model."""
    from transformers import pipeline

    from modeling_docre.metrics.docred.scoring import score as score_docred

    documents = read_documents(folders)
    extract = pipeline("docre", model=str(model))
    extract.model.config.update(settings)
    plain = without_labels(documents[part])
    found = [
        {"title": document["title"], "h_idx": relation["head"], "t_idx": relation["tail"], "r": relation["relation"]}
        for document, answer in zip(plain, extract(plain), strict=True)
        for relation in answer["relations"]
    ]
    figures = score_docred(found, documents[part], train_annotated=documents[TRAINING])
    return {name: value for name, value in figures.items() if not name.startswith("relation/")}


def score_tuned(folders: Folders, model: Path) -> dict[str, float]:
    """Score what is found with the one probability for all relations that is best on the validation documents."""
    import torch
    from transformers import pipeline

    from modeling_docre.decisions import best_threshold

    documents = read_documents(folders)[VALIDATION]
    gold = [{(label["h"], label["t"], label["r"]) for label in document["labels"]} for document in documents]
    answers = pipeline("docre", model=str(model))(without_labels(documents), threshold=LOWEST)
    found = [
        (relation["score"], (relation["head"], relation["tail"], relation["relation"]) in facts)
        for facts, answer in zip(gold, answers, strict=True)
        for relation in answer["relations"]
    ]
    scores, is_correct = torch.tensor(found).reshape(-1, 2).unbind(1)
    threshold, _ = best_threshold(scores, is_correct, sum(map(len, gold)))
    figures = {**score(folders, model, SCORED, threshold=threshold), "threshold": threshold}
    return {name: figures[name] for name in TUNED.values()}


def score_pruned(folders: Folders, model: Path, threshold: float) -> dict[str, float]:
    """Score what is found where pairs below a probability are left out, and say which share is classified."""
    found = score(folders, model, SCORED, prune_threshold=threshold)
    share = (potential_pairs(folders, model) > threshold).float().mean().item()
    return {"threshold": threshold, "classified": share, "f1": found["f1"], "recall": found["recall"]}


@functools.cache
def potential_pairs(folders: Folders, model: Path) -> Any:
    """Return the probabilities, `(num_pairs,)`, that pairs of the scored documents are related."""
    import torch

    from modeling_docre import DocREForRelationExtraction, DocREProcessor

    loaded, processor = DocREForRelationExtraction.from_pretrained(model), DocREProcessor.from_pretrained(model)
    chances = []
    for document in without_labels(read_documents(folders)[SCORED]):
        batch = processor.collate(processor([document]))
        with torch.inference_mode():
            chances.append(loaded(**batch).potential_pairs)
    return torch.cat(chances)


def score_generator(folders: Folders, row: Row, rate: str, seed: int) -> dict[str, float]:
    """Say what a classifier learns of generated pair embeddings, and of real ones, for the scored documents."""
    from modeling_docre import DocREForRelationExtraction, DocREProcessor, VaeDiffModel
    from modeling_docre.data_files import iter_documents
    from modeling_docre.generator_quality import score_generator
    from modeling_docre.pair_embeddings import PairEmbeddingStore, store_pair_embeddings
    from modeling_docre.recipe_generator import EMBEDDINGS

    folder, source = run_folder(folders, row, rate, seed), run_folder(folders, stage_of(row), rate, seed)
    documents = list(iter_documents(folders.data / "re-docred" / "dev_revised.json"))[SCORED]
    parts = DocREForRelationExtraction.from_pretrained(source), DocREProcessor.from_pretrained(source)
    held_out = store_pair_embeddings(*parts, documents, folder / "held_out_pair_embeddings")
    generator = VaeDiffModel.from_pretrained(folder)
    return score_generator(generator, PairEmbeddingStore(folder / EMBEDDINGS), held_out, seed=seed)


def rates(folders: Folders, row: Row) -> tuple[str, ...]:
    """Return the learning rate of a row, or those of the trials of its method where they are not all done."""
    decider = method_of(row)
    if decider.rate:
        return (decider.rate,)
    trials = {rate: finished(folders, decider, rate, SEEDS[0]) for rate in TRIALS}
    done = {rate: figures["validation_f1"] for rate, figures in trials.items() if figures is not None}
    return (max(done, key=lambda rate: done[rate]),) if len(done) == len(TRIALS) else TRIALS


def commands(folders: Folders, rows: list[Row], seeds: list[int]) -> list[str]:
    """Return the commands that train the runs of each row, below its name."""
    lines: list[str] = []
    for row in dict.fromkeys(one for wanted in rows for one in (*stages_of(wanted), wanted)):
        runs = [
            shlex.join(["docre", *training(folders, row, rate, seed)])
            for rate in rates(folders, row)
            for seed in seeds
        ]
        lines += [f"# {row.name}", *(f"OMP_NUM_THREADS=1 {command}" for command in runs)]
    return lines


def compare(folders: Folders, rows: list[Row], seeds: list[int], columns: Mapping[str, str]) -> str:
    """Run what is missing; return the table with some columns, figures by their names there."""
    lines: list[str] = []
    for row in rows:
        trials = rates(folders, row)
        for rate in trials if len(trials) > 1 else ():
            run(folders, method_of(row), rate, SEEDS[0])
        (rate,) = rates(folders, row)
        runs = [run(folders, row, rate, seed) for seed in seeds]
        cells = [spread([100 * found[figure] for found in runs]) for figure in columns.values()]
        cost = [
            f"{statistics.mean(found['seconds'] for found in runs):.0f}",
            f"{max(found['peak_mib'] for found in runs):,.0f}",
        ]
        lines.append(f"| {' | '.join([row.name, rate, *cells, *cost])} |")
        print(lines[-1], file=sys.stderr, flush=True)
    head = f"| {' | '.join(['method', 'rate', *columns, 'CPU seconds', 'MiB'])} |"
    return "\n".join([head, "| --- | ---: |" + " ---: |" * (len(columns) + 2), *lines])


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
    parser.add_argument("--macro", action="store_true", help="print macro F1 over rare relations instead")
    parser.add_argument("--anew", action="store_true", help="do runs of the record again")
    parser.add_argument("--record", action="store_true", help="add the runs in --output to the record instead")
    options = parser.parse_args()
    folders = Folders(Path(os.environ.get("DOCRE_DATA", "")), options.output, not options.anew)
    rows = [row for row in ROWS if options.rows is None or row.name in options.rows]
    if options.commands:
        print("\n".join(commands(folders, rows, options.seeds)))
        return
    if options.record:
        print(f"{RECORD}: {record(folders)} runs")
        return
    if "DOCRE_DATA" not in os.environ:
        parser.error("DOCRE_DATA is not set: export DOCRE_DATA=FOLDER, which holds re-docred/ and docred/")
    folders.output.mkdir(parents=True, exist_ok=True)
    print(compare(folders, rows, options.seeds, MACRO_COLUMNS if options.macro else COLUMNS))


if __name__ == "__main__":
    main()
