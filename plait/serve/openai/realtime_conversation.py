"""What was said in a session of `/v1/realtime`: sound that is not committed yet, and the messages, within bounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from plait.contract import WORDS, Message, Part
from plait.serve.errors import ApiError
from plait.serve.media import from_base64, from_url
from plait.serve.openai import realtime_shapes as shapes
from plait.serve.openai.content import AUDIO, IMAGE, size_of
from plait.serve.openai.realtime_answer import Item, described
from plait.serve.openai.realtime_shapes import RATE
from plait.serve.state import Served, State

MOST_ITEMS = 512
ROOT = "root"  # what stands before the first item
BYTES_A_MS = RATE * 2 // 1000


def samples_of(text: str, param: str) -> np.ndarray:
    """[n] int16 samples in base64. Raises ApiError."""
    data = from_base64(text, param)
    if len(data) % 2:
        raise ApiError(f"{param}: got half a sample; expected 16-bit samples at 24 kHz", param=param)
    return np.frombuffer(data, "<i2")


def as_sound(samples: np.ndarray) -> Part:
    """[n] int16 samples as a part."""
    return Part(AUDIO, (samples.astype(np.float32) / 32_768, RATE))


@dataclass
class InputAudioBuffer:
    """Sound that is not committed: `data` from millisecond `first_ms` of the session on."""

    data: bytearray = field(default_factory=bytearray)
    first_ms: int = 0

    @property
    def until_ms(self) -> int:
        """Milliseconds of the session that were heard."""
        return self.first_ms + len(self.data) // BYTES_A_MS

    def take(self, until_ms: int) -> np.ndarray:
        """[n] int16 samples before a millisecond; they are no part of the buffer any more."""
        count = max(0, min(until_ms - self.first_ms, len(self.data) // BYTES_A_MS))
        taken = bytes(self.data[: count * BYTES_A_MS])
        del self.data[: count * BYTES_A_MS]
        self.first_ms += count
        return np.frombuffer(taken, "<i2")


class Conversation:
    """The messages of a session. `send` tells an event."""

    def __init__(self, state: State, served: Served, send: Callable[..., Any]) -> None:
        self.state, self.served, self.send = state, served, send
        self.items: list[Item] = []

    def place(self, id: str) -> int:
        """Where an item stands. Raises ApiError."""
        for number, item in enumerate(self.items):
            if item.id == id:
                return number
        raise ApiError(f"item_id: {id!r} is not in this conversation", param="item_id", code="item_not_found")

    def check(self, parts: tuple[Part, ...]) -> None:
        """Raise ApiError where one more item of these parts is too much, and RowError where the model cannot read one."""
        if len(self.items) >= MOST_ITEMS:
            raise ApiError(f"got more than {MOST_ITEMS} items; expected some to be deleted: conversation.item.delete")
        of_all = [*(part for item in self.items for part in item.parts), *parts]
        characters = sum(len(part.value) for part in of_all if part.type == WORDS)
        size = sum(size_of(part.value) for part in of_all if part.type != WORDS)
        limits = self.state.limits
        if characters > limits.characters or size > limits.decoded:
            raise ApiError(
                f"the conversation has {characters:,} characters and {size >> 20} MiB of media; expected at most "
                f"{limits.characters:,} and {limits.decoded >> 20}: delete some of it"
            )
        for part in parts:
            if part.type not in self.served.reads:
                raise ApiError(
                    f"{self.served.name} reads {', '.join(self.served.reads)}; got {part.type}",
                    code="unsupported_content",
                )
            self.served.model.network.vocabulary.modalities[part.type].check(part)

    def insert(self, item: Item, after: str | None = None) -> str | None:
        """Put an item behind another one, at the beginning (ROOT) or at the end; the id of the one before it."""
        if after is None:
            index = len(self.items)
        elif after == ROOT:
            index = 0
        else:
            index = self.place(after) + 1
        self.items.insert(index, item)
        return self.items[index - 1].id if index else None

    async def add(
        self, id: str, role: str, content: list[dict[str, Any]], parts: tuple[Part, ...], after: str | None = None
    ) -> Item:
        """Put a message into the conversation, and tell it. Raises as `check` does."""
        self.check(parts)
        item = Item(described(id, role, content), parts)
        previous = self.insert(item, after)
        await self.send("conversation.item.added", previous_item_id=previous, item=item.told)
        await self.send("conversation.item.done", previous_item_id=previous, item=item.told)
        return item

    async def part(self, part: Any, param: str) -> Part:
        """A part of a client's item. Raises ApiError."""
        if isinstance(part, shapes.WordsPart):
            return Part(WORDS, part.text)
        if isinstance(part, shapes.SoundPart):
            return as_sound(samples_of(part.audio, param))
        return await self.state.media.decode(IMAGE, from_url(part.image_url, param), param)

    def truncate(self, id: str, until_ms: int) -> Item:
        """Forget what came later of an answer in sound. Raises ApiError."""
        item = self.items[self.place(id)]
        if item.told["role"] != "assistant" or not (item.sounds or item.parts == ()):
            raise ApiError(f"item_id: {id!r} is no answer in sound", param="item_id")
        sounds, share = [], 0.0
        for part in item.sounds:
            samples, rate = part.value
            if until_ms > len(samples) * 1000 // rate + 1:
                raise ApiError(
                    f"audio_end_ms: got {until_ms}; the answer has {len(samples) * 1000 // rate}", param="audio_end_ms"
                )
            kept = samples[: until_ms * rate // 1000]
            share = len(kept) / max(1, len(samples))
            sounds += [Part(part.type, (kept, rate))] if len(kept) else []
        item.sounds = tuple(sounds)
        words = [_begin(part.value, share) for part in item.parts if part.type == WORDS]
        item.parts = tuple(Part(WORDS, text) for text in words if text) if words else item.sounds
        return item

    def messages(self, instructions: str) -> tuple[Message, ...]:
        """The conversation: what one side says in a row is one message. Raises ApiError where there is nothing to answer."""
        messages = [Message("system", (Part(WORDS, instructions),))] if instructions else []
        for item in self.items:
            role, parts = item.told["role"], tuple(part for part in item.parts if part.type != WORDS or part.value)
            if not parts:
                continue
            if messages and messages[-1].role == role:
                messages[-1] = Message(role, (*messages[-1].parts, *parts))
            else:
                messages.append(Message(role, parts))
        if not messages or messages[-1].role != "user":
            raise ApiError("the conversation ends with no question; expected a turn of the user before an answer")
        return tuple(messages)


def _begin(text: str, share: float) -> str:
    """About that share of a text, up to the end of a word: so much of it was heard, if all is said at one speed."""
    kept = text[: round(len(text) * share)]
    return text if len(kept) == len(text) else kept.rpartition(" ")[0]
