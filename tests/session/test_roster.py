"""Rule: of a node's lives one at a time is present, a retired one never again; a claim counts with its key alone."""

from __future__ import annotations

from typing import Any

import pytest

from amusd_mp import transport
from amusd_mp.core import limits
from amusd_mp.core.messages import Beat, ErrorCode, ErrorReply, NodeState, Welcome, draft_topic
from amusd_mp.session import roster
from amusd_mp.session.sender import Sender


def refused(reply: Any, code: ErrorCode) -> str:
    """Return the text of a refusal of this kind."""
    assert isinstance(reply, ErrorReply)
    assert reply.code is code
    return reply.message


async def test_who_returns_from_a_cut_line_finds_itself_retired_and_not_its_successor(owner: Any) -> None:
    old, new = Sender("draft", "d1"), Sender("draft", "d2")
    await owner.greet(old)
    owner.fall_silent()
    assert isinstance(await owner.greet(new), Welcome)
    assert "newer life" in refused(await owner.greet(old), ErrorCode.FORBIDDEN)
    assert isinstance(await owner.greet(new), Welcome)
    assert list(owner.hub.roster.peers) == ["d2"]


async def test_a_life_that_was_let_go_comes_back_as_often_as_it_likes(owner: Any) -> None:
    sender = Sender("draft", "d1")
    for _ in range(3):
        assert isinstance(await owner.greet(sender), Welcome)
        owner.fall_silent()
    assert owner.left == ["d1"] * 3


async def test_a_life_claimed_with_another_key_is_another_life(owner: Any) -> None:
    mine, claim = Sender("draft", "d1"), Sender("draft", "d1")
    assert isinstance(await owner.greet(claim, key="theirs"), Welcome)  # before its owner came, and after
    assert isinstance(await owner.greet(mine, key="mine"), Welcome)
    assert isinstance(await owner.greet(claim, key="theirs"), Welcome)
    await owner.greet(Sender("draft", "d2"), key="theirs")  # retires the claim
    assert "newer life" in refused(await owner.greet(claim, key="theirs"), ErrorCode.FORBIDDEN)
    assert isinstance(await owner.greet(mine, key="mine"), Welcome)
    assert set(owner.hub.roster.peers) == {"d1/mine", "d2/theirs"}


async def test_publications_are_those_of_the_key_they_came_with(owner: Any) -> None:
    sender = Sender("draft", "d1")
    await owner.greet(sender, key="mine")
    beat = sender.seal(Beat(NodeState.READY))
    for key in ("theirs", None, "mine"):
        owner.hub._hear(transport.Received(draft_topic("d1"), beat, key))
    assert owner.hub.counters["stranger"] == 2
    assert len(owner.heard) == 1


async def test_one_draft_too_many_is_told_of_the_limit_until_one_is_let_go(
    owner: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "DRAFTS", 2)
    await owner.greet(Sender("a", "a1"))
    await owner.greet(Sender("b", "b1"))
    reply = await owner.greet(Sender("c", "c1"))
    assert "the 2 drafts that it takes at once" in refused(reply, ErrorCode.BUSY)
    assert reply.retry_after == limits.LIVENESS
    assert isinstance(await owner.greet(Sender("b", "b2")), Welcome)  # in the place of its former life
    assert isinstance(await owner.greet(Sender("c", "client"), role="client"), Welcome)
    owner.fall_silent()
    assert isinstance(await owner.greet(Sender("c", "c1")), Welcome)


async def test_what_is_remembered_of_those_who_left_is_bounded(owner: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roster, "KEPT", 3)
    for number in range(9):
        await owner.greet(Sender("draft", f"d{number}"))
    for number in range(9):
        await owner.greet(Sender(f"draft-{number}", f"e{number}"))
        owner.fall_silent()
    assert repr(owner.hub.roster) == "<Roster 0 present, 3 let go, 3 retired>"
