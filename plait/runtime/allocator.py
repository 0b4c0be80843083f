"""What the C library and oneDNN do with memory, told once before a model computes (docs/adr/0008-freed-memory.md).

glibc keeps freed memory for the next tensor instead of giving it back: a training step frees and asks for the same tens
of megabytes again and again, and each would be mapped and zeroed anew by the kernel, a quarter of a step. oneDNN keeps
few prepared operations: packed rows have another number of tokens in every step, and each number leaves an operation with
its own memory behind, gigabytes in an hour. Other C libraries are left as they are, and so is what the caller's
environment sets.
"""

from __future__ import annotations

import ctypes
import os
import sys

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3  # names of <malloc.h>
LARGEST_THRESHOLD = 32 * 2**20  # the most that glibc accepts
KEPT_OPERATIONS = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64", "LRU_CACHE_CAPACITY": "16"}  # read at the first operation


def configure() -> bool:
    """Tell both; whether glibc could be told."""
    for name, value in KEPT_OPERATIONS.items():
        os.environ.setdefault(name, value)
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    settings = ((MMAP_THRESHOLD, LARGEST_THRESHOLD), (TRIM_THRESHOLD, 2**31 - 1), (TOP_PAD, LARGEST_THRESHOLD))
    told = [mallopt(name, value) == 1 for name, value in settings]  # all of them, whatever one says
    return all(told)
