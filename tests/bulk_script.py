"""Extraction in processes of their own, for test_bulk.py; importing the libraries once serves all of them."""

from __future__ import annotations

import os
import random
import resource
import signal
import sys
import time
from pathlib import Path

import torch
from forked import in_a_process

from modeling_docre.data_files import document_readers
from modeling_docre.extraction import extract_files, load_pipeline


def say(what: str, figure: float) -> None:
    sys.stdout.write(f"{what} {figure}\n")
    sys.stdout.flush()


def kill_from(moment: float) -> int:
    return signal.SIGKILL if time.monotonic() >= moment else 0


def kill(model: str, source: str, output: str, kills: int, seed: int) -> None:
    """Print how many documents were done after each kill, and extract to the end."""
    pipe = load_pipeline(model)
    journal = Path(f"{output}.partial", "part-00000.journal")

    def act() -> None:
        extract_files(pipe, source, output, resume=True, batch_size=2, threshold=0.0)

    began = time.monotonic()
    assert in_a_process(lambda: extract_files(pipe, source, f"{output}.straight", format="jsonl", batch_size=2)) == 0
    whole = time.monotonic() - began
    moments = random.Random(seed)
    killed = 0
    for _ in range(kills):
        moment = time.monotonic() + moments.uniform(0, 2 * whole / kills)
        if in_a_process(act, kill=lambda moment=moment: kill_from(moment)) == -signal.SIGKILL:
            killed += 1
            say("chunks done", journal.read_bytes().count(b"\n") if journal.exists() else 0)
        if os.path.exists(output):
            break
    else:
        assert in_a_process(act) == 0
    say("killed", killed)


def peak(model: str, *arguments: str) -> None:
    """Print the peak memory of extracting from each of the sources, in MiB, each in a process of its own."""
    torch.set_num_threads(1)
    pipe = load_pipeline(model)
    for source in arguments:

        def act(source: str = source) -> None:
            extract_files(pipe, source, f"{source}.out.jsonl", batch_size=2)
            say("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)

        assert in_a_process(act) == 0


def read(*arguments: str) -> None:
    """Print the peak memory of reading each of the sources, in MiB, each in a process of its own."""
    for source in arguments:

        def act(source: str = source) -> None:
            for _ in document_readers(source):
                pass
            say("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)

        assert in_a_process(act) == 0


if __name__ == "__main__":
    torch.set_num_threads(1)
    command, *rest = sys.argv[1:]
    if command == "kill":
        kill(*rest[:3], int(rest[3]), int(rest[4]))
    else:
        {"peak": peak, "read": read}[command](*rest)
