"""The letters that are said in a block of sound, as names of its header: what is to be said is written down before it is said.

So a model need not find in a text where it is: it reads the letters that come next (docs/adr/0036-letters-before-sound.md).
They are bytes of UTF-8, as in what is heard (plait.data.letters); a word whose sounds are known is spelled by these instead, a byte
each (plait.modalities.audio.sounds). A word that a block does not end is told to its end: how letters sound depends on those behind
them. What lies around each token stands in its coordinates (`around`, docs/adr/0038).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import takewhile
from typing import Any

import numpy as np

from plait.errors import RowError
from plait.modalities.audio.sounds import PAUSES
from plait.runtime.words import plain_words

NAMES = tuple(f"<says:{byte:02x}>" for byte in range(256))
NUMBERS = {name: byte for byte, name in enumerate(NAMES)}
AT = "<at:"
FINE = 4  # parts of a token: 20 ms of one of 80
THEN = "<then>"  # before letters of a word that are said after the block
MOST = 24  # letters in the header of a block
MOST_THEN = 12  # letters after THEN
BEHIND, AHEAD = 6, 10  # letters around a token: said before it, and from its beginning on
NONE = 0  # in place of a letter, where there is none; else its byte and 1
SPACE = NAMES[ord(" ")]
BETWEEN = frozenset(NAMES[ord(pause)] for pause in PAUSES)  # words
EXPECTED = (
    "expected words as a list of [word, first second, last second], in their order, each with a list of the seconds where its "
    "letters begin if these are known, and then its sounds if they are what begins there, or none: leave words out"
)


def at_names(block: int) -> tuple[str, ...]:
    """Names of the parts of the tokens of a block, FINE each, that stand before the letters which are said from there on."""
    return tuple(f"{AT}{part}>" for part in range(block * FINE))


def names_of(text: str) -> tuple[str, ...]:
    """Names of the letters of a text's plain words."""
    return names_in(plain_words(text))


def names_in(spelled: str) -> tuple[str, ...]:
    """Names of letters and sounds, as they stand."""
    return tuple(NAMES[byte] for byte in spelled.encode())


def letters_in(header: Sequence[str]) -> tuple[str, ...]:
    """The letters that are said in the block of a header."""
    return tuple(name for name in takewhile(lambda name: name != THEN, header) if name in NUMBERS)


def letters_after(header: Sequence[str]) -> tuple[str, ...]:
    """The letters that a header tells for after its block."""
    return tuple(name for name in header[header.index(THEN) + 1 :] if name in NUMBERS) if THEN in header else ()


def is_told(name: str) -> bool:
    """Whether a name of a header tells what is said, or where."""
    return name in NUMBERS or name == THEN or name.startswith(AT)


def is_place(name: str) -> bool:
    """Whether a name tells where in its block the letters behind it begin."""
    return name.startswith(AT)


def rest_of_word(unsaid: Sequence[str]) -> tuple[str, ...]:
    """Letters up to the end of a word that has begun, MOST_THEN of them at most; none where the word has been said."""
    return tuple(takewhile(lambda name: name not in BETWEEN, unsaid))[:MOST_THEN]


def around(header: Sequence[str], before: Sequence[Sequence[str]], block: int, tokens: int) -> np.ndarray:
    """[tokens, 2 * (BEHIND + AHEAD)] float32 of the first `tokens` tokens of a block of `block` tokens, after blocks with the headers
    `before`: the letters around each as numbers, NONE where there is none, then how many parts of a token after its beginning each
    begins."""
    letters: list[tuple[int, int]] = []
    for back, earlier in enumerate(reversed(before), start=1):
        if len(letters) >= BEHIND:
            break
        within_block = takewhile(lambda name: name != THEN, earlier)
        letters = [*_places(within_block, -back * block * FINE, block), *letters]
    letters = [*letters[-BEHIND:], *_places(header, 0, block)]
    table = np.zeros((tokens, 2, BEHIND + AHEAD), np.float32)
    if letters:
        places, numbers = np.array(letters).T
        begins = np.arange(tokens) * FINE
        indices = np.searchsorted(places, begins)[:, None] + np.arange(-BEHIND, AHEAD)
        is_letter = (indices >= 0) & (indices < len(letters))
        indices = indices.clip(0, len(letters) - 1)
        table[:, 0] = np.where(is_letter, numbers[indices], NONE)
        table[:, 1] = np.where(is_letter, places[indices] - begins[:, None], 0)
    return table.reshape(tokens, -1)


def _places(header: Iterable[str], start: int, block: int) -> list[tuple[int, int]]:
    """(part, number) of each letter of a header, whose block begins at the part `start`."""
    part, letters = start, list[tuple[int, int]]()
    for name in header:
        if name == THEN:
            part = start + block * FINE
        elif name.startswith(AT):
            part = start + part_of(name)
        elif name in NUMBERS:
            letters.append((part, NUMBERS[name] + 1))
    return letters


def part_of(name: str) -> int:
    """The number of the part, counted from the beginning of the block, that an `at_names` name stands for."""
    return int(name[len(AT) : -1])


def text_of(names: Iterable[str]) -> str:
    """The text that letters spell; bytes that are no UTF-8 are left out."""
    return bytes(NUMBERS[name] for name in names).decode(errors="ignore")


def placed(words: Any, seconds: float, block: int, tokens: int) -> list[tuple[str, ...]]:
    """What is told of each block of `block` of `tokens` tokens of `seconds`, where `words` is as `checked` expects it:
    the parts of tokens where letters begin, each before its letters, and the rest of a word that it does not end. Letters without
    times are spread over their word's. More than MOST letters of a block go on in the next one, if there is one. Raises RowError."""
    blocks, parts = -(-tokens // block), block * FINE  # of a block
    letters: list[list[tuple[int, str]]] = [[] for _ in range(blocks)]
    last_name = ""
    for spelled, begins in checked(words):
        names = names_in(spelled)
        space = (SPACE,) if names and last_name and last_name not in BETWEEN else ()
        last_name = names[-1] if names else last_name
        for second, name in zip((*(begins[:1] if space else ()), *begins), (*space, *names), strict=True):
            part = min(int(second / seconds * FINE), tokens * FINE - 1)
            while len(letters[part // parts]) == MOST and part // parts < blocks - 1:
                part = (part // parts + 1) * parts
            of_block = letters[part // parts]
            of_block.append((max(part % parts, of_block[-1][0] if of_block else 0), name))
    marks = at_names(block)
    headers: list[tuple[str, ...]] = []
    unsaid = [name for of_block in letters for _, name in of_block]
    is_begun = False
    for of_block in letters:
        last_part, header = -1, list[str]()
        for part, name in of_block:
            header += [marks[part]] if part != last_part else []
            header.append(name)
            last_part = part
        unsaid = unsaid[len(of_block) :]
        is_begun = of_block[-1][1] not in BETWEEN if of_block else is_begun
        rest = rest_of_word(unsaid) if is_begun else ()
        headers.append((*header, THEN, *rest) if rest else tuple(header))
    return headers


def checked(words: Any) -> list[tuple[str, list[float]]]:
    """The letters of the plain form of each of a part's `words`, or its sounds, and the second where each of them begins: as it says,
    or spread over the word's time. Raises RowError where they are anything but a list of [word, first second, last second],
    [word, first second, last second, seconds of its letters] or [word, first second, last second, seconds of its sounds, sounds]."""
    if not isinstance(words, list | tuple):
        raise RowError(f"audio part: got {type(words).__name__} as words; {EXPECTED}")
    last, read = 0.0, list[tuple[str, list[float]]]()
    for entry in words:
        is_word = isinstance(entry, list | tuple) and 3 <= len(entry) <= 5 and isinstance(entry[0], str)
        is_word = is_word and isinstance(entry[-1] if len(entry) == 5 else "", str)
        spelled = (entry[4] if len(entry) == 5 else plain_words(entry[0])) if is_word else ""
        letters = len(spelled.encode())
        begins = entry[3] if is_word and len(entry) > 3 else ()
        if not is_word or not isinstance(begins, list | tuple):
            raise RowError(f"audio part: got {entry!r} among words; {EXPECTED}")
        _, start, end = entry[:3]
        if not all(isinstance(second, int | float) and math.isfinite(second) for second in (start, end, *begins)):
            raise RowError(f"audio part: got {entry!r} among words; {EXPECTED}")
        if len(entry) > 3 and len(begins) != letters:
            kind = "sounds" if len(entry) == 5 else "letters"
            raise RowError(
                f"audio part: got {len(begins)} seconds for the {letters} {kind} of {entry[0]!r}; {EXPECTED}"
            )
        places = [last, start, *begins, end] if begins else [last, start, end]
        if places != sorted(places):
            raise RowError(f"audio part: got {entry!r} after second {last}; {EXPECTED}")
        spread = [start + (end - start) * place / letters for place in range(letters)]
        read.append((spelled, list(map(float, begins or spread))))
        last = float(end)
    return read


def following(
    header: Sequence[str],
    before: Sequence[Sequence[str]],
    wish: Sequence[str] | None,
    block: int,
    is_last: bool = False,
) -> tuple[tuple[str, ...], int | None, bool]:
    """What may be told next in the header of a block of up to `block` tokens, after the headers `before`; how many tokens the block
    has at least by what was told, None where more has to be told; and whether it may end the sound: not before all names of the
    `wish` have been said, where there is one, or what the header before told for after its block. `is_last`: no block may follow."""
    content = [name for name in header if is_told(name)]
    letters, after = letters_in(content), letters_after(content)
    if wish is None:
        unsaid = letters_after(before[-1])[len(letters) :] if before else ()
    else:
        unsaid = tuple(wish[sum(map(len, map(letters_in, before))) + len(letters) :])
    last_part = max((part_of(name) for name in content if name.startswith(AT)), default=-1)
    least = last_part // FINE + 1
    last_letter = next((name for earlier in (content, *reversed(before)) for name in letters_in(earlier)[-1:]), SPACE)
    rest = () if is_last or last_letter in BETWEEN else rest_of_word(unsaid)
    if THEN in content:
        if left := rest[len(after) :]:
            return left[:1], None, False
        may_spell = wish is None and len(after) < MOST_THEN
        return (NAMES if may_spell else ()), least if after else None, False
    next_letters: tuple[str, ...] = () if len(letters) >= MOST else unsaid[:1] or (NAMES if wish is None else ())
    if content and content[-1].startswith(AT):  # a letter follows, and nothing else
        return next_letters, None, not unsaid
    next_names = (*(next_letters if content else ()), *(at_names(block)[last_part + 1 :] if next_letters else ()))
    may_tell_more = bool(rest) or (wish is None and bool(letters) and last_letter not in BETWEEN and not is_last)
    return (*next_names, *((THEN,) if may_tell_more else ())), None if rest else least, not unsaid
