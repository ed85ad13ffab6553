"""Rule: a live deployment answers plain peers and survives hostile ones, and every way to ask gives the same text."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
import zmq
from exactness import Reference, deployment, prompts

import amusd_mp
from amusd_mp import Client, Finish, LocalCluster, RequestError

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROOT = Path(__file__).parents[2]
TEXT = prompts(1)[0]
TOKENS = 64
DEADLINE = 30.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster() -> AsyncIterator[LocalCluster]:
    async with LocalCluster(deployment("bundled:draft")) as cluster:
        yield cluster


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(cluster: LocalCluster) -> AsyncIterator[Client]:
    async with cluster.connect() as client:
        await client.wait_for_draft()
        yield client


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference()


async def test_a_plain_peer_reads_its_stream_to_the_end(cluster: LocalCluster, client: Client) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(ROOT / "docs" / "plain_peer.py"),
        cluster.url,
        TEXT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, said = await asyncio.wait_for(process.communicate(), DEADLINE)
    finally:
        if process.returncode is None:
            process.kill()
    result = await client.generate(TEXT, max_tokens=TOKENS, timeout=DEADLINE)
    assert process.returncode == 0, said
    assert out.decode().removesuffix("\n") == result.text.removesuffix("\n")
    assert said.decode().strip() == f"[{result.finish_reason}, {len(result.tokens)} tokens]"


async def test_text_ids_and_chunks_agree(client: Client, reference: Reference) -> None:
    for text in (TEXT, "Zürich, 東京, \N{SMILING FACE WITH SUNGLASSES} and", "Ωmega: ∑ → "):
        pieces: list[str] = []
        async with client.stream(text, max_tokens=TOKENS, timeout=DEADLINE) as stream:
            async for chunk in stream:
                assert len(chunk.token_ids) == len(chunk.drafted)
                pieces.append(chunk.text)
            result = await stream.result()
        ids = reference.encode(text)
        prompt = reference.tokenizer.decode(ids, skip_special_tokens=True)
        whole = reference.tokenizer.decode([*ids, *result.token_ids], skip_special_tokens=True)
        assert "".join(pieces) == result.text == whole.removeprefix(prompt)
        assert result.prompt_tokens == len(ids)
        again = await client.generate(ids, max_tokens=TOKENS, timeout=DEADLINE)
        assert again.token_ids == result.token_ids


async def test_a_conversation_goes_through_the_models_template(client: Client, reference: Reference) -> None:
    messages = [{"role": "user", "content": "What is two plus two?"}]
    ids = reference.tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)["input_ids"]
    result = await client.generate(messages=messages, max_tokens=TOKENS, timeout=DEADLINE)
    expected = reference.generate(ids, TOKENS)
    assert result.prompt_tokens == len(ids)
    assert result.token_ids == expected


async def test_a_prompt_of_many_chunks(client: Client, reference: Reference) -> None:
    ids = reference.encode("\n".join(prompts(40)))[:1500]
    result = await client.generate(ids, max_tokens=32, timeout=DEADLINE)
    assert result.token_ids == reference.generate(ids, 32)


async def test_the_end_of_the_context_ends_the_text(client: Client, reference: Reference) -> None:
    ids = reference.encode("\n".join(prompts(40)))[:2040]
    result = await client.generate(ids, ignore_eos=True, timeout=DEADLINE)
    assert result.finish_reason is Finish.LENGTH
    assert len(result.tokens) == 8
    with pytest.raises(RequestError, match="takes at most 2047 here"):
        await client.generate([5] * 2048)
    with pytest.raises(RequestError, match=r"id 4096; bundled:verify has ids below 4096"):
        await client.generate([4096])


async def test_junk_on_every_socket_changes_nothing(cluster: LocalCluster, client: Client) -> None:
    """Random bytes below, at and above ZeroMQ's framing, while a client streams."""
    facts = cluster.nodes["verify"].facts
    endpoints = facts["endpoints"]
    assert isinstance(endpoints, dict)
    urls = {"control": str(facts["url"]), **endpoints}
    source = random.Random(5)
    alone = await client.generate(TEXT, max_tokens=256, ignore_eos=True, timeout=DEADLINE)
    before = dict((await client.status()).counters)
    pelting = asyncio.create_task(asyncio.to_thread(pelt, urls, source))
    while not pelting.done():
        result = await client.generate(TEXT, max_tokens=256, ignore_eos=True, timeout=DEADLINE)
        assert result.token_ids == alone.token_ids
    await pelting
    status = await client.wait_for_draft(DEADLINE)
    after = dict(status.counters)
    assert after["malformed"] > before.get("malformed", 0)
    assert status.sequences == 0


def pelt(urls: dict[str, str], source: random.Random) -> None:
    """Throw junk at every endpoint: raw bytes, odd frames, and well framed messages of nonsense."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    kinds = {"control": (zmq.DEALER, zmq.REQ), "pub": (zmq.XSUB, zmq.SUB), "sub": (zmq.PUB, zmq.XPUB)}
    nonsense = [b"\x80", b"\xc1", b"\x81\xa1v\x01", b"\xdf\xff\xff\xff\xff", b"not msgpack", b"", bytes(100_000)]
    try:
        for name, url in urls.items():
            parts = urlsplit(url)
            for _ in range(5):
                with socket.create_connection((parts.hostname, parts.port)) as raw:
                    raw.sendall(source.randbytes(500))
            for kind in kinds[name]:
                peer = context.socket(kind)
                peer.setsockopt(zmq.LINGER, 500)
                peer.setsockopt(zmq.SNDTIMEO, 1000)
                peer.connect(url)
                if kind == zmq.SUB:
                    peer.setsockopt(zmq.SUBSCRIBE, source.randbytes(20))
                    continue
                if kind in (zmq.PUB, zmq.XPUB):
                    peer.poll(200, zmq.POLLIN)  # the first publications after connecting are lost
                if kind == zmq.REQ:
                    peer.send(b"nonsense")
                    assert peer.poll(5000)
                    continue
                for payload in nonsense + [source.randbytes(source.randrange(200)) for _ in range(50)]:
                    frames = {zmq.DEALER: [b"", payload], zmq.XSUB: [payload]}.get(kind, [b"d/x", payload])
                    peer.send_multipart(frames)
    finally:
        context.destroy()


async def test_a_client_leaves_nothing_behind(cluster: LocalCluster) -> None:
    async def visit() -> None:
        async with amusd_mp.connect(cluster.url) as client:
            await client.generate(TEXT, max_tokens=4, timeout=DEADLINE)
            async with client.stream(TEXT) as stream:
                await anext(stream)

    def left() -> tuple[int, int, int]:
        threads = len(os.listdir("/proc/self/task"))
        return len(os.listdir("/proc/self/fd")), threads, len(asyncio.all_tasks())

    await visit()
    before = left()
    for _ in range(3):
        await visit()
    assert left() == before
