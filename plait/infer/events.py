"""What is told of an answer while it is made, and what it was once it is done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from plait.contract import Message, Part, Segment
from plait.data.row import Span

Reason = Literal["stop", "length", "cancelled", "error"]


@dataclass(frozen=True)
class Usage:
    """Tokens by modality of what was asked and of the answer, each counted once; marks and headers under `grammar`. `reused`:
    how many of those asked had been computed for an earlier request."""

    asked: Mapping[str, int] = field(default_factory=dict)
    answered: Mapping[str, int] = field(default_factory=dict)
    reused: int = 0


@dataclass(frozen=True)
class TokenChoice:
    """A token of words: what it writes (not always whole characters), its log-probability among the ids that were legal, and the
    likeliest of these with theirs."""

    text: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Answer:
    """What a request got: the message, the segments it was decoded from, where their tokens lie in the answer, why it
    ended, and what it took. An answer that failed has an `error` and whatever was whole by then. `asked`: the conversation as
    the model read it, where sounds may have become their words (`Engine.in_words`). `logprobs`: of the tokens of its words, if
    they were asked for. `to_say`: the modality that the model began and that wants to be told what it says (plait.infer.spoken)."""

    message: Message
    segments: list[Segment]
    layout: list[Span] = field(default_factory=list)
    reason: Reason = "stop"
    usage: Usage = Usage()
    error: Exception | None = None
    asked: tuple[Message, ...] = ()
    logprobs: tuple[TokenChoice, ...] = ()
    to_say: str = ""


@dataclass(frozen=True)
class TextDelta:
    """More words of the answer: whole characters; and the tokens that they came with, if these were asked for."""

    part: int
    text: str
    tokens: tuple[TokenChoice, ...] = ()


@dataclass(frozen=True)
class BlockBegun:
    """A block of a continuous modality is about to be drawn under a header of grammar names."""

    part: int
    modality: str
    header: tuple[str, ...]


@dataclass(frozen=True)
class Preview:
    """How a block in flight looks so far, after `step` of `steps`."""

    part: int
    step: int
    steps: int
    preview: Part


@dataclass(frozen=True)
class BlockDone:
    """A block is drawn; `piece` is what is final with it. Pieces of sound join to the whole clip."""

    part: int
    piece: Part


@dataclass(frozen=True)
class Finished:
    """The answer is whole, or ended for another reason."""

    answer: Answer


Event = TextDelta | BlockBegun | Preview | BlockDone | Finished
