"""Sound piece by piece (plait.modalities.Streams). With a vocoder the pieces join without a seam."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from plait.contract import Block, Part, Segment
from plait.modalities.audio.mel import MELS, RATE
from plait.modalities.audio.vocoder import Piecewise

if TYPE_CHECKING:
    from plait.modalities.audio.codec import Audio


class Pieces:
    """The sound of the blocks of one segment. Without a vocoder each is written by itself."""

    def __init__(self, modality: Audio) -> None:
        self.modality = modality
        network = modality.network
        self.piecewise = None if network is None else Piecewise(modality.vocode, network.context)

    def add(self, block: Block, last: bool) -> Part:
        """The samples that are final with this block."""
        modality = self.modality
        if self.piecewise is None:
            return modality.write(Segment(modality.name, (block,)))
        frames = torch.from_numpy(np.ascontiguousarray(block.tokens.reshape(-1, MELS), np.float32))
        return Part(modality.name, (self.piecewise.add(frames, last).numpy(), RATE))


def begin(modality: Audio) -> Pieces:
    """For a new segment."""
    return Pieces(modality)
