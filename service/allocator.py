"""
glibc's allocator: freed memory is kept for the next request instead of being given back to the system.

A body of some megabytes takes several pieces of memory of its size, all free again when it is answered. What lies at
the end of the heap glibc then gives back, and for the next body the system finds and clears each page again: where the
heap happened to end so, that was a third of the CPU time of a bulk caller's requests (docs/decisions/0011).
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping

KEPT_BYTES = 64 * 2**20
"""At the end of each heap. What is free between two pieces in use is never given back, be this set or not."""
LARGE_BYTES = 8 * 2**20
"""Larger pieces come from the system, and go back at once: else replies that nobody reads leave holes of their size."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_VARIABLES = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_", "MALLOC_MMAP_MAX_")


def keep_freed_memory(environment: Mapping[str, str]) -> bool:
    """
    Have this process, and those that it forks, keep what it frees: whether it does now.

    Not where there is no glibc, nor where *environment* holds glibc's own variables: whoever set them knows better.
    """
    if any(name in environment for name in _VARIABLES) or "glibc.malloc" in environment.get("GLIBC_TUNABLES", ""):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl and macOS have none
    return mallopt is not None and bool(
        mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES) and mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)
    )
