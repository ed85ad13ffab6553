"""Who may look at whom: boolean 4-D masks for full, sliding-window and chunked attention.

A 4-D mask passes through transformers' models untouched, so the window has to be in it: a plain mask on a model with a
window is silently wrong. Windows count positions, not slots, because siblings of a tree share a position. A model
whose layers differ takes a dict of masks by layer type; every other model takes one tensor and refuses a dict.
"""

from __future__ import annotations

from torch import Tensor
from transformers import PreTrainedConfig

FULL, SLIDING, CHUNKED = "full_attention", "sliding_attention", "chunked_attention"
KINDS = frozenset({FULL, SLIDING, CHUNKED})

Mask = Tensor | dict[str, Tensor]


class Masks:
    """Builds the masks one model needs."""

    def __init__(self, config: PreTrainedConfig) -> None:
        """Read layer types and widths from `config`. Raises ValueError when a width it needs is missing."""
        text = config.get_text_config(decoder=True)
        declared = set(getattr(text, "layer_types", None) or ()) & KINDS
        window = getattr(text, "sliding_window", None)
        chunk = getattr(text, "attention_chunk_size", None)
        if not declared:
            # No layer types: a width in the config means that every layer has it (Mistral, Phi-3).
            declared = {SLIDING if window is not None else CHUNKED if chunk is not None else FULL}
        self.kinds: tuple[str, ...] = tuple(sorted(declared))
        for kind, width, key in ((SLIDING, window, "sliding_window"), (CHUNKED, chunk, "attention_chunk_size")):
            if kind in declared and not isinstance(width, int):
                raise ValueError(f"layers of type {kind} need an integer {key} in the config, found {width!r}")
        self.window: int = window or 0
        self.chunk: int = chunk or 0

    @property
    def positional(self) -> bool:
        """True if a mask depends on positions beyond order, so that a tree's positions must be given."""
        return self.kinds != (FULL,)

    def build(self, visible: Tensor, query: Tensor, key: Tensor) -> Mask:
        """Return the mask or masks [b, 1, q, k] for the attention.

        visible: bool [b, q, k], ancestors and the token itself
        query:   positions of the fed tokens, [b, q]
        key:     positions of the shown slots, [b or 1, k]
        """
        masks = {kind: self._narrow(kind, visible, query, key)[:, None] for kind in self.kinds}
        return masks if len(masks) > 1 else next(iter(masks.values()))

    def _narrow(self, kind: str, visible: Tensor, query: Tensor, key: Tensor) -> Tensor:
        if kind == SLIDING:
            return visible & (key[:, None, :] > query[:, :, None] - self.window)
        if kind == CHUNKED:
            return visible & (key[:, None, :] // self.chunk == query[:, :, None] // self.chunk)
        return visible
