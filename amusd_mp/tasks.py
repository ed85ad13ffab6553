"""Task groups that raise what went wrong, not a group around it.

A node and a client own several tasks of which the first failure is the reason for all; its type must reach the caller.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


@asynccontextmanager
async def task_group() -> AsyncIterator[asyncio.TaskGroup]:
    """Like `asyncio.TaskGroup`, but the first failure is raised by itself."""
    try:
        async with asyncio.TaskGroup() as tasks:
            yield tasks
        return
    except BaseExceptionGroup as group:
        first = group.exceptions[0]  # itself a group where the caller's own code raised one
    context = first.__context__
    try:
        raise first  # out here, so that its own cause stays what it was
    finally:
        first.__context__ = context
