"""Keys and values of clean tokens, one slot a stream.

`S` streams of a batch, `T` kept tokens, `n` new tokens, `H` key/value heads, `K` head width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from plait.model.transformer import TrunkConfig

GROWTH = 64  # tokens


class Cache:
    """Per layer [slots, capacity, H, K]; slots are taken and given back, capacity grows as needed."""

    def __init__(self, config: TrunkConfig, dtype: torch.dtype, device: torch.device) -> None:
        self.shape = (config.kv_heads, config.head_width)
        self.dtype, self.device = dtype, device
        self.keys = [torch.zeros(0, 0, *self.shape, dtype=dtype, device=device) for _ in range(config.num_layers)]
        self.values = [layer.clone() for layer in self.keys]
        self.lengths: list[int] = []
        self.free: list[int] = []

    def take(self) -> int:
        """An empty slot."""
        if not self.free:
            before, after = len(self.lengths), max(4, 2 * len(self.lengths))
            self._grow(after, self.keys[0].shape[1])
            self.free = list(range(after - 1, before - 1, -1))
            self.lengths += [0] * (after - before)
        slot = self.free.pop()
        self.lengths[slot] = 0
        return slot

    def give_back(self, slot: int) -> None:
        self.free.append(slot)

    def _grow(self, slots: int, capacity: int) -> None:
        for store in (self.keys, self.values):
            for number, old in enumerate(store):
                new = torch.zeros(slots, capacity, *self.shape, dtype=self.dtype, device=self.device)
                new[: old.shape[0], : old.shape[1]] = old
                store[number] = new

    def view(self, slots: list[int], counts: list[int], write: list[bool]) -> CacheView:
        """The slots of one forward pass; of stream i, `counts[i]` new tokens are kept if `write[i]`."""
        needed = max(self.lengths[slot] + count for slot, count in zip(slots, counts, strict=True))
        if needed > self.keys[0].shape[1]:
            self._grow(self.keys[0].shape[0], (needed + GROWTH) // GROWTH * GROWTH)
        return CacheView(self, slots, counts, write)


class CacheView:
    """What a forward pass sees of the cache: [S, T] kept tokens and where new ones go."""

    def __init__(self, cache: Cache, slots: list[int], counts: list[int], write: list[bool]) -> None:
        self.cache, self.slots = cache, torch.tensor(slots)
        self.lengths = torch.tensor([cache.lengths[slot] for slot in slots])
        self.kept = int(self.lengths.max())
        rows: list[int] = []
        places: list[int] = []
        targets: list[int] = []
        slot_of: list[int] = []
        for number, (slot, count, writes) in enumerate(zip(slots, counts, write, strict=True)):
            if writes:
                rows += [number] * count
                places += range(count)
                targets += range(cache.lengths[slot], cache.lengths[slot] + count)
                slot_of += [slot] * count
        self.source = (torch.tensor(rows, dtype=torch.long), torch.tensor(places, dtype=torch.long))
        self.target = (torch.tensor(slot_of, dtype=torch.long), torch.tensor(targets, dtype=torch.long))
        self.layers = [LayerView(self, number) for number in range(len(cache.keys))]

    def mask(self) -> Tensor:
        """[S, T] bool: which of the kept places hold a token of that stream."""
        return torch.arange(self.kept)[None, :] < self.lengths[:, None]


class LayerView:
    """One layer of a CacheView; follows `plait.model.transformer.LayerCache`."""

    def __init__(self, view: CacheView, layer: int) -> None:
        self.view, self.layer = view, layer

    def join(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        return self._join(self.view.cache.keys[self.layer], k), self._join(self.view.cache.values[self.layer], v)

    def _join(self, store: Tensor, new_SHnK: Tensor) -> Tensor:
        view = self.view
        kept = store[view.slots, : view.kept].transpose(1, 2)
        if len(view.source[0]):
            store[view.target] = new_SHnK.transpose(1, 2)[view.source]
        return torch.cat((kept, new_SHnK), dim=2)
