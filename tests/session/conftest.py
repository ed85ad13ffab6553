"""A hub alone on an in-process name, and envelopes as any peer may send them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import count
from typing import Any

import pytest_asyncio
from stubs import TRUTH, VOCABULARY

from amusd_mp import transport
from amusd_mp.codec import decode
from amusd_mp.core import limits
from amusd_mp.core.messages import Envelope, Hello, Message, NodeState
from amusd_mp.core.params import Speculation
from amusd_mp.runtime import Runtime
from amusd_mp.session.hub import Hub
from amusd_mp.session.peer import Peer
from amusd_mp.session.sender import Sender
from amusd_mp.testing.stub import StubModel

CARD = StubModel(TRUTH, 1, VOCABULARY).card
_NAMES = count()


class Owner:
    """What a hub reports to, and the hub itself."""

    def __init__(self, listener: transport.Listener, incarnation: str) -> None:
        self.requests: list[Envelope] = []
        self.heard: list[tuple[str, Envelope]] = []
        self.left: list[str] = []
        self.hub = Hub(
            listener,
            Sender("verify", incarnation),
            Runtime(),
            speculation=Speculation(),
            approve=lambda hello: None,
            on_request=self._request,
            on_publication=lambda peer, envelope: self.heard.append((peer.node, envelope)),
            on_leave=self._leave,
        )
        self.hub.card = CARD
        self.hub.state = NodeState.READY
        self.hub.open()

    async def _request(self, envelope: Envelope) -> Any:
        self.requests.append(envelope)
        raise KeyError("a bug in the owner")

    def _leave(self, peer: Peer) -> None:
        self.left.append(peer.incarnation)

    async def ask(self, sender: Sender, body: Message, key: str | None = None) -> Message:
        """Send a request as `sender` and return the reply's body."""
        return decode(await self.hub._answer(sender.seal(body), key)).body

    async def greet(self, sender: Sender, role: str = "draft", *, key: str | None = None, **fields: Any) -> Message:
        return await self.ask(sender, Hello(role, (limits.PROTOCOL, limits.PROTOCOL), model=CARD, **fields), key)

    def fall_silent(self) -> None:
        """Have as much time pass as lets go of every draft."""
        now = Runtime().now()
        for beat in range(int(limits.LIVENESS / limits.BEAT) + 2):
            self.hub.forget_silent(now + beat * limits.BEAT)


@pytest_asyncio.fixture
async def owner() -> AsyncIterator[Owner]:
    async with await transport.listen(f"inproc://hub-{next(_NAMES)}") as listener:
        yield Owner(listener, "life-1")
