"""From requests to answers: waiting for one while the client is there, or telling it as server-sent events."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Sequence
from typing import Any, TypeVar

from fastapi import Request as HttpRequest
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from plait import registry
from plait.infer.events import Answer, BlockDone, Event, Finished, TextDelta, Usage
from plait.infer.request import Request
from plait.serve.errors import ApiError, as_api_error
from plait.serve.marks import Marker, marked_answer
from plait.serve.state import Served, State
from plait.serve.worker import Job, Reservation

PING = 5.0  # seconds of silence before a comment says that the connection lives
LOOK = 0.25  # seconds between two looks whether a client is still there
Payload = dict[str, Any] | str
Result = TypeVar("Result")


async def while_there(http: HttpRequest, awaited: Awaitable[Result]) -> Result:
    """What is waited for, while the client is there. Raises ApiError once it has gone, and what waiting raises."""
    waiting = asyncio.ensure_future(awaited)
    try:
        while not waiting.done():
            await asyncio.wait({waiting}, timeout=LOOK)
            if not waiting.done() and await http.is_disconnected():
                raise ApiError("the client has gone", 499)
        return waiting.result()
    except BaseException:
        waiting.cancel()
        raise


class Asked:
    """The jobs of one HTTP request, which end with it. `owner`: whose earlier requests they may build on."""

    def __init__(
        self,
        state: State,
        served: Served,
        requests: Sequence[Request],
        stream: bool,
        owner: str,
        previews: int = 0,
        within: Reservation | None = None,
    ) -> None:
        self.state, self.served = state, served
        self.jobs = served.worker.submit(requests, stream, previews, owner, within)

    def cancel(self) -> None:
        """End what is not done."""
        for job in self.jobs:
            if not job.is_finished:
                job.cancel()

    async def answers(self, http: HttpRequest) -> list[Answer]:
        """All answers; none is made any more once the client has gone. Raises the first error."""
        try:
            answers = await while_there(http, asyncio.gather(*(job.answer() for job in self.jobs)))
        except BaseException:
            self.cancel()
            raise
        for job, answer in zip(self.jobs, answers, strict=True):
            self._count(job, answer)
        return list(map(marked_answer, answers)) if self.state.marks else answers

    async def events(self) -> AsyncIterator[tuple[int, Event]]:
        """Events of all jobs as they come, each with the number of its job. Raises the error of an answer that failed."""
        arrived: asyncio.Queue[tuple[int, Event | Exception | None]] = asyncio.Queue()

        async def pump(number: int, job: Job) -> None:
            marker = Marker()
            try:
                async for event in job.events():
                    for each in marker.events(event) if self.state.marks else (event,):
                        await arrived.put((number, each))
            except Exception as error:  # what cannot be marked does not leave
                await arrived.put((number, error))
            await arrived.put((number, None))

        pumps = [asyncio.ensure_future(pump(number, job)) for number, job in enumerate(self.jobs)]
        running, seen = len(pumps), set[tuple[int, type]]()
        try:
            while running:
                number, event = await arrived.get()
                if event is None:
                    running -= 1
                    continue
                if isinstance(event, Exception):
                    raise event
                if isinstance(event, TextDelta | BlockDone) and (number, type(event)) not in seen:
                    seen.add((number, type(event)))
                    self._count_first(self.jobs[number], event)
                if isinstance(event, Finished):
                    if event.answer.error is not None:
                        raise event.answer.error
                    self._count(self.jobs[number], event.answer)
                yield number, event
        finally:
            for each in pumps:
                each.cancel()
            self.cancel()

    def _count_first(self, job: Job, event: TextDelta | BlockDone) -> None:
        """Take the time of the first words, or of the first piece of a medium, into the metrics."""
        metrics = self.state.metrics
        histogram = metrics.first_words if isinstance(event, TextDelta) else metrics.first_piece
        histogram.labels(self.served.name).observe(time.perf_counter() - job.begun)

    def _count(self, job: Job, answer: Answer) -> None:
        """Take an answer into the metrics."""
        metrics, name = self.state.metrics, self.served.name
        metrics.whole.labels(name).observe(time.perf_counter() - job.begun)
        for side, counts in (("asked", answer.usage.asked), ("answered", answer.usage.answered)):
            for modality, tokens in counts.items():
                metrics.tokens.labels(name, side, modality).inc(tokens)


def usage(usages: Sequence[Usage], a_question: int | None = None) -> dict[str, Any]:
    """OpenAI's usage of several answers, `a_question` (all) of them to each question, which counts once.

    Details go by modality, those that have no token too, since clients read them as numbers.
    """
    asked = dict(sum((Counter(each.asked) for each in usages[:: a_question or len(usages) or 1]), Counter[str]()))
    answered = sum((Counter(each.answered) for each in usages), Counter[str]())
    sides = (("prompt", asked), ("completion", dict(answered)))
    tokens: dict[str, Any] = {f"{side}_tokens": sum(counts.values()) for side, counts in sides}
    tokens["total_tokens"] = sum(tokens.values())
    for side, counts in sides:
        of_all = dict.fromkeys(registry.available(), 0) | counts
        tokens[f"{side}_tokens_details"] = {f"{modality}_tokens": count for modality, count in sorted(of_all.items())}
    tokens["prompt_tokens_details"]["cached_tokens"] = sum(
        each.reused for each in usages[:: a_question or len(usages) or 1]
    )
    return tokens


def line(payload: Payload, named: bool = False) -> bytes:
    """One event as it is sent; `named`: by its type."""
    data = payload if isinstance(payload, str) else json.dumps(payload, ensure_ascii=False)
    name = f"event: {payload['type']}\n" if named and isinstance(payload, dict) and "type" in payload else ""
    return f"{name}data: {data}\n\n".encode()


async def _lines(payloads: AsyncGenerator[Payload, None], done: bool, named: bool) -> AsyncIterator[bytes]:
    yield b": open\n\n"  # headers go out before anything is computed
    following: asyncio.Future[Payload] | None = None
    try:
        while True:
            if following is None:
                following = asyncio.ensure_future(payloads.__anext__())
            if not (await asyncio.wait({following}, timeout=PING))[0]:
                yield b": ping\n\n"
                continue
            try:
                payload = following.result()
            except StopAsyncIteration:
                break
            except Exception as error:
                yield line(as_api_error(error).body())
                return
            following = None
            yield line(payload, named)
        if done:
            yield line("[DONE]")
    finally:
        if following is not None:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
        await payloads.aclose()


class Stream(StreamingResponse):
    """A response whose end, for whatever reason and however early, is the end of what was asked."""

    def __init__(self, asked: Asked, content: AsyncIterator[bytes], **options: Any) -> None:
        super().__init__(content, **options)
        self.asked = asked

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As its base."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.asked.cancel()


def event_stream(
    asked: Asked, payloads: AsyncGenerator[Payload, None], done: bool = True, named: bool = False
) -> StreamingResponse:
    """Server-sent events. An error after the headers is an event with OpenAI's error object; `done`: `[DONE]` is the last;
    `named`: each has the name of its type."""
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return Stream(asked, _lines(payloads, done, named), media_type="text/event-stream", headers=headers)
