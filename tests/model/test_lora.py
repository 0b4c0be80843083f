"""Adapters by expert: words pass untouched, and the routed sum is what one token after the other gives."""

import numpy as np
import pytest
import torch

from plait import registry
from plait.contract import Message, Part, Sample
from plait.data.pack import collate
from plait.data.sequence import Encoder
from plait.data.vocabulary import Vocabulary
from plait.errors import ConfigError
from plait.model.lora import SCALE, Adapters, gates, spans
from plait.model.multimodal import MultimodalTransformer
from plait.model.transformer import TrunkConfig

RANKS = {"image_given": 3, "image_written": 5, "audio_given": 2}
NUMBERS = {"audio_given": 1, "audio_written": 2, "image_given": 3, "image_written": 4}


@pytest.fixture
def vocabulary():
    modalities = registry.build_all({"text": {}, "image": {"patch": 8, "max_patches": 4}, "audio": {}})
    return Vocabulary(modalities)


def model_of(vocabulary, adapters, dtype=torch.float32):
    return MultimodalTransformer(
        TrunkConfig(dim=32, num_layers=2, num_heads=4, adapters=adapters), vocabulary, dtype=dtype
    )


def taught(model):
    """The model after its adapters have learned something."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".up." in name and ".adapters." in name:
                parameter.normal_(generator=torch.Generator().manual_seed(1))
    return model


def packed(vocabulary):
    """A sequence of a row of words, and one with a picture given and one written."""
    encoder = Encoder(vocabulary)
    picture = vocabulary.modalities["image"].example(0)
    words = Sample((Message("user", (Part("text", "how are you"),)), Message("assistant", (Part("text", "well"),))))
    seen = Sample(
        (Message("user", (picture, Part("text", "what"))), Message("assistant", (Part("text", "a tree"), picture)))
    )
    rows = [encoder.row(sample, np.random.default_rng(0)) for sample in (words, seen)]
    return collate([rows], 96, vocabulary)


@pytest.mark.parametrize("way", [spans, gates])
def test_routed_tokens_get_what_their_own_adapters_give(way):
    expert = torch.tensor([[0, 3, 4, 0, 1, 3, 2]])
    adapters = Adapters(6, 7, RANKS)
    for parameter in adapters.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(7, 6)
    y = way(expert, NUMBERS, RANKS).add(torch.zeros(7, 7), x, adapters)
    for token, number in enumerate(expert[0].tolist()):
        name = {number: name for name, number in NUMBERS.items()}.get(number)
        expected = SCALE * adapters.up[name] @ (adapters.down[name] @ x[token]) if name in RANKS else torch.zeros(7)
        torch.testing.assert_close(y[token], expected)


def test_without_a_routed_token_there_is_no_routing():
    assert spans(torch.tensor([[0, 2, 2]]), NUMBERS, RANKS) is None


@pytest.mark.parametrize("way", [spans, gates])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_words_are_kept_bit_for_bit_beside_media(vocabulary, dtype, way, monkeypatch):
    monkeypatch.setattr("plait.model.experts.route", way)
    batch = packed(vocabulary)
    bare = model_of(vocabulary, {}, dtype)
    adapted = taught(model_of(vocabulary, {"image_given": 4, "image_written": 4}, dtype))
    before, after = bare.hidden(batch), adapted.hidden(batch)
    words = batch.row.flatten() == 0
    assert torch.equal(before[words], after[words])
    assert not torch.equal(before[~words], after[~words])


def test_both_ways_have_the_same_gradients(vocabulary, monkeypatch):
    batch = packed(vocabulary)
    model = taught(model_of(vocabulary, {"image_given": 4, "image_written": 2}))
    direction = torch.randn(96, 32)
    gradients = []
    for way in (spans, gates):
        monkeypatch.setattr("plait.model.experts.route", way)
        model.zero_grad()
        (model.hidden(batch) * direction).sum().backward()
        gradients.append({name: parameter.grad for name, parameter in model.trunk.named_parameters()})
    for name, gradient in gradients[0].items():
        largest = float(gradient.abs().max())
        assert largest > 0
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-4, atol=1e-5 * largest)


def test_new_adapters_change_nothing(vocabulary):
    batch = packed(vocabulary)
    before = model_of(vocabulary, {}).hidden(batch)
    torch.testing.assert_close(before, model_of(vocabulary, {"image_given": 4}).hidden(batch), rtol=0, atol=0)


def test_an_unknown_expert_is_refused(vocabulary):
    with pytest.raises(ConfigError, match=r"smell_given.*expected experts: audio_given"):
        model_of(vocabulary, {"smell_given": 4})
