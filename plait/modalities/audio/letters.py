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
AT = "<at:"
MOST = 24  # letters in the header of a block
EXPECTED = "expected words as a list of [word, first second, last second], in their order, or none: leave words out"


def at_names(block: int) -> tuple[str, ...]:
    """Names of the tokens of a block, that stand before the letters which are said from there on."""
    return tuple(f"{AT}{token}>" for token in range(block))


def names_of(text: str) -> tuple[str, ...]:
    """Names of the letters of a text's plain words."""
    return tuple(NAMES[byte] for byte in plain_words(text).encode())


def letters_in(header: Iterable[str]) -> tuple[str, ...]:
    """The letters in a header."""
    return tuple(name for name in header if name in NUMBERS)


def is_told(name: str) -> bool:
    """Whether a name of a header tells what is said, or where."""
    return name in NUMBERS or name.startswith(AT)


def token_of(name: str) -> int:
    """The number of the token that an `at_names` name stands for."""
    return int(name[len(AT) : -1])


def text_of(names: Iterable[str]) -> str:
    """The text that letters spell; bytes that are no UTF-8 are left out."""
    return bytes(NUMBERS[name] for name in names).decode(errors="ignore")


def placed(words: Any, seconds: float, block: int, tokens: int) -> list[tuple[str, ...]]:
    """What is told of each block of `block` of `tokens` tokens of `seconds`, where `words` lists [word, first second, last second]:
    the tokens where letters begin, each before its letters. A word's letters are spread over its time. More than MOST letters of
    a block go on in the next one, if there is one. Raises RowError."""
    blocks = -(-tokens // block)
    letters: list[list[tuple[int, str]]] = [[] for _ in range(blocks)]
    for number, (word, start, end) in enumerate(checked(words)):
        names = names_of(word)
        space = names_of("a b")[1:2] if number and names else ()
        for place, name in enumerate((*space, *names)):
            second = start + (end - start) * max(0, place - len(space)) / max(1, len(names))
            token = min(int(second / seconds), tokens - 1)
            while len(letters[token // block]) == MOST and token // block < blocks - 1:
                token = (token // block + 1) * block
            of_block = letters[token // block]
            of_block.append((max(token % block, of_block[-1][0] if of_block else 0), name))
    marks = at_names(block)
    headers: list[tuple[str, ...]] = []
    for of_block in letters:
        last_token, header = -1, list[str]()
        for token, name in of_block:
            header += [marks[token]] if token != last_token else []
            header.append(name)
            last_token = token
        headers.append(tuple(header))
    return headers


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


def following(
    header: Sequence[str], before: Iterable[Sequence[str]], text: str | None, block: int
) -> tuple[tuple[str, ...], int | None, bool]:
    """What may be told next in the header of a block of up to `block` tokens, after the headers `before`; how many tokens the block
    has at least by what was told, None where more has to be told; and whether it may end the sound: not before `text` has been
    said, where one is to be."""
    content = [name for name in header if is_told(name)]
    letters, letters_before = letters_in(content), sum(len(letters_in(earlier)) for earlier in before)
    last_token = max((token_of(name) for name in content if name.startswith(AT)), default=-1)
    unsaid = NAMES if text is None else names_of(text)[letters_before + len(letters) :]
    next_letters = unsaid if text is None else unsaid[:1]
    if len(letters) >= MOST:
        next_letters = ()
    may_end = text is None or not unsaid
    if content and content[-1].startswith(AT):  # a letter follows, and nothing else
        return next_letters, None, may_end
    later_tokens = at_names(block)[last_token + 1 :] if next_letters else ()
    return (*(next_letters if content else ()), *later_tokens), last_token + 1, may_end
