"""A small recipe for data that nobody here prepared: looked at, proposed, and timed before it is trained."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from plait import registry
from plait.contract import Modality, Part, Sample
from plait.data import splits as held_out
from plait.data.augment import AugmentConfig
from plait.data.fit import distinct_parts, fit
from plait.data.importers import detect
from plait.data.loader import PackConfig
from plait.data.rows import read_rows
from plait.data.sequence import Encoder, FlowConfig
from plait.data.splits import TRAIN, Splits
from plait.data.vocabulary import Vocabulary
from plait.errors import DataError, PlaitError
from plait.eval.user_data import least_for_a_judge
from plait.recipes.overrides import override
from plait.recipes.recipe import Recipe, Sampling
from plait.tasks.user_data import cell_of, key_of, labels_of
from plait.train.optim import OptimConfig
from plait.train.probe import Probe, probe

SPLITS = ("test", "judge")
PREFIX = "own-"  # of the names of proposed recipes
MINUTES = 15.0
LOOKED_AT = 400  # parts of a modality that settings are suggested from
MEASURED_ROWS = 1000  # rows whose length is measured
SHORTEST, LONGEST = 192, 1024  # tokens of a packed sequence
TOKENS_A_STEP = 4032
LEAST_GROUPS = 100  # fewer media (or questions) than this: none is held out
TEST_SHARE, MOST_TEST = 0.1, 1000
JUDGE_SHARE, MOST_JUDGE = 0.15, 5000
PASSES = 400  # over the rows: more only learns a small set by heart
LEAST_STEPS = 500
TEXT_SHARE = 0.5  # of a task that answers in words, against one that makes media: words are learned sooner
AUGMENTED = 0.7
LABELLED_GUIDANCE = 3.0  # where many pictures or clips go with one text
CAPTION_GUIDANCE = 1.5  # where each has its own, more only saturates (docs/experiments/own-data.md)


@dataclass(frozen=True)
class Proposal:
    """A recipe, what it rests on, and what it will take."""

    recipe: Recipe
    splits: Splits
    probe: Probe
    facts: tuple[str, ...]

    @property
    def seconds(self) -> float:
        return self.probe.seconds(self.recipe)

    def __str__(self) -> str:
        recipe, measured = self.recipe, self.probe
        plan = (
            f"plan: {recipe.steps} steps of about {measured.tokens_a_step:.0f} tokens ({measured.rows_a_step:.0f} rows), "
            f"{recipe.steps * measured.rows_a_step / measured.rows:.1f} times each row, {self.seconds / 60:.1f} minutes, "
            f"{measured.peak_rss_mb / 1024:.1f} GiB at the peak"
        )
        model = f"model: {measured.parameters / 1e6:.1f} million parameters; " + "; ".join(
            f"{name} {', '.join(f'{k}={v}' for k, v in settings.items())}"
            for name, settings in recipe.modalities.items()
        )
        return "\n".join([*self.facts, str(self.splits), model, plan])


def rows_file(folder: Path) -> Path:
    """The rows of a data folder. Raises DataError saying how to get some."""
    path = folder / f"{TRAIN}.jsonl"
    if path.is_file():
        return path
    if folder.is_file():
        mend = (
            f"--data {folder.parent}" if folder.name == path.name else f"rename it to {path.name} and give its folder"
        )
        raise DataError(f"{folder} is a file; expected the folder that {path.name} and its media are in: {mend}")
    if not folder.exists():
        raise DataError(f"{folder} is not there; expected a folder with train.jsonl")
    try:
        form = detect(folder)
    except PlaitError:
        raise DataError(
            f"{folder} has no train.jsonl and is in no format that can be imported; expected rows as docs/your-data.md "
            "describes them"
        ) from None
    raise DataError(
        f"{folder} has no train.jsonl, but looks like {form}; turn it into rows first: "
        f"plait data import {folder} --to NEW_FOLDER, then plait train --data NEW_FOLDER"
    )


def modalities_wished(overrides: list[str]) -> dict[str, Modality]:
    """All modalities there are, as overrides such as `modalities.audio.max_seconds=60` want them: what rows are checked
    with before anything is proposed. Raises ConfigError."""
    bare = Recipe(name="bare", data="", modalities={name: {} for name in registry.available()})
    wishes = [entry for entry in overrides if entry.startswith("modalities.")]
    return registry.build_all(override(bare, wishes).modalities)


def settles_steps(overrides: Sequence[str]) -> bool:
    """Whether overrides say how many steps there are, so that none are proposed."""
    return any(entry.startswith("steps=") for entry in overrides)


def _hold_out(folder: Path, samples: list[Sample], known: Mapping[str, Modality]) -> dict[str, float]:
    """Shares of the groups for the test, and for judges where enough media that are written have labels."""
    groups = {group for sample in samples for group in held_out.groups(sample, known)}
    shares = {}
    if len(groups) >= LEAST_GROUPS or (folder / "test.jsonl").is_file():
        shares["test"] = min(TEST_SHARE, MOST_TEST / len(groups))
    labels = labels_of(samples)
    written = {p.type for s in samples if cell_of(s) for p in s.messages[-1].parts} & set(labels.values)
    share = min(JUDGE_SHARE, MOST_JUDGE / len(groups))
    for kind in written:
        media = sum(1 for of, _ in labels.of if of == kind)
        if shares and share * media >= least_for_a_judge(labels.values[kind]):
            shares["judge"] = share
    return shares


def _weights(samples: list[Sample]) -> dict[str, float]:
    """Shares of the tasks: as the square root of their rows, so that small ones are heard, less for answers in words."""
    rows = Counter(sample.task for sample in samples)
    words = Counter(sample.task for sample in samples if (cell_of(sample) or "text").endswith("text"))
    return {
        task: round(math.sqrt(count / max(rows.values())) * (TEXT_SHARE if words[task] > count / 2 else 1.0), 3)
        for task, count in sorted(rows.items())
    }


def _augment(samples: list[Sample]) -> dict[str, AugmentConfig]:
    """Tasks that name the label of a medium: there another look at it has the same answer."""
    return {task: AugmentConfig(share=AUGMENTED) for task in sorted({task for task, _ in labels_of(samples).answers})}


def _longest(samples: list[Sample], recipe: Recipe) -> int:
    """Tokens of the longest of some rows, with copies."""
    modalities = registry.build_all(recipe.modalities)
    fit(modalities, samples, recipe.seed)
    encoder = Encoder(Vocabulary(modalities), recipe.flow.model_copy(update={"null_prob": 0.0, "end_prob": 1.0}))
    rng = np.random.default_rng([2026, 41])
    chosen = rng.permutation(len(samples))[:MEASURED_ROWS]
    lengths = sorted(len(encoder.row(samples[index], rng)) for index in chosen)
    return lengths[-1] if recipe.augment == {} else math.ceil(1.15 * lengths[-1])


def _pack(longest: int) -> PackConfig:
    length = min(LONGEST, max(SHORTEST, -(-longest // 64) * 64))
    return PackConfig(length=length, sequences=max(2, round(TOKENS_A_STEP / length)))


def _facts(samples: list[Sample], parts: Mapping[str, list[Part]]) -> tuple[str, ...]:
    counts = ", ".join(f"{len(found)} different {name} parts" for name, found in sorted(parts.items()))
    tasks = Counter(key for sample in samples if (key := key_of(sample)))
    answers: dict[tuple[str, str], set[str]] = {}
    for sample in samples:
        if (key := key_of(sample)) and key[1].endswith("->text"):
            answers.setdefault(key, set()).add(str(sample.messages[-1].parts[0].value))
    said = [
        f"{task or cell}: {count} rows"
        + (f", {len(answers[task, cell])} different answers" if (task, cell) in answers else "")
        for (task, cell), count in tasks.most_common(12)
    ]
    return (f"data: {len(samples)} rows, {counts}", "tasks: " + "; ".join(said))


def propose(
    folder: Path, run: Path, known: Mapping[str, Modality], bad: Mapping[str, frozenset[str]], overrides: list[str],
    minutes: float, say: Callable[[str], object],
) -> Proposal:  # fmt: skip
    """Look at the rows in `folder`, without the rows in `bad` of each split's file, and measure what training on them takes.

    `steps` are what `minutes` allow on this machine, and no more than PASSES over the rows. Overrides are applied before
    anything is measured. Raises DataError, ConfigError.
    """
    samples = list(read_rows(rows_file(folder), known, bad[TRAIN]))
    wishes = [entry for entry in overrides if entry.startswith("hold_out")]
    bare = Recipe(name="bare", data=str(folder), modalities={}, hold_out=_hold_out(folder, samples, known))
    shares = override(bare, wishes).hold_out
    splits = held_out.load_or_make(run, folder, shares, known, bad[TRAIN])
    out = splits.not_for_training
    samples = [sample for sample in samples if sample.id not in out]
    if not samples:
        raise DataError(f"{folder}: {splits}; no row is left to train on: expected train.jsonl to differ from the test")
    parts = distinct_parts(samples)
    rng = np.random.default_rng([2026, 40])
    settings = {}
    for name, found in sorted(parts.items()):
        chosen = [found[index] for index in rng.permutation(len(found))[:LOOKED_AT]]
        suggests = registry.suggests(name)
        settings[name] = suggests.suggest(known[name], chosen) if suggests is not None else {}
    settings.setdefault("text", {})  # questions in words can always be asked
    first = Recipe(
        name=PREFIX + folder.resolve().name, data=str(folder), hold_out=shares, modalities=settings,
        flow=FlowConfig(time_mean=-1.8, time_std=1.1), optim=OptimConfig(lr=0.005, decay_fraction=1.0),
        weights=_weights(samples), augment=_augment(samples),
        sampling=Sampling(guidance=LABELLED_GUIDANCE if "judge" in shares else CAPTION_GUIDANCE),
        turns=max([1, *(sum(message.role == "user" for message in sample.messages) for sample in samples)]),
    )  # fmt: skip
    say("trying a few steps")
    recipe = override(first, overrides)
    pack = _pack(_longest(samples, recipe))
    sampling = recipe.sampling.model_copy(update={"max_tokens": pack.length})  # no answer is longer than its row
    recipe = override(recipe.model_copy(update={"pack": pack, "sampling": sampling}), overrides)
    measured = probe(recipe, out | bad[TRAIN])
    if not settles_steps(overrides):
        by_time = (60 * minutes - measured.seconds_to_read) / (
            measured.seconds_a_step + measured.seconds_a_save / recipe.save_every
        )
        by_rows = max(LEAST_STEPS, PASSES * measured.rows / measured.rows_a_step)
        steps = max(20, int(min(by_time, by_rows) // 10 * 10))
        recipe = recipe.model_copy(update={"steps": steps})
    return Proposal(recipe, splits, measured, _facts(samples, parts))
