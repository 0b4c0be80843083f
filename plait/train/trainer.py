"""The training loop. There is one; tasks and recipes differ by data and settings, never by a second loop."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from fnmatch import fnmatchcase
from multiprocessing import get_context
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import torch
from safetensors import SafetensorError

from plait.contract import WORDS, Sample
from plait.data import store
from plait.data.augment import Augmenter
from plait.data.features import FeatureReader, given_parts
from plait.data.loader import Loader
from plait.data.loader_pool import LoaderPool
from plait.data.media import CachedReader, Member
from plait.data.mix import Rows, group_by_task
from plait.data.pack import Batch
from plait.data.sequence import ADVANTAGE, CTC, FIND, MATCH, Encoder
from plait.data.vocabulary import Vocabulary
from plait.errors import ConfigError, TrainingError
from plait.model import pca, sides
from plait.model.multimodal import MultimodalTransformer
from plait.runtime.device import resolve_device, resolve_dtype
from plait.train import checkpoint, optim
from plait.train.config import TrainingConfig
from plait.train.distributed import any_rank, loader_ranks, ranks, sum_over_ranks
from plait.train.objectives import Objective, dpo, grpo
from plait.train.objectives.align import Align, answers_to_match, answers_to_remember, words_to_expect
from plait.train.objectives.codec import Codec
from plait.train.objectives.dpo import Dpo
from plait.train.objectives.grpo import Grpo
from plait.train.objectives.pretrain import Pretrain
from plait.train.objectives.recall import Recall
from plait.train.objectives.sketch import Sketch
from plait.train.state import Training

KEEP = 2  # checkpoints of a run
TELL_EVERY = 10.0  # seconds between two lines while features are computed
LOOKED_AT = 50  # rows of a task, for one that teaches an objective something
WORKER_SEED = 7919  # between the seeds of two workers
OWN_GROUPS = {"dpo": (dpo.PREFERENCE,), "grpo": (grpo.POLICY,)}  # loss groups of objectives that need a reference
TEACHING = ("pretrain", "recall", *OWN_GROUPS)  # objectives by which the trunk learns to answer
OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "bad_alloc", "cannot allocate")


def accumulate(
    model: MultimodalTransformer, batches: Sequence[Batch], objective: Objective, weights: Mapping[str, float]
) -> dict[str, float]:
    """Gradients of one optimizer step: every group's sum over its count in *all* micro-batches and ranks, weighted.

    Returns each group's mean loss. So 1 x 8 sequences, 8 x 1 and 2 ranks x 4 give the same gradients.
    """
    groups = objective.groups(model)
    counted = [objective.counts(batch) for batch in batches]
    counts = torch.tensor([sum(count[group] for count in counted) for group in groups], dtype=torch.float64)
    sum_over_ranks([counts])
    scale = {
        group: weights.get(group, 1.0) / max(1.0, float(count)) for group, count in zip(groups, counts, strict=True)
    }
    totals = torch.zeros(len(groups), dtype=torch.float64)
    for batch in batches:
        sums = objective.sums(model, batch.to(model.device))
        loss = torch.stack([scale[group] * value for group, value in sums.items()]).sum()
        if (
            loss.requires_grad
        ):  # else nothing that moves takes part: rows of words, where only an expert's adapters move
            loss.backward()  # type: ignore[no-untyped-call]
        for group, value in sums.items():
            totals[groups.index(group)] += value.detach().cpu().double()
    sum_over_ranks([totals])
    moving_parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if ranks()[1] > 1:  # an expert or a reader may be absent on one rank, and all must send the same
        present = torch.tensor([float(parameter.grad is not None) for parameter in moving_parameters])
        sum_over_ranks([present])
        for parameter, somewhere in zip(moving_parameters, present.tolist(), strict=True):
            if somewhere and parameter.grad is None:  # what is nowhere is left alone, as by one process
                parameter.grad = torch.zeros_like(parameter)
    sum_over_ranks([parameter.grad for parameter in moving_parameters if parameter.grad is not None])
    return {group: float(total / count) for group, total, count in zip(groups, totals, counts, strict=True) if count}


def one_step(training: Training, batches: Sequence[Batch], recipe: TrainingConfig) -> dict[str, float]:
    """One optimizer step on its micro-batches; returns each group's mean loss."""
    losses = accumulate(training.model, batches, training.objective, recipe.loss_weights)
    norm = torch.nn.utils.clip_grad_norm_(training.parameters, recipe.optim.clip)
    if not math.isfinite(norm):  # before the weights are touched, so that what is saved stays sound
        raise TrainingError(
            f"step {training.step}: the gradient is no finite number (losses {losses}); the checkpoints before it are "
            "sound; train anew with a lower optim.lr, or with dtype=float32"
        )
    optim.set_lr(training.optimizers, recipe.optim.lr_at(training.step, recipe.steps))
    for optimizer in training.optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    training.step += 1
    training.update_ema(recipe.ema_decay)
    counted = [sum(batch.clean_tokens for batch in batches), sum(batch.used for batch in batches)]
    if ranks()[1] > 1:
        total = torch.tensor(counted, dtype=torch.float64)
        sum_over_ranks([total])
        counted = [int(value) for value in total]
    training.tokens += counted[0]
    training.stored += counted[1]
    return losses


def model_of(
    recipe: TrainingConfig, vocabulary: Vocabulary, components: Mapping[str, pca.PrincipalComponents] | None = None
) -> MultimodalTransformer:
    """The model of a recipe before its first step. `components`: of flow modalities, those of their tokens
    (plait.model.pca)."""
    known = {name: of_tokens for name, of_tokens in (components or {}).items() if len(of_tokens.axes)}
    sizes = {name: len(of_tokens.axes) for name, of_tokens in known.items()}
    model = MultimodalTransformer(recipe.trunk, vocabulary, seed=recipe.seed, components=sizes, tied=recipe.tied)
    pca.start(model, known, recipe.seed)
    model.unlearned = set(model.learners())
    return model


def select_trainable(model: MultimodalTransformer, patterns: Sequence[str]) -> None:
    """Only parameters whose name fits one of some patterns (`trunk.*`, `*.image.*`) move. Raises ConfigError for a pattern
    that fits none."""
    names = [name for name, _ in model.named_parameters()]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            examples = ", ".join(sorted({name.rsplit(".", 2)[0] + ".*" for name in names})[:6])
            raise ConfigError(f"trainable: no parameter fits {pattern!r}; expected patterns such as {examples}")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(any(fnmatchcase(name, pattern) for pattern in patterns))
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ConfigError(f"trainable={list(patterns)}: nothing moves; expected patterns of parameters' names")


def moving(model: MultimodalTransformer) -> str:
    """How many parameters move, by the side of the modality that they serve (plait.model.sides)."""
    counts = sides.counts(model).items()
    return f"parameters that move: {', '.join(f'{side} {moves:,} of {total:,}' for side, (moves, total) in counts)}"


def _check_objective(
    recipe: TrainingConfig, model: MultimodalTransformer, by_task: Mapping[str, Iterable[Sample]]
) -> None:
    """Raise ConfigError for an objective or an alignment that the model or the rows have nothing for."""
    if recipe.objective == "align" and not recipe.alignment:
        raise ConfigError(
            "objective=align without alignment; expected tasks to align, such as alignment.transcribe=ctc"
        )
    if recipe.objective == "codec" and not model.codecs:
        raise ConfigError(
            "objective=codec, but no codec has parts to train; expected a setting such as modalities.audio.vocoder=256"
        )
    if recipe.objective == "sketch" and not model.sketching:
        raise ConfigError(
            "objective=sketch, but no tokens have symbols around them; expected a setting such as modalities.audio.letters=true"
        )
    needed = {"dpo": lambda row: bool(row.rejected), "grpo": lambda row: ADVANTAGE in row.meta}.get(recipe.objective)
    if needed and not any(needed(row) for rows in by_task.values() for row in rows):
        has = "'prompt', 'chosen' and 'rejected'" if recipe.objective == "dpo" else f"meta.{ADVANTAGE}"
        raise ConfigError(f"objective={recipe.objective}, but no row has {has}; expected some in {recipe.data}")
    for task, how in recipe.alignment.items():
        shown = {part.type for row in itertools.islice(by_task.get(task, ()), LOOKED_AT) for part in given_parts([row])}
        if how == FIND:
            if task in by_task and not shown & set(model.vocabulary.finders):
                raise ConfigError(
                    f"alignment.{task}=find: nothing is looked for in what its rows show; expected a setting such as modalities.image.finder=true"
                )
            continue
        readers = [reader for name, reader in model.vocabulary.readers.items() if name in shown]
        if task in by_task and not any(reader.letters if how == CTC else reader.words for reader in readers):
            wanted = (
                "one whose name ends with _spelled, such as modalities.audio.reader=whisper_tiny_en_spelled"
                if how == CTC
                else "one that reads words, such as modalities.image.reader=efficientnet_lite0"
            )
            raise ConfigError(
                f"alignment.{task}={how}: what its rows show is read by {', '.join(r.name for r in readers) or 'no reader'}; "
                f"expected {wanted}"
            )


def _steps_in_full(recipe: TrainingConfig, worker: int) -> int:
    """Of the steps that a worker prepares, those before any row hides something."""
    steps = round(recipe.flow.mask_from * recipe.steps)
    return max(0, math.ceil((steps - worker) / max(1, recipe.pack.workers)))


def build(
    recipe: TrainingConfig, samples: Rows, model: MultimodalTransformer, say: Callable[[str], Any] = lambda line: None
) -> Training:
    """Optimizers and loader of a recipe around a model, at step 0, on the recipe's device."""
    vocabulary = model.vocabulary
    groups = (
        *vocabulary.groups,
        *((CTC, MATCH, FIND) if recipe.alignment else ()),
        *OWN_GROUPS.get(recipe.objective, ()),
    )
    if unknown := set(recipe.loss_weights) - set(groups):
        raise ConfigError(f"loss_weights names {sorted(unknown)}; expected loss groups: {', '.join(groups)}")
    lacking = store.missing_tasks(Path(recipe.data))
    by_task = samples if isinstance(samples, Mapping) else group_by_task(samples)
    tasks = set(by_task)
    if unknown := set(recipe.augment) - tasks - lacking:
        raise ConfigError(
            f"augment names tasks {sorted(unknown)} without rows; expected tasks of the data: {', '.join(sorted(tasks))}"
        )
    _check_objective(recipe, model, by_task)
    codecs = tuple(model.codecs) if recipe.objective == "codec" else ()
    device = resolve_device(recipe.device)
    reader = CachedReader(vocabulary.modalities)
    augmenter = Augmenter(recipe.augment, vocabulary.modalities)
    features = features_of(recipe, vocabulary, device)
    encoder = Encoder(vocabulary, recipe.flow, reader, augmenter, features, recipe.alignment, codecs, recipe.objective)
    if recipe.pack.sequences < ranks()[1]:
        raise ConfigError(
            f"pack.sequences={recipe.pack.sequences} for {ranks()[1]} processes; expected at least one sequence each: raise it"
        )
    model.dtype = resolve_dtype(recipe.dtype, device)
    answers = answers_to_remember(by_task, recipe.alignment, vocabulary)
    model.ask(answers, recipe.seed)
    model.remember(answers)
    model.expect(words_to_expect(by_task, recipe.alignment))
    select_trainable(model, recipe.trainable)
    model.unlearned -= _trained(recipe, model)
    moving_names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    model.base, model.parent = (below and below.without(moving_names) for below in (model.base, model.parent))
    if model.parent is not None and not model.parent.tensors:  # all of it moves
        model.parent = None
    if recipe.init:
        _round_frozen(model)
    model = model.to(device).train()
    if recipe.compile:
        model.compile_trunk(recipe.flex_attention)
    objective = _objective_of(recipe, model, by_task, encoder)
    weights = _weights_of(recipe, by_task, objective, lacking)
    drawn = {task: rows for task, rows in by_task.items() if weights.get(task, 1.0)}
    if recipe.objective in TEACHING:
        model.shown_wordless |= _shown_wordless(drawn, vocabulary)
    if features is not None:
        compute_features(features, drawn, say)

    def loader_of(worker: int) -> Loader:
        seed = recipe.seed + WORKER_SEED * worker
        return Loader(by_task, weights, encoder, recipe.pack, seed, _steps_in_full(recipe, worker))

    loader = LoaderPool(loader_of, recipe.pack.workers) if recipe.pack.workers else loader_of(0)
    return Training(model, optim.build(recipe.optim, model), loader, objective)


def _round_frozen(model: MultimodalTransformer) -> None:
    """Keep what does not move in the model's dtype: it needs no precision beyond the arithmetic's."""
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad and not name.startswith("codecs."):
            parameter.data = parameter.data.to(model.dtype)


def _trained(recipe: TrainingConfig, model: MultimodalTransformer) -> set[str]:
    """Which of the model's learners a training moves."""
    groups = {"flows"} if recipe.objective in TEACHING else set()
    groups |= {"askers", "spellers"} if recipe.alignment else set()
    groups |= {"finders"} if FIND in recipe.alignment.values() else set()
    return {
        name
        for name, module in model.learners().items()
        if name.partition(".")[0] in groups and any(parameter.requires_grad for parameter in module.parameters())
    }


def _shown_wordless(by_task: Mapping[str, Iterable[Sample]], vocabulary: Vocabulary) -> set[str]:
    """Readers whose media stand without words in a turn of some row."""
    shown = {
        part.type
        for rows in by_task.values()
        for row in itertools.islice(rows, LOOKED_AT)
        for message in row.messages
        if message.role == "user" and all(part.type != WORDS for part in message.parts)
        for part in message.parts
    }
    return {reader.name for name, reader in vocabulary.readers.items() if name in shown}


def _objective_of(
    recipe: TrainingConfig, model: MultimodalTransformer, by_task: Mapping[str, Sequence[Sample]], encoder: Encoder
) -> Objective:
    if recipe.objective == "codec":
        return Codec(tuple(model.codecs))
    if recipe.objective == "sketch":
        return Sketch(model.sketching)
    if recipe.objective in OWN_GROUPS:
        return (Dpo if recipe.objective == "dpo" else Grpo)(model, recipe.preference)
    if recipe.objective == "recall":
        return Recall(model)
    if not recipe.alignment:
        return Pretrain()
    rows = itertools.chain.from_iterable(by_task.values())
    others = answers_to_match(encoder.alignment_of(row) for row in rows)
    return Align(recipe.objective == "align", recipe.alignment, others)


def _weights_of(
    recipe: TrainingConfig, by_task: Mapping[str, Sequence[Sample]], objective: Objective, lacking: Collection[str]
) -> dict[str, float]:
    """Shares of the tasks: the recipe's, but none of what the objective learns nothing from. Raises ConfigError where nothing
    is left."""
    weights = {task: share for task, share in recipe.weights.items() if task not in lacking}
    weights |= {
        task: 0.0
        for task, rows in by_task.items()
        if not any(objective.learns_from(row) for row in itertools.islice(rows, LOOKED_AT))
    }
    if not any(weights.get(task, 1.0) for task in by_task):
        raise ConfigError(
            f"objective={recipe.objective} learns nothing from the tasks {', '.join(sorted(by_task))} with these weights; "
            "expected rows of another kind, or other weights"
        )
    return weights


def features_of(recipe: TrainingConfig, vocabulary: Vocabulary, device: torch.device) -> FeatureReader | None:
    """What gives the features of parts that have a reader; None where no modality has one."""
    if not vocabulary.readers:
        return None
    folder = Path(recipe.features) if recipe.features else Path(recipe.data) / "features"
    return FeatureReader(vocabulary.modalities, vocabulary.readers, device, folder, recipe.variants)


def compute_features(features: FeatureReader, samples: Rows, say: Callable[[str], Any]) -> None:
    """Compute the features of all that is given in the rows and not in the cache yet; processes prepare where there are
    cores to spare."""
    rows = itertools.chain.from_iterable(samples.values()) if isinstance(samples, Mapping) else iter(samples)
    parts = {(part.type, part.value): part for part in given_parts(rows) if isinstance(part.value, str | Member)}
    workers = (os.cpu_count() or 1) - 2
    begin = last = time.perf_counter()

    def tell(done: int) -> None:
        nonlocal last
        if time.perf_counter() - last > TELL_EVERY:
            last = time.perf_counter()
            say(f"features of {done:,} media and variants read ({last - begin:.0f} s)")

    with contextlib.ExitStack() as stack:
        pool = (
            stack.enter_context(ProcessPoolExecutor(workers, get_context("fork"), torch.set_num_threads, (1,)))
            if workers > 0
            else None
        )
        done = features.compute(parts.values(), pool, tell)
    if done:
        say(f"features of {done:,} media and variants read in {time.perf_counter() - begin:.0f} s")
    wanted = (features.variants + 1) * sum(part.type in features.readers for part in parts.values())
    hits = max(0, wanted - done) / max(1, wanted)
    for name, cache in features.stores.items():
        say(
            f"features of {name}: {len(cache.places):,} in {cache.bytes / 1e6:,.0f} MB at {cache.data}; {hits:.0%} of the "
            f"{wanted:,} wanted of all media were there"
        )


def save(training: Training, recipe: TrainingConfig, run: Path) -> Path:
    """Write a checkpoint of the run and drop all but the newest few. Raises TrainingError when it cannot be written."""
    folder = run / "checkpoints" / checkpoint.STEP_NAME.format(training.step)
    try:
        training.before_save()
        checkpoint.save(
            folder, training.model, training.ema_weights(), recipe.model_dump(mode="json"), training.image()
        )
    except (OSError, SafetensorError) as error:
        checkpoint.discard(folder)
        raise TrainingError(
            f"step {training.step} cannot be saved in {run}: {error}; the checkpoints before it are sound: make room on "
            f"the disk or mend its rights, then go on with the same command and --resume"
        ) from error
    for old in checkpoint.steps_of(run)[:-KEEP]:
        checkpoint.remove(old)
    return folder


def run_loop(
    training: Training,
    recipe: TrainingConfig,
    run: Path,
    report: Callable[[Training, dict[str, float], float], Any],
    max_seconds: float = math.inf,
    complain: Callable[[str], Any] = print,
) -> Path:
    """Train to `recipe.steps`, saving as the recipe says and at the end; a time limit, Ctrl-C or SIGTERM stops and saves.

    `report` is told of every logged step: the state, the mean losses, and the mean fill of the packed sequences. A
    checkpoint on the way that cannot be written is complained of, and the run goes on; the last one raises TrainingError.
    """
    rank = ranks()[0]
    with StopSignal() as stop, loader_ranks() as processes, training.loader.steps(processes) as steps:
        saved_at = training.step if training.step else None
        begun = training.seconds
        while training.step < recipe.steps and not any_rank(stop.asked or training.seconds - begun >= max_seconds):
            begin = time.perf_counter()
            with memory_advice(training.step, recipe):
                batches = next(steps)
                losses = one_step(training, batches, recipe)
            training.seconds += time.perf_counter() - begin
            if training.step % recipe.log_every == 0 or training.step == recipe.steps:
                report(training, losses, sum(batch.fill for batch in batches) / len(batches))
            if training.step % recipe.save_every == 0 and rank == 0:
                saved_at = _save_if_possible(training, recipe, run, complain) or saved_at
        if rank == 0 and saved_at != training.step:
            save(training, recipe, run)
        any_rank(False)  # all wait until the first has saved
    return checkpoint.locate(run)


def _save_if_possible(
    training: Training, recipe: TrainingConfig, run: Path, complain: Callable[[str], Any]
) -> int | None:
    """The step that was saved; None, with a complaint, where it could not be."""
    try:
        save(training, recipe, run)
    except TrainingError as error:
        complain(f"{error}; the run goes on and tries again after {recipe.save_every} steps")
        return None
    return training.step


@contextmanager
def memory_advice(step: int, recipe: TrainingConfig) -> Iterator[None]:
    """Running out of memory inside becomes a TrainingError that names the settings to lower."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        words = str(error).lower()
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and not any(w in words for w in OUT_OF_MEMORY):
            raise
        micro = recipe.pack.micro or recipe.pack.sequences
        raise TrainingError(
            f"step {step}: out of memory ({str(error).splitlines()[0] if str(error) else 'MemoryError'}); the checkpoints "
            f"before it are sound. Lower pack.micro (now {micro} sequences at once: the same steps in smaller pieces), "
            f"then pack.length (now {recipe.pack.length}) or trunk.dim (now {recipe.trunk.dim})"
        ) from error


class StopSignal:
    """While open, Ctrl-C and SIGTERM ask the loop to stop after the step it is in, so that what is saved is whole."""

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignal:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._ask)
        return self

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked:  # a second one does not wait
            raise KeyboardInterrupt
        self.asked = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
