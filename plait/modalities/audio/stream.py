"""Sound piece by piece (plait.modalities.Streams). With a vocoder the pieces join without a seam."""

from __future__ import annotations

from collections.abc import Sequence
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


def join(parts: Sequence[Part]) -> Part:
    """One sound of several, one after the other, with the options of the first but for its mel frames."""
    samples = np.concatenate([part.value[0] for part in parts])
    options = {name: value for name, value in parts[0].options.items() if name != "mel"}
    return Part(parts[0].type, (samples, parts[0].value[1]), options)
