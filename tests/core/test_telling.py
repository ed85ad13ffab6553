"""Rule: a lead is told while it may be waited for, and when it can be used; what completes it always."""

from __future__ import annotations

from amusd_mp.core.telling import PROMPT, SHARE, Telling


def after(*commits: float) -> Telling:
    """One that has heard commits at these times, each in a round of its own."""
    telling = Telling()
    for number, time in enumerate(commits):
        telling.commit(time, number)
    return telling


def test_it_tells_everything_until_it_knows_how_long_a_step_takes() -> None:
    assert Telling().due(99, False, 5.0)
    assert after(5.0).due(99, False, 5.001)


def test_a_short_lead_may_be_waited_for_and_a_long_one_is_told_before_the_step_is_over() -> None:
    telling = after(5.0, 5.1)
    assert telling.due(PROMPT, False, 5.101)
    assert not telling.due(PROMPT + 1, False, 5.101)
    assert not telling.due(99, False, 5.1 + SHARE * 0.099)
    assert telling.due(99, False, 5.1 + SHARE * 0.101)


def test_a_complete_lead_is_told_at_once() -> None:
    assert after(5.0, 5.1).due(99, True, 5.101)


def test_commits_of_one_round_are_one_step() -> None:
    telling = after(5.0, 5.1)
    for _ in range(8):
        telling.commit(5.2, 2)
        telling.commit(5.2001, 2)
    assert not telling.due(99, False, 5.25)


def test_a_shorter_step_is_learned_soon_and_a_longer_one_slowly() -> None:
    assert after(5.0, 5.1, 5.11, 5.12).due(99, False, 5.17)
    longer = after(5.0, 5.1, 5.4, 5.7)
    assert not longer.due(99, False, 5.75)
    assert longer.due(99, False, 5.85)


def test_the_time_between_two_requests_is_no_step() -> None:
    telling = after(5.0, 5.1)
    telling.pause()
    assert telling.due(99, False, 60.0)
    telling.commit(60.0, 7)
    assert not telling.due(99, False, 60.0 + SHARE * 0.099)
    assert telling.due(99, False, 60.0 + SHARE * 0.101)
