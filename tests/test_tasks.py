"""Rule: what went wrong in a group of tasks reaches the caller by itself, with the story it had."""

from __future__ import annotations

import asyncio

import pytest

from amusd_mp.tasks import task_group


async def test_a_failure_of_a_task_comes_with_what_it_failed_beside() -> None:
    async def fail() -> None:
        try:
            {}["absent"]
        except KeyError:
            raise ValueError("mine")  # noqa: B904  # a context, no cause

    async def together() -> None:
        async with task_group() as tasks:
            tasks.create_task(fail())
            await asyncio.Event().wait()

    with pytest.raises(ValueError, match="mine") as caught:
        await together()
    assert caught.value.__cause__ is None
    assert isinstance(caught.value.__context__, KeyError)


async def test_a_failure_of_the_block_keeps_its_cause() -> None:
    cause = KeyError("the reason")
    with pytest.raises(ValueError, match="mine") as caught:
        async with task_group():
            raise ValueError("mine") from cause
    assert caught.value.__cause__ is cause
