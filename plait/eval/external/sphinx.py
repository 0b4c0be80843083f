"""English speech recognition by PocketSphinx: hidden Markov models and a trigram, of another family than Whisper, whose encoder
some models of ours hear with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import soxr

from plait.eval.external import needed

RATE = 16_000
SHORTEST = RATE // 10  # samples: no word is shorter


class SphinxRecogniser:
    """PocketSphinx with the American English model that its wheel brings. Raises MissingError without pocketsphinx."""

    def __init__(self) -> None:
        library = needed("pocketsphinx")
        # `batch`: means are taken over each clip; with features begun anew no transcript hangs on the clips before it
        self._decoder = library.Decoder(samprate=RATE, loglevel="FATAL", cmn="batch")

    def transcribe(self, clips: Sequence[tuple[np.ndarray, int]]) -> list[str]:
        """Transcripts of (samples, rate) clips, in lower case; "" where it hears no words."""
        return [self._words(*clip) for clip in clips]

    def _words(self, samples: np.ndarray, rate: int) -> str:
        heard = samples if rate == RATE else soxr.resample(samples, rate, RATE)
        if len(heard) < SHORTEST:
            return ""
        raw = (np.clip(heard, -1.0, 1.0) * 32767).astype("<i2").tobytes()
        self._decoder.reinit_feat()
        self._decoder.start_utt()
        try:
            self._decoder.process_raw(raw, full_utt=True)
        finally:
            self._decoder.end_utt()
        hypothesis = self._decoder.hyp()
        return str(hypothesis.hypstr) if hypothesis is not None else ""
