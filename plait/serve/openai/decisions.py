"""`/v1/decisions`: how likely statements, choices and levels are, without a word being written.

A probability is the likelihood of an answer among those that are allowed, as the evaluation measures it (`likeliest label: accuracy`,
`calibration error`). With `calibration: content-free` an answer counts for how much likelier the input makes it than an empty
one does, since common words are likely whatever is asked (arXiv:2104.08315).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter
from fastapi import Request as HttpRequest
from pydantic import Field

from plait import registry
from plait.contract import WORDS, Message, Part
from plait.infer.likelihood import log_likelihoods
from plait.infer.request import Request
from plait.serve.errors import ApiError, unsupported
from plait.serve.openai.content import ChatMessage, ContentPart, as_messages
from plait.serve.openai.responses import InputMessage, as_chat
from plait.serve.openai.shapes import Shape, WithoutEffect
from plait.serve.state import Served, State

YES, NO = "Yes", "No"
LONGEST = 500  # characters of an answer, and of what is said about it
Calibration = Literal["none", "content-free"]
Instructions = str | list[ContentPart]


class Predicate(Shape):
    """How likely a statement about the input is true."""

    type: Literal["predicate"]
    instructions: Instructions
    name: str | None = None


class Option(Shape):
    """One of several answers."""

    value: Annotated[str, Field(max_length=LONGEST)] | bool
    description: str | None = Field(None, max_length=LONGEST)


class Choice(Shape):
    """Which of some answers is right."""

    type: Literal["choice"]
    instructions: Instructions
    choices: list[Option] = Field(min_length=2, max_length=255)
    name: str | None = None


class Level(Shape):
    """A step of a scale."""

    label: str = Field(min_length=1, max_length=LONGEST)
    description: str | None = Field(None, max_length=LONGEST)


class Score(Shape):
    """Where on a scale of ordered levels the input stands."""

    type: Literal["score"]
    instructions: Instructions
    levels: list[Level] = Field(min_length=2, max_length=255)
    name: str | None = None


Question = Annotated[Predicate | Choice | Score, Field(discriminator="type")]


class DecisionRequest(WithoutEffect):
    """Questions about one input. `refuse_below`: a confidence under which a question is refused instead of answered."""

    model: str | None = None
    input: str | list[InputMessage]
    questions: list[Question] = Field(min_length=1, max_length=400)
    prompt_cache_options: dict[str, Any] | None = None
    calibration: Calibration = "none"
    refuse_below: float = Field(0.0, ge=0, le=1)


def _text(value: str | bool) -> str:
    return value if isinstance(value, str) else (YES if value else NO)


def _options(question: Predicate | Choice | Score, param: str) -> list[tuple[str, str | None]]:
    """The texts that may answer a question, with what is said about each. Raises ApiError for two alike."""
    if isinstance(question, Predicate):
        return [(YES, None), (NO, None)]
    if isinstance(question, Choice):
        described = [(_text(option.value), option.description) for option in question.choices]
    else:
        described = [(level.label, level.description) for level in question.levels]
    texts = [text for text, _ in described]
    if len(set(texts)) < len(texts) or "" in texts:
        raise ApiError(f"{param}: got answers that are alike or empty; expected texts that differ", param=param)
    return described


@dataclass
class Asked:
    """A question about the input, and the same about nothing: its media emptied, its words taken out, if that was wanted."""

    messages: tuple[Message, ...]
    blank: tuple[Message, ...] | None


async def _input(body: DecisionRequest, state: State, served: Served) -> tuple[Message, ...]:
    """What is judged. Raises ApiError."""
    messages = as_chat(body.input)
    if not messages or messages[-1].role != "user":
        raise ApiError("input: the last message is not a user's; expected what is to be judged", param="input")
    return await as_messages(messages, state, served.reads)


async def _asked(
    body: DecisionRequest, judged: tuple[Message, ...], number: int, state: State, served: Served
) -> Asked:
    """Question `number` in the user's last turn, behind what it is about. Raises ApiError."""
    question, param = body.questions[number], f"questions[{number}]"
    options = _options(question, param)
    lines = [f"{text}: {description}" for text, description in options if description]
    if not isinstance(question, Predicate):
        lines.append(f"Answer with one of: {', '.join(text for text, _ in options)}.")
    parts: tuple[Part, ...] = ()
    if isinstance(question.instructions, str):
        lines.insert(0, question.instructions)
    else:
        asked = await as_messages([ChatMessage(role="user", content=question.instructions)], state, served.reads)
        parts = asked[-1].parts
    if words := "\n".join(filter(None, lines)):
        parts = (*parts, Part(WORDS, words))
    *before, last = judged
    blank = None
    if body.calibration != "none":
        emptied = tuple(_emptied(part, served) for part in last.parts if part.type != WORDS)
        blank = (*(m for m in before if m.role == "system"), Message("user", (*emptied, *parts)))
    return Asked((*before, Message("user", (*last.parts, *parts))), blank)


def _emptied(part: Part, served: Served) -> Part:
    """A medium with nothing in it. Raises ApiError."""
    module = registry.measures(part.type)
    if module is None:
        raise unsupported("calibration", f"{part.type} cannot be emptied; expected 'none'")
    return module.blank(served.model.network.vocabulary.modalities[part.type], part)


def _weigh(served: Served, asked: Asked, texts: list[str]) -> tuple[np.ndarray, int]:
    """[answers] shares that sum to 1, and the tokens of the question; in the engine's thread. Raises ApiError."""
    engine = served.model.engine
    length = engine.prompt_length(Request(asked.messages, WORDS))
    if length > served.model.longest:
        raise ApiError(f"got {length} tokens to judge; expected at most {served.model.longest}", param="input")
    questions = [asked.messages] if asked.blank is None else [asked.messages, asked.blank]
    logs = log_likelihoods(engine, questions, [Part(WORDS, text) for text in texts])
    scores = logs[0] - (logs[1] if len(logs) > 1 else 0.0)
    shares: np.ndarray = np.exp(scores - np.logaddexp.reduce(scores))
    return shares, length


def _answer(question: Predicate | Choice | Score, shares: np.ndarray, refuse_below: float) -> dict[str, Any]:
    """The answer to one question as OpenAI's object."""
    head = {"type": question.type, "name": question.name}
    best, confidence = int(shares.argmax()), float(shares.max())
    if confidence < refuse_below:
        return head | {"type": "refusal"}
    if isinstance(question, Predicate):
        return head | {"probability": float(shares[0])}
    if isinstance(question, Choice):
        probabilities = [
            {"value": o.value, "probability": float(p)} for o, p in zip(question.choices, shares, strict=True)
        ]
        return head | {"choice": question.choices[best].value, "confidence": confidence, "probabilities": probabilities}
    levels = [
        {"label": level.label, "value": value, "probability": float(share)}
        for value, (level, share) in enumerate(zip(question.levels, shares, strict=True))
    ]
    score = float(shares @ np.arange(len(shares)))
    return head | {"score": score, "confidence": confidence, "probabilities": levels}


def router(state: State) -> APIRouter:
    """The route."""
    routes = APIRouter(tags=["decisions"])

    @routes.post("/v1/decisions")
    async def decisions(body: DecisionRequest, http: HttpRequest) -> dict[str, Any]:
        """Weigh the answers to some questions about one input. Others' requests go on between two questions."""
        served, answers, tokens = state.find(body.model), [], 0
        judged = await _input(body, state, served)
        for number, question in enumerate(body.questions):
            if await http.is_disconnected():
                raise ApiError("the client has gone", 499)
            asked = await _asked(body, judged, number, state, served)
            texts = [text for text, _ in _options(question, f"questions[{number}]")]
            shares, length = await served.worker.call(partial(_weigh, served, asked, texts))
            tokens += length
            answers.append(_answer(question, shares, body.refuse_below))
        usage = {
            "input_tokens": tokens, "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0}, "output_tokens": 0,
            "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": tokens,
        }  # fmt: skip
        return {"answers": answers, "model": served.name, "usage": usage}

    return routes
