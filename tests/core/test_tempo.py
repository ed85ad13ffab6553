"""Rule: when a draft's tokens come is learned from the windows that are seen, also where only the last of many is."""

from __future__ import annotations

import pytest

from amusd_mp.core.calibration import Calibration
from amusd_mp.core.messages import Window
from amusd_mp.core.proposals import Evidence
from amusd_mp.core.tempo import CommitTimes, Tempo


def window(version: int, tokens: int, drafted: int, rollbacks: int = 0, full: bool = False) -> Window:
    return Window("s", version, 10, (5,) * tokens, full=full, drafted=drafted, rollbacks=rollbacks)


def seen(window: Window, arrived: float) -> Evidence:
    return Evidence(1, window, arrived, 0.7, Calibration())


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


def test_the_turnaround_ends_with_the_first_token_after_a_rollback_although_a_later_one_was_seen() -> None:
    tempo = Tempo()
    tempo.period = 0.002
    tempo.arrived(seen(window(1, 6, 6), 1.0), window(2, 13, 19, rollbacks=1), commits(v2=1.001), 1.030)
    assert tempo.turnaround == pytest.approx(0.029 - 12 * 0.002)


def test_a_draft_whose_lead_was_full_turns_round_at_the_commit() -> None:
    tempo = Tempo()
    tempo.arrived(seen(window(1, 16, 16, full=True), 1.0), window(2, 15, 17), commits(v2=1.5), 1.504)
    assert tempo.turnaround == pytest.approx(0.004)
    assert tempo.period is None


def test_several_tokens_after_a_commit_say_nothing_while_the_period_is_unknown() -> None:
    tempo = Tempo()
    tempo.arrived(seen(window(1, 6, 6), 1.0), window(2, 9, 15, rollbacks=1), commits(v2=1.001), 1.030)
    assert tempo.turnaround is None
    tempo.arrived(seen(window(2, 9, 15, rollbacks=1), 1.03), window(3, 1, 16, rollbacks=2), commits(v3=1.031), 1.036)
    assert tempo.turnaround == pytest.approx(0.005)


def test_a_clock_that_jumps_back_makes_no_token_take_less_than_no_time() -> None:
    """A wait is weighed with the period, so a negative one would make the longest wait the best."""
    tempo = Tempo()
    tempo.arrived(seen(window(1, 2, 2), 1e9), window(1, 6, 6), commits(), 1.0)
    tempo.arrived(seen(window(1, 6, 6), 1e9), window(2, 1, 7, rollbacks=1), commits(v2=1e9), 1.0)
    assert (tempo.period, tempo.turnaround) == (0.0, 0.0)
