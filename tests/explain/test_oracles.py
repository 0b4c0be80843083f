"""Captum (Kokhlikyan et al., 2020) and Quantus (Hedström et al., 2023) say the same of the same model."""

import numpy as np
import pytest
import torch
from test_methods import TRUNKS, scorer_of
from torch import nn

from plait.explain.faithfulness import counts_of, curves, order_of
from plait.explain.methods import ORDERS, Look, relevance_of
from plait.explain.tracing import Tracer
from plait.model.mask import allowed

captum = pytest.importorskip("captum.attr")


class OfShown(nn.Module):
    """The score of a target by which units are shown: [n, units] of 0 and 1 -> [n, 1]."""

    def __init__(self, scorer):
        super().__init__()
        self.scorer = scorer

    def forward(self, shown):
        scores = self.scorer.scores(shown.flatten(1).numpy() < 0.5)
        return torch.from_numpy(scores.astype(np.float32))[:, None]


def kinds_and_trunks():
    return [(kind, "own") for kind in ("text", "image", "audio")] + [("text", "experts"), ("text", "llama")]


@pytest.mark.parametrize(("kind", "trunk"), kinds_and_trunks())
def test_shapley_is_that_of_captum_for_the_same_orders(kind, trunk):
    scorer = scorer_of(TRUNKS[trunk], kind)
    units = len(scorer.units)
    rng = np.random.default_rng([3, 62])  # as the method with seed 3 draws its orders
    half = [rng.permutation(units) for _ in range(ORDERS // 2)]
    sampling = captum.ShapleyValueSampling(OfShown(scorer))
    sampling.permutation_generator = lambda features, samples: iter([o for one in half for o in (one, one[::-1])])
    theirs = sampling.attribute(torch.ones(1, units), target=0, n_samples=ORDERS, perturbations_per_eval=64)[0]
    np.testing.assert_allclose(relevance_of("shapley", Look(scorer, seed=3)), theirs, atol=1e-4)


@pytest.mark.parametrize(("kind", "trunk"), kinds_and_trunks())
def test_masking_is_captum_s_ablation_from_both_ends(kind, trunk):
    scorer = scorer_of(TRUNKS[trunk], kind)
    ablation, shown = captum.FeatureAblation(OfShown(scorer)), torch.ones(1, len(scorer.units))
    lost = ablation.attribute(shown, baselines=0, target=0)[0]
    restored = -ablation.attribute(0 * shown, baselines=1, target=0)[0]
    np.testing.assert_allclose(relevance_of("masking", Look(scorer)), (lost + restored) / 2, atol=1e-4)


@pytest.mark.filterwarnings("ignore:Converting a tensor")  # in captum's own code
@pytest.mark.parametrize("trunk", TRUNKS)
def test_the_gradient_is_captum_s(trunk):
    scorer = scorer_of(TRUNKS[trunk])
    tracer = Tracer(scorer.engine.model, scorer)
    batch = scorer.batch([scorer.row])
    mask = allowed(batch.row, batch.block, batch.copy, batch.shares)[0]

    def odds(embedded):
        hidden = tracer._hidden(batch, embedded, tracer._taps(batch, mask, False))
        return tracer._score(batch, hidden, False)[0][None]

    of_tokens = captum.InputXGradient(odds).attribute(tracer.embed(scorer.row)[None].requires_grad_())[0].sum(dim=-1)
    values = relevance_of("gradient", Look(scorer, tracer))
    by_token = [(number, unit) for number, unit in enumerate(scorer.units) if unit.tokens]
    assert by_token
    for number, unit in by_token:
        assert values[number] == pytest.approx(float(of_tokens[list(unit.tokens)].sum()), abs=1e-5)


@pytest.mark.parametrize("kind", ["text", "image", "audio"])
def test_deletion_and_insertion_are_pixel_flipping(kind):
    """Quantus flips one unit after the other, in the order of the values, from all shown or from none."""
    quantus = pytest.importorskip("quantus")
    scorer = scorer_of(kind=kind)
    units = len(scorer.units)
    values = relevance_of("shapley", Look(scorer))
    ([ours], extent) = curves(scorer, [order_of(values)])
    hidden = scorer.scores(np.stack([scorer.none_hidden, ~scorer.none_hidden]))

    def flipped(start, to):
        metric = quantus.PixelFlipping(perturb_baseline=to, disable_warnings=True, normalise=False)
        x = np.full((1, 1, 1, units), start, np.float32)
        [scores] = metric(
            OfShown(scorer).eval(),
            x,
            np.zeros(1, int),
            values.reshape(x.shape),
            channel_first=True,
            softmax=False,
            device="cpu",
        )
        return np.array(scores)[np.array(counts_of(units)) - 1]

    for shares, scores in ((ours.deletion, flipped(1.0, 0.0)), (ours.insertion, flipped(0.0, 1.0))):
        of_full = (scores - hidden[0]) / extent + ours.full
        np.testing.assert_allclose(shares, of_full, atol=1e-4)
