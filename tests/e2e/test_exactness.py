"""Rule: the text is the verify model's own, token for token, whatever the draft, the lookahead and the company.

The corners of the grid that `make exactness` walks in full: with the bundled draft over processes, with a random one
and with none over the same nodes inside this process.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from exactness import Reference, compare, compare_until_used, deployment, prompts
from pair import Pair

from amusd_mp import Client, LocalCluster

pytestmark = pytest.mark.asyncio(loop_scope="module")

NEW_TOKENS = 48
TEXTS = prompts(4)

WAYS = pytest.mark.parametrize(
    ("strategy", "lookahead", "at_once"), [("amusd", 1, 8), ("amusd", 16, 1), ("amusd", 16, 8), ("alternating", 4, 8)]
)


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def processes() -> AsyncIterator[Client]:
    async with LocalCluster(deployment("bundled:draft")) as cluster, cluster.connect() as client:
        await client.wait_for_draft()
        yield client


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair() -> AsyncIterator[Pair]:
    async with Pair() as pair:
        yield pair


@WAYS
async def test_with_a_draft(
    processes: Client, reference: Reference, strategy: str, lookahead: int, at_once: int
) -> None:
    run = await compare_until_used(processes, reference, TEXTS, NEW_TOKENS, at_once, strategy, lookahead)
    assert not run.wrong


@WAYS
async def test_with_a_draft_that_is_always_wrong(
    pair: Pair, reference: Reference, strategy: str, lookahead: int, at_once: int
) -> None:
    async with pair.connect() as client:
        await pair.only(client, "draft-1")
        run = await compare_until_used(client, reference, TEXTS, NEW_TOKENS, at_once, strategy, lookahead)
    assert not run.wrong


async def test_without_a_draft(pair: Pair, reference: Reference) -> None:
    async with pair.connect() as client:
        await pair.only(client)
        run = await compare(client, reference, TEXTS, NEW_TOKENS, 8)
    assert not run.wrong
    assert run.proposed == 0
