"""Frozen encoders that read sound."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from plait.modalities import Reader, encoders
from plait.modalities.audio.backbone import Backbone, accepts
from plait.modalities.audio.hearing import SPELLED, STACKED, Listener, Spelled, whisper_mel
from plait.modalities.audio.mel import HOP, RATE
from plait.runtime.device import resolve_dtype
from plait.runtime.packages import unpacked

if TYPE_CHECKING:
    from torch import Tensor

SECONDS = 8.0  # that are encoded at once: as many as Whisper's 30 change little, and cost four times as much
WIDTH = 384


class WhisperTiny(Listener):
    """The encoder of Whisper tiny.en: STACKED of its frames side by side in a token, for as long as the clip lasts.

    A clip longer than SECONDS is read in pieces of that length.
    """

    name = "whisper_tiny_en"
    version = "whisper tiny.en, windows of 8 s, 4 frames a token"
    width = STACKED * WIDTH

    def files(self, folder: Path) -> Mapping[str, bytes]:
        """As `Reader.files`: of the package's weights those of the encoder."""
        from plait.modalities.audio.whisper import ENCODER, PACKAGE, WEIGHTS, only

        return {f"{PACKAGE.folder}/{WEIGHTS}": only((unpacked(PACKAGE, folder) / WEIGHTS).read_bytes(), ENCODER)}

    def load(self, device: torch.device) -> Callable[[Sequence[np.ndarray]], list[np.ndarray]]:
        """As `Reader.load`."""
        from plait.modalities.audio.whisper import encoder

        dtype = resolve_dtype("auto", device)
        network = encoder(int(SECONDS * RATE / HOP / 2)).to(device, dtype)
        piece = int(SECONDS * RATE)

        @torch.inference_mode()
        def encode(prepared: Sequence[np.ndarray]) -> list[np.ndarray]:
            pieces = [clip[start : start + piece] for clip in prepared for start in range(0, max(1, len(clip)), piece)]
            samples = torch.from_numpy(np.stack([np.pad(clip, (0, piece - len(clip))) for clip in pieces])).to(device)
            frames: Tensor = network(whisper_mel(samples).to(dtype)).last_hidden_state
            tokens = frames.reshape(len(frames), -1, STACKED * frames.shape[-1]).half()
            counts = [min(tokens.shape[1], max(1, -(-len(clip) // (2 * HOP * STACKED)))) for clip in pieces]
            kept = [of_piece[:count].numpy(force=True) for of_piece, count in zip(tokens, counts, strict=True)]
            features, first = [], 0
            for clip in prepared:
                number = max(1, -(-len(clip) // piece))
                features.append(np.concatenate(kept[first : first + number]))
                first += number
            return features

        return encode


READERS: dict[str, Reader] = {reader.name: reader for reader in (WhisperTiny(),)}


def find(name: str) -> Reader | None:
    """As `encoders.find`; with SPELLED at the end of an encoder's name, what it hears is spelled."""
    reader = encoders.find(name.removesuffix(SPELLED), READERS, Backbone, accepts)
    return Spelled(reader) if reader is not None and name.endswith(SPELLED) else reader


def take(source: Path) -> Path:
    """As `encoders.take`, once the encoder has read a second of silence."""

    def check(name: str, folder: Path) -> None:
        reader = Backbone(name, folder)
        encoders.checked(reader, np.zeros(RATE, np.float32))

    return encoders.take(source, check)
