"""The cascade that a user would build instead, beside the model: the same questions, the same scores, and the seconds of each.

Whisper tiny.en -> SmolLM2-135M -> Piper (plait.eval.outside.cascade) knows English and no pictures, so what is compared are the
first English rows of the tasks whose words and sound it can be asked about. An answer of ours is timed alone, as one of the
cascade is: nobody waits for a batch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from plait.contract import Message, Part, Sample
from plait.eval.suite import Measured, Outcome

ROWS = 20  # of a task: the cascade takes seconds a row
WORDS_ONLY = {"text", "audio"}
TRANSLATES = "translate"  # tasks that the cascade's models do not do: their names begin so
Ask = Callable[[tuple[Message, ...], str], Part | None]


def _english(sample: Sample) -> bool:
    return str(sample.meta.get("from", sample.meta.get("language", "en"))) == "en"


def _bare(sample: Sample, to: str) -> tuple[Message, ...]:
    """What the cascade is asked: the words to read aloud without the order to do so, the recording alone, or the question."""
    if to == "audio" and "text" in sample.meta:
        return (Message("user", (Part("text", str(sample.meta["text"])),)),)
    media = tuple(part for message in sample.messages[:-1] for part in message.parts if part.type != "text")
    return (Message("user", media),) if media else sample.messages[:-1]


def chosen(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """The first English rows of tasks that need no pictures, on their first split."""
    made = []
    for outcome in outcomes:
        task = outcome.task
        able = {*task.gives, task.answers_in} <= WORDS_ONLY and not task.name.startswith(TRANSLATES)
        rows = [index for index, sample in enumerate(outcome.samples) if _english(sample)][:ROWS]
        if able and outcome.split == task.splits[0] and len(rows) == ROWS:
            picked = [outcome.samples[index] for index in rows], [outcome.answers[index] for index in rows]
            made.append(replace(outcome, samples=picked[0], answers=picked[1], blank_answers=[], swapped_answers=[]))
    return made


def compared(
    outcomes: Sequence[Outcome], ours: Ask, folder: Path, cells: Callable[[Outcome], list[dict[str, Any]]],
    make: Callable[[Path], Any] | None = None,
) -> list[dict[str, Any]]:  # fmt: skip
    """Entries {task, metric, n, ours, cascade, seconds, cascade_seconds}. `ours` answers one question, `cells` scores an
    outcome, `make` makes the cascade. Raises MissingError without the cascade's packages."""
    from plait.eval.outside.cascade import Cascade

    picked = chosen(outcomes)
    if not picked:
        return []
    cascade = (make or Cascade)(folder)
    made = []
    for outcome in picked:
        task: Measured = outcome.task
        answers, seconds, own = [], [], []
        for sample in outcome.samples:
            begin = time.perf_counter()
            answers.append(cascade.answer(_bare(sample, task.answers_in), task.answers_in))
            seconds.append(time.perf_counter() - begin)
            begin = time.perf_counter()
            ours(sample.messages[:-1], task.answers_in)
            own.append(time.perf_counter() - begin)
        mine, theirs = (
            {cell["metric"]: cell for cell in cells(one)} for one in (outcome, replace(outcome, answers=answers))
        )
        made += [
            {
                "task": task.name, "cell": task.cell, "metric": metric, "n": cell["n"], "ours": cell["value"],
                "cascade": theirs[metric]["value"], "higher_is_better": cell["higher_is_better"],
                "seconds": float(np.median(own)), "cascade_seconds": float(np.median(seconds)),
            }
            for metric, cell in mine.items()
            if metric in theirs
        ]  # fmt: skip
    return made
