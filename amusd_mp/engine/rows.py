"""What each cache row holds: the ids of the entries in its slots, on the host.

In a settled row, slot i holds the token at position i. After a tree the row has a *tail*: the tree's tokens lie in the
slots behind the settled ones in the order of the block, siblings at the same position. As far as the tree begins as a
chain it is settled, too. The rest is dropped when the next block starts, or one path of it is kept. So rollback is
shortening a list, and the list is also the history that sampling needs and the witness for "the cache holds exactly the
ids of the tokens fed".
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
        self._tails: list[Block | None] = [None] * count
        self._length = length
        self._vocabulary = vocabulary

    def __repr__(self) -> str:
        held = ", ".join(f"{row}:{len(ids)}" for row, ids in enumerate(self._ids) if ids)
        return f"<Rows of {self._length} slots, held {held or 'nothing'}>"

    def held(self, row: int) -> Sequence[int]:
        """Return the settled ids of a row, oldest first. The caller must not change them."""
        return self._ids[row]

    def longest(self) -> int:
        """Return how many slots the fullest row takes, an unkept tree included."""
        tails = (tail.start + len(tail.tokens) for tail in self._tails if tail is not None)
        return max(max(map(len, self._ids)), max(tails, default=0))

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
            tail = " and an unkept tree: call keep() first" if self._tails[block.row] else ""
            return f"the row holds positions 0 to {len(self._ids[block.row]) - 1}{tail}"
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
        ids, settled = self._ids[block.row], block.chained
        del ids[block.start :]
        ids.extend(block.tokens[:settled])
        self._tails[block.row] = block if settled < len(block.tokens) else None

    def keep(self, row: int, start: int, path: Sequence[int]) -> list[int]:
        """Settle one path of the row's tree and return the slots its entries lie in now.

        `path` lists indices into the tree's tokens, each the child of the one before it, the first a child of the
        cached prefix. Raises RuntimeError if the row's tail is not a tree at `start` or has no such path.
        """
        tail = self._tails[row]
        if tail is None or tail.parents is None or tail.start != start:
            raise RuntimeError(f"row {row} has no tree at position {start} to keep a path of")
        for at, token in enumerate(path):
            if not 0 <= token < len(tail.tokens) or tail.parents[token] != (path[at - 1] if at else -1):
                raise RuntimeError(f"row {row}: {list(path)} is not a path of the tree with parents {tail.parents}")
        del self._ids[row][start:]
        self._ids[row].extend(tail.tokens[token] for token in path)
        self._tails[row] = None
        return [start + token for token in path]

    def clear(self) -> None:
        """Forget everything."""
        for ids in self._ids:
            ids.clear()
        self._tails = [None] * len(self._tails)
