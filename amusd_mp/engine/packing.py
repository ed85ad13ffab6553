"""Tokens of ragged blocks side by side: [1, n] for all of a model that looks at one token at a time.

Embeddings, norms, feed-forward parts and projections work token by token, so padding there is computed for
nothing. Only the attention needs to know who belongs to whom. It finds the packing of the running pass here, spreads
its queries over a rectangle [b, q] of padded blocks and takes what comes out of the rectangle's cells back into one
line.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Packing:
    """How n tokens lie in a rectangle of b blocks padded on the left to q columns.

    cells:  the cell of each token, int64 [n], counted row by row
    tokens: the token of each cell, int64 [b * q]; padding names the first
    """

    cells: Tensor
    tokens: Tensor

    @classmethod
    def of(cls, counts: Sequence[int], width: int, device: torch.device) -> Packing:
        """Return the packing of blocks with so many tokens each."""
        cells = [row * width + at for row, count in enumerate(counts) for at in range(width - count, width)]
        tokens = [0] * (len(counts) * width)
        for token, cell in enumerate(cells):
            tokens[cell] = token
        return cls(torch.tensor(cells, device=device), torch.tensor(tokens, device=device))

    def line(self, rectangle: Tensor) -> Tensor:
        """Return [b, q, ...] as [1, n, ...]."""
        return rectangle.flatten(0, 1)[self.cells][None]

    def spread(self, heads: Tensor, blocks: int) -> Tensor:
        """Return [1, heads, n, d] as [b, heads, q, d]; padding repeats the first token."""
        _, count, _, d = heads.shape
        return heads[0].index_select(1, self.tokens).view(count, blocks, -1, d).transpose(0, 1)


_PACKING: ContextVar[Packing | None] = ContextVar("packing", default=None)


@contextmanager
def packed(packing: Packing | None) -> Iterator[None]:
    """Let `running` return a packing in this block: not every model hands what it does not know to its attention."""
    token = _PACKING.set(packing)
    try:
        yield
    finally:
        _PACKING.reset(token)


def running() -> Packing | None:
    """Return the packing of the pass that runs in this thread, None where blocks lie in a rectangle."""
    return _PACKING.get()
