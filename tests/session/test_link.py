"""Rule: a link finds its verify node, proves its subscription, and tells once of each silence and each other life."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio
from ports import free_ports
from stubs import until

from amusd_mp import transport
from amusd_mp.codec import decode
from amusd_mp.core.messages import BEAT_TOPIC, Beat, Envelope, Hello, NodeState, Welcome
from amusd_mp.errors import NotReady, RemoteError, RequestTimeout, Unreachable
from amusd_mp.runtime import Runtime
from amusd_mp.session.link import Link
from amusd_mp.session.sender import Sender
from amusd_mp.tasks import task_group


class Caller:
    """A link that is running, and what it told."""

    def __init__(self, url: str, *, follows: bool = False) -> None:
        self.heard: list[Envelope] = []
        self.lost: list[Welcome | None] = []
        self.link = Link(
            url,
            Sender("client", "c1"),
            Runtime(),
            role="client",
            prefixes=("v/c1/",),
            on_publication=self.heard.append,
            on_lost=self.lost.append,
            follows=follows,
        )


@pytest_asyncio.fixture(params=[False])
async def caller(owner: Any, request: pytest.FixtureRequest) -> AsyncIterator[Caller]:
    caller = Caller(owner.hub.listener.url, follows=request.param)
    async with task_group() as tasks:
        running = tasks.create_task(caller.link.run(), name="link")
        yield caller
        running.cancel()
    await caller.link.close()


async def test_what_is_published_after_open_arrives(owner: Any, caller: Caller) -> None:
    await caller.link.open(5)
    assert caller.link.alive
    owner.hub.publish(BEAT_TOPIC, Beat(NodeState.READY))
    await until(lambda: len(caller.heard) == 1)
    assert caller.lost == []


async def test_publications_of_a_life_that_is_not_meant_are_counted_and_told(
    owner: Any, caller: Caller, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "amusd_mp.session.tally")
    await caller.link.open(5)
    owner.hub.listener.publish(BEAT_TOPIC, Sender("verify", "life-0").seal(Beat(NodeState.READY)))
    owner.hub.listener.publish(BEAT_TOPIC, b"junk")
    owner.hub.publish(BEAT_TOPIC, Beat(NodeState.READY))
    await until(lambda: len(caller.heard) == 1)
    assert caller.link.counters["other_life"] == 1
    assert caller.link.counters["malformed"] == 1
    assert caller.link.verify == "life-1"
    told = [record.getMessage() for record in caplog.records if record.name == "amusd_mp.session.tally"]
    assert len(told) == 2
    assert all(owner.hub.listener.url in each for each in told)


async def test_another_life_is_noticed_by_its_beat_and_told_once(owner: Any, caller: Caller) -> None:
    await caller.link.open(5)
    owner.hub.sender = Sender("verify", "life-2")
    owner.hub.publish(BEAT_TOPIC, Beat(NodeState.READY))
    await until(lambda: caller.link.verify == "life-2")
    assert [welcome is not None for welcome in caller.lost] == [True]
    owner.hub.publish(BEAT_TOPIC, Beat(NodeState.READY))
    await until(lambda: len(caller.heard) == 1)
    assert len(caller.lost) == 1


async def test_silence_is_told_once_and_ends_when_the_same_life_is_back(owner: Any, caller: Caller) -> None:
    await caller.link.open(5)
    url = owner.hub.listener.url
    await owner.hub.listener.close()
    await until(lambda: bool(caller.lost))
    assert caller.lost == [None]
    assert not caller.link.alive
    owner.hub.listener = await transport.listen(url)
    owner.hub.open()
    await until(lambda: caller.link.alive)
    assert caller.lost == [None]
    await owner.hub.listener.close()


@pytest.mark.parametrize("caller", [True], indirect=True)
async def test_who_follows_is_lost_while_answers_come_but_no_publications(
    owner: Any, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    await caller.link.open(5)
    with monkeypatch.context() as cut:
        cut.setattr(owner.hub, "publish", lambda topic, body: None)
        await until(lambda: bool(caller.lost))
        assert caller.lost == [None]
        assert isinstance(await caller.link.call(Hello("client", (1, 1)), Welcome, 5), Welcome)
        assert not caller.link.alive
    await until(lambda: caller.link.alive)
    assert caller.lost == [None]


async def test_opening_gives_up_at_its_deadline_and_says_why(owner: Any, caller: Caller) -> None:
    owner.hub.card = None
    with pytest.raises(NotReady, match=r"is loading its model; it was not ready within 1 s"):
        await caller.link.open(1)
    await owner.hub.listener.close()
    with pytest.raises((Unreachable, RequestTimeout), match=r"no verify node answers at inproc://.* within 1 s"):
        await caller.link.open(1)


async def test_a_subscription_that_stays_deaf_is_told_from_an_answering_node(
    owner: Any, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner.hub, "publish", lambda topic, body: None)
    with pytest.raises(RequestTimeout, match="publications do not arrive"):
        await caller.link.open(0.3)


async def test_calls_are_repeated_until_somebody_answers(owner: Any, caller: Caller) -> None:
    url = owner.hub.listener.url
    await caller.link.open(5)
    await owner.hub.listener.close()
    asking = asyncio.create_task(caller.link.call(Hello("client", (1, 1)), Welcome, 5))
    await asyncio.sleep(0)
    owner.hub.listener = await transport.listen(url)
    owner.hub.open()
    assert isinstance(await asking, Welcome)
    await owner.hub.listener.close()


class Lossy:
    """Loses every answer to a hello that wants a barrier; the barrier itself comes. Counts those hellos."""

    def __init__(self, link: Link) -> None:
        dialer: Any = link._dialer
        self.hellos = 0
        self._request = dialer.request
        dialer.request = self.request

    async def request(self, payload: bytes, timeout: float) -> bytes:
        answer: bytes = await self._request(payload, timeout)
        body = decode(payload).body
        if isinstance(body, Hello) and body.nonce:
            self.hellos += 1
            await asyncio.sleep(timeout)
            raise RequestTimeout("its answer was lost")
        return answer


async def test_a_barrier_that_came_is_enough_although_its_hello_goes_unanswered(owner: Any, caller: Caller) -> None:
    await caller.link.dial()
    lossy = Lossy(caller.link)
    await caller.link.open(5)
    assert caller.link.alive
    assert lossy.hellos == 1


async def test_another_life_is_told_although_no_answer_to_a_barriers_hello_ever_comes(
    owner: Any, caller: Caller
) -> None:
    await caller.link.open(5)
    lossy = Lossy(caller.link)
    owner.hub.sender = Sender("verify", "life-2")
    owner.hub.publish(BEAT_TOPIC, Beat(NodeState.READY))
    await until(lambda: bool(caller.lost))
    assert (caller.link.verify, caller.link.alive, lossy.hellos) == ("life-2", True, 1)
    assert [welcome is not None for welcome in caller.lost] == [True]


def fails(request: Callable[[bytes, float], Any]) -> Any:
    """Have the other side's code fail, as it tells by a reply or by the transport."""

    async def failing(payload: bytes, timeout: float) -> bytes:
        raise RemoteError("its handler failed: KeyError")

    return failing


def mumbles(request: Callable[[bytes, float], Any]) -> Any:
    """Have what comes back be no message."""

    async def mumbling(payload: bytes, timeout: float) -> bytes:
        await request(payload, timeout)
        return b"junk"

    return mumbling


@pytest.mark.parametrize(("wrong", "text"), [(fails, "its handler failed"), (mumbles, "an unreadable reply")])
async def test_a_failure_of_the_other_side_ends_one_try_and_is_told_where_it_was_the_last(
    caller: Caller, monkeypatch: pytest.MonkeyPatch, wrong: Callable[[Any], Any], text: str
) -> None:
    await caller.link.dial()
    dialer: Any = caller.link._dialer
    with monkeypatch.context() as bug:
        bug.setattr(dialer, "request", wrong(dialer.request))
        with pytest.raises(RemoteError, match=rf"{text}.*; no other answer came within 1 s"):
            await caller.link.open(1)
    assert isinstance(await caller.link.open(5), Welcome)


async def test_a_bug_in_the_answer_to_hello_is_a_failed_try(
    owner: Any, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = [KeyError("a bug"), KeyError("a bug")]

    def approve(hello: Hello) -> None:
        if left:
            raise left.pop()

    monkeypatch.setattr(owner.hub, "_approve", approve)
    assert isinstance(await caller.link.open(5), Welcome)
    assert not left


def has_two_loopbacks() -> bool:
    try:
        with socket.socket() as probe:
            probe.bind(("127.0.0.2", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_two_loopbacks(), reason="this machine has one loopback address")
async def test_a_node_that_comes_back_at_another_address_is_found_by_its_name(
    owner: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where both lives say the same of where they publish, as those that listen on every interface do."""
    here, lookup, port = "127.0.0.1", socket.getaddrinfo, free_ports()
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, *rest, **named: lookup(here if host == "v.test" else host, *rest, **named)
    )
    monkeypatch.setattr("amusd_mp.transports.zeromq_dialer.LOOK", 0.05)
    caller = Caller(f"tcp://v.test:{port}")

    async def live(life: str) -> None:
        async with await transport.listen(f"tcp://{here}:{port}") as listener:
            listener.endpoints = {name: url.replace(here, "0.0.0.0") for name, url in listener.endpoints.items()}
            verify = type(owner)(listener, life)
            await until(lambda: caller.link.alive and caller.link.verify == life)
            heard = len(caller.heard)

            def told() -> bool:
                verify.hub.publish(BEAT_TOPIC, Beat(NodeState.READY))
                return len(caller.heard) > heard

            await until(told)

    await caller.link.dial()
    async with task_group() as tasks:
        running = tasks.create_task(caller.link.run(), name="link")
        opening = tasks.create_task(caller.link.open(20), name="opens")
        await live("life-1")
        here = "127.0.0.2"
        await live("life-2")
        await opening
        running.cancel()
    await caller.link.close()
