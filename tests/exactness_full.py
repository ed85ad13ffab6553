"""Rule: the text is the verify model's own, over the whole grid: 128 prompts, 128 tokens, every draft and lookahead.

Run by `make exactness`, not by `make test`: it takes minutes. Prints one line per run, and the table at the end.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from exactness import HEADER, Reference, Run, compare, deployment, prompts

from amusd_mp import LocalCluster

NEW_TOKENS = 128
TEXTS = prompts(64)

GRID: dict[str | None, list[tuple[str, int]]] = {
    "bundled:draft": [("amusd", 1), ("amusd", 4), ("amusd", 16), ("alternating", 4)],
    "random:bundled:draft": [("amusd", 1), ("amusd", 4), ("amusd", 16), ("alternating", 4)],
    None: [("amusd", 1), ("amusd", 4), ("amusd", 16)],
}
AT_ONCE = (1, 8)


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


@pytest.mark.parametrize("draft", list(GRID), ids=str)
async def test_every_text_is_the_verify_models(draft: str | None, reference: Reference, table: list[Run]) -> None:
    async with LocalCluster(deployment(draft)) as cluster, cluster.connect() as client:
        if draft is not None:
            await client.wait_for_draft()
        for strategy, lookahead in GRID[draft]:
            for at_once in AT_ONCE:
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
                if draft == "bundled:draft":
                    assert run.accepted > 0
                elif draft is not None:
                    assert run.proposed > 0  # verified at least as a probe
                else:
                    assert run.proposed == 0
