"""What every transport must do, as a test class to inherit: for our own transports and for yours.

    from amusd_mp.testing.conformance import TransportConformance

    class TestMyTransport(TransportConformance):
        def url(self) -> str:
            return "mine://" + ...   # a fresh address on every call, which can be listened on again after a close

It needs pytest and pytest-asyncio, and the transport registered as an entry point of the group
`amusd_mp.transports`, because it is opened by URL like any other. Override `free_url` where the scheme can choose an
address by itself (port 0), and `ordered` where it reorders. The class knows no transport; what it tests is the
contract in `amusd_mp.transport`, and nothing that contract leaves open. No test sleeps: what may take a while is
repeated until it happens, within `DEADLINE`.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from typing import Final

import pytest

from amusd_mp.errors import AddressError, RemoteError, RequestTimeout, TransportClosed, TransportError, Unreachable
from amusd_mp.transport import Dialer, Endpoint, Listener, Received, Subscription, TransportOptions, dial, listen

DEADLINE: Final = 15.0
"""Seconds after which something that has to happen counts as not happening."""

SOON: Final = 0.2
"""Timeout, in seconds, of requests that are meant to time out."""

AGAIN: Final = 0.01
"""Seconds between repetitions of something that is lost until a connection is up."""


_PROBES: Final = count()


async def echo(payload: bytes, peer: str | None) -> bytes:
    """Answer with the request."""
    return payload


async def take(subscription: Subscription) -> Received:
    """Return the next publication within the deadline."""
    async with asyncio.timeout(DEADLINE):
        return await subscription.get()


async def live(publisher: Endpoint, subscription: Subscription, prefix: str) -> None:
    """Return once what `publisher` sends reaches `subscription`, with nothing of this left in its inbox."""
    last = b"last %d" % next(_PROBES)  # another subscription to the same topic sees these too
    async with asyncio.timeout(DEADLINE):
        while True:
            publisher.publish(prefix + "~", b"first")
            try:
                async with asyncio.timeout(AGAIN):
                    await subscription.get()
                    break
            except TimeoutError:
                continue
        publisher.publish(prefix + "~", last)
        while (await subscription.get()).payload != last:
            pass


async def answered(dialer: Dialer, payload: bytes) -> bytes:
    """Repeat a request until it succeeds: a restarted listener needs a moment."""
    async with asyncio.timeout(DEADLINE):
        while True:
            try:
                return await dialer.request(payload, SOON)
            except (Unreachable, RequestTimeout):
                continue


def descriptors() -> int:
    """Return how many file descriptors this process holds; 0 where the system does not tell."""
    for folder in ("/proc/self/fd", "/dev/fd"):
        if os.path.isdir(folder):
            return len(os.listdir(folder))
    return 0


@asynccontextmanager
async def connected(
    url: str, options: TransportOptions | None = None, *, dialers: int = 1
) -> AsyncIterator[tuple[Listener, list[Dialer]]]:
    """Give a listener that echoes and diallers attached to it."""
    async with AsyncExitStack() as stack:
        listener = await stack.enter_async_context(await listen(url, options))
        listener.serve(echo)
        ends = [await stack.enter_async_context(await dial(listener.url, options)) for _ in range(dialers)]
        for end in ends:
            assert await end.request(b"hello", DEADLINE) == b"hello"
            await end.attach(listener.endpoints)
        yield listener, ends


class ConformanceBase(ABC):
    """What the parts of the suite share: where to listen."""

    pytestmark = pytest.mark.asyncio

    @abstractmethod
    def url(self) -> str:
        """Return an address nobody uses, a new one on every call."""

    def free_url(self) -> str | None:
        """Return an address that makes the transport choose (port 0), or None if the scheme has none."""
        return None


class RequestConformance(ConformanceBase):
    """request, serve."""

    async def test_request_round_trip(self) -> None:
        async with connected(self.url()) as (_, [dialer]):
            assert await dialer.request(b"ping", DEADLINE) == b"ping"

    async def test_empty_and_largest_requests_and_replies_pass(self) -> None:
        options = TransportOptions()
        async with connected(self.url(), options) as (_, [dialer]):
            assert await dialer.request(b"", DEADLINE) == b""
            largest = random.Random(0).randbytes(options.max_request)
            assert await dialer.request(largest, DEADLINE) == largest

    async def test_an_oversize_request_is_refused_at_home(self) -> None:
        options = TransportOptions(max_request=1000)
        async with connected(self.url(), options) as (_, [dialer]):
            with pytest.raises(ValueError, match="1001"):
                await dialer.request(bytes(1001), DEADLINE)
            assert await dialer.request(bytes(1000), DEADLINE) == bytes(1000)

    @pytest.mark.parametrize("size", [1001, 400_000])
    async def test_an_oversize_request_that_arrives_harms_its_sender_alone(self, size: int) -> None:
        async with (
            connected(self.url(), TransportOptions(max_request=1000)) as (listener, [good]),
            await dial(listener.url, TransportOptions(max_request=500_000)) as bad,
        ):
            with pytest.raises((RemoteError, RequestTimeout, Unreachable)):
                await bad.request(bytes(size), SOON)
            assert await good.request(b"still here", DEADLINE) == b"still here"
            assert await answered(bad, b"forgiven") == b"forgiven"

    async def test_an_oversize_reply_is_an_error(self) -> None:
        async def verbose(payload: bytes, peer: str | None) -> bytes:
            return bytes(1001)

        options = TransportOptions(max_request=1000)
        async with await listen(self.url(), options) as listener, await dial(listener.url, options) as dialer:
            listener.serve(verbose)
            with pytest.raises(RemoteError):
                await dialer.request(b"", DEADLINE)

    async def test_a_hundred_requests_at_once_each_get_their_own_reply(self) -> None:
        arrived: list[asyncio.Future[bytes]] = []
        everyone = asyncio.Event()

        async def backwards(payload: bytes, peer: str | None) -> bytes:
            future = asyncio.get_running_loop().create_future()
            arrived.append(future)
            if len(arrived) == 100:
                everyone.set()
            await future
            return payload

        async with await listen(self.url()) as listener, await dial(listener.url) as dialer:
            listener.serve(backwards)
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(dialer.request(b"%d" % n, DEADLINE), name=f"ask {n}") for n in range(100)]
                async with asyncio.timeout(DEADLINE):
                    await everyone.wait()
                for future in reversed(arrived):
                    future.set_result(b"")
            assert [task.result() for task in tasks] == [b"%d" % n for n in range(100)]

    async def test_more_requests_than_handlers_are_all_answered(self) -> None:
        async with connected(self.url()) as (_, [dialer]):
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(dialer.request(b"%d" % n, DEADLINE), name=f"ask {n}") for n in range(1000)]
            assert [task.result() for task in tasks] == [b"%d" % n for n in range(1000)]

    async def test_after_a_timeout_the_same_peer_answers_and_the_late_reply_reaches_nobody(self) -> None:
        release = asyncio.Event()
        done = asyncio.Event()

        async def slow_once(payload: bytes, peer: str | None) -> bytes:
            if payload == b"slow":
                await release.wait()
                done.set()
            return payload

        async with await listen(self.url()) as listener, await dial(listener.url) as dialer:
            listener.serve(slow_once)
            assert await dialer.request(b"quick", DEADLINE) == b"quick"
            with pytest.raises(RequestTimeout):
                await dialer.request(b"slow", SOON)
            assert await dialer.request(b"next", DEADLINE) == b"next"
            release.set()
            async with asyncio.timeout(DEADLINE):
                await done.wait()
            for n in range(20):
                assert await dialer.request(b"%d" % n, DEADLINE) == b"%d" % n

    async def test_a_cancelled_request_leaves_nothing_to_the_next(self) -> None:
        source = random.Random(1)
        async with connected(self.url()) as (_, [dialer]):
            for n in range(200):
                task = asyncio.get_running_loop().create_task(dialer.request(b"lost %d" % n, DEADLINE), name="lost")
                for _ in range(source.randrange(6)):
                    await asyncio.sleep(0)
                task.cancel()
                assert await dialer.request(b"%d" % n, DEADLINE) == b"%d" % n
                await asyncio.gather(task, return_exceptions=True)

    async def test_a_handler_exception_becomes_a_remote_error_and_the_listener_lives(self) -> None:
        async def picky(payload: bytes, peer: str | None) -> bytes:
            if payload == b"bad":
                raise LookupError("no such thing")
            return payload

        async with await listen(self.url()) as listener, await dial(listener.url) as dialer:
            listener.serve(picky)
            with pytest.raises(RemoteError, match="no such thing"):
                await dialer.request(b"bad", DEADLINE)
            assert await dialer.request(b"good", DEADLINE) == b"good"

    async def test_serve_is_called_once(self) -> None:
        async with connected(self.url()) as (listener, _):
            with pytest.raises(RuntimeError):
                listener.serve(echo)

    async def test_a_dialler_may_come_first(self) -> None:
        url = self.url()
        async with await dial(url) as dialer:
            with pytest.raises(Unreachable, match="nobody answers"):
                await dialer.request(b"too early", SOON)
            async with await listen(url) as listener:
                listener.serve(echo)
                assert await dialer.request(b"in time", DEADLINE) == b"in time"

    async def test_a_request_waits_for_its_listener_within_the_deadline(self) -> None:
        url = self.url()
        async with await dial(url) as dialer, asyncio.TaskGroup() as group:
            reply = group.create_task(dialer.request(b"early", DEADLINE), name="early")
            await asyncio.sleep(0)
            async with await listen(url) as listener:
                listener.serve(echo)
                assert await reply == b"early"

    async def test_a_dead_peer_is_noticed_and_found_again_on_the_same_url(self) -> None:
        url = self.url()
        async with connected(url) as (listener, [dialer]):
            await listener.close()
            with pytest.raises((Unreachable, RequestTimeout)):
                await dialer.request(b"anyone?", SOON)
            async with await listen(url) as again:
                again.serve(echo)
                assert await answered(dialer, b"back") == b"back"

    async def test_a_request_given_up_before_the_listener_came_is_never_run(self) -> None:
        url = self.url()
        seen: list[bytes] = []

        async def note(payload: bytes, peer: str | None) -> bytes:
            seen.append(payload)
            return payload

        async with await dial(url) as dialer:
            with pytest.raises(Unreachable):
                await dialer.request(b"stale", SOON)
            async with await listen(url) as listener:
                listener.serve(note)
                assert await dialer.request(b"fresh", DEADLINE) == b"fresh"
                assert seen == [b"fresh"]


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
        options = TransportOptions(inbox=100)
        async with connected(self.url(), options, dialers=2) as (listener, [slow, quick]):
            asleep, awake = slow.subscribe("t/"), quick.subscribe("t/")
            await live(listener, asleep, "t/")
            await live(listener, awake, "t/")
            while asleep.get_nowait() is not None:
                pass
            for start in range(0, 1000, 50):
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
            assert len(held) <= 100
            assert held == [b"%d" % n for n in range(len(held))]  # the newest are dropped, the oldest stay

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
            return await asyncio.get_running_loop().create_future()

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
            return await asyncio.get_running_loop().create_future()

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


class TransportConformance(RequestConformance, PublishConformance, LifeConformance):
    """The whole suite. Inherit it, define `url`, and run pytest."""
