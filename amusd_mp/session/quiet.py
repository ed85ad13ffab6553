"""While the device computes, leave its core and the interpreter to it: what arrives is read between steps.

Every message handled during a step takes the interpreter's lock from the thread that drives the device, and on a node
pinned to one core the core itself: three windows made a 3 ms step 1 ms longer. Nothing that arrives during a step could
be used before its end anyway. As long as one step follows another, reading is never resumed, only done, for resuming
has its price, too; a long step (a prompt's chunk) is interrupted now and then, so that beats are heard.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Protocol, Self

MOST = 0.1
"""Seconds without reading: far below a beat."""


class Holdable(Protocol):
    """A hub or a link."""

    def hold(self) -> None: ...

    def catch_up(self) -> None: ...

    def release(self) -> None: ...


class Quiet:
    """When a node that computes reads its line: `begin` and `end` bracket each step, `rest` comes before each pause.

    Used around all of it with `with`, which ends with a rest.
    """

    def __init__(self, line: Holdable) -> None:
        self._line = line
        self._breath: asyncio.TimerHandle | None = None  # set while the line is held

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.rest()

    def __repr__(self) -> str:
        return f"<Quiet {self._line!r} {'listens' if self._breath is None else 'reads between steps'}>"

    def begin(self) -> None:
        """A step begins: read nothing, for MOST seconds at a time."""
        if self._breath is None:
            self._line.hold()
            self._breath = asyncio.get_running_loop().call_later(MOST, self._breathe)

    def end(self) -> None:
        """A step has ended: read everything that is there."""
        self._line.catch_up()

    def rest(self) -> None:
        """Nothing is computed for now: read whatever comes. Idempotent."""
        if self._breath is not None:
            self._breath.cancel()
            self._breath = None
            self._line.release()

    def _breathe(self) -> None:
        self._breath = asyncio.get_running_loop().call_later(MOST, self._breathe)
        self._line.catch_up()
