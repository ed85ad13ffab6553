"""Stamps outgoing messages with who sends them: node id, incarnation and a running number."""

from __future__ import annotations

from amusd_mp.codec import encode
from amusd_mp.core.messages import Envelope, Message


class Sender:
    """One life of one party. `number` grows with every message, so a receiver can order publications of this life."""

    def __init__(self, node: str, incarnation: str) -> None:
        self.node = node
        self.incarnation = incarnation
        self._number = 0

    def __repr__(self) -> str:
        return f"<Sender {self.node}/{self.incarnation} #{self._number}>"

    def seal(self, body: Message) -> bytes:
        """Return the bytes of a message from this party."""
        self._number += 1
        return encode(Envelope(self.node, self.incarnation, self._number, body))
