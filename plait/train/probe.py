"""What a training will take, measured: a few steps of it are run, and nothing of them is kept."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from plait.contract import Sample
from plait.data.media import CachedReader
from plait.data.rows import parts_of
from plait.train import trainer
from plait.train.config import TrainingConfig
from plait.train.run import peak_rss_mb, start

STEPS = 3  # that are run again and again
READ = STEPS + 2  # that have their rows prepared, so that their media are in memory
WARM_SECONDS = 15.0
LEAST_ROUNDS = 3
MARGIN_MB = 60.0  # logs, the progress display and what the allocator keeps


@dataclass(frozen=True)
class Probe:
    """Seconds and megabytes of one step, of one checkpoint, and what reading every distinct part once adds to the steps."""

    parameters: int
    rows: int
    tokens_a_step: float
    rows_a_step: float
    seconds_a_step: float
    seconds_a_save: float
    seconds_to_read: float
    peak_rss_mb: float

    def seconds(self, recipe: TrainingConfig) -> float:
        """Of all steps and checkpoints."""
        share_read = min(1.0, recipe.steps * self.rows_a_step / self.rows)
        saves = -(-recipe.steps // recipe.save_every)
        return recipe.steps * self.seconds_a_step + saves * self.seconds_a_save + share_read * self.seconds_to_read


def _distinct(samples: Sequence[Sample]) -> int:
    return len({(part.type, str(part.value)) for sample in samples for part in parts_of(sample)})


def probe(recipe: TrainingConfig, skip: Collection[str]) -> Probe:
    """Run a few steps of `recipe` on its own rows, without those whose ids are in `skip`."""
    training = start(recipe, skip)
    loader = training.loader
    reader = loader.encoder.encode_part
    assert isinstance(reader, CachedReader)

    def a_step() -> float:
        """Seconds, as `trainer.run_loop` takes its steps; the first, whose rows nothing prepared, does not count."""
        loader.load_state({"draws": 0, "waiting": []})
        with loader.steps() as steps:
            trainer.one_step(training, next(steps), recipe)
            begin = time.perf_counter()
            for _ in range(STEPS):
                trainer.one_step(training, next(steps), recipe)
            return (time.perf_counter() - begin) / STEPS

    a_step()  # lets the allocator and the processor warm up
    drawn, read = loader.mix.draws, len(reader.segments)
    reader.clear()
    cold = a_step()
    warm: list[float] = []
    while len(warm) < LEAST_ROUNDS or sum(warm) * STEPS < WARM_SECONDS:
        warm.append(a_step())
    seconds_a_step = sum(warm) / len(warm)
    samples = [sample for of_task in loader.mix.samples.values() for sample in of_task]
    distinct = _distinct(samples)
    to_come = min(reader.num_bytes / max(1, read) * distinct, reader.capacity) - reader.num_bytes
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        trainer.save(training, recipe, Path(folder))
        saving = time.perf_counter() - begin
    return Probe(
        parameters=sum(parameter.numel() for parameter in training.parameters),
        rows=len(samples),
        tokens_a_step=training.tokens / training.step,
        rows_a_step=drawn / READ,
        seconds_a_step=seconds_a_step,
        seconds_a_save=saving,
        seconds_to_read=max(0.0, cold - seconds_a_step) * READ / max(1, read) * distinct,
        peak_rss_mb=peak_rss_mb() + max(0.0, to_come) / 2**20 + MARGIN_MB,
    )
