"""The key/value cache: fixed tensors [rows, heads, slots + 1, dim], written wherever a batch says.

A row belongs to one sequence, a slot to one fed token. The last slot of each row is the trash slot: padding writes
there and nobody reads it. Nothing grows, moves or is freed while the model lives, so addresses stay fixed; rollback is
the caller reusing slots. The cache does not know positions, windows or trees: `Placement` says where to write and how
much to show, the mask says what of it counts.
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
    """One `SlotLayer` per layer of the model. Set `place` before each forward pass."""

    def __init__(self, layers: int, rows: int, length: int) -> None:
        """Prepare for `rows` sequences of up to `length` tokens. Memory is taken by the first forward pass."""
        super().__init__(layers=[SlotLayer(self) for _ in range(layers)])
        self.rows = rows
        self.length = length
        self.trash = length
        self.place: Placement | None = None
        self._origins: dict[int, Tensor] = {}

    def flat(self, heads: int, device: torch.device) -> Tensor:
        """Return where each (row, head, token) of the batch lies in a layer seen as [rows * heads * slots, dim]."""
        place = self.placed()
        index = place.flat.get(heads)
        if index is None:
            origin = self._origins.get(heads)
            if origin is None:
                count = self.rows * heads
                origin = (torch.arange(count, device=device) * (self.length + 1)).view(self.rows, heads, 1)
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

    def move(self, row: int, sources: list[int], start: int) -> None:
        """Copy the entries in slots `sources` of one row to slots start, start + 1, ... in every layer."""
        stop = start + len(sources)
        for layer in self.layers:
            if isinstance(layer, SlotLayer) and layer.keys is not None and layer.values is not None:
                # Indexing by a list copies before it writes, so overlapping ranges are safe.
                layer.keys[row, :, start:stop] = layer.keys[row, :, sources]
                layer.values[row, :, start:stop] = layer.values[row, :, sources]

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
        rows, slots = self.owner.rows, self.owner.length + 1
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
        # A slice of rows is a view; any other choice of rows has to be copied.
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
