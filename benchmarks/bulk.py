"""Check `docre extract` on a corpus: speed, memory, and what is left of a run that is killed again and again.

    python benchmarks/bulk.py test.json --kills 10

It extracts from the first fifth of the documents and from all, and compares the peak memory of the two processes; then
it starts the run once more, kills it (SIGKILL) at random moments, goes on with `--resume`, and compares the output of
the last run with the undisturbed one, byte for byte. Linux only: it reads peaks from /proc.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from common import run_docre


def done_in(output: Path) -> int:
    """Count the chunks that a run has done so far."""
    journal = output.with_name(f"{output.name}.partial") / "part-00000.journal"
    try:
        return journal.read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0


def choose_moment(output: Path, chunks: int, start: float, chunk: float, moments: random.Random) -> Callable[[], bool]:
    """Choose the moment of a kill: a random time after so many chunks are done.

    Args:
        output (`pathlib.Path`): What the run writes.
        chunks (`int`): How many chunks must be done; if they are now, the run is killed before it works.
        start (`float`): Seconds that a run takes before it works.
        chunk (`float`): Seconds of a chunk.
        moments (`random.Random`): Chooses the time.
    """
    wait = moments.random() * (start / 2 if done_in(output) >= chunks else chunk)
    reached: list[float] = []

    def is_due() -> bool:
        if not reached and done_in(output) >= chunks:
            reached.append(time.monotonic())
        return bool(reached) and time.monotonic() - reached[0] >= wait

    return is_due


def main() -> None:
    """Run the checks and print what they found; exit code 1 when outputs differ or a kill found nothing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path, help="a JSON list of documents")
    parser.add_argument("--model", help="folder or Hub id; the embedded model without it")
    parser.add_argument("--batch-size", type=int, default=8, help="as for docre extract")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=None, help="of the random moments")
    options = parser.parse_args()
    seed = random.randrange(2**32) if options.seed is None else options.seed
    moments = random.Random(seed)
    settings: list[object] = ["--batch-size", options.batch_size]
    if options.model:
        settings += ["--model", options.model]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        documents = json.loads(options.corpus.read_text(encoding="utf-8"))
        number = len(documents)
        for file, some in (("one", documents[:1]), ("few", documents[: max(number // 5, 1)])):
            (folder / f"{file}.json").write_text(json.dumps(some), encoding="utf-8")
        one = run_docre("extract", folder / "one.json", "-o", folder / "one.jsonl", *settings)
        few = run_docre("extract", folder / "few.json", "-o", folder / "few.jsonl", *settings)
        straight = run_docre("extract", options.corpus, "-o", folder / "all.jsonl", *settings)
        for ran, what in ((one, 1), (few, max(number // 5, 1)), (straight, number)):
            print(
                f"{what} documents: {ran.seconds:.1f} s in all, peak memory {ran.peak:.0f} MiB\n{ran.said}", flush=True
            )
            if ran.code:
                sys.exit(1)
        print(f"peak memory of all documents against a fifth of them: {straight.peak / few.peak:.3f}")

        output = folder / "killed.jsonl"
        chunks = -(-number // (options.batch_size * 8))  # the pipeline reads ahead 8 batches
        seconds = max(straight.seconds - one.seconds, 0) / chunks
        kills = 0
        # The last quarter is left to the run that is not killed, so that every kill finds one at work.
        for place in sorted(moments.choices(range(max(chunks * 3 // 4, 1)), k=options.kills)):
            is_due = choose_moment(output, place, one.seconds, seconds, moments)
            last = run_docre("extract", options.corpus, "-o", output, "--resume", *settings, kill_when=is_due)
            if last.code != -signal.SIGKILL:
                break
            kills += 1
            print(f"killed after {last.seconds:.1f} s; {done_in(output)} of {chunks} chunks are done", flush=True)
        if kills < options.kills:
            sys.exit(f"killed {kills} times, not {options.kills} (seed {seed}): the run had ended. {last.said}")
        last = run_docre("extract", options.corpus, "-o", output, "--resume", *settings)
        print(last.said)
        same = not last.code and output.read_bytes() == (folder / "all.jsonl").read_bytes()
        verdict = "equals" if same else "DIFFERS FROM"
        print(f"killed {kills} times (seed {seed}); the output {verdict} that of the undisturbed run")
        sys.exit(not same)


if __name__ == "__main__":
    main()
