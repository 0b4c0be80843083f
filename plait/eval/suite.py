"""What a recipe wants evaluated: its tasks, who judges them, and what counts as a baseline."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from plait.contract import Part
from plait.eval.judges import Judge
from plait.tasks.task import Task


@dataclass(frozen=True)
class Cycle:
    """Write with one task, read back with another, and compare with what was asked: needs no judge and no label."""

    name: str
    writer: str
    reader: str
    attribute: str


@dataclass(frozen=True)
class Suite:
    """`judges` by modality; `blank` gives an empty part like the one it gets; `in_words` a label as the model says it."""

    tasks: Sequence[Task]
    judges: Mapping[str, Callable[[], Judge]]
    blank: Mapping[str, Callable[[Part], Part]]
    in_words: Callable[[str, Any], str]
    features: Mapping[str, Callable[[Part], Any]]  # a plain vector a part, for baselines and distances
    cycles: Sequence[Cycle] = ()

    def task(self, name: str) -> Task:
        return next(task for task in self.tasks if task.name == name)
