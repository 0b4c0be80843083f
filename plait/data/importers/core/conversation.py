"""Conversations of the forms that chat APIs and data sets have, with the media that stand in them or beside them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from plait.contract import Message, Part, Role, Sample
from plait.data.importers.core.keys import CHATS, FILES
from plait.data.importers.core.media import FOREIGN, KINDS, is_medium
from plait.data.importers.core.records import Record
from plait.data.importers.core.report import EntryError
from plait.data.importers.core.source import Source
from plait.errors import DataError

SPEAKERS: Mapping[str, Role] = {
    "system": "system", "developer": "system",
    "human": "user", "user": "user",
    "gpt": "assistant", "assistant": "assistant", "bot": "assistant", "chatgpt": "assistant", "model": "assistant",
}  # fmt: skip
TOOLS = ("tool", "function", "observation", "function_call", "tool_call")
MEDIA_KEYS = {"image": "image", "images": "image", "img": "image", "image_path": "image", "image_paths": "image",
              "picture": "image", "pictures": "image", "audio": "audio", "audios": "audio", "audio_path": "audio",
              "speech": "audio", "sound": "audio", "video": "", "videos": "",
              **dict.fromkeys((name for name in FILES if name.startswith("file")), "file")}  # fmt: skip
MARK = re.compile(r"\s*<\|?(image|audio|speech|sound|video)([_ -]?\d+)?\|?>\s*", re.IGNORECASE)
KIND_OF_MARK = {"image": "image", "audio": "audio", "speech": "audio", "sound": "audio", "video": ""}


@dataclass(frozen=True)
class Slot:
    """A place in a message where a medium of a kind belongs."""

    kind: str


Piece = Part | Slot


def turns_of(entry: Mapping[str, Any]) -> Any:
    """The messages of an entry, or None."""
    return next((entry[key] for key in CHATS if isinstance(entry.get(key), list | tuple)), None)


def conversation(entry: Mapping[str, Any], where: str, listed: str, source: Source, near: Path, split: str) -> Record:
    """One conversation of the list `listed`, an object with its messages and its media, whose files lie near a folder.

    Raises EntryError for one that cannot be used, DataError for media beside it that cannot be: without them it would
    teach to answer what is not seen.
    """
    turns = turns_of(entry)
    if not turns:
        raise EntryError("it has no messages", f"a list of at least one under {' or '.join(CHATS)}")
    names = _media_keys(entry)
    source.report.keys(listed, entry, {*CHATS, *names, "system"})
    media = [
        part for name in names for part in _media(entry[name], MEDIA_KEYS.get(name, "file"), name, where, source, near)
    ]
    messages = [_message(turn, listed, source, near) for turn in turns]
    system = entry.get("system")
    if isinstance(system, str) and system.strip() and messages[0][0] != "system":
        messages.insert(0, ("system", [Part("text", system)]))
    return Record(Sample(_filled(messages, media), "chat"), split, where=where)


def _media_keys(entry: Mapping[str, Any]) -> list[str]:
    """Keys of an entry that hold media: by their names, else by what they hold."""
    named = [key for key in entry if key.lower() in MEDIA_KEYS and entry[key] not in (None, "", [])]
    if named:
        return named
    return [key for key, value in entry.items() if key != "id" and any(map(_holds_medium, _several(value)))]


def _holds_medium(value: Any) -> bool:
    if isinstance(value, Mapping):
        return bool(value.get("bytes"))
    return isinstance(value, str) and is_medium(value)


def _several(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else [value]


def _media(value: Any, kind: str, key: str, where: str, source: Source, near: Path) -> Iterator[Part]:
    for medium in _several(value):
        name = medium if isinstance(medium, str) else ""
        if not kind or PurePath(name).suffix.lower() in FOREIGN:
            raise DataError(
                f"{where}: {key!r} beside the conversation is {medium!r:.60}, which cannot be used; expected {' or '.join(KINDS)} "
                "files of a kind that is read: convert it, or take the conversation out"
            )
        yield source.part(medium, near, "" if kind == "file" else kind)


def _message(turn: Any, listed: str, source: Source, near: Path) -> tuple[Role, list[Piece]]:
    if not isinstance(turn, Mapping):
        raise EntryError("a message is no object", "a role and a content", f"{turn!r:.60}")
    speaker = str(turn.get("role", turn.get("from", ""))).lower()
    if speaker in TOOLS or turn.get("tool_calls") or turn.get("function_call"):
        raise EntryError("a tool is called or answers", "messages of people and assistants")
    if speaker not in SPEAKERS:
        raise EntryError("a message is by nobody known", f"one of {', '.join(SPEAKERS)}", repr(speaker))
    source.report.keys(f"{listed}, in a message", turn, ("role", "from", "content", "value"))
    content = turn.get("content", turn.get("value"))
    if isinstance(content, str):
        return SPEAKERS[speaker], list(_marked(content))
    if not isinstance(content, list | tuple) or not content:
        raise EntryError("a message has no content", "text, or a list of parts", f"{content!r:.60}")
    return SPEAKERS[speaker], [piece for raw in content for piece in _piece(raw, source, near)]


def _marked(text: str) -> Iterator[Piece]:
    """A text with slots where marks such as `<image>` stand."""
    start = 0
    for match in MARK.finditer(text):
        if match[2]:
            raise EntryError(
                "a mark of a medium has a number", "marks without, in the order of the media", match[0].strip()
            )
        if match.start() > start:
            yield Part("text", text[start : match.start()])
        yield Slot(KIND_OF_MARK[match[1].lower()])
        start = match.end()
    if start < len(text) or not text:
        yield Part("text", text[start:])


def _piece(raw: Any, source: Source, near: Path) -> Iterator[Piece]:
    """A part of a content list, in the shapes that OpenAI's API, chat templates and rows have."""
    kind = raw.get("type") if isinstance(raw, Mapping) else None
    if kind in ("text", "input_text", "output_text"):
        yield from _marked(str(raw.get("text") or ""))
        return
    known = {"image": "image", "image_url": "image", "input_image": "image", "audio": "audio", "input_audio": "audio",
             "audio_url": "audio"}.get(kind or "")  # fmt: skip
    if known is None:
        raise EntryError("a part of a message is of no known type", f"text, {', '.join(KINDS)}", f"{kind!r}")
    value = next((raw[key] for key in (kind, known, f"{known}_url", "url", "path", "bytes") if raw.get(key)), None)
    if isinstance(value, Mapping) and value.get("data"):  # OpenAI's sound: base64 and its format
        value = f"data:,{value['data']}"
    elif isinstance(value, Mapping) and value.get("url"):
        value = value["url"]
    yield Slot(known) if value is None else source.part(value, near, known)


def _filled(messages: Sequence[tuple[Role, list[Piece]]], media: Sequence[Part]) -> tuple[Message, ...]:
    """Messages with media in their slots, in their order; before the first question where there are no slots. Raises
    EntryError where there are more of one than of the other."""
    slots = [piece for _, pieces in messages for piece in pieces if isinstance(piece, Slot)]
    if media and not slots:
        first = next((pieces for role, pieces in messages if role == "user"), None)
        if first is None:
            raise EntryError("nobody asks about its media", "a message of a user")
        first[:0] = media
    elif sorted(slot.kind for slot in slots) != sorted(part.type for part in media):
        raise EntryError(
            "its marks are not its media", "a mark such as <image> for each", f"{len(slots)} marks, {len(media)} media"
        )
    queues = {kind: iter([part for part in media if part.type == kind]) for kind in KINDS}
    return tuple(
        Message(role, tuple(next(queues[piece.kind]) if isinstance(piece, Slot) else piece for piece in pieces))
        for role, pieces in messages
    )
