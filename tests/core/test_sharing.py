"""Rule: no other way of sharing a step's proposals out among its rows is worth more, empty places counted."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import accumulate, product

import pytest

from amusd_mp.core.sharing import best, computed, likeliest


@pytest.mark.parametrize(("padding", "expected"), [(0.0, 4), (0.4, 6), (1.0, 9)])
def test_what_a_step_computes(padding: float, expected: int) -> None:
    assert computed((1, 0, 3), padding) == expected
    assert computed((4,), padding) == 4  # a row alone leaves nothing empty


def gain(
    ks: Sequence[int], worths: Sequence[Sequence[float]], price: float, seconds: Sequence[float], p: float
) -> float:
    tokens = sum(sum(each[:k]) for each, k in zip(worths, ks, strict=True))
    return tokens - price * seconds[computed(ks, p)]


@pytest.mark.parametrize("padding", [0.0, 0.4, 1.0])
def test_no_other_way_is_worth_more(padding: float) -> None:
    dice = random.Random(7)
    for _ in range(200):
        worths = [sorted((dice.random() ** 2 for _ in range(dice.randrange(5))), reverse=True) for _ in range(3)]
        seconds = list(accumulate((dice.random() for _ in range(13)), initial=5.0))
        price = dice.random()
        every = product(*(range(len(each) + 1) for each in worths))
        most = max(gain(ks, worths, price, seconds, padding) for ks in every)
        assert gain(best(worths, price, seconds, padding), worths, price, seconds, padding) == pytest.approx(most)


def test_a_long_row_must_be_worth_what_it_leaves_empty_in_the_others() -> None:
    """Scoring costs a tenth of a token each: the last of a long row pay for that, not for seven places more each."""
    worths = [[0.9, 0.8, 0.7, 0.5, 0.4, 0.3, 0.2], *[[0.9, 0.5]] * 7]
    seconds = [1 + 0.1 * m for m in range(60)]
    assert best(worths, 1.0, seconds, padding=0.0) == [7, *[2] * 7]
    assert best(worths, 1.0, seconds, padding=0.4) == [5, *[2] * 7]


def test_the_likeliest_are_taken_whosever_they_are() -> None:
    assert likeliest([[0.9, 0.1], [0.8, 0.7], []], 3) == [1, 2, 0]
