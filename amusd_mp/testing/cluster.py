"""A whole deployment inside this process: the real nodes on the running loop, with whatever models they are given.

    models = {"truth": lambda: Stub.of(StubModel(truth, rows=4, vocabulary=97)), ...}
    async with InProcessCluster(deployment(verify="truth", drafts=["guess"]), models) as cluster:
        async with cluster.connect() as client:
            ...

Node classes are found by role and opened, loaded, served and closed in the order a process would; there are no signals,
no exit codes and no device binding. With a `Runtime` of virtual time and an `inproc` URL nothing here is real but the
nodes' code, so it is what simulations and tests of races are made from.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import cache
from itertools import count
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from amusd_mp.config import Deployment, NodeConfig
from amusd_mp.core.model import Loaded, ModelSpec
from amusd_mp.core.params import Speculation
from amusd_mp.errors import ModelError
from amusd_mp.node import Node, NodeContext, find_role
from amusd_mp.runtime import OnProgress, Runtime

if TYPE_CHECKING:
    from amusd_mp.client.client import Client

_NAMES: Final = count()

_role = cache(find_role)  # looking through all installed packages costs more than starting a node in here


def deployment(
    verify: str, drafts: Sequence[str] = (), *, url: str | None = None, speculation: Speculation | None = None
) -> Deployment:
    """Return a verify node named "verify" and drafts named "draft-0", "draft-1", ..., each with the model of that name.

    `url` is what the verify node binds; by default a fresh `inproc` name.
    """
    url = url or f"inproc://cluster-{next(_NAMES)}"
    nodes = {"verify": NodeConfig(role="verify", model=verify, listen=url)}
    for number, model in enumerate(drafts):
        nodes[f"draft-{number}"] = NodeConfig(role="draft", model=model, dial="verify")
    return Deployment(nodes, speculation or Speculation())


class InProcessCluster:
    """The nodes of a deployment as tasks. `models` maps what a node's `model` key says to what loads it.

    Leaving the context drains the drafts, then the verify node, and raises the first failure of a node that nobody
    was told of.
    """

    def __init__(
        self, deployment: Deployment, models: Mapping[str, Callable[[], Loaded]], *, runtime: Runtime | None = None
    ) -> None:
        self.deployment = deployment
        self.nodes: dict[str, Node] = {}
        """The nodes that are running, by name."""
        self.url = deployment.url_for(deployment.verify())
        self._models = models
        self._runtime = runtime or Runtime()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._failures: dict[str, Exception] = {}
        self._owner: asyncio.Task[None] | None = None
        self._group: asyncio.TaskGroup | None = None
        self._closing = asyncio.Event()

    def __repr__(self) -> str:
        return f"<InProcessCluster {self.url} {', '.join(self.nodes)}>"

    def connect(self, **kwargs: Any) -> AbstractAsyncContextManager[Client]:
        """Connect a client to the verify node; arguments as for `amusd_mp.connect`."""
        from amusd_mp.client.client import connect

        return connect(self.url, **{"runtime": self._runtime, **self.deployment.keys(), **kwargs})

    async def start(self, name: str) -> Node:
        """Start a node that is not running and return it once it is ready. Raises what its `open` and `load` raise."""
        assert self._group is not None
        config = self.deployment.node(name)
        node = _role(config.role)(NodeContext(name, config, self.deployment, self._runtime, self._load))
        ready = asyncio.Event()
        self._tasks[name] = self._group.create_task(self._live(name, node, ready), name=name)
        await ready.wait()
        self._raise(name)
        return node

    async def stop(self, name: str) -> None:
        """Have a node drain, and wait until it has. Raises what it failed with."""
        if name in self.nodes:
            self.nodes[name].drain()
        await self.ended(name)

    async def cut(self, name: str) -> None:
        """End a node without a drain, and wait until it is closed: the nearest to a crash that one process allows."""
        if name in self._tasks:
            self._tasks[name].cancel()
        await self.ended(name)

    async def ended(self, name: str) -> None:
        """Wait until a node has ended. Raises what it failed with."""
        if name in self._tasks:
            await asyncio.wait([self._tasks[name]])
        self._raise(name)

    def _raise(self, name: str) -> None:
        failure = self._failures.pop(name, None)
        if failure is not None:
            raise failure

    async def _live(self, name: str, node: Node, ready: asyncio.Event) -> None:
        """Run one node to its end; a failure is kept, because the other nodes go on."""
        try:
            await node.open()
            await node.load(lambda what, share: None)
            self.nodes[name] = node
            ready.set()
            await node.serve()
        except Exception as error:
            self._failures[name] = error
        finally:
            self.nodes.pop(name, None)
            await node.close()
            ready.set()

    def _load(self, spec: ModelSpec, progress: OnProgress) -> Loaded:
        if spec.model not in self._models:
            known = ", ".join(self._models)
            raise ModelError(f"this cluster was given no model {spec.model!r}; it has: {known}", model=spec.model)
        return self._models[spec.model]()

    async def _own(self, opened: asyncio.Event) -> None:
        """Hold the tasks of all nodes: a context of its own, so that the cluster may be left in another task."""
        async with asyncio.TaskGroup() as self._group:
            opened.set()
            await self._closing.wait()
            for task in self._tasks.values():
                task.cancel()

    async def __aenter__(self) -> Self:
        opened = asyncio.Event()
        self._owner = asyncio.create_task(self._own(opened), name=f"cluster {self.url}")
        await opened.wait()
        try:
            for name in (self.deployment.verify(), *self.deployment.drafts()):
                await self.start(name)
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            for name in reversed(list(self._tasks)):
                await self.stop(name)
        finally:
            await self._close()

    async def _close(self) -> None:
        self._closing.set()
        if self._owner is not None:
            await self._owner
