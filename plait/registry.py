"""Discovery of modalities: every folder under `plait/modalities` whose module defines `MODALITY`. Nothing lists them."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from plait import modalities
from plait.contract import Modality
from plait.errors import ConfigError, MissingError


@cache
def available() -> tuple[str, ...]:
    """Names of the modalities on disk, in alphabetical order; imports none of them."""
    return tuple(sorted(found.name for found in pkgutil.iter_modules(modalities.__path__) if found.ispkg))


def build(name: str, settings: Mapping[str, Any] | None = None) -> Modality:
    """Make the modality `name` with keyword `settings`.

    Raises ConfigError for an unknown name or setting, MissingError when a package it needs is not installed.
    """
    if name not in available():
        raise ConfigError(f"unknown modality {name!r}; expected one of {', '.join(available())}")
    try:
        module = importlib.import_module(f"{modalities.__name__}.{name}")
    except ModuleNotFoundError as error:
        raise MissingError(
            f"modality {name!r} needs the package {error.name!r}, which is not installed; "
            f"install it with: python -m pip install {error.name}"
        ) from error
    try:
        made: Modality = module.MODALITY(**(settings or {}))
    except TypeError as error:
        raise ConfigError(f"modality {name!r} got settings {dict(settings or {})}: {error}") from error
    return made


def build_all(settings: Mapping[str, Mapping[str, Any]] | Iterable[str]) -> dict[str, Modality]:
    """Make several modalities, by name; order is alphabetical so that it never depends on the caller."""
    table = settings if isinstance(settings, Mapping) else {name: {} for name in settings}
    return {name: build(name, table[name]) for name in sorted(table)}
