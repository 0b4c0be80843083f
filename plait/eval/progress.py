"""Progress of an evaluation's questions: a bar on a terminal, plain lines elsewhere, or nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.progress import Task as BarTask
from rich.table import Column
from rich.text import Text

PLAIN_EVERY = 10.0  # seconds between lines where there is no terminal

Advance = Callable[[int], None]


class Progress(Protocol):
    """An evaluation reports to it while it asks the questions of a task."""

    def rows(self, what: str, total: int) -> AbstractContextManager[Advance]:
        """While `total` questions of `what` are asked: gives a function that takes the number answered so far."""


class NoProgress:
    """Reports nothing."""

    @contextmanager
    def rows(self, what: str, total: int) -> Iterator[Advance]:
        yield lambda done: None


class _Rate(ProgressColumn):
    """Rows a second."""

    def render(self, task: BarTask) -> Text:
        return Text(f"{task.speed:.1f} rows/s" if task.speed else "")


class ConsoleProgress:
    """A bar that vanishes when its questions are answered; without a terminal a line at most every PLAIN_EVERY seconds.

    `console` is standard error if None; `clock` gives seconds.
    """

    def __init__(self, console: Console | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.console = console or Console(stderr=True)
        self.clock = clock
        self.last_line = clock()  # what is over within seconds needs no line

    @contextmanager
    def rows(self, what: str, total: int) -> Iterator[Advance]:
        """See Progress.rows."""
        if not self.console.is_terminal:
            begin = self.clock()
            yield lambda done: self._line(what, done, total, self.clock() - begin)
            return
        columns = (
            TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis")),
            BarColumn(16), MofNCompleteColumn(), _Rate(Column(no_wrap=True)), TimeRemainingColumn(), TextColumn("left"),
        )  # fmt: skip
        with Bar(*columns, console=self.console, transient=True) as bar:
            task = bar.add_task(what, total=total)
            yield lambda done: bar.update(task, completed=done)

    def _line(self, what: str, done: int, total: int, seconds: float) -> None:
        if self.clock() - self.last_line < PLAIN_EVERY or not done:
            return
        self.last_line = self.clock()
        rate = done / max(seconds, 1e-9)
        self.console.print(
            f"{what}: {done}/{total} rows  {rate:.1f} rows/s  {_duration((total - done) / rate)} left",
            highlight=False, soft_wrap=True, markup=False,
        )  # fmt: skip


def _duration(seconds: float) -> str:
    """75.0 as 1:15."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
