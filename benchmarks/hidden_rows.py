"""Whether a model knows what to make of a question of which something is hidden, as explanations hide it: scores of the right answer to
held-out rows, by the share of the units that are hidden. Beside each other: models that met hidden rows in training, and ones that did not.

python benchmarks/hidden_rows.py runs/demo runs/other --rows 20

Of words the score is the log-probability of the answer; what a model does not know costs it the less, the better it knows that it does not
know. Of drawings and speech it is minus the flow loss. The same units are hidden from every model.
"""

from __future__ import annotations

import argparse
from collections import defaultdict

import numpy as np
from held_out import add_options, cell_of, held_out
from side_by_side import table

from plait import api
from plait.explain.scorer import Scorer, flow_of

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
DRAWS = 4  # of what is hidden, a row and share


def scores(path: str, options: argparse.Namespace) -> dict[str, list[np.ndarray]]:
    """Mean scores [shares] of every row, by cell."""
    model = api.load(path)
    of_cells = defaultdict(list)
    for task, samples in held_out(model, options):
        for number, sample in enumerate(samples):
            scorer = Scorer(model.engine, sample.messages[:-1], sample.messages[-1], flow=flow_of(model.config))
            rng = np.random.default_rng([64, number])
            units = len(scorer.units)
            hidden = np.zeros((len(SHARES), DRAWS, units), bool)
            for place, share in enumerate(SHARES):
                for draw in range(DRAWS):
                    hidden[place, draw, rng.permutation(units)[: round(share * units)]] = True
            of_shares = scorer.scores(hidden.reshape(-1, units)).reshape(len(SHARES), DRAWS).mean(axis=1)
            of_cells[cell_of(sample)].append(of_shares)
        print(f"{path} {task}", flush=True)
    return of_cells


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, rows=20)
    options = parser.parse_args()
    by_model = {path: scores(path, options) for path in options.checkpoints}
    lines = [
        (cell, path, str(len(of_cell)), *(f"{mean:.2f}" for mean in np.mean(of_cell, axis=0)))
        for cell in sorted(next(iter(by_model.values())))
        for path, of_cells in by_model.items()
        if (of_cell := of_cells[cell])
    ]
    head = ("cell", "model", "rows", *(f"{share:.0%} hidden" for share in SHARES))
    table("Score of the right answer", lines, head)


if __name__ == "__main__":
    main()
