"""Rows to be: a conversation with its split, and a medium with its text as two of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath

from plait.contract import Message, Part, Sample

PROMPTS = {  # (modality, task) -> how it is asked about, and ordered
    ("image", "classes"): ("What is this?", "Draw: {text}"),
    ("image", "captions"): ("Describe the picture.", "Draw: {text}"),
    ("audio", "classes"): ("What is this sound?", "Make the sound: {text}"),
    ("audio", "captions"): ("What is heard?", "Make the sound: {text}"),
    ("audio", "speech"): ("What is said?", "Say: {text}"),
}
NAMES_OF_SPLITS = {
    "train": "train", "training": "train", "val": "dev", "valid": "dev", "validation": "dev", "validated": "train",
    "dev": "dev", "test": "test", "testing": "test", "t10k": "test",
}  # fmt: skip


@dataclass(frozen=True)
class Record:
    """One row to be: a conversation, its split where the source gives one, and what must not be torn apart by splits.

    Rows of one `group` (the same picture asked two ways, the same speaker's clip) land in one split. `where` names the
    entry of the source that the row is made of.
    """

    sample: Sample
    split: str = ""
    group: str = ""
    where: str = ""


def both_ways(
    medium: Part, text: str, task: str, split: str = "", group: str = "", where: str = ""
) -> Iterator[Record]:
    """Two rows of a medium and its text: what is it, and make one, in the words that PROMPTS has for the task."""
    question, order = PROMPTS[medium.type, task]
    answer = Message("assistant", (Part("text", text),))
    about = (Message("user", (medium, Part("text", question))), answer)
    make = (Message("user", (Part("text", order.format(text=text)),)), Message("assistant", (medium,)))
    yield Record(Sample(about, f"{medium.type}->text {task}"), split, group, where)
    yield Record(Sample(make, f"text->{medium.type} {task}"), split, group, where)


def split_of(path: PurePath, root: PurePath) -> str:
    """Split that a folder between `root` and `path` is named for, or nothing."""
    folders = path.relative_to(root).parts[:-1] if path.is_relative_to(root) else ()
    return next((NAMES_OF_SPLITS[part.lower()] for part in folders if part.lower() in NAMES_OF_SPLITS), "")


def split_in(name: str) -> str:
    """Split that a word of a file's name says (`instances_val2017`, `t10k-images`), or nothing."""
    words = re.findall(r"[a-z]+(?:10k)?", name.lower())
    return next((NAMES_OF_SPLITS[word] for word in words if word in NAMES_OF_SPLITS), "")
