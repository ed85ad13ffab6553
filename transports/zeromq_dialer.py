"""The dialling end over ZeroMQ: a DEALER with many requests pending, and after `attach` a PUB and a SUB.

Each request has a number that its reply repeats; a reply nobody waits for any more is dropped. A request stays here
until a connection takes it, so one that was given up before is never sent, and one that no connection ever took fails
as Unreachable. ZeroMQ reconnects to the address that it was told; where a name stands for that, it is looked up again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

import zmq

from amusd_mp.errors import (
    AccessDenied,
    AddressError,
    RemoteError,
    RequestTimeout,
    TransportClosed,
    TransportError,
    Unreachable,
)
from amusd_mp.transport import Dialer, TransportOptions, check_request
from amusd_mp.transport.handlers import CONCURRENT

from . import zeromq_frames as wire
from .vacancy import is_vacant
from .zeromq_diagnosis import denial, diagnose
from .zeromq_endpoint import ZeromqEndpoint
from .zeromq_link import Link, State

QUEUE: Final = 16
"""Requests handed to ZeroMQ ahead of the network; the rest wait here, where they can still be taken back."""

LOOK: Final = 3.0
"""Seconds between looks at where the listener is by now, while there is no connection to it."""

Locate = Callable[[str, Mapping[str, str]], tuple[str, str]]
"""Reads a listener's address and its endpoints: the ZeroMQ addresses of its PUB and of its SUB. Raises AddressError."""

Look = Callable[[], Awaitable[str]]
"""Returns the listener's address as it is now. Raises AddressError if that cannot be told."""


@dataclass(slots=True)
class _Pending:
    """One request: its reply to come, and its payload until a connection took it."""

    reply: asyncio.Future[bytes]
    unsent: bytes | None


class ZeromqDialer(ZeromqEndpoint, Dialer):
    """Connects to `address`; `locate` finds the other two from what the listener says of itself.

    `look` is for an address that may change.
    """

    def __init__(
        self, url: str, address: str, locate: Locate, options: TransportOptions, look: Look | None = None
    ) -> None:
        super().__init__(url, options, listening=False)
        self._address = address
        self._locate = locate
        self._endpoints: Mapping[str, str] | None = None  # what it is attached to
        self._attached: tuple[str, str] | None = None
        self._pending: dict[int, _Pending] = {}
        self._waiting: list[int] = []
        self._last = 0
        self._unanswered = 0  # requests a connection took; bounded, so that the listener never has to drop a reply
        self._control = self._sockets.open(
            zmq.DEALER, limit=options.max_request, queue=QUEUE, on_frames=self._on_reply, on_idle=self._send_waiting
        )
        self._denied = ""  # why one side refuses the other, while it does
        self._link = Link(self._sockets, self._control, self._on_link)
        self._diagnosis: asyncio.Task[None] | None = None
        self._sub_link = Link(self._sockets, self._sub)
        self._pub_link = Link(self._sockets, self._pub)
        self._link.connect(address)
        self._following: asyncio.Task[None] | None = None
        if look is not None:
            self._following = asyncio.get_running_loop().create_task(self._follow(look), name=f"{url} address")

    async def request(self, payload: bytes, timeout: float) -> bytes:
        check_request(payload, self._options)
        if self._closed:
            raise TransportClosed(f"{self.url} is closed", address=self.url)
        if self._denied:
            raise AccessDenied(self._denied, address=self.url)
        loop = asyncio.get_running_loop()
        self._last += 1
        number = self._last
        pending = self._pending[number] = _Pending(loop.create_future(), payload)
        self._waiting.append(number)
        deadline = loop.call_later(timeout, self._expire, pending, timeout)
        try:
            self._send_waiting()
            return await pending.reply
        finally:
            deadline.cancel()
            del self._pending[number]
            if pending.unsent is None:
                self._unanswered -= 1
                self._send_waiting()

    async def attach(self, endpoints: Mapping[str, str]) -> None:
        if self._closed:
            raise TransportClosed(f"{self.url} is closed", address=self.url)
        self._reach(endpoints)

    async def vacant(self) -> bool:
        return not self._link.connected and not self._closed and await is_vacant(self._address)

    async def close(self) -> None:
        self._closed = True
        self._close_subscriptions()
        for pending in self._pending.values():
            if not pending.reply.done():
                pending.reply.set_exception(TransportClosed(f"{self.url} was closed", address=self.url))
        for link in (self._link, self._sub_link, self._pub_link):
            link.close()
        tasks = {task for task in (self._diagnosis, self._following) if task is not None}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self._sockets.close()

    def _reach(self, endpoints: Mapping[str, str]) -> None:
        """Connect PUB and SUB to where the endpoints are now."""
        addresses = self._locate(self._address, endpoints)
        self._endpoints = endpoints
        if addresses == self._attached:
            return  # ZeroMQ reconnects by itself; a second connection would double everything
        self._attached = addresses
        self._sub_link.connect(addresses[0])
        self._pub_link.connect(addresses[1])

    async def _follow(self, look: Look) -> None:
        """As long as there is no connection, look now and then where the listener is, and go there."""
        while True:
            await asyncio.sleep(LOOK)
            if self._link.connected:
                continue
            with contextlib.suppress(AddressError):  # nobody knows now: the address as it was may be right yet
                address = await look()
                if address != self._address and not self._link.connected:
                    self._move(address)

    def _move(self, address: str) -> None:
        self._address, self._denied = address, ""
        self._link.connect(address)
        if self._endpoints is not None:
            self._reach(self._endpoints)

    def _send_waiting(self) -> None:
        """Send in order what still waits and was not given up, as far as a connection takes it."""
        while self._waiting and self._unanswered < CONCURRENT and not self._closed:
            pending = self._pending.get(self._waiting[0])
            if pending is not None and pending.unsent is not None:
                if not self._control.send(wire.question(self._waiting[0], pending.unsent)):
                    return
                pending.unsent = None
                self._unanswered += 1
            del self._waiting[0]

    def _on_link(self, state: State) -> None:
        """Hear how attempts to connect go: a denial fails every request at once, failures are looked into."""
        if state is State.UP:
            self._denied = ""
        elif state is State.DENIED:
            self._deny(denial(self.url, self._options.credentials))
        elif not self._closed and not self._denied and (self._diagnosis is None or self._diagnosis.done()):
            self._diagnosis = asyncio.get_running_loop().create_task(self._diagnose(), name=f"{self.url} diagnosis")

    async def _diagnose(self) -> None:
        verdict = await diagnose(self._address, self.url, self._options.credentials)
        if verdict and not self._link.connected:
            self._deny(verdict)

    def _deny(self, why: str) -> None:
        self._denied = why
        for pending in self._pending.values():
            if not pending.reply.done():
                pending.reply.set_exception(AccessDenied(why, address=self.url))

    def _on_reply(self, frames: list[bytes], peer: str | None) -> None:
        answer = wire.read_answer(frames)
        if answer is None:
            self.refused += 1
            return
        pending = self._pending.get(answer.number)
        if pending is None or pending.reply.done():
            return  # late: its request was given up
        if answer.failed:
            text = answer.payload.decode(errors="replace")
            pending.reply.set_exception(RemoteError(f"{self.url} answered with an error: {text}", address=self.url))
        elif len(answer.payload) > self._options.max_request:
            self.refused += 1
        else:
            pending.reply.set_result(answer.payload)

    def _expire(self, pending: _Pending, timeout: float) -> None:
        if pending.reply.done():
            return
        error: TransportError
        if pending.unsent is None or self._link.connected:
            error = RequestTimeout(f"{self.url} did not reply within {timeout:g} s", address=self.url)
        else:
            why = self._link.refusal or "is the node there running, and is the address right?"
            error = Unreachable(f"nobody answers at {self.url} within {timeout:g} s; {why}", address=self.url)
        pending.reply.set_exception(error)
