"""`/v1/responses`, without state: nothing is kept, so `previous_response_id` is refused."""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import AsyncGenerator
from typing import Any, Literal

from fastapi import APIRouter
from fastapi import Request as HttpRequest
from fastapi.responses import Response
from pydantic import Field

from plait.contract import WORDS
from plait.infer.events import Answer, Finished, TextDelta
from plait.serve.answers import Asked, Payload, event_stream, usage
from plait.serve.errors import as_api_error
from plait.serve.guard import caller_of
from plait.serve.openai.chat import bounded
from plait.serve.openai.content import ChatMessage, ContentPart, as_messages
from plait.serve.openai.shapes import Request, Sampled, Shape, refuse
from plait.serve.openai.tools import ResponseFormat, within
from plait.serve.state import Served, State

NEUTRAL: dict[str, tuple[Any, ...]] = {
    "background": (False,), "conversation": (), "include": ([],), "max_tool_calls": (), "parallel_tool_calls": (True, False),
    "previous_response_id": (), "prompt": (), "reasoning": ({},), "tool_choice": ("auto", "none"), "tools": ([],),
    "top_logprobs": (0,), "truncation": ("disabled",), "stream_options": ({},),
}  # fmt: skip


class InputMessage(Shape):
    """A message of the conversation."""

    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[ContentPart]
    id: str | None = None
    status: str | None = None


class TextFormat(Shape):
    """As `response_format` of chat, its schema beside its type."""

    type: Literal["text", "json_object", "json_schema"] = "text"
    name: str | None = None
    schema_: dict[str, Any] | None = Field(None, alias="schema")
    description: str | None = None
    strict: bool | None = None

    def grammar(self) -> str:
        """The grammar of the words; empty for any. Raises ApiError."""
        schema = None if self.schema_ is None else {"name": self.name or "answer", "schema": self.schema_}
        return within(ResponseFormat.model_validate({"type": self.type, "json_schema": schema}), "text.format")


class TextOptions(Shape):
    """What the words are."""

    format: TextFormat = TextFormat()
    verbosity: Literal["low", "medium"] | None = None


class ResponsesRequest(Sampled):
    """A conversation to continue."""

    model: str | None = None
    input: str | list[InputMessage]
    instructions: str | None = None
    max_output_tokens: int | None = Field(None, ge=1)
    stream: bool = False
    background: bool | None = None
    conversation: Any = None
    include: list[str] | None = None
    max_tool_calls: int | None = None
    parallel_tool_calls: bool | None = None
    previous_response_id: str | None = None
    prompt: Any = None
    reasoning: dict[str, Any] | None = None
    tool_choice: Any = None
    tools: list[Any] | None = None
    top_logprobs: int | None = None
    truncation: str | None = None
    text: TextOptions = TextOptions()
    stream_options: dict[str, Any] | None = None


def as_chat(input: str | list[InputMessage]) -> list[ChatMessage]:
    """The input as messages of a chat."""
    if isinstance(input, str):
        return [ChatMessage(role="user", content=input)]
    return [ChatMessage(role=message.role, content=message.content) for message in input]


async def _requests(body: ResponsesRequest, state: State, served: Served) -> list[Request]:
    refuse(body, NEUTRAL)
    messages = as_chat(body.input)
    if body.instructions:
        messages.insert(0, ChatMessage(role="system", content=body.instructions))
    asked = await as_messages(messages, state, served.reads)
    limit = bounded(state, body.max_output_tokens, "max_output_tokens")
    grammar = body.text.format.grammar()
    return body.requests(served.model.usual, [asked], to=WORDS, max_tokens=limit, grammar=grammar)


def _words(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _item(id: str, status: str, *content: dict[str, Any]) -> dict[str, Any]:
    return {"id": id, "type": "message", "role": "assistant", "status": status, "content": list(content)}


def _head(body: ResponsesRequest, served: Served) -> dict[str, Any]:
    """What is known of a response before its answer."""
    return {
        "id": f"resp_{uuid.uuid4().hex}", "object": "response", "created_at": int(time.time()), "status": "in_progress",
        "background": False, "error": None, "incomplete_details": None, "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens, "model": served.name, "output": [], "parallel_tool_calls": True,
        "previous_response_id": None, "reasoning": {"effort": None, "summary": None}, "store": False,
        "temperature": body.temperature, "text": {"format": body.text.format.model_dump(by_alias=True, exclude_none=True)}, "tool_choice": "auto", "tools": [],
        "top_p": body.top_p, "truncation": "disabled", "usage": None, "user": body.user, "metadata": body.metadata or {},
    }  # fmt: skip


def _finished(head: dict[str, Any], answer: Answer, item: str) -> dict[str, Any]:
    """The whole response."""
    text = "".join(str(part.value) for part in answer.message.parts)
    whole, told = answer.reason != "length", usage([answer.usage])
    status = "completed" if whole else "incomplete"
    return {
        **head, "status": status, "output": [_item(item, status, _words(text))],
        "incomplete_details": None if whole else {"reason": "max_output_tokens"},
        "usage": {
            "input_tokens": told["prompt_tokens"], "input_tokens_details": told["prompt_tokens_details"],
            "output_tokens": told["completion_tokens"],
            "output_tokens_details": {"reasoning_tokens": 0, **told["completion_tokens_details"]},
            "total_tokens": told["total_tokens"],
        },
    }  # fmt: skip


async def _events(asked: Asked, head: dict[str, Any]) -> AsyncGenerator[Payload, None]:
    """The events of a stream, numbered."""
    item, text, numbers = f"msg_{uuid.uuid4().hex}", "", itertools.count()
    part_of = {"item_id": item, "output_index": 0, "content_index": 0}

    def event(kind: str, **more: Any) -> Payload:
        return {"type": f"response.{kind}", "sequence_number": next(numbers), **more}

    yield event("created", response=head)
    yield event("in_progress", response=head)
    yield event("output_item.added", output_index=0, item=_item(item, "in_progress"))
    yield event("content_part.added", **part_of, part=_words(""))
    try:
        async for _, news in asked.events():
            if isinstance(news, TextDelta):
                text += news.text
                yield event("output_text.delta", **part_of, delta=news.text, logprobs=[])
            elif isinstance(news, Finished):
                response = _finished(head, news.answer, item)
                yield event("output_text.done", **part_of, text=text, logprobs=[])
                yield event("content_part.done", **part_of, part=_words(text))
                yield event("output_item.done", output_index=0, item=response["output"][0])
                yield event(response["status"], response=response)
    except Exception as error:
        message = as_api_error(error).message
        yield event(
            "failed", response={**head, "status": "failed", "error": {"code": "server_error", "message": message}}
        )


def router(state: State) -> APIRouter:
    """The route."""
    routes = APIRouter(tags=["chat"])

    @routes.post("/v1/responses", response_model=None)
    async def responses(body: ResponsesRequest, http: HttpRequest) -> Response | dict[str, Any]:
        """Answer a conversation in words."""
        served = state.find(body.model)
        asked = Asked(state, served, await _requests(body, state, served), body.stream, caller_of(http))
        head = _head(body, served)
        if body.stream:
            return event_stream(asked, _events(asked, head), done=False, named=True)
        (answer,) = await asked.answers(http)
        return _finished(head, answer, f"msg_{uuid.uuid4().hex}")

    return routes
