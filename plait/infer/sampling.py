"""What is drawn from a head's prediction: an id from logits, a velocity from clean tokens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def sample_id(
    logits: np.ndarray, legal: Sequence[int] | np.ndarray | None, temperature: float, rng: np.random.Generator
) -> int:
    """One id from [V] `logits` among the `legal` ones (None: all). Temperature 0 takes the best."""
    places = np.arange(len(logits)) if legal is None else np.asarray(legal)
    scores = logits[places].astype(np.float64)
    if temperature <= 0 or len(places) == 1:
        return int(places[int(scores.argmax())])
    with np.errstate(over="ignore"):  # a tiny temperature sends what is not the best to minus infinity, as it should
        weights = np.exp((scores - scores.max()) / temperature)
    return int(rng.choice(places, p=weights / weights.sum()))


def guided_velocity(x_hat: np.ndarray, null: np.ndarray | None, z: np.ndarray, t: float, guidance: float) -> np.ndarray:
    """v = (x_hat - z) / (1 - t); with a null stream, v_null + guidance * (v - v_null) (arXiv:2207.12598)."""
    if null is not None:
        x_hat = null + guidance * (x_hat - null)
    velocity: np.ndarray = (x_hat - z) / (1.0 - t)  # t < 1: the last of n steps begins at 1 - 1 / n
    return velocity
