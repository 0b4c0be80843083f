"""What the benchmarks share: contenders alternate in one run (A B B A), medians, ratios, a table and one JSON line."""

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
    """What each contender returned in each round; every second round runs them backwards. One warm-up each."""
    for run in contenders.values():
        run()
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds):
        order = list(contenders)[:: 1 if number % 2 == 0 else -1]
        for name in order:
            found[name].append(contenders[name]())
    return found


class Worker:
    """A contender in a process of its own, so that no setting of one (its allocator's, say) helps or harms another.

    `make(*arguments)` is called there once; what it returns is called once a round and returns a number.
    """

    def __init__(
        self, make: Callable[..., Callable[[], float]], *arguments: Any, environment: Mapping[str, str] | None = None
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self.ours, theirs = context.Pipe()
        before = dict(os.environ)
        os.environ.update(environment or {})
        self.process = context.Process(target=_serve, args=(theirs, make, arguments), daemon=True)
        self.process.start()
        os.environ.clear()
        os.environ.update(before)

    def __call__(self) -> float:
        self.ours.send("go")
        kind, value = self.ours.recv()
        if kind == "error":
            raise RuntimeError(value)
        return float(value)

    def close(self) -> None:
        self.ours.send("stop")
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
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def contest(contenders: Mapping[str, Worker], rounds: int) -> dict[str, float]:
    """Median of each worker's rounds; the workers are closed."""
    found = {name: median(values) for name, values in alternate(contenders, rounds).items()}
    for worker in contenders.values():
        worker.close()
    return found


def gemm_rate(dtype: torch.dtype, size: int = 2048, repeats: int = 5) -> float:
    """FLOP a second of a square matrix product: what this processor does at best in torch."""
    a, b = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
    torch.mm(a, b)
    return max(2 * size**3 / seconds(lambda: torch.mm(a, b)) for _ in range(repeats))


def table(title: str, rows: Sequence[tuple[str, ...]], head: tuple[str, ...]) -> None:
    """Print rows under a head, in columns."""
    widths = [max(len(str(row[column])) for row in (head, *rows)) for column in range(len(head))]
    print(f"\n{title}")
    for row in (head, *rows):
        print("  ".join(str(cell).ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def finish(name: str, facts: Mapping[str, Any]) -> None:
    """The one JSON line."""
    machine = {"torch": torch.__version__, "threads": torch.get_num_threads(), "python": platform.python_version()}
    print(json.dumps({"benchmark": name, **machine, **facts}))


def median(values: list[float]) -> float:
    return statistics.median(values)
