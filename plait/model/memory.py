"""What a reader saw, in words that the trunk knows: the answer of the training data that its features point to.

A projector alone has to teach a language model every name again, and what it teaches holds for the styles that it saw. Features and
the words of an answer are compared in one space (plait.train.objectives.align), where nearest answers hold for new styles too; so
the words of the nearest one stand among the features, as the table has them, and the language model reads them as it reads any.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

Answer = tuple[int, ...]  # ids of its words


def directions(vectors: Tensor, centre: Tensor) -> Tensor:
    """[..., D] unit vectors from `centre`."""
    return F.normalize(vectors - centre, dim=-1)


class Directions:
    """The embeddings of words, [V, D], in units of their root mean square `rms`, as directions from their mean, given in
    `dtype`; they do not move here."""

    def __init__(self, weight: Tensor, rms: float, dtype: torch.dtype) -> None:
        self.weight, self.rms, self.dtype = weight.detach(), rms, dtype
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
    """Answers by their words, for a reader whose media have `tokens` features each, of which the last `words` stand for words."""

    def __init__(self, tokens: int, words: int) -> None:
        self.tokens, self.words = tokens, words
        self.texts: tuple[str, ...] = ()
        self.answers: tuple[Answer, ...] = ()
        self._computed: tuple[Directions, Tensor, Tensor] | None = None

    def remember(self, ids_by_text: Iterable[tuple[str, Iterable[int]]]) -> None:
        """Know these answers beside those known, in the order of their texts; one without words is left out."""
        known = dict(zip(self.texts, self.answers, strict=True))
        known |= {text: tuple(map(int, ids)) for text, ids in ids_by_text}
        known = {text: ids for text, ids in known.items() if ids}
        self.texts = tuple(sorted(known))
        self.answers = tuple(known[text] for text in self.texts)
        self._computed = None

    def nearest(self, vectors: Tensor, table: Directions) -> Tensor:
        """[M * tokens, D] projected features -> [M] numbers of the answers that they point to."""
        means, _ = self._of(table)
        features = directions(vectors.detach().float(), table.centre)
        media = features.view(-1, self.tokens, features.shape[-1]).sum(dim=1)
        nearest: Tensor = (media @ means.T).argmax(dim=-1)
        return nearest

    def __call__(self, vectors: Tensor, table: Directions) -> Tensor:
        """[M * tokens, D] projected features -> the same with words of the nearest answer in place of the last `words` of every
        medium; where the answer has fewer, zeros. Without answers features stay as they are."""
        if not self.answers:
            return vectors
        _, embedded = self._of(table)
        words = embedded[self.nearest(vectors, table)].to(vectors.dtype)
        features = vectors.view(-1, self.tokens, vectors.shape[-1])[:, : self.tokens - self.words]
        return torch.cat((features, words), dim=1).flatten(0, 1)

    def _of(self, table: Directions) -> tuple[Tensor, Tensor]:
        """The answers' means [N, D], and their first words [N, words, D] in the units of the features."""
        if self._computed is None or self._computed[0] is not table:
            device = table.weight.device
            ids = torch.zeros(len(self.answers), self.words, dtype=torch.long)
            is_word = torch.zeros(len(self.answers), self.words, 1)
            for number, answer in enumerate(self.answers):
                first = answer[: self.words]
                ids[number, : len(first)] = torch.tensor(first)
                is_word[number, : len(first)] = 1.0
            embedded = table.weight[ids.to(device)].float() / table.rms * is_word.to(device)
            self._computed = table, table.means(self.answers), embedded.to(table.dtype)
        return self._computed[1:]
