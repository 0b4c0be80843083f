"""A recipe that teaches a model to draw and speak in few steps a block: from its own answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from plait.data import derived, store
from plait.data.mix import group_by_task
from plait.data.rows import dump_row
from plait.data.splits import TRAIN
from plait.errors import ConfigError
from plait.infer.engine import Engine
from plait.infer.teach import taught
from plait.recipes.recipe import Recipe
from plait.runtime.files import atomic_write
from plait.train import checkpoint


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
    derived.rows_file(source)
    found = store.open_rows(source, TRAIN, engine.encoder.vocabulary.modalities)
    by_task = found if isinstance(found, Mapping) else group_by_task(found)
    learned = {task: samples for task, samples in by_task.items() if recipe.weights.get(task, 1.0)}
    derived.links(source, place)
    samples = taught(engine, learned, place, recipe.sampling.model_dump(), rows, recipe.seed, say)
    derived.write_rows(source, place, (dump_row(derived.relative(sample, source)) for sample in samples))
    student = recipe.model_copy(
        update={
            "name": f"{recipe.name}-fast",
            "data": str(place),
            "init": str(folder),
            "stages": {},
            "weights": {task: share for task, share in recipe.weights.items() if task in learned},
            "augment": {task: settings for task, settings in recipe.augment.items() if task in learned},
            "steps": steps,
            "flow": recipe.flow.model_copy(update={"null_prob": 0.0, "uniform_prob": 1.0}),
            "sampling": recipe.sampling.model_copy(update={"steps": sampling_steps, "guidance": 1.0}),
        }
    )
    atomic_write(place / "recipe.json", student.model_dump_json(indent=1))
    return place / "recipe.json"
