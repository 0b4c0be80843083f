"""What a training will take, measured: a few steps of it are run, and nothing of them is kept."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from plait.contract import Sample
from plait.data.media import CachedReader
from plait.recipe import Recipe
from plait.train import loop
from plait.train.run import peak_rss_mb, start

STEPS = 3  # that are run again and again, so that their media are in memory
WARM_SECONDS = 15.0
LEAST_ROUNDS = 3
MARGIN_MB = 60.0  # logs, the progress display and what the allocator keeps


@dataclass(frozen=True)
class Probe:
    """Seconds and megabytes of one step, of one checkpoint, and of reading every distinct part once."""

    parameters: int
    rows: int
    tokens_a_step: float
    rows_a_step: float
    seconds_a_step: float
    seconds_a_save: float
    seconds_to_read: float
    peak_rss_mb: float

    def seconds(self, recipe: Recipe) -> float:
        """Of all steps and checkpoints."""
        share_read = min(1.0, recipe.steps * self.rows_a_step / self.rows)
        saves = -(-recipe.steps // recipe.save_every)
        return recipe.steps * self.seconds_a_step + saves * self.seconds_a_save + share_read * self.seconds_to_read


def _distinct(samples: Sequence[Sample]) -> int:
    return len({(p.type, str(p.value)) for sample in samples for m in sample.messages for p in m.parts})


def probe(recipe: Recipe, skip: Collection[int]) -> Probe:
    """Run a few steps of `recipe` on its own rows, without the lines in `skip`."""
    training = start(recipe, skip)
    loader = training.loader
    reader = loader.encoder.encode_part
    assert isinstance(reader, CachedReader)

    def steps() -> tuple[float, float]:
        """Seconds a step, all of it and that of the loader alone."""
        begin, loading = time.perf_counter(), 0.0
        for _ in range(STEPS):
            before = time.perf_counter()
            batches = loader.next_step()
            loading += time.perf_counter() - before
            loop.one_step(training, batches, recipe)
        return (time.perf_counter() - begin) / STEPS, loading / STEPS

    _, cold_loading = steps()  # reads its media, and lets the allocator and the processor warm up
    drawn, read = loader.mix.draws, len(reader.kept)
    warm: list[tuple[float, float]] = []
    while len(warm) < LEAST_ROUNDS or sum(whole for whole, _ in warm) * STEPS < WARM_SECONDS:
        loader.load_state({"draws": 0, "waiting": []})
        warm.append(steps())
    samples = [sample for of_task in loader.mix.samples.values() for sample in of_task]
    distinct = _distinct(samples)
    to_come = min(reader.held / max(1, read) * distinct, reader.capacity) - reader.held
    a_step, loading = (sum(column) / len(warm) for column in zip(*warm, strict=True))
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        loop.save(training, recipe, Path(folder))
        saving = time.perf_counter() - begin
    return Probe(
        parameters=sum(parameter.numel() for parameter in training.parameters),
        rows=len(samples),
        tokens_a_step=training.tokens / training.step,
        rows_a_step=drawn / STEPS,
        seconds_a_step=a_step,
        seconds_a_save=saving,
        seconds_to_read=max(0.0, cold_loading - loading) * STEPS * distinct / max(1, read),
        peak_rss_mb=peak_rss_mb() + max(0.0, to_come) / 2**20 + MARGIN_MB,
    )
