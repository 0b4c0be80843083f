"""What is drawn from logits and predictions, against the definitions."""

import numpy as np
import pytest
import torch
from worlds import TINY, World

from plait.infer.sampling import euler_step, guided, legal_logits, middle, sample_ids
from plait.model.multimodal import MultimodalTransformer

LOGITS = torch.tensor([2.0, 1.0, 0.5, -1.0, -torch.inf])


def drawn(temperature, top_p, count=20_000):
    uniform = torch.from_numpy(np.random.default_rng(0).random(count))
    every = torch.full((count,), float(temperature)), torch.full((count,), float(top_p))
    ids = sample_ids(LOGITS.expand(count, -1), *every, uniform)
    return torch.bincount(ids, minlength=5).double() / count


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_ids_come_as_often_as_they_are_likely(temperature):
    torch.testing.assert_close(
        drawn(temperature, 1.0), torch.softmax(LOGITS.double() / temperature, 0), atol=0.01, rtol=0
    )


def test_top_p_keeps_the_likeliest_that_hold_the_share():
    shares = torch.softmax(LOGITS.double(), 0)
    assert float(shares[:2].sum()) > 0.8 > float(shares[0])
    kept = torch.where(torch.arange(5) < 2, shares, 0.0)
    torch.testing.assert_close(drawn(1.0, 0.8), kept / kept.sum(), atol=0.01, rtol=0)
    assert drawn(1.0, 1e-6)[0] == 1.0, "the likeliest always stays"


def test_no_temperature_takes_the_best_whatever_the_chance():
    ids = sample_ids(
        LOGITS.expand(3, -1), torch.tensor([0.0, 0.0, 1e-9]), torch.ones(3), torch.tensor([0.0, 0.99, 0.99])
    )
    assert ids.tolist() == [0, 0, 0]


def test_what_is_not_legal_is_never_drawn():
    chances = torch.linspace(0, 1 - 1e-12, 500, dtype=torch.float64)
    assert 4 not in sample_ids(LOGITS.expand(500, -1), torch.full((500,), 1000.0), torch.ones(500), chances)


def by_sorting_all(logits, temperature, top_p, uniform):
    """The slow reference of `sample_ids`, for temperatures above 0."""
    shares, order = torch.softmax(logits.double() / temperature[:, None], dim=-1).sort(
        dim=-1, descending=True, stable=True
    )
    shares = torch.where(shares.cumsum(-1) - shares < top_p[:, None], shares, 0.0)
    cumulative = shares.cumsum(dim=-1)
    return order.gather(1, torch.searchsorted(cumulative, uniform[:, None] * cumulative[:, -1:], right=True))[:, 0]


@pytest.mark.parametrize("spread", [0.0, 0.3, 3.0])
def test_few_sorted_ids_give_what_all_give(spread):
    """Flat distributions, whose likeliest ids hold little, and such with equals, as bfloat16 has many."""
    generator = torch.Generator().manual_seed(0)
    logits = spread * torch.randn(60, 3000, generator=generator).bfloat16().float()
    temperature = torch.rand(60, generator=generator, dtype=torch.float64) + 0.3
    top_p = torch.where(torch.arange(60) % 2 == 0, 1.0, torch.rand(60, generator=generator, dtype=torch.float64))
    uniform = torch.rand(60, generator=generator, dtype=torch.float64)
    chosen = sample_ids(logits, temperature, top_p, uniform)
    assert chosen.tolist() == by_sorting_all(logits, temperature, top_p, uniform).tolist()
    assert len(set(chosen.tolist())) > 10


@pytest.mark.parametrize("tied", [(), ("text",)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_logits_of_few_legal_ids_are_those_of_all(tied, dtype, monkeypatch):
    monkeypatch.setattr("plait.infer.sampling.FEW", 30)
    world = World()
    model = MultimodalTransformer(TINY, world.vocabulary, tied=tied, dtype=dtype).for_inference()
    hidden = torch.randn(3, TINY.dim, generator=torch.Generator().manual_seed(0)).to(dtype)
    size = world.vocabulary.size
    legal = [np.array([size - 1, 2, 5]), np.arange(size), np.array([5, 290])]
    every, few = model.logits(hidden), legal_logits(model, hidden, legal)
    for row, ids in enumerate(legal):
        torch.testing.assert_close(few[row, ids], every[row, ids], atol=0.02, rtol=0.02)
    assert few[0].isfinite().sum() == 4, "of both"


def test_guided_clean_tokens_are_guided_velocities():
    """v = v_null + g (v - v_null), written out (Ho and Salimans, 2021), for several strengths and times at once."""
    generator = torch.Generator().manual_seed(0)
    x, null, z = (torch.randn(6, 4, generator=generator) for _ in range(3))
    guidance, t = torch.tensor([0.0, 0.5, 1.0, 1.5, 3.0, 7.0]), torch.tensor([0.0, 0.1, 0.3, 0.5, 0.7, 0.9])
    following = t + 0.05
    velocity, v_null = ((clean - z) / (1 - t)[:, None] for clean in (x, null))
    expected = z + (following - t)[:, None] * (v_null + guidance[:, None] * (velocity - v_null))
    torch.testing.assert_close(euler_step(z, guided(x, null, guidance), t, following), expected, atol=1e-5, rtol=1e-5)


def test_the_last_step_is_what_was_predicted():
    z, x = torch.randn(3, 2), torch.randn(3, 2)
    torch.testing.assert_close(euler_step(z, x, torch.full((3,), 0.8), torch.ones(3)), x)


def test_of_answers_in_an_order_the_middle_is_taken():
    logits = torch.log(torch.tensor([0.0, 0.05, 0.3, 0.25, 0.0, 0.4]) + 1e-12)
    assert middle(logits, torch.tensor([5, 2, 3, 1])) == 2, "0.4, then 0.7"
    assert middle(logits, torch.tensor([1, 2, 3, 5])) == 3, "0.05, 0.35, 0.6: the likeliest comes last"
    assert middle(logits, torch.tensor([3])) == 3
