"""Discovery of modalities: every folder under `plait/modalities` whose module defines `MODALITY`. Nothing lists them.

What a modality may offer beside its codec is found in the files of its folder (`plait.modalities`), and so are the
transformations of samples in the modules of `plait.tasks`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plait import modalities
from plait.contract import Modality, Part
from plait.errors import ConfigError, MissingError
from plait.modalities import (
    PROVENANCE,
    Augments,
    Checks,
    Cuts,
    Fetching,
    Finds,
    Judged,
    Marks,
    Measures,
    Places,
    Portable,
    Provenance,
    Reader,
    Regions,
    Renders,
    Streams,
    Suggests,
    Telling,
    Transfers,
    Voices,
    Weights,
)  # fmt: skip

if TYPE_CHECKING:
    import torch
    from torch import nn

TASKS = "plait.tasks"


@cache
def available() -> tuple[str, ...]:
    """Names of the modalities on disk, in alphabetical order; imports none of them."""
    return tuple(sorted(entry.name for entry in pkgutil.iter_modules(modalities.__path__) if entry.ispkg))


def _import(name: str, modality: str) -> Any:
    """A module of a modality's folder. Raises MissingError."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise MissingError(
            f"modality {modality!r} needs the package {error.name!r}, which is not installed; "
            f"install it with: python -m pip install {error.name}"
        ) from error


def build(name: str, settings: Mapping[str, Any] | None = None) -> Modality:
    """Make the modality `name` with keyword `settings`.

    Raises ConfigError for an unknown name or setting, MissingError when a package it needs is not installed.
    """
    if name not in available():
        raise ConfigError(f"unknown modality {name!r}; expected one of {', '.join(available())}")
    module = _import(f"{modalities.__name__}.{name}", name)
    try:
        modality: Modality = module.MODALITY(**(settings or {}))
    except TypeError as error:
        raise ConfigError(f"modality {name!r} got settings {dict(settings or {})}: {error}") from error
    return modality


def build_all(settings: Mapping[str, Mapping[str, Any]] | Iterable[str]) -> dict[str, Modality]:
    """Make several modalities, by name; order is alphabetical so that it never depends on the caller."""
    table = settings if isinstance(settings, Mapping) else {name: {} for name in settings}
    return {name: build(name, table[name]) for name in sorted(table)}


@cache
def _optional(name: str, file: str) -> Any:
    """The module `file` of a modality's folder, or None where it is not there."""
    if name not in available():
        return None
    folder = f"{modalities.__name__}.{name}"
    there = {entry.name for entry in pkgutil.iter_modules(_import(folder, name).__path__)}
    return _import(f"{folder}.{file}", name) if file in there else None


def augments(name: str) -> Augments | None:
    """How training varies the modality `name`, if it does."""
    module: Augments | None = _optional(name, "augment")
    return module


def suggests(name: str) -> Suggests | None:
    """How settings of the modality `name` follow from data, if they do."""
    module: Suggests | None = _optional(name, "suggest")
    return module


def measures(name: str) -> Measures | None:
    """How parts of the modality `name` are measured, if they are."""
    module: Measures | None = _optional(name, "measure")
    return module


def judged(name: str) -> Judged | None:
    """How a judge looks at parts of the modality `name`, if one can."""
    module: Judged | None = _optional(name, "judge")
    return module


def renders(name: str) -> Renders | None:
    """How people meet parts of the modality `name`, if it says so."""
    module: Renders | None = _optional(name, "render")
    return module


def weights(name: str) -> Weights | None:
    """The trained parts of the codec of the modality `name`, if its folder has any."""
    module: Weights | None = _optional(name, "weights")
    return module


def streams(name: str) -> Streams | None:
    """How parts of the modality `name` are made piece by piece, if they are."""
    module: Streams | None = _optional(name, "stream")
    return module


def cuts(name: str) -> Cuts | None:
    """How long parts of the modality `name` are cut into pieces, if they are."""
    module: Cuts | None = _optional(name, "cut")
    return module


def transfers(name: str) -> Transfers | None:
    """How parts of the modality `name` are sent as bytes, if they are."""
    module: Transfers | None = _optional(name, "transfer")
    return module


def tells(modality: Modality) -> bool:
    """Whether headers of a modality tell what their blocks hold, and a request may say what (`Telling`)."""
    return isinstance(modality, Telling) and modality.tells


def longest(modality: Modality) -> int:
    """Tokens of the longest segment of a modality whose headers may tell."""
    assert isinstance(modality, Telling)
    return modality.longest


def bare(modality: Modality, header: Sequence[str]) -> tuple[str, ...]:
    """As `Telling.bare`; the header itself where the modality's headers tell nothing."""
    return tuple(modality.bare(header) if isinstance(modality, Telling) else header)


def codec_parts(modality: Modality) -> nn.Module | None:
    """New trained parts of a modality's codec; None where its settings want none."""
    module = weights(modality.name)
    return module.parts(modality) if module is not None else None


def networks(reader: Reader) -> Mapping[str, tuple[nn.Module, torch.Tensor]]:
    """The networks of a reader that run elsewhere, too, by name, each with an example of what it takes."""
    return reader.networks() if isinstance(reader, Portable) else {}


def reader_of(modality: Modality) -> Reader | None:
    """The frozen encoder that reads what is given of a modality, if it is set up with one.

    Raises ConfigError for a reader that its folder does not have.
    """
    name = getattr(modality, "reader", "")
    if not name:
        return None
    module = _optional(modality.name, "readers")
    reader: Reader | None = module.find(name) if module is not None else None
    if reader is None:
        known = ", ".join(module.READERS) if module is not None else "none"
        raise ConfigError(
            f"modality {modality.name!r}: got reader {name!r}; expected one of {known}, one that plait import took from a "
            "folder, or '' for none"
        )
    return reader


def finds(modality: Modality) -> Finds | None:
    """What a finder looks at in parts of a modality that is set up with one. Raises ConfigError where its folder has none."""
    if not getattr(modality, "finder", False):
        return None
    module: Finds | None = _optional(modality.name, "finder")
    if module is None:
        raise ConfigError(
            f"modality {modality.name!r}: got finder=true; expected false: nothing is looked for in its parts"
        )
    return module


def take_encoder(source: Path, config: Mapping[str, Any], as_reader: bool = False) -> tuple[str, Path] | None:
    """Take the folder of a frozen encoder with this configuration of transformers into the folder of sources; returns the
    modality that it reads and its folder there, named as recipes name the reader. None for a model that is no encoder, or that
    also writes, unless it is taken `as_reader`. Raises CheckpointError."""
    modules = {name: module for name in available() if (module := _optional(name, "readers")) is not None}
    fitting = next(((name, module) for name, module in modules.items() if module.accepts(config)), None)
    if fitting is not None and not as_reader and getattr(fitting[1], "writes", lambda config: False)(config):
        return None
    return None if fitting is None else (fitting[0], fitting[1].take(source))


def kind_of(value: Any) -> str | None:
    """The modality that a Python value is meant to be a part of: the one that accepts it."""
    for name in available():
        module = renders(name)
        if module is not None and module.accepts(value):
            return name
    return None


def as_part(value: Any) -> Part:
    """A Part as it is; else a part of the modality that takes such a value: a string, a PIL picture, (samples, rate)...
    Raises ConfigError."""
    if isinstance(value, Part):
        return value
    if kind := kind_of(value):
        return Part(kind, value)
    raise ConfigError(f"got a {type(value).__name__} as input; expected str, PIL image, (samples, rate) or plait.Part")


def kind_of_file(suffix: str) -> str | None:
    """The modality that reads files with a suffix such as `.png`, in whatever case."""
    return next((name for name in available() if suffix.lower() in suffixes(name)), None)


def suffixes(name: str) -> Sequence[str]:
    """Suffixes of the files that the modality `name` reads."""
    module = renders(name)
    return module.reads_files() if module is not None else ()


def transform(name: str) -> Callable[..., Any]:
    """The transformation of samples MODULE.NAME: the entry NAME of TRANSFORMS in a module of `plait.tasks`.

    Raises ConfigError for an unknown one.
    """
    module_name, _, entry = name.rpartition(".")
    known = {module.name for module in pkgutil.iter_modules(importlib.import_module(TASKS).__path__)}
    if module_name in known:
        table: Mapping[str, Callable[..., Any]] = getattr(
            importlib.import_module(f"{TASKS}.{module_name}"), "TRANSFORMS", {}
        )
        if entry in table:
            return table[entry]
    raise ConfigError(f"unknown transform {name!r}; expected MODULE.NAME of {TASKS}, such as boxes.move")


def marks(name: str) -> Marks | None:
    """How parts of the modality `name` that a model made are marked, if they are."""
    module: Marks | None = _optional(name, "mark")
    return module


def provenance(part: Part) -> Provenance:
    """Where a part came from, by what its file said and by its modality's mark. Raises RowError for a damaged part."""
    module, declared = marks(part.type), str(part.options.get(PROVENANCE, ""))
    return Provenance(declared) if module is None else Provenance(declared, *module.evidence(part))


def voices(name: str) -> Voices | None:
    """How parts of the modality `name` tell persons apart, if they do."""
    module: Voices | None = _optional(name, "voices")
    return module


def places(name: str) -> Places | None:
    """How texts speak of places in parts of the modality `name`, if they do."""
    module: Places | None = _optional(name, "boxes")
    return module


def checks(name: str) -> Checks | None:
    """What tells whether a part of the modality `name` that a person made will do, if anything does."""
    module: Checks | None = _optional(name, "quality")
    return module


def regions(name: str) -> Regions | None:
    """Where parts of the modality `name` can be pointed at, if they can."""
    module: Regions | None = _optional(name, "regions")
    return module


def needed_files(modality: Modality, sources: Path) -> dict[str, bytes]:
    """As `Fetching.files` of a modality and its reader, those that need files."""
    needing = (reader_of(modality), modality)
    return {name: data for each in needing if isinstance(each, Fetching) for name, data in each.files(sources).items()}


def ordered(modality: Modality, names: Sequence[str]) -> bool:
    """As `Telling.ordered`; False where the modality's headers tell nothing."""
    return isinstance(modality, Telling) and modality.ordered(names)
