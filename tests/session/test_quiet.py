"""Rule: between steps all that came is read, during a step nothing, and while nothing is computed all at once."""

from __future__ import annotations

import asyncio

from stubs import until

from amusd_mp.session.quiet import Quiet


class Line:
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def hold(self) -> None:
        self.told.append("hold")

    def catch_up(self) -> None:
        self.told.append("catch up")

    def release(self) -> None:
        self.told.append("release")


async def test_steps_that_follow_each_other_hold_the_line_once() -> None:
    line = Line()
    with Quiet(line) as quiet:
        quiet.rest()
        for _ in range(2):
            quiet.begin()
            quiet.end()
        quiet.rest()
        quiet.rest()
        quiet.begin()
    assert line.told == ["hold", "catch up", "catch up", "release", "hold", "release"]


async def test_a_long_step_is_interrupted_and_nothing_is_left_running() -> None:
    line = Line()
    with Quiet(line) as quiet:
        quiet.begin()
        await until(lambda: line.told.count("catch up") >= 2)
    told = len(line.told)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert len(line.told) == told
