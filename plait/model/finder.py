"""Looks for what is asked: a small transformer that reads a medium and the words of a question, and writes what it finds.

It reads patches, and what a frozen encoder gives of the medium's places, if there is one. Such features alone hardly tell how many of a thing there are and where, and positions of a frozen language model can
compute nothing new. So what is asked is looked for before the trunk reads: the finder writes the answer letter by letter,
and its words stand beside the medium as the table has them, for the trunk to read (docs/adr/0045-what-is-asked-is-looked-for.md).
A question that is not of its kind it answers with nothing.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from hashlib import blake2b

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from plait.data.asked import BASE, MOST_LETTERS, WORDS_ASKED, Layout
from plait.model.attention import attend, prepare
from plait.model.layers import Linear, Norm
from plait.model.transformer import Trunk, TrunkConfig

DIM, LAYERS, HEADS = 256, 6, 4
END, CLASSES = 0, 257  # of letters: the end, and bytes
REMEMBERED = 4096  # answers


def unit(x: Tensor) -> Tensor:
    """Vectors centred and of size 1: whatever enters the finder's trunk weighs the same, and places are not drowned by pixels."""
    return F.layer_norm(x, x.shape[-1:])


class Finder(nn.Module):
    """Media as `Layout.join` joins them, and the words' embeddings of what is asked -> letters."""

    def __init__(self, layout: Layout, dim: int) -> None:
        super().__init__()
        self.layout = layout
        self.patch = Linear(layout.width, DIM)
        self.place = nn.Embedding(layout.patches + layout.features, DIM)
        if layout.features:
            self.feature = nn.Sequential(Norm(layout.feature_width, bias=True), Linear(layout.feature_width, DIM))
        self.word = Linear(dim, DIM)
        self.letter = nn.Embedding(CLASSES + 1, DIM)  # the last begins an answer
        self.trunk = Trunk(TrunkConfig(dim=DIM, num_layers=LAYERS, num_heads=HEADS))
        self.out = Linear(DIM, CLASSES)

    @property
    def first_letter(self) -> int:
        """Position of an answer's first letter, however long the question is."""
        return self.layout.patches + self.layout.features + WORDS_ASKED

    def apart(self, media: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[M, places * token_width] -> patches [M, n, width], features [M, n, feature_width], ids [M, WORDS_ASKED], -1 where there is
        none."""
        layout = self.layout
        patches, features, asked, _ = torch.split(media, [*layout.sizes, media.shape[1] - sum(layout.sizes)], dim=1)
        high, low = asked.float().view(len(media), WORDS_ASKED, 2).unbind(dim=-1)
        ids = torch.where(high < 0, -torch.ones_like(high), BASE * high + low).long()
        seen = patches.reshape(len(media), layout.patches, layout.width)
        return seen, features.reshape(len(media), layout.features, layout.feature_width), ids

    def read(self, media: Tensor, table: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Media as `apart` takes them and the words' table in units of its size -> [M, n, DIM], and which of them there are."""
        patches, features, ids = self.apart(media)
        there = ids >= 0
        longest = max(1, int(there.sum(dim=1).max()))
        ids, there = ids[:, :longest], there[:, :longest]
        tokens = unit(self.patch(patches.to(dtype)))
        if self.layout.features:
            tokens = torch.cat((tokens, unit(self.feature(features.to(dtype)))), dim=1)
        tokens = tokens + unit(self.place.weight.to(dtype))
        word_vectors = unit(self.word(table[ids.clamp(min=0)].to(dtype))) * there[..., None]
        is_token = torch.ones(tokens.shape[:2], dtype=torch.bool, device=ids.device)
        return torch.cat((tokens, word_vectors), dim=1), torch.cat((is_token, there), dim=1)

    def logits(self, media: Tensor, table: Tensor, letters: Tensor, dtype: torch.dtype) -> Tensor:
        """[M, T, CLASSES] float32 of each of `letters` [M, T] after those before it."""
        x, there = self.read(media, table, dtype)
        M, T = letters.shape
        prefix = x.shape[1]  # tokens before the first letter, which see one another
        inputs = torch.cat((letters.new_full((M, 1), CLASSES), letters[:, :-1].clamp(min=0)), dim=1)
        x = torch.cat((x, unit(self.letter(inputs).to(dtype))), dim=1)
        mask = torch.ones(prefix + T, prefix + T, dtype=torch.bool, device=x.device).tril()
        mask[:prefix, :prefix] = True
        keys = torch.cat((there, torch.ones(M, T, dtype=torch.bool, device=x.device)), dim=1)
        position = torch.cat((torch.arange(prefix), self.first_letter + torch.arange(T))).to(x.device).expand(M, -1)
        hidden = self.trunk(x, position, mask & keys[:, None, :])[:, prefix:]
        logits: Tensor = self.out(hidden.flatten(0, 1)).float().view(M, T, CLASSES)
        return logits

    def loss(self, media: Tensor, table: Tensor, letters: Tensor, dtype: torch.dtype) -> Tensor:
        """The sum of cross-entropies of `letters` [M, T], -1 behind each answer's END."""
        logits = self.logits(media, table, letters, dtype).flatten(0, 1)
        return F.cross_entropy(logits, letters.flatten(), ignore_index=-1, reduction="sum")

    @torch.no_grad()
    def find(self, media: Tensor, table: Tensor, dtype: torch.dtype) -> list[str]:
        """The likeliest letters of each medium's answer, one after the other; empty where nothing of its kind is asked."""
        if not len(media):
            return []
        x, there = self.read(media, table, dtype)
        M, length = x.shape[:2]
        caches = [_Cache(M, there) for _ in range(LAYERS)]
        position = torch.arange(length, device=x.device).expand(M, -1)
        self.trunk(x.flatten(0, 1)[None], position.reshape(1, -1), None, caches)
        letters = torch.full((M,), CLASSES, device=x.device)
        ended = torch.zeros(M, dtype=torch.bool, device=x.device)
        written: list[Tensor] = []
        while len(written) < MOST_LETTERS and not bool(ended.all()):
            step = unit(self.letter(letters).to(dtype))[None]
            hidden = self.trunk(
                step, torch.full((1, M), self.first_letter + len(written), device=x.device), None, caches
            )
            letters = self.out(hidden[0]).argmax(dim=-1).masked_fill(ended, END)
            ended = ended | (letters == END)
            written.append(letters)
        rows = torch.stack(written, dim=1).tolist()
        return [bytes(c - 1 for c in row if c != END).decode("utf-8", errors="ignore") for row in rows]


class _Cache:
    """Keys and values of M media side by side, of one layer (plait.model.transformer.LayerCache)."""

    def __init__(self, media: int, there: Tensor) -> None:
        self.media, self.there = media, there
        self.keys: Tensor | None = None
        self.values: Tensor | None = None

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """[M * L, H, K] queries over all so far; the first L see one another where they are there."""
        q, k, v = (x.view(self.media, -1, *x.shape[1:]).transpose(1, 2) for x in (q, k, v))
        self.keys = k if self.keys is None else torch.cat((self.keys, k), dim=2)
        self.values = v if self.values is None else torch.cat((self.values, v), dim=2)
        later = torch.ones(self.media, self.keys.shape[2] - self.there.shape[1], dtype=torch.bool, device=k.device)
        mask = torch.cat((self.there, later), dim=1)[:, None, :].expand(-1, q.shape[2], -1)
        outputs = attend(q, self.keys, self.values, prepare(mask, q.dtype))
        return outputs.transpose(1, 2).flatten(0, 1)


def letters_of(texts: Sequence[bytes], device: torch.device) -> Tensor:
    """Texts in UTF-8 -> [M, T] letters with their END, -1 behind."""
    spelled = [[*(byte + 1 for byte in text), END] for text in texts]
    longest = max(map(len, spelled))
    return torch.tensor([row + [-1] * (longest - len(row)) for row in spelled], device=device)


class Findings:
    """What a finder found, remembered while it and the words' table stay as they are: conversations come back with every turn."""

    def __init__(self) -> None:
        self.texts: dict[tuple[Hashable, bytes], str] = {}

    def of(self, finder: Finder, media: Tensor, table: Tensor, version: Hashable, dtype: torch.dtype) -> list[str]:
        """As `Finder.find`; `version` is that of the table."""
        now = (version, tuple(parameter._version for parameter in finder.parameters()))
        keys = [(now, blake2b(medium.float().cpu().numpy().tobytes()).digest()) for medium in media]
        if len(self.texts) > REMEMBERED:
            self.texts.clear()
        known: dict[tuple[Hashable, bytes], str] = {
            key: text for key in keys if (text := self.texts.get(key)) is not None
        }
        if new := {key: medium for key, medium in zip(keys, media, strict=True) if key not in known}:
            known |= zip(new, finder.find(torch.stack(list(new.values())), table, dtype), strict=True)
            self.texts.update(known)
        return [known[key] for key in keys]  # another thread may have forgotten all


def in_places(texts: Sequence[Sequence[int]], table: Tensor, places: int) -> Tensor:
    """Ids of the words of each text, and the words' table [V, D] -> [M * places, D] their embeddings, as many as there is room for,
    then zeros."""
    vectors = torch.zeros(len(texts), places, table.shape[1], device=table.device)
    for own, ids in zip(vectors, texts, strict=True):
        own[: len(ids)] = table[torch.tensor(ids[:places], dtype=torch.long, device=table.device)].float()
    return vectors.flatten(0, 1)
