"""Other people's formats to rows. One file an importer; a new one is found by being there.

An importer module has `HELP` (one line: what it reads), `matches(source)` (whether this looks like its format) and
`records(source)`, which yields what it finds. Media may be files, Blobs, pictures or samples; `write` gives each a name
by its content, copies it beside the rows, and splits by content where the source gives no splits.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import pkgutil
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Protocol

from plait.contract import Message, Part, Sample
from plait.data.media import to_blob
from plait.data.rows import dump_row
from plait.errors import ConfigError, DataError, PlaitError
from plait.runtime.files import atomic_write

WORDS = {  # (modality, task) -> how it is asked about, and ordered
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
HELD_OUT = {"test": 0.1, "dev": 0.05}  # shares of the groups, where the source gives no splits
SUFFIXES = {"image": (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff"),
            "audio": (".wav", ".flac", ".ogg", ".mp3", ".opus")}  # fmt: skip


@dataclass(frozen=True)
class Record:
    """One row to be: a conversation, its split where the source gives one, and what must not be torn apart by splits.

    Rows of one `group` (the same picture asked two ways, the same speaker's clip) land in one split.
    """

    sample: Sample
    split: str = ""
    group: str = ""


class Importer(Protocol):
    """What a module of this package provides."""

    HELP: str

    def matches(self, source: Path) -> bool: ...

    def records(self, source: Path) -> Iterator[Record | None]:
        """What the source holds; None for an entry that has nothing to learn from, which is counted and said."""


def names() -> tuple[str, ...]:
    """Importers that are there."""
    return tuple(sorted(found.name for found in pkgutil.iter_modules(__path__)))


def importer(name: str) -> Importer:
    """The importer `name`. Raises ConfigError."""
    if name not in names():
        raise ConfigError(f"unknown format {name!r}; expected one of {', '.join(names())}")
    module: Any = importlib.import_module(f"{__name__}.{name}")
    return module  # type: ignore[no-any-return]


def detect(source: Path) -> str:
    """The one format that `source` looks like. Raises DataError when there is none, or more than one."""
    if not source.exists():
        raise DataError(f"{source} is not there; expected a file or folder to import")
    try:
        found = [name for name in names() if importer(name).matches(source)]
    except UnicodeDecodeError as error:
        raise DataError(
            f"{source} holds a list that is not UTF-8 ({error}); expected UTF-8: save it so, or name it with --format"
        ) from error
    if len(found) == 1:
        return found[0]
    looks = f"looks like {' and '.join(found)}" if found else "looks like none of the known formats"
    raise DataError(f"{source} {looks}; expected one: name it with --format ({', '.join(names())})")


def told_both_ways(medium: Part, text: str, task: str, split: str = "", group: str = "") -> Iterator[Record]:
    """A medium with its text as two rows: what is it, and make one, in the words that WORDS has for the task."""
    ask, order = WORDS[medium.type, task]
    asked = Message("user", (medium, Part("text", ask)))
    ordered = Message("user", (Part("text", order.format(text=text)),))
    told = Part("text", text)
    yield Record(Sample((asked, Message("assistant", (told,))), f"{medium.type}->text {task}"), split, group)
    yield Record(Sample((ordered, Message("assistant", (medium,))), f"text->{medium.type} {task}"), split, group)


def kind_of(path: Path) -> str | None:
    """Modality of a media file by its suffix."""
    return next((kind for kind, suffixes in SUFFIXES.items() if path.suffix.lower() in suffixes), None)


def split_of(path: Path, root: Path) -> str:
    """Split that a folder between `root` and `path` is named for, or nothing."""
    folders = path.relative_to(root).parts[:-1]
    return next((NAMES_OF_SPLITS[part.lower()] for part in folders if part.lower() in NAMES_OF_SPLITS), "")


def split_in(name: str) -> str:
    """Split that a word of a file's name says (`instances_val2017`, `t10k-images`), or nothing."""
    words = re.findall(r"[a-z]+(?:10k)?", name.lower())
    return next((NAMES_OF_SPLITS[word] for word in words if word in NAMES_OF_SPLITS), "")


class Writer:
    """Rows and media of a new data folder. Use as a context; nothing is a data folder before all is written."""

    def __init__(self, folder: Path) -> None:
        if folder.exists() and any(folder.iterdir()):
            raise ConfigError(
                f"{folder} is not empty; expected a new folder for the imported rows: choose another --to"
            )
        self.folder = folder
        self.counts: Counter[str] = Counter()
        self._files: dict[str, IO[str]] = {}

    def __enter__(self) -> Writer:
        (self.folder / "media").mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            file.close()

    def add(self, record: Record) -> None:
        """Write one row, its media first."""
        messages = tuple(
            replace(message, parts=tuple(map(self._stored, message.parts))) for message in record.sample.messages
        )
        sample = replace(record.sample, messages=messages)
        group = record.group or next((str(p.value) for m in messages for p in m.parts if p.type != "text"), "")
        split = record.split or (by_content(group) if group else "train")  # words are split by whoever trains on them
        if split not in self._files:
            self._files[split] = (self.folder / f"{split}.jsonl.partial").open("w", encoding="utf-8")
        self._files[split].write(dump_row(sample) + "\n")
        self.counts[split] += 1

    def finish(self) -> dict[str, int]:
        """Give the files their names; returns rows by split."""
        for split, file in self._files.items():
            file.close()
            Path(file.name).rename(self.folder / f"{split}.jsonl")
        return dict(self.counts)

    def _stored(self, part: Part) -> Part:
        """The part with its medium in `media/`, named by content; text as it is."""
        if part.type == "text":
            return part
        blob = to_blob(part.value)
        name = f"media/{hashlib.sha256(blob.data).hexdigest()[:24]}{blob.suffix}"
        place = self.folder / name
        if not place.is_file():
            place.write_bytes(blob.data)
        return replace(part, value=name)


def by_content(group: str) -> str:
    """A split for a group, by its hash: the same group always lands in the same one."""
    share = int.from_bytes(hashlib.blake2b(group.encode("utf-8", "replace"), digest_size=8).digest(), "little") / 2**64
    end = 0.0
    for split, width in HELD_OUT.items():
        end += width
        if share < end:
            return split
    return "train"


def run(source: Path, folder: Path, form: str | None = None, say: Callable[[str], None] = print) -> dict[str, int]:
    """Import `source` into the new `folder`; returns rows by split. Raises ConfigError, DataError."""
    name = form or detect(source)
    Writer(folder)  # refuses a folder that is in use, before anything in it is ours to take back
    say(f"reading {source} as {name}: {importer(name).HELP}")
    try:
        with Writer(folder) as writer:
            nothing = 0
            for record in importer(name).records(source):
                if record is None:
                    nothing += 1
                else:
                    writer.add(record)
            counts = writer.finish()
    except PlaitError:
        _discard(folder)
        raise
    except Exception as error:  # a reader may raise anything for a damaged source
        _discard(folder)
        raise DataError(
            f"{source} as {name}: {error!r}; expected {importer(name).HELP}: is the source whole?"
        ) from error
    except BaseException:
        _discard(folder)
        raise
    if nothing:
        say(f"{nothing} entries passed over: no medium or no text")
    if not counts.get("train"):
        _discard(folder)
        raise DataError(f"{source} as {name} gave no training rows; expected some: is it the format that you mean?")
    facts = {"format": 1, "imported": {"from": str(source), "as": name}, "rows": counts}
    atomic_write(folder / "import.json", json.dumps(facts, indent=1))
    return counts


def _discard(folder: Path) -> None:
    """Remove what this import wrote, so that no half of a data set is taken for a whole one."""
    shutil.rmtree(folder / "media", ignore_errors=True)
    for path in folder.glob("*.jsonl*"):
        path.unlink()


def lines_of(path: Path) -> Iterable[tuple[int, str]]:
    """Numbered lines of a text file that are not blank."""
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, line
