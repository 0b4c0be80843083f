"""Presentation of a clip: in files, on pages, in a terminal."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from markupsafe import Markup
from PIL import Image

from plait.contract import Part
from plait.modalities.audio import transfer
from plait.modalities.audio.measure import waveform
from plait.modalities.audio.mel import FLOOR, RATE, log_mel
from plait.runtime.pages import data_url, picture_url

BARS = "▁▂▃▄▅▆▇█"
MAX_COLUMNS = 40  # of the loudness bars


def accepts(value: Any) -> bool:
    """Whether the value is (samples, rate)."""
    return isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], np.ndarray)


def verb() -> str:
    """The chat command: /say."""
    return "say"


def reads_files() -> Sequence[str]:
    """Suffixes of formats that libsndfile decodes."""
    return (".wav", ".flac", ".ogg", ".oga", ".mp3", ".opus")


def save(part: Part, folder: Path, stem: str) -> Path:
    """Write a 16-bit WAV; returns its path. (samples, rate) are written unchanged. Raises RowError."""
    path = folder / f"{stem}.wav"
    clip = part if isinstance(part.value, tuple) else replace(part, value=(waveform(part), RATE))
    path.write_bytes(transfer.encode(clip, "wav"))
    return path


def html(part: Part, notes: Sequence[str] = ()) -> str:
    """A player under the clip's spectrogram. Raises RowError."""
    samples = waveform(part)
    return Markup(
        '<span class="sound"><img src="{}" alt="spectrogram"><audio controls preload="none" src="{}"></audio></span>'
    ).format(picture_url(spectrogram(samples)), sound_url(samples, RATE))


def spectrogram(samples: np.ndarray) -> Image.Image:
    """Log-mel frames as a grey picture, low frequencies at the bottom."""
    frames = log_mel(samples)
    level = (frames - np.log(FLOOR)) / (frames.max() - np.log(FLOOR) + 1e-9)
    return Image.fromarray((255 - 255 * level.T[::-1]).clip(0, 255).astype(np.uint8))


def sound_url(samples: np.ndarray, rate: int) -> str:
    """Sound as a data URL: MP3, which is small and plays in every browser, or WAV."""
    has_mp3 = "MP3" in soundfile.available_formats()  # libsndfile 1.1 or newer
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format="MP3" if has_mp3 else "WAV")
    return data_url("audio/mpeg" if has_mp3 else "audio/wav", buffer.getvalue())


def terminal(part: Part, columns: int, protocol: str | None) -> str:
    """Bars of the clip's loudness over time, and its duration. Raises RowError."""
    samples, rate = part.value if isinstance(part.value, tuple) else (waveform(part), RATE)
    return f"{loudness(samples, min(columns, MAX_COLUMNS))} {len(samples) / rate:.2f} s"


def loudness(samples: np.ndarray, columns: int = MAX_COLUMNS) -> str:
    """RMS over time as a line of `columns` bars, relative to the loudest."""
    pieces = np.array_split(np.asarray(samples, np.float64), min(columns, max(1, len(samples))))
    levels = np.array([np.sqrt(np.mean(piece**2)) for piece in pieces])
    return "".join(BARS[int(level)] for level in (levels / max(levels.max(), 1e-9) * (len(BARS) - 1)).round())
