"""Keys and values of clean tokens: a slot a stream, accounted in pages under a fixed budget.

A stream lies contiguous and is read in place: on a CPU gathering pages would copy hundreds of megabytes a step. Slots of
one capacity lie in one store; a stream that outgrows its slot moves to a store of twice the capacity.

`S` streams of a group, `T` kept and new tokens, `n` new tokens, `N` new tokens of all streams, `H` heads, `K` head width.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from torch import Tensor

from plait.errors import ConfigError
from plait.model.attention import attend
from plait.model.mask import bias
from plait.model.transformer import TrunkConfig
from plait.runtime.device import fused_attention_in_bfloat16

PAGE = 64  # tokens
FIRST_SLOTS = 16  # of a store, which then doubles
NEW_KEY = np.iinfo(np.int64).max  # block number of a key that nobody may see


class Store:
    """Slots of one capacity: `keys` and `values` hold a layer's [slots, H, capacity, K] each."""

    def __init__(self, config: TrunkConfig, capacity: int, dtype: torch.dtype, device: torch.device) -> None:
        self.capacity = capacity
        shape = (2, config.num_layers, 0, config.kv_heads, capacity, config.head_width)
        self.free: list[int] = []  # a heap: the lowest first, so that slots in use stand together
        self._hold(torch.zeros(shape, dtype=dtype, device=device))

    def _hold(self, data: Tensor) -> None:
        """`data` [2, layers, slots, H, capacity, K] is the store's memory from now on."""
        self.data = data
        self.keys, self.values = (tuple(of_all.unbind()) for of_all in data)

    def take(self) -> int:
        """An empty slot: zeroed, since a masked NaN of an earlier stream would still reach the sums."""
        if not self.free:
            before = self.data.shape[2]
            more = max(FIRST_SLOTS, before)
            larger = self.data.new_empty(*self.data.shape[:2], before + more, *self.data.shape[3:])
            larger[:, :, :before] = self.data
            self._hold(larger)
            self.free = list(range(before, before + more))
        slot = heapq.heappop(self.free)
        self.data[:, :, slot].zero_()
        return slot

    def give_back(self, slot: int) -> None:
        """The slot may be taken again."""
        heapq.heappush(self.free, slot)


@dataclass(eq=False)
class Slot:
    """Where a stream's keys and values lie, and how many tokens are kept."""

    store: Store
    index: int
    length: int = 0
    experts: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))  # of the tokens that are kept, by number

    def keep(self, experts: np.ndarray) -> None:
        """Tokens of `experts` that were written last are kept."""
        end = self.length + len(experts)
        if len(self.experts) < end:
            self.experts = np.concatenate((self.experts[: self.length], np.zeros(2 * end - self.length, np.int64)))
        self.experts[self.length : end] = experts
        self.length = end


class KVCache:
    """Slots under a budget of `pages`. On a CPU without AMX keys and values are kept in float32: there one query against keys in
    bfloat16 takes two to five times as long (docs/adr/0009-float32-cache.md)."""

    def __init__(self, config: TrunkConfig, dtype: torch.dtype, device: torch.device, pages: int) -> None:
        self.config, self.device, self.pages = config, device, pages
        self.dtype = dtype if fused_attention_in_bfloat16(device) else torch.float32
        self.stores: dict[int, Store] = {}
        self.used = 0  # pages

    @staticmethod
    def capacity_for(tokens: int) -> int:
        """Tokens of the smallest slot that holds `tokens`: a page, doubled as often as needed."""
        capacity = PAGE
        while capacity < tokens:
            capacity *= 2
        return capacity

    def fits(self, tokens: int) -> bool:
        """Whether a stream of `tokens` can be taken now."""
        return self.used + self.capacity_for(tokens) // PAGE <= self.pages

    def check(self, tokens: int) -> None:
        """Raise ConfigError for streams that could never be taken."""
        if self.capacity_for(tokens) // PAGE > self.pages:
            raise ConfigError(
                f"got a request of up to {tokens} tokens; expected at most {self.pages * PAGE}, all that the cache holds: "
                "shorten it, or lower max_tokens"
            )

    def take(self, tokens: int) -> Slot:
        """An empty slot for a stream of about `tokens`."""
        capacity = self.capacity_for(tokens)
        if capacity not in self.stores:
            self.stores[capacity] = Store(self.config, capacity, self.dtype, self.device)
        self.used += capacity // PAGE
        return Slot(self.stores[capacity], self.stores[capacity].take())

    def give_back(self, slot: Slot) -> None:
        """The stream has ended."""
        self.used -= slot.store.capacity // PAGE
        slot.store.give_back(slot.index)

    def grow(self, slot: Slot, tokens: int) -> None:
        """Room for `tokens` more: the stream moves if its slot has none. A stream under way is never refused its room."""
        if slot.length + tokens <= slot.store.capacity:
            return
        larger = self.take(slot.length + tokens)
        self.copy(slot, larger, slot.length)
        self.give_back(slot)
        slot.store, slot.index, slot.experts = larger.store, larger.index, larger.experts

    def shrink(self, slot: Slot) -> Slot:
        """The stream in the smallest slot that holds it; the larger one is given back."""
        if self.capacity_for(slot.length) == slot.store.capacity:
            return slot
        smaller = self.take(slot.length)
        self.copy(slot, smaller, slot.length)
        self.give_back(slot)
        return smaller

    @staticmethod
    def copy(source: Slot, target: Slot, tokens: int) -> None:
        """The first `tokens` of a stream are those of another, too."""
        target.store.data[:, :, target.index, :, :tokens] = source.store.data[:, :, source.index, :, :tokens]
        target.length, target.experts = 0, np.zeros(0, np.int64)
        target.keep(source.experts[:tokens])


@dataclass
class Entry:
    """New tokens of one stream in a packed step: `count` from `first` on."""

    slot: Slot
    first: int
    count: int


@dataclass(frozen=True)
class NewTokens:
    """The tokens of a packed step: [N] numbers of their `blocks` and of their `experts`."""

    blocks: np.ndarray
    experts: np.ndarray


class Group:
    """Streams of one store with about as many new tokens: one batched attention, whatever their number. `tokens`: all N."""

    def __init__(self, entries: Sequence[Entry], tokens: NewTokens, store: Store, device: torch.device) -> None:
        self.store, total = store, len(tokens.blocks)
        counts = np.array([entry.count for entry in entries])
        firsts = np.array([entry.first for entry in entries])
        lengths = np.array([entry.slot.length for entry in entries])
        slots = np.array([entry.slot.index for entry in entries])
        self.streams, self.n = len(entries), int(counts.max())
        self.reach = int((lengths + counts).max())
        steps = np.arange(self.n)
        valid = steps < counts[:, None]
        index = firsts[:, None] + np.minimum(steps, counts[:, None] - 1)  # short streams repeat their last token
        self.is_all = valid.size == total and bool(valid.all()) and bool((np.diff(index.ravel()) == 1).all())
        self.index = torch.from_numpy(index.ravel()).to(device)
        self.written = torch.from_numpy(index[valid]).to(device)
        self.valid = None if valid.all() else torch.from_numpy(np.flatnonzero(valid.ravel())).to(device)
        in_order = bool((np.diff(slots) == 1).all())
        self.slots: slice | Tensor = (
            slice(int(slots[0]), int(slots[-1]) + 1) if in_order else torch.from_numpy(slots).to(device)
        )
        self.places: tuple[int | Tensor, slice, slice | Tensor]
        if self.streams == 1:  # one copy instead of a scatter
            self.places = int(slots[0]), slice(None), slice(int(lengths[0]), self.reach)
        else:
            rows = np.nonzero(valid)[0]
            to_places = torch.from_numpy((lengths[:, None] + steps)[valid]).to(device)
            self.places = torch.from_numpy(slots[rows]).to(device), slice(None), to_places
        self._seen: Callable[[], Tensor] = partial(self._sees, tokens.blocks[index], lengths, valid)
        self._key_experts: Callable[[], np.ndarray] = partial(self._experts_of_keys, entries, tokens.experts)
        self.biases: dict[frozenset[int], Tensor | None] = {}
        if not self._masks(lengths, counts):
            self.biases[frozenset()] = None

    def _masks(self, lengths: np.ndarray, counts: np.ndarray) -> bool:
        """Whether some key is hidden from some query: never for one new token each after as many kept ones."""
        return self.n > 1 or bool((lengths != lengths[0]).any())

    def _sees(self, blocks: np.ndarray, lengths: np.ndarray, valid: np.ndarray) -> Tensor:
        """[S, n, T] bool: of its stream a token sees what is kept, and of the new ones those of its own block and of earlier
        ones."""
        key_blocks = np.full((self.streams, self.reach), NEW_KEY)
        key_blocks[np.arange(self.reach) < lengths[:, None]] = -1
        rows, columns = np.nonzero(valid)
        key_blocks[rows, lengths[rows] + columns] = blocks[valid]
        return torch.from_numpy(key_blocks[:, None, :] <= blocks[:, :, None])

    def _experts_of_keys(self, entries: Sequence[Entry], experts: np.ndarray) -> np.ndarray:
        """[S, T] number of the expert of each token, kept and new; -1 behind them."""
        expert_of_key = np.full((self.streams, self.reach), -1)
        for of_stream, entry in zip(expert_of_key, entries, strict=True):
            length = entry.slot.length
            of_stream[:length] = entry.slot.experts[:length]
            of_stream[length : length + entry.count] = experts[entry.first : entry.first + entry.count]
        return expert_of_key

    def bias(self, absent: frozenset[int]) -> Tensor | None:
        """[S, n, T] numbers to add to scores, in a layer that tokens of the experts `absent` do not pass; None for zeros."""
        if absent not in self.biases:
            is_absent = np.isin(self._key_experts(), list(absent)) if absent else np.zeros(1, bool)
            if absent and not is_absent.any():
                self.biases[absent] = self.bias(frozenset())
            else:
                is_visible = self._seen() & ~torch.from_numpy(is_absent)[..., None, :]
                self.biases[absent] = bias(is_visible, self.store.keys[0].dtype).to(self.index.device)
        return self.biases[absent]

    def attend(self, layer: int, absent: frozenset[int], q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """[M, H, K] mixed values of the group's M tokens; their keys and values, of [N, Hkv, K], are written to their places."""
        stored_keys, stored_values = self.store.keys[layer], self.store.values[layer]
        if not self.is_all:
            q, k, v = q.index_select(0, self.index), k.index_select(0, self.written), v.index_select(0, self.written)
        if self.streams == 1:
            k, v = k.transpose(0, 1), v.transpose(0, 1)
        stored_keys[self.places] = k.to(stored_keys.dtype)
        stored_values[self.places] = v.to(stored_values.dtype)
        queries = q.view(self.streams, self.n, *q.shape[1:]).transpose(1, 2)
        mixed = attend(queries, self._kept(stored_keys), self._kept(stored_values), self.bias(absent))
        mixed = mixed.transpose(1, 2).flatten(0, 1)
        return mixed if self.valid is None else mixed.index_select(0, self.valid)

    def _kept(self, stored: Tensor) -> Tensor:
        """[S, Hkv, T, K] keys or values of the group's streams."""
        if isinstance(self.slots, slice):
            return stored[self.slots, :, : self.reach]
        return stored[:, :, : self.reach].index_select(0, self.slots)


class PackedView:
    """What one packed forward pass sees of the cache. New tokens are written behind the kept ones; they are kept once the
    caller adds them to `length`, and overwritten otherwise."""

    def __init__(
        self, cache: KVCache, entries: Sequence[Entry], tokens: NewTokens, every: Mapping[int, int] | None = None
    ) -> None:
        """`every`: number of an expert -> beside every so manieth layer it has one."""
        groups: dict[tuple[int, int], list[Entry]] = {}
        for entry in entries:
            cache.grow(entry.slot, entry.count)
            size = 1 << (entry.count - 1).bit_length()  # counts up to a power of two go together
            groups.setdefault((entry.slot.store.capacity, size), []).append(entry)
        for members in groups.values():
            members.sort(key=lambda entry: entry.slot.index)
        self.groups = [Group(members, tokens, members[0].slot.store, cache.device) for members in groups.values()]
        self.order: Tensor | None = None  # of each new token, its place among those of all groups; 0 for padding
        if not self.groups[0].is_all:
            written = torch.cat([group.written for group in self.groups])
            self.order = written.new_zeros(len(tokens.blocks))
            self.order[written] = torch.arange(len(written), device=written.device)
        self.layers = [
            LayerView(self, number, frozenset(n for n, often in (every or {}).items() if (number + 1) % often))
            for number in range(cache.config.num_layers)
        ]


class LayerView:
    """One layer of a PackedView, which tokens of the experts `absent` do not pass; follows
    `plait.model.transformer.LayerCache`."""

    def __init__(self, view: PackedView, layer: int, absent: frozenset[int]) -> None:
        self.view, self.layer, self.absent = view, layer, absent

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """[N, H, K] mixed values of all new tokens."""
        mixed = [group.attend(self.layer, self.absent, q, k, v) for group in self.view.groups]
        joined = mixed[0] if len(mixed) == 1 else torch.cat(mixed)
        return joined if self.view.order is None else joined.index_select(0, self.view.order)
