"""Collecting in Python: open a collection, write it as a data set, take a person's items back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from plait.collect import consent, withdrawal
from plait.collect import export as exporting
from plait.collect import prompts as asking
from plait.collect.project import ACCEPTED, OPEN, STORE, Collection, Plan
from plait.collect.purging import Removal
from plait.errors import ConfigError
from plait.recipes.overrides import changed


def folder_of(prompts: Path) -> Path:
    """Where what people give to a file of prompts lies."""
    return prompts.with_name(f"{prompts.name}.collected")


def open_collection(
    prompts: Path, overrides: Sequence[str] = (), terms: Path | None = None, kind: str = "", how: str = ""
) -> Collection:
    """The collection of a file of prompts, begun if there is none yet; `terms` is a file of the text that people agree to, where it is another than
    before, `overrides` change the plan (plait.collect.project.Plan), such as votes=2. Raises ConfigError, DataError."""
    folder = folder_of(prompts)
    before = Collection(folder) if (folder / STORE).is_file() else None
    ways = {(before.prompts[id].type, before.prompts[id].how) for id in before.current_prompts} if before else set()
    if not kind and len(ways) == 1:  # as it was said at the beginning
        ((kind, how),) = ways
        how = how if how in asking.ways_of(kind) else ""
    asked = asking.read(prompts, kind, how)
    earlier = before.plan if before else Plan()
    plan = changed(earlier, overrides)
    text = consent.read(terms, plan.licence).text  # before anything is written
    if terms is None and before is not None and before.terms is not None:
        is_theirs = before.terms.text != consent.read(None, earlier.licence).text
        text = before.terms.text if is_theirs else text
    collection = Collection(folder, asked, plan)
    collection.use_terms(text)
    return collection


def reopened(prompts: Path) -> Collection:
    """A collection that is there, under the text that people agreed to last. Raises ConfigError."""
    if not (folder_of(prompts) / STORE).is_file():
        raise ConfigError(
            f"{folder_of(prompts)} is not there: nothing was collected for {prompts}; expected plait collect {prompts} first"
        )
    return Collection(folder_of(prompts))


def export(prompts: Path, to: Path, purpose: str = consent.TRAIN, unsettled: bool = False) -> dict[str, int]:
    """Write what was accepted as the new data folder `to`; returns rows by split. Raises ConfigError."""
    return exporting.write(reopened(prompts), to, purpose, (ACCEPTED, OPEN) if unsettled else (ACCEPTED,))


def withdraw(prompts: Path, person: str, runs: Path) -> tuple[Removal, list[dict[str, Any]]]:
    """Take back all that a person gave, and clear what could not be cleared before; returns what was removed, and the models below `runs` that
    learned from it."""
    collection = reopened(prompts)
    removal = withdrawal.withdraw(collection, person, also=[runs])
    if removal.is_retry:  # of whomever
        return removal, withdrawal.trained_models(collection, runs)
    return removal, withdrawal.trained_models(collection, runs, removal.items) if removal.items else []


def models(prompts: Path, runs: Path) -> list[dict[str, Any]]:
    """Models below `runs` that learned from anything that was taken back."""
    return withdrawal.trained_models(reopened(prompts), runs)
