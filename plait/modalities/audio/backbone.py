"""Encoders of sound by other makers: Whisper in its other sizes, wav2vec 2.0, HuBERT, WavLM and others that `transformers` has."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from plait.errors import CheckpointError
from plait.modalities import encoders
from plait.modalities.audio.hearing import STACKED, Listener, whisper_mel
from plait.modalities.audio.mel import HOP, MELS

if TYPE_CHECKING:
    from torch import Tensor, nn

WAVES = ("wav2vec2", "hubert", "wavlm", "unispeech", "unispeech-sat", "wav2vec2-conformer", "data2vec-audio")
SPECTRA = ("whisper",)


def accepts(config: Mapping[str, Any]) -> bool:
    """Whether a configuration of transformers is of an encoder of sound."""
    return config.get("model_type") in (*WAVES, *SPECTRA)


class Backbone(Listener):
    """Features of an encoder that was taken: STACKED of its frames side by side in a token, for as long as the clip lasts."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder
        self.config = encoders.whole_config(folder)
        self.version = f"{name}, {STACKED} frames a token"
        self.width = STACKED * int(self.config.get("hidden_size") or self.config.get("d_model") or 0)

    def files(self, folder: Path) -> Mapping[str, bytes]:
        """As `Reader.files`."""
        return encoders.files(self.name)

    def load(self, device: torch.device) -> Callable[[Sequence[np.ndarray]], list[np.ndarray]]:
        """As `Reader.load`. One clip after the other: these encoders know no padding."""
        network = encoders.network(self.folder).to(device)
        frames = (
            self._spectra(network, device) if self.config["model_type"] in SPECTRA else self._waves(network, device)
        )

        @torch.inference_mode()
        def encode(prepared: Sequence[np.ndarray]) -> list[np.ndarray]:
            return [self._stacked(frames(clip)) for clip in prepared]

        return encode

    @staticmethod
    def _stacked(hidden: Tensor) -> np.ndarray:
        """[T, D] -> [ceil(T / STACKED), STACKED * D]."""
        padded = torch.nn.functional.pad(hidden, (0, 0, 0, -len(hidden) % STACKED))
        return padded.reshape(-1, STACKED * hidden.shape[1]).half().numpy(force=True)

    def _waves(self, network: nn.Module, device: torch.device) -> Callable[[np.ndarray], Tensor]:
        normalised = encoders.settings(self.folder, encoders.PREPROCESSOR).get("do_normalize", True)

        def frames(clip: np.ndarray) -> Tensor:
            samples = torch.from_numpy(np.pad(clip, (0, max(0, 2 * HOP + 80 - len(clip))))).to(device)
            if normalised:
                samples = (samples - samples.mean()) / (samples.var(unbiased=False) + 1e-7).sqrt()
            hidden: Tensor = network(samples[None]).last_hidden_state[0]
            return hidden

        return frames

    def _spectra(self, network: nn.Module, device: torch.device) -> Callable[[np.ndarray], Tensor]:
        if self.config.get("num_mel_bins", MELS) != MELS:
            raise CheckpointError(
                f"{self.name} takes {self.config['num_mel_bins']} mels; expected {MELS}: Whisper tiny to medium, or large to v2"
            )
        window = int(self.config["max_source_positions"]) * 2 * HOP

        def frames(clip: np.ndarray) -> Tensor:
            pieces = [clip[first : first + window] for first in range(0, max(1, len(clip)), window)]
            hidden = []
            for piece in pieces:
                samples = torch.from_numpy(np.pad(piece, (0, window - len(piece)))).to(device)
                outputs = network.encoder(whisper_mel(samples[None])).last_hidden_state[0]  # type: ignore[operator]
                hidden.append(outputs[: max(1, -(-len(piece) // (2 * HOP)))])
            return torch.cat(hidden)

        return frames
