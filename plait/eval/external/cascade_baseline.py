"""The cascade that a user would build instead, beside the model: the same questions, the same scores, and the seconds of each.

Whisper tiny.en -> SmolLM2-135M -> Piper (plait.eval.external.cascade) knows English and no pictures, so what is compared are the
first rows, English in what is given and in what is answered, of the tasks whose words and sound it can be asked about. An
answer of ours is timed alone, as one of the cascade is: nobody waits for a batch. Both have the same threads. Where a stage has
one thing to do, the cascade is given that without the order to do it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from plait.contract import Message, Part, Sample
from plait.eval.suites import Measured, Outcome

ROWS, LEAST_ROWS = 20, 10  # of a task: the cascade takes seconds a row, and fewer tell nothing
WORDS_ONLY = {"text", "audio"}
WRITES_DOWN = "word errors"  # the score of tasks whose answer is what is heard
Ask = Callable[[tuple[Message, ...], str], Part | None]


def _english(sample: Sample) -> bool:
    return all(str(sample.meta.get(fact, "en")) == "en" for fact in ("from", "language"))


def _bare(sample: Sample, task: Measured) -> tuple[Message, ...]:
    """What the cascade is asked: the words to read aloud without the order to do so, the recording to write down alone, or the
    question as it is. Never the answer: of a recording that is to be answered aloud it is given the recording."""
    if task.answers_in == "audio" and task.gives == {"text"} and "text" in sample.meta:
        return (Message("user", (Part("text", str(sample.meta["text"])),)),)
    media = tuple(part for message in sample.messages[:-1] for part in message.parts if part.type != "text")
    return (Message("user", media),) if media and WRITES_DOWN in task.scores else sample.messages[:-1]


def chosen(outcomes: Sequence[Outcome], say: Callable[[str], Any] = lambda what: None) -> list[Outcome]:
    """The first English rows of tasks that need no pictures, on their first split. `say` hears of those that are left out for
    want of such rows."""
    made = []
    for outcome in outcomes:
        task = outcome.task
        if not {*task.gives, task.answers_in} <= WORDS_ONLY or outcome.split != task.splits[0]:
            continue
        rows = [index for index, sample in enumerate(outcome.samples) if _english(sample)][:ROWS]
        answers = {str(outcome.samples[index].messages[-1].parts[0].value) for index in rows}
        if len(rows) < LEAST_ROWS:
            say(
                f"not beside the cascade: {task.name}, of which {len(rows)} rows are English throughout, all that it knows"
            )
        elif len(answers) == 1:
            say(f"not beside the cascade: {task.name}, whose English rows all have the answer {answers.pop()!r}")
        else:
            picked = [outcome.samples[index] for index in rows], [outcome.answers[index] for index in rows]
            made.append(replace(outcome, samples=picked[0], answers=picked[1], blank_answers=[], swapped_answers=[]))
    return made


def compared(
    outcomes: Sequence[Outcome], ours: Ask, folder: Path, cells: Callable[[Outcome], list[dict[str, Any]]],
    make: Callable[[Path], Any] | None = None, say: Callable[[str], Any] = lambda what: None,
) -> list[dict[str, Any]]:  # fmt: skip
    """Entries {task, metric, n, ours, cascade, their intervals, seconds, cascade_seconds}. `ours` answers one question, `cells`
    scores an outcome, `make` makes the cascade, `say` hears what is left out. Raises MissingError without the cascade's
    packages."""
    from plait.eval.external.cascade import Cascade

    picked = chosen(outcomes, say)
    if not picked:
        return []
    cascade = (make or partial(Cascade, threads=torch.get_num_threads()))(folder)
    made = []
    for outcome in picked:
        task: Measured = outcome.task
        answers, seconds, own = [], [], []
        for sample in outcome.samples:
            begin = time.perf_counter()
            answers.append(cascade.answer(_bare(sample, task), task.answers_in))
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
                "ours_ci95": cell["ci95"], "cascade_ci95": theirs[metric]["ci95"],
                "seconds": float(np.median(own)), "cascade_seconds": float(np.median(seconds)),
            }
            for metric, cell in mine.items()
            if metric in theirs
        ]  # fmt: skip
    return made
