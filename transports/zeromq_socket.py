"""ZeroMQ sockets on an asyncio loop: a private context, the options every socket gets, and the pumps that read them.

It knows no addresses and no meaning of frames; listener and dialler are built from it. With credentials every socket
is a CURVE socket, and a listener's context has a door that is asked at each handshake. Never fork a process that holds
one of these.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Final

import zmq

from amusd_mp.transport import TransportOptions

from .zeromq_curve import ZAP_ADDRESS, Door, secure_dialling, secure_listening
from .zeromq_pump import OnFrames, Pump

RECONNECT: Final = (20, 500)
"""Milliseconds between attempts to connect: first, and most. A restarted listener is found within half a second."""

HEARTBEAT: Final = (1000, 3000)
"""Milliseconds between ZMTP pings, and of silence after which a link is cut and dialled again (a pulled cable)."""

HANDSHAKE: Final = 5000
"""Milliseconds until a connection that does not finish its ZMTP handshake is closed."""

SMALLEST_LIMIT: Final = 4096
"""Bytes a frame may always have: handshake commands and subscriptions are frames too."""


class Sockets:
    """A private ZeroMQ context and the pumps on it; closing releases every descriptor and thread of both."""

    def __init__(self, name: str, options: TransportOptions, *, listening: bool, denied: Counter[str]) -> None:
        """`denied` counts whom the door turned away; it outlives this context."""
        self._name = name
        self._options = options
        self._listening = listening
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._pumps: list[Pump] = []
        self._monitored: list[zmq.Socket[bytes]] = []
        self._closed = False
        self._terminated: asyncio.Future[None] | None = None
        if listening and options.credentials is not None:
            self._open_door(Door(name, options.credentials, denied))

    def open(
        self,
        kind: zmq.SocketType,
        *,
        limit: int,
        queue: int,
        on_frames: OnFrames | None = None,
        on_idle: Callable[[], None] | None = None,
    ) -> Pump:
        """Open a socket. Frames over twice `limit` bytes cut the sender's connection; `queue` bounds messages held.

        Twice, because a frame that is only somewhat too long can still be refused with an explanation.
        """
        socket: zmq.Socket[bytes] = self._context.socket(kind)
        socket.setsockopt(zmq.IPV6, 1)
        socket.setsockopt(zmq.LINGER, int(self._options.linger * 1000))  # also when nobody closes it: no hang at exit
        socket.setsockopt(zmq.MAXMSGSIZE, max(2 * limit, SMALLEST_LIMIT))
        socket.setsockopt(zmq.SNDHWM, queue)
        socket.setsockopt(zmq.RCVHWM, queue)
        socket.setsockopt(zmq.IMMEDIATE, 1)  # queue for connections that exist: nothing stale is sent on reconnecting
        socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT[0])
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, RECONNECT[1])
        socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE)
        socket.setsockopt(zmq.CONNECT_TIMEOUT, HANDSHAKE)
        socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT[0])
        socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT[1])
        socket.setsockopt(zmq.HEARTBEAT_TTL, HEARTBEAT[1])
        credentials = self._options.credentials
        if credentials is not None:
            (secure_listening if self._listening else secure_dialling)(socket, credentials)
        known = self._listening and credentials is not None
        pump = Pump(socket, f"{self._name} {kind.name}", on_frames, on_idle, with_peer=known)
        self._pumps.append(pump)
        return pump

    def monitor(self, pump: Pump, events: int, on_frames: OnFrames) -> None:
        """Report connection events of a socket; the frames are those of `zmq.utils.monitor`."""
        address = f"inproc://monitor-{len(self._monitored)}"
        pump.socket.monitor(address, events)
        self._monitored.append(pump.socket)
        watcher: zmq.Socket[bytes] = self._context.socket(zmq.PAIR)
        watcher.connect(address)
        self._pumps.append(Pump(watcher, f"{self._name} monitor", on_frames, None))

    def _open_door(self, door: Door) -> None:
        socket: zmq.Socket[bytes] = self._context.socket(zmq.REP)
        socket.setsockopt(zmq.LINGER, 0)
        socket.bind(ZAP_ADDRESS)

        def judge(frames: list[bytes], peer: str | None) -> None:
            pump.send(door.answer(frames))

        pump = Pump(socket, f"{self._name} door", judge, None)
        self._pumps.append(pump)

    async def close(self, linger: float | None = None) -> None:
        """Close every socket and wait until ZeroMQ let go of them, `linger` seconds at most. Idempotent."""
        linger = self._options.linger if linger is None else linger
        if not self._closed:
            self._closed = True
            for socket in self._monitored:
                socket.disable_monitor()
            for pump in self._pumps:
                pump.close(linger)
            # term() blocks while it lingers, and the loop must not
            self._terminated = asyncio.get_running_loop().run_in_executor(None, self._context.term)
        assert self._terminated is not None
        await asyncio.shield(self._terminated)  # a cancelled close still releases everything
