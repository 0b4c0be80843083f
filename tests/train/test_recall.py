"""Earlier rows are answered as they were when the training began: words, drawings and sound."""

import copy
import json
import shutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from interrupted import straight_and_resumed
from safetensors.torch import load_file
from tiny_rows import config, write_rows
from worlds import World, text

from plait.contract import Message, Sample
from plait.data.pack import collate
from plait.data.sequence import RECALLED, Encoder, FlowConfig
from plait.train import checkpoint
from plait.train.objectives.pretrain import Pretrain
from plait.train.objectives.recall import Recall
from plait.train.run import train


@pytest.fixture
def world():
    return World()


def samples_of(world):
    """New rows and earlier ones, of every kind."""
    rows = world.samples()
    return [Sample(row.messages, row.task, {RECALLED: True} if number % 2 else {}) for number, row in enumerate(rows)]


def batch_of(world, samples, objective="recall"):
    encoder = Encoder(world.vocabulary, FlowConfig(copies=2, null_prob=0.0), objective=objective)
    rows = [encoder.row(sample, np.random.default_rng(n)) for n, sample in enumerate(samples)]
    return collate([[row] for row in rows], max(map(len, rows)), world.vocabulary)


def moved(model, by=0.05):
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += by * torch.randn(parameter.shape, generator=generator)


def numbers(sums):
    return {name: float(torch.as_tensor(value).detach()) for name, value in sums.items()}


def test_only_this_objective_recalls(world):
    samples = samples_of(world)
    assert batch_of(world, samples).recalled == tuple(range(1, len(samples), 2))
    assert batch_of(world, samples, "pretrain").recalled == ()


def test_at_first_earlier_rows_have_no_loss_and_no_gradient(world):
    model = world.model()
    earlier = [sample for sample in samples_of(world) if sample.meta]
    sums = Recall(model).sums(model, batch_of(world, earlier))
    assert set(sums) == set(world.vocabulary.groups)
    assert numbers(sums) == pytest.approx(dict.fromkeys(sums, 0.0), abs=1e-4)
    sum(sums.values()).backward()
    assert all(p.grad is None or float(p.grad.abs().max()) < 1e-3 for p in model.parameters())


def test_new_rows_are_learned_as_ever(world):
    model = world.model()
    samples = samples_of(world)
    both = numbers(Recall(model).sums(model, batch_of(world, samples)))
    new = [sample for sample in samples if not sample.meta]
    rng = [n for n, sample in enumerate(samples) if not sample.meta]
    encoder = Encoder(world.vocabulary, FlowConfig(copies=2, null_prob=0.0))
    rows = [encoder.row(sample, np.random.default_rng(n)) for n, sample in zip(rng, new, strict=True)]
    alone = numbers(Pretrain().sums(model, collate([[row] for row in rows], max(map(len, rows)), world.vocabulary)))
    assert both == pytest.approx(alone, rel=1e-4, abs=1e-4)


@torch.no_grad()
def test_the_loss_is_how_far_predictions_have_moved(world):
    """By one row at a time, and a copy of the model that does not move."""
    model = world.model()
    objective, before = Recall(model), copy.deepcopy(model)
    moved(model)
    earlier = [sample for sample in samples_of(world) if sample.meta]
    sums = numbers(objective.sums(model, batch_of(world, earlier)))
    slow = dict.fromkeys(world.vocabulary.groups, 0.0)
    for number in range(len(earlier)):
        encoder = Encoder(world.vocabulary, FlowConfig(copies=2, null_prob=0.0))
        row = encoder.row(earlier[number], np.random.default_rng(number))
        batch = collate([[row]], len(row), world.vocabulary)
        now, then = model.hidden(batch), before.hidden(batch)
        for position in (batch.target[0] >= 0).nonzero().flatten().tolist():
            logits = [own.logits(hidden[position : position + 1])[0] for own, hidden in ((model, now), (before, then))]
            p, q = logits[1].softmax(-1), logits[0].log_softmax(-1)
            group = world.vocabulary.groups[world.vocabulary.group_of_id[int(batch.target[0, position])]]
            slow[group] += float((p * (logits[1].log_softmax(-1) - q)).sum())
        for name, tokens in batch.noised.items():
            if len(tokens.index):
                clean = [
                    own.flows[name](h[tokens.index], tokens.inputs, tokens.time)
                    for own, h in ((model, now), (before, then))
                ]
                weight = (1 - tokens.time).clamp_min(0.05).square()
                slow[name] += float((F.mse_loss(*clean, reduction="none").mean(-1) / weight).sum())
    assert sums == pytest.approx(slow, rel=1e-3, abs=1e-3)
    assert min(sums[name] for name in ("text", "image", "audio")) > 0.1


def test_what_is_recalled_moves_less(world):
    """A few steps on a new row alone, and on the same beside the rows that are asked for afterwards."""
    earlier = [sample for sample in samples_of(world) if sample.meta and sample.messages[-1].parts[0].type == "text"]
    new = [Sample((Message("user", (text("what is this?"),)), Message("assistant", (text("zwei"),))), "new")]
    drift = {}
    for beside in (False, True):
        model = world.model()
        objective, first = Recall(model), copy.deepcopy(model)
        batch = batch_of(world, [*new, *(earlier if beside else [])])
        optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
        for _ in range(30):
            sums = objective.sums(model, batch)
            counts = objective.counts(batch)
            loss = sum(torch.as_tensor(sums[group]) / max(1.0, counts[group]) for group in sums)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        held = batch_of(world, earlier)
        with torch.no_grad():
            logs = [own.logits(own.hidden(held)).log_softmax(-1) for own in (first, model)]
        drift[beside] = float((logs[0] - logs[1]).abs().mean())
    assert drift[True] < 0.7 * drift[False], drift


def test_an_interrupted_training_remembers_the_first_predictions(tmp_path):
    """The reference is part of the run: the same weights as without a kill, to the bit."""
    kinds = ("text", "image", "audio")
    data = write_rows(tmp_path / "data", kinds)
    lines = [json.loads(line) for line in (data / "train.jsonl").read_text().splitlines()]
    replay = tmp_path / "replay"
    shutil.copytree(data, replay)
    recalled = [line | {"meta": {RECALLED: True}} for line in lines]
    (replay / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in recalled))
    first = train(config(data, kinds, steps=2), tmp_path / "first", threads=1)
    settings = config(data, kinds, init=str(first), objective="recall", replay=str(replay))
    straight_and_resumed(settings, tmp_path)
    one, other = (load_file(checkpoint.locate(tmp_path / run) / "model.safetensors") for run in ("straight", "resumed"))
    start = load_file(first / "model.safetensors")
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not all(torch.equal(one[name], start[name]) for name in one)
