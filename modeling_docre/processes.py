"""Several processes that share one piece of work, as `torchrun` starts them."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed

# Parts of a corpus take unequal time, and torchrun itself ends the others when a process fails: this is only how long
# the fastest may wait for the slowest.
_PATIENCE = timedelta(days=7)


@dataclass(frozen=True)
class Processes:
    """The processes of a run, seen from one of them.

    Args:
        rank (`int`, *optional*, defaults to 0): The number of this process.
        size (`int`, *optional*, defaults to 1): How many there are.
    """

    rank: int = 0
    size: int = 1

    def first(self, act: Callable[[], Any]) -> Any:
        """Let process 0 do something that the others wait for; all have its result, or its failure.

        Raises:
            RuntimeError: in the other processes, when process 0 failed.
        """
        if self.size == 1:
            return act()
        outcome: list[Any] = [None, False]
        try:
            if self.rank == 0:
                outcome = [act(), True]
        finally:
            distributed.broadcast_object_list(outcome)
        if not outcome[1]:
            raise RuntimeError(f"Process {self.rank} stopped because process 0 did, which says why.")
        return outcome[0]

    def collect(self, value: Any) -> list[Any]:
        """Wait until all processes have come here, and return what each brought.

        Raises:
            RuntimeError: when another process has ended.
        """
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        try:
            distributed.all_gather_object(values, value)
        except RuntimeError as error:
            raise RuntimeError(f"Another process ended before its part was done, and says why ({error}).") from None
        return values


@contextmanager
def join_processes() -> Iterator[Processes]:
    """Join the processes that a launcher such as `torchrun` started; alone without one.

    Yields:
        [`Processes`]: Connected by gloo, on the CPU, whatever the model runs on.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Processes()
        return
    # A program of its own may have joined already.
    joined = distributed.is_initialized()
    if not joined:
        distributed.init_process_group("gloo", timeout=_PATIENCE)
    try:
        yield Processes(distributed.get_rank(), distributed.get_world_size())
    finally:
        if not joined:
            distributed.destroy_process_group()


def leave_processes() -> None:
    """End the process group that a `Trainer` opened and left open: the last thing that a process does.

    gloo's threads let go of the last tensors in their own time, and a Python that ends meanwhile aborts with
    "terminate called without an active exception". A group that nothing holds any more waits for its threads; so
    whatever the `Trainer` wrapped must be out of reach by then.
    """
    if distributed.is_available() and distributed.is_initialized():
        gc.collect()
        distributed.destroy_process_group()


def gather_rows(*tensors: Tensor, left_out: bool = False) -> tuple[tuple[Tensor, ...], slice]:
    """Join the rows of tensors with those of all processes, in their order; gradients find their way back.

    All processes must call it at the same time, and go through its backward pass if one does.

    Args:
        tensors (`torch.Tensor` of shape `(rows, ...)`): As many rows in each; processes may have different numbers.
        left_out (`bool`, *optional*, defaults to `False`): Whether this process gives no rows, and is there alone.

    Returns:
        The joined tensors, and where this process's rows are in them.
    """
    from torch.distributed.nn.functional import all_gather

    rows = 0 if left_out else len(tensors[0])
    counts = [torch.zeros(1, dtype=torch.long, device=tensors[0].device) for _ in range(distributed.get_world_size())]
    distributed.all_gather(counts, torch.full_like(counts[0], rows))
    numbers = torch.cat(counts).tolist()
    joined = []
    for tensor in tensors:
        # Tables of one size are sent.
        table = torch.cat([tensor[:rows], tensor.new_zeros(max(*numbers, 1) - rows, *tensor.shape[1:])])
        parts = zip(all_gather(table), numbers, strict=True)
        joined.append(torch.cat([part[:number] for part, number in parts]))
    first = sum(numbers[: distributed.get_rank()])
    return tuple(joined), slice(first, first + rows)


def own_device() -> str | None:
    """Return the GPU of this process where a launcher started one per GPU; `None` leaves the choice to others."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or not torch.cuda.is_available():
        return None
    return f"cuda:{int(os.environ.get('LOCAL_RANK', '0')) % torch.cuda.device_count()}"


def check_device(name: str) -> str:
    """Return the name of a device, checked: `"cpu"`, `"cuda"`, `"cuda:1"`, `"mps"` or another that PyTorch knows.

    Raises:
        ValueError: when it is none, or this machine or this PyTorch has no such device.
    """
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    here = "cpu" if accelerator is None else f"cpu, {accelerator.type}"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"{name!r} is no device: write cpu, cuda or cuda:0 (here there is: {here}).") from None
    if device.type in ("cuda", "mps", "xpu") and (accelerator is None or accelerator.type != device.type):
        without = ", which was built without CUDA" if device.type == "cuda" and torch.version.cuda is None else ""
        raise ValueError(
            f"There is no device {name} here for this PyTorch ({torch.__version__}{without}): write cpu, or leave the "
            "device out for the best one."
        )
    if accelerator is not None and device.index is not None and device.type == accelerator.type:
        number = torch.accelerator.device_count()
        if device.index >= number:
            raise ValueError(f"There is no device {name}: of {device.type} there are {number}, counted from 0.")
    return name


__all__ = ["Processes", "check_device", "gather_rows", "join_processes", "leave_processes", "own_device"]
