"""`/v1/realtime`: a conversation over a WebSocket, by the names of OpenAI's events. Speech is found by the server, and interrupts."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from fastapi import APIRouter, WebSocket, WebSocketDisconnect
from pydantic import ValidationError

from plait.contract import WORDS, Message, Part
from plait.infer.events import Finished, TextDelta, Usage
from plait.infer.request import Request
from plait.serve.answers import Asked
from plait.serve.errors import ApiError, as_api_error, of_validation
from plait.serve.media import from_base64, from_url
from plait.serve.openai import realtime_shapes as shapes
from plait.serve.openai.audio import ASK
from plait.serve.openai.chat import VOICES, bounded
from plait.serve.openai.content import AUDIO, IMAGE, readable
from plait.serve.openai.realtime_answer import Item, Telling, new_id, told_usage
from plait.serve.openai.realtime_shapes import EVENTS, RATE, Settings
from plait.serve.state import Served, State
from plait.serve.turns import Turn, TurnDetector

LONGEST = 60 * 60.0  # seconds of a session
PATIENCE = 600.0  # seconds without an event of the client
SESSIONS = 64  # at once
MOST_ITEMS = 512
MOST_SECONDS = 120  # of sound that is not committed yet
LEAST_MS = 100  # of a turn
BYTES_A_MS = RATE * 2 // 1000


@dataclass
class Heard:
    """Sound that is not committed: `data` from millisecond `first` of the session on."""

    data: bytearray = field(default_factory=bytearray)
    first: int = 0

    @property
    def until(self) -> int:
        """Milliseconds of the session that were heard."""
        return self.first + len(self.data) // BYTES_A_MS

    def forget(self, before: int) -> None:
        """Drop what came before a millisecond."""
        count = max(0, min(before - self.first, len(self.data) // BYTES_A_MS))
        del self.data[: count * BYTES_A_MS]
        self.first += count


class Session:
    """One client's conversation."""

    def __init__(self, state: State, served: Served, socket: WebSocket, kind: str) -> None:
        self.state, self.served, self.socket = state, served, socket
        self.id, self.conversation = new_id("sess"), new_id("conv")
        self.owner = str(socket.scope.get("plait.caller", ""))
        modalities = ["audio"] if AUDIO in served.writes else ["text"]
        self.settings = Settings.model_validate({"type": kind, "output_modalities": modalities})
        self.items: list[Item] = []
        self.heard = Heard()
        self.turns = self._detector()
        self.turn_id = ""  # of the item that is being spoken
        self.answering: asyncio.Task[None] | None = None
        self.asked: Asked | None = None
        self.response_id = ""
        self.stopped_by = ""  # why an answer was cancelled
        self.tasks: set[asyncio.Task[None]] = set()
        self.sending = asyncio.Lock()

    # the connection

    async def run(self) -> None:
        """Answer the client's events until it goes, or was silent too long."""
        await self.send("session.created", session=self._described())
        deadline = time.monotonic() + LONGEST
        while (left := min(PATIENCE, deadline - time.monotonic())) > 0:
            try:
                text = await asyncio.wait_for(self.socket.receive_text(), left)
            except (TimeoutError, asyncio.TimeoutError):
                break
            await self._handle(text)
        await self.socket.close(1000, "the session has lasted long enough, or nothing was said for long")

    def close(self) -> None:
        """Nobody listens any more."""
        if self.asked is not None:
            self.asked.cancel()
        for task in self.tasks:
            task.cancel()

    async def send(self, kind: str, **fields: Any) -> None:
        """Tell an event."""
        async with self.sending:
            with contextlib.suppress(RuntimeError, WebSocketDisconnect):  # it is gone; the loop that reads will notice
                await self.socket.send_json({"type": kind, "event_id": new_id("event"), **fields})

    async def _handle(self, text: str) -> None:
        event_id = None
        try:
            event = EVENTS.validate_json(text)
            event_id = event.event_id
            await HANDLERS[event.type](self, event)
        except ValidationError as error:
            await self._refuse(_invalid(error), event_id)
        except Exception as error:
            await self._refuse(as_api_error(error), event_id)

    async def _refuse(self, error: ApiError, event_id: str | None = None) -> None:
        await self.send("error", error={**error.body()["error"], "event_id": event_id})

    def _background(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.ensure_future(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    # settings

    def _described(self) -> dict[str, Any]:
        told = self.settings.model_dump()
        if self.settings.type == "transcription":
            told = {"type": "transcription", "audio": {"input": told["audio"]["input"]}}
        return {
            **told,
            "id": self.id,
            "object": f"realtime.{'transcription_' * (told['type'] != 'realtime')}session",
            "model": self.served.name,
        }

    def _detector(self) -> TurnDetector | None:
        wish = self.settings.audio.input.turn_detection
        return TurnDetector(RATE, wish.threshold, wish.silence_duration_ms) if wish else None

    async def update(self, event: shapes.SessionUpdate) -> None:
        """Change settings."""
        given = dict(event.session)
        kind = given.get("type", self.settings.type)
        if kind != self.settings.type:
            raise ApiError(
                f"session.type: got {kind!r}; expected {self.settings.type!r}, as the session began",
                param="session.type",
            )
        settings = Settings.model_validate(shapes.merged(self.settings.model_dump(), given))
        if settings.model not in (None, self.served.name):
            raise ApiError(
                f"session.model: got {settings.model!r}; expected {self.served.name!r}, which the session is with",
                param="session.model",
            )
        self._check(settings.output_modalities)
        if settings.audio.output.voice not in (None, *VOICES):
            raise ApiError(
                f"session.audio.output.voice: expected one of {', '.join(VOICES)}", param="session.audio.output.voice"
            )
        changed = settings.audio.input.turn_detection != self.settings.audio.input.turn_detection
        self.settings = settings
        if changed:
            self.turns, self.turn_id = self._detector(), ""
        await self.send("session.updated", session=self._described())

    def _check(self, modalities: list[Any] | None) -> None:
        if modalities == ["audio"] and AUDIO not in self.served.writes:
            raise ApiError(
                f"output_modalities: {self.served.name} has not learned to speak; expected ['text']", param="output_modalities",
                code="unsupported_parameter",
            )  # fmt: skip

    # what is heard

    async def append(self, event: shapes.Append) -> None:
        """Listen to more sound."""
        data = from_base64(event.audio, "audio")
        if len(data) % 2:
            raise ApiError("audio: got half a sample; expected 16-bit samples at 24 kHz", param="audio")
        if len(self.heard.data) + len(data) > MOST_SECONDS * 1000 * BYTES_A_MS:
            raise ApiError(f"audio: got more than {MOST_SECONDS} seconds that were not committed", param="audio")
        self.heard.data += data
        if self.turns is None:
            return
        for turn in self.turns.add(np.frombuffer(data, "<i2")):
            await (self._began(turn) if turn.event == "started" else self._ended(turn))
        if not self.turn_id:
            padding = self.settings.audio.input.turn_detection
            self.heard.forget(self.heard.until - (padding.prefix_padding_ms if padding else 0) - 200)

    async def _began(self, turn: Turn) -> None:
        wish = self.settings.audio.input.turn_detection
        assert wish is not None
        self.turn_id = new_id("item")
        start = max(self.heard.first, turn.at - wish.prefix_padding_ms)
        self.heard.forget(start)
        await self.send("input_audio_buffer.speech_started", audio_start_ms=start, item_id=self.turn_id)
        if wish.interrupt_response:
            self._interrupt("turn_detected")

    async def _ended(self, turn: Turn) -> None:
        wish = self.settings.audio.input.turn_detection
        assert wish is not None
        await self.send("input_audio_buffer.speech_stopped", audio_end_ms=turn.at, item_id=self.turn_id)
        await self._commit(self.turn_id)
        self.turn_id = ""
        if wish.create_response and self.settings.type == "realtime":
            self._answer(shapes.Answered())

    async def commit(self, event: shapes.Commit) -> None:
        """What was heard so far is a turn."""
        await self._commit(self.turn_id or new_id("item"))
        self.turn_id = ""

    async def _commit(self, id: str) -> None:
        data = bytes(self.heard.data)
        if len(data) < LEAST_MS * BYTES_A_MS:
            raise ApiError(
                f"got {len(data) // BYTES_A_MS} ms of sound; expected at least {LEAST_MS}",
                code="input_audio_buffer_commit_empty",
            )
        samples = np.frombuffer(data, "<i2").astype(np.float32) / 32_768
        self.heard = Heard(first=self.heard.until)
        content = [{"type": "input_audio", "transcript": None}]
        before = self.items[-1].id if self.items else None
        await self.send("input_audio_buffer.committed", previous_item_id=before, item_id=id)
        item = await self._add(id, "user", content, (Part(AUDIO, (samples, RATE)),))
        if self.settings.type == "transcription" or self.settings.audio.input.transcription is not None:
            self._background(self._transcribe(item))

    async def clear(self, event: shapes.Clear) -> None:
        """Forget what was heard."""
        self.heard, self.turn_id = Heard(first=self.heard.until), ""
        await self.send("input_audio_buffer.cleared")

    async def _transcribe(self, item: Item) -> None:
        named = {"item_id": item.id, "content_index": 0}
        kind = "conversation.item.input_audio_transcription"
        question = Message("user", (*item.parts, Part(WORDS, ASK)))
        request = Request((question,), to=WORDS, **self.served.model.usual, max_tokens=bounded(self.state, None, ""))
        try:
            text, usage = "", Usage()
            async for _, event in Asked(self.state, self.served, [request], True, self.owner).events():
                if isinstance(event, TextDelta):
                    text += event.text
                    await self.send(f"{kind}.delta", **named, delta=event.text)
                elif isinstance(event, Finished):
                    usage = event.answer.usage
            item.told["content"][0]["transcript"] = text
            await self.send(f"{kind}.completed", **named, transcript=text, usage=told_usage(usage))
        except Exception as error:
            await self.send(f"{kind}.failed", **named, error=as_api_error(error).body()["error"])

    # the conversation

    def _place(self, id: str) -> int:
        for number, item in enumerate(self.items):
            if item.id == id:
                return number
        raise ApiError(f"item_id: {id!r} is not in this conversation", param="item_id", code="item_not_found")

    async def _add(
        self, id: str, role: str, content: list[dict[str, Any]], parts: tuple[Part, ...], after: str | None = None,
        status: str = "completed",
    ) -> Item:  # fmt: skip
        if len(self.items) >= MOST_ITEMS:
            raise ApiError(f"got more than {MOST_ITEMS} items; expected some to be deleted")
        place = len(self.items) if after is None else 0 if after == "root" else self._place(after) + 1
        told = {
            "id": id,
            "object": "realtime.item",
            "type": "message",
            "status": status,
            "role": role,
            "content": content,
        }
        item = Item(told, parts)
        before = self.items[place - 1].id if place else None
        self.items.insert(place, item)
        await self.send("conversation.item.added", previous_item_id=before, item=told)
        if status == "completed":
            await self.send("conversation.item.done", previous_item_id=before, item=told)
        return item

    async def create(self, event: shapes.ItemCreate) -> None:
        """Put a message into the conversation."""
        given = event.item
        id = given.id or new_id("item")
        if any(item.id == id for item in self.items):
            raise ApiError(f"item.id: {id!r} is in this conversation already", param="item.id")
        readable(
            self.state, sum(len(part.text) for part in given.content if isinstance(part, shapes.WordsPart)), "item"
        )
        parts = [await self._part(part, f"item.content[{number}]") for number, part in enumerate(given.content)]
        content = [part.model_dump(exclude={"audio"}, exclude_none=True) for part in given.content]
        await self._add(id, given.role, content, tuple(parts), event.previous_item_id)

    async def _part(self, part: Any, param: str) -> Part:
        if isinstance(part, shapes.WordsPart):
            return Part(WORDS, part.text)
        kind = AUDIO if isinstance(part, shapes.SoundPart) else IMAGE
        if kind not in self.served.reads:
            raise ApiError(
                f"{param}: {self.served.name} reads {', '.join(self.served.reads)}",
                param=param,
                code="unsupported_content",
            )
        if isinstance(part, shapes.SoundPart):
            samples = np.frombuffer(from_base64(part.audio, param), "<i2").astype(np.float32) / 32_768
            return Part(AUDIO, (samples, RATE))
        return await self.state.media.decode(IMAGE, from_url(part.image_url, param), param)

    async def of_item(self, event: shapes.OfItem) -> None:
        """Delete a message, or show it."""
        place = self._place(event.item_id)
        if event.type.endswith("retrieve"):
            await self.send("conversation.item.retrieved", item=self.items[place].told)
            return
        del self.items[place]
        await self.send("conversation.item.deleted", item_id=event.item_id)

    async def truncate(self, event: shapes.Truncate) -> None:
        """Forget what was not heard of an answer in sound."""
        item = self.items[self._place(event.item_id)]
        sounds = [part for part in item.parts if part.type == AUDIO]
        if item.told["role"] != "assistant" or not sounds:
            raise ApiError(f"item_id: {event.item_id!r} is no answer in sound", param="item_id")
        samples, rate = sounds[0].value
        item.parts = (Part(AUDIO, (samples[: event.audio_end_ms * rate // 1000], rate)),)
        await self.send(
            "conversation.item.truncated", item_id=item.id, content_index=0, audio_end_ms=event.audio_end_ms
        )

    def _messages(self, instructions: str) -> tuple[Message, ...]:
        """The conversation: what one side says in a row is one message."""
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

    # answers

    async def respond(self, event: shapes.Respond) -> None:
        """Answer now."""
        if self.settings.type == "transcription":
            raise ApiError("a session that transcribes answers nothing; expected one of type 'realtime'")
        if self.answering is not None and not self.answering.done():
            raise ApiError(
                f"{self.response_id} is under way; expected its end, or response.cancel",
                code="conversation_already_has_active_response",
            )
        self._check(event.response.output_modalities)
        self._answer(event.response)

    async def cancel(self, event: shapes.Cancel) -> None:
        """Answer no further."""
        if self.answering is None or self.answering.done():
            raise ApiError("no answer is under way", code="response_cancel_not_active")
        self._interrupt("client_cancelled")

    def _interrupt(self, why: str) -> None:
        if self.asked is not None:
            self.stopped_by = why
            self.asked.cancel()

    def _answer(self, wish: shapes.Answered) -> None:
        self.answering = self._background(self._answered(wish, self.answering))

    async def _answered(self, wish: shapes.Answered, before: asyncio.Task[None] | None) -> None:
        if before is not None and not before.done():
            await asyncio.wait({before})  # one after the other
        self.response_id, self.stopped_by = new_id("resp"), ""
        modalities = wish.output_modalities or self.settings.output_modalities
        response: dict[str, Any] = {
            "id": self.response_id, "object": "realtime.response", "status": "in_progress", "status_details": None, "output": [],
            "conversation_id": self.conversation, "output_modalities": modalities, "metadata": wish.metadata, "usage": None,
        }  # fmt: skip
        await self.send("response.created", response=response)
        try:
            instructions = self.settings.instructions if wish.instructions is None else wish.instructions
            limit = wish.max_output_tokens or self.settings.max_output_tokens
            tokens = bounded(self.state, None if limit == "inf" else limit, "max_output_tokens")
            to = AUDIO if modalities == ["audio"] else WORDS
            request = Request(self._messages(instructions), to=to, **self.served.model.usual, max_tokens=tokens)
            self.asked = Asked(self.state, self.served, [request], True, self.owner)
            item = await self._add(new_id("item"), "assistant", [], (), status="in_progress")
            telling = Telling(self.send, response, item)
            await telling.begin(to)
            async for _, event in self.asked.events():
                await telling.event(event)
            status = telling.status
            details = {"cancelled": {"type": "cancelled", "reason": self.stopped_by or "client_cancelled"}}
            details["incomplete"] = {"type": "incomplete", "reason": "max_output_tokens"}
            response |= {"status": status, "status_details": details.get(status), "output": [item.told]}
        except Exception as error:
            told = as_api_error(error).body()["error"]
            response |= {"status": "failed", "status_details": {"type": "failed", "error": told}}
            await self.send("error", error={**told, "event_id": None})
        finally:
            self.asked = None
        await self.send("response.done", response=response)


def _invalid(error: ValidationError) -> ApiError:
    from fastapi.exceptions import RequestValidationError

    return of_validation(RequestValidationError(error.errors()))


HANDLERS: dict[str, Callable[[Session, Any], Any]] = {
    "session.update": Session.update,
    "input_audio_buffer.append": Session.append,
    "input_audio_buffer.commit": Session.commit,
    "input_audio_buffer.clear": Session.clear,
    "conversation.item.create": Session.create,
    "conversation.item.delete": Session.of_item,
    "conversation.item.retrieve": Session.of_item,
    "conversation.item.truncate": Session.truncate,
    "response.create": Session.respond,
    "response.cancel": Session.cancel,
}


def router(state: State) -> APIRouter:
    """The route."""
    routes = APIRouter(tags=["realtime"])
    sessions: set[str] = set()

    @routes.websocket("/v1/realtime")
    async def realtime(socket: WebSocket, model: str | None = None, intent: str | None = None) -> None:
        """One session, until the client goes."""
        await socket.accept()
        try:
            served = state.find(model)
            if AUDIO not in served.reads:
                raise ApiError(
                    f"{served.name} reads {', '.join(served.reads)}; expected a model that hears", param="model"
                )
            if len(sessions) >= SESSIONS:
                raise ApiError(f"{SESSIONS} sessions are open; expected fewer", 429, code="rate_limit_exceeded")
        except ApiError as error:
            await socket.send_json({"type": "error", "event_id": new_id("event"), **error.body()})
            await socket.close(1008, error.message[:120])
            return
        session = Session(state, served, socket, "transcription" if intent == "transcription" else "realtime")
        sessions.add(session.id)
        try:
            await session.run()
        except WebSocketDisconnect:
            pass
        finally:
            sessions.discard(session.id)
            session.close()

    return routes
