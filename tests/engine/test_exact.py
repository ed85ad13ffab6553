"""Every family, run through rows, trees and rollbacks in random order, gives the logits of fresh forward passes."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch

from amusd_mp.core.step import Block, Step
from amusd_mp.engine.model import FREE, SlotModel
from amusd_mp.engine.rows import ancestors

FAMILIES = ("llama", "qwen2", "qwen3", "mistral", "gemma2", "gemma3", "gpt2", "opt", "gpt_neox", "phi", "mixtral")
ROWS, LENGTH, VOCABULARY = 4, 64, 97

# Error over the spread of the logits. float32: summation order alone (7.6e-6 seen). bfloat16: eight bits of mantissa,
# so one sum rounded the other way shows (0.02 seen in one family; the others were equal bit for bit).
LIMITS = {"float32": 2e-5, "bfloat16": 0.05}


class Script:
    """Random operations on rows: open, feed, chunk, roll back, branch, go on from one; and what the rows must hold."""

    def __init__(self, seed: int, make: Callable[..., Block]) -> None:
        self.random = random.Random(seed)
        self.make = make
        self.held: dict[int, tuple[int, ...]] = {}
        self.tree: dict[int, Block] = {}
        self.again: dict[int, tuple[int, tuple[int, ...]]] = {}  # from which length on a branch is to be fed again

    def ids(self, most: int) -> tuple[int, ...]:
        return tuple(self.random.randrange(3, VOCABULARY) for _ in range(self.random.randint(1, most)))

    def settle(self) -> None:
        """Of every tree its leading chain is held; the next block goes on from there, or from a random path."""
        for row, tree in self.tree.items():
            self.held[row] += tree.tokens[: tree.chained]
            path = ancestors(tree.parents or (), self.random.randrange(-1, len(tree.tokens)))
            shared = sum(at < tree.chained for at in path)
            if path:
                self.again[row] = tree.start + shared, tuple(tree.tokens[at] for at in path[shared:])
        self.tree.clear()

    def block(self, row: int) -> Block:
        held = self.held.get(row, ())
        start, again = self.again.pop(row, (len(held), ()))
        if row not in self.held or len(held) > LENGTH - 12 or self.random.random() < 0.1:
            held, again, tokens = (), (), self.ids(30)  # another sequence moves in
        else:
            held = held[:start]
            if not again and self.random.random() < 0.4:
                held = held[: self.random.randint(0, len(held))]
            tokens = again + self.ids(6)
        self.held[row] = held
        if len(tokens) > 1 and held and self.random.random() < 0.4:
            parents = tuple(self.random.randint(min(at, len(again)) - 1, at - 1) for at in range(len(tokens)))
            return self.make(row, len(held), tokens, parents=parents)
        return self.make(row, len(held), tokens, picks=self.random.choice((0, 1, len(tokens))))

    def step(self, number: int) -> Step:
        rows = self.random.sample(range(ROWS), self.random.randint(1, ROWS))
        return Step(number, tuple(self.block(row) for row in rows))

    def wanted(self, block: Block) -> list[tuple[int, ...]]:
        """Return, for each pick, the ids that lead to it; and note what the row holds from now on."""
        held = self.held[block.row]
        first = len(block.tokens) - block.picks
        if block.parents is None or block.parents == tuple(range(-1, len(block.tokens) - 1)):
            self.held[block.row] = held + block.tokens
            return [held + block.tokens[: at + 1] for at in range(first, len(block.tokens))]
        self.tree[block.row] = block
        paths = [ancestors(block.parents, at) for at in range(first, len(block.tokens))]
        return [held + tuple(block.tokens[at] for at in path) for path in paths]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_random_script_gives_the_logits_of_fresh_forward_passes(
    family: str, dtype: str, tiny: Any, block: Any
) -> None:
    small = tiny(family, dtype)
    _check(small, small.model(ROWS), family, dtype, block)


@pytest.mark.parametrize("family", FAMILIES)
def test_so_it_does_with_the_cache_as_a_gpu_has_it(family: str, tiny: Any, block: Any) -> None:
    small = tiny(family)
    model = SlotModel(small.net, small.card, ROWS, tight=False, pack_above=FREE)
    _check(small, model, family, "float32", block)


def _check(small: Any, model: SlotModel, family: str, dtype: str, block: Any) -> None:
    script = Script(hash_free_seed(family), block)
    worst, longest, compared = 0.0, 0, 0
    for number in range(16):
        step = script.step(number)
        logits = model.score(step).float()
        wanted = [ids for one in step.blocks for ids in script.wanted(one)]
        assert logits.shape[0] == len(wanted)
        for got, ids in zip(logits, wanted, strict=True):
            truth = small.truth(ids, 1)[0]
            worst = max(worst, float((got - truth).abs().max() / truth.std()))
            longest = max(longest, len(ids))
            compared += 1
        script.settle()
        for row, ids in script.held.items():
            assert model.held(row) == ids
    assert compared > 40
    assert longest > 3 * 8, "sequences must be longer than any window"
    assert worst <= LIMITS[dtype]


def hash_free_seed(name: str) -> int:
    """Return a seed that differs per family and is the same in every process."""
    return sum(ord(letter) << at for at, letter in enumerate(name))


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_text_of_a_random_model_varies(family: str, tiny: Any, block: Any) -> None:
    model = tiny(family).model(1)
    fed: tuple[int, ...] = (5, 17, 42)
    start, out = 0, []
    for number in range(24):
        picked = model.run(Step(number, (block(0, start, fed, picks=1),))).picked[0].tokens
        start, fed = start + len(fed), picked
        out.append(picked[0])
    assert len(set(out)) >= 8, out


def test_rows_that_do_not_lie_side_by_side_are_served_in_the_order_asked(tiny: Any, block: Any) -> None:
    small = tiny("llama")
    model = small.model(4)
    prompts = {0: (5, 6, 7), 2: (8, 9), 3: (10, 11, 12, 13)}
    got = model.score(Step(0, tuple(block(row, 0, prompts[row], picks=1) for row in (3, 0, 2))))
    for logits, row in zip(got, (3, 0, 2), strict=True):
        assert torch.allclose(logits, small.truth(prompts[row], 1)[0], atol=1e-4)


@pytest.mark.parametrize("family", ["mistral", "gemma3"])
def test_a_prompt_in_chunks_is_the_prompt_in_one(family: str, tiny: Any, block: Any) -> None:
    small = tiny(family)
    prompt = tuple(3 + (7 * at) % 90 for at in range(50))
    model = small.model(2)
    for start in range(0, 48, 16):
        model.run(Step(0, (block(0, start, prompt[start : start + 16], picks=0),)))
    last = model.score(Step(1, (block(0, 48, prompt[48:], picks=1),)))
    assert torch.allclose(last[0], small.truth(prompt, 1)[0], atol=1e-4)


def test_a_full_row_is_used_to_its_last_slot_and_no_further(tiny: Any, block: Any) -> None:
    small = tiny("llama")
    model = small.model(1)
    ids = tuple(3 + (5 * at) % 90 for at in range(LENGTH))
    last = model.score(Step(0, (block(0, 0, ids, picks=1),)))
    assert torch.allclose(last[0], small.truth(ids, 1)[0], atol=1e-4)
    with pytest.raises(RuntimeError, match="64 slots"):
        model.run(Step(1, (block(0, LENGTH, (5,)),)))
