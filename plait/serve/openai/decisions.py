"""`/v1/decisions`: how likely statements, choices and levels are, without a word being written.

A probability is the likelihood of an answer among those that are allowed, as the evaluation measures it (`likeliest label: accuracy`,
`calibration error`). With `calibration: content-free` an answer counts for how much likelier the input makes it than an empty
one does, since common words are likely whatever is asked (arXiv:2104.08315).
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter
from pydantic import Field

from plait import registry
from plait.contract import WORDS, Message, Part
from plait.infer.likelihood import log_likelihoods
from plait.infer.request import Request
from plait.serve.errors import ApiError, unsupported
from plait.serve.openai.content import ChatMessage, ContentPart, as_messages
from plait.serve.openai.responses import InputMessage
from plait.serve.openai.shapes import Shape, WithoutEffect
from plait.serve.state import Served, State

YES, NO = "Yes", "No"
Calibration = Literal["none", "content-free"]
Instructions = str | list[ContentPart]


class Predicate(Shape):
    """How likely a statement about the input is true."""

    type: Literal["predicate"]
    instructions: Instructions
    name: str | None = None


class Option(Shape):
    """One of several answers."""

    value: str | bool
    description: str | None = None


class Choice(Shape):
    """Which of some answers is right."""

    type: Literal["choice"]
    instructions: Instructions
    choices: list[Option] = Field(min_length=2, max_length=255)
    name: str | None = None


class Level(Shape):
    """A step of a scale."""

    label: str = Field(min_length=1)
    description: str | None = None


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
        told = [(_text(option.value), option.description) for option in question.choices]
    else:
        told = [(level.label, level.description) for level in question.levels]
    texts = [text for text, _ in told]
    if len(set(texts)) < len(texts) or "" in texts:
        raise ApiError(f"{param}: got answers that are alike or empty; expected texts that differ", param=param)
    return told


async def _asked(
    body: DecisionRequest, question: Predicate | Choice | Score, param: str, state: State, served: Served
) -> tuple[Message, ...]:
    """The input, and the question in the user's last turn."""
    given = [InputMessage(role="user", content=body.input)] if isinstance(body.input, str) else body.input
    if not given or given[-1].role != "user":
        raise ApiError("input: the last message is not a user's; expected what is to be judged", param="input")
    told = _options(question, param)
    described = [f"{text}: {description}" for text, description in told if description]
    instructions = question.instructions
    asked = [ChatMessage(role=message.role, content=message.content) for message in given]
    if not isinstance(instructions, str):
        asked[-1].content = [*_as_parts(asked[-1].content), *instructions]
        instructions = ""
    messages = await as_messages(asked, state, served.reads)
    answers = "" if isinstance(question, Predicate) else f"Answer with one of: {', '.join(text for text, _ in told)}."
    words = "\n".join(filter(None, [instructions, *described, answers]))
    *before, last = messages
    return (*before, Message("user", (*last.parts, Part(WORDS, words)) if words else last.parts))


def _as_parts(content: Any) -> list[Any]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content or ())


def _blank(messages: tuple[Message, ...], served: Served) -> tuple[Message, ...]:
    """The same conversation about nothing: its media emptied, its words but the last taken out. Raises ApiError."""
    *before, last = messages
    *given, question = last.parts
    parts = []
    for part in given:
        module = registry.measures(part.type)
        if part.type != WORDS and module is None:
            raise unsupported("calibration", f"{part.type} cannot be emptied; expected 'none'")
        if part.type != WORDS and module is not None:
            parts.append(module.blank(served.model.network.vocabulary.modalities[part.type], part))
    return (*before, Message("user", (*parts, question)))


def _weigh(served: Served, asked: tuple[Message, ...], texts: list[str], calibration: Calibration) -> np.ndarray:
    """[answers] shares that sum to 1; in the engine's thread."""
    engine = served.model.engine
    questions = [asked] if calibration == "none" else [asked, _blank(asked, served)]
    told = log_likelihoods(engine, questions, [Part(WORDS, text) for text in texts])
    scores = told[0] - (told[1] if len(told) > 1 else 0.0)
    shares: np.ndarray = np.exp(scores - np.logaddexp.reduce(scores))
    return shares


def _answer(question: Predicate | Choice | Score, shares: np.ndarray, refuse_below: float) -> dict[str, Any]:
    """The answer to one question as OpenAI's object."""
    head = {"type": question.type, "name": question.name}
    best, confidence = int(shares.argmax()), float(shares.max())
    if confidence < refuse_below:
        return head | {"type": "refusal"}
    if isinstance(question, Predicate):
        return head | {"probability": float(shares[0])}
    if isinstance(question, Choice):
        told = [{"value": o.value, "probability": float(p)} for o, p in zip(question.choices, shares, strict=True)]
        return head | {"choice": question.choices[best].value, "confidence": confidence, "probabilities": told}
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
    async def decisions(body: DecisionRequest) -> dict[str, Any]:
        """Weigh the answers to some questions about one input. Others' requests go on between two questions."""
        served, answers, tokens = state.find(body.model), [], 0
        for number, question in enumerate(body.questions):
            param = f"questions[{number}]"
            asked = await _asked(body, question, param, state, served)
            texts = [text for text, _ in _options(question, param)]
            shares = await served.worker.call(partial(_weigh, served, asked, texts, body.calibration))
            tokens += await served.worker.call(partial(_length, served, asked))
            answers.append(_answer(question, shares, body.refuse_below))
        usage = {
            "input_tokens": tokens, "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0}, "output_tokens": 0,
            "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": tokens,
        }  # fmt: skip
        return {"answers": answers, "model": served.name, "usage": usage}

    return routes


def _length(served: Served, asked: tuple[Message, ...]) -> int:
    """Tokens of a question."""
    return served.model.engine.prompt_length(Request(asked, WORDS))
