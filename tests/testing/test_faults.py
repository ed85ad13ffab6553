"""The bad network does what it is told, repeats for a seed, and never changes or invents a message."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count

import pytest

from amusd_mp.errors import RequestTimeout, TransportClosed
from amusd_mp.testing.conformance import DEADLINE, SOON, TransportConformance, echo, take
from amusd_mp.testing.faults import Faults, FaultyDialer, FaultyTransport
from amusd_mp.transport import Dialer, Endpoint, Listener, Subscription, TransportOptions, dial, find, listen

NAMES = count()
SENT = [b"%d" % n for n in range(300)]


@asynccontextmanager
async def link(seed: int = 0) -> AsyncIterator[tuple[Listener, FaultyDialer, Faults]]:
    """Give a sound listener that echoes, a dialler on a link that is still good, and that link's faults."""
    faults = Faults(random.Random(seed))
    async with await listen(f"inproc://faults-{next(NAMES)}") as listener:
        listener.serve(echo)
        async with FaultyDialer(await dial(listener.url), faults) as dialer:
            await dialer.attach(listener.endpoints)
            yield listener, dialer, faults


async def arrivals(publisher: Endpoint, reader: Subscription, faults: Faults) -> list[bytes]:
    """Publish SENT through the faults, then mend the link and read on to a mark that follows everything."""
    for payload in SENT:
        publisher.publish("t/n", payload)
    for _ in SENT:
        await asyncio.sleep(0)  # the link hears them while it is still bad
    faults.drop = faults.duplicate = faults.reorder = 0.0
    faults.delay = (2 * faults.hold, 2 * faults.hold)
    faults.heal()
    publisher.publish("t/end", b"")
    got = []
    while (message := await take(reader)).topic != "t/end":
        got.append(message.payload)
    return got


async def test_a_good_link_changes_nothing() -> None:
    async with link() as (listener, dialer, faults):
        assert await arrivals(listener, dialer.subscribe("t/"), faults) == SENT
        assert await arrivals(dialer, listener.subscribe("t/"), faults) == SENT
        assert await dialer.request(b"ping", DEADLINE) == b"ping"


@pytest.mark.parametrize("outward", [True, False])
async def test_drops_lose_about_their_share_and_keep_order(outward: bool) -> None:
    async with link() as (listener, dialer, faults):
        publisher, hearer = (dialer, listener) if outward else (listener, dialer)
        reader = hearer.subscribe("t/")
        faults.drop = 0.5
        got = await arrivals(publisher, reader, faults)
        assert got == sorted(set(got), key=int)
        assert len(got) == len(SENT) - faults.dropped
        assert 100 < len(got) < 200


@pytest.mark.parametrize("outward", [True, False])
async def test_duplicates_arrive_twice(outward: bool) -> None:
    async with link() as (listener, dialer, faults):
        publisher, hearer = (dialer, listener) if outward else (listener, dialer)
        reader = hearer.subscribe("t/")
        faults.duplicate = 1.0
        assert await arrivals(publisher, reader, faults) == [payload for payload in SENT for _ in range(2)]
        assert faults.duplicated == len(SENT)


async def test_delays_alone_keep_the_order() -> None:
    async with link() as (listener, dialer, faults):
        reader = dialer.subscribe("t/")
        faults.delay = (0.0, 0.02)
        assert await arrivals(listener, reader, faults) == SENT


async def test_reordering_loses_nothing() -> None:
    async with link() as (listener, dialer, faults):
        reader = dialer.subscribe("t/")
        faults.reorder = 0.3
        got = await arrivals(listener, reader, faults)
        assert sorted(got, key=int) == SENT
        assert got != SENT
        assert faults.reordered > 0


async def test_the_same_seed_is_the_same_network() -> None:
    async def run(seed: int) -> list[bytes]:
        async with link(seed) as (listener, dialer, faults):
            reader = dialer.subscribe("t/")
            faults.drop, faults.duplicate = 0.3, 0.3
            return await arrivals(listener, reader, faults)

    assert await run(1) == await run(1)
    assert await run(1) != await run(2)


async def test_a_partition_cuts_both_directions_until_it_heals() -> None:
    async with link() as (listener, dialer, faults):
        down, up = dialer.subscribe("t/"), listener.subscribe("t/")
        faults.partition()
        with pytest.raises(RequestTimeout):
            await dialer.request(b"cut", SOON)
        assert await arrivals(listener, down, faults) == []
        faults.partition()
        assert await arrivals(dialer, up, faults) == []
        assert await dialer.request(b"healed", DEADLINE) == b"healed"


async def test_a_partition_reaches_what_is_on_its_way() -> None:
    async with link() as (listener, dialer, faults):
        reader = dialer.subscribe("t/")
        faults.delay = (0.02, 0.02)
        listener.publish("t/n", b"caught")
        await asyncio.sleep(0)
        faults.partition()
        async with asyncio.timeout(DEADLINE):
            while not faults.dropped:  # noqa: ASYNC110  # a count, and the loop has nothing else to do
                await asyncio.sleep(0)
        faults.heal()
        listener.publish("t/n", b"after")
        assert (await take(reader)).payload == b"after"


async def test_a_lost_reply_means_that_the_request_ran() -> None:
    ran: list[bytes] = []
    twice = asyncio.Event()

    async def note(payload: bytes, peer: str | None) -> bytes:
        ran.append(payload)
        if ran.count(b"twice") == 2:
            twice.set()
        return payload

    async with await listen(f"inproc://faults-{next(NAMES)}") as listener:
        listener.serve(note)
        faults = Faults(random.Random(0), cut_in=True)
        async with FaultyDialer(await dial(listener.url), faults) as dialer:
            with pytest.raises(RequestTimeout):
                await dialer.request(b"once", SOON)
            assert ran == [b"once"]
            faults.heal()
            faults.duplicate = 1.0
            assert await dialer.request(b"twice", DEADLINE) == b"twice"
            async with asyncio.timeout(DEADLINE):
                await twice.wait()


async def test_close_ends_what_waits_on_a_cut_link() -> None:
    async with link() as (_, dialer, faults):
        faults.partition()
        request = asyncio.get_running_loop().create_task(dialer.request(b"", DEADLINE), name="request")
        reading = asyncio.get_running_loop().create_task(dialer.subscribe("t/").get(), name="get")
        await asyncio.sleep(0)
        await dialer.close()
        assert [type(e) for e in await asyncio.gather(request, reading, return_exceptions=True)] == [
            TransportClosed
        ] * 2


class TestHarmlessFaults(TransportConformance):
    """With nothing wrong on the link, a wrapped transport still keeps the contract."""

    def url(self) -> str:
        return f"inproc://harmless-{next(NAMES)}"

    @pytest.fixture(autouse=True)
    def _wrapped(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def opened(url: str) -> FaultyTransport:
            return FaultyTransport(find(url), Faults(random.Random(0)))

        async def faulty_listen(url: str, options: TransportOptions | None = None) -> Listener:
            return await opened(url).listen(url, options or TransportOptions())

        async def faulty_dial(url: str, options: TransportOptions | None = None) -> Dialer:
            return await opened(url).dial(url, options or TransportOptions())

        for part in ("tools", "request", "publish", "life"):
            module = f"amusd_mp.testing.conformance_{part}"
            monkeypatch.setattr(f"{module}.listen", faulty_listen)
            monkeypatch.setattr(f"{module}.dial", faulty_dial)
