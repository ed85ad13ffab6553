"""Rule: silence is borne for as long as its owner will, evidence of death is not, and either is told once."""

from __future__ import annotations

import pytest

from amusd_mp.core.limits import BEAT, LEASE, LIVENESS
from amusd_mp.session.pulse import Pulse, State


def looks(pulse: Pulse, first: float, last: float) -> list[tuple[float, State]]:
    """Look every beat and return when the state changed, and to what."""
    found, now = [], first
    while now <= last:
        if pulse.look(now):
            found.append((now, pulse.state))
        now += BEAT
    return found


def test_who_bears_no_silence_loses_at_the_liveness_time() -> None:
    pulse = Pulse()
    assert looks(pulse, 0.0, 5.0) == []  # never greeted
    pulse.greeted(5.0)
    assert looks(pulse, 5.0, 30.0) == [(5.0 + LIVENESS + BEAT, State.LOST)]
    pulse.greeted(30.0)
    assert pulse.state is State.ALIVE


def test_who_bears_silence_for_a_lease_is_told_of_both() -> None:
    pulse = Pulse(patience=LEASE)
    pulse.greeted(0.0)
    assert looks(pulse, 0.0, 30.0) == [(LIVENESS + BEAT, State.SILENT), (LEASE + BEAT, State.LOST)]


def test_what_is_heard_again_within_patience_was_never_lost() -> None:
    pulse = Pulse(patience=LEASE)
    pulse.greeted(0.0)
    looks(pulse, 0.0, LEASE - 1.0)
    assert pulse.state is State.SILENT
    pulse.greeted(LEASE - 1.0)
    assert looks(pulse, LEASE - 1.0, LEASE + 0.5) == []


@pytest.mark.parametrize("silent", [0.0, LIVENESS + 1.0])
def test_a_death_that_was_seen_is_told_at_once_and_once(silent: float) -> None:
    pulse = Pulse(patience=LEASE)
    assert not pulse.lose()  # of what was never greeted nothing is lost
    pulse.greeted(0.0)
    looks(pulse, 0.0, silent)
    assert pulse.lose()
    assert not pulse.lose()
    assert looks(pulse, silent, 30.0) == []


def test_time_in_which_this_process_stood_still_is_no_silence() -> None:
    pulse = Pulse()
    pulse.greeted(0.0)
    looks(pulse, 0.0, 1.0)
    assert not pulse.look(60.0)
    assert pulse.state is State.ALIVE


def test_what_was_heard_after_a_standstill_was_not_heard_in_the_future() -> None:
    pulse = Pulse()
    pulse.greeted(0.0)
    looks(pulse, 0.0, 1.0)
    pulse.greeted(60.0)
    assert not pulse.look(60.0)
    assert pulse.silence(60.0) == 0.0
