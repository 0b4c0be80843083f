"""Sound: groups of normalised log-mel frames, no codec. A clip is a chain of blocks, so speech starts before it ends."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile
import soxr

from plait.contract import Block, HeadKind, Part, Segment
from plait.errors import ConfigError, RowError
from plait.modalities.audio.mel import FLOOR, MELS, RATE, griffin_lim, log_mel

if TYPE_CHECKING:
    from torch import nn

OPEN = "<open:audio>"
MORE = "<more>"
LEVEL = 10 ** (-23 / 20)  # root mean square
PEAK = 10 ** (-1 / 20)


def level(samples: np.ndarray) -> np.ndarray:
    """Scale to -23 dB RMS unless that would push the peak above -1 dB; silence stays silence."""
    rms = float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))) if samples.size else 0.0
    if rms < 1e-6:
        return samples
    gain = min(LEVEL / rms, PEAK / float(np.abs(samples).max()))
    return (samples * gain).astype(np.float32)


class Audio:
    """Flow modality over tokens of `frames` log-mel frames (10 ms each), chained in blocks of `block` tokens.

    `mean` and `std` (one number a mel bin) come from `fit`. `max_seconds` bounds what `read` accepts.
    """

    name = "audio"
    head: HeadKind = "flow"

    def __init__(
        self,
        frames: int = 4,
        block: int = 8,
        max_seconds: float = 30.0,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        if frames < 1 or block < 1 or max_seconds <= 0:
            raise ConfigError(
                f"audio: frames={frames}, block={block}, max_seconds={max_seconds}; expected all positive"
            )
        self.frames, self.block, self.max_seconds = frames, block, max_seconds
        self.mean = np.full(MELS, -6.0, np.float32) if mean is None else np.asarray(mean, np.float32)
        self.std = np.full(MELS, 3.0, np.float32) if std is None else np.asarray(std, np.float32)

    @property
    def token_width(self) -> int:
        return self.frames * MELS

    def grammar(self) -> Sequence[str]:
        return (OPEN, MORE, *(f"<last:{k}>" for k in range(1, self.block + 1)))

    def expects(self, header: Sequence[str], options: Mapping[str, Any]) -> Sequence[str]:
        return self.grammar()[1:] if tuple(header) in ((), (OPEN,)) else ()

    def block_len(self, header: Sequence[str]) -> int:
        return self.block if header[-1] == MORE else int(header[-1][6:-1])

    def ends(self, header: Sequence[str]) -> bool:
        return header[-1] != MORE

    def coordinates(self, header: Sequence[str]) -> np.ndarray:
        return np.arange(self.block_len(header), dtype=np.float32)[:, None]

    def _open(self, value: Any) -> tuple[np.ndarray, int]:
        if isinstance(value, tuple):
            samples, rate = value
            return np.asarray(samples, np.float32), int(rate)
        if isinstance(value, str | Path) and not Path(value).exists():  # libsndfile says "System error"
            raise RowError(f"audio part: {value} is not there; expected the path of a sound file")
        try:
            file = io.BytesIO(value) if isinstance(value, bytes) else str(value) if isinstance(value, Path) else value
            samples, rate = soundfile.read(file, dtype="float32")
        except (OSError, RuntimeError, TypeError) as error:
            what = "bytes" if isinstance(value, bytes) else value
            raise RowError(
                f"audio part: cannot decode {what}: {error}; expected a whole wav, flac, ogg, mp3 or opus file"
            ) from error
        return samples, int(rate)

    def samples(self, part: Part) -> np.ndarray:
        """Mono float32 samples at 16 kHz, levelled. Raises RowError for empty, overlong or non-finite sound."""
        samples, rate = self._open(part.value)
        if rate < 1:
            raise RowError(f"audio part: got a sample rate of {rate}; expected samples a second, such as 16000")
        if samples.ndim == 2:
            samples = samples.mean(axis=1)
        if samples.size == 0 or not np.isfinite(samples).all():
            what = "no samples" if samples.size == 0 else "samples that are not finite numbers"
            raise RowError(f"audio part: got {what}; expected finite sound")
        if samples.size / rate > self.max_seconds:
            raise RowError(
                f"audio part: got {samples.size / rate:.1f} s; expected at most {self.max_seconds} s: cut the clip or "
                "train with a larger modalities.audio.max_seconds"
            )
        if rate != RATE:
            samples = soxr.resample(samples, rate, RATE)
        return level(samples)

    def _tokens(self, part: Part) -> np.ndarray:
        frames = part.options.get("mel")  # the mel that a conversation kept, since mel does not survive the waveform
        if frames is None:
            frames = log_mel(self.samples(part))
        short = -len(frames) % self.frames
        frames = np.pad(frames, ((0, short), (0, 0)), constant_values=np.log(FLOOR))
        return ((frames - self.mean) / self.std).reshape(-1, self.token_width).astype(np.float32)

    def read(self, part: Part) -> Segment:
        return self._segment(self._tokens(part))

    def _segment(self, tokens: np.ndarray) -> Segment:
        """The chain of blocks of [n, token_width] tokens."""
        tokens = tokens.reshape(-1, self.token_width)
        blocks = []
        for start in range(0, len(tokens), self.block):
            piece = tokens[start : start + self.block]
            last = start + self.block >= len(tokens)
            header = (f"<last:{len(piece)}>",) if last else (MORE,)
            blocks.append(Block((OPEN, *header) if start == 0 else header, piece))
        return Segment(self.name, tuple(blocks))

    def write(self, segment: Segment) -> Part:
        tokens = np.concatenate([block.tokens for block in segment.blocks])
        frames = tokens.reshape(-1, MELS) * self.std + self.mean
        samples = griffin_lim(frames.clip(np.log(FLOOR), 6.0))
        peak = float(np.abs(samples).max(initial=0.0))
        return Part(self.name, (samples * min(1.0, PEAK / max(peak, 1e-9)), RATE), {"mel": frames})

    def vary(self, segment: Segment, rng: np.random.Generator) -> Segment:
        """A little faster or slower, lower or higher, louder or softer, and with one gap in time and one in frequency
        (SpecAugment, Park et al. 2019)."""
        tokens = np.concatenate([block.tokens for block in segment.blocks])
        frames = tokens.reshape(-1, MELS)
        length = max(1, round(len(frames) * rng.uniform(0.9, 1.1)))
        places = np.linspace(0, len(frames) - 1, length)
        low = places.astype(int)
        share = (places - low)[:, None].astype(np.float32)
        frames = frames[low] * (1 - share) + frames[np.minimum(low + 1, len(frames) - 1)] * share
        frames = np.roll(frames, int(rng.integers(-2, 3)), axis=1) + np.float32(rng.normal(0.0, 0.15))
        wide, start = int(rng.integers(0, 9)), int(rng.integers(0, MELS))
        frames[:, start : start + wide] = 0.0  # the mean of a bin: tokens are normalised
        wide, start = int(rng.integers(0, 1 + min(8, length // 4))), int(rng.integers(0, length))
        frames[start : start + wide] = 0.0
        return self._segment(np.pad(frames, ((0, -length % self.frames), (0, 0)), mode="edge"))

    def canonical(self, tokens: np.ndarray) -> np.ndarray:
        return tokens

    def embedder(self, dim: int) -> nn.Module:
        from plait.heads.flow import FlowEmbedding

        return FlowEmbedding(self.token_width, dim, num_coordinates=1)

    def fit(self, parts: Iterable[Part]) -> None:
        frames = np.concatenate([log_mel(self.samples(part)) for part in parts])
        self.mean = frames.mean(axis=0).round(6)  # as `state` stores them
        self.std = frames.std(axis=0).clip(min=1e-2).round(6)

    def suggest(self, parts: Sequence[Part]) -> dict[str, Any]:
        """80 ms a token, blocks of 640 ms (docs/experiments.md)."""
        return {"frames": 8, "block": 8}

    def state(self) -> dict[str, Any]:
        return {
            "frames": self.frames,
            "block": self.block,
            "max_seconds": self.max_seconds,
            "mean": [round(float(m), 6) for m in self.mean],
            "std": [round(float(s), 6) for s in self.std],
        }

    def metrics(self, made: Part, reference: Part) -> dict[str, float]:
        a, b = log_mel(self.samples(made)), log_mel(self.samples(reference))
        shared = min(len(a), len(b))
        return {"log_mel_mae": float(np.abs(a[:shared] - b[:shared]).mean()), "frames": float(len(a) - len(b))}

    def example(self, seed: int) -> Part:
        rng = np.random.default_rng(seed)
        time = np.arange(int(RATE * rng.uniform(0.1, 0.8))) / RATE
        tone = np.sin(2 * np.pi * rng.uniform(100, 900) * time) * np.exp(-3 * time)
        return Part(self.name, ((0.3 * tone).astype(np.float32), RATE))


MODALITY = Audio
