"""What a reader saw, in words that the trunk knows: the answers of the training data that its features point to.

A projector alone has to teach a language model every name again, and what it teaches holds for the styles that it saw. Features and
the words of an answer are compared in one space (plait.train.objectives.align), where nearest answers hold for new styles too. So
of every question that was aligned (what is it? which colour?) the nearest answer's words stand beside the features, as the
table has them, and the language model reads them as it reads any.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

Answer = tuple[int, ...]  # ids of its words
MOST_CUT = 0.02  # of the answers, whose last words have no place


def directions(vectors: Tensor, centre: Tensor) -> Tensor:
    """[..., D] unit vectors from `centre`."""
    return F.normalize(vectors - centre, dim=-1)


class Directions:
    """The embeddings of words, [V, D], in units of their root mean square `rms`, as directions from their mean; they do not
    move here."""

    def __init__(self, weight: Tensor, rms: float) -> None:
        self.weight, self.rms = weight.detach(), rms
        self.centre = self.weight.mean(dim=0, dtype=torch.float32) / rms

    def __getitem__(self, ids: Tensor) -> Tensor:
        """[n] ids -> [n, D] unit vectors."""
        return directions(self.weight[ids].float() / self.rms, self.centre)

    def means(self, answers: Sequence[Answer]) -> Tensor:
        """[n, D] unit vectors: the mean direction of each answer's words."""
        device = self.weight.device
        lengths = torch.tensor([len(answer) for answer in answers], device=device)
        words = self[torch.tensor([token for answer in answers for token in answer], device=device)]
        of_answer = torch.repeat_interleave(torch.arange(len(answers), device=device), lengths)
        sums = torch.zeros(len(answers), words.shape[1], device=device).index_add(0, of_answer, words)
        return F.normalize(sums, dim=-1)


class AnswerMemory:
    """Answers to one question, by their words."""

    def __init__(self) -> None:
        self.texts: tuple[str, ...] = ()
        self.answers: tuple[Answer, ...] = ()
        self._means: tuple[Directions, Tensor] | None = None

    @property
    def longest(self) -> int:
        """Words that all but MOST_CUT of the answers have at most."""
        lengths = sorted(map(len, self.answers))
        return lengths[max(0, math.ceil((1.0 - MOST_CUT) * len(lengths)) - 1)] if lengths else 0

    def remember(self, ids_by_text: Iterable[tuple[str, Iterable[int]]]) -> None:
        """Know these answers beside those known, in the order of their texts; one without words is left out."""
        known = dict(zip(self.texts, self.answers, strict=True))
        known |= {text: tuple(map(int, ids)) for text, ids in ids_by_text}
        known = {text: ids for text, ids in known.items() if ids}
        self.texts = tuple(sorted(known))
        self.answers = tuple(known[text] for text in self.texts)
        self._means = None

    def nearest(self, pointing: Tensor, table: Directions) -> list[Answer]:
        """[M, D] directions -> the answer that each points to."""
        if self._means is None or self._means[0] is not table:
            self._means = table, table.means(self.answers)
        numbers = (pointing @ self._means[1].T).argmax(dim=-1)
        return [self.answers[number] for number in numbers.tolist()]


def pointing(vectors: Tensor, tokens: int, table: Directions) -> Tensor:
    """[M * tokens, D] projected features of media -> [M, D] the sums of their directions."""
    features = directions(vectors.float(), table.centre)
    return features.view(-1, tokens, features.shape[-1]).sum(dim=1)


def rooms(longest: Mapping[str, int], places: int) -> dict[str, int]:
    """How many of the `places` for words each question has, by its longest answer: the short ones first."""
    room = {}
    for question in sorted(longest, key=lambda question: (longest[question], question)):
        room[question] = min(longest[question], places)
        places -= room[question]
    return room


def beside_answers(
    vectors: Tensor, tokens: int, places: int, answers: Mapping[str, tuple[AnswerMemory, Tensor]], table: Directions
) -> Tensor:
    """[M * (tokens + places), D] features of media and empty places after each -> the same with the words of the nearest answer
    to every question in the places, where there are fewer zeros. `answers`: what is known of a question, and the
    directions [M, D] to ask with."""
    media = vectors.view(-1, tokens + places, vectors.shape[-1])
    ids = np.zeros((len(media), places), np.int64)
    is_word = np.zeros((len(media), places, 1), np.float32)
    first = 0
    for question, room in rooms({name: memory.longest for name, (memory, _) in answers.items()}, places).items():
        memory, asked = answers[question]
        for number, answer in enumerate(memory.nearest(asked, table)):
            words = answer[:room]
            ids[number, first : first + len(words)] = words
            is_word[number, first : first + len(words)] = 1.0
        first += room
    device = table.weight.device
    embedded = table.weight[torch.from_numpy(ids).to(device)].float() / table.rms * torch.from_numpy(is_word).to(device)
    return torch.cat((media[:, :tokens], embedded.to(vectors.dtype)), dim=1).flatten(0, 1)
