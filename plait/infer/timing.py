"""When each word of a text is said in a sound, by the letters that a model hears in it."""

from __future__ import annotations

import torch

from plait.contract import Part
from plait.data.features import FeatureReader
from plait.data.letters import AlignmentError
from plait.data.sequence import Encoder
from plait.errors import ConfigError
from plait.model.multimodal import MultimodalTransformer

__all__ = ["AlignmentError", "Word", "hears_letters", "letter_times", "word_times"]

Word = tuple[str, float, float]  # as it is written, without signs beside it; first and last second
Spelled = tuple[str, float, float, list[float]]  # the same, and the second where each of its letters begins


def hears_letters(model: MultimodalTransformer, kind: str) -> bool:
    """Whether a model tells when words are said in parts of a modality."""
    reader = model.vocabulary.readers.get(kind)
    return reader is not None and model.spells(reader.name)


@torch.inference_mode()
def letter_times(model: MultimodalTransformer, encoder: Encoder, part: Part, text: str) -> tuple[list[Spelled], float]:
    """The words of a `text` that is said in a sound, each with its first and last second and those of its letters, which are bytes
    of its plain form, and the mean log probability of the letters: near 0 where the sound says them, below -1 where it hardly
    does.

    Raises ConfigError for a model that hears no letters, RowError for a damaged sound, AlignmentError for a text without words,
    or with more letters than the sound has room for.
    """
    reader = model.vocabulary.readers.get(part.type)
    if reader is None or not hears_letters(model, part.type) or not isinstance(encoder.features, FeatureReader):
        raise ConfigError(f"this model hears no letters in {part.type}; expected one that transcribes, such as smol")
    words, slots, log_probability = model.letter_slots(reader.name, torch.tensor(encoder.features(part, None)), text)
    second = reader.seconds / reader.letters
    starts = [[round(slot * second, 3) for slot in own] for own in slots]
    ends = [round((own[-1] + 1) * second, 3) for own in slots]
    spelled = [(word, own[0], end, own) for word, own, end in zip(words, starts, ends, strict=True)]
    return spelled, log_probability


def word_times(model: MultimodalTransformer, encoder: Encoder, part: Part, text: str) -> tuple[list[Word], float]:
    """As `letter_times`, without those of the letters."""
    words, log_probability = letter_times(model, encoder, part, text)
    return [(word, start, end) for word, start, end, _ in words], log_probability
