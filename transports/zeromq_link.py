"""One outgoing connection of a ZeroMQ socket: whether it stands, why not, and dialled again where ZeroMQ gives up.

ZeroMQ reconnects after a lost connection, but not after one on which it read what no ZeroMQ peer sends (a web server on
the port for a moment, a frame over the limit): it closes that one for good without a word. A monitor on the socket
tells the cases apart by what follows a disconnection.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
from collections.abc import Callable
from enum import Enum, auto
from typing import Final

import zmq
from zmq.utils.monitor import parse_monitor_message

from .zeromq_pump import Pump
from .zeromq_socket import Sockets

REVIVE: Final = 0.5
"""Seconds after a disconnection without a retry until the link is dialled anew: ZeroMQ's own longest pause."""

REFUSALS: Final = {
    zmq.Event.HANDSHAKE_FAILED_NO_DETAIL: "something there closes the connection during the handshake",
    zmq.Event.HANDSHAKE_FAILED_PROTOCOL: "something there does not speak ZeroMQ, or not the same security",
    zmq.Event.HANDSHAKE_FAILED_AUTH: "the listener there refuses this peer",
}
FOREIGN: Final = REFUSALS[zmq.Event.HANDSHAKE_FAILED_PROTOCOL]
STALLED: Final = "something there takes the connection and does not answer; is it busy, or stopped?"
WATCHED: Final = (
    zmq.Event.HANDSHAKE_SUCCEEDED
    | zmq.Event.DISCONNECTED
    | zmq.Event.CONNECT_RETRIED
    | zmq.Event.HANDSHAKE_FAILED_NO_DETAIL
    | zmq.Event.HANDSHAKE_FAILED_PROTOCOL
    | zmq.Event.HANDSHAKE_FAILED_AUTH
)
MISMATCH: Final = zmq.Event.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH  # what a failed handshake may say of itself

FAILING: Final = 3
"""Handshakes in a row that must fail before that means something: a listener that ends or begins spoils one or two."""


class State(Enum):
    """What `on_state` is told of the attempts to connect."""

    UP = auto()  # a handshake succeeded
    FAILING = auto()  # handshakes fail again and again, and the other side does not say why
    DENIED = auto()  # the listener said that it does not admit this end


class Link:
    """Keeps one socket connected to one address at a time.

    `connected` is whether the handshake with a peer is done; `refusal` why the last attempt failed, "" if unknown.
    """

    def __init__(self, sockets: Sockets, pump: Pump, on_state: Callable[[State], None] | None = None) -> None:
        self.connected = False
        self.refusal = ""
        self._on_state = on_state or (lambda state: None)
        self._failures = 0
        self._socket = pump.socket
        self._address: str | None = None
        self._revival: asyncio.TimerHandle | None = None
        sockets.monitor(pump, WATCHED, self._on_event)

    def connect(self, address: str) -> None:
        """Connect to `address` instead of whatever was before."""
        self.disconnect()
        self._address = address
        self._socket.connect(address)

    def disconnect(self) -> None:
        """Connect to nothing."""
        self.close()
        if self._address is not None:
            with contextlib.suppress(zmq.ZMQError):  # ZeroMQ may have given the connection up before
                self._socket.disconnect(self._address)
        self._address = None
        self.connected = False

    def close(self) -> None:
        """Stop reviving; the socket is closed by its owner. Idempotent."""
        if self._revival is not None:
            self._revival.cancel()
            self._revival = None

    def _on_event(self, frames: list[bytes], peer: str | None) -> None:
        message = parse_monitor_message(frames)
        event = zmq.Event(message["event"])
        if event == zmq.Event.HANDSHAKE_SUCCEEDED:
            self.connected, self.refusal, self._failures = True, "", 0
            self._on_state(State.UP)
        elif event == zmq.Event.CONNECT_RETRIED:
            self.close()  # ZeroMQ goes on by itself
        elif event == zmq.Event.DISCONNECTED:
            if not self.connected and not self.refusal:
                self.refusal = FOREIGN
            self.connected = False
            if self._address is not None and self._revival is None:
                self._revival = asyncio.get_running_loop().call_later(REVIVE, self._revive, self._address)
        elif event == zmq.Event.HANDSHAKE_FAILED_NO_DETAIL and message["value"] == errno.EAGAIN:
            self.refusal, self._failures = STALLED, 0  # its time was over, nobody hung up: silence refuses nothing
        else:
            self.refusal = REFUSALS[event]
            self._failures += 1
            if event == zmq.Event.HANDSHAKE_FAILED_AUTH:
                self._on_state(State.DENIED)
            elif self._failures >= FAILING or message["value"] == MISMATCH:
                self._on_state(State.FAILING)

    def _revive(self, address: str) -> None:
        self._revival = None
        self.connect(address)

    def __repr__(self) -> str:
        return f"<Link to {self._address} {'up' if self.connected else 'down'}>"
