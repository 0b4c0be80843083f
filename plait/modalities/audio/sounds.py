"""How English words sound: each sound as one byte that plain words never hold, so that letters and sounds have one alphabet.

The sounds are those of the CMU Pronouncing Dictionary (ARPAbet), the vowels in two forms, unstressed and stressed. A word that is in
no dictionary is spelled by its letters. So a voice need not learn from a few hours that `though` and `tough` differ
(docs/adr/0040-sounds-of-words.md).
"""

from __future__ import annotations

import lzma
import re
import unicodedata
from base64 import b85decode, b85encode
from collections.abc import Iterator, Mapping

from plait.errors import ConfigError
from plait.runtime.words import plain_words

CONSONANTS = dict(
    zip(
        [
            "B",
            "CH",
            "D",
            "DH",
            "F",
            "G",
            "HH",
            "JH",
            "K",
            "L",
            "M",
            "N",
            "NG",
            "P",
            "R",
            "S",
            "SH",
            "T",
            "TH",
            "V",
            "W",
            "Y",
            "Z",
            "ZH",
        ],
        "BCDQFGHJKLMNXPRSETOVWYZI",
        strict=True,
    )
)
VOWELS = ("AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW")
UNSTRESSED = dict(zip(VOWELS, "A#$%&'()*+-/:;<", strict=True))
STRESSED = dict(zip(VOWELS, 'U=>@[]^_`{|}~!"', strict=True))
SOUNDS = CONSONANTS | {
    name + stress: sounds[name]
    for stress, sounds in (("", UNSTRESSED), ("0", UNSTRESSED), ("1", STRESSED), ("2", STRESSED))
    for name in VOWELS
}
BETWEEN, WITHIN, END, ASKED = PAUSES = " ,.?"  # words, a sentence's parts, sentences, after a question
PAUSED = {",": WITHIN, ";": WITHIN, ":": WITHIN, "\N{EM DASH}": WITHIN, ")": WITHIN, ".": END, "!": END, "?": ASKED}
HISSES, VOICELESS, STOPS = "SZEICJ", "PTKFOSEC", "TD"
APOSTROPHES = str.maketrans("\N{RIGHT SINGLE QUOTATION MARK}\N{LEFT SINGLE QUOTATION MARK}", "''")
CLOSING = "\"'`]}*_\N{RIGHT DOUBLE QUOTATION MARK}"  # may follow a mark that pauses
WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*'?")


def sound(symbol: str) -> str:
    """The byte of a sound in ARPAbet, such as `SH`, `AH0` or `AH1`; a vowel without a number is unstressed. Raises ConfigError."""
    if symbol not in SOUNDS:
        raise ConfigError(f"got the sound {symbol!r}; expected one of {', '.join(SOUNDS)}")
    return SOUNDS[symbol]


def packed(sounds_by_word: Mapping[str, str]) -> str:
    """A dictionary of words in lower case, apostrophes included, and their sounds, in a third of what JSON would take."""
    lines = "\n".join(f"{word}\t{sounds}" for word, sounds in sorted(sounds_by_word.items()))
    return b85encode(lzma.compress(lines.encode(), preset=9)).decode()


class Pronunciations:
    """How words sound: `stored` holds a dictionary's `licence` and its `words`, as `packed` gives them. Raises ConfigError."""

    def __init__(self, stored: Mapping[str, str]) -> None:
        self.stored = stored
        try:
            lines = lzma.decompress(b85decode(stored["words"])).decode().split("\n")
            self.sounds_by_word = {word: sounds for word, _, sounds in (line.partition("\t") for line in lines)}
        except (KeyError, ValueError, TypeError, lzma.LZMAError) as error:
            raise ConfigError(
                f"audio: got damaged pronunciations ({error}); expected them as a checkpoint has them"
            ) from error

    def of_text(self, text: str) -> str:
        """What is said of a text: sounds, or the letters of words that are not known, and the pauses between them."""
        said: list[str] = []
        for piece in text.translate(APOSTROPHES).split():
            words = [self.of_word(word) for word in WORD.findall(unicodedata.normalize("NFKC", piece).casefold())]
            pause = PAUSED.get(piece.rstrip(CLOSING)[-1:], BETWEEN)
            if words:
                said += [BETWEEN.join(words), pause]
            elif said and pause != BETWEEN:  # a mark that stands alone
                said[-1] = pause
        return "".join(said[:-1] if said[-1:] == [BETWEEN] else said)

    def of_word(self, word: str) -> str:
        """The sounds of a word in lower case; its letters where neither it is known nor a word that it is a form of."""
        known = self.sounds_by_word.get(word)
        if known is None:
            known = next(self._of_forms(word), None)
        return plain_words(word).replace(" ", "") if known is None else known

    def _of_forms(self, word: str) -> Iterator[str]:
        for ending, stems in _FORMS.items():
            if not word.endswith(ending):
                continue
            for letters in stems:
                stem = self.sounds_by_word.get(word[: -len(ending)] + letters)
                if stem:
                    yield stem + _ending(ending, stem[-1])


_FORMS = {
    "'s": ("",), "'": ("",), "es": ("", "e"), "s": ("",), "ed": ("", "e"), "ing": ("", "e"), "ly": ("",), "ness": ("",),
}  # fmt: skip


def _ending(ending: str, last: str) -> str:
    """The sounds of an ending after a word's last sound."""
    weak = UNSTRESSED["IH"]
    if ending in ("'s", "'", "es", "s"):
        return weak + "Z" if last in HISSES else "S" if last in VOICELESS else "Z"
    if ending == "ed":
        return weak + "D" if last in STOPS else "T" if last in VOICELESS else "D"
    return {"ing": weak + "X", "ly": "L" + UNSTRESSED["IY"], "ness": "N" + UNSTRESSED["AH"] + "S"}[ending]
