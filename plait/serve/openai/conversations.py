"""Conversations that the pages keep on the server, in SQLite: of each key its own.

A conversation is a title and the messages as the API takes them, media as data: URLs. It leaves as a ZIP of rows that
`plait train --data` reads, or as one page.
"""

from __future__ import annotations

import html
import io
import json
import os
import time
import uuid
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from fastapi import Request as HttpRequest
from fastapi.responses import HTMLResponse, Response
from pydantic import Field, model_validator

from plait.runtime.database import Database
from plait.serve.errors import ApiError
from plait.serve.media import DATA_URL, from_base64, from_url
from plait.serve.openai.content import ContentPart
from plait.serve.openai.shapes import Body, Shape

SCHEMA = """
CREATE TABLE IF NOT EXISTS conversations (
    id TEXT PRIMARY KEY, caller TEXT NOT NULL, title TEXT NOT NULL, created REAL NOT NULL, updated REAL NOT NULL,
    words TEXT NOT NULL, messages TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS by_caller ON conversations (caller, updated DESC);
CREATE TABLE IF NOT EXISTS preferences (
    id TEXT PRIMARY KEY, caller TEXT NOT NULL, created REAL NOT NULL, row TEXT NOT NULL
);
"""
EXPECTED_FILE = "the file of conversations and voices, or a place where it can be made: choose another with --conversations, or none for none"
MOST_LISTED = 200
LONGEST_SUFFIX = 8
PAGE = """<!doctype html><html><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>body{{max-width:46rem;margin:2rem auto;padding:0 1rem;font:16px/1.5 system-ui,sans-serif}}
article{{margin:1rem 0;padding:.6rem 1rem;border-radius:.8rem;background:#f2f2f5;white-space:pre-wrap;overflow-wrap:anywhere}}
article.user{{background:#e3edff}}img{{max-width:100%;min-width:6rem;display:block}}h2{{font-size:.8rem;margin:0;color:#667}}</style>
<h1>{title}</h1>
{messages}</html>
"""


def usual_place() -> Path:
    """Where conversations lie if nothing else is said: the user's own data folder."""
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "plait" / "conversations.sqlite"


class StoredMessage(Shape):
    """One message: its content as the API takes it; how it was asked for and what it took, as the pages wish."""

    role: Literal["system", "user", "assistant"]
    content: str | list[ContentPart]
    extra: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _leaves_again(self) -> StoredMessage:
        """What is stored can be exported: its media are base64, and have formats that can be names of files."""
        for part in self.model_dump()["content"] if isinstance(self.content, list) else ():
            try:
                _media(part)
            except ApiError as error:
                raise ValueError(error.message) from error
        return self


class Conversation(Body):
    """What is stored of a conversation."""

    title: str = Field("", max_length=300)
    messages: list[StoredMessage] = Field(default_factory=list, max_length=2000)


class Preference(Body):
    """Two answers to one conversation, the better one first; which models gave them; `equal`: neither is better."""

    messages: list[StoredMessage] = Field(min_length=1, max_length=2000)
    chosen: StoredMessage
    rejected: StoredMessage
    models: tuple[str, str]
    equal: bool = False


class Conversations(Database):
    """The file at `path`, which is made if it is missing. A kill at any moment loses nothing that was answered for. Raises
    ConfigError."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, SCHEMA, EXPECTED_FILE)

    def listed(self, caller: str, words: str = "") -> list[dict[str, Any]]:
        """The newest first, those that hold some words in their title or messages."""
        pattern = "%" + "".join(f"\\{mark}" if mark in "\\%_" else mark for mark in words) + "%"
        rows = self.rows(
            "SELECT id, title, created, updated FROM conversations WHERE caller = ? AND (title LIKE ? ESCAPE '\\' OR "
            "words LIKE ? ESCAPE '\\') ORDER BY updated DESC LIMIT ?",
            caller, pattern, pattern, MOST_LISTED,
        )  # fmt: skip
        return [dict(zip(("id", "title", "created", "updated"), row, strict=True)) for row in rows]

    def get(self, caller: str, id: str) -> dict[str, Any]:
        """One of them. Raises ApiError."""
        rows = self.rows(
            "SELECT id, title, created, updated, messages FROM conversations WHERE caller = ? AND id = ?", caller, id
        )
        if not rows:
            raise ApiError(f"the conversation {id!r} is not here", 404, code="not_found")
        (row,) = rows
        return dict(zip(("id", "title", "created", "updated"), row, strict=False)) | {"messages": json.loads(row[4])}

    def put(self, caller: str, id: str, conversation: Conversation, is_new: bool = True) -> dict[str, Any]:
        """Store a conversation under an id: a new one, or in the place of what is there. Raises ApiError where nothing is, or
        another's."""
        now, messages = time.time(), [message.model_dump(exclude_none=True) for message in conversation.messages]
        words = "\n".join(
            part.get("text", "") for message in messages for part in _parts(message) if _media(part) is None
        )
        values = (conversation.title, now, words, json.dumps(messages, ensure_ascii=False))
        if is_new:
            query = "INSERT INTO conversations (title, updated, words, messages, caller, id, created) VALUES (?, ?, ?, ?, ?, ?, ?)"
            self.rows(query, *values, caller, id, now)
        else:
            query = "UPDATE conversations SET title = ?, updated = ?, words = ?, messages = ? WHERE caller = ? AND id = ? RETURNING id"
            if not self.rows(query, *values, caller, id):
                raise ApiError(f"the conversation {id!r} is not here", 404, code="not_found")
        return {"id": id, "title": conversation.title, "updated": now}

    def delete(self, caller: str, id: str) -> None:
        """Remove one for good. Raises ApiError."""
        if not self.removed("DELETE FROM conversations WHERE caller = ? AND id = ?", caller, id):
            raise ApiError(f"the conversation {id!r} is not here", 404, code="not_found")

    def prefer(self, caller: str, preference: Preference) -> str:
        """Store which of two answers somebody liked better; returns its id."""
        id = uuid.uuid4().hex
        row = json.dumps(preference.model_dump(exclude_none=True), ensure_ascii=False)
        self.rows("INSERT INTO preferences VALUES (?, ?, ?, ?)", id, caller, time.time(), row)
        return id

    def preferences(self, caller: str) -> list[dict[str, Any]]:
        """All of them, in their order."""
        rows = self.rows("SELECT row FROM preferences WHERE caller = ? ORDER BY created, rowid", caller)
        return [json.loads(row) for (row,) in rows]


def _media(part: dict[str, Any]) -> tuple[str, str, bytes] | None:
    """Modality, suffix and bytes of a part that is a medium; None for words."""
    if (url := _picture(part)) is not None:
        match = DATA_URL.match(url)
        media_type = (match.group(1) if match else None) or "image/png"
        return "image", _suffix(media_type.partition("/")[2]), from_url(url, "image_url")
    for kind, name in (("input_audio", "audio"), (str(part.get("type")), str(part.get("type")))):
        held = part.get(kind)
        if part.get("type") == kind and isinstance(held, dict) and isinstance(held.get("data"), str):
            return name, _suffix(str(held.get("format") or "wav")), from_base64(held["data"], kind)
    return None


def _picture(part: dict[str, Any]) -> str | None:
    """The address of a picture, as either API gives it; None for another part."""
    if part.get("type") not in ("image_url", "input_image"):
        return None
    address = part["image_url"]
    return str(address["url"] if isinstance(address, dict) else address)


def _suffix(format: str) -> str:
    """A format as the suffix of a file."""
    return format if format.isascii() and format.isalnum() and len(format) <= LONGEST_SUFFIX else "bin"


def _parts(message: dict[str, Any]) -> list[dict[str, Any]]:
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _stored(message: dict[str, Any], stem: str, file: zipfile.ZipFile) -> dict[str, Any]:
    """A message of a row, its media written beside the rows."""
    content = []
    for place, part in enumerate(_parts(message)):
        medium = _media(part)
        if medium is None:
            content.append({"type": "text", "text": part.get("text", "")})
            continue
        kind, suffix, data = medium
        name = f"media/{stem}-{place}.{suffix}"
        file.writestr(name, data)
        content.append({"type": kind, kind: name})
    return {"role": message["role"], "content": content}


def _is_told(preference: dict[str, Any]) -> bool:
    """Whether none of the messages is empty, and the answers differ: else there is nothing to learn."""
    messages = (*preference["messages"], preference["chosen"], preference["rejected"])
    return all(message["content"] for message in messages) and preference["chosen"] != preference["rejected"]


def _plain(message: dict[str, Any]) -> dict[str, Any]:
    """A message of a row whose words, where there is nothing else, are a string, as trainers of language models want it."""
    (first, *others) = message["content"]
    return message | {"content": first["text"]} if first["type"] == "text" and not others else message


def _zipped(name: str, rows: Callable[[zipfile.ZipFile], list[dict[str, Any]]]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows(file)]
        file.writestr(name, "".join(lines))
    return buffer.getvalue()


def as_rows(conversation: dict[str, Any]) -> bytes:
    """A ZIP of train.jsonl with one row, the questions that were answered, and its media."""

    def rows(file: zipfile.ZipFile) -> list[dict[str, Any]]:
        exchanges = enumerate(_exchanges(conversation["messages"]))
        messages = [_stored(message, str(number), file) for number, message in exchanges]
        return [{"task": "chat", "messages": messages}] if messages else []

    return _zipped("train.jsonl", rows)


def as_preferences(preferences: list[dict[str, Any]]) -> bytes:
    """A ZIP of train.jsonl, rows of `prompt`, `chosen` and `rejected` (plait.data.rows), and their media. Draws are left out."""

    def rows(file: zipfile.ZipFile) -> list[dict[str, Any]]:
        return [
            {
                "prompt": [
                    _plain(_stored(m, f"{number}-{place}", file)) for place, m in enumerate(preference["messages"])
                ],
                "chosen": [_plain(_stored(preference["chosen"], f"{number}-chosen", file))],
                "rejected": [_plain(_stored(preference["rejected"], f"{number}-rejected", file))],
                "meta": {"models": preference["models"]},
            }
            for number, preference in enumerate(preferences)
            if not preference["equal"] and _is_told(preference)
        ]

    return _zipped("train.jsonl", rows)


def _exchanges(messages: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Messages up to the last answer, without empty ones."""
    kept = [message for message in messages if message["content"]]
    while kept and kept[-1]["role"] != "assistant":
        kept.pop()
    yield from kept


def as_page(conversation: dict[str, Any]) -> str:
    """One page without scripts, media inside."""
    articles = []
    for message in conversation["messages"]:
        inner = []
        for part in _parts(message):
            medium = _media(part)
            if medium is None:
                inner.append(f"<div>{html.escape(str(part.get('text', '')))}</div>")
            elif (url := _picture(part)) is not None:
                inner.append(f'<img alt="picture" src="{html.escape(url)}">')
            else:
                kind, suffix, _ = medium
                held = html.escape(str(part[part["type"]]["data"]))
                source = f"data:{html.escape(kind)}/{html.escape(suffix)};base64,{held}"
                tag = (
                    f'<audio controls src="{source}"></audio>'
                    if kind == "audio"
                    else f'<a download href="{source}">file</a>'
                )
                inner.append(tag)
        articles.append(f'<article class="{message["role"]}"><h2>{message["role"]}</h2>{"".join(inner)}</article>')
    return PAGE.format(title=html.escape(conversation["title"] or "Plait"), messages="\n".join(articles))


def router(store: Conversations, caller_of: Callable[[HttpRequest], str]) -> APIRouter:
    """The routes. Handlers are plain functions: SQLite waits in threads."""
    routes = APIRouter(tags=["conversations"], prefix="/conversations")

    @routes.get("")
    def listed(http: HttpRequest, query: Annotated[str, Query(max_length=200)] = "") -> dict[str, Any]:
        """The caller's conversations, the newest first."""
        return {"data": store.listed(caller_of(http), query)}

    @routes.post("")
    def add(body: Conversation, http: HttpRequest) -> dict[str, Any]:
        """Store a new one."""
        return store.put(caller_of(http), uuid.uuid4().hex, body)

    @routes.get("/{id}")
    def one(id: str, http: HttpRequest) -> dict[str, Any]:
        """One conversation with its messages."""
        return store.get(caller_of(http), id)

    @routes.put("/{id}")
    def put(id: str, body: Conversation, http: HttpRequest) -> dict[str, Any]:
        """Store one in the place of what is there."""
        return store.put(caller_of(http), id, body, is_new=False)

    @routes.delete("/{id}")
    def delete(id: str, http: HttpRequest) -> dict[str, Any]:
        """Remove one for good."""
        store.delete(caller_of(http), id)
        return {"id": id, "deleted": True}

    @routes.get("/{id}/rows.zip", response_class=Response)
    def rows(id: str, http: HttpRequest) -> Response:
        """As rows that `plait train --data` reads."""
        headers = {"Content-Disposition": 'attachment; filename="conversation.zip"'}
        return Response(as_rows(store.get(caller_of(http), id)), media_type="application/zip", headers=headers)

    @routes.get("/{id}/page.html", response_class=HTMLResponse)
    def page(id: str, http: HttpRequest) -> HTMLResponse:
        """As one page."""
        headers = {"Content-Disposition": 'attachment; filename="conversation.html"'}
        return HTMLResponse(as_page(store.get(caller_of(http), id)), headers=headers)

    return routes


def preferences(store: Conversations, caller_of: Callable[[HttpRequest], str]) -> APIRouter:
    """The routes of what people liked better."""
    routes = APIRouter(tags=["conversations"], prefix="/preferences")

    @routes.post("")
    def prefer(body: Preference, http: HttpRequest) -> dict[str, Any]:
        """Store which of two answers is better."""
        return {"id": store.prefer(caller_of(http), body)}

    @routes.get("")
    def counted(http: HttpRequest) -> dict[str, Any]:
        """How often each model was liked better than another, and how often neither was."""
        counts: dict[tuple[str, str, bool], int] = {}
        for preference in store.preferences(caller_of(http)):
            chosen, rejected = preference["models"]
            pair = (*sorted((chosen, rejected)), True) if preference["equal"] else (chosen, rejected, False)
            counts[pair] = counts.get(pair, 0) + 1
        data = [{"chosen": a, "rejected": b, "equal": equal, "count": n} for (a, b, equal), n in sorted(counts.items())]
        return {"data": data}

    @routes.get("/rows.zip", response_class=Response)
    def rows(http: HttpRequest) -> Response:
        """As rows of prompt, chosen and rejected."""
        headers = {"Content-Disposition": 'attachment; filename="preferences.zip"'}
        return Response(
            as_preferences(store.preferences(caller_of(http))), media_type="application/zip", headers=headers
        )

    return routes
