"""Saying hello: until it is answered, and until what the verify node publishes is known to arrive here.

A subscription travels apart from the requests, and an answered hello proves nothing of it: a hello may carry a nonce,
which the verify node publishes on the dialler's own topic: once that `Barrier` is heard, so is all behind it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from amusd_mp.core.messages import Barrier, Envelope, Hello, Welcome
from amusd_mp.errors import ProtocolError, RequestTimeout, Unreachable
from amusd_mp.runtime import Runtime
from amusd_mp.session.tries import Tries
from amusd_mp.session.unanswered import Deaf

FIRST_WAIT = 0.005
"""Seconds for the barrier to arrive before hello is said again; twice as many each time, up to LONGEST_WAIT."""

LONGEST_WAIT = 0.25


class Introduction:
    """Of one dialler to the verify node at `url`. Deadlines are times on the runtime's clock.

    make: returns the hello that carries such a nonce ("": none)
    ask:  sends a request and returns its reply within so many seconds; raises RequestTimeout or Unreachable
    """

    def __init__(
        self,
        url: str,
        runtime: Runtime,
        tries: Tries,
        *,
        make: Callable[[str], Hello],
        ask: Callable[[Hello, float], Awaitable[Envelope]],
    ) -> None:
        self._url = url
        self._runtime = runtime
        self._tries = tries
        self._make = make
        self._ask = ask
        self._barriers: dict[str, asyncio.Event] = {}  # by nonce

    def __repr__(self) -> str:
        return f"<Introduction to {self._url}, {self.waiting} barriers to come>"

    @property
    def waiting(self) -> int:
        """Barriers that are to come."""
        return len(self._barriers)

    async def hello(self, nonce: str, deadline: float, enough: asyncio.Event | None = None) -> tuple[Welcome, str]:
        """Say hello, again if it goes unanswered, until the deadline or until there was `enough`.

        Returns the welcome and the incarnation that it is from.
        """
        hello = self._make(nonce)
        while True:
            began = self._runtime.now()
            try:
                envelope = await self._ask(hello, min(self._tries.patience, max(0.01, deadline - began)))
                break
            except RequestTimeout:
                self._tries.unanswered()
                if self._runtime.now() >= deadline or (enough is not None and enough.is_set()):
                    raise
        self._tries.answered(self._runtime.now() - began)
        if not isinstance(envelope.body, Welcome):
            raise ProtocolError(f"{self._url} answered hello with {type(envelope.body).__name__}")
        return envelope.body, envelope.incarnation

    async def until_heard(self, deadline: float, endpoints: tuple[tuple[str, str], ...]) -> None:
        """Repeat hello until its nonce comes back on our own topic: only then is the subscription live.

        `endpoints` are those subscribed to, for the error. Raises Deaf when the time is over, and what `hello` raises.
        """
        nonce = self._runtime.new_id()
        arrived = self._barriers[nonce] = asyncio.Event()
        wait = FIRST_WAIT
        try:
            while not arrived.is_set():
                try:
                    await self.hello(nonce, deadline, arrived)
                except (RequestTimeout, Unreachable):
                    if not arrived.is_set():  # else only the answer was lost, and it says nothing that is not known
                        raise
                try:
                    async with asyncio.timeout(wait):
                        await arrived.wait()
                except TimeoutError:
                    if self._runtime.now() >= deadline:
                        raise Deaf(self._url, endpoints) from None
                    wait = min(2 * wait, LONGEST_WAIT)
        finally:
            del self._barriers[nonce]

    def heard(self, barrier: Barrier) -> None:
        """Take a barrier that has arrived, whosever it is."""
        if barrier.nonce in self._barriers:
            self._barriers[barrier.nonce].set()
