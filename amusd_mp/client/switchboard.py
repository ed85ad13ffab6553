"""The connection that all streams of one client share: who hears what, whose lease is renewed, what is to be cancelled.

It hands what arrives to the stream it belongs to, ends streams whose verify node is gone, renews leases, and sends the
cancellations that streams left behind, so that leaving a stream never has to wait.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Final, Protocol, TypeVar

from amusd_mp.core import limits
from amusd_mp.core.messages import (
    Beat,
    Cancel,
    Cancelled,
    Committed,
    DigestEntry,
    Envelope,
    Message,
    Renew,
    Renewed,
    Submit,
    Welcome,
    client_topic,
)
from amusd_mp.errors import AmusdError, OperationalError, RequestError, SequenceLost, TransportClosed
from amusd_mp.runtime import Runtime
from amusd_mp.session.link import Link
from amusd_mp.session.sender import Sender
from amusd_mp.transport import TransportOptions

log = logging.getLogger(__name__)

R = TypeVar("R")

RENEWED_AT_ONCE: Final = 1024
"""Leases that one request renews: far fewer than a verify node can keep, and than a message may name."""


class Subscriber(Protocol):
    """What the switchboard knows of a stream."""

    @property
    def submit(self) -> Submit: ...

    @property
    def submitted(self) -> bool: ...

    def hear(self, window: Committed) -> None: ...

    def compare(self, entry: DigestEntry) -> None: ...

    def fail(self, error: AmusdError) -> None: ...


class Switchboard:
    """One link, and the streams that use it, by sequence."""

    def __init__(
        self, url: str, runtime: Runtime, role: str = "client", options: TransportOptions | None = None
    ) -> None:
        identity = runtime.new_id()
        self.name = f"client-{identity[:8]}"
        self.link = Link(
            url,
            Sender(self.name, identity),
            runtime,
            role=role,
            prefixes=(client_topic(identity),),
            on_publication=self._hear,
            on_lost=self._lost,
            patience=limits.LEASE,  # as long as the verify node keeps what nobody renews
            options=options,
        )
        self.new_id = runtime.new_id
        self.drafting = asyncio.Event()  # set while the verify node's beats say that a draft is joined
        self._streams: dict[str, Subscriber] = {}
        self._to_cancel: dict[str, Cancel] = {}
        self._cancel_now = asyncio.Event()
        self._closing = False
        self._began = asyncio.Event()  # another life of the verify node; cleared by whoever waits for one

    def __repr__(self) -> str:
        return f"<Switchboard {self.link!r} {len(self._streams)} streams>"

    # ------------------------------------------------------------------------------------------ for streams

    async def call(self, request: Message, expect: type[R], left: float | None) -> R:
        """Send a request of a stream that has `left` seconds; errors are those of `ask`."""
        timeout = limits.REQUEST_TIMEOUT if left is None else max(0.01, min(left, limits.REQUEST_TIMEOUT))
        return await self.ask(request, expect, timeout)

    async def ask(self, request: Message, expect: type[R], timeout: float, parameter: str = "prompt") -> R:
        """Send what a caller wrote. Raises RequestError for what cannot be sent, else what `Link.call` raises."""
        try:
            return await self.link.call(request, expect, timeout)
        except (ValueError, OverflowError) as error:  # too long, half a surrogate pair, an integer beyond 64 bits
            raise RequestError(f"this request cannot be sent: {error}", parameter=parameter) from error

    def adopt(self, stream: Subscriber) -> None:
        """Hand a stream what arrives for it from now on. Raises TransportClosed once closed."""
        if self._closing:
            raise TransportClosed("this client is closed", address=self.link.url)
        self._streams[stream.submit.sequence] = stream

    def release(self, stream: Subscriber, cancel: bool) -> None:
        """Let go of a stream, and see that its sequence is cancelled if it has not ended. Never waits."""
        name = stream.submit.sequence
        if self._streams.pop(name, None) is not None and cancel and self.link.alive:
            self._to_cancel[name] = Cancel(name, stream.submit.verify)
            self._cancel_now.set()

    async def another_life(self, than: str, within: float) -> bool:
        """Wait until the verify node is known by another life `than` this one; return whether it is, in time."""
        try:
            async with asyncio.timeout(within):
                while self.link.verify == than:
                    self.link.knock()
                    self._began.clear()
                    await self._began.wait()
        except TimeoutError:
            return False
        return True

    # ------------------------------------------------------------------------------------------ what arrives

    def _hear(self, envelope: Envelope) -> None:
        match envelope.body:
            case Committed() as window:
                stream = self._streams.get(window.sequence)
                if stream is not None:
                    stream.hear(window)
            case Beat() as beat:
                if beat.drafts:
                    self.drafting.set()
                else:
                    self.drafting.clear()
                for entry in beat.digest:
                    stream = self._streams.get(entry.sequence)
                    if stream is not None:
                        stream.compare(entry)
            case _:
                pass

    def _lost(self, welcome: Welcome | None) -> None:
        """Every running stream is lost with the verify node's life."""
        self.drafting.clear()  # that life's; the next one's beats tell of its own
        if welcome is not None:
            self._began.set()
        self._fail_all(SequenceLost(f"the verify node at {self.link.url} {self.link.loss}"))

    def _fail_all(self, error: AmusdError) -> None:
        for stream in list(self._streams.values()):
            stream.fail(error)

    # ------------------------------------------------------------------------------------------ background

    async def listen(self) -> None:
        """Keep the link alive and hear what arrives, until cancelled. Raises what refuses this client for good."""
        try:
            await self.link.run()
        except AmusdError as error:
            self._fail_all(error)
            raise

    async def renew(self) -> None:
        """Extend the leases of all streams, three times per lease and soon after a failure, until cancelled."""
        pause = limits.LEASE / 3
        while True:
            await asyncio.sleep(pause)
            pause = limits.LEASE / 3
            mine = {name: stream.submitted for name, stream in self._streams.items()}
            names = sorted(mine, key=lambda name: not mine[name])  # those first whose lease runs
            try:
                for at in range(0, len(names), RENEWED_AT_ONCE):
                    await self._renew(mine, tuple(names[at : at + RENEWED_AT_ONCE]))
            except OperationalError as error:
                log.debug("%s: leases not renewed: %s", self.name, error)
                pause = limits.BEAT

    async def _renew(self, mine: Mapping[str, bool], names: tuple[str, ...]) -> None:
        """Extend some leases. `mine`: whether each of all streams was known to be admitted when this began."""
        renewed = await self.link.call(Renew(self.link.verify, names), Renewed, limits.LEASE / 3)
        for name in renewed.unknown:
            stream = self._streams.get(name)
            if stream is not None and mine.get(name):  # else its submit was on its way, and may have come since
                stream.fail(SequenceLost(f"the verify node at {self.link.url} no longer has this sequence"))

    async def cancel(self) -> None:
        """Send the cancellations that streams left behind, until cancelled itself."""
        while True:
            await self._cancel_now.wait()
            self._cancel_now.clear()
            await self._send_cancels()

    async def _send_cancels(self) -> None:
        while self._to_cancel:
            request = next(iter(self._to_cancel.values()))
            try:
                await self.link.call(request, Cancelled, limits.REQUEST_TIMEOUT)
            except OperationalError as error:  # its lease ends it
                log.debug("%s: %s not cancelled: %s", self.name, request.sequence, error)
            self._to_cancel.pop(request.sequence, None)

    async def hang_up(self) -> None:
        """Admit no stream any more and cancel those that still run, before the connection goes."""
        self._closing = True
        for stream in list(self._streams.values()):
            stream.fail(TransportClosed("this client was closed", address=self.link.url))
            self.release(stream, cancel=True)
        try:
            async with asyncio.timeout(limits.REQUEST_TIMEOUT):
                await self._send_cancels()
        except TimeoutError:
            log.debug("%s: %d cancellations were not confirmed", self.name, len(self._to_cancel))
