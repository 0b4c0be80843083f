"""Argilla's records as `Dataset.records.to_json` writes them (docs.argilla.io): fields that are shown, responses by question."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from plait.annotate.formats.response import Response, id_of
from plait.contract import WORDS, Part
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
        shown = [Part(_kind(name), value) for name, value in record["fields"].items() if isinstance(value, str)]
        media = [part for part in shown if part.type != WORDS]
        for answer in record["responses"].get(question) or ():
            value, person = answer.get("value"), str(answer.get("user_id"))
            if isinstance(value, list | dict):
                raise DataError(
                    f"question {question!r}: got {value!r:.60}; expected one label, rating or text an answer"
                )
            yield Response(
                tuple(media or shown[:1]), person, value, id_of("argilla", record.get("id"), question, person, value)
            )


def _kind(name: str) -> str:
    return next((kind for kind in MEDIA if name.lower().startswith(kind)), WORDS)
