"""What a ZeroMQ listener and a ZeroMQ dialler share: a PUB and a SUB socket, and the subscriptions on the latter.

Who binds and who connects is the difference between the two, and theirs. Publishing is one non-blocking call on the
PUB socket, which drops for a slow reader and never refuses. Everything that arrives on SUB is handed to each
subscription whose prefix fits.
"""

from __future__ import annotations

from collections import Counter

import zmq

from amusd_mp.errors import TransportClosed
from amusd_mp.transport import Endpoint, Subscription, TransportOptions, check_prefix, check_publication
from amusd_mp.transport.inbox import Inbox

from . import zeromq_frames as wire
from .zeromq_socket import Sockets


class ZeromqEndpoint(Endpoint):
    """Publish and subscribe over sockets that a subclass binds or connects."""

    def __init__(self, url: str, options: TransportOptions, *, listening: bool) -> None:
        self.url = url
        self.refused = 0
        self._options = options
        self._listening = listening
        self._denials: Counter[str] = Counter()
        self._closed = False
        self._held = False
        self._inboxes: list[Inbox] = []
        self._interest: dict[bytes, int] = {}
        self._open_sockets()

    def _open_sockets(self) -> None:
        """Open a context with sockets that are neither bound nor connected yet, interests included."""
        options = self._options
        self._sockets = Sockets(self.url, options, listening=self._listening, denied=self._denials)
        # the socket's own queue is as long as one inbox: the same backlog in the same place for every reader
        self._pub = self._sockets.open(zmq.PUB, limit=options.max_topic, queue=options.inbox)
        self._sub = self._sockets.open(
            zmq.SUB, limit=options.max_publication, queue=options.inbox, on_frames=self._on_publication
        )
        for key in self._interest:
            self._sub.socket.setsockopt(zmq.SUBSCRIBE, key)
        if self._held:
            self._sub.pause()

    def publish(self, topic: str, payload: bytes) -> None:
        name = check_publication(topic, payload, self._options)
        if self._closed:
            raise TransportClosed(f"{self.url} is closed", address=self.url)
        self._pub.send([name, payload])

    def subscribe(self, prefix: str) -> Subscription:
        key = check_prefix(prefix, self._options)
        if self._closed:
            raise TransportClosed(f"{self.url} is closed", address=self.url)
        inbox = Inbox(prefix, self._options.inbox, self._forget)
        self._inboxes.append(inbox)
        if key not in self._interest:
            self._sub.socket.setsockopt(zmq.SUBSCRIBE, key)
        self._interest[key] = self._interest.get(key, 0) + 1
        return inbox

    def hold(self) -> None:
        self._held = True
        self._sub.pause()

    def catch_up(self) -> None:
        self._sub.drain()

    def release(self) -> None:
        self._held = False
        self._sub.resume()
        self._sub.drain()

    def _forget(self, inbox: Inbox) -> None:
        self._inboxes.remove(inbox)
        if self._closed:
            return
        key = inbox.prefix.encode()
        self._interest[key] -= 1
        if self._interest[key] == 0:
            del self._interest[key]
            self._sub.socket.setsockopt(zmq.UNSUBSCRIBE, key)

    def _on_publication(self, frames: list[bytes], peer: str | None) -> None:
        message = wire.read_publication(frames, peer, self._options)
        if message is None:
            self.refused += 1
            return
        for inbox in self._inboxes:
            if message.topic.startswith(inbox.prefix):
                inbox.push(message)

    def _close_subscriptions(self) -> None:
        for inbox in list(self._inboxes):
            inbox.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        return f"<{type(self).__name__} {self.url} {state}, {len(self._inboxes)} subscriptions, {self.refused} refused>"
