"""One file a recipe; a new one is found by being there. `recipe` has their settings, `autoconfig` proposes some from data."""

from __future__ import annotations

import importlib
import json
import pkgutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plait.errors import ConfigError

if TYPE_CHECKING:
    from plait.recipes.recipe import Recipe

MACHINERY = {"recipe", "overrides", "autoconfig"}  # files of this folder that are no recipes


def names() -> tuple[str, ...]:
    """Recipes that come with the package."""
    return tuple(sorted({entry.name for entry in pkgutil.iter_modules(__path__)} - MACHINERY))


def module(name: str) -> Any:
    """The recipe's module. Raises ConfigError.

    It has RECIPE, `build(folder, say)`, and either `suite(folder, known)` or TARGETS for the suite of
    plait.eval.user_data.
    """
    if name not in names():
        raise ConfigError(f"unknown recipe {name!r}; expected one of {', '.join(names())}")
    return importlib.import_module(f"{__name__}.{name}")


def load(name: str) -> Recipe:
    """The recipe `name`, or that of a file NAME.json, such as a run's proposal.json. Raises ConfigError."""
    from plait.recipes.recipe import Recipe

    if not name.endswith(".json"):
        recipe = module(name).RECIPE
        assert isinstance(recipe, Recipe)
        return recipe
    try:
        return Recipe(**json.loads(Path(name).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{name} is no recipe: {error}; expected a file such as a run's proposal.json") from error
