"""Answers that are said: the model writes them in words, and says each sentence while it writes the next."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import replace

import numpy as np
from fastapi import Request as HttpRequest

from plait.contract import WORDS, Message, Part
from plait.infer.events import Answer, BlockBegun, BlockDone, Event, Finished, Reason, TextDelta, Usage
from plait.infer.request import Request
from plait.infer.spoken import Pieces, pieces_of, saying, says_letters
from plait.serve.answers import Asked, while_there
from plait.serve.errors import ApiError
from plait.serve.openai.content import AUDIO
from plait.serve.state import Served, State

MOST = 100  # pieces of an answer
AT_ONCE = 2  # pieces of an answer that are under way: it hears the next one coming, and others wait no longer
Arrived = asyncio.Queue[tuple[int, Event | Exception]]


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
    """Requests whose answers are said. With `text` that is said, and no answer is asked for. Raises ApiError for a text without
    words or with too many, OverloadedError."""

    def __init__(
        self, state: State, served: Served, requests: Sequence[Request], owner: str, text: str | None = None
    ) -> None:
        self.state, self.served, self.requests, self.owner = state, served, requests, owner
        self.pieces = None if text is None else pieces_of(text)
        if self.pieces is not None and not 0 < len(self.pieces) <= MOST:
            got = f"{len(self.pieces)} pieces to say" if self.pieces else "no words"
            raise ApiError(f"input: got {got}; expected some, at most {MOST}", param="input", code="invalid_value")
        self.under_way: list[Asked] = []
        self.is_cancelled = False
        self.reservation = served.worker.reserve(len(requests))
        written = [] if self.pieces is not None else [replace(request, to=WORDS) for request in requests]
        self.writing = [self._ask(request) for request in written]

    def _ask(self, request: Request) -> Asked:
        asked = Asked(self.state, self.served, [request], True, self.owner, within=self.reservation)
        self.under_way.append(asked)
        return asked

    def cancel(self) -> None:
        """As `Asked.cancel`."""
        if not self.is_cancelled:
            self.reservation.end()
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
        arrived: Arrived = asyncio.Queue()
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

    async def _answer(self, number: int, request: Request, arrived: Arrived) -> None:
        """One answer: it is written, said and told at once; then the whole."""
        texts: asyncio.Queue[str | None] = asyncio.Queue()
        sounds: asyncio.Queue[Asked | None] = asyncio.Queue()
        room = asyncio.Semaphore(AT_ONCE)
        tasks = (
            asyncio.ensure_future(self._write(number, texts, arrived)),
            asyncio.ensure_future(self._say(request, texts, sounds, room)),
            asyncio.ensure_future(self._tell(number, sounds, room, arrived)),
        )
        try:
            written, left_out, said = await asyncio.gather(*tasks)
            arrived.put_nowait((number, Finished(_merged(written, said, left_out))))
        except Exception as error:
            arrived.put_nowait((number, error))
        finally:
            for task in tasks:
                task.cancel()

    async def _write(self, number: int, texts: asyncio.Queue[str | None], arrived: Arrived) -> Answer | None:
        """Write an answer and pass on the pieces to say; None where the text is given."""

        def pass_on(pieces: Iterable[str]) -> None:
            for piece in pieces:
                texts.put_nowait(piece)

        answer, pieces = None, Pieces()
        if self.pieces is not None:
            pass_on(self.pieces)
        else:
            async for _, event in self.writing[number].events():
                if isinstance(event, TextDelta):
                    arrived.put_nowait((number, event))
                    pass_on(pieces.add(event.text))
                elif isinstance(event, Finished):
                    answer = event.answer
            pass_on(pieces.rest())
        texts.put_nowait(None)
        return answer

    async def _say(
        self,
        request: Request,
        texts: asyncio.Queue[str | None],
        sounds: asyncio.Queue[Asked | None],
        room: asyncio.Semaphore,
    ) -> int:
        """Ask for the sound of each piece, of AT_ONCE together; returns how many were left out."""
        count = 0
        while (text := await texts.get()) is not None:
            count += 1
            if count > MOST or self.is_cancelled:
                continue
            await room.acquire()
            sounds.put_nowait(self._ask(saying(self.served.model.network, request, AUDIO, text)))
        sounds.put_nowait(None)
        return max(0, count - MOST)

    async def _tell(
        self, number: int, sounds: asyncio.Queue[Asked | None], room: asyncio.Semaphore, arrived: Arrived
    ) -> list[Answer]:
        """Tell the sound of each piece, that of one after that of the one before; returns their answers."""
        part = 0 if self.pieces is not None else 1
        answers = []
        while (asked := await sounds.get()) is not None:
            async for _, event in asked.events():
                if isinstance(event, BlockBegun | BlockDone):
                    arrived.put_nowait((number, replace(event, part=part)))
                elif isinstance(event, Finished):
                    answers.append(event.answer)
            room.release()
        return answers


def _merged(written: Answer | None, said: Sequence[Answer], left_out: int) -> Answer:
    """The words and all that was said of them as one answer, with one sound."""
    answers = [*([written] if written else []), *said]
    sounds = [part for answer in said for part in answer.message.parts if part.type == AUDIO]
    parts = written.message.parts if written else ()
    if sounds:
        samples = np.concatenate([sound.value[0] for sound in sounds])
        options = {name: value for name, value in sounds[0].options.items() if name != "mel"}
        parts = (*parts, Part(AUDIO, (samples, sounds[0].value[1]), options))
    first = answers[0] if answers else Answer(Message("assistant", ()), [])
    reasons: list[Reason] = [answer.reason for answer in answers] + (["length"] if left_out else [])
    answered = sum((Counter(answer.usage.answered) for answer in answers), Counter[str]())
    return replace(
        first,
        message=Message("assistant", parts),
        segments=[segment for answer in answers for segment in answer.segments],
        reason=next((reason for reason in ("error", "cancelled", "length") if reason in reasons), "stop"),
        usage=Usage(first.usage.asked, dict(answered), first.usage.reused),
    )
