"""The verbs in Python: build, train, load, generate, evaluate. The command line says the same words."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plait import recipes, registry
from plait.api.model import Model
from plait.contract import WORDS, Part
from plait.errors import ConfigError, PlaitError
from plait.infer.request import Request

if TYPE_CHECKING:
    from plait.data.validate import BadRow, CheckReport
    from plait.eval.compare import Change
    from plait.eval.progress import Progress
    from plait.recipes.recipe import Recipe
    from plait.train.forecast import Forecast
    from plait.train.precision import Precision

__all__ = [
    "Model", "Part", "Request", "build", "bundle", "compare", "distill", "evaluate", "export", "finetune", "guard", "import_model", "load",
    "load_several", "merge", "reward", "status", "train", "train_on",
]  # fmt: skip

PathLike = str | Path


def build(
    name: str, folder: PathLike | None = None, say: Callable[[str], None] = print, sources: Sequence[str] = ()
) -> Path:
    """Build the data of recipe `name` in `folder` (the recipe's own if none is given), of all its sources or only of those
    named; returns the folder. Raises ConfigError for a source that it does not know, DataError as the recipe says."""
    module = recipes.module(name)
    place = Path(folder or module.RECIPE.data)
    if not sources:
        module.build(place, say)
    elif hasattr(module, "SOURCES"):
        module.build(place, say, sources)
    else:
        raise ConfigError(f"got sources for recipe {name!r}, which has no choice of them; build it without --source")
    return place


def fetch(
    names: Sequence[str], to: PathLike | None = None, given: PathLike | None = None, any_version: bool = False,
    say: Callable[[str], Any] = print,
) -> dict[str, str]:  # fmt: skip
    """Fetch sources by their names into the folder `to` (that of the recipes if none is given); what cannot be had is said
    and passed over. Returns why it could not be had, by name.

    `given` is a folder with the files of one source, fetched by hand; `any_version` takes the versions that are offered
    instead of the pinned ones. Raises ConfigError for an unknown source, or where `given` is for several.
    """
    from plait.data import sources
    from plait.data.sources import fetch as fetching

    found = [sources.module(name).SOURCE for name in names]
    place = Path(to or fetching.places())
    if given is not None and len(found) != 1:
        raise ConfigError(f"got files by hand for {len(found)} sources; expected one, such as: emoji --from FOLDER")
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{place}: {error.strerror}; expected a place for a folder of sources") from error
    if given is None:
        return fetching.several(found, place, say, any_version)[1]
    (source,) = found
    try:
        fetching.source(source, place, any_version, Path(given))
    except PlaitError as error:
        say(f"{source.name}: left out: {error}")
        return {source.name: str(error)}
    say(f"{source.name}: taken from {given} ({source.licence})")
    return {}


def show(
    name: str, folder: PathLike | None = None, *, count: int = 3, html: PathLike | None = None, augment: bool = False,
    say: Callable[[str], Any] = print,
) -> None:  # fmt: skip
    """Say what the data of recipe `name` is made of and `count` training rows of each task; or write a page of training and
    held-out rows to `html`, with variants of what is looked at if `augment`. Raises DataError when nothing is built.
    """
    from plait.data.corpus import preview
    from plait.data.corpus.folder import open_folder

    place = open_folder(recipes.module(name).RECIPE, Path(folder) if folder else None)
    if html is None:
        for line in preview.lines(place, count):
            say(line)
    else:
        preview.write_html(place, Path(html), count, augment)


def stats(
    name: str, folder: PathLike | None = None, *, html: PathLike | None = None, json: PathLike | None = None,
    say: Callable[[str], Any] = print,
) -> dict[str, Any]:  # fmt: skip
    """The data of recipe `name` in numbers; also as a page and as JSON, if asked. Raises DataError when nothing is built."""
    from plait.data.corpus import statistics
    from plait.data.corpus.folder import open_folder

    found = statistics.gather(open_folder(recipes.module(name).RECIPE, Path(folder) if folder else None), say)
    if html:
        statistics.write_html(found, Path(html))
    if json:
        statistics.write_json(found, Path(json))
    return found


def check(rows: PathLike, out: PathLike | None = None, say: Callable[[str], Any] = print) -> CheckReport:
    """Check every row of a JSONL file; bad ones are said, and written to `out` if given. Raises DataError."""
    from plait.data.validate import check_file, list_bad_rows

    known = registry.build_all(registry.available())

    def tell(bad: BadRow) -> None:
        say(bad.problem)

    found = list_bad_rows([Path(rows)], known, Path(out), tell)[0] if out else check_file(Path(rows), known, tell)
    say(str(found))
    return found


def import_model(
    source: PathLike, dest: PathLike | None = None, say: Callable[[str], Any] = print, reader: bool = False
) -> Path:
    """Make a checkpoint in `dest` from a language model that exists: a GGUF file, a folder of Hugging Face, or a base by its name, which
    needs no `dest`. The folder of a frozen encoder (ViT, CLIP, wav2vec 2.0, BERT...), and with `reader` that of a language model, becomes
    a reader, known by the name that is said. Returns the folder. Raises CheckpointError for a source that cannot be taken, ConfigError
    where `dest` holds something or is needed.
    """
    from plait.pretrained import encoders, importer
    from plait.recipes.recipe import of_language_model
    from plait.train import bases, checkpoint

    if taken := encoders.taken(Path(source), None if dest is None else Path(dest), as_reader=reader):
        say(f"modalities.{taken[0]}.reader={taken[1]} reads with it; its licence stays that of its makers")
        return taken[2]

    base = bases.BASES.get(str(source))
    if dest is None:
        if base is None:
            raise ConfigError(f"got no folder for {source}; expected one, or a base's name: {', '.join(bases.BASES)}")
        say(str(base))
        folder = bases.folder_of(base, agreed=True)
        say(str(folder))
        return folder
    folder = Path(dest)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(
            f"{folder} is there already; expected a new folder for the checkpoint: choose another, or remove it"
        )
    language_model = importer.read(bases.source_of(base, agreed=True) if base else Path(source))
    model = importer.to_model(language_model)
    recipe = of_language_model(str(language_model.config["model_type"]))
    checkpoint.save(folder, model, model.state_dict(), recipe.model_dump(mode="json"))
    count = sum(parameter.numel() for parameter in model.parameters())
    template = (
        "with its chat template" if language_model.template else "without a chat template: it continues documents"
    )
    say(
        f"{folder}: {language_model.config['model_type']}, {count / 1e6:.1f} M parameters, {model.vocabulary.tables[WORDS]:,} tokens, "
        f"{template}; sha256 of the source {language_model.sha256[:12]}"
    )
    return folder


def bundle(name: str, *overrides: str, to: PathLike, data: PathLike | None = None, **options: Any) -> Path:
    """Write what the training of recipe `name`, with `key=value` overrides, needs on a machine without internet; returns the
    manifest. `data` takes the place of the recipe's folder. `options`: part_mib, total_mib, python."""
    from plait.bundle.pack import pack

    recipe = settings(name, *overrides)
    return pack(recipe, Path(data or recipe.data), Path(to), **options)


def status(path: PathLike) -> dict[str, Any]:
    """How far a run is: its stage, step, steps, tokens, minutes, minutes left, and the curve of each loss group."""
    from plait.train.status import status_of

    return status_of(Path(path))


def settings(name: str, *overrides: str) -> Recipe:
    """Recipe `name`, or of a file NAME.json, with `key=value` overrides applied. Raises ConfigError."""
    from plait.recipes.overrides import override

    return override(recipes.load(name), list(overrides))


def train(name: str, *overrides: str, out: PathLike, **options: Any) -> Path:
    """Train recipe `name` with `key=value` overrides into the run folder `out`; returns the last checkpoint.

    `options`: resume, overwrite, strict, threads, max_seconds, as `plait.train.run.train` takes them."""
    from plait.train.run import train as train_recipe

    return train_recipe(settings(name, *overrides), Path(out), **options)


def forecast(name: str, *overrides: str, threads: int | None = None) -> Forecast:
    """Measure for some seconds how fast this machine trains, and how many minutes a recipe's training would take."""
    from plait.runtime import parallel
    from plait.train import forecast as forecasting

    parallel.use_threads(threads)
    return forecasting.forecast(settings(name, *overrides))


def train_on(
    data: PathLike, *overrides: str, out: PathLike, minutes: float | None = None, say: Callable[[str], Any] = print,
    resume: bool = False, **options: Any,
) -> Path:  # fmt: skip
    """Train on the folder `data` of rows without a recipe: one is proposed from the data, and measured before training.

    The steps that are proposed take about `minutes` (15 if none are given). Where the steps are settled already, by an
    override or by the run that is resumed, training stops after `minutes`, if they are given. Overrides are `key=value` as
    for `train`. `options`: overwrite, strict, threads, as `plait.train.run.train` takes them. Returns the last checkpoint.
    """
    from plait.recipes import own_data

    return own_data.train(Path(data), list(overrides), Path(out), minutes=minutes, say=say, resume=resume, **options)


def finetune(
    path: PathLike, *overrides: str, data: PathLike, out: PathLike, earlier: PathLike | None = None,
    say: Callable[[str], Any] = print, choices: Mapping[str, Any] | None = None, **options: Any,
) -> Path:  # fmt: skip
    """Let a checkpoint go on to learn from the folder `data` of rows; returns the last checkpoint of the run `out`, which stands on
    the first and holds what moved. `choices`: fields of plait.recipes.finetuning.Choices. `earlier`: the rows that it learned from
    before, where they are not where its recipe says. `options`: resume, overwrite, strict, threads. Raises ConfigError, DataError,
    CheckpointError."""
    from plait.recipes import finetuning

    chosen, before = finetuning.Choices(**(choices or {})), None if earlier is None else Path(earlier)
    return finetuning.train(str(path), overrides, Path(data), Path(out), chosen, earlier=before, say=say, **options)


def guard(
    path: PathLike, *, earlier: PathLike | None = None, rows: int = 0, say: Callable[[str], Any] = print
) -> dict[str, Any]:
    """Measure every cell of what `finetune` wrote, and of the checkpoint that it stands on, on rows that the latter never learned from;
    written to guard.json in the run folder, too. `rows` of each task; as many as are usual if 0. Raises DataError without any."""
    from plait.recipes import finetuning
    from plait.train import checkpoint

    folder = checkpoint.locate(Path(path))
    models = load_several({"before": finetuning.started_from(folder).folder, "after": folder})
    engines = models["before"].engine, models["after"].engine
    return finetuning.guard(folder, *engines, None if earlier is None else Path(earlier), rows, say)


def reward(path: PathLike, task: str, *, out: PathLike, by: str = "judge", **options: Any) -> Path:
    """Let a checkpoint learn from rewards for its answers to a task's questions; returns the last checkpoint of the run `out`, beside whose
    rewards.json. `by`: judge, or FILE.py:NAME of (question, answer, expected) -> number. `options`: those of
    plait.recipes.rewarding.Rounds, choices, say; `data`, the rows that it learned from, if they are elsewhere. Raises ConfigError, DataError, CheckpointError."""
    from plait.recipes import finetuning, rewarding

    choices, say = finetuning.Choices(**options.pop("choices", {})), options.pop("say", print)
    rows = None if (data := options.pop("data", None)) is None else Path(data)
    rounds = rewarding.Rounds(**options)
    return rewarding.train(str(path), task, Path(out), data=rows, reward=by, rounds=rounds, choices=choices, say=say)


def merge(path: PathLike, target: PathLike, undo: bool = False) -> Path:
    """Write what a fine-tuned checkpoint and the one that it stands on are together to the new folder `target`; or, to `undo` that,
    the first apart again. Returns the folder. Raises ConfigError, CheckpointError."""
    from plait.train import checkpoint, standing

    way = standing.unmerged if undo else standing.merged
    return way(checkpoint.locate(Path(path)), Path(target))


def fetch_base(path: PathLike, say: Callable[[str], Any] = print) -> None:
    """Fetch the language model that a checkpoint stands on, if any; raises as `plait.train.bases.fetch`."""
    from plait.train import bases, checkpoint

    bases.fetch(checkpoint.read_config(checkpoint.locate(Path(path)))["base"], say)


def conversations() -> dict[str, Path]:
    """Lines for `plait chat --script` that show what a checkpoint can do: of each that is shipped with some, by name."""
    from plait.train import shipped

    return shipped.conversations()


def bases() -> list[Any]:
    """What `plait doctor` says of the pretrained models that a training may stand on."""
    from plait.train import bases as known

    return list(known.findings())


def finished(path: PathLike) -> bool:
    """Whether a checkpoint is at the last step of its recipe."""
    from plait.train import checkpoint

    return checkpoint.is_done(Path(path))


def load(path: PathLike, dtype: str = "auto", device: str = "auto") -> Model:
    """The model of a checkpoint, run folder or archive, on `device`. `dtype`, which may stand behind the path as in smol@int8: auto,
    float32, bfloat16, or int8 or int4 (the trunk's weights, on a CPU). Raises CheckpointError, ConfigError."""
    from plait.runtime import native
    from plait.runtime.device import bits_of, resolve_device, resolve_dtype, with_dtype
    from plait.train import archive, checkpoint

    path, dtype = with_dtype(Path(path), dtype)
    processor = resolve_device("cpu" if bits_of(dtype) and device == "auto" else device)
    native.configure()
    with archive.opened(path) as folder:
        network, config = checkpoint.load(folder, resolve_dtype(dtype, processor))
        model = Model(network.to(processor).for_inference(bits_of(dtype)), config)
        model.folder, model.path = checkpoint.locate(folder), path
    return model


def load_several(paths: Mapping[str, PathLike], dtype: str = "auto", device: str = "auto") -> dict[str, Model]:
    """Models by the names of `paths`, as `load` gives them; those that stand on the same language model keep it in memory once."""
    models: dict[str, Model] = {}
    for name, path in paths.items():
        model = load(path, dtype, device)
        for other in models.values():
            model.network.share_base(other.network)
        models[name] = model
    return models


def export(path: PathLike, target: PathLike, precision: Precision | None = None, to: str = "archive") -> Path:
    """A checkpoint or run folder to the file `target`, its weights as they are or in float32, bfloat16 or int8; an archive to the new
    folder `target`; `to` another program: plait.portable.formats. Raises ConfigError, CheckpointError, MissingError."""
    from plait.portable import formats
    from plait.train import archive, checkpoint

    if to != "archive":
        return formats.export(checkpoint.locate(Path(path)), Path(target), to, precision)
    if not archive.is_archive(Path(path)):
        return archive.pack(checkpoint.locate(Path(path)), Path(target), precision)
    if precision is not None:
        raise ConfigError(f"got precision={precision} for an archive, which is unpacked as it is; expected none")
    return archive.unpack(Path(path), Path(target))


def compare(
    before: PathLike,
    after: PathLike,
    *,
    tolerance: float | None = None,
    say: Callable[[str], None] = print,
    **options: Any,
) -> list[Change]:
    """Every cell of two checkpoints, or of two report.json files, on the same held-out rows with the same noise.

    `options` as for `evaluate`, of which `json` and `html` are those of `after`. Raises DataError where the data differ.
    """
    from plait.eval import compare as comparing
    from plait.recipes.recipe import Recipe
    from plait.train import checkpoint

    seed = options.pop("seed", None)
    reports = []
    for path, more in ((Path(before), {}), (Path(after), {key: options.pop(key, None) for key in ("json", "html")})):
        if path.suffix == ".json":
            reports.append(comparing.read(path))
            continue
        seed = Recipe(**checkpoint.read_config(checkpoint.locate(path))["recipe"]).seed if seed is None else seed
        reports.append(evaluate(path, seed=seed, say=say, **options, **more))
    return comparing.compare(reports[0], reports[1], comparing.TOLERANCE if tolerance is None else tolerance)


def evaluate(
    path: PathLike, *, data: PathLike | None = None, json: PathLike | None = None, html: PathLike | None = None,
    seed: int | None = None, limit: int | None = None, say: Callable[[str], None] = print, progress: Progress | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Measure every cell of a checkpoint on its recipe's held-out data; writes its model card, and report.json and
    report.html if asked.

    `limit` bounds the rows of each split (all of them if None), and leaves the model card as it is; `seed` is that of the
    noise answers are drawn from (the recipe's if None); `progress` shows how many questions of a task are answered (on
    standard error if None). Raises CheckpointError, and DataError for rows that this checkpoint may have been trained on.
    """
    from plait.data.features import FeatureReader
    from plait.eval import card, runner
    from plait.eval import report as reports
    from plait.eval.progress import ConsoleProgress
    from plait.recipes import measuring
    from plait.recipes.recipe import Recipe
    from plait.runtime.device import with_dtype
    from plait.train import checkpoint
    from plait.train import run as runs

    at, dtype = with_dtype(Path(path))
    folder = checkpoint.locate(at)
    model = load(folder, dtype)
    recipe = Recipe(**model.config["recipe"])
    place = Path(data or recipe.data)
    run = checkpoint.run_of(folder)
    there = recipe.model_copy(update={"data": str(place)})
    suite, skip = measuring.suite_of(there, run, model.network.vocabulary.modalities)
    notes = measuring.check_rows(folder, there, skip)
    seed = recipe.seed if seed is None else seed
    if isinstance(features := model.engine.encoder.features, FeatureReader):
        features.keep_in(place / "features")  # those of the training are there: baselines need them, too
    sampling = recipe.sampling.model_dump()
    evaluation = runner.Evaluation(model.engine, suite, sampling, seed, limit, say, progress or ConsoleProgress())
    evaluation.notes += notes
    begin = time.perf_counter()
    measured = runner.run(evaluation, say)
    report = {
        "format": runner.FORMAT,
        "checkpoint": str(path),
        "commit": runner.commit(),
        "seed": recipe.seed,
        "sampling_seed": seed,
        "machine": runs.machine(),
        "train": reports.training_summary(folder, sum(p.numel() for p in model.network.parameters()), recipe),
        **measured,
        "data": reports.data_summary(place),
        "evaluation_seconds": round(time.perf_counter() - begin, 1),
    }
    if limit is None and dtype == "auto":
        card.write(folder, report, recipe.name)
    else:
        say(f"the model card stays as it is: {f'at most {limit} rows of each split' if limit else dtype} were measured")
    reports.write(report, evaluation.outcomes, folder, json, html)
    return report


def distill(path: PathLike, to: PathLike, *, say: Callable[[str], Any] = print, **options: Any) -> Path:
    """Let a checkpoint answer training questions whose answer is no words, and write a recipe that learns the same from fewer
    steps, without guidance, to the new folder `to`; returns the recipe, for `plait train`. `options` as for
    plait.recipes.fast.distill: data, rows, steps, sampling_steps."""
    from plait.recipes import fast

    return fast.distill(load(path).engine, Path(path), Path(to), say=say, **options)
