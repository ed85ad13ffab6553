"""Rule: virtual time passes only when nothing is ready, and what would hang for ever says so."""

from __future__ import annotations

import asyncio

import pytest

from amusd_mp.testing.simulation.loop import Stalled, run


def test_an_hour_of_timers_passes_in_order_and_at_once() -> None:
    async def sleepers() -> list[tuple[float, str]]:
        done: list[tuple[float, str]] = []

        async def one(seconds: float, name: str) -> None:
            await asyncio.sleep(seconds)
            done.append((asyncio.get_running_loop().time(), name))

        await asyncio.gather(one(3600, "c"), one(0.5, "a"), one(2, "b"))
        return done

    assert run(sleepers()) == [(0.5, "a"), (2, "b"), (3600, "c")]


def test_a_cancelled_timer_moves_no_clock() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        loop.call_later(50, lambda: None).cancel()
        await asyncio.sleep(1)
        return loop.time()

    assert run(main()) == 1


def test_what_would_wait_for_ever_stalls() -> None:
    async def wait() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Stalled, match="no timer is set"):
        run(wait())


def test_what_goes_on_for_ever_ends_where_it_is_told_to() -> None:
    async def tick() -> None:
        while True:  # noqa: ASYNC110  # the point of it
            await asyncio.sleep(1)

    with pytest.raises(Stalled, match="not over after 100 s"):
        run(tick(), until=100)


def test_tasks_hash_by_number_so_that_sets_of_them_repeat() -> None:
    async def order() -> list[str]:
        tasks = {asyncio.create_task(asyncio.sleep(0), name=str(i)) for i in range(50)}
        return [task.get_name() for task in tasks]

    assert run(order()) == run(order())
