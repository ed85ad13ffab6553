"""The requests a listener is answering right now: a bounded, owned set of named tasks.

A transport hands each arriving request to `start` with a way to reply; one reply follows, the handler's answer or the
text of its failure. It knows nothing of frames or sockets. While `ready` is false the transport leaves requests where
they are, so the excess waits at its sender, and `on_room` says when there is room again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from amusd_mp.transport import Handler

logger = logging.getLogger(__name__)

CONCURRENT: Final = 256
"""Requests answered at once by one listener; twice the number of sequences and peers a node is meant for."""

STRAGGLERS: Final = 5.0
"""Seconds that close waits for cancelled handlers; one that ignores its cancellation is logged and left behind."""

ERROR_BYTES: Final = 500
"""A failure's text is cut here: it is a line for a person, not a channel for data."""

Reply = Callable[[bytes, bool], None]
"""Takes the reply payload and whether the handler failed (then the payload is the failure's text)."""


class Handlers:
    """Runs one handler over many requests, at most `CONCURRENT` at a time."""

    def __init__(self, name: str, max_reply: int, on_room: Callable[[], None]) -> None:
        self._name = name
        self._max_reply = max_reply
        self._on_room = on_room
        self._handler: Handler | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def ready(self) -> bool:
        """Whether `start` may be called: a handler is installed and fewer than `CONCURRENT` requests run."""
        return self._handler is not None and not self._closed and len(self._tasks) < CONCURRENT

    def install(self, handler: Handler) -> None:
        """Set the handler and make room known. Raises RuntimeError the second time."""
        if self._handler is not None:
            raise RuntimeError(f"{self._name} already serves a handler; serve() is called once")
        self._handler = handler
        self._on_room()

    def start(self, payload: bytes, peer: str | None, reply: Reply) -> None:
        """Answer one request in a task of its own; `reply` is called once unless `close` comes first."""
        assert self._handler is not None
        task = asyncio.get_running_loop().create_task(
            self._answer(self._handler, payload, peer, reply), name=f"{self._name} request"
        )
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    async def close(self) -> None:
        """Cancel what runs and wait for it, `STRAGGLERS` seconds at most. Idempotent."""
        self._closed = True
        own = asyncio.current_task()  # a handler may close its own listener
        tasks = {task for task in self._tasks if task is not own}
        for task in tasks:
            task.cancel()
        if tasks:
            _, left = await asyncio.wait(tasks, timeout=STRAGGLERS)
            if left:
                logger.warning("%s: %d request handlers ignore their cancellation", self._name, len(left))

    async def _answer(self, handler: Handler, payload: bytes, peer: str | None, reply: Reply) -> None:
        try:
            answer = await handler(payload, peer)
            if not isinstance(answer, bytes):
                raise TypeError(f"the handler answered {type(answer).__name__}, not bytes")
            if len(answer) > self._max_reply:
                raise ValueError(f"the handler answered {len(answer)} bytes; the limit is {self._max_reply}")
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._closed or (task is not None and task.cancelling()):
                raise
            reply(b"CancelledError: the handler was cancelled", True)
        except Exception as error:
            logger.exception("%s: a request handler failed", self._name)
            reply(f"{type(error).__name__}: {error}".encode(errors="replace")[:ERROR_BYTES], True)
        else:
            reply(answer, False)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("%s: a reply could not be sent", self._name, exc_info=task.exception())
        if not self._closed:
            self._on_room()

    def __repr__(self) -> str:
        return f"<Handlers {self._name}, {len(self._tasks)} running>"
