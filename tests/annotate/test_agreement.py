"""Published values, a slow coincidence matrix, and scikit-learn."""

import itertools
import time

import numpy as np
import pytest
from rapidfuzz.distance import Levenshtein
from sklearn.metrics import cohen_kappa_score

from plait.annotate.agreement import (
    DISTANCES,
    MOST_PAIRS,
    Pair,
    coded,
    krippendorff_alpha,
    pairwise,
)
from plait.errors import ConfigError, DataError

# Krippendorff (2011): 4 observers, 12 units; a dot is a missing value
FOUR = {"A": "123321412...", "B": "1233224125.3", "C": ".3332342251.", "D": "12332441251."}


def ratings_of(rows, convert=str):
    """(item, person, value) of strings by person."""
    return [(f"unit {i}", person, convert(v)) for person, row in rows.items() for i, v in enumerate(row) if v != "."]


def slow_alpha(ratings, distance):
    """The coincidence matrix, cell by cell."""
    by_item = {}
    for item, _, value in ratings:
        by_item.setdefault(item, []).append(value)
    values = sorted({value for _, _, value in ratings})
    coincidences = dict.fromkeys(itertools.product(values, repeat=2), 0.0)
    for given_to_item in by_item.values():
        for one, other in itertools.permutations(given_to_item, 2):
            coincidences[one, other] += 1 / (len(given_to_item) - 1)
    count = {value: sum(coincidences[value, other] for other in values) for value in values}
    n = sum(count.values())

    def apart(a, b):
        if distance == "nominal":
            return float(a != b)
        if distance == "interval":
            return (a - b) ** 2
        low, high = min(a, b), max(a, b)
        return (sum(count[v] for v in values if low <= v <= high) - (count[a] + count[b]) / 2) ** 2 if a != b else 0.0

    observed = sum(weight * apart(*pair) for pair, weight in coincidences.items()) / n
    expected = sum(count[a] * count[b] * apart(a, b) for a, b in coincidences) / (n * (n - 1))
    return 1 - observed / expected


def drawn(seed, items=40, persons=5, labels=4, missing=0.4):
    """Ratings that agree somewhat."""
    rng = np.random.default_rng(seed)
    return [
        (item, f"person {person}", int(truth if rng.random() < 0.5 else rng.integers(labels)))
        for item, truth in enumerate(rng.integers(labels, size=items))
        for person in range(persons)
        if rng.random() > missing
    ]


@pytest.mark.parametrize(("distance", "published"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_alpha_of_four_observers_is_as_published(distance, published):
    assert krippendorff_alpha(ratings_of(FOUR, int), distance) == pytest.approx(published, abs=5e-4)


@pytest.mark.parametrize(
    ("rows", "published"),
    [
        ({"Meg": "0100000010", "Owen": "1110010000"}, 0.095),
        ({"Ben": "aabbdcccedda", "Gerry": "babbbccceddd"}, 0.692),
    ],
)
def test_alpha_of_two_observers_is_as_published(rows, published):
    assert krippendorff_alpha(ratings_of(rows)) == pytest.approx(published, abs=5e-4)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("seed", range(4))
def test_alpha_is_that_of_the_coincidence_matrix(distance, seed):
    ratings = drawn(seed)
    assert krippendorff_alpha(ratings, distance) == pytest.approx(slow_alpha(ratings, distance), abs=1e-12)


@pytest.mark.parametrize(
    ("distance", "function"), [("nominal", lambda a, b: a != b), ("interval", lambda a, b: (a - b) ** 2)]
)
def test_a_function_is_a_distance_like_others(distance, function):
    ratings = ratings_of(FOUR, int)
    assert krippendorff_alpha(ratings, function) == pytest.approx(krippendorff_alpha(ratings, distance), abs=1e-12)


def test_of_many_pairs_some_are_drawn():
    ratings = drawn(0, items=400)
    calls = []

    def apart(a, b):
        calls.append(a)
        return a != b

    alpha = krippendorff_alpha(ratings, apart)
    assert alpha == pytest.approx(krippendorff_alpha(ratings), abs=0.01)
    assert alpha == krippendorff_alpha(ratings, apart), "from a fixed seed"
    assert len(calls) < 2 * (MOST_PAIRS + 400 * 10)


def test_transcriptions_and_boxes_are_compared():
    def apart(a, b):
        width = max(0, min(a[1], b[1]) - max(a[0], b[0]))
        return 1 - width / (a[1] - a[0] + b[1] - b[0] - width)

    boxes = [(1, "ann", [0, 10]), (1, "ben", [0, 10]), (2, "ann", [50, 60]), (2, "ben", [51, 60])]
    # 4 values, observed mean (0 + 0.1) / 2; expected: 6 pairs, of which 4 lie apart
    assert krippendorff_alpha(boxes, apart) == pytest.approx(1 - 0.05 / (4.1 / 6))
    texts = [(1, "ann", "a cat"), (1, "ben", "a cap"), (2, "ann", "no dog"), (2, "ben", "no dog")]
    assert 0.8 < krippendorff_alpha(texts, Levenshtein.normalized_distance) < 1


def test_numbers_far_from_zero_lose_nothing():
    ratings = drawn(1)
    far = [(item, person, value + 1e9) for item, person, value in ratings]
    assert krippendorff_alpha(far, "interval") == pytest.approx(krippendorff_alpha(ratings, "interval"), abs=1e-6)


@pytest.mark.parametrize("distance", [*DISTANCES, lambda a, b: abs(a - b)])
def test_alpha_is_none_where_it_is_undefined(distance):
    assert krippendorff_alpha([(1, "ann", 1), (2, "ben", 2)], distance) is None, "nothing is compared"
    alike = [(1, "ann", 0.1), (1, "ben", 0.1), (2, "ann", 0.1), (2, "ben", 0.1), (2, "cid", 0.1), (3, "ann", 0.2)]
    assert krippendorff_alpha(alike, distance) is None, "all that is compared is one value"
    agreed = [(1, "ann", 1), (1, "ben", 1), (2, "ann", 2), (2, "ben", 2)]
    assert krippendorff_alpha(agreed, distance) == 1.0


def test_alpha_of_many_labels_is_fast():
    rng = np.random.default_rng(0)
    values = rng.integers(50, size=200_000).tolist()
    ratings = [(row // 5, row % 5, value) for row, value in enumerate(values)]
    begin = time.process_time()
    assert krippendorff_alpha(ratings) == pytest.approx(0, abs=0.01)
    assert time.process_time() - begin < 1


@pytest.mark.parametrize("seed", range(4))
def test_kappa_is_that_of_scikit_learn(seed):
    ratings = drawn(seed)
    by_person = {}
    for item, person, value in ratings:
        by_person.setdefault(person, {})[item] = value
    pairs = pairwise(reversed(ratings))
    assert [pair[:2] for pair in pairs] == list(itertools.combinations(sorted(by_person), 2))
    for first, second, items, kappa in pairs:
        common = sorted(by_person[first].keys() & by_person[second].keys())
        reference = cohen_kappa_score(*([by_person[who][item] for item in common] for who in (first, second)))
        assert items == len(common)
        assert kappa == pytest.approx(reference, abs=1e-12)


def test_kappa_is_none_where_it_is_undefined():
    ratings = [(1, "ann", "a"), (1, "ben", "a"), (2, "cid", "b"), (3, "ann", "b")]
    assert pairwise(ratings) == [Pair("ann", "ben", 1, None), Pair("ann", "cid", 0, None), Pair("ben", "cid", 0, None)]
    assert pairwise([(1, "ann", "a")]) == []


@pytest.mark.parametrize(
    ("ratings", "message"),
    [
        ([], "no ratings"),
        ([(1, "ann", "a"), (2, "ann", "a"), (1, "ann", "b")], "'ann' rated item 1 2 times"),
        ([(1, "ann", None)], "None from 'ann'"),
        ([(1, "ann", float("nan"))], "nan from 'ann'"),
        ([(1, "ann", ["a"])], "has a list from 'ann'"),
    ],
)
def test_bad_ratings_are_told(ratings, message):
    for measure in (coded, krippendorff_alpha, pairwise):
        with pytest.raises(DataError, match=message):
            measure(ratings)


def test_what_does_not_suit_is_told():
    ratings = [(1, "ann", "a"), (1, "ben", 2), (2, "ann", float("inf"))]
    with pytest.raises(ConfigError, match="'cosine': expected one of nominal, ordinal, interval"):
        krippendorff_alpha(ratings, "cosine")
    with pytest.raises(DataError, match="finite numbers"):
        krippendorff_alpha(ratings, "interval")
    with pytest.raises(DataError, match="finite numbers"):
        krippendorff_alpha(ratings[1:], "interval")
    with pytest.raises(DataError, match="have an order"):
        krippendorff_alpha(ratings, "ordinal")
    with pytest.raises(ConfigError, match=r"is -1\.0: expected"):
        krippendorff_alpha(ratings, lambda a, b: -1)
