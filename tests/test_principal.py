"""Wide maps that start along the principal components of the data."""

import numpy as np
import pytest
import torch
from worlds import World, rng

from plait.api import settings as load
from plait.model import principal
from plait.train import optim, run

WORLD = World()


def flat(width, count=300, rank=5):
    """[count, width] tokens in few directions, far from the origin."""
    draw = rng(1)
    return (3.0 + 20 * draw.normal(size=(count, rank)) @ draw.normal(size=(rank, width)) / width**0.5).astype(
        np.float32
    )


def found(tokens, coordinates=None):
    return principal.Found(tokens, np.zeros((len(tokens), 2), np.float32) if coordinates is None else coordinates)


def through(model, tokens, coordinates):
    """What the head predicts of clean tokens before the trunk has learned anything."""
    given, places = torch.from_numpy(tokens), torch.from_numpy(coordinates)
    with torch.no_grad():
        embedded = model.embedders["image"](given, places, torch.ones(len(given)))
        return model.flows["image"](model.trunk.norm(embedded)).numpy()


def test_what_goes_in_comes_out():
    """At any place, through the last norm, pale tokens pale and strong ones strong."""
    model = WORLD.model()
    tokens = flat(model.flows["image"].predict.out_features)
    tokens[:100] = 3.0 + (tokens[:100] - 3.0) * 0.3
    places = rng(2).integers(0, 3, (len(tokens), 2)).astype(np.float32)
    before = {name: p.clone() for name, p in model.named_parameters()}
    kept = principal.start(model, {"image": found(tokens, places)})
    assert kept["image"] == pytest.approx(1.0, abs=1e-5), "five directions fit into the trunk"
    made = through(model, tokens, places)
    assert np.square(made - tokens).mean() / tokens.var() < 0.05
    pale = np.square(made[:100] - 3.0).mean() / np.square(tokens[:100] - 3.0).mean()
    strong = np.square(made[100:] - 3.0).mean() / np.square(tokens[100:] - 3.0).mean()
    assert 0.7 < strong / pale < 1.1
    embedding = model.embedders["image"]
    with torch.no_grad():
        spread = embedding.tokens(torch.from_numpy(tokens)).std(dim=0).square().sum().sqrt()
    assert 1.5 < spread < 2.5, "five directions, each as large as other vectors of the trunk"
    changed = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert changed == {
        "embedders.image.tokens.weight", "embedders.image.tokens.bias", "embedders.image.time.2.weight",
        "flows.image.predict.weight", "flows.image.predict.bias",
    }  # fmt: skip


@pytest.mark.parametrize("shape", [(300, 40), (40, 300), (40, 40)])
def test_components_are_those_of_a_decomposition(shape):
    centred = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * torch.linspace(3, 0.5, shape[1])
    centred -= centred.mean(dim=0)
    axes, variance = principal._components(centred)
    _, sizes, expected = torch.linalg.svd(centred, full_matrices=False)
    torch.testing.assert_close(variance[:10], sizes[:10].square() / len(centred), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close((axes[:10] @ expected[:10].T).abs().diagonal(), torch.ones(10), rtol=0, atol=1e-2)
    torch.testing.assert_close(axes @ axes.T, torch.eye(len(axes)), rtol=0, atol=1e-3)


def test_tokens_that_are_all_the_same_have_no_components():
    axes, variance = principal._components(torch.zeros(8, 40))
    assert axes.isfinite().all()
    assert variance.isfinite().all()


def test_a_start_is_the_same_every_time_and_few_tokens_will_do():
    modality = WORLD.modalities["audio"]
    parts = [modality.example(seed) for seed in range(4)]
    first, second = (principal.tokens_of(modality, parts, 3) for _ in range(2))
    assert np.array_equal(first.tokens, second.tokens)
    assert np.array_equal(first.coordinates, second.coordinates)
    assert first.tokens.shape[1] == modality.token_width
    assert len(first.coordinates) == len(first.tokens)
    models = [WORLD.model(), WORLD.model()]
    for model in models:
        principal.start(model, {"audio": principal.Found(first.tokens[:3], first.coordinates[:3])})
    assert all(torch.equal(a, b) for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True))
    assert all(p.isfinite().all() for p in models[0].parameters())
    assert principal.start(models[0], {"audio": principal.Found(first.tokens[:1], first.coordinates[:1])}) == {}


def test_a_recipe_starts_so_and_its_average_with_it(small_digits):
    settings = [f"data={small_digits}", "trunk.dim=32", "trunk.num_heads=2", "trunk.num_layers=1"]
    plain = run.start(load("digits", *settings))
    started = run.start(load("digits", *settings, "principal=true"))
    for name, before, weight, average in zip(
        started.names, plain.parameters, started.parameters, started.average, strict=True
    ):
        wide = name.startswith(("embedders.", "flows.")) and any(
            part in name for part in (".tokens.", ".predict.", ".time.2.weight")
        )
        assert torch.equal(before, weight) != wide, name
        assert torch.equal(weight, average)


def test_maps_that_start_well_may_go_slowly():
    """A share of the rate for the maps from continuous tokens and to them, and for nothing else."""
    moved = {}
    for share in (1.0, 0.1):
        model = WORLD.model()
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        config = optim.OptimConfig(lr=1e-3, weight_decay=0.0, wide_share=share)
        optimizers = optim.build(config, model)
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        optim.set_lr(optimizers, config.lr_at(1000, 2000))
        for optimizer in optimizers:
            optimizer.step()
        moved[share] = {name: (p.detach() - before[name]).abs().mean().item() for name, p in model.named_parameters()}
    ratios = {name: moved[0.1][name] / moved[1.0][name] for name in moved[1.0]}
    slow = {name for name, ratio in ratios.items() if ratio == pytest.approx(0.1, rel=0.02)}
    assert slow == {name for name in ratios if name.endswith(optim.WIDE)}
    assert len(slow) == 4
    assert all(ratios[name] == pytest.approx(1.0, rel=1e-3) for name in ratios.keys() - slow)
