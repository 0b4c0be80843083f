"""`/v1/audio/transcriptions`, `/translations`, `/speech`, `/voices`."""

from __future__ import annotations

import wave
from collections.abc import AsyncGenerator, AsyncIterator
from io import BytesIO
from typing import Annotated, Any, Literal

from fastapi import APIRouter, File, Form, UploadFile
from fastapi import Request as HttpRequest
from fastapi.responses import PlainTextResponse, Response
from pydantic import Field

from plait import registry
from plait.contract import WORDS, Message, Part
from plait.infer.events import BlockDone, Finished, TextDelta
from plait.serve.answers import Asked, Payload, Stream, event_stream, usage
from plait.serve.errors import ApiError, unsupported
from plait.serve.guard import caller_of
from plait.serve.media import encoded, joined
from plait.serve.openai.chat import VOICES, bounded
from plait.serve.openai.content import AUDIO
from plait.serve.openai.shapes import Request, Sampled, refuse
from plait.serve.state import Served, State

ASK = "Transcribe this."
RATE = 24_000  # of streamed samples
STREAMED = ("wav", "pcm")
NEUTRAL: dict[str, tuple[Any, ...]] = {"speed": (1, 1.0), "stream_format": ("audio",), "instructions": ("",)}
Format = Literal["json", "text", "verbose_json", "srt", "vtt"]


class SpeechRequest(Sampled):
    """Words to say."""

    input: str = Field(min_length=1, max_length=4096)
    model: str | None = None
    voice: str | dict[str, str] = VOICES[0]
    response_format: Literal["wav", "mp3", "flac", "opus", "pcm"] = "mp3"
    speed: float | None = None
    instructions: str | None = None
    stream_format: str | None = None


def _stamp(seconds: float, mark: str) -> str:
    whole = round(seconds * 1000)
    return f"{whole // 3_600_000:02}:{whole // 60_000 % 60:02}:{whole // 1000 % 60:02}{mark}{whole % 1000:03}"


def transcript(text: str, seconds: float, format: Format, told: dict[str, Any]) -> Response | dict[str, Any]:
    """Words of a clip in one of the formats. There are no times within it: one segment spans it."""
    if format == "text":
        return PlainTextResponse(text + "\n")
    if format == "srt":
        return PlainTextResponse(f"1\n{_stamp(0, ',')} --> {_stamp(seconds, ',')}\n{text}\n")
    if format == "vtt":
        return PlainTextResponse(
            f"WEBVTT\n\n{_stamp(0, '.')} --> {_stamp(seconds, '.')}\n{text}\n", media_type="text/vtt"
        )
    body: dict[str, Any] = {"text": text, "usage": told}
    if format == "verbose_json":
        segment = {"id": 0, "seek": 0, "start": 0.0, "end": seconds, "text": text, "tokens": [], "temperature": 0.0}
        body |= {"task": "transcribe", "duration": seconds, "segments": [segment]}
    return body


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


async def _transcribed(
    asked: Asked, http: HttpRequest, seconds: float, format: Format, stream: bool
) -> Response | dict[str, Any]:
    if not stream:
        (answer,) = await asked.answers(http)
        text = "".join(str(part.value) for part in answer.message.parts)
        tokens = usage([answer.usage])
        return transcript(text, seconds, format, _tokens(tokens))

    async def deltas() -> AsyncGenerator[Payload, None]:
        text = ""
        async for _, event in asked.events():
            if isinstance(event, TextDelta):
                text += event.text
                yield {"type": "transcript.text.delta", "delta": event.text}
            elif isinstance(event, Finished):
                yield {"type": "transcript.text.done", "text": text, "usage": _tokens(usage([event.answer.usage]))}

    return event_stream(asked, deltas(), done=False)


def _tokens(told: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "tokens", "input_tokens": told["prompt_tokens"], "output_tokens": told["completion_tokens"],
        "total_tokens": told["total_tokens"],
    }  # fmt: skip


def _seconds(part: Part) -> float:
    """How long a clip is."""
    module = registry.measures(AUDIO)
    assert module is not None
    return float(module.facts(part)["seconds"])


def router(state: State) -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["audio"])
    _hearing(routes, state)
    _speaking(routes, state)
    return routes


def _hearing(routes: APIRouter, state: State) -> None:
    @routes.post("/v1/audio/transcriptions", response_model=None)
    async def transcriptions(
        http: HttpRequest,
        file: Annotated[UploadFile, File()],
        model: Annotated[str | None, Form()] = None,
        language: Annotated[str | None, Form()] = None,
        prompt: Annotated[str | None, Form()] = None,
        response_format: Annotated[Format, Form()] = "json",
        temperature: Annotated[float | None, Form(ge=0, le=2)] = None,
        stream: Annotated[bool, Form()] = False,
    ) -> Response | dict[str, Any]:
        """Write down what is said. `language` and `prompt` have no effect on what a model hears, and are refused unless they
        are empty, or English."""
        known = {"file", "model", "language", "prompt", "response_format", "temperature", "stream"}
        if unknown := sorted(set((await http.form()).keys()) - known):
            raise unsupported(unknown[0])
        if language not in (None, "", "en"):
            raise unsupported("language", f"got {language!r}; expected it to be left out, or 'en'")
        if prompt:
            raise unsupported("prompt", "expected it to be left out")
        if stream and response_format not in ("json", "text"):
            raise unsupported("response_format", f"got {response_format!r} in a stream; expected 'json' or 'text'")
        served = state.find(model)
        _needs(served, served.reads, "hear")
        part = await state.media.decode(AUDIO, await file.read(), "file")
        seconds = _seconds(part)
        question = Message("user", (part, Part(WORDS, ASK)))
        usual = served.model.usual | ({} if temperature is None else {"temperature": temperature})
        asked = Asked(
            state, served, [Request((question,), to=WORDS, max_tokens=bounded(state, None, ""), **usual)], stream,
            caller_of(http),
        )  # fmt: skip
        return await _transcribed(asked, http, seconds, response_format, stream)

    @routes.post("/v1/audio/translations")
    async def translations(file: Annotated[UploadFile, File()]) -> dict[str, Any]:
        """Not here: no model that is served has learned it."""
        raise ApiError("no model here translates speech; expected /v1/audio/transcriptions", 400, code="unsupported")


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
        asked = Asked(state, served, requests, body.response_format in STREAMED, caller_of(http))
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
