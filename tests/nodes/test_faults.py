"""Rule: what a bad network loses, doubles, delays and reorders changes no token, and every stream ends."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator

import pytest
from stubs import DEADLINE, TRUTH, VOCABULARY, Cluster, Slow, answer, stubs, until

from amusd_mp import transport
from amusd_mp.testing.faults import Faults, FaultyTransport
from amusd_mp.testing.stub import Stub
from amusd_mp.transport import Listener, TransportOptions

FAULTS = {
    "drops": {"drop": 0.2},
    "duplicates": {"duplicate": 0.5},
    "reorders": {"reorder": 0.5, "hold": 0.02},
    "delays": {"delay": (0.0, 0.005)},
    "everything": {"drop": 0.1, "duplicate": 0.3, "reorder": 0.3, "hold": 0.01, "delay": (0.0, 0.003)},
}


class BadLinks(FaultyTransport):
    """Faults on each dialler's link, in both directions, and none at the listener: each message suffers once."""

    async def listen(self, url: str, options: TransportOptions) -> Listener:
        return await self._inner.listen(url, options)


@pytest.fixture
def links() -> Iterator[Faults]:
    """Put faults on every link that is opened; there are none at first."""
    faults = Faults(random.Random(11))
    with transport.using(BadLinks(transport.find("inproc://"), faults)):
        yield faults


@pytest.mark.parametrize("kind", list(FAULTS))
async def test_no_token_changes_and_every_stream_ends(links: Faults, kind: str) -> None:
    models = {**stubs(), "truth": lambda: Stub.of(Slow(TRUTH, 4, VOCABULARY))}
    async with Cluster(2, models=models) as cluster, cluster.client() as client:
        await client.wait_for_draft()
        for name, value in FAULTS[kind].items():
            setattr(links, name, value)

        async def one(prompt: str, strategy: str) -> int:
            result = await client.generate(prompt, max_tokens=30, strategy=strategy, timeout=DEADLINE)
            assert result.token_ids == answer(prompt, 30)
            return result.stats.accepted

        accepted = await asyncio.gather(
            *(one(f"{name} {kind}", name) for name in ("amusd", "alternating", "amusd", "autoregressive"))
        )
        while not sum(accepted):  # the drafts' windows get through, sooner or later
            accepted = [await one(f"again {kind}", "amusd")]
        assert links.dropped + links.duplicated + links.reordered + links.delayed  # the faults were really there
        await until(lambda: cluster.idle, "both nodes to have let go")


async def test_a_cut_link_is_healed_within_the_lease(links: Faults) -> None:
    models = {"truth": lambda: Stub.of(Slow(TRUTH, 4, VOCABULARY))}
    async with (
        Cluster(0, models=models) as cluster,
        cluster.client() as client,
        client.stream("hello", max_tokens=300, timeout=DEADLINE) as stream,
    ):
        await anext(stream)
        links.partition()
        await until(lambda: cluster.idle, "the end at the verify node")
        links.heal()
        assert (await stream.result()).token_ids == answer("hello", 300)
