"""Studies: questions about the model, answered by training several and measuring them alike.

`mixing`: does one model of everything pay, and do two senses beat one?  `data`: what do fewer rows and wrong labels cost?
`arms` trains and measures, `figures` draws. A module of a study has `run(settings)`, `in_words(found)` and `curves(found)`.
"""

from __future__ import annotations

import importlib
from typing import Any

from plait.errors import ConfigError

NAMES = ("data", "mixing")


def module(name: str) -> Any:
    """The module of a study. Raises ConfigError for an unknown name."""
    if name not in NAMES:
        raise ConfigError(f"unknown study {name!r}; expected one of {', '.join(NAMES)}")
    return importlib.import_module(f"{__name__}.{name}")
