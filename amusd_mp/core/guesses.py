"""What a window proposes beyond the committed tokens, judged by content alone (rule V2).

A window is a tree of guesses: its longest chain, and tokens that may stand in the place of the chain's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from amusd_mp.core.messages import Window

ROOT = -1


@dataclass(frozen=True, slots=True)
class Guesses:
    """What a window proposes beyond the committed tokens, as indices into its tokens: its longest chain, and beside it

    siblings: (depth, index) of tokens that may stand in the place of chain[depth]
    """

    chain: tuple[int, ...] = ()
    siblings: tuple[tuple[int, int], ...] = ()


def guesses_beyond(committed: Sequence[int], window: Window) -> Guesses | None:
    """Return what a window proposes to follow `committed`, which holds every id from position 0.

    None is a window that contradicts `committed`, or whose longest chain does: its draft starts over. An empty one
    agrees as far as it goes, but ends at or before the last committed token. Of chains of equal length the one proposed
    first wins.
    """
    base, tokens, parents = window.base, window.tokens, window.parents
    known = len(committed) - base
    if known < 0:
        return None
    if parents is None:
        if any(tokens[i] != committed[base + i] for i in range(min(known, len(tokens)))):
            return None
        return Guesses(tuple(range(known, len(tokens))))
    children: dict[int, list[int]] = {}
    for i, parent in enumerate(parents):
        children.setdefault(parent, []).append(i)
    node = ROOT
    for position in range(base, len(committed)):
        if node not in children:
            break
        found = next((i for i in children[node] if tokens[i] == committed[position]), None)
        if found is None:
            return None
        node = found
    chain = _longest(node, parents)
    if len(chain) == 1 and node != _longest(ROOT, parents)[-1]:
        return None
    siblings = [(at, i) for at, (up, chosen) in enumerate(pairwise(chain)) for i in children[up] if i != chosen]
    return Guesses(tuple(chain[1:]), tuple(siblings))


def reach(window: Window) -> int:
    """Return how many tokens the longest chain of a window has."""
    return len(window.tokens) if window.parents is None else len(_longest(ROOT, window.parents)) - 1


def _longest(node: int, parents: Sequence[int]) -> list[int]:
    """Return `node` and the indices below it along the longest branch. One pass: a parent comes before its children."""
    depth = {node: 0}
    best = node
    for i, parent in enumerate(parents):
        if i > node and parent in depth:
            depth[i] = depth[parent] + 1
            if depth[i] > depth[best]:
                best = i
    path = [best]
    while path[-1] != node:
        path.append(parents[path[-1]])
    return path[::-1]
