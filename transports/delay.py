"""`delay://MILLISECONDS/URL`: any other transport's link with a constant time added to each message, one way.

For measuring what distance does: `delay://30/tcp://10.0.0.1:5601` dials that address, and everything this end sends or
hears, requests and replies too, takes 30 ms longer; order is kept. It dials only, so a listener needs nothing. As many
publications may be under way in one direction as an inbox holds; further ones are dropped. Timers of the event loop are
exact to about a millisecond, so shorter delays come out longer than they read.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

from amusd_mp.errors import AddressError, RequestTimeout, TransportClosed
from amusd_mp.transport import (
    Dialer,
    Listener,
    Received,
    Subscription,
    Transport,
    TransportOptions,
    check_prefix,
    check_publication,
    check_request,
    dial,
)
from amusd_mp.transport.inbox import Inbox

Item = TypeVar("Item")


class DelayTransport(Transport):
    """Another transport's dialler, delayed."""

    scheme = "delay"
    authenticates = True  # if what is behind it does, which opening that finds out

    async def listen(self, url: str, options: TransportOptions) -> Listener:
        raise AddressError(f"{url!r} can be dialled, not listened on; listen on the URL behind the delay", address=url)

    async def dial(self, url: str, options: TransportOptions) -> Dialer:
        seconds, inner = parse(url)
        return DelayDialer(url, await dial(inner, options), seconds, options)


def parse(url: str) -> tuple[float, str]:
    """Return seconds and the URL behind them. Raises AddressError."""
    written, _, inner = url.removeprefix("delay://").partition("/")
    try:
        milliseconds = float(written)
    except ValueError:
        milliseconds = -1.0
    if not 0 <= milliseconds < float("inf") or "://" not in inner:
        raise AddressError(f"{url!r} is not delay://MILLISECONDS/URL", address=url)
    return milliseconds / 1e3, inner


class DelayDialer(Dialer):
    """Wraps a dialler; closing it closes that one.

    `hold`, `catch_up` and `release` do nothing: what is under way arrives when it is due.
    """

    def __init__(self, url: str, inner: Dialer, seconds: float, options: TransportOptions) -> None:
        self.url = url
        self._inner = inner
        self._seconds = seconds
        self._options = options
        self._sending = DelayQueue(seconds, self._send, options.inbox)
        self._relays: set[asyncio.Task[None]] = set()
        self._inboxes: set[Inbox] = set()
        self._closing = asyncio.Event()

    def __repr__(self) -> str:
        return f"<DelayDialer {self._seconds * 1e3:g} ms before {self._inner!r}, {self._sending.dropped} unsent>"

    def publish(self, topic: str, payload: bytes) -> None:
        check_publication(topic, payload, self._options)
        self._check_open()
        self._sending.put((topic, payload))

    def subscribe(self, prefix: str) -> Subscription:
        check_prefix(prefix, self._options)
        self._check_open()
        source = self._inner.subscribe(prefix)

        def forget(inbox: Inbox) -> None:
            source.close()  # ends the task that reads it
            self._inboxes.discard(inbox)

        inbox = Inbox(prefix, self._options.inbox, forget)
        self._inboxes.add(inbox)
        relay = asyncio.get_running_loop().create_task(self._relay(source, inbox), name=f"{self.url} {prefix!r}")
        self._relays.add(relay)
        relay.add_done_callback(self._relays.discard)
        return inbox

    async def request(self, payload: bytes, timeout: float) -> bytes:
        check_request(payload, self._options)
        self._check_open()
        deadline = asyncio.get_running_loop().time() + timeout
        await self._travel(deadline)
        reply = await self._inner.request(payload, max(0.0, deadline - asyncio.get_running_loop().time()))
        await self._travel(deadline)
        return reply

    async def attach(self, endpoints: Mapping[str, str]) -> None:
        await self._inner.attach(endpoints)

    async def vacant(self) -> bool:
        return await self._inner.vacant()

    async def close(self) -> None:
        self._closing.set()
        self._sending.close()
        for inbox in list(self._inboxes):
            inbox.close()
        for relay in self._relays:
            relay.cancel()
        if self._relays:
            await asyncio.wait(set(self._relays))
        await self._inner.close()

    def _send(self, item: tuple[str, bytes]) -> None:
        with contextlib.suppress(TransportClosed):  # it is allowed to be lost
            self._inner.publish(*item)

    async def _relay(self, source: Subscription, inbox: Inbox) -> None:
        line: DelayQueue[Received] = DelayQueue(self._seconds, inbox.push, self._options.inbox)
        lost = 0
        try:
            async for message in source:
                line.put(message)
                inbox.dropped += source.dropped + line.dropped - lost
                lost = source.dropped + line.dropped
        finally:
            line.close()

    async def _travel(self, deadline: float) -> None:
        """Be under way for the delay. Raises RequestTimeout at the deadline, TransportClosed when this end closes."""
        left = deadline - asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(min(self._seconds, left)):
                await self._closing.wait()
        except TimeoutError:
            if self._seconds < left:
                return
            raise RequestTimeout(f"{self.url} did not reply in time", address=self.url) from None
        self._check_open()

    def _check_open(self) -> None:
        if self._closing.is_set():
            raise TransportClosed(f"{self.url} is closed", address=self.url)


class DelayQueue(Generic[Item]):
    """What is under way in one direction, at most `capacity`: delivered in order, each `seconds` after it was put."""

    def __init__(self, seconds: float, deliver: Callable[[Item], None], capacity: int) -> None:
        self.dropped = 0
        self._seconds = seconds
        self._deliver = deliver
        self._capacity = capacity
        self._held: deque[tuple[float, Item]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def put(self, item: Item) -> None:
        """Take something that leaves now, or drop and count it when full."""
        if len(self._held) >= self._capacity:
            self.dropped += 1
            return
        loop = asyncio.get_running_loop()
        self._held.append((loop.time() + self._seconds, item))
        if self._timer is None:
            self._timer = loop.call_at(self._held[0][0], self._arrive)

    def close(self) -> None:
        """Lose what is under way. Idempotent."""
        self._held.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arrive(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        while self._held and self._held[0][0] <= loop.time():
            self._deliver(self._held.popleft()[1])
        if self._held:
            self._timer = loop.call_at(self._held[0][0], self._arrive)
