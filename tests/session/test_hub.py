"""Rule: a hub hears the lives that said hello, each once retired never again, and outlives whatever it is sent."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from stubs import until

from amusd_mp import transport
from amusd_mp.codec import decode
from amusd_mp.core import limits
from amusd_mp.core.messages import (
    Barrier,
    Beat,
    Cancel,
    Draft,
    ErrorCode,
    ErrorReply,
    Hello,
    NodeState,
    StatusRequest,
    Welcome,
    Window,
    draft_topic,
)
from amusd_mp.session.sender import Sender

STATUS_OF_THIS_LIFE = StatusRequest("life-1")


async def test_hello_is_answered_with_what_a_dialler_needs(owner: Any) -> None:
    welcome = await owner.greet(Sender("draft", "d1"))
    assert isinstance(welcome, Welcome)
    assert welcome.model == owner.hub.card
    assert dict(welcome.endpoints) == dict(owner.hub.listener.endpoints)
    assert (welcome.beat, welcome.liveness, welcome.lease) == (limits.BEAT, limits.LIVENESS, limits.LEASE)


async def test_the_nonce_comes_back_on_the_callers_own_topic(owner: Any) -> None:
    async with await transport.dial(owner.hub.listener.url) as dialer:
        await dialer.attach(dict(owner.hub.listener.endpoints))
        mine = dialer.subscribe("v/c1/")
        await owner.greet(Sender("client", "c1"), role="client", nonce="n1", topic="v/c1/")
        async with asyncio.timeout(5):
            received = await mine.get()
        assert decode(received.payload).body == Barrier("n1")


async def test_a_newer_life_retires_the_older_one_for_good(owner: Any) -> None:
    first, second = Sender("draft", "d1"), Sender("draft", "d2")
    await owner.greet(first)
    await owner.greet(second)
    assert owner.left == ["d1"]
    for body in (STATUS_OF_THIS_LIFE, Hello("draft", (1, 1), model=owner.hub.card)):
        reply = await owner.ask(first, body)
        assert isinstance(reply, ErrorReply)
        assert reply.code is ErrorCode.FORBIDDEN
    assert list(owner.hub.roster.peers) == ["d2"]


async def test_nodes_of_one_name_and_different_roles_do_not_retire_each_other(owner: Any) -> None:
    await owner.greet(Sender("same", "d1"))
    await owner.greet(Sender("same", "c1"), role="client")
    assert set(owner.hub.roster.peers) == {"d1", "c1"}


async def test_publications_count_only_from_drafts_that_are_known(owner: Any) -> None:
    hearing = asyncio.create_task(owner.hub.listen())
    draft, client, stranger = Sender("draft", "d1"), Sender("client", "c1"), Sender("draft", "d9")
    await owner.greet(draft)
    await owner.greet(client, role="client")
    async with await transport.dial(owner.hub.listener.url) as dialer:
        await dialer.attach(dict(owner.hub.listener.endpoints))
        beat = Beat(NodeState.READY)
        await asyncio.sleep(0)  # the hub subscribes in its own task
        for payload in (client.seal(beat), stranger.seal(beat), Sender("other", "d1").seal(beat), b"junk", b""):
            dialer.publish(draft_topic("d1"), payload)
        dialer.publish(draft_topic("d1"), draft.seal(beat))
        await until(lambda: len(owner.heard) == 1)
    assert owner.heard[0][0] == "draft"
    assert owner.hub.counters["stranger"] == 3
    assert owner.hub.counters["malformed"] == 2
    hearing.cancel()


async def test_silent_drafts_go_and_may_come_back(owner: Any) -> None:
    sender = Sender("draft", "d1")
    await owner.greet(sender)
    now = asyncio.get_running_loop().time()
    beats = int(limits.LIVENESS / limits.BEAT)
    for beat in range(beats - 1):
        owner.hub.forget_silent(now + beat * limits.BEAT)
    assert "d1" in owner.hub.roster.peers
    for beat in range(beats - 1, beats + 2):
        owner.hub.forget_silent(now + beat * limits.BEAT)
    assert owner.left == ["d1"]
    assert isinstance(await owner.greet(sender), Welcome)
    assert "d1" in owner.hub.roster.peers


async def test_a_node_that_stood_still_itself_lets_nobody_go(owner: Any) -> None:
    await owner.greet(Sender("draft", "d1"))
    now = asyncio.get_running_loop().time()
    owner.hub.forget_silent(now)
    owner.hub.forget_silent(now + 10 * limits.LIVENESS)
    assert "d1" in owner.hub.roster.peers


@pytest.mark.parametrize(
    ("hello", "code"),
    [
        (Hello("draft", (2, 9)), ErrorCode.PROTOCOL),
        (Hello("wizard", (1, 1)), ErrorCode.FORBIDDEN),
    ],
)
async def test_who_cannot_join_is_told_why(owner: Any, hello: Hello, code: ErrorCode) -> None:
    reply = await owner.ask(Sender("x", "x1"), hello)
    assert isinstance(reply, ErrorReply)
    assert reply.code is code
    assert not owner.hub.roster.peers


async def test_nobody_joins_before_the_model_is_loaded(owner: Any) -> None:
    owner.hub.card = None
    reply = await owner.greet(Sender("draft", "d1"))
    assert isinstance(reply, ErrorReply)
    assert reply.code is ErrorCode.NOT_READY
    assert reply.retry_after == limits.BEAT


async def test_a_request_for_another_life_is_not_for_this_one(owner: Any) -> None:
    reply = await owner.ask(Sender("client", "c1"), Cancel("s", "life-0"))
    assert isinstance(reply, ErrorReply)
    assert reply.code is ErrorCode.RESTARTED
    assert not owner.requests


async def test_a_bug_in_the_owner_is_a_reply_too(owner: Any) -> None:
    reply = await owner.ask(Sender("client", "c1"), Cancel("s", "life-1"))
    assert isinstance(reply, ErrorReply)
    assert reply.code is ErrorCode.INTERNAL


@pytest.mark.parametrize("payload", [b"", b"\xc1", b"\x80", b"\x81\xa1v\x02", bytes(1000)])
async def test_junk_is_answered_and_counted(owner: Any, payload: bytes) -> None:
    reply = decode(await owner.hub._answer(payload, None)).body
    assert isinstance(reply, ErrorReply)
    assert reply.code in (ErrorCode.MALFORMED, ErrorCode.PROTOCOL)
    assert sum(owner.hub.counters.values()) == 1


async def test_a_crowd_of_strangers_is_bounded_and_drafts_stay(owner: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PEERS", 3)
    await owner.greet(Sender("draft", "d1"))
    for number in range(9):
        assert isinstance(await owner.greet(Sender(f"c{number}", f"life-c{number}"), role="client"), Welcome)
    assert set(owner.hub.roster.peers) == {"d1", "life-c7", "life-c8"}


async def test_what_is_too_long_to_be_said_is_counted(owner: Any) -> None:
    owner.hub.publish("trace/x", Barrier("x" * limits.PUBLICATION_BYTES))
    assert dict(owner.hub.counted())["unsaid"] == 1


async def test_of_windows_that_waited_the_last_of_each_draft_is_read_and_all_else_that_came(owner: Any) -> None:
    one, two = Sender("one", "d1"), Sender("two", "d2")
    await owner.greet(one)
    await owner.greet(two)
    owner.hub.hold()
    for round_ in range(3):
        for sender in (one, two):
            window = Window("s", round_, 1, (5,))
            for body in (Draft("life-1", (window,)), Beat(NodeState.READY, steps=round_)):
                owner.hub._subscription.push(
                    transport.Received(draft_topic(sender.incarnation), sender.seal(body), None)
                )
    owner.hub.catch_up()
    windows = [(node, each.body.windows[0].version) for node, each in owner.heard if isinstance(each.body, Draft)]
    beats = [(node, each.body.steps) for node, each in owner.heard if isinstance(each.body, Beat)]
    assert windows == [("one", 2), ("two", 2)]
    assert beats == [(node, steps) for steps in range(3) for node in ("one", "two")]
    assert owner.hub.counters["superseded"] == 4


async def test_a_draft_that_asks_on_but_publishes_no_more_is_let_go(owner: Any) -> None:
    sender = Sender("draft", "d1")
    await owner.greet(sender)
    beat = sender.seal(Beat(NodeState.READY))
    owner.hub._hear(transport.Received(draft_topic("d1"), beat, None))
    joined = owner.hub.roster.peers["d1"].heard
    await owner.greet(sender)
    assert owner.hub.roster.peers["d1"].heard == joined
    for number in range(int(limits.LIVENESS / limits.BEAT) + 2):
        owner.hub.forget_silent(joined + number * limits.BEAT)
    assert owner.left == ["d1"]
    await owner.greet(sender)
    assert not owner.hub.roster.peers["d1"].joined
