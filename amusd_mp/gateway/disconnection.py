"""A caller that goes away ends its work: waiting for a body to be made, or streaming one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, Final, TypeVar

from sse_starlette import EventSourceResponse
from sse_starlette.sse import SendTimeoutError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

T = TypeVar("T")

log = logging.getLogger(__name__)

PING = 15
"""Seconds between comments in a silent stream, so that no proxy takes it for dead."""

UNREAD: Final = 60.0
"""Seconds for which a caller may read nothing of what is sent: beyond them, others need its place."""

CLOSED_REQUEST: Final = 499
"""What web servers log for a caller that left; nobody reads it."""


class Gone(Exception):
    """The caller has disconnected; nobody reads the answer."""


async def nobody(request: Request, error: Exception) -> Response:
    """Answer a caller that left, before its body had come or while it was worked on."""
    return Response(status_code=CLOSED_REQUEST)


async def while_there(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Return what `work` returns; cancel it and raise Gone once the caller disconnects. The body was read before."""

    async def leaving() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    working = asyncio.create_task(work, name=f"answers {request.url.path}")
    listening = asyncio.create_task(leaving(), name=f"listens to the caller of {request.url.path}")
    try:
        await asyncio.wait({working, listening}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise Gone
        return working.result()
    finally:
        for task in (working, listening):
            task.cancel()
        await asyncio.wait({working, listening})


class Events(EventSourceResponse):
    """Server-sent events with `\\n\\n` between them. `leave` is called however the response ends, also unread.

    A caller that reads nothing for `patience` seconds although its connection is open is taken for gone.
    """

    def __init__(
        self, content: AsyncIterator[dict[str, str]], leave: Callable[[], Awaitable[None]], patience: float = UNREAD
    ) -> None:
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        super().__init__(content, sep="\n", ping=PING, headers=headers, send_timeout=patience)
        self._leave = leave

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        except SendTimeoutError:
            what = "a caller of %s read nothing for %g s; its response was ended"
            log.warning(what, scope["path"], self.send_timeout)
        finally:
            await self._leave()
