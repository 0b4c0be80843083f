"""A recipe that teaches a model to draw and speak in few steps a block: from its own answers."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from plait.contract import Modality
from plait.data import derived, splits, store
from plait.data.mix import group_by_task
from plait.data.rows import dump_row, row_id
from plait.data.splits import TRAIN
from plait.errors import ConfigError
from plait.infer.engine import Engine
from plait.infer.teach import taught
from plait.recipes.recipe import Recipe
from plait.runtime.files import atomic_write
from plait.train import checkpoint
from plait.train.run import bad_rows

RATE = 0.2  # of the recipe's: at the whole rate the other tasks suffer (docs/experiments/few-steps.md)


def distill(
    engine: Engine, path: Path, to: Path, *, data: str | Path | None = None, rows: int = 1000,
    steps: int = 500, sampling_steps: int = 3, say: Callable[[str], Any] = print,
) -> Path:  # fmt: skip
    """Let the checkpoint at `path`, in the `engine`, answer `rows` training questions of each task whose answer is no words;
    returns the recipe.

    Writes the folder `to`: data with the model's own answers, beside the unchanged rows of the other tasks, and recipe.json.
    `data` is the recipe's if none is given; the new recipe trains `steps` steps and samples with `sampling_steps`. Raises
    ConfigError for a folder that is in use, or where nothing is to be drawn.
    """
    folder, place = checkpoint.locate(path), to
    if place.exists() and any(place.iterdir()):
        raise ConfigError(f"{place} is not empty; expected a new folder for the answers and the recipe")
    recipe = Recipe(**checkpoint.read_config(folder)["recipe"])
    source = Path(data or recipe.data)
    known = engine.encoder.vocabulary.modalities
    try:
        skip = _held_out(recipe, source, checkpoint.run_of(folder), place, known)
        samples = store.open_rows(source, TRAIN, known, skip)
        by_task = samples if isinstance(samples, Mapping) else group_by_task(samples)
        learned = {task: samples for task, samples in by_task.items() if recipe.weights.get(task, 1.0)}
        answered = taught(engine, learned, place, recipe.sampling.model_dump(), rows, recipe.seed, say)
        derived.write_rows(source, place, (dump_row(derived.relative(sample, source)) for sample in answered))
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)  # half of the answers are no data
        raise
    student = recipe.model_copy(
        update={
            "data": str(place),
            "init": str(folder),
            "stages": {},
            "weights": {task: share for task, share in recipe.weights.items() if task in learned},
            "augment": {task: settings for task, settings in recipe.augment.items() if task in learned},
            "steps": steps,
            "optim": recipe.optim.model_copy(update={"lr": recipe.optim.lr * RATE}),
            "flow": recipe.flow.model_copy(update={"null_prob": 0.0, "uniform_prob": 1.0}),
            "sampling": recipe.sampling.model_copy(update={"steps": sampling_steps, "guidance": 1.0}),
        }
    )
    atomic_write(place / "recipe.json", student.model_dump_json(indent=1))
    return place / "recipe.json"


def _held_out(recipe: Recipe, source: Path, run: Path, to: Path, known: Mapping[str, Modality]) -> frozenset[str]:
    """Ids of the training rows that the run left out; those that it held out become files of their splits in the folder `to`, so
    that they stay held out from what learns there."""
    derived.rows_file(source)
    derived.links(source, to)
    skip = bad_rows(run)
    if not recipe.hold_out:
        return skip
    held_out = splits.load_or_make(run, source, recipe.hold_out, known, skip)
    of_split = {row: split for split, rows in held_out.ids.items() for row in rows if split in recipe.hold_out}
    lines: dict[str, list[bytes]] = {split: [] for split in recipe.hold_out if split not in held_out.given}
    with derived.rows_file(source).open("rb") as rows:
        for line in rows:
            split = of_split.get(row_id(line))
            if split in lines:
                lines[split].append(line.rstrip(b"\r\n"))
    for split, kept in lines.items():
        (to / f"{split}.jsonl").write_bytes(b"\n".join(kept) + b"\n")
    return skip | held_out.not_for_training
