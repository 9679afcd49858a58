"""What the benchmarks share: the models and the work that is measured, the clock, the memory gauge, the tables."""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from torch import Tensor, nn
from transformers import AutoModel, BertConfig, PreTrainedModel

from modeling_docre import DEFAULT_MODEL, DocREConfig, DocREForRelationExtraction, DocREProcessor
from modeling_docre.data_files import iter_documents

VOCABULARY = 30522
RELATIONS = [f"R{number}" for number in range(96)]
ENTITY_TYPES = ["LOC", "MISC", "NUM", "ORG", "PER", "TIME"]

# Of Re-DocRED's development documents: how many of 10,000 entities have 1, 2, ... mentions, and how many of 100 pairs
# have a relation. The lengths are those of its first eight documents as shares of the longest, in tokens of MiniLM.
MENTIONS_PER_ENTITY = (8058, 1192, 365, 176, 80, 61, 29, 17, 11, 7, 4)
LABELLED_PAIRS = 0.07
LENGTHS = (0.53, 0.63, 0.44, 0.66, 0.67, 1.0, 0.47, 0.69)


# ---------------------------------------------------------------------------------------------------------------------
# Models
# ---------------------------------------------------------------------------------------------------------------------


class Shape(NamedTuple):
    """Sizes of an encoder and the settings of the pair head on it."""

    layers: int
    hidden: int
    heads: int
    intermediate: int
    emb_size: int
    block_size: int = 64
    loss: str = "atl"
    use_entity_types: bool = False
    method: str = "atlop"
    grid_network: str = "unet"


MODELS = {
    "minilm": Shape(6, 384, 12, 1536, emb_size=384, loss="pmt", use_entity_types=True),
    "minilm-768": Shape(6, 384, 12, 1536, emb_size=768),
    "bert-base": Shape(12, 768, 12, 3072, emb_size=768),
    "minilm-kd-docre": Shape(6, 384, 12, 1536, emb_size=384, loss="afl", method="kd-docre"),
    "minilm-vaediff": Shape(6, 384, 12, 1536, emb_size=384, loss="pmt", method="vaediff"),
    "minilm-paee": Shape(6, 384, 12, 1536, emb_size=384, loss="adaptive", method="paee"),
    "minilm-paee-hard-attention": Shape(
        6, 384, 12, 1536, emb_size=384, loss="adaptive", method="paee", grid_network="hard-attention"
    ),
    "minilm-docunet": Shape(6, 384, 12, 1536, emb_size=384, loss="balanced", method="docunet"),
    "bert-base-kd-docre": Shape(12, 768, 12, 3072, emb_size=1024, loss="afl", method="kd-docre"),
    "bert-base-docunet": Shape(12, 768, 12, 3072, emb_size=768, loss="balanced", method="docunet"),
    "tiny": Shape(2, 32, 4, 64, emb_size=32, block_size=8),
    "tiny-kd-docre": Shape(2, 32, 4, 64, emb_size=32, block_size=8, loss="afl", method="kd-docre"),
    "tiny-vaediff": Shape(2, 32, 4, 64, emb_size=32, block_size=8, loss="pmt", method="vaediff"),
    "tiny-paee": Shape(2, 32, 4, 64, emb_size=32, block_size=8, loss="adaptive", method="paee"),
    "tiny-docunet": Shape(2, 32, 4, 64, emb_size=32, block_size=8, loss="balanced", method="docunet"),
}
MODEL_NOTES = (
    "minilm: the embedded model's settings (emb_size 384, entity types, loss pmt); minilm-768 and bert-base: the "
    "published ones (emb_size 768, loss atl); with a method's name its own head and loss; block 64"
)


def build_models(shape: Shape, device: str) -> tuple[PreTrainedModel, DocREForRelationExtraction]:
    """Build the bare encoder with SDPA, and our model around an encoder with the same random weights."""
    torch.manual_seed(0)
    encoder_config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=shape.intermediate,
    )
    config = DocREConfig.for_method(
        shape.method,
        RELATIONS,
        encoder_config=encoder_config,
        emb_size=shape.emb_size,
        block_size=shape.block_size,
        loss=shape.loss,
        use_entity_types=shape.use_entity_types,
        entity_types=ENTITY_TYPES,
        grid_network=shape.grid_network,
    )
    model = DocREForRelationExtraction(config)
    bare = AutoModel.from_config(encoder_config, add_pooling_layer=False, attn_implementation="sdpa")
    bare.load_state_dict(model.docre.encoder.state_dict())
    for name, found in (("bare encoder", bare), ("model's encoder", model.docre.encoder)):
        if found.config._attn_implementation != "sdpa":
            raise SystemExit(
                f"The encoder of the {name} runs {found.config._attn_implementation} attention, not SDPA."
            )
    return bare.to(device), model.to(device)


def set_dropout(model: nn.Module, probability: float) -> None:
    """Set every dropout layer's probability, that of attention included."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = probability


# ---------------------------------------------------------------------------------------------------------------------
# Work
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Work:
    """A batch of documents as the model takes it, labels included."""

    name: str
    batch: dict[str, Tensor]

    @property
    def pairs(self) -> int:
        """Pairs in the batch."""
        return len(self.batch["pairs"])

    @property
    def tokens(self) -> int:
        """Tokens in the batch, padding included."""
        return self.batch["input_ids"].numel()

    def to(self, device: str) -> Work:
        """Return the work on another device."""
        return Work(self.name, {name: tensor.to(device) for name, tensor in self.batch.items()})


def generate_work(entities: int, *, documents: int = 8, tokens: int = 464, seed: int = 0) -> Work:
    """Generate documents of Re-DocRED's shape, all with the same number of entities, as tensors.

    Args:
        entities (`int`): Entities of every document.
        documents (`int`, *optional*, defaults to 8): Documents of the batch.
        tokens (`int`, *optional*, defaults to 464): Tokens of the longest document, to which the others are padded.
        seed (`int`, *optional*, defaults to 0): What the draw starts from.

    Raises:
        SystemExit: when the shortest document has not one token for every mention.
    """
    draw = random.Random(seed)
    generator = torch.Generator().manual_seed(seed)
    lengths = [max(8, round(tokens * LENGTHS[(number + 5) % len(LENGTHS)])) for number in range(documents)]
    mentions = []
    for document, length in enumerate(lengths):
        counts = draw.choices(range(1, len(MENTIONS_PER_ENTITY) + 1), MENTIONS_PER_ENTITY, k=entities)
        if sum(counts) > length - 2:
            raise SystemExit(
                f"{entities} entities have {sum(counts)} mentions, more than a document of {length} tokens holds; ask "
                "for fewer (--entities) or for longer documents (--tokens)."
            )
        places = iter(draw.sample(range(1, length - 1), sum(counts)))
        mentions += [[document, entity, next(places)] for entity, count in enumerate(counts) for _ in range(count)]
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    pairs = (torch.ones(documents, entities, entities) - torch.eye(entities)).nonzero()
    labels = torch.zeros(len(pairs), len(RELATIONS) + 1)
    labelled = torch.rand(len(pairs), generator=generator) < LABELLED_PAIRS
    labels[labelled, torch.randint(1, len(RELATIONS) + 1, (int(labelled.sum()),), generator=generator)] = 1.0
    labels[:, 0] = (~labelled).float()
    batch = {
        "input_ids": torch.randint(1000, VOCABULARY, mask.shape, generator=generator) * mask,
        "attention_mask": mask,
        "mentions": torch.tensor(mentions),
        "pairs": pairs,
        "num_entities": torch.full((documents,), entities),
        "entity_types": torch.randint(1, len(ENTITY_TYPES) + 1, (documents, entities), generator=generator),
        "labels": labels,
        # Of 25 tokens each, between the special tokens.
        "sentence_ids": torch.where(
            (torch.arange(mask.shape[1]) > 0) & (torch.arange(mask.shape[1]) < mask.sum(1, keepdim=True) - 1),
            (torch.arange(mask.shape[1]) - 1) // 25,
            -1,
        ),
    }
    return Work(f"{entities} entities", batch)


def read_work(path: Path, documents: int = 8) -> Work:
    """Take the first documents of a DocRED file, in tokens of the embedded model's MiniLM."""
    if not path.is_file():
        raise SystemExit(f"{path}: there is no such file. Without --documents, documents are generated.")
    processor = DocREProcessor.from_pretrained(DEFAULT_MODEL)
    found = list(itertools.islice(iter_documents(path), documents))
    batch = processor.collate(processor(found, strict=False))
    if "labels" not in batch:
        raise SystemExit(f"{path}: the documents have no labels, which a training step needs.")
    return Work(f"{len(found)} of {path.name}", batch)


# ---------------------------------------------------------------------------------------------------------------------
# The clock and the memory gauge
# ---------------------------------------------------------------------------------------------------------------------


class Seconds(NamedTuple):
    """Time of one run: of the processor (summed over threads), and of the wall."""

    cpu: float
    wall: float


def clock(step: Callable[[], object], device: str) -> Seconds:
    """Run `step` once and time it; on a GPU until its work is done."""
    synchronize(device)
    cpu, wall = time.process_time(), time.perf_counter()
    step()
    synchronize(device)
    return Seconds(time.process_time() - cpu, time.perf_counter() - wall)


def synchronize(device: str) -> None:
    """Wait for the GPU, where there is one."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def peak_memory(process: int | str = "self") -> int:
    """Return the peak of a process's resident memory so far in bytes, as Linux keeps it; 0 when it has ended.

    Of a process at work: that of an ended one, or `getrusage`'s, begins with what its parent held.

    Args:
        process (`int` or `str`, *optional*, defaults to `"self"`): Its id.
    """
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    found = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


class Ran(NamedTuple):
    """What a finished process was like: its exit code, seconds, peak memory in MiB, and what it said."""

    code: int
    seconds: float
    peak: float
    said: str


def run_docre(*arguments: object, kill_when: Callable[[], bool] | None = None) -> Ran:
    """Run `docre` in a process of its own, and kill it as soon as `kill_when` says so."""
    command = [sys.executable, "-m", "modeling_docre.cli", *map(str, arguments)]
    peak = 0
    with tempfile.TemporaryFile("w+") as said:
        began = time.monotonic()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said)
        while process.poll() is None:
            peak = max(peak, peak_memory(process.pid))
            if kill_when is not None and kill_when():
                process.send_signal(signal.SIGKILL)
                process.wait()
            time.sleep(0.01)
        said.seek(0)
        return Ran(process.returncode, time.monotonic() - began, peak / 2**20, said.read())


class Spread(NamedTuple):
    """Median and quartiles."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Summarise values; a single one is its own quartiles."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high)


class Comparison(NamedTuple):
    """Rounds of two interleaved runs: medians in seconds, and the spread of the ratio within a round."""

    floor: Seconds
    ours: Seconds
    cpu_ratio: Spread
    wall_ratio: Spread


def compare(floor: Callable[[], Seconds], ours: Callable[[], Seconds], rounds: int) -> Comparison:
    """Run both once untimed, then in alternating order; what else the machine does then meets both alike."""
    floor(), ours()
    times: list[tuple[Seconds, Seconds]] = []
    for number in range(rounds):
        if number % 2:
            second, first = ours(), floor()
        else:
            first, second = floor(), ours()
        times.append((first, second))
    return Comparison(
        Seconds(*(statistics.median(values) for values in zip(*(first for first, _ in times), strict=True))),
        Seconds(*(statistics.median(values) for values in zip(*(second for _, second in times), strict=True))),
        Spread.of([second.cpu / first.cpu for first, second in times]),
        Spread.of([second.wall / first.wall for first, second in times]),
    )


# ---------------------------------------------------------------------------------------------------------------------
# Arguments and tables
# ---------------------------------------------------------------------------------------------------------------------


def numbers(text: str) -> list[int]:
    """Parse `10,20,40`."""
    return [int(number) for number in text.split(",") if number.strip()]


def add_common_arguments(parser: argparse.ArgumentParser, *, rounds: int) -> None:
    """Add the options that all benchmarks have."""
    parser.add_argument("--rounds", type=int, default=rounds, help="timed rounds (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default: %(default)s)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")


def add_work_arguments(parser: argparse.ArgumentParser, *, entities: list[int]) -> None:
    """Add the options that say which models run on what."""
    usual = [name for name in MODELS if not name.startswith("tiny")]
    parser.add_argument("--models", nargs="+", choices=MODELS, default=usual, help="all but the tiny without it")
    parser.add_argument("--entities", type=numbers, default=entities, help="of generated documents, such as 10,20,40")
    parser.add_argument("--documents", type=Path, help="a DocRED file to take the first documents of instead")
    parser.add_argument("--batch", type=int, default=8, help="documents (default: %(default)s)")
    parser.add_argument(
        "--tokens", type=int, default=464, help="of the longest generated document (default: %(default)s)"
    )


def make_works(arguments: argparse.Namespace) -> list[Work]:
    """Make the work that the arguments ask for: one batch, or one per number of entities."""
    if arguments.documents is not None:
        return [read_work(arguments.documents, arguments.batch)]
    return [generate_work(count, documents=arguments.batch, tokens=arguments.tokens) for count in arguments.entities]


def prepare(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Check the common arguments, and set the number of threads."""
    if arguments.rounds < 1:
        parser.error("--rounds: at least one round is needed")
    torch.set_num_threads(arguments.threads)


def environment(arguments: argparse.Namespace) -> dict[str, Any]:
    """Say what the figures were measured on."""
    if arguments.device.startswith("cuda"):
        processor = torch.cuda.get_device_name(arguments.device)
    else:
        processor = _processor_name()
    return {
        "device": processor,
        "threads": arguments.threads,
        "rounds": arguments.rounds,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def _processor_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def print_environment(found: dict[str, Any]) -> None:
    """Print what the figures were measured on, in one line."""
    print(", ".join(f"{name} {value}" for name, value in found.items()))


def report(
    arguments: argparse.Namespace,
    name: str,
    title: str,
    rows: Sequence[dict[str, Any]],
    cells: Callable[[dict[str, Any]], dict[str, str]],
) -> None:
    """Print measured rows: as JSON under a name, or as a table of their cells."""
    where = environment(arguments)
    if arguments.json:
        print(json.dumps({"environment": where, name: rows}, indent=1))
        return
    print_environment(where)
    print_table(title, [cells(row) for row in rows])


def print_table(title: str, rows: Sequence[dict[str, Any]]) -> None:
    """Print rows as a Markdown table, aligned; the keys of the first are the columns."""
    print(f"\n{title}\n")
    if not rows:
        return
    columns = list(rows[0])
    cells = [columns, *([str(row[column]) for column in columns] for row in rows)]
    widths = [max(len(line[place]) for line in cells) for place in range(len(columns))]
    number = [all(_is_number(line[place]) for line in cells[1:]) for place in range(len(columns))]
    for index, line in enumerate(cells):
        padded = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, number, strict=True)
        ]
        print(f"| {' | '.join(padded)} |")
        if index == 0:
            rule = ["-" * (width - 1) + (":" if right else "-") for width, right in zip(widths, number, strict=True)]
            print(f"| {' | '.join(rule)} |")


def _is_number(cell: str) -> bool:
    return cell.lstrip("-")[:1].isdigit() or cell == "-"
