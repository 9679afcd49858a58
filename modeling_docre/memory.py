"""What the C library is asked about memory, so that long runs do not need more and more of it."""

from __future__ import annotations

import contextlib
import ctypes
import os

# mallopt's M_MMAP_THRESHOLD.
_MMAP_THRESHOLD = -3


def steady_memory(large: int = 12 << 20) -> None:
    """Keep the peak of a long run where it was after a few batches.

    glibc learns to take large tensors from its heap, where ever fewer of the holes between small ones fit the next
    batch's: the peak would go on rising for thousands of documents. With pages of their own they leave no holes. The
    environment variable `MALLOC_MMAP_THRESHOLD_` has the last word.

    Args:
        large (`int`, *optional*, defaults to 12 MiB): Size in bytes from which on a tensor has pages of its own.
    """
    if "MALLOC_MMAP_THRESHOLD_" not in os.environ:
        _call_glibc("mallopt", _MMAP_THRESHOLD, large)


def give_memory_back() -> None:
    """Return to the system what glibc keeps between tensors of unequal sizes: it would grow with every batch."""
    _call_glibc("malloc_trim", 0)


def _call_glibc(function: str, *arguments: int) -> None:
    """Call a function that other C libraries lack, where nothing happens."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        getattr(ctypes.CDLL(None), function)(*arguments)


__all__ = ["give_memory_back", "steady_memory"]
