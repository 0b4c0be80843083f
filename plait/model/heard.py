"""What a reader heard, in words that the trunk knows: its features are spelled, and the words stand beside them.

Letters are learned from hours of speech where whole words need thousands, and what they misspell a language model reads as people
do (plait.heads.speller, docs/adr/0025-sounds-in-words.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from plait.data.letters import aligned, read, spelled
from plait.heads.speller import Speller
from plait.model.lexicon import Lexicon
from plait.runtime.words import plain_words

Weigh = Callable[[Sequence[Sequence[str]]], Sequence[Sequence[float]]]  # log probabilities of texts
SPELLINGS = 8  # of a sound that the trunk is asked about
OF_WORDS, OF_TRUNK = (
    0.5,
    0.5,
)  # weights of what the lexicon gives their words, and of their log probability by the trunk
SURER = 1.5  # times as sure as it is right is a speller: its temperature beside words
SIGNS = '.,;:!?…"“”()[]{}«»¿¡'  # beside a word, that are no part of it
AVERAGED = 3  # neighbouring features that become one, so that words have room


@torch.no_grad()
def transcripts(
    speller: Speller,
    features: Tensor,
    counts: Tensor,
    lexicon: Lexicon | None = None,
    weigh: Weigh | None = None,
) -> list[str]:
    """[N, width] features of sounds, [B] features of each -> what each says.

    Without a lexicon it is spelled by the likeliest letters, with one in its words where they fit. `weigh` tells how likely
    texts are as texts, given those that each sound may say, and then decides with letters and words.
    """
    logits = speller(features, counts)
    slots = (counts * speller.letters).tolist()
    if lexicon is None:
        classes = logits.argmax(dim=-1)
        return [read(row[:count]) for row, count in zip(classes.tolist(), slots, strict=True)]
    rows = (logits / SURER).log_softmax(dim=-1).cpu().numpy()
    most = 1 if weigh is None else SPELLINGS
    candidates = [lexicon.spellings(row[:count], most) for row, count in zip(rows, slots, strict=True)]
    if weigh is None:
        return [best.text for (best, *_) in candidates]
    texts = []
    for spellings, of_trunk in zip(candidates, weigh([[one.text for one in own] for own in candidates]), strict=True):
        totals = [
            one.letters + OF_WORDS * one.words + OF_TRUNK * log_probability
            for one, log_probability in zip(spellings, of_trunk, strict=True)
        ]
        texts.append(spellings[totals.index(max(totals))].text)
    return texts


def beside_words(vectors: Tensor, counts: Sequence[int], words: Sequence[Tensor]) -> Tensor:
    """[N, D] projected features of sounds with `counts` features, and [k, D] words of each -> [N, D]: of each sound first the
    means of every AVERAGED features, then its words, as many as there is room for, then zeros."""
    sounds = []
    for own, said in zip(torch.split(vectors, list(counts)), words, strict=True):
        means = torch.stack([part.mean(dim=0) for part in torch.split(own, AVERAGED)])
        kept = said[: len(own) - len(means)]
        sounds += [means, kept, vectors.new_zeros(len(own) - len(means) - len(kept), vectors.shape[1])]
    return torch.cat(sounds)


@torch.no_grad()
def letter_slots(speller: Speller, features: Tensor, text: str) -> tuple[list[str], list[list[int]], float]:
    """[n, width] features of a sound that says a text -> the text's words, the slots where the letters of each begin, and the
    mean log probability of a letter. Raises AlignmentError."""
    spelling = {word: plain_words(word) for word in text.split()}
    words = [word for word in text.split() if spelling[word]]  # signs alone are no words
    classes = spelled(" ".join(spelling[word] for word in words))
    counts = torch.tensor([len(features)], device=features.device)
    scores = speller(features, counts)[0, : len(features) * speller.letters].log_softmax(dim=-1).cpu().numpy()
    slots = aligned(scores, classes)
    places, begin = [], 0
    for word in words:
        end = begin + len(spelling[word].encode())
        places.append(slots[begin:end].tolist())
        begin = end + 1  # behind the blank
    return [word.strip(SIGNS) or word for word in words], places, float(scores[slots, classes].mean())
