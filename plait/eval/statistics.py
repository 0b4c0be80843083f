"""Intervals and error rates of scores, and distances between sets of features."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from sklearn.metrics import roc_curve
from sklearn.neighbors import NearestNeighbors


def wilson(successes: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """95 % interval of a proportion (Wilson, 1927)."""
    if n == 0:
        return 0.0, 1.0
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low, high = max(0.0, centre - half), min(1.0, centre + half)
    return (low if successes else 0.0), (high if successes < n else 1.0)  # rounding would leave the share outside


def equal_error_rate(scores: np.ndarray, genuine: np.ndarray) -> float:
    """The rate at which false accepts equal false rejects; `scores` are high for claims that are accepted."""
    false_accept, true_accept, _ = roc_curve(genuine, scores)
    false_reject = 1.0 - true_accept
    crossing = int(np.argmin(np.abs(false_accept - false_reject)))
    return float((false_accept[crossing] + false_reject[crossing]) / 2)


def bootstrap(statistic: Callable[[np.ndarray], float], n: int, draws: int = 500) -> tuple[float, float]:
    """95 % percentile interval of `statistic(row numbers)` over resamples of n rows (Efron, 1979), from a fixed seed."""
    rng = np.random.default_rng(0)
    values = [statistic(rng.integers(n, size=n)) for _ in range(draws)]
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def nearest_distance(generated: np.ndarray, training: np.ndarray) -> float:
    """Mean distance of each row of `generated` to its nearest row of `training`."""
    distances, _ = NearestNeighbors(n_neighbors=1).fit(training).kneighbors(generated)
    return float(distances.mean())


def coverage(generated: np.ndarray, real: np.ndarray, neighbours: int = 5) -> float:
    """Share of `real` rows with a generated one within the distance of their own 5th neighbour (Naeem et al., 2020)."""
    radius = NearestNeighbors(n_neighbors=neighbours + 1).fit(real).kneighbors(real)[0][:, -1]
    nearest = NearestNeighbors(n_neighbors=1).fit(generated).kneighbors(real)[0][:, 0]
    return float((nearest <= radius).mean())
