"""What a window proposes beyond the committed tokens, judged by content alone (rule V2).

A window is a tree of guesses. The first child of each token is what the draft goes on from; the others may stand in its
place, and may have guesses behind them in case they do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from amusd_mp.core.messages import Window

ROOT = -1


class Guess(NamedTuple):
    """A guess off the chain: its depth behind the committed tokens, and indices into the window's tokens.

    at:     its own
    first:  that of the draft's first choice in this place: itself, or what it may stand in the place of
    behind: that of the guess off the chain which it follows, ROOT where it stands beside the chain
    """

    depth: int
    at: int
    first: int
    behind: int


@dataclass(frozen=True, slots=True)
class Guesses:
    """What a window proposes beyond the committed tokens: a chain, as indices into its tokens, and beside it

    beside: all else, each behind what it follows
    parted: the committed tokens took another way than the draft's own, which it will learn and follow
    """

    chain: tuple[int, ...] = ()
    beside: tuple[Guess, ...] = ()
    parted: bool = False


def guesses_beyond(committed: Sequence[int], window: Window) -> Guesses | None:
    """Return what a window proposes to follow `committed`, which holds every id from position 0.

    None is a window that contradicts `committed`, or has nothing behind another way than its draft's own: that draft
    starts over. Empty guesses agree as far as they go, but end at or before the last committed token.
    """
    base, tokens, parents = window.base, window.tokens, window.parents
    known = len(committed) - base
    if known < 0:
        return None
    if parents is None:
        if any(tokens[i] != committed[base + i] for i in range(min(known, len(tokens)))):
            return None
        return Guesses(tuple(range(known, len(tokens))))
    children = _children(tokens, parents)
    node, parted = ROOT, False
    for position in range(base, len(committed)):
        beyond = children.get(node)
        if beyond is None:
            break
        found = next((i for i in beyond if tokens[i] == committed[position]), None)
        if found is None:
            return None
        parted |= found != beyond[0]
        node = found
    chain: list[int] = []
    beside: list[Guess] = []
    while node in children:
        node, *others = children[node]
        beside += [Guess(len(chain), other, node, ROOT) for other in others]
        chain.append(node)
    if parted and not chain:
        return None
    for guess in beside:  # grows meanwhile
        there = children.get(guess.at, [])
        beside += [Guess(guess.depth + 1, each, there[0], guess.at) for each in there]
    return Guesses(tuple(chain), tuple(beside), parted)


def reach(window: Window) -> int:
    """Return how many tokens a draft's own chain has."""
    if window.parents is None:
        return len(window.tokens)
    children = _children(window.tokens, window.parents)
    node, count = ROOT, 0
    while node in children:
        node, count = children[node][0], count + 1
    return count


def _children(tokens: Sequence[int], parents: Sequence[int]) -> dict[int, list[int]]:
    """Return the children of each token, and of the ROOT. Of twins the first counts, and nothing behind the others."""
    children: dict[int, list[int]] = {}
    known: set[tuple[int, int]] = set()
    for i, node in enumerate(zip(parents, tokens, strict=True)):
        if node not in known:
            known.add(node)
            children.setdefault(node[0], []).append(i)
    return children
