"""`/v1/speakers`: voices that people enrolled, compared, recognised, and forgotten.

A voice is data about a body. So nothing is enrolled without a consent: what the person agrees to, in words, and another recording in which
they say so, which has to be in the very voice that is enrolled. Whether it says these words nobody checks but whoever listens to it: it is
kept for that. Of the voice itself a direction is kept, no sample, and goes with it. Every answer says how well voices are told apart at all.
"""

from __future__ import annotations

import asyncio
import base64
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import APIRouter
from fastapi import Request as HttpRequest
from fastapi.concurrency import run_in_threadpool
from pydantic import Field

from plait import registry
from plait.contract import Part
from plait.errors import DataError, MissingError, RowError
from plait.modalities import Voices
from plait.runtime.database import Database
from plait.serve.errors import ApiError
from plait.serve.media import from_url
from plait.serve.openai.content import AUDIO
from plait.serve.openai.conversations import EXPECTED_FILE
from plait.serve.openai.shapes import Body, Shape
from plait.serve.state import State

SCHEMA = """
CREATE TABLE IF NOT EXISTS speakers (
    id TEXT PRIMARY KEY, caller TEXT NOT NULL, name TEXT NOT NULL, created REAL NOT NULL, direction BLOB NOT NULL,
    statement TEXT NOT NULL, recording BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS speakers_by_caller ON speakers (caller, created);
"""
MOST = 1000  # of a key
MOST_MATCHES = 10
MOST_BYTES = 4 << 20  # of the recording of a consent
COPY = 0.999  # likeness from which two recordings are one
SHORTEST_STATEMENT = 20  # characters: a sentence that says who agrees to what


class Consent(Shape):
    """What the person agrees to, and a data: URL of the recording in which they say it."""

    statement: str = Field(min_length=SHORTEST_STATEMENT, max_length=2000)
    recording: str


class Enrolment(Body):
    """A voice to remember: a name, a data: URL of a recording, the person's consent."""

    name: str = Field(min_length=1, max_length=200)
    audio: str
    consent: Consent


class Recording(Body):
    """A data: URL of a recording of one voice."""

    audio: str


class Comparison(Body):
    """data: URLs of two recordings, each of one voice."""

    audio: tuple[str, str]


class Speakers(Database):
    """Voices that were enrolled, of each key its own."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, SCHEMA, EXPECTED_FILE)

    def add(self, caller: str, name: str, direction: np.ndarray, consent: Consent) -> dict[str, Any]:
        """Remember one; returns what is known of it. Raises ApiError for too many."""
        id, now = f"speaker_{uuid.uuid4().hex}", time.time()
        values = (
            direction.astype("<f4").tobytes(),
            consent.statement,
            from_url(consent.recording, "consent.recording"),
        )
        query = "INSERT INTO speakers SELECT ?, ?, ?, ?, ?, ?, ? WHERE (SELECT COUNT(*) FROM speakers WHERE caller = ?) < ? RETURNING id"
        if not self.rows(query, id, caller, name, now, *values, caller, MOST):
            raise ApiError(f"{MOST} voices are enrolled; expected fewer: delete some", code="too_many_speakers")
        return as_speaker(id, name, now, consent.statement)

    def listed(self, caller: str) -> list[dict[str, Any]]:
        """All of them, in their order."""
        query = "SELECT id, name, created, statement FROM speakers WHERE caller = ? ORDER BY created, rowid"
        return [as_speaker(*row) for row in self.rows(query, caller)]

    def one(self, caller: str, id: str) -> dict[str, Any]:
        """One with the recording of the consent. Raises ApiError."""
        query = "SELECT id, name, created, statement, recording FROM speakers WHERE caller = ? AND id = ?"
        for *row, recording in self.rows(query, caller, id):
            speaker = as_speaker(*row)
            speaker["consent"]["recording"] = base64.b64encode(recording).decode()
            return speaker
        raise _unknown(id)

    def likest(self, caller: str, direction: np.ndarray) -> list[dict[str, Any]]:
        """Those whose voices are most like a direction, the likest first."""
        rows = self.rows("SELECT id, name, created, statement, direction FROM speakers WHERE caller = ?", caller)
        speakers = [
            {**as_speaker(*row), "likeness": _rounded(direction @ np.frombuffer(known, "<f4"))} for *row, known in rows
        ]
        return sorted(speakers, key=lambda speaker: -speaker["likeness"])[:MOST_MATCHES]

    def delete(self, caller: str, id: str) -> None:
        """Forget one for good. Raises ApiError."""
        if not self.removed("DELETE FROM speakers WHERE caller = ? AND id = ?", caller, id):
            raise _unknown(id)


def _unknown(id: str) -> ApiError:
    return ApiError(f"the speaker {id[:100]!r} is not here", 404, code="not_found")


def _rounded(likeness: Any) -> float:
    return round(float(likeness), 4)


def as_speaker(id: str, name: str, created: float, statement: str) -> dict[str, Any]:
    """What is told of an enrolled voice."""
    return {"id": id, "object": "speaker", "name": name, "created": int(created), "consent": {"statement": statement}}


def router(state: State, store: Speakers | None, caller_of: Callable[[HttpRequest], str]) -> APIRouter:
    """The routes; without a store voices are compared alone."""
    routes = APIRouter(tags=["speakers"], prefix="/v1/speakers")
    voices = registry.voices(AUDIO)
    if voices is None:
        return routes
    turn = asyncio.Lock()  # one at a time: telling a voice keeps a core busy
    facts: dict[str, Any] = {"threshold": voices.threshold(), "measured": voices.measured()}

    async def heard(url: str, param: str) -> np.ndarray:
        part = await state.media.decode(AUDIO, from_url(url, param), param)
        async with turn:
            return await direction_of(voices, part, param)

    @routes.post("/compare")
    async def compare(body: Comparison) -> dict[str, Any]:
        """Whether two recordings are of one voice."""
        first, second = [await heard(url, f"audio[{number}]") for number, url in enumerate(body.audio)]
        likeness = _rounded(first @ second)
        return {"object": "speaker.comparison", "likeness": likeness, "same": likeness >= facts["threshold"], **facts}

    if store is not None:
        _enrolled(routes, store, caller_of, heard, facts)
    return routes


def _enrolled(
    routes: APIRouter, store: Speakers, caller_of: Callable[[HttpRequest], str], heard: Callable[[str, str], Any],
    facts: dict[str, Any],
) -> None:  # fmt: skip
    """Routes about voices that are remembered."""

    @routes.post("")
    async def enrol(body: Enrolment, http: HttpRequest) -> dict[str, Any]:
        """Remember a voice, with its owner's consent."""
        if len(body.consent.recording) > MOST_BYTES * 4 / 3:
            raise ApiError(
                f"consent.recording: got more than {MOST_BYTES >> 20} MiB; expected less: a sentence is enough, as Opus or FLAC",
                param="consent.recording", code="invalid_value",
            )  # fmt: skip
        direction = await heard(body.audio, "audio")
        likeness = _rounded(direction @ await heard(body.consent.recording, "consent.recording"))
        if likeness >= COPY:
            raise ApiError(
                "consent.recording: it is the recording that is to be enrolled; expected another one, in which the person says that they "
                "agree",
                param="consent.recording", code="consent_mismatch",
            )  # fmt: skip
        if likeness < facts["threshold"]:
            raise ApiError(
                f"consent.recording: its voice is like the one to enrol by {likeness}; expected at least {facts['threshold']}: the "
                "person themself has to say that they agree",
                param="consent.recording", code="consent_mismatch",
            )  # fmt: skip
        return await run_in_threadpool(store.add, caller_of(http), body.name, direction, body.consent)

    @routes.post("/identify")
    async def identify(body: Recording, http: HttpRequest) -> dict[str, Any]:
        """Whose voice a recording is of, among those enrolled; null where none is like enough."""
        direction = await heard(body.audio, "audio")
        matches = await run_in_threadpool(store.likest, caller_of(http), direction)
        best = matches[0] if matches and matches[0]["likeness"] >= facts["threshold"] else None
        return {"object": "speaker.identification", "speaker": best, "matches": matches, **facts}

    @routes.get("")
    def listed(http: HttpRequest) -> dict[str, Any]:
        """The caller's enrolled voices."""
        return {"object": "list", "data": store.listed(caller_of(http))}

    @routes.get("/{id}")
    def one(id: str, http: HttpRequest) -> dict[str, Any]:
        """One of them, with the recording of the consent, in base64 as it came."""
        return store.one(caller_of(http), id)

    @routes.delete("/{id}")
    def delete(id: str, http: HttpRequest) -> dict[str, Any]:
        """Forget a voice for good, its consent included."""
        store.delete(caller_of(http), id)
        return {"id": id, "object": "speaker", "deleted": True}


async def direction_of(voices: Voices, part: Part, param: str) -> np.ndarray:
    """The direction of a recording's voice. Raises ApiError."""
    try:
        return await run_in_threadpool(voices.direction, part)
    except RowError as error:
        raise ApiError(f"{param}: {error}", param=param, code="invalid_value") from error
    except (MissingError, DataError, OSError) as error:
        raise ApiError(f"what tells voices apart cannot be had here: {error}", 503, code="unavailable") from error
