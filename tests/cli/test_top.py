"""Rule: `top` draws what the steps say: who was busy when, what was accepted, and that nobody answers."""

from __future__ import annotations

import io
import threading
from typing import Any

from rich.console import Console

from amusd_mp.cli.dashboard import History, acceptance_by_second, busy, frame, outcomes, rates, strip
from amusd_mp.core.messages import StepTrace, TraceEntry


def steps() -> History:
    history = History()
    history.take(StepTrace("draft", 1, 10.0, 10.5, (TraceEntry("s", 5, 1, tokens=(1,)),), node="d", heard=10.5))
    history.take(StepTrace("verify", 1, 10.5, 11.0, (TraceEntry("s", 5, 4, 3, 2, 3),), node="v"))
    history.take(StepTrace("draft", 2, 10.5, 10.75, (TraceEntry("s", 6, 1, tokens=(1,)),), node="d", heard=10.75))
    return history


def test_lanes_show_when_a_device_was_busy() -> None:
    assert strip(busy(steps(), "v", 10.0, 0.25, 4)) == "  ██"
    assert strip(busy(steps(), "d", 10.0, 0.5, 2)) == "█▄"
    assert strip([0.001, 2.0]) == "▁█"


def test_what_came_of_it_is_counted() -> None:
    assert outcomes(steps(), 10.0, 0.5, 3) == ("  2", "  1")
    assert rates(steps(), 11.0) == (3.0, 2 / 3)
    assert acceptance_by_second(steps(), 11.5, 2) == [0.0, 2 / 3]


def test_a_clock_of_another_host_is_shifted_and_the_old_is_forgotten() -> None:
    history = History()
    far = StepTrace("draft", 1, 500.0, 500.5, node="d", heard=10.6)
    history.take(far)
    assert [round(each, 3) for each in history.span(far)] == [10.1, 10.6]
    history.take(StepTrace("verify", 2, 90.0, 90.1, node="v"))
    assert len(history.steps) == 1


def test_silence_is_said() -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(frame(History(), None, 0.0, width=80, window=2.0))
    assert "the verify node is silent" in console.export_text()


def test_the_command_watches_a_running_pair(tools: Any) -> None:
    writing = threading.Thread(
        target=tools.run, args=("generate", "def f(", "--url", tools.url, "--max-tokens", "600", "--ignore-eos")
    )
    writing.start()
    done = tools.run("top", "--url", tools.url, "--frames", "12", "--window", "3")
    writing.join()
    assert (done.returncode, done.stderr) == (0, "")
    for part in ("bundled:verify on cpu", "draft guesses", "verify decides", "accepted", "acceptance"):
        assert part in done.stdout
    assert tools.run("top", "--url", "tcp://127.0.0.1:1", "--timeout", "0.2").returncode == 1
