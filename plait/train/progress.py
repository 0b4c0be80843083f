"""What a running training tells: a bar on a terminal, plain lines elsewhere, train.log and TensorBoard files always."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from torch.utils.tensorboard import SummaryWriter

from plait.train.state import Training

LOG, LOSS = "train.log", "loss/"  # the file, and what stands before a loss group in its lines
PLAIN_EVERY = 10.0  # seconds between lines where there is no terminal


class Preparation:
    """What happens before the first step, told while it happens: a spinner on a terminal, a line a stage elsewhere.

    Use as a context; `silent`: of a process beside the first.
    """

    def __init__(self, silent: bool = False) -> None:
        self.console = Console(stderr=True, quiet=silent)
        self.status = self.console.status("") if self.console.is_terminal else None
        self.begin = self.last_line = time.monotonic()

    def __enter__(self) -> Preparation:
        if self.status:
            self.status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.status:
            self.status.stop()

    def stage(self, name: str) -> None:
        """A new stage begins."""
        self._tell(f"preparing: {name}")

    def rows(self, path: Path, count: int) -> None:
        """So many rows of a file are checked; a plain line at most every PLAIN_EVERY seconds."""
        if self.status or time.monotonic() - self.last_line > PLAIN_EVERY:
            self._tell(f"preparing: {count:,} rows of {path.name} checked")

    def _tell(self, line: str) -> None:
        self.last_line = time.monotonic()
        if self.status:
            self.status.update(f"{line} ({self.last_line - self.begin:.0f} s)")
        else:
            self.console.print(line, highlight=False, soft_wrap=True, markup=False)


class Progress:
    """Context manager; `update` takes the state, the mean losses and the fill of the packed sequences. `silent`: of a process
    beside the first, which tells nothing."""

    def __init__(self, run: Path, steps: int, done: int, silent: bool = False) -> None:
        self.console = Console(stderr=True, quiet=silent)
        log = Path(os.devnull) if silent else run / LOG
        self.log = log.open("a", encoding="utf-8")
        self.board = None if silent else SummaryWriter(str(run / "tensorboard"), purge_step=done)
        self.steps = steps
        self.before: tuple[float, int] | None = None  # (seconds, tokens) of the last report
        self.said, self.complained = 0.0, False
        self.bar = Bar(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
            TextColumn("{task.fields[rest]}"), console=self.console, disable=silent or not sys.stderr.isatty(),
        )  # fmt: skip
        self.task = self.bar.add_task("training", total=steps, completed=done, rest="")

    def __enter__(self) -> Progress:
        self.before_us, threading.excepthook = threading.excepthook, self._thread_failed
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()
        threading.excepthook = self.before_us
        for opened in (self.log, self.board):
            with suppress(OSError):  # what could not be written has been complained of
                if opened:
                    opened.close()

    def say(self, line: str) -> None:
        """A line on the console and in the log."""
        self.console.print(line, highlight=False, soft_wrap=True, markup=False)
        self._note(line)

    def _note(self, line: str) -> None:
        """A line in the log; a full disk costs the log, not the run."""
        try:
            self.log.write(line + "\n")
            self.log.flush()
        except OSError as error:
            self._complain(error)

    def _thread_failed(self, failed: threading.ExceptHookArgs) -> None:
        """TensorBoard's files are written by a thread of its own, which a full disk ends."""
        if isinstance(failed.exc_value, OSError):
            self._complain(failed.exc_value)
        else:
            self.before_us(failed)

    def _complain(self, error: OSError) -> None:
        if not self.complained:
            self.complained = True
            self.console.print(
                f"{self.log.name} or tensorboard/ beside it cannot be written: {error.strerror}; the run goes on without",
                highlight=False,
                soft_wrap=True,
                markup=False,
            )

    def update(self, training: Training, losses: dict[str, float], fill: float) -> None:
        seconds, tokens = self.before or (0.0, 0)
        rate = (training.tokens - tokens) / max(1e-9, training.seconds - seconds)
        self.before = (training.seconds, training.tokens)
        left = training.seconds / max(1, training.step) * (self.steps - training.step)
        entry = {
            "step": training.step, "seconds": round(training.seconds, 1), "tokens_per_s": round(rate),
            "fill": round(fill, 3), **{f"{LOSS}{group}": round(loss, 4) for group, loss in losses.items()},
        }  # fmt: skip
        self._note(json.dumps(entry))
        if self.board:
            try:
                for key, value in entry.items():
                    self.board.add_scalar(key, value, training.step)
            except OSError as error:
                self._complain(error)
        rest = f"{rate:,.0f} tokens/s  " + "  ".join(f"{group} {loss:.3f}" for group, loss in losses.items())
        self.bar.update(self.task, completed=training.step, rest=rest)
        plain_due = time.monotonic() - self.said > PLAIN_EVERY or training.step == self.steps
        if not sys.stderr.isatty() and plain_due:
            self.said = time.monotonic()
            self.console.print(
                f"step {training.step}/{self.steps}  {rest}  {left / 60:.1f} min left",
                highlight=False,
                soft_wrap=True,
                markup=False,
            )
