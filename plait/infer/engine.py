"""Static batches of mixed requests over one KV cache. Steps of text and of flows run in the same forward pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from plait.contract import Message, Sample, Segment
from plait.data.pack import Batch, collate
from plait.data.sequence import Element, Encoder, FlowBlock, RowBuilder
from plait.infer.decoder import Chunk, Clean, Decoder, Noised, Steps, to_parts
from plait.infer.kv_cache import Cache
from plait.infer.request import Request
from plait.model.multimodal import MultimodalTransformer
from plait.runtime.parallel import parallel_map


@dataclass
class Answer:
    """What a request got: the message, and the segments it was decoded from."""

    message: Message
    segments: list[Segment]


class Stream:
    """A sequence being written: its cache slot, and the block number of its next token."""

    def __init__(self, cache: Cache) -> None:
        self.cache, self.slot, self.blocks = cache, cache.take(), 0

    def close(self) -> None:
        self.cache.give_back(self.slot)


@dataclass
class Entry:
    """One row of a forward pass: new elements of a stream, kept or not."""

    stream: Stream
    elements: list[Element]
    keep: bool


class Running:
    """A request under way: its coroutine, its streams, the chunk it waits for."""

    def __init__(
        self, request: Request, encoder: Encoder, cache: Cache, times: Callable[[str, int], list[float]]
    ) -> None:
        self.steps: Steps = Decoder(request, encoder, times).run()
        self.cache = cache
        self.stream, self.null = Stream(cache), None
        self.segments: list[Segment] | None = None
        self.chunk: Chunk = next(self.steps)

    null: Stream | None

    def entries(self) -> list[Entry]:
        """Rows that the waiting chunk needs, the conditional stream first."""
        chunk = self.chunk
        if isinstance(chunk, Noised):
            time = np.float32(chunk.t)
            block: list[Element] = [FlowBlock(chunk.modality, chunk.z, chunk.coordinates, False, float(time))]
            streams = [self.stream, self.null] if chunk.guided and self.null else [self.stream]
            return [Entry(stream, block, False) for stream in streams]
        if chunk.restart_null and chunk.null is not None:
            if self.null:
                self.null.close()
            self.null = Stream(self.cache)
        made = [Entry(self.stream, chunk.elements, True)]
        if chunk.null is not None and self.null:
            made.append(Entry(self.null, chunk.null, True))
        return made

    def send(self, result: Any) -> None:
        """Continue the coroutine with what its chunk asked for."""
        try:
            self.chunk = self.steps.send(result)
        except StopIteration as finished:
            self.segments = finished.value
            for stream in (self.stream, self.null):
                if stream:
                    stream.close()


class Engine:
    """Answers requests with one model. Not thread-safe."""

    def __init__(self, model: MultimodalTransformer, batch_size: int = 128) -> None:
        self.model, self.batch_size = model.eval(), batch_size
        self.encoder = Encoder(model.vocabulary)
        self.schedules: dict[tuple[str, int], list[float]] = {}  # times of Euler's steps by modality and number

    def generate(self, requests: Sequence[Request]) -> list[Answer]:
        """Answers in the order of the requests; each depends on its own seed alone, not on its neighbours."""
        answers = []
        for start in range(0, len(requests), self.batch_size):
            answers += self._batch(requests[start : start + self.batch_size])
        return answers

    def prompt_length(self, request: Request) -> int:
        """Tokens of what a request asks, before its answer. Raises what reading its parts raises."""
        return sum(map(_length, self.encoder.prompt(Sample(request.messages))))

    @torch.inference_mode()
    def _batch(self, requests: Sequence[Request]) -> list[Answer]:
        cache = Cache(self.model.trunk.config, self.model.dtype, self.model.device)
        running = [Running(request, self.encoder, cache, self._times) for request in requests]
        active = list(running)
        while active:
            self._tick(active, cache)
            active = [one for one in active if one.segments is None]
        return parallel_map(self._answer, [one.segments or [] for one in running])

    def _answer(self, segments: list[Segment]) -> Answer:
        return Answer(Message("assistant", to_parts(segments, self.encoder)), segments)

    def _tick(self, active: Sequence[Running], cache: Cache) -> None:
        """One forward pass over the waiting chunks of all active requests."""
        entries = [one.entries() for one in active]
        hidden = self._forward([entry for group in entries for entry in group], cache)
        first = 0
        logits_at: list[tuple[Running, int]] = []
        for one, group in zip(active, entries, strict=True):
            rows = range(first, first + len(group))
            first += len(group)
            if isinstance(one.chunk, Clean):
                logits_at.append((one, rows[0]))
                continue
            count = len(one.chunk.z)
            made = self._predict(one.chunk, hidden[rows[0] : rows[-1] + 1, :count]).numpy(force=True)
            one.send((made[0], made[1] if len(rows) > 1 else None))
        if logits_at:
            last = [sum(map(_length, entries[active.index(one)][0].elements)) - 1 for one, _ in logits_at]
            logits = self.model.categorical(hidden[[row for _, row in logits_at], last]).numpy(force=True)
            for (one, _), scores in zip(logits_at, logits, strict=True):
                one.send(scores)

    def _times(self, name: str, steps: int) -> list[float]:
        if (name, steps) not in self.schedules:
            self.schedules[name, steps] = self.model.flows[name].times(steps)  # type: ignore[operator]
        return self.schedules[name, steps]

    def _predict(self, chunk: Noised, hidden: torch.Tensor) -> torch.Tensor:
        """[S, n, W] clean tokens of a block, for each of S streams that were shown the same noised one."""
        streams, count, _ = hidden.shape
        noised = torch.from_numpy(np.asarray(chunk.z, np.float32)).to(hidden.device).repeat(streams, 1)
        time = torch.full((streams * count,), float(np.float32(chunk.t)), device=hidden.device)
        made: torch.Tensor = self.model.flows[chunk.modality](hidden.flatten(0, 1), noised, time)
        return made.view(streams, count, -1)

    def _forward(self, entries: list[Entry], cache: Cache) -> torch.Tensor:
        """[S, n, D] hidden states of new tokens, right-padded; kept entries are written to the cache."""
        batch, counts = self._lay_out(entries, cache)
        slots = [entry.stream.slot for entry in entries]
        view = cache.view(slots, counts, [entry.keep for entry in entries])
        hidden: torch.Tensor = self.model.trunk(self.model.embed(batch), batch.position, view.mask(batch), view.layers)
        for entry, count in zip(entries, counts, strict=True):
            if entry.keep:
                cache.lengths[entry.stream.slot] += count
        return hidden

    def _lay_out(self, entries: list[Entry], cache: Cache) -> tuple[Batch, list[int]]:
        rows = []
        for entry in entries:
            pieces = RowBuilder(first_block=entry.stream.blocks, first_position=cache.lengths[entry.stream.slot])
            for element in entry.elements:
                pieces.add_clean(element)
            rows.append(pieces.row())
            if entry.keep:
                entry.stream.blocks = pieces.next_block
        counts = [len(row) for row in rows]
        batch = collate([[row] for row in rows], max(counts), self.model.vocabulary)
        return batch.to(self.model.device), counts


def _length(element: Element) -> int:
    return len(element.tokens) if isinstance(element, FlowBlock) else len(element.ids)
