"""Sweep the rate of negative labels on incomplete training labels: train, score, draw F1 over the rate.

    DOCRE_DATA=data python benchmarks/sampling_rates.py incomplete-oog --output runs/sampling

The rate is the part of the negative labels that the loss of a pair without relations keeps (`negative_label_rate`):
PEMSCL's figures 2 (regime OOG, where incomplete labels choose the epoch) and 4 (OGG, where clean ones do). Lines are
ATLOP with the loss `atl` and PEMSCL with `pmt`; each set of labels that is scored has a panel. A point is a training
by its recipe. `OUTPUT/REGIME.json` and `.png` are written anew after every point: called again, the sweep goes on with
the points that are missing, and a training that was killed goes on from its last checkpoint. `--changes` are made to
the recipes of all points, and none to what is scored, which lies in DOCRE_DATA; points of another recipe are refused.

regime            trains on                                        scores on
incomplete-*      250 documents without 70% of their labels        100 others of Re-DocRED's development split
dev51-*           40 documents with DocRED's original labels       the 11 that choose the epoch: there are no others
docred-*          DocRED, from RoBERTa-large: needs a GPU          the development and test documents of Re-DocRED
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import importlib.util
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

RECIPES = Path(__file__).resolve().parents[1] / "recipes"
RATES = (0.05, 0.1, 0.2, 0.4, 0.7, 1.0)
SEEDS = (13,)
LOSSES = ("atl", "pmt")
FIGURES = ("f1", "precision", "recall")


class Regime(NamedTuple):
    """What is trained for each loss, a recipe and its changes; and what is scored, entries of a recipe's `data`."""

    runs: dict[str, tuple[str, ...]]
    scored: dict[str, dict[str, Any]]


def _regimes() -> dict[str, Regime]:
    revised, original = "${DOCRE_DATA}/re-docred/dev_revised.json", "${DOCRE_DATA}/docred/dev.json"
    last = {"path": revised, "documents": "400:500"}
    annotators = {name: f"${{DOCRE_DATA}}/docred/dev51_{name}_labels.json" for name in ("original", "scratch")}
    pemscl = ("model.method=pemscl", "model.contrastive_weight=0.1", "model.contrastive_arguments={temperature: 0.2}")
    found = {}
    for kind in ("oog", "ogg"):
        recipe = f"protocols/incomplete-{kind}.yaml"
        found[f"incomplete-{kind}"] = Regime(
            {"atl": (recipe, "--model.method=atlop"), "pmt": (recipe, *(f"--{change}" for change in pemscl))},
            {"incomplete labels": {**last, "drop_labels": 0.7, "seed": 13}, "clean labels": last},
        )
        found[f"dev51-{kind}"] = Regime(
            {"atl": (f"docred/atlop-{kind}-minilm.yaml",), "pmt": (f"docred/pemscl-{kind}-minilm.yaml",)},
            {f"{name} labels": {"path": path, "titles": last} for name, path in annotators.items()},
        )
        found[f"docred-{kind}"] = Regime(
            {
                "atl": (f"docred/atlop-{kind}-roberta-large.yaml",),
                "pmt": (f"docred/pemscl-{kind}-roberta-large.yaml",),
            },
            {
                "original dev": {"path": original, "titles": revised},
                "gold dev": {"path": revised},
                "gold test": {"path": "${DOCRE_DATA}/re-docred/test_revised.json"},
            },
        )
    return found


REGIMES = _regimes()


class Point(NamedTuple):
    """A training of the sweep."""

    loss: str
    rate: float
    seed: int

    @property
    def name(self) -> str:
        """What its folder is called."""
        return f"{self.loss}-{self.rate:g}-{self.seed}"


class Sweep:
    """The points of a regime, with the file that keeps those that are done.

    Args:
        name (`str`): The regime.
        output (`Path`): Folder of the results, and of a folder for each training.
        changes (`list[str]`): Of the recipes of all points.
    """

    def __init__(self, name: str, output: Path, changes: list[str]) -> None:
        self.name, self.output, self.changes = name, output, changes
        self.regime = REGIMES[name]
        self.file = output / f"{name}.json"
        self.picture = output / f"{name}.png"
        rows = json.loads(self.file.read_text())["points"] if self.file.is_file() else []
        self.done = {Point(row["loss"], row["rate"], row["seed"]): row for row in rows}

    def run(self, points: list[Point]) -> None:
        """Run the points that are missing, and draw after each."""
        for point in points:
            self.check(point)
        for point in points:
            if point not in self.done:
                self.train(point)
                self.done[point] = {**point._asdict(), "recipe": self.digest(point), "scores": self.score(point)}
                self.write()
                discard_weights(self.folder(point))
        self.write()

    def check(self, point: Point) -> None:
        """Refuse a point, or one half done, that was made with another recipe."""
        from modeling_docre.recipes import load_recipe

        written = self.folder(point) / "recipe.yaml"
        begun = point not in self.done and written.is_file() and load_recipe(written) != self.recipe(point)
        if begun or (point in self.done and self.done[point]["recipe"] != self.digest(point)):
            raise SystemExit(
                f"{written.parent if begun else self.file}: {point.name} was made with another recipe, other changes "
                "or other labels to score. Pass another folder, --output FOLDER."
            )

    def train(self, point: Point) -> None:
        """Train, or go on where a training was killed."""
        folder = self.folder(point)
        # With nothing to go on from it begins.
        arguments = ["train", *self.arguments(point), "--resume"]
        command = [sys.executable, "-m", "modeling_docre.cli", *arguments]
        log = folder.with_name(f"{folder.name}.log")
        log.parent.mkdir(parents=True, exist_ok=True)
        print(shlex.join(["docre", *arguments]), file=sys.stderr, flush=True)
        with log.open("a") as stream:
            ran = subprocess.run(command, stdout=stream, stderr=stream)
        if ran.returncode:
            raise SystemExit(f"The training of {point.name} failed; see {log}.")

    def arguments(self, point: Point) -> list[str]:
        """Return the recipe of a point, and its changes."""
        recipe, *changes = self.regime.runs[point.loss]
        return [
            os.path.relpath(RECIPES / recipe),
            *changes,
            f"--model.loss_arguments={{negative_label_rate: {point.rate!r}}}",
            f"--training.seed={point.seed}",
            *self.changes,
            f"--output_dir={self.folder(point)}",
        ]

    def folder(self, point: Point) -> Path:
        """Return where the training of a point goes."""
        return self.output / self.name / point.name

    def recipe(self, point: Point) -> Any:
        """Return the recipe of a point with its changes."""
        from modeling_docre.recipes import load_recipe

        path, *changes = self.arguments(point)
        return load_recipe(path, changes)

    def digest(self, point: Point) -> str:
        """Return the SHA-256 of what the recipe of a point says, but for its folder, and of what is scored."""
        from modeling_docre.recipe_files import as_written

        said = {**as_written(self.recipe(point)), "output_dir": None, "scored": self.regime.scored}
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()

    def score(self, point: Point) -> dict[str, dict[str, float]]:
        """Score the relations that the model of a point finds, against each set of labels."""
        from modeling_docre.extraction import load_pipeline
        from modeling_docre.metrics.docred.scoring import score
        from modeling_docre.recipe_data import read_entry

        extract = load_pipeline(str(self.folder(point)))
        scores = {}
        answers: dict[Any, Any] = {}
        for name, entry in self.regime.scored.items():
            documents = read_entry(entry, name)
            plain = [dataclasses.replace(document, relations=None) for document in documents]
            # Sets of labels of the same documents share the answers.
            new = [document for document in plain if document not in answers]
            answers.update(zip(new, extract(new), strict=True))
            rows = [
                {"title": document.title, "h_idx": found["head"], "t_idx": found["tail"], "r": found["relation"]}
                for document in plain
                for found in answers[document]["relations"]
            ]
            figures = score(rows, [document.to_docred() for document in documents])
            scores[name] = {figure: figures[figure] for figure in FIGURES}
        return scores

    def write(self) -> None:
        """Write the points that are done, and draw them."""
        from modeling_docre.output_files import open_output
        from modeling_docre.plot_runs import plot_sampling

        rows = [self.done[point] for point in sorted(self.done)]
        with open_output(self.file) as stream:
            json.dump({"regime": self.name, "points": rows}, stream, indent=1)
        plot_sampling(rows, self.picture)


def discard_weights(folder: Path) -> None:
    """Remove what a point that is scored needs no more."""
    for path in folder.glob("checkpoint-*"):
        shutil.rmtree(path)
    (folder / "model.safetensors").unlink(missing_ok=True)


def print_table(name: str, rows: list[dict[str, Any]]) -> None:
    """Print the points as a table."""
    from modeling_docre.plot_data import sampling_lines

    panels = list(REGIMES[name].scored)
    print(f"| loss | rate | seeds | {' | '.join(f'F1, {labels}' for labels in panels)} |")
    print("| --- | ---: | ---: |" + " ---: |" * len(panels))
    columns = [sampling_lines(rows, labels) for labels in panels]
    for loss in columns[0]:
        for number, (rate, *_) in enumerate(columns[0][loss]):
            seeds = sum(row["loss"] == loss and row["rate"] == rate for row in rows)
            found = [column[loss][number] for column in columns]
            cells = [f"{mean:.1f}" + (f" ± {spread:.1f}" if seeds > 1 else "") for _, mean, spread in found]
            print(f"| {loss} | {rate:g} | {seeds} | {' | '.join(cells)} |")


def main(arguments: list[str] | None = None) -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("regime", choices=REGIMES)
    parser.add_argument("--output", type=Path, default=Path("runs/sampling"))
    parser.add_argument("--rates", type=float, nargs="+", default=list(RATES), help="default: %(default)s")
    parser.add_argument("--losses", nargs="+", choices=LOSSES, default=list(LOSSES))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS), help="default: %(default)s")
    parser.add_argument(
        "--changes", nargs="+", default=[], metavar="NAME=VALUE", help="of the recipes: training.num_train_epochs=3"
    )
    options = parser.parse_args(arguments)
    if not all(0.0 <= rate <= 1.0 for rate in options.rates):
        parser.error("--rates are parts of the labels, from 0 to 1")
    if "DOCRE_DATA" not in os.environ:
        parser.error("DOCRE_DATA is not set: export DOCRE_DATA=FOLDER, which holds re-docred/ and docred/")
    if importlib.util.find_spec("matplotlib") is None:
        parser.error("the picture needs matplotlib: pip install 'modeling-docre[plots]'")
    sweep = Sweep(options.regime, options.output, [f"--{change}" for change in options.changes])
    sweep.run([Point(loss, rate, seed) for seed in options.seeds for loss in options.losses for rate in options.rates])
    print_table(options.regime, [sweep.done[point] for point in sorted(sweep.done)])
    print(f"\n{sweep.file}, {sweep.picture}", file=sys.stderr)


if __name__ == "__main__":
    main()
