"""Argilla's records as `Dataset.records.to_json` writes them (docs.argilla.io): fields that are shown, responses by question."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from plait.annotate.formats.response import Response, id_of
from plait.contract import WORDS, Part
from plait.data.importers.core.media import is_medium, kind_of
from plait.errors import DataError

MEDIA = ("image", "audio")


def fits(raw: Any) -> bool:
    """Whether a JSON file is a list of records with fields and responses."""
    return (
        isinstance(raw, list)
        and bool(raw)
        and all(isinstance(each, dict) and "fields" in each and "responses" in each for each in raw)
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
            if not shown:
                raise DataError(
                    f"record {record.get('id')}: got fields {record['fields']!r:.60}; expected words or media"
                )
            yield Response(shown, person, value, id_of("argilla", record.get("id"), question, person, value))


def _shown(fields: Mapping[str, Any]) -> tuple[Part, ...]:
    """The media of a record: whole, or in a field called after them; else those that its words name; else its first words."""
    given = [(name.lower(), value) for name, value in fields.items() if isinstance(value, str)]
    media = [
        Part(kind, value)
        for name, value in given
        for kind in MEDIA
        if value.startswith(f"data:{kind}") or (name == kind and value)
    ]
    named = [Part(kind, value) for _, value in given if is_medium(value) and (kind := kind_of(PurePath(value)))]
    words = (_words(value) for value in fields.values())
    return tuple(media or named or next((parts for parts in words if parts), ()))


def _words(value: Any) -> list[Part]:
    """The words of a field: a text, or a chat's turns."""
    texts = [turn.get("content") for turn in value if isinstance(turn, dict)] if isinstance(value, list) else [value]
    return [Part(WORDS, text) for text in texts if isinstance(text, str) and text]
