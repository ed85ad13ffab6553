"""Conformance of `publish`, `subscribe` and `attach`: whole messages in order, bounded inboxes, cancel-safe `get`."""

from __future__ import annotations

import asyncio
import random

import pytest

from amusd_mp.errors import AddressError
from amusd_mp.testing.conformance_tools import (
    DEADLINE,
    ConformanceBase,
    connected,
    echo,
    live,
    take,
)
from amusd_mp.transport import TransportOptions, dial, listen


class PublishConformance(ConformanceBase):
    """publish, subscribe, attach."""

    async def test_publications_pass_in_both_directions(self) -> None:
        async with connected(self.url()) as (listener, [dialer]):
            down, up = dialer.subscribe("v/"), listener.subscribe("d/")
            await live(listener, down, "v/")
            await live(dialer, up, "d/")
            listener.publish("v/a", b"commit")
            dialer.publish("d/b", b"window")
            got = await take(down), await take(up)
            assert [(m.topic, m.payload) for m in got] == [("v/a", b"commit"), ("d/b", b"window")]

    async def test_empty_and_largest_publications_pass(self) -> None:
        options = TransportOptions()
        async with connected(self.url(), options) as (listener, [dialer]):
            reader = dialer.subscribe("t")
            await live(listener, reader, "t")
            largest = random.Random(0).randbytes(options.max_publication)
            for topic, payload in (("t", b""), ("t" * options.max_topic, largest)):
                listener.publish(topic, payload)
                message = await take(reader)
                assert (message.topic, message.payload) == (topic, payload)

    async def test_topics_and_payloads_over_the_limit_are_refused_at_home(self) -> None:
        options = TransportOptions(max_topic=10, max_publication=100)
        async with connected(self.url(), options) as (listener, [dialer]):
            for end in (listener, dialer):
                for topic, payload in (("t" * 11, b""), ("\u00e9" * 6, b""), ("t", bytes(101))):
                    with pytest.raises(ValueError, match="limit"):
                        end.publish(topic, payload)
                with pytest.raises(ValueError, match="limit"):
                    end.subscribe("t" * 11)

    @pytest.mark.parametrize("size", [101, 60_000])
    async def test_an_oversize_publication_that_arrives_harms_its_sender_alone(self, size: int) -> None:
        async with (
            connected(self.url(), TransportOptions(max_publication=100)) as (listener, [good]),
            await dial(listener.url) as bad,
        ):
            await bad.attach(listener.endpoints)
            reader = listener.subscribe("d/")
            await live(good, reader, "d/")
            await live(bad, reader, "d/")
            bad.publish("d/bad", bytes(size))
            good.publish("d/good", b"fine")
            assert (await take(reader)).topic == "d/good"
            await live(bad, reader, "d/")

    async def test_a_prefix_takes_what_begins_with_it_and_nothing_else(self) -> None:
        async with connected(self.url()) as (listener, [dialer]):
            readers = {prefix: dialer.subscribe(prefix) for prefix in ("v/1", "v/1/", "v/2", "", "\u00e9")}
            for prefix, reader in readers.items():
                await live(listener, reader, prefix)
            for topic in ("v/1", "v/1/a", "v/10", "v/", "V/1", "\u00e9t\u00e9", "x", "end"):
                listener.publish(topic, topic.encode())
            for prefix in readers:
                listener.publish(prefix + "end", b"end")
            got: dict[str, list[str]] = {}
            for prefix, reader in readers.items():
                topics = []
                while (message := await take(reader)).topic != prefix + "end" or message.payload != b"end":
                    topics.append(message.topic)
                got[prefix] = [topic for topic in topics if "~" not in topic and not topic.endswith("end")]
            assert got["v/1"] == ["v/1", "v/1/a", "v/10"]
            assert got["v/1/"] == ["v/1/a"]
            assert got["v/2"] == []
            assert got["\u00e9"] == ["\u00e9t\u00e9"]

    async def test_a_closed_subscription_takes_nothing_and_its_twin_goes_on(self) -> None:
        async with connected(self.url()) as (listener, [dialer]):
            one, two = dialer.subscribe("t/"), dialer.subscribe("t/")
            await live(listener, one, "t/")
            await live(listener, two, "t/")
            one.close()
            one.close()
            listener.publish("t/x", b"more")
            assert (await take(two)).payload == b"more"
            async with asyncio.timeout(DEADLINE):
                assert b"more" not in [message.payload async for message in one]

    async def test_two_subscribers_each_get_everything(self) -> None:
        async with connected(self.url(), dialers=2) as (listener, dialers):
            readers = [dialer.subscribe("t/") for dialer in dialers]
            for reader in readers:
                await live(listener, reader, "t/")
            for n in range(50):
                listener.publish("t/n", b"%d" % n)
            listener.publish("t/end", b"")
            for reader in readers:
                got = []
                while (message := await take(reader)).topic != "t/end":
                    got.append(message)
                assert [m.payload for m in got if m.topic == "t/n"] == [b"%d" % n for n in range(50)]

    async def test_ten_thousand_messages_arrive_in_order(self) -> None:
        async with connected(self.url()) as (listener, [dialer]):
            reader = dialer.subscribe("t/")
            await live(listener, reader, "t/")
            got: list[bytes] = []
            for start in range(0, 10_000, 500):  # delivery is promised only while the reader keeps up
                for n in range(start, start + 500):
                    listener.publish("t/n", b"%d" % n)
                got += [(await take(reader)).payload for _ in range(500)]
            assert got == [b"%d" % n for n in range(10_000)]
            assert reader.dropped == 0

    async def test_publishing_without_a_reader_or_before_attach_is_no_error(self) -> None:
        async with await listen(self.url()) as listener, await dial(listener.url) as dialer:
            for n in range(5000):
                listener.publish("t/n", b"%d" % n)
                dialer.publish("t/n", b"%d" % n)

    async def test_a_subscription_made_before_attach_is_live_after_it(self) -> None:
        async with await listen(self.url()) as listener, await dial(listener.url) as dialer:
            reader = dialer.subscribe("t/")
            await dialer.attach(listener.endpoints)
            await live(listener, reader, "t/")
            assert reader.get_nowait() is None

    async def test_attaching_twice_doubles_nothing(self) -> None:
        async with connected(self.url()) as (listener, [dialer]):
            reader = dialer.subscribe("t/")
            await dialer.attach(listener.endpoints)
            await live(listener, reader, "t/")
            listener.publish("t/once", b"")
            listener.publish("t/end", b"")
            assert [(await take(reader)).topic for _ in range(2)] == ["t/once", "t/end"]

    async def test_attach_refuses_endpoints_it_cannot_read(self) -> None:
        async with connected(self.url()) as (_, [dialer]):
            with pytest.raises(AddressError):
                await dialer.attach({})

    async def test_overflow_is_dropped_and_counted_and_slows_nobody_else(self) -> None:
        room = 1000  # a sender may hear late of what was read, and drops where it knows of that many unread ones
        options = TransportOptions(inbox=room)
        async with connected(self.url(), options, dialers=2) as (listener, [slow, quick]):
            asleep, awake = slow.subscribe("t/"), quick.subscribe("t/")
            await live(listener, asleep, "t/")
            await live(listener, awake, "t/")
            while asleep.get_nowait() is not None:
                pass
            for start in range(0, 2 * room, 50):
                for n in range(start, start + 50):
                    listener.publish("t/n", b"%d" % n)
                assert [(await take(awake)).payload for _ in range(50)] == [b"%d" % n for n in range(start, start + 50)]
            async with asyncio.timeout(DEADLINE):
                while not asleep.dropped:
                    listener.publish("t/n", b"more")
                    await take(awake)
            held = []
            while (message := asleep.get_nowait()) is not None:
                held.append(message.payload)
            assert len(held) <= room
            numbers = [int(payload) for payload in held if payload.isdigit()]  # others are from before and after
            assert numbers[:50] == list(range(50))  # the newest are dropped, the oldest stay
            assert numbers == sorted(set(numbers))  # a transport may drop on the way, too, but never turns the order

    async def test_cancelling_get_in_a_tight_race_loses_nothing(self) -> None:
        source = random.Random(2)
        async with connected(self.url()) as (listener, [dialer]):
            reader = dialer.subscribe("t/")
            await live(listener, reader, "t/")
            got: list[bytes] = []
            sent = 0
            async with asyncio.timeout(DEADLINE):
                while len(got) < 2000:
                    if sent < 2000 and sent - len(got) < 50:
                        listener.publish("t/n", b"%d" % sent)
                        sent += 1
                    task = asyncio.get_running_loop().create_task(reader.get(), name="race")
                    for _ in range(source.randrange(4)):
                        await asyncio.sleep(0)
                    task.cancel()
                    try:
                        got.append((await task).payload)
                    except asyncio.CancelledError:
                        continue
            assert got == [b"%d" % n for n in range(2000)]

    async def test_two_readers_of_one_subscription_share_it_under_cancellation(self) -> None:
        async with connected(self.url()) as (listener, [dialer]):
            reader = dialer.subscribe("t/")
            await live(listener, reader, "t/")
            loop = asyncio.get_running_loop()
            for n in range(100):
                first = loop.create_task(reader.get(), name="first")
                second = loop.create_task(reader.get(), name="second")
                await asyncio.sleep(0)
                listener.publish("t/n", b"%d" % n)
                await asyncio.sleep(0)
                first.cancel()
                async with asyncio.timeout(DEADLINE):
                    done, _ = await asyncio.wait({first, second}, return_when=asyncio.FIRST_COMPLETED)
                    winners = [task for task in done if not task.cancelled()] or [second]
                    assert (await winners[0]).payload == b"%d" % n
                second.cancel()
                await asyncio.gather(first, second, return_exceptions=True)

    async def test_subscriptions_survive_a_restart_on_the_same_url(self) -> None:
        url = self.url()
        async with connected(url) as (listener, [dialer]):
            reader = dialer.subscribe("t/")
            await live(listener, reader, "t/")
            await listener.close()
            async with await listen(url) as again:
                again.serve(echo)
                inbox = again.subscribe("d/")
                await dialer.attach(again.endpoints)
                await live(again, reader, "t/")
                await live(dialer, inbox, "d/")
