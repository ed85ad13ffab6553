"""Rule: after many short requests, one in ten left early, no row, task, sequence or tombstone is held."""

from __future__ import annotations

import asyncio
from typing import Any

from soaking import Load
from stubs import Cluster, until

from amusd_mp.core import limits

PROMPTS = [f"prompt {number} " * (1 + number % 7) for number in range(20)]


async def test_nothing_is_left_of_many_requests() -> None:
    async with Cluster(drafts=2) as cluster, cluster.client() as client:
        await client.wait_for_draft()
        await Load(0).run(client, PROMPTS, 20, at_once=8)  # what is made once: threads, caches
        await until(lambda: cluster.idle, "a cluster that holds nothing")
        tasks = sorted(task.get_name() for task in asyncio.all_tasks())
        load = Load(1)
        await load.run(client, PROMPTS, 150, at_once=8)
        await until(lambda: cluster.idle, "a cluster that holds nothing")
        await until(lambda: sorted(task.get_name() for task in asyncio.all_tasks()) == tasks, "the tasks of before")
        assert load.whole == 135
        assert load.left == 15
        status = await client.status()
        assert status.sequences == 0
        assert not client._board._streams
        assert not client._board._to_cancel
        verify: Any = cluster.nodes["verify"]
        ledger = verify._desk.ledger
        ledger.expired(asyncio.get_running_loop().time())
        assert ledger.entries
        ledger.expired(asyncio.get_running_loop().time() + limits.RETAIN + 1)
        assert not ledger.entries
        assert not ledger.tombstones
        assert not verify._core._overlap_at_open
