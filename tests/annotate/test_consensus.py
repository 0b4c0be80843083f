"""Majority and the model of Dawid and Skene: crowds that were planted, crowd-kit's figures, likelihood that never falls."""

import itertools
import time
from importlib.util import find_spec

import numpy as np
import pytest

from plait.annotate.agreement import coded
from plait.annotate.consensus import Consensus, dawid_skene, expectation_maximisation, label_shares, majority, skill
from plait.errors import ConfigError, DataError

LABELS = ("ant", "bee", "cow", "dog", "eel")
SMALL = {"ann": "aabbccabca.b", "ben": "aabbcbabc.ca", "cid": "abbaccbb.acc", "dot": "aaaaacaaaabc"}

# Of crowd-kit 1.4.2, for the twelve items and for dot's matrix [true label, label given]:
#   frame = pandas.DataFrame(small_ratings(), columns=["task", "worker", "label"])
#   model = crowdkit.aggregation.DawidSkene(n_iter=N, tol=-1.0).fit(frame)
#   model.probas_.loc[range(12), list("abc")].round(6); model.errors_.loc["dot"].loc[list("abc"), list("abc")].T.round(6)
POSTERIORS = {
    1: [
        [0.986889, 0.013111, 0.0], [0.937712, 0.062288, 0.0], [0.126504, 0.873496, 0.0], [0.419994, 0.580006, 0.0],
        [0.010223, 0.007114, 0.982662], [0.002672, 0.029771, 0.967557], [0.937712, 0.062288, 0.0], [0.126504, 0.873496, 0.0],
        [0.091825, 0.02556, 0.882615], [0.963883, 0.036117, 0.0], [0.0, 0.019608, 0.980392], [0.062007, 0.351747, 0.586246],
    ],
    3: [
        [0.999535, 0.000465, 0.0], [0.998953, 0.001047, 0.0], [0.005386, 0.994614, 0.0], [0.012049, 0.987951, 0.0],
        [0.0, 0.0, 1.0], [0.0, 5.7e-05, 0.999943], [0.998953, 0.001047, 0.0], [0.005386, 0.994614, 0.0],
        [3e-06, 2e-06, 0.999996], [0.994095, 0.005905, 0.0], [0.0, 0.0, 1.0], [2e-06, 0.013471, 0.986527],
    ],
}  # fmt: skip
DOT = {
    1: [[0.986138, 0.0, 0.013862], [0.863312, 0.006682, 0.130007], [0.423977, 0.222843, 0.353179]],
    3: [[1.0, 0.0, 0.0], [0.995489, 0.0, 0.004511], [0.401085, 0.200543, 0.398372]],
}


def small_ratings():
    return [(i, person, label) for person, row in SMALL.items() for i, label in enumerate(row) if label != "."]


def planted(seed, items=200):
    """Three persons who are right nine times of ten, two who guess, one who always says ant, and one who is as good as the first
    but takes bees for cows and cows for bees; and the truth."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(len(LABELS), size=items)
    swapped = np.array([0, 2, 1, 3, 4])

    def good():
        return np.where(
            rng.random(items) < 0.9, truth, (truth + rng.integers(1, len(LABELS), size=items)) % len(LABELS)
        )

    given = {f"good {number}": good() for number in range(3)}
    given |= {f"guesses {number}": rng.integers(len(LABELS), size=items) for number in range(2)}
    given |= {"always": np.zeros(items, int), "swaps": swapped[good()]}
    ratings = [(item, person, LABELS[row[item]]) for person, row in given.items() for item in range(items)]
    return ratings, [LABELS[label] for label in truth]


def sparse(seed, items=60, persons=12, labels=4):
    """Three of twelve persons an item, right seven times of ten."""
    rng = np.random.default_rng(seed)
    return [
        (item, f"person {person}", int(truth if rng.random() < 0.7 else rng.integers(labels)))
        for item, truth in enumerate(rng.integers(labels, size=items))
        for person in rng.choice(persons, 3, replace=False)
    ]


def accuracy(consensus, truth):
    return float(np.mean([consensus[item].value == label for item, label in enumerate(truth)]))


def estimates(ratings, count):
    return list(itertools.islice(expectation_maximisation(coded(ratings)), count))


def test_majority_counts_votes():
    ratings = [(1, "ann", "b"), (1, "ben", "b"), (1, "cid", "a"), (2, "ann", "c")]
    consensus = majority(ratings)
    assert consensus[1] == Consensus("b", 2 / 3, {"a": 1 / 3, "b": 2 / 3, "c": 0.0})
    assert consensus[2] == Consensus("c", 1.0, {"a": 0.0, "b": 0.0, "c": 1.0})
    assert list(consensus[1].probabilities) == ["a", "b", "c"]


def test_ties_go_to_the_more_frequent_label_and_then_to_the_first():
    ratings = [(1, "ann", "a"), (1, "ben", "c"), (2, "ann", "c"), (3, "ann", "b"), (3, "ben", "a"), (4, "cid", "b")]
    # c, a and b have two votes each: the first of a tie wins
    assert [one.value for one in majority(ratings).values()] == ["a", "c", "a", "b"]
    ratings.append((5, "cid", "c"))
    for shuffled in (ratings, ratings[::-1]):
        consensus = majority(shuffled)
        assert [consensus[item].value for item in (1, 3)] == ["c", "a"]


@pytest.mark.parametrize("seed", range(3))
def test_dawid_skene_beats_the_majority_of_a_planted_crowd(seed):
    ratings, truth = planted(seed)
    consensus, confusion = dawid_skene(ratings)
    by_majority, by_model = accuracy(majority(ratings), truth), accuracy(consensus, truth)
    assert by_majority < 0.92
    assert by_model > 0.97
    assert by_model > by_majority + 0.05
    prior = label_shares(consensus)
    skills = {person: skill(matrix, prior) for person, matrix in confusion.items()}
    assert min(skills[f"good {number}"] for number in range(3)) > 0.83, skills
    assert max(skills[name] for name in ("guesses 0", "guesses 1", "always")) < 0.3, skills
    assert confusion["swaps"][1, 2] > 0.75
    assert confusion["swaps"][2, 1] > 0.75
    np.testing.assert_allclose(confusion["always"][:, 0], 1)


@pytest.mark.parametrize("seed", range(3))
def test_skill_is_the_share_of_right_labels(seed):
    ratings, truth = planted(seed)
    consensus, confusion = dawid_skene(ratings)
    for person, matrix in confusion.items():
        right = np.mean([label == truth[item] for item, who, label in ratings if who == person])
        assert skill(matrix, label_shares(consensus)) == pytest.approx(right, abs=0.04), person


@pytest.mark.parametrize("ratings", [small_ratings(), planted(0)[0], *map(sparse, range(4))])
def test_the_likelihood_never_falls(ratings):
    history = np.array([estimate.log_likelihood for estimate in estimates(ratings, 60)])
    assert np.diff(history).min() > -1e-7, history
    assert history[-1] > history[0] + 0.1


@pytest.mark.parametrize("iterations", sorted(POSTERIORS))
def test_figures_are_those_of_crowd_kit(iterations):
    consensus, confusion = dawid_skene(small_ratings(), iterations, tolerance=0)
    found = [list(consensus[item].probabilities.values()) for item in range(12)]
    np.testing.assert_allclose(found, POSTERIORS[iterations], atol=1e-6)
    np.testing.assert_allclose(confusion["dot"], DOT[iterations], atol=1e-6)


@pytest.mark.skipif(find_spec("crowdkit") is None, reason="crowd-kit is not installed")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("ratings", [planted(0)[0], planted(1)[0], *map(sparse, range(3))])
@pytest.mark.parametrize("iterations", [1, 5, 30])
def test_crowd_kit_gives_the_same(ratings, iterations):
    import pandas
    from crowdkit.aggregation import DawidSkene

    frame = pandas.DataFrame(ratings, columns=["task", "worker", "label"])
    model = DawidSkene(n_iter=iterations, tol=-1e9).fit(frame)
    votes, last = coded(ratings), estimates(ratings, iterations)[-1]
    np.testing.assert_allclose(last.posterior, model.probas_.loc[votes.items, votes.values].to_numpy(), atol=1e-6)
    for person, confusion in zip(votes.persons, last.confusion, strict=True):
        errors = model.errors_.loc[person].reindex(votes.values).fillna(0)[votes.values].to_numpy()
        np.testing.assert_allclose(confusion.T, errors, atol=1e-6)


def test_probabilities_sum_to_one():
    ratings = sparse(0)
    consensus, confusion = dawid_skene(ratings)
    for one in consensus.values():
        assert sum(one.probabilities.values()) == pytest.approx(1)
        assert one.confidence == one.probabilities[one.value] == max(one.probabilities.values())
    assert set(confusion) == {person for _, person, _ in ratings}
    for matrix in confusion.values():
        np.testing.assert_allclose(matrix.sum(axis=1), 1)


def test_it_stops_once_nothing_changes():
    ratings = planted(0)[0]
    early, _ = dawid_skene(ratings, tolerance=1.0)
    assert early[0].probabilities != dawid_skene(ratings)[0][0].probabilities
    assert early == dawid_skene(ratings, 2, tolerance=0)[0], "the second rise is less than 1 a vote"


def test_one_label_and_one_person():
    consensus, confusion = dawid_skene([(1, "ann", "a"), (2, "ann", "a")])
    assert consensus[1] == Consensus("a", 1.0, {"a": 1.0})
    assert confusion["ann"].tolist() == [[1.0]]
    alone, _ = dawid_skene([(1, "ann", "a"), (2, "ann", "b")])
    assert [one.value for one in alone.values()] == ["a", "b"]


def test_many_votes_are_fast():
    rng = np.random.default_rng(0)
    truth = rng.integers(50, size=20_000)
    persons = rng.permuted(np.tile(np.arange(50), (20_000, 1)), axis=1)[:, :5]
    labels = np.where(rng.random(persons.shape) < 0.7, truth[:, None], rng.integers(50, size=persons.shape))
    ratings = [
        (item, person, label)
        for item, (who, said) in enumerate(zip(persons.tolist(), labels.tolist(), strict=True))
        for person, label in zip(who, said, strict=True)
    ]
    begin = time.process_time()
    consensus, _ = dawid_skene(ratings)
    assert time.process_time() - begin < 5
    assert accuracy(consensus, truth) > 0.96


def test_what_does_not_suit_is_told():
    ratings = [(1, "ann", "a"), (1, "ben", "b")]
    for one_label in (majority, dawid_skene):
        with pytest.raises(DataError, match="no ratings"):
            one_label([])
        with pytest.raises(DataError, match="'ann' rated item 1 2 times"):
            one_label([*ratings, (1, "ann", "a")])
    with pytest.raises(ConfigError, match="iterations is 0"):
        dawid_skene(ratings, 0)
    with pytest.raises(ConfigError, match="tolerance is -1"):
        dawid_skene(ratings, tolerance=-1)
    with pytest.raises(ConfigError, match=r"is \(2, 2\): expected \(3, 3\)"):
        skill(np.eye(2), [0.5, 0.3, 0.2])
