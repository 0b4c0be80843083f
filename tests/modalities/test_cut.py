"""Long sound is cut where it is quiet."""

import numpy as np
import pytest

from plait import registry
from plait.contract import Part
from plait.modalities.audio import Audio
from plait.modalities.audio.mel import RATE

CUTS = registry.cuts("audio")


def noise(seconds, rng, rate=RATE):
    return rng.standard_normal(int(seconds * rate)).astype(np.float32) * 0.1


@pytest.mark.parametrize(("rate", "channels"), [(RATE, 1), (44_100, 2)])
def test_pieces_are_cut_in_pauses_and_hold_everything(rate, channels):
    rng = np.random.default_rng(0)
    pauses = [1.5, 2.2, 3.9]
    samples = noise(5.0, rng, rate)
    for pause in pauses:
        samples[int(pause * rate) : int((pause + 0.3) * rate)] *= 1e-3
    stored = samples if channels == 1 else np.stack([samples] * channels, axis=1)
    audio = Audio(max_seconds=2.0)
    pieces = CUTS.cut(audio, Part("audio", (stored, rate)))
    assert np.allclose(np.concatenate([piece.value[0] for piece, _ in pieces]), samples, atol=1e-6)
    starts = [start for _, start in pieces]
    assert starts[0] == 0.0
    assert len(starts) == 4
    for start, pause in zip(starts[1:], pauses, strict=True):
        assert pause <= start <= pause + 0.3
    for piece, _ in pieces:
        audio.check(piece)


def test_what_is_short_enough_stays_whole():
    part = Part("audio", (noise(1.9, np.random.default_rng(1)), RATE))
    assert CUTS.cut(Audio(max_seconds=2.0), part) == [(part, 0.0)]


@pytest.mark.parametrize("seconds", [2.01, 7.3])
def test_sound_without_a_pause_is_cut_nevertheless(seconds):
    audio = Audio(max_seconds=2.0)
    pieces = CUTS.cut(audio, Part("audio", (np.zeros(int(seconds * RATE), np.float32), RATE)))
    assert sum(len(piece.value[0]) for piece, _ in pieces) == int(seconds * RATE)
    assert all(0 < len(piece.value[0]) <= 2.0 * RATE for piece, _ in pieces)
