"""Rule: packed blocks are the same function as padded ones, and what need not be computed is not."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch

from amusd_mp.core.step import Block, Step
from amusd_mp.engine.model import SlotModel
from amusd_mp.engine.packing import Packing

FAMILIES = ("llama", "gemma3", "gpt2")


def test_a_line_and_a_rectangle_lead_back_to_each_other() -> None:
    packing = Packing.of([2, 1, 3], 3, torch.device("cpu"))
    rectangle = torch.tensor([[0, 10, 11], [0, 0, 20], [30, 31, 32]])
    line = packing.line(rectangle)
    assert line.tolist() == [[10, 11, 20, 30, 31, 32]]
    spread = packing.spread(line[:, None, :, None], 3)
    assert spread.shape == (3, 1, 3, 1)
    assert spread[:, 0, :, 0].tolist() == [[10, 10, 11], [10, 10, 20], [30, 31, 32]]


@pytest.mark.parametrize(
    "like",
    [{"bucket": 8}, {"tight": False, "pack_above": 8}, {"tight": False, "bucket": 8}],
    ids=["as on a CPU", "as on a GPU", "neither"],
)
@pytest.mark.parametrize("family", FAMILIES)
def test_ragged_blocks_of_any_rows_give_the_logits_of_plain_passes(
    family: str, like: dict[str, Any], tiny: Any, block: Any
) -> None:
    small = tiny(family)
    model = SlotModel(small.net, small.card, 5, **like)
    draw = random.Random(7)
    held: dict[int, tuple[int, ...]] = {}
    for number in range(15):
        blocks, truths = [], []
        for row in draw.sample(range(5), draw.randint(2, 5)):  # side by side or not, and in any order
            before = held.get(row, ())[: draw.randint(0, 30)]
            fed = tuple(draw.randrange(3, 97) for _ in range(draw.randint(1, 7)))
            picks = draw.randint(0, len(fed))
            held[row] = before + fed
            blocks.append(block(row, len(before), fed, picks=picks))
            if picks:
                truths.append(small.truth(held[row], picks))
        got = model.score(Step(number, tuple(blocks))).float()
        assert torch.allclose(got, torch.cat(truths), atol=1e-4) if truths else not len(got)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_tree_beside_shorter_blocks_is_exact(family: str, tiny: Any, block: Any) -> None:
    small = tiny(family)
    model = SlotModel(small.net, small.card, 3)
    model.run(Step(0, (block(0, 0, (5, 6, 7), picks=0), block(2, 0, (9,), picks=0))))
    tree, lone = block(0, 3, (8, 9, 10), parents=(-1, -1, 1)), block(2, 1, (11,))
    got = model.score(Step(1, (lone, tree)))
    paths = ((9, 11), (5, 6, 7, 8), (5, 6, 7, 9), (5, 6, 7, 9, 10))
    for logits, path in zip(got, paths, strict=True):
        assert torch.allclose(logits, small.truth(path, 1)[0], atol=1e-4)


@pytest.mark.parametrize(("counts", "shape"), [((1, 4, 2), (1, 7)), ((3, 3, 3), (3, 3)), ((4,), (1, 4))])
def test_no_padding_is_computed(counts: tuple[int, ...], shape: tuple[int, int], tiny: Any, block: Any) -> None:
    small = tiny("llama")
    model = SlotModel(small.net, small.card, 3)
    shapes: list[tuple[int, ...]] = []

    def note(_module: Any, args: tuple[Any, ...]) -> None:
        shapes.append(tuple(args[0].shape[:2]))

    model.warm_up()
    hook = small.net.model.layers[0].mlp.register_forward_pre_hook(note)
    blocks: list[Block] = [block(row, 0, tuple(range(3, 3 + count))) for row, count in enumerate(counts)]
    model.score(Step(0, tuple(blocks)))
    hook.remove()
    assert shapes == [shape]
