"""What scores share: the model, independent models, and the entry of the report that a number becomes."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from plait.contract import Part, Sample
from plait.errors import DataError
from plait.eval import statistics
from plait.eval.judges import Judge
from plait.eval.suites import Measured, Outcome
from plait.infer.engine import Engine
from plait.modalities.audio import Audio
from plait.modalities.audio.mel import RATE
from plait.runtime.pictures import open_picture

READING = (150, 50)  # words a minute and pitch of espeak-ng's reading, its middle
LEAST_BY = 10  # rows of a language (or a source...) that are worth a number of their own
GROUPINGS = ("language", "source", "style", "topic")  # facts of rows that a score is broken down by


def judges_folder() -> Path:
    """The folder of the independent models' weights: PLAIT_JUDGES, else data/judges."""
    return Path(os.environ.get("PLAIT_JUDGES", "data/judges"))


@dataclass
class Bench:
    """`training` gives the training media of a modality in some styles, or all of them where no style is given.

    `say` gets notes for the report; `examples` gives the training rows of a task; `judges`, `blank`: the evaluation's
    judges and what empties a part, by modality.
    """

    engine: Engine
    training: Callable[[str, Collection[str]], Sequence[Part]] = lambda kind, styles: ()
    say: Callable[[str], object] = lambda what: None
    folder: Path = field(default_factory=judges_folder)
    examples: Callable[[Measured], Iterable[Sample]] = lambda task: ()
    judges: Mapping[str, Judge] = field(default_factory=dict)
    blank: Mapping[str, Callable[[Part], Part]] = field(default_factory=dict)
    cache: dict[Any, Any] = field(default_factory=dict)  # features that several scores need

    @cached_property
    def picture_features(self) -> Callable[[Sequence[Part]], np.ndarray]:
        """[n, 1280] features of pictures by EfficientNet-Lite0. Raises MissingError."""
        from plait.eval.external.pictures import PictureFeatures

        network = PictureFeatures(self.folder)
        return lambda parts: network.features([open_picture(part.value) for part in parts])

    @cached_property
    def voice_features(self) -> Callable[[Sequence[Part]], np.ndarray]:
        """[n, 256] unit vectors of voices by the GE2E encoder. Raises MissingError."""
        from plait.eval.external.voices import SpeakerFeatures
        from plait.modalities.audio.measure import waveform

        network = SpeakerFeatures(self.folder)
        return lambda parts: network.features([(waveform(part), 16_000) for part in parts])

    @cached_property
    def recognised(self) -> Callable[[Sequence[Part]], list[str]]:
        """Transcripts by Whisper tiny.en. Raises MissingError."""
        from plait.eval.external.recogniser import EnglishRecogniser
        from plait.modalities.audio.measure import waveform

        model = EnglishRecogniser(self.folder, threads=torch.get_num_threads())
        return lambda parts: model.transcribe([(waveform(part), 16_000) for part in parts])

    @cached_property
    def recognised_otherwise(self) -> Callable[[Sequence[Part]], list[str]]:
        """Transcripts by PocketSphinx. Raises MissingError."""
        from plait.eval.external.sphinx import SphinxRecogniser
        from plait.modalities.audio.measure import waveform

        model = SphinxRecogniser()
        return lambda parts: model.transcribe([(waveform(part), 16_000) for part in parts])

    def read_aloud(self, texts: Sequence[str]) -> list[Part]:
        """English texts spoken by espeak-ng."""
        from plait.data.sources.espeak import RATE, Espeak

        with Espeak() as speaker:
            return [Part(Audio.name, (speaker.say(text, "en", *READING), RATE)) for text in texts]

    @cached_property
    def read_by_piper(self) -> Callable[[Sequence[str]], list[Part]]:
        """English texts spoken by Piper. Raises MissingError."""
        from plait.eval.external.speaker import Piper

        voice = Piper(self.folder, threads=torch.get_num_threads())
        silence = (np.zeros(RATE // 10, np.float32), RATE)  # for a text in which there is nothing to say

        def read_aloud(text: str) -> Part:
            try:
                return Part(Audio.name, voice.say(text))
            except DataError:
                return Part(Audio.name, silence)

        return lambda texts: [read_aloud(text) for text in texts]


def cell(outcome: Outcome, metric: str, value: float, ci95: Sequence[float], n: int, **more: Any) -> dict[str, Any]:
    """An entry of report.json; `more` are further keys, or others than the usual values."""
    return {
        "cell": outcome.task.cell, "task": outcome.task.name, "split": outcome.split, "metric": metric,
        "higher_is_better": True, "value": value, "ci95": list(ci95), "n": n, "baseline": None, "judge": None,
        "judge_ceiling": None, "blank_input": None, "target": None, "seconds": round(outcome.seconds, 2), "by": {}, **more,
    }  # fmt: skip


def entry(
    outcome: Outcome, metric: str, values: Sequence[float] | np.ndarray, *, higher: bool = True,
    statistic: Callable[[np.ndarray], float] | None = None, rows: Sequence[int] | None = None, **more: Any,
) -> dict[str, Any]:  # fmt: skip
    """An entry of report.json from one number a row: their mean, or `statistic` of row indices, with a bootstrap interval.

    `rows` are the outcome's rows that the numbers belong to (all if None); `more` replaces further keys of the entry. `by` breaks
    the number down by language, source, style and topic.
    """
    numbers = np.asarray(values, np.float64)

    def mean(drawn: np.ndarray) -> float:
        return float(numbers[drawn].mean())

    estimate = statistic or mean
    interval = statistics.bootstrap(estimate, len(numbers), draws=200)
    samples = outcome.samples if rows is None else [outcome.samples[i] for i in rows]
    by = broken_down(samples, estimate)
    value = estimate(np.arange(len(numbers)))
    return cell(outcome, metric, value, interval, len(numbers), higher_is_better=higher, **more, by=by)


def broken_down(samples: Sequence[Any], statistic: Callable[[np.ndarray], float]) -> dict[str, float]:
    """A statistic of the rows of each group, for every fact in GROUPINGS that has several groups."""
    values: dict[str, float] = {}
    for name in GROUPINGS:
        groups: dict[str, list[int]] = {}
        for number, sample in enumerate(samples):
            groups.setdefault(str(sample.meta.get(name, "")), []).append(number)
        large = {group: rows for group, rows in groups.items() if group and len(rows) >= LEAST_BY}
        if len(large) > 1:
            values |= {f"{name} {group}": statistic(np.array(rows)) for group, rows in sorted(large.items())}
    return values


def texts(parts: Sequence[Part | None]) -> list[str]:
    """Answers in words; an empty text for a missing answer."""
    return [str(part.value).strip() if part else "" for part in parts]


def references(outcome: Outcome) -> list[Part]:
    return [sample.messages[-1].parts[0] for sample in outcome.samples]


def facts(outcome: Outcome, name: str) -> list[Any]:
    return [sample.meta.get(name) for sample in outcome.samples]
