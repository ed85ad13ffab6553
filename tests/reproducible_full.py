"""How often a text in bfloat16 depends on timing, and what fixed shapes cost: counted, since no rule can promise it.

64 prompts of 48 tokens, half greedy, half sampled; for both attentions, with and without fixed shapes: the same
requests in one run with one sequence at a time and no draft, and in six whose timing differs. Run by
`make reproducible`; prints one line per run and the cost of single steps. docs/sampling.md has its tables from here.
"""

from __future__ import annotations

import asyncio
import math
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from exactness import deployment, prompts
from pair import drafts_are
from sampled import Alone, Ask

from amusd_mp import Client, LocalCluster
from amusd_mp.core.model import ModelSpec
from amusd_mp.core.params import GenerationParams
from amusd_mp.core.step import Block, Step
from amusd_mp.engine.loading import load
from amusd_mp.engine.model import SlotModel

TOKENS, AT_ONCE = 48, 8
SETTINGS = [("slot", False), ("slot", True), ("sdpa", False), ("sdpa", True)]
ASKS = [
    Ask(
        text,
        {"temperature": 0.7 * (number % 2), "seed": 1000 + number, "max_tokens": TOKENS, "ignore_eos": True},
    )
    for number, text in enumerate(prompts(32))
]
Texts = list[tuple[int, ...]]


async def write(client: Client, at_once: int, **options: Any) -> tuple[Texts, str]:
    """Have everything written; return the ids, and what it took."""
    room = asyncio.Semaphore(at_once)

    async def one(ask: Ask) -> tuple[tuple[int, ...], int, int]:
        async with room:
            result = await client.generate(ask.prompt, timeout=120, **ask.options, **options)
            return result.token_ids, result.stats.accepted, result.stats.proposed

    began = time.monotonic()
    found = await asyncio.gather(*(one(ask) for ask in ASKS))
    rate = len(ASKS) * TOKENS / (time.monotonic() - began)
    accepted, proposed = (sum(each[at] for each in found) for at in (1, 2))
    return [ids for ids, _, _ in found], f"{accepted:>8} {proposed:>8} {rate:>8.0f}"


@asynccontextmanager
async def meanwhile(work: Any) -> AsyncIterator[None]:
    """Do something as long as the block lasts."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def stop_and_go(pid: int) -> None:
    """Hold a process for 0.15 s of every 0.25 s: far below the time after which it counts as gone."""
    try:
        while True:
            os.kill(pid, signal.SIGSTOP)
            await asyncio.sleep(0.15)
            os.kill(pid, signal.SIGCONT)
            await asyncio.sleep(0.1)
    finally:
        os.kill(pid, signal.SIGCONT)


async def die_and_rise(cluster: LocalCluster, client: Client) -> None:
    while True:
        await drafts_are(client, lambda drafts: any(each.windows > 100 for each in drafts))
        await cluster.kill("draft")
        await cluster.restart("draft")


@pytest.mark.parametrize(("attention", "fixed"), SETTINGS)
async def test_runs_with_shifted_timing(attention: str, fixed: bool) -> None:
    nodes: Any = deployment("bundled:draft", attention=attention, fixed_shapes=fixed)
    for node in nodes["nodes"].values():
        node["dtype"] = "bfloat16"
    model = Alone("bfloat16", attention=attention, fixed_shapes=fixed)
    what = f"{attention}, {'fixed' if fixed else 'free'} shapes"
    print(f"\n{what:<24} {'run':<28} {'texts changed':>13} {'accepted':>8} {'verified':>8} {'tokens/s':>8}  gaps")  # noqa: T201

    def note(run: str, found: tuple[Texts, str]) -> None:
        gaps = sorted(changes(model, first, found[0]))
        told = f"{len(gaps):>13} {found[1]}  {', '.join(f'{gap:.2g}' for gap in gaps)}"
        print(f"{what:<24} {run:<28} {told}", flush=True)  # noqa: T201  # what this file is run for

    async with LocalCluster(nodes) as cluster, cluster.connect() as client:
        await client.wait_for_draft()
        alone = await write(client, 1, strategy="autoregressive")
        first = alone[0]
        assert all(len(ids) == TOKENS for ids in first)
        note("alone, one at a time", alone)
        note("draft, eight at once", await write(client, AT_ONCE))
        note("again", await write(client, AT_ONCE))
        note("alternating 4, eight at once", await write(client, AT_ONCE, strategy="alternating", lookahead=4))
        async with meanwhile(stop_and_go(cluster.nodes["draft"].pid)):
            note("draft slowed, eight at once", await write(client, AT_ONCE))
        await cluster.kill("draft")
        await drafts_are(client, lambda drafts: not drafts)
        note("no draft, eight at once", await write(client, AT_ONCE))
        await cluster.restart("draft")
        await client.wait_for_draft()
        async with meanwhile(die_and_rise(cluster, client)):
            note("draft killed, two at once", await write(client, 2, strategy="alternating", lookahead=4))


def changes(model: Alone, first: Texts, other: Texts) -> list[float]:
    """Return, for every text that differs, how far the two best scores lay apart at its first difference."""
    gaps = []
    for ask, mine, theirs in zip(ASKS, first, other, strict=True):
        if mine != theirs:
            at = next(i for i, (a, b) in enumerate(zip(mine, theirs, strict=True)) if a != b)
            gaps.append(model.gap(ask, mine[:at]))
    return gaps


def test_what_fixed_shapes_cost() -> None:
    """CPU milliseconds of one verify step, the best of 30 in turns, at 256 tokens of context and 8 cache rows."""
    shapes = [(rows, width) for rows in (1, 8) for width in (1, 5, 16)]
    ways = [(way, dtype) for way in SETTINGS for dtype in ("bfloat16", "float32")]
    models = []
    for (attention, fixed), dtype in ways:
        spec = ModelSpec(
            "bundled:verify", dtype=dtype, max_length=1024, threads=1, attention=attention, fixed_shapes=fixed
        )
        models.append(load(spec).model)
        step_time(models[-1], 8, 0, 256)
    best = [[math.inf] * len(shapes) for _ in models]
    for _ in range(30):
        for times, model in zip(best, models, strict=True):
            for at, (rows, width) in enumerate(shapes):
                times[at] = min(times[at], step_time(model, rows, 256, width))
    print("\nCPU ms per step".ljust(28) + "".join(f"{f'{rows} x {width}':>9}" for rows, width in shapes))  # noqa: T201
    for ((attention, fixed), dtype), times in zip(ways, best, strict=True):
        name = f"{attention}, {'fixed' if fixed else 'free'}, {dtype}"
        print(name.ljust(27) + "".join(f"{1000 * each:>9.2f}" for each in times))  # noqa: T201


def step_time(model: SlotModel, rows: int, start: int, width: int) -> float:
    """Return the CPU seconds of a step: wall time would count whoever else is at work."""
    fed, params = tuple(range(5, 5 + width)), GenerationParams()
    blocks = tuple(Block(f"s{row}", row, start, fed, width, params, 1) for row in range(rows))
    began = time.thread_time()
    model.run(Step(0, blocks))
    return time.thread_time() - began
