"""Items of a project: rows of a data folder, or the media of any folder, one item each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from plait import registry
from plait.annotate.kinds import Json, Question, known
from plait.annotate.store import Item
from plait.contract import WORDS, Message, Modality, Part, Sample
from plait.data.importers.core.source import Source
from plait.data.rows import parse_line, parse_row, row_id
from plait.errors import ConfigError, DataError, RowError
from plait.modalities import Places

GOLD = "gold"  # in a row's meta: its answer is known to be right
SPLITS = ("train", "dev", "test")


def read(
    data: Path, question: Question, split: str = "", on_bad: Callable[[RowError], object] | None = None
) -> Iterator[Item]:
    """Items of `data`: a JSONL file, the rows of a data folder (of one `split`, or of all), or the pictures and clips of a folder without
    rows. A row that does not suit the question is given to `on_bad`. Raises DataError where there is nothing to ask about."""
    if data.is_file() and data.suffix == ".jsonl":
        files = [data]
    elif data.is_dir():
        files = [path for name in ([split] if split else SPLITS) if (path := data / f"{name}.jsonl").is_file()]
    else:
        raise DataError(f"{data} is no folder and no .jsonl file; expected rows, or a folder of pictures or clips")
    if files:
        for path in files:
            yield from _of_rows(path, question, on_bad or _raise)
    elif split:
        raise DataError(f"{data} has no {split}.jsonl; expected it: leave --split out for the media of the folder")
    else:
        yield from _of_media(data, question, on_bad or _raise)


def _raise(error: RowError) -> None:
    raise error


def _of_rows(path: Path, question: Question, on_bad: Callable[[RowError], object]) -> Iterator[Item]:
    modalities = registry.build_all(registry.available())
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            yield _item(parse_line(line, path, number, modalities), line, path.stem, question)
        except RowError as error:
            on_bad(error)


def _item(sample: Sample, line: bytes, split: str, question: Question) -> Item:
    """The item of a row. Raises RowError for one that the question cannot be asked about."""
    kind, answer = known(question.kind), _answer_of(sample)
    if kind.needs_answer and answer is None:
        raise RowError(
            f"{sample.where}: it has no answer; expected an assistant's message at its end for --ask {question.kind}"
        )
    if kind.needs_two and not sample.rejected:
        raise RowError(f"{sample.where}: it has one answer; expected 'chosen' and 'rejected' for --ask {question.kind}")
    if kind.needs_media and places_in(sample) is None:
        raise RowError(
            f"{sample.where}: there is no medium in it that has places; expected a picture for --ask {question.kind}"
        )
    gold = None
    if sample.meta.get(GOLD) is True:
        if kind.shows_answer:
            raise RowError(
                f"{sample.where}: 'gold' is true, but --ask {question.kind} shows the answer; expected gold only where people do not see it"
            )
        if answer is None:
            raise RowError(f"{sample.where}: 'gold' is true but there is no answer; expected one, or take 'gold' out")
        try:
            gold = question.checked(as_value(sample, question))
        except ConfigError as error:
            raise RowError(f"{sample.where}: 'gold' is true: {error}") from error
    return Item(sample.id, json.loads(line), split if split in SPLITS else "train", gold)


def asked_parts(sample: Sample) -> list[Part]:
    """Parts of a row but for its answer."""
    messages = sample.messages[:-1] if _answer_of(sample) is not None else sample.messages
    return [part for message in messages for part in message.parts]


def _answer_of(sample: Sample) -> Message | None:
    last = sample.messages[-1]
    return last if last.role == "assistant" else None


def as_value(sample: Sample, question: Question) -> Json:
    """What a row's answer says as an answer to the question; None without an answer in words."""
    answer = _answer_of(sample)
    words = [str(part.value) for part in answer.parts if part.type == WORDS] if answer else []
    return known(question.kind).parse(" ".join(words), question, places_in(sample)) if words else None


def places_in(sample: Sample) -> Places | None:
    """How texts speak of places in the first medium of a row that has any."""
    return next((module for part in asked_parts(sample) if (module := registry.places(part.type)) is not None), None)


def _of_media(folder: Path, question: Question, on_bad: Callable[[RowError], object]) -> Iterator[Item]:
    kind = known(question.kind)
    if kind.needs_answer:
        raise DataError(
            f"{folder} has no rows; expected {', '.join(f'{name}.jsonl' for name in SPLITS)} for --ask {question.kind}"
        )
    media = Source(folder).media
    if not media:
        raise DataError(
            f"{folder} has no rows, pictures or clips; expected train.jsonl, or media that a modality reads"
        )
    for path, modality in media:
        if kind.needs_media and registry.places(modality) is None:
            continue
        name = path.relative_to(folder).as_posix()
        try:
            yield Item(_id_of(folder, name), _row_of(modality, name))
        except (UnicodeEncodeError, OSError) as error:
            on_bad(RowError(f"{name!r}: {error}; expected a file that can be read, with a name in UTF-8"))


def _id_of(folder: Path, name: str) -> str:
    """The id of a medium: of its name and its bytes. Raises UnicodeEncodeError, OSError."""
    return hashlib.blake2b(name.encode() + b"\0" + (folder / name).read_bytes(), digest_size=8).hexdigest()


def _row_of(modality: str, name: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [{"type": modality, modality: name}]}]}


def changed(listed: Iterable[Item], data: Path, by_content: bool = True) -> set[str]:
    """Ids of items that are media of a folder without rows and are gone, or that have other bytes than when people were asked about them
    (`by_content`, which reads them)."""
    if not data.is_dir() or any((data / f"{split}.jsonl").is_file() for split in SPLITS):
        return set()
    return {item.id for item in listed if _is_changed(item, data, by_content)}


def _is_changed(item: Item, folder: Path, by_content: bool) -> bool:
    try:
        ((part,),) = (message["content"] for message in item.row["messages"])
        name = part[part["type"]]
        came_as_row = item.id == row_id(json.dumps(item.row, ensure_ascii=False).encode())  # as of another program
        if item.row != _row_of(part["type"], name) or came_as_row:
            return False
        return _id_of(folder, name) != item.id if by_content else not (folder / name).is_file()
    except (TypeError, KeyError, ValueError):
        return False  # a row of another shape
    except OSError:
        return True


def sample_of(item: Item, folder: Path, modalities: Mapping[str, Modality]) -> Sample:
    """The row of an item, its media as paths in `folder`. Raises RowError."""
    return parse_row(item.row, folder, modalities, f"item {item.id}", item.id)


def conversation(sample: Sample) -> tuple[tuple[Message, ...], list[tuple[Message, ...]]]:
    """What people see: the conversation without its answer, and the answers that they are asked about, the one that was chosen first."""
    answer = _answer_of(sample)
    if answer is None:
        return sample.messages, []
    before = sample.messages[:-1] if not sample.rejected else sample.messages[: -len(sample.rejected)]
    return before, [(answer,), *([sample.rejected] if sample.rejected else [])]


def folder_of(data: Path) -> Path:
    """The folder that the media of items are named relative to."""
    return data if data.is_dir() else data.parent
