"""Windows and chunks count positions, and a dict of masks is built only for models whose layers differ."""

from __future__ import annotations

import pytest
import torch
from transformers import Gemma3TextConfig, LlamaConfig, MistralConfig, Phi3Config, Qwen2Config

from amusd_mp.engine.masks import Masks

QUERY = torch.tensor([[5, 6]])
KEY = torch.arange(8)[None]
VISIBLE = KEY[:, None] <= QUERY[:, :, None]


def test_full_attention_sees_all_that_is_visible() -> None:
    masks = Masks(LlamaConfig())
    assert not masks.positional
    mask = masks.build(VISIBLE, QUERY, KEY)
    assert isinstance(mask, torch.Tensor)
    assert torch.equal(mask, VISIBLE[:, None])


@pytest.mark.parametrize("config", [MistralConfig(sliding_window=3), Phi3Config(sliding_window=3)])
def test_a_window_without_layer_types_means_every_layer(config: MistralConfig | Phi3Config) -> None:
    mask = Masks(config).build(VISIBLE, QUERY, KEY)
    assert isinstance(mask, torch.Tensor)
    assert [row.nonzero().flatten().tolist() for row in mask[0, 0]] == [[3, 4, 5], [4, 5, 6]]


def test_mixed_layers_get_one_mask_each() -> None:
    config = Gemma3TextConfig(
        num_hidden_layers=2, layer_types=["full_attention", "sliding_attention"], sliding_window=2
    )
    mask = Masks(config).build(VISIBLE, QUERY, KEY)
    assert isinstance(mask, dict)
    assert torch.equal(mask["full_attention"], VISIBLE[:, None])
    assert [row.nonzero().flatten().tolist() for row in mask["sliding_attention"][0, 0]] == [[4, 5], [5, 6]]


def test_a_window_that_the_config_switches_off_is_off() -> None:
    mask = Masks(Qwen2Config(use_sliding_window=False)).build(VISIBLE, QUERY, KEY)
    assert isinstance(mask, torch.Tensor)
    assert torch.equal(mask, VISIBLE[:, None])


def test_chunks_do_not_look_over_their_border() -> None:
    config = LlamaConfig(num_hidden_layers=1)
    config.layer_types = ["chunked_attention"]
    config.attention_chunk_size = 3
    mask = Masks(config).build(VISIBLE, QUERY, KEY)
    assert isinstance(mask, torch.Tensor)
    assert [row.nonzero().flatten().tolist() for row in mask[0, 0]] == [[3, 4, 5], [6]]


def test_the_window_of_a_sibling_counts_positions_not_slots() -> None:
    # slots 3 and 4 are siblings at position 3; the query at position 4 descends from slot 4
    key = torch.tensor([[0, 1, 2, 3, 3, 4]])
    visible = torch.tensor([[[True, True, True, False, True, True]]])
    mask = Masks(MistralConfig(sliding_window=2)).build(visible, torch.tensor([[4]]), key)
    assert isinstance(mask, torch.Tensor)
    assert mask[0, 0, 0].nonzero().flatten().tolist() == [4, 5]


def test_a_window_layer_without_a_width_is_refused() -> None:
    config = LlamaConfig(num_hidden_layers=1)
    config.layer_types = ["sliding_attention"]
    with pytest.raises(ValueError, match="sliding_window"):
        Masks(config)
