"""How often a request is sent before it counts as unanswered, and how long each try may take.

Every request is idempotent, so one that was lost is sent again. How long to wait for its answer before that is learned
from how long answers take: on a quick line a lost message then costs a fraction of a second, on a slow one nothing is
sent twice without need. It knows no message and no transport.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from amusd_mp.core import limits
from amusd_mp.errors import RequestTimeout, Unreachable
from amusd_mp.runtime import Runtime

T = TypeVar("T")

ATTEMPT: Final = 1.0
"""Seconds one try of a request may take before it is sent again, at most, and as long as nothing is known."""

QUICK: Final = limits.BEAT
"""The same at least: a busy loop may answer this late on the quickest line."""

TIMES: Final = 4
"""An answer is overdue after this many times the seconds it usually takes."""

BACKOFF: Final = 0.05
"""Seconds before the first retry; doubles, with jitter."""

BACKOFF_MAX: Final = 1.0

LEAST: Final = 0.001
"""Seconds below which a try is none."""


class Tries:
    """What one dialler knows of how long answers take."""

    def __init__(self, runtime: Runtime) -> None:
        self.patience = ATTEMPT
        self._runtime = runtime
        self._usual: float | None = None

    def __repr__(self) -> str:
        return f"<Tries of {self.patience:.2f} s>"

    def answered(self, seconds: float) -> None:
        """Learn from an answer to the first try of a request that is no work to answer."""
        self._usual = seconds if self._usual is None else 0.8 * self._usual + 0.2 * seconds
        self.patience = min(ATTEMPT, max(QUICK, TIMES * self._usual))

    def unanswered(self) -> None:
        """Learn that such a try went unanswered: lost, or the line has become slower."""
        self.patience = min(ATTEMPT, 2 * self.patience)

    async def until_answered(self, ask: Callable[[float], Awaitable[T]], timeout: float) -> T:
        """Return what `ask(seconds)` returns, trying again within `timeout` seconds if it goes unanswered."""
        now = self._runtime.now
        deadline = now() + min(timeout, limits.RETRY_WITHIN)
        delay, patience = BACKOFF, self.patience
        while True:
            try:
                return await ask(max(LEAST, min(patience, deadline - now())))
            except (RequestTimeout, Unreachable):
                pause = delay * self._runtime.random.uniform(0.5, 1.5)
                if now() + pause + LEAST > deadline:
                    raise
            await asyncio.sleep(pause)
            delay, patience = min(2 * delay, BACKOFF_MAX), min(2 * patience, ATTEMPT)
