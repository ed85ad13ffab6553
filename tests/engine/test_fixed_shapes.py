"""Rule: with fixed shapes every pass has the cache's rows and a power-of-two width, and computes the same function."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch import Tensor

from amusd_mp.core.params import GenerationParams
from amusd_mp.core.step import Block, Step
from amusd_mp.engine.model import SlotModel

LENGTH = 64


def watched(small: Any) -> tuple[SlotModel, list[tuple[tuple[int, ...], int]]]:
    """Return a model with fixed shapes and the (shape of ids, logits kept) of every pass it makes."""
    model = SlotModel(small.net, small.card, 3, fixed_shapes=True)
    shapes: list[tuple[tuple[int, ...], int]] = []

    def note(_module: Any, _args: Any, kwargs: dict[str, Any]) -> None:
        shapes.append((tuple(kwargs["input_ids"].shape), kwargs["logits_to_keep"]))

    small.net.register_forward_pre_hook(note, with_kwargs=True)
    return model, shapes


@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt2"])
def test_logits_are_those_of_plain_passes_and_shapes_are_few(family: str, tiny: Any, block: Any) -> None:
    small = tiny(family)
    model, shapes = watched(small)
    draw = random.Random(5)
    held: dict[int, tuple[int, ...]] = {}
    for number in range(20):
        blocks, truths = [], []
        for row in draw.sample(range(3), draw.randint(1, 3)):
            before = held.get(row, ())[: draw.randint(0, 40)]
            fed = tuple(draw.randrange(3, 97) for _ in range(draw.randint(1, 9)))
            picks = draw.randint(1, len(fed))
            held[row] = before + fed
            blocks.append(block(row, len(before), fed, picks=picks))
            truths.append(small.truth(held[row], picks))
        assert torch.allclose(model.score(Step(number, tuple(blocks))).float(), torch.cat(truths), atol=1e-4)
    small.net._forward_pre_hooks.clear()
    seen = {shape for shape in shapes if shape[0][0] == 3}
    assert len(seen) >= 3
    assert {rows for (rows, _), _ in seen} == {3}
    assert {width for (_, width), _ in seen} <= {4, 8, 16}
    assert {keep for _, keep in seen} <= {4, 8, 16}


def test_a_tree_among_padding_rows_is_exact(tiny: Any, block: Any) -> None:
    small = tiny("gemma3")
    model = SlotModel(small.net, small.card, 3, fixed_shapes=True)
    model.run(Step(0, (block(1, 0, (5, 6, 7), picks=0),)))
    got = model.score(Step(1, (block(1, 3, (8, 9, 10), parents=(-1, -1, 1)),)))
    for logits, path in zip(got, ((8,), (9,), (9, 10)), strict=True):
        assert torch.allclose(logits, small.truth((5, 6, 7, *path), 1)[0], atol=1e-4)


def test_in_bfloat16_neither_company_nor_the_blocks_width_changes_a_bit(tiny: Any) -> None:
    """One sequence, its last tokens fed alone or as a block, with and without others beside it: counted, and none."""
    small = tiny("llama", "bfloat16")
    ids = tuple(3 + (11 * at) % 90 for at in range(40))

    def last(blocks: int, company: int) -> Tensor:
        model = SlotModel(small.net, small.card, 3, fixed_shapes=True)
        others = tuple(
            Block(f"o{row}", row, 0, ids[row : row + 4], 1, GenerationParams(), 1) for row in (1, 2)[:company]
        )
        model.run(Step(0, (Block("s", 0, 0, ids[:-blocks], 0, GenerationParams(), 1), *others)))
        tail = Block("s", 0, 40 - blocks, ids[-blocks:], 1, GenerationParams(), 1)
        more = tuple(Block(f"o{row}", row, 4, (7,), 1, GenerationParams(), 1) for row in (1, 2)[:company])
        return model.score(Step(1, (tail, *more)))[0]

    expected = last(1, 0)
    differences = sum(not torch.equal(last(blocks, company), expected) for blocks in (1, 3, 4) for company in (0, 1, 2))
    assert differences == 0
