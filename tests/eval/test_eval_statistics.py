"""Intervals, error rates and distances, against closed forms and slow twins."""

import numpy as np
import pytest

from plait.eval import statistics


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(50, 100, 0.4038, 0.5962), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (1, 1, 0.2065, 1.0), (0, 0, 0.0, 1.0)],
)
def test_wilson_has_the_textbook_values(successes, n, low, high):
    assert statistics.wilson(successes, n) == pytest.approx((low, high), abs=1e-4)


@pytest.mark.parametrize("n", [1, 7, 300])
def test_wilson_encloses_the_share_within_0_and_1(n):
    for successes in range(n + 1):
        low, high = statistics.wilson(successes, n)
        assert 0.0 <= low <= successes / n <= high <= 1.0


def slow_equal_error_rate(scores, genuine):
    """Both error rates at every threshold, and their mean where they are nearest."""
    rates = []
    for threshold in [np.inf, *sorted(scores, reverse=True)]:
        accepted = scores >= threshold
        rates.append((accepted[~genuine].mean(), (~accepted[genuine]).mean()))
    return min(rates, key=lambda pair: abs(pair[0] - pair[1]))


def test_the_equal_error_rate_is_where_both_errors_meet():
    rng = np.random.default_rng(0)
    genuine = rng.random(400) < 0.3
    scores = rng.normal(size=400) + genuine
    slow = np.mean(slow_equal_error_rate(scores, genuine))
    assert statistics.equal_error_rate(scores, genuine) == pytest.approx(slow, abs=1 / genuine.sum())
    assert statistics.equal_error_rate(-scores, genuine) > 0.6, "beliefs the wrong way round"


def test_perfect_and_useless_scores():
    genuine = np.array([True, True, False, False])
    assert statistics.equal_error_rate(np.array([0.9, 0.8, 0.3, 0.2]), genuine) == 0
    assert statistics.equal_error_rate(np.zeros(4), genuine) == 0.5


def test_the_bootstrap_gives_the_same_interval_every_time():
    values = np.random.default_rng(1).normal(size=100)
    first, second = (statistics.bootstrap(lambda rows: float(values[rows].mean()), 100) for _ in range(2))
    assert first == second
    assert first[0] < values.mean() < first[1]


def test_the_bootstrap_of_a_constant_is_that_constant():
    assert statistics.bootstrap(lambda rows: 0.25, 7) == (0.25, 0.25)
    assert statistics.bootstrap(lambda rows: float(rows.max()), 1) == (0.0, 0.0), "one row can only be drawn again"


def test_nearest_distance_is_the_slow_one():
    rng = np.random.default_rng(2)
    generated, training = rng.normal(size=(20, 3)), rng.normal(size=(50, 3))
    slow = np.mean([min(np.linalg.norm(g - t) for t in training) for g in generated])
    assert statistics.nearest_distance(generated, training) == pytest.approx(slow)
    assert statistics.nearest_distance(training[:5], training) == 0, "a copy lies at 0"


def test_coverage_counts_real_items_with_a_generated_one_in_their_neighbourhood():
    real = np.arange(12, dtype=float)[:, None]  # of those at the ends the 5th neighbour is 5 away, in the middle 3
    assert statistics.coverage(real, real) == 1
    assert statistics.coverage(np.array([[-3.0]]), real) == pytest.approx(2 / 12), "0 and 1, whose radii are 5 and 4"
    assert statistics.coverage(np.array([[1000.0]]), real) == 0
