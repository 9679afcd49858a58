"""Check `docre extract` on a corpus: speed, memory, and what is left of a run that is killed again and again.

    python benchmarks/bulk.py test.json --kills 10

It extracts from the first fifth of the documents and from all, and compares the peak memory of the two processes; then
it starts the run once more, kills it (SIGKILL) at random moments, goes on with `--resume`, and compares the output of
the last run with the undisturbed one, byte for byte.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple


class Ran(NamedTuple):
    """What a finished process was like: its exit code, seconds, peak memory in MiB, and what it said."""

    code: int
    seconds: float
    peak: float
    said: str


def run(*arguments: object, kill_after: float | None = None) -> Ran:
    """Run `docre extract`, and kill it after so many seconds if it still runs then."""
    command = [sys.executable, "-m", "modeling_docre.cli", "extract", *map(str, arguments)]
    began = time.monotonic()
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, stderr=said)
        if kill_after is not None:
            while (
                time.monotonic() - began < kill_after
                and os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None
            ):
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        return Ran(process.returncode, time.monotonic() - began, usage.ru_maxrss / 1024, said.read())


def main() -> None:
    """Run the checks and print what they found; exit code 1 when the outputs differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path, help="a JSON list of documents")
    parser.add_argument("--model", help="folder or Hub id; the embedded model without it")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=None, help="of the random moments")
    options = parser.parse_args()
    seed = random.randrange(2**32) if options.seed is None else options.seed
    moments = random.Random(seed)
    model = ["--model", options.model] if options.model else []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        documents = json.loads(options.corpus.read_text(encoding="utf-8"))
        few = folder / "few.json"
        few.write_text(json.dumps(documents[: len(documents) // 5]), encoding="utf-8")
        peaks = {}
        for source, number in ((few, len(documents) // 5), (options.corpus, len(documents))):
            ran = run(source, "-o", folder / f"{number}.jsonl", *model)
            peaks[number] = ran.peak
            print(
                f"{number} documents: {ran.seconds:.1f} s in all, peak memory {ran.peak:.0f} MiB\n{ran.said}",
                flush=True,
            )
            if ran.code:
                sys.exit(1)
        small, large = peaks.values()
        print(f"peak memory of all documents against a fifth of them: {large / small:.3f}")

        arguments = (options.corpus, "-o", folder / "killed.jsonl", "--resume", *model)
        kills = 0
        while True:
            # Twice the fair share, so that all kills are likely to find the run at work.
            moment = moments.uniform(0, 2 * ran.seconds / (options.kills + 1)) if kills < options.kills else None
            last = run(*arguments, kill_after=moment)
            if last.code == -signal.SIGKILL:
                kills += 1
                journal = folder / "killed.jsonl.partial" / "part-00000.journal"
                done = journal.read_bytes().count(b"\n") if journal.is_file() else 0
                print(f"killed after {last.seconds:.1f} s; {done} chunks are done", flush=True)
                continue
            print(last.said)
            break
        same = (folder / "killed.jsonl").read_bytes() == (folder / f"{len(documents)}.jsonl").read_bytes()
        verdict = "equals" if same else "DIFFERS FROM"
        print(f"killed {kills} times (seed {seed}); the output {verdict} that of the undisturbed run")
        sys.exit(not same or last.code)


if __name__ == "__main__":
    main()
