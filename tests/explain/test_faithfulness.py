"""Deletion and insertion of scores that are known."""

from types import SimpleNamespace

import numpy as np
import pytest

from plait.explain.faithfulness import counts_of, curves, order_of, rows_of, verdict


def additive(worth):
    """A scorer in whose score every unit is worth a number."""
    worth = np.asarray(worth, float)

    def scores(hidden):
        return (~hidden * worth).sum(axis=1) - 1.0

    return SimpleNamespace(units=[None] * len(worth), scores=scores)


WORTH = [0.0, 8.0, 0.0, 1.0, 0.5, 0.0, 0.0, 0.5, 0.0, 0.0]
AGAINST = [-3.0, -2.0, 1.0, 0.5, 0.0, 0.0]  # hiding everything helps


def test_the_right_order_is_as_faithful_as_can_be():
    scorer = additive(WORTH)
    right, wrong = order_of(np.array(WORTH)), order_of(-np.array(WORTH))
    (best, worst), extent = curves(scorer, [right, wrong])
    assert extent == pytest.approx(10.0)
    assert best.counts == (1, 3, 4, 6, 7, 9)
    assert (best.full, best.empty) == (1.0, 0.0)
    assert best.deletion[0] == pytest.approx(0.2)
    assert best.insertion[0] == pytest.approx(0.8)
    assert best.deletion[-1] == pytest.approx(0.0, abs=1e-9)
    assert best.faithfulness == pytest.approx(-worst.faithfulness)
    assert 0.85 < best.faithfulness <= 1, best


@pytest.mark.parametrize("worth", [WORTH, AGAINST, [5.0, -5.0, 0.01, 0.0, 0.0]])
def test_a_verdict_tells_what_is_more_than_chance(worth):
    """Whether what is given helps in all, harms, or both evens out."""
    found = verdict(additive(worth), np.array(worth))
    assert found.is_faithful
    assert found.chance <= 0.1
    assert -1 <= found.curves.faithfulness <= 1
    backwards = verdict(additive(worth), -np.array(worth))
    assert not backwards.is_faithful
    assert backwards.chance > 0.9


def test_orders_by_chance_are_seldom_believed():
    rng = np.random.default_rng(0)
    by_chance = [verdict(additive(WORTH), rng.standard_normal(10), seed).is_faithful for seed in range(40)]
    assert np.mean(by_chance) < 0.3


def test_where_nothing_matters_nothing_is_faithful():
    found = verdict(additive(np.zeros(10)), np.arange(10.0))
    assert not found.is_testable
    assert not found.is_faithful
    assert np.isfinite(found.curves.deletion).all()


@pytest.mark.parametrize("worth", [[1.0], [2.0, 1.0], [0.0, 3.0, 0.0]])
def test_too_few_pieces_are_told_apart_from_chance_by_nobody(worth):
    found = verdict(additive(worth), np.array(worth))
    assert not found.is_testable
    assert found.chance <= 0.5


def test_all_orders_of_four_units_are_taken():
    worth = [4.0, 2.0, 1.0, 0.5]
    asked = []
    scorer = additive(worth)
    usual = scorer.scores
    scorer.scores = lambda hidden: (asked.append(len(hidden)), usual(hidden))[1]
    found = verdict(scorer, np.array(worth))
    assert found.is_faithful
    assert found.chance == 0.0
    assert asked == [rows_of(4)]


def test_units_of_one_kind_alone():
    """The others stay as they are, and what is shared out is what this kind is worth."""
    scorer = additive(WORTH)
    among = np.array([False, False, True, True, True, True, False, False, False, False])
    found = verdict(scorer, np.array(WORTH), among=among)
    assert found.matters == pytest.approx(1.5)
    assert found.curves.deletion[0] == pytest.approx(1 / 3)


@pytest.mark.parametrize(("units", "expected"), [(1, [1]), (2, [1]), (3, [1, 2]), (100, [14, 29, 43, 57, 71, 86])])
def test_shares_of_few_units_are_whole_units(units, expected):
    assert counts_of(units) == expected


def test_equal_values_stand_as_they_stood():
    assert order_of(np.array([1.0, 3.0, 1.0, 3.0])).tolist() == [1, 3, 0, 2]


def test_as_json():
    told = verdict(additive(WORTH), np.array(WORTH)).as_dict()
    assert told["is_faithful"] is True
    assert told["is_testable"] is True
    assert told["faithfulness"] > told["random"]
    assert len(told["curves"]["counts"]) == len(told["curves"]["deletion"])
