"""Time and memory of the model against its bare encoder, on the same tokens, in the same run.

python benchmarks/speed.py
python benchmarks/speed.py --documents dev_revised.json --models bert-base --rounds 9
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from common import (
    MODEL_NOTES,
    MODELS,
    Comparison,
    Seconds,
    Work,
    add_common_arguments,
    add_work_arguments,
    build_models,
    clock,
    compare,
    environment,
    generate_work,
    make_works,
    peak_memory,
    prepare,
    print_environment,
    print_table,
    set_dropout,
)
from torch import nn

from modeling_docre.memory import steady_memory

DROPOUTS = {"inference": 0.0, "training": 0.1, "training without dropout": 0.0}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def make_step(model: nn.Module, work: Work, kind: str, dtype: torch.dtype, *, bare: bool) -> Callable[[], object]:
    """Return what is measured, with the model brought into the state for it.

    Training sums the bare encoder's hidden states, where the model has its loss. Half precision is the weights' own
    at inference and autocast in training, as usual.
    """
    training = kind != "inference"
    device = work.batch["input_ids"].device.type
    model.train(training)
    set_dropout(model, DROPOUTS[kind])
    model.to(torch.float32 if training else dtype)
    inputs = dict(work.batch)
    if bare:
        inputs = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    elif not training:
        inputs.pop("labels")

    def autocast() -> contextlib.AbstractContextManager[object]:
        return torch.autocast(device, dtype) if dtype != torch.float32 else contextlib.nullcontext()

    def infer() -> object:
        with torch.no_grad():
            return model(**inputs)

    def train() -> None:
        with autocast():
            output = model(**inputs)
        loss = output.last_hidden_state.float().sum() if bare else output.loss
        loss.backward()

    return train if training else infer


def timed(model: nn.Module, work: Work, kind: str, dtype: torch.dtype, *, bare: bool) -> Callable[[], Seconds]:
    """Return a function that runs one step and says how long it took."""
    device = str(work.batch["input_ids"].device)

    def run() -> Seconds:
        step = make_step(model, work, kind, dtype, bare=bare)
        model.zero_grad(set_to_none=True)
        return clock(step, device)

    return run


def measure_time(arguments: argparse.Namespace, model_name: str, works: list[Work]) -> Iterator[dict[str, Any]]:
    """Compare every step on every work; yields rows."""
    bare, ours = build_models(MODELS[model_name], arguments.device)
    dtype = DTYPES[arguments.dtype]
    for work in works:
        work = work.to(arguments.device)
        for kind in arguments.steps:
            found: Comparison = compare(
                timed(bare, work, kind, dtype, bare=True),
                timed(ours, work, kind, dtype, bare=False),
                arguments.rounds,
            )
            yield {
                "model": model_name,
                "work": work.name,
                "tokens": work.tokens,
                "pairs": work.pairs,
                "step": kind,
                "encoder_cpu_s": found.floor.cpu,
                "encoder_wall_s": found.floor.wall,
                "ours_cpu_s": found.ours.cpu,
                "ours_wall_s": found.ours.wall,
                "cpu_ratio": found.cpu_ratio._asdict(),
                "wall_ratio": found.wall_ratio._asdict(),
            }


# ---------------------------------------------------------------------------------------------------------------------
# Memory: each figure from a process of its own, since a process seldom gives back what it once had
# ---------------------------------------------------------------------------------------------------------------------


def peak_of_step(task: tuple[str, Work, str, str, str, bool, int]) -> int:
    """Return by how many bytes memory rises at most while a step runs, weights and earlier state not counted."""
    model_name, work, kind, dtype, device, bare, threads = task
    torch.set_num_threads(threads)
    if not device.startswith("cuda"):
        # Tensors get pages of their own: what the C library's heap loses between them is another figure every time.
        steady_memory(1 << 20)
    encoder, ours = build_models(MODELS[model_name], device)
    model = encoder if bare else ours
    del encoder, ours
    # What libraries allocate once for all is not the step's.
    make_step(model, generate_work(2, documents=1, tokens=16).to(device), kind, DTYPES[dtype], bare=bare)()
    model.zero_grad(set_to_none=True)
    step = make_step(model, work.to(device), kind, DTYPES[dtype], bare=bare)
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        step()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    # From here on the peak is no longer that of building the model.
    Path("/proc/self/clear_refs").write_text("5")
    before = peak_memory()
    if not before:
        raise RuntimeError("/proc/self/status has no VmHWM here; leave memory out with --measure time.")
    step()
    return peak_memory() - before


def measure_memory(arguments: argparse.Namespace, model_name: str, works: list[Work]) -> Iterator[dict[str, Any]]:
    """Measure the peak of every step on every work; yields rows."""
    shape = MODELS[model_name]
    bound = 4 * (len(works[0].batch["labels"][0]) + 3 * shape.hidden) * 4
    # The server imports the libraries once and is otherwise untouched: each figure comes from a fresh fork of it.
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["torch", "transformers", "modeling_docre"])
    with processes.Pool(1, maxtasksperchild=1) as pool:

        def peak(work: Work, kind: str, *, bare: bool) -> int:
            task = (model_name, work, kind, arguments.dtype, arguments.device, bare, arguments.threads)
            return pool.apply(peak_of_step, (task,))

        for kind in arguments.steps:
            before: tuple[int, int] | None = None
            floors: dict[torch.Size, int] = {}
            for work in works:
                tokens = work.batch["input_ids"].shape
                if tokens not in floors:
                    floors[tokens] = peak(work, kind, bare=True)
                ours = peak(work, kind, bare=False)
                per_pair = None
                if before is not None and work.pairs > before[0]:
                    per_pair = (ours - before[1]) / (work.pairs - before[0])
                before = (work.pairs, ours)
                yield {
                    "model": model_name,
                    "work": work.name,
                    "pairs": work.pairs,
                    "step": kind,
                    "encoder_bytes": floors[tokens],
                    "ours_bytes": ours,
                    "bytes_per_further_pair": per_pair,
                    "bound_bytes_per_pair": bound,
                }


# ---------------------------------------------------------------------------------------------------------------------
# The command
# ---------------------------------------------------------------------------------------------------------------------


def time_cells(row: dict[str, Any]) -> dict[str, str]:
    """Shape a measured row for the table."""

    def spread(ratio: dict[str, float]) -> str:
        return f"{ratio['median']:.2f} ({ratio['low']:.2f}-{ratio['high']:.2f})"

    return {
        "model": row["model"],
        "work": row["work"],
        "pairs": f"{row['pairs']:,}",
        "step": row["step"],
        "encoder, CPU s": f"{row['encoder_cpu_s']:.3f}",
        "ours, CPU s": f"{row['ours_cpu_s']:.3f}",
        "CPU time ratio": spread(row["cpu_ratio"]),
        "wall time ratio": spread(row["wall_ratio"]),
    }


def memory_cells(row: dict[str, Any]) -> dict[str, str]:
    """Shape a measured row for the table."""
    per_pair = row["bytes_per_further_pair"]
    return {
        "model": row["model"],
        "work": row["work"],
        "pairs": f"{row['pairs']:,}",
        "step": row["step"],
        "encoder, MiB": f"{row['encoder_bytes'] / 2**20:,.0f}",
        "ours, MiB": f"{row['ours_bytes'] / 2**20:,.0f}",
        "bytes per further pair": "-" if per_pair is None else f"{per_pair:,.0f}",
        "bound": f"{row['bound_bytes_per_pair']:,}",
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_common_arguments(parser, rounds=5)
    add_work_arguments(parser, entities=[10, 20, 40, 80])
    parser.add_argument("--steps", nargs="+", choices=DROPOUTS, default=list(DROPOUTS))
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument("--measure", nargs="+", choices=("time", "memory"), default=["time", "memory"])
    arguments = parser.parse_args()
    prepare(parser, arguments)
    works = make_works(arguments)
    results: dict[str, Any] = {"environment": environment(arguments) | {"dtype": arguments.dtype}}
    measures = {"time": measure_time, "memory": measure_memory}
    for name in arguments.measure:
        results[name] = []
        for model_name in arguments.models:
            for row in measures[name](arguments, model_name, works):
                results[name].append(row)
                print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    if arguments.json:
        print(json.dumps(results, indent=1))
        return
    print_environment(results["environment"])
    print(f"{works[0].tokens:,} padded tokens a batch; {MODEL_NOTES}")
    if "time" in results:
        print_table("Time: median ratio of a round (quartiles)", [time_cells(row) for row in results["time"]])
    if "memory" in results:
        print_table("Peak memory of a step, beyond the weights", [memory_cells(row) for row in results["memory"]])


if __name__ == "__main__":
    main()
