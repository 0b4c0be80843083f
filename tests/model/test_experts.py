"""Split experts: layers of their own, the attention of all. Copies of the trunk's layers change nothing; words alone never meet
them; what is computed together is what one token after the other gives."""

import numpy as np
import pytest
import static_loop
import torch
from worlds import TINY, World, templated, text

from plait.contract import Message, Sample
from plait.data.pack import collate
from plait.errors import ConfigError
from plait.infer.engine import Engine
from plait.infer.request import Request
from plait.model.attention import attend_by_formula
from plait.model.experts import Split, plan, settled_tokens
from plait.model.mask import allowed
from plait.model.multimodal import MultimodalTransformer
from plait.model.rope import rotary_table, rotate
from plait.model.transformer import TrunkConfig
from plait.train import checkpoint
from plait.train.objectives.pretrain import Pretrain
from plait.train.trainer import select_trainable

WORLD = World()
WIDTHS = {"image_written": 16, "audio_written": 24}


def model_of(split, adapters=None, vocabulary=WORLD.vocabulary, **settings):
    config = TINY.model_copy(update={"split": split, "adapters": adapters or {}, **settings})
    model = MultimodalTransformer(TrunkConfig(**config.model_dump()), vocabulary, seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():  # branches that begin at zero would hide mistakes
        for name, parameter in model.named_parameters():
            if name.endswith(("out.weight", "down.weight")) or ".up." in name:
                own = torch.Generator().manual_seed(len(name)) if "experts" in name or ".up." in name else generator
                parameter.normal_(std=0.2, generator=own)
    return model


def batch_of(samples):
    rows = [WORLD.encoder.row(sample, np.random.default_rng(n)) for n, sample in enumerate(samples)]
    return collate([rows[::2], rows[1::2]], 400, WORLD.vocabulary)


WORDS_ALONE = Sample((Message("user", (text("draw seven"),)), Message("assistant", (text("yes"),))))


def test_copies_of_the_trunk_s_layers_change_nothing():
    whole, split = model_of({}), model_of({"image_written": 32, "audio_written": 32}, hidden=48)
    split.load_state_dict(whole.state_dict(), strict=False)
    with torch.no_grad():
        for expert in split.trunk.experts.values():
            expert.layers.load_state_dict(whole.trunk.layers.state_dict())
            expert.norm.load_state_dict(whole.trunk.norm.state_dict())
            for linear in (expert.enter, expert.leave):
                linear.weight.copy_(torch.eye(32))
    batch = batch_of(WORLD.samples())
    assert isinstance(split.routing(batch), Split)
    real = batch.row.flatten() >= 0
    torch.testing.assert_close(split.hidden(batch)[real], whole.hidden(batch)[real], atol=2e-5, rtol=2e-4)


def hidden_slowly(model, batch):
    """Layer by layer, token by token of an expert: those without a layer stay as they are, and nothing sees them."""
    trunk, seen = model.trunk, allowed(batch.row, batch.block, batch.copy, batch.shares)
    x, experts = model.embed(batch), batch.expert
    rotary = rotary_table(batch.position, trunk.config.head_width, trunk.config.rotary_base)
    is_of = {name: experts == WORLD.vocabulary.experts[name] for name in trunk.config.split}
    is_of_trunk = ~torch.stack(list(is_of.values())).any(dim=0)
    states = {name: trunk.experts[name].enter(x[own]) for name, own in is_of.items()} | {"": x[is_of_trunk]}
    is_of[""] = is_of_trunk
    for number, layer in enumerate(trunk.layers):
        layers = {name: layer if not name else trunk.experts[name].layer(number) for name in is_of}
        heads = [torch.zeros(*x.shape[:2], count, trunk.config.head_width) for count in (2, 2, 2)]
        for name, own in is_of.items():
            if layers[name] is not None:
                found = layers[name].attention.heads(layers[name].norm_attention(states[name]), None)
                for joined, part in zip(heads, found, strict=True):
                    joined[own] = part
        q, k, v = (heads[0], heads[1], heads[2])
        q, k = rotate(q, *rotary), rotate(k, *rotary)
        is_there = torch.stack([own for name, own in is_of.items() if layers[name] is not None]).any(dim=0)
        mixed = attend_by_formula(
            *(t.transpose(1, 2) for t in (q, k, v)), (seen & is_there[:, None]) | ~seen.any(-1)[..., None]
        )
        values = mixed.transpose(1, 2).flatten(2)
        for name, own in is_of.items():
            if (of_expert := layers[name]) is not None:
                state = states[name] + of_expert.attention.output(values[own], None)
                states[name] = state + of_expert.feed_forward(of_expert.norm_feed_forward(state))
    output = torch.empty_like(x)
    for name, own in is_of.items():
        output[own] = (
            trunk.experts[name].leave(trunk.experts[name].norm(states[name])) if name else trunk.norm(states[name])
        )
    return output.flatten(0, 1)


@pytest.mark.parametrize("every", [{}, {"audio_written": 2}, {"audio_written": 2, "image_written": 4}])
def test_where_an_expert_has_no_layer_its_tokens_pass_unchanged_and_unseen(every):
    model, batch = model_of(WIDTHS, num_layers=4, split_every=every), batch_of(WORLD.samples())
    assert [len(expert.layers) for expert in model.trunk.experts.values()] == [
        4 // every.get(name, 1) for name in WIDTHS
    ]
    real = batch.row.flatten() >= 0
    with torch.no_grad():
        expected = hidden_slowly(model, batch)
        torch.testing.assert_close(model.hidden(batch)[real], expected[real], atol=2e-5, rtol=2e-4)
    torch.testing.assert_close(model.hidden(batch)[real], expected[real], atol=2e-5, rtol=2e-4)


def test_a_token_has_the_layers_of_its_own_expert():
    """One expert's weights move its own tokens and those that see them, and none before."""
    model, batch = model_of(WIDTHS), batch_of(WORLD.samples())
    before = model.hidden(batch)
    with torch.no_grad():
        model.trunk.experts["audio_written"].enter.weight.neg_()
    changed = (model.hidden(batch) - before).abs().amax(dim=-1) > 1e-5
    expert = batch.expert.flatten()
    assert changed[expert == WORLD.vocabulary.experts["audio_written"]].all()
    rows = batch.row.flatten()
    hearing = set(rows[expert == WORLD.vocabulary.experts["audio_written"]].tolist())
    assert not changed[[row not in hearing for row in rows.tolist()]].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_words_alone_are_kept_bit_for_bit(dtype):
    bare, split = model_of({}), model_of(WIDTHS, {"image_given": 4})
    bare.dtype = split.dtype = dtype
    split.load_state_dict(bare.state_dict(), strict=False)
    batch = batch_of([WORDS_ALONE, WORDS_ALONE])
    assert split.routing(batch) is None
    assert torch.equal(split.hidden(batch), bare.hidden(batch))


def test_adapters_and_split_experts_work_together():
    """The shared tokens are routed by where they stand among the shared ones."""
    both, batch = model_of(WIDTHS, {"image_given": 4, "audio_given": 3}), batch_of(WORLD.samples())
    before = both.hidden(batch)
    with torch.no_grad():
        both.trunk.layers[0].attention.adapters["project"].up["audio_given"].add_(0.3)
    changed = (both.hidden(batch) - before).abs().amax(dim=-1) > 1e-5
    assert changed[batch.expert.flatten() == WORLD.vocabulary.experts["audio_given"]].all()
    rows = batch.row.flatten()
    given = set(rows[batch.expert.flatten() == WORLD.vocabulary.experts["audio_given"]].tolist())
    assert not changed[[row not in given for row in rows.tolist()]].any()


def test_the_plan_puts_every_token_where_it_stood():
    expert = torch.tensor([[0, 3, 4, 0], [2, 2, 0, 4]])
    numbers = {"audio_given": 1, "audio_written": 2, "image_given": 3, "image_written": 4}
    found = plan(expert, numbers, {}, {"image_written": 8, "audio_written": 8})
    flat = torch.arange(8)
    assert torch.equal(found.join([flat[found.shared], *(flat[index] for _, index in found.own)]), flat)
    assert [(name, index.tolist()) for name, index in found.own] == [
        ("audio_written", [4, 5]),
        ("image_written", [2, 7]),
    ]
    assert plan(torch.zeros(1, 3, dtype=torch.long), numbers, {}, {"image_written": 8}) is None


@pytest.mark.parametrize("every", [{}, {"audio_written": 2, "image_written": 2}, {"image_written": 2}])
@pytest.mark.parametrize("to", ["image", "audio"])
def test_the_engine_writes_what_the_whole_sequence_gives(to, every):
    model = model_of(WIDTHS, {"image_given": 4}, split_every=every).eval()
    parts = (WORLD.part("image", 2), text("draw seven"))
    request = Request((Message("user", parts),), to=to, max_tokens=12, steps=3, seed=5)
    answer = Engine(model).generate([request])[0]
    slow = static_loop.answer(model, WORLD.encoder, request)
    for mine, theirs in zip(answer.segments, slow.segments, strict=True):
        assert [block.header for block in mine.blocks] == [block.header for block in theirs.blocks]
        for a, b in zip(mine.blocks, theirs.blocks, strict=True):
            np.testing.assert_allclose(a.tokens, b.tokens, atol=2e-3)


def test_experts_join_a_checkpoint_and_come_back(tmp_path):
    bare = model_of({})
    folder = checkpoint.save(tmp_path / "bare", bare, bare.state_dict(), {})
    config = checkpoint.read_config(folder)
    vocabulary = WORLD.vocabulary
    more = TrunkConfig(**TINY.model_dump() | {"split": WIDTHS, "split_every": {"audio_written": 2}})
    joined = checkpoint.load_model(folder, config, vocabulary, seed=0, experts=more)
    batch = batch_of([WORDS_ALONE])
    assert torch.equal(joined.hidden(batch), bare.hidden(batch))
    again, _ = checkpoint.load(checkpoint.save(tmp_path / "joined", joined, joined.state_dict(), {}))
    assert {name: len(expert.layers) for name, expert in again.trunk.experts.items()} == {
        "image_written": 2,
        "audio_written": 1,
    }
    media = batch_of(WORLD.samples())
    assert torch.equal(again.hidden(media), joined.eval().hidden(media))


def test_impossible_experts_are_refused():
    with pytest.raises(ValueError, match="both name image_given"):
        TrunkConfig(split={"image_given": 16}, adapters={"image_given": 4})
    with pytest.raises(ValueError, match="norm=pre"):
        TrunkConfig(split={"image_given": 16}, norm="post")
    with pytest.raises(ValueError, match="fewer than 8"):
        TrunkConfig(split={"image_given": 2})
    with pytest.raises(ConfigError, match=r"trunk\.split names video_given"):
        model_of({"video_given": 16})
    for every in ({"image_written": 2}, {"image_given": 0}, {"image_given": 4}):
        with pytest.raises(ValueError, match="divisors of num_layers=6"):
            TrunkConfig(split={"image_given": 16}, split_every=every)


def test_parts_of_the_world_have_all_four_experts():
    present = set(batch_of(WORLD.samples()).expert.unique().tolist())
    assert present >= set(WORLD.vocabulary.experts.values()), "else the tests above look at less than they say"


def losses_and_gradients(model, batch):
    model.zero_grad()
    sums = Pretrain().sums(model, batch)
    sum(sums.values()).backward()
    return sums, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_settled_tokens_change_no_loss_and_no_gradient(monkeypatch):
    """What no gradient leaves passes forward only, and what all sequences begin with but once: same numbers."""
    world = templated(World())
    model = model_of(WIDTHS, {"image_given": 4, "audio_given": 3}, vocabulary=world.vocabulary)
    select_trainable(model, ("embedders.*", "flows.*", "trunk.experts.*", "trunk.*.adapters.*"))
    rows = [world.encoder.row(sample, np.random.default_rng(n)) for n, sample in enumerate(world.samples())]
    batch = collate([rows[::2], rows[1::2]], 400, world.vocabulary, world.encoder.preamble)
    mask = allowed(batch.row, batch.block, batch.copy, batch.shares)
    split, computed_once = model.routing(batch, mask), len(world.encoder.preamble)
    assert len(split.settled) > 2 * computed_once, "else little is looked at"
    assert sum(map(len, split.indices)) == batch.used - computed_once
    fast, fast_gradients = losses_and_gradients(model, batch)
    monkeypatch.setattr(model, "_settled", lambda *_: None)
    assert model.routing(batch, mask).settled is None
    slow, slow_gradients = losses_and_gradients(model, batch)
    for name, value in slow.items():
        torch.testing.assert_close(fast[name], value, atol=1e-5, rtol=1e-5)
    assert fast_gradients.keys() == slow_gradients.keys()
    for name, gradient in slow_gradients.items():
        torch.testing.assert_close(fast_gradients[name], gradient, atol=1e-5, rtol=1e-4, msg=name)


def test_what_sees_what_moves_moves():
    moves = torch.tensor([[False, True, False, False, False]])
    mask = torch.zeros(1, 5, 5, dtype=torch.bool)
    for query, key in ((2, 1), (3, 2), (4, 0)):
        mask[0, query, key] = True
    begins = torch.zeros(1, 5, dtype=torch.bool)
    assert settled_tokens(moves, mask, begins).tolist() == [[0, -1, -1, -1, 4]]


def test_what_all_sequences_begin_with_is_computed_once():
    moves, mask = torch.zeros(3, 4, dtype=torch.bool), torch.eye(4, dtype=torch.bool).expand(3, 4, 4)
    moves[2, 3] = True
    begins = torch.tensor([[False] * 4, [True, True, False, False], [True, True, False, False]])
    assert settled_tokens(moves, mask, begins).tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [4, 5, 10, -1]]


def test_a_trunk_that_moves_has_no_settled_tokens():
    model, batch = model_of(WIDTHS), batch_of(WORLD.samples())
    assert model.routing(batch, allowed(batch.row, batch.block, batch.copy)).settled is None
