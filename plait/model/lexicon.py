"""Words that can be heard: of the spellings that slots of letters allow, the likeliest in words that are known.

A beam search over the outputs of connectionist temporal classification (Hannun et al., 2014, arXiv 1408.2873) whose prefixes know
the likeliest word that they can still become (Ortmanns et al., 1996). Words are those of the training's texts and, as a trunk
has seen far more than they say, those that its vocabulary has whole: an id's rank tells how frequent a word is, by Zipf's law.
An unknown word is possible and costly.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from heapq import nlargest

import numpy as np

from plait.contract import Block, Modality, Segment
from plait.data.letters import BLANK, plain_words

WIDTH = 24  # spellings that are followed
UNLIKELY = -6.0  # log probability of a letter that is not followed
WEIGHT = 0.5  # of a word's log probability beside that of its letters
PER_WORD = 1.0  # log probability that a word adds, against few long ones
UNKNOWN, UNKNOWN_LETTER = -25.0, -0.5  # log probability of an unknown word, and of each of its letters
FROM_VOCABULARY = 0.3  # probability of words that is spread over the vocabulary's
ZIPF_SHIFT = 100  # ranks of ids that are no words: signs, letters, endings
NEVER = -1e30
SPACE = ord(" ") + 1  # the class of a blank between words


@dataclass(frozen=True)
class Spelling:
    """A text and the log probabilities of its letters and of its words, these weighted."""

    text: str
    letters: float
    words: float

    @property
    def likelihood(self) -> float:
        """Log probability of both."""
        return self.letters + self.words


class _Node:
    """A beginning of a text, as a node of a tree: `known` is the log probability of its whole words, `hoped` that of the
    likeliest word that its last can become, both weighted."""

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
        whole = sum(zipf.values())
        self._ranked = {word.encode(): share / whole for word, share in zipf.items()}
        self._likelihoods: dict[bytes, float] = {}
        self._hopes: dict[bytes, float] = {}

    def learn(self, counts: Mapping[str, int]) -> None:
        """Know these words beside those known; of a word in both the higher count holds, so that nothing is counted twice."""
        words = sorted({*self.counts, *counts})
        self.counts = {word: max(self.counts.get(word, 0), counts.get(word, 0)) for word in words}
        total = sum(self.counts.values())
        share = FROM_VOCABULARY if self._ranked else 0.0
        chances = {word: share * chance for word, chance in self._ranked.items()}
        for word, count in self.counts.items():
            chances[word.encode()] = chances.get(word.encode(), 0.0) + (1.0 - share) * count / total
        self._likelihoods = {word: math.log(chance) for word, chance in chances.items() if chance}
        self._hopes = {}
        for letters, likelihood in self._likelihoods.items():
            for end in range(1, len(letters) + 1):
                if self._hopes.get(letters[:end], NEVER) < likelihood:
                    self._hopes[letters[:end]] = likelihood

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
            if spelling.text not in best or spelling.likelihood > best[spelling.text].likelihood:
                best[spelling.text] = spelling  # one may end in a blank
        return nlargest(most, best.values(), key=lambda spelling: spelling.likelihood)

    def _step(
        self, beam: Mapping[_Node, tuple[float, float]], letters: list[tuple[int, float]]
    ) -> dict[_Node, tuple[float, float]]:
        """The likeliest spellings after one more slot, in which these letters are likely."""
        after: dict[_Node, list[float]] = {}
        for spelling, (blank, letter) in beam.items():
            either = _sum(blank, letter)
            for number, chance in letters:
                if number == BLANK or (number == SPACE and not spelling.word):  # between words, both are silence
                    ends = after.setdefault(spelling, [NEVER, NEVER])
                    ends[0] = _sum(ends[0], either + chance)
                    continue
                if number == spelling.letter:  # one letter that lasts; another of its kind only after a blank
                    ends = after.setdefault(spelling, [NEVER, NEVER])
                    ends[1] = _sum(ends[1], letter + chance)
                before = blank if number == spelling.letter else either
                if before > NEVER:
                    ends = after.setdefault(self._longer(spelling, number), [NEVER, NEVER])
                    ends[1] = _sum(ends[1], before + chance)
        best = nlargest(WIDTH, after.items(), key=lambda item: _sum(*item[1]) + item[0].known + item[0].hoped)
        return {spelling: (ends[0], ends[1]) for spelling, ends in best}

    def _longer(self, spelling: _Node, letter: int) -> _Node:
        """A spelling and one letter more."""
        if letter not in spelling.children:
            spelling.children[letter] = self._child(spelling, letter)
        return spelling.children[letter]

    def _child(self, spelling: _Node, letter: int) -> _Node:
        if letter == SPACE:
            return _Node(spelling, letter, b"", self._whole(spelling), 0.0)
        word = spelling.word + bytes([letter - 1])
        hoped = WEIGHT * self._hopes.get(word, UNKNOWN + UNKNOWN_LETTER * len(word))
        return _Node(spelling, letter, word, spelling.known, hoped)

    def _whole(self, spelling: _Node) -> float:
        """Log probability of the words when the last one ends here."""
        if not (word := spelling.word):
            return spelling.known
        likelihood = self._likelihoods.get(word, UNKNOWN + UNKNOWN_LETTER * len(word))
        return spelling.known + WEIGHT * likelihood + PER_WORD


def words_in(texts: Iterable[str]) -> dict[str, int]:
    """Plain words of distinct texts, and in how many places each stands."""
    return Counter(word for text in set(texts) for word in plain_words(text).split())


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
