"""What a simulated node takes from its surroundings: virtual time, seeded randomness, and devices without a thread."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import TypeVar

from amusd_mp.core.step import StepResult
from amusd_mp.runtime import Executor, Runtime

T = TypeVar("T")


class VirtualExecutor:
    """Computes at once and hands the result over when the virtual device would have it, one call after the other."""

    def __init__(self, seconds_of: Callable[[object], float]) -> None:
        self._seconds_of = seconds_of
        self._free_at = 0.0

    async def run(self, call: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        result = call()
        self._free_at = max(self._free_at, loop.time()) + self._seconds_of(result)
        await asyncio.sleep(self._free_at - loop.time())
        return result

    def close(self) -> None:
        """A virtual device holds nothing."""


class VirtualRuntime(Runtime):
    """Surroundings of one seed. A device step takes what it claims, any other blocking call `other` seconds."""

    def __init__(self, seed: str, other: float = 0.001) -> None:
        self.random = random.Random(seed)
        self.other = other

    def executor(self, name: str) -> Executor:
        return VirtualExecutor(self._seconds_of)

    def _seconds_of(self, result: object) -> float:
        return result.seconds if isinstance(result, StepResult) else self.other
