"""The tokens one block wants: where each will stand, and what comes before it.

Inside a block every wanted token has a history of its own: the ids of its row up to the block, then its ancestors in
the block. Rules that read history or positions see it through here, so none of them knows of chains, trees or rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from amusd_mp.core.params import GenerationParams
from amusd_mp.core.step import Block
from amusd_mp.engine.rows import ancestors, depths, is_chain


@dataclass(frozen=True, slots=True)
class Wanted:
    """The wanted tokens of one block. `held` are the ids in its row; those before `block.start` belong to it."""

    block: Block
    held: Sequence[int]

    @property
    def params(self) -> GenerationParams:
        """The request's parameters."""
        return self.block.params

    def position(self, pick: int) -> int:
        """Return the absolute position of the token that pick 0 .. picks - 1 chooses."""
        at = len(self.block.tokens) - self.block.picks + pick
        if self.block.parents is None:
            return self.block.start + at + 1
        return self.block.start + depths(self.block.parents)[at] + 1

    def positions(self) -> list[int]:
        """Return the absolute position of every wanted token."""
        block = self.block
        if block.parents is None:
            end = block.start + len(block.tokens) + 1
            return list(range(end - block.picks, end))
        return [block.start + depth + 1 for depth in depths(block.parents)[len(block.tokens) - block.picks :]]

    def within(self, pick: int) -> list[int]:
        """Return the indices of the block's tokens that come before that token."""
        at = len(self.block.tokens) - self.block.picks + pick
        if self.block.parents is None or is_chain(self.block):
            return list(range(at + 1))
        return ancestors(self.block.parents, at)

    def history(self, pick: int) -> list[int]:
        """Return every id before that token, the prompt first."""
        return [*self.held[: self.block.start], *(self.block.tokens[at] for at in self.within(pick))]
