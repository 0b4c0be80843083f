"""One answer of `/v1/realtime`, and how it is told: an item with one part."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from plait.contract import Part
from plait.infer.events import BlockDone, Finished, TextDelta, Usage
from plait.serve.media import joined
from plait.serve.openai.content import AUDIO

STATUS = {"stop": "completed", "length": "incomplete", "cancelled": "cancelled"}


def new_id(kind: str) -> str:
    """A name that nothing else has."""
    return f"{kind}_{uuid.uuid4().hex[:24]}"


@dataclass
class Item:
    """A message: as it is told, and its parts as a model reads them."""

    told: dict[str, Any]
    parts: tuple[Part, ...]

    @property
    def id(self) -> str:
        """Its name."""
        return str(self.told["id"])


class Telling:
    """Tells one answer, which is one item with one part."""

    def __init__(self, send: Callable[..., Any], response: dict[str, Any], item: Item) -> None:
        self.send, self.response, self.item = send, response, item
        self.named = {"response_id": response["id"], "item_id": item.id, "output_index": 0, "content_index": 0}
        self.text, self.status, self.kind = "", "completed", "output_text"
        self.join: Callable[[Part | None], bytes] = lambda piece: b""

    async def begin(self, to: str) -> None:
        """Tell that there is an item."""
        of_item = {key: self.named[key] for key in ("response_id", "output_index")}
        await self.send("response.output_item.added", **of_item, item=self.item.told)
        part: dict[str, Any] = {"type": "text", "text": ""}
        if to == AUDIO:
            self.kind, self.join, part = "output_audio", joined(AUDIO), {"type": "audio", "transcript": ""}
        await self.send("response.content_part.added", **self.named, part=part)

    async def event(self, event: Any) -> None:
        """Tell what an event adds."""
        if isinstance(event, TextDelta) and event.text:
            self.text += event.text
            await self.send("response.output_text.delta", **self.named, delta=event.text)
        elif isinstance(event, BlockDone) and event.piece.type == AUDIO:
            await self._sound(self.join(event.piece))
        elif isinstance(event, Finished):
            await self._end(event)

    async def _sound(self, data: bytes) -> None:
        if data:
            await self.send("response.output_audio.delta", **self.named, delta=base64.b64encode(data).decode())

    async def _end(self, event: Finished) -> None:
        answer = event.answer
        self.status = STATUS[answer.reason]
        self.response["usage"] = told_usage(answer.usage)
        if self.kind == "output_text":
            await self.send("response.output_text.done", **self.named, text=self.text)
            part, content = {"type": "text", "text": self.text}, {"type": "output_text", "text": self.text}
        else:
            await self._sound(self.join(None))
            await self.send("response.output_audio.done", **self.named)
            await self.send("response.output_audio_transcript.done", **self.named, transcript=self.text)
            part, content = (
                {"type": "audio", "transcript": self.text},
                {"type": "output_audio", "transcript": self.text},
            )
        await self.send("response.content_part.done", **self.named, part=part)
        self.item.parts = answer.message.parts
        self.item.told |= {"status": "completed" if self.status == "completed" else "incomplete", "content": [content]}
        of_item = {key: self.named[key] for key in ("response_id", "output_index")}
        await self.send("response.output_item.done", **of_item, item=self.item.told)
        await self.send("conversation.item.done", previous_item_id=None, item=self.item.told)


def told_usage(usage: Usage) -> dict[str, Any]:
    """Tokens as events tell them."""
    asked, answered = dict(usage.asked), dict(usage.answered)
    return {
        "type": "tokens", "input_tokens": sum(asked.values()), "output_tokens": sum(answered.values()),
        "total_tokens": sum(asked.values()) + sum(answered.values()),
        "input_token_details": {f"{kind}_tokens": count for kind, count in asked.items()} | {"cached_tokens": usage.reused},
        "output_token_details": {f"{kind}_tokens": count for kind, count in answered.items()},
    }  # fmt: skip
