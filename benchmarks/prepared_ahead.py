"""Training steps whose rows are prepared by a thread while the step before is computed, against rows and steps in turn.

python benchmarks/prepared_ahead.py --recipe dictionary --data data/dictionary
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

from side_by_side import alternate, finish, median, seconds, table

from plait.api import settings
from plait.data.pack import Batch
from plait.train import trainer
from plait.train.run import start, use_threads


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="digits")
    parser.add_argument("--data", default="data/digits")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10)
    given = parser.parse_args()
    use_threads(given.threads)
    recipe = settings(given.recipe, f"data={given.data}")
    in_turn, ahead = start(recipe), start(recipe)
    losses: dict[str, list[dict[str, float]]] = {"in turn": [], "ahead": []}

    def timed(name: str, step: Callable[[], list[Batch]]) -> float:
        training = in_turn if name == "in turn" else ahead

        def one() -> None:
            losses[name].append(trainer.one_step(training, step(), recipe))

        def several() -> None:
            for _ in range(given.steps):
                one()

        one()  # the thread's first step of a round was ready before it
        return float(seconds(several) / given.steps)

    with ahead.loader.steps() as steps:
        contenders = {
            "in turn": lambda: timed("in turn", in_turn.loader.next_step),
            "ahead": lambda: timed("ahead", lambda: next(steps)),
        }
        times = {name: median(values) for name, values in alternate(contenders, given.rounds).items()}
    assert losses["in turn"] == losses["ahead"], "the same steps"
    table(given.recipe, [(name, f"{time:.3f}") for name, time in times.items()], ("rows", "seconds a step"))
    finish("prepared_ahead", {**times, "ratio": round(times["in turn"] / times["ahead"], 2)})


if __name__ == "__main__":
    main()
