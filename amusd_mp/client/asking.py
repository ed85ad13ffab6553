"""One stream's question to the verify node for what publications left out, which may be ended before its answer."""

from __future__ import annotations

import asyncio

from amusd_mp.client.switchboard import Switchboard
from amusd_mp.core.messages import Sync, SyncPage


class Asking:
    """Asks one thing at a time."""

    def __init__(self, board: Switchboard) -> None:
        self._board = board
        self._pending: asyncio.Timeout | None = None

    def __repr__(self) -> str:
        return f"<Asking {'waits for a page' if self._pending is not None else 'idle'}>"

    async def page(self, request: Sync, left: float | None) -> SyncPage:
        """Return a page, within `left` seconds. Raises TimeoutError after `stop`, and what the switchboard raises."""
        try:
            async with asyncio.timeout(None) as self._pending:
                return await self._board.call(request, SyncPage, left)
        finally:
            self._pending = None

    def stop(self) -> None:
        """End a pending question: what it asks for has come by publication, or never will."""
        if self._pending is not None:
            self._pending.reschedule(0.0)
            self._pending = None
