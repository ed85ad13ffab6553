"""Rule: whatever a verify node says, it ends a client's stream by a typed error in bounded time, or not at all."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import msgpack
import pytest_asyncio
from hostile import Mutator
from stubs import Cluster

import amusd_mp
from amusd_mp import transport
from amusd_mp.errors import AmusdError

ROUNDS = 40


class Liar:
    """Stands before an honest verify node and changes what it answers, and what it publishes, now and then."""

    def __init__(self, honest: transport.Dialer, listener: transport.Listener, seed: int) -> None:
        self._honest, self._listener = honest, listener
        self.mutator = Mutator(random.Random(seed))
        self.lies = 0

    def _twisted(self, real: bytes) -> bytes:
        if self.mutator.source.random() < 0.8:
            return real
        self.lies += 1
        return self.mutator.payload(real)[:60_000]

    async def answer(self, payload: bytes, peer: str | None) -> bytes:
        reply = await self._honest.request(payload, 5.0)
        message: Any = msgpack.unpackb(reply, strict_map_key=False)
        if message["t"] != "welcome":
            return self._twisted(reply)
        message["b"]["endpoints"] = list(self._listener.endpoints.items())
        return bytes(msgpack.packb(message))

    async def repeat(self, subscription: transport.Subscription) -> None:
        async for received in subscription:
            self._listener.publish(received.topic, self._twisted(received.payload))


@pytest_asyncio.fixture
async def liar() -> AsyncIterator[tuple[Liar, str]]:
    async with (
        Cluster(drafts=0) as cluster,
        await transport.dial(cluster.url) as honest,
        await transport.listen("inproc://liar") as listener,
    ):
        await honest.attach(dict(cluster.nodes["verify"]._hub.listener.endpoints))  # type: ignore[attr-defined]
        made = Liar(honest, listener, seed=3)
        listener.serve(made.answer)
        repeating = asyncio.create_task(made.repeat(honest.subscribe("")))
        yield made, listener.url
        assert not repeating.done()
        repeating.cancel()


async def test_lies_end_streams_by_typed_errors(liar: tuple[Liar, str]) -> None:
    lies, url = liar
    ended = 0
    for number in range(ROUNDS):
        try:
            async with asyncio.timeout(30), amusd_mp.connect(url, timeout=5) as client:
                await client.generate(f"prompt {number}", max_tokens=12, timeout=2.0)
        except AmusdError:
            ended += 1
    assert lies.lies > ROUNDS
    assert ended > 0
