"""Rule: a client cut off for less than a lease goes on where it was; for longer, it is told when the lease is over.

In virtual time, on the real nodes and client; every token is looked at by the simulation's watch.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from amusd_mp.core import limits
from amusd_mp.testing.simulation import draw, run_scenario
from amusd_mp.testing.simulation.network import Weather
from amusd_mp.testing.simulation.run import Run
from amusd_mp.testing.simulation.scenario import Ask, ClientPlan, Incident, Kind, ModelPlan, Scenario

TOKENS = 400  # at 20 ms a step and a draft that is mostly right, some seconds


def scenario(*incidents: Incident, tokens: int = TOKENS) -> Scenario:
    """One client and one draft in fair weather."""
    return replace(
        draw(0),
        weather=Weather(),
        rows=2,
        draft_rows=2,
        lookahead=4,
        verify=ModelPlan(1.0, 0.02, 0.0, 0.0),
        drafts=((ModelPlan(0.7, 0.005, 0.0, 0.0),),),
        clients=(ClientPlan("client-0", 1, (Ask((1, 2, 3), tokens),)),),
        incidents=incidents,
    )


def played(*incidents: Incident, tokens: int = TOKENS) -> Run:
    run = run_scenario(scenario(*incidents, tokens=tokens), keep=True)
    assert not run.breach, run.breach
    return run


def when(run: Run, what: str) -> float:
    """Return the virtual time at which the client noted something."""
    return next(at for at, _, _, told in run.record if isinstance(told, str) and what in told)


@pytest.mark.parametrize("lasts", [1.0, 3.0, 6.0])
def test_within_the_lease_it_goes_on(lasts: float) -> None:
    run = played(Incident(1.0, Kind.CUT, "client-0", lasts))
    assert run.outcomes == {"whole": 1}
    assert when(run, "400 tokens of") > 1.0 + lasts  # it was in the middle


def test_beyond_the_lease_it_is_lost_when_that_is_over() -> None:
    run = played(Incident(1.0, Kind.CUT, "client-0", 60.0))
    assert run.outcomes == {"SequenceLost": 1}
    assert limits.LEASE <= when(run, ": SequenceLost") - 1.0 <= limits.LEASE + 3 * limits.BEAT


def test_a_lease_that_ran_out_meanwhile_is_no_whole_response() -> None:
    run = played(Incident(1.0, Kind.STOP, "client-0", limits.LEASE + 4.0), tokens=4000)
    assert run.outcomes == {"SequenceLost": 1}


def test_a_verify_node_that_dies_is_told_within_the_liveness_time() -> None:
    run = played(Incident(1.0, Kind.CRASH, "verify", 20.0))
    assert run.outcomes == {"SequenceLost": 1}
    assert when(run, ": SequenceLost") - 1.0 <= limits.LIVENESS + limits.BEAT


def test_a_verify_node_that_stands_still_goes_on_where_it_was() -> None:
    run = played(Incident(1.0, Kind.STOP, "verify", 6.0))
    assert run.outcomes == {"whole": 1}
