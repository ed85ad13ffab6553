"""What each cache row holds: the ids of the entries in its slots, on the host.

Slot i of a row holds the token at position i. A tree's tokens lie in the order of its block, siblings at the same
position, so of a tree only what it begins with as a chain counts as held; whoever goes on from another of its tokens
feeds that again. So rollback is shortening a list, and the list is also the history that sampling needs and the witness
for "the cache holds exactly the ids of the tokens fed".
"""

from __future__ import annotations

from collections.abc import Sequence

from amusd_mp.core.step import Block


def depths(parents: Sequence[int]) -> list[int]:
    """Return each token's distance from the cached prefix: 0 for its children."""
    found: list[int] = []
    for parent in parents:
        found.append(0 if parent < 0 else found[parent] + 1)
    return found


def ancestors(parents: Sequence[int], token: int) -> list[int]:
    """Return the indices from the cached prefix down to `token`, itself included."""
    path = []
    while token >= 0:
        path.append(token)
        token = parents[token]
    path.reverse()
    return path


def is_chain(block: Block) -> bool:
    """True if each token of the block follows the one before it."""
    return block.chained == len(block.tokens)


class Rows:
    """The ids in every row, and the rules for changing them. Broken rules raise RuntimeError: they are our own bugs."""

    def __init__(self, count: int, length: int, vocabulary: int) -> None:
        self._ids: list[list[int]] = [[] for _ in range(count)]
        self._length = length
        self._vocabulary = vocabulary

    def __repr__(self) -> str:
        held = ", ".join(f"{row}:{len(ids)}" for row, ids in enumerate(self._ids) if ids)
        return f"<Rows of {self._length} slots, held {held or 'nothing'}>"

    def held(self, row: int) -> Sequence[int]:
        """Return the ids that a row holds, oldest first. The caller must not change them."""
        return self._ids[row]

    def longest(self) -> int:
        """Return how many slots the fullest row takes."""
        return max(map(len, self._ids))

    def check(self, blocks: Sequence[Block]) -> None:
        """Raise RuntimeError if a block does not fit what its row holds."""
        if len({block.row for block in blocks}) != len(blocks):
            raise RuntimeError(f"a step names a row twice: rows {[block.row for block in blocks]}")
        for block in blocks:
            fault = self._fault(block)
            if fault:
                raise RuntimeError(f"sequence {block.sequence!r}, row {block.row}, start {block.start}: {fault}")

    def _fault(self, block: Block) -> str | None:
        tokens, parents = block.tokens, block.parents
        if not 0 <= block.row < len(self._ids):
            return f"there are rows 0 to {len(self._ids) - 1} only"
        if not tokens:
            return "the block is empty"
        if not 0 <= block.start <= len(self._ids[block.row]):
            return f"the row holds positions 0 to {len(self._ids[block.row]) - 1}"
        if block.start + len(tokens) > self._length:
            return f"{len(tokens)} tokens do not fit, a row has {self._length} slots"
        if not 0 <= block.picks <= len(tokens):
            return f"{block.picks} picks out of {len(tokens)} tokens"
        if min(tokens) < 0 or max(tokens) >= self._vocabulary:
            return f"an id is outside 0 to {self._vocabulary - 1}"
        if parents is not None and (
            len(parents) != len(tokens) or any(not -1 <= parent < at for at, parent in enumerate(parents))
        ):
            return f"parents {parents} do not describe a tree of {len(tokens)} tokens"
        return None

    def fed(self, block: Block) -> None:
        """Record that the model has computed a block."""
        self._ids[block.row][block.start :] = block.tokens[: block.chained]

    def clear(self) -> None:
        """Forget everything."""
        for ids in self._ids:
            ids.clear()
