"""Time and memory of contrastive pre-training's queues: a training step, as its copy and its queues make it dearer.

    python benchmarks/queues.py --models minilm --capacities 100,500

The step is that of `DocREForContrastivePreTraining` on generated documents, all queues full of pairs of their own; the
floor is the encoder's forward and backward pass on the same tokens. Of it, the copy's forward pass and its update, and
what is done with the queues (keys are pushed, anchors compared with all of them), are timed alone.
"""

from __future__ import annotations

import argparse
import copy
import statistics
from typing import Any

import torch
from common import (
    MODELS,
    Work,
    add_common_arguments,
    add_work_arguments,
    build_models,
    clock,
    make_works,
    numbers,
    prepare,
    report,
    set_dropout,
)

from modeling_docre import DocREForContrastivePreTraining
from modeling_docre.contrastive import info_nce_loss, unit_vectors
from modeling_docre.relation_queues import RelationQueues


def fill(queues: RelationQueues) -> None:
    """Fill all queues with pairs that have one relation each."""
    relations = queues.labels.shape[1]
    labels = torch.eye(relations, dtype=torch.bool, device=queues.labels.device).repeat(queues.capacity, 1)
    width = queues.embeddings.shape[1]
    queues.push(unit_vectors(torch.randn(len(labels), width, device=labels.device)), labels)


def measure(model_name: str, work: Work, capacity: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure a step with queues of one capacity."""
    device = arguments.device
    bare, relation_model = build_models(MODELS[model_name], device)
    config = copy.deepcopy(relation_model.config)
    config.moco_queue_size = capacity
    model = DocREForContrastivePreTraining(config).to(device).train()
    bare.train()
    for module in (bare, model):
        set_dropout(module, 0.0)
    batch = work.to(device).batch
    tokens = {name: batch[name] for name in ("input_ids", "attention_mask")}
    fill(model.queues)
    relations = batch["labels"][:, 1:][(batch["labels"][:, 1:] > 0).any(1)]
    embeddings = torch.randn(len(relations), config.moco_size, device=device, requires_grad=True)

    def encoder() -> None:
        bare(**tokens).last_hidden_state.sum().backward()

    def step() -> None:
        model(**batch).loss.backward()

    def copied() -> None:
        with torch.no_grad():
            model.update_momentum()
            of_heads = ("pairs", "labels", "sentence_ids")
            model.momentum.docre(**{name: value for name, value in batch.items() if name not in of_heads})

    def queues() -> None:
        model.queues.push(unit_vectors(embeddings.detach()), relations)
        keys, positives, negatives = model.queues.compare(relations)
        info_nce_loss(embeddings, keys, positives, negatives).backward()

    works = {"encoder": encoder, "step": step, "copy": copied, "queues": queues}
    for run in works.values():
        run()
    rounds = [{name: clock(run, device).cpu for name, run in works.items()} for _ in range(arguments.rounds)]
    buffers = {name: value.numel() * value.element_size() for name, value in model.queues.named_buffers()}
    return {
        "model": model_name,
        "capacity": capacity,
        "anchors": len(relations),
        "keys": int(model.queues.filled),
        "mib": sum(buffers.values()) / 2**20,
        "encoder_seconds": statistics.median(found["encoder"] for found in rounds),
        **{
            f"{name}_ratio": statistics.median(found[name] / found["encoder"] for found in rounds)
            for name in ("step", "copy", "queues")
        },
    }


def cells(row: dict[str, Any]) -> dict[str, str]:
    """Shape a measured row for the table."""
    return {
        "model": row["model"],
        "a queue": f"{row['capacity']:,}",
        "anchors": f"{row['anchors']:,}",
        "keys": f"{row['keys']:,}",
        "queues, MiB": f"{row['mib']:,.0f}",
        "encoder, s": f"{row['encoder_seconds']:.2f}",
        "step": f"{row['step_ratio']:.2f}",
        "of it the copy": f"{row['copy_ratio']:.2f}",
        "the queues": f"{row['queues_ratio']:.2f}",
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_common_arguments(parser, rounds=5)
    add_work_arguments(parser, entities=[20])
    parser.add_argument("--capacities", type=numbers, default=[100, 500], help="pairs in a queue, such as 100,500")
    arguments = parser.parse_args()
    prepare(parser, arguments)
    rows = [
        measure(name, work, capacity, arguments)
        for work in make_works(arguments)
        for name in arguments.models
        for capacity in arguments.capacities
    ]
    report(arguments, "queues", "Contrastive pre-training, ratios to the encoder's forward and backward", rows, cells)


if __name__ == "__main__":
    main()
