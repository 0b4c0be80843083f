"""One thread that owns an engine, and requests that come to it from a server's event loop.

The engine is not thread-safe: everything that touches it runs here, between two of its steps. What it tells goes back to the
loop that asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from plait.contract import Message
from plait.infer.engine import Engine
from plait.infer.events import Answer, Event, Finished
from plait.infer.request import Request
from plait.infer.ticket import Ticket
from plait.serve.errors import OverloadedError

Result = TypeVar("Result")
log = logging.getLogger("plait.serve")
RETRY_AFTER = 2  # seconds, that a client is asked to wait where too many do


class Job:
    """A request on its way. Iterate over its events, the last of which is `Finished`, or wait for the `answer`."""

    def __init__(
        self, worker: Worker, request: Request, stream: bool, previews: int, owner: str, counts: bool = True
    ) -> None:
        self.worker, self.request, self.stream, self.previews, self.owner = worker, request, stream, previews, owner
        self.counts = counts
        self.loop = asyncio.get_running_loop()
        self.arrived: asyncio.Queue[Event] = asyncio.Queue()
        self.begun = time.perf_counter()
        self.ticket: Ticket | None = None  # the worker's thread alone touches it
        self.is_cancelled = self.is_finished = False

    async def events(self) -> AsyncIterator[Event]:
        """Events as they come; the last one is `Finished`."""
        while True:
            event = await self.arrived.get()
            yield event
            if isinstance(event, Finished):
                return

    async def answer(self) -> Answer:
        """The whole answer. Raises its error."""
        async for event in self.events():
            if isinstance(event, Finished):
                if event.answer.error is not None:
                    raise event.answer.error
                return event.answer
        raise AssertionError("events end with Finished")

    def cancel(self) -> None:
        """Nobody waits for it any more."""
        self.is_cancelled = True
        self.worker.commands.put(self._cancel)

    def _cancel(self) -> None:
        if self.ticket is not None:
            self.worker.engine.cancel(self.ticket)

    def tell(self, event: Event) -> None:
        """Pass an event to the loop, if it still runs; from the worker's thread."""
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self._arrive, event)

    def _arrive(self, event: Event) -> None:
        if isinstance(event, Finished) and not self.is_finished:
            self.is_finished = True
            self.worker.outstanding -= self.counts
        self.arrived.put_nowait(event)


class Reservation:
    """Answers that were let in and need several jobs: until its `end` they count, and their jobs do not."""

    def __init__(self, worker: Worker, count: int) -> None:
        self.worker, self.count = worker, count
        worker.outstanding += count
        worker.reserved += count

    def end(self) -> None:
        """No more jobs come."""
        self.worker.outstanding -= self.count
        self.worker.reserved -= self.count
        self.count = 0
        self.worker.commands.put(lambda: None)  # wakes it up: it may be the last one


class Worker:
    """Runs an engine. At most `most` requests are here at once, those that wait included; more are refused (`OverloadedError`).

    More than `longest` tokens of a prompt are refused. `close` lets what was taken end first.
    """

    def __init__(self, engine: Engine, longest: int | None = None, most: int = 256) -> None:
        self.engine, self.longest, self.most = engine, longest, most
        self.commands: queue.SimpleQueue[Callable[[], Any]] = queue.SimpleQueue()
        self.calls: queue.SimpleQueue[Callable[[], Any]] = queue.SimpleQueue()
        self.jobs: list[Job] = []
        self.outstanding = 0  # of the loop's thread alone
        self.reserved = 0  # of them, answers that need several jobs one after the other
        self.is_closing = False
        self.thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self.thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether it answers."""
        return self.thread.is_alive() and not self.is_closing

    def submit(
        self,
        requests: Sequence[Request],
        stream: bool = False,
        previews: int = 0,
        owner: str = "",
        within: Reservation | None = None,
    ) -> list[Job]:
        """Take all of some requests of an owner or none, from a running event loop; those `within` an answer that was let in are
        taken. Raises OverloadedError."""
        if within is None:
            self._let_in(len(requests))
        jobs = [Job(self, request, stream, previews, owner, within is None) for request in requests]
        self.outstanding += len(jobs) if within is None else 0
        for job in jobs:
            self.commands.put(partial(self._begin, job))
        return jobs

    def reserve(self, count: int) -> Reservation:
        """Let answers in that will need several jobs each, from a running event loop. Raises OverloadedError."""
        self._let_in(count)
        return Reservation(self, count)

    def _let_in(self, count: int) -> None:
        """Raise OverloadedError where so many more cannot be taken."""
        if not self.is_alive:
            raise OverloadedError("the server is closing; expected requests before that", RETRY_AFTER)
        if self.outstanding + count > self.most:
            raise OverloadedError(
                f"{self.outstanding} answers are under way and {count} more were asked for; expected at most {self.most} together",
                RETRY_AFTER,
            )

    async def call(self, function: Callable[[], Result]) -> Result:
        """What `function` returns, called between two steps of the engine, one such call after each; raises what it raises, and
        OverloadedError."""
        self._let_in(1)
        future: Future[Result] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return  # nobody waits for it any more
            try:
                future.set_result(function())
            except Exception as error:
                future.set_exception(error)

        self.outstanding += 1
        try:
            self.calls.put(run)
            self.commands.put(lambda: None)  # wakes it up
            return await asyncio.wrap_future(future)
        finally:
            self.outstanding -= 1

    def close(self) -> None:
        """Take no more requests, and end with those that are there."""
        self.is_closing = True
        self.commands.put(lambda: None)  # wakes it up

    def _begin(self, job: Job) -> None:
        if not job.is_cancelled:
            job.ticket = self.engine.submit(job.request, job.stream, job.previews, self.longest, job.owner)
            self.jobs.append(job)
        else:
            job.tell(Finished(Answer(Message("assistant", ()), [], reason="cancelled")))

    @property
    def _is_idle(self) -> bool:
        return not self.jobs and self.commands.empty() and self.calls.empty()

    def _run(self) -> None:
        while not (self.is_closing and self._is_idle and not self.reserved):
            if self._is_idle:
                self._guarded(self.commands.get())  # waits for one
            while not self.commands.empty():
                self._guarded(self.commands.get())
            if not self.calls.empty():
                self._guarded(self.calls.get())
            if not self.jobs:
                continue
            try:
                self.engine.step()
            except Exception as error:  # a defect: it ends what is under way, and not the server
                log.exception("a step of the engine failed")
                for job in self.jobs:
                    if job.ticket is not None:
                        self._guarded(partial(self.engine.fail, job.ticket, error))
            self.jobs = [job for job in self.jobs if not self._tell(job)]

    @staticmethod
    def _guarded(command: Callable[[], Any]) -> None:
        """A command whose failure is a line in the log, and not the end of the thread."""
        try:
            command()
        except Exception:
            log.exception("a command to the engine failed")

    def _tell(self, job: Job) -> bool:
        """Pass on what is new of a job; whether it is done."""
        ticket = job.ticket
        assert ticket is not None
        is_finished = False
        while ticket.events:
            event = ticket.events.popleft()
            is_finished |= isinstance(event, Finished)
            job.tell(event)
        if ticket.answer is not None and not is_finished:  # no stream, or one whose last event could not be made
            try:
                answer = self.engine.with_parts(ticket.answer)
            except Exception as error:
                answer = replace(ticket.answer, error=error)
            job.tell(Finished(answer))
        return ticket.done
