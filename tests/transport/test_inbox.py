"""An inbox keeps order and its bound, and a cancelled reader takes nothing with it."""

from __future__ import annotations

import asyncio

import pytest

from amusd_mp.errors import TransportClosed
from amusd_mp.transport import Received
from amusd_mp.transport.inbox import Inbox


def forget(inbox: Inbox) -> None:
    """Nobody owns the inboxes here."""


def message(n: int) -> Received:
    return Received("t", b"%d" % n)


async def test_the_newest_is_dropped_when_full() -> None:
    inbox = Inbox("t", 2, forget)
    for n in range(5):
        inbox.push(message(n))
    assert inbox.dropped == 3
    assert [inbox.get_nowait() for _ in range(3)] == [message(0), message(1), None]


async def test_a_reader_cancelled_after_being_woken_leaves_the_message_to_the_next() -> None:
    inbox = Inbox("t", 2, forget)
    loop = asyncio.get_running_loop()
    first, second = loop.create_task(inbox.get(), name="first"), loop.create_task(inbox.get(), name="second")
    await asyncio.sleep(0)
    inbox.push(message(0))
    first.cancel()
    async with asyncio.timeout(5):
        assert await second == message(0)
    assert first.cancelled()


async def test_close_wakes_every_reader_and_what_was_queued_can_still_be_read() -> None:
    forgotten: list[Inbox] = []
    inbox = Inbox("t", 2, forgotten.append)
    waiting = [asyncio.get_running_loop().create_task(inbox.get(), name="get") for _ in range(2)]
    await asyncio.sleep(0)
    inbox.close()
    inbox.close()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(result) for result in results] == [TransportClosed] * 2
    assert forgotten == [inbox]

    full = Inbox("t", 2, forget)
    full.push(message(0))
    full.close()
    full.push(message(1))
    assert [m async for m in full] == [message(0)]
    with pytest.raises(TransportClosed):
        await full.get()
