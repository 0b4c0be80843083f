"""Piper's phonemes with their times, as the sounds that the audio modality knows.

Piper's voices speak espeak-ng's phonemes: letters of the International Phonetic Alphabet, marks of stress before vowels, punctuation.
How many samples each takes is inside the voice's network, and comes out of it once the network is told to (`with_durations`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from plait.errors import DataError
from plait.modalities.audio.sounds import BETWEEN, PAUSED, PAUSES, VOWELS, sound

LONG = {"aɪ": "AY", "aʊ": "AW", "eɪ": "EY", "oʊ": "OW", "ɔɪ": "OY", "tʃ": "CH", "dʒ": "JH"}
SHORT = {
    "ɑ": "AA", "a": "AA", "æ": "AE", "ʌ": "AH", "ə": "AH", "ɐ": "AH", "ɔ": "AO", "b": "B", "d": "D", "ð": "DH", "ɛ": "EH", "e": "EH",
    "ɚ": "ER", "ɜ": "ER", "f": "F", "ɡ": "G", "h": "HH", "ç": "HH", "ɪ": "IH", "ᵻ": "IH", "i": "IY", "k": "K", "x": "K", "l": "L",
    "ɬ": "L", "m": "M", "n": "N", "ɲ": "N", "ŋ": "NG", "o": "OW", "p": "P", "ɹ": "R", "r": "R", "s": "S", "ʃ": "SH", "t": "T",
    "ɾ": "T", "ʔ": "T", "θ": "TH", "ʊ": "UH", "u": "UW", "v": "V", "w": "W", "j": "Y", "y": "Y", "z": "Z", "ʒ": "ZH",
}  # fmt: skip
STRESSES = "ˈˌ"
SILENT = "^$ːʲ\N{COMBINING VERTICAL LINE BELOW}\N{COMBINING TILDE}-"  # what marks an end, a length, or a colour of what is before it
MARKS = {BETWEEN: BETWEEN, **PAUSED}
DURATIONS = re.compile(rb"/[\w/.]*Ceil_output_0")
Timed = list[tuple[str, float]]  # sounds, and the second where each begins


def sounds_of(phonemes: Sequence[tuple[str, float]]) -> Timed:
    """The sounds of phonemes and the pauses between them, each with the second where it begins, of its stress if it has one.
    Raises DataError for a phoneme that is none of English."""
    sounds: Timed = []
    stressed_at: float | None = None
    index = 0
    while index < len(phonemes):
        phoneme, second = phonemes[index]
        pair = phoneme + (phonemes[index + 1][0] if index + 1 < len(phonemes) else "")
        index += 2 if pair in LONG else 1
        if phoneme in STRESSES:
            stressed_at = second
        elif name := LONG.get(pair) or SHORT.get(phoneme):
            is_stressed = stressed_at is not None and name in VOWELS
            sounds.append((sound(name + "1" if is_stressed else name), second if stressed_at is None else stressed_at))
            stressed_at = None
        elif phoneme in MARKS:
            sounds.append((MARKS[phoneme], second))
        elif phoneme not in SILENT:
            raise DataError(f"got the phoneme {phoneme!r}; expected one of English")
    return sounds


def words_of(text: str, sounds: Timed, seconds: float) -> list[list[object]]:
    """The words of a clip of `seconds`, as the option `words` of its part tells them: [word, first second, last second, seconds of its
    sounds, sounds], the pause behind each at its end. Where two words are spoken as one the texts of all are left out."""
    groups = list(_groups([(name, min(max(second, 0.0), seconds)) for name, second in sounds]))
    names = text.split() if len(text.split()) == len(groups) else [""] * len(groups)
    ends = [*(group[0][1] for group in groups[1:]), seconds]
    return [
        [word, group[0][1], end, [second for _, second in group], "".join(name for name, _ in group)]
        for word, group, end in zip(names, groups, ends, strict=True)
    ]


def _groups(sounds: Timed) -> Iterator[Timed]:
    """Sounds word by word, each with one pause at its end: a mark rather than a blank, and no blank behind the last."""
    group: Timed = []
    pause: Timed = []
    for name, second in sounds:
        if name not in PAUSES:
            if pause:
                yield [*group, *pause]
                group, pause = [], []
            group.append((name, second))
        elif group and not (pause and name == BETWEEN):
            pause = [(name, pause[0][1] if pause else second)]
    if group:
        yield [*group, *(end for end in pause if end[0] != BETWEEN)]


def with_durations(model: bytes) -> bytes:
    """A voice's network in ONNX that also gives how many frames each phoneme takes. Raises DataError for one that does not know.

    Two messages of protobuf one behind the other are one, their lists joined: so an output more is a few bytes more.
    """
    names = set(DURATIONS.findall(model))
    if len(names) != 1:
        raise DataError(f"got a voice with {len(names)} outputs that may be durations; expected one")
    name = names.pop()
    output = b"\x62" + _sized(b"\x0a" + _sized(name))  # GraphProto.output, a ValueInfoProto with a name
    return model + b"\x3a" + _sized(output)  # ModelProto.graph


def _sized(content: bytes) -> bytes:
    assert len(content) < 128, "a length of one byte"
    return bytes([len(content)]) + content
