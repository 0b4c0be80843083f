"""A model's own answers as rows: what another, or the same one, learns to give in fewer steps.

A block and the noise that it was drawn from are a pair. A flow that is trained on such pairs is nearly straight (rectified
flow, Liu et al., 2022), so that a few steps of Euler's method follow it, and the pairs were drawn with guidance, which need not be asked for again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from plait.contract import Message, Part, Sample
from plait.data.drawn import SUFFIX, write_drawn
from plait.errors import ConfigError
from plait.infer.engine import Engine
from plait.infer.request import Request

AT_ONCE = 256  # requests between two reports
FOLDER = "drawn"


def is_asked_for(sample: Sample, flows: frozenset[str]) -> bool:
    """Whether a row ends in one part of a flow modality, all of the assistant's last message."""
    last = sample.messages[-1]
    return last.role == "assistant" and len(last.parts) == 1 and last.parts[0].type in flows


def taught(
    engine: Engine, by_task: Mapping[str, Sequence[Sample]], to: Path, sampling: Mapping[str, Any], count: int, seed: int,
    say: Callable[[str], Any] = lambda line: None,
) -> Iterator[Sample]:  # fmt: skip
    """`count` rows of each task that asks for a picture or sound, with the model's own answers, whose blocks lie in
    `to`/drawn; the rows of the other tasks as they are. Raises ConfigError where no task asks for any.
    """
    modalities = engine.encoder.vocabulary.modalities
    flows = frozenset(name for name, modality in modalities.items() if modality.head == "flow")
    drawn = {
        task: [row for row, sample in enumerate(samples) if is_asked_for(sample, flows)]
        for task, samples in sorted(by_task.items())
    }
    asking = [task for task, rows in drawn.items() if rows]
    if not asking:
        raise ConfigError(
            f"no task asks for {' or '.join(sorted(flows)) or 'anything but words'} alone; expected rows whose answers the "
            "model draws"
        )
    (to / FOLDER).mkdir(parents=True, exist_ok=True)
    for task, samples in sorted(by_task.items()):
        answered = set(drawn[task])
        yield from (sample for row, sample in enumerate(samples) if row not in answered)
        if not answered:
            continue
        number = asking.index(task)
        order = np.random.default_rng([seed, 7, number]).permutation(drawn[task])[:count]
        for start in range(0, len(order), AT_ONCE):
            some = [samples[index] for index in order[start : start + AT_ONCE]]
            yield from _answered(engine, some, to, sampling, number * count + start)
            say(f"{task}: {start + len(some):,} of {len(order):,} answered")


def _answered(
    engine: Engine, samples: Sequence[Sample], to: Path, sampling: Mapping[str, Any], first: int
) -> Iterator[Sample]:
    """Rows with the model's answers, numbered from `first` on; one that gets no whole answer is left out."""
    requests = [
        Request(sample.messages[:-1], to=sample.messages[-1].parts[0].type, seed=number, **sampling)
        for number, sample in enumerate(samples, first)
    ]
    for number, (sample, answer) in enumerate(
        zip(samples, engine.generate(requests, decoded=False), strict=True), first
    ):
        if answer.error is None and answer.reason == "stop" and len(answer.segments) == 1:
            name = f"{FOLDER}/{number:07d}{SUFFIX}"
            write_drawn(answer.segments[0], to / name)
            part = Part(answer.segments[0].modality, name)
            yield replace(sample, messages=(*sample.messages[:-1], Message("assistant", (part,))))
