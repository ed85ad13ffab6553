"""Rule: on one clock, every guess has its fate and every window the step that used it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import cast
from xml.etree import ElementTree

import pytest

from amusd_mp.bench.bound import recorded
from amusd_mp.bench.curves import acceptance, tokens_over_time
from amusd_mp.bench.perfetto import trace
from amusd_mp.bench.picture import draw
from amusd_mp.bench.prompts import BenchPrompt
from amusd_mp.bench.timeline import Fate, Flow, Timeline, arrange, figures, step_times
from amusd_mp.bench.watching import RECORDINGS, Recorder
from amusd_mp.client.client import Client
from amusd_mp.core.messages import StepTrace, TraceEntry

AHEAD = 100.0
"""How far the draft's clock is ahead of the verify node's."""

WAY = 0.001


def verify(number: int, began: float, start: int, proposed: int, accepted: int, beside: int = 0) -> StepTrace:
    entry = TraceEntry("s", start, proposed + 1, proposed, accepted, accepted + 1, beside=beside, version=number)
    return StepTrace("verify", number, began, began + 0.03, (entry,), "verify")


def draft(number: int, began: float, start: int, fed: int = 1, version: int = 1) -> StepTrace:
    ended = began + 0.01
    entry = TraceEntry("s", start, fed, tokens=(7,), version=version)
    return StepTrace("draft", number, began + AHEAD, ended + AHEAD, (entry,), "draft", ended + WAY)


def example() -> Timeline:
    """A prompt of 10; guesses for 11, 12, 13; the first is accepted, the second refused; then the draft starts over."""
    steps = [
        verify(1, 0.000, 10, 0, 0),  # commits position 11... and is told late
        draft(1, 0.031, 0, 11),
        draft(2, 0.041, 11),
        draft(3, 0.051, 12),
        verify(2, 0.053, 10, 2, 1),  # positions 11, 12 proposed, one accepted: 12 is decided otherwise
        draft(4, 0.083 + WAY, 12, version=2),  # feeds the token decided at 12, one way after the decision
    ]
    return arrange(steps, "s")


def test_clocks_are_set_by_messages_in_both_directions() -> None:
    offset = example().offset
    assert offset.seconds == pytest.approx(-AHEAD, abs=1e-9)
    assert offset.error == pytest.approx(WAY)


def test_guesses_have_fates_and_windows_their_steps() -> None:
    timeline = example()
    assert timeline.fates == (Fate.ACCEPTED, Fate.REJECTED, Fate.UNUSED, Fate.UNUSED)
    assert timeline.flows == (Flow(1, 1),)


def test_a_lead_is_refused_where_what_stood_beside_it_was_accepted() -> None:
    steps = [
        verify(1, 0.000, 10, 0, 0),
        draft(1, 0.031, 0, 11),
        draft(2, 0.041, 11),
        draft(3, 0.051, 12),
        verify(2, 0.062, 10, 2, 2, beside=1),  # the draft's own guess for 11, another for 12
        draft(4, 0.093, 13, version=2),
        verify(3, 0.104, 13, 1, 1),
    ]
    timeline = arrange(steps, "s")
    assert timeline.fates == (Fate.ACCEPTED, Fate.REJECTED, Fate.UNUSED, Fate.ACCEPTED)


def test_a_step_that_only_prepared_other_ways_is_no_guess_of_its_position() -> None:
    entry = TraceEntry("s", 10, 1, beside=2, version=1)
    beside = StepTrace("draft", 9, 0.031 + AHEAD, 0.041 + AHEAD, (entry,), "draft", 0.041 + WAY)
    steps = [
        verify(1, 0.0, 9, 0, 0),
        draft(1, 0.01, 10, version=0),
        beside,  # ends where the guess before it does
        verify(2, 0.042, 10, 1, 1),
    ]
    timeline = arrange(steps, "s")
    assert timeline.fates == (Fate.ACCEPTED, Fate.PREPARED)
    assert timeline.flows == (Flow(0, 1),)


def test_what_was_guessed_before_a_refusal_is_not_taken_for_what_was_prepared() -> None:
    steps = [
        verify(1, 0.000, 10, 0, 0),
        draft(1, 0.031, 11),
        draft(2, 0.041, 12),
        draft(3, 0.051, 13),  # behind a guess that is refused
        verify(2, 0.062, 11, 1, 0),  # goes another way, which was prepared
        verify(3, 0.093, 12, 1, 1),  # with the guess behind that, which no step of the lead made
    ]
    timeline = arrange(steps, "s")
    assert timeline.fates == (Fate.REJECTED, Fate.UNUSED, Fate.UNUSED)
    assert timeline.flows == (Flow(0, 1),)


def test_shares_of_the_time_are_of_the_whole() -> None:
    found = figures(example())
    assert found["wall_ms"] == pytest.approx(94.0)
    assert found["verify_busy"] == pytest.approx(0.06 / 0.094)
    assert found["overlap"] == pytest.approx(0.008 / 0.094)


def test_step_times_are_by_proposals() -> None:
    found = step_times([example()])
    assert found["verify_ms"] == {"0": pytest.approx(30.0), "2": pytest.approx(30.0)}
    assert found["verify_steps"] == {"0": 1, "2": 1}
    assert found["draft_ms"] == pytest.approx(10.0)


def slower() -> Timeline:
    """The same with steps that take twice as long, as under another strategy they may."""
    timeline = example()

    def longer(steps: tuple[StepTrace, ...]) -> tuple[StepTrace, ...]:
        return tuple(replace(step, ended=2 * step.ended - step.began) for step in steps)

    return replace(timeline, verify=longer(timeline.verify), draft=longer(timeline.draft))


def test_step_times_are_each_contenders_own() -> None:
    recorder = Recorder(cast(Client, None), [], 8)
    recorder._recordings = [{"alternating, k=2": example(), "amusd": slower()}, {"amusd": slower()}]
    _, found = asyncio.run(recorder.results(BenchPrompt("p", ("?",)), "a pair"))
    rounds, main = (found["contenders"][label] for label in ("alternating, k=2", "amusd"))
    assert rounds["verify_ms"] == {"0": pytest.approx(30.0), "2": pytest.approx(30.0)}
    assert main["verify_ms"] == {"0": pytest.approx(60.0), "2": pytest.approx(60.0)}
    assert (rounds["draft_ms"], main["draft_ms"]) == (pytest.approx(10.0), pytest.approx(20.0))
    assert (rounds["verify_steps"], main["verify_steps"]) == ({"0": 1, "2": 1}, {"0": 2, "2": 2})
    assert (found["verify_ms"]["0"], found["recorded"]) == (pytest.approx(50.0), 2)
    assert recorded(found, "amusd") == pytest.approx((60.0, 0.0, 20.0), abs=1e-6)
    assert recorded(found, "autoregressive") == pytest.approx((50.0, 0.0, 50 / 3), abs=1e-6), "of all where it has none"


def test_a_few_prompts_from_all_over_the_run_are_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("amusd_mp.bench.watching.UNWATCHED", 0.0)

    class Noted(Recorder):
        async def record(self, prompt: BenchPrompt) -> None:
            noted.append(prompt.id)
            raise ValueError("one that fails must not end the measurement")

    async def recorded(blocks: int) -> list[str]:
        noted.clear()
        recorder = Noted(cast(Client, None), [], blocks)
        for number in range(blocks):
            await recorder.between(BenchPrompt(str(number), ("?",)))
        return list(noted)

    noted: list[str] = []
    assert asyncio.run(recorded(3)) == ["0", "1", "2"]
    many = asyncio.run(recorded(144))
    assert many == [str(number) for number in range(9, 144, 18)]
    assert len(many) == RECORDINGS
    assert all(RECORDINGS // 2 <= len(asyncio.run(recorded(blocks))) <= RECORDINGS for blocks in range(8, 40))


def test_the_trace_has_a_process_per_node_and_arrows() -> None:
    found = json.loads(trace({"amusd": example()}, "a pair (padded)"))
    events = found["traceEvents"]
    assert found["otherData"]["title"] == "a pair (padded)"
    assert {event["args"]["name"] for event in events if event["name"] == "process_name"} == {"draft", "verify"}
    assert sorted(event["ph"] for event in events if event.get("id") == "amusd 0") == ["f", "s"]
    assert {event["args"]["fate"] for event in events if event["ph"] == "X" and "fate" in event["args"]} == {
        "accepted", "rejected", "unused",
    }  # fmt: skip
    assert all(event["ts"] >= 0 for event in events if "ts" in event)
    assert found["otherData"]["clock_offsets"]["amusd"]["seconds"] == pytest.approx(-AHEAD)


def test_the_picture_is_well_formed_and_has_a_strip_for_each() -> None:
    tree = ElementTree.fromstring(draw({"alternating, k=2": example(), "<amusd>": example()}, "a & b", 0.1))
    texts = ["".join(each.itertext()) for each in tree.iter("{http://www.w3.org/2000/svg}text")]
    assert {"a & b", "alternating, k=2", "<amusd>", "1/2"} <= set(texts)
    assert len(list(tree.iter("{http://www.w3.org/2000/svg}line"))) == 2


def test_curves_are_well_formed() -> None:
    rows = [{"contender": "a & b", "histogram": (1, 2, 3)}, {"contender": "none", "histogram": ()}]
    svg = "{http://www.w3.org/2000/svg}"
    assert len(list(ElementTree.fromstring(acceptance(rows, "t")).iter(f"{svg}rect"))) == 1 + 3 + 1
    curve = ElementTree.fromstring(tokens_over_time({"amusd": example()}, "t"))
    assert "".join(list(curve.iter(f"{svg}text"))[-1].itertext()) == "amusd"


def test_a_sequence_nobody_saw_has_no_timeline() -> None:
    with pytest.raises(ValueError, match="no step of sequence x"):
        arrange([verify(1, 0.0, 3, 0, 0)], "x")
