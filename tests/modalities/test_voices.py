"""A voice's direction: what is heard of it, and in which windows."""

import numpy as np
import pytest
import torch

from plait.contract import Part
from plait.errors import RowError
from plait.modalities.audio import voices
from plait.modalities.audio.mel import RATE


def tone(seconds, level=0.1, hertz=220):
    return (level * np.sin(2 * np.pi * hertz * np.arange(int(seconds * RATE)) / RATE)).astype(np.float32)


def test_silence_is_cut_and_quiet_sound_raised():
    silence = np.zeros(RATE, np.float32)
    heard = voices.loud(np.concatenate([silence, tone(1.2), silence, tone(0.6), silence]))
    assert len(heard) / RATE == pytest.approx(1.8, abs=0.1)
    quiet = voices.loud(tone(1.0, 1e-3))
    assert np.sqrt((quiet**2).mean()) == pytest.approx(voices.QUIET, rel=0.01)
    assert np.allclose(voices.loud(tone(0.96)), tone(0.96)), "what is loud enough stays"
    assert len(voices.loud(silence)) == len(voices.loud(silence[:10])) == 0


@pytest.mark.parametrize(("seconds", "count"), [(1.0, 1), (1.6, 1), (1.9, 1), (2.4, 2), (5.0, 5)])
def test_windows_cover_the_sound_but_for_a_short_rest(seconds, count):
    assert voices.windows(tone(seconds)).shape == (count, voices.FRAMES, voices.MELS)


def test_frames_are_power_in_the_bands_of_the_tone():
    (frames,) = voices.windows(tone(1.6, hertz=1000))
    low, high = frames[50].argmax(), voices.windows(tone(1.6, hertz=4000))[0][50].argmax()
    assert low < high
    louder = voices.windows(tone(1.6, 0.2, 1000))[0]
    assert torch.allclose(louder[10:150], 4 * frames[10:150], rtol=1e-3), "power, not magnitude and no logarithm"


def test_a_direction_is_a_unit_vector_and_does_not_depend_on_the_rate(monkeypatch):
    torch.manual_seed(0)
    network = voices.Encoder().eval()
    monkeypatch.setattr(voices, "encoder", lambda folder: network)
    direction = voices.direction(Part("audio", (tone(3.0), RATE)))
    assert direction.shape == (voices.WIDTH,)
    assert np.linalg.norm(direction) == pytest.approx(1.0, abs=1e-5)
    assert (direction >= 0).all(), "its last layer is rectified"
    twice = np.repeat(tone(3.0), 2)
    assert voices.direction(Part("audio", (twice, 2 * RATE))) @ direction > 0.99
    stereo = np.stack([tone(3.0), tone(3.0)], axis=1)
    assert np.allclose(voices.direction(Part("audio", (stereo, RATE))), direction, atol=1e-5)


@pytest.mark.parametrize(("samples", "rate"), [(tone(0.1), 1), (tone(0.1), 3999), (tone(61.0), RATE)])
def test_what_would_grow_when_it_is_resampled_is_refused(samples, rate):
    with pytest.raises(RowError, match="expected at most 60"):
        voices.direction(Part("audio", (samples, rate)))


@pytest.mark.parametrize("samples", [np.zeros(RATE * 2, np.float32), tone(0.8), np.zeros(0, np.float32)])
def test_too_little_sound_is_refused_before_weights_are_fetched(samples):
    with pytest.raises(RowError, match=r"expected at least 1\.0"):
        voices.direction(Part("audio", (samples, RATE)))
