"""Each layer's reading is that of a trunk that ends there; the last is the model's own; taps leave nothing behind."""

import copy
import dataclasses
import json
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn
from worlds import TINY, World, templated, text

from plait.contract import Message, Part
from plait.data.pack import collate
from plait.errors import ConfigError
from plait.explain.explanation import Subject, explain
from plait.explain.layers import after_layers, tapped
from plait.explain.lens import COPIES, FlowReading, IdReading, lens, near, text_of
from plait.explain.lens_view import lens_view
from plait.explain.scorer import Scorer
from plait.infer.engine import Engine
from plait.infer.fused import FusedSteps
from plait.infer.request import Request
from plait.model.transformer import TrunkConfig, split_layer, vanilla
from plait.runtime import kernels

SPLIT = {"split": {"image_written": 16, "audio_written": 24}}
TRUNKS = {
    "plain": TINY,
    "adapters": TINY.model_copy(update={"adapters": {"image_given": 4, "audio_written": 4}}),
    "split": TINY.model_copy(update=SPLIT),
    "split now and then": TINY.model_copy(
        update=SPLIT | {"num_layers": 4, "split_every": {"audio_written": 2, "image_written": 4}}
    ),
    "post-norm": vanilla(dim=32, num_layers=3, num_heads=2),
}


def model_of(world, config):
    """A model all of whose layers, those of experts and adapters included, change what passes."""
    model = world.model(TrunkConfig(**config.model_dump()))
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".up." in name or "experts" in name:
                parameter.normal_(std=0.2, generator=generator)
    return model.eval()


def subject_of(world, config=TINY):
    model = model_of(world, config)
    inside = copy.deepcopy(model)
    return Subject(Engine(model), {}, lambda: inside)


@pytest.fixture(params=[False, True], ids=["marks", "template"])
def world(request):
    return templated(World()) if request.param else World()


def asked(*parts):
    return (Message("user", tuple(parts)),)


def answered(*parts):
    return Message("assistant", tuple(parts))


def ending_after(model, depth):
    """The model with so many layers and no more."""
    short = copy.deepcopy(model)
    trunk = short.trunk
    trunk.layers = trunk.layers[:depth]
    for expert in trunk.experts.values():
        expert.layers = expert.layers[: depth // expert.every]
    return short


@pytest.mark.parametrize("config", TRUNKS.values(), ids=TRUNKS)
def test_every_layer_reads_as_a_trunk_that_ends_there(config):
    world = World()
    model = model_of(world, config)
    rows = [world.encoder.row(sample, np.random.default_rng(n)) for n, sample in enumerate(world.samples())]
    batch = collate([rows[::2], rows[1::2]], 400, world.vocabulary)
    states = after_layers(model, batch)
    assert len(states) == config.num_layers + 1
    real = batch.row.flatten() >= 0
    with torch.no_grad():
        assert torch.equal(states[-1][real], model.hidden(batch)[real])
        for depth, state in enumerate(states):
            reference = ending_after(model, depth).hidden(batch)
            torch.testing.assert_close(state[real], reference[real], atol=1e-6, rtol=1e-6)
    changes = [float((one - other)[real].abs().max()) for one, other in pairwise(states)]
    assert min(changes) > 1e-3, "else no layer could be told from the one before"


def test_the_last_layer_says_what_the_model_says(world):
    subject = subject_of(world)
    question, answer = asked(world.part("image", 2), text("what is this?")), answered(text("yes zwei"))
    result = lens(subject, question, answer)
    scorer = Scorer(subject.engine, question, answer)
    model, batch = subject.inside(), scorer.batch([scorer.row])
    with torch.no_grad():
        asking = (batch.target.flatten() >= 0).nonzero().flatten()
        logits = model.logits(model.hidden(batch)[asking])
    wanted = batch.target.flatten()[asking]
    assert [token.reading.id for token in result.tokens] == wanted.tolist()
    assert "".join(token.label for token in result.tokens) == "yes zwei"
    for number, token in enumerate(result.tokens):
        chances = torch.softmax(logits[number], dim=-1)
        assert token.reading.probability[-1] == float(chances[wanted[number]])
        assert token.reading.best[-1][0].id == int(logits[number].argmax())
        assert token.reading.best[-1][0].probability == float(chances.max())
        assert token.reading.rank[-1] == chances.argsort(descending=True).tolist().index(int(wanted[number]))


def test_earlier_layers_say_what_shorter_models_say(world):
    subject = subject_of(world)
    question, answer = asked(text("what is this?")), answered(text("zwei"))
    result = lens(subject, question, answer)
    scorer = Scorer(subject.engine, question, answer)
    batch = scorer.batch([scorer.row])
    asking = (batch.target.flatten() >= 0).nonzero().flatten()
    for depth in range(result.layers):
        with torch.no_grad():
            short = ending_after(subject.inside(), depth)
            chances = torch.softmax(short.logits(short.hidden(batch)[asking]), dim=-1)
        for number, token in enumerate(result.tokens):
            assert token.reading.probability[depth] == pytest.approx(float(chances[number, token.reading.id]), rel=1e-4)
            assert [one.probability for one in token.reading.best[depth]] == pytest.approx(
                chances[number].topk(5).values.tolist(), rel=1e-4
            )


@pytest.mark.parametrize("config", [TRUNKS["plain"], TRUNKS["split now and then"]], ids=["plain", "split"])
@pytest.mark.parametrize("kind", ["image", "audio"])
def test_flow_tokens_are_predicted_by_their_head(world, config, kind):
    subject = subject_of(world, config)
    question, answer = asked(text("draw seven")), answered(world.part(kind, 4))
    result = lens(subject, question, answer)
    scorer = Scorer(subject.engine, question, answer)
    batch = scorer.batch([scorer.row])
    tokens = batch.noised[kind]
    for depth in range(result.layers + 1):
        short = ending_after(subject.inside(), depth)
        with torch.no_grad():
            predicted = short.flows[kind](short.hidden(batch)[tokens.index], tokens.inputs, tokens.time)
        error = (predicted - tokens.clean).square().mean(dim=-1)
        for number, token in enumerate(result.tokens):
            of_token = torch.from_numpy(scorer.token_numbers == number)
            assert token.reading.to_data[depth] == pytest.approx(float(error[of_token].mean().sqrt()), rel=1e-4)
        of_first = torch.from_numpy(scorer.token_numbers == 0).nonzero().flatten()
        in_order = of_first[tokens.time[of_first].argsort()]
        np.testing.assert_allclose(result.predicted[depth, :, 0], predicted[in_order].numpy(), atol=1e-5)
    assert all(token.reading.to_last[-1] == 0 for token in result.tokens)
    assert all(token.reading.to_last[0] > 0 for token in result.tokens)
    times = [one.time for one in result.times]
    assert times == sorted(times)
    assert 0 < times[0] < times[-1] < 1
    of_tokens = np.mean([np.square(token.reading.to_data) for token in result.tokens], axis=0)
    of_times = np.mean([np.square(one.reading.to_data) for one in result.times], axis=0)
    np.testing.assert_allclose(of_tokens, of_times, rtol=1e-5)


def test_predictions_become_parts_of_their_modality():
    world = World()
    picture = world.part("image", 4)
    result = lens(subject_of(world), asked(text("draw seven")), answered(picture))
    modality = world.modalities["image"]
    segment = result.segment_at(result.layers, 0)
    assert [block.header for block in segment.blocks] == [block.header for block in modality.read(picture).blocks]
    assert modality.write(segment).value.size == modality.write(modality.read(picture)).value.size
    assert not np.array_equal(segment.blocks[0].tokens, result.segment_at(0, 0).blocks[0].tokens)


def test_settled_is_where_a_token_stays_first():
    def reading(*rank):
        return IdReading(3, (0.1,) * len(rank), rank, ((),) * len(rank))

    assert reading(4, 0, 2, 0, 0).settled == 3
    assert reading(0, 0, 0).settled == 0
    assert reading(0, 0, 1).settled is None
    assert near(FlowReading((0.0,) * 4, (9.0, 1.05, 1.2, 1.0))) == 3
    assert near(FlowReading((0.0,) * 2, (1.0, 1.0))) == 0


def hooks(module):
    """Everything on modules that is not there by construction."""
    return [
        name
        for name, inner in module.named_modules()
        if inner._forward_hooks or inner._forward_pre_hooks or inner._backward_hooks or "forward" in vars(inner)
    ]


def test_a_model_that_answers_never_meets_a_tap_and_a_copy_loses_them():
    world = World()
    subject = subject_of(world, TRUNKS["split"])
    model, inside = subject.engine.model, subject.inside()
    with tapped(inside.trunk):
        assert len(hooks(inside)) == TINY.num_layers + len(inside.trunk.experts)
        assert inside.trunk.split_layer is not split_layer
        assert not hooks(model)
        assert model.trunk.split_layer is split_layer
    lens(subject, asked(text("draw seven")), answered(world.part("image", 4)))
    explain(subject, asked(text("what is this?")), answered(text("yes")), method="relevance")
    for network in (model, inside):
        assert not hooks(network)
        assert network.trunk.split_layer is split_layer


@pytest.mark.skipif(kernels.library() is None, reason=kernels.unavailable())
def test_fused_steps_stay_as_they_are_beside_a_lens(monkeypatch):
    """The kernel takes the same steps, from weights that a lens never touches, before, after and while a copy is tapped."""
    world = World()
    config = TINY.model_copy(update={"dim": 64, "hidden": 96})
    copied = model_of(world, config)
    model = world.model(config, dtype=torch.bfloat16)
    model.load_state_dict(copied.state_dict())
    engine = Engine(model.for_inference())
    steps = []
    run = FusedSteps.run
    monkeypatch.setattr(FusedSteps, "run", lambda *arguments: steps.append(1) or run(*arguments))
    request = Request(asked(text("what is this?")), to="text", temperature=0.0, guidance=1.0, max_tokens=6)

    def answer():
        steps.clear()
        [answered_so] = engine.generate([request])
        return answered_so.message, len(steps)

    before = answer()
    assert before[1] > 3, "else nothing is fused"
    with tapped(copied.trunk):
        assert answer() == before
    lens(Subject(engine, {}, lambda: copied), asked(text("what is this?")), answered(text("yes")))
    assert answer() == before


def test_taps_are_gone_after_an_error():
    world = World()
    subject = subject_of(world)
    inside = subject.inside()

    class Broken(nn.Module):
        def forward(self, x, routing=None):
            raise ArithmeticError

    inside.trunk.layers[1].feed_forward = Broken()
    with pytest.raises(ArithmeticError):
        lens(subject, asked(text("what is this?")), answered(text("yes")))
    assert not hooks(inside)
    assert inside.trunk.split_layer is split_layer


def test_a_lens_has_a_table_json_and_a_page():
    world = World()
    subject = subject_of(world)
    of_words = lens(subject, asked(text("what is this?")), answered(text("yes zwei")))
    data = json.loads(of_words.to_json())
    assert data["head"] == "categorical"
    assert data["layers"] == TINY.num_layers
    assert [len(token["reading"]["probability"]) for token in data["tokens"]] == [3] * len(of_words.tokens)
    assert len(of_words.table().splitlines()) == 2 + len(of_words.tokens)
    page = lens_view(of_words, world.modalities["text"]).page()
    assert page.count("<tr>") == 1 + TINY.num_layers + 1
    assert page.count("<td") == 3 * len(of_words.tokens)
    of_picture = lens(subject, asked(text("draw seven")), answered(world.part("image", 4)))
    data = json.loads(of_picture.to_json())
    assert data["head"] == "flow"
    assert len(data["times"]) == COPIES
    assert "predicted" not in data
    page = lens_view(of_picture, world.modalities["image"]).page()
    assert page.count("<img") == 3 * 3, "layers by times"


def test_what_a_layer_would_say_is_written_for_html():
    world = World()
    found = lens(subject_of(world), asked(text("what?")), answered(text("<b>&")))
    page = lens_view(found, world.modalities["text"]).page()
    assert "<b>" not in page
    assert "&lt;" in page


def test_ids_have_words():
    vocabulary = World().vocabulary
    assert text_of(vocabulary.ids["<end>"], vocabulary) == "<end>"
    assert (
        text_of(
            vocabulary.offsets["text"] + int(vocabulary.modalities["text"].read(text("z")).blocks[0].tokens[0]),
            vocabulary,
        )
        == "z"
    )


@pytest.mark.parametrize(
    ("answer", "part", "what"),
    [(answered(), 0, "empty answer"), (answered(text("yes")), 1, "part 1 of an answer of 1")],
)
def test_what_is_not_there_is_refused(answer, part, what):
    with pytest.raises(ConfigError, match=what):
        lens(subject_of(World()), asked(text("what?")), answer, part=part)


def test_more_than_can_be_held_is_refused():
    bounded = dataclasses.replace(subject_of(World()), most_tokens=20)
    with pytest.raises(ConfigError, match="hidden states of all layers; expected at most 20"):
        lens(bounded, asked(text("what is this?")), answered(text("yes")))


def test_lenses_on_the_same_answer_are_equal():
    world = World()
    subject = subject_of(world)
    question, answer = asked(text("draw seven")), answered(world.part("image", 4))
    assert lens(subject, question, answer) == lens(subject, question, answer)
    assert lens(subject, question, answer) != lens(subject, question, answer, seed=1)


def test_a_lens_on_words_has_no_predicted_tokens():
    result = lens(subject_of(World()), asked(Part("text", "what?")), answered(text("yes")))
    with pytest.raises(ConfigError, match="categorical head"):
        result.segment_at(0, 0)
