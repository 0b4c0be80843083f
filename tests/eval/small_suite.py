"""A suite of a few rows, and a tiny model to evaluate on it."""

from pathlib import Path

import numpy as np
from PIL import Image
from worlds import World, text

from plait.contract import Message, Part, Sample
from plait.eval import runner
from plait.eval.suites import Outcome, Suite
from plait.infer.engine import Engine
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
