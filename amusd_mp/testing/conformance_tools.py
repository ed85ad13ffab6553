"""What the parts of the conformance suite share: deadlines, waiting for a connection, and where to listen.

No test of the suite sleeps: what may take a while is repeated until it happens, within `DEADLINE`.
"""

from __future__ import annotations

import asyncio
import os
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from typing import Final

import pytest

from amusd_mp.errors import RequestTimeout, Unreachable
from amusd_mp.transport import Dialer, Endpoint, Listener, Received, Subscription, TransportOptions, dial, listen

DEADLINE: Final = 15.0
"""Seconds after which something that has to happen counts as not happening."""

SOON: Final = 0.2
"""Timeout, in seconds, of requests that are meant to time out."""

AGAIN: Final = 0.01
"""Seconds between repetitions of something that is lost until a connection is up."""


_PROBES: Final = count()


async def echo(payload: bytes, peer: str | None) -> bytes:
    """Answer with the request."""
    return payload


async def take(subscription: Subscription) -> Received:
    """Return the next publication within the deadline."""
    async with asyncio.timeout(DEADLINE):
        return await subscription.get()


async def live(publisher: Endpoint, subscription: Subscription, prefix: str) -> None:
    """Return once what `publisher` sends reaches `subscription`, with nothing of this left in its inbox."""
    last = b"last %d" % next(_PROBES)  # another subscription to the same topic sees these too
    async with asyncio.timeout(DEADLINE):
        while True:
            publisher.publish(prefix + "~", b"first")
            try:
                async with asyncio.timeout(AGAIN):
                    await subscription.get()
                    break
            except TimeoutError:
                continue
        publisher.publish(prefix + "~", last)
        while (await subscription.get()).payload != last:
            pass


async def answered(dialer: Dialer, payload: bytes) -> bytes:
    """Repeat a request until it succeeds: a restarted listener needs a moment."""
    async with asyncio.timeout(DEADLINE):
        while True:
            try:
                return await dialer.request(payload, SOON)
            except (Unreachable, RequestTimeout):
                continue


def descriptors() -> int:
    """Return how many file descriptors this process holds; 0 where the system does not tell."""
    for folder in ("/proc/self/fd", "/dev/fd"):
        if os.path.isdir(folder):
            return len(os.listdir(folder))
    return 0


@asynccontextmanager
async def connected(
    url: str, options: TransportOptions | None = None, *, dialers: int = 1
) -> AsyncIterator[tuple[Listener, list[Dialer]]]:
    """Give a listener that echoes and diallers attached to it."""
    async with AsyncExitStack() as stack:
        listener = await stack.enter_async_context(await listen(url, options))
        listener.serve(echo)
        ends = [await stack.enter_async_context(await dial(listener.url, options)) for _ in range(dialers)]
        for end in ends:
            assert await end.request(b"hello", DEADLINE) == b"hello"
            await end.attach(listener.endpoints)
        yield listener, ends


class ConformanceBase(ABC):
    """What the parts of the suite share: where to listen."""

    pytestmark = pytest.mark.asyncio

    @abstractmethod
    def url(self) -> str:
        """Return an address nobody uses, a new one on every call."""

    def free_url(self) -> str | None:
        """Return an address that makes the transport choose (port 0), or None if the scheme has none."""
        return None
