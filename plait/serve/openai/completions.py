"""`/v1/completions`: a prompt as a question. A model that learned conversations has no other way to go on."""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from typing import Annotated, Any

from fastapi import APIRouter
from fastapi import Request as HttpRequest
from fastapi.responses import Response
from pydantic import Field

from plait.contract import WORDS, Message, Part
from plait.infer.events import Finished, TextDelta, TokenChoice, Usage
from plait.infer.request import MOST_LOGPROBS
from plait.serve.answers import Asked, Payload, event_stream, usage
from plait.serve.errors import ApiError
from plait.serve.guard import caller_of
from plait.serve.openai.chat import REASONS, StreamOptions, answers_at_most, bounded
from plait.serve.openai.content import readable
from plait.serve.openai.shapes import Request, Sampled, Stops, refuse, stops
from plait.serve.state import Served, State

NEUTRAL: dict[str, tuple[Any, ...]] = {
    "frequency_penalty": (0, 0.0), "presence_penalty": (0, 0.0), "logit_bias": ({},), "suffix": ("",),
    "best_of": (1,), "echo": (False,),
}  # fmt: skip


class CompletionRequest(Sampled):
    """Texts to answer."""

    model: str | None = None
    prompt: str | Annotated[list[str], Field(max_length=256)]
    max_tokens: int | None = Field(None, ge=1)
    n: int = Field(1, ge=1)
    stop: Stops | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    logprobs: int | None = Field(None, ge=0, le=MOST_LOGPROBS)
    suffix: str | None = None
    best_of: int | None = None
    echo: bool | None = None


def _requests(body: CompletionRequest, state: State, served: Served) -> list[Request]:
    refuse(body, NEUTRAL)
    prompts = [body.prompt] if isinstance(body.prompt, str) else body.prompt
    if not prompts:
        raise ApiError("prompt: got an empty list; expected at least one text", param="prompt", code="invalid_value")
    answers_at_most(state, len(prompts) * body.n)
    readable(state, sum(map(len, prompts)), "prompt")
    limit = bounded(state, body.max_tokens, "max_tokens")
    questions = [(Message("user", (Part(WORDS, prompt),)),) for prompt in prompts]
    return body.requests(
        served.model.usual, questions, body.n, to=WORDS, max_tokens=limit, stop=stops(body.stop), logprobs=body.logprobs
    )


def _choice(
    index: int, text: str, reason: str | None, tokens: Sequence[TokenChoice] = (), start: int = 0
) -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": _logprobs(tokens, start), "finish_reason": reason}


def _logprobs(tokens: Sequence[TokenChoice], start: int) -> dict[str, Any] | None:
    """The older shape of log-probabilities of tokens that begin at a character; None for none."""
    if not tokens:
        return None
    starts = itertools.accumulate((len(token.text) for token in tokens[:-1]), initial=start)
    return {
        "tokens": [token.text for token in tokens],
        "token_logprobs": [token.logprob for token in tokens],
        "top_logprobs": [dict(token.top) for token in tokens],
        "text_offset": list(starts),
    }


async def _chunks(body: CompletionRequest, asked: Asked, head: dict[str, Any]) -> AsyncGenerator[Payload, None]:
    usages: dict[int, Usage] = {}
    written: dict[int, int] = {}  # characters that were told
    async for index, event in asked.events():
        if isinstance(event, TextDelta):
            yield {**head, "choices": [_choice(index, event.text, None, event.tokens, written.get(index, 0))]}
            written[index] = written.get(index, 0) + sum(len(token.text) for token in event.tokens)
        elif isinstance(event, Finished):
            usages[index] = event.answer.usage
            yield {**head, "choices": [_choice(index, "", REASONS[event.answer.reason])]}
    if body.stream_options and body.stream_options.include_usage:
        yield {**head, "choices": [], "usage": usage([usages[index] for index in sorted(usages)], body.n)}


def router(state: State) -> APIRouter:
    """The route."""
    routes = APIRouter(tags=["chat"])

    @routes.post("/v1/completions", response_model=None)
    async def completions(body: CompletionRequest, http: HttpRequest) -> Response | dict[str, Any]:
        """Answer one or several texts in words."""
        served = state.find(body.model)
        asked = Asked(state, served, _requests(body, state, served), body.stream, caller_of(http))
        head = {
            "id": f"cmpl-{uuid.uuid4().hex}", "object": "text_completion", "created": int(time.time()), "model": served.name,
            "system_fingerprint": served.fingerprint,
        }  # fmt: skip
        if body.stream:
            return event_stream(asked, _chunks(body, asked, head))
        answers = await asked.answers(http)
        choices = [
            _choice(index, "".join(str(p.value) for p in answer.message.parts), REASONS[answer.reason], answer.logprobs)
            for index, answer in enumerate(answers)
        ]
        return {**head, "choices": choices, "usage": usage([answer.usage for answer in answers], body.n)}

    return routes
