"""`/v1/explanations`: what an answer hangs on, and what becomes of it without some of that. Plait's own; OpenAI has nothing like it."""

from __future__ import annotations

import uuid
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter
from fastapi import Request as HttpRequest
from pydantic import Field, model_validator
from typing_extensions import Self

from plait.contract import WORDS, Message
from plait.infer.request import Request
from plait.serve.answers import Asked, while_there
from plait.serve.errors import ApiError
from plait.serve.explainer import Check
from plait.serve.guard import caller_of
from plait.serve.openai.chat import answered_in, as_message, bounded
from plait.serve.openai.content import ChatMessage, ContentPart, as_messages, size_of
from plait.serve.openai.shapes import Body, Explain, Sampled
from plait.serve.state import Served, State

if TYPE_CHECKING:
    from plait.api.explaining import Explanation, Patching

KEPT, KEPT_EACH = 64, 8  # explanations that may be asked on: of all callers, and of each
LARGEST, LARGEST_EACH = 512 << 20, 128 << 20  # bytes of their media


class ExplanationRequest(Sampled):
    """A conversation, whose answer is explained: the model's own, or an `answer` in words."""

    model: str | None = None
    messages: list[ChatMessage]
    answer: str | None = Field(None, min_length=1, max_length=10_000)
    modalities: list[str] | None = None
    max_tokens: int | None = Field(None, ge=1)
    explain: Explain = Explain()
    view: bool = Field(False, description="layers also as tables for a page")

    @model_validator(mode="after")
    def _view_is_of_layers(self) -> Self:
        from plait.api import explaining

        if self.view and self.explain.of != explaining.LAYERS:
            raise ValueError(f"view: got true for explain.of {self.explain.of!r}; expected {explaining.LAYERS!r}")
        return self


class WithoutRequest(Body):
    """Units of an explanation, by their numbers, that are to be hidden."""

    hidden: list[int] = Field(max_length=4096)
    target: int = Field(0, ge=0, description="the map whose score is told")


class PatchedRequest(Body):
    """What the question is to say instead, in the place of its parts of the same kinds."""

    counterfactual: str | Annotated[list[ContentPart], Field(max_length=1000)]
    view: bool = Field(False, description="also as a table for a page")


@dataclass
class Kept:
    """An explanation that may be asked on, and whose it is."""

    served: Served
    owner: str
    request: Request
    explanation: Explanation

    @property
    def size(self) -> int:
        """Bytes of the media that are asked about and answered."""
        messages = (*self.explanation.messages, self.explanation.answer)
        return sum(size_of(part.value) for message in messages for part in message.parts)


def within(served: Served, request: Request, answer: Message) -> None:
    """Raise ApiError for a question and an answer that are longer than what the model has ever seen."""
    tokens = served.model.engine.prompt_length(replace(request, messages=(*request.messages, answer)))
    if tokens > served.model.longest:
        raise ApiError(
            f"got {tokens} tokens of a question and an answer; expected at most {served.model.longest}",
            code="context_length_exceeded",
        )


class Recent:
    """The last explanations, KEPT_EACH of a caller and KEPT of all, and of these as many as LARGEST_EACH and LARGEST have room for, by name."""

    def __init__(self) -> None:
        self.entries: OrderedDict[str, Kept] = OrderedDict()

    def keep(self, entry: Kept) -> str:
        """Keep one; returns its name."""
        name = f"expl_{uuid.uuid4().hex}"
        self.entries[name] = entry
        self._let_go(
            [each for each, other in self.entries.items() if other.owner == entry.owner], KEPT_EACH, LARGEST_EACH
        )
        self._let_go([*self.entries], KEPT, LARGEST)
        return name

    def _let_go(self, names: list[str], most: int, largest: int) -> None:
        """Forget the first of some explanations until few enough are left; the last one stays."""
        sizes = [self.entries[name].size for name in names]
        while len(names) > max(1, most) or (len(names) > 1 and sum(sizes) > largest):
            del self.entries[names.pop(0)], sizes[0]

    def find(self, name: str, owner: str) -> Kept:
        """One of a caller's own. Raises ApiError."""
        entry = self.entries.get(name)
        if entry is None or entry.owner != owner:
            raise ApiError(
                f"the explanation {name[:80]!r} is not kept here any more; expected one of the last {KEPT_EACH}: ask anew",
                404,
            )
        return entry


def _is_empty(messages: tuple[Message, ...]) -> bool:
    """Whether nothing is left to ask."""
    return all(part.type == WORDS and not str(part.value).strip() for message in messages for part in message.parts)


async def _patched(state: State, entry: Kept, content: Any, http: HttpRequest) -> Patching:
    """What comes back of an explained answer by patching its question into one with this content. Raises ApiError, ConfigError, RowError."""
    from plait.api import explaining

    asked = ChatMessage(role="user", content=content)
    [other] = await as_messages([asked], state, entry.served.reads)
    *before, question = entry.explanation.messages
    counterfactual = (*before, explaining.instead(question, *other.parts))
    within(entry.served, replace(entry.request, messages=counterfactual), entry.explanation.answer)
    return await while_there(http, state.explainer.patched(entry.served, entry.explanation, counterfactual))


def _described(entry: Kept, patching: Patching, with_view: bool) -> dict[str, Any]:
    """What comes back by patching, for JSON."""
    from plait.api import explaining

    response = {"object": "explanation.patched", "model": entry.served.name, "patching": patching.as_dict()}
    return response | ({"view": explaining.view_of(entry.served.model, patching).as_dict()} if with_view else {})


def router(state: State) -> APIRouter:
    """The routes."""
    from plait.api import explaining

    routes = APIRouter(tags=["explanations"])
    recent = Recent()

    @routes.post("/v1/explanations")
    async def explanations(body: ExplanationRequest, http: HttpRequest) -> dict[str, Any]:
        """Answer a conversation, or take the answer that is given, and say what it hangs on: a number a word, a piece of a picture or of
        sound, and whether these numbers say more than chance. Or what its layers make of it."""
        served, caller, how = state.find(body.model), caller_of(http), body.explain
        explaining.methods(how.methods, how.of)  # before anything is answered
        messages = await as_messages(body.messages, state, served.reads)
        fields: dict[str, Any] = {"to": answered_in(body.modalities, served), "max_tokens": bounded(state, body.max_tokens, "max_tokens")}  # fmt: skip
        [request] = body.requests(served.model.usual, [messages], **fields)
        if body.answer is None:
            [answer] = await Asked(state, served, [request], False, caller).answers(http)
            reply = answer.message
        else:
            reply = Message("assistant", served.model.question(body.answer).parts)
            within(served, request, reply)
        if how.of == explaining.LAYERS:
            layers = state.explainer.layers(served, messages, reply, with_view=body.view)
            lens, view = await while_there(http, layers)
            response = {"object": "lens", "model": served.name, "lens": lens.as_dict()}
            return response if view is None else response | {"view": view.as_dict()}
        outcome = await while_there(http, state.explainer.explained(served, messages, reply, how.of, how.methods))
        by_method = [one for one in outcome if isinstance(one, explaining.Explanation)]
        name = recent.keep(Kept(served, caller, request, by_method[0]))
        described = [explaining.described(one) for one in by_method]
        return {"id": name, "object": "explanation", "model": served.name, "explanations": described}

    @routes.post("/v1/explanations/{name}/without")
    async def without(name: str, body: WithoutRequest, http: HttpRequest) -> dict[str, Any]:
        """The score of the same answer with some units hidden, and what the model answers to the question without them."""
        entry = recent.find(name, caller_of(http))
        served, explanation, hidden = entry.served, entry.explanation, body.hidden

        def work(check: Check) -> tuple[tuple[float, float], tuple[Message, ...]]:
            check()
            scores = explaining.scores(served.model, explanation, hidden, body.target)
            return scores, explaining.without(served.model, explanation, hidden)

        scores, messages = await while_there(http, state.explainer.run(served.name, work))
        response: dict[str, Any] = {"object": "explanation.without", "scores": list(scores), "message": None}
        if not _is_empty(messages):
            request = replace(entry.request, messages=messages)
            [answer] = await Asked(state, served, [request], False, caller_of(http)).answers(http)
            response["message"] = as_message(answer, "wav")
        return response

    @routes.post("/v1/explanations/{name}/patched")
    async def patched(name: str, body: PatchedRequest, http: HttpRequest) -> dict[str, Any]:
        """In which tokens, after which layers, the same answer is: states of the question are patched into a counterfactual."""
        entry = recent.find(name, caller_of(http))
        patching = await _patched(state, entry, body.counterfactual, http)
        return _described(entry, patching, body.view)

    return routes
