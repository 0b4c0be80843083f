"""Parallel maps over small independent jobs, such as turning mel frames into sound, on the process's threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

from plait.runtime import native

Item = TypeVar("Item")
Result = TypeVar("Result")


def use_threads(count: int | None) -> None:
    """`count` threads for computing; if None OMP_NUM_THREADS, or where that is not set this process's share of the cores, at most
    8. (One more thread prepares rows.) Configures the native libraries too."""
    native.configure()
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # of torchrun, which sets OMP_NUM_THREADS to 1 by itself
    wished = os.environ.get("OMP_NUM_THREADS", "") if processes == 1 else ""
    mine = int(wished) if wished.isdigit() and int(wished) else min((os.cpu_count() or 1) // processes, 8)
    torch.set_num_threads(count or max(1, mine))


def parallel_map(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """`[function(item) for item in items]` on as many threads as torch has. Raises the first exception in item order.

    torch releases Python's lock, and a small job uses one core only. Each worker has one torch thread, so that a nested
    call runs inline, and inherits the caller's inference mode.
    """
    jobs, workers, inference = list(items), torch.get_num_threads(), torch.is_inference_mode_enabled()
    if workers == 1 or len(jobs) < 2:
        return [function(item) for item in jobs]

    def run(item: Item) -> Result:
        with torch.inference_mode(inference):
            return function(item)

    with thread_pool(workers) as executor:
        return list(executor.map(run, jobs))


@contextmanager
def thread_pool(workers: int) -> Iterator[ThreadPoolExecutor]:
    """Context manager of an executor of `workers` threads with one torch thread each; cancels pending jobs at its end."""
    num_threads = torch.get_num_threads()
    executor = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield executor
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
        torch.set_num_threads(num_threads)
