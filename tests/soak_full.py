"""Rule: 5,000 requests of mixed length, one in ten left early, leave nodes and client as they were.

Run by `make soak`, not by `make test`: it takes minutes. `AMUSD_MP_SOAK` is how many requests. Memory, descriptors and
threads are those of real processes, read at rest; docs/soak.md has a run's figures.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from exactness import deployment, prompts
from soaking import DEADLINE, Load
from system import descriptors, resident

from amusd_mp import Client, LocalCluster

REQUESTS = int(os.environ.get("AMUSD_MP_SOAK", "5000"))
AT_ONCE = 12  # more than the node has room for: some wait their turn
ROUNDS = 10
GROWN = 24.0
"""MiB that a process may hold more at the end than after the second tenth."""


async def at_rest(client: Client) -> None:
    """Wait until the verify node holds no sequence."""
    async with asyncio.timeout(DEADLINE):
        while (await client.status()).sequences:  # noqa: ASYNC110  # another process, which tells nobody
            await asyncio.sleep(0.05)


def measure(pids: dict[str, int]) -> dict[str, tuple[float, int, int]]:
    """Return MiB, descriptors and threads of each process; "client" is this one."""
    whole = {**pids, "client": os.getpid()}
    threads = {name: len(list(Path(f"/proc/{pid}/task").iterdir())) for name, pid in whole.items()}
    return {name: (resident(pid), descriptors(pid), threads[name]) for name, pid in whole.items()}


async def test_five_thousand_requests() -> None:
    began, load, texts = time.monotonic(), Load(1), prompts(16)
    async with LocalCluster(deployment("bundled:draft")) as cluster, cluster.connect(timeout=DEADLINE) as client:
        await client.wait_for_draft(DEADLINE)
        pids = {name: node.pid for name, node in cluster.nodes.items()}
        figures, tasks = [], []
        for _ in range(ROUNDS):
            await load.run(client, texts, REQUESTS // ROUNDS, AT_ONCE)
            await at_rest(client)
            figures.append(measure(pids))
            tasks.append(sorted(task.get_name() for task in asyncio.all_tasks()))
        status = await client.status()
        assert {name: node.pid for name, node in cluster.nodes.items()} == pids
    before, after = figures[1], figures[-1]
    lines = [
        f"{load.whole + load.left} requests, {AT_ONCE} at once, in {time.monotonic() - began:.0f} s:"
        f" {load.whole} whole with {load.tokens} tokens, {load.left} left early {load.ways}",
        f"  at the end: {status.sequences} sequences, {status.finished} finished, degraded: {status.degraded},"
        f" {len(tasks[1])} -> {len(tasks[-1])} tasks",
        *(
            f"  {name}: {before[name][0]:.0f} -> {after[name][0]:.0f} MiB, {before[name][1]} -> {after[name][1]}"
            f" descriptors, {before[name][2]} -> {after[name][2]} threads"
            for name in before
        ),
    ]
    print("\n" + "\n".join(lines))  # noqa: T201  # the figures are what this file is run for
    assert status.sequences == 0
    assert tasks[-1] == tasks[1]
    for name in before:
        assert after[name][0] <= before[name][0] + GROWN, (name, [each[name][0] for each in figures])
        assert after[name][1] <= before[name][1] + 2, (name, [each[name][1] for each in figures])
        assert after[name][2] <= before[name][2], (name, [each[name][2] for each in figures])
