"""Where the benchmark itself runs: the client that reads each commit must not take the verify node's core.

On two cores, with a node on each, the kernel had the client read beside the verify node: 0.4 ms of nearly every round,
at any priority. Elsewhere a client has a core or a host of its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from amusd_mp.config import Deployment
from amusd_mp.node.binding import allowed_cores


def cores_for_client(deployment: Deployment, allowed: frozenset[int]) -> frozenset[int]:
    """Return the cores that no node is pinned to, else those that the verify node is not pinned to, else all."""
    pinned = {name: frozenset(node.cores or ()) for name, node in deployment.nodes.items()}
    nobodys = allowed - frozenset().union(*pinned.values())
    return nobodys or allowed - pinned[deployment.verify()] or allowed


def cores_for_peer(deployment: Deployment) -> list[int]:
    """Return the cores that another program gets: those of all nodes, of this process where one is not pinned."""
    nodes = deployment.nodes.values()
    if all(node.cores for node in nodes):
        return sorted({core for node in nodes for core in node.cores or ()})
    return sorted(allowed_cores() or ())


@contextmanager
def beside(deployment: Deployment) -> Iterator[None]:
    """Run this process beside the nodes of a deployment, which are running already.

    A process started meanwhile inherits these cores, so a node that fails and is started again is refused its own.
    """
    allowed = allowed_cores()
    if allowed is None:
        yield
        return
    os.sched_setaffinity(0, cores_for_client(deployment, allowed))
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)
