"""Whether an order of units is faithful to the model: deletion and insertion, beside other orders.

*Deletion* (comprehensiveness; DeYoung et al., 2020) hides units in the order, *insertion* (sufficiency) shows them in it, beginning with
none. Scores are shares of the range of all scores that were seen of the target (after normalised AOPC; Edin et al., 2024), so that targets
can be compared, also where hiding everything helps. Every order hides equally many units at each step.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from plait.explain.scorer import Scorer

STEPS = 6  # shares of the units at which scores are taken
ORDERS = 10  # drawn at random
LEAST = 0.02  # that scores have to differ by
CHANCE = 0.1  # of the orders that may be as faithful
ENUMERATED = 4  # units of which all orders are taken; with fewer, chance alone is right too often to be told


@dataclass(frozen=True)
class Curves:
    """Scores as shares of their range, by the number of units hidden or shown: with nothing hidden (`full`), everything (`empty`),
    and between. `units`: how many there are."""

    units: int
    counts: tuple[int, ...]
    full: float
    empty: float
    deletion: tuple[float, ...]
    insertion: tuple[float, ...]

    @property
    def faithfulness(self) -> float:
        """Mean of insertion minus mean of deletion: about 0 for random orders, at most 1."""
        return float(np.mean(self.insertion) - np.mean(self.deletion))


@dataclass(frozen=True)
class Verdict:
    """An order beside others. `random`: their mean faithfulness; `chance`: the share of them that are more faithful, and half of those
    that are as much; `matters`: the range of scores."""

    curves: Curves
    random: float
    chance: float
    matters: float

    @property
    def is_testable(self) -> bool:
        """Whether there are enough orders to tell one from chance, and the target hangs on what was hidden at all."""
        return self.curves.units >= ENUMERATED and self.matters >= LEAST

    @property
    def is_faithful(self) -> bool:
        """Whether the order says more than chance does."""
        return self.is_testable and self.chance <= CHANCE

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        more = {name: getattr(self, name) for name in ("is_testable", "is_faithful")}
        return {**asdict(self), "faithfulness": self.curves.faithfulness, **more}


def counts_of(units: int) -> list[int]:
    """Numbers of units at which scores are taken, none of them all or nothing unless there is one unit alone."""
    inner = sorted({round(share * units) for share in np.linspace(0, 1, STEPS + 2)[1:-1]} - {0, units})
    return inner or [units]


def rows_of(units: int) -> int:
    """Rows that a verdict on so many units takes."""
    orders = 24 if units == ENUMERATED else ORDERS + 1
    return 2 + 2 * orders * len(counts_of(units))


def curves(scorer: Scorer, orders: Sequence[np.ndarray], among: np.ndarray | None = None) -> tuple[list[Curves], float]:
    """Curves of each order [n] of units, the most important first, and the range of the scores.

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
    low, extent = scores.min(), float(np.ptp(scores))
    shares = (scores - low) / (extent if extent > 0 else 1.0)
    by_order = shares[2:].reshape(len(orders), len(counts), 2)
    bounds = float(shares[0]), float(shares[1])
    return [
        Curves(len(chosen), tuple(counts), *bounds, tuple(map(float, one[:, 0])), tuple(map(float, one[:, 1])))
        for one in by_order
    ], extent


def order_of(values: np.ndarray, among: np.ndarray | None = None) -> np.ndarray:
    """Units by their importance, the most important first; equal ones in the order in which they stand."""
    chosen = np.arange(len(values)) if among is None else np.flatnonzero(among)
    order: np.ndarray = chosen[np.argsort(-values[chosen], kind="stable")]
    return order


def _others(order: np.ndarray, seed: int) -> list[np.ndarray]:
    """Other orders of the same units: all of few, ORDERS drawn at random of many."""
    if len(order) <= ENUMERATED:
        return [np.array(other) for other in itertools.permutations(order) if other != tuple(order)]
    rng = np.random.default_rng([seed, 64])
    return [rng.permutation(order) for _ in range(ORDERS)]


def verdict(scorer: Scorer, values: np.ndarray, seed: int = 0, among: np.ndarray | None = None) -> Verdict:
    """How faithful the order of some values is, beside others."""
    order = order_of(values, among)
    (of_values, *of_others), extent = curves(scorer, [order, *_others(order, seed)], among)
    others = np.array([other.faithfulness for other in of_others]) if of_others else np.zeros(1)
    better = np.mean(others > of_values.faithfulness) + 0.5 * np.mean(others == of_values.faithfulness)
    return Verdict(of_values, float(others.mean()), float(better), extent)
