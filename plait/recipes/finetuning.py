"""Proposes how a checkpoint goes on to learn from somebody's rows: what of it moves, how fast, and what it hears of earlier rows.

By default new adapters of low rank (Hu et al., 2021) for what the rows give and what they answer with. The result stands on the
checkpoint and holds what moved alone (docs/adr/0044-finetuning.md).
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from plait.contract import WORDS, Message, Part, Sample
from plait.data import copies, store
from plait.data import splits as held_out
from plait.data.fit import distinct_parts
from plait.data.mix import group_by_task
from plait.data.rows import SOURCES, parts_of, read_rows
from plait.data.sequence import RECALLED
from plait.data.splits import TRAIN
from plait.data.vocabulary import MARKS
from plait.errors import CheckpointError, ConfigError, DataError
from plait.eval import guard as guarding
from plait.eval.suites import about
from plait.infer.engine import Engine
from plait.infer.request import Request
from plait.model import sides as parts_of_model
from plait.model.lora import FURTHER
from plait.model.multimodal import MultimodalTransformer
from plait.model.sides import IN, OUT, TRUNK
from plait.model.transformer import TrunkConfig
from plait.recipes import autoconfig, own_data
from plait.recipes.ancestry import HELD_OUT, Start, earlier_rows, held_out_rows, lineage, stands_on, start_of, suite_on
from plait.recipes.overrides import override
from plait.recipes.recipe import Recipe
from plait.runtime import parallel
from plait.runtime.device import resolve_device, resolve_dtype
from plait.runtime.files import atomic_write
from plait.tasks.user_data import key_of
from plait.train import checkpoint
from plait.train import run as runs
from plait.train.optim import OptimConfig
from plait.train.probe import probe
from plait.train.run import EARLIER

RANK = 16  # of adapters, if nothing is said of what moves
MINUTES = 10.0
TOKENS_A_STEP = 1008  # rows are few and epochs many, so that more steps are worth more than larger ones
MOST_VARIANTS, FEATURES = 8, 400  # varied copies of a medium, and about so many in all
REPLAYED_ROWS, READ_ROWS = 6000, 600  # earlier ones at most; where a frozen encoder has to read what they show
ADAPTER_RATE = 1e-3
WHOLE_RATE = 0.2  # of the rate that weights learned at before: more forgets (docs/experiments/finetuning.md)
PREFERENCE_RATE = 0.1  # of the usual rates, for preferences: a few pairs say much
REPLAYED = 0.5  # share of the draws
HIDES_NOTHING = {"mask_prob": 0.0, "mask_from": 0.0}  # what is asked for hides from the first step on
REPLAY, MOST_ANSWERED = "replay", 64  # a folder of the run; tokens of an answer of its own
GUARD = "guard.json"


@dataclass(frozen=True)
class Choices:
    """What a person says of a fine-tuning. `lora`: rank of new adapters, of words too with `words`; `full`: everything moves;
    `train` and `freeze`: sides, modalities or readers (plait.model.sides); `replay`: share of rows that were learned from before,
    REPLAYED if None and there are any; `minutes`: about which steps are proposed for (MINUTES if None), or training stops after
    where these are settled."""

    lora: int | None = None
    words: bool = False
    full: bool = False
    train: tuple[str, ...] = ()
    freeze: tuple[str, ...] = ()
    keep_words: bool = False
    replay: float | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        if self.full and (self.lora is not None or self.train or self.keep_words):
            raise ConfigError(
                "got --full with --lora, --train or --keep-words; expected one of them: --full moves everything"
            )
        if self.lora is not None and self.lora < 1:
            raise ConfigError(f"got --lora {self.lora}; expected a rank from 1 on, such as {RANK}")
        if self.words and self.keep_words:
            raise ConfigError("got --lora-on all with --keep-words; expected one: adapters of words change words")
        if self.replay is not None and not 0 <= self.replay < 1:
            raise ConfigError(f"got --replay {self.replay}; expected a share from 0 up to 1, such as 0.1")


def used_sides(samples: Sequence[Sample], has_base: bool) -> frozenset[str]:
    """The sides that rows teach: of what is given, of what is answered; words where only words are, and where no pretrained
    language model knows them."""
    sides = set[str]()
    for sample in samples:
        for message in (*sample.messages, *sample.rejected):
            learned = message.role in ("assistant", None)
            sides |= {f"{part.type}-{OUT if learned else IN}" for part in message.parts if part.type != WORDS}
    in_words_alone = not any(part.type != WORDS for s in samples for m in s.messages for part in m.parts)
    return frozenset(sides | ({WORDS} if in_words_alone or not has_base else set()))


def set_name(expert: str, data: Path, known: Collection[str]) -> str:
    """A name for new adapters of an expert that none of the `known` ones has, after the folder of the rows."""
    stem = re.sub(r"[^\w-]+", "-", data.resolve().name).strip("-") or "mine"
    names = (f"{expert}{FURTHER}{stem}{number}" for number in itertools.chain([""], itertools.count(2)))
    return next(name for name in names if name not in known)


def trained_sides(choices: Choices, start: Start, samples: Sequence[Sample]) -> frozenset[str]:
    """The sides that move. Raises ConfigError where nothing is left, or where no row teaches a side that was asked for."""
    asked, _ = parts_of_model.chosen(choices.train, start.vocabulary)
    frozen, _ = parts_of_model.chosen(choices.freeze, start.vocabulary)
    used = used_sides(samples, start.config["base"] is not None or start.vocabulary.template is not None)
    every = frozenset(parts_of_model.sides_of(start.vocabulary))
    taught = used | {WORDS, TRUNK, MARKS}
    if untaught := sorted(asked - taught):
        raise ConfigError(
            f"no row teaches {', '.join(untaught)}: these rows have {', '.join(sorted(used))}; expected rows in which that modality is "
            f"{'answered with' if untaught[0].endswith(OUT) else 'given'}"
        )
    by_rows = every & (used | ({WORDS} if choices.words else set()))
    sides = every if choices.full else asked if choices.train else by_rows
    if choices.keep_words:
        sides -= {WORDS, TRUNK, MARKS}
    sides -= frozen
    if not sides and not choices.train:
        raise ConfigError(
            f"nothing moves: these rows teach {', '.join(sorted(used))}, which --freeze or --keep-words keeps as it is; expected other "
            "rows, or less to be frozen"
        )
    return frozenset(sides)


def what_moves(
    choices: Choices, start: Start, data: Path, samples: Sequence[Sample]
) -> tuple[TrunkConfig, tuple[str, ...]]:
    """The trunk with new adapters, and patterns of the parameters that move. Raises as `trained_sides` does."""
    sides = trained_sides(choices, start, samples)
    trunk = TrunkConfig(**start.config["trunk"])
    rank = RANK if choices.lora is None and not (choices.full or choices.train) else choices.lora
    sets: dict[str, int] | None = None
    if rank is not None:
        of_expert = [expert for side in sorted(sides) for expert in parts_of_model.experts_of(side, start.vocabulary)]
        sets = {set_name(e, data, trunk.adapters): rank for e in of_expert if e not in trunk.split}
        if rank > trunk.dim:
            raise ConfigError(
                f"got --lora {rank}; expected a rank of at most {trunk.dim}, the width of the trunk: more would be no lower"
            )
        if choices.lora is not None and not sets:
            raise ConfigError(
                f"got --lora {rank}, but {', '.join(sorted(sides))} has layers of its own here, which take no adapters; expected no --lora: "
                "these layers move as they are"
            )
        trunk = TrunkConfig(**trunk.model_dump() | {"adapters": trunk.adapters | sets})
        sides -= {WORDS, TRUNK, MARKS}  # of these, adapters alone
    names = _names(start, trunk)
    patterns = [*parts_of_model.patterns_of(sides, names, start.vocabulary, sets)]
    patterns += [f"{TRUNK}.*.adapters.*.{name}" for name in sets or {}]
    patterns += parts_of_model.chosen(choices.train, start.vocabulary)[1]
    frozen_sides, frozen = parts_of_model.chosen(choices.freeze, start.vocabulary)
    moving = tuple(
        dict.fromkeys(
            pattern
            for pattern in patterns
            if pattern not in frozen and not parts_of_model.sides_of_parameter(pattern, start.vocabulary) & frozen_sides
        )
    )
    if not moving:
        raise ConfigError(
            f"nothing moves: {', '.join(sorted(sides)) or 'what is left'} has no parameters of its own here beside what is frozen; expected "
            "--lora RANK, which adds some, or both sides of a modality"
        )
    return trunk, moving


def _names(start: Start, trunk: TrunkConfig) -> list[str]:
    """Names of the parameters of the model with this trunk."""
    with torch.device("meta"):
        model = MultimodalTransformer(trunk, start.vocabulary, seed=None, tied=start.config["tied"])
    return [name for name, _ in model.named_parameters()]


def optimizer(before: OptimConfig, share: float = 1.0) -> OptimConfig:
    """New adapters learn at a rate of their own, which falls from its start to nothing; weights that know something already at a
    part of that which they learned at. Of both the `share`."""
    lr = WHOLE_RATE * before.lr * share
    scales = {"*.adapters.*": ADAPTER_RATE * share / lr, **before.lr_scales}
    return before.model_copy(update={"lr": lr, "lr_scales": scales, "warmup": 10, "decay_fraction": 1.0})


def replayed(start: Start, folder: Path, run: Path) -> Path:
    """Some earlier training rows of each task, copied into the run folder; returns their folder. Raises DataError."""
    _, skip, there = suite_on(start, folder)
    rows = store.open_rows(folder, TRAIN, start.modalities, skip)
    by_task = rows if isinstance(rows, Mapping) else group_by_task(rows)
    rng = np.random.default_rng([2026, 60])
    wanted = {task for task in by_task if there.weights.get(task, 1.0)}
    of_each = -(-(READ_ROWS if start.vocabulary.readers else REPLAYED_ROWS) // max(1, len(wanted)))
    chosen = [
        of_task[int(index)]
        for task, of_task in sorted(by_task.items())
        if task in wanted
        for index in sorted(rng.permutation(len(of_task))[:of_each])
    ]
    return _kept(chosen, run)


def own_answers(
    start: Start, ancestor: Start, samples: Sequence[Sample], run: Path, say: Callable[[str], Any]
) -> Path | None:
    """What the checkpoint itself answers in words to questions of its other tasks about the new media, as rows in the run folder:
    learned again they keep it as it is, without any earlier data (Li and Hoiem, 2016). The questions are those of the rows that its
    `ancestor`, or it itself, is shipped with, whose own media are not used. None where it is shipped with none, or none is about such media."""
    suite, _, _ = suite_on(ancestor, ancestor.folder / HELD_OUT)
    questions_of_rows = _questions(samples)
    media = {kind: parts for kind, parts in distinct_parts(questions_of_rows).items() if kind != WORDS}
    metas = _metas(questions_of_rows)
    rng = np.random.default_rng([2026, 61])
    asked: list[Sample] = []
    tasks = [
        task
        for task in suite.tasks
        if task.answers_in == WORDS and task.gives - {WORDS} and task.gives - {WORDS} <= set(media)
    ]
    of_each = -(-READ_ROWS // max(1, len(tasks)))
    for task in tasks:
        questions = [row.messages[:-1] for row in suite.rows.rows(task, task.splits[0])]
        for number in range(of_each if questions else 0):
            shown = {kind: parts[int(rng.integers(len(parts)))] for kind, parts in media.items()}
            sources = [meta for part in shown.values() for meta in metas.get((part.type, str(part.value)), ())]
            question = about(questions[number % len(questions)], shown)
            asked.append(Sample(question, task.name, meta={SOURCES: sources} if sources else {}))
    if not asked:
        return None
    say(f"asking {start.init} {len(asked)} questions of its own about what these rows show")
    network, _ = checkpoint.load(start.folder, resolve_dtype("auto", resolve_device("auto")))
    engine = Engine(network.to(resolve_device("auto")).for_inference())
    usual = start.recipe.sampling.model_dump() | {"temperature": 0.0, "max_tokens": MOST_ANSWERED}
    answers = engine.generate([Request(question.messages, to=WORDS, **usual) for question in asked])
    rows = [
        replace(question, messages=(*question.messages, Message("assistant", answer.message.parts)))
        for question, answer in zip(asked, answers, strict=True)
        if answer.error is None and answer.message.parts
    ]
    return _kept(rows, run)


def _metas(samples: Sequence[Sample]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """What rows say of themselves, by the type and value of each medium that they show."""
    metas: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for sample in samples:
        for part in parts_of(sample) if sample.meta else ():
            if part.type != WORDS:
                metas.setdefault((part.type, str(part.value)), []).append(dict(sample.meta))
    return metas


def _kept(rows: Sequence[Sample], run: Path) -> Path:
    """The folder of the run in which rows to be replayed are kept with their media."""
    folder = (run / REPLAY).resolve()
    recalled = [replace(row, meta={**row.meta, RECALLED: True}) for row in rows]
    copies.write(recalled, folder / f"{TRAIN}.jsonl")
    return folder


def _questions(samples: Sequence[Sample]) -> list[Sample]:
    """The rows without what is answered."""
    return [replace(sample, messages=tuple(m for m in sample.messages if m.role == "user")) for sample in samples]


def _replay(
    start: Start,
    samples: Sequence[Sample],
    run: Path,
    share: float | None,
    earlier: Path | None,
    say: Callable[[str], Any],
) -> tuple[Path | None, float]:
    """The folder of the rows that are replayed, and their share of the draws: REPLAYED if none is said and there are some.

    Raises DataError where some are asked for and there are none."""
    if share == 0:
        return None, 0.0
    folder = None
    for ancestor in lineage(start):
        if (rows := earlier_rows(ancestor, earlier)) is not None:
            folder = replayed(ancestor, rows, run)
            break
        if (ancestor.folder / HELD_OUT).is_dir():
            folder = own_answers(start, ancestor, samples, run, say)
            break
    if folder is None and share:
        raise DataError(
            f"got --replay {share}, but the rows that {start.init} learned from are not in {start.recipe.data or 'any folder'}; expected "
            "them: --earlier FOLDER, or no replay"
        )
    return folder, (REPLAYED if share is None else share) if folder is not None else 0.0


def shares(own: Mapping[str, float], earlier: Mapping[str, float], replay: float) -> dict[str, float]:
    """Weights of the tasks of own rows and, of all draws the share `replay`, of earlier ones."""
    total, total_earlier = sum(own.values()), sum(earlier.values())
    weights = {task: (1 - replay) * share / total for task, share in own.items()}
    return weights | {f"{EARLIER}{task}": replay * share / total_earlier for task, share in earlier.items()}


def _weights(own: Mapping[str, float], start: Start, replay: Path | None, share: float) -> dict[str, float]:
    if replay is None:
        return dict(own)
    tasks = {sample.task for sample in read_rows(replay / f"{TRAIN}.jsonl", start.modalities)}
    return shares(own, {task: start.recipe.weights.get(task, 1.0) for task in sorted(tasks)}, share)


def propose(
    start: Start, folder: Path, run: Path, bad: Mapping[str, frozenset[str]], choices: Choices,
    overrides: Sequence[str], earlier: Path | None, say: Callable[[str], Any],
) -> autoconfig.Proposal:  # fmt: skip
    """Propose the recipe of a fine-tuning on the rows in `folder`, and measure it on this machine.

    `bad` has the ids of rows to leave out, by split; `run` keeps the splits, and of `earlier` rows those that are replayed. Raises
    ConfigError, DataError.
    """
    samples = list(read_rows(autoconfig.rows_file(folder), start.modalities, bad[TRAIN]))
    of_splits = autoconfig.hold_out(folder, samples, start.modalities)
    splits = held_out.load_or_make(run, folder, of_splits, start.modalities, bad[TRAIN])
    samples = [sample for sample in samples if sample.id not in splits.not_for_training]
    if not samples:
        raise DataError(f"{folder}: {splits}; no row is left to train on: expected train.jsonl to differ from the test")
    trunk, moving = what_moves(choices, start, folder, samples)
    before = start.recipe
    replay, share = _replay(start, samples, run, choices.replay, earlier, say)
    parts = distinct_parts(samples)
    is_preferring = any(sample.rejected for sample in samples)
    if is_preferring:
        say("rows of chosen and rejected answers: what was chosen is to become likelier than what was rejected (dpo)")
    turns = [sum(message.role == "user" for message in sample.messages) for sample in samples]
    first = Recipe(
        name=autoconfig.PREFIX + folder.resolve().name, data=str(folder), hold_out=of_splits, modalities=before.modalities,
        trunk=trunk, init=start.place, stands=True, trainable=moving, tied=tuple(start.config["tied"]),
        flow=before.flow.model_copy(update=HIDES_NOTHING), optim=optimizer(before.optim, PREFERENCE_RATE if is_preferring else 1.0), objective="dpo" if is_preferring else "pretrain" if replay is None else "recall",
        weights=_weights(autoconfig.weights_of(samples), start, replay, share), augment=autoconfig.augment_of(samples),
        replay="" if replay is None else str(replay), variants=_variants(before, start, parts), features=str((run / "features").resolve()), loss_weights=_known_losses(before, start),
        sampling=before.sampling, turns=max([before.turns, *turns]), ema_decay=0.98, seed=before.seed, dtype=before.dtype,
    )  # fmt: skip
    recipe = override(first, overrides)
    pack = autoconfig.pack_of(autoconfig.longest_row(samples, recipe, start.vocabulary), TOKENS_A_STEP)
    recipe = override(recipe.model_copy(update={"pack": pack}), overrides)
    measured = probe(recipe, splits.not_for_training | bad[TRAIN])
    own_a_step = measured.rows_a_step * (1 - share)  # of which the plan tells how often each is seen
    measured = replace(measured, rows=len(samples), rows_a_step=own_a_step)
    if not autoconfig.overrides_steps(overrides):
        recipe = autoconfig.with_steps(recipe, measured, choices.minutes or MINUTES)
    return autoconfig.Proposal(recipe, splits, measured, autoconfig.facts_of(samples, parts))


def _variants(before: Recipe, start: Start, parts: Mapping[str, Sequence[Part]]) -> int:
    """Varied copies of each medium that a reader reads: the more, the fewer media there are."""
    read = sum(len(parts.get(name, ())) for name in start.vocabulary.readers)
    return before.variants if not read else max(before.variants, min(MOST_VARIANTS, FEATURES // read))


def _known_losses(before: Recipe, start: Start) -> dict[str, float]:
    return {group: weight for group, weight in before.loss_weights.items() if group in start.vocabulary.groups}


def train(
    init: str,
    overrides: Sequence[str],
    data: Path,
    run: Path,
    choices: Choices,
    *,
    earlier: Path | None,
    say: Callable[[str], Any],
    **options: Any,
) -> Path:
    """As `plait.api.finetune`."""
    resume, overwrite = options.pop("resume", False), options.pop("overwrite", False)
    start, begun = start_of(init), resume and bool(checkpoint.steps_of(run))
    if choices.minutes is not None and (begun or autoconfig.overrides_steps(overrides)):
        options["max_seconds"] = 60 * choices.minutes
    if begun:
        begun_with = stands_on(checkpoint.locate(run))
        if begun_with is None or checkpoint.name_of(begun_with) != checkpoint.name_of(start.folder):
            raise ConfigError(f"the run in {run} began with {begun_with}, not with {init}; expected the same")
        say("going on with what the run began with: what moves and what is replayed are as they were said then")
        return own_data.go_on(data, overrides, run, **options)
    own_data.refuse_several("a fine-tuning")
    rows = autoconfig.rows_file(data)
    for needed in (*(one.folder for one in lineage(start)), data, *([earlier] if earlier else [])):
        if needed.resolve().is_relative_to(run.resolve()):
            raise ConfigError(
                f"the run folder {run} holds {needed}, which this needs; expected another: choose one with --out"
            )
    with runs.taken(run, resume, overwrite):
        parallel.use_threads(options.get("threads"))
        bad = runs.check(rows.parent, autoconfig.SPLITS, start.modalities, run, options.get("strict", False), say)
        proposal = propose(start, data, run, bad, choices, overrides, earlier, say)
        return own_data.as_proposed(proposal, run, say, **options)


def started_from(folder: Path) -> Start:
    """What the checkpoint in `folder` was trained from. Raises CheckpointError where there is nothing, or it is not here."""
    below = stands_on(folder)
    if below is None:
        raise CheckpointError(
            f"{folder} was trained from no other checkpoint that is here; expected what plait finetune wrote"
        )
    return start_of(str(below))


def guard(
    folder: Path, before: Engine, after: Engine, earlier: Path | None, rows: int, say: Callable[[str], Any]
) -> dict[str, Any]:
    """As `plait.api.guard`."""
    recipe = Recipe(**checkpoint.read_config(folder)["recipe"])
    start = started_from(folder)
    suites = [
        (one, suite) for one in lineage(start) if (suite := held_out_rows(one, earlier if one is start else None))
    ]
    samples = list(read_rows(autoconfig.rows_file(Path(recipe.data)), start.modalities, on_bad=lambda error: None))
    keys = {key for sample in samples if (key := key_of(sample))}
    measured: list[dict[str, guarding.TaskMeasure]] = [{}, {}]
    aims = set[str]()
    for one, suite in suites:
        fresh = replace(suite, tasks=[task for task in suite.tasks if task.name not in measured[0]])
        aims |= {task.name for task in fresh.tasks if (getattr(task, "task", task.name), task.cell) in keys}
        say(f"measuring {len(fresh.tasks)} tasks of {one.place} on rows that it never learned from")
        sampling = one.recipe.sampling.model_dump()
        for of_engine, engine in zip(measured, (before, after), strict=True):
            of_engine |= guarding.measure(engine, fresh, sampling, one.recipe.seed, rows or guarding.ROWS, say)
    if not measured[0]:
        raise DataError(
            f"no rows to guard {start.init} with: those that it learned from are not in {start.recipe.data or 'any folder'} or hold none "
            "out, and it is shipped with none; expected --earlier FOLDER, or --no-guard"
        )
    compared = guarding.compare(measured[0], measured[1], aims)
    result = {
        "before": start.place,
        "after": str(folder),
        "aims": sorted(aims),
        "same_words": guarding.same_words(before, after),
        "measures": guarding.as_entries(compared),
        "regressed": sorted({f"{one.cell} {one.task}" for one in compared if one.regressed}),
    }
    for guarded in compared:
        say(str(guarded))
    atomic_write(checkpoint.run_of(folder) / GUARD, json.dumps(result, indent=1, ensure_ascii=False))
    return result
