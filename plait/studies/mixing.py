"""Does mixing help? One model of the whole grid against a specialist a cell, and two senses against one, under noise.

**The grid.** The specialists, one for each cell, share the mixed model's budget as the tasks share its tokens: together they
take as many FLOPs, with as many parameters each. Where a question has both a picture and a sound, late fusion is the rule over what the
reader and the listener say: the same digit or not, the larger of the two.

**Two senses.** The same digit is written and spoken, both in noise, and ten words may be the answer. The mixed model learns
to answer from the picture, from the sound and from both. Late fusion adds the log-likelihoods of two specialists, which have half
of its steps each.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from PIL import Image

from plait.contract import WORDS, Message, Modality, Part, Sample
from plait.data import store
from plait.data.mix import group_by_task
from plait.data.rows import dump_row, read_rows
from plait.data.splits import TRAIN
from plait.errors import DataError
from plait.eval.suites import FolderRows
from plait.registry import build_all
from plait.runtime.files import MANIFEST, atomic_write, sha256_of
from plait.studies.arms import DIGITS, Arm, Settings, accuracies, as_text, result, spread, table, tokens_a_task
from plait.tasks.digits import TASKS, word

MIXED = "mixed"
SEE, HEAR, BOTH = "see", "hear", "both"
ASKED = {SEE: "{image} Which digit?", HEAR: "{audio} Which digit?", BOTH: "{image} {audio} Which digit?"}
SENSES_STEPS = 0.4  # of the grid's: three small tasks
LEVELS = ((0.0, None), (0.5, 0.0), (1.0, -5.0), (1.5, -10.0), (2.0, -15.0))  # of pixels' range, and dB below the voice
TRAINED_ROWS = 6000  # a task
WORDS_OF_DIGITS = [word(digit, "en") for digit in range(10)]


def run(settings: Settings) -> dict[str, Any]:
    """Both parts of the study: tables by name, and the curves under noise."""
    return {"grid": grid(settings), "senses": senses(settings)}


def modalities() -> dict[str, Modality]:
    """Those of the digits."""
    from plait import recipes

    return build_all(recipes.load("digits").modalities)


# the grid


def cells() -> dict[str, tuple[str, ...]]:
    """Tasks of the digits by their cell; what asks of a picture with words counts as asked of the picture."""
    by_cell: dict[str, list[str]] = {}
    for task in TASKS:
        by_cell.setdefault(task.cell.replace("image+text", "image"), []).append(task.name)
    return {cell: tuple(names) for cell, names in by_cell.items()}


def grid(settings: Settings) -> dict[str, Any]:
    """Accuracies of the mixed model, of the specialists and of late fusion, by `task: attribute`, over the seeds."""
    from plait import recipes

    everything = tuple(task.name for task in TASKS)
    usual = recipes.load("digits")
    samples = group_by_task(list(read_rows(settings.data / f"{TRAIN}.jsonl", modalities())))
    cost = tokens_a_task(samples, usual)
    total = sum(cost.values())
    arms: dict[str, list[dict[str, Any]]] = {MIXED: [], "specialists": [], "late fusion": []}
    for seed in range(settings.seeds):
        whole = Arm(f"grid-{MIXED}", settings.data, everything, settings.steps, seed)

        def of_grid(saved: Path, tasks: Sequence[str] = everything) -> dict[str, Any]:
            return {"accuracy": accuracies(saved, tasks, settings.limit, settings.say)}

        arms[MIXED].append(result(whole, settings, of_grid))
        together: dict[str, Any] = {"flops": 0.0, "accuracy": {}}
        answers: dict[str, Any] = {}
        for cell, tasks in cells().items():
            steps = max(1, round(settings.steps * sum(cost[task] for task in tasks) / total))
            arm = Arm(f"grid-{cell.replace('->', '-to-').replace('+', '-and-')}", settings.data, tasks, steps, seed)

            def of_cell(saved: Path, tasks: Sequence[str] = tasks, cell: str = cell) -> dict[str, Any]:
                measured = of_grid(saved, tasks)
                return measured | ({"fused": _said(saved, settings)} if cell in ("image->text", "audio->text") else {})

            measured = result(arm, settings, of_cell)
            together["flops"] += measured["flops"]
            together["accuracy"] |= measured["accuracy"]
            answers |= measured.get("fused", {})
        arms["specialists"].append(together)
        arms["late fusion"].append({"accuracy": _by_rule(answers, settings)})
    names = list(arms[MIXED][0]["accuracy"])
    of_arm = {
        arm: {name: spread([f["accuracy"][name] for f in found]) for name in names if name in found[0]["accuracy"]}
        for arm, found in arms.items()
    }
    return {
        "steps": settings.steps,
        "rows": settings.limit,
        "flops": {
            arm: float(np.mean([f["flops"] for f in found])) for arm, found in arms.items() if "flops" in found[0]
        },
        "accuracy": of_arm,
    }


def _rows_of(task: str, settings: Settings) -> list[Sample]:
    rows = FolderRows(settings.data, modalities())
    return rows.rows(next(t for t in TASKS if t.name == task), "test")[: settings.limit]


def _said(saved: Path, settings: Settings) -> dict[str, list[str]]:
    """What a specialist of pictures or of sounds reads in the media of the questions that have both, by task and medium."""
    from plait import api
    from plait.infer.request import Request

    model = api.load(saved)
    of_cell = {"image": "read", "audio": "hear-digit"}
    said: dict[str, list[str]] = {}
    trained = {task for task, weight in model.config["recipe"]["weights"].items() if weight}
    for task in ("same", "larger"):
        for kind, reader in of_cell.items():
            if reader in trained:
                asking = next(t for t in TASKS if t.name == reader)
                parts = [next(p for p in row.messages[0].parts if p.type == kind) for row in _rows_of(task, settings)]
                answers = model.generate_all([Request(asking.ask_about(part), to=WORDS) for part in parts])
                said[f"{task} {kind}"] = [
                    next((str(part.value) for part in answer.message.parts), "") for answer in answers
                ]
    return said


def _by_rule(said: Mapping[str, Sequence[str]], settings: Settings) -> dict[str, float]:
    """Accuracy of the rules over what two specialists read."""
    numbers = {name: number for number, name in enumerate(WORDS_OF_DIGITS)}
    shares = {}
    for task in ("same", "larger"):
        right = []
        rows = _rows_of(task, settings)
        for row, seen, heard in zip(rows, said[f"{task} image"], said[f"{task} audio"], strict=True):
            if task == "same":
                answer = "yes" if seen == heard else "no"
            else:
                answer = max(seen, heard, key=lambda text: numbers.get(text, -1))
            right.append(answer == row.messages[-1].parts[0].value)
        shares[f"{task}: {task}"] = float(np.mean(right))
    return shares


# two senses


def build_senses(digits: Path, to: Path) -> Path:
    """Write rows and media of the digits in noise to the folder `to`: `see`, `hear`, `both`. Keeps what is complete.

    Training draws the noise of a picture and of a sound on its own, evenly between the least and the most of LEVELS; the held-out rows
    have the same pictures and sounds at every level. Raises DataError without a build of the digits.
    """
    if (to / MANIFEST).is_file():
        return to
    if not (digits / "labelled-train.jsonl").is_file():
        raise DataError(
            f"{digits} holds no build of the digits; expected one: plait data build digits --folder {digits}"
        )
    known = modalities()
    rng = np.random.default_rng([2026, 61])
    (to / "media").mkdir(parents=True, exist_ok=True)
    files = {}
    for split, count in (("test", 400), (TRAIN, TRAINED_ROWS)):
        by_digit: dict[tuple[str, int], list[Part]] = {}
        for sample in read_rows(digits / f"labelled-{split}.jsonl", known):
            part, labels = sample.messages[0].parts[0], sample.meta["labels"]
            by_digit.setdefault((part.type, int(labels["digit"])), []).append(part)
        lines: list[str] = []
        for number in range(count):
            digit = int(rng.integers(10))
            picture, clip = (
                group[int(rng.integers(len(group)))] for group in (by_digit["image", digit], by_digit["audio", digit])
            )
            levels: Sequence[tuple[float, float | None]] = LEVELS
            if split == TRAIN:
                levels = [(rng.uniform(0, LEVELS[-1][0]), rng.uniform(float(LEVELS[-1][1] or 0), 20.0))]
            for level, (noise, below) in enumerate(levels):
                stem = to / "media" / f"{split}-{number}-{level}"
                _noisy_picture(str(picture.value), noise, rng).save(stem.with_suffix(".png"))
                soundfile.write(stem.with_suffix(".flac"), *_noisy_clip(str(clip.value), below, rng))
                for task, asked in ASKED.items():
                    parts = tuple(
                        Part(kind, f"media/{stem.name}.{suffix}")
                        for kind, suffix in (("image", "png"), ("audio", "flac"))
                        if f"{{{kind}}}" in asked
                    )
                    question = Message("user", (*parts, Part(WORDS, asked.rsplit("} ", 1)[1])))
                    answer = Message("assistant", (Part(WORDS, WORDS_OF_DIGITS[digit]),))
                    lines.append(dump_row(Sample((question, answer), task, {"level": level, "digit": digit})))
        atomic_write(to / f"{split}.jsonl", "\n".join(lines) + "\n")
        files[f"{split}.jsonl"] = {"rows": len(lines), "sha256": sha256_of(to / f"{split}.jsonl")}
    manifest = json.loads((digits / MANIFEST).read_text(encoding="utf-8"))
    atomic_write(to / MANIFEST, json.dumps(manifest | {"files": files}, indent=1, ensure_ascii=False))
    return to


def _noisy_picture(path: str, noise: float, rng: np.random.Generator) -> Image.Image:
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("L"), np.float32)
    return Image.fromarray(np.clip(pixels + rng.normal(0.0, 255 * noise, pixels.shape), 0, 255).astype(np.uint8))


def _noisy_clip(path: str, below: float | None, rng: np.random.Generator) -> tuple[np.ndarray, int]:
    """A clip in white noise, the voice `below` dB above it (None: no noise), and its rate in Hz."""
    samples, rate = soundfile.read(path, dtype="float32")
    if below is not None:
        scale = np.sqrt(np.mean(samples**2)) * 10 ** (-below / 20)
        samples = samples + rng.normal(0.0, 1.0, samples.shape).astype(np.float32) * scale
    return samples / max(1.0, float(np.abs(samples).max())), rate


def senses(settings: Settings) -> dict[str, Any]:
    """Accuracy at each level of noise: one model on the picture, on the sound and on both, two specialists, and their late
    fusion."""
    source = store.digest(settings.data, TRAIN)[:DIGITS]
    data = build_senses(settings.data, settings.folder / f"senses-{source}")
    steps = max(2, round(settings.steps * SENSES_STEPS))
    by_seed_of_name: dict[str, list[list[float]]] = {}
    flops: dict[str, list[float]] = {MIXED: [], "late fusion": []}

    def measure(saved: Path, tasks: Sequence[str]) -> dict[str, Any]:
        return {"scores": {task: _scores(saved, task, data, settings.limit) for task in tasks}}

    for seed in range(settings.seeds):
        arms = {MIXED: (SEE, HEAR, BOTH), SEE: (SEE,), HEAR: (HEAR,)}
        of_arm = {
            name: result(
                Arm(f"senses-{name}", data, tasks, steps if name == MIXED else steps // 2, seed),
                settings,
                lambda saved, tasks=tasks: measure(saved, tasks),  # type: ignore[misc]
            )
            for name, tasks in arms.items()
        }
        flops[MIXED].append(of_arm[MIXED]["flops"])
        flops["late fusion"].append(of_arm[SEE]["flops"] + of_arm[HEAR]["flops"])
        scores = {f"{MIXED}, {task}": of_arm[MIXED]["scores"][task] for task in ASKED}
        scores |= {f"specialist, {task}": of_arm[task]["scores"][task] for task in (SEE, HEAR)}
        truth = [int(sample.meta["digit"]) for sample in _noisy_rows(data, BOTH, 0, settings.limit)]
        for name, by_level in scores.items():
            by_seed_of_name.setdefault(name, []).append([_right(np.array(level), truth) for level in by_level])
        fused = [
            np.array(seen) + np.array(heard)
            for seen, heard in zip(of_arm[SEE]["scores"][SEE], of_arm[HEAR]["scores"][HEAR], strict=True)
        ]
        by_seed_of_name.setdefault("late fusion", []).append([_right(level, truth) for level in fused])
    return {
        "steps": steps,
        "rows": settings.limit,
        "levels": [{"pixels": noise, "decibel": below} for noise, below in LEVELS],
        "flops": {arm: float(np.mean(values)) for arm, values in flops.items()},
        "accuracy": {
            name: [spread([seed[level] for seed in by_seed]) for level in range(len(LEVELS))]
            for name, by_seed in by_seed_of_name.items()
        },
    }


def _noisy_rows(data: Path, task: str, level: int, limit: int) -> list[Sample]:
    rows = read_rows(data / "test.jsonl", modalities())
    return [row for row in rows if row.task == task and row.meta["level"] == level][:limit]


def _scores(saved: Path, task: str, data: Path, limit: int) -> list[list[list[float]]]:
    """[levels, rows, 10] normalised log-likelihoods of the ten words."""
    from plait import api
    from plait.infer.likelihood import log_likelihoods

    engine = api.load(saved).engine
    words = [Part(WORDS, name) for name in WORDS_OF_DIGITS]
    by_level = []
    for level in range(len(LEVELS)):
        questions = [row.messages[:-1] for row in _noisy_rows(data, task, level, limit)]
        logs = log_likelihoods(engine, questions, words)
        by_level.append(np.round(logs - np.logaddexp.reduce(logs, axis=1, keepdims=True), 4).tolist())
    return by_level


def _right(logs: np.ndarray, truth: Sequence[int]) -> float:
    return float(np.mean(logs.argmax(axis=1) == np.array(truth)))


# in words


def in_words(found: Mapping[str, Any]) -> str:
    """The study as Markdown."""
    grid, senses = found["grid"], found["senses"]
    names = list(grid["accuracy"])
    rows = [
        [task, *(as_text(grid["accuracy"][arm][task]) if task in grid["accuracy"][arm] else "" for arm in names)]
        for task in grid["accuracy"][MIXED]
    ]
    means = [
        f"{100 * np.mean([v['mean'] for v in grid['accuracy'][arm].values()]):.1f}" if arm != "late fusion" else ""
        for arm in names
    ]
    levels = [f"{level['pixels']:g} / {_decibel(level['decibel'])}" for level in senses["levels"]]
    curves = [[name, *map(as_text, by_level)] for name, by_level in senses["accuracy"].items()]
    return "\n\n".join(
        [
            f"One model of all tasks, {grid['steps']:,} steps, {_flops(grid['flops'][MIXED])}; a specialist a cell, together "
            f"{_flops(grid['flops']['specialists'])}. Per cent right of {grid['rows']} held-out rows, mean (lowest-highest) of the seeds.",
            table(["task: attribute", *names], [*rows, ["mean", *means]]),
            f"The same digit seen and heard in noise (pixels' standard deviation as a share of their range / signal-to-noise "
            f"ratio): {senses['steps']:,} steps, {_flops(senses['flops'][MIXED])} mixed, {_flops(senses['flops']['late fusion'])} "
            "both specialists.",
            table(["arm", *levels], curves),
        ]
    )


def _decibel(value: float | None) -> str:
    return "none" if value is None else f"{value:g} dB"


def _flops(value: float) -> str:
    return f"{value / 1e12:,.1f} TFLOP"


def curves(found: Mapping[str, Any]) -> dict[str, Any]:
    """What to draw: accuracy over noise."""
    senses = found["senses"]
    return {
        "title": "one sense or two, in noise",
        "x": [f"{level['pixels']:g}\n{_decibel(level['decibel'])}" for level in senses["levels"]],
        "x_label": "noise of pixels, and of sound",
        "lines": senses["accuracy"],
    }
