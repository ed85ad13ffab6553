"""Nodes as processes: start them together, wait until all are ready, keep them, stop them in order.

Whoever dials is stopped before whoever is dialled, so a verify node loses its drafts first and never the other way
round. If a node fails, `wait` stops the others and raises the last error of the one that failed first: what else fails
in its wake is told before. Nodes are started by command line; none is imported here.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from amusd_mp.config import Deployment
from amusd_mp.errors import ConfigError, NodeFailed
from amusd_mp.launcher.command_line import CommandLines, from_here
from amusd_mp.launcher.keeper import Backoff, Keeper, State
from amusd_mp.launcher.process import NodeProcess, OnEvent
from amusd_mp.log import Event

logger = logging.getLogger(__name__)

READY_TIMEOUT: Final = 600.0
"""Seconds until all nodes must be ready: a large checkpoint from a slow disk."""

DRAIN_TIMEOUT: Final = 30.0

KILL_GRACE: Final = 10.0
"""Seconds beyond the drain that a node has for closing, before it is killed."""


@dataclass(frozen=True, slots=True)
class RunningNode:
    """One node that is ready: `url` is where this machine reaches it, if it listens; `facts` is its ready line."""

    name: str
    role: str
    pid: int
    url: str | None
    facts: Mapping[str, object]


class Launcher:
    """The nodes of a deployment that run on this machine. Belongs to one event loop."""

    def __init__(
        self,
        deployment: Deployment,
        names: Sequence[str] | None = None,
        *,
        on_event: OnEvent | None = None,
        ready_timeout: float = READY_TIMEOUT,
        drain_timeout: float = DRAIN_TIMEOUT,
        backoff: Backoff | None = None,
    ) -> None:
        """`names`: which nodes, by default those placed here. `on_event` gets every log line of every node.

        Raises ConfigError for a name that is not in the deployment, and for a free port nobody here can know.
        """
        self.deployment = deployment
        self._on_event = on_event or _log
        self._ready_timeout = ready_timeout
        self._drain_timeout = drain_timeout
        self._keepers = {
            name: self._keeper(name, backoff or Backoff())
            for name in (deployment.local_nodes() if names is None else names)
        }
        self._check_ports()
        self._bound: dict[str, str] = {}
        self._failed: dict[str, None] = {}  # names, in the order in which they failed
        self._lines: CommandLines | None = None
        self._owner: asyncio.Task[None] | None = None
        self._group: asyncio.TaskGroup | None = None
        self._closing = asyncio.Event()
        self._changed = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Launcher {list(self._keepers.values())}>"

    @property
    def nodes(self) -> dict[str, RunningNode]:
        """The nodes that are ready now."""
        return {
            name: RunningNode(name, self.deployment.node(name).role, process.pid, self.url(name), process.ready)
            for name, keeper in self._keepers.items()
            if keeper.state is State.READY and (process := keeper.process) and process.pid and process.ready
        }

    def url(self, name: str) -> str | None:
        """Return where this machine reaches a node; None if it binds nothing, or its port is not known yet."""
        if name in self._bound and self.deployment.has_free_port(name):
            return from_here(self._bound[name])
        node = self.deployment.node(name)
        known = (node.listen or node.address) and not self.deployment.has_free_port(name)
        return self.deployment.url_for(name) if known else None

    async def start(self) -> None:
        """Start every node and return when all are ready. To be called once.

        Raises NodeFailed with the node's own last error, or naming those not ready in time; nothing runs then.
        """
        if self._owner is not None:
            raise RuntimeError("a launcher is started once")
        self._lines = CommandLines(self.deployment)
        self._owner = asyncio.create_task(self._own(), name="launcher")
        try:
            await self._until_ready(tuple(self._keepers.values()))
        except BaseException:
            await self.stop()
            raise

    async def wait(self) -> None:
        """Return when the nodes have ended by themselves: all of them, or one that others dial. The rest is stopped.

        Raises NodeFailed when one failed, after the others were stopped.
        """
        while not (self._failure() or self._finished() or self._closing.is_set()):
            await self._change()
        failure = self._failure()
        await self.stop()
        if failure is not None:
            self._tell_other_failures(failure)
            raise failure

    async def stop(self) -> None:
        """Stop every node: those that dial first, then those that are dialled. Idempotent.

        Raises NodeFailed for one that the system does not end, once all others have ended.
        """
        immortal: list[NodeFailed] = []

        async def end(name: str) -> None:
            try:
                await self.stop_node(name)
            except NodeFailed as error:
                immortal.append(error)

        for wave in self._waves():
            async with asyncio.TaskGroup() as group:
                for name in wave:
                    group.create_task(end(name), name=f"stop {name}")
        self._closing.set()
        if self._owner is not None:
            if immortal:
                self._owner.cancel()  # its keepers wait for what does not end
            await asyncio.wait({self._owner})
        if self._lines is not None:
            self._lines.close()
        if immortal:
            raise immortal[0]
        if self._owner is not None and not self._owner.cancelled():
            self._owner.result()

    async def stop_node(self, name: str) -> None:
        """Let one node drain and end, and kill it if it does not. Idempotent."""
        keeper = self._named(name)
        keeper.terminate()
        if not await keeper.ended(self._drain_timeout + KILL_GRACE):
            await self.kill_node(name)

    async def kill_node(self, name: str) -> None:
        """End one node at once, as a crash would; it is not started again. Returns when it is gone."""
        keeper = self._named(name)
        keeper.kill()
        if not await keeper.ended(KILL_GRACE):
            raise NodeFailed(f"{name}: the system does not end it, even killed; see {keeper.process!r}", node=name)

    async def restart_node(self, name: str) -> None:
        """Stop a node if it runs, start it again, and return when it is ready. Raises NodeFailed."""
        keeper = self._named(name)
        await self.stop_node(name)
        if self._group is None or self._closing.is_set():
            raise RuntimeError("the launcher is not running")
        keeper.renew()
        self._group.create_task(keeper.run(), name=f"keep {name}")
        await self._until_ready([keeper])

    def kill_all(self) -> None:
        """End every node at once, without waiting."""
        for keeper in self._keepers.values():
            keeper.kill()

    async def _own(self) -> None:
        """Hold the tasks of all nodes until the launcher is stopped."""
        try:
            async with asyncio.TaskGroup() as self._group:
                for keeper in self._keepers.values():
                    self._group.create_task(keeper.run(), name=f"keep {keeper.name}")
                await self._closing.wait()
        finally:
            self._closing.set()
            self._changed.set()

    async def _until_ready(self, keepers: Sequence[Keeper]) -> None:
        try:
            async with asyncio.timeout(self._ready_timeout):
                while not all(keeper.state is State.READY for keeper in keepers):
                    if failure := self._failure():
                        raise failure
                    over = [keeper.name for keeper in keepers if keeper.state.over]
                    if over or self._closing.is_set():
                        raise NodeFailed(f"{', '.join(over) or 'a node'}: stopped before it was ready")
                    await self._change()
        except TimeoutError:
            late = ", ".join(keeper.name for keeper in keepers if keeper.state is not State.READY)
            text = f"{late}: not ready after {self._ready_timeout:g} s (--ready-timeout sets the limit)"
            raise NodeFailed(text, node=late) from None

    async def _next_process(self, name: str) -> NodeProcess:
        """Return a node's next process, once the port that it is to dial is known."""
        dialled = self._free_port_of(name)
        while dialled is not None and dialled not in self._bound and not self._keepers[name].ending:
            await self._change()
        assert self._lines is not None
        command = self._lines.of(name, self._drain_timeout, self._bound)
        return NodeProcess(name, command, self._on_event, self._lines.environ)

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def _on_change(self) -> None:
        for name, keeper in self._keepers.items():
            url = keeper.process.ready.get("url") if keeper.process and keeper.process.ready else None
            if isinstance(url, str):
                self._bound[name] = url
            if keeper.failure is not None:
                self._failed.setdefault(name)
            else:
                self._failed.pop(name, None)
        self._changed.set()

    def _failure(self) -> NodeFailed | None:
        """Return the first failure: what follows it is most often its consequence."""
        return next((self._keepers[name].failure for name in self._failed), None)

    def _tell_other_failures(self, first: NodeFailed) -> None:
        for name in self._failed:
            failure = self._keepers[name].failure
            if failure is not None and failure is not first:
                reason = str(failure).removeprefix(f"{name}: ")
                self._on_event(Event(name, f"failed, too: {reason}", "error", time.time()))

    def _finished(self) -> bool:
        """True if there is nothing to keep: all ended, or one drained that the others dial."""
        dialled = {self.deployment.dialled(name) for name in self._keepers}
        return all(keeper.state.over for keeper in self._keepers.values()) or any(
            keeper.state is State.DRAINED and name in dialled for name, keeper in self._keepers.items()
        )

    def _keeper(self, name: str, backoff: Backoff) -> Keeper:
        return Keeper(
            name,
            lambda: self._next_process(name),
            restart=self.deployment.node(name).restart == "on-failure",
            backoff=backoff,
            on_event=self._on_event,
            on_change=self._on_change,
        )

    def _named(self, name: str) -> Keeper:
        if name not in self._keepers:
            raise ConfigError(f"no node named {name!r} runs here; nodes: {', '.join(self._keepers)}", key="nodes")
        return self._keepers[name]

    def _free_port_of(self, name: str) -> str | None:
        """Return the node that `name` dials, if its URL is not known before it is ready."""
        dialled = self.deployment.dialled(name)
        return dialled if dialled is not None and self.deployment.has_free_port(dialled) else None

    def _check_ports(self) -> None:
        for name in self._keepers:
            dialled = self._free_port_of(name)
            if dialled is not None and dialled not in self._keepers:
                text = f"{dialled} has port 0 and is not started here, so its port is not known; give it one"
                raise ConfigError(f"nodes.{name}.dial: {text}", key=f"nodes.{name}.dial")

    def _waves(self) -> Iterator[list[str]]:
        """Yield the nodes in the order of stopping: the more dials lead on from a node, the earlier."""
        depths = {name: self._depth(name) for name in self._keepers}
        for depth in sorted(set(depths.values()), reverse=True):
            yield [name for name, own in depths.items() if own == depth]

    def _depth(self, name: str) -> int:
        seen = [name]
        while (dialled := self.deployment.dialled(seen[-1])) is not None and dialled not in seen:
            seen.append(dialled)
        return len(seen)


def _log(event: Event) -> None:
    logger.debug("%s: %s", event.node, event.message)
