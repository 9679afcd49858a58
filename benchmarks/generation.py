"""Time of extra pairs in training: a step of VaeDiff-DocRE's third stage, and what part of it drawing them takes.

    python benchmarks/generation.py --models minilm-vaediff --entities 20

The step is that of `DocREForRelationExtraction` on generated documents, with `--copies` extra pairs for each with a
relation: none, noisy ones, generated ones that are new in each step, and such that wait in a bank, which is drawn
before training. The generator has the published size and random weights. The floor is the encoder's forward and
backward pass on the same tokens.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import tempfile
from typing import Any

import torch
from common import (
    MODELS,
    RELATIONS,
    Work,
    add_common_arguments,
    add_work_arguments,
    build_models,
    clock,
    make_works,
    prepare,
    report,
    set_dropout,
)

from modeling_docre import VaeDiffConfig, VaeDiffModel
from modeling_docre.documents import Document, Relation
from modeling_docre.pair_augmentation import PairAugmentation
from modeling_docre.training_arguments import DocRETrainingArguments

KINDS: dict[str, dict[str, Any]] = {
    "noisy": {"augmentation": "gaussian"},
    "generated": {"augmentation": "vaediff"},
    "from a bank": {"augmentation": "vaediff", "augmentation_bank": 8},
}


def augmentation_for(
    kind: str, generator: VaeDiffModel, documents: list[Document], config: Any, arguments: argparse.Namespace
) -> PairAugmentation:
    """Make what draws extra pairs, its bank full."""
    with tempfile.TemporaryDirectory() as folder:
        settings = DocRETrainingArguments(
            folder,
            use_cpu=arguments.device == "cpu",
            augmentation_copies=arguments.copies,
            augmentation_warmup_epochs=0,
            **KINDS[kind],
        )
    found = PairAugmentation(settings, generator if kind != "noisy" else None)
    found.fill_bank(documents, config)
    return found


def measure(model_name: str, work: Work, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure a step with each kind of extra pairs."""
    device = arguments.device
    bare, model = build_models(MODELS[model_name], device)
    if model.config.head != "axial":
        raise SystemExit(f"{model_name} has no axial head; extra pairs are of that alone.")
    for module in (bare, model):
        set_dropout(module.train(), 0.0)
    torch.manual_seed(0)
    width = model.config.get_text_config().hidden_size
    generator = VaeDiffModel(VaeDiffConfig(RELATIONS, embedding_size=width))
    batch = work.to(device).batch
    tokens = {name: batch[name] for name in ("input_ids", "attention_mask")}
    anchors = int((batch["labels"][:, 1:] > 0).any(1).sum())
    # One of each set of relations that a pair has, for the bank.
    sets = {int(row.argmax()) for row in batch["labels"][:, 1:] if row.any()}
    story = Document.from_markup("[Ada](:PER) was born in [Oslo](:LOC).")
    documents = [dataclasses.replace(story, relations=(Relation(0, 1, RELATIONS[one]),)) for one in sorted(sets)]

    def encoder() -> None:
        bare(**tokens).last_hidden_state.sum().backward()

    def plain() -> None:
        model(**batch).loss.backward()

    works = {"encoder": encoder, "none": plain}
    draws = {}
    for kind in KINDS:
        augmentation = augmentation_for(kind, generator, documents, model.config, arguments)

        def draw(augmentation: PairAugmentation = augmentation) -> dict[str, Any]:
            return augmentation.inputs(batch["labels"])

        def step(draw: Any = draw) -> None:
            model(**batch, **draw()).loss.backward()

        works[kind], draws[kind] = step, draw
    for run in (*works.values(), *draws.values()):
        run()
    rounds = [
        {name: clock(run, device).cpu for name, run in (*works.items(), *((f"draw {k}", d) for k, d in draws.items()))}
        for _ in range(arguments.rounds)
    ]
    return [
        {
            "model": model_name,
            "work": work.name,
            "anchors": anchors,
            "extra pairs": kind,
            "step_ratio": statistics.median(found[kind] / found["encoder"] for found in rounds),
            "share": statistics.median(found.get(f"draw {kind}", 0.0) / found[kind] for found in rounds),
        }
        for kind in works
        if kind != "encoder"
    ]


def cells(row: dict[str, Any]) -> dict[str, str]:
    """Shape a measured row for the table."""
    return {
        "model": row["model"],
        "work": row["work"],
        "pairs with a relation": f"{row['anchors']:,}",
        "extra pairs": row["extra pairs"],
        "step": f"{row['step_ratio']:.2f}",
        "of it drawing": f"{row['share']:.1%}",
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_common_arguments(parser, rounds=3)
    add_work_arguments(parser, entities=[20])
    parser.add_argument("--copies", type=int, default=2, help="extra pairs for each with a relation; 2 without it")
    arguments = parser.parse_args()
    prepare(parser, arguments)
    rows = [
        row for work in make_works(arguments) for name in arguments.models for row in measure(name, work, arguments)
    ]
    report(arguments, "generation", "Extra pairs, ratios to the encoder's forward and backward", rows, cells)


if __name__ == "__main__":
    main()
