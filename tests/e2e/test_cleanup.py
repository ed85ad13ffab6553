"""Rule: when a cluster closes, no process, task, thread, descriptor or socket file of it is left."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from pathlib import Path

import pytest
from exactness import deployment, prompts
from system import children, descriptors, is_running

from amusd_mp import LocalCluster

DEADLINE = 30.0


def left() -> tuple[set[int], int, set[str], set[str]]:
    tasks = {task.get_name() for task in asyncio.all_tasks()}
    threads = {thread.name for thread in threading.enumerate()}
    return children(), descriptors(), threads, tasks


@pytest.mark.slow
async def test_nothing_is_left_also_after_a_kill(tmp_path: Path) -> None:
    folder = tmp_path / "sockets"
    folder.mkdir(mode=0o700)

    async def visit(draft: str | None, fatally: bool) -> set[int]:
        async with LocalCluster(deployment(draft, listen=f"ipc://{folder}/verify.sock")) as cluster:
            pids = {node.pid for node in cluster.nodes.values()}
            assert any(folder.iterdir())
            async with cluster.connect() as client:
                if draft is not None:
                    await client.wait_for_draft()
                await client.generate(prompts(1)[0], max_tokens=8, timeout=DEADLINE)
            if fatally:
                os.kill(cluster.nodes["verify"].pid, signal.SIGKILL)
        return pids

    await (await asyncio.create_subprocess_exec("true")).wait()  # what asyncio makes once for all child processes
    await asyncio.to_thread(children)  # and the thread its loop keeps for blocking calls
    before = left()
    for draft, fatally in (("bundled:draft", True), (None, False)):  # the second takes the path the first left behind
        pids = await visit(draft, fatally)
        assert not [pid for pid in pids if is_running(pid)]
    here, files, threads, tasks = left()
    assert here <= before[0]  # what an earlier test left to end may have ended meanwhile
    assert files <= before[1]
    assert threads <= before[2]
    assert tasks <= before[3]
    assert not [entry for entry in folder.iterdir() if entry.is_socket()]
