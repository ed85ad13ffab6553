"""inproc: conformance, and what is special about names and event loops."""

from __future__ import annotations

import asyncio
from itertools import count

import pytest

from amusd_mp.errors import AddressError
from amusd_mp.testing.conformance import DEADLINE, TransportConformance, echo
from amusd_mp.transport import dial, listen

NAMES = count()


class TestInproc(TransportConformance):
    def url(self) -> str:
        return f"inproc://conformance-{next(NAMES)}"


async def test_a_name_is_needed() -> None:
    for opening in (listen, dial):
        with pytest.raises(AddressError, match="inproc://name"):
            await opening("inproc://")


async def test_another_loop_is_refused() -> None:
    async with await listen("inproc://loops"):
        with pytest.raises(AddressError, match="another event loop"):
            await asyncio.to_thread(asyncio.run, dial("inproc://loops"))


def test_a_name_is_free_again_when_its_loop_ended_without_closing() -> None:
    async def leave() -> None:
        await listen("inproc://left")

    async def reuse() -> None:
        async with await listen("inproc://left") as listener, await dial("inproc://left") as dialer:
            listener.serve(echo)
            assert await dialer.request(b"mine", DEADLINE) == b"mine"

    asyncio.run(leave())
    asyncio.run(reuse())
