"""One label of an item from the labels that several persons gave it: by majority, or by a model of each person's errors."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from plait.annotate.agreement import Coded, Rating, coded
from plait.errors import ConfigError

LEAST_COUNT = 1e-10  # of a label that a person uses, so that its logarithm is finite
DIGITS = 9  # to which probabilities are compared: beyond are roundings, which shall not break a tie


@dataclass(frozen=True)
class Consensus:
    """What persons agreed on. `confidence`: the probability of `value`; `probabilities`: those of all labels, in their order."""

    value: Any
    confidence: float
    probabilities: Mapping[Any, float]


@dataclass(frozen=True)
class Estimate:
    """The model of Dawid and Skene after an iteration. `posterior` [items, labels]: of the true label; `confusion` [persons, true
    label, label given]; `log_likelihood` of all votes, under the parameters that the posterior comes from."""

    posterior: np.ndarray
    confusion: np.ndarray
    log_likelihood: float


def majority(ratings: Iterable[Rating]) -> dict[Any, Consensus]:
    """The label with most votes, by item; its share of the votes is the confidence.

    Of labels with equally many votes it is the one that is more frequent over all items, and then the first in the order of labels.
    Raises `DataError` for ratings as `coded` does."""
    votes = coded(ratings)
    return _consensus(votes, _shares(votes))


def dawid_skene(
    ratings: Iterable[Rating], iterations: int = 100, tolerance: float = 1e-6
) -> tuple[dict[Any, Consensus], dict[Any, np.ndarray]]:
    """The most probable label by item, and the confusion matrix by person (Dawid and Skene, 1979, "Maximum Likelihood Estimation of
    Observer Error-Rates Using the EM Algorithm").

    A matrix [true label, label given] has rows that sum to 1; labels are in the order of `Consensus.probabilities`. A row whose true
    label a person never met is uniform over the labels that the person uses.

    `iterations`: at most, at least 1; `tolerance`: EM stops once the log-likelihood a vote rises by less. Raises `ConfigError` for
    either, and `DataError` for ratings as `coded` does."""
    if iterations < 1:
        raise ConfigError(f"iterations is {iterations}: expected at least 1. Leave it out for 100")
    if not tolerance >= 0:
        raise ConfigError(f"tolerance is {tolerance}: expected at least 0. Leave it out for 1e-6")
    votes = coded(ratings)
    before = -np.inf
    for estimate in itertools.islice(expectation_maximisation(votes), iterations):
        if (estimate.log_likelihood - before) / len(votes.item) < tolerance:
            break
        before = estimate.log_likelihood
    return _consensus(votes, estimate.posterior), dict(zip(votes.persons, estimate.confusion, strict=True))


def expectation_maximisation(votes: Coded) -> Iterator[Estimate]:
    """Estimates after 1, 2, ... iterations, without end; the first posterior comes from the majority's shares."""
    items, persons, labels = len(votes.items), len(votes.persons), len(votes.values)
    cells, cell = np.unique(
        votes.person * labels + votes.value, return_inverse=True
    )  # a person and a label of that person
    person_of_cell, label_of_cell = cells // labels, cells % labels

    def maximised(posterior: np.ndarray) -> np.ndarray:
        """[true label, cells]: how often the person gives the label for each true one."""
        rates = np.empty((labels, len(cells)))
        for true, probability in enumerate(posterior):  # a label at a time stays in the cache
            counts = np.maximum(np.bincount(cell, probability[votes.item], len(cells)), LEAST_COUNT)
            rates[true] = counts / np.bincount(person_of_cell, counts)[person_of_cell]
        return rates

    posterior = np.ascontiguousarray(_shares(votes).T)  # [labels, items]
    rates = maximised(posterior)
    while True:
        joint = np.empty((labels, items))
        for true, log_rates in enumerate(np.log(rates)):
            joint[true] = np.bincount(votes.item, log_rates[cell], items)
        joint += np.log(np.maximum(posterior.mean(axis=1, keepdims=True), np.finfo(float).tiny))
        most = joint.max(axis=0)
        posterior = np.exp(joint - most)
        total = posterior.sum(axis=0)
        posterior /= total
        rates = maximised(posterior)
        confusion = np.zeros((persons, labels, labels))
        confusion[person_of_cell, :, label_of_cell] = rates.T
        yield Estimate(posterior.T, confusion, float((most + np.log(total)).sum()))


def label_shares(consensus: Mapping[Any, Consensus]) -> np.ndarray:
    """[labels] mean probability of each label over the items: the prior of Dawid and Skene's model."""
    shares: np.ndarray = np.mean([list(one.probabilities.values()) for one in consensus.values()], axis=0)
    return shares


def skill(confusion: np.ndarray, prior: Sequence[float] | np.ndarray) -> float:
    """The probability that a person's label is right. `confusion` [true label, label given] as `dawid_skene` returns it, `prior`
    [labels] as `label_shares` does. Raises `ConfigError` for other shapes."""
    shape = (len(prior), len(prior))
    if confusion.shape != shape:
        raise ConfigError(
            f"the confusion matrix is {confusion.shape}: expected {shape} for a prior of {len(prior)} labels. "
            "Take both from one set of ratings"
        )
    return float(np.asarray(prior) @ np.diag(confusion))


def _shares(votes: Coded) -> np.ndarray:
    """[items, labels] shares of the votes."""
    items, labels = len(votes.items), len(votes.values)
    counts = np.bincount(votes.item * labels + votes.value, minlength=items * labels).reshape(items, labels)
    shares: np.ndarray = counts / counts.sum(axis=1, keepdims=True)
    return shares


def _consensus(votes: Coded, probabilities: np.ndarray) -> dict[Any, Consensus]:
    """The most probable label by item; ties go to the label that is more frequent, then to the first."""
    preferred = np.argsort(-np.bincount(votes.value), kind="stable")
    best = preferred[np.round(probabilities, DIGITS)[:, preferred].argmax(axis=1)].tolist()
    return {
        item: Consensus(votes.values[label], row[label], dict(zip(votes.values, row, strict=True)))
        for item, label, row in zip(votes.items, best, probabilities.tolist(), strict=True)
    }
