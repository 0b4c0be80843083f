"""Wide maps that start along the principal components of the data."""

import numpy as np
import pytest
import torch
from worlds import World, rng

from plait.api import settings as load
from plait.model import principal
from plait.train import run

WORLD = World()


def flat(width, count=300, rank=5):
    """[count, width] tokens in few directions, far from the origin."""
    draw = rng(1)
    return (3.0 + 20 * draw.normal(size=(count, rank)) @ draw.normal(size=(rank, width)) / width**0.5).astype(
        np.float32
    )


def test_what_goes_in_comes_out():
    model = WORLD.model()
    width = model.flows["image"].predict.out_features
    tokens = flat(width)
    before = {name: p.clone() for name, p in model.named_parameters()}
    kept = principal.start(model, {"image": tokens})
    assert kept["image"] == pytest.approx(1.0, abs=1e-5), "five directions fit into the trunk"
    embedding, head = model.embedders["image"], model.flows["image"]
    given = torch.from_numpy(tokens)
    hidden = embedding.tokens(given)
    hidden[:, min(width, hidden.shape[1]) :] = 0.0
    error = (head(hidden) - given).square().mean() / given.var()
    assert error < 0.02
    spread = hidden[:, :5].std(dim=0)
    assert ((spread > 0.8) & (spread < 1.1)).all(), "as large as other vectors of the trunk"
    changed = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert changed == {
        "embedders.image.tokens.weight", "embedders.image.tokens.bias", "flows.image.predict.weight", "flows.image.predict.bias",
    }  # fmt: skip


def test_a_start_is_the_same_every_time_and_few_tokens_will_do():
    modality = WORLD.modalities["audio"]
    parts = [modality.example(seed) for seed in range(4)]
    first, second = (principal.tokens_of(modality, parts, 3) for _ in range(2))
    assert np.array_equal(first, second)
    assert first.shape[1] == modality.token_width
    models = [WORLD.model(), WORLD.model()]
    for model in models:
        principal.start(model, {"audio": first[:3]})
    assert all(torch.equal(a, b) for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True))
    assert all(p.isfinite().all() for p in models[0].parameters())
    assert principal.start(models[0], {"audio": first[:1]}) == {}


def test_a_recipe_starts_so_and_its_average_with_it(small_digits):
    settings = [f"data={small_digits}", "trunk.dim=32", "trunk.num_heads=2", "trunk.num_layers=1"]
    plain = run.start(load("digits", *settings))
    started = run.start(load("digits", *settings, "principal=true"))
    for name, before, weight, average in zip(
        started.names, plain.parameters, started.parameters, started.average, strict=True
    ):
        wide = name.startswith(("embedders.", "flows.")) and (".tokens." in name or ".predict." in name)
        assert torch.equal(before, weight) != wide, name
        assert torch.equal(weight, average)
