"""Rule: the benchmark's client takes no core from the verify node where there is another, and gives all back."""

from __future__ import annotations

import os

import pytest

from amusd_mp.bench.placing import beside, cores_for_client
from amusd_mp.config import Deployment, NodeConfig
from amusd_mp.core.params import Speculation


def deployment(verify: list[int] | None, draft: list[int] | None) -> Deployment:
    return Deployment(
        {
            "verify": NodeConfig(role="verify", model="bundled:verify", cores=verify, listen="ipc:///tmp/none.sock"),
            "draft": NodeConfig(role="draft", model="bundled:draft", cores=draft, dial="verify"),
        },
        Speculation(),
    )


@pytest.mark.parametrize(
    ("verify", "draft", "allowed", "client"),
    [
        ([0], [1], {0, 1, 2, 3}, {2, 3}),
        ([0], [1], {0, 1}, {1}),
        ([0, 1], [1], {0, 1}, {0, 1}),
        (None, [1], {0, 1}, {0}),
        (None, None, {0, 1}, {0, 1}),
    ],
)
def test_the_client_goes_where_no_node_is_else_beside_a_draft(
    verify: list[int] | None, draft: list[int] | None, allowed: set[int], client: set[int]
) -> None:
    assert cores_for_client(deployment(verify, draft), frozenset(allowed)) == client


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system pins nothing")
def test_afterwards_it_runs_where_it_did() -> None:
    before = os.sched_getaffinity(0)
    with beside(deployment([min(before)], None)):
        assert os.sched_getaffinity(0) == (before - {min(before)} or before)
    assert os.sched_getaffinity(0) == before
