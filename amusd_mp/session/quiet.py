"""While the device computes, leave its core and the interpreter to it: what arrives is read between steps.

Every message handled during a step takes the interpreter's lock from the thread that drives the device, and on a node
pinned to one core the core itself: three windows made a 3 ms step 1 ms longer. Nothing that arrives during a step could
be used before its end anyway. A long step (a prompt's chunk) is interrupted now and then, so that beats are heard.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

MOST = 0.1
"""Seconds without reading: far below a beat."""


class Holdable(Protocol):
    """A hub or a link."""

    def hold(self) -> None: ...

    def release(self) -> None: ...


@contextmanager
def undisturbed(line: Holdable) -> Iterator[None]:
    """Read nothing from `line` inside the block, for MOST seconds at a time; afterwards everything that is there."""
    loop = asyncio.get_running_loop()
    timer: asyncio.TimerHandle | None = None

    def breathe() -> None:
        nonlocal timer
        line.release()
        line.hold()
        timer = loop.call_later(MOST, breathe)

    line.hold()
    timer = loop.call_later(MOST, breathe)
    try:
        yield
    finally:
        timer.cancel()
        line.release()
