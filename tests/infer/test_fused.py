"""Steps of one token in one call of a kernel are steps through torch."""

import numpy as np
import pytest
import torch
from worlds import TINY, World

from plait.contract import Message, Part
from plait.infer.engine import Engine
from plait.infer.fused import FusedSteps, fits
from plait.infer.kv_cache import Entry, KVCache, NewTokens, PackedView
from plait.infer.request import Request
from plait.model.experts import Split
from plait.model.transformer import TrunkConfig
from plait.runtime import kernels

pytestmark = pytest.mark.skipif(kernels.library() is None, reason=kernels.unavailable())
WIDE = TINY.model_copy(update={"dim": 64, "hidden": 96, "num_layers": 4})
LLAMA = TrunkConfig(
    dim=64, num_layers=3, num_heads=4, num_kv_heads=2, hidden=96, norm_kind="rms", norm_eps=1e-6, qk_norm=False
)
CONFIGS = {
    "own": WIDE,
    "llama": LLAMA,
    "gemma": LLAMA.model_copy(
        update={"norm_plus_one": True, "feed_forward": "geglu", "head_dim": 32, "num_kv_heads": 1}
    ),
    "qwen": LLAMA.model_copy(update={"qkv_bias": True, "qk_norm": True, "no_rotary_layers": (1,)}),
    "biases": WIDE.model_copy(update={"bias": True, "feed_forward": "gelu"}),
    "relu": WIDE.model_copy(update={"feed_forward": "relu"}),
}


def frozen(config, bits=0):
    model = World().model(config, dtype=torch.bfloat16)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name or name.endswith("bias"):  # ones and zeros would hide what is left out
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name))))
    return model.for_inference(bits)


def filled(model, lengths, experts=0, dtype=None):
    """A cache with streams of these lengths, all kept keys and values drawn."""
    cache = KVCache(model.trunk.config, model.dtype, model.device, 1000)
    cache.dtype = dtype or cache.dtype
    slots = [cache.take(length + 1) for length in lengths]
    generator = torch.Generator().manual_seed(0)
    for slot, length in zip(slots, lengths, strict=True):
        slot.keep(np.full(length, experts, np.int64))
        data = slot.store.data[:, :, slot.index, :, :length]
        data.copy_(torch.randn(data.shape, generator=generator))
    return cache, [Entry(slot, n, 1) for n, slot in enumerate(slots)]


def both_ways(model, cache, entries, experts=0):
    """[N, D] hidden states by the kernel and by torch, and the keys and values that each wrote."""
    N = len(entries)
    x = torch.randn(N, model.trunk.config.dim, generator=torch.Generator().manual_seed(1)).to(model.dtype)
    position = torch.tensor([entry.slot.length + 3 for entry in entries])
    tokens = NewTokens(np.arange(N), np.full(N, experts))
    fused = FusedSteps(model, cache)
    assert fused.takes(tokens, entries)
    with torch.inference_mode():
        by_kernel = fused.run(x, position, tokens, entries)
        written = [entry.slot.store.data[:, :, entry.slot.index, :, entry.slot.length].clone() for entry in entries]
        every = {model.vocabulary.experts[name]: often for name, often in model.trunk.config.split_every.items()}
        view = PackedView(cache, entries, tokens, every)
        names = {number: name for name, number in model.vocabulary.experts.items()}
        routing = None
        if experts:
            index = torch.arange(N)
            routing = Split(index[:0], ((names[experts], index),), index, None)
        by_torch = model.trunk(x[None], position[None], None, view.layers, routing)[0]
    again = [entry.slot.store.data[:, :, entry.slot.index, :, entry.slot.length].clone() for entry in entries]
    return by_kernel.float(), by_torch.float(), torch.stack(written).float(), torch.stack(again).float()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("lengths", [(5,), (1, 70, 9), tuple(range(1, 9))])
@pytest.mark.parametrize("name", CONFIGS)
def test_a_step_is_what_torch_computes(name, lengths, dtype):
    model = frozen(CONFIGS[name])
    assert fits(model)
    cache, entries = filled(model, lengths, dtype=dtype)
    by_kernel, by_torch, written, again = both_ways(model, cache, entries)
    scale = by_torch.abs().mean()
    assert (by_kernel - by_torch).abs().mean() < 0.02 * scale, "bfloat16 rounds by up to 0.4 % at every operation"
    assert (written - again).abs().max() < 0.05 * again.abs().max()
    assert scale > 0.1


@pytest.mark.parametrize("bits", [8, 4])
def test_fewer_bits_are_the_same_for_both(bits):
    """torch multiplies by the rounded weights, in bfloat16."""
    model = frozen(LLAMA, bits)
    by_kernel, by_torch, *_ = both_ways(model, *filled(model, (9, 3)))
    assert (by_kernel - by_torch).abs().mean() < 0.02 * by_torch.abs().mean()
    exact, _, *_ = both_ways(other := frozen(LLAMA), *filled(other, (9, 3)))
    assert (by_kernel - exact).abs().mean() > 1e-4, "weights that are not rounded"


@pytest.mark.parametrize("every", [1, 2])
def test_an_experts_layers_see_what_they_should(every):
    config = WIDE.model_copy(
        update={
            "hidden": 128,
            "split": {"image_written": 32, "audio_written": 32},
            "split_every": {"audio_written": every},
        }
    )
    model = frozen(config)
    assert fits(model)
    number = model.vocabulary.experts["audio_written"]
    for expert in (0, number):
        cache, entries = filled(model, (40, 7), experts=number)
        by_kernel, by_torch, *_ = both_ways(model, cache, entries, expert)
        assert (by_kernel - by_torch).abs().mean() < 0.02 * by_torch.abs().mean(), f"expert {expert}"


def test_an_engine_takes_the_kernel_for_words_and_torch_for_the_rest(monkeypatch):
    """Greedy ids of a model of random weights lie close together, so that rounding may choose another: the first ones agree."""
    model = frozen(LLAMA)
    words = ("what is this?", "draw seven", "yes", "say it in German")
    requests = [Request((Message("user", (Part("text", word),)),), to="text", max_tokens=6) for word in words]
    steps = []
    run = FusedSteps.run
    monkeypatch.setattr(FusedSteps, "run", lambda *all, **more: steps.append(1) or run(*all, **more))
    engine, other = Engine(model), Engine(model)
    monkeypatch.setattr(other, "fused", None)
    ids = [
        [answer.segments[0].blocks[0].tokens[:2].tolist() for answer in each.generate(requests)]
        for each in (engine, other)
    ]
    assert len(steps) >= 5
    assert sum(a == b for a, b in zip(*ids, strict=True)) >= 3, ids


def test_tokens_of_one_stream_that_follow_each_other(monkeypatch):
    """Several new tokens at once, of two experts, are the same as one after the other."""
    model = frozen(
        WIDE.model_copy(update={"hidden": 128, "split": {"audio_written": 32}, "split_every": {"audio_written": 2}})
    )
    number = model.vocabulary.experts["audio_written"]
    experts = np.array([0, 0, number, number, 0])
    x = torch.randn(5, 64, generator=torch.Generator().manual_seed(1)).bfloat16()
    hidden = []
    for sizes in ((5,), (1, 1, 1, 1, 1)):
        cache, entries = filled(model, (30,))
        fused, slot, at, parts = FusedSteps(model, cache), entries[0].slot, 0, []
        for size in sizes:
            tokens = NewTokens(np.arange(size), experts[at : at + size])
            entry = Entry(slot, 0, size)
            assert fused.takes(tokens, [entry])
            parts.append(fused.run(x[at : at + size], torch.arange(30 + at, 30 + at + size), tokens, [entry]))
            slot.keep(tokens.experts)
            at += size
        hidden.append(torch.cat(parts).float())
    torch.testing.assert_close(*hidden, atol=0.02, rtol=0.02)
    assert hidden[0].abs().mean() > 0.1


def test_what_moves_or_is_elsewhere_goes_through_torch(monkeypatch):
    assert not fits(World().model(LLAMA, dtype=torch.bfloat16)), "weights that train"
    assert not fits(World().model(LLAMA, dtype=torch.bfloat16).to(torch.bfloat16)), "the same in bfloat16"
    assert not fits(frozen(LLAMA.model_copy(update={"norm": "post"})))
    assert not fits(frozen(LLAMA.model_copy(update={"hidden": 40}))), "no whole groups"
    assert not fits(World().model(LLAMA).for_inference()), "float32"
    model = frozen(LLAMA.model_copy(update={"adapters": {"image_given": 2}}))
    cache, entries = filled(model, (3,))
    fused = FusedSteps(model, cache)
    given = np.full(1, model.vocabulary.experts["image_given"])
    assert fused.takes(NewTokens(np.zeros(1), np.zeros(1, np.int64)), entries)
    assert not fused.takes(NewTokens(np.zeros(1), given), entries)
    nine = [Entry(entries[0].slot, n, 1) for n in range(9)]
    assert not fused.takes(NewTokens(np.arange(9), np.zeros(9, np.int64)), nine), "many"
    two = [Entry(entries[0].slot, 0, 2)]
    assert fused.takes(NewTokens(np.arange(2), np.zeros(2, np.int64)), two)
    assert not fused.takes(NewTokens(np.zeros(2), np.zeros(2, np.int64)), two), "one block: they look at each other"
