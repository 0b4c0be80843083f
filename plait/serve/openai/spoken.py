"""Answers that are said: the model writes them in words, and says each sentence while it writes the next.

What a question wants said as it is (`told`) is not written anew. Where the model chooses what to answer in, it is asked first; what
it begins to say is said after that.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

from fastapi import Request as HttpRequest

from plait.contract import WORDS, Part
from plait.infer.events import Answer, BlockBegun, BlockDone, Event, Finished, TextDelta, Usage
from plait.infer.request import Request
from plait.infer.spoken import Pieces, merged, pieces_of, saying, says_letters, sound_of, told, wished, words_of
from plait.serve.answers import Asked, while_there
from plait.serve.errors import ApiError, OverloadedError
from plait.serve.openai.content import AUDIO
from plait.serve.state import Served, State

MOST = 100  # pieces of an answer
AT_ONCE = 2  # pieces of an answer that are under way: it hears the next one coming, and others wait no longer
Arrived = asyncio.Queue[tuple[int, Event | Exception]]


def may_be_said(served: Served, request: Request) -> bool:
    """Whether the answer to a request is said in a voice that is told its words, or may be."""
    return request.to in (AUDIO, None) and says_letters(served.model.network, AUDIO)


def in_sound(
    state: State, served: Served, requests: Sequence[Request], stream: bool, owner: str, previews: int = 0
) -> Asked:
    """What is asked, by way of words where the answer is said in a voice that reads them."""
    if requests and may_be_said(served, requests[0]):
        return Spoken(state, served, requests, owner, previews=previews)
    return Asked(state, served, requests, stream, owner, previews)


class Spoken(Asked):
    """Requests whose answers are said, or may be. With `text` that is said, and no answer is asked for. Raises ApiError for a text
    without words or with too many, OverloadedError."""

    def __init__(
        self, state: State, served: Served, requests: Sequence[Request], owner: str, text: str | None = None,
        previews: int = 0,
    ) -> None:  # fmt: skip
        self.state, self.served, self.requests, self.owner = state, served, requests, owner
        self.pieces, self.previews = None if text is None else pieces_of(text), previews
        if self.pieces is not None and not 0 < len(self.pieces) <= MOST:
            got = f"{len(self.pieces)} pieces to say" if self.pieces else "no words"
            raise ApiError(f"input: got {got}; expected some, at most {MOST}", param="input", code="invalid_value")
        self.under_way: list[Asked] = []
        self.is_cancelled = False
        self.parts_before = [0] * len(requests)  # the sound, known when it is asked for
        self.reservation = served.worker.reserve(len(requests))

    def _ask(self, request: Request) -> Asked:
        if self.is_cancelled:
            raise ApiError("the client has gone", 499)
        previews = 0 if request.to == AUDIO else self.previews
        asked = Asked(self.state, self.served, [request], True, self.owner, previews, self.reservation)
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
            asyncio.ensure_future(self._write(number, request, texts, arrived)),
            asyncio.ensure_future(self._say(request, texts, sounds, room)),
            asyncio.ensure_future(self._tell(number, sounds, room, arrived)),
        )
        try:
            (written, parts), left_out, said = await asyncio.gather(*tasks)
            usage = None if written or self.pieces is not None else await self._counted(request)
            whole = merged([*written, *said], [*parts, *sound_of(said, AUDIO)], usage, is_cut=left_out > 0)
            arrived.put_nowait((number, Finished(whole)))
        except Exception as error:
            arrived.put_nowait((number, error))
        finally:
            for task in tasks:
                task.cancel()

    async def _counted(self, request: Request) -> Usage | None:
        """What a request asks, which was said without being asked; None where the engine is too busy to count it."""
        engine = self.served.model.engine
        with suppress(OverloadedError):
            return Usage(dict(await self.served.worker.call(partial(engine.asked_tokens, request))))
        return None

    async def _write(
        self, number: int, request: Request, texts: asyncio.Queue[str | None], arrived: Arrived
    ) -> tuple[list[Answer], list[Part]]:
        """Write an answer and pass on the pieces to say; returns what was asked for that, and the parts of the answer."""
        written: list[Answer] = []
        parts: list[Part] = []
        text, is_said = "".join(self.pieces or ()), wished(self.served.model.network, request) == AUDIO
        if not is_said:  # the model chooses
            async for _, event in self._ask(request).events():
                if isinstance(event, Finished):
                    written, parts = [event.answer], list(event.answer.message.parts)
                else:
                    arrived.put_nowait((number, event))
            is_said, text = written[0].to_say == AUDIO, words_of(written[0])
        if self.pieces is None and is_said and (known := told(request, AUDIO)) and known != text:
            text = known
            arrived.put_nowait((number, TextDelta(len(parts), text)))
            parts.append(Part(WORDS, text))
        if is_said and text:
            self.parts_before[number] = len(parts)
            pieces = await asyncio.to_thread(pieces_of, text) if self.pieces is None else self.pieces
            for piece in pieces:
                texts.put_nowait(piece)
        elif is_said:
            self.parts_before[number] = len(parts) + 1
            written.append(await self._write_aloud(number, replace(request, to=WORDS), len(parts), texts, arrived))
            parts += written[-1].message.parts
        texts.put_nowait(None)
        return written, parts

    async def _write_aloud(
        self, number: int, request: Request, part: int, texts: asyncio.Queue[str | None], arrived: Arrived
    ) -> Answer:
        """Write the words of an answer as its `part`, and pass on each piece to say as soon as it is whole."""
        pieces, answer = Pieces(), None
        async for _, event in self._ask(request).events():
            if isinstance(event, TextDelta):
                arrived.put_nowait((number, replace(event, part=part)))
                for piece in pieces.add(event.text):
                    texts.put_nowait(piece)
            elif isinstance(event, Finished):
                answer = event.answer
        for piece in pieces.rest():
            texts.put_nowait(piece)
        assert answer is not None
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
        answers = []
        while (asked := await sounds.get()) is not None:
            async for _, event in asked.events():
                if isinstance(event, BlockBegun | BlockDone):
                    arrived.put_nowait((number, replace(event, part=self.parts_before[number])))
                elif isinstance(event, Finished):
                    answers.append(event.answer)
            room.release()
        return answers
