"""Who speaks when: where speech begins and ends in sound that comes piece by piece."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Literal

import numpy as np
import soxr
import webrtcvad

RATE = 16_000  # Hz, that the detector listens at
FRAME_MS = 20  # that are judged at once
RECENT, ENOUGH = 6, 4  # of so many last frames so many have to be speech for a turn to begin
WARM = 15  # frames of silence that it hears first
STRICTEST = 3  # of the detector's four degrees


@dataclass(frozen=True)
class Turn:
    """Speech began or ended at `at_ms`, as was known at `known_ms`: milliseconds of all that was heard."""

    event: Literal["started", "stopped"]
    at_ms: int
    known_ms: int


class TurnDetector:
    """Finds turns in samples at `rate` Hz, the first of them at `first_ms`. `threshold` from 0 to 1: how sure it has to be; a turn
    ends after `silence_ms` without speech. The detector is WebRTC's."""

    def __init__(self, rate: int, threshold: float = 0.5, silence_ms: int = 500, first_ms: int = 0) -> None:
        self.rate, self.threshold, self.silence_ms = rate, threshold, silence_ms
        self.time_ms = first_ms  # until which was judged
        self.forget()

    def forget(self) -> None:
        """Whatever was heard so far is no part of a turn; the time goes on."""
        self.detector = webrtcvad.Vad(min(STRICTEST, int(self.threshold * (STRICTEST + 1))))
        for _ in range(WARM):  # its first judgements of faint noise are unsteady
            self.detector.is_speech(bytes(2 * RATE * FRAME_MS // 1000), RATE)
        # in float32: in int16 the resampler dithers, and one sound would be judged in two ways
        self.resampler = soxr.ResampleStream(self.rate, RATE, 1, dtype="float32")
        self.unjudged = np.zeros(0, np.int16)
        self.recent: deque[bool] = deque(maxlen=RECENT)
        self.quiet_ms = 0  # since speech was heard last
        self.speaking = False

    def add(self, samples: np.ndarray) -> list[Turn]:
        """Listen to more [n] int16 samples; what began or ended in them."""
        resampled = self.resampler.resample_chunk(samples.astype(np.float32))
        rounded = np.clip(np.rint(resampled), -32_768, 32_767).astype(np.int16)
        self.unjudged = np.concatenate([self.unjudged, rounded])
        length = RATE * FRAME_MS // 1000
        count = len(self.unjudged) // length
        frames, self.unjudged = self.unjudged[: count * length].reshape(count, length), self.unjudged[count * length :]
        judged = [self._judge(self.detector.is_speech(frame.tobytes(), RATE)) for frame in frames]
        return [turn for turn in judged if turn is not None]

    def _judge(self, is_speech: bool) -> Turn | None:
        self.time_ms += FRAME_MS
        self.recent.append(is_speech)
        if not self.speaking:
            if sum(self.recent) < ENOUGH:
                return None
            self.speaking, self.quiet_ms = True, 0
            return Turn("started", max(0, self.time_ms - FRAME_MS * len(self.recent)), self.time_ms)
        self.quiet_ms = 0 if is_speech else self.quiet_ms + FRAME_MS
        if self.quiet_ms < self.silence_ms:
            return None
        self.speaking = False
        self.recent.clear()
        return Turn("stopped", self.time_ms - self.quiet_ms, self.time_ms)
