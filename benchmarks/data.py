"""Check that `docre data` and `docre extract` need no more memory for more documents.

    python benchmarks/data.py --documents 10000,100000 --extract 200,1000
    python benchmarks/data.py --documents 10000,100000 --extract 10000,100000 --tiny

It makes documents of its own words (seeded), prepares a dataset repository of them, counts what is in it, checks the
file, splits it, and extracts relations from the first ones with the embedded model, or with a tiny one whose weights
are random, since what surrounds a model decides whether memory grows. Each command runs in a process of
its own, whose peak memory is printed for every number of documents; the ratio is that of the most to the fewest. Linux
only: it reads peaks from /proc.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from common import MODELS, build_models, numbers, print_table, run_docre

from modeling_docre import DEFAULT_MODEL, DocREProcessor

SYLLABLES = ("ba", "dor", "el", "fi", "gan", "hu", "ist", "ko", "lem", "mar", "no", "or", "pel", "qui", "ras", "tov")
RELATIONS = tuple(f"relation_{number}" for number in range(40))
TYPES = ("PER", "LOC", "ORG", "TIME")


def make_documents(number: int, seed: int) -> Iterator[dict[str, object]]:
    """Make documents in DocRED's form: eight sentences of words without a meaning, ten entities, six facts.

    Args:
        number (`int`): How many.
        seed (`int`): Decides their words.
    """
    draw = random.Random(seed)
    words = ["".join(parts) for parts in itertools.product(SYLLABLES, repeat=3)]
    weights = [1 / rank for rank in range(1, len(RELATIONS) + 1)]
    for place in range(number):
        sentences = [[*draw.choices(words, k=draw.randint(6, 16)), "."] for _ in range(8)]
        entities = []
        for _ in range(10):
            sentence = draw.randrange(8)
            start = draw.randrange(len(sentences[sentence]) - 1)
            name, kind = sentences[sentence][start], draw.choice(TYPES)
            entities.append([{"name": name, "sent_id": sentence, "pos": [start, start + 1], "type": kind}])
        facts = [(*draw.sample(range(10), 2), draw.choices(RELATIONS, weights)[0]) for _ in range(6)]
        labels = [
            {"h": head, "t": tail, "r": relation, "evidence": [0]} for head, tail, relation in dict.fromkeys(facts)
        ]
        yield {"title": f"document {place}", "sents": sentences, "vertexSet": entities, "labels": labels}


def save_tiny_model(folder: Path) -> Path:
    """Write a model of random weights that reads what the embedded one reads."""
    _, model = build_models(MODELS["tiny"], "cpu")
    model.save_pretrained(folder)
    DocREProcessor.from_pretrained(DEFAULT_MODEL).save_pretrained(folder)
    return folder


def measure(
    folder: Path, documents: int, extracted: int, seed: int, tiny: bool
) -> list[tuple[str, int, float, float]]:
    """Run the commands on so many documents: the name of each, its documents, seconds and peak memory in MiB."""
    source, part, repository = folder / "documents.jsonl", folder / "part.jsonl", folder / "repository"
    with open(source, "w") as whole, open(part, "w") as few:
        for place, document in enumerate(make_documents(documents, seed)):
            line = json.dumps(document) + "\n"
            whole.write(line)
            if place < extracted:
                few.write(line)
    # Random scores are near the threshold: nearly all pairs would have a relation.
    model = ("--model", save_tiny_model(folder / "tiny"), "--threshold", "0.9") if tiny else ()
    rows = []
    for number, arguments in [
        (documents, ("data", "prepare", source, repository, "--license", "cc0-1.0")),
        (documents, ("data", "stats", repository)),
        (documents, ("data", "check", source)),
        (documents, ("data", "split", source, folder / "split", "--parts", "train=0.8,validation=0.1,test=0.1")),
        (min(extracted, documents), ("extract", part, "-o", folder / "relations.jsonl", *model)),
    ]:
        ran = run_docre(*arguments)
        if ran.code:
            sys.exit(f"docre {' '.join(map(str, arguments))}: {ran.said}")
        name = "docre extract" if arguments[0] == "extract" else f"docre data {arguments[1]}"
        rows.append((name, number, ran.seconds, ran.peak))
        print(f"{name}: {number:,} documents, {ran.seconds:.0f} s, {ran.peak:.0f} MiB", file=sys.stderr, flush=True)
    return rows


def main() -> None:
    """Measure each number of documents, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=numbers, default=[10_000, 100_000], help="such as 10000,100000")
    parser.add_argument(
        "--extract", type=numbers, default=[200, 1_000], help="documents to extract from, for each of the above"
    )
    parser.add_argument("--tiny", action="store_true", help="extract with a tiny model of random weights")
    parser.add_argument("--seed", type=int, default=13, help="of the documents' words (default: %(default)s)")
    options = parser.parse_args()
    if len(options.documents) != len(options.extract) or len(options.documents) < 2:
        parser.error("--documents and --extract: as many numbers each, two or more")
    measured = []
    for documents, extracted in zip(options.documents, options.extract, strict=True):
        with tempfile.TemporaryDirectory() as folder:
            measured.append(measure(Path(folder), documents, extracted, options.seed, options.tiny))
    rows = []
    for same in zip(*measured, strict=True):
        rows.append({
            "command": f"`{same[0][0]}`",
            "documents": " / ".join(f"{number:,}" for _, number, _, _ in same),
            "seconds": " / ".join(f"{seconds:.0f}" for _, _, seconds, _ in same),
            "peak, MiB": " / ".join(f"{peak:.0f}" for _, _, _, peak in same),
            "ratio": f"{same[-1][3] / same[0][3]:.2f}",
        })  # fmt: skip
    print_table("Peak memory", rows)


if __name__ == "__main__":
    main()
