"""Conversations of the forms that chat APIs and data sets have, with the media that stand in them or beside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from plait.contract import Message, Part, Role, Sample
from plait.data.importers.core.keys import CHATS, FILES
from plait.data.importers.core.marks import Piece, Slot, fill, marked
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
SAID = ("content", "value")


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
    media, used = _media(entry, where, source, near)
    source.report.keys(listed, entry, {*CHATS, *used, "system"})
    messages = [_message(turn, where, listed, source, near) for turn in turns]
    system = entry.get("system")
    if isinstance(system, str) and system.strip() and messages[0][0] != "system":
        messages.insert(0, ("system", [Part("text", system)]))
    asking = next((index for index, (role, _) in enumerate(messages) if role == "user"), 0)
    parts = fill([pieces for _, pieces in messages], media, asking)
    turned = (Message(role, tuple(own)) for (role, _), own in zip(messages, parts, strict=True))
    return Record(Sample(tuple(turned), "chat"), split, where=where)


def _media_keys(entry: Mapping[str, Any]) -> list[str]:
    """Keys of an entry or a message that hold media: by their names, else by what they hold."""
    named = [key for key in entry if key.lower() in MEDIA_KEYS and entry[key] not in (None, "", [])]
    if named:
        return named
    held = (key for key, value in entry.items() if any(map(_holds_medium, _several(value))))
    return [key for key in held if key not in ("id", *SAID)]


def _holds_medium(value: Any) -> bool:
    if isinstance(value, Mapping):
        return bool(value.get("bytes"))
    return isinstance(value, str) and is_medium(value)


def _several(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else [value]


def _media(entry: Mapping[str, Any], where: str, source: Source, near: Path) -> tuple[list[Part], list[str]]:
    """The media beside the words of an entry or a message, and their keys; what two keys say alike counts once."""
    names = _media_keys(entry)
    groups: list[list[Part]] = []
    for name in names:
        kind = MEDIA_KEYS.get(name.lower(), "file")
        group = [_medium(value, kind, name, where, source, near) for value in _several(entry[name])]
        if group not in groups:
            groups.append(group)
    return [part for group in groups for part in group], names


def _medium(value: Any, kind: str, key: str, where: str, source: Source, near: Path) -> Part:
    if not kind or (isinstance(value, str) and PurePath(value).suffix.lower() in FOREIGN):
        raise DataError(
            f"{where}: {key!r} beside the conversation is {value!r:.60}, which cannot be used; expected {' or '.join(KINDS)} "
            "files of a kind that is read: convert it, or take the conversation out"
        )
    return source.part(value, near, "" if kind == "file" else kind)


def _message(turn: Any, where: str, listed: str, source: Source, near: Path) -> tuple[Role, list[Piece]]:
    """Who speaks, and the pieces of what is said. Slots are filled with the media of the message itself, if it has some."""
    if not isinstance(turn, Mapping):
        raise EntryError("a message is no object", "a role and a content", f"{turn!r:.60}")
    speaker = str(turn.get("role", turn.get("from", ""))).lower()
    if speaker in TOOLS or turn.get("tool_calls") or turn.get("function_call"):
        raise EntryError("a tool is called or answers", "messages of people and assistants")
    if speaker not in SPEAKERS:
        raise EntryError("a message is by nobody known", f"one of {', '.join(SPEAKERS)}", repr(speaker))
    media, used = _media(turn, where, source, near)
    source.report.keys(f"{listed}, in a message", turn, ("role", "from", *SAID, *used))
    pieces = _pieces(turn, source, near)
    return SPEAKERS[speaker], list(fill([pieces], media)[0]) if media else pieces


def _pieces(turn: Mapping[str, Any], source: Source, near: Path) -> list[Piece]:
    content = next((turn[key] for key in SAID if turn.get(key) is not None), None)
    if isinstance(content, str):
        return list(marked(content))
    if not isinstance(content, list | tuple) or not content:
        raise EntryError("a message has no content", "text, or a list of parts", f"{content!r:.60}")
    return [piece for raw in content for piece in _piece(raw, source, near)]


def _piece(raw: Any, source: Source, near: Path) -> Iterator[Piece]:
    """A part of a content list, in the shapes that OpenAI's API, chat templates and rows have."""
    kind = raw.get("type") if isinstance(raw, Mapping) else None
    if kind in ("text", "input_text", "output_text"):
        yield from marked(str(raw.get("text") or ""))
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
