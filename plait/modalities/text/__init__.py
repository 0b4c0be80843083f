"""Text: byte-level BPE, trained in seconds on the training split. Any script, no unknown token."""

from plait.modalities.text.codec import Text

MODALITY = Text

__all__ = ["MODALITY", "Text"]
