"""How much each unit matters to a target, by several methods behind one interface: a number a unit, positive where the unit speaks for
the target. In the order of how far they are trusted:

    shapley    mean gain of showing a unit after others, over orders drawn at random (Shapley, 1953; Castro et al., 2009)
    masking    what the score loses without the unit, and what the unit alone restores
    relevance  AttnLRP (Achtibat et al., 2024)
    gradient   gradient times input (Shrikumar et al., 2016)
    attention-gradient  attention times its gradient, layer upon layer (Chefer et al., 2021)
    rollout    attention, layer upon layer (Abnar and Zuidema, 2020)
    attention  that of the last layer
    random     what all of them are compared with
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from plait.errors import ConfigError
from plait.explain.scorer import Scorer
from plait.explain.tracing import Pass, Tracer

ORDERS = 12  # orders drawn at random, half of them the others backwards


@dataclass
class Look:
    """What methods have: a scorer, a tracer for those that look inside, the seed."""

    scorer: Scorer
    tracer: Tracer | None = None
    seed: int = 0

    def traced(self, relevance: bool) -> tuple[Tracer, Pass]:
        """The tracer, and a pass with nothing hidden. Raises ConfigError without a tracer."""
        if self.tracer is None:
            raise ConfigError(
                "this method looks inside the model; expected a copy of it: load the checkpoint from its folder"
            )
        return self.tracer, self.tracer.run(self.scorer.row, relevance)

    def by_unit(self, tracer: Tracer, of_tokens: Tensor, changes: Callable[[Tensor], Tensor]) -> np.ndarray:
        """[units] from [L] numbers of tokens; of a piece of a medium, what `changes` makes of how all tokens change without it,
        [L, D]."""
        values = []
        for number, unit in enumerate(self.scorer.units):
            if unit.tokens:
                values.append(float(of_tokens[list(unit.tokens)].sum()))
            else:
                hidden = self.scorer.none_hidden
                hidden[number] = True
                without = tracer.embed(self.scorer.row_without(hidden))
                values.append(float(changes(without)))
        return np.array(values)


def _masking(look: Look) -> np.ndarray:
    """Half of what is lost without a unit, and half of what it alone brings back."""
    units = len(look.scorer.units)
    alone = np.eye(units, dtype=bool)
    scores = look.scorer.scores(np.concatenate((alone, ~alone, np.zeros((1, units), bool), np.ones((1, units), bool))))
    lost, restored = scores[-2] - scores[:units], scores[units : 2 * units] - scores[-1]
    values: np.ndarray = 0.5 * (lost + restored)
    return values


def _shapley(look: Look) -> np.ndarray:
    units = len(look.scorer.units)
    rng = np.random.default_rng([look.seed, 62])
    half = [rng.permutation(units) for _ in range(ORDERS // 2)]
    orders = [order for one in half for order in (one, one[::-1])]
    hidden = np.ones((len(orders), units + 1, units), bool)
    for number, order in enumerate(orders):
        for step, unit in enumerate(order):
            hidden[number, step + 1 :, unit] = False
    scores = look.scorer.scores(hidden.reshape(-1, units)).reshape(len(orders), units + 1)
    gains = np.diff(scores, axis=1)
    values = np.zeros(units)
    for order, gain in zip(orders, gains, strict=True):
        values[order] += gain / len(orders)
    return values


def _gradient_times_input(look: Look, relevance: bool) -> np.ndarray:
    tracer, trace = look.traced(relevance)
    of_tokens = (trace.gradient * trace.embedded).sum(dim=-1)
    return look.by_unit(tracer, of_tokens, lambda without: (trace.gradient * (trace.embedded - without)).sum())


def _by_attention(look: Look, trace: Pass, tracer: Tracer, attended: Tensor) -> np.ndarray:
    """[units] from how much [L] of each token is attended to; a piece of a medium has the share of it by which the tokens change."""
    size = trace.embedded.norm(dim=-1).clamp_min(1e-9)
    return look.by_unit(
        tracer, attended, lambda without: (attended * ((trace.embedded - without).norm(dim=-1) / size)).sum()
    )


def _rolled(layers: list[Tensor]) -> Tensor:
    """[L, L] how much each token has of each, from [L, L] of every layer."""
    rolled = torch.eye(len(layers[0]), device=layers[0].device)
    for layer in layers:
        rolled = rolled + layer @ rolled
    return rolled


def _attention_gradient(look: Look) -> np.ndarray:
    tracer, trace = look.traced(relevance=False)
    layers = [
        (weights * gradient).clamp_min(0.0).mean(dim=0)
        for weights, gradient in zip(trace.weights, trace.weight_gradients, strict=True)
    ]
    return _by_attention(look, trace, tracer, _rolled(layers)[trace.asking].sum(dim=0))


def _rollout(look: Look) -> np.ndarray:
    tracer, trace = look.traced(relevance=False)
    rolled = torch.eye(len(trace.embedded), device=trace.embedded.device)
    for weights in trace.weights:
        rolled = 0.5 * (rolled + weights.mean(dim=0) @ rolled)
    return _by_attention(look, trace, tracer, rolled[trace.asking].sum(dim=0))


def _attention(look: Look) -> np.ndarray:
    tracer, trace = look.traced(relevance=False)
    return _by_attention(look, trace, tracer, trace.weights[-1].mean(dim=0)[trace.asking].sum(dim=0))


def _random(look: Look) -> np.ndarray:
    values: np.ndarray = np.random.default_rng([look.seed, 63]).standard_normal(len(look.scorer.units))
    return values


METHODS: dict[str, Callable[[Look], np.ndarray]] = {
    "shapley": _shapley,
    "masking": _masking,
    "relevance": lambda look: _gradient_times_input(look, relevance=True),
    "gradient": lambda look: _gradient_times_input(look, relevance=False),
    "attention-gradient": _attention_gradient,
    "rollout": _rollout,
    "attention": _attention,
    "random": _random,
}


def rows_of_method(method: str, units: int) -> int:
    """Rows that a method takes for so many units, about; those that look inside take four times as long a row."""
    return {"shapley": ORDERS * (units + 1), "masking": 2 * units + 2, "random": 0}.get(method, 4 + units)


INSIDE = frozenset(METHODS) - {"shapley", "masking", "random"}  # that need a tracer


def relevance_of(method: str, look: Look) -> np.ndarray:
    """[units] how much each unit matters. Raises ConfigError for an unknown method."""
    if method not in METHODS:
        raise ConfigError(f"got the method {method!r}; expected one of {', '.join(METHODS)}")
    return METHODS[method](look)
