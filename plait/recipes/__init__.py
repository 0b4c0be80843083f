"""Recipes, one module each, discovered on disk. `recipe` defines their settings, `overrides` changes them by dotted keys,
`autoconfig` proposes a recipe from data."""

from __future__ import annotations

import importlib
import json
import pkgutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plait.errors import ConfigError

if TYPE_CHECKING:
    from plait.recipes.recipe import Recipe

MACHINERY = {
    "recipe",
    "overrides",
    "autoconfig",
    "ancestry",
    "finetuning",
    "own_data",
    "rewarding",
    "measuring",
    "fast",
    "replies",
}  # modules of this folder that are no recipes


def names() -> tuple[str, ...]:
    """Names of the recipes in the package, in alphabetical order."""
    return tuple(sorted({entry.name for entry in pkgutil.iter_modules(__path__)} - MACHINERY))


def module(name: str) -> Any:
    """The module of the recipe `name`. Raises ConfigError for an unknown name.

    The module defines RECIPE, `build(folder, say)`, and either `suite(folder, modalities)` or TARGETS for the suite of
    plait.eval.user_data.
    """
    if name not in names():
        raise ConfigError(f"unknown recipe {name!r}; expected one of {', '.join(names())}")
    return importlib.import_module(f"{__name__}.{name}")


def load(name: str) -> Recipe:
    """The recipe `name`, or the one in a file NAME.json, such as a run's proposal.json. Raises ConfigError."""
    from pydantic import ValidationError

    from plait.recipes.overrides import problems_of
    from plait.recipes.recipe import Recipe

    if not name.endswith(".json"):
        recipe = module(name).RECIPE
        assert isinstance(recipe, Recipe)
        return recipe
    try:
        return Recipe(**json.loads(Path(name).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        problem = problems_of(error) if isinstance(error, ValidationError) else error
        raise ConfigError(f"{name} is no recipe: {problem}; expected a file such as a run's proposal.json") from error
