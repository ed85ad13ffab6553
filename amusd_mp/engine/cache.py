"""The key/value cache: tensors [rows, heads, width, dim], written wherever a batch says.

A row belongs to one sequence, a slot to one fed token. The last slot of each row is the trash slot: padding writes
there and nobody looks. Rollback is the caller reusing slots. The cache does not know positions, windows or trees:
`Placement` says where to write and how much to show, the mask says what of it counts.

A *loose* cache is as wide as the longest sequence from the start: nothing in it moves while the model lives, addresses
stay fixed, a pass reads a part of each row. A *tight* one is about as wide as what it holds, so that a pass can read
whole rows: where a CPU multiplies in bfloat16, torch copies whatever has gaps between heads or rows, at every layer of
every step.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig
from transformers.cache_utils import Cache, CacheLayerMixin

from amusd_mp.engine.packing import Packing


@dataclass(slots=True)
class Placement:
    """Where one forward pass writes and reads.

    rows:    the cache rows of the batch, in batch order: a slice where they lie side by side, else a tensor [b]
    slots:   slot of each fed token, int64 [b, q]; padding names the trash slot
    used:    slots 0 .. used - 1 are shown to the attention
    packing: where each token is in [b, q] if they are fed as [1, n]
    """

    rows: slice | Tensor
    slots: Tensor
    used: int
    packing: Packing | None = None
    flat: dict[int, Tensor] = field(default_factory=dict)  # by number of heads: index into the flattened layer


class SlotCache(Cache):
    """One `SlotLayer` per layer of the model. Call `fit` and set `place` before each forward pass."""

    def __init__(self, layers: int, rows: int, length: int, *, bucket: int = 1, tight: bool = False) -> None:
        """Prepare for `rows` sequences of up to `length` tokens. Memory is taken by the first forward pass.

        What is shown, and the width of a tight cache, come in multiples of `bucket` as far as the length allows.
        """
        super().__init__(layers=[SlotLayer(self) for _ in range(layers)])
        self.rows = rows
        self.length = length
        self.tight = tight
        self.width = bucket if tight else length + 1
        self.place: Placement | None = None
        self._bucket = bucket
        self._origins: dict[int, Tensor] = {}

    @property
    def widest(self) -> int:
        """Slots per row that the width never exceeds."""
        return _up(self.length + 1, self._bucket) if self.tight else self.width

    @property
    def trash(self) -> int:
        """The slot of each row that padding writes to."""
        return self.width - 1

    def fit(self, stop: int, kept: int) -> int:
        """Make room for a pass over slots before `stop` and return how many to show it.

        `kept` is the length of the longest row that must not be lost. A tight cache is shown whole unless more than
        half of it would be for nothing. It gets narrower only if that is so of all rows and a bucket more: laying out
        anew takes as long as some steps, and rollbacks go to and fro.
        """
        if not self.tight:
            return min(_up(stop, self._bucket), self.length)
        needed = _up(max(stop, kept) + 1, self._bucket)
        if needed > self.width:
            ample = _up(self.width + self.width // 8, self._bucket)  # so a long sequence is not copied at each bucket
            self._lay_out(max(needed, min(ample, self.widest)))
        elif 2 * needed + self._bucket <= self.width:
            self._lay_out(needed)
        shown = _up(stop + 1, self._bucket)
        return shown if 2 * shown < self.width else self.width

    def _lay_out(self, width: int) -> None:
        """Change the width and take along what fits."""
        for layer in self.layers:
            if isinstance(layer, SlotLayer) and layer.keys is not None and layer.values is not None:
                layer.keys, layer.values = _widened(layer.keys, width), _widened(layer.values, width)
        self._origins.clear()
        self.width = width

    def flat(self, heads: int, device: torch.device) -> Tensor:
        """Return where each (row, head, token) of the batch lies in a layer seen as [rows * heads * slots, dim]."""
        place = self.placed()
        index = place.flat.get(heads)
        if index is None:
            origin = self._origins.get(heads)
            if origin is None:
                count = self.rows * heads
                origin = (torch.arange(count, device=device) * self.width).view(self.rows, heads, 1)
                self._origins[heads] = origin
            cells = origin[place.rows] + place.slots[:, None, :]
            if place.packing is not None:
                cells = place.packing.line(cells.transpose(1, 2)).transpose(1, 2)
            index = cells.reshape(-1)
            place.flat[heads] = index
        return index

    def placed(self) -> Placement:
        """Return the placement of the running pass. Raises RuntimeError if none was set."""
        if self.place is None:
            raise RuntimeError("the cache was used without a placement; run the model through SlotModel")
        return self.place

    def release(self) -> None:
        """Drop the tensors."""
        self._origins.clear()
        self.place = None
        for layer in self.layers:
            if isinstance(layer, SlotLayer):
                layer.keys = layer.values = None
                layer.is_initialized = False


class SlotLayer(CacheLayerMixin):  # type: ignore[no-untyped-call]  # its __init_subclass__ has no types
    """Keys and values of one layer."""

    is_compileable = True
    is_sliding = False  # a window is a mask here, never a ring buffer

    keys: Tensor | None
    values: Tensor | None

    def __init__(self, owner: SlotCache) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.owner = owner

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor | None = None) -> None:
        """Allocate, zeroed: whatever a masked slot holds is multiplied by 0 and must not be NaN."""
        values = key_states if value_states is None else value_states  # widths differ under latent attention
        rows, slots = self.owner.rows, self.owner.width
        self.keys = key_states.new_zeros(rows, key_states.shape[1], slots, key_states.shape[3])
        self.values = values.new_zeros(rows, values.shape[1], slots, values.shape[3])
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *_args: Any, **_kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write the new entries [b, heads, q, dim] and return the shown part of the batch's rows."""
        if self.keys is None or self.values is None:
            self.lazy_initialization(key_states, value_states)
            assert self.keys is not None
            assert self.values is not None
        owner = self.owner
        place = owner.placed()
        for store, new in ((self.keys, key_states), (self.values, value_states)):
            index = owner.flat(store.shape[1], store.device)
            store.view(-1, store.shape[3]).index_copy_(0, index, new.reshape(-1, new.shape[3]))
        # A slice of rows is a view, of whole rows one without gaps; any other choice of rows has to be copied.
        return self.keys[place.rows, :, : place.used], self.values[place.rows, :, : place.used]

    def get_mask_sizes(self, _query_length: Any) -> tuple[int, int]:
        return self.owner.placed().used, 0

    def get_seq_length(self, *_args: Any) -> int:
        return 0  # positions are always given, nothing is to be derived from a length

    def get_max_length(self) -> int:
        return self.owner.length

    def get_max_cache_shape(self) -> int:  # the same under its older name
        return self.owner.length


def layer_count(config: PreTrainedConfig) -> int:
    """Return how many decoder layers a model of this config has."""
    return int(config.get_text_config(decoder=True).num_hidden_layers)


def _up(number: int, step: int) -> int:
    """Return the least multiple of `step` that is not below `number`."""
    return -(-number // step) * step


def _widened(store: Tensor, width: int) -> Tensor:
    """Return a layer's tensor with another number of slots, zeroed where it had none."""
    rows, heads, had, dim = store.shape
    taken = min(had, width)
    fresh = store.new_zeros(rows, heads, width, dim)
    fresh[:, :, :taken] = store[:, :, :taken]
    return fresh
