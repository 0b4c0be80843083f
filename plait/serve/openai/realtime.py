"""`/v1/realtime`: a conversation over a WebSocket, by the names of OpenAI's events. Speech is found by the server, and interrupts."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, WebSocket, WebSocketDisconnect
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from plait.contract import WORDS
from plait.infer.events import Usage
from plait.infer.request import Request
from plait.serve.answers import Asked
from plait.serve.errors import ApiError, as_api_error, of_validation
from plait.serve.openai import realtime_shapes as shapes
from plait.serve.openai.chat import VOICES, bounded
from plait.serve.openai.content import AUDIO, readable
from plait.serve.openai.realtime_answer import Item, Response, ResponseStream, described, new_id, told_usage
from plait.serve.openai.realtime_conversation import ROOT, Conversation, InputAudioBuffer, as_sound, samples_of
from plait.serve.openai.realtime_shapes import EVENTS, RATE, Settings
from plait.serve.openai.spoken import in_sound
from plait.serve.openai.transcripts import pieces, questions, told_tokens, transcript_deltas
from plait.serve.state import Served, State
from plait.serve.turns import Turn, TurnDetector

LONGEST = 60 * 60.0  # seconds of a session
PATIENCE = 600.0  # seconds without an event of the client
SESSIONS, OF_ONE = 64, 16  # sessions at once, and those of one caller
MOST_MS = 120_000  # of sound that is not committed yet
MOST_APPENDED_MS = 20_000  # of sound in one event
LEAST_MS = 100  # of a turn
SPARE_MS = 200  # that are kept beside the padding before a turn: it is known to have begun a little later
WAITING = 4  # transcripts that may wait for each other


class Session:
    """One client's conversation."""

    def __init__(self, state: State, served: Served, socket: WebSocket, kind: str) -> None:
        self.state, self.served, self.socket = state, served, socket
        self.id, self.conversation_id = new_id("sess"), new_id("conv")
        self.owner = str(socket.scope.get("plait.caller", ""))
        modalities = ["audio"] if AUDIO in served.writes else ["text"]
        self.settings = Settings.model_validate({"type": kind, "output_modalities": modalities})
        self.conversation = Conversation(state, served, self.send)
        self.buffer = InputAudioBuffer()
        self.turns = self._detector()
        self.turn_id = ""  # of the item that is being spoken
        self.responses: list[Response] = []  # that are waited for, in their order
        self.transcribing = asyncio.Lock()
        self.transcripts_waiting = 0
        self.tasks: set[asyncio.Task[None]] = set()
        self.sending = asyncio.Lock()

    # the connection

    async def run(self) -> None:
        """Answer the client's events until it goes, or was silent too long."""
        await self.send("session.created", session=self._described())
        deadline = time.monotonic() + LONGEST
        while (left := min(PATIENCE, deadline - time.monotonic())) > 0:
            try:
                frame = await asyncio.wait_for(self.socket.receive(), left)
            except (TimeoutError, asyncio.TimeoutError):
                break
            if frame["type"] == "websocket.disconnect":
                return
            if frame.get("text") is None:
                await self._refuse(ApiError("got a binary frame; expected events as JSON text"))
            else:
                await self._handle(frame["text"])
        await self.socket.close(1000, "the session has lasted long enough, or nothing was said for long")

    def close(self) -> None:
        """Nobody listens any more."""
        for response in self.responses:
            response.stop("client_gone")
        for task in self.tasks:
            task.cancel()

    async def send(self, kind: str, **fields: Any) -> None:
        """Tell an event; to a client that has gone, nothing."""
        async with self.sending:
            with contextlib.suppress(RuntimeError, WebSocketDisconnect):
                await self.socket.send_json({"type": kind, "event_id": new_id("event"), **fields})

    async def _handle(self, text: str) -> None:
        try:
            event = EVENTS.validate_json(text)
            await HANDLERS[event.type](self, event)
        except ValidationError as error:
            await self._refuse(of_validation(RequestValidationError(error.errors())), _event_id(text))
        except Exception as error:
            await self._refuse(as_api_error(error), _event_id(text))

    async def _refuse(self, error: ApiError, event_id: str | None = None) -> None:
        await self.send("error", error={**error.body()["error"], "event_id": event_id})

    def _background(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    # settings

    def _described(self) -> dict[str, Any]:
        told: dict[str, Any] = {"id": self.id, "model": self.served.name, **self.settings.model_dump()}
        told |= {"id": self.id, "model": self.served.name, "object": "realtime.session"}
        if self.settings.type == "transcription":
            kept = {key: told[key] for key in ("id", "model", "type")}
            return {**kept, "object": "realtime.transcription_session", "audio": {"input": told["audio"]["input"]}}
        return told

    def _detector(self) -> TurnDetector | None:
        wish = self.settings.audio.input.turn_detection
        if wish is None:
            return None
        return TurnDetector(RATE, wish.threshold, wish.silence_duration_ms, self.buffer.until_ms)

    async def update(self, event: shapes.SessionUpdate) -> None:
        """Change settings. A turn that is being spoken goes on in the buffer, and is found anew."""
        kind = event.session.get("type", self.settings.type)
        if kind != self.settings.type:
            raise ApiError(
                f"session.type: got {kind!r}; expected {self.settings.type!r}, as the session began",
                param="session.type",
            )
        settings = Settings.model_validate(shapes.merged(self.settings.model_dump(), event.session))
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
                f"output_modalities: {self.served.name} has not learned to speak; expected ['text']",
                param="output_modalities", code="unsupported_parameter",
            )  # fmt: skip

    # what is heard

    async def append(self, event: shapes.Append) -> None:
        """Listen to more sound."""
        samples = samples_of(event.audio, "audio")
        if len(samples) > MOST_APPENDED_MS * RATE // 1000:
            raise ApiError(
                f"audio: got more than {MOST_APPENDED_MS // 1000} seconds at once; expected less", param="audio"
            )
        self.buffer.data += samples.tobytes()
        for turn in self.turns.add(samples) if self.turns else ():
            await (self._began(turn) if turn.event == "started" else self._ended(turn))
        wish = self.settings.audio.input.turn_detection
        if wish is not None and not self.turn_id:
            self.buffer.take(self.buffer.until_ms - wish.prefix_padding_ms - SPARE_MS)
        elif self.buffer.until_ms - self.buffer.first_ms > MOST_MS:
            await self.clear(shapes.Clear(type="input_audio_buffer.clear"))
            raise ApiError(
                f"got more than {MOST_MS // 1000} seconds of sound that were not committed; they are forgotten"
            )

    async def _began(self, turn: Turn) -> None:
        wish = self.settings.audio.input.turn_detection
        assert wish is not None
        self.turn_id = new_id("item")
        self.buffer.take(turn.at_ms - wish.prefix_padding_ms)
        await self.send("input_audio_buffer.speech_started", audio_start_ms=self.buffer.first_ms, item_id=self.turn_id)
        if wish.interrupt_response:
            for response in self.responses:
                response.stop("turn_detected")

    async def _ended(self, turn: Turn) -> None:
        wish = self.settings.audio.input.turn_detection
        if wish is None or not self.turn_id:
            return
        await self.send("input_audio_buffer.speech_stopped", audio_end_ms=turn.at_ms, item_id=self.turn_id)
        await self._commit(turn.known_ms)
        if wish.create_response and self.settings.type == "realtime":
            self._answer(shapes.Answered())

    async def commit(self, event: shapes.Commit) -> None:
        """What was heard so far is a turn."""
        await self._commit(self.buffer.until_ms)
        if self.turns is not None:
            self.turns.forget()

    async def _commit(self, until_ms: int) -> None:
        id, self.turn_id = self.turn_id or new_id("item"), ""
        if until_ms - self.buffer.first_ms < LEAST_MS:
            raise ApiError(
                f"got {max(0, until_ms - self.buffer.first_ms)} ms of sound; expected at least {LEAST_MS}",
                code="input_audio_buffer_commit_empty",
            )
        sound = as_sound(self.buffer.take(until_ms))
        sounds = tuple(piece.part for piece in await pieces(self.served, sound, "audio"))
        self.conversation.check(sounds)
        items = self.conversation.items
        await self.send("input_audio_buffer.committed", previous_item_id=items[-1].id if items else None, item_id=id)
        content = [{"type": "input_audio", "transcript": None}]
        item = await self.conversation.add(id, "user", content, sounds)
        if self.settings.type == "transcription" or self.settings.audio.input.transcription is not None:
            self._background(self._transcribe(item))

    async def clear(self, event: shapes.Clear) -> None:
        """Forget what was heard."""
        self.buffer.take(self.buffer.until_ms)
        self.turn_id = ""
        if self.turns is not None:
            self.turns.forget()
        await self.send("input_audio_buffer.cleared")

    async def _transcribe(self, item: Item) -> None:
        of_part = {"item_id": item.id, "content_index": 0}
        kind = "conversation.item.input_audio_transcription"
        self.transcripts_waiting += 1
        try:
            if self.transcripts_waiting > WAITING:
                raise ApiError(
                    f"{WAITING} transcripts wait already; expected longer turns", 429, code="rate_limit_exceeded"
                )
            async with self.transcribing:
                text, usages = await self._transcript(item, kind, of_part)
            item.told["content"][0]["transcript"] = text
            await self.send(f"{kind}.completed", **of_part, transcript=text, usage=told_tokens(usages))
        except Exception as error:
            await self.send(f"{kind}.failed", **of_part, error=as_api_error(error).body()["error"])
        finally:
            self.transcripts_waiting -= 1

    async def _transcript(self, item: Item, kind: str, of_part: dict[str, Any]) -> tuple[str, list[Usage]]:
        heard = [piece for part in item.parts for piece in await pieces(self.served, part, "audio")]
        asked = Asked(self.state, self.served, questions(self.state, self.served, heard), True, self.owner)
        text, usages = "", list[Usage]()
        try:
            async for delta, usages in transcript_deltas(asked):  # noqa: B007
                text += delta
                if delta:
                    await self.send(f"{kind}.delta", **of_part, delta=delta)
        finally:
            asked.cancel()
        return text, usages

    # the conversation

    async def create(self, event: shapes.ItemCreate) -> None:
        """Put a message into the conversation."""
        message = event.item
        id = message.id or new_id("item")
        if id == ROOT or any(item.id == id for item in self.conversation.items):
            raise ApiError(f"item.id: {id!r} is in this conversation already", param="item.id")
        readable(
            self.state, sum(len(part.text) for part in message.content if isinstance(part, shapes.WordsPart)), "item"
        )
        if event.previous_item_id not in (None, ROOT):
            self.conversation.place(event.previous_item_id)
        parts = [
            await self.conversation.part(part, f"item.content[{number}]") for number, part in enumerate(message.content)
        ]
        content = [part.model_dump(exclude={"audio"}, exclude_none=True) for part in message.content]
        await self.conversation.add(id, message.role, content, tuple(parts), event.previous_item_id)

    async def delete(self, event: shapes.Delete) -> None:
        """Take a message out."""
        del self.conversation.items[self.conversation.place(event.item_id)]
        await self.send("conversation.item.deleted", item_id=event.item_id)

    async def retrieve(self, event: shapes.Retrieve) -> None:
        """Show a message."""
        item = self.conversation.items[self.conversation.place(event.item_id)]
        await self.send("conversation.item.retrieved", item=item.told)

    async def truncate(self, event: shapes.Truncate) -> None:
        """Forget what was not heard of an answer in sound; one that is still being made ends."""
        item = self.conversation.items[self.conversation.place(event.item_id)]
        if item.told["status"] == "in_progress" and self.responses and self.responses[0].task is not None:
            self.responses[0].stop("client_cancelled")
            await asyncio.wait({self.responses[0].task})
        self.conversation.truncate(event.item_id, event.audio_end_ms)
        await self.send(
            "conversation.item.truncated", item_id=event.item_id, content_index=0, audio_end_ms=event.audio_end_ms
        )

    # answers

    async def respond(self, event: shapes.Respond) -> None:
        """Answer now."""
        if self.settings.type == "transcription":
            raise ApiError("a session that transcribes answers nothing; expected one of type 'realtime'")
        if self.responses:
            raise ApiError(
                f"{self.responses[0].id} is under way; expected its end, or response.cancel",
                code="conversation_already_has_active_response",
            )
        self._check(event.response.output_modalities)
        self._answer(event.response)

    async def cancel(self, event: shapes.Cancel) -> None:
        """Answer no further."""
        wanted = [each for each in self.responses if event.response_id in (None, each.id)]
        if not wanted:
            raise ApiError("no such answer is under way", code="response_cancel_not_active")
        wanted[0].stop("client_cancelled")

    def _answer(self, wish: shapes.Answered) -> None:
        response = Response()
        before = self.responses[-1].task if self.responses else None
        self.responses.append(response)
        response.task = self._background(self._answered(response, wish, before))

    async def _answered(self, response: Response, wish: shapes.Answered, before: asyncio.Task[None] | None) -> None:
        try:
            if before is not None:
                await asyncio.wait({before})  # one after the other
            await self._respond(response, wish)
        finally:
            self.responses.remove(response)
            if response.asked is not None:
                response.asked.cancel()

    async def _respond(self, response: Response, wish: shapes.Answered) -> None:
        modalities = wish.output_modalities or self.settings.output_modalities
        told: dict[str, Any] = {
            "id": response.id, "object": "realtime.response", "status": "in_progress", "status_details": None, "output": [],
            "conversation_id": self.conversation_id, "output_modalities": modalities, "metadata": wish.metadata, "usage": None,
        }  # fmt: skip
        await self.send("response.created", response=told)
        stream = None
        try:
            request = self._request(wish, AUDIO if modalities == ["audio"] else WORDS)
            self.conversation.check(())
            item = Item(described(new_id("item"), "assistant", [], "in_progress"), ())
            previous = self.conversation.insert(item)
            stream = ResponseStream(self.send, response.id, item, previous, str(request.to))
            await stream.begin()
            if response.stopped_by:
                stream.status = "cancelled"
            else:
                response.asked = in_sound(self.state, self.served, [request], True, self.owner)
                async for _, event in response.asked.events():
                    await stream.event(event)
            told["status"] = stream.status
            reasons = {"cancelled": response.stopped_by or "client_cancelled", "incomplete": "max_output_tokens"}
            if stream.status in reasons:
                told["status_details"] = {"type": stream.status, "reason": reasons[stream.status]}
        except Exception as error:
            problem = as_api_error(error).body()["error"]
            told |= {"status": "failed", "status_details": {"type": "failed", "error": problem}}
            await self.send("error", error={**problem, "event_id": None})
        if stream is not None:
            stream.status = told["status"]
            await stream.end()
            told |= {"output": [stream.item.told], "usage": told_usage(stream.usage)}
        await self.send("response.done", response=told)

    def _request(self, wish: shapes.Answered, to: str) -> Request:
        """What the model is asked. Raises ApiError."""
        instructions = self.settings.instructions if wish.instructions is None else wish.instructions
        limit = wish.max_output_tokens or self.settings.max_output_tokens
        tokens = bounded(self.state, None if limit == "inf" else limit, "max_output_tokens")
        messages = self.conversation.messages(instructions)
        return Request(messages, to=to, **self.served.model.usual, max_tokens=tokens)


def _event_id(text: str) -> str | None:
    """The id that a client gave its event, if that can be told."""
    try:
        event = json.loads(text)
    except (ValueError, RecursionError):
        return None
    id = event.get("event_id") if isinstance(event, dict) else None
    return id[:512] if isinstance(id, str) else None


HANDLERS: dict[str, Callable[[Session, Any], Coroutine[Any, Any, None]]] = {
    "session.update": Session.update,
    "input_audio_buffer.append": Session.append,
    "input_audio_buffer.commit": Session.commit,
    "input_audio_buffer.clear": Session.clear,
    "conversation.item.create": Session.create,
    "conversation.item.delete": Session.delete,
    "conversation.item.retrieve": Session.retrieve,
    "conversation.item.truncate": Session.truncate,
    "response.create": Session.respond,
    "response.cancel": Session.cancel,
}


def router(state: State) -> APIRouter:
    """The route."""
    routes = APIRouter(tags=["realtime"])
    open_sessions: Counter[str] = Counter()  # by caller

    def found(model: str | None, caller: str) -> Served:
        served = state.find(model)
        if AUDIO not in served.reads:
            raise ApiError(f"{served.name} reads {', '.join(served.reads)}; expected a model that hears", param="model")
        if open_sessions.total() >= SESSIONS or (caller and open_sessions[caller] >= OF_ONE):
            raise ApiError("too many sessions are open; expected fewer", 429, code="rate_limit_exceeded")
        return served

    @routes.websocket("/v1/realtime")
    async def realtime(socket: WebSocket, model: str | None = None, intent: str | None = None) -> None:
        """One session, until the client goes."""
        caller = str(socket.scope.get("plait.caller", ""))
        await socket.accept()
        try:
            served = found(model, caller)
        except ApiError as error:
            await socket.send_json({"type": "error", "event_id": new_id("event"), **error.body()})
            await socket.close(1008, error.message[:120])
            return
        session = Session(state, served, socket, "transcription" if intent == "transcription" else "realtime")
        open_sessions[caller] += 1
        try:
            await session.run()
        except (WebSocketDisconnect, RuntimeError):  # it has gone
            pass
        finally:
            open_sessions[caller] -= 1
            session.close()

    return routes
