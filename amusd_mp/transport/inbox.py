"""The bounded inbox behind a subscription: what a transport fills and a reader empties.

A message leaves the queue in the same step in which `get` returns it, with no await between, so there is no moment at
which a cancelled reader could hold a message nobody else will see. The inbox knows no socket: a transport pushes into
it from the event loop's thread. When it is full the newest message is dropped and counted, so that what was queued
first keeps its order and one slow reader costs a bounded amount of memory.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from amusd_mp.errors import TransportClosed
from amusd_mp.transport import Received, Subscription


class Inbox(Subscription):
    """A subscription to `prefix` that holds at most `capacity` publications.

    `on_close` is called once, with this inbox, so that its owner forgets it.
    """

    def __init__(self, prefix: str, capacity: int, on_close: Callable[[Inbox], None]) -> None:
        self.prefix = prefix
        self.dropped = 0
        self._capacity = capacity
        self._on_close = on_close
        self._queue: deque[Received] = deque()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._closed = False

    def push(self, message: Received) -> None:
        """Take one publication in, or drop and count it when full. Does nothing once closed."""
        if self._closed:
            return
        if len(self._queue) >= self._capacity:
            self.dropped += 1
            return
        self._queue.append(message)
        self._wake_one()

    async def get(self) -> Received:
        while not self._queue:
            if self._closed:
                raise TransportClosed(f"the subscription to {self.prefix!r} is closed")
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled() and self._queue:
                    self._wake_one()  # the message this reader was woken for is somebody else's now
                raise
            finally:
                if waiter in self._waiting:
                    self._waiting.remove(waiter)
        return self._queue.popleft()

    def get_nowait(self) -> Received | None:
        return self._queue.popleft() if self._queue else None

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        while self._waiting:
            self._wake_one()
        self._on_close(self)

    def _wake_one(self) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        return f"<Inbox {self.prefix!r} {state}, {len(self._queue)} queued, {self.dropped} dropped>"
