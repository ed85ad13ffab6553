"""Rule: a lost answer is asked for again after as long as answers usually take, and never after the deadline."""

from __future__ import annotations

import asyncio

import pytest

from amusd_mp.errors import RequestTimeout
from amusd_mp.runtime import Runtime
from amusd_mp.session.tries import ATTEMPT, QUICK, Tries
from amusd_mp.testing.simulation.loop import run


def test_patience_follows_what_answers_take_and_grows_while_none_come() -> None:
    tries = Tries(Runtime())
    assert tries.patience == ATTEMPT
    tries.answered(0.001)
    assert tries.patience == QUICK
    for _ in range(5):
        tries.unanswered()
    assert tries.patience == ATTEMPT
    for _ in range(50):
        tries.answered(0.1)
    assert tries.patience == pytest.approx(0.4, rel=0.01)
    for _ in range(50):
        tries.answered(3.0)
    assert tries.patience == ATTEMPT


@pytest.mark.parametrize("lost", [0, 1, 2, 5])
def test_a_lost_answer_on_a_quick_line_costs_a_fraction_of_a_second(lost: int) -> None:
    asked: list[float] = []

    async def ask(timeout: float) -> str:
        asked.append(timeout)
        if len(asked) <= lost:
            await asyncio.sleep(timeout)
            raise RequestTimeout("lost")
        return "answer"

    async def story() -> float:
        tries = Tries(Runtime())
        tries.answered(0.001)
        assert await tries.until_answered(ask, 30.0) == "answer"
        return asyncio.get_running_loop().time()

    took = run(story())
    assert asked == [QUICK, 2 * QUICK, ATTEMPT, ATTEMPT, ATTEMPT, ATTEMPT][: lost + 1]
    assert took < (0.1, 0.4, 1.1, 9.0, 9.0, 9.0)[lost]


def test_what_is_never_answered_ends_by_its_deadline() -> None:
    async def ask(timeout: float) -> str:
        await asyncio.sleep(timeout)
        raise RequestTimeout("lost")

    async def story() -> float:
        with pytest.raises(RequestTimeout):
            await Tries(Runtime()).until_answered(ask, 3.0)
        return asyncio.get_running_loop().time()

    assert max(run(story()) for _ in range(20)) <= 3.0 + 1e-6
