"""Sources of data: one module each, discovered in this folder.

A source module has `SOURCE` (its packages, licence and attribution) and `entries(folder)`, which reads what was unpacked into
`folder/PACKAGE/`. Modules without `SOURCE` are helpers.
"""

from __future__ import annotations

import importlib
import pkgutil
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
    """The origin of data.

    `public` is the address where the same data are found on the internet; `size` is its unpacked size in MB. `share_alike`:
    weights trained on it, or on a part of it, may be shipped only under its own licence; model cards say so.
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

    `kind` is its type (`drawing`, `speech`, `pair`, `exchange`...). `key` is what splits keep together: the same words, drawn and
    spoken by anyone. `media` maps a name (`picture`, `speech`, `sound`) to a medium, `texts` a language (BCP 47) to the thing's
    name or words in it. `facts` is the rest: `style`, `speaker`, `category`, `boxes`... `split` is the source's own, if any.
    """

    kind: str
    key: str
    media: Mapping[str, Medium] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    split: str = ""


@dataclass(frozen=True)
class Asset:
    """A collected Entry: its media are files, each with a signature (plait.data.corpus.duplicates)."""

    source: str
    kind: str
    key: str
    media: Mapping[str, str] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    split: str = ""
    signatures: Mapping[str, str] = field(default_factory=dict)

    def part(self, medium: str) -> Part:
        """A medium as a part: `picture` is an image, everything else sound."""
        return Part("image" if medium == "picture" else "audio", self.media[medium])


def left_out(reason: str, what: str) -> Entry:
    """An entry that is not taken, to be counted by its reason."""
    return Entry(LEFT_OUT, reason, facts={"what": what})


def clean(text: str) -> str:
    """A text in NFC, without blanks at its ends, with single blanks within."""
    return " ".join(unicodedata.normalize("NFC", text).split())


class SourceModule(Protocol):
    """The interface of a source module."""

    SOURCE: Source

    def entries(self, folder: Path) -> Iterator[Entry]:
        """The entries of the unpacked packages in `folder`, in a fixed order. Raises DataError for damaged data."""


def _modules() -> dict[str, Any]:
    modules = {
        entry.name: importlib.import_module(f"{__name__}.{entry.name}") for entry in pkgutil.iter_modules(__path__)
    }
    return {name: module for name, module in sorted(modules.items()) if hasattr(module, "SOURCE")}


def names() -> tuple[str, ...]:
    """Names of all sources."""
    return tuple(_modules())


def module(name: str) -> SourceModule:
    """The source `name`. Raises ConfigError."""
    modules = _modules()
    if name not in modules:
        raise ConfigError(f"unknown source {name!r}; expected one of {', '.join(modules)}")
    source: SourceModule = modules[name]
    return source
