"""Rule: when a draft's tokens come is learned from the windows that are seen, also where only the last of many is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from amusd_mp.core.calibration import Record
from amusd_mp.core.messages import Window
from amusd_mp.core.proposals import Evidence
from amusd_mp.core.tempo import CommitTimes, Tempo


def window(
    version: int, tokens: int, drafted: int, rollbacks: int = 0, full: bool = False, resumed_at: float = 1.0
) -> Window:
    tokens_ = (5,) * tokens
    return Window(
        "s", version, 10, tokens_, full=full, drafted=drafted, rollbacks=rollbacks, resumed_at=resumed_at
    )  # fmt: skip


def seen(window: Window, arrived: float) -> Evidence:
    return Evidence(1, window, arrived, 0.7, Record())


def commits(**at: float) -> CommitTimes:
    found = CommitTimes()
    for version, time in at.items():
        found.add(int(version[1:]), time)
    return found


def test_the_period_is_the_time_of_one_token_also_over_several_and_across_commits() -> None:
    tempo = Tempo()
    tempo.arrived(seen(window(1, 2, 2), 1.0), window(1, 6, 6), commits(), 1.008)
    assert tempo.period == pytest.approx(0.002)
    tempo.arrived(seen(window(1, 6, 6), 1.008), window(2, 4, 8), commits(v2=1.009), 1.012)
    assert tempo.period == pytest.approx(0.002), "it kept its lead, so it was under way"
    assert tempo.turnaround is None


def of_a_near_draft() -> Tempo:
    """One whose clock is ours, and whose messages take no time."""
    tempo = Tempo()
    tempo.clock.arrived(1.0, 1.0)
    return tempo


def test_the_turnaround_ends_with_the_first_token_after_a_rollback_although_a_later_one_was_seen() -> None:
    tempo = of_a_near_draft()
    late = window(2, 13, 19, rollbacks=1, resumed_at=1.006)
    tempo.arrived(seen(window(1, 6, 6), 1.0), late, commits(v2=1.001), 1.030)
    assert tempo.turnaround == pytest.approx(0.005)
    assert tempo.period == pytest.approx(0.002)


def test_the_way_of_a_message_belongs_to_the_turnaround() -> None:
    """The draft's clock is an hour behind, and a message takes 3 ms: neither has to be told apart."""
    tempo = Tempo()
    tempo.clock.arrived(1.0, 3601.003)
    late = window(2, 13, 19, rollbacks=1, resumed_at=1.006)
    tempo.arrived(seen(window(1, 6, 6), 3601.0), late, commits(v2=3601.001), 3601.033)
    assert tempo.turnaround == pytest.approx(0.008)


def test_a_draft_whose_lead_was_full_turns_round_at_the_commit() -> None:
    tempo = of_a_near_draft()
    before = seen(window(1, 16, 16, full=True), 1.0)
    tempo.arrived(before, window(2, 15, 17, resumed_at=1.504), commits(v2=1.5), 1.504)
    assert tempo.turnaround == pytest.approx(0.004)
    assert tempo.period is None


def test_a_draft_that_went_on_before_the_commit_it_now_builds_on_says_nothing() -> None:
    tempo = of_a_near_draft()
    before = seen(window(1, 6, 6), 1.0)
    tempo.arrived(before, window(3, 9, 15, rollbacks=1, resumed_at=1.006), commits(v2=1.001, v3=1.02), 1.030)
    assert (tempo.turnaround, tempo.period) == (None, None)


def test_what_a_draft_does_beside_its_lead_makes_no_token_of_that_take_longer() -> None:
    tempo = of_a_near_draft()
    before = seen(replace(window(1, 2, 2), guessed_at=1.004), 1.004)
    late = replace(window(1, 6, 6), guessed_at=1.012)
    grown = tempo.grown(before, late, 1.040)
    assert grown == 1.012
    tempo.arrived(before, late, commits(), grown)
    assert tempo.period == pytest.approx(0.002)
    held = seen(late, grown)
    assert tempo.grown(held, replace(late, prepared=3), 1.050) == grown, "nothing of its lead"
    assert tempo.grown(held, replace(late, version=2), 1.050) == 1.050, "it goes on from a commit"
    assert tempo.grown(None, replace(late, guessed_at=0.0), 1.060) == 1.060, "a draft that does not tell"
    assert tempo.grown(held, replace(late, drafted=7, guessed_at=9.0), 1.060) == 1.060, "its clock jumped"


def test_a_draft_that_does_not_tell_when_it_went_on_has_no_turnaround() -> None:
    tempo = of_a_near_draft()
    before = seen(window(1, 6, 6, resumed_at=0.0), 1.0)
    tempo.arrived(before, window(2, 1, 7, rollbacks=1, resumed_at=0.0), commits(v2=1.001), 1.030)
    assert tempo.turnaround is None


def test_a_clock_that_jumps_back_makes_no_token_take_less_than_no_time() -> None:
    """A wait is weighed with the period, so a negative one would make the longest wait the best."""
    tempo = of_a_near_draft()
    tempo.arrived(seen(window(1, 2, 2), 1e9), window(1, 6, 6), commits(), 1.0)
    tempo.arrived(seen(window(1, 6, 6), 1e9), window(2, 1, 7, rollbacks=1, resumed_at=2.0), commits(v2=1e9), 1.0)
    assert (tempo.period, tempo.turnaround) == (0.0, None)
