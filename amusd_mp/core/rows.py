"""Cache rows and what the free ones still hold, so that the next turn of a conversation feeds only what is new.

A row keeps its entries when its sequence ends. A new sequence gets the free row that shares the longest prefix with it,
else an empty one, else the one that was left longest ago. So memory is bounded by the rows there are anyway.
"""

from __future__ import annotations

from collections.abc import Sequence

WORTHWHILE = 16
"""Shared tokens below which a row is not taken for its prefix: feeding so few costs no more than feeding one."""


def common_prefix(one: Sequence[int], other: Sequence[int]) -> int:
    """Return how many leading ids two sequences share."""
    n = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        n += 1
    return n


class RowPool:
    """The rows of one model. `free` maps each free row to the ids it holds, the one left longest ago first."""

    def __init__(self, rows: int) -> None:
        self.free: dict[int, tuple[int, ...]] = dict.fromkeys(range(rows), ())

    def __len__(self) -> int:
        return len(self.free)

    def __repr__(self) -> str:
        return f"<RowPool {len(self.free)} free, {sum(bool(held) for held in self.free.values())} with a prefix>"

    def take(self, ids: Sequence[int]) -> tuple[int, int]:
        """Take a free row for a sequence of `ids`; return it and how many of the ids it already holds.

        At least the last id is always left to feed (rule V7). Raises KeyError when no row is free.
        """
        if not self.free:
            raise KeyError("no row is free")
        shared = {row: min(common_prefix(held, ids), len(ids) - 1) for row, held in self.free.items()}
        best = max(shared, key=lambda row: shared[row])
        if shared[best] < WORTHWHILE:
            # Low rows first: rows in use that lie side by side are read without a copy.
            empty = [row for row, held in self.free.items() if not held]
            best = min(empty) if empty else next(iter(self.free))
            shared[best] = 0
        del self.free[best]
        return best, shared[best]

    def give(self, row: int, held: Sequence[int]) -> None:
        """Take a row back; `held` are the ids whose entries it holds."""
        self.free[row] = tuple(held)
