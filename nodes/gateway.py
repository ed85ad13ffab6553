"""The gateway node: OpenAI's HTTP interface in front of a verify node, with numbers and a live page.

It owns no device and no model: it embeds the client as any application does. Here is its life alone; what it answers is
`amusd_mp.gateway`, which needs the packages of `amusd-mp[server]` and is imported when a gateway starts.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from amusd_mp.client.client import connect
from amusd_mp.config.schema import DEFAULT_HTTP
from amusd_mp.errors import AddressError, ConfigError
from amusd_mp.node import Node, NodeContext
from amusd_mp.runtime import OnProgress
from amusd_mp.tasks import task_group

if TYPE_CHECKING:
    from amusd_mp.gateway.server import Gateway

log = logging.getLogger(__name__)

BACKLOG = 512  # connections the system holds until they are accepted


class GatewayNode(Node):
    """Serves HTTP. See `amusd_mp.node.Node` for the life of a node."""

    def __init__(self, context: NodeContext) -> None:
        super().__init__(context)
        self._socket: socket.socket | None = None
        self._gateway: Gateway | None = None
        self._drained = asyncio.Event()

    async def open(self) -> dict[str, object]:
        self._gateway = self._make_gateway()
        self._socket = bind(self.context.config.listen or DEFAULT_HTTP)
        host, port = self._socket.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        return {"url": f"http://{shown}:{port}", "dial": self._gateway.upstream.url}

    def _make_gateway(self) -> Gateway:
        try:
            from amusd_mp.gateway.server import Gateway
        except ModuleNotFoundError as error:
            raise ConfigError(
                f'nodes.{self.context.name}: a gateway needs {error.name}; pip install "amusd-mp[server]"', key="role"
            ) from error
        return Gateway(
            self.context.deployment.dial_url(self.context.name),
            self.context.runtime,
            key=self._key(),
            began=time.time(),
            resubmit=self.context.config.resubmit,
            connect=partial(connect, **self.context.deployment.keys(self.context.name)),
        )

    def _key(self) -> str | None:
        config = self.context.config
        if config.api_key_from is None:
            return config.api_key
        key = os.environ.get(config.api_key_from)
        if not key:
            where = f"nodes.{self.context.name}.api_key_from"
            raise ConfigError(f"{where}: the environment variable {config.api_key_from} is empty or not set", key=where)
        return key

    async def load(self, progress: OnProgress) -> None:
        """Nothing to load. Whether the verify node is there is what `/health` tells."""

    async def serve(self) -> None:
        assert self._gateway is not None
        assert self._socket is not None
        async with task_group() as tasks:
            serving = tasks.create_task(self._gateway.run(self._socket), name=f"{self.context.name} serves")
            await asyncio.wait(
                {serving, tasks.create_task(self._drained.wait(), name=f"{self.context.name} drain")},
                return_when=asyncio.FIRST_COMPLETED,
            )
            self._drained.set()
            self._gateway.drain()

    def drain(self) -> None:
        self._drained.set()

    async def close(self) -> None:
        if self._socket is not None:
            self._socket.close()


def bind(url: str) -> socket.socket:
    """Return a listening socket. Raises AddressError naming the address and the remedy."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 0
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise AddressError(
            f"cannot listen on {url}: {error.strerror or error}; is another server there? Port 0 takes a free one",
            address=url,
        ) from error
