"""Our attention equals the textbook formula: grouped heads, soft cap, sinks, and boolean masks only."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from amusd_mp.engine.attention import slot_attention


def textbook(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scaling: float, softcap: float | None, sinks: Tensor | None
) -> Tensor:
    """Attention head by head, in float64."""
    group = query.shape[1] // key.shape[1]
    heads = []
    for head in range(query.shape[1]):
        q, k, v = (x.double() for x in (query[:, head], key[:, head // group], value[:, head // group]))
        scores = q @ k.transpose(1, 2) * scaling
        if softcap is not None:
            scores = softcap * torch.tanh(scores / softcap)
        weight = scores.exp() * mask[:, 0]
        total = weight.sum(-1, keepdim=True) + (sinks[head].double().exp() if sinks is not None else 0)
        heads.append(weight / total @ v)
    return torch.stack(heads, dim=2)


@pytest.mark.parametrize("softcap", [None, 1.5])
@pytest.mark.parametrize("sinks", [None, torch.tensor([0.5, -1.0, 2.0, 0.0])])
@pytest.mark.parametrize("scaling", [0.3, 0.25])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_it_is_the_textbook_formula(kv_heads: int, scaling: float, softcap: float | None, sinks: Tensor | None) -> None:
    draw = torch.Generator().manual_seed(kv_heads)
    query = torch.randn(2, 4, 3, 8, generator=draw)
    key, value = torch.randn(2, kv_heads, 7, 8, generator=draw), torch.randn(2, kv_heads, 7, 5, generator=draw)
    mask = torch.rand(2, 1, 3, 7, generator=draw) < 0.6
    mask[..., 0] = True
    for asked in (query, query.flip(0)):  # two layers that have one mask
        out, _ = slot_attention(nn.Identity(), asked, key, value, mask, scaling, softcap=softcap, s_aux=sinks)
        assert torch.allclose(out.double(), textbook(asked, key, value, mask, scaling, softcap, sinks), atol=1e-6)


@pytest.mark.parametrize("mask", [None, torch.zeros(1, 1, 1, 4)])
def test_any_other_mask_is_refused(mask: Tensor | None) -> None:
    query, key = torch.zeros(1, 2, 1, 8), torch.zeros(1, 2, 4, 8)
    with pytest.raises(TypeError, match="boolean mask"):
        slot_attention(nn.Identity(), query, key, key, mask)


def test_a_query_that_may_see_nothing_stays_finite() -> None:
    query, key = torch.randn(1, 2, 1, 8), torch.randn(1, 2, 4, 8)
    out, _ = slot_attention(nn.Identity(), query, key, key, torch.zeros(1, 1, 1, 4, dtype=torch.bool))
    assert torch.isfinite(out).all()
