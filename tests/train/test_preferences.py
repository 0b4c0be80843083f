"""Preferences and rewards: what is taught by pairs of answers, and by own answers of which some are better."""

import copy
import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from interrupted import straight_and_resumed
from safetensors.torch import load_file
from tiny_rows import config, write_rows
from worlds import World, text

from plait.contract import Message, Sample
from plait.data.loader import Loader, PackConfig
from plait.data.pack import collate
from plait.data.sequence import ADVANTAGE, Encoder, FlowConfig
from plait.errors import ConfigError, RowError
from plait.train import checkpoint
from plait.train.objectives.dpo import ACCURACY, CHOSEN, PREFERENCE, Dpo
from plait.train.objectives.grpo import CLIPPED, KL, POLICY, Grpo
from plait.train.objectives.pretrain import Pretrain
from plait.train.objectives.reference import PreferenceConfig
from plait.train.run import train

SETTINGS = PreferenceConfig(beta=0.5, flow_beta=3.0)


@pytest.fixture
def world():
    return World()


@pytest.fixture
def encoder(world):
    return Encoder(world.vocabulary, FlowConfig(copies=2), objective="dpo")


def numbers(sums):
    """Groups' sums as numbers."""
    return {name: float(value.detach()) for name, value in sums.items()}


def pair(world, question, chosen, rejected):
    asked = (Message("user", (text("before"),)), Message("assistant", (text("yes"),)), Message("user", (question,)))
    return Sample((*asked, Message("assistant", (chosen,))), "pair", rejected=(Message("assistant", (rejected,)),))


def pairs(world):
    return [
        pair(world, text("draw seven"), text("zwei"), text("yes")),
        pair(world, text("draw"), world.part("image", 1), world.part("image", 2)),
        pair(world, world.part("image", 3), world.part("audio", 4), text("yes")),
    ]


def batch_of(world, encoder, samples, length=192):
    rows = [encoder.row(sample, np.random.default_rng(n)) for n, sample in enumerate(samples)]
    return collate(
        [[own for row in rows for own in ((row, row.rejected) if row.rejected else (row,))]], length, world.vocabulary
    )


def moved(model, by=0.05):
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += by * torch.randn(parameter.shape, generator=generator)


def test_a_preference_is_two_rows_under_the_same_noise_that_teach_the_answers_alone(world, encoder):
    same = world.part("image", 1)
    sample = pair(world, text("draw"), same, world.part("image", 2))
    row = encoder.row(sample, np.random.default_rng(0))
    assert row.rejected is not None
    assert row.rejected.rejected is None
    (chosen,), (rejected,) = row.noised.values(), row.rejected.noised.values()
    assert chosen.time.tolist() == rejected.time.tolist()
    noises = [(own.inputs - own.time[:, None] * own.clean) / (1 - own.time[:, None]) for own in (chosen, rejected)]
    assert np.allclose(*noises, atol=1e-4)
    alone = encoder.row(Sample(sample.messages), np.random.default_rng(0))
    assert (row.target >= 0).sum() < (alone.target >= 0).sum(), "an earlier turn is no answer to prefer"
    without = Encoder(world.vocabulary, FlowConfig(copies=2)).row(sample, np.random.default_rng(0))
    assert without.rejected is None, "another objective learns what was chosen"


def test_the_loader_keeps_a_pair_together(world, encoder):
    loader = Loader(pairs(world), {}, encoder, PackConfig(length=128, sequences=3, micro=1), seed=0)
    for _ in range(6):
        for batch in loader.next_step():
            assert batch.rejected, "every sequence has one"
            numbers = set(batch.row.unique().tolist())
            assert all({chosen, rejected} <= numbers for chosen, rejected in batch.rejected.items())
            assert not set(batch.rejected) & set(batch.rejected.values())


def test_at_first_nothing_is_preferred(world, encoder):
    model = world.model()
    batch = batch_of(world, encoder, pairs(world))
    sums = numbers(Dpo(model, SETTINGS).sums(model, batch))
    assert sums[PREFERENCE] == pytest.approx(3 * math.log(2), abs=1e-5)
    assert sums[CHOSEN] == pytest.approx(0.0, abs=1e-5)


def slow_margins(model, before, world, encoder, samples):
    """By one row at a time, and a copy of the model that does not move."""
    margins = []
    for number, sample in enumerate(samples):
        row = encoder.row(sample, np.random.default_rng(number))
        gains = []
        for own in (row, row.rejected):
            batch = collate([[own]], 192, world.vocabulary)
            gain = 0.0
            for of, sign in ((before, 1.0), (model, -1.0)):
                losses = of.token_losses(batch)
                gain = gain + sign * losses.pop("").loss.sum()
                tokens = sum(int((own.row >= 0).sum()) for own in losses.values())
                if tokens:
                    flow = sum(own.loss[own.row >= 0].sum() for own in losses.values()) / tokens
                    gain = gain + sign * SETTINGS.flow_beta * flow
            gains.append(gain)
        margins.append(gains[0] - gains[1])
    return torch.stack(margins)


def test_loss_and_gradient_are_those_of_a_frozen_copy_row_by_row(world, encoder):
    model = world.model()
    before = copy.deepcopy(model).requires_grad_(False)
    objective = Dpo(model, SETTINGS)
    moved(model)
    batch = batch_of(world, encoder, pairs(world))
    sums = objective.sums(model, batch)
    slow = -F.logsigmoid(SETTINGS.beta * slow_margins(model, before, world, encoder, pairs(world))).sum()
    assert float(sums[PREFERENCE].detach()) == pytest.approx(float(slow.detach()), rel=1e-4)
    names, parameters = zip(*model.named_parameters(), strict=True)
    fast_gradients = torch.autograd.grad(sums[PREFERENCE], parameters, allow_unused=True)
    slow_gradients = torch.autograd.grad(slow, parameters, allow_unused=True)
    for name, fast, own in zip(names, fast_gradients, slow_gradients, strict=True):
        if own is not None:
            assert torch.allclose(fast, own, atol=1e-4, rtol=1e-3), name
    for name, tensor in before.state_dict().items():
        assert torch.equal(tensor, objective.reference.tensors.get(name, tensor)), "the reference stays"


def test_rows_without_a_pair_are_learned_as_ever_beside_pairs(world, encoder):
    model = world.model()
    objective = Dpo(model, SETTINGS)
    plain = [sample for sample in world.samples() if sample.task in ("text->text", "text->image")]
    alone, mixed = batch_of(world, encoder, plain), batch_of(world, encoder, [*plain, *pairs(world)], 320)
    expected, sums = numbers(Pretrain().sums(model, alone)), numbers(objective.sums(model, mixed))
    counts = objective.counts(mixed)
    for group, value in expected.items():
        assert sums[group] == pytest.approx(value, abs=1e-3), group
        assert counts[group] == alone.counts[group], group
    assert counts[PREFERENCE] == 3


def learn(model, objective, batch, steps=40, lr=0.02):
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for _ in range(steps):
        sums = objective.sums(model, batch)
        optimizer.zero_grad()
        torch.stack(list(sums.values())).sum().backward()
        optimizer.step()
    return numbers(objective.sums(model, batch))


def test_every_kind_of_answer_can_be_preferred(world, encoder):
    for sample in pairs(world):
        model = world.model()
        ended = learn(model, Dpo(model, SETTINGS), batch_of(world, encoder, [sample]))
        assert ended[PREFERENCE] < 0.3, sample.messages[-1]
        assert ended[ACCURACY] == 1.0


def answers(world, advantages):
    """One question, answered in each modality; with advantages."""
    kinds = [text("yes"), world.part("image", 1), world.part("audio", 4)]
    return [
        Sample((Message("user", (text("draw"),)), Message("assistant", (part,))), "own", {ADVANTAGE: advantage})
        for part, advantage in zip(kinds, advantages, strict=True)
    ]


@pytest.fixture
def whole():
    return FlowConfig(copies=2, null_prob=0.0)


def test_the_ratio_of_an_answer_is_one_at_first_and_moves_as_its_advantage_says(world, whole):
    encoder = Encoder(world.vocabulary, whole, objective="grpo")
    batch = batch_of(world, encoder, answers(world, (1.0, -2.0, 0.5)))
    model = world.model()
    objective = Grpo(model, SETTINGS)
    begun = numbers(objective.sums(model, batch))
    assert begun[POLICY] == pytest.approx(0.5, abs=1e-5)
    assert begun[CLIPPED] == 0.0
    assert begun[KL] == pytest.approx(0.0, abs=1e-5)
    ended = learn(model, objective, batch, steps=10, lr=0.002)
    assert ended[POLICY] < begun[POLICY]
    losses = model.token_losses(batch)
    with torch.no_grad():
        likelier = objective.reference.likelier(model, batch, losses, [0, 1, 2])
    assert float(likelier.ids[0]) > 0, "the good one"
    assert float(likelier.flow[1]) < 0, "the bad one"
    assert float(likelier.flow[2]) > 0


def test_what_is_clipped_moves_nothing_any_more(world, whole):
    encoder = Encoder(world.vocabulary, whole, objective="grpo")
    batch = batch_of(world, encoder, answers(world, (1.0, 0.0, 0.0))[:1])
    model = world.model()
    objective = Grpo(model, SETTINGS)
    ended = learn(model, objective, batch)
    assert ended[CLIPPED] == 1.0
    assert ended[POLICY] == pytest.approx(-1.2, abs=1e-5)
    gradient = torch.autograd.grad(
        objective.sums(model, batch)[POLICY], model.tables["text"].weight, allow_unused=True
    )[0]
    assert gradient is None or not gradient.any()


def preferences(folder):
    """The rows of small pictures and words, each with another row's answer rejected."""
    data = write_rows(folder, ("text", "image"))
    rows = [json.loads(line) for line in (data / "train.jsonl").read_text().splitlines()]
    lines = []
    for number, row in enumerate(rows):
        prompt, answer = row["messages"][:-1], row["messages"][-1]
        other = rows[(number + 2) % len(rows)]["messages"][-1]
        lines.append(json.dumps({"task": row["task"], "prompt": prompt, "chosen": [answer], "rejected": [other]}))
    (data / "train.jsonl").write_text("\n".join(lines[:-2] + [json.dumps(row) for row in rows[-2:]]))
    return data


@pytest.mark.parametrize("objective", ["dpo", "grpo"])
def test_a_run_that_was_stopped_goes_on_with_the_reference_it_began_with(tmp_path, objective):
    data = preferences(tmp_path / "data")
    if objective == "grpo":
        rows = [json.loads(line) for line in (data / "train.jsonl").read_text().splitlines()]
        for number, row in enumerate(rows):
            prompt, chosen = row.pop("prompt", None), row.pop("chosen", None)
            row.pop("rejected", None)
            row["messages"] = row.get("messages") or prompt + chosen
            row["meta"] = {ADVANTAGE: (1.0, -1.0)[number % 2]}
        (data / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    settings = config(data, ("text", "image"), objective=objective, pack={"length": 160, "sequences": 2})
    straight_and_resumed(settings, tmp_path)
    runs = (tmp_path / name for name in ("straight", "resumed"))
    states = [load_file(checkpoint.steps_of(run)[-1] / checkpoint.STATE_TENSORS) for run in runs]
    assert any(name.startswith("reference.") for name in states[0])
    assert states[0].keys() == states[1].keys()
    for name, tensor in states[0].items():
        assert torch.equal(tensor, states[1][name]), name
    begun = next(name for name in states[0] if name.startswith("reference.trunk."))
    assert not torch.equal(states[0][begun], states[0][begun.replace("reference.", "weights.")])


def test_an_objective_without_its_rows_says_what_they_have(tmp_path):
    data = write_rows(tmp_path / "data", ("text",))
    for objective, has in (("dpo", "chosen"), ("grpo", "advantage")):
        with pytest.raises(ConfigError, match=has):
            train(config(data, ("text",), objective=objective), tmp_path / objective)


def test_loss_groups_of_an_objective_can_be_weighted(tmp_path):
    data = preferences(tmp_path / "data")
    settings = config(
        data,
        ("text", "image"),
        objective="dpo",
        pack={"length": 160, "sequences": 2},
        loss_weights={PREFERENCE: 2.0},
        steps=1,
    )
    train(settings, tmp_path / "run")
    with pytest.raises(ConfigError, match="loss groups"):
        train(config(data, ("text", "image"), loss_weights={PREFERENCE: 2.0}), tmp_path / "other")


@pytest.mark.parametrize("objective", [Dpo, Grpo])
def test_a_batch_without_any_preference_or_advantage_is_learned_as_ever(world, objective):
    model, encoder = world.model(), Encoder(world.vocabulary, FlowConfig(null_prob=0.0), objective="grpo")
    batch = batch_of(world, encoder, [sample for sample in world.samples() if sample.task == "text->text"])
    own = objective(model, SETTINGS)
    assert numbers(own.sums(model, batch))["text"] == pytest.approx(
        numbers(Pretrain().sums(model, batch))["text"], rel=1e-5
    )
    assert own.counts(batch)["text"] == batch.counts["text"]


def test_an_advantage_is_of_the_last_answer_alone_and_nothing_is_one_too(world):
    encoder = Encoder(world.vocabulary, FlowConfig(null_prob=0.9), objective="grpo")
    last = Message("assistant", (world.part("image", 1),))
    turns = (
        Message("user", (text("say"),)),
        Message("assistant", (text("yes"),)),
        Message("user", (text("draw"),)),
        last,
    )
    alone, later = (Sample(messages, "own", {ADVANTAGE: 0.0}) for messages in (turns[2:], turns))
    rows = [encoder.row(sample, np.random.default_rng(0)) for sample in (alone, later)]
    one, other = (int((row.target >= 0).sum()) for row in rows)
    assert one == other
    assert all(row.advantage == 0.0 for row in rows), "and no row lost its question"
    batch = collate([rows], 128, world.vocabulary)
    counts = Grpo(world.model(), SETTINGS).counts(batch)
    assert counts[POLICY] == 2
    assert counts["image"] == 0


@pytest.mark.parametrize("advantage", ["speed", None, True, float("nan")])
def test_an_advantage_that_is_none_is_refused_and_is_nothing_to_other_objectives(world, advantage):
    sample = Sample(
        (Message("user", (text("draw"),)), Message("assistant", (text("yes"),))), "own", {ADVANTAGE: advantage}
    )
    with pytest.raises(RowError, match="expected a finite number"):
        Encoder(world.vocabulary, objective="grpo").row(sample, np.random.default_rng(0))
    assert Encoder(world.vocabulary, FlowConfig(null_prob=0.0)).row(sample, np.random.default_rng(0)).advantage is None


def test_what_is_clipped_from_below_moves_nothing_either(world, whole):
    encoder = Encoder(world.vocabulary, whole, objective="grpo")
    batch = batch_of(world, encoder, answers(world, (-1.0, 0.0, 0.0))[:1])
    model = world.model()
    ended = learn(model, Grpo(model, SETTINGS), batch)
    assert ended[CLIPPED] == 1.0
    assert ended[POLICY] == pytest.approx(0.8, abs=1e-5)
