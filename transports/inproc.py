"""`inproc://name`: listener and diallers in one process on one event loop, without a socket.

For tests, simulations and examples. It keeps what a network keeps: bytes only, the same limits, bounded inboxes, the
same errors, a listener that may come after its diallers and come back. Nothing here waits for real time, so it runs
on a loop with a virtual clock. A name belongs to one event loop; another loop needs `ipc` or `tcp`.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from amusd_mp.errors import AddressError, RemoteError, RequestTimeout, TransportClosed, TransportError, Unreachable
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
from amusd_mp.transport.handlers import Handlers
from amusd_mp.transport.inbox import Inbox


@dataclass(slots=True)
class _Hub:
    """One name: who listens on it and who dialled it, on which loop."""

    loop: asyncio.AbstractEventLoop
    listener: InprocListener | None = None
    dialers: dict[InprocDialer, None] = field(default_factory=dict)  # ordered, so that runs repeat


_HUBS: Final[dict[str, _Hub]] = {}


class InprocTransport(Transport):
    """Calls instead of sockets."""

    scheme = "inproc"

    async def listen(self, url: str, options: TransportOptions) -> Listener:
        hub = _hub(url)
        if hub.listener is not None:
            raise AddressError(f"{url!r} is taken by a listener of this process; choose another name", address=url)
        hub.listener = InprocListener(url, options, hub)
        for dialer in list(hub.dialers):
            dialer.send_waiting()
        return hub.listener

    async def dial(self, url: str, options: TransportOptions) -> Dialer:
        hub = _hub(url)
        dialer = InprocDialer(url, options, hub)
        hub.dialers[dialer] = None
        return dialer


def _hub(url: str) -> _Hub:
    """Return the hub of a name, a new one if nobody lives on it. Raises AddressError."""
    name = url.removeprefix("inproc://")
    if not name or name == url:
        raise AddressError(f"{url!r} is not inproc://name", address=url)
    loop = asyncio.get_running_loop()
    hub = _HUBS.get(name)
    if hub is None or hub.loop.is_closed():  # a loop that ended without closing its transports holds no name
        hub = _HUBS[name] = _Hub(loop)
    if hub.loop is not loop:
        raise AddressError(f"{url!r} belongs to another event loop of this process; use ipc or tcp", address=url)
    return hub


def _leave(url: str, hub: _Hub) -> None:
    name = url.removeprefix("inproc://")
    if hub.listener is None and not hub.dialers and _HUBS.get(name) is hub:
        del _HUBS[name]


class _InprocEndpoint(Endpoint):
    """Publish and subscribe by calling the other side's `deliver`."""

    def __init__(self, url: str, options: TransportOptions, hub: _Hub) -> None:
        self.url = url
        self._options = options
        self._hub = hub
        self._inboxes: list[Inbox] = []
        self._closed = False

    def publish(self, topic: str, payload: bytes) -> None:
        check_publication(topic, payload, self._options)
        self._check_open()
        message = Received(topic, bytes(payload))
        for reader in self._readers():
            reader.deliver(message)

    def subscribe(self, prefix: str) -> Subscription:
        check_prefix(prefix, self._options)
        self._check_open()
        inbox = Inbox(prefix, self._options.inbox, self._inboxes.remove)
        self._inboxes.append(inbox)
        return inbox

    def deliver(self, message: Received) -> None:
        """Take one publication of the other side."""
        try:
            check_publication(message.topic, message.payload, self._options)
        except ValueError:
            self.refused += 1
            return
        for inbox in self._inboxes:
            if message.topic.startswith(inbox.prefix):
                inbox.push(message)

    @abstractmethod
    def _readers(self) -> Iterator[_InprocEndpoint]:
        """Return who hears what this end publishes."""

    def _check_open(self) -> None:
        if self._closed:
            raise TransportClosed(f"{self.url} is closed", address=self.url)

    def _close_subscriptions(self) -> None:
        self._closed = True
        for inbox in list(self._inboxes):
            inbox.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        return f"<{type(self).__name__} {self.url} {state}, {len(self._inboxes)} subscriptions>"


class InprocListener(_InprocEndpoint, Listener):
    """The end with the name."""

    def __init__(self, url: str, options: TransportOptions, hub: _Hub) -> None:
        super().__init__(url, options, hub)
        self.endpoints: Mapping[str, str] = {"pub": url, "sub": url}
        self._handlers = Handlers(url, options.max_request, self._on_room)

    def serve(self, handler: Handler) -> None:
        self._handlers.install(handler)

    def take(self, question: _Question) -> bool:
        """Start answering a request. False: no room now, it stays with its dialler."""
        if not self._handlers.ready:
            return False
        if len(question.payload) > self._options.max_request:
            self.refused += 1
            text = f"the request has {len(question.payload)} bytes; this listener takes {self._options.max_request}"
            question.answer(text.encode(), True)
        else:
            self._handlers.start(question.payload, None, question.answer)
        return True

    async def close(self) -> None:
        self._close_subscriptions()
        if self._hub.listener is self:
            self._hub.listener = None
            _leave(self.url, self._hub)
        await self._handlers.close()

    def _readers(self) -> Iterator[_InprocEndpoint]:
        return (dialer for dialer in self._hub.dialers if dialer.attached)

    def _on_room(self) -> None:
        for dialer in list(self._hub.dialers):
            dialer.send_waiting()


@dataclass(slots=True, eq=False)
class _Question:
    """One request on its way: its payload and its reply to come."""

    url: str
    payload: bytes
    max_reply: int
    reply: asyncio.Future[bytes]

    def answer(self, payload: bytes, failed: bool) -> None:
        """Deliver the reply, unless the request was given up."""
        if self.reply.done():
            return
        if failed:
            text = payload.decode(errors="replace")
            self.reply.set_exception(RemoteError(f"{self.url} answered with an error: {text}", address=self.url))
        elif len(payload) <= self.max_reply:
            self.reply.set_result(payload)


class InprocDialer(_InprocEndpoint, Dialer):
    """The end that dials out."""

    def __init__(self, url: str, options: TransportOptions, hub: _Hub) -> None:
        super().__init__(url, options, hub)
        self.attached = False
        self._pending: dict[_Question, None] = {}
        self._waiting: dict[_Question, None] = {}

    async def request(self, payload: bytes, timeout: float) -> bytes:
        check_request(payload, self._options)
        self._check_open()
        loop = asyncio.get_running_loop()
        question = _Question(self.url, bytes(payload), self._options.max_request, loop.create_future())
        self._pending[question] = self._waiting[question] = None
        deadline = loop.call_later(timeout, self._expire, question, timeout)
        try:
            self.send_waiting()
            return await question.reply
        finally:
            deadline.cancel()
            del self._pending[question]
            self._waiting.pop(question, None)
            question.reply.cancel()  # tells a late answer that nobody waits

    async def attach(self, endpoints: Mapping[str, str]) -> None:
        self._check_open()
        if endpoints.get("pub") != self.url or endpoints.get("sub") != self.url:
            raise AddressError(f"{dict(endpoints)} are not the endpoints of {self.url}", address=self.url)
        self.attached = True

    async def vacant(self) -> bool:
        return self._hub.listener is None

    def send_waiting(self) -> None:
        """Hand waiting requests to the listener, as far as there is one with room."""
        while self._waiting:
            question = next(iter(self._waiting))
            if self._hub.listener is None or not self._hub.listener.take(question):
                return
            self._waiting.pop(question, None)

    async def close(self) -> None:
        self._close_subscriptions()
        self.attached = False
        self._hub.dialers.pop(self, None)
        _leave(self.url, self._hub)
        for question in self._pending:
            if not question.reply.done():
                question.reply.set_exception(TransportClosed(f"{self.url} was closed", address=self.url))

    def _readers(self) -> Iterator[_InprocEndpoint]:
        if self.attached and self._hub.listener is not None:
            yield self._hub.listener

    def _expire(self, question: _Question, timeout: float) -> None:
        if question.reply.done():
            return
        error: TransportError
        if question in self._waiting and self._hub.listener is None:
            error = Unreachable(
                f"nobody answers at {self.url} within {timeout:g} s; is a listener of this process using that name?",
                address=self.url,
            )
        else:
            error = RequestTimeout(f"{self.url} did not reply within {timeout:g} s", address=self.url)
        question.reply.set_exception(error)
