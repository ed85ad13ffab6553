"""Looking at a deployment's steps while they happen: who computed when, for what, and what came of it.

Nodes tell their steps only while somebody asks, so a watcher repeats its wish until it leaves. Steps may be lost like
any publication; nothing repeats them. It knows no stream: a watcher sees the steps of all clients' sequences.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self

from amusd_mp import transport
from amusd_mp.codec import DecodeError, decode
from amusd_mp.core import limits
from amusd_mp.core.messages import TRACE_TOPIC, StepTrace, Watch, Watching
from amusd_mp.errors import OperationalError
from amusd_mp.session.link import Link
from amusd_mp.tasks import task_group

log = logging.getLogger(__name__)


class Steps:
    """An asynchronous iterator of `StepTrace`, in order of arrival. Made by `Client.watch`."""

    def __init__(self, subscription: transport.Subscription, link: Link) -> None:
        self._subscription = subscription
        self._link = link

    def __repr__(self) -> str:
        return f"<Steps of {self._link.url}, {self.dropped} dropped>"

    @property
    def dropped(self) -> int:
        """Steps lost because they were not read in time."""
        return self._subscription.dropped

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> StepTrace:
        while True:
            received = await anext(self._subscription)
            try:
                envelope = decode(received.payload)
            except DecodeError:
                self._link.counters.add("malformed")
                continue
            if envelope.incarnation == self._link.verify and isinstance(envelope.body, StepTrace):
                return envelope.body


@asynccontextmanager
async def watching(link: Link) -> AsyncIterator[Steps]:
    """Have steps told, and give them, for as long as the block lasts. Raises OperationalError if nobody answers."""
    subscription = link.subscribe(TRACE_TOPIC)
    try:
        await link.call(Watch(link.verify), Watching, limits.REQUEST_TIMEOUT)
        async with task_group() as tasks:
            renewing = tasks.create_task(_renew(link), name="watches steps")
            try:
                yield Steps(subscription, link)
            finally:
                renewing.cancel()
    finally:
        subscription.close()


async def _renew(link: Link) -> None:
    """Repeat the wish, three times per term, until cancelled. While nobody answers there is nothing to see."""
    while True:
        await asyncio.sleep(limits.WATCH / 3)
        try:
            await link.call(Watch(link.verify), Watching, limits.WATCH / 3)
        except OperationalError as error:
            log.debug("steps of %s: not told: %s", link.url, error)
