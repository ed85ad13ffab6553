"""The line in front of the verify node: as many requests at once as it holds sequences, others in order of arrival."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from amusd_mp.errors import Busy

LONGEST: Final = 1024
"""Who may wait; beyond them a caller is told to come again later."""

PATIENCE: Final = 600.0
"""Seconds that one may wait: as long as OpenAI's clients wait for an answer."""


class WaitingLine:
    """`places` may run, others wait. Fair: an `asyncio.Semaphore` serves in order."""

    def __init__(self, places: int, patience: float = PATIENCE) -> None:
        self.places = places
        self._patience = patience
        self._owed = 0  # places to be withdrawn: when one is given up, or at the next arrival
        self.running = 0
        self.waiting = 0
        self._free = asyncio.Semaphore(places)

    def __repr__(self) -> str:
        return f"<WaitingLine {self.running} of {self.places} running, {self.waiting} waiting>"

    def resize(self, places: int) -> None:
        """Have so many places from now on; whoever runs goes on."""
        self._owed -= places - self.places
        self.places = places
        while self._owed < 0:
            self._owed += 1
            self._free.release()

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Hold a place. Raises Busy if too many wait already, or none was free in time. Cancelling gives it up."""
        if self.waiting >= LONGEST:
            raise Busy(f"{self.waiting} requests are waiting already", retry_after=5.0)
        self.waiting += 1
        try:
            async with asyncio.timeout(self._patience):
                await self._free.acquire()
                while self._owed:
                    self._owed -= 1
                    await self._free.acquire()
        except TimeoutError as error:
            raise Busy(f"no place was free within {self._patience:g} s", retry_after=5.0) from error
        finally:
            self.waiting -= 1
        self.running += 1
        try:
            yield
        finally:
            self._leave()

    def _leave(self) -> None:
        self.running -= 1
        if self._owed:
            self._owed -= 1
        else:
            self._free.release()
