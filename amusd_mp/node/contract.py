"""The node contract: what a program must do to be started as `amusd-mp node NAME`.

A node is a class found by role through the entry-point group `amusd_mp.nodes`. It knows its configuration and its
surroundings (`NodeContext`); it does not know signals, exit codes, log formats or who started it: that is `lifecycle`,
which calls, on one asyncio loop and in this order,

    open()    reachable from now on; a verify node answers `loading`
    load()    the model; progress is told; the node counts as ready when this returns
    serve()   until a drain is over, or a failure
    close()   always, whatever happened before

and `drain()` at any time in between, when the node is to end gracefully.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Final

from amusd_mp.config import Deployment, NodeConfig
from amusd_mp.core.model import Loaded, ModelSpec
from amusd_mp.errors import ConfigError
from amusd_mp.runtime import OnProgress, Runtime

ENTRY_POINT_GROUP: Final = "amusd_mp.nodes"

LoadModel = Callable[[ModelSpec, OnProgress], Loaded]
"""Loads a model. Blocks, so a node calls it on its device's executor. Raises ModelError."""


@dataclass(frozen=True, slots=True)
class NodeContext:
    """All that a node is given.

    name:        its name in the deployment
    config:      its own table; the device is as this process sees it (`cuda:0` for the one GPU it is bound to)
    deployment:  the whole file, for `dial_url(name)`, `speculation` and `security`
    runtime:     clock, randomness, ids, executors
    load_model:  the engine's `load`; a simulation gives another
    """

    name: str
    config: NodeConfig
    deployment: Deployment
    runtime: Runtime
    load_model: LoadModel


class Node(ABC):
    """One program of a deployment. Constructing it has no effect outside the object."""

    def __init__(self, context: NodeContext) -> None:
        self.context = context

    @abstractmethod
    async def open(self) -> dict[str, object]:
        """Bind or dial, and return facts for the ready line, such as {"url": ..., "endpoints": {...}}.

        `url`, where given, is what was really bound (port 0 resolved). Values must be JSON's types. A node that dials
        need not have reached its peer yet. Raises AddressError; nothing stays bound when it raises and `close` is
        called.
        """

    @abstractmethod
    async def load(self, progress: OnProgress) -> None:
        """Make the node able to work: load the model, warm up. `progress` may be called from any thread.

        Raises ModelError, or what the device raises. May be cancelled; a load that is running on a thread then ends
        with the process.
        """

    @abstractmethod
    async def serve(self) -> None:
        """Work until a drain that `drain` began is over. Raises what made the node fail (a hung device, a lost port).

        Returns at once if the drain was asked for before. Cancelled when a drain takes too long.
        """

    @abstractmethod
    def drain(self) -> None:
        """Begin the graceful end: take nothing new, finish what runs. Idempotent, allowed before `serve`."""

    @abstractmethod
    async def close(self) -> None:
        """Release sockets, tasks and the device. Idempotent, allowed in every state, also half opened."""


def known_roles() -> tuple[str, ...]:
    """Return the roles that are installed."""
    return tuple(sorted({point.name for point in entry_points(group=ENTRY_POINT_GROUP)}))


def find_role(role: str) -> type[Node]:
    """Return the class of a role. Raises ConfigError listing the known roles, or naming what fails to import."""
    points = {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}
    if role not in points:
        raise ConfigError(f"no node has the role {role!r}; installed: {', '.join(sorted(points))}", key="role")
    try:
        found = points[role].load()
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"the role {role!r} ({points[role].value}) cannot be imported: {error}", key="role"
        ) from error
    if not (isinstance(found, type) and issubclass(found, Node)):
        raise ConfigError(f"the role {role!r} ({points[role].value}) is no subclass of amusd_mp.node.Node", key="role")
    return found
