"""Rule: processes are killed, stopped and restarted while clients stream; no token is wrong and none is stuck.

One of each here; `tests/chaos_full.py` draws a hundred, and has eight clients.
"""

from __future__ import annotations

import asyncio

import pytest
from chaos import Event, Kind, Truth, arena, asks, at_rest

EVENTS = [
    Event(0.0, Kind.STOP, "client-0", 0.6),
    Event(0.2, Kind.KILL, "draft"),
    Event(0.2, Kind.KILL, "client-1"),
    Event(0.3, Kind.STOP, "verify", 0.6),
    Event(0.0, Kind.KILL, "verify"),
    Event(0.2, Kind.STOP, "draft", 0.6),
    Event(0.0, Kind.RESTART, "client-2"),
]


@pytest.mark.slow
async def test_one_of_each_fault_on_every_process() -> None:
    wanted = asks(32)[:4]
    computing = asyncio.create_task(asyncio.to_thread(Truth, wanted), name="truth")
    async with arena(wanted, seed=0, processes=3, tasks=2) as field:
        await field.play(EVENTS)
        await at_rest(field)
        assert sum(field.happened.values()) == len(EVENTS)
    truth = await computing
    wrong = [found for ending in field.endings if (found := truth.wrong(ending)) is not None]
    assert not wrong, wrong
    assert any(ending.accepted for ending in field.endings)
