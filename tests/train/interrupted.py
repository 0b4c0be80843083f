"""Two processes under torchrun train, once straight, and once interrupted and resumed. See test_resume.py."""

import json
import sys
from pathlib import Path

from plait.train import distributed, trainer
from plait.train import run as runs
from plait.train.config import TrainingConfig

STOPS_AT = 5


def leaving(training, batches, recipe, step=trainer.one_step):
    """One step of the loop; step STOPS_AT leaves it as a kill would, without a last checkpoint."""
    if training.step == STOPS_AT:
        raise SystemExit
    return step(training, batches, recipe)


def straight_and_resumed(config: TrainingConfig, folder: Path) -> None:
    """Runs `folder/straight` and `folder/resumed`."""
    usual = trainer.one_step
    runs.train(config, folder / "straight", threads=1)
    trainer.one_step = leaving
    try:
        runs.train(config, folder / "resumed", threads=1)
    except SystemExit:
        trainer.one_step = usual
    runs.train(config, folder / "resumed", threads=1, resume=True)


if __name__ == "__main__":
    with distributed.joined():  # one group for all trainings
        straight_and_resumed(TrainingConfig(**json.loads(sys.argv[1])), Path(sys.argv[2]))
