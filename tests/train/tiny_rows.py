"""Rows of words, small pictures and short clips for trainings of a handful of steps."""

import json
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image
from worlds import SETTINGS, TINY

from plait.train.config import TrainingConfig


def write_rows(folder: Path, kinds: tuple[str, ...], count: int = 24) -> Path:
    """`count` rows in turn for each of `kinds`, which is the task and the type of the answer; words are asked for with one of
    each medium."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    lines = []
    for number in range(count):
        kind = kinds[number % len(kinds)]
        values = {"text": f"word {number % 5}", "image": f"{number}.png", "audio": f"{number}.wav"}
        Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8)).save(folder / values["image"])
        soundfile.write(folder / values["audio"], 0.1 * rng.standard_normal(1600), 16_000)
        media = [{"type": medium, medium: values[medium]} for medium in kinds if kind == "text" != medium]
        question = [*media, {"type": "text", "text": f"draw {number}"}]
        answer = [{"type": kind, kind: values[kind]}]
        messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        lines.append(json.dumps({"task": kind, "messages": messages}))
    (folder / "train.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


def config(data: Path, kinds: tuple[str, ...], **settings: object) -> TrainingConfig:
    """A training of a tiny model of `kinds`."""
    usual = {
        "name": "tiny", "data": str(data), "modalities": {kind: SETTINGS[kind] for kind in kinds}, "trunk": TINY,
        "pack": {"length": 96, "sequences": 2}, "steps": 8, "dtype": "float32", "optim": {"warmup": 1}, "log_every": 1,
    }  # fmt: skip
    return TrainingConfig(**usual | settings)
