"""Rule: steps are told while somebody watches and not otherwise, and what they say adds up to what was committed."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from stubs import DEADLINE, TRUTH, VOCABULARY, Cluster, Slow, agreeing_rule, stubs, until

from amusd_mp.core.messages import StepTrace, TraceEntry
from amusd_mp.testing.stub import Stub


async def test_a_watcher_sees_both_nodes_steps_and_they_add_up() -> None:
    models = stubs() | {"truth": lambda: Stub.of(Slow(TRUTH, 4, VOCABULARY))}
    models["guess"] = lambda: Stub.of(Slow(agreeing_rule(TRUTH, 0.7, VOCABULARY), 4, VOCABULARY))
    async with Cluster(models=models) as cluster, cluster.client() as client:
        await client.wait_for_draft(DEADLINE)
        assert not cluster.nodes["verify"]._tracer.watched  # type: ignore[attr-defined]
        async with client.watch() as steps:
            await until(lambda: cluster.nodes["draft-0"]._tracer.watched, "the draft's knowledge")  # type: ignore[attr-defined]
            seen: list[StepTrace] = []
            reading = asyncio.create_task(collect(steps, seen))
            result = await client.generate("abc", max_tokens=200)
            await until(lambda: sum(e.emitted for s in seen for e in s.entries) == 200, "every step")
            reading.cancel()
        verified = [step for step in seen if step.role == "verify"]
        drafted = [step for step in seen if step.role == "draft"]
        assert {step.node for step in verified} == {"verify"}
        assert {step.node for step in drafted} == {"draft-0"}
        assert all(step.began <= step.ended <= step.heard for step in drafted)
        entries = [entry for step in verified for entry in step.entries]
        assert sum(entry.accepted for entry in entries) == result.stats.accepted
        assert sum(entry.proposed for entry in entries) >= result.stats.proposed  # counts are cut at the stop
        guesses = [entry for step in drafted for entry in step.entries if entry.tokens]
        assert guesses
        assert all(len(entry.text) == len(entry.tokens) for entry in guesses if entry.text)
        assert any(entry.text for entry in guesses)


async def collect(steps: object, into: list[StepTrace]) -> None:
    async for step in steps:  # type: ignore[attr-defined]
        into.append(step)


async def test_a_step_that_no_honest_draft_tells_costs_nothing() -> None:
    async with Cluster() as cluster, cluster.client() as client, client.watch():
        verify: Any = cluster.nodes["verify"]
        long = StepTrace("draft", 1, 0.0, 0.1, tuple(TraceEntry(f"s{at}", 0, 1) for at in range(1000)))
        wide = StepTrace("draft", 2, 0.1, 0.2, (TraceEntry("s", 0, 1, tokens=(1,) * 1000),))
        for step in (long, wide):
            verify._repeat(SimpleNamespace(node="draft-0"), step)
        assert verify._hub.counters["useless_trace"] == 2


async def test_the_wish_is_forgotten() -> None:
    async with Cluster() as cluster, cluster.client() as client:
        verify = cluster.nodes["verify"]
        async with client.watch():
            assert verify._tracer.watched  # type: ignore[attr-defined]
        await until(lambda: not verify._tracer.watched, "the end of the term")  # type: ignore[attr-defined]


async def test_ids_and_texts_are_answered() -> None:
    async with Cluster() as cluster, cluster.client() as client:
        ids = await client.tokenize("ab")
        assert ids == (0, 1)
        assert await client.detokenize(ids) == "ab"
        assert await client.pieces(ids) == ("a", "b")
        assert await client.tokenize(messages=[{"role": "user", "content": "x"}])
