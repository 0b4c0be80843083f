"""Features of what is given, by the frozen encoders that read it: cached by content, in memory and in a folder.

A cache file belongs to one reader and one version of it; features of another version are never found. Training then pays
nothing for the encoder, and sees each medium in a few fixed variants beside itself.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import threading
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from fcntl import LOCK_EX, flock
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from plait.contract import WORDS, Modality, Part
from plait.data.media import Member, with_bytes
from plait.errors import DataError
from plait.modalities import Reader

if TYPE_CHECKING:
    import torch

AT_ONCE = 128  # media that a network reads together
IN_MEMORY = 512  # media whose features are kept where there is no folder
Key = tuple[str, int]  # hash of the content; number of the variant, 0 for the medium as it is


def content_hash(part: Part) -> str:
    """Hash of a medium's bytes, wherever they lie, or of words."""
    value = part.value.read() if isinstance(part.value, Member) else part.value
    if part.type == WORDS:
        value = str(value).encode("utf-8", "surrogatepass")
    if isinstance(value, str | Path):
        value = Path(value).read_bytes()
    digest = hashlib.sha256(part.type.encode())
    if isinstance(value, tuple):
        digest.update(np.ascontiguousarray(value[0]).tobytes() + str(value[1]).encode())
    else:
        digest.update(value if isinstance(value, bytes) else np.asarray(value).tobytes())
    return digest.hexdigest()[:32]


def prepared(modality: Modality, reader: Reader, part: Part, key: Key) -> np.ndarray:
    """The reader's input of a medium, or of its variant with the number in `key`."""
    network_input = reader.prepare(modality, with_bytes(part))
    return (
        reader.vary(network_input, np.random.default_rng([int(key[0][:12], 16), key[1]])) if key[1] else network_input
    )


class Store:
    """Features of one reader in a folder: `NAME.f16`, one after the other, and `NAME.jsonl`, which says how wide they are and where each lies."""

    def __init__(self, folder: Path, reader: Reader) -> None:
        name = f"{reader.name}-{hashlib.sha256(reader.version.encode()).hexdigest()[:12]}"
        folder.mkdir(parents=True, exist_ok=True)
        self.data, self.index, self.width = folder / f"{name}.f16", folder / f"{name}.jsonl", reader.width
        self.places: dict[Key, tuple[int, int]] = {}  # first row and number of rows
        self.array: np.ndarray | None = None
        self.is_width_told = False
        if self.index.is_file():
            self._read()

    def _read(self) -> None:
        """What an earlier process wrote whole; a line or rows cut short by a kill are written anew."""
        available = self.rows
        for line in self.index.read_text(encoding="utf-8").splitlines():
            entry = _entry(line)
            if isinstance(entry, dict):
                self.is_width_told = True
            elif entry is not None and entry[2] + entry[3] <= available:
                content, variant, first, count = entry
                self.places[content, variant] = first, count

    def __contains__(self, key: Key) -> bool:
        return key in self.places

    def get(self, key: Key) -> np.ndarray:
        """[n, width] float16 features."""
        first, count = self.places[key]
        if self.array is None or len(self.array) < first + count:
            self.array = np.memmap(self.data, np.float16, "r", shape=(self.rows, self.width))
        return self.array[first : first + count]

    @property
    def rows(self) -> int:
        """Whole rows in the file."""
        return self.data.stat().st_size // (2 * self.width) if self.data.is_file() else 0

    @property
    def bytes(self) -> int:
        """Size of the features."""
        return 2 * self.width * self.rows

    def add(self, features: Iterable[tuple[Key, np.ndarray]]) -> None:
        """Append features to the files; several processes may, one at a time."""
        with self.data.open("ab") as data, self.index.open("a", encoding="utf-8") as index:
            flock(index, LOCK_EX)
            rows = self.rows
            data.truncate(2 * self.width * rows)  # what a kill cut short
            if not self.is_width_told:
                index.write(json.dumps({"width": self.width}) + "\n")
                self.is_width_told = True
            for key, array in features:
                data.write(np.ascontiguousarray(array, np.float16).tobytes())
                index.write(json.dumps([*key, rows, len(array)]) + "\n")
                self.places[key] = rows, len(array)
                rows += len(array)
            data.flush()  # before the lines that tell of it
        self.array = None


def is_index(path: Path) -> bool:
    """Whether a file tells where features lie that a Store keeps beside it."""
    return path.suffix == ".jsonl" and path.with_suffix(".f16").is_file()


def forget(index: Path, contents: Container[str]) -> int:
    """Overwrite the features of some media, by the hashes of their contents, and take them out of the index; returns how many there were. The files
    and the places of others stay, since trainings may have them open. Raises OSError, DataError for a store that does not say how wide it is."""
    with index.open("r+", encoding="utf-8") as file:
        flock(file, LOCK_EX)
        lines = file.readlines()
        entries = [_entry(line) for line in lines]
        width = next((entry["width"] for entry in entries if isinstance(entry, dict)), 0)
        is_to_go = [isinstance(entry, list) and entry[0] in contents for entry in entries]
        if not any(is_to_go):
            return 0
        if not width:
            raise DataError(
                f"{index} does not say how wide features are; remove it and its .f16, they are computed again"
            )
        with index.with_suffix(".f16").open("r+b") as data:
            for entry in itertools.compress(entries, is_to_go):
                _, _, first, count = entry
                data.seek(2 * width * first)
                data.write(bytes(2 * width * count))
            data.flush()
            os.fsync(data.fileno())
        file.seek(0)
        file.truncate()
        file.writelines(line for line, goes in zip(lines, is_to_go, strict=True) if not goes)
    return sum(is_to_go)


def _entry(line: str) -> Any:
    """What a line of an index says: {"width": ...}, or [content, variant, first row, rows]; None if neither."""
    with suppress(ValueError):
        entry = json.loads(line)
        if isinstance(entry, dict) and isinstance(entry.get("width"), int):
            return entry
        if isinstance(entry, list) and len(entry) == 4 and isinstance(entry[0], str):
            return entry
    return None


class FeatureReader:
    """Features of a part by the reader of its modality: from the store, or computed.

    `variants`: how many varied copies of each medium training draws from.
    """

    def __init__(
        self,
        modalities: Mapping[str, Modality],
        readers: Mapping[str, Reader],
        device: torch.device,
        folder: Path | None = None,
        variants: int = 0,
    ) -> None:
        self.modalities, self.readers, self.device, self.variants = modalities, readers, device, variants
        self.stores: dict[str, Store] = {}
        if folder:
            self.keep_in(folder)
        self.hashes: dict[tuple[str, str | Member, tuple[int, int]], str] = {}
        self.recent: dict[tuple[str, Key], np.ndarray] = {}
        self.networks: dict[str, Callable[[Sequence[np.ndarray]], list[np.ndarray]]] = {}
        self.hits = self.misses = 0
        self.lock = threading.Lock()

    def keep_in(self, folder: Path) -> None:
        """Use the features in a folder, and keep new ones there."""
        self.stores = {name: Store(folder, reader) for name, reader in self.readers.items()}

    def _hash(self, part: Part) -> str:
        if part.type == WORDS or not isinstance(part.value, str | Member):
            return content_hash(part)
        key = (part.type, part.value, _stamp(part.value))
        if key not in self.hashes:
            self.hashes[key] = content_hash(part)
        return self.hashes[key]

    def __call__(self, part: Part, rng: np.random.Generator | None = None) -> np.ndarray:
        """[n, width] float16 features; of a variant, where `rng` is given and there are any. Raises RowError."""
        variant = int(rng.integers(0, self.variants + 1)) if rng is not None and self.variants else 0
        key = self._hash(part), variant
        store = self.stores.get(part.type)
        if store is not None and key in store:
            self.hits += 1
            return store.get(key)
        with self.lock:  # explanations read media beside the engine
            if (part.type, key) in self.recent:
                self.hits += 1
                return self.recent[part.type, key]
            self.misses += 1
            network_input = prepared(self.modalities[part.type], self.readers[part.type], part, key)
            features = self._network(part.type)([network_input])[0]
            if store is not None:
                store.add([(key, features)])
                return features
            self.recent[part.type, key] = features
            while len(self.recent) > IN_MEMORY:
                del self.recent[next(iter(self.recent))]
            return features

    def _network(self, name: str) -> Callable[[Sequence[np.ndarray]], list[np.ndarray]]:
        if name not in self.networks:
            self.networks[name] = self.readers[name].load(self.device)
        return self.networks[name]

    def compute(
        self, parts: Iterable[Part], pool: Executor | None = None, say: Callable[[int], Any] = lambda count: None
    ) -> int:
        """Fill the stores with the features of all `parts` that have a reader, and of their variants; how many were new.

        `pool` prepares inputs. `say` is told how many are done. Raises DataError without a folder.
        """
        if not self.stores:
            raise DataError("features are computed ahead into a folder; got none")
        done = 0
        for name, of_modality in self._missing(parts).items():
            work = partial(_prepared, self.modalities[name], self.readers[name])
            inputs = pool.map(work, of_modality, chunksize=16) if pool else map(work, of_modality)
            pairs = zip(of_modality, inputs, strict=True)
            while some := list(islice(pairs, AT_ONCE)):
                features = self._network(name)([given for _, given in some])
                self.stores[name].add((key, array) for ((_, key), _), array in zip(some, features, strict=True))
                done += len(some)
                say(done)
        return done

    def _missing(self, parts: Iterable[Part]) -> dict[str, list[tuple[Part, Key]]]:
        """Parts and variants without features, by modality."""
        missing: dict[str, dict[Key, Part]] = {}
        for part in parts:
            if part.type not in self.readers:
                continue
            content = self._hash(part)
            for variant in range(self.variants + 1):
                if (content, variant) not in self.stores[part.type]:
                    missing.setdefault(part.type, {})[content, variant] = part
        return {name: [(part, key) for key, part in of.items()] for name, of in missing.items()}


def _stamp(value: str | Member) -> tuple[int, int]:
    """When a file was written last, in nanoseconds, and its size in bytes: who records anew under the same name is heard anew."""
    if isinstance(value, str):
        with suppress(OSError, ValueError):  # no file: reading it tells
            status = Path(value).stat()
            return status.st_mtime_ns, status.st_size
    return 0, 0


def _prepared(modality: Modality, reader: Reader, item: tuple[Part, Key]) -> np.ndarray:
    return prepared(modality, reader, *item)


def given_parts(samples: Iterable[Any]) -> Iterator[Part]:
    """Parts of what is given: of all messages that are not the assistant's."""
    for sample in samples:
        for message in sample.messages:
            if message.role in ("user", "system"):
                yield from message.parts
