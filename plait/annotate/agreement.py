"""How well people agree who rated the same items: Krippendorff's alpha over all of them, Cohen's kappa of two.

A rating is (item, person, value). Values that are missing are absent: no person need rate every item.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from plait.errors import ConfigError, DataError

Rating = tuple[Hashable, Hashable, Any]
Distance = Callable[[Any, Any], float]

DISTANCES = ("nominal", "ordinal", "interval")
MOST_PAIRS = (
    50_000  # of values whose distance a callable is asked for what chance would give; of more, so many are drawn
)


@dataclass(frozen=True)
class Coded:
    """Ratings as numbers: `item`, `person` and `value` [n] int64 are positions in `items`, `persons` and `values`.

    Items and persons are in the order in which they come, values are sorted."""

    items: list[Any]
    persons: list[Any]
    values: list[Any]
    item: np.ndarray
    person: np.ndarray
    value: np.ndarray


class Pair(NamedTuple):
    """Two persons, how many items both rated, and Cohen's kappa over these (None where it is undefined)."""

    first: Any
    second: Any
    items: int
    kappa: float | None


def in_order(values: Iterable[Any]) -> list[Any]:
    """Values sorted; those that cannot be compared by the name of their type, then by their printed form."""
    values = list(values)
    try:
        return sorted(values)
    except TypeError:
        return sorted(values, key=lambda value: (type(value).__name__, repr(value)))


def coded(ratings: Iterable[Rating]) -> Coded:
    """Ratings as numbers. Raises `DataError` without ratings, for a value that is missing or cannot be hashed, and where a person
    rated an item twice."""
    items: dict[Any, int] = {}
    persons: dict[Any, int] = {}
    values: dict[Any, int] = {}
    rows = []
    for item, person, value in ratings:
        if value is None or (isinstance(value, float) and math.isnan(value)):
            raise DataError(f"item {item!r} has {value!r} from {person!r}: expected a value. Leave out what is missing")
        try:
            code = values.setdefault(value, len(values))
        except TypeError:
            raise DataError(
                f"item {item!r} has a {type(value).__name__} from {person!r}: expected a value that can be hashed. "
                "Give a string, a number or a tuple, or compare such values with krippendorff_alpha and a callable distance"
            ) from None
        rows.append((items.setdefault(item, len(items)), persons.setdefault(person, len(persons)), code))
    if not rows:
        raise DataError("got no ratings: expected at least one (item, person, value). Label something first")
    codes = np.array(rows, np.int64)
    keys, counts = np.unique(codes[:, 0] * len(persons) + codes[:, 1], return_counts=True)
    if counts.max() > 1:
        item, person = divmod(int(keys[counts.argmax()]), len(persons))
        raise DataError(
            f"{list(persons)[person]!r} rated item {list(items)[item]!r} {counts.max()} times: expected once. "
            "Keep one of these ratings, the last say"
        )
    ordered = in_order(values)
    position = np.empty(len(values), np.int64)
    position[[values[value] for value in ordered]] = np.arange(len(values))
    return Coded(list(items), list(persons), ordered, codes[:, 0], codes[:, 1], position[codes[:, 2]])


def krippendorff_alpha(ratings: Iterable[Rating], distance: str | Distance = "nominal") -> float | None:
    """1 - observed / expected disagreement: 1 where all agree, 0 where they agree as by chance (Krippendorff, 2011, "Computing
    Krippendorff's Alpha-Reliability").

    `distance`: "nominal" (labels), "ordinal" (values in their order), "interval" (numbers), or a symmetric function of two values
    that is 0 for equal ones and at least 0, such as a normalised edit distance, or 1 - IoU of boxes. Of more than `MOST_PAIRS` pairs of values
    a function is asked for so many, drawn from a fixed seed, to estimate the expected disagreement; the observed one is exact.

    None where no item has two values (nothing is compared), and where all values that are compared are one (chance alone would
    agree as well). Raises `ConfigError` for an unknown distance, `DataError` for ratings that do not suit it.
    """
    if callable(distance):
        return _alpha_of_distance(list(ratings), distance)
    if distance not in DISTANCES:
        raise ConfigError(
            f"distance is {distance!r}: expected one of {', '.join(DISTANCES)}, or a function. Name one of these"
        )
    votes = coded(ratings)
    numbers = None if distance == "nominal" else _numbers(votes, distance)
    paired = _is_paired(votes.item)
    item, value = votes.item[paired], votes.value[paired]
    if len(np.unique(value)) < 2:
        return None
    return _alpha_of_labels(item, value) if numbers is None else _alpha_of_numbers(item, numbers[value])


def _numbers(votes: Coded, distance: str) -> np.ndarray:
    """[values] float64 whose squared differences are distances of values that are compared by rank or as numbers."""
    if distance == "interval":
        odd = [v for v in votes.values if not isinstance(v, int | float | np.number) or not math.isfinite(v)]
        if odd:
            raise DataError(
                f"a value is {odd[0]!r}: the interval distance expects finite numbers. Take the nominal or the ordinal one"
            )
        return np.array(votes.values, float)
    try:
        sorted(votes.values)
    except TypeError as error:
        raise DataError(
            f"{error}: expected values that have an order. Give numbers, or take the nominal distance"
        ) from None
    counts = np.bincount(votes.value[_is_paired(votes.item)], minlength=len(votes.values))
    return np.cumsum(counts) - counts / 2  # the distance of two ranks is what lies between the middles of their ratings


def _is_paired(item: np.ndarray) -> np.ndarray:
    """Whether each rating's item has another one."""
    paired: np.ndarray = np.bincount(item)[item] > 1
    return paired


def _alpha_of_labels(item: np.ndarray, value: np.ndarray) -> float:
    """Alpha where values are equal or not, from the diagonal of the coincidence matrix."""
    n, width = len(item), int(value.max()) + 1
    per_item, per_value = np.bincount(item), np.bincount(value)
    cell, same = np.unique(item * width + value, return_counts=True)
    agreeing = float((same * (same - 1) / (per_item[cell // width] - 1)).sum())
    by_chance = float((per_value * (per_value - 1)).sum()) / (n - 1)
    return 1.0 - (n - agreeing) / (n - by_chance)


def _alpha_of_numbers(item: np.ndarray, number: np.ndarray) -> float:
    """Alpha where distances are squared differences: sums of these over pairs are sums of squares about means."""
    per_item = np.bincount(item)
    means = np.bincount(item, number) / np.maximum(per_item, 1)
    count = per_item[item]
    within = float(((number - means[item]) ** 2 * count / (count - 1)).sum()) / len(item)
    overall = float(((number - number.mean()) ** 2).sum()) / (len(item) - 1)
    return 1.0 - within / overall


def _alpha_of_distance(ratings: Sequence[Rating], distance: Distance) -> float | None:
    """Alpha from the distances of pairs."""
    votes = coded((item, person, row) for row, (item, person, _) in enumerate(ratings))
    values = [value for _, _, value in ratings]
    counts = np.bincount(votes.item)
    rows_of: dict[int, list[int]] = {}
    for row, item in enumerate(votes.item.tolist()):
        if counts[item] > 1:
            rows_of.setdefault(item, []).append(row)
    compared = list(itertools.chain.from_iterable(rows_of.values()))
    if not compared:
        return None

    def apart(first: int, second: int) -> float:
        apart_by = float(distance(values[first], values[second]))
        if not 0 <= apart_by < math.inf:
            raise ConfigError(
                f"the distance of {values[first]!r} and {values[second]!r} is {apart_by}: expected a finite number of at least 0. "
                "Mend the function"
            )
        return apart_by

    observed = sum(
        2 / (len(rows) - 1) * sum(apart(*pair) for pair in itertools.combinations(rows, 2)) for rows in rows_of.values()
    ) / len(compared)
    expected = float(np.mean([apart(compared[a], compared[b]) for a, b in _pairs(len(compared))]))
    return 1.0 - observed / expected if expected > 0 else None


def _pairs(n: int) -> Iterable[tuple[int, int]]:
    """Pairs of n positions: all, or `MOST_PAIRS` drawn at random."""
    if n * (n - 1) // 2 <= MOST_PAIRS:
        return itertools.combinations(range(n), 2)
    rng = np.random.default_rng(0)
    first = rng.integers(n, size=MOST_PAIRS)
    second = (first + rng.integers(1, n, size=MOST_PAIRS)) % n
    return zip(first.tolist(), second.tolist(), strict=True)


def pairwise(ratings: Iterable[Rating]) -> list[Pair]:
    """Cohen's kappa of every two persons, sorted by their names: agreement beyond chance over the items that both rated (Cohen, 1960).

    None where there is no such item, and where both gave one and the same value to all."""
    votes = coded(ratings)
    by_person = {person: _ratings_of(votes, number) for number, person in enumerate(votes.persons)}
    couples = itertools.combinations(in_order(by_person), 2)
    return [Pair(first, second, *_kappa(by_person[first], by_person[second])) for first, second in couples]


def _ratings_of(votes: Coded, person: int) -> tuple[np.ndarray, np.ndarray]:
    """Items and values of one person."""
    mine = votes.person == person
    return votes.item[mine], votes.value[mine]


def _kappa(first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray]) -> tuple[int, float | None]:
    """How many items are common, and kappa over these."""
    common, mine, yours = np.intersect1d(first[0], second[0], assume_unique=True, return_indices=True)
    n = len(common)
    if not n:
        return 0, None
    one, other = first[1][mine], second[1][yours]
    size = int(max(one.max(), other.max())) + 1
    by_chance = int(np.bincount(one, minlength=size) @ np.bincount(other, minlength=size))
    agreeing = int((one == other).sum())
    return n, None if by_chance == n * n else (agreeing * n - by_chance) / (n * n - by_chance)
