"""Many small independent jobs, such as turning mel frames into sound, on all of the process's threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

Given = TypeVar("Given")
Made = TypeVar("Made")


def parallel_map(function: Callable[[Given], Made], items: Iterable[Given]) -> list[Made]:
    """`[function(item) for item in items]`, an item a thread; the first exception is raised.

    torch lets go of Python's lock, and one small job keeps one core busy. A worker has torch's threads for itself (one),
    so that a call inside a call runs in place, and the caller's inference mode.
    """
    given, workers, inference = list(items), torch.get_num_threads(), torch.is_inference_mode_enabled()
    if workers == 1 or len(given) < 2:
        return [function(item) for item in given]

    def job(item: Given) -> Made:
        with torch.inference_mode(inference):
            return function(item)

    with thread_pool(workers) as executor:
        return list(executor.map(job, given))


@contextmanager
def thread_pool(workers: int) -> Iterator[ThreadPoolExecutor]:
    """Threads for jobs, each with one of torch's threads; what is left over when the block ends is dropped."""
    before = torch.get_num_threads()
    executor = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield executor
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
        torch.set_num_threads(before)
