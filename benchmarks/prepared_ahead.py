"""Time of a training step with rows prepared by a thread during the step before, against rows prepared in turn.

python benchmarks/prepared_ahead.py --recipe dictionary --data data/dictionary
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

from side_by_side import alternate, finish, median, seconds, table

from plait.api import settings
from plait.data.pack import Batch
from plait.runtime.parallel import use_threads
from plait.train import trainer
from plait.train.run import start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="digits")
    parser.add_argument("--data", default="data/digits")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10)
    arguments = parser.parse_args()
    use_threads(arguments.threads)
    recipe = settings(arguments.recipe, f"data={arguments.data}")
    in_turn, ahead = start(recipe), start(recipe)
    losses: dict[str, list[dict[str, float]]] = {"in turn": [], "ahead": []}

    def timed(name: str, step: Callable[[], list[Batch]]) -> float:
        training = in_turn if name == "in turn" else ahead

        def run_step() -> None:
            losses[name].append(trainer.one_step(training, step(), recipe))

        def run_steps() -> None:
            for _ in range(arguments.steps):
                run_step()

        run_step()  # untimed: the thread prepared its rows before the round
        return float(seconds(run_steps) / arguments.steps)

    with ahead.loader.steps() as steps:
        contenders = {
            "in turn": lambda: timed("in turn", in_turn.loader.next_step),
            "ahead": lambda: timed("ahead", lambda: next(steps)),
        }
        times = {name: median(values) for name, values in alternate(contenders, arguments.rounds).items()}
    assert losses["in turn"] == losses["ahead"], "the same steps"
    table(arguments.recipe, [(name, f"{time:.3f}") for name, time in times.items()], ("rows", "seconds a step"))
    finish("prepared_ahead", {**times, "ratio": round(times["in turn"] / times["ahead"], 2)})


if __name__ == "__main__":
    main()
