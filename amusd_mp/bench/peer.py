"""The outside peer: transformers' assisted generation on the same two models, in a process of its own.

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

from amusd_mp.bench.prompts import BenchPrompt
from amusd_mp.bench.records import Answer, Turn
from amusd_mp.bench.writers import TIMEOUT, Task, as_text
from amusd_mp.config import Deployment
from amusd_mp.errors import NodeFailed, UsageError

if TYPE_CHECKING:
    from amusd_mp.client.client import Client

LOADING: Final = 300.0
"""Seconds until both models must be loaded."""

LINE: Final = 2**24
"""Bytes of one line: a long text with its ids."""

PROGRAM: Final = "amusd_mp.engine.assisted"


class PeerWriter:
    """Assisted generation with so many threads."""

    def __init__(self, client: Client, task: Task, process: asyncio.subprocess.Process, threads: int) -> None:
        self.label = f"transformers assisted, {threads} thread{'s' if threads > 1 else ''}"
        self._client = client
        self._task = task
        self._process = process

    def __repr__(self) -> str:
        return f"<PeerWriter {self.label}, process {self._process.pid}>"

    async def answer(self, prompt: BenchPrompt, repeat: int) -> Answer:
        said: list[tuple[str, str]] = list(prompt.before)
        turns: list[Turn] = []
        for text in prompt.turns:
            said.append(("user", text))
            if self._task.chat and not prompt.plain:
                messages = [{"role": role, "content": content} for role, content in said]
                ids = await self._client.tokenize(messages=messages)
            else:
                ids = await self._client.tokenize(as_text(prompt, said))
            turns.append(await self._turn(ids))
            said.append(("assistant", turns[-1].text))
        return Answer(self.label, prompt.id, prompt.category, repeat, tuple(turns))

    async def _turn(self, ids: Sequence[int]) -> Turn:
        reply = await self.ask({"ids": list(ids), "max_tokens": self._task.max_tokens}, TIMEOUT)
        tokens, prompt = tuple(reply["ids"]), reply["prompt"]  # the nodes have computed the prompt before, too
        seconds, first = reply["seconds"] - prompt, max(0.0, reply["first"] - prompt)
        return Turn(await self._client.detokenize(tokens), tokens, len(ids), seconds, first)

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
            raise NodeFailed(f"{self.label} did not answer within {timeout:g} s", node=self.label) from error
        if not line:
            raise NodeFailed(f"{self.label} ended; its error is above", node=self.label)
        found: dict[str, Any] = json.loads(line)
        return found


async def assisted(
    stack: AsyncExitStack, client: Client, deployment: Deployment, task: Task, threads: Sequence[int]
) -> list[PeerWriter]:
    """Start a process for each number of threads; all end with `stack`. Raises UsageError for what it cannot do."""
    if not threads:
        return []
    if task.temperature:
        raise UsageError("assisted generation is compared under greedy decoding alone; leave out --temperature")
    if not deployment.drafts():
        raise UsageError(f"{deployment.where}: assisted generation needs a draft model, and no node has one")
    verify = deployment.node(deployment.verify()).spec()
    draft = deployment.node(deployment.drafts()[0]).spec()
    pinned = all(node.cores for node in deployment.nodes.values())
    cores = sorted({core for node in deployment.nodes.values() for core in node.cores or ()}) if pinned else []
    writers = []
    for count in threads:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", PROGRAM),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=LINE,
        )
        stack.push_async_callback(_end, process)
        writer = PeerWriter(client, task, process, count)
        job = {"verify": asdict(verify), "draft": asdict(draft), "threads": count, "cores": cores,
               "ignore_eos": task.ignore_eos, "eos_ids": list(client.model.eos_ids)}  # fmt: skip
        await writer.ask(job, LOADING)
        writers.append(writer)
    return writers


async def _end(process: asyncio.subprocess.Process) -> None:
    """End the process: it stops when its input does."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        async with asyncio.timeout(5.0):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
