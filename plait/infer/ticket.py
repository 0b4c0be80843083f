"""A request on its way through the engine, and the sequences that are written for it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from plait.data.row import Element, FlowBlock
from plait.infer.decoder import Decoder, Draw, Feed, Steps
from plait.infer.events import Answer, Event
from plait.infer.kv_cache import Slot
from plait.infer.prefixes import Identity
from plait.infer.request import Request


@dataclass
class Stream:
    """A sequence being written: its slot, the block number of its next token, what was not fed yet."""

    slot: Slot
    blocks: int = 0
    waiting: deque[Element] | None = None
    fed: list[Identity] = field(default_factory=list)  # where what has ended is kept


class Flight:
    """A block between noise and data: its tokens `z` [n, W] at the time of Euler's step number `step`."""

    def __init__(self, draw: Draw, times: Sequence[float], device: torch.device) -> None:
        self.draw, self.times, self.step = draw, times, 0
        self.z = torch.from_numpy(draw.noise).to(device)

    def element(self, bare: bool = False) -> FlowBlock:
        """The block as the trunk sees it now; `bare`: in the stream that guidance leads away from."""
        draw = self.draw
        tokens, places = self.z.numpy(force=True), draw.bare if bare else draw.coordinates
        return FlowBlock(draw.modality, tokens, places, False, self.times[self.step], draw.expert)


class Ticket:
    """A request that was submitted. `events` are told if it was asked for; `answer` is there once `done`."""

    def __init__(
        self, request: Request, stream: bool = False, previews: int = 0, longest: int | None = None, owner: str = ""
    ) -> None:
        self.request, self.stream, self.previews, self.longest = request, stream, previews, longest
        self.owner = owner
        self.events: deque[Event] = deque()
        self.answer: Answer | None = None
        self.decoder: Decoder | None = None
        self.steps: Steps | None = None
        self.waits_for: Feed | Flight | None = None
        self.hidden: Tensor | None = None  # of the last token of what is fed
        self.main: Stream | None = None
        self.null: Stream | None = None

    @property
    def done(self) -> bool:
        """Whether the answer is there, for whatever reason."""
        return self.answer is not None

    def streams(self) -> list[Stream]:
        """Its streams, the conditional one first."""
        return [stream for stream in (self.main, self.null) if stream is not None]


@dataclass
class Piece:
    """New tokens of a stream in this step: `count` from `first` on."""

    ticket: Ticket
    stream: Stream
    first: int
    count: int
    keep: bool
