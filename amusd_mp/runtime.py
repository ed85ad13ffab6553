"""What a node takes from its surroundings: time, randomness, ids, and the executors that run blocking work.

Everything that would make two runs differ comes through here, so a simulation replaces this one object.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Executor(Protocol):
    """Runs blocking calls for a loop, one after the other, always on the same thread."""

    async def run(self, call: Callable[[], T]) -> T:
        """Return what `call` returns. Cancelling the wait does not stop the call."""

    def close(self) -> None:
        """Let a running call end in the background and take no more. Idempotent."""


class ThreadExecutor:
    """One thread that owns a device, named so that a profiler shows whose it is.

    Every step goes this way, and it is a third shorter than through a pool of one: no lock, no second future. The
    thread is a daemon, because a device that hangs must not keep a failed process from ending.
    """

    def __init__(self, name: str) -> None:
        self._calls: SimpleQueue[tuple[Callable[[], Any], asyncio.Future[Any]] | None] = SimpleQueue()
        self._closed = False
        Thread(target=self._work, name=name, daemon=True).start()

    async def run(self, call: Callable[[], T]) -> T:
        if self._closed:
            raise RuntimeError("this executor is closed")
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._calls.put((call, future))
        return await future

    def close(self) -> None:
        self._closed = True
        self._calls.put(None)

    def _work(self) -> None:
        while (item := self._calls.get()) is not None:
            call, future = item
            result: object = None
            failure: BaseException | None = RuntimeError("closed before this call began") if self._closed else None
            if failure is None:
                try:
                    result = call()
                except BaseException as error:  # whoever waits decides what it means
                    failure = error
            try:
                future.get_loop().call_soon_threadsafe(_resolve, future, result, failure)
            except RuntimeError:
                return  # the loop has ended, and with it everybody who waited
            del item, call, future, result, failure  # nothing of a step outlives it while the thread waits


def _resolve(future: asyncio.Future[Any], result: object, failure: BaseException | None) -> None:
    if future.cancelled():
        return
    if isinstance(failure, StopIteration):  # no future takes one, so whoever waits would wait for ever
        future.set_exception(RuntimeError(f"the call raised {failure!r}"))
    elif failure is not None:
        future.set_exception(failure)
    else:
        future.set_result(result)


class Runtime:
    """The real surroundings. Subclass and override to simulate."""

    def __init__(self) -> None:
        self.random = random.Random(secrets.randbits(64))

    def now(self) -> float:
        """Return monotonic seconds; the running loop's clock, so that its timers agree."""
        return asyncio.get_running_loop().time()

    def new_id(self) -> str:
        """Return a fresh random identifier of 16 hex digits."""
        return f"{self.random.getrandbits(64):016x}"

    def new_seed(self) -> int:
        """Return a fresh 64-bit sampling seed."""
        return self.random.getrandbits(64)

    def executor(self, name: str) -> Executor:
        """Return a new executor with a thread of its own."""
        return ThreadExecutor(name)


OnProgress = Callable[[str, float], None]
"""Told while a model loads: what is being done, and the share of all loading that is done (0 to 1)."""
