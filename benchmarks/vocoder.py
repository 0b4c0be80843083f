"""The vocoder of a checkpoint against Griffin-Lim, on held-out speech: how fast, how near, how well understood.

python benchmarks/vocoder.py CHECKPOINT --data data/smol

Each clip is written from its own mel frames both ways, on one thread. Word errors are Whisper tiny.en's; those of the clips as
they were are the floor.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import torch
from side_by_side import alternate, finish, median, seconds, table

from plait import api
from plait.contract import Part
from plait.data.sources.fetch import places
from plait.eval.external.recogniser import EnglishRecogniser
from plait.modalities.audio import stream
from plait.modalities.audio.codec import Audio
from plait.modalities.audio.mel import RATE, log_mel
from plait.runtime.words import plain_words

VOCODER, GRIFFIN_LIM = "vocoder", "Griffin-Lim"


def held_out(data: Path, count: int) -> list[tuple[str, str]]:
    """(path, words) of held-out clips."""
    found = {}
    for line in (data / "transcribe.test.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        path = next(part["audio"] for part in row["messages"][0]["content"] if part["type"] == "audio")
        found[str(data / path)] = row["meta"]["expect"]["exact"]
    return list(found.items())[:count]


def measure(modality: Audio, clips: Sequence[tuple[str, str]], rounds: int) -> dict[str, dict[str, float]]:
    """Seconds of computing for a second of sound, seconds to the first sound of a stream, and the distance of log-mels."""
    real = [modality.samples(Part("audio", path)) for path, _ in clips]
    segments = [modality.read(Part("audio", (samples, RATE))) for samples in real]
    length = sum(map(len, real)) / RATE
    ways = {VOCODER: modality.network, GRIFFIN_LIM: None}
    made: dict[str, list[np.ndarray]] = {}

    def using(name: str, work: Callable[[], Any]) -> Callable[[], float]:
        def run() -> float:
            modality.network = ways[name]
            return seconds(work)

        return run

    def write_all(name: str) -> None:
        made[name] = [modality.write(segment).value[0] for segment in segments]

    def begin() -> None:
        first = segments[0].blocks
        stream.begin(modality).add(first[0], len(first) == 1)

    whole = alternate({name: using(name, lambda name=name: write_all(name)) for name in ways}, rounds)  # type: ignore[misc]
    first = alternate({name: using(name, begin) for name in ways}, 5 * rounds)
    modality.network = ways[VOCODER]
    found = {}
    for name in ways:
        pairs = [(log_mel(a), log_mel(b)) for a, b in zip(made[name], real, strict=True)]
        found[name] = {
            "real_time_factor": median(whole[name]) / length,
            "first_sound_ms": 1000 * median(first[name]),
            "log_mel_distance": float(np.mean([np.abs(a[: len(b)] - b[: len(a)]).mean() for a, b in pairs])),
        }
    recogniser = EnglishRecogniser(places())
    truth = [plain_words(text) for _, text in clips]
    for name, sounds in (made | {"as recorded": real}).items():
        heard = recogniser.transcribe([(samples, RATE) for samples in sounds])
        found.setdefault(name, {})["word_error_rate"] = jiwer.wer(truth, [plain_words(text) or "." for text in heard])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", help="a checkpoint with a vocoder")
    parser.add_argument("--data", type=Path, default=Path("data/smol"))
    parser.add_argument("--clips", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    modality = api.load(arguments.checkpoint).network.vocabulary.modalities["audio"]
    assert isinstance(modality, Audio)
    show(measure(modality, held_out(arguments.data, arguments.clips), arguments.rounds), arguments.clips)


def show(found: dict[str, dict[str, float]], clips: int) -> None:
    """Print the table and the JSON line."""
    keys = ("real_time_factor", "first_sound_ms", "log_mel_distance", "word_error_rate")
    rows = [(name, *(f"{told[key]:.3g}" if key in told else "" for key in keys)) for name, told in found.items()]
    table(f"{clips} clips of held-out speech", rows, ("", *(key.replace("_", " ") for key in keys)))
    ratio = found[GRIFFIN_LIM]["real_time_factor"] / found[VOCODER]["real_time_factor"]
    finish("vocoder", {"clips": clips, "times_faster": round(ratio, 2), **found})


if __name__ == "__main__":
    main()
