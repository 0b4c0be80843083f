"""How far a run is, from what it wrote: its newest checkpoint and its log."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from plait.errors import CheckpointError
from plait.train import checkpoint
from plait.train.progress import LOG, LOSS

POINTS = 8  # of a curve


def status_of(run: Path) -> dict[str, Any]:
    """Step, steps, tokens, minutes, minutes left, and a curve of each loss group: (step, loss), POINTS at most; of a run
    whose stages are not done, of the stage that it is in, and what is `to_come` after it.

    Raises CheckpointError for a folder without a checkpoint.
    """
    plan = run / checkpoint.STAGES / checkpoint.PLAN
    if plan.is_file() and not checkpoint.steps_of(run):
        names = json.loads(plan.read_text(encoding="utf-8"))
        begun = [number for number, name in enumerate(names) if checkpoint.steps_of(run / checkpoint.STAGES / name)]
        if begun:
            stage = status_of(run / checkpoint.STAGES / names[begun[-1]])
            return stage | {"to_come": [*names[begun[-1] + 1 :], stage["name"].partition(".")[0]]}
    folder = checkpoint.locate(run)
    counters = checkpoint.read_counters(folder)
    if counters is None:
        raise CheckpointError(f"{folder} holds no training state, so it is not known how far it was trained")
    recipe = checkpoint.read_config(folder)["recipe"]
    log = run / LOG
    text = log.read_text(encoding="utf-8") if log.is_file() else ""
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    step = max([counters["step"], *(line["step"] for line in lines)])
    seconds = counters["seconds"]
    return {
        "name": recipe["name"],
        "to_come": [],
        "step": step,
        "saved": counters["step"],
        "steps": recipe["steps"],
        "tokens": counters["tokens"],
        "minutes": seconds / 60,
        "minutes_left": seconds / max(1, counters["step"]) * max(0, recipe["steps"] - step) / 60,
        "curves": _curves(lines),
    }


def _curves(lines: list[dict[str, Any]]) -> dict[str, list[tuple[int, float]]]:
    curves: dict[str, list[tuple[int, float]]] = {}
    for line in lines:
        for key, loss in line.items():
            if key.startswith(LOSS):
                curves.setdefault(key.removeprefix(LOSS), []).append((line["step"], loss))
    return {group: _thinned(points) for group, points in curves.items()}


def _thinned(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """At most POINTS of the points: evenly spread, the last among them."""
    if len(points) <= POINTS:
        return points
    return [points[round((number + 1) * len(points) / POINTS) - 1] for number in range(POINTS)]
