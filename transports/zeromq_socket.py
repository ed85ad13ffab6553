"""ZeroMQ sockets on an asyncio loop: a private context, the options every socket gets, and the pump that reads one.

Plain non-blocking sockets are watched through their ZMQ_FD instead of `zmq.asyncio`: one callback and no future per
message, so nothing is awaited while a message is between socket and inbox, and no cancellation can lose one. ZMQ_FD is
edge-triggered: it only tells that *something* happened, and any call on the socket may swallow that news. So a pump
reads until the socket says "again", and looks once more after every send.

It knows no addresses and no meaning of frames; listener and dialler are built from it. Never fork a process that holds
one of these.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

import zmq

from amusd_mp.transport import TransportOptions

logger = logging.getLogger(__name__)

BATCH: Final = 64
"""Messages one pump reads before other callbacks of the loop get their turn."""

RECONNECT: Final = (20, 500)
"""Milliseconds between attempts to connect: first, and most. A restarted listener is found within half a second."""

HEARTBEAT: Final = (1000, 3000)
"""Milliseconds between ZMTP pings, and of silence after which a link is cut and dialled again (a pulled cable)."""

HANDSHAKE: Final = 5000
"""Milliseconds until a connection that does not finish its ZMTP handshake is closed."""

SMALLEST_LIMIT: Final = 4096
"""Bytes a frame may always have: handshake commands and subscriptions are frames too."""

OnFrames = Callable[[list[bytes]], None]


class Pump:
    """One socket and the loop's reader for it.

    `on_frames` gets every message; without it the socket is only kept current (a PUB reads its subscriptions this way).
    `on_idle` is called after each round of reading: the moment to try a send that had to wait.
    """

    def __init__(
        self, socket: zmq.Socket[bytes], name: str, on_frames: OnFrames | None, on_idle: Callable[[], None] | None
    ) -> None:
        self.socket = socket
        self._name = name
        self._on_frames = on_frames
        self._on_idle = on_idle
        self._loop = asyncio.get_running_loop()
        self._fd: int = socket.getsockopt(zmq.FD)  # type: ignore[assignment]  # an int for this option
        self._again: asyncio.Handle | None = None
        self._paused = False
        self._closed = False
        self._loop.add_reader(self._fd, self._read)
        self._read_soon()  # ZeroMQ signals a reader only after that reader once found nothing

    def send(self, frames: list[bytes]) -> bool:
        """Hand one whole message to ZeroMQ without waiting. False: it takes none now."""
        try:
            self.socket.send_multipart(frames, zmq.DONTWAIT)
            sent = True
        except zmq.Again:
            sent = False
        if self._on_frames is not None and not self._paused:
            # the call may have swallowed the news that a message is there, or that a connection is now
            events = self._events()
            if events & zmq.POLLIN or (events & zmq.POLLOUT and not sent):
                self._read_soon()
        return sent

    def pause(self) -> None:
        """Leave messages with ZeroMQ, and so in the end at their senders."""
        if not self._paused and not self._closed:
            self._paused = True
            self._loop.remove_reader(self._fd)  # the descriptor would stay readable, and the loop would spin

    def resume(self) -> None:
        """Read again after `pause`."""
        if self._paused and not self._closed:
            self._paused = False
            self._loop.add_reader(self._fd, self._read)
            self._read_soon()

    def drain(self) -> None:
        """Read what is there now, without waiting for the loop."""
        if self._on_frames is not None and not self._paused and not self._closed:
            while self._take_batch(self._on_frames):
                pass

    def close(self, linger: float) -> None:
        """Stop reading and close the socket; ZeroMQ sends what is left for `linger` seconds. Idempotent."""
        if self._closed:
            return
        self._closed = True
        if self._again is not None:
            self._again.cancel()
        if not self._paused:
            self._loop.remove_reader(self._fd)
        self.socket.close(linger=int(linger * 1000))

    def _events(self) -> int:
        return self.socket.getsockopt(zmq.EVENTS)  # type: ignore[return-value]  # an int for this option

    def _read_soon(self) -> None:
        if self._again is None:
            self._again = self._loop.call_soon(self._read)

    def _read(self) -> None:
        if self._again is not None:
            self._again.cancel()
            self._again = None
        if self._on_frames is None:
            self._events()
        elif self._take_batch(self._on_frames):
            self._read_soon()
        if self._on_idle is not None and not self._closed:
            self._on_idle()

    def _take_batch(self, on_frames: OnFrames) -> bool:
        """Read up to BATCH messages and tell whether there may be more."""
        for _ in range(BATCH):
            if self._paused or self._closed:
                return False
            try:
                frames = self.socket.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                return False
            try:
                on_frames(frames)
            except Exception:  # one message must not stop the reading of the next
                logger.exception("%s: a message could not be handled", self._name)
        return True

    def __repr__(self) -> str:
        state = "closed" if self._closed else "paused" if self._paused else "reading"
        return f"<Pump {self._name} {state}>"


class Sockets:
    """A private ZeroMQ context and the pumps on it; closing releases every descriptor and thread of both."""

    def __init__(self, name: str, options: TransportOptions) -> None:
        self._name = name
        self._options = options
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._pumps: list[Pump] = []
        self._monitored: list[zmq.Socket[bytes]] = []
        self._closed = False
        self._terminated: asyncio.Future[None] | None = None

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
        pump = Pump(socket, f"{self._name} {kind.name}", on_frames, on_idle)
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

    async def close(self) -> None:
        """Close every socket and wait until ZeroMQ let go of them, `linger` seconds at most. Idempotent."""
        if not self._closed:
            self._closed = True
            for socket in self._monitored:
                socket.disable_monitor()
            for pump in self._pumps:
                pump.close(self._options.linger)
            # term() blocks while it lingers, and the loop must not
            self._terminated = asyncio.get_running_loop().run_in_executor(None, self._context.term)
        assert self._terminated is not None
        await asyncio.shield(self._terminated)  # a cancelled close still releases everything
