"""A suite of a few rows, and a tiny model to evaluate on it."""

from pathlib import Path

import numpy as np
from PIL import Image
from worlds import World, text

from plait.contract import Message, Part, Sample
from plait.eval import runner
from plait.eval.suites import Outcome, Suite
from plait.infer.engine import Engine
from plait.modalities import JudgeView
from plait.tasks.user_data import UserTask

WORLD = World()
SAMPLING = {"steps": 2, "guidance": 1.0, "temperature": 0.0, "max_tokens": 8}


class Rows:
    """Held-out rows by task and split, without labelled media."""

    def __init__(self, rows=None):
        self.by_split = rows or {}

    def rows(self, task, split):
        return self.by_split.get((task.name, split), [])

    def labelled(self, split, kind):
        return [], []

    def media(self, split, kind):
        return []

    def examples(self, task):
        return []

    def digest(self):
        return "none"

    def notes(self):
        return []


def task(cell, name="task"):
    return UserTask(name, cell, name, (Message("user", (text("draw"),)),))


def evaluation(*tasks, rows=None, **options):
    suite = Suite(tasks, Rows(rows), {}, Path("nowhere"), lambda attribute, label: str(label), distances=True)
    return runner.Evaluation(Engine(WORLD.model()), suite, SAMPLING, say=str, **options)


def drawn(answers, references):
    """An outcome of drawing these references."""
    samples = [
        Sample((Message("user", (text(f"draw {n}"),)), Message("assistant", (part,))), "task", {"expect": {}})
        for n, part in enumerate(references)
    ]
    return Outcome(task("text->image"), "test", samples, answers, 1.0)


def picture(levels):
    return Part("image", Image.fromarray(np.asarray(levels, np.uint8)))


# entries of a report


def cell(**changes):
    """An entry of report.json."""
    facts = {
        "cell": "text->image", "task": "draw", "split": "test", "metric": "digit accuracy", "higher_is_better": True,
        "value": 0.5, "ci95": [0.4, 0.6], "n": 20, "baseline": 0.1, "judge": None, "judge_ceiling": None, "blank_input": None,
        "target": None, "seconds": 1.0, "by": {},
    }  # fmt: skip
    return {**facts, **changes}


# media with labels, and how a judge sees them

CLASSES = {"side": ["left", "right"], "a.b": [0, 1, 2]}  # names that torch would not take for modules, and numbers


def levels_of(part):
    return np.asarray(part.value, np.float32)[None] / 255


def view(epochs=8, round_trip=None):
    return JudgeView(1, levels_of, lambda x, generator: x, epochs, round_trip=round_trip)


def lit(count, seed):
    """Pictures lit on a side, in one of three shades."""
    rng = np.random.default_rng(seed)
    parts, labels = [], []
    for number in range(count):
        canvas = rng.integers(0, 30, (16, 16))
        side, shade = number % 2, number // 2 % 3
        canvas[:, 8 * side : 8 * side + 8] = 80 + 80 * shade
        parts.append(Part("image", canvas))
        labels.append({"side": CLASSES["side"][side], "a.b": shade})
    return parts, labels
