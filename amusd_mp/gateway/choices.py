"""The choices of one response, written side by side: entered together, read as one stream of events, left together.

Whatever ends the reading (the end, an error, the caller's disconnection) leaves every stream, which cancels those that
have not ended on both nodes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from typing import Self

from amusd_mp.client.options import Options
from amusd_mp.client.results import Chunk, GenerationResult
from amusd_mp.client.stream import Stream
from amusd_mp.gateway.asking import Asked
from amusd_mp.gateway.upstream import Upstream
from amusd_mp.tasks import task_group

Event = tuple[int, Chunk | GenerationResult]
"""A choice's index, with what was decided, or with its whole result at its end."""


class Choices:
    """`open` submits, `events` reads, `close` lets go. Belongs to one request."""

    def __init__(self, upstream: Upstream, asked: Sequence[Asked]) -> None:
        self.results: dict[int, GenerationResult] = {}
        self.tokens = 0  # that have arrived
        self._upstream = upstream
        self._asked = asked
        self._following: asyncio.Task[None] | None = None
        self._places: dict[int, AsyncExitStack] = {}
        self._streams: dict[int, Stream] = {}

    def __repr__(self) -> str:
        return f"<Choices {len(self.results)} of {len(self._asked)} ended>"

    async def open(self) -> Self:
        """Submit the first choice, so that a request that is wrong or comes at a wrong time is refused at once."""
        try:
            await self._enter(self._asked[0])
        except BaseException:
            await self.close()
            raise
        return self

    async def events(self) -> AsyncIterator[Event]:
        """Yield what the choices decide, as it is decided. Raises what reading any of them raises."""
        queue: asyncio.Queue[Event | None] = asyncio.Queue(len(self._asked))  # a slow caller gets larger chunks

        async def follow(asked: Asked) -> None:
            stream = self._streams.get(asked.index) or await self._enter(asked)
            async for chunk in stream:
                self._upstream.made()
                self.tokens += len(chunk.tokens)
                await queue.put((asked.index, chunk))
            result = await stream.result()
            self.results[asked.index] = result
            await self._leave(asked.index)
            await queue.put((asked.index, result))

        async def follow_all() -> None:
            async with task_group() as tasks:
                for asked in self._asked:
                    tasks.create_task(follow(asked), name=f"choice {asked.index}")
            await queue.put(None)

        following = self._following = asyncio.create_task(follow_all(), name="choices")
        while True:
            getting = asyncio.create_task(queue.get(), name="next event")
            try:
                await asyncio.wait({getting, following}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                if not getting.done():
                    getting.cancel()
            event = getting.result() if getting.done() else None
            if event is None:  # the end, or a failure
                await asyncio.wait({following})
                while not queue.empty():  # what came before the failure
                    event = queue.get_nowait()
                    if event is not None:
                        yield event
                following.result()
                return
            yield event

    @property
    def indices(self) -> range:
        """The choices' indices."""
        return range(len(self._asked))

    @property
    def complete(self) -> bool:
        """True once every choice has ended."""
        return len(self.results) == len(self._asked)

    @property
    def ordered(self) -> list[GenerationResult]:
        """The results, in order of the choices. All must have ended."""
        return [self.results[index] for index in self.indices]

    async def close(self) -> None:
        """Let go of every stream and place. Idempotent; never waits for the network."""
        if self._following is not None:
            self._following.cancel()
            await asyncio.wait({self._following})
        for index in list(self._places):
            await self._leave(index)

    async def _enter(self, asked: Asked) -> Stream:
        stack = self._places[asked.index] = AsyncExitStack()
        await stack.enter_async_context(self._upstream.place())
        options: Options = {**asked.options, "resubmit": self._upstream.resubmit}
        stream = self._upstream.client.stream(asked.prompt, **options)
        self._streams[asked.index] = await stack.enter_async_context(stream)
        return stream

    async def _leave(self, index: int) -> None:
        place = self._places.pop(index, None)
        if place is not None:
            await place.aclose()
