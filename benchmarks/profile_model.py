"""Where the model's time goes beyond its encoder: every part alone, on the inputs that it has in the model.

Parts run forward without gradients (inference), then forward and backward as in training, in rounds that start with
the bare encoder; ratios are to the encoder of the same round. `the rest` is what the whole takes beyond the sum.
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import json
import statistics
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
from common import (
    MODELS,
    Work,
    add_common_arguments,
    add_work_arguments,
    build_models,
    clock,
    environment,
    make_works,
    prepare,
    print_environment,
    print_table,
    set_dropout,
)
from torch import Tensor, nn

import modeling_docre.modeling_base as states
import modeling_docre.modeling_docre as assembly
from modeling_docre import attention, head_axial, head_bilinear, head_pair_aware, head_unet
from modeling_docre.encoding import run_again

PARTS: dict[str, tuple[Any, str]] = {
    "attention rows": (attention, "attention_rows"),
    "entity pooling": (states, "pool_entities"),
    "localized context": (head_bilinear, "localized_context"),
    "projections": (head_bilinear, "project"),
    "bilinear": (head_bilinear.GroupedBilinear, "forward"),
    "loss": (assembly, "method_losses"),
}
PARTS_OF_HEADS: dict[str, dict[str, tuple[Any, str]]] = {
    "bilinear": {},
    "axial": {"axial attention": (head_axial.AxialHead, "_attend")},
    "unet": {"U-Net": (head_unet.UNet, "forward")},
    "pair-aware": {
        "grid": (head_pair_aware.PairGrid, "forward"),
        "entity encoder": (head_pair_aware.EntityEncoder, "forward"),
        "projections": (head_pair_aware, "project"),
    },
}
# What the model computes again in the backward pass, around the part and not in it.
RUN_AGAIN = ("axial attention",)


class Call(NamedTuple):
    """One call of a part, with the inputs that it had."""

    part: str
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def parts_of(model: Any) -> dict[str, tuple[Any, str]]:
    """Return the parts of a model, those of its head before the loss."""
    *before, loss = PARTS.items()
    return dict([*before, *PARTS_OF_HEADS[model.config.head].items(), loss])


def record_calls(model: nn.Module, inputs: dict[str, Tensor]) -> list[Call]:
    """Run the model once in training mode and keep the calls of its parts."""
    parts = parts_of(model)
    calls: list[Call] = []
    replaced: list[tuple[Any, str, Any]] = []

    def recorder(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        timed = partial(run_again, function) if part in RUN_AGAIN else function

        def record(*args: Any, **kwargs: Any) -> Any:
            calls.append(Call(part, timed, detached(args), detached(kwargs)))
            return function(*args, **kwargs)

        return record

    try:
        for part, (owner, name) in parts.items():
            original = inspect.getattr_static(owner, name)
            replaced.append((owner, name, original))
            record = recorder(part, getattr(owner, name))
            setattr(owner, name, staticmethod(record) if isinstance(original, staticmethod) else record)
        model(**inputs)
    finally:
        for owner, name, original in replaced:
            setattr(owner, name, original)
    if missing := parts.keys() - {call.part for call in calls}:
        raise SystemExit(f"The model never called: {', '.join(sorted(missing))}. PARTS is out of date.")
    return calls


def detached(value: Any) -> Any:
    """Cut arguments off the graph they came from; what needed a gradient still does."""
    if isinstance(value, Tensor):
        return value.detach().requires_grad_(value.requires_grad)
    if isinstance(value, tuple):
        parts = [detached(part) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    if isinstance(value, dict):
        return {key: detached(part) for key, part in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.replace(
            value, **{field.name: detached(getattr(value, field.name)) for field in dataclasses.fields(value)}
        )
    return value


def tensors(value: Any) -> Iterator[Tensor]:
    """All tensors of an output that have a gradient."""
    if isinstance(value, Tensor):
        if value.requires_grad:
            yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from tensors(part)
    elif isinstance(value, tuple | list):
        for part in value:
            yield from tensors(part)


class Times(NamedTuple):
    """Seconds of the three passes of a part: of the processor, on a GPU of the wall."""

    inference: float
    forward: float
    backward: float

    @classmethod
    def total(cls, times: Iterable[Times]) -> Times:
        """Add up."""
        return cls(*(sum(passes) for passes in zip(*times, strict=True)))


def time_passes(train: Callable[[], Any], infer: Callable[[], Any], model: nn.Module, device: str) -> Times:
    """Time `infer` without gradients, then forward and backward of `train`."""

    def seconds(step: Callable[[], object]) -> float:
        found = clock(step, device)
        return found.wall if device.startswith("cuda") else found.cpu

    model.zero_grad(set_to_none=True)
    with torch.no_grad():
        inference = seconds(infer)
    outputs: list[Tensor] = []
    forward = seconds(lambda: outputs.extend(tensors(train())))
    gradients = [torch.randn_like(tensor) for tensor in outputs]
    return Times(inference, forward, seconds(lambda: torch.autograd.backward(outputs, gradients)))


def time_call(call: Call, model: nn.Module, device: str) -> Times:
    """Time one call of a part; there is no loss at inference."""

    def run() -> Any:
        return call.function(*detached(call.args), **detached(call.kwargs))

    return time_passes(run, (lambda: None) if call.part == "loss" else run, model, device)


def profile(model_name: str, work: Work, dropout: float, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure all parts of one model on one batch.

    Returns:
        One row per part, the encoder first and the whole model last: milliseconds, and ratios to the encoder's
        inference and to its forward and backward.
    """
    device = arguments.device
    bare, model = build_models(MODELS[model_name], device)
    for module in (bare, model):
        module.train()
        set_dropout(module, dropout)
    labelled = work.to(device).batch
    inputs = {name: tensor for name, tensor in labelled.items() if name != "labels"}
    tokens = {name: labelled[name] for name in ("input_ids", "attention_mask")}

    def encode() -> Tensor:
        return bare(**tokens).last_hidden_state

    # Recording runs the model once, which warms it up; so does this the encoder.
    calls = record_calls(model, labelled)
    time_passes(encode, encode, bare, device)
    rounds: list[dict[str, Times]] = []
    for _ in range(arguments.rounds):
        found = {"encoder": time_passes(encode, encode, bare, device)}
        for part in parts_of(model):
            found[part] = Times.total(time_call(call, model, device) for call in calls if call.part == part)
        parts = Times.total(found.values())
        whole = time_passes(lambda: model(**labelled).loss, lambda: model(**inputs).logits, model, device)
        found["the rest"] = Times(*(all_of_it - known for all_of_it, known in zip(whole, parts, strict=True)))
        rounds.append({**found, "whole model": whole})
    return [_row(model_name, part, rounds) for part in rounds[0]]


def _row(model_name: str, part: str, rounds: list[dict[str, Times]]) -> dict[str, Any]:
    times, floors = [found[part] for found in rounds], [found["encoder"] for found in rounds]
    both = list(zip(times, floors, strict=True))
    return {
        "model": model_name,
        "part": part,
        "inference_ms": 1000 * statistics.median(time.inference for time in times),
        "inference_ratio": statistics.median(time.inference / floor.inference for time, floor in both),
        "forward_ms": 1000 * statistics.median(time.forward for time in times),
        "backward_ms": 1000 * statistics.median(time.backward for time in times),
        "training_ratio": statistics.median(
            (time.forward + time.backward) / (floor.forward + floor.backward) for time, floor in both
        ),
    }


def cells(row: dict[str, Any]) -> dict[str, str]:
    """Shape a measured row for the table."""
    return {
        "model": row["model"],
        "part": row["part"],
        "inference, ms": f"{row['inference_ms']:,.1f}",
        "to the encoder": f"{row['inference_ratio']:.3f}",
        "training forward, ms": f"{row['forward_ms']:,.1f}",
        "backward, ms": f"{row['backward_ms']:,.1f}",
        "both to the encoder": f"{row['training_ratio']:.3f}",
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_common_arguments(parser, rounds=5)
    add_work_arguments(parser, entities=[25])
    parser.add_argument("--dropout", type=float, default=0.0, help="in training (default: %(default)s)")
    arguments = parser.parse_args()
    prepare(parser, arguments)
    works = make_works(arguments)
    results: dict[str, Any] = {"environment": environment(arguments), "parts": {}}
    for work in works:
        results["parts"][work.name] = [
            row for name in arguments.models for row in profile(name, work, arguments.dropout, arguments)
        ]
    if arguments.json:
        print(json.dumps(results, indent=1))
        return
    print_environment(results["environment"])
    for work in works:
        title = f"{work.name}: {work.tokens:,} padded tokens, {work.pairs:,} pairs"
        print_table(title, [cells(row) for row in results["parts"][work.name]])


if __name__ == "__main__":
    main()
