"""Rule: a sampled text depends on prompt, parameters and seed alone, whatever the draft, the lookahead and the mishaps.

The pairwise grid that `make sampling` walks in full, in small, on the real nodes inside this process.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from exactness import prompts
from pair import DEADLINE, Pair, drafts_are
from sampled import ROWS, Alone, compare_samples, covers, grid

from amusd_mp import Client, GenerationResult

pytestmark = pytest.mark.asyncio(loop_scope="module")

ASKS = grid(prompts(1), 24)
SETTINGS = [
    ((), 1, 16),
    (("draft-0",), 1, 1),
    (("draft-0",), 8, 1),
    (("draft-0",), 8, 4),
    (("draft-0",), 8, 16),
    (("draft-0", "draft-1"), 8, 16),
    (("draft-1",), 8, 16),
]


@pytest.fixture(scope="module")
def alone() -> Alone:
    return Alone()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair() -> AsyncIterator[Pair]:
    async with Pair() as pair:
        yield pair


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(pair: Pair) -> AsyncIterator[Client]:
    async with pair.connect() as client:
        yield client


async def test_the_grid_is_pairwise() -> None:
    assert covers(ROWS)
    assert not covers(ROWS[:-1])


@pytest.mark.parametrize(("drafts", "at_once", "lookahead"), SETTINGS)
async def test_every_text_is_the_verify_models_own(
    pair: Pair, client: Client, alone: Alone, drafts: tuple[str, ...], at_once: int, lookahead: int
) -> None:
    await pair.only(client, *drafts)
    run = await compare_samples(client, alone, ASKS, at_once, str(drafts), lookahead=lookahead)
    assert not run.wrong
    if not drafts:
        assert run.proposed == 0


async def test_a_draft_may_die_and_come_back_in_the_middle(pair: Pair, client: Client, alone: Alone) -> None:
    """The verify model is held after the sixth token of one text, until another life of the draft has proposed."""
    await pair.only(client, "draft-0")
    before = (await client.status()).drafts[0].incarnation
    options = {"strategy": "alternating", "lookahead": 3, "timeout": DEADLINE}
    async with asyncio.TaskGroup() as tasks, client.stream(ASKS[0].prompt, **ASKS[0].options, **options) as stream:
        others = [tasks.create_task(client.generate(ask.prompt, **ask.options, **options)) for ask in ASKS[1:8]]
        count = 0
        async for chunk in stream:
            count += len(chunk.tokens)
            if count >= 6:
                break
        pair.watched.go.clear()
        try:
            await pair.cut("draft-0")
            await pair.start("draft-0")
            await drafts_are(client, lambda drafts: any(each.windows and each.incarnation != before for each in drafts))
        finally:
            pair.watched.go.set()
        results: list[GenerationResult] = [await stream.result()]
    results += [task.result() for task in others]
    for ask, result in zip(ASKS, results, strict=False):
        assert alone.differs(ask, result.token_ids) in (None, "tie")
    assert results[0].stats.degraded
    assert results[0].stats.accepted > 0
