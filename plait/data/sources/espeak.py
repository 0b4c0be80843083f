"""Synthetic speech by espeak-ng, run as a separate program (see `espeak_process.py`). Its numbers are to be called synthetic."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO

import numpy as np
import soxr

from plait.errors import DataError, MissingError

RATE = 16_000
LICENCE = "GPL-3.0 program; its output is ours"


def trim(samples: np.ndarray, threshold: float = 0.01, margin: int = 320) -> np.ndarray:
    """Cut silence (below `threshold` of the peak) from both ends, leaving `margin` samples."""
    return samples[loud_part(samples, threshold, margin)]


def loud_part(samples: np.ndarray, threshold: float = 0.01, margin: int = 320) -> slice:
    """Where samples are no silence, as `trim` cuts them."""
    loud = np.flatnonzero(np.abs(samples) > threshold * np.abs(samples).max(initial=1e-9))
    return slice(max(0, int(loud[0]) - margin), int(loud[-1]) + margin) if len(loud) else slice(0, len(samples))


class Espeak:
    """Context manager around the helper process."""

    def __enter__(self) -> Espeak:
        if importlib.util.find_spec("espeakng_loader") is None:
            raise MissingError("synthetic speech needs espeak-ng: python -m pip install espeakng-loader")
        program = Path(__file__).with_name("espeak_process.py")
        self._process = subprocess.Popen([sys.executable, str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(BrokenPipeError):  # it died, which `say` has reported
            self._pipe(self._process.stdin).close()
        self._process.wait(timeout=10)
        self._pipe(self._process.stdout).close()

    def _pipe(self, pipe: IO[bytes] | None) -> IO[bytes]:
        if pipe is None:
            raise DataError("the espeak-ng process has no pipe; expected one made by subprocess")
        return pipe

    def say(self, text: str, voice: str, rate: int, pitch: int) -> np.ndarray:
        """[n] float32 samples at 16 kHz, trimmed. `voice` as espeak-ng names it (`de+f2`), `rate` in words a minute,
        `pitch` 0-100. Raises DataError when nothing is spoken."""
        request = {"text": text, "voice": voice, "rate": rate, "pitch": pitch}
        sink, source = self._pipe(self._process.stdin), self._pipe(self._process.stdout)
        with suppress(BrokenPipeError):  # then there is no answer either
            sink.write(json.dumps(request).encode() + b"\n")
            sink.flush()
        head = source.readline()
        if not head:
            raise DataError(f"espeak-ng stopped at {request}; expected sound")
        answer = json.loads(head)
        samples = np.frombuffer(source.read(answer["bytes"]), np.int16).astype(np.float32) / 32768.0
        if not samples.size:
            raise DataError(f"espeak-ng said nothing for {request}; expected a voice and a text that it knows")
        return trim(np.asarray(soxr.resample(samples, answer["rate"], RATE), np.float32))
