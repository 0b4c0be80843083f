"""How fast this machine trains, measured in seconds without any data: products of matrices, and steps of a recipe's trunk.

A step's time is not its products alone. On a processor that multiplies fast, moving activations through memory takes longer
(docs/experiments/cpu.md), so the trunk is run, not reckoned.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from plait.model.init import initialise
from plait.model.mask import allowed
from plait.model.transformer import Trunk
from plait.runtime.device import resolve_device, resolve_dtype
from plait.train import optim
from plait.train.config import TrainingConfig

SIZE = 2048  # of the squares that are multiplied
ROW = 16  # tokens of a row: about what the demo's have
WARM_STEPS, STEPS = 4, 7
WHOLE_OVER_TRUNK = 1.27  # time of a step: heads and embedders 1.15, preparing rows a tenth more


@dataclass(frozen=True)
class Forecast:
    """What was measured, and what it says of a training."""

    dtype: torch.dtype
    threads: int
    gflops: float  # a second, of products of matrices
    seconds_a_step: float  # of the trunk
    minutes: float  # of the whole training


def forecast(recipe: TrainingConfig) -> Forecast:
    """Measure the machine, and foretell the minutes of `recipe`'s training from its trunk, its batch and its steps."""
    device = resolve_device(recipe.device)
    dtype = resolve_dtype(recipe.dtype, device)
    seconds = _seconds_a_step(recipe, device, dtype)
    gflops = _product_rate(device, dtype)
    return Forecast(dtype, torch.get_num_threads(), gflops, seconds, WHOLE_OVER_TRUNK * seconds * recipe.steps / 60)


def _timed(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of `work`, finished."""
    begin = time.perf_counter()
    work()
    if device.type != "cpu":
        torch.accelerator.synchronize()
    return time.perf_counter() - begin


def _product_rate(device: torch.device, dtype: torch.dtype) -> float:
    """GFLOP/s of a product of two square matrices."""
    square = torch.ones(SIZE, SIZE, dtype=dtype, device=device)
    seconds = [_timed(lambda: square @ square, device) for _ in range(WARM_STEPS + STEPS)]
    return 2 * SIZE**3 / statistics.median(seconds[WARM_STEPS:]) / 1e9


def _seconds_a_step(recipe: TrainingConfig, device: torch.device, dtype: torch.dtype) -> float:
    """Of the trunk and its optimizers, on random vectors in rows of `ROW` tokens."""
    pack = recipe.pack
    model = torch.nn.ModuleDict({"trunk": Trunk(recipe.trunk)})
    initialise(model, recipe.seed)
    model = model.to(device)
    optimizers = optim.build(recipe.optim, model)
    position = torch.arange(pack.length, device=device).expand(pack.sequences, -1)
    mask = allowed(position // ROW, position, torch.zeros_like(position))
    x = torch.randn(pack.sequences, pack.length, recipe.trunk.dim, device=device).to(dtype)

    def step() -> None:
        model["trunk"](x, position % ROW, mask).float().square().mean().backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    return statistics.median([_timed(step, device) for _ in range(WARM_STEPS + STEPS)][WARM_STEPS:])
