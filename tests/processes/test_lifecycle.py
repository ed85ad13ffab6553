"""A node says when it is ready, ends gracefully when asked, at once when asked twice, and says why it failed."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.usefixtures("stranger"),
    pytest.mark.skipif(sys.platform != "linux", reason="the stranger tells its cores, and waits by pidfd"),
]

Pair = Callable[..., Path]


async def test_ready_line_and_ready_file_then_a_drain_that_ends_with_0(run, pair: Pair, tmp_path: Path) -> None:
    ready_file = tmp_path / "ready.json"
    ready_file.write_text("from an earlier life")
    child = await run("node", "server", "--config", pair(), "--ready-file", ready_file)
    fields = await child.ready()
    assert fields["event"] == "ready"
    assert (fields["node"], fields["role"], fields["pid"]) == ("server", "stranger", child.pid)
    assert str(fields["url"]).startswith("tcp://127.0.0.1:")
    assert not str(fields["url"]).endswith(":0")
    assert json.loads(ready_file.read_text()) == fields
    child.signal(signal.SIGTERM)
    assert await child.end() == 0
    assert not ready_file.exists()
    assert all("server | " in line for line in child.log), child.log
    assert [line.partition(" | ")[2] for line in child.log][-2:] == ["draining", "done"]


async def test_a_stop_while_it_loads_needs_no_waiting_for_the_load(run, pair: Pair) -> None:
    child = await run("node", "server", "--config", pair('model = "slow"'))
    await child.said("loading")
    child.signal(signal.SIGINT)
    assert await child.end() == 0
    assert "before it was ready" in child.log[-1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_the_second_signal_ends_it_at_once(run, pair: Pair, number: int) -> None:
    child = await run("node", "server", "--config", pair('model = "stubborn"'))
    await child.ready()
    child.signal(number)
    await child.said("draining")
    child.signal(number)
    assert await child.end() == 128 + number


async def test_the_second_signal_ends_a_node_whose_loop_is_stuck(run, pair: Pair) -> None:
    child = await run("node", "server", "--config", pair('model = "stuck"'))
    await child.ready()
    child.signal(signal.SIGUSR1)
    await child.said("stuck")
    child.signal(signal.SIGINT)
    child.signal(signal.SIGTERM)
    assert await child.end() in (128 + signal.SIGINT, 128 + signal.SIGTERM)


async def test_a_drain_that_takes_too_long_is_a_failure(run, pair: Pair) -> None:
    child = await run("node", "server", "--config", pair('model = "stubborn"'), "--drain-timeout", "0.1")
    await child.ready()
    child.signal(signal.SIGTERM)
    assert await child.end() == 1
    assert child.log[-1].startswith("error: the drain was not over after 2.1 s, 2 more than --drain-timeout")


async def test_what_the_user_can_mend_is_one_line_and_exit_code_2(run, pair: Pair) -> None:
    child = await run("node", "server", "--config", pair('model = "bad"'))
    assert await child.end() == 2
    assert child.log[-1] == "error: model 'bad' is not here; write another"
    assert not any("Traceback" in line for line in child.log)


async def test_a_bug_shows_where_it_is_and_its_reason_last(run, pair: Pair) -> None:
    child = await run("node", "server", "--config", pair('model = "broken"'))
    assert await child.end() == 1
    assert any("Traceback" in line for line in child.log)
    assert child.log[-1] == "error: ValueError: a bug of two lines"


async def test_debug_shows_where_every_error_is_from(run, pair: Pair) -> None:
    child = await run("node", "server", "--config", pair('model = "bad"'), "--debug")
    assert await child.end() == 2
    assert any("Traceback" in line for line in child.log)
    assert child.log[-1] == "error: model 'bad' is not here; write another"


async def test_a_failure_while_it_serves_is_exit_code_1(run, pair: Pair) -> None:
    child = await run("node", "server", "--config", pair())
    await child.ready()
    child.signal(signal.SIGUSR1)
    assert await child.end() == 1
    assert child.log[-1] == "error: the device hangs"


async def test_json_logs_are_json_to_the_last_line(run, pair: Pair) -> None:
    child = await run("node", "server", "--config", pair('model = "bad"'), "--log-format", "json")
    assert await child.end() == 2
    events = [json.loads(line) for line in child.log]
    assert {event["node"] for event in events} == {"server"}
    assert events[-1] | {"time": 0} == {
        "time": 0,
        "level": "error",
        "node": "server",
        "message": "model 'bad' is not here; write another",
        "fatal": True,
    }


async def test_it_ends_with_its_standard_input_if_told_so(run, pair: Pair) -> None:
    child = await run("node", "server", "--config", pair('model = "stuck"'), "--exit-with-stdin")
    await child.ready()
    child.signal(signal.SIGUSR1)
    await child.said("stuck")
    child.process.stdin.close()
    assert await child.end() == 1
    assert child.log[-1] == "error: the parent process is gone"


async def test_it_is_bound_to_its_device_before_a_model_library_is_there(
    run, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = min(os.sched_getaffinity(0))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    child = await run("node", "server", "--config", pair(f"cores = [{core}]\nthreads = 3"), "--device", "cuda:1")
    fields = await child.ready()
    assert fields["device"] == "cuda:0"
    assert fields["environment"] == {"CUDA_VISIBLE_DEVICES": "7", "OMP_NUM_THREADS": "3"}
    assert fields["cores"] == [core]
    assert fields["torch"] is False
    child.signal(signal.SIGTERM)
    assert await child.end() == 0


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["node", "absent"], "no node is named 'absent'; nodes: server, guest"),
        (["node", "server", "--set", "nodes.server.role=oracle"], "no node has the role 'oracle'; installed: draft,"),
        (["node", "server", "--set", "nodes.server.cores=[4000]"], "nodes.server.cores: no core 4000"),
        (["node", "server", "--set", "nodes.server.host=gpu-a", "--host", "gpu-b"], "placed on host gpu-a"),
    ],
)
async def test_a_wrong_call_ends_with_2_and_the_reason(run, pair: Pair, arguments: list[str], reason: str) -> None:
    child = await run(*arguments, "--config", pair())
    assert await child.end() == 2
    assert child.log[-1].startswith("error: ")
    assert reason in child.log[-1]
