"""Learns from rewards in rounds: a checkpoint answers, a judge says how good each answer is, and what was better than the other
answers to the same question becomes likelier: each answer as much as it is better (plait.train.objectives.grpo), or the best of a
question against the worst (plait.train.objectives.dpo). Every round is a training of its own by the one loop, on
rows that lie in the run folder: one can see what was rewarded.

A model learns what its judge likes, which need not be what people like. So the report comes from another kind of judge, beside how
alike answers have become and how far the model has gone from where it began.
"""

from __future__ import annotations

import importlib.util
import json
import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from plait.contract import WORDS, Message, Part, Sample
from plait.data import copies
from plait.data.drawn import SUFFIX, write_drawn
from plait.data.rows import read_rows
from plait.data.sequence import ADVANTAGE
from plait.data.splits import TRAIN
from plait.errors import ConfigError, DataError
from plait.eval import guard as guarding
from plait.eval.panel import Panel
from plait.eval.suites import Measured
from plait.infer.engine import Engine
from plait.infer.events import Answer
from plait.infer.request import Request
from plait.recipes import autoconfig, finetuning
from plait.recipes.ancestry import Start, earlier_rows, start_of, suite_on
from plait.recipes.recipe import Recipe
from plait.runtime.device import resolve_device, resolve_dtype
from plait.runtime.files import atomic_write
from plait.train import checkpoint
from plait.train import run as runs
from plait.train.objectives.reference import PreferenceConfig

REWARDS, ROUND, ROWS, ANSWERS = "rewards.json", "round-{:02d}", "rows", "answers"
JUDGE = "judge"
LEAST_SPREAD = 0.01  # by which a reward must differ from the mean of its question to count
RATE = 0.03  # of the rate that the checkpoint learned at
GRPO, DPO = "grpo", "dpo"
FLOW_BETAS = {GRPO: 10.0, DPO: 50.0}  # as of PreferenceConfig
ROWS_A_STEP = 32
SEEDS = 100_000  # between the answers of two rounds
COPIES = 4  # noised ones of an answer, that its ratio is measured by

Reward = Callable[[Sequence[Sample], Sequence[Part]], Sequence[float]]


@dataclass(frozen=True)
class Rounds:
    """How long: so many `rounds` of so many `questions`, each answered so many times (`answers`) and learned from `epochs` times; `held`
    questions are measured before and after. `temperature`: of answers in words. `objective`: grpo or dpo."""

    rounds: int = 8
    questions: int = 32
    answers: int = 8
    epochs: int = 2
    held: int = 200
    temperature: float = 1.0
    seed: int = 0
    objective: str = GRPO

    def __post_init__(self) -> None:
        if self.objective not in FLOW_BETAS:
            raise ConfigError(f"got objective={self.objective}; expected {' or '.join(FLOW_BETAS)}")
        for name, value in asdict(self).items():
            if isinstance(value, str):
                continue
            least = {"answers": 2, "temperature": 0.01, "seed": 0}.get(name, 1)
            if value < least:
                raise ConfigError(f"got {name}={value}; expected at least {least}")


@dataclass(frozen=True)
class Measurement:
    """What held-out questions get: the share of answers that are whole, and of these the reward's mean, the share that another kind of
    judge calls right, how different two to one question are, and the loss that they have gained on the first checkpoint."""

    whole: float
    reward: float
    otherwise: float | None
    diversity: float
    gained: float = 0.0

    def __str__(self) -> str:
        otherwise = "" if self.otherwise is None else f", right by another kind of judge {self.otherwise:.3f}"
        return f"whole {self.whole:.3f}, reward {self.reward:.3f}{otherwise}, diversity {self.diversity:.3f}, gained {self.gained:.3f}"


def own_reward(place: str) -> Reward:
    """The function of a Python file, FILE.py:NAME: (question, answer, expected) -> a number, where question and answer are parts and
    `expected` is the row's. Raises ConfigError."""
    file, _, name = place.rpartition(":")
    spec = (
        importlib.util.spec_from_file_location("reward", file)
        if file.endswith(".py") and Path(file).is_file()
        else None
    )
    if spec is None or spec.loader is None:
        raise ConfigError(
            f"got reward {place!r}; expected {JUDGE}, or FILE.py:NAME of a function (question, answer, expected) -> number"
        )
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever a person's file raises
        raise ConfigError(f"{file} cannot be imported: {error!r}; expected a Python file that can") from error
    function = getattr(module, name, None)
    if not callable(function):
        raise ConfigError(
            f"{file} has no function {name!r}; expected one that takes a question, an answer and what was expected"
        )

    def rewards(samples: Sequence[Sample], answers: Sequence[Part]) -> list[float]:
        numbers = []
        for sample, answer in zip(samples, answers, strict=True):
            question = [part for message in sample.messages[:-1] for part in message.parts]
            try:
                number = float(function(question, answer, dict(sample.meta.get("expect", {}))))
            except Exception as error:  # whatever a person's function raises
                raise ConfigError(
                    f"{place} failed at the answer {answer.value!r:.80}: {error!r}; expected a number"
                ) from error
            if not math.isfinite(number):
                raise ConfigError(
                    f"{place} gives {number} for the answer {answer.value!r:.80}; expected a finite number"
                )
            numbers.append(number)
        return numbers

    return rewards


def judged(task: Measured, panel: Panel) -> Reward:
    """How likely the judge of a modality calls an answer what was expected, mean over attributes; of words, whether they are right.
    Raises ConfigError where nothing judges such answers."""
    kind = task.answers_in
    if not panel.in_words(kind) and kind not in panel.judges:
        raise ConfigError(
            f"nothing judges the answers of {task.name!r} ({kind}) here; expected a reward of your own: --by FILE.py:NAME"
        )

    def rewards(samples: Sequence[Sample], answers: Sequence[Part]) -> list[float]:
        expected = [sample.meta["expect"] for sample in samples]
        if panel.in_words(kind):
            hits = panel.hits(task, answers, samples)
            return list(map(float, np.mean(list(hits.values()), axis=0)))
        judge = panel.judges[kind]
        _, scores = judge.judge(answers)
        return [
            float(
                np.mean(
                    [scores[name][n, judge.classes[name].index(wanted)] for name, wanted in e.items() if name in scores]
                )
            )
            for n, e in enumerate(expected)
        ]

    return rewards


class Rewarding:
    """A checkpoint's task, its questions, and who judges the answers."""

    def __init__(self, start: Start, data: Path, name: str, reward: str, say: Callable[[str], Any]) -> None:
        suite, _, recipe = suite_on(start, data)
        tasks = {task.name: task for task in suite.tasks}
        if name not in tasks:
            raise ConfigError(f"got task {name!r}; expected one of {', '.join(sorted(tasks))}")
        self.start, self.task, self.recipe, self.say = start, tasks[name], recipe, say
        self.kind = self.task.answers_in
        judges = {kind: make for kind, make in suite.judges.items() if kind == self.kind}
        self.panel = Panel(replace(suite, judges=judges), start.modalities, recipe.seed, say)
        self.panel.prepare()
        self.reward = judged(self.task, self.panel) if reward == JUDGE else own_reward(reward)
        self.examples = [s for s in suite.rows.examples(self.task) if s.meta.get("expect") or reward != JUDGE]
        self.held = suite.rows.rows(self.task, self.task.splits[0])
        if not self.examples or not self.held:
            raise DataError(
                f"{data} has no rows of {name} to ask or to hold out{' that say what is expected' if reward == JUDGE else ''}; expected some, "
                f"or a reward of your own: --by FILE.py:NAME"
            )

    def answers(self, engine: Engine, samples: Sequence[Sample], seed: int, temperature: float) -> list[Answer]:
        """An answer to each question, with its segments."""
        usual = self.recipe.sampling.model_dump() | {"temperature": temperature}
        requests = [
            Request(sample.messages[:-1], to=self.kind, seed=seed + number, **usual)
            for number, sample in enumerate(samples)
        ]
        return engine.generate(requests)

    def measure(self, engine: Engine, first: Engine, rounds: Rounds) -> Measurement:
        """What the held-out questions get, each asked twice."""
        samples = [sample for sample in self.held[: rounds.held] for _ in range(2)]
        answers = self.answers(engine, samples, seed=0, temperature=rounds.temperature)
        whole = [
            (sample, answer.message.parts[0])
            for sample, answer in zip(samples, answers, strict=True)
            if _is_whole(answer)
        ]
        if not whole:
            return Measurement(0.0, 0.0, None, 0.0)
        asked, parts = [sample for sample, _ in whole], [part for _, part in whole]
        answered = [
            replace(sample, messages=(*sample.messages[:-1], Message("assistant", (part,))))
            for sample, part in whole[:: max(1, len(whole) // guarding.ROWS)]
        ]
        losses = [guarding.losses(one, answered, self.kind, self.recipe.seed) for one in (first, engine)]
        return Measurement(
            len(whole) / len(samples),
            float(np.mean(self.reward(asked, parts))),
            self._otherwise(asked, parts),
            self._diversity([answer.message.parts[0] if _is_whole(answer) else None for answer in answers]),
            float(np.nanmean(losses[0] - losses[1])),
        )

    def _otherwise(self, samples: Sequence[Sample], parts: Sequence[Part]) -> float | None:
        """The share of media that the nearest neighbours among the training media call right; None for words, which need no judge."""
        shares = []
        for name in () if self.panel.in_words(self.kind) else samples[0].meta.get("expect", ()):
            if (classify := self.panel.classifier(self.kind, name)) is not None:
                labels = classify(self.panel.plain_features(self.kind, parts))
                shares.append(
                    np.mean([label == s.meta["expect"][name] for label, s in zip(labels, samples, strict=True)])
                )
        return float(np.mean(shares)) if shares else None

    def _diversity(self, answers: Sequence[Part | None]) -> float:
        """How different the two answers to a question are: the mean distance of their plain features; of words, how often they differ."""
        pairs = [(one, other) for one, other in zip(answers[::2], answers[1::2], strict=True) if one and other]
        if not pairs:
            return 0.0
        if self.panel.in_words(self.kind):
            return float(np.mean([one.value != other.value for one, other in pairs]))
        features = [self.panel.plain_features(self.kind, side) for side in zip(*pairs, strict=True)]
        return float(np.linalg.norm(features[0] - features[1], axis=1).mean())

    def round(self, engine: Engine, number: int, rounds: Rounds, folder: Path) -> tuple[float, int, int]:
        """Write the rows of a round to a folder: answers with their advantages; returns the mean reward, how many answers are whole, and
        how many rows there are."""
        rng = np.random.default_rng([rounds.seed, 81, number])
        chosen = [self.examples[index] for index in rng.permutation(len(self.examples))[: rounds.questions]]
        samples = [sample for sample in chosen for _ in range(rounds.answers)]
        answers = self.answers(
            engine, samples, seed=SEEDS * (1 + number + rounds.rounds * rounds.seed), temperature=rounds.temperature
        )
        whole = [index for index, answer in enumerate(answers) if _is_whole(answer)]
        rewards = np.full(len(samples), np.nan)  # of an answer that is none
        if whole:
            rewards[whole] = self.reward([samples[i] for i in whole], [answers[i].message.parts[0] for i in whole])
        better = advantages(rewards.reshape(len(chosen), rounds.answers))
        make = self._advantages if rounds.objective == GRPO else self._preferences
        rows = list(make(samples, answers, better, folder / ANSWERS))
        copies.write(rows, folder / f"{TRAIN}.jsonl")
        shutil.rmtree(folder / ANSWERS, ignore_errors=True)
        return float(np.nanmean(rewards)) if whole else 0.0, len(whole), len(rows)

    def _advantages(
        self, samples: Sequence[Sample], answers: Sequence[Answer], better: np.ndarray, folder: Path
    ) -> Iterator[Sample]:
        """A row an answer, with its advantage: by how much [questions, answers] it is `better` than the mean of its question."""
        scale = max(float(better.std()), LEAST_SPREAD)  # of all questions: a question's own would make much of little
        for index, own in enumerate(better.flat):
            if abs(own) >= LEAST_SPREAD and _is_whole(answers[index]):
                message = Message("assistant", (self._kept(answers[index], folder / f"{index:05d}{SUFFIX}"),))
                meta = {**samples[index].meta, ADVANTAGE: round(float(own) / scale, 4)}  # a withdrawal finds rows by it
                yield Sample((*samples[index].messages[:-1], message), self.task.name, meta)

    def _preferences(
        self, samples: Sequence[Sample], answers: Sequence[Answer], better: np.ndarray, folder: Path
    ) -> Iterator[Sample]:
        """A row a question: its best answer, and its worst rejected."""
        count = better.shape[1]
        for question, own in enumerate(better):
            whole = [n for n in range(count) if _is_whole(answers[question * count + n])]
            if len(whole) < 2 or max(own[whole]) - min(own[whole]) < LEAST_SPREAD:
                continue
            numbers = [question * count + pick(whole, key=lambda n: own[n]) for pick in (max, min)]
            chosen, rejected = (
                Message("assistant", (self._kept(answers[n], folder / f"{n:05d}{SUFFIX}"),)) for n in numbers
            )
            source = samples[numbers[0]]
            yield Sample((*source.messages[:-1], chosen), self.task.name, source.meta, rejected=(rejected,))

    def _kept(self, answer: Answer, file: Path) -> Part:
        """The part of an answer; of a medium its blocks, without the noise that they were drawn from: another is as good."""
        part = answer.message.parts[0]
        if part.type == WORDS:
            return part
        file.parent.mkdir(parents=True, exist_ok=True)
        (segment,) = answer.segments
        write_drawn(replace(segment, blocks=tuple(replace(block, noise=None) for block in segment.blocks)), file)
        return Part(part.type, str(file))


def advantages(rewards: np.ndarray) -> np.ndarray:
    """[questions, answers] rewards, NaN for an answer that is none -> by how much each is better than the mean of its question. What is
    none counts as the worst of its question."""
    known = np.where(np.isnan(rewards), np.inf, rewards)
    worst = np.where(np.isinf(known.min(axis=1)), 0.0, known.min(axis=1))[:, None]
    counted = np.where(np.isnan(rewards), worst, rewards)
    better: np.ndarray = counted - counted.mean(axis=1, keepdims=True)
    return better


def _is_whole(answer: Answer) -> bool:
    return (
        answer.error is None
        and answer.reason == "stop"
        and len(answer.message.parts) == 1
        and len(answer.segments) == 1
    )


def _recipe(start: Start, data: Path, samples: list[Sample], choices: finetuning.Choices, objective: str) -> Recipe:
    """What a round trains: what moves, how fast, how many rows a step."""
    trunk, moving = finetuning.what_moves(choices, start, data, samples)
    before = start.recipe
    optim = before.optim.model_copy(update={"lr": RATE * before.optim.lr, "warmup": 0, "decay_fraction": 0.0})
    recipe = Recipe(
        name=autoconfig.PREFIX + data.parents[1].name, data=str(data), modalities=before.modalities, trunk=trunk, init=start.place,
        trainable=moving, tied=tuple(start.config["tied"]), optim=optim, objective=objective, seed=before.seed, dtype=before.dtype,
        flow=before.flow.model_copy(update={**finetuning.HIDES_NOTHING, "null_prob": 0.0, "copies": COPIES}), sampling=before.sampling,
        turns=before.turns, ema_decay=0.0, preference=PreferenceConfig(flow_beta=FLOW_BETAS[objective]),
    )  # fmt: skip
    return recipe


def _steps(recipe: Recipe, samples: list[Sample], start: Start, epochs: int) -> dict[str, Any]:
    """Sequences that hold the rows, about ROWS_A_STEP of them a step, and as many steps as see each `epochs` times."""
    lengths = autoconfig.lengths(samples, recipe, start.vocabulary)
    mean = sum(lengths) / len(lengths)
    pack = autoconfig.pack_of(max(lengths), round(ROWS_A_STEP * mean))
    if max(lengths) > pack.length:
        raise ConfigError(
            f"an answer takes {max(lengths)} tokens with its question; expected at most {pack.length}: a lower max_tokens"
        )
    steps = max(1, math.ceil(epochs * len(samples) * mean / (pack.length * pack.sequences)))
    return {"pack": pack, "steps": steps, "save_every": steps}


def _engine(folder: Path) -> Engine:
    network, _ = checkpoint.load(folder, resolve_dtype("auto", resolve_device("auto")))
    return Engine(network.to(resolve_device("auto")).for_inference())


def train(
    init: str, task: str, run: Path, *, data: Path | None, reward: str, rounds: Rounds, choices: finetuning.Choices,
    say: Callable[[str], Any],
) -> Path:  # fmt: skip
    """As `plait.api.reward`."""
    start = start_of(init)
    rows = earlier_rows(start, data)
    if rows is None:
        raise DataError(
            f"the rows that {init} learned from are not in {start.recipe.data or 'any folder'}; expected them: --data FOLDER"
        )
    if run.exists() and any(run.iterdir()):
        raise ConfigError(f"run folder {run} exists; expected a new one: choose another with --out")
    rewarding = Rewarding(start, rows, task, reward, say)
    first = _engine(start.folder)
    before = rewarding.measure(first, first, rounds)
    say(f"before: {before}")
    saved, history = _rounds(rewarding, first, run, rounds, choices)
    after = rewarding.measure(_engine(saved), first, rounds)
    say(f"after: {after}")
    report = {
        "init": start.place, "task": task, "reward": reward, "rounds": asdict(rounds), "history": history,
        "before": asdict(before), "after": asdict(after),
    }  # fmt: skip
    atomic_write(run / REWARDS, json.dumps(report, indent=1))
    return saved


def _rounds(
    rewarding: Rewarding, engine: Engine, run: Path, rounds: Rounds, choices: finetuning.Choices
) -> tuple[Path, list[dict[str, Any]]]:
    """Answer, judge and learn, again and again: the last checkpoint, and what each round was. Raises ConfigError where nothing can
    be learned from the first."""
    start, say = rewarding.start, rewarding.say
    saved, recipe = start.folder, None
    history: list[dict[str, Any]] = []
    for number in range(rounds.rounds):
        folder = run / ROUND.format(number + 1)
        mean, whole, count = rewarding.round(engine, number, rounds, folder / ROWS)
        say(
            f"round {number + 1}: {whole} of {rounds.questions * rounds.answers} answers whole, mean reward {mean:.3f}, {count} to learn from"
        )
        if not count and not history:
            raise ConfigError(
                f"all answers to a question got the same reward, within {LEAST_SPREAD}, {mean:.3f} in the mean of {whole} whole answers of "
                f"{rounds.questions * rounds.answers}; expected rewards that differ: another reward, a higher --temperature, harder questions, "
                "or a model that ends its answers"
            )
        if not count:
            break
        samples = list(read_rows(folder / ROWS / f"{TRAIN}.jsonl", start.modalities))
        recipe = recipe or _recipe(start, folder / ROWS, samples, choices, rounds.objective)
        changes = _steps(recipe, samples, start, rounds.epochs)
        changes |= {"data": str(folder / ROWS), "seed": rounds.rounds * rounds.seed + number}
        recipe = recipe.model_copy(update=changes | ({"init": checkpoint.name_of(saved)} if history else {}))
        before, saved = saved, runs.train(recipe, folder / "training")
        if history:
            shutil.rmtree(checkpoint.run_of(before))  # its rows stay
        engine = _engine(saved)
        history.append({"round": number + 1, "reward": mean, "rows": count, "steps": recipe.steps})
    return saved, history
