"""A watermark in sound that a model made (plait.modalities.Marks).

A fixed pattern of signs over BANDS narrow bands and PERIOD stretches of an eighth of a second, over and over: each stretch of a band is a
little louder or softer (multiplicative spread spectrum in the spectrum, as Kirovski & Malvar 2003). Found again as a correlation
with how loud a stretch is beside its neighbours, at any beginning, so that a clip may be cut. The pattern is public: it keeps
out no one who wants it gone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np
import soxr
from scipy.ndimage import uniform_filter1d

from plait.contract import Part
from plait.errors import RowError
from plait.modalities import PROVENANCE
from plait.modalities.audio.codec import open_sound
from plait.modalities.audio.mel import RATE, WINDOW

NAME = "audio"
HOP = WINDOW // 2  # samples
STRETCH = 4  # hops
PERIOD = 8  # stretches
WIDTH = 4  # bins of a band
LOWEST = 300 * WINDOW // RATE  # bin
BANDS = (5500 * WINDOW // RATE - LOWEST) // WIDTH
STRENGTH = 0.15  # of the logarithm of the amplitude: 1.3 dB
FOUND = 6.5  # standard deviations; the best of 128 beginnings of sound without a mark lies at 2.8, 5.1 of 300
LOOK = 128  # samples between two beginnings
LISTENED = 60.0  # seconds of a clip that the mark is sought in
RATES = (4_000, 384_000)  # Hz


@cache
def _pattern() -> np.ndarray:
    """[PERIOD, BANDS] signs, the same on every machine."""
    signs = np.random.Generator(np.random.PCG64(20261127)).integers(0, 2, (PERIOD, BANDS)) * 2.0 - 1.0
    return np.asarray(signs)


@cache
def _gains() -> np.ndarray:
    """[PERIOD, bins] factors of amplitudes."""
    gains = np.ones((PERIOD, WINDOW // 2 + 1))
    gains[:, LOWEST : LOWEST + BANDS * WIDTH] = np.exp(STRENGTH * np.repeat(_pattern(), WIDTH, 1))
    return gains


@cache
def _window() -> np.ndarray:
    return np.asarray(np.sqrt(np.hanning(WINDOW + 1)[:-1]))


class Marker:
    """Marks samples as they come; what it gives lags behind by at most one window, until they end."""

    def __init__(self) -> None:
        self.waiting = np.zeros(HOP)  # samples whose frames are not whole yet, behind silence
        self.summed = np.zeros(WINDOW)  # frames that overlap with the next one
        self.frames = self.given = self.taken = 0

    def add(self, samples: np.ndarray, last: bool = False) -> np.ndarray:
        """The next marked samples; with the last ones as many as came in all."""
        self.taken += len(samples)
        end = np.zeros(WINDOW + HOP) if last else np.zeros(0)
        self.waiting = np.concatenate([self.waiting, np.asarray(samples, np.float64), end])
        pieces = []
        while len(self.waiting) >= WINDOW:
            spectrum = np.fft.rfft(self.waiting[:WINDOW] * _window())
            self.summed += np.fft.irfft(spectrum * _gains()[self.frames // STRETCH % PERIOD]) * _window()
            pieces.append(self.summed[:HOP].copy())
            self.summed = np.concatenate([self.summed[HOP:], np.zeros(HOP)])
            self.waiting = self.waiting[HOP:]
            self.frames += 1
        if pieces and self.frames == len(pieces):
            pieces[0] = pieces[0][:0]  # the silence before the first sample
        marked = np.concatenate([np.zeros(0), *pieces])
        marked = marked[: self.taken - self.given]
        self.given += len(marked)
        return np.asarray(np.clip(marked, -1.0, 1.0), np.float32)


def marker() -> Callable[[Part | None], Part | None]:
    """What marks a clip's pieces as they come; for None, behind the last one, it gives what is left."""
    state, options = Marker(), {PROVENANCE: "Plait"}

    def take(piece: Part | None) -> Part | None:
        samples = np.zeros(0) if piece is None else _samples(piece)
        return Part(NAME, (state.add(samples, last=piece is None), RATE), options)

    return take


def mark(part: Part) -> Part:
    """The clip with the mark, of the same length, and a note for its files. Raises RowError."""
    samples = Marker().add(_samples(part), last=True)
    return Part(NAME, (samples, RATE), {**part.options, PROVENANCE: "Plait"})


def _samples(part: Part, seconds: float = math.inf) -> np.ndarray:
    """[n] samples at RATE of up to so many seconds, of all channels together. Raises RowError."""
    samples, rate = open_sound(part.value, math.inf)
    if not RATES[0] <= rate <= RATES[1]:
        raise RowError(f"audio part: got {rate} samples a second; expected {RATES[0]:,} to {RATES[1]:,}: resample it")
    samples = samples[: int(seconds * rate)] if seconds < math.inf else samples
    samples = samples.mean(axis=1) if samples.ndim == 2 else samples
    return np.asarray(samples if rate == RATE else soxr.resample(samples, rate, RATE), np.float64)


def _without_coarse(levels: np.ndarray, stretch: int) -> np.ndarray:
    """[..., BANDS] levels beside those of the bands around, and of the stretches before and after."""
    rest = levels - uniform_filter1d(levels, 5, axis=-1, mode="nearest")
    return np.asarray(rest - (np.roll(rest, stretch, 0) + np.roll(rest, -stretch, 0)) / 4)


def evidence(part: Part) -> tuple[float, float]:
    """How clearly the first LISTENED seconds of a clip have the mark, at the best beginning, and from where on it counts as found: standard deviations. Raises
    RowError."""
    samples = np.pad(_samples(part, LISTENED), WINDOW)
    windows = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::LOOK]
    power = np.abs(np.fft.rfft(windows * np.hanning(WINDOW))) ** 2
    bands = power[:, LOWEST : LOWEST + BANDS * WIDTH].reshape(len(power), BANDS, WIDTH).mean(2)
    levels = np.log(bands + 1e-5 * bands.mean() + 1e-12)
    stretch = STRETCH * HOP // LOOK
    levels = np.roll(uniform_filter1d(levels, stretch, axis=0, mode="nearest"), -(stretch // 2), 0)
    rest = _without_coarse(levels, stretch)
    rest = np.clip(rest / (rest.std(0) + 1e-9), -2, 2)
    sought = _without_coarse(_pattern(), 1)
    padded = np.pad(rest, ((0, -len(rest) % (PERIOD * stretch)), (0, 0)))
    folded = padded.reshape(-1, PERIOD, stretch, BANDS).sum(0)
    spectra = np.fft.fft(folded, axis=0) * np.conj(np.fft.fft(sought, axis=0))[:, None]
    sums = np.fft.ifft(spectra.sum(2), axis=0).real  # [PERIOD, stretch]: beginnings
    expected = np.sqrt(len(rest) / (PERIOD * stretch) * (sought**2).sum() * (rest**2).mean())
    return float(sums.max() / max(expected, 1e-9)), FOUND
