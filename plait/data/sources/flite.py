"""Synthetic speech by Flite (Black and Lenzo 2001), run as a separate program: three statistical voices that were made from
recordings of people. Its numbers are to be called synthetic."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import soundfile

from plait.data.sources.espeak import trim
from plait.data.sources.fetch import Package, unpacked
from plait.errors import DataError, MissingError

RATE = 16_000
LICENCE = "BSD-like program and voices (Carnegie Mellon University)"
VOICES = ("slt", "rms", "awb")  # a woman and a man from the United States, a man from Scotland
# What Debian 12 has for x86-64, used where no `flite` is installed.
PROGRAM = Package("apt", "flite", "2.2-5", "f4ce03470bf9974c2cb9cacd981e6be29339ef4c97cf994dd6fa3f90e6544db9")
LIBRARIES = (
    Package("apt", "libflite1", "2.2-5", "bfa8c591f1b47730b30b372ec38e02918a1c9795eada67684e1746390ad2f061"),
    Package("apt", "libasound2", "1.2.8-1+b1", "44c77b076a7b11ae99712439022d822245b1994c435da564ebd320bb676faf4c"),
)
SECONDS = 60  # that a text may take


class Flite:
    """The installed program, else Debian's, unpacked into `folder`. Raises MissingError where there is neither."""

    def __init__(self, folder: Path) -> None:
        self._environment = dict(os.environ)
        installed = shutil.which("flite")
        if installed:
            self._program = installed
            return
        try:
            self._program = str(unpacked(PROGRAM, folder) / "usr" / "bin" / "flite")
            libraries = [next((unpacked(package, folder) / "usr" / "lib").glob("*-linux-gnu")) for package in LIBRARIES]
            self._environment["LD_LIBRARY_PATH"] = os.pathsep.join(map(str, libraries))
            self.say("one", VOICES[0])
        except (DataError, OSError) as error:
            raise MissingError(
                f"more voices need Flite: apt-get install flite; Debian's does not run: {error}"
            ) from error

    def say(self, text: str, voice: str, stretch: float = 1.0, pitch: float = 1.0) -> np.ndarray:
        """[n] float32 samples at 16 kHz, trimmed, `stretch` times as long and at `pitch` times the voice's own pitch. Raises
        DataError when nothing is spoken."""
        if voice not in VOICES:  # Flite would take its first voice
            raise DataError(f"Flite has no voice {voice!r} here; expected one of {', '.join(VOICES)}")
        if not any(letter.isascii() and letter.isalnum() for letter in text):  # Flite would speak a breath
            raise DataError(f"Flite speaks nothing for {text!r}; expected words in English")
        settings = [f"duration_stretch={stretch:.3f}", "--setf", f"f0_shift={pitch:.3f}"]
        spoken = f" {text}"  # a blank before it: no text is an option
        command = [self._program, "-voice", voice, "-o", "/dev/stdout", "--setf", *settings, "-t", spoken]
        try:
            done = subprocess.run(command, env=self._environment, capture_output=True, timeout=SECONDS, check=False)
        except subprocess.TimeoutExpired as error:
            raise DataError(
                f"Flite gave no answer to {text!r} in {SECONDS} s; expected a text of one sentence"
            ) from error
        if done.returncode or not done.stdout:
            raise DataError(f"Flite failed with {done.returncode} on {text!r}: {done.stderr.decode().strip()[-200:]}")
        samples, _ = soundfile.read(io.BytesIO(done.stdout), dtype="float32")
        return trim(samples)
