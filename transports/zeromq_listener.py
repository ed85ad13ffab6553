"""The listening end over ZeroMQ: a ROUTER that answers requests, a PUB and a SUB, each bound to an address of its own.

It is told the three addresses and knows nothing of their scheme. While its handlers are all busy it leaves requests in
the ROUTER, so the excess waits with its senders instead of filling this process.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Final

import zmq

from amusd_mp.transport import Handler, Listener, TransportOptions
from amusd_mp.transport.handlers import CONCURRENT, Handlers

from . import zeromq_frames as wire
from .zeromq_endpoint import ZeromqEndpoint

QUEUE: Final = 4 * CONCURRENT
"""Requests and replies ZeroMQ holds per peer. A ROUTER drops what a full peer does not read; a dialler keeps at most
CONCURRENT requests unanswered, so only a peer that ignores its replies ever loses one."""


class ZeromqListener(ZeromqEndpoint, Listener):
    """Open, but bound nowhere until `bind`; `serve` may come any time after it."""

    endpoints: Mapping[str, str]

    def __init__(self, url: str, options: TransportOptions) -> None:
        super().__init__(url, options)
        self.endpoints = {}
        self._handlers = Handlers(url, options.max_request, self._on_room)
        self._control = self._sockets.open(
            zmq.ROUTER, limit=options.max_request, queue=QUEUE, on_frames=self._on_request
        )
        self._control.pause()  # nothing is read before there is a handler for it

    def bind(self, kind: zmq.SocketType, address: str) -> str:
        """Bind the ROUTER, PUB or SUB to a ZeroMQ address and return the real one. Raises zmq.ZMQError."""
        pump = {zmq.ROUTER: self._control, zmq.PUB: self._pub, zmq.SUB: self._sub}[kind]
        pump.socket.bind(address)
        return pump.socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def serve(self, handler: Handler) -> None:
        self._handlers.install(handler)

    async def close(self) -> None:
        self._closed = True
        self._close_subscriptions()
        self._control.pause()
        await self._handlers.close()
        await self._sockets.close()

    def _on_room(self) -> None:
        if self._handlers.ready:
            self._control.resume()

    def _on_request(self, frames: list[bytes]) -> None:
        request = wire.read_question(frames)
        if request is None:
            self.refused += 1
            return
        if len(request.payload) > self._options.max_request:
            self.refused += 1
            text = f"the request has {len(request.payload)} bytes; this listener takes {self._options.max_request}"
            self._reply(request.envelope, text.encode(), True)
            return
        self._handlers.start(request.payload, None, partial(self._reply, request.envelope))
        if not self._handlers.ready:
            self._control.pause()

    def _reply(self, envelope: list[bytes], payload: bytes, failed: bool) -> None:
        if not self._closed:
            self._control.send(wire.answer(envelope, payload, failed))
