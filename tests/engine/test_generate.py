"""Greedy text through the slot cache is the text of transformers' own `generate`, token for token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from amusd_mp.core.model import ModelSpec
from amusd_mp.core.step import Step
from amusd_mp.engine.loading import load
from amusd_mp.engine.model import SlotModel
from amusd_mp.engine.source import BUNDLED

PROMPTS = (
    "Question: Tom has 3 apples and buys 2 more every day for a week. How many apples has he?\nAnswer:",
    'import os\n\n\ndef read_lines(path, encoding=None):\n    """Return',
)


def greedy(model: SlotModel, prompts: list[tuple[int, ...]], count: int, block: Callable[..., Any]) -> list[list[int]]:
    """Decode all prompts side by side, each in a row of its own."""
    fed, start = list(prompts), [0] * len(prompts)
    out: list[list[int]] = [[] for _ in prompts]
    for number in range(count):
        step = Step(number, tuple(block(row, start[row], ids, picks=1) for row, ids in enumerate(fed)))
        for row, picked in enumerate(model.run(step).picked):
            start[row] += len(fed[row])
            fed[row] = picked.tokens
            out[row] += picked.tokens
    return out


def generated(net: Any, prompt: tuple[int, ...], count: int) -> list[int]:
    out = net.generate(
        torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.long), do_sample=False,
        max_new_tokens=count, min_new_tokens=count, eos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    return list(out[0, len(prompt) :].tolist())


def test_a_random_llama_generates_the_same_tokens(tiny: Any, block: Any) -> None:
    small = tiny("llama")
    prompts = [(5, 17, 42), (9,), tuple(range(3, 20))]
    texts = greedy(small.model(3), prompts, 40, block)
    assert texts == [generated(small.plain, prompt, 40) for prompt in prompts]
    assert all(len(set(text)) > 6 for text in texts)


@pytest.mark.parametrize("name", ["draft", "verify"])
def test_the_bundled_pair_generates_the_same_tokens(name: str, block: Any) -> None:
    spec = ModelSpec(f"bundled:{name}", dtype="float32", max_sequences=2, max_length=128, threads=1)
    loaded = load(spec)
    prompts = [loaded.tokenizer.encode(text) for text in PROMPTS]
    plain = AutoModelForCausalLM.from_pretrained(BUNDLED / name, dtype=torch.float32).eval()
    texts = greedy(loaded.model, prompts, 48, block)
    assert texts == [generated(plain, prompt, 48) for prompt in prompts]
    assert all(len(set(text)) > 6 for text in texts)


@pytest.mark.parametrize("size", [2, 5, 8])
def test_bfloat16_logits_do_not_depend_on_the_block(size: int, block: Any) -> None:
    # A property of the CPU kernels this was measured on, so differing positions are counted and a few are forgiven.
    spec = ModelSpec("bundled:draft", dtype="bfloat16", max_sequences=3, max_length=160, threads=1)
    model = load(spec).model
    ids = tuple(3 + (37 * at) % 4000 for at in range(80))
    single = torch.cat([model.score(Step(at, (block(0, at, ids[at : at + 1]),))) for at in range(80)])
    parts = []
    for at in range(0, 80, size):
        beside = block(1, 0, ids[: at + 1], picks=1)
        step = Step(at, (block(2, at, ids[at : at + size]), beside))
        parts.append(model.score(step)[:size])
    differing = int((torch.cat(parts) != single).any(dim=-1).sum())
    assert differing <= 2
