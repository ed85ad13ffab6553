"""Keep one node running: start its process, start it again where its policy says so, and tell how it ended.

Knows one node and no other; the launcher holds a keeper for each. A node is started again only if it was ready once:
what never worked would only fail again, and so would what is configured wrong or was refused (exit code 2).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from amusd_mp.errors import NodeFailed
from amusd_mp.launcher.process import NodeProcess, OnEvent
from amusd_mp.log import Event

WORKED: Final = 60.0
"""Seconds of being ready after which a failure counts as a first one again."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Seconds before a failed node is started again: first, first * factor, ..., never more than cap."""

    first: float = 1.0
    factor: float = 2.0
    cap: float = 30.0

    def delay(self, failures: int) -> float:
        """Return the delay after this many failures in a row (1 is the first)."""
        return min(self.cap, self.first * self.factor ** min(failures - 1, 64))


class State(Enum):
    """IDLE -> STARTING -> READY -> (STARTING | DRAINED | STOPPED | FAILED); STOPPED and FAILED also from STARTING."""

    IDLE = "idle"
    STARTING = "starting"
    READY = "ready"
    DRAINED = "drained"  # ended well by itself
    STOPPED = "stopped"  # ended because it was told to
    FAILED = "failed"

    @property
    def over(self) -> bool:
        """True if nothing runs any more."""
        return self in (State.DRAINED, State.STOPPED, State.FAILED)


class Keeper:
    """One node. `run` keeps it until it drains, fails or is told to end; after `renew` it may be run again."""

    def __init__(
        self,
        name: str,
        make: Callable[[], Awaitable[NodeProcess]],
        *,
        restart: bool,
        backoff: Backoff,
        on_event: OnEvent,
        on_change: Callable[[], None],
    ) -> None:
        """`make` returns the next process, when what it needs to know is known. `on_change`: `state` has changed."""
        self.name = name
        self.state = State.IDLE
        self.process: NodeProcess | None = None
        self.failure: NodeFailed | None = None
        self._make = make
        self._restart = restart
        self._backoff = backoff
        self._on_event = on_event
        self._on_change = on_change
        self._told_to_end = asyncio.Event()
        self._over = asyncio.Event()
        self._over.set()
        self._worked = False
        self._ready_at: float | None = None

    def __repr__(self) -> str:
        return f"<Keeper {self.name} {self.state.value} {self.process!r}>"

    @property
    def ending(self) -> bool:
        """True once it was told to end."""
        return self._told_to_end.is_set()

    def terminate(self) -> None:
        """Have the node drain and end."""
        self._told_to_end.set()
        if self.process is not None:
            self.process.terminate()
        self._on_change()

    def kill(self) -> None:
        """End the node at once, as a crash would; it is not started again."""
        self._told_to_end.set()
        if self.process is not None:
            self.process.kill()
        self._on_change()

    async def ended(self, timeout: float | None = None) -> bool:
        """Wait until nothing runs; False if `timeout` seconds were not enough."""
        try:
            async with asyncio.timeout(timeout):
                await self._over.wait()
        except TimeoutError:
            return False
        return True

    def renew(self) -> None:
        """Forget how it ended, so that it may be run again."""
        self._told_to_end.clear()
        self.failure = None
        self._become(State.IDLE)

    async def run(self) -> None:
        """Run the node. Sets `failure` rather than raise, so that one node's end is not another's."""
        self._over.clear()
        self._worked = False
        self._become(State.STARTING)
        end = State.STOPPED
        try:
            end = await self._live()
        finally:
            self._over.set()
            self._become(end)

    async def _live(self) -> State:
        failures = 0
        while True:
            process = await self._make()
            if self._told_to_end.is_set():
                return State.STOPPED
            self.process = process
            self._ready_at = None
            try:
                code = await process.run(self._ready)
            except OSError as error:
                return self._failed(f"cannot be started: {error}", None)
            if self._told_to_end.is_set():
                if code != 0:
                    self._tell(process.reason)
                return State.STOPPED
            if code == 0:
                return State.DRAINED if process.ready else self._failed("ended before it was ready", code)
            if not (self._restart and self._worked and code != 2):
                return self._failed(process.reason, code)
            worked = 0.0 if self._ready_at is None else asyncio.get_running_loop().time() - self._ready_at
            failures = 1 if worked > WORKED else failures + 1
            await self._pause(process.reason, self._backoff.delay(failures))

    def _ready(self) -> None:
        self._worked = True
        self._ready_at = asyncio.get_running_loop().time()
        self._become(State.READY)

    def _failed(self, reason: str, code: int | None) -> State:
        self.failure = NodeFailed(f"{self.name}: {reason}", node=self.name, exit_code=code)
        return State.FAILED

    async def _pause(self, reason: str, delay: float) -> None:
        self._become(State.STARTING)
        self._tell(f"failed: {reason}; started again in {delay:g} s")
        try:
            async with asyncio.timeout(delay):
                await self._told_to_end.wait()
        except TimeoutError:
            return

    def _tell(self, message: str) -> None:
        self._on_event(Event(self.name, message, "warning", time.time()))

    def _become(self, state: State) -> None:
        self.state = state
        self._on_change()
