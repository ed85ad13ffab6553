"""Rule: what a step may need is computed and chosen before the first request comes, and leaves nothing behind."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import fields, replace
from itertools import product
from typing import Any

import pytest
import torch

from amusd_mp.core.limits import LOOKAHEAD, LOOKAHEAD_MAX
from amusd_mp.core.params import GenerationParams
from amusd_mp.core.step import PREFILL_CHUNK, Step
from amusd_mp.engine import sampling
from amusd_mp.engine.model import ASKED, DEAREST, SlotModel
from amusd_mp.engine.rows import is_chain


@pytest.mark.parametrize("fixed_shapes", [False, True])
@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_a_warm_model_computes_what_a_fresh_one_does(family: str, fixed_shapes: bool, tiny: Any, block: Any) -> None:
    small = tiny(family)
    warm = SlotModel(small.net, small.card, 3, fixed_shapes=fixed_shapes)
    seen: list[tuple[list[int], int]] = []
    shapes = warm._batcher.build

    def build(blocks: Any, *cut: int) -> Any:
        seen.append(([len(each.tokens) for each in blocks], max(each.start + len(each.tokens) for each in blocks)))
        return shapes(blocks, *cut)

    warm._batcher.build = build  # type: ignore[method-assign]
    warm.warm_up(largest=True)
    length, lead = small.card.max_length, LOOKAHEAD + 1
    assert seen == [([1], 1), ([2], 2), ([length], length), ([lead] * 3, length), ([length, 1, 1], length)]
    assert all(warm.held(row) == () for row in range(3))
    fed = (5, 9, 30, 31)
    got = warm.score(Step(0, (block(1, 0, fed),))).float()
    assert torch.allclose(got, small.truth(fed, len(fed)), atol=1e-4)


def test_no_row_is_wider_than_the_longest_lead_where_there_is_room_for_more(tiny: Any) -> None:
    small = tiny("llama")
    model = SlotModel(small.net, replace(small.card, max_length=1000), 2)
    steps = [[(each.start + len(each.tokens), len(each.tokens)) for each in blocks] for blocks in model._largest()]
    few, many = LOOKAHEAD + 1, LOOKAHEAD_MAX + 1
    assert steps == [[(1000, PREFILL_CHUNK)], [(1000, few)] * 2, [(1000, many), (1000, 1)]]


def test_tokens_were_chosen_in_every_way_from_a_chain_and_a_tree(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[int, set[tuple[GenerationParams, bool, bool]]] = defaultdict(set)
    choose = sampling.choose

    def note(logits: Any, wanted: Any, vocabulary: int, eos: Any, confidence: bool, *more: Any) -> Any:
        for each in wanted:
            seen[len(each.block.tokens)].add((each.params, confidence, is_chain(each.block)))
        return choose(logits, wanted, vocabulary, eos, confidence, *more)

    monkeypatch.setattr("amusd_mp.engine.model.choose", note)
    tiny("llama").model(1).warm_up(largest=True)
    assert seen.pop(1) == set(product(ASKED, (False, True), (True,)))
    assert seen.pop(2) == set(product(ASKED, (False, True), (False,)))
    assert list(seen.values()) == [{(DEAREST, False, True)}] * len(seen)
    nothing, everything = ASKED
    assert nothing.plain
    of_the_text = {"max_tokens", "seed", "stop", "stop_token_ids", "ignore_eos"}
    for each in fields(GenerationParams):
        assert each.name in of_the_text or getattr(everything, each.name) != each.default, each.name


def test_a_row_of_one_slot_is_warmed_up_too(tiny: Any) -> None:
    small = tiny("llama")
    for tight in (False, True):
        SlotModel(small.net, replace(small.card, max_length=1), 2, tight=tight).warm_up(largest=True)
