"""Conformance of `request` and `serve`: one reply or one typed error, never another's, whatever the peer does."""

from __future__ import annotations

import asyncio
import random

import pytest

from amusd_mp.errors import RemoteError, RequestTimeout, Unreachable
from amusd_mp.testing.conformance_tools import (
    DEADLINE,
    SOON,
    ConformanceBase,
    answered,
    connected,
    echo,
)
from amusd_mp.transport import TransportOptions, dial, listen


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
