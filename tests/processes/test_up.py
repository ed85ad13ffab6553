"""`up` shows the failing node's own error last and once, stops the rest, and leaves nothing behind however it ends."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from system import children

pytestmark = [
    pytest.mark.usefixtures("stranger"),
    pytest.mark.skipif(sys.platform != "linux", reason="waits by pidfd"),
]

Pair = Callable[..., Path]
Gone = Callable[[int], Awaitable[None]]


def pids(fields: dict[str, dict[str, dict[str, int]]]) -> list[int]:
    """Return the process ids of a ready line of `up`."""
    return [node["pid"] for node in fields["nodes"].values()]


async def test_ctrl_c_stops_who_dials_before_who_is_dialled(run, pair: Pair, gone: Gone) -> None:
    up = await run("up", pair(), "--log-format", "plain")
    fields = await up.ready()
    up.signal(signal.SIGINT)
    assert await up.end() == 0
    ends = [line.split()[1] for line in up.log if line.endswith("| done")]
    assert ends == ["guest", "server"]
    for pid in pids(fields):
        await gone(pid)


async def test_a_failing_node_has_the_last_word_and_says_it_once(run, pair: Pair, gone: Gone) -> None:
    up = await run("up", pair())
    fields = await up.ready()
    os.kill(fields["nodes"]["guest"]["pid"], signal.SIGUSR1)
    assert await up.end() == 1
    assert up.log[-1] == "error: guest: the device hangs"
    assert sum("the device hangs" in line for line in up.log) == 1
    for pid in pids(fields):
        await gone(pid)


async def test_the_first_failure_has_the_last_word_whatever_fails_in_its_wake(run, pair: Pair) -> None:
    up = await run("up", pair('model = "fragile"'))
    fields = await up.ready()
    os.kill(fields["nodes"]["guest"]["pid"], signal.SIGUSR1)
    assert await up.end() == 1
    assert up.log[-1] == "error: guest: the device hangs"
    assert sum("the device hangs" in line for line in up.log) == 1
    assert sum("broke while draining" in line for line in up.log) == 1


async def test_a_failed_node_is_started_again_after_a_delay_that_grows(run, pair: Pair, gone: Gone) -> None:
    up = await run(
        "up", pair(guest='restart = "on-failure"'), "--restart-delay", "0.01", "--restart-delay-max", "0.015"
    )
    first = pids(await up.ready())
    await up.said("all nodes are ready")
    os.kill(first[1], signal.SIGUSR1)
    assert "failed: the device hangs; started again in 0.01 s" in await up.said("failed")
    await up.said("ready after")
    (second,) = children(up.pid) - set(first)
    os.kill(second, signal.SIGKILL)
    assert "failed: killed by SIGKILL; started again in 0.015 s" in await up.said("failed")
    await up.said("ready after")
    (third,) = children(up.pid) - {*first, second}
    up.signal(signal.SIGTERM)
    assert await up.end() == 0
    for pid in (*first, second, third):
        await gone(pid)


async def test_a_node_that_cannot_start_has_the_last_word(run, pair: Pair) -> None:
    up = await run("up", pair(guest='model = "bad"'))
    assert await up.end() == 1
    assert up.log[-1] == "error: guest: model 'bad' is not here; write another"
    assert sum("is not here" in line for line in up.log) == 1


async def test_a_killed_node_is_named_with_its_signal(run, pair: Pair) -> None:
    up = await run("up", pair())
    fields = await up.ready()
    os.kill(fields["nodes"]["server"]["pid"], signal.SIGKILL)
    assert await up.end() == 1
    assert up.log[-1] == "error: server: killed by SIGKILL"


async def test_the_second_ctrl_c_ends_everything_at_once(run, pair: Pair, gone: Gone) -> None:
    up = await run("up", pair(guest='model = "stubborn"'))
    fields = await up.ready()
    up.signal(signal.SIGINT)
    await up.said("draining")
    up.signal(signal.SIGINT)
    assert await up.end() == 130
    for pid in pids(fields):
        await gone(pid)


async def test_no_node_outlives_a_killed_launcher(run, pair: Pair, gone: Gone) -> None:
    up = await run("up", pair('model = "stuck"'))
    fields = await up.ready()
    os.kill(fields["nodes"]["server"]["pid"], signal.SIGUSR1)
    await up.said("stuck")
    up.signal(signal.SIGKILL)
    for pid in pids(fields):
        await gone(pid)


async def test_nodes_not_ready_in_time_are_named(run, pair: Pair) -> None:
    up = await run("up", pair(guest='model = "slow"'), "--ready-timeout", "3")
    assert await up.end() == 1
    assert re.fullmatch(r"error: (server, )?guest: not ready after 3 s.*", up.log[-1]), up.log


async def test_a_placement_that_nothing_settles_is_refused(run, pair: Pair) -> None:
    up = await run("up", pair(), "--set", "nodes.server.host=a.invalid", "--set", "nodes.guest.host=a.invalid")
    assert await up.end() == 2
    assert "--host NAME with one of: a.invalid" in up.log[-1]


async def test_json_logs_name_every_node(run, pair: Pair) -> None:
    up = await run("up", pair(), "--log-format", "json")
    await up.ready()
    up.signal(signal.SIGTERM)
    assert await up.end() == 0
    assert {json.loads(line)["node"] for line in up.log} == {"server", "guest", "up"}
