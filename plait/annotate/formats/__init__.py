"""What other annotation programs write, and what they read. These files know which media such programs name."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from plait import registry
from plait.annotate.formats import argilla, cvat, label_studio
from plait.annotate.formats.item_index import ItemIndex
from plait.annotate.formats.label_studio import SAID_BY
from plait.annotate.formats.response import Response
from plait.annotate.items import asked_parts, sample_of
from plait.annotate.kinds import Question
from plait.annotate.kinds import known as known_kind
from plait.annotate.project import Project
from plait.annotate.store import IMPORT, Event, Item
from plait.contract import WORDS
from plait.data.importers.core.report import EntryError
from plait.data.rows import row_id
from plait.errors import ConfigError, DataError, PlaitError
from plait.runtime.persons import canonical

LONGEST = 1 << 30  # bytes of a file
MOST_SECONDS = 1e7


def read(path: Path, question: Question) -> Iterator[Response]:
    """What people say in a file of another program, as answers to a question. Raises DataError for a file of none, or for one that is damaged."""
    try:
        yield from _read(path, question)
    except PlaitError:
        raise
    except Exception as error:  # a damaged file may break a reader anywhere
        raise DataError(
            f"{path}: {error!r}; expected a whole export of Label Studio (JSON), Argilla or CVAT"
        ) from error


def _read(path: Path, question: Question) -> Iterator[Response]:
    try:
        if path.stat().st_size > LONGEST:
            raise DataError(f"{path} has {path.stat().st_size} bytes; expected at most {LONGEST}")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: {getattr(error, 'strerror', None) or error}; expected a file of UTF-8") from error
    if cvat.fits(text):
        return cvat.responses(text, question.kind)
    try:
        raw = json.loads(text)
    except ValueError as error:
        raise DataError(
            f"{path} is no JSON ({error}); expected Label Studio's JSON, Argilla's JSON or CVAT's XML"
        ) from error
    if label_studio.fits(raw):
        return label_studio.responses(raw, question.kind)
    if argilla.fits(raw):
        return argilla.responses(raw, question.kind)
    raise DataError(f"{path}: expected Label Studio's JSON (not JSON-MIN), records of Argilla, or CVAT for images 1.1")


def take(project: Project, folder: Path, path: Path) -> tuple[int, int, Counter[str]]:
    """Take in what people say in a file, about items of the project that show the same; words that it does not ask about yet become items.
    Returns how many items and answers are new, and what was passed over, by reason. Raises DataError, ConfigError, StorageError."""
    _check_kind(project.question)
    index = ItemIndex(project.items, folder)
    items: dict[str, Item] = {}
    events, passed = [], Counter[str]()
    for response in read(path, project.question):
        try:
            person = canonical(response.person)
            id = index.id_of(response.shown)
            if id is None:
                item = _of_words(response.shown, project.question)
                items[item.id] = item
                id = index.add(item.id, response.shown)
            value = None if response.value is None else project.question.checked(response.value)
        except (EntryError, ConfigError) as error:
            passed[str(error)] += 1
            continue
        events.append(Event(response.id, IMPORT, id, person, value, _seconds(response.seconds)))
    return (*project.take(list(items.values()), events), passed)


def _seconds(value: Any) -> float | None:
    """Seconds that somebody looked; None for what are none."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value <= MOST_SECONDS else None


def _check_kind(question: Question) -> None:
    """Raise ConfigError for a question about answers, which other programs do not show as we do."""
    if known_kind(question.kind).shows_answer:
        raise ConfigError(
            f"--ask {question.kind} is about answers; expected label, transcribe or box to exchange with other programs"
        )


def _of_words(shown: Any, question: Question) -> Item:
    """A new item of words. Raises EntryError for a medium that nothing asks about, and for words that are not Unicode."""
    if known_kind(question.kind).needs_media or any(part.type != WORDS for part in shown):
        raise EntryError("it is in the folder, but not asked about", "what the items show", f"{shown[0].value:.60}")
    content = [{"type": part.type, part.type: part.value} for part in shown]
    row = {"messages": [{"role": "user", "content": content}]}
    try:
        return Item(row_id(json.dumps(row, ensure_ascii=False).encode()), row)
    except UnicodeEncodeError as error:
        raise EntryError("half of a surrogate pair in its words", "whole Unicode characters") from error


def give(project: Project, folder: Path) -> dict[str, Any]:
    """Tasks, annotations and predictions as Label Studio imports them, and the configuration that asks the question: {"config", "tasks"}.
    Media are named relative to the folder: upload them, or let local storage serve it."""
    _check_kind(project.question)
    modalities = registry.build_all(registry.available())
    tasks, kinds = [], Counter[str]()
    for id, item in project.items.items():
        if project.is_absent(id):
            continue
        parts = asked_parts(sample_of(item, folder, modalities))
        media = [part for part in parts if part.type != WORDS]
        kind = media[0].type if media else WORDS
        kinds[kind] += 1
        shown = (
            Path(media[0].value).relative_to(os.path.abspath(folder)).as_posix()
            if media
            else " ".join(str(part.value) for part in parts)
        )
        control = label_studio.Control("asked", "shown", kind, kind, project.question)
        tasks.append(
            {
                "data": {kind: shown},
                "meta": {"item": id, SAID_BY: list(project.answers_of(id))},  # Label Studio takes e-mails of its users alone
                "annotations": [
                    {
                        "result": label_studio.results(value, control),
                        "lead_time": project.votes[id][person].event.seconds,
                    }
                    for person, value in project.answers_of(id).items()
                ],
                "predictions": [
                    {
                        "model_version": guess.model, "score": None if guess.uncertainty is None else 1 - guess.uncertainty,
                        "result": label_studio.results(guess.value, control),
                    }
                    for guess in project.predictions.get(id, {}).values()
                ],
            }
        )  # fmt: skip
    if len(kinds) > 1:
        raise ConfigError(
            f"got items that show {dict(kinds)}; expected one kind: Label Studio's configuration asks about one"
        )
    return {"config": label_studio.config_of(project.question, next(iter(kinds))), "tasks": tasks}
