"""Hidden tokens: of what is given, seen by nobody, in the share of rows that was asked for."""

import numpy as np
import pytest
import torch
from worlds import TINY, World, text

from plait.contract import Message, Sample
from plait.data.hidden import BAND, HIDDEN, NOISE, hide, hide_in_features
from plait.data.pack import collate
from plait.data.row import Origin
from plait.data.sequence import Encoder, FlowConfig
from plait.model.mask import allowed
from plait.model.multimodal import MultimodalTransformer


@pytest.fixture(scope="module")
def world():
    return World()


def sample(world):
    asked = Message("user", (world.part("image", 3), text("what is it and where")))
    return Sample((asked, Message("assistant", (text("seven"), world.part("image", 4)))))


def rows(world, mask_prob, count=200):
    encoder = Encoder(world.vocabulary, FlowConfig(mask_prob=mask_prob, null_prob=0.0))
    return [encoder.row(sample(world), np.random.default_rng(number)) for number in range(count)]


def test_only_what_is_given_is_hidden_in_the_share_of_rows_that_is_set(world):
    hidden = [np.flatnonzero(row.copy == HIDDEN) for row in rows(world, 0.4)]
    assert 0.25 < np.mean([len(of_row) > 0 for of_row in hidden]) < 0.45
    row = rows(world, 0.0, 1)[0]
    assert not (row.copy == HIDDEN).any()
    given = {
        index
        for span in row.spans
        if span.origin.message == 0 and span.origin.part >= 0
        for index in range(span.first, span.first + span.count)
    }
    assert set(np.concatenate(hidden)) == given, "every given token is hidden now and then, and no other"


def test_a_hidden_token_is_seen_by_no_other(world):
    row = rows(world, 0.0, 1)[0]
    hide(row, {0}, np.random.default_rng(5))
    seen = allowed(*(torch.from_numpy(values)[None] for values in (np.zeros_like(row.block), row.block, row.copy)))[0]
    hidden = torch.from_numpy(row.copy == HIDDEN)
    assert 0 < hidden.sum() < len(hidden)
    assert not seen[~hidden][:, hidden].any()
    assert seen.diagonal().all()


def test_what_is_hidden_does_not_matter_to_the_answer(world):
    model = MultimodalTransformer(TINY, world.vocabulary).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # new ones let nothing through from token to token
            parameter.normal_(std=0.2, generator=torch.Generator().manual_seed(parameter.numel()))
    row = rows(world, 0.0, 1)[0]
    other = rows(world, 0.0, 1)[0]
    place = next(span.first for span in row.spans if span.origin == Origin(0, 1, 0))  # the question's words
    other.ids[place] += 1

    def hidden_states(*given):
        return [model.hidden(collate([[one]], 128, world.vocabulary)) for one in given]

    before, after = hidden_states(row, other)
    assert not torch.equal(before[place + 1 : len(row)], after[place + 1 : len(row)])
    row.copy[place] = other.copy[place] = HIDDEN
    before, after = hidden_states(row, other)
    keep = [index for index in range(len(row)) if index != place]
    torch.testing.assert_close(before[keep], after[keep], rtol=0, atol=0)


FRAMES, WIDTH = 2, 50


def varied(number):
    features = np.random.default_rng(number).standard_normal((25, FRAMES * WIDTH)).astype(np.float16)
    return features, hide_in_features(features, FRAMES, np.random.default_rng(number))


def test_the_generator_alone_decides():
    features, first = varied(3)
    assert np.array_equal(first, hide_in_features(features, FRAMES, np.random.default_rng(3)))
    assert not np.array_equal(first, hide_in_features(features, FRAMES, np.random.default_rng(4)))
    assert first.dtype == features.dtype


def test_stretches_and_bands_are_hidden_and_the_rest_is_nearly_itself():
    holes, lacking, moved = [], [], []
    for number in range(200):
        features, shown = varied(number)
        hidden = shown == 0
        holes.append(hidden.all(axis=1).mean())
        bands = hidden.reshape(25, FRAMES, WIDTH).all(axis=0)
        assert np.array_equal(bands[0], bands[1]), "the same band of each frame"
        lacking.append(bands[0].mean())
        moved.append(np.abs(shown[~hidden].astype(np.float32) - features[~hidden]).mean())
    assert 0.05 < np.mean(holes) < 0.25
    assert 0.35 < np.mean(np.array(lacking) > 0) < 0.6
    assert max(lacking) <= BAND[1] + 0.02
    assert 0 < np.mean(moved) < NOISE
