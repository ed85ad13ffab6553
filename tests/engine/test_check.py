"""The load check passes models that are right and fails those whose mask, attention or positions are broken."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AttentionInterface

from amusd_mp.core.step import Block
from amusd_mp.engine import attention
from amusd_mp.engine.batch import Batch, Batcher
from amusd_mp.engine.check import check
from amusd_mp.engine.masks import Mask, Masks
from amusd_mp.engine.model import SlotModel
from amusd_mp.errors import ModelError

FAMILIES = ("llama", "qwen2", "qwen3", "mistral", "gemma2", "gemma3", "gpt2", "opt", "gpt_neox", "phi", "mixtral")


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_passes_and_keeps_its_config(family: str, tiny: Any) -> None:
    small = tiny(family)
    window = getattr(small.net.config, "sliding_window", None)
    assert check(small.net, small.card) < 2e-5
    assert getattr(small.net.config, "sliding_window", None) == window
    assert small.net.config._attn_implementation == attention.NAME
    assert check(tiny(family, "bfloat16").net, tiny(family, "bfloat16").card) < 0.05


def test_a_mask_without_the_window_fails(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def plain(self: Masks, visible: Tensor, query: Tensor, key: Tensor) -> Mask:
        return visible[:, None]

    monkeypatch.setattr(Masks, "build", plain)
    with pytest.raises(ModelError, match=r"mistral .*off by"):
        check(tiny("mistral").net, tiny("mistral").card)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_siblings_that_see_each_other_fail(dtype: str, tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("amusd_mp.engine.batch.ancestors", lambda parents, token: list(range(token + 1)))
    with pytest.raises(ModelError, match="off by"):
        check(tiny("llama", dtype).net, tiny("llama", dtype).card)


def test_positions_that_are_slots_fail(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("amusd_mp.engine.batch.depths", lambda parents: list(range(len(parents))))
    with pytest.raises(ModelError, match="off by"):
        check(tiny("llama").net, tiny("llama").card)


def test_a_branch_fed_again_that_leaves_the_chains_entries_in_place_fails(
    tiny: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a tree, as after every step of a node: what was accepted beside its chain is fed over that."""
    build = Batcher.build
    chains: list[range] = []  # slots of the chains that trees began with

    def stale(self: Batcher, blocks: Sequence[Block], used: int, trash: int) -> Batch:
        batch = build(self, blocks, used, trash)
        for chain in chains:
            slots = batch.place.slots
            batch.place.slots = slots.where((slots < chain.start) | (slots >= chain.stop), trash)
        chains.extend(range(each.start, each.start + each.chained) for each in blocks if each.parents is not None)
        return batch

    monkeypatch.setattr(Batcher, "build", stale)
    with pytest.raises(ModelError, match="off by"):
        check(tiny("llama").net, tiny("llama").card)
    assert chains


@pytest.fixture
def replace_attention() -> Any:
    """Put another function in the place of our attention for one test."""

    def replace(function: Any) -> None:
        AttentionInterface.register(attention.NAME, function)

    yield replace
    attention.register()


def test_attention_that_ignores_the_mask_fails(tiny: Any, replace_attention: Any) -> None:
    def blind(module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, *args: Any, **more: Any) -> Any:
        return attention.slot_attention(module, query, key, value, torch.ones_like(mask), *args, **more)

    small = tiny("llama")  # before: to build one registers ours
    replace_attention(blind)
    with pytest.raises(ModelError, match="off by"):
        check(small.net, small.card)


def test_attention_without_the_soft_cap_fails(tiny: Any, replace_attention: Any) -> None:
    def uncapped(*args: Any, softcap: float | None = None, **more: Any) -> Any:
        return attention.slot_attention(*args, **more)

    small = tiny("gemma2")  # before: to build one registers ours
    replace_attention(uncapped)
    with pytest.raises(ModelError, match="off by"):
        check(small.net, small.card)


def test_an_exception_is_a_refusal_that_names_the_model(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: SlotModel, step: Any) -> Tensor:
        raise IndexError("odd positions")

    monkeypatch.setattr(SlotModel, "score", broken)
    with pytest.raises(ModelError, match=r"llama .*IndexError: odd positions"):
        check(tiny("llama").net, tiny("llama").card)


def test_logits_that_are_not_numbers_fail(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    score = SlotModel.score
    monkeypatch.setattr(SlotModel, "score", lambda self, step: score(self, step) * float("nan"))
    with pytest.raises(ModelError, match="nan"):
        check(tiny("llama").net, tiny("llama").card)
