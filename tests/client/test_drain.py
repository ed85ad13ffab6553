"""Rule: whoever asks while a verify node ends is told so; nobody is left without an answer."""

from __future__ import annotations

import asyncio
import threading

import pytest
from stubs import DEADLINE, TRUTH, VOCABULARY, Cluster, Held, answer

from amusd_mp.core.messages import Committed
from amusd_mp.errors import NotReady
from amusd_mp.testing.stub import Stub, StubModel, StubTokenizer


class Pondering(StubTokenizer):
    """A tokenizer that takes until it is told to go on."""

    def __init__(self) -> None:
        super().__init__(VOCABULARY)
        self.entered = threading.Event()
        self.go = threading.Event()

    def encode(self, text: str) -> tuple[int, ...]:
        self.entered.set()
        assert self.go.wait(DEADLINE)
        return super().encode(text)


async def test_a_request_still_being_tokenized_when_a_drain_ends_is_refused() -> None:
    tokenizer = Pondering()
    models = {"truth": lambda: Stub(StubModel(TRUTH, 4, VOCABULARY), tokenizer)}
    try:
        async with Cluster(0, models=models) as cluster, cluster.client() as client:
            asking = asyncio.create_task(client.generate("hello", max_tokens=5))
            await asyncio.to_thread(tokenizer.entered.wait, DEADLINE)
            assert await client.drain() == 0
            assert "verify" in cluster.nodes, "it waits for who asked before"
            tokenizer.go.set()
            with pytest.raises(NotReady, match="draining"):
                await asking
            await cluster.ended("verify")
    finally:
        tokenizer.go.set()


async def test_the_end_of_a_response_that_was_missed_is_had_after_the_drain_that_finished_it() -> None:
    held = Held(TRUTH, 4, VOCABULARY)
    async with Cluster(0, models={"truth": lambda: Stub.of(held)}) as cluster, cluster.client() as client:
        async with client.stream("hello", max_tokens=5, timeout=DEADLINE) as stream:
            stream.hear = lost  # type: ignore[method-assign]
            reading = asyncio.create_task(stream.result())
            await asyncio.to_thread(held.entered.wait, DEADLINE)
            assert await client.drain() == 1
            held.go.set()
            assert (await reading).token_ids == answer("hello", 5)
        await cluster.ended("verify")


def lost(window: Committed) -> None:
    """Be a publication that never arrives."""
