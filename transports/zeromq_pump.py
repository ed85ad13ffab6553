"""The pump: one ZeroMQ socket read by an asyncio loop, message by message, nothing lost and nothing without a bound.

Plain non-blocking sockets are watched through their ZMQ_FD instead of `zmq.asyncio`: one callback and no future per
message, so nothing is awaited while a message is between socket and inbox, and no cancellation can lose one. ZMQ_FD is
edge-triggered: it only tells that *something* happened, and any call on the socket may swallow that news. So a pump
reads until the socket says "again", and looks once more after every send.

It knows no meaning of frames, only how many a message of ours can have at most: what a peer sends beyond is read in
small portions and let go.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

import zmq

logger = logging.getLogger(__name__)

BATCH: Final = 64
"""Messages one pump reads before other callbacks of the loop get their turn; also frames that it lets go."""

BATCHES: Final = 16
"""Batches that are read at once where all that is there is asked for."""

FRAMES: Final = 12
"""Frames of a message that are kept: a request through eight brokers has ten, and one more must be seen to be refused.
libzmq itself holds a message until it is complete, so what one peer can make it hold is bounded by MAXMSGSIZE for each
frame alone; only whom the door admitted gets that far."""

OnFrames = Callable[[list[bytes], "str | None"], None]
"""Takes the frames of one message, none for one that had too many, and its sender's public key where that is known."""


class Pump:
    """One socket and the loop's reader for it.

    `on_frames` gets every message; without it the socket is only kept current (a PUB reads its subscriptions this way).
    `on_idle` is called after each round of reading: the moment to try a send that had to wait. `with_peer`: messages
    come with their sender's key, as the door gave it at the handshake.
    """

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        name: str,
        on_frames: OnFrames | None,
        on_idle: Callable[[], None] | None,
        *,
        with_peer: bool = False,
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
        self._with_peer = with_peer
        self._skipping = False  # in the middle of a message that has too many frames
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
        """Read what is there now, without waiting for the loop; of a paused pump, too.

        Some thousand messages at most: who sends faster than they can be read must not keep this process to himself.
        """
        if self._on_frames is not None and not self._closed:
            more = True
            for _ in range(BATCHES):
                more = self._take_batch(self._on_frames, paused=self._paused)
                if self._skipping or not more:
                    break
            if (self._skipping or more) and not self._paused:
                self._read_soon()  # nobody waits for what is only let go, or comes so fast

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

    def _take_batch(self, on_frames: OnFrames, paused: bool = False) -> bool:
        """Read up to BATCH messages and tell whether there may be more; of a pump that is `paused`, too, if told so."""
        for _ in range(BATCH):
            if self._closed or (self._paused and not paused):
                return False
            try:
                if self._skipping:
                    self._skip()
                    continue
                frames, peer = self._receive()
            except zmq.Again:
                return False
            try:
                on_frames(frames, peer)
            except Exception:  # one message must not stop the reading of the next
                logger.exception("%s: a message could not be handled", self._name)
        return True

    def _receive(self) -> tuple[list[bytes], str | None]:
        """Return one message and its sender, without frames if it has too many. Raises zmq.Again."""
        frames: list[bytes] = []
        while True:
            if self._with_peer:
                frame = self.socket.recv(zmq.DONTWAIT, copy=False)
                frames.append(frame.bytes)
                more = frame.more
            else:
                frames.append(self.socket.recv(zmq.DONTWAIT))
                more = bool(self.socket.getsockopt(zmq.RCVMORE))
            if not more:
                return frames, _key_of(frame) if self._with_peer else None
            if len(frames) == FRAMES:
                self._skipping = True
                return [], None

    def _skip(self) -> None:
        """Let one more frame of an overlong message go."""
        self._skipping = self.socket.recv(zmq.DONTWAIT, copy=False).more

    def __repr__(self) -> str:
        state = "closed" if self._closed else "paused" if self._paused else "reading"
        return f"<Pump {self._name} {state}>"


def _key_of(frame: zmq.Frame) -> str | None:
    """Return whom a message is from, None where its connection was not authenticated."""
    try:
        key = frame.get("User-Id")
    except zmq.ZMQError:
        return None
    return key if isinstance(key, str) and key else None
