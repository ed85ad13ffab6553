"""delay: conformance over inproc, addresses, and that a message is under way for as long as the address says."""

from __future__ import annotations

import asyncio
from itertools import count

import pytest
from stubs import until

from amusd_mp.errors import AddressError
from amusd_mp.testing.conformance import DEADLINE, TransportConformance, echo
from amusd_mp.transport import Listener, Transport, TransportOptions, contract, dial, find, listen
from amusd_mp.transports.delay import DelayQueue, DelayTransport, parse

NAMES = count()


class ListeningDelay(DelayTransport):
    """The suite listens and dials at one URL, so here the delay's own URLs can be listened on."""

    async def listen(self, url: str, options: TransportOptions) -> Listener:
        inner = parse(url)[1]
        listener = await find(inner).listen(inner, options)
        listener.url = url
        return listener


class TestDelay(TransportConformance):
    @pytest.fixture(autouse=True)
    def _listening(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def choose(url: str) -> Transport:
            return ListeningDelay() if url.startswith("delay://") else find(url)

        monkeypatch.setattr(contract, "find", choose)

    def url(self) -> str:
        return f"delay://1/inproc://delayed-{next(NAMES)}"


@pytest.mark.parametrize("url", ["delay://", "delay://x/inproc://a", "delay://-1/inproc://a", "delay://5/nowhere"])
async def test_an_address_names_milliseconds_and_another(url: str) -> None:
    with pytest.raises(AddressError, match="delay://MILLISECONDS/URL"):
        await dial(url)


async def test_a_delayed_address_is_dialled_only() -> None:
    with pytest.raises(AddressError, match="can be dialled, not listened on"):
        await listen("delay://5/inproc://a")


async def test_a_message_takes_its_time_each_way() -> None:
    name = f"inproc://slow-{next(NAMES)}"
    async with await listen(name) as listener, await dial(f"delay://40/{name}") as dialer:
        listener.serve(echo)
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert await dialer.request(b"there and back", DEADLINE) == b"there and back"
        assert loop.time() - began >= 0.08
        await dialer.attach(listener.endpoints)
        heard = listener.subscribe("a/")
        began = loop.time()
        dialer.publish("a/b", b"one way")
        async with asyncio.timeout(DEADLINE):
            assert (await heard.get()).payload == b"one way"
        assert loop.time() - began >= 0.04


async def test_what_is_under_way_is_bounded_and_what_finds_no_room_is_counted() -> None:
    name, room = f"inproc://long-{next(NAMES)}", 3
    async with (
        await listen(name) as listener,
        await dial(f"delay://3600000/{name}", TransportOptions(inbox=room)) as dialer,
    ):
        await dialer.attach(listener.endpoints)
        reader = dialer.subscribe("v/")
        for number in range(10):
            listener.publish("v/x", b"%d" % number)
            await asyncio.sleep(0)  # the relay reads each before the next comes
        await until(lambda: reader.dropped == 10 - room, "the rest to be dropped")
        for number in range(10):
            dialer.publish("d/x", b"%d" % number)
        assert f"{10 - room} unsent" in repr(dialer)


async def test_of_what_is_under_way_the_oldest_arrives() -> None:
    arrived: list[int] = []
    line = DelayQueue(0.0, arrived.append, 2)
    for number in range(5):
        line.put(number)
    await until(lambda: len(arrived) == 2)
    line.put(5)
    await until(lambda: len(arrived) == 3)
    assert (arrived, line.dropped) == ([0, 1, 5], 3)
