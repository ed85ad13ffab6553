"""The bundled pair on the real nodes inside this process: no process starts, and the verify model is watched.

For rules about what is generated, where a process of its own per node would only cost time.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any

from amusd_mp import Client
from amusd_mp.core.messages import DraftStatus
from amusd_mp.core.model import Model, ModelCard, ModelSpec
from amusd_mp.core.step import Block, Step, StepResult
from amusd_mp.engine.loading import load
from amusd_mp.testing.cluster import InProcessCluster, deployment
from amusd_mp.testing.stub import Stub

DEADLINE = 60.0
"""Seconds after which what has to happen counts as not happening."""


class Watched:
    """A model that notes the blocks it is fed, and whose steps wait on their device's thread while `go` is not set."""

    def __init__(self, model: Model) -> None:
        self.blocks: list[Block] = []
        self.go = threading.Event()
        self.go.set()
        self._model = model

    @property
    def card(self) -> ModelCard:
        return self._model.card

    @property
    def padding(self) -> float:
        return self._model.padding

    @property
    def rows(self) -> int:
        return self._model.rows

    def run(self, step: Step) -> StepResult:
        if not self.go.wait(DEADLINE):
            raise TimeoutError("the test forgot to let this step go")
        self.blocks += step.blocks
        return self._model.run(step)

    def close(self) -> None:
        self._model.close()


class Pair(InProcessCluster):
    """Node "verify" with the bundled verify model, "draft-0" with the bundled draft, "draft-1" with a random one."""

    def __init__(self, rows: int = 8) -> None:
        common: dict[str, Any] = {"dtype": "float32", "max_sequences": rows, "max_length": 1024, "threads": 1}

        def of(name: str) -> Stub:
            loaded = load(ModelSpec(name, **common))
            return Stub(loaded.model, loaded.tokenizer)

        def verify() -> Stub:
            found = of("bundled:verify")
            self.watched = Watched(found.model)
            return Stub(self.watched, found.tokenizer)

        drafts = ["bundled:draft", "random:bundled:draft"]
        models = {"bundled:verify": verify} | {name: lambda name=name: of(name) for name in drafts}  # type: ignore[misc]
        super().__init__(deployment("bundled:verify", drafts), models)

    async def only(self, client: Client, *drafts: str) -> None:
        """Have these drafts run and no others, and the verify node know it."""
        for name in self.deployment.drafts():
            if name in self.nodes and name not in drafts:
                await self.cut(name)
            if name not in self.nodes and name in drafts:
                await self.start(name)
        await drafts_are(client, lambda joined: {each.node for each in joined} == set(drafts))


async def drafts_are(client: Client, check: Callable[[Sequence[DraftStatus]], bool]) -> None:
    """Wait until what the verify node says of its drafts passes the check."""
    async with asyncio.timeout(DEADLINE):
        while not check((await client.status()).drafts):  # noqa: ASYNC110  # the node tells nobody who does not ask
            await asyncio.sleep(0.01)
