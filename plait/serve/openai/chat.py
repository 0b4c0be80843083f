"""`/v1/chat/completions`."""

from __future__ import annotations

import base64
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from typing import Any, Literal

from fastapi import APIRouter
from fastapi import Request as HttpRequest
from fastapi.responses import Response
from pydantic import Field

from plait.contract import WORDS, Part
from plait.errors import PlaitError
from plait.infer.decoder import UNFINISHED
from plait.infer.events import Answer, BlockDone, Event, Finished, Preview, Reason, TextDelta, TokenChoice, Usage
from plait.infer.request import MOST_LOGPROBS
from plait.serve.answers import Asked, Payload, event_stream, usage, while_there
from plait.serve.errors import ApiError, OverloadedError, as_api_error, unsupported
from plait.serve.guard import caller_of
from plait.serve.media import encoded, joined
from plait.serve.openai import tools
from plait.serve.openai.content import AUDIO, IMAGE, ChatMessage, as_content, as_messages
from plait.serve.openai.shapes import DEFAULT_TOKENS, Explain, Request, Sampled, Shape, Stops, refuse, stops
from plait.serve.openai.spoken import in_sound
from plait.serve.openai.tools import Choice, ResponseFormat, Tool, calling, within
from plait.serve.state import Served, State

VOICES = ("alloy", "default")  # the model's own voice; clients must name one
KEPT = 3600  # seconds that clients are told a sound can be referred to; it cannot: they hold it themselves
REASONS: dict[Reason, str] = {"stop": "stop", "length": "length", "cancelled": "stop", "error": "stop"}
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "frequency_penalty": (0, 0.0), "presence_penalty": (0, 0.0), "logit_bias": ({},),
    "functions": ([],), "function_call": ("none", "auto"), "parallel_tool_calls": (True, False), "prediction": (), "reasoning_effort": ("none", "minimal", "low", "medium"),
    "verbosity": ("medium",), "web_search_options": (),
}  # fmt: skip


class Voice(Shape):
    """How sound is answered."""

    voice: str = VOICES[0]
    format: Literal["wav", "mp3", "flac", "opus", "pcm16"] = "wav"


class StreamOptions(Shape):
    """`include_usage`: one last chunk has the usage, and no choices."""

    include_usage: bool = False
    include_obfuscation: bool | None = None


class ChatRequest(Sampled):
    """A conversation to continue."""

    model: str | None = None
    messages: list[ChatMessage]
    modalities: list[str] | None = Field(
        None, description="what the answer is in: one of the model's modalities; text beside it is allowed. All of them, or "
        "auto: the model chooses",
    )  # fmt: skip
    audio: Voice | None = None
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    n: int = Field(1, ge=1)
    stop: Stops | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    response_format: ResponseFormat | None = None
    size: str | None = Field(None, pattern=r"^(auto|\d{1,4}x\d{1,4})$", description="of a picture: WIDTHxHEIGHT")
    explain: bool | Explain = Field(False, description="whether each answer comes with what it hangs on")
    previews: int = Field(0, ge=0, le=32, description="of each block in flight, in a stream")
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=MOST_LOGPROBS)
    tools: list[Tool] | None = Field(None, max_length=128)
    tool_choice: Choice | None = None
    functions: list[Any] | None = None
    function_call: Any = None
    parallel_tool_calls: bool | None = None
    prediction: Any = None
    reasoning_effort: str | None = None
    verbosity: str | None = None
    web_search_options: Any = None


def answered_in(modalities: list[str] | None, served: Served) -> str | None:
    """The modality of the answer; None lets the model choose. Raises ApiError."""
    if not modalities:
        return WORDS
    if "auto" in modalities:
        return None
    if unknown := [name for name in modalities if name not in served.writes]:
        raise unsupported(
            "modalities", f"got {unknown[0]!r}; {served.name} answers in {', '.join(served.writes)}, or auto"
        )
    others = sorted(set(modalities) - {WORDS})
    if len(others) > 1:
        return None
    return others[0] if others else WORDS


def sized(size: str | None) -> dict[str, dict[str, Any]]:
    """Options of modalities for a size that a client wishes."""
    if size in (None, "auto"):
        return {}
    width, height = map(int, str(size).split("x"))
    if not (width and height):
        raise ApiError(f"size: got {size}; expected sides of at least 1", param="size", code="invalid_value")
    return {IMAGE: {"size": (width, height)}}


def bounded(state: State, given: int | None, param: str) -> int:
    """Tokens that an answer may have. Raises ApiError."""
    if given is not None and given > state.limits.tokens:
        raise ApiError(
            f"{param}: got {given}; expected at most {state.limits.tokens}", param=param, code="invalid_value"
        )
    return given or min(DEFAULT_TOKENS, state.limits.tokens)


def answers_at_most(state: State, n: int) -> None:
    """Raise ApiError for more answers to one request than the server gives."""
    if n > state.limits.answers:
        raise ApiError(f"n: got {n}; expected at most {state.limits.answers}", param="n", code="invalid_value")


def calls(body: ChatRequest) -> bool:
    """Whether the answer may be a call of a function."""
    return bool(body.tools) and body.tool_choice != "none"


def _grammar(body: ChatRequest, to: str | None) -> str:
    """The grammar that the answer is within; empty for none. Raises ApiError."""
    format = within(body.response_format, "response_format")
    if (format or calls(body)) and to != WORDS:
        raise unsupported("modalities", "calls and schemas are words; expected ['text']")
    if body.tool_choice not in (None, "none", "auto") and not body.tools:
        raise unsupported("tool_choice", "without tools; expected tools beside it")
    if not calls(body):
        return format
    if format:
        raise unsupported("response_format", "beside tools; expected one of the two")
    return calling(body.tools or [], body.tool_choice)


def _with_functions(body: ChatRequest) -> list[ChatMessage]:
    """The messages, with what can be called in the system message."""
    if not calls(body):
        return body.messages
    first, functions = body.messages[:1], tools.asked(body.tools or [])
    if first and first[0].role in ("system", "developer") and isinstance(first[0].content, str):
        return [ChatMessage(role="system", content=f"{first[0].content}\n\n{functions}"), *body.messages[1:]]
    return [ChatMessage(role="system", content=functions), *body.messages]


async def as_requests(body: ChatRequest, state: State, served: Served) -> list[Request]:
    """One request of the engine an answer, with seeds that follow each other."""
    refuse(body, NEUTRAL)
    answers_at_most(state, body.n)
    if body.audio is not None and body.audio.voice not in VOICES:
        raise unsupported("audio.voice", f"got {body.audio.voice!r}; expected one of {', '.join(VOICES)}")
    if body.audio is not None and body.stream and body.audio.format != "pcm16":
        raise unsupported("audio.format", f"got {body.audio.format!r} in a stream; expected 'pcm16'")
    to = answered_in(body.modalities, served)
    grammar = _grammar(body, to)
    if body.stream and body.explain:
        raise unsupported("explain", "in a stream; expected stream to be false")
    if not body.stream and (body.previews or body.stream_options):
        raise unsupported(
            "previews" if body.previews else "stream_options", "without stream; expected stream to be true"
        )
    if None not in (body.max_tokens, body.max_completion_tokens) and body.max_tokens != body.max_completion_tokens:
        raise unsupported("max_tokens", "beside another max_completion_tokens; expected one of the two")
    if body.top_logprobs and not body.logprobs:
        raise unsupported("top_logprobs", "without logprobs; expected logprobs to be true")
    limit, param = body.max_completion_tokens or body.max_tokens, "max_tokens"
    if body.max_completion_tokens:
        param = "max_completion_tokens"
    fields: dict[str, Any] = {
        "to": to, "stop": stops(body.stop), "options": sized(body.size), "grammar": grammar,
        "max_tokens": bounded(state, limit, param), "logprobs": (body.top_logprobs or 0) if body.logprobs else None,
    }  # fmt: skip
    messages = await as_messages(_with_functions(body), state, served.reads)
    return body.requests(served.model.usual, [messages], body.n, **fields)


def as_choice(index: int, answer: Answer, format: str, may_call: bool) -> dict[str, Any]:
    """The answer as one of the choices."""
    message, reason = as_message(answer, format), REASONS[answer.reason]
    if may_call and (call := tools.call_of(str(message["content"]))):
        message, reason = message | {"content": None, "tool_calls": [call]}, "tool_calls"
    return {"index": index, "message": message, "logprobs": as_logprobs(answer.logprobs), "finish_reason": reason}


async def explanations_of(
    state: State, served: Served, request: Request, answer: Answer, how: Explain, http: HttpRequest
) -> list[dict[str, Any]]:
    """What an answer hangs on, by each method that is asked for."""
    explained = state.explainer.explained(served, request.messages, answer.message, how.of, how.methods)
    try:
        return [one.as_dict() for one in await while_there(http, explained)]
    except (PlaitError, OverloadedError) as error:  # the answer is there, and stays
        return [as_api_error(error).body()]


def as_logprobs(tokens: Sequence[TokenChoice]) -> dict[str, Any] | None:
    """OpenAI's log-probabilities of tokens; None for none. Of a token that is part of a character `bytes` is null."""

    def entry(text: str, logprob: float) -> dict[str, Any]:
        return {"token": text, "logprob": logprob, "bytes": None if UNFINISHED in text else list(text.encode())}

    content = [entry(t.text, t.logprob) | {"top_logprobs": [entry(*other) for other in t.top]} for t in tokens]
    return {"content": content, "refusal": None} if content else None


def words_of(answer: Answer) -> str:
    """The words of an answer."""
    return "".join(str(part.value) for part in answer.message.parts if part.type == WORDS)


def as_message(answer: Answer, format: str) -> dict[str, Any]:
    """The answer as a message: words as a string, sound in `audio`, anything else as content parts."""
    parts, words = answer.message.parts, words_of(answer)
    sound = next((part for part in parts if part.type == AUDIO), None)
    message: dict[str, Any] = {"role": "assistant", "content": words, "refusal": None}
    if any(part.type not in (WORDS, AUDIO) for part in parts):
        message["content"] = [as_content(part) for part in parts if part.type != AUDIO]
    if sound is not None:
        data = base64.b64encode(encoded(sound, "pcm" if format == "pcm16" else format)[1]).decode()
        message["audio"] = {"id": _audio_id(), "data": data, "expires_at": _expiry(), "transcript": words}
        message["content"] = message["content"] or None
    return message


def _audio_id() -> str:
    return f"audio_{uuid.uuid4().hex}"


def _expiry() -> int:
    return int(time.time()) + KEPT


class Choosing:
    """What a stream has told of one choice so far. `may_call`: words that begin with a brace are held until they are a call."""

    def __init__(self, may_call: bool) -> None:
        self.may_call = may_call
        self.held: list[TextDelta] = []
        self.sound = ""  # the id of the sound that is being told
        self.join: Callable[[Part | None], bytes] = lambda piece: b""

    def deltas(self, event: Event) -> Iterator[tuple[dict[str, Any], Sequence[TokenChoice]]]:
        """What an event adds to the message, each piece with the tokens that it came with."""
        if isinstance(event, TextDelta):
            if self.may_call and (self.held or event.text.startswith("{")):
                self.held.append(event)
            else:
                self.may_call = self.may_call and not event.text  # words are no call any more
                yield {"content": event.text}, event.tokens
        elif isinstance(event, Preview):
            yield {"preview": as_content(event.preview) | {"step": event.step, "steps": event.steps}}, ()
        elif isinstance(event, BlockDone) and event.piece.type == AUDIO:
            if not self.sound:
                self.sound, self.join = _audio_id(), joined(AUDIO)
            yield {"audio": {"id": self.sound, "data": base64.b64encode(self.join(event.piece)).decode()}}, ()
        elif isinstance(event, Finished):
            yield from self._last(event.answer)

    def _last(self, answer: Answer) -> Iterator[tuple[dict[str, Any], Sequence[TokenChoice]]]:
        if self.sound:
            rest = base64.b64encode(self.join(None)).decode()
            yield (
                {"audio": {"id": self.sound, "data": rest, "transcript": words_of(answer), "expires_at": _expiry()}},
                (),
            )
        if media := [as_content(part) for part in answer.message.parts if part.type not in (WORDS, AUDIO)]:
            yield {"images": media}, ()
        if call := self.call():
            yield {"tool_calls": [{"index": 0, **call}]}, ()
        else:
            for event in self.held:
                yield {"content": event.text}, event.tokens

    def call(self) -> dict[str, Any] | None:
        """The call that the held words are; None where they are none."""
        return tools.call_of("".join(event.text for event in self.held))


async def _chunks(body: ChatRequest, asked: Asked, head: dict[str, Any]) -> AsyncGenerator[Payload, None]:
    """The chunks of a stream."""
    with_usage = bool(body.stream_options and body.stream_options.include_usage)
    more = {"usage": None} if with_usage else {}

    def chunk(
        index: int, delta: dict[str, Any], tokens: Sequence[TokenChoice] = (), reason: str | None = None
    ) -> Payload:
        choice = {"index": index, "delta": delta, "logprobs": as_logprobs(tokens), "finish_reason": reason}
        return {**head, "choices": [choice], **more}

    choosing = [Choosing(calls(body)) for _ in range(body.n)]
    usages: dict[int, Usage] = {}
    for index in range(body.n):
        yield chunk(index, {"role": "assistant", "content": ""})
    async for index, event in asked.events():
        for delta, tokens in choosing[index].deltas(event):
            yield chunk(index, delta, tokens)
        if isinstance(event, Finished):
            usages[index] = event.answer.usage
            reason = "tool_calls" if choosing[index].call() else REASONS[event.answer.reason]
            yield chunk(index, {}, reason=reason)
    if with_usage:
        yield {**head, "choices": [], "usage": usage([usages[index] for index in sorted(usages)])}


def router(state: State) -> APIRouter:
    """The route."""
    from plait.api.explaining import methods

    routes = APIRouter(tags=["chat"])

    @routes.post("/v1/chat/completions", response_model=None)
    async def chat_completions(body: ChatRequest, http: HttpRequest) -> Response | dict[str, Any]:
        """Answer a conversation, in words or in another modality that the model writes."""
        served = state.find(body.model)
        if isinstance(body.explain, Explain):
            methods(body.explain.methods, body.explain.of)  # before anything is answered
        requests = await as_requests(body, state, served)
        previews = body.previews if body.stream else 0
        asked = in_sound(state, served, requests, body.stream, caller_of(http), previews)
        head = {
            "id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": served.name,
            "object": "chat.completion.chunk" if body.stream else "chat.completion", "system_fingerprint": served.fingerprint,
        }  # fmt: skip
        if body.stream:
            return event_stream(asked, _chunks(body, asked, head))
        answers = await asked.answers(http)
        format = body.audio.format if body.audio else "wav"
        choices = [as_choice(index, answer, format, calls(body)) for index, answer in enumerate(answers)]
        if body.explain:
            how = Explain() if body.explain is True else body.explain
            for choice, answer in zip(choices, answers, strict=True):
                choice["explanations"] = await explanations_of(state, served, requests[0], answer, how, http)
        return {**head, "choices": choices, "usage": usage([answer.usage for answer in answers])}

    return routes
