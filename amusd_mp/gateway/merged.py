"""Several sources of events as one stream, for one caller; what the caller does not read in time is bounded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

Put = Callable[[str, object], Awaitable[None]]
Source = Callable[[Put], Awaitable[None]]
"""Puts (event, data) until it ends; its return ends the stream, for all sources."""

DEEP: Final = 64
"""Events between sources and caller; a source waits beyond them."""


class Merged:
    """`events` reads until the first source has ended; `close` ends the others."""

    def __init__(self, *sources: Source) -> None:
        self._sources = sources
        self._queue: asyncio.Queue[tuple[str, object] | None] = asyncio.Queue(DEEP)
        self._tasks: list[asyncio.Task[None]] = []

    async def events(self) -> AsyncIterator[tuple[str, object]]:
        """Yield events in order of arrival. Raises what a source raises."""
        self._tasks = [asyncio.create_task(self._follow(source), name="live source") for source in self._sources]
        while (event := await self._queue.get()) is not None:
            yield event
        for task in self._tasks:
            if task.done():
                task.result()

    async def _follow(self, source: Source) -> None:
        try:
            await source(self._put)
        finally:
            await self._queue.put(None)

    async def _put(self, event: str, data: object) -> None:
        await self._queue.put((event, data))

    async def close(self) -> None:
        """End every source. Idempotent."""
        for task in self._tasks:
            task.cancel()
        while self._tasks and not all(task.done() for task in self._tasks):
            while not self._queue.empty():  # a source that is ending has a last thing to say
                self._queue.get_nowait()
            await asyncio.wait(self._tasks, timeout=0.05)
