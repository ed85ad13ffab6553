"""Rule: that nobody listens at an address is said only where it is certain; silence is no evidence."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from amusd_mp.transport import dial, listen
from amusd_mp.transports.vacancy import is_vacant

DEADLINE = 15.0


@pytest.mark.parametrize("scheme", ["tcp", "ipc", "inproc", "delay"])
async def test_an_address_is_vacant_when_its_listener_has_gone_and_not_before(scheme: str, tmp_path: Path) -> None:
    urls = {"ipc": f"ipc://{tmp_path}/v.sock", "inproc": "inproc://vacancy"}
    async with await listen(urls.get(scheme, "tcp://127.0.0.1:0")) as listener:

        async def echo(payload: bytes, peer: str | None) -> bytes:
            return payload

        listener.serve(echo)
        async with await dial(f"delay://1/{listener.url}" if scheme == "delay" else listener.url) as dialer:
            assert not await dialer.vacant()
            assert await dialer.request(b"here", DEADLINE) == b"here"
            assert not await dialer.vacant()
            await listener.close()
            async with asyncio.timeout(DEADLINE):  # the dialler has to notice that its connection is gone
                while not await dialer.vacant():  # noqa: ASYNC110  # the kernel tells it, and no event of ours
                    await asyncio.sleep(0.01)


async def test_where_no_connection_is_taken_or_refused_nothing_is_known() -> None:
    with socket.socket() as full:  # nobody accepts: its one place is soon taken, and then none is let in or refused
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = "tcp://{}:{}".format(*full.getsockname())
        for _ in range(3):
            assert not await is_vacant(address)
    assert await is_vacant(address)
