"""The verbs in Python: build, train, load, generate, evaluate. The command line says the same words."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL.Image import Image

from plait import recipe as recipes
from plait import registry
from plait.contract import Message, Part
from plait.data.rows import sha256_of
from plait.data.validate import BadRow, Checked, check_file, list_bad_rows
from plait.errors import ConfigError, DataError
from plait.eval import card, runner
from plait.eval import report as reports
from plait.infer.engine import Answer, Engine
from plait.infer.request import Request
from plait.model.braid import Braid
from plait.train import checkpoint
from plait.train.loop import resolve_dtype
from plait.train.run import machine
from plait.train.run import train as train_recipe

__all__ = ["Model", "Part", "Request", "build", "evaluate", "load", "train"]

PathLike = str | Path


def build(name: str, folder: PathLike | None = None, say: Callable[[str], None] = print) -> Path:
    """Build the data of recipe `name` in `folder` (the recipe's own if none is given); returns the folder."""
    module = recipes.module(name)
    place = Path(folder or module.RECIPE.data)
    module.build(place, say)
    return place


def check(rows: PathLike, out: PathLike | None = None, say: Callable[[str], Any] = print) -> Checked:
    """Check every row of a JSONL file; bad ones are said, and written to `out` if given. Raises DataError."""
    known = registry.build_all(registry.available())

    def tell(bad: BadRow) -> None:
        say(bad.problem)

    found = list_bad_rows(Path(rows), known, Path(out), tell) if out else check_file(Path(rows), known, tell)
    say(str(found))
    return found


def settings(name: str, *overrides: str) -> recipes.Recipe:
    """Recipe `name` with `key=value` overrides applied. Raises ConfigError."""
    return recipes.override(recipes.module(name).RECIPE, list(overrides))


def train(name: str, *overrides: str, out: PathLike, **options: Any) -> Path:
    """Train recipe `name` with `key=value` overrides into the run folder `out`; returns the last checkpoint.

    `options`: resume, overwrite, strict, threads, max_seconds, as `plait.train.run.train` takes them.
    """
    return train_recipe(settings(name, *overrides), Path(out), **options)


def finished(path: PathLike) -> bool:
    """Whether a checkpoint is at the last step of its recipe."""
    folder = checkpoint.locate(Path(path))
    counters = checkpoint.read_counters(folder)
    return bool(counters and counters["step"] >= checkpoint.read_config(folder)["recipe"]["steps"])


def as_part(value: Any) -> Part:
    """A Part as it is, a string as text, a PIL picture as an image, (samples, rate) as audio."""
    if isinstance(value, Part):
        return value
    if isinstance(value, str):
        return Part("text", value)
    if isinstance(value, Image):
        return Part("image", value)
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], np.ndarray):
        return Part("audio", value)
    raise ConfigError(f"got a {type(value).__name__} as input; expected str, PIL image, (samples, rate) or plait.Part")


class Model:
    """A checkpoint ready to answer."""

    def __init__(self, braid: Braid, config: dict[str, Any], batch_size: int = 128) -> None:
        self.braid, self.config = braid, config
        self.engine = Engine(braid, batch_size)

    def generate(self, inputs: Sequence[Any], to: str | None = None, **options: Any) -> Message:
        """Answer one user message made of `inputs`, in their order; `options` are fields of `Request`.

        A picture's size is an option of its modality: `options={"image": {"size": (width, height)}}`.
        Steps, guidance and temperature that are not given are those of the recipe.
        """
        alone = isinstance(inputs, str | Part | Image)  # one input without its list: no string of letters is meant
        question = Message("user", tuple(map(as_part, [inputs] if alone else inputs)))
        usual = recipes.Sampling(**self.config["recipe"].get("sampling", {})).model_dump(exclude={"max_tokens"})
        return self.generate_all([Request((question,), to=to, **usual | options)])[0].message

    def generate_all(self, requests: Sequence[Request]) -> list[Answer]:
        """Answer many requests, batched."""
        return self.engine.generate(requests)


def load(path: PathLike, dtype: str = "auto") -> Model:
    """The model of a checkpoint or run folder. Raises CheckpointError."""
    braid, config = checkpoint.load(checkpoint.locate(Path(path)), resolve_dtype(dtype))
    return Model(braid, config)


def _check_rows(folder: Path, data: Path) -> list[str]:
    """Held out means held out from this checkpoint's own training rows. Raises DataError for the rows of another build;
    returns a note for the report where that cannot be told."""
    rows, trained_on = data / "train.jsonl", (checkpoint.read_counters(folder) or {}).get("data")
    if not rows.is_file() or not trained_on:
        lacking = "the data folder has no train.jsonl" if trained_on else "the checkpoint does not say its rows"
        return [f"not checked that these rows are held out from this checkpoint's training: {lacking}"]
    found = sha256_of(rows)
    if found != trained_on:
        raise DataError(
            f"{rows} has sha256 {found[:12]}; the checkpoint was trained on rows with {trained_on[:12]}, so what this folder "
            "holds out the model may have seen: evaluate with the data it was trained on (--data FOLDER)"
        )
    return []


def evaluate(
    path: PathLike, *, data: PathLike | None = None, json: PathLike | None = None, html: PathLike | None = None,
    seed: int | None = None, limit: int | None = None, say: Callable[[str], None] = print,
) -> dict[str, Any]:  # fmt: skip
    """Measure every cell of a checkpoint on its recipe's held-out data; writes its model card, and report.json and
    report.html if asked.

    `limit` bounds the rows of each split (all of them if None); `seed` is that of the noise answers are drawn from (the
    recipe's if None). Raises CheckpointError, and DataError for rows that this checkpoint may have been trained on.
    """
    folder = checkpoint.locate(Path(path))
    model = load(folder)
    recipe = recipes.Recipe(**model.config["recipe"])
    suite = recipes.module(recipe.name).suite()
    place = Path(data or recipe.data)
    notes = _check_rows(folder, place)
    seed = recipe.seed if seed is None else seed
    evaluation = runner.Evaluation(model.engine, suite, place, recipe.sampling.model_dump(), seed, limit)
    evaluation.notes += notes
    begin = time.perf_counter()
    measured = runner.run(evaluation, say)
    trained = reports.training_summary(folder, sum(p.numel() for p in model.braid.parameters()), recipe)
    report = {
        "format": runner.FORMAT,
        "checkpoint": str(path),
        "commit": runner.commit(),
        "seed": recipe.seed,
        "sampling_seed": seed,
        "machine": machine(),
        "train": trained,
        **measured,
        "data": reports.data_summary(place),
        "evaluation_seconds": round(time.perf_counter() - begin, 1),
    }
    card.write(folder, report, recipe.name)
    if json:
        runner.write_json(Path(json), report)
    if html:
        reports.write_html(Path(html), report, evaluation.outcomes, reports.curves(folder))
    return report
