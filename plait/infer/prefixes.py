"""Keys and values of sequences that have ended, for those that begin as they did: the earlier turns of a conversation.

A token sees only what stands before it and what stands in its own block, so whatever two sequences begin with alike, block by
block, has the same keys and values in both, but for the rounding of other shapes (docs/adr/0032-earlier-turns.md).
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import takewhile

import torch

from plait.data.row import Element, Ids
from plait.infer.kv_cache import PAGE, KVCache, Slot

Identity = tuple[Hashable, int]  # what a token or a block is to the trunk, and of how many tokens it is


def identities_of(elements: Sequence[Element]) -> list[Identity]:
    """An identity for each id and for each block: equal where the trunk reads the same."""
    identities: list[Identity] = []
    for element in elements:
        if isinstance(element, Ids):
            identities += [((index, element.expert), 1) for index in element.ids]
        else:
            digest = hashlib.blake2b(element.tokens.tobytes() + element.coordinates.tobytes()).digest()
            identities.append(((element.modality, element.expert, element.time, digest), len(element)))
    return identities


def without(elements: Sequence[Element], count: int) -> list[Element]:
    """The elements but for their first `count` tokens, which end where an id or a block ends."""
    rest: list[Element] = []
    for element in elements:
        passed = min(count, len(element))
        count -= passed
        if not passed:
            rest.append(element)
        elif passed < len(element):
            assert isinstance(element, Ids)
            rest.append(Ids(element.ids[passed:], element.learned, element.expert, element.origin))
    return rest


@dataclass(eq=False)
class Prefix:
    """A sequence whose keys and values are kept, and whose it is."""

    slot: Slot
    identities: list[Identity]
    owner: str


class Prefixes:
    """Sequences in up to `tokens` of a cache; those that were used longest ago make room. Nobody is told of another owner's: how
    soon an answer comes would tell what others have asked."""

    def __init__(self, cache: KVCache, tokens: int) -> None:
        self.cache, self.tokens = cache, tokens
        self.kept: list[Prefix] = []  # the one used last at the end

    @torch.inference_mode()  # what is cancelled ends between two steps
    def keep(self, slot: Slot, identities: Sequence[Identity], owner: str) -> None:
        """Take over the slot of a sequence that has ended."""
        held = self.cache.shrink(slot)
        size = held.store.capacity
        if size > self.tokens or not identities:
            self.cache.give_back(held)
            return
        for other in [
            each
            for each in self.kept
            if each.owner == owner and common_length(each.identities, identities) == len(each.identities)
        ]:
            self._drop(other)  # the new one begins with it
        while self.kept and sum(each.slot.store.capacity for each in self.kept) + size > self.tokens:
            self._drop(self.kept[0])
        self.kept.append(Prefix(held, list(identities), owner))

    def begin(self, slot: Slot, elements: Sequence[Element], owner: str) -> int:
        """Copy what is known of the beginning of `elements` to an empty slot; how many ids and blocks. The last one is never among them:
        what follows is told from it."""
        identities = identities_of(elements)[:-1]
        count, best = self._longest(identities, owner)
        if best is not None:
            self.cache.copy(best.slot, slot, sum(length for _, length in identities[:count]))
        return count

    def _longest(self, identities: Sequence[Identity], owner: str) -> tuple[int, Prefix | None]:
        """The owner's sequence that begins as these do for longest, which counts as used now, and how far; 0 and None for none."""
        lengths = [(common_length(each.identities, identities), each) for each in self.kept if each.owner == owner]
        count, best = max(lengths, key=lambda pair: pair[0], default=(0, None))
        if best is None or not count:
            return 0, None
        self.kept.remove(best)
        self.kept.append(best)
        return count, best

    def make_room(self, tokens: int, elements: Sequence[Element], owner: str) -> bool:
        """Drop sequences until the cache has room for `tokens`, last of all what `elements` begin with; whether it has. Where active
        streams leave too little anyway, nothing is dropped."""
        self._longest(identities_of(elements)[:-1], owner)
        kept = sum(each.slot.store.capacity for each in self.kept) // PAGE
        if self.cache.used - kept + self.cache.capacity_for(tokens) // PAGE > self.cache.pages:
            return False
        while self.kept and not self.cache.fits(tokens):
            self._drop(self.kept[0])
        return self.cache.fits(tokens)

    def _drop(self, prefix: Prefix) -> None:
        self.kept.remove(prefix)
        self.cache.give_back(prefix.slot)


def common_length(one: Sequence[Identity], other: Sequence[Identity]) -> int:
    """How many identities two sequences begin with alike."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
