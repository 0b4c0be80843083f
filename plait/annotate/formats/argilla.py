"""Argilla's records as `Dataset.records.to_json` writes them (docs.argilla.io): fields that are shown, responses by question."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from plait.annotate.formats.response import Response, id_of
from plait.contract import WORDS, Part
from plait.data.importers.core.media import is_medium, kind_of
from plait.errors import DataError

MEDIA = ("image", "audio")
ADDRESS = re.compile(r"https?://\S+", re.IGNORECASE)


def fits(raw: Any) -> bool:
    """Whether a JSON file is a list of records with fields and responses."""
    return (
        isinstance(raw, list)
        and bool(raw)
        and all(isinstance(each, dict) and isinstance(each.get("fields"), dict) and "responses" in each for each in raw)
    )


def responses(records: Sequence[Mapping[str, Any]], kind: str) -> Iterator[Response]:
    """Responses to the first question that has any: one label, number or text each. Raises DataError."""
    question = next((name for record in records for name, answers in record["responses"].items() if answers), None)
    if question is None:
        raise DataError(f"got {len(records)} records without a response; expected some")
    for record in records:
        shown = _shown(record["fields"])
        for answer in record["responses"].get(question) or ():
            value, person = answer.get("value"), str(answer.get("user_id"))
            if isinstance(value, list | dict):
                raise DataError(
                    f"question {question!r}: got {value!r:.60}; expected one label, rating or text an answer"
                )
            yield Response(shown, person, value, id_of("argilla", record.get("id"), question, person, value))


def _shown(fields: Mapping[str, Any]) -> tuple[Part, ...]:
    """The media of a record: whole, by addresses, or in fields called after them; else the file that it names; else its first words."""
    texts = [(name.lower(), value.strip()) for name, value in fields.items() if isinstance(value, str)]
    media = [Part(kind, value) for name, value in texts if (kind := _kind(name, value))]
    named = [Part(kind, value) for _, value in texts if _is_name(value) and (kind := kind_of(PurePath(value)))]
    words = (_words(value) for value in fields.values())
    return tuple(media or named[:1] or next((parts for parts in words if parts), ()))


def _kind(name: str, value: str) -> str | None:
    """The modality of a field that holds a medium, or an address; None of any other."""
    called = next((kind for kind in MEDIA if name.startswith(kind)), None)
    if ADDRESS.fullmatch(value):
        return called or kind_of(PurePath(value.partition("?")[0])) or MEDIA[0]
    whole = next((kind for kind in MEDIA if value.startswith(f"data:{kind}/")), None)
    return whole or (called if value and (called == name or _is_name(value)) else None)


def _is_name(value: str) -> bool:
    return is_medium(value) and not any(character.isspace() for character in value)


def _words(value: Any) -> list[Part]:
    """The words of a field: a text, or a chat's turns."""
    texts = [turn.get("content") for turn in value if isinstance(turn, dict)] if isinstance(value, list) else [value]
    return [Part(WORDS, text) for text in texts if isinstance(text, str) and text.strip()]
