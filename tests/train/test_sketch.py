"""The objective `sketch`: how letters sound, learned from them alone."""

import json

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file
from tiny_rows import config, write_rows
from worlds import SETTINGS

from plait.contract import Part
from plait.errors import ConfigError
from plait.train import checkpoint
from plait.train.run import train

PITCH = {"a": 300.0, "b": 900.0, "c": 2700.0}
SECONDS, RATE = 0.16, 16_000
LETTERS = {"frames": 4, "block": 4, "letters": True, "max_seconds": 2.0}


def sung(word):
    """[n] samples: a tone for each letter."""
    time = np.arange(int(SECONDS * RATE)) / RATE
    return np.concatenate([0.3 * np.sin(2 * np.pi * PITCH[letter] * time) for letter in word]).astype(np.float32)


def timed(word):
    """The option `words` of a clip that sings a word."""
    starts = [round(SECONDS * number, 3) for number in range(len(word))]
    return [[word, 0.0, round(SECONDS * len(word), 3), starts]]


def write_songs(folder, count=40):
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    lines = []
    for number in range(count):
        word = "".join(rng.choice(list(PITCH), 5))
        soundfile.write(folder / f"{number}.wav", sung(word), RATE)
        answer = [{"type": "audio", "audio": f"{number}.wav", "words": timed(word)}]
        messages = [{"role": "user", "content": f"sing {word}"}, {"role": "assistant", "content": answer}]
        lines.append(json.dumps({"task": "sing", "messages": messages}))
    (folder / "train.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


def test_letters_are_learned_and_nothing_else_moves(tmp_path):
    data = write_songs(tmp_path / "songs")
    settings = {
        "modalities": {"text": SETTINGS["text"], "audio": LETTERS},
        "objective": "sketch",
        "trainable": tuple(f"embedders.audio.{part}.*" for part in ("sketch", "symbol", "distance")),
        "pack": {"length": 256, "sequences": 4},
        "ema_decay": 0.0,
    }
    optim = {"name": "adamw", "lr": 1e-30, "warmup": 1}
    start = train(config(data, ("text",), **settings | {"steps": 1, "optim": optim}), tmp_path / "start", threads=1)
    learning = {"steps": 120, "optim": optim | {"lr": 3e-3}, "log_every": 60}
    saved = train(config(data, ("text",), **settings | learning), tmp_path / "run", threads=1)
    before, after = (load_file(folder / checkpoint.WEIGHTS) for folder in (start, saved))
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert {name.split(".")[2] for name in moved} == {"sketch", "symbol", "distance"}
    assert all(name.startswith("embedders.audio.") for name in moved)

    model, _ = checkpoint.load(saved)
    audio = model.vocabulary.modalities["audio"]
    errors, distances = [], []
    for word in ("abcab", "ccbaa", "bacca"):
        for block in audio.read(Part("audio", (sung(word), RATE), {"words": timed(word)})).blocks:
            with torch.no_grad():
                sketched = model.expected("audio", torch.from_numpy(audio.coordinates(block.header))).numpy()
            errors.append(np.square(sketched - block.tokens).mean())
            distances.append(np.square(block.tokens).mean())
    assert np.mean(errors) < 0.4 * np.mean(distances), "of normalised sound: its mean would leave all of it"


def test_without_letters_there_is_nothing_to_sketch_from(tmp_path):
    data = write_rows(tmp_path / "rows", ("text", "audio"))
    with pytest.raises(ConfigError, match=r"modalities\.audio\.letters=true"):
        train(config(data, ("text", "audio"), objective="sketch"), tmp_path / "run", threads=1)
