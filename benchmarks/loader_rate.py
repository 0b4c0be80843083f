"""Tokens per second that the loader packs, against the tokens per second that training consumes.

python benchmarks/loader_rate.py --data data/digits
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from side_by_side import alternate, finish, median, seconds, table

from plait.api import settings
from plait.train import trainer
from plait.train.run import start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="data/digits")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--steps", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    recipe = settings("digits", f"data={arguments.data}")
    training = start(recipe)
    for _ in range(60):  # fills the cache of media, as in most of a run
        training.loader.next_step()
    batches = [training.loader.next_step() for _ in range(arguments.steps)]
    tokens = sum(batch.clean_tokens for step in batches for batch in step)

    def load() -> float:
        num_tokens = 0

        def work() -> None:
            nonlocal num_tokens
            for _ in range(arguments.steps):
                num_tokens += sum(batch.clean_tokens for batch in training.loader.next_step())

        duration = seconds(work)  # before num_tokens is read
        return num_tokens / duration

    def train() -> float:
        def work() -> None:
            for step in batches:
                trainer.one_step(training, step, recipe)

        return tokens / seconds(work)

    contenders: dict[str, Callable[[], float]] = {"loader": load, "training": train}
    rates = {name: median(values) for name, values in alternate(contenders, arguments.rounds).items()}
    table("digits", [(name, f"{rate:.0f}") for name, rate in rates.items()], ("what", "tokens/s"))
    finish(
        "loader_rate",
        {**{n: round(r) for n, r in rates.items()}, "ratio": round(rates["loader"] / rates["training"], 2)},
    )


if __name__ == "__main__":
    main()
