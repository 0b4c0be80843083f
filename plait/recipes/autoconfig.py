"""Proposes a small recipe for a user's rows: inspects the data, derives the settings, and measures the time of a step."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from plait import registry
from plait.contract import Modality, Part, Sample
from plait.data import splits as held_out
from plait.data.augment import AugmentConfig
from plait.data.fit import distinct_parts, fit
from plait.data.importers import detect
from plait.data.loader import PackConfig
from plait.data.media import CachedReader
from plait.data.row import with_rejected
from plait.data.rows import read_rows
from plait.data.sequence import Encoder, FlowConfig
from plait.data.splits import TRAIN, Splits
from plait.data.vocabulary import Vocabulary
from plait.errors import DataError, PlaitError
from plait.eval.user_data import least_for_a_judge
from plait.recipes.overrides import override
from plait.recipes.recipe import Recipe, Sampling
from plait.tasks.user_data import cell_of, key_of, labels_of
from plait.train import trainer
from plait.train.optim import OptimConfig
from plait.train.probe import Probe, probe

SPLITS = ("test", "judge")
PREFIX = "own-"  # of the names of proposed recipes
MINUTES = 15.0
MAX_PARTS = 400  # of a modality, that its settings are suggested from
MEASURED_ROWS = 1000  # rows whose length is measured
SHORTEST, LONGEST = 192, 1024  # tokens of a packed sequence
TOKENS_A_STEP = 4032
MIN_GROUPS = 100  # media (or questions); with fewer, none is held out
TEST_SHARE, MAX_TEST_GROUPS = 0.1, 1000
JUDGE_SHARE, MAX_JUDGE_GROUPS = 0.15, 5000
MAX_EPOCHS = 400  # more only memorises a small set
MIN_STEPS = 500
TEXT_WEIGHT = 0.5  # of a task that answers in words, relative to one that generates media: words are learned sooner
AUGMENT_SHARE = 0.7
LABELLED_GUIDANCE = 3.0  # many pictures or clips share one text
CAPTION_GUIDANCE = 1.5  # each has a text of its own: more guidance only saturates (docs/experiments/own-data.md)


@dataclass(frozen=True)
class Proposal:
    """A recipe, the splits and facts it is derived from, and its measured cost."""

    recipe: Recipe
    splits: Splits
    probe: Probe
    facts: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """Estimated training time."""
        return self.probe.seconds(self.recipe)

    def compared(self, seconds: float, peak_mb: float) -> str:
        """What was foretold beside what it took."""
        estimates = (
            ("minutes", self.seconds / 60, seconds / 60),
            ("GiB", self.probe.peak_rss_mb / 1024, peak_mb / 1024),
        )
        return "took " + ", ".join(
            f"{took:.1f} {unit} (estimated {said:.1f}, {100 * (said / took - 1):+.0f} %)"
            for unit, said, took in estimates
        )

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
    """Path of the training rows of a data folder. Raises DataError that says how to get them where there are none."""
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


def overridden_modalities(overrides: list[str]) -> dict[str, Modality]:
    """All available modalities, with overrides such as `modalities.audio.max_seconds=60` applied, to check rows with before
    there is a recipe. Raises ConfigError."""
    bare = Recipe(name="bare", data="", modalities={name: {} for name in registry.available()})
    relevant = [entry for entry in overrides if entry.startswith("modalities.")]
    return registry.build_all(override(bare, relevant).modalities)


def overrides_steps(overrides: Sequence[str]) -> bool:
    """Whether overrides set the number of steps, so that none is proposed."""
    return any(entry.startswith("steps=") for entry in overrides)


def hold_out(folder: Path, samples: list[Sample], modalities: Mapping[str, Modality]) -> dict[str, float]:
    """Shares of the groups for the test, and for judges where enough generated media have labels; empty for few groups."""
    groups = {group for sample in samples for group in held_out.groups(sample, modalities)}
    shares = {}
    if len(groups) >= MIN_GROUPS or (folder / "test.jsonl").is_file():
        shares["test"] = min(TEST_SHARE, MAX_TEST_GROUPS / len(groups))
    labels = labels_of(samples)
    generated = {p.type for s in samples if cell_of(s) for p in s.messages[-1].parts} & set(labels.values)
    share = min(JUDGE_SHARE, MAX_JUDGE_GROUPS / len(groups))
    for kind in generated:
        num_media = sum(1 for other_kind, _ in labels.of if other_kind == kind)
        if shares and share * num_media >= least_for_a_judge(labels.values[kind]):
            shares["judge"] = share
    return shares


def weights_of(samples: list[Sample]) -> dict[str, float]:
    """Weights of the tasks: the square root of their rows, so that small ones count, times TEXT_WEIGHT for answers in
    words."""
    rows = Counter(sample.task for sample in samples)
    words = Counter(sample.task for sample in samples if (cell_of(sample) or "text").endswith("text"))
    return {
        task: round(math.sqrt(count / max(rows.values())) * (TEXT_WEIGHT if words[task] > count / 2 else 1.0), 3)
        for task, count in sorted(rows.items())
    }


def augment_of(samples: list[Sample]) -> dict[str, AugmentConfig]:
    """Augmentation of the tasks that name the label of a medium: varying the medium keeps the answer."""
    return {
        task: AugmentConfig(share=AUGMENT_SHARE) for task in sorted({task for task, _ in labels_of(samples).answers})
    }


def longest_row(samples: list[Sample], recipe: Recipe, vocabulary: Vocabulary | None = None) -> int:
    """The longest of `lengths`; with some room where rows are augmented."""
    longest = max(lengths(samples, recipe, vocabulary))
    return longest if recipe.augment == {} else math.ceil(1.15 * longest)


def lengths(samples: list[Sample], recipe: Recipe, vocabulary: Vocabulary | None = None) -> list[int]:
    """Tokens of MEASURED_ROWS of the samples, noised copies and rejected answers included; in a `vocabulary` that is known, or in one that
    is fit to them."""
    if vocabulary is None:
        modalities = registry.build_all(recipe.modalities)
        fit(modalities, samples, recipe.seed)
        vocabulary = Vocabulary(modalities)
    flow = recipe.flow.model_copy(update={"null_prob": 0.0, "end_prob": 1.0})
    features = trainer.features_of(recipe, vocabulary, torch.device("cpu"))
    reader = CachedReader(vocabulary.modalities)
    encoder = Encoder(vocabulary, flow, reader, features=features, objective=recipe.objective)
    rng = np.random.default_rng([2026, 41])
    rows = (encoder.row(samples[index], rng) for index in rng.permutation(len(samples))[:MEASURED_ROWS])
    return [sum(map(len, with_rejected(row))) for row in rows]


def pack_of(longest: int, tokens: int = TOKENS_A_STEP) -> PackConfig:
    """Sequences that hold a row of `longest` tokens, about so many tokens in all."""
    length = min(LONGEST, max(SHORTEST, -(-longest // 64) * 64))
    return PackConfig(length=length, sequences=max(2, round(tokens / length)))


def with_steps(recipe: Recipe, measured: Probe, minutes: float) -> Recipe:
    """The recipe with as many steps as fit into the minutes and MAX_EPOCHS."""
    steps_by_time = (60 * minutes - measured.seconds_to_read) / (
        measured.seconds_a_step + measured.seconds_a_save / recipe.save_every
    )
    steps_by_rows = max(MIN_STEPS, MAX_EPOCHS * measured.rows / measured.rows_a_step)
    return recipe.model_copy(update={"steps": max(20, int(min(steps_by_time, steps_by_rows) // 10 * 10))})


def facts_of(samples: list[Sample], parts: Mapping[str, list[Part]]) -> tuple[str, ...]:
    """Two lines for the user: the rows and distinct parts, and the commonest tasks."""
    counts = ", ".join(f"{len(distinct)} different {name} parts" for name, distinct in sorted(parts.items()))
    tasks = Counter(key for sample in samples if (key := key_of(sample)))
    answers: dict[tuple[str, str], set[str]] = {}
    for sample in samples:
        if (key := key_of(sample)) and key[1].endswith("->text"):
            answers.setdefault(key, set()).add(str(sample.messages[-1].parts[0].value))
    descriptions = [
        f"{task or cell}: {count} rows"
        + (f", {len(answers[task, cell])} different answers" if (task, cell) in answers else "")
        for (task, cell), count in tasks.most_common(12)
    ]
    return (f"data: {len(samples)} rows, {counts}", "tasks: " + "; ".join(descriptions))


def propose(
    folder: Path, run: Path, modalities: Mapping[str, Modality], bad: Mapping[str, frozenset[str]], overrides: list[str],
    minutes: float, say: Callable[[str], object],
) -> Proposal:  # fmt: skip
    """Propose a recipe for the rows in `folder`, and measure its training on this machine.

    `bad` has the ids of rows to leave out, by split; `run` is the folder that stores the splits. `steps` fit into
    `minutes` and MAX_EPOCHS. Applies `overrides` before measuring. Raises DataError where no row is left to train on,
    ConfigError for a bad override.
    """
    samples = list(read_rows(rows_file(folder), modalities, bad[TRAIN]))
    relevant = [entry for entry in overrides if entry.startswith("hold_out")]
    bare = Recipe(name="bare", data=str(folder), modalities={}, hold_out=hold_out(folder, samples, modalities))
    shares = override(bare, relevant).hold_out
    splits = held_out.load_or_make(run, folder, shares, modalities, bad[TRAIN])
    held_out_ids = splits.not_for_training
    samples = [sample for sample in samples if sample.id not in held_out_ids]
    if not samples:
        raise DataError(f"{folder}: {splits}; no row is left to train on: expected train.jsonl to differ from the test")
    parts = distinct_parts(samples)
    rng = np.random.default_rng([2026, 40])
    settings = {}
    for name, distinct in sorted(parts.items()):
        examples = [distinct[index] for index in rng.permutation(len(distinct))[:MAX_PARTS]]
        suggests = registry.suggests(name)
        settings[name] = suggests.suggest(modalities[name], examples) if suggests is not None else {}
    settings.setdefault("text", {})  # questions in words can always be asked
    first = Recipe(
        name=PREFIX + folder.resolve().name, data=str(folder), hold_out=shares, modalities=settings,
        flow=FlowConfig(time_mean=-1.8, time_std=1.1), optim=OptimConfig(lr=0.005, decay_fraction=1.0),
        weights=weights_of(samples), augment=augment_of(samples),
        sampling=Sampling(guidance=LABELLED_GUIDANCE if "judge" in shares else CAPTION_GUIDANCE),
        turns=max([1, *(sum(message.role == "user" for message in sample.messages) for sample in samples)]),
    )  # fmt: skip
    say("trying a few steps")
    recipe = override(first, overrides)
    pack = pack_of(longest_row(samples, recipe))
    sampling = recipe.sampling.model_copy(update={"max_tokens": pack.length})  # no answer is longer than its row
    recipe = override(recipe.model_copy(update={"pack": pack, "sampling": sampling}), overrides)
    measured = probe(recipe, held_out_ids | bad[TRAIN])
    if not overrides_steps(overrides):
        recipe = with_steps(recipe, measured, minutes)
    return Proposal(recipe, splits, measured, facts_of(samples, parts))
