"""Sound as bytes (plait.modalities.Transfers)."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import soundfile
import soxr

from plait.contract import Part
from plait.errors import ConfigError, RowError
from plait.modalities import PROVENANCE
from plait.modalities.audio.codec import Audio, open_sound

OPUS_RATE = PCM_RATE = (
    24_000  # Hz: Opus knows no 22,050; headerless samples have no rate but the one that clients expect
)
MADE = "trainedAlgorithmicMedia by "  # IPTC's word for what a model made, in a comment, before its maker


class Format(NamedTuple):
    """A media type, and libsndfile's names for it."""

    media_type: str
    container: str
    subtype: str
    rate: int | None = None  # Hz, that the sound must have


FORMATS = {
    "wav": Format("audio/wav", "WAV", "PCM_16"),
    "mp3": Format("audio/mpeg", "MP3", "MPEG_LAYER_III"),
    "flac": Format("audio/flac", "FLAC", "PCM_16"),
    "opus": Format("audio/ogg", "OGG", "OPUS", OPUS_RATE),
    "pcm": Format("audio/pcm", "RAW", "PCM_16", PCM_RATE),
}


def formats() -> Mapping[str, str]:
    """WAV, MP3, FLAC, Opus in Ogg, and headerless 16-bit samples at 24 kHz."""
    return {name: entry.media_type for name, entry in FORMATS.items()}


def encode(part: Part, format: str) -> bytes:
    """The clip at its own level and rate, where the format knows it. Raises ConfigError, RowError."""
    entry = FORMATS.get(format)
    if entry is None:
        raise ConfigError(f"got format {format!r} for sound; expected one of {', '.join(FORMATS)}")
    samples, rate = open_sound(part.value, math.inf)
    if entry.rate not in (None, rate):
        samples, rate = soxr.resample(samples, rate, entry.rate), entry.rate
    buffer = io.BytesIO()
    with soundfile.SoundFile(buffer, "w", rate, 1, entry.subtype, format=entry.container) as file:
        if PROVENANCE in part.options and entry.container != "RAW":
            file.comment = MADE + str(part.options[PROVENANCE])
        file.write(samples)
    return buffer.getvalue()


def joined(format: str) -> Callable[[Part | None], bytes]:
    """Headerless samples, resampled as one clip."""
    stream: soxr.ResampleStream | None = None

    def take(piece: Part | None) -> bytes:
        nonlocal stream
        samples, rate = (np.zeros(0, np.float32), PCM_RATE) if piece is None else open_sound(piece.value, math.inf)
        stream = stream or soxr.ResampleStream(rate, PCM_RATE, 1, dtype="float32")
        resampled = stream.resample_chunk(np.asarray(samples, np.float32), last=piece is None)
        return bytes((np.clip(resampled, -1, 1) * 32767).astype("<i2").tobytes())

    if format != "pcm":
        raise ConfigError(f"got format {format!r} for sound that is being made; expected pcm")
    return take


def decode(data: bytes) -> Part:
    """The samples of a WAV, FLAC, Ogg, MP3 or Opus file. Raises RowError."""
    samples, rate = open_sound(data, math.inf)
    if not np.isfinite(samples).all():
        raise RowError("audio part: got samples that are not finite numbers; expected finite sound: save the file anew")
    return Part(Audio.name, (samples, rate), _provenance(data))


def _provenance(data: bytes) -> dict[str, str]:
    """The option PROVENANCE where the file says that a model made it."""
    with soundfile.SoundFile(io.BytesIO(data)) as file:
        _, made, maker = file.copy_metadata().get("comment", "").partition(MADE)
    with contextlib.suppress(UnicodeError):  # in MP3 libsndfile writes UTF-8 and reads Latin-1
        maker = maker.encode("latin-1").decode()
    return {PROVENANCE: maker[:200] or "a model"} if made else {}
