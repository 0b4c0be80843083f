"""What a reader heard, in words that the trunk knows: its features are spelled, and the words stand beside them.

Letters are learned from hours of speech where whole words need thousands, and what they misspell a language model reads as people
do (plait.heads.speller, docs/adr/0025-sounds-in-words.md).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from plait.data.letters import read
from plait.heads.speller import Speller
from plait.model.lexicon import Lexicon

AVERAGED = 3  # neighbouring features that become one, so that words have room


@torch.no_grad()
def transcripts(speller: Speller, features: Tensor, counts: Tensor, lexicon: Lexicon | None = None) -> list[str]:
    """[N, width] features of sounds, [B] features of each -> what each says: in words of the lexicon where they fit, without
    one letter by likeliest letter."""
    logits = speller(features, counts)
    slots = (counts * speller.letters).tolist()
    if lexicon is None:
        classes = logits.argmax(dim=-1)
        return [read(row[:count]) for row, count in zip(classes.tolist(), slots, strict=True)]
    likelihoods = logits.log_softmax(dim=-1).cpu().numpy()
    return [lexicon.spell(row[:count]) for row, count in zip(likelihoods, slots, strict=True)]


def beside_words(vectors: Tensor, counts: Sequence[int], words: Sequence[Tensor]) -> Tensor:
    """[N, D] projected features of sounds with `counts` features, and [k, D] words of each -> [N, D]: of each sound first the
    means of every AVERAGED features, then its words, as many as there is room for, then zeros."""
    sounds = []
    for own, said in zip(torch.split(vectors, list(counts)), words, strict=True):
        means = torch.stack([part.mean(dim=0) for part in torch.split(own, AVERAGED)])
        kept = said[: len(own) - len(means)]
        sounds += [means, kept, vectors.new_zeros(len(own) - len(means) - len(kept), vectors.shape[1])]
    return torch.cat(sounds)
