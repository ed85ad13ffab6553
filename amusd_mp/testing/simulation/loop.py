"""An asyncio event loop whose clock jumps to the next timer whenever nothing is ready.

Nothing in it waits, reads a socket or owns a thread, so a minute of timers takes as long as its computations. Runs
repeat exactly: tasks hash by their number and not by their address, so even what iterates over a set of tasks (task
groups, `asyncio.wait`) does so in the same order each time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from contextvars import Context
from itertools import count
from typing import Any, Final, TypeVar

from amusd_mp.testing.simulation.interruption import counted

T = TypeVar("T")

INSTANT: Final = 200_000
"""Rounds of the loop without time passing after which somebody is spinning; a busy instant has some hundreds."""


class Stalled(RuntimeError):
    """Nothing is ready and no timer is set, or everything happens and no time passes."""


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
    """Time in seconds, 0 at first. `run_until_complete` raises Stalled where a real loop would hang for ever."""

    _scheduled: list[asyncio.TimerHandle]  # the base class's heap of timers

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._spins = 0
        self._serials = count(1)
        self._selector = self  # the base class asks it what is ready
        self._clock_resolution = 1e-9

    def time(self) -> float:
        return self._now

    def select(self, timeout: float | None) -> list[object]:
        """Let the time pass that the base class would wait; nothing ever arrives from outside."""
        if timeout is None:
            raise Stalled(f"at {self._now:.6f} s nothing is ready and no timer is set")
        if timeout > 0:
            self._now = max(self._now, self._scheduled[0].when())
            self._spins = 0
        else:
            self._spins += 1
            if self._spins > INSTANT:
                raise Stalled(f"at {self._now:.6f} s the loop turned {INSTANT} times without time passing")
        return []

    def _process_events(self, event_list: list[object]) -> None:
        """Nothing arrives from outside."""

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


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on a virtual loop of its own and return its result; not from within a running loop."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
