"""Which models the slot cache can serve, decided from config and class by name, before any weight is read.

The cache rests on three things: each token's state is its keys and values alone, the model takes positions from
`position_ids`, and who sees whom is the mask's decision. A model without one of them is refused here with its reason.
What names do not tell is left to the load check.
"""

from __future__ import annotations

import inspect
from typing import Any

from transformers import DynamicCache, PreTrainedConfig

from amusd_mp.engine.masks import KINDS

_ALIBI = frozenset({"bloom", "mpt"})  # always alibi, or by a nested setting; their configs have no `alibi` of their own
_LAYERS = frozenset({"DynamicLayer", "DynamicSlidingWindowLayer", "DummyLayer"})
_NEEDED = ("position_ids", "past_key_values", "attention_mask")
_STRETCHED = frozenset({"dynamic", "longrope"})


def refusal(config: PreTrainedConfig, kind: type | None) -> str | None:
    """Return why a model of this config and class cannot be served, None if nothing speaks against it.

    `kind` is None while the class is not known yet (custom code that comes with the weights).
    """
    text = config.get_text_config(decoder=True)
    if getattr(config, "is_encoder_decoder", False):
        return "it is an encoder-decoder model"
    if config.model_type in _ALIBI or getattr(text, "alibi", False):
        return "its positions come from the key index (alibi), so slots and positions cannot differ"
    odd = sorted(set(getattr(text, "layer_types", None) or ()) - KINDS - {"moe", "mlp"})
    if odd:
        return f"it has layers other than attention, whose state cannot be rolled back: {', '.join(odd)}"
    if getattr(kind, "_is_stateful", False):
        return "it keeps recurrent state, which cannot be rolled back"
    odd = sorted({type(layer).__name__ for layer in DynamicCache(config=config).layers} - _LAYERS)
    if odd:
        return f"its layers keep another kind of state than keys and values: {', '.join(odd)}"
    if kind is not None:
        accepted = inspect.signature(kind.forward).parameters  # type: ignore[attr-defined]
        missing = [name for name in _NEEDED if name not in accepted]
        if missing:
            return f"its forward takes no {' or '.join(missing)}"
    return None


def length_limit(config: PreTrainedConfig) -> int | None:
    """Return the longest sequence the model is exact for, in tokens; None if its config tells no limit.

    Dynamic and long rope change every row's positions once one row passes the original length, so they end there.
    """
    text = config.get_text_config(decoder=True)
    limits = [_positive(getattr(text, "max_position_embeddings", None))]
    for rope in _ropes(getattr(text, "rope_parameters", None)):
        if rope.get("rope_type") in _STRETCHED:
            limits.append(_positive(rope.get("original_max_position_embeddings")))
            limits.append(_positive(getattr(text, "original_max_position_embeddings", None)))
    return min((limit for limit in limits if limit is not None), default=None)


def _ropes(parameters: Any) -> list[dict[str, Any]]:
    """Return the rope settings: one dict, or one per layer type."""
    if not isinstance(parameters, dict):
        return []
    return [parameters, *(value for value in parameters.values() if isinstance(value, dict))]


def _positive(value: Any) -> int | None:
    return int(value) if isinstance(value, int) and value > 0 else None
