"""Rule: a page that no honest verify node sends opens nothing at a draft, reaches no device and asks for no more."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from stubs import VOCABULARY, Cluster, until

from amusd_mp.core import limits
from amusd_mp.core.messages import SyncPage
from amusd_mp.core.params import GenerationParams, Speculation
from amusd_mp.errors import ProtocolError

PAGE = SyncPage("s", 0, 3, 3, 0, (1, 2, 3), GenerationParams(), Speculation())


@pytest.fixture
async def draft() -> AsyncIterator[Any]:
    """A draft node that has joined its verify node."""
    async with Cluster(1) as cluster, cluster.client() as client:
        await client.wait_for_draft()
        yield cluster.nodes["draft-0"]


def answered(draft: Any, monkeypatch: pytest.MonkeyPatch, *pages: SyncPage) -> list[SyncPage]:
    """Have the draft's questions answered by these pages; return those that are left."""
    left = list(pages)

    async def call(*about: object) -> SyncPage:
        return left.pop(0)

    monkeypatch.setattr(draft._link, "call", call)
    return left


@pytest.mark.parametrize(
    "page",
    [
        replace(PAGE, tokens=(1, VOCABULARY, 3)),
        replace(PAGE, sequence="another"),
        replace(PAGE, params=GenerationParams(stop_token_ids=(VOCABULARY,))),
        replace(PAGE, params=GenerationParams(logit_bias=((VOCABULARY, 1.0),))),
        replace(PAGE, tokens=()),
        replace(PAGE, start=2, tokens=()),
        replace(PAGE, length=0, prompt_length=0, tokens=()),
        replace(PAGE, length=2**40),
    ],
    ids=["token", "sequence", "stop_token_ids", "logit_bias", "empty", "gap", "nothing", "endless"],
)
async def test_a_page_that_cannot_be_its_own(draft: Any, monkeypatch: pytest.MonkeyPatch, page: SyncPage) -> None:
    left = answered(draft, monkeypatch, page, PAGE)
    with pytest.raises(ProtocolError):
        await draft._follower.fetch("s")
    assert left == [PAGE]
    assert not draft._core.sequences


async def test_ids_beyond_the_vocabulary_are_counted(draft: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before = draft._link.counters["foreign_ids"]
    answered(draft, monkeypatch, replace(PAGE, tokens=(1, 2, VOCABULARY)))
    with pytest.raises(ProtocolError):
        await draft._follower.fetch("s")
    assert draft._link.counters["foreign_ids"] == before + 1


async def test_pages_that_bring_something_are_asked_for_to_the_end(draft: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = (replace(PAGE, tokens=(1,)), replace(PAGE, start=1, tokens=(2, 3)))
    left = answered(draft, monkeypatch, *parts)
    await draft._follower.fetch("s")
    assert not left
    assert draft._core.sequences["s"].replica.tokens == [1, 2, 3]


async def test_what_is_wanted_is_bounded(draft: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draft._follower, "_asked", type("Unset", (), {"set": lambda self: None})())
    for number in range(limits.KEPT_SEQUENCES + 100):
        draft._follower.want(f"s{number}")
    assert len(draft._follower._wanted) == limits.KEPT_SEQUENCES
    draft._follower._wanted.clear()


async def test_sequences_that_are_asked_for_in_vain_are_counted_and_told(
    draft: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    answered(draft, monkeypatch, *[replace(PAGE, sequence="another")] * 10)
    for number in range(10):
        draft._follower.want(f"s{number}")
    await until(lambda: draft._link.counters["not_fetched"] == 10)
    told = [record.getMessage() for record in caplog.records if "not_fetched" in record.getMessage()]
    assert len(told) == 2
    assert "s0, the page of sequence s0 cannot be its own" in told[0]
    assert "10 so far" in told[1]
