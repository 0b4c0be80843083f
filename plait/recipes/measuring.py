"""What is measured of a recipe's checkpoint, and whether it is held out from that checkpoint's own training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from plait import recipes
from plait.contract import Modality
from plait.data import store
from plait.data.splits import TRAIN
from plait.errors import DataError
from plait.eval import user_data
from plait.eval.suites import Suite
from plait.recipes.recipe import Recipe
from plait.train import checkpoint
from plait.train.run import bad_rows, fingerprint


def check_rows(folder: Path, recipe: Recipe, skip: frozenset[str]) -> list[str]:
    """Held out means held out from this checkpoint's own training rows. Raises DataError for the rows of another build;
    returns a note for the report where that cannot be told."""
    rows, trained_on = store.file_of(Path(recipe.data), TRAIN), (checkpoint.read_counters(folder) or {}).get("data")
    if rows is None or not trained_on:
        lacking = "the data folder has no train.jsonl" if trained_on else "the checkpoint does not say its rows"
        return [f"not checked that these rows are held out from this checkpoint's training: {lacking}"]
    of_these_rows = fingerprint(recipe, skip)
    if of_these_rows != trained_on:
        raise DataError(
            f"{rows} has sha256 {of_these_rows[:12]} (with what is left out of it); the checkpoint was trained on rows with "
            f"{trained_on[:12]}, so what this folder holds out the model may have seen: evaluate with the data it was "
            "trained on (--data FOLDER)"
        )
    return []


def suite_of(recipe: Recipe, run: Path, known: Mapping[str, Modality]) -> tuple[Suite, frozenset[str]]:
    """What is measured of a recipe's checkpoint: the recipe's own suite, or that of somebody's rows; and the ids of the
    training rows that the run left out."""
    module = recipes.module(recipe.name) if recipe.name in recipes.names() else None
    if module is not None and hasattr(module, "suite"):
        return module.suite(Path(recipe.data), known), bad_rows(run)
    return user_data.suite(recipe, run, known, getattr(module, "TARGETS", {}))
