"""Time of inference where pairs that seem to have no relation are left out before they are classified (PAEE).

Weights are random, so that `prune_threshold` is put where it keeps the share that is asked for.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from common import (
    MODELS,
    Work,
    add_common_arguments,
    add_work_arguments,
    build_models,
    clock,
    compare,
    make_works,
    numbers,
    prepare,
    report,
)


def measure(model_name: str, work: Work, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Compare inference with the bare encoder, for each share of pairs that is classified."""
    device = arguments.device
    bare, model = build_models(MODELS[model_name], device)
    if model.config.head != "pair-aware":
        raise SystemExit(f"{model_name} does not predict which pairs have a relation; a model with paee does.")
    batch = {name: tensor for name, tensor in work.to(device).batch.items() if name != "labels"}
    tokens = {name: batch[name] for name in ("input_ids", "attention_mask")}
    rows = []
    with torch.no_grad():
        bare.eval()
        chances = model.eval()(**batch).potential_pairs.float()
        for percent in arguments.percent:
            every = percent >= 100
            threshold = 0.0 if every else chances.quantile(1 - percent / 100).item()
            found = compare(
                lambda: clock(lambda: bare(**tokens), device),
                lambda threshold=threshold: clock(lambda: model(**batch, prune_threshold=threshold), device),
                arguments.rounds,
            )
            rows.append(
                {
                    "model": model_name,
                    "work": work.name,
                    "pairs": work.pairs,
                    "classified": int((chances > threshold).sum()),
                    "cpu_ratio": found.cpu_ratio._asdict(),
                }
            )
    return rows


def cells(row: dict[str, Any]) -> dict[str, str]:
    """Shape a measured row for the table."""
    return {
        "model": row["model"],
        "work": row["work"],
        "pairs": f"{row['pairs']:,}",
        "classified": f"{row['classified']:,}",
        "to the encoder": f"{row['cpu_ratio']['median']:.2f}",
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_common_arguments(parser, rounds=3)
    add_work_arguments(parser, entities=[10, 20, 40, 80])
    parser.add_argument(
        "--percent", type=numbers, default=[100, 20, 5], help="of pairs that stay; 100,20,5 without it"
    )
    arguments = parser.parse_args()
    prepare(parser, arguments)
    rows = [
        row for name in arguments.models for work in make_works(arguments) for row in measure(name, work, arguments)
    ]
    report(arguments, "pruning", "Inference with pairs left out, ratios to the bare encoder", rows, cells)


if __name__ == "__main__":
    main()
