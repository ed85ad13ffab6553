"""Rule: the text is the verify model's own, over the whole grid: 128 prompts, 128 tokens, every draft and lookahead.

Run by `make exactness`, not by `make test`: it takes minutes. Prints one line per run, and the table at the end.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from exactness import HEADER, Reference, Run, compare, deployment, prompts

from amusd_mp import Client, LocalCluster

pytestmark = pytest.mark.asyncio(loop_scope="module")

NEW_TOKENS = 128
TEXTS = prompts(64)

DRAFTS = ["bundled:draft", "random:bundled:draft"]
WAYS = [("amusd", 1), ("amusd", 4), ("amusd", 16), ("alternating", 1), ("alternating", 4)]
AT_ONCE = [1, 8]


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference()


@pytest.fixture(scope="module")
def table() -> Iterator[list[Run]]:
    runs: list[Run] = []
    yield runs
    ties = sum(run.ties for run in runs)
    texts = sum(len(run.results) for run in runs)
    lines = [HEADER, *(run.row for run in runs), f"{texts} texts compared, {ties} near-ties excused"]
    print("\n" + "\n".join(lines))  # noqa: T201  # the table is what this file is run for


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=DRAFTS)
async def client(request: pytest.FixtureRequest) -> AsyncIterator[Client]:
    async with LocalCluster(deployment(request.param)) as cluster, cluster.connect() as client:
        await client.wait_for_draft()
        yield client


@pytest.mark.parametrize("at_once", AT_ONCE)
@pytest.mark.parametrize(("strategy", "lookahead"), WAYS)
async def test_with_a_draft(
    client: Client, reference: Reference, table: list[Run], strategy: str, lookahead: int, at_once: int
) -> None:
    draft = (await client.status()).drafts[0].model
    run = await compare(client, reference, TEXTS, NEW_TOKENS, at_once, strategy=strategy, lookahead=lookahead)
    show(run, table)
    assert run.shows_use(draft, strategy, lookahead)


async def test_without_a_draft(reference: Reference, table: list[Run]) -> None:
    async with LocalCluster(deployment(None)) as cluster, cluster.connect() as client:
        for at_once in AT_ONCE:
            run = await compare(client, reference, TEXTS, NEW_TOKENS, at_once)
            show(run, table)
            assert run.proposed == 0


def show(run: Run, table: list[Run]) -> None:
    print(f"\n{run.row}", end="", flush=True)  # noqa: T201  # a sign of life
    table.append(run)
    assert not run.wrong, run.wrong
