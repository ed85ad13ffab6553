"""A row holds exactly the ids that were fed, rolls back by starting earlier, and refuses what does not fit."""

from __future__ import annotations

from typing import Any

import pytest

from amusd_mp.engine.rows import Rows, ancestors, depths, is_chain


def test_feeding_at_an_earlier_start_forgets_the_rest(block: Any) -> None:
    rows = Rows(2, 16, 100)
    rows.fed(block(0, 0, (1, 2, 3, 4)))
    rows.fed(block(0, 2, (7,)))
    assert rows.held(0) == [1, 2, 7]
    assert rows.held(1) == []


def test_of_a_tree_its_leading_chain_alone_can_be_built_on(block: Any) -> None:
    rows = Rows(1, 16, 100)
    rows.fed(block(0, 0, (1, 2)))
    rows.fed(block(0, 2, (10, 20, 11, 21), parents=(-1, -1, 0, 1)))
    assert rows.held(0) == [1, 2, 10]
    assert rows.longest() == 3
    rows.check([block(0, 3, (5,))])
    with pytest.raises(RuntimeError, match=r"holds positions 0 to 2$"):
        rows.check([block(0, 4, (5,))])
    rows.fed(block(0, 2, (20, 21, 5)))
    assert rows.held(0) == [1, 2, 20, 21, 5], "a branch is fed again"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"row": 2}, "rows 0 to 1"),
        ({"start": 4}, "holds positions 0 to 2"),
        ({"start": -1}, "holds positions"),
        ({"tokens": ()}, "empty"),
        ({"tokens": (1,) * 14, "picks": 1}, "16 slots"),
        ({"picks": 2}, "2 picks out of 1"),
        ({"tokens": (100,)}, "outside 0 to 99"),
        ({"tokens": (-1,)}, "outside 0 to 99"),
        ({"parents": (0,)}, "do not describe a tree"),
        ({"parents": (-1, -1)}, "do not describe a tree"),
    ],
)
def test_a_block_that_does_not_fit_is_refused_by_name(block: Any, change: dict[str, Any], message: str) -> None:
    rows = Rows(2, 16, 100)
    rows.fed(block(0, 0, (1, 2, 3)))
    rows.fed(block(1, 0, (1, 2, 3)))
    fitting: dict[str, Any] = {"row": 1, "start": 3, "tokens": (5,), "picks": 1}
    rows.check([block(**fitting)])
    with pytest.raises(RuntimeError, match=message):
        rows.check([block(**{**fitting, **change})])


def test_a_step_names_a_row_once(block: Any) -> None:
    with pytest.raises(RuntimeError, match="twice"):
        Rows(2, 16, 100).check([block(0, 0, (1,)), block(0, 0, (2,))])


def test_depths_and_ancestors_follow_the_parents() -> None:
    parents = (-1, 0, 0, 2, -1)
    assert depths(parents) == [0, 1, 1, 2, 0]
    assert ancestors(parents, 3) == [0, 2, 3]
    assert ancestors(parents, 4) == [4]


def test_a_tree_of_one_branch_is_a_chain(block: Any) -> None:
    assert is_chain(block(0, 0, (1, 2, 3)))
    assert is_chain(block(0, 0, (1, 2, 3), parents=(-1, 0, 1)))
    assert not is_chain(block(0, 0, (1, 2, 3), parents=(-1, 0, 0)))
