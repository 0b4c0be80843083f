"""Reading parts once: encoded segments are kept in memory by what they were read from."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from plait.contract import Modality, Part, Segment


class CachedReader:
    """`modality.read`, remembering the segments of up to `capacity` text strings and media files, oldest forgotten."""

    def __init__(self, modalities: Mapping[str, Modality], capacity: int = 100_000) -> None:
        self.modalities, self.capacity = modalities, capacity
        self.kept: OrderedDict[tuple[str, str], Segment] = OrderedDict()

    def __call__(self, part: Part) -> Segment:
        if not isinstance(part.value, str):
            return self.modalities[part.type].read(part)
        key = (part.type, part.value)
        segment = self.kept.get(key)
        if segment is None:
            segment = self.kept[key] = self.modalities[part.type].read(part)
            if len(self.kept) > self.capacity:
                self.kept.popitem(last=False)
        return segment
