"""Explanations as files: what `plait explain` writes."""

from __future__ import annotations

import json
from collections.abc import Sequence

from plait.errors import ConfigError
from plait.explain.explanation import DEFAULT, Explanation
from plait.explain.methods import METHODS
from plait.explain.page import page

__all__ = ["as_json", "methods", "page"]
ALL = "all"


def methods(asked: Sequence[str]) -> list[str]:
    """Names of methods: the default if none is asked for, every one for `all`. Raises ConfigError for an unknown one."""
    names = list(METHODS) if ALL in asked else list(dict.fromkeys(asked)) or [DEFAULT]
    if unknown := [name for name in names if name not in METHODS]:
        raise ConfigError(f"got the method {unknown[0]!r}; expected one of {', '.join(METHODS)}, or {ALL}")
    return names


def as_json(explanations: Sequence[Explanation]) -> str:
    """All numbers, one entry a method."""
    return json.dumps([one.as_dict() for one in explanations], ensure_ascii=False, indent=1) + "\n"
