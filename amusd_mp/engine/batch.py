"""One forward pass for all blocks of a step: ids, positions, mask and cache placement.

Blocks are padded on the left, so the tokens whose next token is wanted are the last columns of every row and one
`logits_to_keep` serves a ragged batch. A padding column feeds id 0 at position 0 into the trash slot and looks at slot
0 only: it must see something finite, and nobody sees it. With our own attention ragged blocks may be packed: there
alone they lie in this rectangle, everywhere else side by side without padding. For a chain a token's slot is its
position; a tree's tokens lie in block order and only their ancestors are visible. The batch is in row order, so that
rows side by side are read without a copy; `order` leads back to the step's order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

import torch
from torch import Tensor

from amusd_mp.core.params import GenerationParams
from amusd_mp.core.step import Block
from amusd_mp.engine.cache import Placement
from amusd_mp.engine.masks import Mask, Masks
from amusd_mp.engine.packing import Packing
from amusd_mp.engine.rows import ancestors, depths, is_chain

NARROW: Final = 8
"""Tokens of a block up to which computing a row for nothing is quicker than copying one."""


@dataclass(slots=True)
class Batch:
    """Inputs of one forward pass. `order[i]` is the batch row of block i.

    The `keep` last columns give logits; of packed tokens those that `keep` lists, in the order of the step's blocks.
    """

    ids: Tensor
    positions: Tensor
    mask: Mask
    place: Placement
    keep: int | Tensor
    order: list[int]


class Batcher:
    """Builds batches for one model; holds the constant tensors they are cut from.

    slots:      the widest cache there will be.
    min_block:  pad blocks to this many columns: 1 unless the attention's rounding depends on the shape.
    fixed_rows: 0, or the cache's rows: every batch then has them all, those without a block as padding, and columns
                (of blocks, and of logits) come in powers of two. Few shapes, so few ways to round.
    pack_above: pack ragged blocks where padded ones had more tokens than this; None where the attention cannot.
    fill:       read rows that lie between those asked for, too, where copying the latter would take longer: of narrow
                blocks, and where whole rows are shown.
    """

    def __init__(
        self,
        masks: Masks,
        slots: int,
        device: torch.device,
        *,
        min_block: int = 1,
        fixed_rows: int = 0,
        pack_above: int | None = None,
        fill: bool = False,
    ) -> None:
        self._masks = masks
        self._device = device
        self._min_block = min_block
        self._pack_above = pack_above
        self._fill = fill and pack_above is not None
        self._idle = [_idle(row) for row in range(fixed_rows)]
        self._line = torch.arange(slots, device=device)[None]  # [1, slots]: slots, and positions in them

    @property
    def packs(self) -> bool:
        """True if ragged blocks may be packed."""
        return self._pack_above is not None

    def build(self, blocks: Sequence[Block], used: int, trash: int) -> Batch:
        """Return the batch of a step's checked blocks, with so many slots shown and padding sent to the trash slot."""
        keep = max(1, max(block.picks for block in blocks))  # 0 would mean all of them to transformers
        width = max(self._min_block, max(len(block.tokens) for block in blocks))
        if self._idle:
            width = _power_of_two(width)
            keep = min(width, _power_of_two(max(self._min_block, keep)))
            taken = {block.row for block in blocks}
            blocks = [*blocks, *(idle for idle in self._idle if idle.row not in taken)]
        if len(blocks) == 1 and len(blocks[0].tokens) == width and is_chain(blocks[0]):
            return self._single(blocks[0], used, keep)
        if self._fill and width <= NARROW and used > trash:
            blocks = _filled(blocks)
        return self._ragged(blocks, used, trash, keep, width)

    def _single(self, block: Block, used: int, keep: int) -> Batch:
        # The common step of a lone sequence; everything but ids and mask is a view of a constant.
        positions = self._line[:, block.start : block.start + len(block.tokens)]
        place = Placement(slice(block.row, block.row + 1), positions, used)
        ids = torch.tensor((block.tokens,), device=self._device)
        key = self._line[:, :used]
        mask = self._masks.build(key[:, None] <= positions[:, :, None], positions, key)
        return Batch(ids, positions, mask, place, keep, [0])

    def _ragged(self, blocks: Sequence[Block], used: int, trash: int, keep: int, width: int) -> Batch:
        by_row = sorted(range(len(blocks)), key=lambda at: blocks[at].row)
        order = [0] * len(blocks)
        ids, positions, slots, trees = [], [], [], []
        for at, index in enumerate(by_row):
            order[index] = at
            block = blocks[index]
            start, count = block.start, len(block.tokens)
            pad = [0] * (width - count)
            ids.append([*pad, *block.tokens])
            slots.append([*[trash] * len(pad), *range(start, start + count)])
            if is_chain(block):
                positions.append([*pad, *range(start, start + count)])
            else:
                assert block.parents is not None
                positions.append([*pad, *(start + depth for depth in depths(block.parents))])
                trees.append((at, block))
        fed, query, placed = torch.tensor((ids, positions, slots), device=self._device).unbind()
        key = self._line[:, :used]
        visible = key[:, None] <= query[:, :, None]
        for at, block in trees:
            self._show_ancestors(visible[at], block)
        if trees and self._masks.positional:
            key = key.repeat(len(blocks), 1)
            for at, block in trees:
                count = len(block.tokens)
                key[at, block.start : block.start + count] = query[at, width - count :]
        counts = [len(blocks[index].tokens) for index in by_row]
        packing = self._packing(counts, width)
        rows = self._rows([blocks[index].row for index in by_row])
        mask, place = self._masks.build(visible, query, key), Placement(rows, placed, used, packing)
        if packing is None:
            return Batch(fed, query, mask, place, keep, order)
        ends = list(accumulate(counts))
        wanted = [
            ends[at] - back for block, at in zip(blocks, order, strict=True) for back in range(block.picks, 0, -1)
        ]
        listed = torch.tensor(wanted, dtype=torch.int64, device=self._device)
        return Batch(packing.line(fed), packing.line(query), mask, place, listed, order)

    def _packing(self, counts: list[int], width: int) -> Packing | None:
        """Return how blocks with so many tokens are packed, None where they stay padded."""
        if self._pack_above is None or min(counts) == width or len(counts) * width <= self._pack_above:
            return None
        return Packing.of(counts, width, self._device)

    def _rows(self, rows: list[int]) -> slice | Tensor:
        if rows[-1] - rows[0] + 1 == len(rows):
            return slice(rows[0], rows[-1] + 1)
        return torch.tensor(rows, device=self._device)

    def _show_ancestors(self, visible: Tensor, block: Block) -> None:
        """Correct one row's [q, k] for a tree: all of the prefix, and of the block the ancestors alone."""
        assert block.parents is not None
        count = len(block.tokens)
        within = torch.zeros(count, count, dtype=torch.bool)
        for token in range(count):
            within[token, ancestors(block.parents, token)] = True
        mine = visible[visible.shape[0] - count :]
        mine[:, block.start :] = False
        mine[:, block.start : block.start + count] = within.to(self._device)


def _idle(row: int) -> Block:
    """Return a block that is all padding."""
    return Block("idle", row, 0, (), 0, GenerationParams(), 0)


def _filled(blocks: Sequence[Block]) -> Sequence[Block]:
    """Return the blocks with idle ones for rows between theirs, unless there were more of these than of those.

    With one token for each, a row more takes 3 us of a layer's attention on one core of an AMD EPYC (Zen 5; 256 slots,
    two heads of 64), copying one 5 us.
    """
    rows = {block.row for block in blocks}
    span = range(min(rows), max(rows) + 1)
    if len(span) == len(blocks) or len(span) > 2 * len(blocks):
        return blocks
    return [*blocks, *(_idle(row) for row in span if row not in rows)]


def _power_of_two(number: int) -> int:
    """Return the least power of two that is not below `number`."""
    return 1 << (number - 1).bit_length()
