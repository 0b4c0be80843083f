"""Whether an order of units is faithful to the model: deletion and insertion, beside orders drawn at random.

*Deletion* (comprehensiveness; DeYoung et al., 2020) hides units in the order, *insertion* (sufficiency) shows them in it, beginning with
none. Scores are shares of the way from everything hidden to nothing hidden (normalised AOPC; Edin et al., 2024), so that targets can be
compared. Every order hides equally many units at each step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from plait.explain.scorer import Scorer

STEPS = 6  # shares of the units at which scores are taken
ORDERS = 10  # drawn at random
LEAST = 0.05  # that hiding everything has to change
CHANCE = 0.1  # of the orders that may be as faithful


@dataclass(frozen=True)
class Curves:
    """Shares of the way from everything hidden (0) to nothing hidden (1), by the number of units hidden or shown."""

    counts: tuple[int, ...]
    deletion: tuple[float, ...]
    insertion: tuple[float, ...]

    @property
    def faithfulness(self) -> float:
        """Mean of insertion minus mean of deletion: about 0 for random orders, at most 1 where one unit is all that matters."""
        return float(np.mean(self.insertion) - np.mean(self.deletion))


@dataclass(frozen=True)
class Verdict:
    """An order beside random ones. `chance`: the share of those that are as faithful; `matters`: what hiding everything changes."""

    curves: Curves
    random: float
    chance: float
    matters: float

    @property
    def is_faithful(self) -> bool:
        """Whether the order says more than chance does."""
        return abs(self.matters) >= LEAST and self.chance <= CHANCE

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "faithfulness": self.curves.faithfulness, "is_faithful": self.is_faithful}


def counts_of(units: int) -> list[int]:
    """Numbers of units at which scores are taken, none of them all or nothing unless there is one unit alone."""
    inner = sorted({round(share * units) for share in np.linspace(0, 1, STEPS + 2)[1:-1]} - {0, units})
    return inner or [units]


def curves(scorer: Scorer, orders: Sequence[np.ndarray], among: np.ndarray | None = None) -> tuple[list[Curves], float]:
    """Curves of each order [n] of units, the most important first, and how much of the score the units in them are worth.

    `among` [units]: those that the orders are of, all if None; the others stay as they are."""
    chosen = np.arange(len(scorer.units)) if among is None else np.flatnonzero(among)
    counts = counts_of(len(chosen))
    hidden = np.zeros((2 + 2 * len(orders) * len(counts), len(scorer.units)), bool)
    hidden[1, chosen] = True
    row = 2
    for order in orders:
        for count in counts:
            hidden[row, order[:count]] = True
            hidden[row + 1, order[count:]] = True
            row += 2
    scores = scorer.scores(hidden).astype(float)
    full, empty = scores[:2]
    worth = full - empty
    shares = (scores[2:] - empty) / (worth if abs(worth) > 1e-9 else 1e-9)
    by_order = shares.reshape(len(orders), len(counts), 2)
    return (
        [Curves(tuple(counts), tuple(map(float, one[:, 0])), tuple(map(float, one[:, 1]))) for one in by_order],
        float(worth),
    )


def order_of(values: np.ndarray, among: np.ndarray | None = None) -> np.ndarray:
    """Units by their importance, the most important first; equal ones in the order in which they stand."""
    chosen = np.arange(len(values)) if among is None else np.flatnonzero(among)
    order: np.ndarray = chosen[np.argsort(-values[chosen], kind="stable")]
    return order


def verdict(scorer: Scorer, values: np.ndarray, seed: int = 0, among: np.ndarray | None = None) -> Verdict:
    """How faithful the order of some values is, beside ORDERS random ones."""
    own = order_of(values, among)
    rng = np.random.default_rng([seed, 64])
    found, worth = curves(scorer, [own, *(rng.permutation(own) for _ in range(ORDERS))], among)
    of_random = [one.faithfulness for one in found[1:]]
    as_good = np.mean([other >= found[0].faithfulness for other in of_random])
    return Verdict(found[0], float(np.mean(of_random)), float(as_good), worth)
