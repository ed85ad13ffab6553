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

WITH_DRAFT = [("amusd", 1), ("amusd", 4), ("amusd", 16), ("alternating", 1), ("alternating", 4)]
GRID: dict[str | None, list[tuple[str, int]]] = {
    "bundled:draft": WITH_DRAFT,
    "random:bundled:draft": WITH_DRAFT,
    None: [("amusd", 16)],
}
RUNS = [
    (draft, strategy, lookahead, at_once)
    for draft, ways in GRID.items()
    for strategy, lookahead in ways
    for at_once in (1, 8)
]


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


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(request: pytest.FixtureRequest) -> AsyncIterator[Client]:
    async with LocalCluster(deployment(request.param)) as cluster, cluster.connect() as client:
        if request.param is not None:
            await client.wait_for_draft()
        yield client


@pytest.mark.parametrize(("client", "strategy", "lookahead", "at_once"), RUNS, indirect=["client"])
async def test_every_text_is_the_verify_models(
    client: Client,
    reference: Reference,
    table: list[Run],
    request: pytest.FixtureRequest,
    strategy: str,
    lookahead: int,
    at_once: int,
) -> None:
    draft = request.node.callspec.params["client"]
    run = await compare(
        client,
        reference,
        TEXTS,
        NEW_TOKENS,
        at_once=at_once,
        what=f"{draft or 'none'}, {strategy}, {lookahead}",
        strategy=strategy,
        lookahead=lookahead,
    )
    print(f"\n{run.row}", end="", flush=True)  # noqa: T201  # a sign of life
    table.append(run)
    assert not run.wrong, run.wrong
    if draft is None:
        assert run.proposed == 0
    elif (strategy, lookahead) == ("amusd", 1):
        # A single guess is made when its commit arrives, and a verify node that never waits longer than waiting pays
        # may have gone past it each time; `alternating, 1` is where a lookahead of one is sure to be verified.
        assert run.accepted <= run.proposed
    elif draft == "bundled:draft":
        assert run.accepted > 0
    else:
        assert run.proposed > 0  # verified at least as a probe
