"""Chat files: OpenAI's `{"messages": [{"role", "content"}]}` and ShareGPT's `{"conversations": [{"from", "value"}]}`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from plait.contract import Message, Part, Sample
from plait.data.importers import NAMES_OF_SPLITS, Record, lines_of
from plait.errors import DataError, RowError

HELP = "conversations (OpenAI's or ShareGPT's JSON or JSONL)"
SPEAKERS = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "bot": "assistant",
}


def _files(source: Path) -> list[Path]:
    return [source] if source.is_file() else sorted(p for s in ("*.jsonl", "*.json") for p in source.glob(s))


def _entries(path: Path) -> Iterator[tuple[str, Any]]:
    """(where, object): a line each, or the elements of one list."""
    with path.open(encoding="utf-8-sig") as file:
        listed = file.read(1) == "["
    if listed:
        for number, entry in enumerate(json.loads(path.read_text(encoding="utf-8-sig"))):
            yield f"{path}, entry {number}", entry
        return
    for number, line in lines_of(path):
        try:
            yield f"{path}:{number}", json.loads(line)
        except json.JSONDecodeError as error:
            raise RowError(f"{path}:{number}: not JSON ({error}); expected one conversation a line") from error


def matches(source: Path) -> bool:
    files = [path for path in _files(source) if path.suffix in (".json", ".jsonl")]
    for path in files[:3]:
        try:
            _, first = next(_entries(path))
        except (StopIteration, RowError, ValueError, UnicodeDecodeError):
            return False
        if not isinstance(first, dict) or not ({"messages", "conversations"} & set(first)):
            return False
    return bool(files)


def _text(content: Any, where: str) -> str:
    """Content of a message as text; parts of OpenAI's type `text` are joined."""
    if isinstance(content, str):
        return content
    if isinstance(content, list) and all(isinstance(p, dict) and p.get("type") == "text" for p in content):
        return "".join(str(part["text"]) for part in content)
    raise RowError(f"{where}: got content {str(content)[:80]!r}; expected text (rows with media: docs/your-data.md)")


def _message(raw: Any, where: str) -> Message:
    if not isinstance(raw, dict):
        raise RowError(f"{where}: got message {raw!r}; expected an object")
    name = str(raw.get("role", raw.get("from", "")))
    if name not in SPEAKERS:
        raise RowError(f"{where}: got a message by {name!r}; expected one of {', '.join(SPEAKERS)}")
    role: Any = SPEAKERS[name]
    return Message(role, (Part("text", _text(raw.get("content", raw.get("value")), where)),))


def records(source: Path) -> Iterator[Record]:
    """A row a conversation. Raises RowError naming file and line."""
    files = _files(source)
    if not files:
        raise DataError(f"{source} has no .json or .jsonl; expected files of conversations")
    for path in files:
        for where, entry in _entries(path):
            turns = entry.get("messages", entry.get("conversations")) if isinstance(entry, dict) else None
            yield conversation(turns, where, NAMES_OF_SPLITS.get(path.stem.lower(), ""))


def conversation(turns: Any, where: str, split: str) -> Record:
    """One conversation, a list of messages of either form. Raises RowError naming `where`."""
    if not isinstance(turns, list) or not turns:
        raise RowError(f"{where}: expected 'messages' or 'conversations', a list of at least one message")
    return Record(Sample(tuple(_message(turn, where) for turn in turns), "chat"), split)
