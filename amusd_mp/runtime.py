"""What a node takes from its surroundings: time, randomness, ids, and the executors that run blocking work.

Everything that would make two runs differ comes through here, so a simulation replaces this one object.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

T = TypeVar("T")


class Executor(Protocol):
    """Runs blocking calls for a loop, one after the other, always on the same thread."""

    async def run(self, call: Callable[[], T]) -> T:
        """Return what `call` returns. Cancelling the wait does not stop the call."""

    def close(self) -> None:
        """Let a running call end in the background and take no more. Idempotent."""


class ThreadExecutor:
    """One thread that owns a device, named so that a profiler shows whose it is."""

    def __init__(self, name: str) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=name)

    async def run(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, call)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


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
