"""The outside peer: transformers itself on the same models, in a process of its own, with a draft or alone.

The process has both models and takes turns with the deployment's nodes, prompt by prompt; while it waits it computes
nothing, and while it computes the nodes have nothing to do. It may use the cores of all nodes together, with the number
of threads that its label tells. Lines of JSON go in and out.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from amusd_mp.bench.plan import Plan
from amusd_mp.bench.prompts import BenchPrompt
from amusd_mp.bench.records import Answer, Turn
from amusd_mp.bench.writers import TIMEOUT, Task, prompt_ids
from amusd_mp.config import Deployment
from amusd_mp.errors import NodeFailed, UsageError

if TYPE_CHECKING:
    from amusd_mp.client.client import Client

LOADING: Final = 300.0
"""Seconds until both models must be loaded."""

LINE: Final = 2**24
"""Bytes of one line: a long text with its ids."""

PROGRAM: Final = "amusd_mp.engine.assisted"

KINDS: Final = ("assisted", "alone")
"""What transformers can be asked for: assisted generation, and the verify model without a draft."""


class PeerProcess:
    """The process, and what is said to it: one line, one answer."""

    def __init__(self, process: asyncio.subprocess.Process, threads: int) -> None:
        self.threads = threads
        self._process = process

    def __repr__(self) -> str:
        return f"<PeerProcess {self._process.pid}, {self.threads} threads>"

    async def ask(self, request: dict[str, Any], timeout: float) -> dict[str, Any]:
        """Send one line and return the answer's. Raises NodeFailed when the process ends or hangs."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            async with asyncio.timeout(timeout):
                await self._process.stdin.drain()
                line = await self._process.stdout.readline()
        except (TimeoutError, ConnectionError) as error:
            raise NodeFailed(f"transformers did not answer within {timeout:g} s", node="transformers") from error
        if not line:
            raise NodeFailed("the process of transformers ended; its error is above", node="transformers")
        found: dict[str, Any] = json.loads(line)
        return found

    async def end(self) -> None:
        """End the process: it stops when its input does."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(5.0):
                await self._process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()


class PeerWriter:
    """What transformers does with a prompt: one of `KINDS`."""

    def __init__(self, client: Client, task: Task, process: PeerProcess, kind: str) -> None:
        threads = process.threads
        self.label = f"transformers {kind}, {threads} thread{'s' if threads > 1 else ''}"
        self._client = client
        self._task = task
        self._process = process
        self._kind = kind

    def __repr__(self) -> str:
        return f"<PeerWriter {self.label}, {self._process!r}>"

    async def answer(self, prompt: BenchPrompt, repeat: int) -> Answer:
        said: list[tuple[str, str]] = list(prompt.before)
        turns: list[Turn] = []
        for text in prompt.turns:
            said.append(("user", text))
            ids = await prompt_ids(self._client, self._task, prompt, said)
            # What nodes find computed: all of a first prompt, of a later one what was said before it.
            known = min(len(ids), turns[-1].prompt_tokens + len(turns[-1].token_ids)) if turns else len(ids)
            turns.append(await self._turn(ids, known))
            said.append(("assistant", turns[-1].text))
        return Answer(self.label, prompt.id, prompt.category, repeat, tuple(turns))

    async def _turn(self, ids: Sequence[int], known: int) -> Turn:
        assisted = self._kind == "assisted"
        request = {"ids": list(ids), "known": known, "max_tokens": self._task.max_tokens, "assisted": assisted}
        reply = await self._process.ask(request, TIMEOUT)
        tokens, prompt = tuple(reply["ids"]), reply["prompt"]
        return Turn(
            await self._client.detokenize(tokens),
            tokens,
            len(ids),
            seconds=reply["seconds"] - prompt,
            first=max(0.0, reply["first"] - prompt),
            prompt_seconds=prompt,
        )


async def peers_of(
    stack: AsyncExitStack, client: Client, deployment: Deployment, plan: Plan, cores: Sequence[int]
) -> list[PeerWriter]:
    """Start a process for each number of threads; all end with `stack`. Raises UsageError for what it cannot do."""
    if not plan.peers:
        return []
    if not deployment.drafts():
        raise UsageError(f"{deployment.where}: assisted generation needs a draft model, and no node has one")
    verify = deployment.node(deployment.verify()).spec()
    draft = deployment.node(deployment.drafts()[0]).spec()
    writers: list[PeerWriter] = []
    for threads in plan.peer_threads:
        started = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", PROGRAM),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=LINE,
        )
        process = PeerProcess(started, threads)
        stack.push_async_callback(process.end)
        job = {"verify": asdict(verify), "draft": asdict(draft), "threads": threads, "cores": list(cores),
               "ignore_eos": plan.task.ignore_eos, "eos_ids": list(client.model.eos_ids)}  # fmt: skip
        await process.ask(job, LOADING)
        writers += [PeerWriter(client, plan.task, process, kind) for kind in plan.peers]
    return writers
