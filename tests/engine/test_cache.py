"""Rule: a tight cache holds what a loose one holds, is as wide as that takes, and is read where it lies."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch import Tensor

from amusd_mp.core.step import Step
from amusd_mp.engine.cache import Placement, SlotCache, SlotLayer
from amusd_mp.engine.model import SlotModel

ROWS, HEADS, LENGTH, DIM = 3, 2, 40, 4


def filled(bucket: int) -> SlotCache:
    """Return a tight cache of one layer whose keys are numbered by row and slot."""
    cache = SlotCache(1, ROWS, LENGTH, bucket=bucket, tight=True)
    used = cache.fit(bucket - 1, 0)
    slots = torch.arange(bucket - 1).repeat(ROWS, 1)
    cache.place = Placement(slice(0, ROWS), slots, used)
    numbers = (100.0 * torch.arange(ROWS)[:, None] + slots)[:, None, :, None].expand(ROWS, HEADS, bucket - 1, DIM)
    cache.layers[0].update(numbers, -numbers)
    return cache


def keys(cache: SlotCache) -> Tensor:
    layer = cache.layers[0]
    assert isinstance(layer, SlotLayer)
    assert layer.keys is not None
    return layer.keys


def test_the_width_follows_what_is_held() -> None:
    cache = filled(8)
    assert (cache.width, cache.trash, cache.widest) == (8, 7, 48)
    assert cache.fit(7, 0) == 8
    assert cache.fit(8, 0) == 16, "the last slot is for padding"
    assert cache.fit(LENGTH, 0) == cache.width == 48
    assert cache.fit(25, 0) == 48, "not half of it is for nothing"
    assert cache.fit(5, 30) == 8, "long rows are kept and a short one is shown what it needs"
    assert cache.width == 48
    assert cache.fit(5, 15) == 16
    assert cache.width == 16


def test_a_rollback_lays_nothing_out_anew() -> None:
    cache = filled(8)
    assert [cache.fit(stop, 0) for stop in (7, 8, 7, 9)] == [8, 16, 16, 16]


def test_a_long_sequence_is_copied_a_few_times_only() -> None:
    cache = SlotCache(1, ROWS, 4096, bucket=64, tight=True)
    widths = {cache.width: None}
    for stop in range(1, 4097):
        cache.fit(stop, stop - 1)
        assert stop < cache.width <= cache.widest
        widths[cache.width] = None
    assert len(widths) < 25
    assert list(widths) == sorted(widths)


def test_what_rows_hold_goes_along() -> None:
    cache = filled(8)
    for needed in (30, 7, 17, 40):
        cache.fit(needed, 0)
        for row in range(ROWS):
            assert keys(cache)[row, :, :7, 0].tolist() == [[100.0 * row + slot for slot in range(7)]] * HEADS
        assert keys(cache).shape == (ROWS, HEADS, cache.width, DIM)


def test_rows_side_by_side_are_read_without_gaps() -> None:
    cache = filled(8)
    used = cache.fit(12, 0)
    slots = torch.tensor([[12], [12]])
    cache.place = Placement(slice(1, 3), slots, used)
    new = torch.ones(2, HEADS, 1, DIM)
    shown, _ = cache.layers[0].update(new, new)
    assert shown.shape == (2, HEADS, used, DIM)
    assert shown.is_contiguous()
    assert shown.data_ptr() == keys(cache)[1].data_ptr()


def test_a_loose_cache_never_moves() -> None:
    cache = SlotCache(1, ROWS, LENGTH, bucket=16)
    shown = [cache.fit(stop, 0) for stop in (1, 16, 17, LENGTH)]
    assert shown == [16, 16, 32, LENGTH]
    assert (cache.width, cache.trash) == (LENGTH + 1, LENGTH)


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_rows_between_are_read_along_where_that_is_quicker(family: str, tiny: Any, block: Any) -> None:
    small = tiny(family)
    model = small.model(6)
    placed: list[slice | Tensor] = []
    build = model._batcher.build

    def note(*args: Any) -> Any:
        batch = build(*args)
        placed.append(batch.place.rows)
        return batch

    model._batcher.build = note
    prompts = {0: (5, 6, 7), 2: (8, 9), 5: (10, 11, 12, 13)}
    for rows in ((2, 0), (5, 0), (5, 2, 0)):
        got = model.score(Step(0, tuple(block(row, 0, prompts[row], picks=1) for row in rows)))
        for logits, row in zip(got, rows, strict=True):
            assert torch.allclose(logits, small.truth(prompts[row], 1)[0], atol=1e-4)
    model.score(Step(0, (block(0, 0, tuple(range(3, 20))), block(2, 0, (8,)))))
    first, far, all_three, wide = placed
    assert first == slice(0, 3)
    assert isinstance(far, Tensor), "four rows for nothing beside two"
    assert all_three == slice(0, 6)
    assert isinstance(wide, Tensor), "seventeen tokens for nothing"


def test_in_low_precision_no_bit_depends_on_the_width(tiny: Any, block: Any) -> None:
    small = tiny("llama", "bfloat16")
    models = [SlotModel(small.net, small.card, 4, bucket=bucket) for bucket in (8, 16, 128)]
    draw = random.Random(3)
    held = [0] * 4
    for number in range(30):
        blocks = []
        for row in draw.sample(range(4), draw.randint(1, 4)):
            start = draw.randint(0, held[row]) if held[row] < 50 else 0
            fed = tuple(draw.randrange(3, 97) for _ in range(draw.randint(1, 9)))
            held[row] = start + len(fed)
            blocks.append(block(row, start, fed))
        first, *others = [model.score(Step(number, tuple(blocks))) for model in models]
        assert all(torch.equal(first, other) for other in others)
    assert len({model._cache.width for model in models}) > 1
