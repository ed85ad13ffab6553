"""Handlers answer each request once, stay within their bound, and end with their listener."""

from __future__ import annotations

import asyncio

import pytest

from amusd_mp.transport.handlers import CONCURRENT, Handlers

Replies = list[tuple[bytes, bool]]


def room() -> None:
    """Nobody waits for room here."""


async def one(handler: object, max_reply: int = 100) -> Replies:
    """Return the replies to one request."""
    replies: Replies = []
    done = asyncio.Event()
    handlers = Handlers("test", max_reply, done.set)
    handlers.install(handler)  # type: ignore[arg-type]  # wrong handlers are part of what is tested
    done.clear()
    handlers.start(b"x", None, lambda payload, failed: replies.append((payload, failed)))
    async with asyncio.timeout(5):
        await done.wait()
    await handlers.close()
    return replies


async def test_what_is_not_a_reply_becomes_an_error() -> None:
    async def text(payload: bytes, peer: str | None) -> str:
        return "text"

    async def long(payload: bytes, peer: str | None) -> bytes:
        return bytes(101)

    async def cancels_itself(payload: bytes, peer: str | None) -> bytes:
        raise asyncio.CancelledError

    for handler, said in ((text, b"not bytes"), (long, b"limit is 100"), (cancels_itself, b"was cancelled")):
        [(payload, failed)] = await one(handler)
        assert failed
        assert said in payload


async def test_the_bound_holds_and_room_is_told() -> None:
    release = asyncio.Event()
    told = asyncio.Event()

    async def wait(payload: bytes, peer: str | None) -> bytes:
        await release.wait()
        return payload

    replies: Replies = []
    handlers = Handlers("test", 100, told.set)
    assert not handlers.ready
    handlers.install(wait)
    for _ in range(CONCURRENT):
        assert handlers.ready
        handlers.start(b"x", None, lambda payload, failed: replies.append((payload, failed)))
    assert not handlers.ready
    told.clear()
    release.set()
    async with asyncio.timeout(5):
        await told.wait()
    assert handlers.ready
    await handlers.close()


async def test_a_handler_may_close_its_own_listener() -> None:
    handlers = Handlers("test", 100, room)

    async def drain(payload: bytes, peer: str | None) -> bytes:
        await handlers.close()
        return b"closed"

    replies: Replies = []
    done = asyncio.Event()

    def reply(payload: bytes, failed: bool) -> None:
        replies.append((payload, failed))
        done.set()

    handlers.install(drain)
    handlers.start(b"x", None, reply)
    async with asyncio.timeout(5):
        await done.wait()
    assert replies == [(b"closed", False)]


async def test_a_second_handler_is_refused() -> None:
    handlers = Handlers("test", 100, room)

    async def echo(payload: bytes, peer: str | None) -> bytes:
        return payload

    handlers.install(echo)
    with pytest.raises(RuntimeError, match="called once"):
        handlers.install(echo)
