"""Rule: texts become ids one at a time, and what comes while too many wait is refused."""

from __future__ import annotations

import asyncio
import threading

import pytest
from stubs import DEADLINE, VOCABULARY, stubs

from amusd_mp.core.ledger import Refusal
from amusd_mp.core.messages import ErrorCode, Tokenize
from amusd_mp.reader import WAITING, Reader
from amusd_mp.runtime import Runtime
from amusd_mp.testing.stub import StubTokenizer


async def test_what_comes_while_too_much_is_waiting_is_refused() -> None:
    go = threading.Event()

    class Held(StubTokenizer):
        def encode(self, text: str) -> tuple[int, ...]:
            go.wait(DEADLINE)
            return super().encode(text)

    reader = Reader(Held(VOCABULARY), stubs()["truth"]().model.card, Runtime(), rows=2)
    try:
        running = [asyncio.create_task(reader.encode(Tokenize("life", text="abc"))) for _ in range(WAITING + 2)]
        await asyncio.sleep(0)
        with pytest.raises(Refusal) as refused:
            await reader.encode(Tokenize("life", text="abc"))
        assert refused.value.reply.code is ErrorCode.BUSY
        go.set()
        assert {len(ids) for ids in await asyncio.gather(*running)} == {3}
        assert len(await reader.encode(Tokenize("life", text="abc"))) == 3
    finally:
        go.set()
        reader.close()
