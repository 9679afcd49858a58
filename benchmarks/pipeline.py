"""Documents per second of the pipeline, from JSON text to relations, and what share of the time each step has.

Real documents (`python benchmarks/pipeline.py --documents dev_revised.json`), or generated ones of Re-DocRED's shape.
The model is the embedded one.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from common import (
    ENTITY_TYPES,
    LENGTHS,
    MENTIONS_PER_ENTITY,
    Seconds,
    Spread,
    add_common_arguments,
    clock,
    environment,
    prepare,
    print_environment,
    print_table,
)
from transformers import pipeline

from modeling_docre import DEFAULT_MODEL

# Words of the longest document and of a sentence, and entities of a document, about as in Re-DocRED.
LONGEST = 320
SENTENCE_WORDS = 25
MEAN_ENTITIES = 19
WORDS = (
    "the of and in to a was is for as on with by he at from his it an were are which this that be has had first one "
    "their not new its who after also but two been they other when during time year city school team company music "
    "river north south station album season world war state university national government county history family "
    "game film series born known early later people between under while about number members became village small"
)


def generate_lines(documents: int, seed: int = 0) -> list[str]:
    """Generate documents as JSON lines: text of words at random, entities with character offsets."""
    draw = random.Random(seed)
    lines = []
    for number in range(documents):
        words = draw.choices(WORDS.split(), k=round(LONGEST * LENGTHS[number % len(LENGTHS)]))
        words = [
            f"{word}." if place % SENTENCE_WORDS == SENTENCE_WORDS - 1 else word for place, word in enumerate(words)
        ]
        starts = [sum(len(word) + 1 for word in words[:place]) for place in range(len(words))]
        entities = min(round(draw.gauss(MEAN_ENTITIES, 6)), len(words) // 4)
        counts = draw.choices(range(1, len(MENTIONS_PER_ENTITY) + 1), MENTIONS_PER_ENTITY, k=max(2, entities))
        places = iter(draw.sample(range(len(words)), min(sum(counts), len(words))))
        found = []
        for count in counts:
            mentions = [
                {"start": starts[place], "end": starts[place] + len(words[place].rstrip("."))}
                for _, place in zip(range(count), places, strict=False)
            ]
            if mentions:
                found.append({"type": draw.choice(ENTITY_TYPES), "mentions": mentions})
        lines.append(json.dumps({"text": " ".join(words), "entities": found}))
    return lines


def read_lines(path: Path, number: int) -> list[str]:
    """Take the first documents of a DocRED file, as JSON lines without their labels."""
    entries = json.loads(path.read_text(encoding="utf-8"))[:number]
    return [json.dumps({key: value for key, value in entry.items() if key != "labels"}) for entry in entries]


class Stopwatch:
    """Adds up the time inside chosen functions of an object."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.seconds: dict[str, Seconds] = {}

    def reset(self) -> None:
        """Start from nothing."""
        self.seconds = {}

    def watch(self, step: str, owner: Any, name: str) -> None:
        """Time `owner.name` as `step` from now on."""
        function: Callable[..., Any] = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            results: list[Any] = []
            spent = clock(lambda: results.append(function(*args, **kwargs)), self.device)
            before = self.seconds.get(step, Seconds(0.0, 0.0))
            self.seconds[step] = Seconds(before.cpu + spent.cpu, before.wall + spent.wall)
            return results[0]

        setattr(owner, name, timed)


def measure(lines: list[str], arguments: argparse.Namespace) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Run the pipeline over all lines, round after round.

    Returns:
        One row per step with its share of the time, and the throughput.
    """
    extract = pipeline("docre", model=str(arguments.model), device=arguments.device)
    watch = Stopwatch(arguments.device)
    watch.watch("read and tokenise", extract, "preprocess")
    watch.watch("encoder", extract.model.docre.encoder, "forward")
    watch.watch("model", extract.model, "forward")
    watch.watch("relations", extract, "postprocess")

    def run() -> list[str]:
        return [
            json.dumps(answer)
            for answer in extract([json.loads(line) for line in lines], batch_size=arguments.batch_size)
        ]

    for _ in range(2):  # the second time, nothing is built for the first time any more
        answers = run()
    whole, steps = [], []
    for _ in range(arguments.rounds):
        watch.reset()
        whole.append(clock(run, arguments.device))
        found = {step: spent for step, spent in watch.seconds.items() if step != "model"}
        found["model, beyond the encoder"] = _minus(watch.seconds["model"], [watch.seconds["encoder"]])
        steps.append({**found, "JSON, batches": _minus(whole[-1], list(found.values()))})
    on_gpu = arguments.device.startswith("cuda")
    shares = [
        {
            "step": step,
            "seconds": statistics.median(_time(found[step], on_gpu) for found in steps),
            "share": statistics.median(
                _time(found[step], on_gpu) / _time(total, on_gpu) for found, total in zip(steps, whole, strict=True)
            ),
        }
        for step in ("read and tokenise", "encoder", "model, beyond the encoder", "relations", "JSON, batches")
    ]
    read = [json.loads(answer) for answer in answers]
    return shares, {
        "documents": len(lines),
        "pairs": sum(answer["coverage"]["pairs_scored"] for answer in read),
        "tokens": sum(answer["coverage"]["tokens_read"] for answer in read),
        "relations": sum(len(answer["relations"]) for answer in read),
        "documents_per_cpu_second": Spread.of([len(lines) / spent.cpu for spent in whole])._asdict(),
        "documents_per_second": Spread.of([len(lines) / spent.wall for spent in whole])._asdict(),
    }


def _minus(whole: Seconds, parts: list[Seconds]) -> Seconds:
    return Seconds(whole.cpu - sum(part.cpu for part in parts), whole.wall - sum(part.wall for part in parts))


def _time(seconds: Seconds, on_gpu: bool) -> float:
    return seconds.wall if on_gpu else seconds.cpu


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_common_arguments(parser, rounds=3)
    parser.add_argument("--documents", type=Path, help="a DocRED file to take the first documents of")
    parser.add_argument("--number", type=int, default=64, help="documents (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=8, help="as of the pipeline (default: %(default)s)")
    parser.add_argument(
        "--model", type=Path, default=DEFAULT_MODEL, help="folder of a model; the embedded one if left out"
    )
    arguments = parser.parse_args()
    prepare(parser, arguments)
    lines = (
        read_lines(arguments.documents, arguments.number) if arguments.documents else generate_lines(arguments.number)
    )
    with torch.no_grad():
        shares, speed = measure(lines, arguments)
    where = environment(arguments)
    if arguments.json:
        print(json.dumps({"environment": where, "speed": speed, "steps": shares}, indent=1))
        return
    print_environment(where)
    print(
        f"{speed['documents']} documents, {speed['tokens']:,} tokens, {speed['pairs']:,} pairs, "
        f"{speed['relations']:,} relations found"
    )
    rates = {"CPU second": "documents_per_cpu_second", "second of the wall": "documents_per_second"}
    rows = [
        {
            "per": per,
            "documents": f"{speed[key]['median']:.2f}",
            "quartiles": f"{speed[key]['low']:.2f}-{speed[key]['high']:.2f}",
        }
        for per, key in rates.items()
    ]
    print_table("Throughput, from JSON text to relations as JSON text", rows)
    cells = [
        {"step": row["step"], "seconds": f"{row['seconds']:.3f}", "share": f"{100 * row['share']:.1f}%"}
        for row in shares
    ]
    print_table("Where the time goes", cells)


if __name__ == "__main__":
    main()
