"""The gateway's one client: connected to the verify node, reconnected when it must be, shared by all requests.

A verify node that is not there yet is awaited; one that restarts is found again by the client itself. Whether a token
can be made is asked of the verify node with a token, because a hung device still answers everything else.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Final

from amusd_mp.client.client import Client, connect
from amusd_mp.core.messages import StatusReport
from amusd_mp.errors import (
    Busy,
    GenerationTimeout,
    NotReady,
    OperationalError,
    RemoteError,
    RequestTimeout,
    Unreachable,
)
from amusd_mp.gateway.waiting import WaitingLine
from amusd_mp.runtime import Runtime

log = logging.getLogger(__name__)

TRY: Final = 10.0  # seconds to try to connect before saying so again
PROBE: Final = 5.0  # seconds one token may take
FRESH: Final = 2.0  # seconds for which a token made proves that the next one can be

Connect = Callable[..., AbstractAsyncContextManager[Client]]
"""`amusd_mp.connect`, or that with keys."""


class Upstream:
    """Holds the client while there is one. `run` must be running. `resubmit` is the option of every response."""

    def __init__(self, url: str, runtime: Runtime, connect: Connect = connect, resubmit: bool = False) -> None:
        self.url = url
        self.resubmit = resubmit
        self._connect = connect
        self.line = WaitingLine(1)  # one at a time, as long as rows are not known
        self._runtime = runtime
        self._client: Client | None = None
        self._fits = ""  # the life of the verify node that the line has its places from
        self._why = f"not connected to {url} yet"
        self._made_at = float("-inf")
        self._probing = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<Upstream {self.url} {'connected' if self._client else self._why}>"

    async def run(self) -> None:
        """Connect and stay connected until cancelled. Raises what refuses this client for good."""
        while True:
            try:
                async with self._connect(self.url, timeout=TRY, runtime=self._runtime) as client:
                    await self._fit(client)
                    self._client = client
                    log.info("connected to %s at %s", client.model.name, self.url)
                    await asyncio.Event().wait()
            except (Unreachable, RequestTimeout, RemoteError, NotReady, Busy) as error:
                self._why = str(error)
                log.warning("still waiting: %s", error)
            finally:
                self._client = None

    @property
    def client(self) -> Client:
        """The client. Raises NotReady while there is none, or while the verify node is silent."""
        if self._client is None:
            raise NotReady(self._why)
        if not self._client.alive:
            raise NotReady(f"the verify node at {self.url} is silent")
        return self._client

    @property
    def connected(self) -> bool:
        """True while the verify node is heard of."""
        return self._client is not None and self._client.alive

    def made(self) -> None:
        """Note that a token arrived just now."""
        self._made_at = self._runtime.now()

    async def check(self) -> StatusReport:
        """Return the verify node's status if a token can be made. Raises OperationalError with the reason if not."""
        status = await self.client.status(timeout=PROBE)
        if status.state != "ready":
            raise NotReady(f"the verify node is {status.state}")
        async with self._probing:  # many may ask at once; the first one's token answers for all
            if self._runtime.now() - self._made_at > FRESH:
                await self._probe()
        return status

    async def _probe(self) -> None:
        card = self.client.model
        first = (card.eos_ids or (0,))[0]
        try:
            await self.client.generate([first], max_tokens=1, temperature=0.0, timeout=PROBE)
        except Busy:
            return  # every row is at work
        except GenerationTimeout as error:
            raise NotReady(f"the verify node made no token within {PROBE:g} s") from error
        self.made()

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Wait in line for a place at the verify node. Raises Busy when the line, or the wait, is too long."""
        if self._client is not None and self._client.incarnation != self._fits:
            with suppress(OperationalError):  # a silent node is known by its last life
                await self._fit(self._client)
        async with self.line.place():
            yield

    async def _fit(self, client: Client) -> None:
        """Have as many places as the verify node, in its present life, holds sequences."""
        life = client.incarnation
        self.line.resize((await client.status(timeout=PROBE)).max_sequences)
        self._fits = life
