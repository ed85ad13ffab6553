"""Rule: the largest steps can be computed before the first request comes, and leave nothing behind."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from amusd_mp.core.step import Step
from amusd_mp.engine.model import SlotModel


@pytest.mark.parametrize("fixed_shapes", [False, True])
@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_a_warm_model_computes_what_a_fresh_one_does(family: str, fixed_shapes: bool, tiny: Any, block: Any) -> None:
    small = tiny(family)
    warm = SlotModel(small.net, small.card, 3, fixed_shapes=fixed_shapes)
    seen: list[tuple[int, int]] = []
    shapes = warm._batcher.build

    def build(blocks: Any, *cut: int) -> Any:
        seen.append((len(blocks), max(each.start + len(each.tokens) for each in blocks)))
        return shapes(blocks, *cut)

    warm._batcher.build = build  # type: ignore[method-assign]
    warm.warm_up(largest=True)
    length = small.card.max_length
    assert seen == [(1, 1), (1, length), (3, length)]
    assert all(warm.held(row) == () for row in range(3))
    fed = (5, 9, 30, 31)
    got = warm.score(Step(0, (block(1, 0, fed),))).float()
    assert torch.allclose(got, small.truth(fed, len(fed)), atol=1e-4)
