"""Many short requests of mixed length, one in ten of them left early, on nodes that must be as before at the end."""

from __future__ import annotations

import asyncio
import contextlib
import random
from dataclasses import dataclass, field

from amusd_mp import Client
from amusd_mp.errors import Busy, RequestTimeout

LENGTHS = (1, 2, 3, 5, 8, 8, 13, 21, 34)
DEADLINE = 120.0


@dataclass
class Load:
    """What was asked and what came: `whole` responses in full, `left` early by breaking, cancelling or a timeout."""

    seed: int
    whole: int = 0
    left: int = 0
    tokens: int = 0
    ways: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("break", "cancel", "timeout"), 0))

    async def run(self, client: Client, prompts: list[str], requests: int, at_once: int) -> None:
        """Send so many requests, `at_once` of them at any time."""
        numbers = iter(range(requests))

        async def worker() -> None:
            for number in numbers:
                source = random.Random(f"{self.seed} {number}")
                prompt, tokens = source.choice(prompts), source.choice(LENGTHS)
                if number % 10 == 3:
                    await self._leave(client, prompt, source.choice(sorted(self.ways)))
                else:
                    result = await client.generate(prompt, max_tokens=tokens, timeout=DEADLINE)
                    assert 1 <= len(result.tokens) <= tokens
                    self.whole += 1
                    self.tokens += len(result.tokens)

        async with asyncio.TaskGroup() as tasks:
            for number in range(at_once):
                tasks.create_task(worker(), name=f"worker {number}")

    async def _leave(self, client: Client, prompt: str, way: str) -> None:
        """Begin a long response and give it up."""
        self.left += 1
        self.ways[way] += 1
        if way == "break":
            async with client.stream(prompt, max_tokens=400, timeout=DEADLINE) as stream:
                await anext(stream)
        elif way == "timeout":
            with contextlib.suppress(TimeoutError, Busy, RequestTimeout):  # also before it was admitted
                await client.generate(prompt, max_tokens=400, ignore_eos=True, timeout=0.05)
        else:
            asked = asyncio.Event()

            async def read() -> None:
                async with client.stream(prompt, max_tokens=400, timeout=DEADLINE) as stream:
                    asked.set()
                    await stream.result()

            task = asyncio.get_running_loop().create_task(read(), name="to be cancelled")
            await asyncio.wait({task, (told := asyncio.ensure_future(asked.wait()))}, return_when="FIRST_COMPLETED")
            told.cancel()
            task.cancel()
            await asyncio.wait({task})
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error
