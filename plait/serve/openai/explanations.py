"""`/v1/explanations`: what an answer hangs on, and what becomes of it without some of that. Plait's own; OpenAI has nothing like it."""

from __future__ import annotations

import uuid
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Any

from fastapi import APIRouter
from fastapi import Request as HttpRequest
from pydantic import Field

from plait.contract import WORDS, Message
from plait.infer.request import Request
from plait.serve.answers import Asked, while_there
from plait.serve.errors import ApiError
from plait.serve.explainer import Check
from plait.serve.guard import caller_of
from plait.serve.openai.chat import answered_in, as_message, bounded
from plait.serve.openai.content import ChatMessage, as_messages
from plait.serve.openai.shapes import Explain, Sampled, Shape
from plait.serve.state import Served, State

KEPT, KEPT_EACH = 64, 8  # explanations that may be asked on: of all callers, and of each


class ExplanationRequest(Sampled):
    """A conversation, whose answer is explained: the model's own, or an `answer` in words."""

    model: str | None = None
    messages: list[ChatMessage]
    answer: str | None = Field(None, min_length=1, max_length=10_000)
    modalities: list[str] | None = None
    max_tokens: int | None = Field(None, ge=1)
    explain: Explain = Explain()


class WithoutRequest(Shape):
    """Units of an explanation, by their numbers, that are to be hidden."""

    hidden: list[int] = Field(max_length=4096)
    target: int = Field(0, ge=0, description="the map whose score is told")


@dataclass
class Kept:
    """An explanation that may be asked on, and whose it is."""

    served: Served
    owner: str
    request: Request
    explanation: Any


def within(served: Served, request: Request, answer: Message) -> None:
    """Raise ApiError for a question and an answer that are longer than what the model has ever seen."""
    tokens = served.model.engine.prompt_length(replace(request, messages=(*request.messages, answer)))
    if tokens > served.model.longest:
        raise ApiError(
            f"got {tokens} tokens of a question and an answer; expected at most {served.model.longest}",
            code="context_length_exceeded",
        )


def router(state: State) -> APIRouter:
    """The routes."""
    from plait.api import explaining

    routes = APIRouter(tags=["explanations"])
    kept: OrderedDict[str, Kept] = OrderedDict()

    @routes.post("/v1/explanations")
    async def explanations(body: ExplanationRequest, http: HttpRequest) -> dict[str, Any]:
        """Answer a conversation, or take the answer that is given, and say what it hangs on: a number a word, a piece of a picture or of
        sound, and whether these numbers say more than chance."""
        served = state.find(body.model)
        messages = await as_messages(body.messages, state, served.reads)
        fields: dict[str, Any] = {
            "to": answered_in(body.modalities, served),
            "max_tokens": bounded(state, body.max_tokens, "max_tokens"),
        }
        [request] = body.requests(served.model.usual, [messages], **fields)
        explaining.methods(body.explain.methods)  # before anything is answered
        if body.answer is None:
            [answer] = await Asked(state, served, [request], False, caller_of(http)).answers(http)
            reply = answer.message
        else:
            reply = Message("assistant", served.model.question(body.answer).parts)
            within(served, request, reply)
        how = body.explain
        found = await while_there(http, state.explainer.explained(served, messages, reply, how.of, how.methods))
        name = f"expl_{uuid.uuid4().hex}"
        caller = caller_of(http)
        kept[name] = Kept(served, caller, request, found[0])
        of_caller = [each for each, entry in kept.items() if entry.owner == caller]
        for each in [*of_caller[: max(0, len(of_caller) - KEPT_EACH)], *list(kept)[: max(0, len(kept) - KEPT)]]:
            kept.pop(each, None)
        described = [explaining.described(one) for one in found]
        return {"id": name, "object": "explanation", "model": served.name, "explanations": described}

    @routes.post("/v1/explanations/{name}/without")
    async def without(name: str, body: WithoutRequest, http: HttpRequest) -> dict[str, Any]:
        """The score of the same answer with some units hidden, and what the model answers to the question without them."""
        asked = kept.get(name)
        if asked is None or asked.owner != caller_of(http):
            raise ApiError(
                f"the explanation {name[:80]!r} is not kept here any more; expected one of the last {KEPT}: ask anew",
                404,
            )
        served, found = asked.served, asked.explanation

        def work(check: Check) -> tuple[tuple[float, float], tuple[Message, ...]]:
            check()
            model = served.model
            return explaining.scores(model, found, body.hidden, body.target), explaining.without(
                model, found, body.hidden
            )

        (before, after), messages = await while_there(http, state.explainer.run(served.name, work))
        scores = {"object": "explanation.without", "scores": [before, after]}
        if not any(part.value for message in messages for part in message.parts if part.type == WORDS) and not any(
            part.type != WORDS for message in messages for part in message.parts
        ):
            return scores | {"message": None}  # nothing is left to ask
        request = replace(asked.request, messages=messages)
        [answer] = await Asked(state, served, [request], False, caller_of(http)).answers(http)
        return scores | {"message": as_message(answer, "wav")}

    return routes
