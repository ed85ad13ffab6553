"""The listening end over ZeroMQ: a ROUTER that answers requests, a PUB and a SUB, each bound to an address of its own.

It is told the three addresses and knows nothing of their scheme. While its handlers are all busy it leaves requests in
the ROUTER, so the excess waits with its senders instead of filling this process.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Mapping
from functools import partial
from typing import Final

import zmq

from amusd_mp.errors import AddressError
from amusd_mp.transport import Handler, Listener, TransportOptions
from amusd_mp.transport.handlers import CONCURRENT, Handlers

from . import zeromq_frames as wire
from .zeromq_endpoint import ZeromqEndpoint
from .zeromq_pump import Pump

QUEUE: Final = 4 * CONCURRENT
"""Requests and replies ZeroMQ holds per peer. A ROUTER drops what a full peer does not read; a dialler keeps at most
CONCURRENT requests unanswered, so only a peer that ignores its replies ever loses one."""

REBIND: Final = 5.0
"""Seconds in which an address that this process just gave up must be free again."""

AGAIN: Final = 0.01
"""Seconds between attempts at that."""

FAILED: Final = "failed_handshake"
FAILURES: Final = zmq.Event.HANDSHAKE_FAILED_PROTOCOL
"""Handshakes that fail before the door is asked: other security, another key than ours."""

SILENT: Final = zmq.Event.HANDSHAKE_FAILED_NO_DETAIL
"""Those that just end. Where keys are asked for, that is somebody without any, or no ZeroMQ at all; where none are, it
is nearly always a client of ours that was gone so soon, and nobody was denied anything."""


class ZeromqListener(ZeromqEndpoint, Listener):
    """Open, but bound nowhere until `bind`; `serve` may come any time after it."""

    endpoints: Mapping[str, str]

    def __init__(self, url: str, options: TransportOptions) -> None:
        self._handlers = Handlers(url, options.max_request, self._on_room)
        self._bound: list[tuple[zmq.SocketType, str]] = []
        self.endpoints = {}
        super().__init__(url, options, listening=True)

    def _open_sockets(self) -> None:
        super()._open_sockets()
        self._control = self._sockets.open(
            zmq.ROUTER, limit=self._options.max_request, queue=QUEUE, on_frames=self._on_request
        )
        self._control.pause()  # nothing is read before there is a handler for it, and room
        failures = FAILURES if self._options.credentials is None else FAILURES | SILENT
        for pump in (self._control, self._pub, self._sub):
            self._sockets.monitor(pump, failures, self._on_failed_handshake)

    @property
    def denied(self) -> Mapping[str, int]:
        return dict(self._denials)

    def bind(self, kind: zmq.SocketType, address: str) -> str:
        """Bind the ROUTER, PUB or SUB to a ZeroMQ address and return the real one. Raises zmq.ZMQError."""
        real = self._bind(kind, address)
        self._bound.append((kind, real))
        return real

    def _bind(self, kind: zmq.SocketType, address: str) -> str:
        pump = {zmq.ROUTER: self._control, zmq.PUB: self._pub, zmq.SUB: self._sub}[kind]
        pump.socket.bind(address)
        return pump.socket.getsockopt_string(zmq.LAST_ENDPOINT)

    async def readmit(self) -> None:
        if self._closed:
            return
        before = self._sockets
        self._open_sockets()
        await before.close(linger=0.0)  # ZeroMQ cannot drop one peer, so all go: with the context, once it has ended
        for kind, address in self._bound:
            await self._bind_again(kind, address)
        self._on_room()

    async def _bind_again(self, kind: zmq.SocketType, address: str) -> None:
        """Bind an address that was ours a moment ago. Raises AddressError if the system does not give it back."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + REBIND
        while not self._closed:
            try:
                self._bind(kind, address)
                return
            except zmq.ZMQError as error:
                if error.errno != errno.EADDRINUSE or loop.time() > deadline:
                    text = f"{address} of {self.url} cannot be bound again: {error.strerror}; restart this node"
                    raise AddressError(text, address=address) from error
            await asyncio.sleep(AGAIN)

    def serve(self, handler: Handler) -> None:
        self._handlers.install(handler)

    async def close(self) -> None:
        self._closed = True
        self._close_subscriptions()
        self._control.pause()
        await self._handlers.close()
        await self._sockets.close()

    def _on_failed_handshake(self, frames: list[bytes], peer: str | None) -> None:
        self._denials[FAILED] += 1

    def _on_room(self) -> None:
        if self._handlers.ready and not self._closed:
            self._control.resume()

    def _on_request(self, frames: list[bytes], peer: str | None) -> None:
        request = wire.read_question(frames)
        if request is None:
            self.refused += 1
            return
        if len(request.payload) > self._options.max_request:
            self.refused += 1
            text = f"the request has {len(request.payload)} bytes; this listener takes {self._options.max_request}"
            self._reply(self._control, request.envelope, text.encode(), True)
            return
        self._handlers.start(request.payload, peer, partial(self._reply, self._control, request.envelope))
        if not self._handlers.ready:
            self._control.pause()

    def _reply(self, control: Pump, envelope: list[bytes], payload: bytes, failed: bool) -> None:
        if control is self._control and not self._closed:  # else the connection that asked is gone
            control.send(wire.answer(envelope, payload, failed))
