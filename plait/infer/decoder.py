"""One request as a coroutine: it yields what has to be computed and is sent the result.

    prefill   Clean(prompt)             -> logits of the last token
    step      Clean(one id)             -> logits          (a text or grammar token)
              Noised(z, t)              -> predicted clean tokens, one tensor a stream
    commit    Clean(finished block)     -> logits

The engine may run the chunks of many requests in one batch; a request sees only its own.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import numpy as np

from plait.contract import Block, Part, Sample, Segment
from plait.data.sequence import Element, Encoder, FlowBlock, Ids
from plait.data.vocabulary import END, NULL, ROLES
from plait.errors import ConfigError
from plait.infer.request import Request
from plait.infer.sampling import guided_velocity, sample_id


@dataclass
class Clean:
    """Elements to append to the request's streams: first the conditional one, then, if given, the null one."""

    elements: list[Element]
    null: list[Element] | None = None
    restart_null: bool = False  # the null stream begins anew with these elements


@dataclass
class Noised:
    """A block in flight: tokens `z` [n, W] at time `t`, asked of both streams if `guided`. Never kept."""

    modality: str
    z: np.ndarray
    coordinates: np.ndarray
    t: float
    guided: bool


Chunk = Clean | Noised
Steps = Generator[Chunk, Any, list[Segment]]


class Decoder:
    """The state of one request while it is answered. `times`: of a modality and a number of steps, when they are taken."""

    def __init__(self, request: Request, encoder: Encoder, times: Callable[[str, int], list[float]]) -> None:
        self.request, self.encoder, self.times = request, encoder, times
        self.vocabulary = encoder.vocabulary
        self.rng = np.random.default_rng([request.seed, 3])
        self.guided = request.guidance != 1.0
        self.made = 0
        if request.to is not None and request.to not in self.vocabulary.modalities:
            raise ConfigError(
                f"request: to={request.to!r}; expected one of {', '.join(self.vocabulary.modalities)} or auto"
            )

    def _legal(self) -> np.ndarray:
        """Ids that may come next outside a header: an array, which thousands of ids make once a request."""
        vocabulary, to = self.vocabulary, self.request.to
        openers = [index for index, name in vocabulary.openers.items() if to in (None, name)]
        if openers and to is not None:
            return np.array(openers)
        ids = [vocabulary.ids[END], *openers]
        for name, offset in vocabulary.offsets.items():
            if to in (None, name):
                ids += range(offset, offset + vocabulary.modalities[name].token_width)
        return np.array(ids)

    def run(self) -> Steps:
        """Answer; the return value is the segments made, in order."""
        vocabulary = self.vocabulary
        prompt = self.encoder.prompt(Sample(self.request.messages))
        logits = yield Clean([*prompt, Ids([vocabulary.ids[ROLES["assistant"]]], False)])
        legal = self._legal()
        segments: list[Segment] = []
        pending: list[int] = []
        while self.made < self.request.max_tokens:
            chosen = sample_id(logits, legal, self.request.temperature, self.rng)
            if chosen == vocabulary.ids[END]:
                break
            if chosen in vocabulary.openers:
                segments += self._flush(pending)
                segment, logits = yield from self._segment(vocabulary.openers[chosen])
                segments.append(segment)
                if logits is None:
                    break
                continue
            pending.append(chosen)
            self.made += 1
            logits = yield Clean([Ids([chosen], False)])
        return segments + self._flush(pending)

    def _flush(self, pending: list[int]) -> list[Segment]:
        """Categorical ids gathered so far, as segments of the modalities that own them."""
        made: list[Segment] = []
        for index in pending:
            name = self.vocabulary.owner(index)
            own = np.array([index - self.vocabulary.offsets[name]])
            if made and made[-1].modality == name:
                own = np.concatenate((made[-1].blocks[0].tokens, own))
                made.pop()
            made.append(Segment(name, (Block((), own),)))
        pending.clear()
        return made

    def _segment(self, name: str) -> Generator[Chunk, Any, tuple[Segment, Any]]:
        """One flow segment, from its open id; the logits after it are None when nothing is to follow."""
        modality = self.vocabulary.modalities[name]
        options = self.request.options.get(name, {})
        blocks: list[Block] = []
        header = [modality.grammar()[0]]
        fresh = [header[0]]  # names of the header not yet appended to the streams
        null_before = [Ids([self.vocabulary.ids[NULL]], False)]
        logits: Any = None
        while True:
            while names := modality.expects(tuple(header), {**options, "blocks": len(blocks)}):
                if len(names) == 1:
                    fresh.append(names[0])
                    header.append(names[0])
                    continue
                if fresh:
                    logits = yield self._header(fresh, null_before)
                    null_before, fresh = [], []
                chosen = sample_id(logits, self.vocabulary.encode(names), self.request.temperature, self.rng)
                header.append(self.vocabulary.names[chosen])
                fresh.append(header[-1])
            if fresh:
                yield self._header(fresh, null_before)
                null_before, fresh = [], []
            tokens = yield from self._draw(name, tuple(header))
            blocks.append(Block(tuple(header), tokens))
            ended = modality.ends(tuple(header)) or self.made >= self.request.max_tokens
            if ended and self.request.to is not None:
                return Segment(name, tuple(blocks)), None
            done: list[Element] = [FlowBlock(name, tokens, modality.coordinates(tuple(header)), False)]
            logits = yield Clean(done, done if self.guided else None)
            if ended:
                return Segment(name, tuple(blocks)), logits
            header = []

    def _header(self, names: list[str], before: list[Ids]) -> Clean:
        ids: list[Element] = [Ids(self.vocabulary.encode(names), False)]
        return Clean(ids, [*before, *ids] if self.guided else None, restart_null=bool(before))

    def _draw(self, name: str, header: tuple[str, ...]) -> Generator[Chunk, Any, np.ndarray]:
        """Integrate one block from noise to data; the last step's prediction is the result."""
        modality = self.vocabulary.modalities[name]
        count = modality.block_len(header)
        self.made += count
        z = self.rng.standard_normal((count, modality.token_width), dtype=np.float32)
        chunk = Noised(name, z, modality.coordinates(header), 0.0, self.guided)
        schedule = self.times(name, self.request.steps)
        for t, following in itertools.pairwise(schedule):
            chunk.t = t
            predicted, null = yield chunk
            chunk.z = chunk.z + (following - t) * guided_velocity(predicted, null, chunk.z, t, self.request.guidance)
        return modality.canonical(chunk.z)


def to_parts(segments: list[Segment], encoder: Encoder) -> tuple[Part, ...]:
    """Segments back to parts."""
    return tuple(encoder.modality(segment.modality).write(segment) for segment in segments)
