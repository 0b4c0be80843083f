"""Trains on rows of one's own, by a recipe that is proposed from them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from plait.errors import ConfigError
from plait.recipes import autoconfig
from plait.recipes.overrides import override
from plait.recipes.recipe import Recipe
from plait.runtime import parallel
from plait.runtime.files import atomic_write
from plait.train import checkpoint, distributed
from plait.train import run as runs

PROPOSAL = "proposal.json"


def train(
    folder: Path,
    overrides: Sequence[str],
    run: Path,
    *,
    minutes: float | None,
    say: Callable[[str], Any],
    resume: bool = False,
    **options: Any,
) -> Path:
    """As `plait.api.train_on`."""
    begun = resume and bool(checkpoint.steps_of(run))
    if minutes is not None and (begun or autoconfig.overrides_steps(overrides)):
        options["max_seconds"] = 60 * minutes
    if begun:
        return go_on(folder, overrides, run, **options)
    refuse_several("--data")
    rows = autoconfig.rows_file(folder)
    with runs.taken(run, resume, options.pop("overwrite", False)):
        parallel.use_threads(options.get("threads"))
        known = autoconfig.overridden_modalities(list(overrides))
        bad = runs.check(rows.parent, autoconfig.SPLITS, known, run, options.get("strict", False), say)
        proposal = autoconfig.propose(
            folder, run, known, bad, list(overrides), autoconfig.MINUTES if minutes is None else minutes, say
        )
        return as_proposed(proposal, run, say, **options)


def go_on(folder: Path, overrides: Sequence[str], run: Path, **options: Any) -> Path:
    """Resume the run on rows that lie in `folder`; returns the last checkpoint."""
    recipe = Recipe(**checkpoint.read_config(checkpoint.locate(run))["recipe"])
    recipe = override(recipe.model_copy(update={"data": str(folder)}), list(overrides))
    return runs.train(recipe, run, resume=True, **options)


def refuse_several(what: str) -> None:
    """Raise ConfigError under torchrun: one process looks at the data."""
    if distributed.expected() > 1:
        raise ConfigError(
            f"got {what} under torchrun; expected one process to look at the data: run it without torchrun, stop it, and give "
            f"torchrun the recipe that it proposed, RUN/{PROPOSAL}, with another --out"
        )


def as_proposed(proposal: autoconfig.Proposal, run: Path, say: Callable[[str], Any], **options: Any) -> Path:
    """Say and keep a proposal, train by it in a run folder that the caller holds, and say what it took beside what was foretold; returns the last checkpoint."""
    say(str(proposal))
    atomic_write(run / PROPOSAL, proposal.recipe.model_dump_json(indent=1))
    begin = time.perf_counter()
    saved = runs.train(proposal.recipe, run, is_taken=True, **options)
    if checkpoint.is_done(saved):
        say(proposal.compared(time.perf_counter() - begin, runs.peak_rss_mb()))
    return saved
