"""Who speaks: the direction of a voice (plait.modalities.Voices), by the GE2E encoder of the package Resemblyzer (Wan et al., 2018).

Its weights come from pip at first use, pinned by hash, and are opened without running what a pickle may hold. The network, the
frames and the windows are those that it was trained with; silence is cut by level, not by a detector of speech.
"""

from __future__ import annotations

import io
import threading
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import soxr
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from plait.errors import RowError
from plait.modalities.audio.mel import RATE, filterbank
from plait.runtime.packages import Package, places, unpacked

if TYPE_CHECKING:
    from plait.contract import Part

PACKAGE = Package(
    "pip",
    "resemblyzer",
    "0.1.4",
    "8f12eb2f1a9982d32e8db7856de754709b59c93a77bcf0ff536584b619a9dd1f",
    contents="Resemblyzer's speaker encoder (Apache-2.0), 16 MB",
)
WEIGHTS = "resemblyzer/pretrained.pt"
WIDTH, LAYERS, MELS = 256, 3, 40
WINDOW, HOP = 400, 160  # samples of a frame: 25 ms every 10
FRAMES, STEP = 160, 77  # of a window that the network hears at once, and from one to the next
COVERED = 0.75  # of the last window, which is left out if less of it is sound
QUIET = 10 ** (-30 / 20)  # root mean square that quieter sound is raised to: -30 dB of full scale
SLICE = 480  # samples, 30 ms, that are silence or not:
SILENT = 10 ** (-40 / 20)  # times the level of the loudest twentieth of them
LEAST, MOST = 1.0, 60.0  # seconds of sound that a voice is told from
LOWEST_RATE = 4_000  # Hz
THRESHOLD = 0.65  # likeness from which two clips have one voice
MEASURED = {
    "metric": "equal error rate of two clips by people",
    "value": 0.067,
    "speakers": 7,
    "pairs": 49_440,
}  # benchmarks/speakers.py
_FETCHING = threading.Lock()


class Encoder(nn.Module):
    """[n, FRAMES, MELS] mel power -> [n, WIDTH] unit vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(MELS, WIDTH, LAYERS, batch_first=True)
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(self, mels: Tensor) -> Tensor:
        _, (hidden, _) = self.lstm(mels)
        return F.normalize(F.relu(self.linear(hidden[-1])), dim=-1)


def encoder(folder: Path) -> Encoder:
    """The trained network; its package is fetched into the folder of sources where it is missing. Raises MissingError, DataError."""
    with _FETCHING:  # one fetches, others wait
        return _encoder(folder)


@cache
def _encoder(folder: Path) -> Encoder:
    data = (unpacked(PACKAGE, folder) / WEIGHTS).read_bytes()
    state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)["model_state"]
    network = Encoder()
    network.load_state_dict({name: state[name] for name in network.state_dict()})
    return network.eval()


def loud(samples: np.ndarray) -> np.ndarray:
    """[n] samples without the SLICEs that are silence, raised to QUIET where they are quieter."""
    whole = samples[: len(samples) // SLICE * SLICE].astype(np.float32)
    slices = whole.reshape(-1, SLICE)
    levels = np.sqrt((slices**2).mean(axis=1))
    if not len(levels) or not levels.max() > 0:
        return np.zeros(0, np.float32)
    heard: np.ndarray = slices[levels > SILENT * np.quantile(levels, 0.95)].ravel()
    raised: np.ndarray = heard * np.float32(max(1.0, QUIET / np.sqrt((heard**2).mean())))
    return raised


def frames(samples: np.ndarray) -> Tensor:
    """[n] samples -> [1 + n // HOP, MELS] power in mel bands."""
    padded = F.pad(torch.from_numpy(samples), (WINDOW // 2, WINDOW // 2))
    power = torch.fft.rfft(padded.unfold(0, WINDOW, HOP) * torch.hann_window(WINDOW)).abs().square()
    mel: Tensor = power @ filterbank(WINDOW, MELS).T
    return mel


def windows(samples: np.ndarray) -> Tensor:
    """[n] samples -> [windows, FRAMES, MELS], the last one filled up with silence."""
    count = -(-(len(samples) + 1) // HOP)
    starts = list(range(0, max(1, count - FRAMES + STEP + 1), STEP))
    if len(starts) > 1 and (len(samples) - starts[-1] * HOP) / (FRAMES * HOP) < COVERED:
        starts.pop()
    missing = max(0, (starts[-1] + FRAMES) * HOP - len(samples))
    mel = frames(np.pad(samples, (0, missing)))
    return torch.stack([mel[start : start + FRAMES] for start in starts])


def threshold() -> float:
    """As `Voices.threshold`."""
    return THRESHOLD


def measured() -> dict[str, Any]:
    """As `Voices.measured`."""
    return dict(MEASURED)


@torch.inference_mode()
def direction(part: Part) -> np.ndarray:
    """As `Voices.direction`."""
    samples, rate = part.value
    samples = samples.mean(axis=1) if samples.ndim == 2 else samples
    if rate < LOWEST_RATE or len(samples) > MOST * rate:
        raise RowError(
            f"got {len(samples) / rate:.0f} seconds at {rate} Hz; expected at most {MOST:.0f}, at {LOWEST_RATE} Hz or more: cut it"
        )
    heard = loud(np.asarray(soxr.resample(samples, rate, RATE), np.float32))
    if len(heard) < LEAST * RATE:
        raise RowError(
            f"got {len(heard) / RATE:.2f} seconds that are not silence; expected at least {LEAST} of one voice"
        )
    told: np.ndarray = F.normalize(encoder(places())(windows(heard)).mean(dim=0), dim=0).numpy()
    return told
