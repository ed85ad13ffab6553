"""Rule: what fails is started again later and later, until it has been of use for a while. In virtual time."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any, cast

import pytest

from amusd_mp.launcher.keeper import WORKED, Backoff, Keeper
from amusd_mp.launcher.process import NodeProcess
from amusd_mp.log import Event
from amusd_mp.testing.simulation.loop import run


class Process:
    """A process that loads for so many seconds, is ready for so many, and fails."""

    reason = "it broke"
    ready = True

    def __init__(self, loads: float, works: float) -> None:
        self._loads, self._works = loads, works

    async def run(self, on_ready: Callable[[], None]) -> int:
        await asyncio.sleep(self._loads)
        on_ready()
        await asyncio.sleep(self._works)
        return 1

    def terminate(self) -> None: ...


def pauses(loads: float, works: float, lives: int) -> list[float]:
    """Return the seconds before each of the next lives."""
    found: list[float] = []

    async def story() -> None:
        async def make() -> NodeProcess:
            return cast(NodeProcess, Process(loads, works))

        def said(event: Event) -> None:
            match = re.search(r"started again in (\S+) s", event.message)
            if match:
                found.append(float(match[1]))
            if len(found) == lives:
                keeper.terminate()

        quiet: Any = lambda: None  # noqa: E731
        keeper = Keeper("v", make, restart=True, backoff=Backoff(1, 2, 30), on_event=said, on_change=quiet)
        await keeper.run()

    run(story())
    return found


@pytest.mark.parametrize("loads", [1.0, 10 * WORKED], ids=["quick to load", "slow to load"])
def test_one_that_fails_when_it_is_ready_is_started_later_and_later(loads: float) -> None:
    assert pauses(loads, works=0.5, lives=4) == [1, 2, 4, 8]


def test_one_that_was_of_use_is_started_again_soon() -> None:
    assert pauses(1.0, works=WORKED + 1, lives=3) == [1, 1, 1]
