"""Rule: what a client's own background work learns never ends a stream that is well, and never ends one unclearly."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from amusd_mp.client.stream import Stream
from amusd_mp.client.switchboard import Switchboard
from amusd_mp.core import limits
from amusd_mp.core.messages import Committed, Message, Renew, Renewed, Submit, Submitted
from amusd_mp.core.params import GenerationParams
from amusd_mp.errors import AmusdError, GenerationTimeout, SequenceLost, Unreachable
from amusd_mp.runtime import Runtime
from amusd_mp.session.tries import ATTEMPT
from amusd_mp.testing.simulation.loop import run

SUBMIT = Submit("s", "life", "client", GenerationParams(max_tokens=9), ids=(1, 2))


def board_that_answers(answer: Any) -> Any:
    async def call(request: Message, expect: type, left: float | None) -> Any:
        return Submitted("s", 2, "v/client/s") if isinstance(request, Submit) else answer()

    return SimpleNamespace(
        link=SimpleNamespace(verify="life", welcome=None),
        adopt=lambda stream: None,
        release=lambda stream, cancel: None,
        call=call,
    )


def test_a_sequence_that_is_gone_when_the_stream_asks_is_lost_with_what_had_arrived() -> None:
    def gone() -> None:
        raise SequenceLost("no sequence s")

    async def read() -> None:
        now = asyncio.get_running_loop().time
        async with Stream(board_that_answers(gone), SUBMIT, None, now) as stream:
            stream.hear(Committed("s", 1, 2, (5,), 3, "-", "f"))
            assert (await anext(stream)).token_ids == (5,)
            await anext(stream)  # after a silence it asks

    with pytest.raises(SequenceLost, match="no sequence s") as lost:
        run(read())
    assert lost.value.token_ids == (5,)


def test_a_reader_who_always_finds_something_new_is_still_timed_out() -> None:
    async def read() -> None:
        loop = asyncio.get_running_loop()
        async with Stream(board_that_answers(None), SUBMIT, 1.0, loop.time) as stream:
            for length in range(3, 9):
                stream.hear(Committed("s", length, length - 1, (5,), length, "-"))
                await anext(stream)
                await asyncio.sleep(0.3)

    with pytest.raises(GenerationTimeout) as over:
        run(read())
    assert over.value.token_ids == (5,) * 5


@pytest.mark.parametrize("known_when_asked", [False, True])
def test_a_renewal_that_overtook_the_submit_does_not_end_its_stream(known_when_asked: bool) -> None:
    failed: list[AmusdError] = []
    stream: Any = SimpleNamespace(submit=SUBMIT, submitted=known_when_asked, fail=failed.append)

    async def renew_once() -> None:
        board = Switchboard("inproc://nowhere", Runtime())
        board.adopt(stream)

        async def call(*_: Any) -> Renewed:
            stream.submitted = True  # the submit's answer comes first
            return Renewed(unknown=("s",))

        board.link.call = call  # type: ignore[method-assign,assignment]
        task = asyncio.create_task(board.renew())
        await asyncio.sleep(limits.LEASE / 2)
        task.cancel()

    run(renew_once())
    assert bool(failed) is known_when_asked


def test_more_leases_than_a_message_may_name_are_renewed_all_the_same() -> None:
    asked: list[tuple[str, ...]] = []

    async def renew_once() -> None:
        board = Switchboard("inproc://nowhere", Runtime())
        for at in range(2 * limits.KEPT_SEQUENCES):
            submit = replace(SUBMIT, sequence=f"s{at}")
            board.adopt(cast(Any, SimpleNamespace(submit=submit, submitted=at % 2 == 1)))

        async def call(request: Renew, *_: Any) -> Renewed:
            asked.append(request.sequences)
            return Renewed()

        board.link.call = call  # type: ignore[method-assign,assignment]
        task = asyncio.create_task(board.renew())
        await asyncio.sleep(limits.LEASE / 2)
        task.cancel()

    run(renew_once())
    named = [name for names in asked for name in names]
    assert len(set(named)) == len(named) == 2 * limits.KEPT_SEQUENCES
    assert max(map(len, asked)) <= limits.KEPT_SEQUENCES
    assert all(int(name[1:]) % 2 == 1 for name in named[: limits.KEPT_SEQUENCES])  # those that run come first


@pytest.mark.parametrize("timeout", [ATTEMPT * 1.5, ATTEMPT * 2.2, 5.0])
def test_retries_end_by_their_deadline_whatever_the_jitter(timeout: float) -> None:
    async def ask() -> float:
        board = Switchboard("inproc://nobody", Runtime())
        await board.link.dial()
        loop = asyncio.get_running_loop()
        began = loop.time()
        with pytest.raises(Unreachable):
            await board.call(SUBMIT, Submitted, timeout)
        took = loop.time() - began
        await board.link.close()
        return took

    for _ in range(20):
        assert run(ask()) <= timeout + 1e-6
