"""Conformance of `listen`, `dial` and `close`: addresses have one owner, and an end that closed leaves nothing."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable

import pytest

from amusd_mp.errors import AddressError, RequestTimeout, TransportClosed, TransportError
from amusd_mp.testing.conformance_tools import (
    DEADLINE,
    SOON,
    ConformanceBase,
    connected,
    descriptors,
    echo,
    live,
)
from amusd_mp.transport import dial, listen


class LifeConformance(ConformanceBase):
    """listen, dial, close."""

    async def test_a_second_listener_is_refused_and_the_first_lives(self) -> None:
        url = self.url()
        async with connected(url) as (_, [dialer]):
            with pytest.raises(AddressError, match="taken"):
                await listen(url)
            assert await dialer.request(b"mine", DEADLINE) == b"mine"

    async def test_a_listener_that_chose_its_address_tells_it(self) -> None:
        url = self.free_url()
        if url is None:
            pytest.skip("the scheme cannot choose an address")
        async with await listen(url) as one, await listen(url) as two:
            assert len({url, one.url, two.url}) == 3
            one.serve(echo)
            async with await dial(one.url) as dialer:
                assert await dialer.request(b"found", DEADLINE) == b"found"

    async def test_close_is_idempotent_and_ends_everything_pending(self) -> None:
        async def never(payload: bytes, peer: str | None) -> bytes:
            await asyncio.get_running_loop().create_future()
            return payload

        async with await listen(self.url()) as listener, await dial(listener.url) as dialer:
            listener.serve(never)
            await dialer.attach(listener.endpoints)
            loop = asyncio.get_running_loop()
            pending = [
                loop.create_task(dialer.request(b"", DEADLINE), name="request"),
                loop.create_task(dialer.subscribe("t/").get(), name="dialler's get"),
                loop.create_task(listener.subscribe("d/").get(), name="listener's get"),
            ]
            with pytest.raises(RequestTimeout):  # by now the first request is with the handler
                await dialer.request(b"", SOON)
            async with asyncio.timeout(DEADLINE):
                for end in (dialer, listener):
                    await asyncio.gather(end.close(), end.close())
                    await end.close()
                results = await asyncio.gather(*pending, return_exceptions=True)
            assert [type(result) for result in results] == [TransportClosed] * 3

    async def test_a_listener_closes_with_requests_in_flight(self) -> None:
        started = asyncio.Event()

        async def never(payload: bytes, peer: str | None) -> bytes:
            started.set()
            await asyncio.get_running_loop().create_future()
            return payload

        async with await listen(self.url()) as listener, await dial(listener.url) as dialer:
            listener.serve(never)
            request = asyncio.get_running_loop().create_task(dialer.request(b"", 5 * SOON), name="request")
            async with asyncio.timeout(DEADLINE):
                await started.wait()
                await listener.close()
                with pytest.raises(TransportError):
                    await request

    async def test_nothing_works_after_close(self) -> None:
        async with connected(self.url()) as (listener, [dialer]):
            await dialer.close()
            await listener.close()
            calls: list[Callable[[], object]] = [
                lambda: listener.publish("t", b""),
                lambda: dialer.publish("t", b""),
                lambda: listener.subscribe("t"),
                lambda: dialer.subscribe("t"),
            ]
            for call in calls:
                with pytest.raises(TransportClosed):
                    call()
            with pytest.raises(TransportClosed):
                await dialer.request(b"", DEADLINE)

    async def test_no_task_and_no_descriptor_is_left_behind(self) -> None:
        async def once() -> None:
            async with connected(self.url(), dialers=2) as (listener, dialers):
                for dialer in dialers:
                    reader = dialer.subscribe("t/")
                    await live(listener, reader, "t/")

        await once()  # what a process opens once and keeps, it opens here
        gc.collect()
        before = descriptors(), len(asyncio.all_tasks())
        for _ in range(3):
            await once()
        gc.collect()
        assert (descriptors(), len(asyncio.all_tasks())) == before
