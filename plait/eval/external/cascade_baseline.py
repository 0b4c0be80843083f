"""Compares the model with the cascade (plait.eval.external.cascade): same questions, same scores, seconds an answer.

The cascade knows English and no pictures, so only rows count whose question and answer are English, of tasks in text and
audio. Both answer one question at a time on the same number of threads. For a task that needs one stage (transcribe,
read aloud) the cascade gets the bare input without the instruction.
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
    """The cascade's question: the words to read aloud or the recording to transcribe without the instruction, else the
    question as it is. The answer never leaks into it.
    """
    if task.answers_in == "audio" and task.gives == {"text"} and "text" in sample.meta:
        return (Message("user", (Part("text", str(sample.meta["text"])),)),)
    media = tuple(part for message in sample.messages[:-1] for part in message.parts if part.type != "text")
    return (Message("user", media),) if media and WRITES_DOWN in task.scores else sample.messages[:-1]


def select_outcomes(outcomes: Sequence[Outcome], say: Callable[[str], Any] = lambda what: None) -> list[Outcome]:
    """The first English rows of text and audio tasks, on each task's first split.

    Calls `say` for every task that has too few such rows, or only one answer in them.
    """
    selected = []
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
            selection = [outcome.samples[index] for index in rows], [outcome.answers[index] for index in rows]
            selected.append(
                replace(outcome, samples=selection[0], answers=selection[1], blank_answers=[], swapped_answers=[])
            )
    return selected


def compared(
    outcomes: Sequence[Outcome], ask: Ask, folder: Path, cells: Callable[[Outcome], list[dict[str, Any]]],
    make: Callable[[Path], Any] | None = None, say: Callable[[str], Any] = lambda what: None,
) -> list[dict[str, Any]]:  # fmt: skip
    """Entries {task, metric, n, ours, cascade, their intervals, seconds, cascade_seconds}.

    `ask` lets the model answer one question, `cells` scores an outcome, `make` builds the cascade, `say` gets a line for every
    task left out. Raises MissingError without the cascade's packages.
    """
    from plait.eval.external.cascade import Cascade

    selected = select_outcomes(outcomes, say)
    if not selected:
        return []
    cascade = (make or partial(Cascade, threads=torch.get_num_threads()))(folder)
    entries = []
    for outcome in selected:
        task: Measured = outcome.task
        answers, seconds, own_seconds = [], [], []
        for sample in outcome.samples:
            begin = time.perf_counter()
            answers.append(cascade.answer(_bare(sample, task), task.answers_in))
            seconds.append(time.perf_counter() - begin)
            begin = time.perf_counter()
            ask(sample.messages[:-1], task.answers_in)
            own_seconds.append(time.perf_counter() - begin)
        own_cells, cascade_cells = (
            {cell["metric"]: cell for cell in cells(scored)} for scored in (outcome, replace(outcome, answers=answers))
        )
        entries += [
            {
                "task": task.name, "cell": task.cell, "metric": metric, "n": cell["n"], "ours": cell["value"],
                "cascade": cascade_cells[metric]["value"], "higher_is_better": cell["higher_is_better"],
                "ours_ci95": cell["ci95"], "cascade_ci95": cascade_cells[metric]["ci95"],
                "seconds": float(np.median(own_seconds)), "cascade_seconds": float(np.median(seconds)),
            }
            for metric, cell in own_cells.items()
            if metric in cascade_cells
        ]  # fmt: skip
    return entries
