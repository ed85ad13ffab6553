"""The gateway as one thing to run: the client's connection, the HTTP server, the log line, and their end."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import uvicorn

from amusd_mp.client.client import connect
from amusd_mp.gateway.app import application
from amusd_mp.gateway.completions import Completions
from amusd_mp.gateway.live import Live
from amusd_mp.gateway.metrics import Metrics
from amusd_mp.gateway.reporting import report
from amusd_mp.gateway.service import Service
from amusd_mp.gateway.upstream import Connect, Upstream
from amusd_mp.gateway.wire import Wire
from amusd_mp.runtime import Runtime
from amusd_mp.tasks import task_group

log = logging.getLogger(__name__)

KEEP_ALIVE: Final = 5  # seconds an idle connection is kept


class Server(uvicorn.Server):
    """A server without signal handlers: how a process ends is its node's business."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Gateway:
    """Serves one verify node's deployment on one socket.

    `key` is what its callers must know, `connect` how it reaches the verify node, `resubmit` whether responses outlive
    it; `began` is Unix time.
    """

    def __init__(
        self,
        url: str,
        runtime: Runtime,
        *,
        key: str | None,
        began: float,
        connect: Connect = connect,
        resubmit: bool = False,
    ) -> None:
        self.upstream = Upstream(url, runtime, connect, resubmit)
        self.metrics = Metrics()
        self.live = Live(self.upstream, self.metrics, runtime)
        app = application(
            Completions(self.upstream, self.metrics, runtime),
            Service(self.upstream, self.metrics, began),
            self.live,
            key,
        )
        config = uvicorn.Config(
            app,
            http=Wire,
            lifespan="off",
            log_config=None,
            access_log=False,
            timeout_keep_alive=KEEP_ALIVE,
            server_header=False,
            ws="none",
        )
        self._server = Server(config)

    def __repr__(self) -> str:
        return f"<Gateway {self.upstream!r}>"

    async def run(self, listening: socket.socket) -> None:
        """Serve until a drain is over. Raises what refuses the client for good."""
        async with task_group() as tasks:
            helpers = [
                tasks.create_task(self.upstream.run(), name="gateway upstream"),
                tasks.create_task(report(self.metrics, self.upstream), name="gateway log"),
            ]
            await self._server.serve([listening])
            for helper in helpers:
                helper.cancel()

    def drain(self) -> None:
        """Accept nothing new, finish what runs, then end. Idempotent."""
        self.live.end()
        self._server.should_exit = True
