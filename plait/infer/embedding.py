"""Vectors of words, pictures and sounds in one space, where what means the same lies near.

The space is that of a language model's own words, as directions from their mean (plait.model.memory). A text is the mean of its
words' directions, each weighed by how rare it is, less what texts have in common (SIF: Arora et al. 2017, "A Simple but Tough-to-Beat
Baseline for Sentence Embeddings"); a medium that a reader was aligned for lies where it points; a sound is the words heard in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from plait.contract import WORDS, Block, Part, Segment
from plait.data.features import FeatureReader
from plait.data.sequence import Encoder
from plait.errors import ConfigError
from plait.model.multimodal import MultimodalTransformer

RARE = 1e-4  # share of a text at which a word counts half as much as a very rare one
COUNTED = 5000  # of the words that were counted, the most frequent
TEXTS, LENGTH = 500, 8  # of texts without meaning, and their words
ZIPF = 50.0  # of words that nobody has counted, by their number in the vocabulary


class Embedder:
    """Vectors of parts by a model. Raises ConfigError for one that stands on no language model: its words are no space."""

    def __init__(self, model: MultimodalTransformer, encoder: Encoder) -> None:
        if model.base is None:
            raise ConfigError(
                "this model stands on no language model, whose words are the space of embeddings; expected one that does, such as smol"
            )
        self.model, self.encoder = model, encoder
        self.words = model.vocabulary.modalities[WORDS]
        counts = model.lexicon.counts if model.lexicon else {}
        self._counted = sorted(counts, key=lambda word: (-counts[word], word))[:COUNTED]
        self._weights = self._rarity(counts)
        self._common = self._of_texts(self._babble(counts)).mean(0)

    @property
    def width(self) -> int:
        """Numbers of a vector."""
        return int(self._common.shape[0])

    @property
    def kinds(self) -> list[str]:
        """Modalities that have vectors."""
        return [
            kind
            for kind in self.model.vocabulary.modalities
            if kind == WORDS or self._question(kind) or self._hears(kind)
        ]

    def __call__(self, parts: Sequence[Part | Sequence[int]]) -> np.ndarray:
        """[n, width] float32 unit vectors of parts, or of the words' ids. Raises ConfigError for a modality without, RowError for a
        damaged part."""
        with torch.inference_mode():
            vectors = [
                self._vector(part) if isinstance(part, Part) else self._of_ids(part) - self._common for part in parts
            ]
        return np.asarray(F.normalize(torch.stack(vectors), dim=-1).cpu().numpy(), np.float32)

    def _vector(self, part: Part) -> Tensor:
        if part.type == WORDS:
            return self._centred([str(part.value)])
        reader = self.model.vocabulary.readers.get(part.type)
        if reader is None or part.type not in self.kinds or not isinstance(self.encoder.features, FeatureReader):
            raise ConfigError(f"this model has no embeddings of {part.type}; expected one of {', '.join(self.kinds)}")
        features = torch.tensor(self.encoder.features(part, None))  # a copy: stores are read-only
        if self._hears(part.type):
            return self._centred([self.model.said(reader.name, features)])
        question = self._question(part.type)
        pointing = self.model.pointing(reader.name, question, features.to(self.model.device, self.model.dtype))[0]
        return F.normalize(pointing, dim=-1)

    def _hears(self, kind: str) -> bool:
        reader = self.model.vocabulary.readers.get(kind)
        return bool(reader and reader.letters) and f"spellers.{reader.name}" not in self.model.unlearned  # type: ignore[union-attr]

    def _question(self, kind: str) -> str:
        """The question to which a reader of the modality knows most answers; empty for none."""
        reader = self.model.vocabulary.readers.get(kind)
        if reader is None:
            return ""
        known = {
            question: len(memory.answers)
            for (name, question), memory in self.model.memories.items()
            if name == reader.name and f"askers.{name}/{question}" not in self.model.unlearned
        }
        return max(known, key=lambda question: known[question], default="")

    def _babble(self, counts: Mapping[str, int]) -> list[str]:
        """Texts that mean nothing: what they have in common, all have. Without counts, of any ids."""
        rng = np.random.default_rng(0)
        if not self._counted:
            ids = rng.integers(0, self.model.vocabulary.tables[WORDS], (TEXTS, LENGTH))
            return [str(self.words.write(Segment(WORDS, (Block((), row),))).value) for row in ids]
        shares = np.array([counts[word] for word in self._counted], np.float64)
        drawn = rng.choice(len(shares), (TEXTS, LENGTH), p=shares / shares.sum())
        return [" ".join(self._counted[index] for index in row) for row in drawn]

    def _rarity(self, counts: Mapping[str, int]) -> Tensor:
        """[V] weights of words: 1 for those that nobody says."""
        size = self.model.vocabulary.tables[WORDS]
        shares = 1.0 / (torch.arange(size) + ZIPF)  # tokenizers number the frequent ones first
        if self._counted:
            shares = torch.zeros(size)
        for word in self._counted:
            for spelled in (word, " " + word):
                ids = self.words.read(Part(WORDS, spelled)).blocks[0].tokens
                shares[ids] += counts[word] / len(ids)
        shares = shares / shares.sum()
        return (RARE / (RARE + shares)).to(self.model.device)

    def _centred(self, texts: Sequence[str]) -> Tensor:
        return (self._of_texts(texts) - self._common)[0]

    def _of_texts(self, texts: Sequence[str]) -> Tensor:
        """[n, width] unit vectors of texts; zeros for one without words."""
        return torch.stack([self._of_ids(self.words.read(Part(WORDS, text)).blocks[0].tokens) for text in texts])

    def _of_ids(self, ids: Sequence[int] | np.ndarray) -> Tensor:
        """[width] unit vector; zeros for no ids."""
        index = torch.as_tensor(np.asarray(ids, np.int64), device=self.model.device)
        return F.normalize((self.model.directions()[index] * self._weights[index, None]).sum(0), dim=-1)
