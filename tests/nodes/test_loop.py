"""Rule: a node's loop never blocks, neither for a device step nor for a long prompt's tokens."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from stubs import DEADLINE, TRUTH, VOCABULARY, Cluster, answer, stubs
from transformers import AutoTokenizer

from amusd_mp import RequestError
from amusd_mp.core.step import Step, StepResult
from amusd_mp.engine.source import resolve
from amusd_mp.engine.tokenizer import ModelTokenizer
from amusd_mp.testing.stub import Stub, StubModel, StubTokenizer, agreeing_rule

DATA = Path(__file__).parents[1] / "data"

TURNS = 10
"""Turns of the loop while 300 KB become tokens: with the interpreter held there could be two, at either end."""


class Turns:
    """Work that ends only once the loop has come round; where it is done by the loop itself, that never happens."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.seen = 0

    def wait(self) -> None:
        """Block this thread until the loop has run a callback of ours."""
        came_round = threading.Event()
        self._loop.call_soon_threadsafe(came_round.set)
        if not came_round.wait(DEADLINE / 4):
            raise TimeoutError("the loop stood still while this was at work")
        self.seen += 1


async def test_device_steps_do_not_block_the_loop() -> None:
    turns = Turns()

    class Waiting(StubModel):
        def run(self, step: Step) -> StepResult:
            turns.wait()
            return super().run(step)

    guess = agreeing_rule(TRUTH, 0.7, VOCABULARY)
    models = {
        "truth": lambda: Stub.of(Waiting(TRUTH, 4, VOCABULARY)),
        "guess": lambda: Stub.of(Waiting(guess, 4, VOCABULARY)),
    }
    async with Cluster(1, models=models) as cluster, cluster.client() as client:
        await client.wait_for_draft()
        result = await client.generate("hello", max_tokens=8, timeout=DEADLINE)
        assert result.token_ids == answer("hello", 8)
    assert turns.seen > 1


async def test_tokenizing_a_long_prompt_does_not_block_the_loop() -> None:
    turns = Turns()

    class Waiting(StubTokenizer):
        def encode(self, text: str) -> tuple[int, ...]:
            turns.wait()
            return super().encode(text)

    loaded = stubs()["truth"]()
    models = {"truth": lambda: replace(loaded, tokenizer=Waiting(VOCABULARY))}
    async with Cluster(0, models=models) as cluster, cluster.client() as client:
        prompt = "x" * (300 * 1024)
        result = await client.generate(prompt, max_tokens=1, timeout=DEADLINE)
        assert result.prompt_tokens == len(prompt)
    assert turns.seen


async def test_the_real_tokenizer_lets_the_loop_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its native code must let go of the interpreter: else its thread would hold the loop up as if it were the loop."""
    found = AutoTokenizer.from_pretrained(resolve("bundled:verify").where)
    tokenizer = ModelTokenizer(found, "bundled:verify")
    encode, at_work, turns = tokenizer.encode, threading.Event(), []

    def noted(text: str) -> tuple[int, ...]:
        at_work.set()
        try:
            return encode(text)
        finally:
            at_work.clear()

    async def count() -> None:
        while True:
            await asyncio.sleep(0)
            if at_work.is_set():
                turns.append(None)

    monkeypatch.setattr(tokenizer, "encode", noted)
    loaded: Any = Stub(StubModel(TRUTH, 4, VOCABULARY), tokenizer)
    text = (DATA / "humaneval.jsonl").read_text("utf-8") * 4
    async with Cluster(0, models={"truth": lambda: loaded}) as cluster, cluster.client() as client:
        counting = asyncio.create_task(count(), name="count")
        with pytest.raises(RequestError, match=r"the prompt has|holds id"):
            await client.generate(text[: 300 * 1024], timeout=DEADLINE)
        counting.cancel()
    assert len(turns) > TURNS
