"""Sources of data: one file each, found by being there.

A source module has `SOURCE`, which says what it is, how a package manager brings it and under which licence, and
`entries(folder)`, which reads what was unpacked into `folder/PACKAGE/`. Modules without `SOURCE` are helpers.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from plait.contract import Part
from plait.data.sources.fetch import Package
from plait.errors import ConfigError

LEFT_OUT = "left out"  # the kind of an Entry that says why something is not taken
Medium = Path | bytes | Image.Image | tuple[np.ndarray, int]  # a file, a file's bytes, a picture, (samples, rate)


@dataclass(frozen=True)
class Source:
    """Where data is from. `share_alike`: weights trained on it, or on a part of it, may be shipped only under its own
    licence; model cards say so.

    `public` is the address where a person with the internet finds the same; `size` is what it takes unpacked, in MB.
    """

    name: str
    what: str
    packages: tuple[Package, ...]
    licence: str
    attribution: str
    public: str
    size: int
    share_alike: bool = False


@dataclass(frozen=True)
class Entry:
    """One thing of a source.

    `kind` says what it is (`drawing`, `speech`, `pair`, `exchange`...). `key` is what splits must keep together: the same
    words, drawn and spoken by anyone. `media` maps a name (`picture`, `speech`, `sound`) to a medium, `texts` a language
    (BCP 47) to what the thing is called or says in it. `facts` is the rest: `style`, `speaker`, `category`, `boxes`...
    `split` is the source's own, where it has one.
    """

    kind: str
    key: str
    media: Mapping[str, Medium] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    split: str = ""


@dataclass(frozen=True)
class Asset:
    """An Entry that was collected: its media are files, with a signature each (plait.data.corpus.duplicates)."""

    source: str
    kind: str
    key: str
    media: Mapping[str, str] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    split: str = ""
    signatures: Mapping[str, str] = field(default_factory=dict)

    def part(self, medium: str) -> Part:
        """A medium as a part; `picture` is an image, all else is sound."""
        return Part("image" if medium == "picture" else "audio", self.media[medium])


def left_out(reason: str, what: str) -> Entry:
    """A thing that is not taken, to be counted by its reason."""
    return Entry(LEFT_OUT, reason, facts={"what": what})


def plain_words(words: str) -> str:
    """Words as they are compared: compatibility form, no case, no punctuation, single blanks."""
    folded = unicodedata.normalize("NFKC", words).casefold()
    letters = "".join(" " if unicodedata.category(letter)[0] in "PSZ" else letter for letter in folded)
    return re.sub(r"\s+", " ", letters).strip()


def clean(text: str) -> str:
    """NFC, without blanks at the ends, single ones within."""
    return " ".join(unicodedata.normalize("NFC", text).split())


class SourceModule(Protocol):
    """What a module of this package that is a source provides."""

    SOURCE: Source

    def entries(self, folder: Path) -> Iterator[Entry]:
        """What the unpacked packages in `folder` hold, always in the same order. Raises DataError for what is damaged."""


def _modules() -> dict[str, Any]:
    found = {one.name: importlib.import_module(f"{__name__}.{one.name}") for one in pkgutil.iter_modules(__path__)}
    return {name: module for name, module in sorted(found.items()) if hasattr(module, "SOURCE")}


def names() -> tuple[str, ...]:
    """Sources that are there."""
    return tuple(_modules())


def module(name: str) -> SourceModule:
    """The source `name`. Raises ConfigError."""
    found = _modules()
    if name not in found:
        raise ConfigError(f"unknown source {name!r}; expected one of {', '.join(found)}")
    made: SourceModule = found[name]
    return made
