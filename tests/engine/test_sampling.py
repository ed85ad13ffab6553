"""Greedy choice: the highest logit in the vocabulary, ties to the lowest id; positions and histories along a tree."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from amusd_mp.engine.sampling import choose
from amusd_mp.engine.wanted import Wanted


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_ties_go_to_the_lowest_id(block: Any, dtype: torch.dtype) -> None:
    logits = torch.zeros(2, 500, dtype=dtype)
    logits[0, [499, 77, 300]] = 2.0
    picked = choose(logits, [Wanted(block(0, 0, (1, 2)), [])], 500)
    assert picked[0].tokens == (77, 0)


def test_ids_beyond_the_vocabulary_are_never_chosen(block: Any) -> None:
    logits = torch.zeros(1, 10)
    logits[0, 7:] = 5.0
    logits[0, 3] = 1.0
    assert choose(logits, [Wanted(block(0, 0, (1,)), [])], 7)[0].tokens == (3,)


def test_answers_are_dealt_out_block_by_block(block: Any) -> None:
    logits = torch.eye(5)[[4, 2, 3]]
    wanted = [Wanted(block(0, 0, (1, 1), picks=2), []), Wanted(block(1, 0, (1,), picks=0), []),
              Wanted(block(2, 0, (1, 1), picks=1), [])]  # fmt: skip
    assert [one.tokens for one in choose(logits, wanted, 5)] == [(4, 2), (), (3,)]


def test_position_and_history_follow_the_tokens_ancestors(block: Any) -> None:
    tree = block(0, 3, (10, 20, 11, 21), picks=2, parents=(-1, -1, 0, 1))
    wanted = Wanted(tree, [1, 2, 3, 99])  # 99 lies behind the block's start: rolled back
    assert [wanted.position(pick) for pick in (0, 1)] == [5, 5]
    assert [wanted.history(pick) for pick in (0, 1)] == [[1, 2, 3, 10, 11], [1, 2, 3, 20, 21]]
    chain = Wanted(block(0, 2, (7, 8, 9), picks=2), [1, 2, 3])
    assert [chain.position(pick) for pick in (0, 1)] == [4, 5]
    assert chain.history(0) == [1, 2, 7, 8]
