"""The letters that are said in a block of sound, as names of its header: what is to be said is written down before it is said.

So a model need not find in a text where it is: it reads the letters that come next (docs/adr/0036-letters-before-sound.md).
They are bytes of UTF-8, as in what is heard (plait.data.letters).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from plait.errors import RowError
from plait.runtime.words import plain_words

NAMES = tuple(f"<says:{byte:02x}>" for byte in range(256))
NUMBERS = {name: byte for byte, name in enumerate(NAMES)}
MOST = 24  # letters in the header of a block
EXPECTED = "expected words as a list of [word, first second, last second], in their order, or none: leave words out"


def names_of(text: str) -> tuple[str, ...]:
    """Names of the letters of a text's plain words."""
    return tuple(NAMES[byte] for byte in plain_words(text).encode())


def letters_in(header: Iterable[str]) -> tuple[str, ...]:
    """The letters in a header."""
    return tuple(name for name in header if name in NUMBERS)


def text_of(names: Iterable[str]) -> str:
    """The text that letters spell; bytes that are no UTF-8 are left out."""
    return bytes(NUMBERS[name] for name in names).decode(errors="ignore")


def placed(words: Any, seconds: float, blocks: int) -> list[tuple[str, ...]]:
    """The letters of each of `blocks` blocks of `seconds`, where `words` lists [word, first second, last second]: a word's letters
    are spread over its time. More than MOST letters of a block go on in the next one, if there is one. Raises RowError."""
    letters: list[list[str]] = [[] for _ in range(blocks)]
    for number, (word, start, end) in enumerate(checked(words)):
        names = names_of(word)
        space = names_of("a b")[1:2] if number and names else ()
        for at, name in enumerate((*space, *names)):
            second = start + (end - start) * max(0, at - len(space)) / max(1, len(names))
            block = min(int(second / seconds), blocks - 1)
            while len(letters[block]) == MOST and block < blocks - 1:
                block += 1
            letters[block].append(name)
    return [tuple(own) for own in letters]


def checked(words: Any) -> list[tuple[str, float, float]]:
    """[word, first second, last second] of each of a part's `words`. Raises RowError where they are anything else."""
    if not isinstance(words, list | tuple):
        raise RowError(f"audio part: got {type(words).__name__} as words; {EXPECTED}")
    last = 0.0
    for entry in words:
        is_word = isinstance(entry, list | tuple) and len(entry) == 3 and isinstance(entry[0], str)
        if not is_word or not all(isinstance(second, int | float) and math.isfinite(second) for second in entry[1:]):
            raise RowError(f"audio part: got {entry!r} among words; {EXPECTED}")
        if not last <= entry[1] <= entry[2]:
            raise RowError(f"audio part: got {entry!r} after second {last}; {EXPECTED}")
        last = float(entry[2])
    return [(str(word), float(start), float(end)) for word, start, end in words]


def following(header: Sequence[str], before: Iterable[Sequence[str]], text: str | None) -> tuple[tuple[str, ...], bool]:
    """Which letters may follow in a header, after those of the headers `before`; and whether the sound may end with this block:
    not before `text` has been said, where one is to be."""
    own = len(letters_in(header))
    if text is None:
        return (NAMES if own < MOST else ()), True
    said = own + sum(len(letters_in(earlier)) for earlier in before)
    rest = names_of(text)[said:]
    return (rest[:1] if own < MOST else ()), not rest
