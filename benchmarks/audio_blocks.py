"""Quality of generated and recognised speech at equal training time, by audio block length: 4, 8, 16 tokens, whole clips.

    python benchmarks/audio_blocks.py 8 --minutes 5 --data data/digits

Trains one model on `say`, `change-voice` and `hear-digit` with one thread and a constant learning rate after the warm-up,
until the time is up; prints one JSON line. Run each length in a process pinned to a core, at most two at a time.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch

from plait.eval.runner import Evaluation
from plait.infer.engine import Engine
from plait.modalities.audio.measure import waveform
from plait.modalities.audio.mel import RATE
from plait.recipes import module
from plait.recipes.overrides import override
from plait.train import trainer
from plait.train.run import start

TASKS = ("say", "change-voice", "hear-digit")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("block", type=int, help="tokens of 40 ms a block; 32 is longer than every clip of the data")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--data", default="data/digits")
    parser.add_argument("--rows", type=int, default=200)
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    digits = module("digits")
    weights = {name: float(name in TASKS) for name in digits.RECIPE.weights}
    settings = [
        f"data={arguments.data}",
        f"modalities.audio.block={arguments.block}",
        "modalities.audio.frames=4",
        "optim.decay_fraction=0",
        "pack.sequences=4",
        "steps=1000000",
    ]
    recipe = override(digits.RECIPE, [*settings, f"weights={json.dumps(weights)}"])
    training = start(recipe)
    suite = digits.suite(Path(arguments.data), training.model.vocabulary.modalities)
    training.loader.next_step()  # reads the first media before the clock runs
    start_time = time.perf_counter()
    while time.perf_counter() - start_time < 60 * arguments.minutes:
        trainer.one_step(training, training.loader.next_step(), recipe)

    training.model.load_state_dict(training.ema_weights())
    evaluation = Evaluation(Engine(training.model), suite, recipe.sampling.model_dump(), limit=arguments.rows)
    evaluation.panel.prepare()
    result: dict[str, object] = {
        "block": arguments.block,
        "minutes": arguments.minutes,
        "steps": training.step,
        "tokens": training.tokens,
    }
    for name in TASKS:
        task = suite.task(name)
        outcome = evaluation.run_task(task, "test")
        assert outcome is not None, f"the data has no test rows of {name}"
        for attribute, hits in evaluation.panel.hits(task, outcome.answers, outcome.samples).items():
            result[f"{name} {attribute}"] = round(float(np.mean(hits)), 3)
        if task.answers_in == "audio":
            generated = [len(part.value[0]) / part.value[1] for part in outcome.answers if part]
            real = [len(waveform(sample.messages[-1].parts[0])) / RATE for sample in outcome.samples]
            result[f"{name} seconds made / real"] = [
                round(float(np.mean(generated)), 3),
                round(float(np.mean(real)), 3),
            ]
    print(json.dumps(result))


if __name__ == "__main__":
    main()
