"""Shared code of the benchmarks: contenders that alternate in one run (A B B A), medians, a table and one JSON line."""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import statistics
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch


def alternate(contenders: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """The number that each contender returns in each round. Every second round runs them backwards, after one warm-up
    each."""
    for run in contenders.values():
        run()
    results: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds):
        order = list(contenders)[:: 1 if number % 2 == 0 else -1]
        for name in order:
            results[name].append(contenders[name]())
    return results


class Worker:
    """A contender in a process of its own, so that no setting of one (of the allocator, say) affects another.

    The process calls `make(*arguments)` once, and the function that it returns once a round for a number. `environment` has
    further variables for the process.
    """

    def __init__(
        self, make: Callable[..., Callable[[], float]], *arguments: Any, environment: Mapping[str, str] | None = None
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, worker_pipe = context.Pipe()
        own_environment = dict(os.environ)
        os.environ.update(environment or {})
        self.process = context.Process(target=_serve, args=(worker_pipe, make, arguments), daemon=True)
        self.process.start()
        os.environ.clear()
        os.environ.update(own_environment)

    def __call__(self) -> float:
        """Run one round. Raises RuntimeError with the traceback of an error in the process."""
        self.pipe.send("go")
        kind, value = self.pipe.recv()
        if kind == "error":
            raise RuntimeError(value)
        return float(value)

    def close(self) -> None:
        """End the process."""
        self.pipe.send("stop")
        self.process.join()


def _serve(pipe: Any, make: Callable[..., Callable[[], float]], arguments: tuple[Any, ...]) -> None:
    run = None
    while pipe.recv() == "go":
        try:
            run = run or make(*arguments)
            pipe.send(("value", run()))
        except Exception as error:
            pipe.send(("error", f"{error!r}\n{traceback.format_exc()}"))


def seconds(work: Callable[[], Any]) -> float:
    """Seconds that `work()` takes."""
    start_time = time.perf_counter()
    work()
    return time.perf_counter() - start_time


def contest(contenders: Mapping[str, Worker], rounds: int) -> dict[str, float]:
    """Median of each worker's rounds; closes the workers."""
    medians = {name: median(values) for name, values in alternate(contenders, rounds).items()}
    for worker in contenders.values():
        worker.close()
    return medians


def gemm_rate(dtype: torch.dtype, size: int = 2048, repeats: int = 5) -> float:
    """FLOP/s of a square matrix product, the best of `repeats`: an upper bound for torch on this processor."""
    a, b = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
    torch.mm(a, b)
    return max(2 * size**3 / seconds(lambda: torch.mm(a, b)) for _ in range(repeats))


def table(title: str, rows: Sequence[tuple[str, ...]], head: tuple[str, ...]) -> None:
    """Print a title, and rows under a head in columns."""
    widths = [max(len(str(row[column])) for row in (head, *rows)) for column in range(len(head))]
    print(f"\n{title}")
    for row in (head, *rows):
        print("  ".join(str(cell).ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def finish(name: str, facts: Mapping[str, Any]) -> None:
    """Print the one JSON line: the benchmark's name, the machine, and the facts."""
    machine = {"torch": torch.__version__, "threads": torch.get_num_threads(), "python": platform.python_version()}
    print(json.dumps({"benchmark": name, **machine, **facts}))


def median(values: list[float]) -> float:
    """Median of some numbers."""
    return statistics.median(values)
