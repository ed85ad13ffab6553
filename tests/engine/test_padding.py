"""Rule: padding layers change what a step costs and not one bit of what it computes, and the model's name says so."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from amusd_mp.core.model import ModelSpec
from amusd_mp.core.step import Block, Step
from amusd_mp.engine.loading import load
from amusd_mp.engine.model import SlotModel
from amusd_mp.engine.padding import pad
from amusd_mp.errors import ModelError


def logits(model: SlotModel, blocks: tuple[Block, ...]) -> list[Tensor]:
    return [model.score(Step(number, (block,))) for number, block in enumerate(blocks)]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_padded_model_computes_the_same_bits(dtype: str, block: Callable[..., Block]) -> None:
    plain = load(ModelSpec("bundled:draft", dtype=dtype, threads=1, max_length=64)).model
    padded = load(ModelSpec("bundled:draft", dtype=dtype, threads=1, max_length=64, pad_layers=5)).model
    assert padded.card.parameters > plain.card.parameters
    a_prompt_a_token_and_a_rollback = block(0, 0, (5, 9, 200, 31)), block(0, 4, (7,)), block(0, 3, (77, 8, 6))
    found = [logits(model, a_prompt_a_token_and_a_rollback) for model in (plain, padded)]
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_the_card_says_that_a_model_is_padded() -> None:
    card = load(ModelSpec("random:bundled:draft", threads=1, max_length=64, pad_layers=3)).model.card
    assert card.name == "random:bundled:draft (padded by 3 layers)"


@pytest.mark.parametrize("family", ["gemma3", "mixtral", "qwen3"])
def test_added_layers_have_weights_and_a_cache_of_their_own(family: str, tiny: Callable[..., Any]) -> None:
    plain = tiny(family).plain
    net: Any = pad(copy.deepcopy(plain), 2, family)
    layers = net.get_decoder().layers
    assert len(layers) == net.config.num_hidden_layers == plain.config.num_hidden_layers + 2
    assert [each.self_attn.layer_idx for each in layers] == list(range(len(layers)))
    assert len({each.self_attn.q_proj.weight.data_ptr() for each in layers}) == len(layers)


@pytest.mark.parametrize("family", ["gpt2", "opt", "gpt_neox", "phi"])
def test_other_families_are_padded_too(family: str, tiny: Callable[..., Any]) -> None:
    net = pad(copy.deepcopy(tiny(family).plain), 1, family)
    assert net.config.num_hidden_layers == 3


def test_padding_that_would_change_a_model_is_refused(tiny: Callable[..., Any], monkeypatch: Any) -> None:
    monkeypatch.setattr("amusd_mp.engine.padding.OUTPUTS", frozenset({"o_proj"}))
    with pytest.raises(ModelError, match="pad_layers changes what it computes"):
        pad(copy.deepcopy(tiny("llama").plain), 1, "tiny")


def test_a_negative_number_of_layers_is_refused() -> None:
    with pytest.raises(ModelError, match="pad_layers must not be negative"):
        load(ModelSpec("bundled:draft", pad_layers=-1))
