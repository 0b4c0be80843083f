"""Every fast path against its slow reference."""

import math
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import static_loop
import torch
from torch import nn
from worlds import TINY, World, rng, text

from plait.data.loader import Loader, PackConfig
from plait.data.pack import collate
from plait.data.row import FlowBlock, RowBuilder, lay_out_clean
from plait.data.sequence import Encoder, FlowConfig
from plait.errors import ConfigError
from plait.heads.categorical import cross_entropy, cross_entropy_by_formula
from plait.heads.flow import FlowEmbedding
from plait.infer.engine import Engine, Piece
from plait.infer.kv_cache import NewTokens
from plait.infer.request import Request
from plait.infer.ticket import Stream
from plait.model.attention import _Products, attend, attend_by_formula, prepare
from plait.model.layers import Linear, few_numbers, sinusoids
from plait.model.mask import allowed, allowed_by_definition
from plait.model.rope import rotary_table, rotate
from plait.model.transformer import Layer, TrunkConfig, vanilla
from plait.recipes.recipe import Recipe
from plait.runtime.device import resolve_device
from plait.train import trainer
from plait.train.objectives.pretrain import Pretrain


def rows(world, seed=0):
    return [world.encoder.row(sample, rng(seed + i)) for i, sample in enumerate(world.samples())]


def batch_of(world, groups, length=512):
    return collate(groups, length, world.vocabulary)


def test_mask_is_the_rule_read_aloud(world):
    batch = batch_of(world, [rows(world)[:4], rows(world)[8:11]])
    fast = allowed(batch.row, batch.block, batch.copy, batch.shares)
    for b in range(2):
        slow = allowed_by_definition(
            *(tensor[b].tolist() for tensor in (batch.row, batch.block, batch.copy, batch.shares))
        )
        assert fast[b].tolist() == slow


@pytest.mark.parametrize("seed", range(3))
def test_storage_order_is_irrelevant(world, seed):
    """Shuffle the tokens of a packed sequence: hidden states move along and do not change."""
    model = world.model()
    batch = batch_of(world, [rows(world, seed)[:5]])
    hidden = model.hidden(batch)
    order = torch.from_numpy(rng(seed).permutation(batch.ids.shape[1]))
    inverse = torch.argsort(order)
    for name in ("ids", "row", "block", "copy", "position", "target", "expert"):
        setattr(batch, name, getattr(batch, name)[:, order])
    for tokens in (*batch.tables.values(), *batch.clean.values(), *batch.noised.values()):
        tokens.index = inverse[tokens.index]
    torch.testing.assert_close(model.hidden(batch), hidden[order], atol=1e-5, rtol=1e-4)


def test_packed_rows_are_rows_alone(world):
    model = world.model()
    packed = rows(world)
    together = Pretrain().sums(model, batch_of(world, [packed[:6], packed[6:]], 512))
    alone = [Pretrain().sums(model, batch_of(world, [[row]], 160)) for row in packed]
    for group, value in together.items():
        torch.testing.assert_close(value, sum(one[group] for one in alone), atol=1e-3, rtol=1e-4)


def random_heads(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 4, n, 16, generator=generator).to(dtype) for n in (7, 11, 11))
    mask = torch.rand(2, 7, 11, generator=generator) < 0.6
    mask[..., 0] = True
    return q, k, v, mask


def test_sdpa_is_the_formula():
    q, k, v, mask = random_heads()
    torch.testing.assert_close(attend(q, k, v, prepare(mask, q.dtype)), attend_by_formula(q, k, v, mask))


@pytest.mark.parametrize("fused", [False, True], ids=["products", "fused"])
@pytest.mark.parametrize("gradients", [False, True])
def test_bfloat16_attention_is_the_formula(monkeypatch, gradients, fused):
    monkeypatch.setattr("plait.model.attention.fused_attention_in_bfloat16", lambda device: fused)
    q, k, v, mask = random_heads(torch.bfloat16)
    exact = attend_by_formula(q.float(), k.float(), v.float(), mask)
    with torch.set_grad_enabled(gradients):
        torch.testing.assert_close(attend(q, k, v, prepare(mask, q.dtype)).float(), exact, atol=0.03, rtol=0.03)


@pytest.mark.parametrize("kv_heads", [4, 2, 1])
def test_gradients_of_bfloat16_products_are_the_formulas(kv_heads):
    q, k, v, mask = random_heads(torch.bfloat16)
    heads = q, k[:, :kv_heads], v[:, :kv_heads]
    fast, slow = ([head.clone().requires_grad_() for head in heads] for _ in range(2))
    attend(*fast, prepare(mask, torch.bfloat16)).float().square().sum().backward()
    attend_by_formula(*(head.float() for head in slow), mask).square().sum().backward()
    for got, expected in zip(fast, slow, strict=True):
        torch.testing.assert_close(got.grad, expected.grad, atol=0.06, rtol=0.06)


def test_products_with_a_backward_pass_of_their_own_are_differentiated_right():
    """Numerically, in float64, which the fast path never gets."""
    q, k, v = (torch.randn(2, 3, n, 4, dtype=torch.float64, requires_grad=True) for n in (3, 5, 5))
    mask = prepare(torch.ones(2, 3, 5, dtype=torch.bool).tril(1), torch.float64)
    assert torch.autograd.gradcheck(lambda *heads: _Products.apply(*heads, mask), (q, k, v))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("chunk", [1, 100, 2**18])
def test_cross_entropy_in_chunks_is_the_formula(monkeypatch, chunk, dtype):
    monkeypatch.setattr("plait.heads.categorical.CPU_CHUNK", chunk)
    generator = torch.Generator().manual_seed(0)
    logits = (5 * torch.randn(17, 40, generator=generator)).to(dtype)
    target = torch.randint(0, 40, (17,), generator=generator)
    towards = torch.rand(17, generator=generator)
    losses, gradients = [], []
    for function in (cross_entropy, cross_entropy_by_formula):
        leaf = logits.clone().requires_grad_()
        losses.append(function(leaf, target))
        gradients.append(torch.autograd.grad(losses[-1], leaf, towards)[0])
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(*gradients, atol=1e-5 if dtype == torch.bfloat16 else 1e-7, rtol=1e-2)
    assert losses[0].dtype == torch.float32
    assert gradients[0].dtype == dtype


def test_cross_entropy_is_differentiated_right_and_may_be_empty():
    logits = torch.randn(5, 7, dtype=torch.float64, requires_grad=True)
    target = torch.tensor([0, 6, 3, 3, 1])
    assert torch.autograd.gradcheck(lambda x: cross_entropy(x, target), logits)
    nothing = torch.zeros(0, 7, requires_grad=True)
    losses = cross_entropy(nothing, target[:0])
    losses.sum().backward()
    assert losses.shape == (0,)
    assert nothing.grad.shape == (0, 7)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("rows_at_once", [0, 1, 37, 64])
def test_rows_that_fill_a_product_up_change_nothing(rows_at_once, bias):
    layer = Linear(12, 20, bias=bias).bfloat16()
    x = torch.randn(rows_at_once, 12).bfloat16().requires_grad_()
    assert few_numbers(rows_at_once) % 32 == 0
    moving = [x, *layer.parameters()]
    filled, plain = layer(x), torch.nn.functional.linear(x, layer.weight, layer.bias)
    assert filled.shape == plain.shape
    torch.testing.assert_close(filled, plain)
    torch.testing.assert_close(*(torch.autograd.grad((y**2).sum(), moving) for y in (filled, plain)))


def test_rows_have_few_numbers():
    numbers = [few_numbers(rows) for rows in range(1, 4097)]
    assert all(number >= rows for rows, number in enumerate(numbers, start=1))
    assert all(number <= max(rows + 31, 1.26 * rows) for rows, number in enumerate(numbers, start=1))
    assert len(set(numbers)) < 30


def test_the_rotation_that_trains_is_the_short_one():
    """`rotate` has a backward pass of its own: against automatic differentiation of its formula, and numerically."""
    x = torch.randn(2, 7, 3, 16, dtype=torch.float64, requires_grad=True)
    cos, sin = (table.double() for table in rotary_table(torch.arange(14).view(2, 7), 16))
    short = x * cos + x.roll(8, dims=-1) * sin
    rotated = rotate(x, cos, sin)
    torch.testing.assert_close(rotated, short)
    with torch.no_grad():
        torch.testing.assert_close(rotate(x, cos, sin), short)
    towards = torch.randn_like(x)
    torch.testing.assert_close(*(torch.autograd.grad(y, x, towards)[0] for y in (rotated, short)))
    assert torch.autograd.gradcheck(lambda x: rotate(x, cos, sin), x)


@pytest.mark.parametrize("bias", [False, True])
def test_products_in_parts_are_one_product_split(bias):
    layer = Linear(12, 20, bias=bias).double()
    x = torch.randn(3, 5, 12, dtype=torch.float64, requires_grad=True)
    moving = [x, *layer.parameters()]
    in_parts, split = layer.in_parts(x, (8, 4, 8)), layer(x).split((8, 4, 8), dim=-1)
    gradients = []
    for parts in (in_parts, split):
        gradients.append(torch.autograd.grad(sum((part**2).sum() for part in parts), moving))
    torch.testing.assert_close(in_parts, split)
    torch.testing.assert_close(*gradients)
    with torch.no_grad():
        torch.testing.assert_close(layer.in_parts(x, (8, 4, 8)), split)


def test_attention_weights_by_hand():
    """Two keys, scores 0 and ln 3 * sqrt(K): weights 1/4 and 3/4."""
    k = torch.zeros(1, 1, 2, 4)
    k[0, 0, 1, 0] = math.log(3) * 2
    q = torch.zeros(1, 1, 1, 4)
    q[..., 0] = 1.0
    v = torch.tensor([0.0, 1.0]).view(1, 1, 2, 1).expand(1, 1, 2, 4)
    mask = torch.ones(1, 1, 2, dtype=torch.bool)
    for made in (attend(q, k, v, prepare(mask, q.dtype)), attend_by_formula(q, k, v, mask)):
        torch.testing.assert_close(made, torch.full((1, 1, 1, 4), 0.75))


def test_sinusoids_are_the_papers():
    made = sinusoids(torch.tensor([0, 3, 50]), 8)
    for row, position in enumerate((0, 3, 50)):
        for i in range(4):
            angle = position / 10_000 ** (2 * i / 8)
            assert made[row, 2 * i].item() == pytest.approx(math.sin(angle), abs=1e-5)
            assert made[row, 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-5)


def test_rotary_products_depend_on_distance_alone():
    q, k = torch.randn(2, 1, 1, 1, 16)
    products = []
    for at in (0, 7, 100):
        table = rotary_table(torch.tensor([[at, at + 5]]), 16)
        turned_q, turned_k = rotate(torch.cat((q, q), 1), *table), rotate(torch.cat((k, k), 1), *table)
        products.append((turned_q[0, 0, 0] * turned_k[0, 1, 0]).sum())
    torch.testing.assert_close(torch.stack(products), products[0].expand(3), atol=1e-4, rtol=1e-4)


def test_vanilla_layer_is_the_founding_papers():
    """Against torch's own post-norm encoder layer, weights copied."""
    layer = Layer(vanilla(dim=32, num_layers=1, num_heads=4))
    theirs = nn.TransformerEncoderLayer(32, 4, dim_feedforward=128, dropout=0.0, batch_first=True, norm_first=False)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.normal_(std=0.2)
        pairs = {
            layer.attention.project: (theirs.self_attn.in_proj_weight, theirs.self_attn.in_proj_bias),
            layer.attention.out: (theirs.self_attn.out_proj.weight, theirs.self_attn.out_proj.bias),
            layer.feed_forward.up: (theirs.linear1.weight, theirs.linear1.bias),
            layer.feed_forward.down: (theirs.linear2.weight, theirs.linear2.bias),
            layer.norm_attention: (theirs.norm1.weight, theirs.norm1.bias),
            layer.norm_feed_forward: (theirs.norm2.weight, theirs.norm2.bias),
        }
        for ours, (weight, bias) in pairs.items():
            ours.weight.copy_(weight)
            ours.bias.copy_(bias)
    x = torch.randn(2, 9, 32)
    causal = torch.ones(9, 9, dtype=torch.bool).tril()
    expected = theirs(x, src_mask=~causal)
    made = layer(x, prepare(causal.expand(2, 9, 9), x.dtype), None, None)
    torch.testing.assert_close(made, expected, atol=1e-5, rtol=1e-4)


def test_multi_head_attention_is_heads_side_by_side():
    """Section 3.2.2: project, attend per head, concatenate, project. With one key/value head a pair of query heads, too."""
    for kv_heads in (4, 2):
        config = TrunkConfig(
            dim=32, num_layers=1, num_heads=4, num_kv_heads=kv_heads, qk_norm=False, positions="sinusoidal"
        )
        attention = Layer(config).attention
        x = torch.randn(1, 6, 32)
        mask = torch.ones(6, 6, dtype=torch.bool).tril()[None]
        projected = x @ attention.project.weight.T
        q, k, v = projected.split((32, 8 * kv_heads, 8 * kv_heads), dim=-1)
        heads = []
        for h in range(4):
            shared = h // (4 // kv_heads)
            one = [t[..., 8 * i : 8 * i + 8].unsqueeze(1) for t, i in ((q, h), (k, shared), (v, shared))]
            heads.append(attend_by_formula(*one, mask).squeeze(1))
        expected = torch.cat(heads, dim=-1) @ attention.out.weight.T
        torch.testing.assert_close(attention(x, prepare(mask, x.dtype), None, None), expected, atol=1e-5, rtol=1e-4)


def forward(engine, stream, elements, keep=True):
    """[n, D] hidden states of new elements of one stream, as a step of the engine computes them."""
    builder = RowBuilder(stream.blocks, stream.slot.length)
    for element in elements:
        builder.add_clean(element)
    row = builder.row()
    ticket = SimpleNamespace(main=None)
    batch = collate([[row]], len(row), engine.model.vocabulary)
    hidden = engine._forward(batch, NewTokens(row.block, row.expert), [Piece(ticket, stream, 0, len(row), keep)])
    if keep:
        stream.blocks = builder.next_block
    return hidden


EXPERTS = {"image_given": 16, "image_written": 16, "audio_given": 24, "audio_written": 24}
CONFIGS = [
    TINY,
    vanilla(32, 2, 2),
    TrunkConfig(dim=32, num_layers=2, num_heads=4, num_kv_heads=2),
    TrunkConfig(dim=32, num_layers=2, num_heads=2, split=EXPERTS, split_every=dict.fromkeys(EXPERTS, 2)),
]


@pytest.mark.parametrize("config", CONFIGS)
def test_cache_is_no_cache(world, config):
    """Feeding a row element by element through the cache gives the hidden states of the whole row at once."""
    model = world.model(config).eval()
    engine = Engine(model)
    elements = world.encoder.prompt(world.samples()[10])
    row = lay_out_clean(elements)
    with torch.inference_mode():
        stream = Stream(engine.cache.take(2))  # it outgrows its slot on the way
        stepwise = [forward(engine, stream, [element]) for element in elements]
        whole = forward(engine, Stream(engine.cache.take(len(row))), elements)
        trained = model.hidden(batch_of(world, [[row]], len(row)))
    torch.testing.assert_close(torch.cat(stepwise), whole, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(whole, trained, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("fused", [False, True], ids=["float32 cache", "bfloat16 cache"])
@pytest.mark.parametrize("config", CONFIGS)
def test_cache_is_no_cache_in_bfloat16(monkeypatch, world, config, fused):
    """On a processor that is fast at fused attention in bfloat16, and on one that is not."""
    for module in ("plait.infer.kv_cache", "plait.model.attention"):
        monkeypatch.setattr(f"{module}.fused_attention_in_bfloat16", lambda device: fused)
    model = world.model(config, dtype=torch.bfloat16).eval()
    engine = Engine(model)
    assert engine.cache.dtype == (torch.bfloat16 if fused else torch.float32)
    elements = world.encoder.prompt(world.samples()[10])
    row = lay_out_clean(elements)
    with torch.inference_mode():
        stream = Stream(engine.cache.take(2))
        stepwise = torch.cat([forward(engine, stream, [element]) for element in elements])
        trained = model.hidden(batch_of(world, [[row]], len(row)))
    torch.testing.assert_close(stepwise, trained, atol=0.06, rtol=0.03)


def requests(world):
    asked = []
    for seed, sample in enumerate(world.samples()):
        to = ("text", "image", "audio", None)[seed % 4]
        options = {"image": {"size": (8, 8)}} if to == "image" else {}
        question = (sample.messages[0],) if sample.messages[0].role == "user" else sample.messages[:2]
        guidance = (1.0, 2.5)[seed % 2]
        asked.append(Request(question, to=to, seed=seed, steps=3, guidance=guidance, max_tokens=12, options=options))
    return asked


def assert_same_segments(some, others):
    assert [s.modality for s in some] == [s.modality for s in others]
    for one, other in zip(some, others, strict=True):
        for x, y in zip(one.blocks, other.blocks, strict=True):
            assert x.header == y.header
            np.testing.assert_allclose(x.tokens, y.tokens, atol=1e-4)


@pytest.mark.parametrize("config", CONFIGS)
def test_the_engine_is_its_slow_twin(world, config):
    """Mixed requests in one packed batch get what each gets alone from everything computed anew: words, headers, guided
    pictures and sound."""
    model = world.model(config).eval()
    answers = Engine(model).generate(requests(world))
    for request, answer in zip(requests(world), answers, strict=True):
        decoder = static_loop.answer(model, world.encoder, request)
        assert_same_segments(answer.segments, [segment for segment in decoder.segments if segment.blocks])
        assert (answer.reason, answer.usage, answer.layout) == (decoder.reason, decoder.usage, decoder.layout)


def test_a_batch_is_its_requests_alone(world):
    model = world.model()
    together = Engine(model).generate(requests(world))
    alone = [Engine(model).generate([request])[0] for request in requests(world)]
    waiting = Engine(model, active=3).generate(requests(world))
    crowded = Engine(model, cache_tokens=256).generate(requests(world))
    for a, *others in zip(together, alone, waiting, crowded, strict=True):
        for b in others:
            assert_same_segments(a.segments, b.segments)


def test_a_forced_size_and_modality_are_kept(world):
    for request, answer in zip(requests(world), Engine(world.model()).generate(requests(world)), strict=True):
        if request.to is not None:
            assert {segment.modality for segment in answer.segments} <= {request.to}
        if request.to == "image":
            assert answer.segments[0].blocks[0].header[1:] == ("<rows:2>", "<cols:2>")


def gradients(world, micro, sequences=8):
    recipe = Recipe(name="t", data="", modalities={}, dtype="float32")
    loader = Loader(world.samples(), {}, world.encoder, PackConfig(length=160, sequences=sequences, micro=micro), 0)
    model = world.model()
    losses = trainer.accumulate(model, loader.next_step(), Pretrain(), recipe.loss_weights)
    return losses, {name: p.grad.clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize("micro", [1, 2, 3])
def test_accumulation_is_one_big_batch(world, micro):
    """8 micro-batches of 1 sequence give the losses and gradients of 1 micro-batch of 8."""
    losses, grads = gradients(world, 0)
    pieces, summed = gradients(world, micro)
    assert losses == pytest.approx(pieces, rel=1e-5)
    for name, value in grads.items():
        torch.testing.assert_close(summed[name], value, atol=2e-5, rtol=1e-3)


def test_an_absent_modality_still_touches_its_weights(world):
    texts = [sample for sample in world.samples() if sample.task == "text->text"]
    loader = Loader(texts, {}, world.encoder, PackConfig(length=64, sequences=1), 0)
    model = world.model()
    trainer.accumulate(model, loader.next_step(), Pretrain(), {})
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, f"{name} has no gradient: sharded training would hang"


def test_time_once_a_block_is_time_a_token():
    embed = FlowEmbedding(5, 16, num_coordinates=1)
    tokens, places = torch.randn(6, 5), torch.arange(6.0)[:, None]
    time = torch.tensor([0.2, 0.2, 0.7, 0.7, 0.7, 1.0])
    together = embed(tokens, places, time)
    alone = torch.cat([embed(tokens[i : i + 1], places[i : i + 1], time[i : i + 1]) for i in range(6)])
    torch.testing.assert_close(together, alone)


def test_log_mel_is_the_definition():
    """Against a Fourier transform written out, one frame in the middle."""
    from plait.modalities.audio.mel import FLOOR, HOP, WINDOW, filterbank, log_mel

    samples = rng(3).standard_normal(4000).astype(np.float32) * 0.1
    frame = 10
    middle = np.pad(samples, WINDOW // 2)[frame * HOP : frame * HOP + WINDOW].astype(np.float64)
    n = np.arange(WINDOW)
    windowed = middle * (0.5 - 0.5 * np.cos(2 * np.pi * n / WINDOW))
    spectrum = np.array(
        [np.abs(np.sum(windowed * np.exp(-2j * np.pi * k * n / WINDOW))) for k in range(WINDOW // 2 + 1)]
    )
    expected = np.log(np.maximum(filterbank().numpy() @ spectrum, FLOOR))
    np.testing.assert_allclose(log_mel(samples)[frame], expected, atol=1e-4)


@pytest.mark.parametrize("count", [1, 159, 160, 1023, 4000, 16_000])
def test_our_stft_is_torch_s(count):
    """And its inverse the least-squares one, on a spectrum that no sound has."""
    from plait.modalities.audio.mel import HOP, WINDOW, istft, stft

    settings = {"n_fft": WINDOW, "hop_length": HOP, "window": torch.hann_window(WINDOW)}
    samples = torch.from_numpy(rng(4).standard_normal(count).astype(np.float32))
    theirs = torch.stft(samples, **settings, return_complex=True, pad_mode="constant").T
    torch.testing.assert_close(stft(samples), theirs, atol=1e-3, rtol=1e-4)
    length = (len(theirs) - 1) * HOP
    if length:
        inconsistent = torch.sgn(theirs) * torch.rand(theirs.shape, generator=torch.Generator().manual_seed(0))
        expected = torch.istft(inconsistent.T, **settings, length=length)
        torch.testing.assert_close(istft(inconsistent, length), expected, atol=1e-5, rtol=1e-4)


def test_griffin_lim_is_its_formula():
    """Against Perraudin, Balazs and Sondergaard's iteration written out with `stft` and `istft`."""
    from plait.modalities.audio.mel import HOP, WINDOW, _rebuild, istft, stft

    generator = torch.Generator().manual_seed(1)
    magnitude = torch.rand(12, WINDOW // 2 + 1, generator=generator)
    first = torch.polar(magnitude, 6 * torch.rand(magnitude.shape, generator=generator))
    spectrum, previous, length = first, torch.zeros_like(first), 11 * HOP
    for _ in range(6):
        rebuilt = stft(istft(spectrum, length))
        spectrum = torch.sgn(rebuilt + 0.9 * (rebuilt - previous)) * magnitude
        previous = rebuilt
    torch.testing.assert_close(_rebuild(first, magnitude, 6, 0.9), istft(spectrum, length), atol=1e-4, rtol=1e-3)


def test_griffin_lim_gives_a_sound_of_that_mel():
    from plait.modalities.audio.mel import griffin_lim, log_mel

    world = World()
    samples = world.modalities["audio"].samples(world.part("audio", 1))
    frames = log_mel(samples)
    again = log_mel(griffin_lim(frames))
    loud = frames > frames.max() - 6
    assert np.abs(again[: len(frames)] - frames)[loud].mean() < 0.5


@pytest.mark.parametrize("null", [False, True])
@pytest.mark.parametrize("name", ["audio", "image"])
def test_a_noised_step_is_the_training_copy(world, name, null):
    """What the engine computes for a block in flight is what training computed for that noised copy of it, with what
    stands before it fed through the cache: conditional and null streams, the second block of a chain too."""
    flow = FlowConfig(context_noise_prob=0.0, end_prob=0.0, null_prob=0.999 if null else 0.0)
    encoder = Encoder(world.vocabulary, flow)
    sample = world.sample([text("say it in German")], [world.part(name, 2)])
    elements = encoder.elements(sample, rng(1))
    assert isinstance(elements[-1], FlowBlock)
    assert (elements[0].ids == [world.vocabulary.ids["<null>"]]) == null
    row = encoder.lay_out(elements, rng(2))
    model = world.model().eval()
    trained = model.hidden(batch_of(world, [[row]], len(row)))
    noised = row.noised[name]
    last = row.block[noised.index] == row.block.max()
    z, time = noised.inputs[last], float(noised.time[last][0])
    assert name == "image" or len(set(row.block[noised.index])) > 1, "the sound should be a chain"
    engine = Engine(model)
    with torch.inference_mode():
        stream = Stream(engine.cache.take(len(row)))
        for element in elements[:-1]:
            forward(engine, stream, [element])
        block = FlowBlock(name, z, elements[-1].coordinates, False, time)
        first = forward(engine, stream, [block], keep=False)
        again = forward(engine, stream, [block], keep=False)
    torch.testing.assert_close(first, trained[noised.index[last]], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(first, again, atol=0, rtol=0)  # a step in flight is never kept


@pytest.mark.filterwarnings("ignore")  # it is slow without torch.compile, and says so
def test_flex_attention_is_the_dense_mask(world):
    """Hidden states with FlexAttention's blocks are those with the mask added to the scores. (Its gradients exist on a
    GPU alone.)"""
    batch = batch_of(world, [rows(world)[:6], rows(world)[6:11]])
    model = world.model()
    with torch.no_grad():
        dense = model.hidden(batch)
        model.flexible = True
        flexible = model.hidden(batch)
    used = (batch.row >= 0).flatten()  # padding sees itself alone, and nobody reads it
    torch.testing.assert_close(flexible[used], dense[used], atol=1e-5, rtol=1e-4)


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")
def test_a_compiled_trunk_gives_the_same_losses():
    script = Path(__file__).with_name("compiled.py")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "ok", done.stderr[-2000:]


@pytest.mark.parametrize("rows_at_once", [1, 5])
def test_packed_weights_are_the_weights(rows_at_once):
    linear = Linear(48, 80)
    x = torch.randn(rows_at_once, 48).bfloat16()
    slow = linear(x)
    linear.freeze_for_inference(torch.bfloat16)
    torch.testing.assert_close(linear(x), slow, atol=0.02, rtol=0.02)
    assert not linear.weight.requires_grad


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_device_that_is_not_here_is_said(device):
    available = torch.cuda.is_available() if device == "cuda" else torch.backends.mps.is_available()
    if available:
        pytest.skip("it is here")
    with pytest.raises(ConfigError, match=f"device={device}.*plait doctor"):
        resolve_device(device)
