"""Answers that are said: the model writes them in words, and says each sentence as soon as it stands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace

import numpy as np
from fastapi import Request as HttpRequest

from plait.contract import WORDS, Message, Part
from plait.infer.events import Answer, BlockBegun, BlockDone, Event, Finished, TextDelta, Usage
from plait.infer.request import Request
from plait.infer.spoken import Pieces, pieces_of, saying, says_letters
from plait.serve.answers import Asked, while_there
from plait.serve.errors import ApiError
from plait.serve.openai.content import AUDIO
from plait.serve.state import Served, State

MOST = 100  # pieces of an answer


def is_said(served: Served, request: Request) -> bool:
    """Whether the answer to a request is written first, and then said."""
    return request.to == AUDIO and says_letters(served.model.network, AUDIO)


def in_sound(
    state: State, served: Served, requests: Sequence[Request], stream: bool, owner: str, previews: int = 0
) -> Asked:
    """What is asked, by way of words where the answer is said in a voice that reads them."""
    if requests and is_said(served, requests[0]):
        return Spoken(state, served, requests, owner)
    return Asked(state, served, requests, stream, owner, previews)


class Spoken(Asked):
    """Requests whose answers are said. With `text` that is said, and no answer is asked for."""

    def __init__(
        self, state: State, served: Served, requests: Sequence[Request], owner: str, text: str | None = None
    ) -> None:
        self.state, self.served, self.requests, self.owner, self.text = state, served, requests, owner, text
        self.under_way: list[Asked] = []
        self.is_cancelled = False
        if text is None:
            written = [replace(request, to=WORDS) for request in requests]
            self.writing = [self._ask(request) for request in written]
        else:
            self.pieces = pieces_of(text)
            if not 0 < len(self.pieces) <= MOST:
                what = "no words" if not self.pieces else f"{len(self.pieces)} sentences"
                raise ApiError(f"input: got {what}; expected some, at most {MOST}", param="input", code="invalid_value")

    def _ask(self, request: Request) -> Asked:
        asked = Asked(self.state, self.served, [request], True, self.owner)
        self.under_way.append(asked)
        return asked

    def cancel(self) -> None:
        """As `Asked.cancel`."""
        self.is_cancelled = True
        for asked in self.under_way:
            asked.cancel()

    async def answers(self, http: HttpRequest) -> list[Answer]:
        """As `Asked.answers`."""
        answers: dict[int, Answer] = {}

        async def collect() -> None:
            async for number, event in self.events():
                if isinstance(event, Finished):
                    answers[number] = event.answer

        try:
            await while_there(http, collect())
        finally:
            self.cancel()
        return [answers[number] for number in sorted(answers)]

    async def events(self) -> AsyncIterator[tuple[int, Event]]:
        """As `Asked.events`."""
        arrived: asyncio.Queue[tuple[int, Event | Exception]] = asyncio.Queue()
        tasks = [
            asyncio.ensure_future(self._answer(number, request, arrived))
            for number, request in enumerate(self.requests)
        ]
        running = len(tasks)
        try:
            while running:
                number, event = await arrived.get()
                if isinstance(event, Exception):
                    raise event
                running -= isinstance(event, Finished)
                yield number, event
        finally:
            for task in tasks:
                task.cancel()
            self.cancel()

    async def _answer(
        self, number: int, request: Request, arrived: asyncio.Queue[tuple[int, Event | Exception]]
    ) -> None:
        """One answer: its words and its sound at once, each in its order; then the whole."""
        said: asyncio.Queue[Asked | None] = asyncio.Queue()
        sounding = asyncio.ensure_future(self._sound(number, said, arrived))
        try:
            written = await self._write(number, request, said, arrived)
            said.put_nowait(None)
            arrived.put_nowait((number, Finished(_whole(written, await sounding))))
        except Exception as error:
            arrived.put_nowait((number, error))
        finally:
            sounding.cancel()

    async def _write(
        self,
        number: int,
        request: Request,
        said: asyncio.Queue[Asked | None],
        arrived: asyncio.Queue[tuple[int, Event | Exception]],
    ) -> Answer | None:
        """Write an answer, and have each piece of it said; None where the text is given."""
        count = 0

        def say(pieces: Iterator[str] | Sequence[str]) -> None:
            nonlocal count
            for piece in pieces:
                count += 1
                if count <= MOST and not self.is_cancelled:
                    said.put_nowait(self._ask(saying(request, AUDIO, piece)))

        if self.text is not None:
            say(self.pieces)
            return None
        answer, pieces = None, Pieces()
        async for _, event in self.writing[number].events():
            if isinstance(event, TextDelta):
                arrived.put_nowait((number, event))
                say(pieces.add(event.text))
            elif isinstance(event, Finished):
                answer = event.answer
        if answer is not None and answer.reason != "cancelled":
            say(pieces.rest())
        return answer

    async def _sound(
        self, number: int, said: asyncio.Queue[Asked | None], arrived: asyncio.Queue[tuple[int, Event | Exception]]
    ) -> list[Answer]:
        """Tell the sound of each piece, those of one after those of the one before; returns their answers."""
        part = 0 if self.text is not None else 1
        answers = []
        while (asked := await said.get()) is not None:
            async for _, event in asked.events():
                if isinstance(event, BlockBegun | BlockDone):
                    arrived.put_nowait((number, replace(event, part=part)))
                elif isinstance(event, Finished):
                    answers.append(event.answer)
        return answers


def _whole(written: Answer | None, said: Sequence[Answer]) -> Answer:
    """The words and all that was said of them as one answer, with one sound."""
    answers = [*([written] if written else []), *said]
    sounds = [part for answer in said for part in answer.message.parts if part.type == AUDIO]
    parts = written.message.parts if written else ()
    if sounds:
        samples = np.concatenate([sound.value[0] for sound in sounds])
        options = {name: value for name, value in sounds[0].options.items() if name != "mel"}
        parts = (*parts, Part(AUDIO, (samples, sounds[0].value[1]), options))
    answered: dict[str, int] = {}
    for answer in answers:
        for kind, count in answer.usage.answered.items():
            answered[kind] = answered.get(kind, 0) + count
    first = answers[0] if answers else Answer(Message("assistant", ()), [])
    reasons = [answer.reason for answer in answers if answer.reason != "stop"]
    return replace(
        first,
        message=Message("assistant", parts),
        segments=[segment for answer in answers for segment in answer.segments],
        reason=reasons[0] if reasons else "stop",
        usage=Usage(first.usage.asked, answered, first.usage.reused),
    )
