"""Flite, run as a program: what it is asked, what it answers, and what is said where it cannot be had."""

import os
import shutil
import stat

import numpy as np
import pytest
import soundfile

from plait.data.sources import flite
from plait.data.sources.flite import RATE, VOICES, Flite
from plait.errors import DataError, MissingError

installed = pytest.mark.skipif(shutil.which("flite") is None, reason="needs flite")


@pytest.fixture
def program(tmp_path, monkeypatch):
    """A stand-in that writes down what it is asked and answers with a file of its own."""
    answer, asked = tmp_path / "answer.wav", tmp_path / "asked"
    soundfile.write(answer, np.r_[np.zeros(RATE), np.full(RATE, 0.25), np.zeros(RATE)], RATE)
    path = tmp_path / "bin" / "flite"
    path.parent.mkdir()
    path.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {asked}\ncat {answer}\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{path.parent}{os.pathsep}{os.environ['PATH']}")
    return path, asked, answer


def test_a_text_is_asked_for_in_a_voice_and_trimmed(program, tmp_path):
    samples = Flite(tmp_path).say("-t is no option", "rms", 1.25, 0.9)
    assert samples.dtype == np.float32
    assert RATE <= len(samples) < 1.1 * RATE
    asked = program[1].read_text().splitlines()
    assert asked[asked.index("-voice") + 1] == "rms"
    assert asked[asked.index("-t") + 1] == " -t is no option"
    assert {"duration_stretch=1.250", "f0_shift=0.900"} <= set(asked)


@pytest.mark.parametrize("text", ["", "...", "日本"])
def test_what_has_no_words_is_refused(program, tmp_path, text):
    with pytest.raises(DataError, match="expected words in English"):
        Flite(tmp_path).say(text, "slt")


def test_an_unknown_voice_is_refused(program, tmp_path):
    with pytest.raises(DataError, match="no voice 'nobody' here; expected one of slt, rms, awb"):
        Flite(tmp_path).say("hello", "nobody")


def test_a_program_that_fails_is_quoted(program, tmp_path):
    program[0].write_text("#!/bin/sh\necho no memory >&2\nexit 3\n")
    with pytest.raises(DataError, match="failed with 3 on 'hello': no memory"):
        Flite(tmp_path).say("hello", "slt")


def test_without_the_program_it_is_said_how_to_get_it(tmp_path, monkeypatch):
    def no_network(*arguments):
        raise DataError("no network")

    monkeypatch.setattr(flite, "unpacked", no_network)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingError, match=r"apt-get install flite.*no network"):
        Flite(tmp_path)


@installed
def test_voices_differ_in_pitch_and_length(tmp_path):
    program = Flite(tmp_path)
    by_voice = {voice: program.say("The fog is grey.", voice) for voice in VOICES}
    assert len({samples.tobytes() for samples in by_voice.values()}) == len(VOICES)
    slow, high = program.say("The fog is grey.", "slt", stretch=1.5), program.say("The fog is grey.", "slt", pitch=1.3)
    assert len(slow) > 1.3 * len(by_voice["slt"])
    assert len(high) == pytest.approx(len(by_voice["slt"]), rel=0.05)
    assert not np.array_equal(high, by_voice["slt"])
