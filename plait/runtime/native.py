"""Configures the native libraries below torch: the memory of glibc and oneDNN, the arithmetic of MKL
(docs/adr/0008-freed-memory.md).

Call `configure` before torch computes for the first time: oneDNN and MKL read their settings once, at their first operation.

glibc is set to keep freed memory for the next tensor instead of returning it to the kernel: a training step frees and
allocates the same tens of megabytes repeatedly, and the kernel would map and zero them each time, a quarter of a step.
oneDNN is set to cache few operations: packed rows have another number of tokens in every step, and oneDNN caches an
operation with its own memory for each number, gigabytes in an hour. MKL is set to add in an order that does not depend on
where in memory a tensor lies: on some processors a resumed run would otherwise differ from a straight one. Other C
libraries and variables of the caller's environment stay as they are.
"""

from __future__ import annotations

import ctypes
import os
import sys

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3  # names of <malloc.h>
MAX_THRESHOLD = 32 * 2**20  # the maximum that glibc accepts
CACHE_CAPACITIES = {
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64",
    "LRU_CACHE_CAPACITY": "16",
}  # oneDNN reads them at its first operation
REPRODUCIBLE = {"MKL_CBWR": "AUTO,STRICT"}  # MKL reads it at its first operation


def configure() -> bool:
    """Configure all; returns whether glibc accepted its settings."""
    for name, value in {**CACHE_CAPACITIES, **REPRODUCIBLE}.items():
        os.environ.setdefault(name, value)
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    settings = ((MMAP_THRESHOLD, MAX_THRESHOLD), (TRIM_THRESHOLD, 2**31 - 1), (TOP_PAD, MAX_THRESHOLD))
    accepted = [mallopt(name, value) == 1 for name, value in settings]  # a list: sets all even if one fails
    return all(accepted)
