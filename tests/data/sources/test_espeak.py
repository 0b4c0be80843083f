"""Synthetic speech by the separate program."""

import importlib.util

import numpy as np
import pytest

from plait.data.sources import espeak
from plait.data.sources.espeak import RATE, Espeak, trim
from plait.errors import DataError, MissingError


def test_silence_is_cut_from_both_ends():
    sound = np.concatenate([np.zeros(4000), np.ones(100), np.zeros(500), np.ones(100), np.zeros(4000)])
    cut = trim(sound, margin=320)
    assert len(cut) == 320 + 100 + 500 + 100 + 319
    assert cut.sum() == 200
    assert len(trim(np.ones(10))) == 10


@pytest.mark.parametrize("samples", [np.zeros(0), np.zeros(100)])
def test_nothing_is_left_as_it_is(samples):
    assert len(trim(samples)) == len(samples)


def test_what_is_soft_beside_the_peak_counts_as_silence():
    sound = np.concatenate([np.full(1000, 0.005), np.ones(10), np.full(1000, 0.005)])
    assert len(trim(sound, margin=0)) == 9


def test_words_become_sound_at_one_rate():
    with Espeak() as speaker:
        slow, fast = (speaker.say("seven", "en", rate, 50) for rate in (100, 250))
        again = speaker.say("seven", "en", 100, 50)
    assert slow.dtype == np.float32
    assert 0.2 * RATE < len(fast) < len(slow) < 2 * RATE
    assert np.abs(slow).max() > 0.05
    assert len(again) == pytest.approx(len(slow), rel=0.05)


def test_an_unknown_voice_is_an_error_and_the_program_goes_on():
    with Espeak() as speaker:
        with pytest.raises(DataError, match="expected a voice and a text that it knows"):
            speaker.say("seven", "no-such-voice", 150, 50)
        assert len(speaker.say("seven", "en", 150, 50))


def test_a_program_that_died_is_an_error():
    with Espeak() as speaker:
        speaker._process.kill()
        speaker._process.wait()
        with pytest.raises(DataError, match=r"espeak-ng stopped at .*'seven'.*; expected sound"):
            speaker.say("seven", "en", 150, 50)


def test_without_espeak_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(espeak.importlib.util, "find_spec", lambda name: None)
    assert importlib.util.find_spec("anything") is None
    with pytest.raises(MissingError, match="pip install espeakng-loader"), Espeak():
        pass
