"""What glibc does with freed memory: kept for the next tensor instead of given back to the system.

A training step frees and asks for the same tens of megabytes again and again; by default each is mapped and zeroed anew
by the kernel, which costs a quarter of a step (docs/experiments.md). Other C libraries are left as they are.
"""

from __future__ import annotations

import ctypes
import sys

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3  # names of <malloc.h>
LARGEST_THRESHOLD = 32 * 2**20  # the most that glibc accepts


def keep_freed() -> bool:
    """Tell glibc; whether it could be told."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    settings = ((MMAP_THRESHOLD, LARGEST_THRESHOLD), (TRIM_THRESHOLD, 2**31 - 1), (TOP_PAD, LARGEST_THRESHOLD))
    told = [mallopt(name, value) == 1 for name, value in settings]  # all of them, whatever one says
    return all(told)
