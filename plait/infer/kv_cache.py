"""Keys and values of clean tokens, one slot a stream.

`S` streams of a batch, `T` kept tokens, `n` new tokens, `H` key/value heads, `K` head width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from plait.data.pack import Batch
from plait.model.mask import allowed
from plait.model.transformer import TrunkConfig

GROWTH = 64  # tokens


class Cache:
    """Per layer [slots, H, capacity, K]; slots are taken and given back, capacity grows as needed.

    On a CPU they are kept in float32: one query against keys in bfloat16 takes two to five times as long, and each new
    length prepares its product anew (docs/adr/0009-float32-cache.md).
    """

    def __init__(self, config: TrunkConfig, dtype: torch.dtype, device: torch.device) -> None:
        self.heads, self.width = config.kv_heads, config.head_width
        self.dtype, self.device = torch.float32 if device.type == "cpu" else dtype, device
        self.slots = self.capacity = 0
        self.keys = [self._store(0, 0) for _ in range(config.num_layers)]
        self.values = [self._store(0, 0) for _ in range(config.num_layers)]
        self.lengths: list[int] = []
        self.free: list[int] = []

    def _store(self, slots: int, capacity: int) -> Tensor:
        return torch.zeros(slots, self.heads, capacity, self.width, dtype=self.dtype, device=self.device)

    def take(self) -> int:
        """An empty slot."""
        if not self.free:
            before, after = len(self.lengths), max(4, 2 * len(self.lengths))
            self._grow(after, self.capacity)
            self.free = list(range(after - 1, before - 1, -1))
            self.lengths += [0] * (after - before)
        slot = self.free.pop()
        self.lengths[slot] = 0
        return slot

    def give_back(self, slot: int) -> None:
        self.free.append(slot)

    def _grow(self, slots: int, capacity: int) -> None:
        for stores in (self.keys, self.values):
            for number, old in enumerate(stores):
                stores[number] = new = self._store(slots, capacity)
                new[: self.slots, :, : self.capacity] = old
        self.slots, self.capacity = slots, capacity

    def view(self, slots: list[int], counts: list[int], write: list[bool]) -> CacheView:
        """The slots of one forward pass; of stream i, `counts[i]` new tokens are kept if `write[i]`."""
        needed = max(self.lengths[slot] + count for slot, count in zip(slots, counts, strict=True))
        if needed > self.capacity:
            self._grow(self.slots, (needed + GROWTH) // GROWTH * GROWTH)
        one_each = all(write) and max(counts) == 1
        return (InPlaceView if one_each else CacheView)(self, slots, counts, write)


class CacheView:
    """What a forward pass sees of the cache: T kept tokens a stream, then its new ones; those to keep are written too."""

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

    def mask(self, batch: Batch) -> Tensor | None:
        """[S, L, T + L] bool: each stream's kept tokens, then what the rule allows among the new ones."""
        new_SLL = allowed(batch.row, batch.block, batch.copy)
        kept = torch.arange(self.kept)[None, :] < self.lengths[:, None]
        return torch.cat((kept[:, None, :].expand(-1, new_SLL.shape[1], -1).to(new_SLL.device), new_SLL), dim=-1)

    def join(self, store: Tensor, new_SHnK: Tensor) -> Tensor:
        """[S, H, T + n, K]: kept tokens and new ones."""
        kept = store[self.slots, :, : self.kept]
        if len(self.source[0]):
            rows, places = self.source
            slots, targets = self.target
            store[slots, :, targets] = new_SHnK[rows, :, places].to(store.dtype)
        return torch.cat((kept.to(new_SHnK.dtype), new_SHnK), dim=2)


class InPlaceView(CacheView):
    """One new token a stream, all to be kept, as in writing text: it is written in its place, and nothing is copied as long
    as the streams stand in order."""

    def __init__(self, cache: Cache, slots: list[int], counts: list[int], write: list[bool]) -> None:
        self.cache = cache
        self.lengths = torch.tensor([cache.lengths[slot] for slot in slots])
        self.kept = int(self.lengths.max())
        self.level = self.kept if int(self.lengths.min()) == self.kept else None
        in_order = slots == list(range(slots[0], slots[0] + len(slots)))
        self.slots = torch.tensor(slots)
        self.chosen: slice | Tensor = slice(slots[0], slots[0] + len(slots)) if in_order else self.slots
        self.layers = [LayerView(self, number) for number in range(len(cache.keys))]

    def mask(self, batch: Batch) -> Tensor | None:
        """[S, 1, T + 1] bool: a stream's kept tokens and, in the place after them, the new one; None if that is all."""
        if self.level is not None:
            return None
        seen = torch.arange(self.kept + 1)[None, :] <= self.lengths[:, None]
        return seen[:, None, :].to(batch.ids.device)

    def join(self, store: Tensor, new_SHnK: Tensor) -> Tensor:
        if self.level is not None and isinstance(self.chosen, slice):  # a plain copy is a third of a scattered one
            seen = store[self.chosen, :, : self.level + 1]
            seen[:, :, self.level] = new_SHnK[:, :, 0]
            return seen
        store[self.slots, :, self.lengths] = new_SHnK[:, :, 0].to(store.dtype)
        return store[self.chosen, :, : self.kept + 1]


class LayerView:
    """One layer of a CacheView; follows `plait.model.transformer.LayerCache`."""

    def __init__(self, view: CacheView, layer: int) -> None:
        self.view, self.layer = view, layer

    def join(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        cache = self.view.cache
        return self.view.join(cache.keys[self.layer], k), self.view.join(cache.values[self.layer], v)
