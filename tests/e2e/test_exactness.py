"""Rule: the text is the verify model's own, token for token, whatever the draft, the lookahead and the company.

The corners of the grid that `make exactness` walks in full.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from exactness import Reference, compare, compare_until_used, deployment, prompts

from amusd_mp import Client, LocalCluster

pytestmark = pytest.mark.asyncio(loop_scope="module")

NEW_TOKENS = 48
TEXTS = prompts(4)

DRAFTS = ["bundled:draft", "random:bundled:draft"]
WAYS = [("amusd", 1, 8), ("amusd", 16, 1), ("amusd", 16, 8), ("alternating", 4, 8)]


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference()


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=DRAFTS)
async def client(request: pytest.FixtureRequest) -> AsyncIterator[Client]:
    async with LocalCluster(deployment(request.param)) as cluster, cluster.connect() as client:
        await client.wait_for_draft()
        yield client


@pytest.mark.parametrize(("strategy", "lookahead", "at_once"), WAYS)
async def test_with_a_draft(client: Client, reference: Reference, strategy: str, lookahead: int, at_once: int) -> None:
    run = await compare_until_used(client, reference, TEXTS, NEW_TOKENS, at_once, strategy, lookahead)
    assert not run.wrong


async def test_without_a_draft(reference: Reference) -> None:
    async with LocalCluster(deployment(None)) as cluster, cluster.connect() as client:
        run = await compare(client, reference, TEXTS, NEW_TOKENS, 8)
    assert not run.wrong
    assert run.proposed == 0
