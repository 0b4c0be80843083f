"""Sound: groups of normalised log-mel frames, no codec. A clip is a chain of blocks, so speech starts before it ends."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile
import soxr
import torch
from torch import Tensor

from plait.contract import Block, HeadKind, Part, Segment
from plait.errors import ConfigError, RowError
from plait.modalities.audio import dictionary
from plait.modalities.audio.augment import Variation
from plait.modalities.audio.letters import (
    AHEAD,
    BEHIND,
    NAMES,
    THEN,
    around,
    at_names,
    checked,
    following,
    is_place,
    is_told,
    letters_in,
    names_in,
    names_of,
    placed,
)
from plait.modalities.audio.mel import FLOOR, HOP, MELS, RATE, griffin_lim, log_mel
from plait.modalities.audio.sounds import Pronunciations
from plait.runtime.packages import places

if TYPE_CHECKING:
    from torch import nn

    from plait.modalities.audio.vocoder import Vocoder

OPEN = "<open:audio>"
MORE = "<more>"
LEVEL = 10 ** (-23 / 20)  # root mean square
PEAK = 10 ** (-1 / 20)
MAX_SAMPLE = 1e9  # magnitude; resampling larger ones can overflow
MAX_CHANNELS = 32
LOUDEST = 6.0  # log-mel
CANCELLED = 1e-3  # RMS of the channels' mean relative to theirs, below which they cancel out


def rms(samples: np.ndarray) -> float:
    """Root mean square of `samples`; 0 if there are none."""
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))) if samples.size else 0.0


def open_sound(value: Any, max_seconds: float) -> tuple[np.ndarray, int]:
    """[n] or [n, channels] float32 samples and their rate in Hz, from a path, bytes or (samples, rate). Raises RowError.

    Checks the header before decoding, so that a small file cannot ask for gigabytes.
    """
    if isinstance(value, tuple):
        samples, rate = value
        samples, rate = np.asarray(samples, np.float32), int(rate)
        check_length(len(samples), rate, max_seconds)
        return samples, rate
    if isinstance(value, int):  # libsndfile would take it for a file descriptor and close it
        raise RowError(f"audio part: got the number {value}; expected the path of a sound file, or its bytes")
    if isinstance(value, str | Path) and not Path(value).exists():  # libsndfile reports "System error"
        raise RowError(f"audio part: {value} is not there; expected the path of a sound file")
    try:
        source = io.BytesIO(value) if isinstance(value, bytes) else str(value) if isinstance(value, Path) else value
        with soundfile.SoundFile(source) as file:
            check_length(file.frames, file.samplerate, max_seconds)
            if file.channels > MAX_CHANNELS:
                raise RowError(
                    f"audio part: got {file.channels} channels; expected at most {MAX_CHANNELS}: save it as mono"
                )
            return file.read(dtype="float32"), int(file.samplerate)
    except RowError:
        raise
    except (OSError, RuntimeError, TypeError) as error:
        name = "bytes" if isinstance(value, bytes) else value
        raise RowError(
            f"audio part: cannot decode {name}: {getattr(error, 'error_string', error)}; expected a whole wav, flac, ogg, mp3 or opus file"
        ) from error


def check_length(count: int, rate: int, max_seconds: float) -> None:
    """Raise RowError for an impossible `rate`, or if `count` samples a channel last longer than `max_seconds`."""
    if rate < 1:
        raise RowError(f"audio part: got a sample rate of {rate}; expected samples a second, such as 16000")
    if count / rate > max_seconds:
        raise RowError(
            f"audio part: got {count / rate:.1f} s; expected at most {max_seconds} s: cut the clip or train with a larger "
            "modalities.audio.max_seconds"
        )


def level(samples: np.ndarray) -> np.ndarray:
    """[n] float32 samples scaled to LEVEL, or less so that the peak stays below PEAK; silence is unchanged."""
    loudness = rms(samples)
    if loudness < 1e-6:
        return samples
    gain = min(LEVEL / loudness, PEAK / float(np.abs(samples).max()))
    return (samples * gain).astype(np.float32)


@dataclass(frozen=True)
class Writing:
    """How sound is written. `vocoder`: width of the network that writes waveforms (`weights`); 0, or until its weights are in use:
    Griffin-Lim. With `letters` a block's header tells the letters that are said in it (plait.modalities.audio.letters): where the
    part's option `words` says when each word is, or as the option `say` of a request wishes; if `pronounced`, the sounds of English
    words that a dictionary knows (plait.modalities.audio.dictionary). Raises ConfigError."""

    vocoder: int = 0
    letters: bool = False
    pronounced: bool = False

    def __post_init__(self) -> None:
        if self.vocoder < 0:
            raise ConfigError(f"audio: vocoder={self.vocoder}; expected a width, or 0 for none")
        if self.pronounced and not self.letters:
            raise ConfigError("audio: pronounced without letters; expected both: sounds stand where letters would")


WRITING = tuple(field.name for field in fields(Writing))


class Audio:
    """Flow modality over tokens of `frames` log-mel frames (10 ms each), chained in blocks of `block` tokens.

    `mean` and `std` [MELS] come from `fit`. `max_seconds` bounds the clips that `read` accepts and that the model generates.
    `reader` names a frozen encoder that also reads what is given (`readers`); without `raw` it alone does. Further settings are
    those of `Writing` and, for `augment`, of `Variation`. Texts are said by `pronunciations_json`, a dictionary as
    `Pronunciations` takes it, which `fit` fetches if `pronounced`; without it words are spelled. Raises ConfigError for impossible settings.
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
        reader: str = "",
        raw: bool = True,
        pronunciations_json: Mapping[str, str] | None = None,
        **settings: Any,
    ) -> None:
        if frames < 1 or block < 1 or max_seconds <= 0:
            raise ConfigError(
                f"audio: frames={frames}, block={block}, max_seconds={max_seconds}; expected all positive"
            )
        self.frames, self.block, self.max_seconds = frames, block, max_seconds
        self.reader, self.raw = reader, raw
        self.writing = Writing(**{name: settings.pop(name) for name in WRITING if name in settings})
        self.variation = Variation(**settings)
        self.network: Vocoder | None = None
        self.pronunciations = None if pronunciations_json is None else Pronunciations(pronunciations_json)
        self.mean = np.full(MELS, -6.0, np.float32) if mean is None else np.asarray(mean, np.float32)
        self.std = np.full(MELS, 3.0, np.float32) if std is None else np.asarray(std, np.float32)

    @property
    def token_width(self) -> int:
        return self.frames * MELS

    def grammar(self) -> Sequence[str]:
        return (OPEN, MORE, *self._last, *((*at_names(self.block), THEN, *NAMES) if self.writing.letters else ()))

    @property
    def _last(self) -> tuple[str, ...]:
        return tuple(f"<last:{k}>" for k in range(1, self.block + 1))

    def expects(self, header: Sequence[str], options: Mapping[str, Any]) -> Sequence[str]:
        if header and header[-1] != OPEN and not is_told(header[-1]):
            return ()
        text = options.get("say")
        if text is not None and not (isinstance(text, str) and self.writing.letters):
            expected = (
                "a string"
                if self.writing.letters
                else "none: this model does not read what it says, ask for it in words"
            )
            raise ConfigError(f"audio: got say={text!r}; expected {expected}")
        room = self.longest - options.get("blocks", 0) * self.block
        more = () if room <= self.block else (MORE,)
        last = self._last[: max(1, min(room, self.block))]
        if not self.writing.letters:
            return (*more, *last)
        before, tokens = options.get("headers", ()), self.block if more else len(last)
        wish = None if text is None else self.spelled(text)
        told, least, may_end = following(header, before, wish, tokens, is_last=not more)
        if least is None:
            return told
        return (*told, *more, *(last[max(0, least - 1) :] if may_end or not more else ()))

    def spelled(self, text: str) -> tuple[str, ...]:
        """Names of what is said of a text: its words' sounds, as far as they are known, and letters."""
        return names_of(text) if self.pronunciations is None else names_in(self.pronunciations.of_text(text))

    @property
    def tells(self) -> bool:
        return self.writing.letters

    @property
    def longest(self) -> int:
        return max(1, int(self.max_seconds * RATE / HOP / self.frames + 1e-6))

    def bare(self, header: Sequence[str]) -> Sequence[str]:
        return [name for name in header if not is_told(name)]

    def ordered(self, names: Sequence[str]) -> bool:
        return any(map(is_place, names)) and len(letters_in(names)) <= 1  # which letter is no matter of time

    def block_len(self, header: Sequence[str]) -> int:
        return self.block if header[-1] == MORE else int(header[-1][6:-1])

    def ends(self, header: Sequence[str]) -> bool:
        return header[-1] != MORE

    def coordinates(self, header: Sequence[str], before: Sequence[Sequence[str]] = ()) -> np.ndarray:
        tokens = self.block_len(header)
        numbers = np.arange(tokens, dtype=np.float32)[:, None]
        return np.hstack((numbers, around(header, before, self.block, tokens))) if self.writing.letters else numbers

    def mono(self, part: Part, max_seconds: float | None = None) -> tuple[np.ndarray, int]:
        """[n] float32 samples and their rate in Hz. Raises RowError for empty, cancelling or non-finite sound, and for one that is
        longer than `max_seconds`, the modality's own if None."""
        samples, rate = open_sound(part.value, self.max_seconds if max_seconds is None else max_seconds)
        if samples.ndim == 2:
            channels, samples = samples, samples.mean(axis=1)
            if samples.size and rms(samples) < CANCELLED * rms(channels):
                raise RowError(
                    "audio part: got channels that cancel each other out: their mean is silence; expected sound that is "
                    "in phase: save one channel alone, or turn one of them over"
                )
        largest = float(np.abs(samples).max(initial=0.0))
        if samples.size == 0 or not largest <= MAX_SAMPLE:  # also true if `largest` is not a number
            got = "no samples" if samples.size == 0 else "samples that are not finite numbers"
            if math.isfinite(largest) and samples.size:
                got = f"a sample of {largest:.3g}"
            raise RowError(f"audio part: got {got}; expected finite sound, samples from -1 to 1: save the file anew")
        return samples, rate

    def samples(self, part: Part) -> np.ndarray:
        """[n] float32 mono samples at RATE, at the same loudness for all clips. Raises RowError for empty, overlong,
        cancelling or non-finite sound."""
        samples, rate = self.mono(part)
        if rate != RATE:
            samples = soxr.resample(samples, rate, RATE)
        return level(samples)

    def _stored_mel(self, part: Part) -> np.ndarray | None:
        """[T, MELS] log-mel frames that `write` stored with a generated part, since the waveform does not preserve them;
        None without them. Raises RowError."""
        mel = part.options.get("mel")
        if mel is None:
            return None
        if not isinstance(mel, np.ndarray) or mel.ndim != 2 or mel.shape[1] != MELS or not len(mel):
            got = f"an array of shape {mel.shape}" if isinstance(mel, np.ndarray) else type(mel).__name__
            raise RowError(f"audio part: got {got} as mel; expected an array [frames, {MELS}], or none: leave mel out")
        if not np.isfinite(mel).all():
            raise RowError("audio part: got a mel that is not finite; expected finite numbers: leave mel out")
        return mel

    def _tokens(self, part: Part) -> np.ndarray:
        """[n, token_width] float32 tokens of a clip, padded with silence to whole tokens."""
        frames = self._stored_mel(part)
        if frames is None:
            frames = log_mel(self.samples(part))
        missing = -len(frames) % self.frames
        frames = np.pad(frames, ((0, missing), (0, 0)), constant_values=np.log(FLOOR))
        return self.normalise(frames).reshape(-1, self.token_width)

    def normalise(self, logs: np.ndarray) -> np.ndarray:
        """[..., MELS] log-mel frames -> normalised float32 frames, as tokens hold them."""
        frames: np.ndarray = ((logs - self.mean) / self.std).astype(np.float32)
        return frames

    def denormalise(self, frames: np.ndarray) -> np.ndarray:
        """[..., MELS] normalised frames -> log-mel frames: the inverse of `normalise`."""
        logs: np.ndarray = frames * self.std + self.mean
        return logs

    def check(self, part: Part) -> None:
        if self._stored_mel(part) is None:
            self.mono(part)
        if self.writing.letters and "words" in part.options:
            checked(part.options["words"])

    def read(self, part: Part) -> Segment:
        tokens = self._tokens(part)
        words = part.options.get("words")
        if words is None or not self.writing.letters:
            return self.chain(tokens)
        return self.chain(tokens, placed(words, self.frames * HOP / RATE, self.block, len(tokens)))

    def chain(self, tokens: np.ndarray, letters: Sequence[tuple[str, ...]] | None = None) -> Segment:
        """The segment of [n, token_width] tokens: a chain of blocks, each with its letters."""
        tokens = tokens.reshape(-1, self.token_width)
        blocks = []
        for number, start in enumerate(range(0, len(tokens), self.block)):
            piece = tokens[start : start + self.block]
            last = start + self.block >= len(tokens)
            opener, said = (OPEN,) if start == 0 else (), letters[number] if letters else ()
            blocks.append(Block((*opener, *said, f"<last:{len(piece)}>" if last else MORE), piece))
        return Segment(self.name, tuple(blocks))

    def write(self, segment: Segment) -> Part:
        tokens = np.concatenate([block.tokens for block in segment.blocks])
        frames = self.denormalise(tokens.reshape(-1, MELS))
        if self.network is None:
            samples = griffin_lim(frames.clip(np.log(FLOOR), LOUDEST))
            peak = float(np.abs(samples).max(initial=0.0))
            samples = samples * min(1.0, PEAK / max(peak, 1e-9))
        else:  # one sample does not change another's loudness, so that pieces may be played before the last one is made
            samples = self.vocode(torch.from_numpy(np.ascontiguousarray(tokens.reshape(-1, MELS)))).numpy()
        return Part(self.name, (samples, RATE), {"mel": frames})

    def vocode(self, frames: Tensor) -> Tensor:
        """[T, MELS] normalised frames -> [(T - 1) * HOP] samples from -1 to 1, by the vocoder."""
        assert self.network is not None
        low, high = (self.normalise(np.full(MELS, logs, np.float32)) for logs in (np.log(FLOOR), LOUDEST))
        with torch.inference_mode():
            samples = self.network(frames.clamp(torch.from_numpy(low), torch.from_numpy(high))[None])[0]
        return samples.clamp(-1.0, 1.0)  # type: ignore[no-any-return]

    def canonical(self, tokens: np.ndarray) -> np.ndarray:
        return tokens

    def embedder(self, dim: int) -> nn.Module:
        from plait.heads.flow import FlowEmbedding
        from plait.heads.symbols import SymbolsEmbedding

        if self.writing.letters:
            return SymbolsEmbedding(self.token_width, dim, slots=BEHIND + AHEAD, symbols=len(NAMES))
        return FlowEmbedding(self.token_width, dim, num_coordinates=1)

    def fit(self, parts: Iterable[Part]) -> None:
        frames = np.concatenate([log_mel(self.samples(part)) for part in parts])
        self.mean = frames.mean(axis=0).round(6)  # as `state` stores them
        self.std = frames.std(axis=0).clip(min=1e-2).round(6)
        if self.writing.pronounced and self.pronunciations is None:
            self.pronunciations = Pronunciations(dictionary.pronunciations(places()))

    def files(self, sources: Path) -> Mapping[str, bytes]:
        return dictionary.files(sources) if self.writing.pronounced else {}

    def state(self) -> dict[str, Any]:
        return {
            "frames": self.frames,
            "block": self.block,
            "max_seconds": self.max_seconds,
            "mean": [round(float(m), 6) for m in self.mean],
            "std": [round(float(s), 6) for s in self.std],
            **asdict(self.variation),
            **({"reader": self.reader, "raw": self.raw} if self.reader else {}),
            **{name: value for name, value in asdict(self.writing).items() if value},
            **({"pronunciations_json": self.pronunciations.stored} if self.pronunciations else {}),
        }

    def example(self, seed: int) -> Part:
        rng = np.random.default_rng(seed)
        time = np.arange(int(RATE * rng.uniform(0.1, 0.8))) / RATE
        tone = np.sin(2 * np.pi * rng.uniform(100, 900) * time) * np.exp(-3 * time)
        return Part(self.name, ((0.3 * tone).astype(np.float32), RATE))
