"""Frozen encoders that read sound."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from plait.modalities import Reader, encoders
from plait.modalities.audio.backbone import Backbone, accepts
from plait.modalities.audio.hearing import SPELLED, STACKED, Listener, Spelled, whisper_mel
from plait.modalities.audio.mel import HOP, MELS, RATE
from plait.runtime.device import resolve_dtype
from plait.runtime.packages import unpacked

WINDOWS = (2.0, 4.0, 8.0)  # seconds that are encoded at once: as many as Whisper's 30 change little, and cost far more
WIDTH = 384


class Hearing(nn.Module):
    """[B, 80, T] log-mel spectrograms as Whisper takes them -> [B, T // (2 * STACKED), STACKED * WIDTH]: its frames, stacked."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, spectra: Tensor) -> Tensor:
        frames: Tensor = self.network(spectra.to(next(self.network.parameters()).dtype)).last_hidden_state
        return frames.reshape(len(frames), -1, STACKED * frames.shape[-1])


class WhisperTiny(Listener):
    """The encoder of Whisper tiny.en: STACKED of its frames side by side in a token, for as long as the clip lasts.

    A clip is read in the shortest of WINDOWS that it fits into; one that fits into none in pieces of the longest.
    """

    name = "whisper_tiny_en"
    version = "whisper tiny.en, windows of 2, 4 or 8 s, 4 frames a token"
    width = STACKED * WIDTH

    def files(self, folder: Path) -> Mapping[str, bytes]:
        """As `Reader.files`: of the package's weights those of the encoder."""
        from plait.modalities.audio.whisper import ENCODER, PACKAGE, WEIGHTS, only

        return {f"{PACKAGE.folder}/{WEIGHTS}": only((unpacked(PACKAGE, folder) / WEIGHTS).read_bytes(), ENCODER)}

    def load(self, device: torch.device) -> Callable[[Sequence[np.ndarray]], list[np.ndarray]]:
        """As `Reader.load`."""
        from plait.modalities.audio.whisper import encoder

        dtype = resolve_dtype("auto", device)
        networks = {
            size: Hearing(encoder(size // (2 * HOP))).to(device, dtype)
            for size in (int(RATE * seconds) for seconds in WINDOWS)
        }
        longest = max(networks)

        @torch.inference_mode()
        def tokens_of(pieces: Sequence[np.ndarray], size: int) -> list[np.ndarray]:
            samples = torch.from_numpy(np.stack([np.pad(piece, (0, size - len(piece))) for piece in pieces])).to(device)
            tokens: Tensor = networks[size](whisper_mel(samples)).half()
            counts = [min(tokens.shape[1], max(1, -(-len(piece) // (2 * HOP * STACKED)))) for piece in pieces]
            return [of_piece[:count].numpy(force=True) for of_piece, count in zip(tokens, counts, strict=True)]

        def encode(prepared: Sequence[np.ndarray]) -> list[np.ndarray]:
            pieces = [
                (number, clip[start : start + longest])
                for number, clip in enumerate(prepared)
                for start in range(0, max(1, len(clip)), longest)
            ]
            size_of = [min(size for size in networks if len(piece) <= size) for _, piece in pieces]
            kept: dict[int, np.ndarray] = {}
            for size in sorted(set(size_of)):
                chosen = [index for index, own in enumerate(size_of) if own == size]
                kept |= zip(chosen, tokens_of([pieces[index][1] for index in chosen], size), strict=True)
            features: list[list[np.ndarray]] = [[] for _ in prepared]
            for index, (number, _) in enumerate(pieces):
                features[number].append(kept[index])
            return [np.concatenate(own) for own in features]

        return encode

    def networks(self) -> Mapping[str, tuple[nn.Module, Tensor]]:
        """As `Portable.networks`: one for each of WINDOWS, which takes spectrograms."""
        from plait.modalities.audio.whisper import encoder

        sizes = {seconds: int(RATE * seconds) // HOP for seconds in WINDOWS}
        return {
            f"{self.name}_{seconds:.0f}s": (Hearing(encoder(frames // 2)), torch.zeros(1, MELS, frames))
            for seconds, frames in sizes.items()
        }


READERS: dict[str, Reader] = {reader.name: reader for reader in (WhisperTiny(), Spelled(WhisperTiny()))}


def find(name: str) -> Reader | None:
    """As `encoders.find`; with SPELLED at the end of an encoder's name, what it hears is spelled."""
    if name in READERS or not name.endswith(SPELLED):
        return encoders.find(name, READERS, Backbone, accepts)
    reader = encoders.find(name.removesuffix(SPELLED), READERS, Backbone, accepts)
    return Spelled(reader) if reader is not None else None


def take(source: Path) -> Path:
    """As `encoders.take`, once the encoder has read a second of silence."""

    def check(name: str, folder: Path) -> None:
        reader = Backbone(name, folder)
        encoders.checked(reader, np.zeros(RATE, np.float32))

    return encoders.take(source, check)
