"""Several loaders, each in a process of its own: where one thread prepares rows slower than a device trains on them.

Worker w of W draws its own stream of rows and makes the steps w, w + W, w + 2W, ..., so what a step holds depends on W and
on nothing else, and a run resumes exactly with the same W.
"""

from __future__ import annotations

import multiprocessing
import resource
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.multiprocessing as tensors

from plait.data.loader import ALONE, Loader, Ranks
from plait.data.pack import Batch
from plait.errors import ConfigError, PlaitError

AHEAD = 2  # steps that a worker prepares before they are asked for
WAIT = 600.0  # seconds without a step, after which the worker counts as lost


class LoaderPool:
    """`Loader` for one process that trains, with `workers` that prepare. `make` gives the loader of a worker's number."""

    def __init__(self, make: Callable[[int], Loader], workers: int) -> None:
        self.make, self.workers = make, workers
        self.mix, self.encoder = make(0).mix, make(0).encoder
        self.states: list[dict[str, Any] | None] = [None] * workers
        self.next_worker = 0
        self.too_long: dict[str, tuple[str, str]] = {}

    def next_step(self, ranks: Ranks = ALONE) -> list[Batch]:
        """Micro-batches of the next step, made here: the slow twin of `steps`."""
        number = self.next_worker
        loader = self._loader(number)
        batches = loader.next_step(ranks)
        self.states[number], self.next_worker = loader.state(), (number + 1) % self.workers
        return batches

    def _loader(self, number: int) -> Loader:
        loader = self.make(number)
        state = self.states[number]
        if state is not None:
            loader.load_state(state)
        return loader

    @contextmanager
    def steps(self, ranks: Ranks = ALONE) -> Iterator[Iterator[list[Batch]]]:
        """An endless iterator of steps, prepared by the workers. An error of a worker is raised when its step is due.

        Raises ConfigError with several ranks, whose steps are planned together.
        """
        if ranks.world > 1:
            raise ConfigError(
                "pack.workers works in one process; with several, leave it at 0: each prepares its own rows"
            )
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (hard, hard)
        )  # a tensor on its way between processes is an open file
        context = multiprocessing.get_context("fork")
        queues = [tensors.get_context("fork").Queue(AHEAD) for _ in range(self.workers)]
        processes = [
            context.Process(target=_work, args=(self._loader, number, queue), daemon=True)
            for number, queue in enumerate(queues)
        ]
        for process in processes:
            process.start()

        def yield_steps() -> Iterator[list[Batch]]:
            while True:
                number = self.next_worker
                batches, state, too_long, error = queues[number].get(timeout=WAIT)
                if error is not None:
                    raise error
                self.too_long |= too_long
                self.states[number], self.next_worker = state, (number + 1) % self.workers
                yield batches

        try:
            yield yield_steps()
        finally:
            for process in processes:
                process.kill()  # it holds nothing that must be put away
            for process in processes:
                process.join()
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    def state(self) -> dict[str, Any]:
        """JSON: the state of every worker's loader after the last step that was taken from it."""
        return {"workers": list(self.states), "next": self.next_worker}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue exactly where `state` was taken. Raises ConfigError for one of another number of workers."""
        if len(state.get("workers", ())) != self.workers:
            raise ConfigError(
                f"the run was begun with pack.workers={len(state.get('workers', ()))}; got {self.workers}: leave it as it was"
            )
        self.states, self.next_worker = list(state["workers"]), int(state["next"])


def _work(loader_of: Callable[[int], Loader], number: int, queue: Any) -> None:
    """The life of a worker."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # what the training does with signals is not this process's business
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        loader = loader_of(number)
        told: set[str] = set()
        while True:
            batches = loader.next_step()
            new = {key: value for key, value in loader.too_long.items() if key not in told}
            told |= set(new)
            queue.put((batches, loader.state(), new, None))
    except Exception as error:
        known = (
            error if isinstance(error, PlaitError) else RuntimeError(f"a worker that prepares rows failed: {error!r}")
        )
        queue.put(([], None, {}, known))
