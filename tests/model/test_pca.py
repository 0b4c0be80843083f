"""Principal components of the data: what the flow head knows of them, and where the embedding starts."""

import itertools

import numpy as np
import pytest
import torch
from worlds import World, rng

from plait.api import settings as load
from plait.contract import Message, Part
from plait.errors import CheckpointError, ConfigError
from plait.infer.engine import Engine
from plait.infer.request import Request
from plait.infer.sampling import euler_step
from plait.model import pca
from plait.model.multimodal import MultimodalTransformer
from plait.train import checkpoint, optim, run, trainer

WORLD = World()
PLACES = torch.zeros(1, 2)


def flat(width, count=300, rank=5):
    """[count, width] tokens in few directions, far from the origin."""
    draw = rng(1)
    return torch.from_numpy(3.0 + 20 * draw.normal(size=(count, rank)) @ draw.normal(size=(rank, width)) / width**0.5)


def knowing(tokens, most=5, coordinates=PLACES, name="image"):
    """A model that was started with the components of some tokens."""
    found = pca.of_tokens(tokens, coordinates, most)
    model = MultimodalTransformer(WORLD.model().trunk.config, WORLD.vocabulary, components={name: len(found.axes)})
    pca.start(model, {name: found})
    return model, found


def noised(clean, t, seed=0):
    noise = torch.from_numpy(rng(seed).normal(size=clean.shape)).float()
    return t * clean + (1 - t) * noise


@pytest.mark.parametrize("t", [0.0, 0.1, 0.5, 0.95, 1.0])
def test_the_head_corrects_what_it_expects_as_a_gaussian_would(t):
    """Against the formula of the conditional mean, written out with whole matrices."""
    tokens = flat(WORLD.modalities["image"].token_width).float()
    model, found = knowing(tokens)
    head = model.flows["image"]
    torch.nn.init.normal_(head.predict.weight, std=0.1)
    head.log_var.bias.data = torch.tensor([0.0, 1.0, -1.0, 3.0, -3.0])
    z, hidden = noised(tokens, t), torch.randn(len(tokens), model.trunk.config.dim)
    made = head(hidden, z, torch.full((len(z),), t))
    axes, variance = found.axes.double(), found.variance.double()
    expected = found.mean + (head.predict(hidden).double() * variance.sqrt()) @ axes
    covariance = axes.T @ (variance * head.log_var.bias.double().exp()).diag() @ axes
    of_z = t**2 * covariance + (1 - t) ** 2 * torch.eye(len(covariance))
    right = expected + (z.double() - t * expected) @ torch.linalg.pinv(of_z) @ (t * covariance)
    torch.testing.assert_close(made.double(), right, rtol=1e-3, atol=1e-2)


def test_an_untrained_head_draws_what_the_noise_shows():
    tokens = flat(WORLD.modalities["image"].token_width).float()
    model, _ = knowing(tokens)
    torch.nn.init.zeros_(model.flows["image"].predict.weight)
    hidden = torch.randn(len(tokens), model.trunk.config.dim)
    errors = []
    for t in (0.0, 0.1, 0.5, 0.95, 1.0):
        made = model.flows["image"](hidden, noised(tokens, t), torch.full((len(tokens),), t)).detach()
        errors.append(float((made - tokens).square().mean() / tokens.var(dim=0).mean()))
    assert errors == sorted(errors, reverse=True)
    assert errors[0] == pytest.approx(1.0, abs=0.01)
    assert errors[2] < 0.1
    assert errors[-1] < 1e-6


def test_the_embedding_starts_along_the_components_and_nothing_else_changes():
    tokens = flat(WORLD.modalities["image"].token_width).float()
    model, found = knowing(tokens)
    unstarted = MultimodalTransformer(model.trunk.config, WORLD.vocabulary, components={"image": 5})
    before = dict(unstarted.named_parameters())
    assert found.share == pytest.approx(1.0, abs=1e-5)
    with torch.no_grad():
        spread = model.embedders["image"].tokens(tokens).std(dim=0).square().sum().sqrt()
    assert 1.5 < spread < 2.5, "five directions, each as large as other vectors of the trunk"
    changed = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert changed == {
        "embedders.image.tokens.weight", "embedders.image.tokens.bias", "embedders.image.time.2.weight",
        "flows.image.predict.weight", "flows.image.log_var.weight",
    }  # fmt: skip


@pytest.mark.parametrize("shape", [(300, 40), (40, 300), (40, 40)])
def test_components_are_those_of_a_decomposition(shape):
    centred = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * torch.linspace(3, 0.5, shape[1])
    centred -= centred.mean(dim=0)
    axes, variance = pca._components(centred)
    _, sizes, expected = torch.linalg.svd(centred, full_matrices=False)
    torch.testing.assert_close(variance[:10], sizes[:10].square() / len(centred), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close((axes[:10] @ expected[:10].T).abs().diagonal(), torch.ones(10), rtol=0, atol=1e-2)
    torch.testing.assert_close(axes @ axes.T, torch.eye(len(axes)), rtol=0, atol=1e-3)


def test_tokens_that_are_all_the_same_have_no_components():
    found = pca.of_tokens(torch.ones(8, 40), PLACES, 5)
    assert len(found.axes) == 0
    model = trainer.model_of(load("digits"), WORLD.vocabulary, {"image": found})
    assert model.flows["image"].components == 0


def test_components_are_the_same_every_time_and_few_tokens_will_do():
    modality = WORLD.modalities["audio"]
    parts = [modality.example(seed) for seed in range(4)]
    first, second = (pca.find(modality, parts, 2, 3) for _ in range(2))
    assert torch.equal(first.axes, second.axes)
    assert first.axes.shape == (2, modality.token_width)
    assert 0 < first.share < 1
    models = [trainer.model_of(load("digits"), WORLD.vocabulary, {"audio": first}) for _ in range(2)]
    assert all(torch.equal(a, b) for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True))
    assert all(p.isfinite().all() for p in models[0].parameters())


def test_a_run_finds_them_says_so_saves_them_and_goes_on_with_them(small_digits, tmp_path):
    settings = [
        f"data={small_digits}",
        "trunk.dim=32",
        "trunk.num_heads=2",
        "trunk.num_layers=1",
        "steps=4",
        "save_every=2",
    ]
    recipe = load("digits", *settings, "pca=12")
    run.train(recipe, tmp_path / "run", max_seconds=0.0)
    run.train(recipe, tmp_path / "run", resume=True)
    told = (tmp_path / "run" / "train.log").read_text(encoding="utf-8")
    assert "image: 12 principal components hold" in told
    folder = checkpoint.locate(tmp_path / "run")
    model, _ = checkpoint.load(folder)
    head = model.flows["image"]
    assert head.axes.shape == (12, 784)
    assert head.predict.weight.shape == (12, 32)
    torch.testing.assert_close(head.axes @ head.axes.T, torch.eye(12), rtol=0, atol=1e-4)
    assert (head.variance[:-1] >= head.variance[1:]).all()
    assert head.log_var.weight.abs().sum() > 0, "it has learned: this layer starts from zero"
    whole = run.train(recipe, tmp_path / "whole")
    again, _ = checkpoint.load(whole)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, again.state_dict()[name], rtol=0, atol=0, msg=name)


def test_settled_for_inference_it_draws_the_same():
    tokens = flat(WORLD.modalities["image"].token_width).float()
    model, _ = knowing(tokens)
    z, time, hidden = (
        noised(tokens, 0.3),
        torch.full((len(tokens),), 0.3),
        torch.randn(len(tokens), model.trunk.config.dim),
    )
    torch.nn.init.normal_(model.flows["image"].predict.weight)
    with torch.no_grad():
        exact = model.flows["image"](hidden, z, time)
        model.dtype = torch.bfloat16
        settled = model.for_inference().flows["image"](hidden.bfloat16(), z, time)
    assert model.flows["image"].axes.dtype == torch.bfloat16
    assert (settled - exact).square().mean().sqrt() < 0.02 * exact.std()


def test_a_checkpoint_whose_components_are_cut_off_is_refused(tmp_path):
    model, _ = knowing(flat(WORLD.modalities["image"].token_width).float())
    weights = dict(model.state_dict())
    weights["flows.image.axes"] = weights["flows.image.axes"][:3]
    folder = checkpoint.save(tmp_path / "step-00000001", model, weights, {})
    with pytest.raises(CheckpointError, match="does not fit its configuration"):
        checkpoint.load(folder)


def test_maps_that_start_well_may_go_slowly():
    """A share of the rate for the maps from continuous tokens and to them, and for nothing else."""
    moved = {}
    for share in (1.0, 0.1):
        model = WORLD.model()
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        config = optim.OptimConfig(lr=1e-3, weight_decay=0.0, flow_lr_scale=share)
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


def test_steps_give_up_equal_shares_of_the_variance():
    model, found = knowing(flat(WORLD.modalities["image"].token_width).float())
    made = model.flows["image"].times(10)
    assert made[0] == 0.0
    assert made[-1] == 1.0
    t = torch.tensor(made[1:-1])[:, None].double()
    variance = found.variance.double()
    hidden = (variance * (1 - t) ** 2 / (t**2 * variance + (1 - t) ** 2)).sum(dim=1) / variance.sum()
    torch.testing.assert_close(hidden, 1 - torch.arange(1, 10).double() / 10, rtol=0, atol=1e-3)
    assert model.flows["image"].times(1) == [0.0, 1.0]
    assert model.flows["audio"].times(4) == [0.0, 0.25, 0.5, 0.75, 1.0], "no components: equal steps"


def test_a_model_that_expects_the_data_s_mean_samples_a_gaussian_of_these_components():
    """The whole sampler, with the head's correction as its only guide: draws have the data's variances along the axes."""
    width = WORLD.modalities["image"].token_width
    model, found = knowing(flat(width, rank=3).float() * 0.02, most=3)
    head = model.flows["image"]
    torch.nn.init.zeros_(head.predict.weight)
    draws = torch.from_numpy(rng(5).normal(size=(2000, width))).float()
    with torch.no_grad():
        for t, following in itertools.pairwise(head.times(60)):
            predicted = head(torch.zeros(len(draws), model.trunk.config.dim), draws, torch.full((len(draws),), t))
            at, to = (torch.full((len(draws),), time) for time in (t, following))
            draws = euler_step(draws, predicted, at, to)
    along = (draws - found.mean) @ found.axes.T
    torch.testing.assert_close(along.var(dim=0), found.variance, rtol=0.15, atol=0)
    torch.testing.assert_close(along @ found.axes + found.mean, draws, rtol=0, atol=1e-3)


def test_the_engine_draws_with_it_alone_and_in_a_batch():
    model, _ = knowing(flat(WORLD.modalities["image"].token_width).float())
    torch.nn.init.normal_(model.flows["image"].predict.weight, std=0.1)
    asked = [
        Request((Message("user", (Part("text", word),)),), to="image", seed=seed, steps=3)
        for seed, word in enumerate("ab")
    ]
    engine = Engine(model)
    together = engine.generate(asked)
    for request, answer in zip(asked, together, strict=True):
        alone = engine.generate([request])[0]
        assert np.array_equal(np.asarray(answer.message.parts[0].value), np.asarray(alone.message.parts[0].value))
    first, second = (np.asarray(answer.message.parts[0].value, np.int16) for answer in together)
    assert first.shape != second.shape or np.abs(first - second).max() > 0


def test_components_are_counted_not_switched_on():
    with pytest.raises(ConfigError, match=r"pca: .*got True"):
        load("digits", "pca=true")
