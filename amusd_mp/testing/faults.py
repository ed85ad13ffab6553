"""A bad network around any transport: drops, duplicates, delays, reorders and partitions, seeded and changeable.

`FaultyDialer` puts one link's faults on what its dialler publishes, hears and requests; `FaultyListener` puts them on
what a listener publishes and hears, for all its diallers alike (requests pass: their faults belong to the dialler's
link). `FaultyTransport` wraps every end it opens. All randomness comes from the `random.Random` given, in the order of
calls, and all waiting is the loop's time, so a run on a virtual clock repeats exactly.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from amusd_mp.errors import RequestTimeout, TransportClosed, TransportError
from amusd_mp.transport import (
    Dialer,
    Endpoint,
    Handler,
    Listener,
    Received,
    Subscription,
    Transport,
    TransportOptions,
    check_prefix,
    check_publication,
    check_request,
)
from amusd_mp.transport.inbox import Inbox

Item = TypeVar("Item")

OUT: Final = "out"
IN: Final = "in"


@dataclass(eq=False)
class Faults:
    """What happens to messages from now on; every field may be changed at any time.

    Probabilities are per message. `delay` is the least and most seconds on the way, drawn evenly; order is kept unless
    a message is chosen by `reorder`, which holds it back up to `hold` seconds more while later ones overtake.
    """

    random: random.Random
    drop: float = 0.0
    duplicate: float = 0.0
    delay: tuple[float, float] = (0.0, 0.0)
    reorder: float = 0.0
    hold: float = 0.05
    cut_out: bool = False  # nothing leaves this end
    cut_in: bool = False  # nothing reaches this end
    dropped: int = 0
    duplicated: int = 0
    reordered: int = 0
    delayed: int = 0

    def partition(self) -> None:
        """Cut both directions, messages on their way included."""
        self.cut_out = self.cut_in = True

    def heal(self) -> None:
        """Mend both directions; the probabilities stay as they are."""
        self.cut_out = self.cut_in = False

    def is_cut(self, direction: str) -> bool:
        """Whether nothing passes in this direction now."""
        return self.cut_out if direction == OUT else self.cut_in

    def fate(self, direction: str) -> list[tuple[float, bool]]:
        """Return seconds on the way, and whether it leaves the order, for each copy that will arrive."""
        if self.is_cut(direction) or self.random.random() < self.drop:
            self.dropped += 1
            return []
        copies = 1
        if self.random.random() < self.duplicate:
            self.duplicated += 1
            copies = 2
        return [self._passage() for _ in range(copies)]

    def _passage(self) -> tuple[float, bool]:
        seconds = self.random.uniform(*self.delay)
        self.delayed += seconds > 0
        if self.random.random() < self.reorder:
            self.reordered += 1
            return seconds + self.random.uniform(0.0, self.hold), True
        return seconds, False


class _Line(Generic[Item]):
    """One direction of a link: holds what is on its way and delivers it when it is due."""

    def __init__(self, faults: Faults, direction: str, deliver: Callable[[Item], None]) -> None:
        self._faults = faults
        self._direction = direction
        self._deliver = deliver
        self._held: list[tuple[float, int, Item]] = []
        self._serial = 0
        self._latest = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def send(self, item: Item) -> None:
        now = asyncio.get_running_loop().time()
        for seconds, overtaken in self._faults.fate(self._direction):
            due = now + seconds
            if not overtaken:
                due = self._latest = max(due, self._latest)
            self._serial += 1
            heapq.heappush(self._held, (due, self._serial, item))
        self._deliver_due()

    def close(self) -> None:
        self._held.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _deliver_due(self) -> None:
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._held and self._held[0][0] <= loop.time():
            item = heapq.heappop(self._held)[2]
            if self._faults.is_cut(self._direction):
                self._faults.dropped += 1
            else:
                self._deliver(item)
        if self._held:
            self._timer = loop.call_at(self._held[0][0], self._deliver_due)


class _FaultyEndpoint(Endpoint):
    """Publications in both directions, each through a line of its own."""

    def __init__(self, inner: Endpoint, faults: Faults, options: TransportOptions | None = None) -> None:
        self.url = inner.url
        self.faults = faults
        self._inner = inner
        self._options = options or TransportOptions()
        self._closed = False
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tasks: set[asyncio.Task[None]] = set()
        self._inboxes: list[Inbox] = []
        self._out: _Line[tuple[str, bytes]] = _Line(faults, OUT, lambda item: inner.publish(*item))

    def publish(self, topic: str, payload: bytes) -> None:
        check_publication(topic, payload, self._options)
        self._check_open()
        self._out.send((topic, payload))

    def subscribe(self, prefix: str) -> Subscription:
        check_prefix(prefix, self._options)
        self._check_open()
        source = self._inner.subscribe(prefix)

        def forget(inbox: Inbox) -> None:
            source.close()  # ends the task that reads it
            self._inboxes.remove(inbox)

        inbox = Inbox(prefix, self._options.inbox, forget)
        self._inboxes.append(inbox)
        self._start(self._relay(source, inbox), f"faulty {self.url} {prefix!r}")
        return inbox

    async def close(self) -> None:
        self._closed = True
        self._out.close()
        if not self._ended.done():
            self._ended.set_result(None)
        for inbox in list(self._inboxes):
            inbox.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._inner.close()

    async def _relay(self, source: Subscription, inbox: Inbox) -> None:
        line: _Line[Received] = _Line(self.faults, IN, inbox.push)
        lost = 0
        try:
            async for message in source:
                line.send(message)
                inbox.dropped += source.dropped - lost
                lost = source.dropped
        finally:
            line.close()

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _check_open(self) -> None:
        if self._closed:
            raise TransportClosed(f"{self.url} is closed", address=self.url)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} around {self._inner!r}>"


class FaultyListener(_FaultyEndpoint, Listener):
    """A listener whose publications suffer, those it sends and those it hears."""

    def __init__(self, inner: Listener, faults: Faults, options: TransportOptions | None = None) -> None:
        super().__init__(inner, faults, options)
        self._listener = inner
        self.endpoints: Mapping[str, str] = inner.endpoints

    def serve(self, handler: Handler) -> None:
        self._listener.serve(handler)

    @property
    def denied(self) -> Mapping[str, int]:
        return self._listener.denied

    async def readmit(self) -> None:
        await self._listener.readmit()


class FaultyDialer(_FaultyEndpoint, Dialer):
    """A dialler on a bad link."""

    def __init__(self, inner: Dialer, faults: Faults, options: TransportOptions | None = None) -> None:
        super().__init__(inner, faults, options)
        self._dialer = inner

    async def attach(self, endpoints: Mapping[str, str]) -> None:
        await self._dialer.attach(endpoints)

    async def vacant(self) -> bool:
        cut = self.faults.is_cut(OUT) or self.faults.is_cut(IN)  # then there is no refusal either
        return not cut and await self._dialer.vacant()

    async def request(self, payload: bytes, timeout: float) -> bytes:
        check_request(payload, self._options)
        self._check_open()
        deadline = asyncio.get_running_loop().time() + timeout
        copies = self.faults.fate(OUT)
        for seconds, _ in copies[1:]:
            self._start(self._repeat(payload, seconds, timeout), f"faulty {self.url} duplicate")
        await self._travel(copies, OUT, deadline)
        reply = await self._dialer.request(payload, max(deadline - asyncio.get_running_loop().time(), 0.0))
        await self._travel(self.faults.fate(IN), IN, deadline)
        return reply

    async def _travel(self, copies: list[tuple[float, bool]], direction: str, deadline: float) -> None:
        """Wait until the first copy arrives. Raises RequestTimeout at the deadline if none does, or TransportClosed."""
        loop = asyncio.get_running_loop()
        arrival = min((loop.time() + seconds for seconds, _ in copies), default=deadline)
        if arrival > loop.time():
            await asyncio.wait({self._ended}, timeout=min(arrival, deadline) - loop.time())
        self._check_open()
        if copies and arrival < deadline and not self.faults.is_cut(direction):
            return
        if loop.time() < deadline:  # cut while it was on its way
            await asyncio.wait({self._ended}, timeout=deadline - loop.time())
            self._check_open()
        raise RequestTimeout(f"{self.url} did not reply in time", address=self.url)

    async def _repeat(self, payload: bytes, seconds: float, timeout: float) -> None:
        """Send a second copy; its reply goes nowhere, as a duplicate's does."""
        await asyncio.sleep(seconds)
        if self.faults.is_cut(OUT):
            return
        try:
            await self._dialer.request(payload, timeout)
        except TransportError:
            self.faults.dropped += 1


class FaultyTransport(Transport):
    """Opens ends of `inner` and wraps each; all of them share `faults`."""

    def __init__(self, inner: Transport, faults: Faults) -> None:
        self.scheme = inner.scheme
        self.authenticates = inner.authenticates
        self.faults = faults
        self._inner = inner

    async def listen(self, url: str, options: TransportOptions) -> Listener:
        return FaultyListener(await self._inner.listen(url, options), self.faults, options)

    async def dial(self, url: str, options: TransportOptions) -> Dialer:
        return FaultyDialer(await self._inner.dial(url, options), self.faults, options)
