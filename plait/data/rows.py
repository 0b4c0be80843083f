"""The row format: one JSON object a line, media beside it. The same shape serves training, evaluation and requests.

    {"task": "image->text",
     "messages": [{"role": "user", "content": [{"type": "image", "image": "media/7.png"},
                                               {"type": "text", "text": "Which digit is this?"}]},
                  {"role": "assistant", "content": "seven"}],
     "meta": {"digit": 7}}

`content` is a string or a list of parts; the key of a part's value is its type. A row `{"content": [...]}` is a document:
the loss falls on all of it. A string as the value of a continuous modality is a path, relative to the JSONL file's folder.

A preference has two answers to one conversation, as other trainers' rows have them; `messages` may take the place of `prompt`:

    {"prompt": [{"role": "user", "content": "Count to three."}],
     "chosen": [{"role": "assistant", "content": "1, 2, 3"}], "rejected": [{"role": "assistant", "content": "1, 3, 2"}]}
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
from itertools import takewhile
from pathlib import Path
from typing import Any

from plait.contract import WORDS, Message, Modality, Part, Sample
from plait.errors import DataError, RowError

ROLES = ("system", "user", "assistant")
KEYS = {"messages", "content", "task", "meta"}
CHOSEN, REJECTED, PROMPT = "chosen", "rejected", "prompt"
SOURCES = "sources"  # in the meta of a row that a model answered: the metas of the rows whose media it shows
PREFERENCE = {PROMPT, "messages", CHOSEN, REJECTED, "task", "meta"}


BOM = b"\xef\xbb\xbf"


def row_id(line: bytes) -> str:
    """Id of a row: 16 hexadecimal digits of the hash of its line, so that lists of rows stay valid when rows are added or
    moved."""
    return blake2b(line.removeprefix(BOM).rstrip(b"\r\n"), digest_size=8).hexdigest()


def parts_of(sample: Sample) -> Iterator[Part]:
    """All parts of a row, those of what is rejected too."""
    for message in (*sample.messages, *sample.rejected):
        yield from message.parts


def with_parts(sample: Sample, change: Callable[[Part], Part]) -> Sample:
    """The row with `change` of each of its parts."""
    messages, rejected = (
        tuple(replace(message, parts=tuple(map(change, message.parts))) for message in own)
        for own in (sample.messages, sample.rejected)
    )
    return replace(sample, messages=messages, rejected=rejected)


def line_of(where: str) -> int:
    """The line number in a Sample's `where`, FILE:LINE."""
    return int(where.rsplit(":", 1)[1])


def parse_part(raw: Any, base: Path, modalities: Mapping[str, Modality], where: str) -> Part:
    """Parse one entry of `content`; a path becomes absolute. Raises RowError naming `where`."""
    if not isinstance(raw, dict) or not isinstance(raw.get("type"), str):
        raise RowError(f'{where}: got part {raw!r}; expected an object such as {{"type": "text", "text": "..."}}')
    kind = raw["type"]
    if kind not in modalities:
        raise RowError(f"{where}: unknown part type {kind!r}; expected one of {', '.join(sorted(modalities))}")
    if kind not in raw:
        raise RowError(f"{where}: part of type {kind!r} has no value; expected it under the key {kind!r}")
    value = raw[kind]
    if modalities[kind].head == "flow" and isinstance(value, str):
        root = os.path.abspath(base)
        path = os.path.normpath(os.path.join(root, value))  # lexically: resolving links for every row is slow
        if not path.startswith(root + os.sep):
            raise RowError(
                f"{where}: {value!r} leaves the data folder {base}; expected a path inside it: copy the file there"
            )
        value = path
    return Part(kind, value, {key: entry for key, entry in raw.items() if key not in ("type", kind)})


def parse_row(raw: Any, base: Path, modalities: Mapping[str, Modality], where: str = "row", id: str = "") -> Sample:
    """Parse a decoded JSON object; media stay paths. Raises RowError naming `where`."""
    if not isinstance(raw, dict):
        raise RowError(f"{where}: got {type(raw).__name__}; expected a JSON object with 'messages' or 'content'")
    is_preference = CHOSEN in raw or REJECTED in raw
    if unknown := set(raw) - (PREFERENCE if is_preference else KEYS):
        raise RowError(
            f"{where}: unknown keys {sorted(unknown)}; expected only {sorted(PREFERENCE if is_preference else KEYS)}; put the "
            "rest under 'meta'"
        )
    task, meta = raw.get("task", ""), raw.get("meta", {})
    if not isinstance(task, str):
        raise RowError(f"{where}: 'task' is {task!r}; expected text: a name, or leave it out")
    if not isinstance(meta, dict):
        raise RowError(f"{where}: 'meta' is {meta!r}; expected an object, such as {{\"note\": ...}}")
    if is_preference:
        messages, rejected = _parse_preference(raw, base, modalities, where)
        return Sample(messages, task, meta, where, id, rejected)
    if ("messages" in raw) == ("content" in raw):
        raise RowError(f"{where}: expected exactly one of 'messages' (a conversation) and 'content' (a document)")
    if "messages" in raw:
        return Sample(_parse_messages(raw["messages"], "messages", base, modalities, where), task, meta, where, id)
    document = _parse_content(raw["content"], base, modalities, f"{where}, message 0")
    return Sample((Message(None, document),), task, meta, where, id)


def _parse_preference(
    raw: Mapping[str, Any], base: Path, modalities: Mapping[str, Modality], where: str
) -> tuple[tuple[Message, ...], tuple[Message, ...]]:
    """The conversation with the chosen answer at its end, and the rejected answer: as many messages. Raises RowError."""
    prompts = [key for key in (PROMPT, "messages") if key in raw]
    if len(prompts) > 1 or not {CHOSEN, REJECTED} <= set(raw):
        raise RowError(
            f"{where}: got {sorted({*prompts} | ({CHOSEN, REJECTED} & set(raw)))}; expected 'chosen', 'rejected' and one of "
            "'prompt' and 'messages', what both answer"
        )

    def messages(key: str) -> tuple[Message, ...]:
        value = raw[key]
        if isinstance(value, str):
            value = {"role": "user" if key in prompts else "assistant", "content": value}
        listed = [value] if isinstance(value, dict) else value
        return _parse_messages(listed, key, base, modalities, where)

    chosen, rejected = messages(CHOSEN), messages(REJECTED)
    if prompts:
        before = messages(prompts[0])
    else:  # both begin with it
        before = tuple(
            one for one, _ in takewhile(lambda pair: pair[0] == pair[1], zip(chosen, rejected, strict=False))
        )
        chosen, rejected = chosen[len(before) :], rejected[len(before) :]
    if not before or [m.role for m in chosen] != ["assistant"] or [m.role for m in rejected] != ["assistant"]:
        roles = [[message.role for message in own] for own in (before, chosen, rejected)]
        raise RowError(
            f"{where}: got the roles {roles[0]} as the prompt, {roles[1]} chosen, {roles[2]} rejected; expected a prompt, and "
            "one assistant's message each"
        )
    if chosen == rejected:
        raise RowError(f"{where}: what is chosen and what is rejected are the same; expected two different answers")
    return (*before, *chosen), rejected


def _parse_messages(
    raw_messages: Any, key: str, base: Path, modalities: Mapping[str, Modality], where: str
) -> tuple[Message, ...]:
    """Messages of a conversation. Raises RowError."""
    if not isinstance(raw_messages, list) or not raw_messages:
        raise RowError(f"{where}: '{key}' is {raw_messages!r}; expected a list of at least one message")
    messages = []
    for number, raw_message in enumerate(raw_messages):
        message_where = f"{where}, {key if key != 'messages' else 'message'} {number}"
        if (
            not isinstance(raw_message, dict)
            or not {"role", "content"} >= set(raw_message)
            or "content" not in raw_message
        ):
            raise RowError(f"{message_where}: got {raw_message!r}; expected an object with 'role' and 'content'")
        role = raw_message.get("role")
        if role not in ROLES:
            raise RowError(f"{message_where}: unknown role {role!r}; expected one of {', '.join(ROLES)}")
        messages.append(Message(role, _parse_content(raw_message["content"], base, modalities, message_where)))
    return tuple(messages)


def _parse_content(content: Any, base: Path, modalities: Mapping[str, Modality], where: str) -> tuple[Part, ...]:
    """Parts of a message. Raises RowError."""
    parts = [{"type": WORDS, WORDS: content}] if isinstance(content, str) else content
    if not isinstance(parts, list) or not parts:
        raise RowError(f"{where}: 'content' is {content!r}; expected text or a list of at least one part")
    return tuple(parse_part(part, base, modalities, where) for part in parts)


def read_rows(
    path: Path,
    modalities: Mapping[str, Modality],
    skip: Container[str] = (),
    on_bad: Callable[[RowError], object] | None = None,
) -> Iterator[Sample]:
    """Yield the samples of a JSONL file, without the rows whose ids are in `skip`.

    Calls `on_bad(error)` for each bad row and skips it; without `on_bad` raises its RowError. Raises DataError for a
    missing file.
    """
    if not path.is_file():
        raise DataError(f"{path} is not a file; expected JSONL rows: build the data first, or check the path")
    with path.open("rb") as lines:  # a line that is not UTF-8 is one bad row, not the end of the file
        for number, line in enumerate(lines, start=1):
            if not line.strip() or (skip and row_id(line) in skip):
                continue
            try:
                sample = parse_line(line, path, number, modalities)
            except RowError as error:
                if on_bad is None:
                    raise
                on_bad(error)
                continue
            yield sample


def parse_line(line: bytes, path: Path, number: int, modalities: Mapping[str, Modality]) -> Sample:
    """Parse line `number` (from 1) of the file `path`. Raises RowError naming both."""
    where = f"{path.name}:{number}"
    try:
        raw = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"), parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise RowError(f"{where}: byte {error.start} is not UTF-8; expected UTF-8: save the file so") from error
    except (ValueError, RecursionError) as error:
        raise RowError(f"{where}: not JSON ({error}); expected one object a line") from error
    return parse_row(raw, path.parent, modalities, where, row_id(line))


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def dump_row(sample: Sample) -> str:
    """A Sample as one line of JSONL; its values must be text or paths relative to the file."""

    def content(message: Message) -> Any:
        (first, *others) = message.parts
        if sample.rejected and first.type == WORDS and not others and not first.options:
            return first.value  # as trainers of language models want it
        return [{"type": part.type, part.type: part.value, **part.options} for part in message.parts]

    def raw(messages: Sequence[Message]) -> list[dict[str, Any]]:
        return [{"role": message.role, "content": content(message)} for message in messages]

    row: dict[str, Any] = {"task": sample.task}
    if sample.rejected:
        before = len(sample.messages) - len(sample.rejected)
        row |= {
            PROMPT: raw(sample.messages[:before]),
            CHOSEN: raw(sample.messages[before:]),
            REJECTED: raw(sample.rejected),
        }
    elif sample.messages[0].role is None:  # a document
        row["content"] = content(sample.messages[0])
    else:
        row["messages"] = raw(sample.messages)
    return json.dumps(row | {"meta": dict(sample.meta)}, ensure_ascii=False)
