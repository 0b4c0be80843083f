"""Every method points at what matters, and what looks inside the model sees the model as it is."""

import itertools
import math

import numpy as np
import pytest
import torch
from worlds import TINY, World, templated, text

from plait.contract import Message
from plait.errors import ConfigError
from plait.explain.methods import INSIDE, METHODS, Look, relevance_of
from plait.explain.scorer import Scorer
from plait.explain.tracing import Tracer, _halved, relevant
from plait.infer.engine import Engine
from plait.model.mask import allowed
from plait.model.transformer import TrunkConfig

LLAMA = TrunkConfig(dim=32, num_layers=2, num_heads=4, num_kv_heads=2, hidden=48, norm_kind="rms", qk_norm=False)
EXPERTS = TrunkConfig(
    dim=32, num_layers=4, num_heads=2, hidden=48, adapters={"image_given": 4}, split={"image_written": 16, "audio_written": 16},
    split_every={"audio_written": 2},
)  # fmt: skip
TRUNKS = {
    "own": TINY,
    "llama": LLAMA,
    "experts": EXPERTS,
    "plain": TrunkConfig(dim=32, num_layers=2, num_heads=2, feed_forward="gelu"),
}


def scorer_of(config=TINY, kind="text", seed=0, template=False):
    world = templated(World()) if template else World()
    engine = Engine(world.model(config).eval())
    asked = (Message("user", (world.part("image", 2), text("what is this?"), world.part("audio", 3))),)
    answer = text("yes") if kind == "text" else world.part(kind, 4)
    return Scorer(engine, asked, Message("assistant", (answer,)), seed=seed)


@pytest.mark.parametrize("kind", ["text", "image", "audio"])
@pytest.mark.parametrize("trunk", TRUNKS)
@pytest.mark.parametrize("relevance", [False, True])
def test_a_traced_pass_is_the_model_s_own(trunk, kind, relevance):
    """Attention by the taps, and the rules of relevance, change gradients and no value."""
    scorer = scorer_of(TRUNKS[trunk], kind)
    network = scorer.engine.model
    tracer = Tracer(network, scorer)
    batch = scorer.batch([scorer.row])
    with torch.no_grad():
        expected = network.hidden(batch)
        mask = allowed(batch.row, batch.block, batch.copy, batch.shares)[0]
        taps = tracer._taps(batch, mask, relevance)
        if relevance:
            with relevant(network):
                hidden = tracer._hidden(batch, network.embed(batch), taps)
        else:
            hidden = tracer._hidden(batch, network.embed(batch), taps)
        torch.testing.assert_close(hidden, expected, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(network.hidden(batch), expected, msg="the model is left as it was")
    assert all(torch.allclose(tap.weights.sum(dim=-1), torch.ones(())) for tap in taps)


def test_the_gradient_is_that_of_the_odds():
    """The derivative of the target's odds along an input vector, by differences."""
    scorer = scorer_of()
    tracer = Tracer(scorer.engine.model, scorer)
    found = tracer.run(scorer.row, relevance=False)
    batch, network = scorer.batch([scorer.row]), scorer.engine.model
    mask = allowed(batch.row, batch.block, batch.copy, batch.shares)[0]

    def odds(x):
        hidden = tracer._hidden(batch, x[None], tracer._taps(batch, mask, False))
        return float(tracer._score(batch, hidden, False)[0])

    token = next(unit.tokens[0] for unit in scorer.units if unit.tokens)
    step = torch.zeros_like(found.embedded)
    step[token] = 1e-3 * torch.randn(step.shape[1], generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        difference = odds(found.embedded + step) - odds(found.embedded - step)
    assert difference / 2 == pytest.approx(float((found.gradient * step).sum()), rel=2e-2)
    assert network.training is False


def test_half_of_a_product_s_relevance_goes_to_each_factor():
    a, b = torch.tensor(3.0, requires_grad=True), torch.tensor(-2.0, requires_grad=True)
    product = _halved(a * b, a * b.detach(), a.detach() * b)
    assert product == a * b
    product.backward()
    assert a.grad * a == b.grad * b == product / 2


def shapley_by_definition(scorer):
    """Every subset, weighed as Shapley (1953) does."""
    n = len(scorer.units)
    subsets = list(itertools.product([False, True], repeat=n))  # shown
    scores = dict(zip(subsets, scorer.scores(~np.array(subsets)), strict=True))
    values = np.zeros(n)
    for subset in subsets:
        for unit in range(n):
            if not subset[unit]:
                size = sum(subset)
                weight = math.factorial(size) * math.factorial(n - size - 1) / math.factorial(n)
                values[unit] += weight * (scores[(*subset[:unit], True, *subset[unit + 1 :])] - scores[subset])
    return values


def few_units():
    """A question of four words."""
    world = World()
    asked = (Message("user", (text("draw what it is"),)),)
    return Scorer(Engine(world.model().eval()), asked, Message("assistant", (text("yes"),)))


def test_shapley_values_are_near_those_by_definition(monkeypatch):
    from plait.explain import methods

    scorer = few_units()
    assert len(scorer.units) == 4
    exact = shapley_by_definition(scorer)
    monkeypatch.setattr(methods, "ORDERS", 400)
    drawn = relevance_of("shapley", Look(scorer))
    np.testing.assert_allclose(drawn, exact, atol=0.1 * np.abs(exact).max())
    shown, hidden = scorer.scores(np.stack([scorer.none_hidden, ~scorer.none_hidden]))
    assert exact.sum() == pytest.approx(shown - hidden, abs=1e-4)
    assert drawn.sum() == pytest.approx(shown - hidden, abs=1e-4)


def test_masking_is_what_is_lost_and_what_is_restored():
    scorer = few_units()
    values = relevance_of("masking", Look(scorer))
    alone = np.eye(4, dtype=bool)
    full, empty = scorer.scores(np.stack([np.zeros(4, bool), np.ones(4, bool)]))
    lost, restored = full - scorer.scores(alone), scorer.scores(~alone) - empty
    np.testing.assert_allclose(values, (lost + restored) / 2, atol=1e-5)


@pytest.mark.parametrize("template", [False, True])
@pytest.mark.parametrize("kind", ["text", "audio"])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_a_number_a_unit(method, kind, template):
    scorer = scorer_of(EXPERTS, kind, template=template)
    values = relevance_of(method, Look(scorer, Tracer(scorer.engine.model, scorer)))
    assert values.shape == (len(scorer.units),)
    assert np.isfinite(values).all()
    assert len(set(values.round(9))) > 3
    if method in ("rollout", "attention", "attention-gradient"):
        assert (values >= 0).all()
    again = relevance_of(method, Look(scorer, Tracer(scorer.engine.model, scorer)))
    np.testing.assert_array_equal(values, again)


def test_rollout_of_all_tokens_is_a_share_of_each(monkeypatch):
    """What a token has of all tokens together is one (Abnar and Zuidema, 2020)."""
    scorer = scorer_of()
    found = Tracer(scorer.engine.model, scorer).run(scorer.row, relevance=False)
    rolled = torch.eye(len(found.embedded))
    for weights in found.weights:
        rolled = 0.5 * (rolled + weights.mean(dim=0) @ rolled)
    torch.testing.assert_close(rolled.sum(dim=-1), torch.ones(len(rolled)))


def test_methods_that_look_inside_ask_for_a_model_to_look_into():
    scorer = scorer_of()
    for method in METHODS:
        if method in INSIDE:
            with pytest.raises(ConfigError, match="looks inside"):
                relevance_of(method, Look(scorer))
        else:
            relevance_of(method, Look(scorer))
    with pytest.raises(ConfigError, match="shapley"):
        relevance_of("magic", Look(scorer))
