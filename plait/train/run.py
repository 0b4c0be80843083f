"""`plait train`: a recipe and a folder of data to a run folder, with progress, logs and checkpoints."""

from __future__ import annotations

import json
import os
import platform
import resource
import shutil
import time
from collections.abc import Callable, Container, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from plait import registry
from plait.contract import Modality, Part, Sample
from plait.data.rows import read_rows, sha256_of
from plait.data.validate import list_bad_rows
from plait.data.vocabulary import Vocabulary
from plait.errors import ConfigError, DataError
from plait.recipe import Recipe
from plait.train import checkpoint, loop
from plait.train.progress import Progress
from plait.train.state import Training

BAD_ROWS = "bad_rows.jsonl"
FIT_PARTS = 2000  # media files that normalisation statistics are taken from


def fit(modalities: Mapping[str, Modality], samples: Sequence[Sample], seed: int) -> None:
    """Let every modality learn its vocabulary or statistics from parts of the training rows."""
    parts: dict[str, dict[str, Part]] = {name: {} for name in modalities}
    for sample in samples:
        for message in sample.messages:
            for part in message.parts:
                parts[part.type][str(part.value)] = part
    for name, modality in modalities.items():
        found = [parts[name][key] for key in sorted(parts[name])]
        if modality.head == "flow" and len(found) > FIT_PARTS:
            chosen = np.random.default_rng([seed, 2]).choice(len(found), FIT_PARTS, replace=False)
            found = [found[index] for index in sorted(chosen)]
        if found:
            modality.fit(found)


def _prepare(run: Path, resume: bool, overwrite: bool) -> None:
    if not run.exists() or all(path.name == BAD_ROWS for path in run.iterdir()):  # a list alone: no run began
        run.mkdir(parents=True, exist_ok=True)
        (run / BAD_ROWS).unlink(missing_ok=True)
    elif overwrite:
        if not (run / "train.log").is_file():
            raise ConfigError(
                f"{run} is not empty and no run of plait train (it has no train.log); choose another --out"
            )
        shutil.rmtree(run)
        run.mkdir(parents=True)
    elif not resume:
        raise ConfigError(
            f"run folder {run} exists; continue it with --resume, replace it with --overwrite, or choose another with --out"
        )


def _parameters(training: Training) -> int:
    return sum(parameter.numel() for parameter in training.parameters)


def machine() -> dict[str, Any]:
    """What the run ran on."""
    return {
        "system": platform.system(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "bfloat16": bool(torch.cpu._is_avx512_bf16_supported()),
        "device": "cpu",
    }


def summary(counters: Mapping[str, Any], parameters: int, recipe: Recipe, peak_rss_mb: float) -> dict[str, Any]:
    """The `train` entry of report.json. FLOPs: 6 a parameter and stored token, and attention's score products."""
    trunk = recipe.trunk
    a_token = 6 * parameters + 12 * trunk.num_layers * trunk.dim * recipe.pack.length
    return {
        "seconds": round(counters["seconds"], 1),
        "steps": counters["step"],
        "tokens": counters["tokens"],
        "parameters": parameters,
        "flops": float(a_token * counters["stored"]),
        "peak_rss_mb": peak_rss_mb,
    }


def _peak_rss_mb() -> float:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def _rows(recipe: Recipe, modalities: Mapping[str, Modality], skip: Container[int] = ()) -> tuple[list[Sample], str]:
    """Training samples, without the lines in `skip`, and the hash of their file."""
    path = Path(recipe.data) / "train.jsonl"
    return list(read_rows(path, modalities, skip)), sha256_of(path)


def check(recipe: Recipe, run: Path, strict: bool, say: Callable[[str], None]) -> frozenset[int]:
    """Check the training rows once a run; returns the numbers of the bad lines, which `run/bad_rows.jsonl` explains.

    Rows that `plait data build` wrote are not decoded again: their manifest has the file's hash. Raises DataError with
    `strict`, or when no row is left.
    """
    path, listed = Path(recipe.data) / "train.jsonl", run / BAD_ROWS
    if not listed.is_file():
        if _as_built(path):
            return frozenset()
        found = list_bad_rows(path, registry.build_all(recipe.modalities), listed)
        say(f"{found}; the bad ones are left out, see {listed}" if found.bad_lines else f"{found}")
        if not found.good:
            raise DataError(f"{path} has no good row of {found.rows}, see {listed}; expected some to learn from")
    bad = [json.loads(line) for line in listed.read_text(encoding="utf-8").splitlines()]
    if bad and strict:
        raise DataError(f"{len(bad)} rows of {path} are bad, see {listed}; the first: {bad[0]['problem']}")
    return frozenset(entry["line"] for entry in bad)


def _as_built(path: Path) -> bool:
    """Whether the rows are those that a recipe's build wrote and listed."""
    manifest = path.with_name("manifest.json")
    if not manifest.is_file():
        return False
    facts = json.loads(manifest.read_text(encoding="utf-8")).get("files", {}).get(path.name, {})
    return bool(facts.get("sha256") == sha256_of(path))


def start(recipe: Recipe, skip: Container[int] = ()) -> Training:
    """Data, modalities and model of a recipe, at step 0; lines of the training rows in `skip` are left out."""
    modalities = registry.build_all(recipe.modalities)
    samples, data = _rows(recipe, modalities, skip)
    fit(modalities, samples, recipe.seed)
    training = loop.build(recipe, samples, Vocabulary(modalities))
    training.data = data
    return training


def restart(recipe: Recipe, folder: Path, skip: Container[int] = ()) -> Training:
    """The run as its checkpoint `folder` holds it; vocabulary and statistics come from there too."""
    model, _ = checkpoint.load(folder)
    samples, data = _rows(recipe, model.vocabulary.modalities, skip)
    training = loop.build(recipe, samples, model.vocabulary)
    training.data = data
    training.restore(checkpoint.load_train_state(folder), load_file(folder / checkpoint.WEIGHTS))
    return training


def train(
    recipe: Recipe,
    run: Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    strict: bool = False,
    threads: int | None = None,
    max_seconds: float = float("inf"),
) -> Path:
    """Train `recipe` in the folder `run`; returns the last checkpoint's folder.

    Bad rows are listed in `run/bad_rows.jsonl` and left out, or with `strict` raise DataError before the first step.
    Raises ConfigError when `run` exists and neither `resume` nor `overwrite` is given, or when `resume` is given with
    settings that the run did not begin with.
    """
    if resume and overwrite:
        raise ConfigError("got both --resume and --overwrite; expected one: go on with the run, or replace it")
    rows = Path(recipe.data) / "train.jsonl"
    if not rows.is_file():
        raise DataError(f"{rows} is missing; build the data first: plait data build {recipe.name}, or set data=FOLDER")
    _prepare(run, resume, overwrite)
    torch.set_num_threads(threads or max(1, min(os.cpu_count() or 1, 8)))
    begin = time.perf_counter()
    steps = checkpoint.steps_of(run)
    if steps:
        _check_same(recipe, checkpoint.read_config(steps[-1])["recipe"])
    notes: list[str] = []
    skip = check(recipe, run, strict, notes.append)
    training = restart(recipe, steps[-1], skip) if steps else start(recipe, skip)
    before = training.seconds
    with Progress(run, recipe.steps, training.step) as progress:
        for note in notes:
            progress.say(note)
        progress.say(
            f"{recipe.name}: {_parameters(training) / 1e6:.1f}M parameters, {recipe.steps} steps, "
            f"{training.model.dtype}, {torch.get_num_threads()} threads; prepared in {time.perf_counter() - begin:.1f} s"
            + (f"; resumed at step {training.step}" if training.step else "")
        )
        folder = loop.run_loop(training, recipe, run, progress.update, max_seconds)
        done = training.step >= recipe.steps
        progress.say(f"saved {folder}" if done else f"stopped at step {training.step}; go on with --resume --out {run}")
    if training.seconds > before or not (run / "train.json").is_file():
        facts = summary(training.counters(), _parameters(training), recipe, _peak_rss_mb())
        (run / "train.json").write_text(json.dumps({"machine": machine(), "train": facts}, indent=1))
    return folder


def _check_same(recipe: Recipe, before: Mapping[str, Any]) -> None:
    """A run goes on with the settings it began with, apart from how often it saves and logs."""
    now, free = recipe.model_dump(mode="json"), {"save_every", "log_every", "sampling"}
    changed = sorted(key for key in now if key not in free and now[key] != before.get(key))
    if changed:
        raise ConfigError(
            f"the run to go on with began with other settings of {', '.join(changed)}; expected the same: leave them as "
            "they were, or start anew with --overwrite or another --out"
        )
