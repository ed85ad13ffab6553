"""Rule: a sampled text depends on prompt, parameters and seed alone: every draft, lookahead, company and mishap.

A pairwise grid of temperature 0.3, 0.7, 1.0 with and without top-p, top-k, min-p and penalties, 16 prompts of 48
tokens, float32. Run by `make sampling`, not by `make test`: it takes minutes. One line per run, and a table at the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from exactness import HEADER, Run, deployment, prompts
from sampled import ROWS, Alone, compare_samples, covers, grid

from amusd_mp import Client, LocalCluster

ASKS = grid(prompts(8), 48)
LOOKAHEADS = (1, 4, 16)
ROUNDS: dict[str, Any] = {"strategy": "alternating", "lookahead": 4}  # every step has proposals, while there is a draft


@pytest.fixture(scope="module")
def alone() -> Alone:
    """Answer everything before the nodes run: three busy processes on two cores would slow each other."""
    model = Alone()
    for ask in ASKS:
        model.answer(ask)
    return model


@pytest.fixture(scope="module")
def table() -> Iterator[list[Run]]:
    runs: list[Run] = []
    yield runs
    ties, texts = sum(run.ties for run in runs), sum(len(run.results) for run in runs)
    lines = [HEADER, *(run.row for run in runs), f"{texts} texts compared, {ties} near-ties excused"]
    print("\n" + "\n".join(lines))  # noqa: T201  # the table is what this file is run for


def test_the_grid_is_pairwise() -> None:
    assert covers(ROWS)


async def test_without_a_draft(alone: Alone, table: list[Run]) -> None:
    async with LocalCluster(deployment(None)) as cluster, cluster.connect() as client:
        for at_once in (1, 8):
            run = note(await compare_samples(client, alone, ASKS, at_once, "none"), table)
            assert run.proposed == 0


@pytest.mark.parametrize("draft", ["bundled:draft", "random:bundled:draft"])
async def test_with_a_draft(draft: str, alone: Alone, table: list[Run]) -> None:
    async with LocalCluster(deployment(draft)) as cluster, cluster.connect() as client:
        await client.wait_for_draft()
        for strategy, lookahead in (*(("amusd", each) for each in LOOKAHEADS), ("alternating", 4)):
            for at_once in (1, 8):
                what = f"{draft}, {strategy}, {lookahead}"
                run = await compare_samples(client, alone, ASKS, at_once, what, strategy=strategy, lookahead=lookahead)
                assert note(run, table).shows_use(draft, strategy, lookahead)


async def test_a_draft_that_is_killed_and_restarted_all_the_time(alone: Alone, table: list[Run]) -> None:
    async with LocalCluster(deployment("bundled:draft")) as cluster, cluster.connect() as client:
        await client.wait_for_draft()
        asking = asyncio.create_task(
            compare_samples(client, alone, ASKS * 2, 8, "bundled:draft, killed, restarted", **ROUNDS)
        )
        deaths = 0
        while not asking.done():
            await cluster.kill("draft")
            await cluster.restart("draft")
            await joined(client, asking)
            deaths += 1
        run = note(await asking, table)
        degraded = sum(result.stats.degraded for result in run.results)
        helped = sum(result.stats.degraded and result.stats.accepted > 0 for result in run.results)
        print(f"\n{deaths} deaths; {degraded} texts lost their draft, {helped} of them used it, too")  # noqa: T201
        assert deaths > 1
        assert helped > 0


async def joined(client: Client, asking: asyncio.Task[Run]) -> None:
    """Wait until a draft proposes, or until nobody asks any more."""
    while not asking.done():
        drafts = (await client.status()).drafts
        if any(draft.windows > 20 for draft in drafts):
            return
        await asyncio.sleep(0.05)


def note(run: Run, table: list[Run]) -> Run:
    print(f"\n{run.row}", end="", flush=True)  # noqa: T201  # a sign of life
    table.append(run)
    assert not run.wrong, run.wrong
    return run
