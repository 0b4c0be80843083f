"""Arms of a study: one training each, at a share of the budget, measured on held-out rows. What is done is not done again."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from plait.errors import ConfigError, PlaitError
from plait.runtime.files import atomic_write

if TYPE_CHECKING:
    from plait.contract import Sample
    from plait.recipes.recipe import Recipe

RESULT = "measured-{}.json"  # on so many rows a task
DIGITS = 8  # of a hash
ROWS_TO_MEASURE = 400  # of a task, for the mean length of its rows
Say = Callable[[str], Any]


@dataclass(frozen=True)
class Settings:
    """What the studies share. `folder` keeps runs and results; `data` is the built data of the digits."""

    folder: Path
    data: Path
    steps: int = 1500
    seeds: int = 3
    limit: int = 200  # held-out rows a task
    threads: int | None = None
    say: Say = print


@dataclass(frozen=True)
class Arm:
    """One training: the tasks it learns, and its steps. `data` is its folder of rows."""

    name: str
    data: Path
    tasks: tuple[str, ...]
    steps: int
    seed: int
    changes: tuple[str, ...] = field(default=())

    def recipe(self) -> Recipe:
        """The recipe of the digits for the tasks of this arm alone."""
        from plait import recipes
        from plait.data import store
        from plait.data.splits import TRAIN
        from plait.recipes.overrides import override
        from plait.registry import build_all

        usual = recipes.load("digits")
        rows = store.open_rows(self.data, TRAIN, build_all(usual.modalities))
        there = rows if isinstance(rows, Mapping) else {sample.task for sample in rows}
        if unknown := set(self.tasks) - set(there):
            raise ConfigError(
                f"{self.data} has no rows of {sorted(unknown)}; expected a build of: plait data build digits"
            )
        weights = {task: usual.weights.get(task, 1.0) if task in self.tasks else 0.0 for task in sorted(there)}
        settings = usual.model_copy(update={"data": str(self.data), "weights": weights, "seed": self.seed})
        warmup = max(1, round(usual.optim.warmup * self.steps / usual.steps))  # as large a part of every arm's steps
        changes = [f"steps={self.steps}", f"save_every={max(100, self.steps)}", f"optim.warmup={warmup}"]
        return override(settings, [*changes, *self.changes])


Measure = Callable[[Path], Mapping[str, Any]]


def result(arm: Arm, settings: Settings, measure: Measure) -> dict[str, Any]:
    """What `measure` says of the arm's checkpoint, and its FLOPs; trains it first where that is not done. Raises PlaitError where
    the training was stopped: what is not trained is not measured."""
    from plait.data import store
    from plait.data.splits import TRAIN
    from plait.train import checkpoint
    from plait.train import run as runs

    rows = store.digest(arm.data, TRAIN)[:DIGITS]  # other data, another run
    run_folder = settings.folder / "runs" / f"{arm.name}-{rows}-seed{arm.seed}-{arm.steps}"
    stored = run_folder / RESULT.format(settings.limit)
    if stored.is_file():
        measured: dict[str, Any] = json.loads(stored.read_text(encoding="utf-8"))
        return measured
    settings.say(f"{arm.name}, seed {arm.seed}: {arm.steps} steps of {len(arm.tasks)} tasks")
    run_folder.parent.mkdir(parents=True, exist_ok=True)
    saved = runs.train(arm.recipe(), run_folder, resume=run_folder.exists(), threads=settings.threads)
    if not checkpoint.is_done(run_folder):
        raise PlaitError(
            f"{arm.name}, seed {arm.seed} was stopped before its last step; the same command goes on with it"
        )
    facts = json.loads((run_folder / "train.json").read_text(encoding="utf-8"))["train"]
    measured = {"flops": facts["flops"], "seconds": facts["seconds"], **measure(saved)}
    atomic_write(stored, json.dumps(measured, indent=1))
    return measured


def accuracies(checkpoint: Path, tasks: Sequence[str], limit: int, say: Say) -> dict[str, float]:
    """`task: attribute` -> share of held-out rows answered right, by exact match or by the judges of the digits."""
    from plait import api, recipes
    from plait.eval.panel import share
    from plait.eval.runner import Evaluation
    from plait.recipes.recipe import Recipe

    model = api.load(checkpoint)
    recipe = Recipe(**model.config["recipe"])
    known = model.network.vocabulary.modalities
    suite = recipes.module("digits").suite(Path(recipe.data), known)
    evaluation = Evaluation(model.engine, suite, recipe.sampling.model_dump(), recipe.seed, limit, say)
    evaluation.panel.prepare()
    shares = {}
    for name in tasks:
        task = suite.task(name)
        rows = suite.rows.rows(task, "test")[:limit]
        answers = evaluation.ask([sample.messages[:-1] for sample in rows], task.answers_in)
        for attribute, right in evaluation.panel.hits(task, answers, rows).items():
            shares[f"{name}: {attribute}"] = share(right)
    return shares


def tokens_a_task(samples: Mapping[str, Sequence[Sample]], recipe: Recipe) -> dict[str, float]:
    """Mean number of stored tokens of each task's rows, times the task's share of the rows: what a task costs."""
    from plait import registry
    from plait.data.fit import fit
    from plait.data.media import CachedReader
    from plait.data.sequence import Encoder
    from plait.data.vocabulary import Vocabulary

    modalities = registry.build_all(recipe.modalities)
    some = {task: rows[:ROWS_TO_MEASURE] for task, rows in samples.items()}
    fit(modalities, [sample for rows in some.values() for sample in rows], recipe.seed)
    encoder = Encoder(Vocabulary(modalities), recipe.flow, CachedReader(modalities))
    rng = np.random.default_rng(0)
    return {
        task: recipe.weights.get(task, 1.0) * float(np.mean([len(encoder.row(sample, rng)) for sample in rows]))
        for task, rows in some.items()
    }


def spread(values: Sequence[float]) -> dict[str, float]:
    """Mean, lowest and highest of a figure over the seeds."""
    return {"mean": float(np.mean(values)), "low": float(min(values)), "high": float(max(values))}


def as_text(spread_of_figure: Mapping[str, float]) -> str:
    """`93.4 (92.0-95.0)`, in per cent."""
    mean, low, high = (100 * spread_of_figure[key] for key in ("mean", "low", "high"))
    return f"{mean:.1f}" if low == high else f"{mean:.1f} ({low:.1f}-{high:.1f})"


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *lines))
