"""Python programs in processes of their own that have other people's libraries already: importing them takes each
seconds. This package they import themselves. They end without waiting for threads, and without what `atexit` calls.

Two servers import them once and fork for every program. They are two, so that the processes that a test compares do
not all have the same order of sets and dictionaries (`PYTHONHASHSEED`), which hides what depends on it.
"""

from __future__ import annotations

import atexit
import faulthandler
import functools
import gc
import glob
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

PATIENCE = 300
STREAMS = ("out", "err")


def in_a_process(act: Callable[[], object], kill: Callable[[], int] = lambda: 0) -> int:
    """Do something in a forked process, send that the signal that `kill` returns, and return how it ended."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            act()
            code = 0
        except SystemExit as leaving:
            code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
            if isinstance(leaving.code, str):
                sys.stderr.write(f"{leaving.code}\n")
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if not ended and (number := kill()):
            os.kill(child, number)
            ended, status = os.waitpid(child, 0)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)


# The side of the tests


def run_python(
    *arguments: object,
    processes: int = 1,
    kill_at: str | None = None,
    seconds_later: float = 0.0,
    cwd: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Do what `python ARGUMENTS` does, or `torchrun --nproc_per_node=2 ARGUMENTS`, in processes that are forked.

    Args:
        arguments: A script or `-m` and a module, and what they are given.
        processes (`int`, *optional*, defaults to 1): One or two; when one fails, the other is killed.
        kill_at (`str`, *optional*): Kill the process, of which there is one, when there is a file of this pattern.
        seconds_later (`float`, *optional*, defaults to 0.0): How long the kill waits after that.
        cwd (`Path`, *optional*): The folder to run in; that of the tests without it.

    Returns:
        What `subprocess.run` does; of two processes, the output of one after that of the other.
    """
    from torch.distributed import TCPStore

    command = list(map(str, arguments))
    # What is killed is compared with what is not, which the other server runs.
    servers = [server(number) for number in (range(2) if processes == 2 else [int(kill_at is not None)])]
    environments = [{**os.environ, "OMP_NUM_THREADS": "1"}] * processes
    if processes == 2:
        store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        environments = [one | launched(rank, store.port) for rank, one in enumerate(environments)]
    with tempfile.TemporaryDirectory() as name:
        for rank, (one, environment) in enumerate(zip(servers, environments, strict=True)):
            job = {"arguments": command, "environment": environment, "folder": name, "log": f"{name}/{rank}"}
            job |= {"kill_at": kill_at, "later": seconds_later, "cwd": str(cwd or Path.cwd())}
            one.stdin.write(json.dumps(job) + "\n")
            one.stdin.flush()
        answers = [one.stdout.readline() for one in servers]
        assert all(answers), "a server of processes has ended, and said why"
        codes = [int(answer) for answer in answers]
        ends = [[Path(name, f"{rank}.{end}") for rank in range(processes)] for end in STREAMS]
        out, err = ("".join(path.read_text(encoding="utf-8") for path in paths) for paths in ends)
    # Of two, the one that failed by itself.
    code = next((code for code in codes if code not in (0, -signal.SIGKILL)), min(codes))
    return subprocess.CompletedProcess(command, code, out, err)


def run_docre(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the command `docre` in a folder and a process of its own."""
    return run_python("-m", "modeling_docre.cli", *arguments, cwd=cwd)


def launched(rank: int, port: int) -> dict[str, str]:
    """Return what `torchrun` tells a process, whose agent has the store, as the tests have here."""
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_RESTART_COUNT": "0",
    }


@functools.cache
def server(number: int) -> subprocess.Popen[str]:
    """Start one of the servers; it ends with this process, which closes its input."""
    process = subprocess.Popen(
        [sys.executable, __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    atexit.register(process.communicate)
    return process


# The side of the servers


def serve() -> None:
    """Run the programs that come as lines of JSON, and answer each with its exit code."""
    import datasets  # noqa: F401
    import torch
    import transformers.pipelines
    import transformers.trainer  # noqa: F401

    assert "modeling_docre" not in sys.modules
    torch.set_num_threads(1)
    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        job = json.loads(line)
        began = time.monotonic()
        failed = Path(job["folder"], "failed")

        def kill(job: dict = job, began: float = began, failed: Path = failed) -> int:
            if job["kill_at"] and glob.glob(job["kill_at"]):
                time.sleep(job["later"])
                return signal.SIGKILL
            # The other may have a last word to say.
            if failed.exists() and time.time() - failed.stat().st_mtime > 5:
                return signal.SIGKILL
            # It says where it hangs.
            return signal.SIGABRT if time.monotonic() - began > PATIENCE else 0

        code = in_a_process(functools.partial(run, job), kill)
        if code:
            failed.touch()
        sys.stdout.write(f"{code}\n")
        sys.stdout.flush()


def run(job: dict) -> None:
    """Become the program."""
    import numpy

    for number, name in enumerate([os.devnull, *(f"{job['log']}.{end}" for end in STREAMS)]):
        os.dup2(os.open(name, os.O_RDWR | os.O_CREAT), number)
    os.chdir(job["cwd"])
    faulthandler.enable()
    os.environ.clear()
    os.environ.update(job["environment"])
    # What is not seeded is another in each process; `random` sees to it itself.
    numpy.random.seed()
    first, *others = job["arguments"]
    if first == "-m":
        sys.argv = others
        runpy.run_module(others[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = [first, *others]
        sys.path.insert(0, str(Path(first).parent))
        runpy.run_path(first, run_name="__main__")


if __name__ == "__main__":
    serve()
