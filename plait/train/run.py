"""`plait train`: a recipe and a folder of data to a run folder, with progress, logs and checkpoints."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import resource
import shutil
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from plait import registry
from plait.contract import Modality, Part
from plait.data import splits, store
from plait.data.fit import fit
from plait.data.mix import Rows, group_by_task
from plait.data.rows import line_of
from plait.data.splits import TRAIN
from plait.data.validate import BadRow, list_bad_rows
from plait.data.vocabulary import Vocabulary
from plait.errors import ConfigError, DataError
from plait.model import pca
from plait.model.multimodal import MultimodalTransformer
from plait.runtime.device import resolve_device
from plait.runtime.files import atomic_write, manifest_of, sha256_of
from plait.runtime.locks import alone
from plait.runtime.parallel import use_threads
from plait.train import bases, checkpoint, distributed, standing, trainer
from plait.train.config import TrainingConfig
from plait.train.progress import Preparation, Progress
from plait.train.state import Training

EARLIER = "earlier/"  # before the names of tasks that are replayed
BAD_ROWS, LONG_ROWS = "bad_rows.jsonl", "long_rows.jsonl"
CHECKED = "checked.json"  # hashes of the files whose bad rows are listed
BEFORE_A_RUN = {
    BAD_ROWS,
    CHECKED,
    f"{CHECKED}.partial",
    f"{BAD_ROWS}.partial",
    splits.NAME,
    f"{splits.NAME}.partial",
    "proposal.json",
    "replay",
    "features",
}  # what a folder may hold although no run has begun in it


@contextmanager
def taken(run: Path, resume: bool, overwrite: bool) -> Iterator[None]:
    """Make the run folder, or see that the one that is there may be used, and hold it for this training alone. Raises ConfigError, also where
    another training holds it."""
    if resume and overwrite:
        raise ConfigError("got both --resume and --overwrite; expected one: go on with the run, or replace it")
    with ExitStack() as held:
        try:
            if not run.is_dir():
                run.mkdir(parents=True, exist_ok=True)
            held.enter_context(alone(run))
            _prepare(run, resume=resume, overwrite=overwrite)
        except OSError as error:
            raise ConfigError(
                f"run folder {run} cannot be used: {error.strerror or error}; expected a place that can be written: choose "
                "another with --out"
            ) from error
        yield


def _prepare(run: Path, *, resume: bool, overwrite: bool) -> None:
    if all(path.name in BEFORE_A_RUN for path in run.iterdir()):
        _empty(run)
    elif overwrite:
        if not ((run / "train.log").is_file() or (run / checkpoint.STAGES).is_dir()):
            raise ConfigError(
                f"{run} is not empty and no run of plait train (it has no train.log); choose another --out"
            )
        _empty(run)
    elif not resume:
        raise ConfigError(
            f"run folder {run} exists; continue it with --resume, replace it with --overwrite, or choose another with --out"
        )


def _empty(folder: Path) -> None:
    """Remove what is in a folder; the folder itself stays, and with it the lock on it."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


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
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else resolve_device().type,
    }


def summary(counters: Mapping[str, Any], parameters: int, recipe: TrainingConfig, peak_rss_mb: float) -> dict[str, Any]:
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


def peak_rss_mb() -> float:
    """Most memory this process has held, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / 1024 / (1024 if sys.platform == "darwin" else 1), 1)


def check(
    data: Path,
    held_out: Iterable[str],
    modalities: Mapping[str, Modality],
    run: Path,
    strict: bool,
    say: Callable[[str], None],
    progress: Callable[[Path, int], Any] = lambda path, rows: None,
) -> dict[str, frozenset[str]]:
    """Check the rows of the folder `data` once a run, those of training and of the splits `held_out` that have a file; returns
    the ids of each split's bad rows, which `run/bad_rows.jsonl` explains.

    Rows that `plait data build` wrote are not decoded again: their manifest has the file's hash. Raises DataError with
    `strict`, or when no row of a file is left.
    """
    listed, summed = run / BAD_ROWS, run / CHECKED
    given = [split for split in sorted(held_out) if store.file_of(data, split)]
    unchecked = [split for split in [TRAIN, *given] if not _as_built(data, split)]
    sums = {f"{split}.jsonl": store.digest(data, split) for split in unchecked}
    if sums and not (summed.is_file() and listed.is_file() and json.loads(summed.read_text(encoding="utf-8")) == sums):
        counts = list_bad_rows([data / f"{split}.jsonl" for split in unchecked], modalities, listed, progress=progress)
        for found in counts:
            say(f"{found.path.name}: {found}" + (f"; they are left out, see {listed}" if found.bad_lines else ""))
        empty = next((found for found in counts if not found.good), None)
        if empty:
            why = "learn from" if empty.path.stem == TRAIN else "measure on: mend it, or remove the file"
            raise DataError(
                f"{empty.path} has no good row of {empty.rows} that can be used, see {listed}; expected some to {why}"
            )
        atomic_write(summed, json.dumps(sums))
    bad = _listed(listed)
    if bad and strict:
        raise DataError(f"{len(bad)} rows of {data} are bad, see {listed}; the first: {bad[0]['problem']}")
    return {split: _ids(listed, f"{split}.jsonl") for split in [TRAIN, *given]}


def _listed(path: Path) -> list[dict[str, Any]]:
    """Entries of a list of rows; none where there is no such file."""
    lines = path.read_text(encoding="utf-8").split("\n") if path.is_file() else []  # U+2028 may be in a name
    return [json.loads(line) for line in lines if line]


def _ids(listed: Path, file: str) -> frozenset[str]:
    return frozenset(entry["id"] for entry in _listed(listed) if entry["file"] == file)


def bad_rows(run: Path, split: str = TRAIN) -> frozenset[str]:
    """Ids of the rows of a split's file that a run found bad."""
    return _ids(run / BAD_ROWS, f"{split}.jsonl")


def long_rows(run: Path) -> frozenset[str]:
    """Ids of the rows of train.jsonl that a run found too long for its sequences."""
    return _ids(run / LONG_ROWS, f"{TRAIN}.jsonl")


def _list_long_rows(run: Path, too_long: Mapping[str, tuple[str, str]]) -> None:
    """Add rows to the list of those that were too long."""
    if not too_long:
        return
    listed = run / LONG_ROWS
    rows = {entry["id"]: BadRow(**entry) for entry in _listed(listed)}
    rows |= {
        name: BadRow(f"{TRAIN}.jsonl", line_of(where), name, problem) for name, (where, problem) in too_long.items()
    }
    in_order = sorted(rows.values(), key=lambda row: row.line)
    atomic_write(listed, "".join(f"{json.dumps(asdict(row), ensure_ascii=False)}\n" for row in in_order))


def _as_built(data: Path, split: str) -> bool:
    """Whether the rows are those that a recipe's build wrote and listed."""
    facts = manifest_of(data).get("files", {}).get(f"{split}.jsonl")
    return isinstance(facts, dict) and facts.get("sha256") == store.digest(data, split)


def fingerprint(recipe: TrainingConfig, skip: Collection[str]) -> str:
    """What a run was trained on: the hash of its rows, and where some of them are left out or a split has a file of its
    own, of those too, so that no row changes sides unseen."""
    rows = store.digest(Path(recipe.data), TRAIN)
    given = sorted(Path(recipe.data) / f"{split}.jsonl" for split in recipe.hold_out)
    if not skip and not any(path.is_file() for path in given):
        return rows
    parts = [rows, json.dumps(sorted(skip)), *(sha256_of(path) if path.is_file() else "" for path in given)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def start(
    recipe: TrainingConfig, skip: Collection[str] = (), say: Callable[[str], Any] = lambda line: None, init: str = ""
) -> Training:
    """Data, modalities and model of a recipe, at step 0; rows whose ids are in `skip` are left out. `say` hears what
    was found in the data and what moves. `init` takes the place of the recipe's: the stage before."""
    if init or recipe.init:
        with bases.opened(init or recipe.init) as folder:
            model, rows = _from_checkpoint(recipe, folder, skip, say)
    else:
        model, rows = _from_scratch(recipe, skip, say)
    training = trainer.build(recipe, rows, model, say)
    training.data = fingerprint(recipe, skip)
    if recipe.init or recipe.trainable != ("*",):
        say(trainer.moving(model))
    return training


def _from_scratch(
    recipe: TrainingConfig, skip: Collection[str], say: Callable[[str], Any]
) -> tuple[MultimodalTransformer, Rows]:
    """A new model, whose modalities learn vocabularies and statistics from the rows."""
    modalities = registry.build_all(recipe.modalities)
    rows = store.open_rows(Path(recipe.data), TRAIN, modalities, skip)
    parts = fit(modalities, store.fitting_samples(rows, recipe.seed), recipe.seed)
    components = _components(recipe, modalities, parts, say)
    return trainer.model_of(recipe, Vocabulary(modalities), components), rows


def _from_checkpoint(
    recipe: TrainingConfig, folder: Path, skip: Collection[str], say: Callable[[str], Any]
) -> tuple[MultimodalTransformer, Rows]:
    """The model of a checkpoint, with modalities that the recipe adds; these alone learn from the rows.

    Raises CheckpointError where settings of the recipe do not fit the weights.
    """
    config = checkpoint.read_config(folder)
    stored = checkpoint.load_modalities(folder, config)
    known = {
        name: registry.build(name, modality.state() | recipe.modalities.get(name, {}))
        for name, modality in stored.items()
    }
    added = registry.build_all({name: s for name, s in recipe.modalities.items() if name not in stored})
    modalities = {name: (known | added)[name] for name in sorted(known | added)}
    rows = _rows(recipe, modalities, skip)
    parts = fit(added, store.fitting_samples(rows, recipe.seed), recipe.seed)
    components = _components(recipe, added, parts, say)
    vocabulary = Vocabulary(modalities, checkpoint.load_template(folder, config))
    sizes = {name: len(found.axes) for name, found in components.items()}
    model = checkpoint.load_model(folder, config, vocabulary, seed=recipe.seed, experts=recipe.trunk, components=sizes)
    if recipe.init in bases.BASES and model.base is None:
        model.base = bases.under(model, bases.BASES[recipe.init])
    elif recipe.stands:
        model.parent = standing.under(model, folder, config)
    pca.start(model, components, recipe.seed)
    return model, rows


def _rows(recipe: TrainingConfig, modalities: Mapping[str, Modality], skip: Collection[str]) -> Rows:
    """The rows of a training, and those that are replayed, by tasks of their own."""
    rows = store.open_rows(Path(recipe.data), TRAIN, modalities, skip)
    if not recipe.replay:
        return rows
    own, replayed = (
        of_folder if isinstance(of_folder, Mapping) else group_by_task(of_folder)
        for of_folder in (rows, store.open_rows(Path(recipe.replay), TRAIN, modalities))
    )
    return {**own, **{f"{EARLIER}{task}": of_task for task, of_task in replayed.items()}}


def _components(
    recipe: TrainingConfig,
    modalities: Mapping[str, Modality],
    parts: Mapping[str, Sequence[Part]],
    say: Callable[[str], Any],
) -> dict[str, pca.PrincipalComponents]:
    """Principal components of the flow modalities, if the recipe wants any and the data has parts."""
    components = {}
    for name, modality in modalities.items():
        if recipe.pca and modality.head == "flow" and parts[name]:
            of_tokens = pca.find(modality, parts[name], recipe.pca, recipe.seed)
            say(
                f"{name}: {len(of_tokens.axes)} principal components hold {100 * of_tokens.share:.1f} % of the variance"
            )
            if len(of_tokens.axes):
                components[name] = of_tokens
    return components


def restart(recipe: TrainingConfig, folder: Path, skip: Collection[str] = ()) -> Training:
    """The run as its checkpoint `folder` holds it; vocabulary and statistics come from there too."""
    model, config = checkpoint.load(folder)
    training = trainer.build(recipe, _rows(recipe, model.vocabulary.modalities, skip), model)
    training.data = fingerprint(recipe, skip)
    training.restore(checkpoint.load_train_state(folder), checkpoint.load_weights(folder, config))
    return training


def train(
    recipe: TrainingConfig,
    run: Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    strict: bool = False,
    threads: int | None = None,
    max_seconds: float = float("inf"),
    is_taken: bool = False,
) -> Path:
    """Train `recipe` in the folder `run`; returns the last checkpoint's folder. Under torchrun every process takes its
    share of each step's sequences, and the first one writes.

    The stages of the recipe come first, in `run/stages`; one that is done is not trained again, one that was stopped goes
    on. When the time is up in a stage, the checkpoint is that stage's.

    `is_taken`: the caller holds the folder (`taken`) and has called `check`.

    Bad rows are listed in `run/bad_rows.jsonl` and left out, or with `strict` raise DataError before the first step.
    Raises ConfigError when `run` exists and neither `resume` nor `overwrite` is given, or when `resume` is given with
    settings that the run did not begin with.
    """
    data = Path(recipe.data)
    if store.file_of(data, TRAIN) is None:
        raise DataError(
            f"{data} holds no training rows (neither {TRAIN}.jsonl nor shards); build them first: plait data build "
            f"{recipe.name} --folder {data}, or set data=FOLDER to one that has some"
        )
    use_threads(threads)
    deadline, init = time.monotonic() + max_seconds, ""
    with distributed.joined(), ExitStack() as held:
        if recipe.init in bases.BASES:  # before minutes of looking at rows, and before there is a run folder
            distributed.first_alone(lambda: bases.folder_of(bases.BASES[recipe.init]))
        if not is_taken:
            distributed.first_alone(lambda: held.enter_context(taken(run, resume, overwrite)))
        if recipe.stages:
            distributed.first_alone(lambda: _write_plan(run, recipe.stages))
        skip, notes = _what_to_skip(recipe, run, strict)
        for name in recipe.stages:
            folder = run / checkpoint.STAGES / name
            if not (checkpoint.steps_of(folder) and checkpoint.is_done(folder)):
                seconds = deadline - time.monotonic()
                saved = _train_one(recipe.stage(name), folder, skip, notes, seconds, init)
                if not checkpoint.is_done(saved):
                    return saved
            init = str(folder)
        return _train_one(recipe, run, skip, notes, deadline - time.monotonic(), init)


def _write_plan(run: Path, stages: Iterable[str]) -> None:
    folder = run / checkpoint.STAGES
    folder.mkdir(exist_ok=True)
    atomic_write(folder / checkpoint.PLAN, json.dumps(list(stages)))


def _what_to_skip(recipe: TrainingConfig, run: Path, strict: bool) -> tuple[frozenset[str], list[str]]:
    """Ids of the rows that are not trained on, bad ones and those held out, and what there is to say about them."""
    data, known, notes = Path(recipe.data), registry.build_all(recipe.modalities), list[str]()
    with Preparation(silent=distributed.ranks()[0] > 0) as preparation:

        def look() -> None:
            preparation.stage("checking rows and media")
            bad = check(data, recipe.hold_out, known, run, strict, notes.append, preparation.rows)
            if recipe.hold_out:
                preparation.stage("holding out rows by content")
                notes.append(str(splits.load_or_make(run, data, recipe.hold_out, known, bad[TRAIN])))

        distributed.first_alone(look)
    skip = bad_rows(run)
    if recipe.hold_out:
        skip |= splits.load_or_make(run, data, recipe.hold_out, known, skip).not_for_training
    return skip, notes


def _train_one(
    recipe: TrainingConfig, run: Path, skip: Collection[str], notes: Sequence[str], max_seconds: float, init: str
) -> Path:
    """Train a recipe or one of its stages, from the stage before (`init`) if there was one; returns its last checkpoint."""

    def make() -> None:
        run.mkdir(parents=True, exist_ok=True)
        checkpoint.sweep(run)  # only now is the folder known to be a run's

    distributed.first_alone(make)
    messages = list(notes)
    with Preparation(silent=distributed.ranks()[0] > 0) as preparation:
        training = _begin(recipe, run, skip, messages.append, preparation.stage, init)
    return _train(training, recipe, run, messages, max_seconds)


def _begin(
    recipe: TrainingConfig,
    run: Path,
    skip: Collection[str],
    say: Callable[[str], Any],
    stage: Callable[[str], Any],
    init: str,
) -> Training:
    """The training at its first step, or where its newest checkpoint left it."""
    begin = time.perf_counter()
    steps = checkpoint.steps_of(run)
    with trainer.memory_advice(0, recipe):
        if steps:
            _check_same(recipe, type(recipe)(**checkpoint.read_config(steps[-1])["recipe"]))
            stage("reading rows and the checkpoint")
            training = restart(recipe, steps[-1], skip)
        else:
            stage("reading rows, learning vocabularies and statistics")
            training = start(recipe, skip, say, init)
    training.preparing_seconds = time.perf_counter() - begin
    return training


def _train(training: Training, recipe: TrainingConfig, run: Path, notes: Sequence[str], max_seconds: float) -> Path:
    """Train and write down what it took."""
    before = training.seconds
    rank, world = distributed.ranks()
    training.before_save = partial(_list_long_rows, run, training.loader.too_long)  # a kill may come at any moment
    with Progress(run, recipe.steps, training.step, silent=rank > 0) as progress:
        for note in notes:
            progress.say(note)
        progress.say(
            f"{recipe.name}: {_parameters(training) / 1e6:.1f}M parameters, {recipe.steps} steps, "
            f"{training.model.dtype}, {torch.get_num_threads()} threads{f' in each of {world} processes' if world > 1 else ''}; prepared in {training.preparing_seconds:.1f} s"
            + (f"; resumed at step {training.step}" if training.step else "")
        )
        folder = trainer.run_loop(training, recipe, run, progress.update, max_seconds, progress.say)
        if training.loader.too_long and rank == 0:
            count = len(_listed(run / LONG_ROWS))
            progress.say(f"{count} rows were longer than pack.length and left out, see {run / LONG_ROWS}")
        done = training.step >= recipe.steps
        progress.say(
            f"saved {folder}" if done else f"stopped at step {training.step}; go on with the same command and --resume"
        )
    if rank == 0 and (training.seconds > before or not (run / "train.json").is_file()):
        facts = summary(training.counters(), _parameters(training), recipe, peak_rss_mb())
        atomic_write(run / "train.json", json.dumps({"machine": machine(), "train": facts}, indent=1))
    return folder


def _check_same(recipe: TrainingConfig, before: TrainingConfig) -> None:
    """A run goes on with the settings it began with, apart from how often it saves and logs, and from
    where its data lies, whose hash is compared."""
    now, then = recipe.model_dump(mode="json"), before.model_dump(mode="json")
    changed = sorted(
        key
        for key in now
        if key not in {"data", "save_every", "log_every", "sampling", "device", "compile", "flex_attention"}
        and now[key] != then[key]
    )
    if changed:
        raise ConfigError(
            f"the run to go on with began with other settings of {', '.join(changed)}; expected the same: leave them as "
            "they were, or start anew with --overwrite or another --out"
        )
