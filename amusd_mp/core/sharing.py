"""How a step's proposals are shared out among its rows: the likeliest of all, as far as each pays for its time.

What a step takes depends on what it *computes*. Where its rows differ in length, a place that a shorter one leaves
empty is not free: `padding` says what it takes, as part of what a proposal does. It is 1 where every row is computed as
far as the longest, 0 where nothing is computed but what there is, and between them where a model packs its blocks and
attention alone pads them. There a long row makes every other one dearer, and must be worth that, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate


def computed(ks: Sequence[int], padding: float) -> int:
    """Return how many proposals a step computes, empty places included, for so many of each row."""
    given = sum(ks)
    return round(given + padding * (len(ks) * max(ks) - given))


def likeliest(worths: Sequence[Sequence[float]], m: int) -> list[int]:
    """Return how many of each row are among the m likeliest. `worths`: each row's chances, the likeliest first."""
    return _shares(len(worths), _offers(worths)[:m])


def best(worths: Sequence[Sequence[float]], price: float, seconds: Sequence[float], padding: float) -> list[int]:
    """Return how many proposals of each row make the most of a step: their chances less what its time is worth.

    `seconds` says what a step takes that computes 0, 1, ... proposals, `price` is in tokens per second.
    """
    rows, longest, offers = len(worths), max(map(len, worths)), _offers(worths)
    if rows == 1:
        padding = 0.0
    most, found = float("-inf"), offers
    for length in range(longest + 1) if padding else (longest,):  # of the longest row
        within = [offer for offer in offers if offer[2] < length] if padding else offers
        empty, share = padding * rows * length, 1 - padding
        for m, tokens in enumerate(accumulate((-worth for worth, _, _ in within), initial=0.0)):
            gain = tokens - price * seconds[round(empty + share * m)]
            if gain > most:
                most, found = gain, within[:m]
    return _shares(rows, found)


def _offers(worths: Sequence[Sequence[float]]) -> list[tuple[float, int, int]]:
    """Return what each proposal is worth, negative, with its row and its place there; the likeliest first."""
    return sorted((-worth, row, at) for row, each in enumerate(worths) for at, worth in enumerate(each))


def _shares(rows: int, offers: Sequence[tuple[float, int, int]]) -> list[int]:
    ks = [0] * rows
    for _, row, _ in offers:
        ks[row] += 1
    return ks
