"""Rule: transformers' own generation answers any prompt, and tells what of its time the prompt took."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import MistralConfig

from amusd_mp.core.model import ModelSpec
from amusd_mp.engine.assisted import Pair


@pytest.mark.parametrize("length", [5, 8, 30])
def test_a_prompt_may_be_longer_than_a_sliding_window(length: int, tmp_path: Path) -> None:
    MistralConfig(
        vocab_size=97,
        hidden_size=32,
        intermediate_size=48,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_hidden_layers=2,
        max_position_embeddings=128,
        sliding_window=8,
    ).save_pretrained(tmp_path)
    verify, draft = (ModelSpec(f"random:{tmp_path}?seed={seed}", dtype="float32") for seed in (1, 2))
    pair = Pair(verify, draft, ())
    prompt = tuple(3 + (7 * at) % 90 for at in range(length))
    told = [pair.generate(prompt, 6, known, assisted) for assisted in (False, True) for known in (length, 1)]
    assert len(told[0]["ids"]) == 6
    assert all(each["ids"] == told[0]["ids"] for each in told)
    assert all(each["prompt"] >= 0 for each in told)
    assert [each["prompt"] for each in told[1::2]] == [0.0, 0.0], "a first token alone has nothing before it"
