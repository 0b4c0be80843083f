"""Names that columns and keys of lists go by, and lists of the names of classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from plait.errors import DataError

FILES = ("file_name", "file", "filename", "image", "image_path", "image_file", "image_name", "img", "img_path", "audio",
         "audio_path", "audio_file", "audio_filepath", "wav", "wav_path", "wav_filename", "clip", "path", "file_path",
         "filepath")  # fmt: skip
IDS = ("id", "name", "key", "utt_id", "utterance_id")  # files too, without an ending
TEXTS = ("normalized_text", "normalised_text", "normalized_transcription", "text", "caption", "captions", "sentence",
         "transcription", "transcript", "description", "comment", "title")  # fmt: skip
DESCRIBES = ("caption", "captions", "description", "title", "comment")  # what is heard, rather than what is said
LABELS = ("label", "labels", "class", "class_name", "category", "species")
PAIRS = (("question", "answer"), ("instruction", "output"), ("instruction", "response"), ("prompt", "completion"),
         ("prompt", "response"), ("input", "output"))  # fmt: skip
CONTEXTS = ("input", "context")  # what a question is asked about, in words
SPLITS = ("split", "partition", "subset", "set")
CHATS = ("messages", "conversations", "conversation")
OTHERS = ("speaker", "speaker_id", "client_id", "lang", "language", "locale", "duration", "gender", "age", "accent")
KNOWN = frozenset(
    (*FILES, *IDS, *TEXTS, *LABELS, *SPLITS, *CONTEXTS, *OTHERS, *(name for pair in PAIRS for name in pair))
)


def class_names(raw: Any, where: str) -> dict[Any, str]:
    """Names of classes by number (or id), from any of the shapes they come in: a list of names, an object from number to
    name or from name to number, a list of objects with id and name. Raises DataError."""
    if isinstance(raw, Mapping):
        if all(isinstance(value, str) for value in raw.values()):
            return {number(key): value for key, value in raw.items()}
        if all(isinstance(value, int) for value in raw.values()):
            return {value: str(key) for key, value in raw.items()}
        raw = [{"id": number(key), **value} for key, value in raw.items() if isinstance(value, Mapping)] or raw
    if isinstance(raw, Sequence) and not isinstance(raw, str):
        if all(isinstance(entry, str | int) for entry in raw):
            return {index: str(entry) for index, entry in enumerate(raw)}
        if all(isinstance(entry, Mapping) and {"id", "name"} <= set(entry) for entry in raw):
            return {number(entry["id"]): str(entry["name"]) for entry in raw}
    raise DataError(
        f"{where}: got {str(raw)[:80]!r} as the names of the classes; expected a list of names, or an object from numbers "
        "to names"
    )


def number(value: Any) -> Any:
    """An id as a whole number where it is one, in digits or not: lists mix 7 and "7"."""
    if isinstance(value, str) and value.strip().lstrip("-").isdecimal():
        return int(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value
