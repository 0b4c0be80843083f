"""One answer of `/v1/realtime`, and how it is told: an item with one part."""

from __future__ import annotations

import asyncio
import base64
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from plait.contract import WORDS, Part
from plait.infer.events import BlockDone, Finished, TextDelta, Usage
from plait.serve.answers import Asked
from plait.serve.media import joined
from plait.serve.openai.content import AUDIO

STATUS = {"stop": "completed", "length": "incomplete", "cancelled": "cancelled"}


def new_id(kind: str) -> str:
    """A name that nothing else has."""
    return f"{kind}_{uuid.uuid4().hex[:24]}"


def described(id: str, role: str, content: list[dict[str, Any]], status: str = "completed") -> dict[str, Any]:
    """A message as events tell it."""
    return {"id": id, "object": "realtime.item", "type": "message", "status": status, "role": role, "content": content}


@dataclass
class Item:
    """A message: as it is told, its parts as a model reads them, and what was said aloud of them."""

    told: dict[str, Any]
    parts: tuple[Part, ...]
    sounds: tuple[Part, ...] = ()

    @property
    def id(self) -> str:
        """Its name."""
        return str(self.told["id"])


@dataclass(eq=False)
class Response:
    """An answer from the wish for it on: what was `asked` of the model, once it was, and why it was stopped, if it was."""

    id: str = field(default_factory=lambda: new_id("resp"))
    asked: Asked | None = None
    stopped_by: str = ""
    task: asyncio.Task[None] | None = None

    @property
    def is_active(self) -> bool:
        """Whether it is waited for."""
        return self.task is not None and not self.task.done()

    def stop(self, why: str) -> None:
        """Make no more of it."""
        self.stopped_by = self.stopped_by or why
        if self.asked is not None:
            self.asked.cancel()


class ResponseStream:
    """Tells one answer, which is one item with one part of a kind: text or audio. The item comes after another, if any."""

    def __init__(self, send: Callable[..., Any], response_id: str, item: Item, previous: str | None, kind: str) -> None:
        self.send, self.item, self.previous, self.is_sound = send, item, previous, kind == AUDIO
        self.of_item = {"response_id": response_id, "output_index": 0}
        self.of_part = {**self.of_item, "item_id": item.id, "content_index": 0}
        self.text, self.status, self.usage = "", "completed", Usage()
        self.join: Callable[[Part | None], bytes] = joined(AUDIO) if self.is_sound else lambda piece: b""

    def _part(self) -> dict[str, Any]:
        return {"type": "audio", "transcript": self.text} if self.is_sound else {"type": "text", "text": self.text}

    async def begin(self) -> None:
        """Tell that there is an item."""
        await self.send("response.output_item.added", **self.of_item, item=self.item.told)
        await self.send("conversation.item.added", previous_item_id=self.previous, item=self.item.told)
        await self.send("response.content_part.added", **self.of_part, part=self._part())

    async def event(self, event: Any) -> None:
        """Tell what an event adds."""
        if isinstance(event, TextDelta) and event.text:
            self.text += event.text
            kind = "audio_transcript" if self.is_sound else "text"
            await self.send(f"response.output_{kind}.delta", **self.of_part, delta=event.text)
        elif isinstance(event, BlockDone) and event.piece.type == AUDIO:
            await self._sound(self.join(event.piece))
        elif isinstance(event, Finished):
            self.status, self.usage = STATUS[event.answer.reason], event.answer.usage
            parts = event.answer.message.parts
            self.item.sounds = tuple(part for part in parts if part.type == AUDIO)
            words = tuple(part for part in parts if part.type == WORDS)
            self.item.parts = words or parts  # what is said of words need not be heard again
            if self.is_sound:
                await self._sound(self.join(None))

    async def _sound(self, data: bytes) -> None:
        if data:
            await self.send("response.output_audio.delta", **self.of_part, delta=base64.b64encode(data).decode())

    async def end(self) -> None:
        """Tell that there is no more of it, for whatever reason."""
        if self.is_sound:
            await self.send("response.output_audio.done", **self.of_part)
            await self.send("response.output_audio_transcript.done", **self.of_part, transcript=self.text)
        else:
            await self.send("response.output_text.done", **self.of_part, text=self.text)
        part = self._part()
        await self.send("response.content_part.done", **self.of_part, part=part)
        status = "completed" if self.status == "completed" else "incomplete"
        self.item.told |= {"status": status, "content": [{**part, "type": f"output_{part['type']}"}]}
        await self.send("conversation.item.done", previous_item_id=self.previous, item=self.item.told)
        await self.send("response.output_item.done", **self.of_item, item=self.item.told)


def told_usage(usage: Usage) -> dict[str, Any]:
    """Tokens as events tell them."""
    asked, answered = dict(usage.asked), dict(usage.answered)
    return {
        "type": "tokens", "input_tokens": sum(asked.values()), "output_tokens": sum(answered.values()),
        "total_tokens": sum(asked.values()) + sum(answered.values()),
        "input_token_details": {f"{kind}_tokens": count for kind, count in asked.items()} | {"cached_tokens": usage.reused},
        "output_token_details": {f"{kind}_tokens": count for kind, count in answered.items()},
    }  # fmt: skip
