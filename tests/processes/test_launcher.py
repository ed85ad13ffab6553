"""The launcher and the local cluster: ports found out, nodes killed, restarted and kept by their policy."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from system import children

from amusd_mp.config import load_deployment
from amusd_mp.errors import ConfigError, NodeFailed
from amusd_mp.launcher.cluster import LocalCluster
from amusd_mp.launcher.keeper import Backoff
from amusd_mp.launcher.launcher import Launcher
from amusd_mp.log import Event

pytestmark = [
    pytest.mark.usefixtures("stranger"),
    pytest.mark.skipif(sys.platform != "linux", reason="waits by pidfd"),
]

Pair = Callable[..., Path]
Gone = Callable[[int], Awaitable[None]]
Launch = Callable[..., Launcher]


class Log:
    """The events of a launcher, to wait on."""

    def __init__(self) -> None:
        self.events: asyncio.Queue[Event] = asyncio.Queue()

    def __call__(self, event: Event) -> None:
        self.events.put_nowait(event)

    async def said(self, node: str, part: str) -> Event:
        async with asyncio.timeout(30):
            while True:
                event = await self.events.get()
                if event.node == node and part in event.message:
                    return event


@pytest.fixture
async def launch() -> AsyncIterator[Launch]:
    """Make launchers of files, which are stopped after the test whatever became of it."""
    made: list[Launcher] = []

    def make(file: Path, **options: Any) -> Launcher:
        made.append(Launcher(load_deployment(file), **options))
        return made[-1]

    yield make
    for launcher in made:
        with contextlib.suppress(NodeFailed):
            await launcher.stop()


async def test_a_free_port_reaches_whoever_dials_it_and_is_kept_over_a_restart(pair: Pair) -> None:
    async with LocalCluster(pair()) as cluster:
        server, guest = cluster.nodes["server"], cluster.nodes["guest"]
        assert guest.facts["dials"] == server.url == server.facts["url"]
        await cluster.kill("server")
        assert set(cluster.nodes) == {"guest"}
        await cluster.restart("server")
        assert cluster.nodes["server"].url == server.url
        assert cluster.nodes["server"].pid != server.pid
        assert cluster.nodes["guest"].pid == guest.pid
        await cluster.stop("guest")
        await cluster.stop("guest")
        assert set(cluster.nodes) == {"server"}


async def test_leaving_the_context_leaves_no_process(pair: Pair, gone: Gone) -> None:
    async with LocalCluster(pair()) as cluster:
        pids = [node.pid for node in cluster.nodes.values()]
    for pid in pids:
        await gone(pid)
    assert cluster.nodes == {}


async def test_a_mapping_is_a_config_too() -> None:
    async with LocalCluster({"nodes": {"only": {"role": "stranger"}}}, ["nodes.only.device=mps"]) as cluster:
        assert cluster.nodes["only"].facts["device"] == "mps"
        assert cluster.nodes["only"].url is None
        with pytest.raises(ConfigError, match="verify"):
            cluster.connect()
        with pytest.raises(ConfigError, match="nodes: only"):
            await cluster.kill("other")


async def test_a_deployment_changed_in_memory_is_what_runs(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMUSD_MP__NODES__GUEST__THREADS", "1")
    read = load_deployment(pair())
    guest = read.node("guest").model_copy(update={"threads": 5})
    changed = dataclasses.replace(read, nodes={**read.nodes, "guest": guest})
    async with LocalCluster(changed) as cluster:
        assert cluster.nodes["guest"].facts["environment"]["OMP_NUM_THREADS"] == "5"  # type: ignore[index]


async def test_what_fails_is_started_again_if_its_policy_says_so(pair: Pair) -> None:
    log = Log()
    file = pair('restart = "on-failure"')
    async with LocalCluster(file, on_event=log, backoff=Backoff(first=0.0)) as cluster:
        first = cluster.nodes["server"]
        await log.said("server", "ready after")
        os.kill(first.pid, signal.SIGUSR1)
        assert "the device hangs; started again in 0 s" in (await log.said("server", "failed")).message
        await log.said("server", "ready after")
        await cluster.stop("server")


async def test_what_is_refused_is_not_started_again(launch: Launch, pair: Pair) -> None:
    launcher = launch(pair(guest='model = "refused"\nrestart = "on-failure"'))
    await launcher.start()
    os.kill(launcher.nodes["guest"].pid, signal.SIGUSR1)
    with pytest.raises(NodeFailed, match=r"^guest: its key is refused$") as caught:
        async with asyncio.timeout(30):
            await launcher.wait()
    assert caught.value.exit_code == 2


async def test_one_that_the_system_does_not_end_keeps_no_other_from_ending(
    launch: Launch, pair: Pair, gone: Gone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("amusd_mp.launcher.launcher.KILL_GRACE", 0.1)
    launcher = launch(pair(), drain_timeout=0.1)
    await launcher.start()
    server, guest = launcher.nodes["server"], launcher.nodes["guest"]
    process: Any = launcher._keepers["guest"].process
    process.terminate = process.kill = lambda: None
    with pytest.raises(NodeFailed, match="guest: the system does not end it"):
        await launcher.stop()
    await gone(server.pid)
    os.kill(guest.pid, signal.SIGKILL)
    await gone(guest.pid)


async def test_a_failure_stops_the_rest_and_is_raised(launch: Launch, pair: Pair, gone: Gone) -> None:
    launcher = launch(pair())
    await launcher.start()
    nodes = launcher.nodes
    os.kill(nodes["guest"].pid, signal.SIGUSR1)
    with pytest.raises(NodeFailed, match=r"^guest: the device hangs$") as caught:
        await launcher.wait()
    assert (caught.value.node, caught.value.exit_code) == ("guest", 1)
    for node in nodes.values():
        await gone(node.pid)
    await launcher.stop()


async def test_of_two_failures_the_first_is_raised_and_the_other_told(launch: Launch, pair: Pair) -> None:
    log = Log()
    launcher = launch(pair(), on_event=log)
    await launcher.start()
    for name in ("guest", "server"):
        os.kill(launcher.nodes[name].pid, signal.SIGUSR1)
        async with asyncio.timeout(30):
            while name in launcher.nodes:  # noqa: ASYNC110  # the other end is another process
                await asyncio.sleep(0.01)
    with pytest.raises(NodeFailed, match=r"^guest: the device hangs$"):
        await launcher.wait()
    assert (await log.said("server", "failed, too: the device hangs")).level == "error"


async def test_when_who_is_dialled_drains_by_itself_all_is_over(launch: Launch, pair: Pair, gone: Gone) -> None:
    launcher = launch(pair('model = "drains"'))
    await launcher.start()
    nodes = launcher.nodes
    os.kill(nodes["server"].pid, signal.SIGUSR1)
    async with asyncio.timeout(30):
        await launcher.wait()
    for node in nodes.values():
        await gone(node.pid)


async def test_a_start_that_is_cancelled_leaves_no_process(launch: Launch, pair: Pair, gone: Gone) -> None:
    log, before = Log(), children()
    launcher = launch(pair(guest='model = "slow"'), on_event=log)
    start = asyncio.create_task(launcher.start())
    await log.said("guest", "loading")
    started = children() - before
    assert len(started) == 2
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    for pid in started:
        await gone(pid)


async def test_a_start_that_is_cancelled_at_once_leaves_no_process_either(
    launch: Launch, pair: Pair, gone: Gone
) -> None:
    before = children()
    launcher = launch(pair())
    start = asyncio.create_task(launcher.start())
    await asyncio.sleep(0)
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    assert launcher.nodes == {}
    for pid in children() - before:
        await gone(pid)


async def test_a_port_that_nobody_here_can_know_is_refused(pair: Pair) -> None:
    with pytest.raises(ConfigError, match="server has port 0 and is not started here"):
        Launcher(load_deployment(pair()), ["guest"])


def test_the_delays_grow_to_a_cap() -> None:
    backoff = Backoff(first=1, factor=2, cap=5)
    assert [backoff.delay(failures) for failures in (1, 2, 3, 4, 10_000)] == [1, 2, 4, 5, 5]
