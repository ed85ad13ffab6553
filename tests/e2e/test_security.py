"""Rule: keys change no token, and whoever has none, another's or a revoked one is told so and changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from keyring import Keyring
from ports import free_ports
from stubs import DEADLINE, TRUTH, VOCABULARY, Cluster, Slow, answer, stubs, until

import amusd_mp
from amusd_mp import Client, LocalCluster, transport
from amusd_mp.core.messages import Cancel, Cancelled, Draft, StatusReport, Window, draft_topic
from amusd_mp.errors import AccessDenied
from amusd_mp.security import allow
from amusd_mp.security.keys import for_dialling
from amusd_mp.session.sender import Sender
from amusd_mp.testing.stub import Stub

LONG = 3000
"""Tokens that take longer than any test: a stream of so many is running until something ends it."""


@pytest.fixture
def ring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Keyring:
    monkeypatch.setattr(allow, "PERIOD", 0.02)
    return Keyring(tmp_path)


@pytest.fixture
async def cluster(ring: Keyring) -> AsyncIterator[Cluster]:
    """A verify node with one draft over tcp, both with keys; slow enough that a stream can be interrupted."""
    models = {**stubs(), "truth": lambda: Stub.of(Slow(TRUTH, 4, VOCABULARY))}
    cluster = Cluster(made=ring.made(f"tcp://127.0.0.1:{free_ports()}"), models=models)
    async with cluster:
        yield cluster


def connect(cluster: Cluster, ring: Keyring, name: str, **kwargs: Any) -> AbstractAsyncContextManager[Client]:
    """Connect with the key of a party."""
    return cluster.connect(**{"key": ring.file(name), "timeout": DEADLINE, **kwargs})


def counted(status: StatusReport, what: str) -> int:
    return dict(status.counters).get(what, 0)


async def test_keys_change_no_token(cluster: Cluster, ring: Keyring) -> None:
    async with connect(cluster, ring, "client") as client:
        await client.wait_for_draft()
        results = await asyncio.gather(*(client.generate(text, max_tokens=60, timeout=DEADLINE) for text in "abcd"))
    assert [result.token_ids for result in results] == [answer(text, 60) for text in "abcd"]
    assert sum(result.stats.accepted for result in results) > 0


@pytest.mark.parametrize(
    ("change", "what", "counter"),
    [
        ({"key": "stranger"}, "does not know this end's key", "denied_unknown_key"),
        ({"server_key": "stranger"}, "does not have the key", "denied_failed_handshake"),
        ({"key": None, "server_key": None}, "give it a key of its own", "denied_failed_handshake"),
        ({"key": "draft"}, "draft .* has the role draft and may not say hello as client", "refused_forbidden"),
        ({"key": "observer"}, "observer .* has the role observer and may not say hello as client", "refused_forbidden"),
    ],
    ids=["unknown key", "wrong server key", "no key", "draft's key", "observer's key"],
)
async def test_whoever_does_not_belong_is_told_why_and_counted(
    cluster: Cluster, ring: Keyring, change: dict[str, str | None], what: str, counter: str
) -> None:
    given: dict[str, Any] = {"key": ring.file("client"), "server_key": ring.pairs["verify"].public}
    for name, party in change.items():
        of = {"key": ring.file, "server_key": lambda each: ring.pairs[each].public}[name]
        given[name] = of(party) if party is not None else None
    with pytest.raises(AccessDenied, match=what):
        async with amusd_mp.connect(cluster.url, timeout=10 * DEADLINE, **given):  # the timeout is never met
            pass
    async with connect(cluster, ring, "client") as client:
        assert counted(await client.status(), counter) >= 1


async def test_an_observer_reads_and_does_nothing_else(cluster: Cluster, ring: Keyring) -> None:
    async with (
        connect(cluster, ring, "client") as client,
        connect(cluster, ring, "observer", role="observer") as observer,
    ):
        await client.wait_for_draft()
        async with observer.watch() as steps, client.stream("watched", max_tokens=40) as stream:
            async with asyncio.timeout(DEADLINE):
                await anext(steps)
            for asked in (observer.generate("x", max_tokens=1), observer.drain(), observer.tokenize("x")):
                with pytest.raises(AccessDenied, match=r"has the role observer and may not .* takes the role client"):
                    await asked
            assert (await stream.result()).token_ids == answer("watched", 40)
        assert not (await observer.status()).degraded


async def test_a_clients_key_that_publishes_windows_is_ignored_and_counted(cluster: Cluster, ring: Keyring) -> None:
    """Under a name of its own, and under that of the draft that is joined."""
    options = for_dialling(ring.file("other"), ring.pairs["verify"].public)
    async with connect(cluster, ring, "client") as client, await transport.dial(cluster.url, options) as intruder:
        joined = (await client.wait_for_draft()).drafts
        assert client._link.welcome is not None
        await intruder.attach(dict(client._link.welcome.endpoints))
        senders = [Sender("intruder", "made-up"), Sender(joined[0].node, joined[0].incarnation)]
        async with client.stream("forged", max_tokens=400, timeout=10 * DEADLINE) as stream:
            wrong = Window(stream.submit.sequence, 1, 6, tuple(range(16)))

            async def forged() -> bool:
                for sender in senders:
                    window = sender.seal(Draft(client.incarnation, (wrong,), 0.0, 0.0))
                    intruder.publish(draft_topic(sender.incarnation), window)
                return counted(await client.status(), "forbidden_publication") >= 10

            await until(forged)
            assert (await stream.result()).token_ids == answer("forged", 400)
        assert [draft.incarnation for draft in (await client.status()).drafts] == [joined[0].incarnation]


async def test_a_revoked_client_is_out_and_everybody_else_goes_on(cluster: Cluster, ring: Keyring) -> None:
    async with connect(cluster, ring, "client") as client:
        await client.wait_for_draft()

        async def revoked() -> None:
            async with connect(cluster, ring, "other") as other:
                await other.generate("theirs", max_tokens=LONG, timeout=10 * DEADLINE)

        theirs = asyncio.create_task(revoked())
        async with client.stream("mine", max_tokens=600, timeout=10 * DEADLINE) as stream:
            await anext(aiter(stream))

            async def both() -> bool:
                return (await client.status()).sequences == 2

            await until(both)
            ring.allow("draft", "client", "observer")
            with pytest.raises(AccessDenied, match=r"knows it no more|has the role none"):
                async with asyncio.timeout(DEADLINE):
                    await theirs
            assert (await stream.result()).token_ids == answer("mine", 600)

        async def alone() -> bool:
            status = await client.status()
            return status.sequences == 0 and len(status.drafts) == 1

        await until(alone, "the revoked client's sequence to end, and the draft to be back")
        with pytest.raises(AccessDenied, match="knows it no more"):
            async with connect(cluster, ring, "other"):
                pass
        result = await client.generate("after", max_tokens=100, strategy="alternating", timeout=DEADLINE)
        assert result.token_ids == answer("after", 100)
        assert result.stats.accepted > 0


async def test_a_revoked_draft_ends_and_is_missed_by_nobody(cluster: Cluster, ring: Keyring) -> None:
    async with connect(cluster, ring, "client") as client:
        await client.wait_for_draft()
        async with client.stream("alone", max_tokens=300, timeout=DEADLINE) as stream:
            await anext(aiter(stream))
            ring.allow("client", "other", "observer")
            with pytest.raises(AccessDenied, match=r"knows it no more|has the role none"):
                async with asyncio.timeout(DEADLINE):
                    await cluster.ended("draft-0")
            assert (await stream.result()).token_ids == answer("alone", 300)
        assert (await client.status()).degraded


async def test_a_client_cannot_cancel_what_another_key_submitted(cluster: Cluster, ring: Keyring) -> None:
    async with (
        connect(cluster, ring, "client") as client,
        connect(cluster, ring, "other") as other,
        client.stream("mine", max_tokens=200, timeout=10 * DEADLINE) as stream,
    ):
        await anext(aiter(stream))
        with pytest.raises(AccessDenied, match="another key"):
            await other._link.call(Cancel(stream.submit.sequence, client.incarnation), Cancelled)
        assert (await stream.result()).token_ids == answer("mine", 200)


async def test_real_nodes_with_keys_write_the_verify_models_own_text(ring: Keyring) -> None:
    node: dict[str, object] = {"dtype": "float32", "threads": 1}
    verify = {
        "role": "verify",
        "model": "bundled:verify",
        "listen": "tcp://127.0.0.1:0",
        "key": str(ring.file("verify")),
    }
    draft = {"role": "draft", "model": "bundled:draft", "dial": "verify", "key": str(ring.file("draft"))}
    tables = {
        "nodes": {"verify": node | verify, "draft": node | draft},
        "security": {
            "server_key": ring.pairs["verify"].public,
            "allow": str(ring.list),
            "client_key": str(ring.file("client")),
        },
    }
    async with LocalCluster(tables) as cluster, cluster.connect() as client:
        await client.wait_for_draft()
        alone, together = [
            await client.generate("def add(a, b):", max_tokens=32, temperature=0.0, strategy=strategy, timeout=60)
            for strategy in ("autoregressive", "alternating")  # the draft's guesses are awaited
        ]
        assert together.token_ids == alone.token_ids
        assert together.stats.accepted > 0
        with pytest.raises(AccessDenied, match="give it a key of its own"):
            async with amusd_mp.connect(cluster.url):
                pass
