"""What scores share: the model, the models from outside, and how a number becomes an entry of the report."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from plait.contract import Part
from plait.errors import DataError
from plait.eval import statistics
from plait.eval.suites import Outcome
from plait.infer.engine import Engine
from plait.modalities.audio import Audio
from plait.modalities.audio.mel import RATE
from plait.runtime.pictures import open_picture

READING = (150, 50)  # words a minute and pitch of espeak-ng's reading, its middle
LEAST_BY = 10  # rows of a language (or a source...) that are worth a number of their own
GROUPINGS = ("language", "source", "style", "topic")  # facts of rows that a score is broken down by


def judges_folder() -> Path:
    """Where weights of models from outside are kept: PLAIT_JUDGES, else data/judges."""
    return Path(os.environ.get("PLAIT_JUDGES", "data/judges"))


@dataclass
class Bench:
    """`training` gives the media that the model was trained on, of a modality: those in one of some styles, or all where there
    are no styles. `say` hears what the report has to say of the scores."""

    engine: Engine
    training: Callable[[str, Collection[str]], Sequence[Part]] = lambda kind, styles: ()
    say: Callable[[str], object] = lambda what: None
    folder: Path = field(default_factory=judges_folder)
    kept: dict[Any, Any] = field(default_factory=dict)  # features that several scores need

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
        """What Whisper tiny.en hears. Raises MissingError."""
        from plait.eval.external.recogniser import EnglishRecogniser
        from plait.modalities.audio.measure import waveform

        model = EnglishRecogniser(self.folder, threads=torch.get_num_threads())
        return lambda parts: model.transcribe([(waveform(part), 16_000) for part in parts])

    def read_aloud(self, texts: Sequence[str]) -> list[Part]:
        """English texts as espeak-ng says them."""
        from plait.data.sources.espeak import RATE, Espeak

        with Espeak() as speaker:
            return [Part(Audio.name, (speaker.say(text, "en", *READING), RATE)) for text in texts]

    @cached_property
    def read_by_piper(self) -> Callable[[Sequence[str]], list[Part]]:
        """English texts as Piper says them. Raises MissingError."""
        from plait.eval.external.speaker import Piper

        voice = Piper(self.folder, threads=torch.get_num_threads())
        nothing = (np.zeros(RATE // 10, np.float32), RATE)  # for a text in which there is nothing to say

        def said(text: str) -> Part:
            try:
                return Part(Audio.name, voice.say(text))
            except DataError:
                return Part(Audio.name, nothing)

        return lambda texts: [said(text) for text in texts]


def entry(
    asked: Outcome, metric: str, values: Sequence[float] | np.ndarray, *, higher: bool = True,
    statistic: Callable[[np.ndarray], float] | None = None, rows: Sequence[int] | None = None, **more: Any,
) -> dict[str, Any]:  # fmt: skip
    """An entry of report.json from a number a row: their mean, or `statistic` of row numbers, with a bootstrap interval,
    and by language where there are several. `rows` are the numbers belong to, if not all."""
    found = np.asarray(values, np.float64)

    def mean(chosen: np.ndarray) -> float:
        return float(found[chosen].mean())

    of = statistic or mean
    everything = np.arange(len(found))
    samples = asked.samples if rows is None else [asked.samples[i] for i in rows]
    made = {
        "cell": asked.task.cell, "task": asked.task.name, "split": asked.split, "metric": metric, "higher_is_better": higher,
        "value": of(everything), "ci95": list(statistics.bootstrap(of, len(found), draws=200)), "n": len(found), "baseline": None,
        "judge": None, "judge_ceiling": None, "blank_input": None, "target": None, "seconds": round(asked.seconds, 2),
    }  # fmt: skip
    return {**made, **more, "by": broken_down(samples, of)}


def broken_down(samples: Sequence[Any], of: Callable[[np.ndarray], float]) -> dict[str, float]:
    """A statistic by each of GROUPINGS that tells rows apart."""
    made: dict[str, float] = {}
    for name in GROUPINGS:
        groups: dict[str, list[int]] = {}
        for number, sample in enumerate(samples):
            groups.setdefault(str(sample.meta.get(name, "")), []).append(number)
        large = {group: rows for group, rows in groups.items() if group and len(rows) >= LEAST_BY}
        if len(large) > 1:
            made |= {f"{name} {group}": of(np.array(rows)) for group, rows in sorted(large.items())}
    return made


def texts(parts: Sequence[Part | None]) -> list[str]:
    """Answers in words; nothing where nothing was said."""
    return [str(part.value).strip() if part else "" for part in parts]


def references(asked: Outcome) -> list[Part]:
    return [sample.messages[-1].parts[0] for sample in asked.samples]


def facts(asked: Outcome, name: str) -> list[Any]:
    return [sample.meta.get(name) for sample in asked.samples]
