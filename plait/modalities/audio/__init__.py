"""Sound: groups of normalised log-mel frames, no codec. A clip is a chain of blocks, so speech starts before it ends."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile
import soxr

from plait.contract import Block, HeadKind, Part, Segment
from plait.errors import ConfigError, RowError
from plait.modalities.audio.mel import FLOOR, HOP, MELS, RATE, WINDOW, filterbank, griffin_lim, log_mel

if TYPE_CHECKING:
    from torch import nn

OPEN = "<open:audio>"
MORE = "<more>"
LEVEL = 10 ** (-23 / 20)  # root mean square
PEAK = 10 ** (-1 / 20)
LARGEST = 1e9  # of a sample; resampling sums of larger ones can overflow
ABOVE_NOISE = (5.0, 30.0)  # dB that a clip's power is above that of noise
BELOW_DIRECT = (0.0, 12.0)  # dB that the power of a room's tail is below that of what comes straight
DECAY = (0.2, 0.8)  # seconds until a room's tail has fallen by 60 dB


def level(samples: np.ndarray) -> np.ndarray:
    """Scale to -23 dB RMS unless that would push the peak above -1 dB; silence stays silence."""
    rms = float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))) if samples.size else 0.0
    if rms < 1e-6:
        return samples
    gain = min(LEVEL / rms, PEAK / float(np.abs(samples).max()))
    return (samples * gain).astype(np.float32)


def in_room(frames: np.ndarray, seconds: float, below: float) -> np.ndarray:
    """[T, MELS] log-mel frames with a room's tail: the power of each goes on in the later ones, falling exponentially by
    60 dB in `seconds`, in all `below` dB under its own."""
    power = np.exp(2.0 * frames)
    fall = 10 ** (-6 * HOP / RATE / seconds)  # of power, a frame
    tail = np.zeros_like(power)
    for time in range(1, len(power)):
        tail[time] = fall * (tail[time - 1] + power[time - 1])
    share = 10 ** (-below / 10) * (1 - fall) / fall
    made: np.ndarray = 0.5 * np.log(power + share * tail)
    return made


def in_noise(frames: np.ndarray, above: float, pink: bool, rng: np.random.Generator) -> np.ndarray:
    """[T, MELS] log-mel frames with steady noise, white or pink (power as 1 / f), its mean power over all frames and bins
    `above` dB under theirs. Powers add: a log-mel is that of a magnitude, hence twice."""
    noise = log_mel(rng.standard_normal(len(frames) * HOP))[: len(frames)]
    if pink:
        filters = filterbank().numpy()
        hertz = filters @ np.linspace(0.0, RATE / 2, WINDOW // 2 + 1) / filters.sum(axis=1)
        noise = noise - 0.5 * np.log(hertz)
    power, noise_power = np.exp(2.0 * frames).mean(), np.exp(2.0 * noise).mean()
    noise = noise + 0.5 * (np.log(power / noise_power) - above * np.log(10) / 10)
    made: np.ndarray = 0.5 * np.logaddexp(2.0 * frames, 2.0 * noise)
    return made


class Audio:
    """Flow modality over tokens of `frames` log-mel frames (10 ms each), chained in blocks of `block` tokens.

    `mean` and `std` (one number a mel bin) come from `fit`. `max_seconds` bounds what `read` accepts and what is made. What `vary` may do:
    `pitch` is the most mel bins that it moves a clip by; `room` and `noise` are the chances that it puts a clip in a room, and
    that it adds noise.
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
        pitch: int = 2,
        noise: float = 0.0,
        room: float = 0.0,
    ) -> None:
        if frames < 1 or block < 1 or max_seconds <= 0:
            raise ConfigError(
                f"audio: frames={frames}, block={block}, max_seconds={max_seconds}; expected all positive"
            )
        if pitch < 0 or not 0 <= noise <= 1 or not 0 <= room <= 1:
            raise ConfigError(
                f"audio: pitch={pitch}, noise={noise}, room={room}; expected pitch >= 0, chances from 0 to 1"
            )
        self.frames, self.block, self.max_seconds = frames, block, max_seconds
        self.pitch, self.noise, self.room = pitch, noise, room
        self.mean = np.full(MELS, -6.0, np.float32) if mean is None else np.asarray(mean, np.float32)
        self.std = np.full(MELS, 3.0, np.float32) if std is None else np.asarray(std, np.float32)

    @property
    def token_width(self) -> int:
        return self.frames * MELS

    def grammar(self) -> Sequence[str]:
        return (OPEN, MORE, *(f"<last:{k}>" for k in range(1, self.block + 1)))

    def expects(self, header: Sequence[str], options: Mapping[str, Any]) -> Sequence[str]:
        if tuple(header) not in ((), (OPEN,)):
            return ()
        most = max(1, int(self.max_seconds * RATE / HOP / self.frames + 1e-6))  # tokens
        room = most - options.get("blocks", 0) * self.block
        more = () if room <= self.block else (MORE,)
        return (*more, *self.grammar()[2 : 2 + max(1, min(room, self.block))])

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
        if isinstance(value, int):  # libsndfile would take it for an open file, and close that
            raise RowError(f"audio part: got the number {value}; expected the path of a sound file, or its bytes")
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

    def _mono(self, part: Part) -> tuple[np.ndarray, int]:
        """Float32 samples and their rate. Raises RowError for empty, overlong or non-finite sound."""
        samples, rate = self._open(part.value)
        if rate < 1:
            raise RowError(f"audio part: got a sample rate of {rate}; expected samples a second, such as 16000")
        if samples.ndim == 2:
            samples = samples.mean(axis=1)
        largest = float(np.abs(samples).max(initial=0.0))
        if samples.size == 0 or not largest <= LARGEST:  # which no number is not, either
            what = "no samples" if samples.size == 0 else "samples that are not finite numbers"
            if math.isfinite(largest) and samples.size:
                what = f"a sample of {largest:.3g}"
            raise RowError(f"audio part: got {what}; expected finite sound, samples from -1 to 1: save the file anew")
        if samples.size / rate > self.max_seconds:
            raise RowError(
                f"audio part: got {samples.size / rate:.1f} s; expected at most {self.max_seconds} s: cut the clip or "
                "train with a larger modalities.audio.max_seconds"
            )
        return samples, rate

    def samples(self, part: Part) -> np.ndarray:
        """Mono float32 samples at 16 kHz, levelled. Raises RowError for empty, overlong or non-finite sound."""
        samples, rate = self._mono(part)
        if rate != RATE:
            samples = soxr.resample(samples, rate, RATE)
        return level(samples)

    def _kept(self, part: Part) -> np.ndarray | None:
        """The mel that a conversation kept, since mel does not survive the waveform. Raises RowError."""
        kept = part.options.get("mel")
        if kept is None:
            return None
        if not isinstance(kept, np.ndarray) or kept.ndim != 2 or kept.shape[1] != MELS or not len(kept):
            what = f"an array of shape {kept.shape}" if isinstance(kept, np.ndarray) else type(kept).__name__
            raise RowError(f"audio part: got {what} as mel; expected an array [frames, {MELS}], or none: leave mel out")
        if not np.isfinite(kept).all():
            raise RowError("audio part: got a mel that is not finite; expected finite numbers: leave mel out")
        return kept

    def _tokens(self, part: Part) -> np.ndarray:
        frames = self._kept(part)
        if frames is None:
            frames = log_mel(self.samples(part))
        short = -len(frames) % self.frames
        frames = np.pad(frames, ((0, short), (0, 0)), constant_values=np.log(FLOOR))
        return self._normal(frames).reshape(-1, self.token_width)

    def _normal(self, logs: np.ndarray) -> np.ndarray:
        """Log-mel frames as tokens have them."""
        made: np.ndarray = ((logs - self.mean) / self.std).astype(np.float32)
        return made

    def _logs(self, frames: np.ndarray) -> np.ndarray:
        """Log-mel frames of normalised ones."""
        made: np.ndarray = frames * self.std + self.mean
        return made

    def check(self, part: Part) -> None:
        if self._kept(part) is None:
            self._mono(part)

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
        frames = self._logs(tokens.reshape(-1, MELS))
        samples = griffin_lim(frames.clip(np.log(FLOOR), 6.0))
        peak = float(np.abs(samples).max(initial=0.0))
        return Part(self.name, (samples * min(1.0, PEAK / max(peak, 1e-9)), RATE), {"mel": frames})

    def vary(self, segment: Segment, rng: np.random.Generator) -> Segment:
        """A little faster or slower, lower or higher, louder or softer, in a room and in noise where the settings say so, and
        with one gap in time and one in frequency (SpecAugment, Park et al. 2019). What is off draws nothing from `rng`."""
        tokens = np.concatenate([block.tokens for block in segment.blocks])
        frames = tokens.reshape(-1, MELS)
        length = max(1, round(len(frames) * rng.uniform(0.9, 1.1)))
        places = np.linspace(0, len(frames) - 1, length)
        low = places.astype(int)
        share = (places - low)[:, None].astype(np.float32)
        frames = frames[low] * (1 - share) + frames[np.minimum(low + 1, len(frames) - 1)] * share
        if self.room and rng.random() < self.room:
            frames = self._normal(in_room(self._logs(frames), rng.uniform(*DECAY), rng.uniform(*BELOW_DIRECT)))
        if self.noise and rng.random() < self.noise:
            frames = self._normal(in_noise(self._logs(frames), rng.uniform(*ABOVE_NOISE), rng.random() < 0.5, rng))
        step = int(rng.integers(-self.pitch, self.pitch + 1))
        bins = np.clip(np.arange(MELS) - step, 0, MELS - 1)  # what moves in at the edge is like the edge
        frames = frames[:, bins] + np.float32(rng.normal(0.0, 0.15))
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
            "pitch": self.pitch,
            "noise": self.noise,
            "room": self.room,
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
