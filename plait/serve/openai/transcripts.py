"""`/v1/audio/transcriptions` and `/translations`: long sound in pieces, and when each word of it is said."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, File, Form, UploadFile
from fastapi import Request as HttpRequest
from fastapi.responses import PlainTextResponse, Response
from pydantic import Field

from plait import registry
from plait.contract import WORDS, Message, Part
from plait.infer.events import Event, Finished, TextDelta, Usage
from plait.infer.timing import AlignmentError, Word, hears_letters, word_times
from plait.serve.answers import Asked, Payload, event_stream, usage, while_there
from plait.serve.errors import ApiError, OverloadedError, unsupported
from plait.serve.guard import caller_of
from plait.serve.openai.chat import bounded, words_of
from plait.serve.openai.content import AUDIO
from plait.serve.openai.shapes import Request, Shape
from plait.serve.state import Served, State

ASK = "Transcribe this."
TIMED = ("verbose_json", "srt", "vtt")
LONGEST, PIECES = 600, 200  # seconds of a sound that are heard, and its pieces
Format = Literal["json", "text", "verbose_json", "srt", "vtt"]
Granularity = Literal["word", "segment"]


class TranscriptionForm(Shape):
    """A sound to write down."""

    file: UploadFile
    model: str | None = None
    language: str | None = None
    prompt: str | None = None
    response_format: Format = "json"
    temperature: float | None = Field(None, ge=0, le=2)
    granularities: list[Granularity] = Field([], alias="timestamp_granularities[]", max_length=2)
    stream: bool = False


@dataclass
class Heard:
    """A piece of a sound, from second `start` to `end`, what is said in it, and when, where the model tells."""

    part: Part
    start: float
    end: float
    text: str = ""
    words: list[Word] = field(default_factory=list)
    log_probability: float = 0.0  # of a letter of the words, in the mean

    def time_words(self, words: Sequence[Word], log_probability: float) -> None:
        """Take the times of the words within the piece."""
        times = ((word, self.start + first, min(self.start + last, self.end)) for word, first, last in words)
        self.words = [(word, round(first, 3), round(last, 3)) for word, first, last in times]
        self.log_probability = log_probability

    @property
    def spoken(self) -> tuple[float, float]:
        """Seconds from the first word to the last."""
        return (self.words[0][1], min(self.words[-1][2], self.end)) if self.words else (self.start, self.end)


def _seconds(part: Part) -> float:
    """How long a clip is."""
    measures = registry.measures(AUDIO)
    assert measures is not None
    return float(measures.facts(part)["seconds"])


async def pieces(served: Served, part: Part, param: str = "file") -> list[Heard]:
    """A sound in pieces that the model can read. Raises ApiError for too long a sound or too many pieces, RowError for one that
    cannot be read."""
    module, modality = registry.cuts(AUDIO), served.model.network.vocabulary.modalities[AUDIO]
    if (seconds := _seconds(part)) > LONGEST:
        raise ApiError(
            f"{param}: got {seconds:.0f} seconds; expected at most {LONGEST}: cut it", param=param, code="invalid_value"
        )
    parts = [(part, 0.0)] if module is None else await asyncio.to_thread(module.cut, modality, part)
    if len(parts) > PIECES:
        raise ApiError(
            f"{param}: got {len(parts)} pieces between pauses; expected at most {PIECES}: cut it", param=param,
            code="invalid_value",
        )  # fmt: skip
    return [Heard(piece, start, start + _seconds(piece)) for piece, start in parts]


def questions(state: State, served: Served, heard: Iterable[Heard], temperature: float | None = None) -> list[Request]:
    """What the model is asked of each piece."""
    usual = served.model.usual | ({} if temperature is None else {"temperature": temperature})
    return [
        Request(
            (Message("user", (piece.part, Part(WORDS, ASK))),), to=WORDS, max_tokens=bounded(state, None, ""), **usual
        )
        for piece in heard
    ]


async def in_order(asked: Asked) -> AsyncIterator[tuple[int, Event]]:
    """Events of several jobs, those of each after those of the one before."""
    held: dict[int, list[Event]] = {}
    current = 0
    async for number, event in asked.events():
        held.setdefault(number, []).append(event)
        while held.get(current):
            event = held[current].pop(0)
            yield current, event
            current += isinstance(event, Finished)


def joined_text(texts: Iterable[str]) -> str:
    """The texts of pieces, one after the other."""
    return " ".join(text for text in texts if text)


async def _time(served: Served, heard: Sequence[Heard]) -> None:
    """Find when the words of each piece are said, as far as they are heard in it."""
    model, encoder = served.model.network, served.model.engine.encoder
    for piece in heard:
        try:
            piece.time_words(*await served.worker.call(partial(word_times, model, encoder, piece.part, piece.text)))
        except (AlignmentError, OverloadedError):  # nothing was said, or there is no time for more: then without times
            continue


def _stamp(seconds: float, mark: str) -> str:
    whole = round(seconds * 1000)
    return f"{whole // 3_600_000:02}:{whole // 60_000 % 60:02}:{whole // 1000 % 60:02}{mark}{whole % 1000:03}"


def _cues(heard: Sequence[Heard], mark: str, numbered: bool) -> str:
    """Subtitles: a cue a piece."""
    with_words = [piece for piece in heard if piece.text.strip()]
    return "\n".join(
        (f"{number}\n" if numbered else "")
        + f"{_stamp(piece.spoken[0], mark)} --> {_stamp(piece.spoken[1], mark)}\n{piece.text.strip()}\n"
        for number, piece in enumerate(with_words, start=1)
    )


def transcript(
    heard: Sequence[Heard],
    format: Format,
    usages: Sequence[Usage],
    granularities: Sequence[Granularity],
    temperature: float = 0.0,
) -> Response | dict[str, Any]:
    """What was heard in one of the formats."""
    text = joined_text(piece.text for piece in heard)
    if format == "text":
        return PlainTextResponse(text + "\n")
    if format == "srt":
        return PlainTextResponse(_cues(heard, ",", True))
    if format == "vtt":
        return PlainTextResponse("WEBVTT\n\n" + _cues(heard, ".", False), media_type="text/vtt")
    body: dict[str, Any] = {"text": text, "usage": told_tokens(usages)}
    if format == "verbose_json":
        body |= {"task": "transcribe", "duration": round(heard[-1].end, 3), "language": "english"}
        if "segment" in granularities:
            body["segments"] = [
                {
                    "id": number, "seek": 0, "start": round(piece.spoken[0], 3), "end": round(piece.spoken[1], 3), "text": piece.text,
                    "tokens": [], "temperature": temperature, "avg_logprob": round(piece.log_probability, 4),
                    "compression_ratio": _compression(piece.text), "no_speech_prob": float(not piece.text.strip()),
                }
                for number, piece in enumerate(heard)
            ]  # fmt: skip
        if "word" in granularities:
            body["words"] = [
                {"word": word, "start": first, "end": last} for piece in heard for word, first, last in piece.words
            ]
    return body


def _compression(text: str) -> float:
    """How many times smaller a text is when it is packed: one that goes round is many."""
    data = text.encode()
    return round(len(data) / len(zlib.compress(data)), 3)


def told_tokens(usages: Sequence[Usage]) -> dict[str, Any]:
    """Tokens of all pieces, as transcriptions tell them."""
    tokens = usage(usages, 1)
    return {
        "type": "tokens", "input_tokens": tokens["prompt_tokens"], "output_tokens": tokens["completion_tokens"],
        "total_tokens": tokens["total_tokens"],
    }  # fmt: skip


async def transcript_deltas(asked: Asked) -> AsyncIterator[tuple[str, list[Usage]]]:
    """What each event adds to the transcript of all pieces, and the tokens of those that are done."""
    usages: list[Usage] = []
    begun, last = False, 0
    async for number, event in in_order(asked):
        if isinstance(event, TextDelta) and event.text:
            yield (" " if begun and number != last else "") + event.text, usages
            begun, last = True, number
        elif isinstance(event, Finished):
            usages.append(event.answer.usage)
    yield "", usages


async def _deltas(asked: Asked) -> AsyncGenerator[Payload, None]:
    text, usages = "", list[Usage]()
    async for delta, usages in transcript_deltas(asked):  # noqa: B007
        text += delta
        if delta:
            yield {"type": "transcript.text.delta", "delta": delta}
    yield {"type": "transcript.text.done", "text": text, "usage": told_tokens(usages)}


def router(state: State) -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["audio"])

    @routes.post("/v1/audio/transcriptions", response_model=None)
    async def transcriptions(
        form: Annotated[TranscriptionForm, Form()], http: HttpRequest
    ) -> Response | dict[str, Any]:
        """Write down what is said. `language` and `prompt` have no effect on what a model hears, and are refused unless they
        are empty, or English."""
        format, granularities = form.response_format, form.granularities
        _refuse(form)
        served = state.find(form.model)
        if AUDIO not in served.reads:
            raise unsupported("model", f"{served.name} has not learned to hear")
        is_timed = hears_letters(served.model.network, AUDIO)
        if "word" in granularities and not is_timed:
            raise unsupported("timestamp_granularities", f"{served.name} does not tell when words are said")
        heard = await pieces(served, await state.media.decode(AUDIO, await form.file.read(), "file"))
        asked = Asked(state, served, questions(state, served, heard, form.temperature), form.stream, caller_of(http))
        if form.stream:
            return event_stream(asked, _deltas(asked), done=False)
        answers = await asked.answers(http)
        for piece, answer in zip(heard, answers, strict=True):
            piece.text = words_of(answer)
        if is_timed and format in TIMED:
            await while_there(http, _time(served, heard))
        return transcript(
            heard, format, [answer.usage for answer in answers], granularities or ["segment"], form.temperature or 0.0
        )

    @routes.post("/v1/audio/translations")
    async def translations(file: Annotated[UploadFile, File()]) -> dict[str, Any]:
        """Not here: no model that is served has learned it."""
        raise ApiError("no model here translates speech; expected /v1/audio/transcriptions", 400, code="unsupported")

    return routes


def _refuse(form: TranscriptionForm) -> None:
    """Raise ApiError for what has no effect here."""
    format = form.response_format
    if form.language not in (None, "", "en"):
        raise unsupported("language", f"got {form.language!r}; expected it to be left out, or 'en'")
    if form.prompt:
        raise unsupported("prompt", "expected it to be left out")
    if form.granularities and format != "verbose_json":
        raise unsupported("timestamp_granularities", f"with {format!r}; expected response_format 'verbose_json'")
    if form.stream and format not in ("json", "text"):
        raise unsupported("response_format", f"got {format!r} in a stream; expected 'json' or 'text'")
