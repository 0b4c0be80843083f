"""Speaker embeddings by the GE2E encoder of Resemblyzer (Wan et al. 2018; github.com/resemble-ai/Resemblyzer).

The front end is written from its published definition, so that neither librosa nor webrtcvad is needed: power spectra of
25 ms Hann windows every 10 ms, 40 mel bands, no logarithm. Long silences, which the original cuts by a voice activity
detector, are cut by energy.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from plait.contract import Part
from plait.data.sources.fetch import Package, unpacked
from plait.modalities.audio.measure import waveform

PACKAGE = Package("pip", "resemblyzer", "0.1.4", "8f12eb2f1a9982d32e8db7856de754709b59c93a77bcf0ff536584b619a9dd1f")
WEIGHTS = "resemblyzer/pretrained.pt"
RATE = 16_000
WINDOW = 400
HOP = 160
MELS = 40
PARTIAL = 160  # frames that are embedded at once
STEP = 77  # frames from one partial to the next: 1.3 partials a second
COVERED = 0.75  # of the last partial, or it is left out
WIDTH = 256
QUIET = 1e-2  # of the loudest piece's amplitude: 40 dB below
PIECE = 480  # samples, 30 ms
KEPT = 3  # quiet pieces on either side of a loud one


@cache
def filterbank(mels: int = MELS, window: int = WINDOW) -> Tensor:
    """[mels, window // 2 + 1] triangles of equal area on Slaney's scale (Auditory Toolbox, 1998), 0 Hz to RATE / 2."""
    # the scale: 3 mels in 200 Hz up to 1 kHz, and then 27 in a factor of 6.4
    top = 15.0 + 27.0 * np.log(RATE / 2 / 1000.0) / np.log(6.4)
    steps = np.linspace(0.0, top, mels + 2)
    edges = np.where(steps < 15.0, steps * 200.0 / 3.0, 1000.0 * 6.4 ** ((steps - 15.0) / 27.0))[:, None]
    bins = np.linspace(0.0, RATE / 2, window // 2 + 1)
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    triangles = np.minimum(rising, falling).clip(min=0.0) * 2.0 / (edges[2:] - edges[:-2])
    return torch.from_numpy(triangles.astype(np.float32))


def mel_power(samples: np.ndarray) -> Tensor:
    """[n] samples at 16 kHz -> [1 + n // HOP, MELS] mel bands of the power spectrum, frames centred, zeros beyond the ends."""
    spectrum = torch.stft(
        torch.from_numpy(np.ascontiguousarray(samples, np.float32)),
        WINDOW,
        HOP,
        window=torch.hann_window(WINDOW),
        pad_mode="constant",
        return_complex=True,
    )
    return (filterbank() @ spectrum.abs().square()).T


def without_quiet(samples: np.ndarray) -> np.ndarray:
    """Drops the pieces of 30 ms that are over 40 dB below the loudest, but for KEPT on either side of a loud one."""
    pieces = np.pad(samples, (0, -len(samples) % PIECE)).reshape(-1, PIECE)
    loudness = np.sqrt(np.mean(np.square(pieces), axis=1))
    loud = np.convolve(loudness >= QUIET * loudness.max(), np.ones(2 * KEPT + 1), mode="full")[KEPT:-KEPT] > 0
    audible: np.ndarray = pieces[loud].reshape(-1)
    return audible


def partials(samples: np.ndarray) -> Tensor:
    """[k, PARTIAL, MELS] overlapping windows of a clip.

    The last one is padded with zeros, or dropped where less than COVERED of it would be sound.
    """
    frames = -(-(len(samples) + 1) // HOP)
    starts = list(range(0, max(1, frames - PARTIAL + STEP + 1), STEP))
    if len(starts) > 1 and len(samples) - starts[-1] * HOP < COVERED * PARTIAL * HOP:
        starts.pop()
    mel = mel_power(np.pad(samples, (0, max(0, (starts[-1] + PARTIAL) * HOP - len(samples)))))
    return torch.stack([mel[start : start + PARTIAL] for start in starts])


class _Encoder(nn.Module):
    """[k, PARTIAL, MELS] -> [k, WIDTH] unit vectors of non-negative numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(MELS, WIDTH, 3, batch_first=True)
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(self, mel: Tensor) -> Tensor:
        _, (hidden, _) = self.lstm(mel)
        return nn.functional.normalize(torch.relu(self.linear(hidden[-1])))


class SpeakerFeatures:
    """The speaker encoder with its weights, fetched into `folder`. Raises as `unpacked` does."""

    def __init__(self, folder: Path) -> None:
        state = torch.load(unpacked(PACKAGE, folder) / WEIGHTS, map_location="cpu", weights_only=True)["model_state"]
        # the scale and offset of its loss are in the file as well
        weights = {name: value for name, value in state.items() if not name.startswith("similarity_")}
        self.encoder = _Encoder().eval()
        self.encoder.load_state_dict(weights)

    @torch.inference_mode()
    def features(self, clips: Sequence[tuple[np.ndarray, int]]) -> np.ndarray:
        """[n, 256] unit vectors of (samples, rate) clips; the product of two is their speakers' similarity.

        Clips are brought to one level first, since the encoder is sensitive to loudness. Raises RowError for empty sound.
        """
        vectors = []
        for clip in clips:
            voiced = without_quiet(waveform(Part("audio", clip)))
            vectors.append(nn.functional.normalize(self.encoder(partials(voiced)).mean(dim=0), dim=0))
        return torch.stack(vectors).numpy() if vectors else np.zeros((0, WIDTH), np.float32)
