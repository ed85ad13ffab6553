"""Our own attention function, registered with transformers as `amusd_slot`: boolean masks for every model.

Transformers' eager attention adds its mask, so a boolean one is silently wrong there; ours turns it into one that is to
be added. Grouped key/value heads are not repeated: the queries of one group are stacked and meet their head in one
product. Soft caps (Gemma 2) and sinks (GPT-OSS) come as keyword arguments. It knows nothing of slots, rows or windows:
who may see whom is the mask's business. Packed blocks it spreads over a rectangle first. In low precision its result
for a token does not depend on the other tokens of the block.
"""

from __future__ import annotations

from math import frexp
from typing import Final

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from amusd_mp.engine.packing import running

NAME: Final = "amusd_slot"

# Finite, so that a query which may see nothing averages everything instead of turning into NaN.
_HIDDEN: Final = torch.finfo(torch.float32).min

_KEPT: Final = "_amusd_hiding"


def slot_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **_unused: object,
) -> tuple[Tensor, None]:
    """Return attention of query [b, heads, q, d] over key and value [b, kv_heads, k, d] as [b, q, heads, d].

    In a packed pass the query is [1, heads, n, d], and what is returned [1, n, heads, d]. `attention_mask` is boolean
    [b or 1, 1, q, k], True where the query may look. Raises TypeError for any other mask: an additive one read as
    boolean would be silently wrong.
    """
    if attention_mask is None or attention_mask.dtype is not torch.bool:
        raise TypeError(f"{NAME} needs a boolean mask, got {None if attention_mask is None else attention_mask.dtype}")
    packing = running()
    if packing is not None:
        query = packing.spread(query, key.shape[0])
    b, heads, q, d = query.shape
    kv_heads = key.shape[1]
    group = heads // kv_heads
    scaling = d**-0.5 if scaling is None else scaling
    first = frexp(scaling)[0] == 0.5  # a power of two, which rounds nothing: there are fewer queries than scores
    stacked = (query * scaling if first else query).reshape(b * kv_heads, group * q, d)
    scores = torch.bmm(stacked, key.flatten(0, 1).transpose(1, 2))
    if not first:
        scores = scores * scaling
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    scores = scores.view(b, kv_heads, group, q, -1) + _hiding(attention_mask)
    if s_aux is not None:
        sink = s_aux.float().view(1, kv_heads, group, 1, 1).expand(b, kv_heads, group, q, 1)
        weights = torch.cat([scores, sink], dim=-1).softmax(dim=-1)[..., :-1]
    else:
        weights = scores.softmax(dim=-1)
    weights = weights.to(value.dtype).reshape(b * kv_heads, group * q, -1)
    out = torch.bmm(weights, value.flatten(0, 1)).view(b, heads, q, -1).transpose(1, 2)
    return out.contiguous() if packing is None else packing.line(out), None


def _hiding(mask: Tensor) -> Tensor:
    """Return what a mask adds to scores, float32 [b or 1, 1, 1, q, k]; made by the first layer, kept for the others."""
    found: Tensor | None = getattr(mask, _KEPT, None)
    if found is None:
        found = torch.zeros(mask.shape, device=mask.device).masked_fill_(~mask, _HIDDEN)[:, :, None]
        setattr(mask, _KEPT, found)
    return found


def register() -> None:
    """Make `amusd_slot` known to transformers. Idempotent."""
    AttentionInterface.register(NAME, slot_attention)
