"""A whole deployment on this machine, from Python: for tests, notebooks, benchmarks and fault injection.

    async with LocalCluster("configs/demo.toml") as cluster, cluster.connect() as client:
        ...

Real processes, started as `amusd-mp up` starts them. Imports neither nodes nor a model library.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from amusd_mp.config import Deployment, load_deployment
from amusd_mp.config.write import to_toml
from amusd_mp.launcher.keeper import Backoff
from amusd_mp.launcher.launcher import Launcher, RunningNode
from amusd_mp.launcher.process import OnEvent

if TYPE_CHECKING:
    from amusd_mp.client.client import Client

READY_TIMEOUT = 120.0
DRAIN_TIMEOUT = 10.0


class LocalCluster:
    """Every node of a deployment as a process of this machine, wherever the file places them.

    `config` is a file, a `Deployment`, or a mapping shaped like a file; relative paths in a mapping resolve against a
    temporary folder, so `listen = "ipc://verify.sock"` is a socket of its own. Leaving the context stops all nodes.
    """

    def __init__(
        self,
        config: str | Path | Mapping[str, object] | Deployment,
        sets: Iterable[str] = (),
        *,
        on_event: OnEvent | None = None,
        ready_timeout: float = READY_TIMEOUT,
        drain_timeout: float = DRAIN_TIMEOUT,
        backoff: Backoff | None = None,
    ) -> None:
        """`sets` override keys of a file or mapping. Timeouts in seconds. `on_event` gets every log line.

        Raises ConfigError.
        """
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        if isinstance(config, Mapping):
            self._folder = tempfile.TemporaryDirectory(prefix="amusd-mp-")
            file = Path(self._folder.name) / "deployment.toml"
            file.write_text(to_toml(config), encoding="utf-8")
            config = file
        self.deployment = config if isinstance(config, Deployment) else load_deployment(config, sets)
        self._launcher = Launcher(
            self.deployment,
            tuple(self.deployment.nodes),
            on_event=on_event,
            ready_timeout=ready_timeout,
            drain_timeout=drain_timeout,
            backoff=backoff,
        )

    @property
    def url(self) -> str:
        """The verify node's URL, as a client dials it. Raises ConfigError if the deployment has no verify node."""
        return self._launcher.url(self.deployment.verify()) or self.deployment.url_for(self.deployment.verify())

    @property
    def nodes(self) -> dict[str, RunningNode]:
        """The nodes that are ready now: name -> pid, url and the facts of the ready line."""
        return self._launcher.nodes

    def connect(self, **kwargs: Any) -> AbstractAsyncContextManager[Client]:
        """Return a context that connects a client to the verify node; arguments as for `amusd_mp.connect`."""
        from amusd_mp.client.client import connect

        return connect(self.url, **{**self.deployment.keys(), **kwargs})

    async def kill(self, name: str) -> None:
        """SIGKILL a node and wait until it is gone; the others go on."""
        await self._launcher.kill_node(name)

    async def stop(self, name: str) -> None:
        """Let a node drain and end; the others go on."""
        await self._launcher.stop_node(name)

    async def restart(self, name: str) -> None:
        """Start a node again, after draining it if it runs, at the URL it had. Returns when it is ready."""
        await self._launcher.restart_node(name)

    async def __aenter__(self) -> Self:
        try:
            await self._launcher.start()
        except BaseException:
            self._remove()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._launcher.stop()
        finally:
            self._remove()

    def _remove(self) -> None:
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None
