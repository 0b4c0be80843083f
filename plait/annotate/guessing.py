"""What a model is asked about an item, so that it guesses what people would say, and what its answers come to.

Of fixed answers a model weighs every one (`Weighing`); others it writes (`Writing`). Neither runs the model: whoever holds its engine does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from plait.annotate import items
from plait.annotate.export import asked
from plait.annotate.kinds import CHOICES, Json, Question, known
from plait.contract import WORDS, Message, Part, Sample
from plait.errors import ConfigError
from plait.infer.events import Answer
from plait.infer.request import Request
from plait.modalities import Places

FIND = "Find every {label}."  # as models learn to place things
MOST_TOKENS = 240  # of what is written
Messages = tuple[Message, ...]


@dataclass(frozen=True)
class Weighing:
    """Answers to weigh: a conversation and an answer in words each, and what each of them says."""

    pairs: Sequence[tuple[Messages, Part]]
    values: Sequence[Json]

    def settled(self, logs: np.ndarray) -> tuple[Json, float]:
        """The likeliest by log-probabilities [answers], and 1 less its share of the probability of all."""
        shares = np.exp(logs - np.logaddexp.reduce(logs))
        return self.values[int(shares.argmax())], float(1 - shares.max())


@dataclass(frozen=True)
class Writing:
    """Conversations to answer in words; with `labels`, each asks where one of these is, in a medium of `places`."""

    question: Question
    conversations: Sequence[Messages]
    labels: Sequence[str] = ()
    places: Places | None = None

    def requests(self, usual: Mapping[str, Any]) -> list[Request]:
        """What an engine is asked; `usual`: the fields of a model's requests."""
        fields = {**usual, "temperature": 0.0, "max_tokens": MOST_TOKENS, "logprobs": 0}
        return [Request(messages, to=WORDS, **fields) for messages in self.conversations]

    def settled(self, answers: Sequence[Answer]) -> tuple[Json, float | None]:
        """What the answers say, and 1 less the mean probability of their tokens (geometric). Raises ConfigError for what does not fit."""
        texts = ["".join(str(part.value) for part in answer.message.parts if part.type == WORDS) for answer in answers]
        logs = [token.logprob for answer in answers for token in answer.logprobs]
        doubt = 1 - math.exp(sum(logs) / len(logs)) if logs else None
        if not self.labels:
            return self.question.checked(
                known(self.question.kind).parse(texts[0].strip(), self.question, self.places)
            ), doubt
        boxes = []
        for label, text in zip(self.labels, texts, strict=True):
            one = Question(self.question.kind, "", (label,))
            boxes += [box | {"label": label} for box in known(one.kind).parse(text, one, self.places)]
        return self.question.checked(boxes), doubt


def asking(sample: Sample, question: Question) -> Weighing | Writing:
    """What a model is asked about a row. Raises ConfigError for answers that are no words, which nobody can weigh."""
    kind = known(question.kind)
    before, answers = items.conversation(sample)
    if len(answers) < kind.needs_answer + kind.needs_two:
        raise ConfigError(
            f"got a row with {len(answers)} answers for --ask {question.kind}; expected {kind.needs_answer + kind.needs_two} to judge"
        )
    *earlier, last = before

    def with_words(*parts: Part) -> Messages:
        return (*earlier, Message("user", (*last.parts, *parts)))

    if kind.needs_two:
        parts = [answer[0].parts for answer in answers]
        if any(len(each) != 1 or each[0].type != WORDS for each in parts):
            raise ConfigError("got answers that are not words alone; expected words, which can be weighed")
        return Weighing([(before, each[0]) for each in parts], CHOICES[:2])
    if kind.needs_media:
        conversations = [with_words(Part(WORDS, FIND.format(label=label))) for label in question.options]
        return Writing(question, conversations, question.options, items.places_in(sample))
    words = Part(WORDS, asked(question))
    if kind.judges:
        messages = with_words(*answers[0][0].parts, words)
        values: list[Json] = list(range(1, len(question.options) + 1))
    else:
        has_words = any(part.type == WORDS for message in before for part in message.parts)
        messages, values = before if has_words else with_words(words), list(question.options)
    if values:
        return Weighing([(messages, Part(WORDS, str(value))) for value in values], values)
    return Writing(question, [messages])
