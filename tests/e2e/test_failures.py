"""Rule: draft, verify node and client may die, hang and come back; what a client has is the verify model's own text."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import pytest
import pytest_asyncio
import streaming
from exactness import Reference, deployment, prompts
from streaming import WHOLE, Ending

from amusd_mp import Client, GenerationResult, LocalCluster, SequenceLost

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.slow]

TEXTS = prompts(4)[:4]
TOKENS = 96
DEADLINE = 40.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster() -> AsyncIterator[LocalCluster]:
    async with LocalCluster(deployment("bundled:draft")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference()


async def until(check: Callable[[], Awaitable[bool]], what: str) -> None:
    """Ask again and again until the answer is true."""
    try:
        async with asyncio.timeout(DEADLINE):
            while not await check():  # noqa: ASYNC110  # the other end is another process
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"not within {DEADLINE:g} s: {what}") from None


@dataclass
class Load:
    """Clients that generate without a pause. `rounds` counts each one's finished responses."""

    watcher: Client
    results: list[list[GenerationResult]] = field(default_factory=lambda: [[] for _ in TEXTS])

    async def fresh(self) -> list[list[GenerationResult]]:
        """Return what each client got that began from now on, one response each at least."""
        begun = [len(results) + 1 for results in self.results]  # the one that runs now began before

        async def enough() -> bool:
            return all(len(results) > at for results, at in zip(self.results, begun, strict=True))

        await until(enough, "a whole response for every client")
        return [results[at:] for results, at in zip(self.results, begun, strict=True)]

    async def accepted(self) -> None:
        """Wait until proposals are accepted in a response that begins from now on."""

        async def helped() -> bool:
            return any(result.stats.accepted for results in await self.fresh() for result in results)

        await until(helped, "an accepted proposal")

    async def degraded(self, wanted: bool) -> None:
        async def so() -> bool:
            return (await self.watcher.status()).degraded is wanted

        await until(so, f"a status with degraded={wanted}")


@asynccontextmanager
async def load(cluster: LocalCluster, reference: Reference) -> AsyncIterator[Load]:
    """Run a client per text, each over and over; on leaving, compare every response with the reference."""
    expected = await asyncio.to_thread(reference.answers, TEXTS, TOKENS)
    over = asyncio.Event()
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(cluster.connect()) for _ in TEXTS]
        running = Load(clients[0])

        async def again(client: Client, text: str, results: list[GenerationResult]) -> None:
            while not over.is_set():
                results.append(await client.generate(text, max_tokens=TOKENS, timeout=DEADLINE))

        async with asyncio.TaskGroup() as tasks:
            for client, text, results in zip(clients, TEXTS, running.results, strict=True):
                tasks.create_task(again(client, text, results))
            try:
                yield running
            finally:
                over.set()
    for text, ids, results in zip(TEXTS, expected, running.results, strict=True):
        assert results
        for token_ids in {result.token_ids for result in results}:
            assert reference.differs(text, ids, token_ids) in (None, "tie")


async def test_a_killed_draft_costs_speed_and_its_next_life_helps_again(
    cluster: LocalCluster, reference: Reference
) -> None:
    async with load(cluster, reference) as running:
        await running.degraded(False)
        await running.accepted()
        before = (await running.watcher.status()).drafts[0].incarnation
        os.kill(cluster.nodes["draft"].pid, signal.SIGKILL)
        await running.degraded(True)
        alone = await running.fresh()
        assert all(result.stats.degraded for results in alone for result in results)
        await cluster.restart("draft")
        await running.degraded(False)
        assert (await running.watcher.status()).drafts[0].incarnation != before
        await running.accepted()


async def test_a_stopped_draft_is_gone_until_it_continues(cluster: LocalCluster, reference: Reference) -> None:
    async with load(cluster, reference) as running:
        await running.degraded(False)
        await running.accepted()
        pid = cluster.nodes["draft"].pid
        os.kill(pid, signal.SIGSTOP)
        try:
            await running.degraded(True)
            await running.fresh()
        finally:
            os.kill(pid, signal.SIGCONT)
        await running.degraded(False)
        await running.accepted()


async def test_a_stopped_client_alone_falls_behind_and_then_goes_on(
    cluster: LocalCluster, reference: Reference
) -> None:
    (expected,) = await asyncio.to_thread(reference.answers, TEXTS[:1], TOKENS)
    asks = json.dumps([{"prompt": TEXTS[0], "options": {"max_tokens": TOKENS}}])
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, streaming.__file__, cluster.url, "1", asks), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None

    async def ending() -> Ending:
        async with asyncio.timeout(DEADLINE):
            return Ending(**json.loads(await process.stdout.readline()))

    try:
        assert (await ending()).outcome == WHOLE
        async with load(cluster, reference) as running:
            process.send_signal(signal.SIGSTOP)
            await running.fresh()
            process.send_signal(signal.SIGCONT)
        found = await ending()
        while found.outcome != WHOLE:
            assert found.outcome == "SequenceLost"  # on a machine so slow that its lease ran out meanwhile
            found = await ending()
        assert reference.differs(TEXTS[0], expected, tuple(found.ids)) in (None, "tie")
    finally:
        process.kill()
        await process.wait()


async def test_a_killed_verify_node_is_told_and_its_next_life_is_used(
    cluster: LocalCluster, reference: Reference
) -> None:
    (expected,) = await asyncio.to_thread(reference.answers, TEXTS[:1], TOKENS)
    async with cluster.connect() as client:
        await client.wait_for_draft()
        async with client.stream(TEXTS[0], max_tokens=1500) as stream:
            await anext(stream)
            await cluster.kill("verify")
            with pytest.raises(SequenceLost) as caught:
                async with asyncio.timeout(DEADLINE):
                    await stream.result()
        ids = caught.value.token_ids
        assert ids
        assert reference.differs(TEXTS[0], expected[: len(ids)], ids[: len(expected)]) in (None, "tie")
        await cluster.restart("verify")
        again = await asyncio.wait_for(_generate_when_back(client), DEADLINE)
        assert reference.differs(TEXTS[0], expected, again.token_ids) in (None, "tie")
        await client.wait_for_draft(DEADLINE)


async def _generate_when_back(client: Client) -> GenerationResult:
    while True:
        try:
            return await client.generate(TEXTS[0], max_tokens=TOKENS)
        except SequenceLost:  # meant for the life that is gone
            await asyncio.sleep(0.05)


LONG = 2000

VANISHING = """
import asyncio, sys, amusd_mp
async def main():
    async with amusd_mp.connect(sys.argv[1]) as client:
        async with client.stream("def f(", max_tokens=8, ignore_eos=True) as one:
            await one.result()
        while True:
            async with client.stream("def f(", max_tokens=int(sys.argv[2]), ignore_eos=True) as stream:
                print("streaming", flush=True)
                async for _ in stream:
                    pass
asyncio.run(main())
"""


async def test_the_sequence_of_a_client_that_vanished_ends_with_its_lease() -> None:
    slow = deployment(None, model="simulated:verify?step_ms=50")  # the whole text would take 100 s
    async with LocalCluster(slow) as cluster, cluster.connect() as client:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", VANISHING, cluster.url, str(LONG), stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        try:
            async with asyncio.timeout(DEADLINE):
                await process.stdout.readline()
        finally:
            process.send_signal(signal.SIGKILL)
            await process.wait()
        assert (await client.status()).sequences == 1

        async def gone() -> bool:
            return (await client.status()).sequences == 0

        await until(gone, "the end of the lease")
        assert (await client.status()).output_tokens < LONG
