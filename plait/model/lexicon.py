"""Words that can be heard: of the spellings that slots of letters allow, the likeliest in words that are known.

A beam search over the outputs of connectionist temporal classification (Hannun et al., 2014, arXiv 1408.2873) whose prefixes know
the likeliest word that they can still become (Ortmanns et al., 1996). Words are those of the training's texts and, as a trunk
has seen far more than they say, those that its vocabulary has whole: an id's rank tells how frequent a word is, by Zipf's law.
An unknown word is possible and costly. Scripts that do not part words know no words here: they are spelled letter by letter.
"""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from heapq import nlargest

import numpy as np

from plait.contract import Block, Modality, Segment
from plait.data.letters import BLANK
from plait.runtime.words import plain_words

WIDTH = 24  # spellings that are followed
UNLIKELY = -7.0  # log probability of a letter that is not followed
WEIGHT = 0.6  # of a word's log probability beside that of its letters
PER_WORD = 1.0  # that every word adds to the score, against few long ones
UNKNOWN = -25.0  # log probability of an unknown word
FROM_VOCABULARY = 0.3  # probability of words that is spread over the vocabulary's
ZIPF_SHIFT = 100  # ranks of ids that are no words: signs, letters, endings
NEVER = -1e30
SPACE = ord(" ") + 1  # the class between words
UNSPACED = (
    "CJK",
    "HIRAGANA",
    "KATAKANA",
    "THAI",
    "LAO",
    "KHMER",
    "MYANMAR",
)  # names of letters of scripts without spaces


@dataclass(frozen=True)
class Spelling:
    """A text, the log probability of its letters, and what its words add to the score."""

    text: str
    letters: float
    words: float

    @property
    def score(self) -> float:
        """What the beam search maximises."""
        return self.letters + self.words


class _Node:
    """A beginning of a text, as a node of a tree: `known` is what its whole words add to the score, `hoped` what the likeliest
    word adds that its last can become."""

    __slots__ = ("children", "hoped", "known", "letter", "parent", "word")

    def __init__(self, parent: _Node | None, letter: int, word: bytes, known: float, hoped: float) -> None:
        self.parent, self.letter, self.word, self.known, self.hoped = parent, letter, word, known, hoped
        self.children: dict[int, _Node] = {}

    def text(self) -> str:
        """What it spells; bytes that are no UTF-8 are left out."""
        letters = []
        node: _Node | None = self
        while node is not None and node.parent is not None:
            letters.append(node.letter - 1)
            node = node.parent
        return bytes(reversed(letters)).decode("utf-8", errors="ignore").strip()


class Lexicon:
    """Words by how often they were read; `ranked` are the words of a vocabulary, the most frequent first, None for an id that
    is no word."""

    def __init__(self, ranked: Iterable[str | None] = ()) -> None:
        self.counts: dict[str, int] = {}
        zipf = {word: 1.0 / (rank + ZIPF_SHIFT) for rank, word in reversed(list(enumerate(ranked))) if word}
        total = sum(zipf.values())
        self._ranked = {word.encode(): share / total for word, share in zipf.items()}
        self._log_probabilities: dict[bytes, float] = {}
        self._hopes: dict[bytes, float] = {}

    def learn(self, counts: Mapping[str, int]) -> None:
        """Know these words beside those known; of a word in both the higher count holds, so that nothing is counted twice."""
        words = sorted({*self.counts, *counts})
        self.counts = {word: max(self.counts.get(word, 0), counts.get(word, 0)) for word in words}
        total = sum(self.counts.values())
        share = FROM_VOCABULARY if self._ranked else 0.0
        probabilities = {word: share * probability for word, probability in self._ranked.items()}
        for word, count in self.counts.items():
            probabilities[word.encode()] = probabilities.get(word.encode(), 0.0) + (1.0 - share) * count / total
        self._log_probabilities = {word: math.log(one) for word, one in probabilities.items() if one}
        self._hopes = {}
        for letters, log_probability in self._log_probabilities.items():
            for end in range(1, len(letters) + 1):
                if self._hopes.get(letters[:end], NEVER) < log_probability:
                    self._hopes[letters[:end]] = log_probability

    def spellings(self, log_probabilities: np.ndarray, most: int = 1) -> list[Spelling]:
        """[T, classes] log probabilities of letters in slots -> the likeliest texts, the best first."""
        root = _Node(None, BLANK, b"", 0.0, 0.0)
        beam = {root: (0.0, NEVER)}  # log probability of each spelling with its last slot blank, and a letter
        likely = log_probabilities > UNLIKELY
        likely[np.arange(len(likely)), log_probabilities.argmax(axis=-1)] = True
        for slot, row in enumerate(log_probabilities):
            classes = np.nonzero(likely[slot])[0]
            beam = self._step(beam, list(zip(classes.tolist(), row[classes].tolist(), strict=True)))
        best: dict[str, Spelling] = {}
        for node, ends in beam.items():
            spelling = Spelling(node.text(), _sum(*ends), self._whole(node))
            if spelling.text not in best or spelling.score > best[spelling.text].score:
                best[spelling.text] = spelling  # one may end in a space
        return nlargest(most, best.values(), key=lambda spelling: spelling.score)

    def _step(
        self, beam: Mapping[_Node, tuple[float, float]], letters: list[tuple[int, float]]
    ) -> dict[_Node, tuple[float, float]]:
        """The likeliest spellings after one more slot, in which these letters are likely."""
        after: dict[_Node, list[float]] = {}
        for spelling, (blank, letter) in beam.items():
            either = _sum(blank, letter)
            for number, log_probability in letters:
                if number == BLANK or (number == SPACE and not spelling.word):  # between words, both are silence
                    ends = after.setdefault(spelling, [NEVER, NEVER])
                    ends[0] = _sum(ends[0], either + log_probability)
                    continue
                if number == spelling.letter and letter > NEVER:  # it lasts; another of its kind only after a blank
                    ends = after.setdefault(spelling, [NEVER, NEVER])
                    ends[1] = _sum(ends[1], letter + log_probability)
                before = blank if number == spelling.letter else either
                if before > NEVER:
                    ends = after.setdefault(self._longer(spelling, number), [NEVER, NEVER])
                    ends[1] = _sum(ends[1], before + log_probability)
        best = nlargest(WIDTH, after.items(), key=lambda item: _sum(*item[1]) + item[0].known + item[0].hoped)
        return {spelling: (ends[0], ends[1]) for spelling, ends in best}

    def _longer(self, spelling: _Node, letter: int) -> _Node:
        """A beginning and one letter more."""
        if letter not in spelling.children:
            spelling.children[letter] = self._child(spelling, letter)
        return spelling.children[letter]

    def _child(self, spelling: _Node, letter: int) -> _Node:
        if letter == SPACE:
            return _Node(spelling, letter, b"", self._whole(spelling), 0.0)
        word = spelling.word + bytes([letter - 1])
        hoped = WEIGHT * self._hopes.get(word, UNKNOWN)
        return _Node(spelling, letter, word, spelling.known, hoped)

    def _whole(self, spelling: _Node) -> float:
        """What the words add to the score when the last one ends here."""
        if not (word := spelling.word):
            return spelling.known
        return spelling.known + WEIGHT * self._log_probabilities.get(word, UNKNOWN) + PER_WORD


def words_in(texts: Iterable[str]) -> dict[str, int]:
    """Plain words of distinct texts, and in how many places each stands; none of scripts that do not part words."""
    counts = Counter(word for text in set(texts) for word in plain_words(text).split())
    return {word: count for word, count in counts.items() if not _is_unspaced(word)}


def _is_unspaced(word: str) -> bool:
    return any(unicodedata.name(letter, "").startswith(UNSPACED) for letter in word)


def whole_words(modality: Modality) -> list[str | None]:
    """Of every id of a modality of text, the word that it writes, if it begins and is one of two letters and more."""
    words: list[str | None] = []
    for number in range(modality.token_width):
        text = str(modality.write(Segment(modality.name, (Block((), np.array([number])),))).value)
        word = plain_words(text)
        words.append(word if text.startswith(" ") and len(word) > 1 and word.isalpha() else None)
    return words


def _sum(a: float, b: float) -> float:
    """The logarithm of the sum of two probabilities given by theirs."""
    high, low = (a, b) if a > b else (b, a)
    return high if low <= NEVER else high + math.log1p(math.exp(low - high))
