"""`/v1/audio/speech` and `/voices`."""

from __future__ import annotations

import wave
from collections.abc import AsyncIterator
from io import BytesIO
from typing import Any, Literal

from fastapi import APIRouter
from fastapi import Request as HttpRequest
from fastapi.responses import Response
from pydantic import Field

from plait import registry
from plait.contract import WORDS, Message, Part
from plait.infer.events import BlockDone, Finished
from plait.serve.answers import Asked, Stream
from plait.serve.errors import ApiError, unsupported
from plait.serve.guard import caller_of
from plait.serve.media import encoded, joined
from plait.serve.openai.chat import VOICES
from plait.serve.openai.content import AUDIO
from plait.serve.openai.shapes import Sampled, refuse
from plait.serve.openai.spoken import Spoken, may_be_said
from plait.serve.state import Served, State

RATE = 24_000  # of streamed samples
STREAMED = ("wav", "pcm")
NEUTRAL: dict[str, tuple[Any, ...]] = {"speed": (1, 1.0), "stream_format": ("audio",), "instructions": ("",)}


class SpeechRequest(Sampled):
    """Words to say."""

    input: str = Field(min_length=1, max_length=4096)
    model: str | None = None
    voice: str | dict[str, str] = VOICES[0]
    response_format: Literal["wav", "mp3", "flac", "opus", "pcm"] = "mp3"
    speed: float | None = None
    instructions: str | None = None
    stream_format: str | None = None


def _open_wav() -> bytes:
    """The header of a WAV whose length is not known yet: players read on to its end."""
    buffer = BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(b"")
    header = bytearray(buffer.getvalue())
    header[4:8] = header[40:44] = b"\xff\xff\xff\xff"
    return bytes(header)


async def _sounding(asked: Asked, format: str) -> AsyncIterator[bytes]:
    """Bytes of the clip as its blocks come. An error breaks the connection, so that nobody takes what came for the whole."""
    if format == "wav":
        yield _open_wav()
    join = joined(AUDIO)
    async for _, event in asked.events():
        if isinstance(event, BlockDone) and event.piece.type == AUDIO:
            yield join(event.piece)
        elif isinstance(event, Finished):
            yield join(None)


def _needs(served: Served, kinds: list[str], what: str) -> None:
    if AUDIO not in kinds:
        raise unsupported("model", f"{served.name} has not learned to {what}")


def router(state: State) -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["audio"])
    _speaking(routes, state)
    return routes


def _speaking(routes: APIRouter, state: State) -> None:
    @routes.post("/v1/audio/speech", response_model=None)
    async def speech(body: SpeechRequest, http: HttpRequest) -> Response:
        """Say the words. WAV and PCM come as they are made; other formats when all is said, with their true duration."""
        refuse(body, NEUTRAL)
        voice = body.voice if isinstance(body.voice, str) else body.voice.get("id", "")
        if voice not in VOICES:
            raise unsupported("voice", f"got {voice!r}; expected one of {', '.join(VOICES)}")
        served = state.find(body.model)
        _needs(served, served.writes, f"speak; it answers in {', '.join(served.writes)}")
        question = (Message("user", (Part(WORDS, body.input),)),)
        requests = body.requests(served.model.usual, [question], to=AUDIO, max_tokens=state.limits.tokens)
        asked = (
            Spoken(state, served, requests, caller_of(http), body.input)
            if may_be_said(served, requests[0])
            else Asked(state, served, requests, body.response_format in STREAMED, caller_of(http))
        )
        if body.response_format in STREAMED:
            media_type = registry.transfers(AUDIO).formats()[body.response_format]  # type: ignore[union-attr]
            return Stream(asked, _sounding(asked, body.response_format), media_type=media_type)
        (answer,) = await asked.answers(http)
        sound = next((part for part in answer.message.parts if part.type == AUDIO), None)
        if sound is None:
            raise ApiError(
                "the model answered without sound; ask otherwise, or with another seed", 500, code="no_sound"
            )
        media_type, data, _ = encoded(sound, body.response_format)
        return Response(data, media_type=media_type)

    @routes.get("/v1/audio/voices")
    async def voices() -> dict[str, Any]:
        """The voices that can be named: the model has one."""
        return {"object": "list", "data": [{"id": name, "object": "audio.voice", "name": name} for name in VOICES]}
