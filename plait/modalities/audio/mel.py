"""Waveform to log-mel frames and back. Sample rate 16 kHz, STFT 1024 / hop 160, 80 mels, natural log."""

from __future__ import annotations

from functools import cache, lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

RATE = 16_000
WINDOW = 1024
HOP = 160
MELS = 80
FLOOR = 1e-5


def _hz_to_mel(hz: np.ndarray) -> np.ndarray:
    """Slaney's scale: linear below 1 kHz, logarithmic above (Auditory Toolbox, 1998)."""
    return np.where(hz < 1000.0, hz * 3 / 200, 15.0 + np.log(np.maximum(hz, 1e-9) / 1000.0) * 27 / np.log(6.4))


def _mel_to_hz(mel: np.ndarray) -> np.ndarray:
    return np.where(mel < 15.0, mel * 200 / 3, 1000.0 * np.exp((mel - 15.0) * np.log(6.4) / 27))


@cache
def filterbank(window: int = WINDOW, bands: int = MELS) -> Tensor:
    """[bands, window // 2 + 1] triangular filters of equal area (Slaney's normalisation), 0 Hz to the Nyquist rate."""
    bins = np.linspace(0.0, RATE / 2, window // 2 + 1)
    edges = _mel_to_hz(np.linspace(0.0, float(_hz_to_mel(np.array(RATE / 2))), bands + 2))
    rising = (bins[None, :] - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - bins[None, :]) / np.diff(edges)[1:, None]
    triangles = np.maximum(0.0, np.minimum(rising, falling)) * (2.0 / (edges[2:] - edges[:-2]))[:, None]
    with torch.inference_mode(False):  # a loss may need it after an answer did
        return torch.from_numpy(triangles.astype(np.float32))


@cache
def _pseudo_inverse() -> Tensor:
    inverse: Tensor = torch.linalg.pinv(filterbank())
    return inverse


@cache
def _window() -> Tensor:
    return torch.hann_window(WINDOW)


def stft(samples: Tensor) -> Tensor:
    """[n] -> [1 + n // HOP, WINDOW // 2 + 1] complex: the transpose of `torch.stft`, faster (docs/experiments/cpu.md)."""
    padded = F.pad(samples, (WINDOW // 2, WINDOW // 2))
    spectrum: Tensor = torch.fft.rfft(padded.unfold(-1, WINDOW, HOP) * _window())
    return spectrum


def _overlap_add(frames: Tensor) -> Tensor:
    """[T, WINDOW] frames -> their sum at offsets of HOP, [at least (T - 1) * HOP + WINDOW]."""
    count, pieces = len(frames), -(-WINDOW // HOP)
    chunks = F.pad(frames, (0, pieces * HOP - WINDOW)).view(count, pieces, HOP)
    total = frames.new_zeros(count + pieces - 1, HOP)
    for number in range(pieces):
        total[number : number + count] += chunks[:, number]
    return total.flatten()


@lru_cache(256)
def _weight(count: int, length: int) -> Tensor:
    """[length] how much of the squared windows of `count` frames falls on each sample: the same for all clips so long."""
    return _overlap_add(_window().square().expand(count, WINDOW))[WINDOW // 2 : WINDOW // 2 + length]


def istft(spectrum: Tensor, length: int) -> Tensor:
    """The least-squares inverse of `stft` (Griffin and Lim, 1984): [T, WINDOW // 2 + 1] complex -> [length]."""
    samples = _overlap_add(torch.fft.irfft(spectrum, WINDOW) * _window())
    return samples[WINDOW // 2 : WINDOW // 2 + length] / _weight(len(spectrum), length)


def log_mel(samples: np.ndarray) -> np.ndarray:
    """[n] float samples at 16 kHz -> [1 + n // HOP, MELS] float32, `log(max(mel of the magnitude, FLOOR))`."""
    magnitude = stft(torch.from_numpy(np.ascontiguousarray(samples, np.float32))).abs()
    logs: np.ndarray = (magnitude @ filterbank().T).clamp_min(FLOOR).log().numpy()
    return logs


def griffin_lim(frames: np.ndarray, iterations: int = 32, momentum: float = 0.99) -> np.ndarray:
    """[T, MELS] log-mel frames -> [(T - 1) * HOP] samples whose log-mel is close to them.

    Fast Griffin-Lim (Perraudin, Balazs and Sondergaard, 2013) on magnitudes from the pseudo-inverse of the filterbank.
    The random initial phases have a fixed seed, so that equal frames give equal samples.
    """
    length = (frames.shape[0] - 1) * HOP
    if length <= 0:
        return np.zeros(0, np.float32)
    mel = torch.from_numpy(np.ascontiguousarray(frames, np.float32)).exp()
    filters = filterbank().T.contiguous()
    magnitude = (mel @ _pseudo_inverse().T).clamp_min(0.0)
    target = mel @ filters.T
    for _ in range(10):  # a few multiplicative updates towards the non-negative solution (Lee and Seung, 2001)
        magnitude = magnitude.clamp_min(1e-8) * (target / ((magnitude @ filters) @ filters.T).clamp_min(1e-8))
    phases = torch.rand(magnitude.shape, generator=torch.Generator().manual_seed(0)) * (2 * np.pi)
    samples: np.ndarray = _rebuild(torch.polar(magnitude, phases), magnitude, iterations, momentum).numpy()
    return samples


def _rebuild(spectrum: Tensor, magnitude: Tensor, iterations: int, momentum: float) -> Tensor:
    """[(T - 1) * HOP] samples after `iterations` of fast Griffin-Lim from a first [T, WINDOW // 2 + 1] `spectrum`.

    Each iteration is `stft(istft(spectrum))`, with the same window, sums and weights in fewer passes over memory. The phase
    of `rebuilt + momentum * (rebuilt - previous)` is that of `rebuilt - momentum / (1 + momentum) * previous`.
    """
    count, pieces, middle = (
        len(spectrum),
        -(-WINDOW // HOP),
        slice(WINDOW // 2, WINDOW // 2 + (len(spectrum) - 1) * HOP),
    )
    window, frames = _window(), torch.zeros(count, pieces * HOP)  # what is behind a window stays zero
    chunks = frames.view(count, pieces, HOP)
    total = torch.zeros(count + pieces - 1, HOP)
    overlaps = [(total[number : number + count], chunks[:, number]) for number in range(pieces)]
    weight = torch.zeros(total.numel())
    weight[middle] = 1.0 / _weight(count, (count - 1) * HOP)
    padded = torch.empty_like(weight)
    overlapping = padded.unfold(0, WINDOW, HOP)[:count]
    previous = torch.zeros_like(spectrum)

    def synthesise() -> None:
        torch.mul(torch.fft.irfft(spectrum, WINDOW), window, out=frames[:, :WINDOW])
        total.zero_()
        for place, chunk in overlaps:
            place.add_(chunk)
        torch.mul(total.view(-1), weight, out=padded)

    for _ in range(iterations):
        synthesise()
        rebuilt = torch.fft.rfft(overlapping * window)
        spectrum = torch.sgn(torch.sub(rebuilt, previous, alpha=momentum / (1.0 + momentum))).mul_(magnitude)
        previous = rebuilt
    synthesise()
    return padded[middle].clone()
