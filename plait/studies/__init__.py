"""Studies: questions about the model, answered by training several and measuring them alike.

`mixing`: does one model of everything pay, and do two senses beat one?  `data`: what do fewer rows and wrong labels cost?
`arms` trains and measures, `figures` draws. A module of a study has `run(settings)`, `in_words(found)` and `curves(found)`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from plait.errors import ConfigError, MissingError

NAMES = ("data", "mixing")


def module(name: str) -> Any:
    """The module of a study. Raises ConfigError for an unknown name."""
    if name not in NAMES:
        raise ConfigError(f"unknown study {name!r}; expected one of {', '.join(NAMES)}")
    return importlib.import_module(f"{__name__}.{name}")


def answer(
    name: str, out: Path, *, data: Path, steps: int = 1500, seeds: int = 3, limit: int = 200,
    threads: int | None = None, say: Callable[[str], Any] = print,
) -> str:  # fmt: skip
    """Answer a question about the model by training several and measuring them alike. Writes NAME.json, NAME.md and NAME.svg to
    the folder `out` and keeps the runs there; returns the words.

    Raises ConfigError for an unknown study; without matplotlib the figure is left out and that is said.
    """
    from plait import recipes
    from plait.eval.runner import write_json
    from plait.runtime.files import atomic_write
    from plait.studies import figures
    from plait.studies.arms import Settings

    study = module(name)
    recipes.module("digits").build(data, say)
    results = study.run(Settings(out, data, steps, seeds, limit, threads, say))
    write_json(out / f"{name}.json", results)
    words: str = study.in_words(results)
    atomic_write(out / f"{name}.md", words + "\n")
    try:
        figures.draw(study.curves(results), out / f"{name}.svg")
    except MissingError as error:
        say(str(error))
    return words
