"""An asyncio event loop whose clock jumps to the next timer whenever nothing is ready.

Nothing in it waits, reads a socket or owns a thread, so a minute of timers takes as long as its computations. Runs
repeat exactly: tasks hash by their number and not by their address, so even what iterates over a set of tasks (task
groups, `asyncio.wait`) does so in the same order each time.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from functools import partial
from heapq import heappop
from itertools import count
from math import inf
from typing import Any, Final, TypeVar

from amusd_mp.testing.simulation.interruption import counted

T = TypeVar("T")

INSTANT: Final = 200_000
"""Rounds of the loop without time passing after which somebody is spinning; a busy instant has some hundreds."""

MOMENT: Final = 1e-9
"""Seconds that count as the same time: sums of floats that mean one instant differ by less."""


class Stalled(RuntimeError):
    """Nothing is ready and no timer is set, or everything happens and no time passes."""


def never(context: Context) -> bool:
    """Return False: nothing stands still."""
    return False


class VirtualTask(asyncio.Task[T]):
    """A task with a hash that does not depend on its address."""

    def __init__(self, coro: Generator[Any, None, T] | Coroutine[Any, Any, T], serial: int, **kwargs: Any) -> None:
        self.serial = serial  # first: a task enters a set of all tasks while it is made
        super().__init__(coro, **kwargs)

    def __hash__(self) -> int:
        return self.serial

    def __eq__(self, other: object) -> bool:
        return self is other


class VirtualLoop(asyncio.BaseEventLoop):
    """Time in seconds, 0 at first. Raises Stalled where a real loop would hang for ever, and after the time `until`."""

    _scheduled: list[asyncio.TimerHandle]  # the base class's heap of timers
    _ready: deque[asyncio.Handle]  # and what it runs next

    def __init__(self, until: float = inf) -> None:
        super().__init__()
        self._until = until
        self.is_stopped: Callable[[Context], bool] = never
        """Whether what was begun in this context stands still for now: a process that is stopped."""
        self._held: list[asyncio.Handle] = []
        self._now = 0.0
        self._turns = 0
        self._serials = count(1)

    def time(self) -> float:
        return self._now

    def go_on(self) -> None:
        """Run again what was held; it is held again where it still stands still."""
        self._ready.extendleft(reversed(self._held))
        self._held.clear()

    def _run_once(self) -> None:
        """Run what is ready; where nothing is, let the time pass until the next timer. Nothing comes from outside."""
        timers = self._scheduled
        while timers and timers[0].cancelled():
            heappop(timers)
        self._turns += 1
        if not self._ready:
            if not timers:
                raise Stalled(f"at {self._now:.6f} s nothing is ready and no timer is set")
            if timers[0].when() > self._now:
                self._now, self._turns = timers[0].when(), 0
            if self._now > self._until:
                raise Stalled(f"not over after {self._until:g} s")
        elif self._turns > INSTANT:
            raise Stalled(f"at {self._now:.6f} s the loop turned {INSTANT} times without time passing")
        while timers and timers[0].when() <= self._now + MOMENT:
            self._ready.append(heappop(timers))
        for _ in range(len(self._ready)):
            handle = self._ready.popleft()
            if handle.cancelled():
                continue
            if self.is_stopped(handle._context):  # type: ignore[attr-defined]  # the base class's, not the stubs'
                self._held.append(handle)
            else:
                handle._run()

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Cancelled timers go when their time comes."""

    def _write_to_self(self) -> None:
        """Nobody outside has to wake this loop."""

    def create_task(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        name: object = None,
        context: Context | None = None,
        **kwargs: Any,
    ) -> VirtualTask[T]:
        serial = next(self._serials)
        name = f"Task-{serial}" if name is None else str(name)
        return VirtualTask(counted(coro), serial, loop=self, name=name, context=context, **kwargs)


def run(main: Coroutine[Any, Any, T], until: float = inf) -> T:
    """Run a coroutine on a virtual loop of its own and return its result; not from within a running loop."""
    with asyncio.Runner(loop_factory=partial(VirtualLoop, until)) as runner:
        return runner.run(main)
