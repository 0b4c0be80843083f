"""Overrides of a recipe's settings by dotted key: `optim.lr=0.001`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from difflib import get_close_matches
from typing import Any, TypeVar

from pydantic import ValidationError

from plait.errors import ConfigError
from plait.recipes.recipe import Recipe

Plan = TypeVar("Plan")


def parse_value(text: str) -> Any:
    """The decoded value if `text` is JSON, else `text` itself."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def changed(plan: Plan, overrides: Sequence[str]) -> Plan:
    """A copy of a dataclass of whole numbers, truths, texts and tuples of texts (between commas) with overrides `key=value` applied. Raises
    ConfigError, also for what its constructor refuses."""
    kinds = {field.name: type(getattr(plan, field.name)) for field in fields(plan)}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for entry in overrides:
        key, equals, text = entry.partition("=")
        kind = kinds.get(key)
        value = (
            tuple(filter(None, map(str.strip, text.split(","))))
            if kind is tuple
            else text
            if kind is str
            else parse_value(text)
        )
        if not equals or type(value) is not kind:
            expected = ", ".join(f"{name}={'a,b' if each is tuple else each.__name__}" for name, each in kinds.items())
            raise ConfigError(f"got {entry!r}; expected {expected}{did_you_mean(key, kinds)}")
        values[key] = value
    return replace(plan, **values)  # type: ignore[type-var]


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Words that tell which of some names a mistyped one may mean; none where it is one, or like none."""
    known = list(names)
    alike = [] if name in known else get_close_matches(name, known, 1)
    return f"; did you mean {alike[0]}?" if alike else ""


def problems_of(error: ValidationError) -> str:
    """What is wrong with which setting, in one line."""
    return "; ".join(
        f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
        + ("" if problem["type"] == "missing" else f" (got {problem['input']!r})")
        for problem in error.errors()
    )


def override(recipe: Recipe, overrides: Sequence[str]) -> Recipe:
    """A copy of `recipe` with overrides `key=value` applied: dotted keys, values as JSON or plain text.

    Raises ConfigError for an unknown key or an impossible value.
    """
    settings = recipe.model_dump()
    for entry in overrides:
        key, equals, value = entry.partition("=")
        if not equals:
            raise ConfigError(f"override {entry!r}; expected key=value, such as optim.lr=0.001")
        node = settings
        *path, last = key.split(".")
        for step in path:
            if node is not settings:
                node.setdefault(step, {})  # a task that had no settings of its own, such as augment.read.share
            if not isinstance(node.get(step), dict):
                raise ConfigError(
                    f"override {entry!r}: there is no {step!r}; expected one of {', '.join(sorted(node))}{did_you_mean(step, node)}"
                )
            node = node[step]
        node[last] = parse_value(value)
    try:
        return Recipe(**settings)
    except ValidationError as error:
        raise ConfigError(
            f"recipe {recipe.name!r}: {problems_of(error)}; expected the fields of plait.recipes.recipe.Recipe{_meant(error, recipe)}"
        ) from error


def _meant(error: ValidationError, recipe: Recipe) -> str:
    """Which field the first setting that is none may mean."""
    for problem in error.errors():
        if problem["type"] == "extra_forbidden":
            *path, last = problem["loc"]
            node: Any = recipe.model_dump()
            for step in path:
                node = node.get(step) if isinstance(node, dict) else None
            return did_you_mean(str(last), node if isinstance(node, dict) else ())
    return ""
