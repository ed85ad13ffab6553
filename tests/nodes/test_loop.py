"""Rule: a node's loop never blocks, neither for a device step nor for a long prompt's tokens."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from stubs import DEADLINE, TRUTH, VOCABULARY, Cluster, Slow, answer, stubs
from transformers import AutoTokenizer

from amusd_mp import RequestError
from amusd_mp.engine.source import resolve
from amusd_mp.engine.tokenizer import ModelTokenizer
from amusd_mp.testing.stub import Stub, StubModel, StubTokenizer, agreeing_rule

DATA = Path(__file__).parents[1] / "data"

STEP = 0.5
BOUND = STEP / 2
"""Seconds of lag that tell a loop that was blocked from a machine that is busy."""


class Sluggish(Slow):
    """Half a second per step."""

    pause = STEP


@dataclass
class Lag:
    """The longest time the loop took to come back to a timer that was due."""

    worst: float = 0.0


@asynccontextmanager
async def watched() -> AsyncIterator[Lag]:
    lag, loop = Lag(), asyncio.get_running_loop()

    async def tick() -> None:
        while True:
            due = loop.time() + 0.005
            await asyncio.sleep(0.005)
            lag.worst = max(lag.worst, loop.time() - due)

    ticking = asyncio.create_task(tick(), name="lag")
    try:
        yield lag
    finally:
        ticking.cancel()


async def test_device_steps_do_not_block_the_loop() -> None:
    guess = agreeing_rule(TRUTH, 0.7, VOCABULARY)
    models = {
        "truth": lambda: Stub.of(Sluggish(TRUTH, 4, VOCABULARY)),
        "guess": lambda: Stub.of(Sluggish(guess, 4, VOCABULARY)),
    }
    async with Cluster(1, models=models) as cluster, cluster.client() as client:
        await client.wait_for_draft()
        async with watched() as lag:
            result = await client.generate("hello", max_tokens=3, timeout=DEADLINE)
        assert result.token_ids == answer("hello", 3)
        assert result.seconds > STEP
        assert lag.worst < BOUND


async def test_tokenizing_a_long_prompt_does_not_block_the_loop() -> None:
    class Reading(StubTokenizer):
        """Takes as long over a prompt as a device over a step."""

        def encode(self, text: str) -> tuple[int, ...]:
            time.sleep(STEP)
            return super().encode(text)

    loaded = stubs()["truth"]()
    models = {"truth": lambda: replace(loaded, tokenizer=Reading(VOCABULARY))}
    async with Cluster(0, models=models) as cluster, cluster.client() as client, watched() as lag:
        prompt = "x" * (300 * 1024)
        result = await client.generate(prompt, max_tokens=1, timeout=DEADLINE)
        assert result.prompt_tokens == len(prompt)
        assert lag.worst < BOUND


async def test_the_real_tokenizer_lets_the_loop_go_on() -> None:
    found = AutoTokenizer.from_pretrained(resolve("bundled:verify").where)
    tokenizer = ModelTokenizer(found, "bundled:verify")
    loaded = Stub(StubModel(TRUTH, 4, VOCABULARY), tokenizer)
    text = (DATA / "humaneval.jsonl").read_text("utf-8") * 4
    models = {"truth": lambda: loaded}
    async with Cluster(0, models=models) as cluster, cluster.client() as client, watched() as lag:
        with pytest.raises(RequestError, match=r"the prompt has|holds id"):
            await client.generate(text[: 300 * 1024], timeout=DEADLINE)
        assert lag.worst < BOUND
