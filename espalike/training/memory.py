"""How the C library treats memory that torch frees between two operations of a training step."""

from __future__ import annotations

import ctypes
import platform

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_LARGEST = 32 * 2**20  # above it, glibc refuses the second


def keep_freed_memory() -> bool:
    """Have freed memory kept for the next allocation instead of given back to the system; for this whole process.

    A step allocates and frees some hundred arrays of a megabyte. By default glibc returns each to the system, which
    clears every page when it is touched again: up to a third of the time of a step. Costs the peak of a step in memory
    that stays with the process.

    Returns:
        Whether it could be done: on Linux with glibc.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    return all(
        library.mallopt(what, size) for what, size in ((_M_MMAP_THRESHOLD, _LARGEST), (_M_TRIM_THRESHOLD, 2**31 - 1))
    )
