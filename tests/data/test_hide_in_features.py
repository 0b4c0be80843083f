"""What is hidden of a sound while its letters are learned."""

import numpy as np

from plait.data.hidden import BAND, NOISE, hide_in_features

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
