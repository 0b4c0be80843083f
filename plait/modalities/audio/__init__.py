"""Sound: groups of normalised log-mel frames, no codec. A clip is a chain of blocks, so speech starts before it ends."""

from plait.modalities.audio.codec import Audio

MODALITY = Audio

__all__ = ["MODALITY", "Audio"]
