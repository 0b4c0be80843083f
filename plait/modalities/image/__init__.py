"""Images: raw pixel patches, no codec. A picture is one block under `<rows:R> <cols:C>`."""

from plait.modalities.image.codec import Image

MODALITY = Image

__all__ = ["MODALITY", "Image"]
