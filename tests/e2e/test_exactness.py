"""Rule: the text is the verify model's own, token for token, whatever the draft, the lookahead and the company.

The corners of the grid that `make exactness` walks in full.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from exactness import Reference, Run, compare, deployment, prompts

from amusd_mp import Client, LocalCluster

NEW_TOKENS = 48
TEXTS = prompts(4)

DRAFTS = {"bundled": "bundled:draft", "random": "random:bundled:draft", "none": None}

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference()


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=list(DRAFTS))
async def client(request: pytest.FixtureRequest) -> AsyncIterator[Client]:
    model = DRAFTS[request.param]
    async with LocalCluster(deployment(model)) as cluster, cluster.connect() as client:
        if model is not None:
            await client.wait_for_draft()
        yield client


@pytest.mark.parametrize(
    ("strategy", "lookahead", "at_once"), [("amusd", 1, 8), ("amusd", 16, 1), ("amusd", 16, 8), ("alternating", 4, 8)]
)
async def test_the_text_is_the_verify_models(
    client: Client, reference: Reference, strategy: str, lookahead: int, at_once: int
) -> None:
    run = await compare(
        client,
        reference,
        TEXTS,
        NEW_TOKENS,
        at_once=at_once,
        what=f"{strategy} {lookahead}",
        strategy=strategy,
        lookahead=lookahead,
    )
    check(run, await drafting(client))


async def drafting(client: Client) -> str | None:
    """Return the model that drafts, None without one."""
    return next((draft.model for draft in (await client.status()).drafts), None)


def check(run: Run, draft: str | None) -> None:
    assert not run.wrong
    if draft is None:
        assert run.proposed == 0
    elif draft.startswith("random:"):
        assert run.proposed > 0  # its guesses are verified, be it as a rare probe
    else:
        assert run.accepted > 0
