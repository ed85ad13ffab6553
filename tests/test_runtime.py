"""Rule: an executor runs calls in order on one thread, and whoever waits gets a result, an error or an end."""

from __future__ import annotations

import asyncio
import threading

import pytest
from stubs import until

from amusd_mp.runtime import ThreadExecutor


async def test_calls_run_in_order_on_one_named_thread() -> None:
    executor = ThreadExecutor("device of x")
    names = await asyncio.gather(*(executor.run(lambda: threading.current_thread().name) for _ in range(3)))
    executor.close()
    assert set(names) == {"device of x"}


async def test_an_error_reaches_whoever_waits_and_the_next_call_runs() -> None:
    executor = ThreadExecutor("x")
    with pytest.raises(ZeroDivisionError):
        await executor.run(lambda: 1 / 0)
    assert await executor.run(lambda: 7) == 7
    executor.close()


async def test_an_error_that_no_future_takes_reaches_whoever_waits_all_the_same() -> None:
    executor = ThreadExecutor("x")
    with pytest.raises(RuntimeError, match="StopIteration"):
        await executor.run(lambda: next(iter(())))
    executor.close()


async def test_a_wait_that_was_cancelled_leaves_the_call_and_the_thread_alone() -> None:
    executor, go, done = ThreadExecutor("x"), threading.Event(), threading.Event()

    def call() -> None:
        go.wait(30)
        done.set()

    waiting = asyncio.ensure_future(executor.run(call))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    go.set()
    assert await executor.run(done.is_set)
    executor.close()


async def test_after_close_nothing_new_runs_and_what_waited_is_told() -> None:
    executor, begun, go = ThreadExecutor("x"), threading.Event(), threading.Event()

    def call() -> bool:
        begun.set()
        return go.wait(30)

    running = asyncio.ensure_future(executor.run(call))
    queued = asyncio.ensure_future(executor.run(lambda: 7))
    await until(begun.is_set)
    executor.close()
    executor.close()
    go.set()
    assert await running
    with pytest.raises(RuntimeError, match="closed"):
        await queued
    with pytest.raises(RuntimeError, match="closed"):
        await executor.run(lambda: 7)
