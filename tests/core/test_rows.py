"""A free row is found again by what it holds, and never promises more than it holds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amusd_mp.core.rows import WORTHWHILE, RowPool, common_prefix


def test_the_row_with_the_longest_shared_prefix_is_taken() -> None:
    pool = RowPool(3)
    turn = list(range(100))
    pool.take(turn)
    pool.take(turn)
    pool.give(0, turn[:40])
    pool.give(1, turn[:70])
    assert pool.take([*turn, 7, 8]) == (1, 70)


def test_the_last_id_is_always_left_to_feed() -> None:
    pool = RowPool(1)
    pool.take([1])
    pool.give(0, list(range(50)))
    assert pool.take(list(range(50))) == (0, 49)


def test_a_short_match_is_worth_nothing_and_empty_rows_go_first_then_the_longest_unused() -> None:
    pool = RowPool(3)
    for _ in range(2):
        pool.take([1])
    pool.give(1, [5] * 50)
    pool.give(0, [6] * 50)
    assert pool.take([5] * (WORTHWHILE - 1) + [9]) == (2, 0)
    assert pool.take([7]) == (1, 0), "row 1 was left before row 0"
    assert pool.take([7]) == (0, 0)
    with pytest.raises(KeyError):
        pool.take([7])


@given(held=st.lists(st.lists(st.integers(0, 2), max_size=60), min_size=1, max_size=4), data=st.data())
def test_what_a_row_is_said_to_hold_it_holds(held: list[list[int]], data: st.DataObject) -> None:
    pool = RowPool(len(held))
    for _ in held:
        pool.take([0])
    for row, ids in enumerate(held):
        pool.give(row, ids)
    wanted = data.draw(st.sampled_from(held)) + data.draw(st.lists(st.integers(0, 2), min_size=1, max_size=30))
    row, cached = pool.take(wanted)
    assert held[row][:cached] == wanted[:cached]
    assert cached < len(wanted)
    assert cached <= common_prefix(held[row], wanted)
