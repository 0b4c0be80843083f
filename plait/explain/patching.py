"""Where, and after which layer, an answer's information is: activation patching (Vig et al., 2020; Meng et al., 2022).

Two questions that differ in something and are laid out alike: the one that was asked and a counterfactual. The model reads the
counterfactual, but after one layer the states of some tokens are those that they have in the question. How much of the answer's score
comes back tells how far these states alone bring the answer back. Shares of several groups need not add up, and may pass 1 or fall below
0, since groups work together. A probe tells what could be read; this, what is read.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from plait.contract import Message
from plait.data.pack import Batch
from plait.errors import ConfigError
from plait.explain.explanation import Subject, describe, message_entry
from plait.explain.faithfulness import LEAST
from plait.explain.layers import TRUNK, Streams, repeated, tapped
from plait.explain.scorer import TOKENS_A_BATCH, Scorer, Target, flow_of
from plait.explain.units import Unit, tokens_of
from plait.model.experts import Split

FORMAT = 1
COLUMNS = 7  # layers that a table in a terminal has room for
TOGETHER = "all of these"  # units and media
FARTHEST = 3.0  # share beyond which other things than the difference between the questions are at work
REST = "all others"  # marks, and the answer, from whose place it goes on


HOW_ALIKE = "a word of as many tokens in the place of each, a picture of the same size, a clip as long"


class NotAlikeError(ConfigError):
    """Two questions are not laid out alike."""


@dataclass(frozen=True)
class Patching:
    """What comes back by patching. `labels`: of groups of tokens; `restored` [groups][layers + 1]: the share of the difference between the
    answer's score after the question (`score`) and after the counterfactual (`counterfactual_score`) that comes back when the states of a
    group after so many layers are those of the question: 0 none, 1 all of it."""

    messages: tuple[Message, ...]
    counterfactual: tuple[Message, ...]
    answer: Message
    part: int
    labels: tuple[str, ...]
    score: float
    counterfactual_score: float
    restored: tuple[tuple[float, ...], ...]

    @property
    def difference(self) -> float:
        """By how much the answer is better after the question than after the counterfactual."""
        return self.score - self.counterfactual_score

    @property
    def is_telling(self) -> bool:
        """Whether shares of the difference tell something: it is there, and not small beside what patches do otherwise."""
        return abs(self.difference) >= LEAST and max(abs(share) for row in self.restored for share in row) <= FARTHEST

    @property
    def figures(self) -> dict[str, str]:
        """The two scores and their distance, as text."""
        numbers = {"score": self.score, "other": self.counterfactual_score, "distance": abs(self.difference)}
        return {name: f"{number:.3f}" for name, number in numbers.items()}

    @property
    def caption(self) -> str:
        """The two scores, and whether anything is to be learned from them."""
        scores = "Score of the answer: {score}; after the counterfactual: {other}".format(**self.figures)
        if self.is_telling:
            return scores
        why = f"less than {LEAST}" if abs(self.difference) < LEAST else "little beside what patches do otherwise"
        return f"{scores}. They differ by {self.figures['distance']}, {why}: there is nothing to patch"

    def as_dict(self) -> dict[str, Any]:
        """For JSON; media as their kind alone. `restored` is null where nothing is telling."""
        asked = {
            name: [message_entry(message) for message in getattr(self, name)] for name in ("messages", "counterfactual")
        }
        return {
            "format": FORMAT,
            **asked,
            "answer": message_entry(self.answer),
            "part": self.part,
            "labels": self.labels,
            "score": self.score,
            "counterfactual_score": self.counterfactual_score,
            "restored": self.restored if self.is_telling else None,
            "is_telling": self.is_telling,
        }

    def to_json(self) -> str:
        """As text."""
        return json.dumps(self.as_dict(), ensure_ascii=False, indent=1)

    def table(self) -> str:
        """Each group by some of the layers, as text."""
        if not self.is_telling:
            return self.caption
        layers = len(self.restored[0]) - 1
        shown = sorted({round(number) for number in np.linspace(0, layers, COLUMNS)})
        rows = [("after layer", *map(str, shown))]
        for label, shares in zip(self.labels, self.restored, strict=True):
            rows.append((label, *(in_words(shares[number]) for number in shown)))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        heading = "share of the difference that comes back, by the layer after which states are the question's"
        return "\n".join([self.caption, heading, *lines])


def in_words(share: float) -> str:
    """A share with two digits; -0.00 is 0.00."""
    return f"{round(share, 2) + 0.0:.2f}"


def patch(
    subject: Subject,
    messages: Sequence[Message],
    counterfactual: Sequence[Message],
    answer: Message,
    *,
    part: int = 0,
    seed: int = 0,
) -> Patching:
    """Patch states of a question into its counterfactual, group by group and layer by layer. Raises ConfigError for questions that are not
    laid out alike, RowError."""
    if not answer.parts:
        raise ConfigError("got an empty answer; expected something to explain")
    flow = flow_of(subject.config)
    scorer, other = (
        Scorer(subject.engine, asked, answer, Target(part), seed, flow) for asked in (messages, counterfactual)
    )
    _alike(scorer, other)
    groups = _groups(scorer)
    network, layers = subject.inside(), subject.inside().trunk.config.num_layers
    tokens = len(scorer.row) * len(groups) * (layers + 1)
    if subject.most_tokens is not None and tokens > subject.most_tokens:
        raise ConfigError(
            f"got {len(groups)} groups of tokens and {layers} layers, {tokens:,} tokens to compute; expected at most {subject.most_tokens:,}"
        )
    at_once = max(1, TOKENS_A_BATCH // len(scorer.row))
    scores = np.zeros((len(groups), layers + 1))
    for first in range(0, len(groups), at_once):
        chosen = [tokens for _, tokens in groups[first : first + at_once]]
        patched = _Patched(scorer, other, network, chosen)
        for layer in range(layers + 1):
            subject.check()
            scores[first : first + len(chosen), layer] = patched.scores(layer)
    of_question, of_other = (float(each.scores_by(network, _batch(each, network, 1))[0]) for each in (scorer, other))
    restored = (scores - of_other) / (of_question - of_other or 1.0)
    shares = tuple(tuple(map(float, row)) for row in restored)
    labels = tuple(label for label, _ in groups)
    return Patching(scorer.messages, other.messages, answer, part, labels, of_question, of_other, shares)


class _Patched:
    """Passes of a counterfactual in each of whose sequences some tokens have the states of the question."""

    def __init__(self, scorer: Scorer, other: Scorer, network: Any, groups: Sequence[np.ndarray]) -> None:
        self.other, self.network = other, network
        self.batch = _batch(other, network, len(groups))
        with torch.no_grad(), tapped(network.trunk) as taps:
            network.hidden(_batch(scorer, network, 1))
        self.after: list[Streams] = taps.after
        with torch.no_grad(), tapped(network.trunk) as taps:
            network.hidden(_batch(other, network, 1))
        self.before: list[Streams] = taps.after  # until the patched layer a pass is that of the counterfactual
        is_patched = torch.zeros(self.batch.row.shape, dtype=torch.bool)
        for number, tokens in enumerate(groups):
            is_patched[number, torch.from_numpy(tokens)] = True
        self.is_patched = is_patched.flatten().to(network.device)
        routing = network.routing(self.batch)
        self.indices = {TRUNK: routing.shared, **dict(routing.own)} if isinstance(routing, Split) else {}

    def _last(self, layer: int, stream: str) -> int:
        """The last layer up to this one that changed a stream: experts have layers beside some of the trunk's alone."""
        return max((number for number in range(layer + 1) if stream in self.after[number]), default=-1)

    def scores(self, layer: int) -> np.ndarray:
        """[groups] scores with the states after one layer patched."""

        def change(number: int, stream: str, state: Tensor) -> Tensor:
            if number != self._last(layer, stream):
                return state
            chosen = self.is_patched[self.indices[stream]] if stream in self.indices else self.is_patched
            clean = repeated(self.after[number][stream], state)
            return torch.where(chosen.view(*state.shape[:-1], 1), clean, state)

        with tapped(self.network.trunk, change, self.before[: layer + 1]):
            return self.other.scores_by(self.network, self.batch)


def _batch(scorer: Scorer, network: Any, times: int) -> Batch:
    return scorer.batch([scorer.row] * times).to(network.device)


def _alike(scorer: Scorer, other: Scorer) -> None:
    """Raise NotAlikeError for questions whose tokens are not of the same kinds in the same places, word by word and part by part."""
    row, counterfactual = scorer.row, other.row
    for number, message in enumerate(scorer.messages):
        for place, part in enumerate(message.parts):
            counts = [len(tokens_of(each, number, place)) for each in (row, counterfactual)]
            if counts[0] != counts[1]:
                raise NotAlikeError(
                    f"got {part.type} of {counts[0]} tokens, and of {counts[1]} in the counterfactual; expected as many: {HOW_ALIKE}"
                )
    same = (
        len(row) == len(counterfactual)
        and [span.origin for span in row.spans] == [span.origin for span in counterfactual.spans]
        and all(
            np.array_equal(getattr(row, name), getattr(counterfactual, name))
            for name in ("block", "copy", "expert", "position")
        )
        and np.array_equal(row.ids < 0, counterfactual.ids < 0)
    )
    units = [[(unit.message, unit.part, unit.tokens) for unit in each.units] for each in (scorer, other)]
    if not same or units[0] != units[1]:
        raise NotAlikeError(
            f"got questions of {len(row)} and {len(counterfactual)} tokens whose words or parts begin in different places; expected them to line up: {HOW_ALIKE}"
        )


def _groups(scorer: Scorer) -> list[tuple[str, np.ndarray]]:
    """Tokens that are patched together: each unit of words, each medium, all of these where they are several, and all others."""
    groups: dict[tuple[Any, ...], tuple[str, list[int]]] = {}
    messages = (*scorer.messages, scorer.answer)
    for unit in scorer.units:
        if unit.message == len(scorer.messages):
            continue
        is_whole = "characters" not in unit.region
        key = (unit.message, unit.part) if is_whole else unit.key
        if is_whole:
            tokens = tokens_of(scorer.row, unit.message, unit.part).tolist()
            groups[key] = describe(messages, Unit(unit.message, unit.part, unit.kind, {})), tokens
        else:
            groups[key] = describe(messages, unit), list(unit.tokens)
    named = sorted({token for _, tokens in groups.values() for token in tokens})
    rest = sorted(set(range(len(scorer.row))) - set(named))
    more = [(TOGETHER, named)] if len(groups) > 1 else []
    return [(label, np.array(tokens)) for label, tokens in (*groups.values(), *more, (REST, rest))]
