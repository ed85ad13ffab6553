"""Nodes in one process with models made of rules: what tests of nodes, sessions and the client share.

The truth is a hash of the whole prefix, so any token fed wrongly changes all that follow; a draft agrees with it on a
share of all prefixes.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from amusd_mp import Client
from amusd_mp.config import Deployment
from amusd_mp.core.model import Loaded
from amusd_mp.core.params import Speculation
from amusd_mp.core.step import Step, StepResult
from amusd_mp.testing.cluster import InProcessCluster, deployment
from amusd_mp.testing.stub import Stub, StubModel, StubTokenizer, agreeing_rule, decode_alone, hash_rule

VOCABULARY = 97
DEADLINE = 20.0
"""Seconds after which what has to happen counts as not happening."""

TRUTH = hash_rule(VOCABULARY)
TOKENIZER = StubTokenizer(VOCABULARY)


def answer(prompt: str, tokens: int) -> tuple[int, ...]:
    """Return the verify model's own output."""
    return tuple(decode_alone(TRUTH, TOKENIZER.encode(prompt), tokens))


class Slow(StubModel):
    """A stub whose steps take `pause` seconds of its device's thread, so that a draft has time to guess."""

    pause = 0.002

    def run(self, step: Step) -> StepResult:
        time.sleep(self.pause)
        return super().run(step)


class Held(StubModel):
    """A stub whose steps wait on their device's thread until `go` is set."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.go = threading.Event()
        self.entered = threading.Event()

    def run(self, step: Step) -> StepResult:
        self.entered.set()
        if not self.go.wait(DEADLINE):
            raise TimeoutError("the test forgot to let this step go")
        return super().run(step)


Models = dict[str, Callable[[], Loaded]]


def stubs(rows: int = 4, agree: float = 0.7, max_length: int = 1 << 20) -> Models:
    """Return the models "truth" and "guess"."""
    guess = agreeing_rule(TRUTH, agree, VOCABULARY)
    return {
        "truth": lambda: Stub.of(StubModel(TRUTH, rows, VOCABULARY, max_length)),
        "guess": lambda: Stub.of(StubModel(guess, rows, VOCABULARY, max_length)),
    }


class Cluster(InProcessCluster):
    """A verify node of rule "truth" and a number of drafts of rule "guess"."""

    def __init__(
        self,
        drafts: int = 1,
        *,
        models: Models | None = None,
        url: str | None = None,
        speculation: Speculation | None = None,
        made: Deployment | None = None,
    ) -> None:
        super().__init__(
            made or deployment("truth", ["guess"] * drafts, url=url, speculation=speculation), models or stubs()
        )

    def client(self) -> AbstractAsyncContextManager[Client]:
        return self.connect(timeout=DEADLINE)

    @property
    def idle(self) -> bool:
        """True if no node holds a sequence or a cache row of one."""
        return all(
            not held(node) and node._core.free_rows == node._loaded.model.rows  # type: ignore[attr-defined]
            for node in self.nodes.values()
        )


def held(node: Any) -> Any:
    """Return the sequences a node holds."""
    return node._core.live if hasattr(node._core, "live") else node._core.sequences


async def until(check: Callable[[], bool | Awaitable[bool]], what: str = "a condition") -> None:
    """Ask again and again until the answer is true; fail after DEADLINE."""
    async with asyncio.timeout(DEADLINE):
        while True:
            found = check()
            if found if isinstance(found, bool) else await found:
                return
            await asyncio.sleep(0.005)
