"""Who speaks when: where speech begins and ends in sound that comes piece by piece."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Literal

import numpy as np
import soxr
import webrtcvad

RATE = 16_000  # Hz, that the detector listens at
FRAME = 20  # milliseconds that are judged at once
RECENT, ENOUGH = 6, 4  # of so many last frames so many have to be speech for a turn to begin
WARM = 15  # frames of silence that it hears first
STRICTEST = 3  # of the detector's four degrees


@dataclass(frozen=True)
class Turn:
    """Speech began or ended, in milliseconds from the first sample on."""

    event: Literal["started", "stopped"]
    at: int


class TurnDetector:
    """Finds turns in samples at `rate` Hz. `threshold` from 0 to 1: how sure it has to be; a turn ends after `silence` milliseconds
    without speech. The detector is WebRTC's."""

    def __init__(self, rate: int, threshold: float = 0.5, silence: int = 500) -> None:
        self.silence = silence
        self.detector = webrtcvad.Vad(min(STRICTEST, int(threshold * (STRICTEST + 1))))
        for _ in range(WARM):  # its first judgements of faint noise are unsteady
            self.detector.is_speech(bytes(2 * RATE * FRAME // 1000), RATE)
        self.resampler = soxr.ResampleStream(
            rate, RATE, 1, dtype="float32"
        )  # of int16 it makes another noise every time
        self.waiting = np.zeros(0, np.int16)
        self.recent: deque[bool] = deque(maxlen=RECENT)
        self.time = self.quiet = 0  # milliseconds judged so far, and since speech was heard last
        self.speaking = False

    def add(self, samples: np.ndarray) -> list[Turn]:
        """Listen to more [n] int16 samples; what began or ended in them."""
        resampled = self.resampler.resample_chunk(samples.astype(np.float32))
        self.waiting = np.concatenate([self.waiting, np.clip(np.rint(resampled), -32_768, 32_767).astype(np.int16)])
        length, turns = RATE * FRAME // 1000, []
        while len(self.waiting) >= length:
            frame, self.waiting = self.waiting[:length], self.waiting[length:]
            if turn := self._judge(self.detector.is_speech(frame.tobytes(), RATE)):
                turns.append(turn)
        return turns

    def _judge(self, is_speech: bool) -> Turn | None:
        self.time += FRAME
        self.recent.append(is_speech)
        if not self.speaking:
            if sum(self.recent) < ENOUGH:
                return None
            self.speaking, self.quiet = True, 0
            return Turn("started", max(0, self.time - FRAME * len(self.recent)))
        self.quiet = 0 if is_speech else self.quiet + FRAME
        if self.quiet < self.silence:
            return None
        self.speaking = False
        self.recent.clear()
        return Turn("stopped", self.time - self.quiet)
