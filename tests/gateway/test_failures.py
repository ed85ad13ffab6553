"""Rule: callers that leave and nodes that die change nothing for the others: exact texts, counts back at zero."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import pytest
import pytest_asyncio
from exactness import deployment

from amusd_mp import Client, LocalCluster

pytestmark = pytest.mark.asyncio(loop_scope="module")

MODEL = "bundled:verify"
DEADLINE = 60.0
PROMPTS = [f"def function_{i}(a, b):" for i in range(4)]
TOKENS = 32


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster() -> AsyncIterator[LocalCluster]:
    """A draft, a verify node that holds eight sequences, and a gateway."""
    tables = deployment("bundled:draft", max_sequences=8)
    nodes = tables["nodes"]
    assert isinstance(nodes, dict)
    nodes["gateway"] = {"role": "gateway", "dial": "verify", "listen": "http://127.0.0.1:0"}
    async with LocalCluster(tables) as cluster, cluster.connect() as client:
        await client.wait_for_draft(DEADLINE)
        yield cluster


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def http(cluster: LocalCluster) -> AsyncIterator[httpx.AsyncClient]:
    url = cluster.nodes["gateway"].url
    assert url is not None
    limits = httpx.Limits(max_connections=100)
    async with httpx.AsyncClient(base_url=url, timeout=DEADLINE, limits=limits) as http:
        yield http


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def watcher(cluster: LocalCluster) -> AsyncIterator[Client]:
    """A client that is connected before what it watches begins."""
    async with cluster.connect(timeout=DEADLINE) as client:
        yield client


def body(prompt: str, **more: object) -> dict[str, object]:
    return {"model": MODEL, "prompt": prompt, "max_tokens": TOKENS, "temperature": 0, **more}


async def stream(
    http: httpx.AsyncClient,
    ask: dict[str, object],
    leave_after: int | None = None,
    begun: asyncio.Event | None = None,
) -> tuple[str, list[str]]:
    """Return the text and the last two events; set `begun` at the first; disconnect after so many if asked to."""
    text, last = "", []
    async with http.stream("POST", "/v1/completions", json={**ask, "stream": True}) as answer:
        assert answer.status_code == 200, await answer.aread()
        seen = 0
        async for line in answer.aiter_lines():
            if not line.startswith("data: "):
                continue
            last = [*last[-1:], line.removeprefix("data: ")]
            if line != "data: [DONE]" and "choices" in line:
                text += "".join(choice["text"] for choice in json.loads(last[-1])["choices"])
            seen += 1
            if begun is not None:
                begun.set()
            if leave_after is not None and seen >= leave_after:
                break
    return text, last


async def until(check: Callable[[], Awaitable[bool]]) -> None:
    """Ask again and again until the answer is true."""
    async with asyncio.timeout(DEADLINE):
        while True:
            if await check():
                return
            await asyncio.sleep(0.02)


async def until_holding(watcher: Client, sequences: int) -> None:
    """Wait until the verify node holds so many sequences."""

    async def holding() -> bool:
        return (await watcher.status()).sequences == sequences

    await until(holding)


async def left_by_callers(http: httpx.AsyncClient) -> float:
    """Return how many requests their callers have left so far."""
    found = re.search(r'request_failure_total{reason="cancelled"} (\S+)', (await http.get("/metrics")).text)
    return float(found[1]) if found else 0.0


async def test_32_streams_of_which_8_leave(watcher: Client, http: httpx.AsyncClient) -> None:
    """More streams than the verify node holds sequences: the rest wait in line and get their own text."""
    alone = [
        (await http.post("/v1/completions", json=body(p, strategy="autoregressive"))).json()["choices"][0]["text"]
        for p in PROMPTS
    ]
    endless = body(PROMPTS[1], max_tokens=1900, ignore_eos=True)
    before = await left_by_callers(http)
    async with asyncio.TaskGroup() as tasks:
        running = [
            tasks.create_task(
                stream(http, endless, leave_after=3) if i % 4 == 1 else stream(http, body(PROMPTS[i % 4]))
            )
            for i in range(32)
        ]
        health = await http.get("/health")
    assert health.status_code == 200
    for i, task in enumerate(running):
        text, last = task.result()
        if i % 4 == 1:
            assert alone[1].startswith(text) or text.startswith(alone[1])
        else:
            assert text == alone[i % 4]
            assert last[-1] == "[DONE]"
    await until_holding(watcher, 0)

    async def all_counted() -> bool:
        return await left_by_callers(http) == before + 8

    await until(all_counted)
    metrics = (await http.get("/metrics")).text
    assert "amusd_mp_num_requests_running 0.0" in metrics
    assert "amusd_mp_num_requests_waiting 0.0" in metrics
    assert (await http.get("/health")).json()["sequences"] == 0


async def test_a_caller_that_leaves_ends_its_sequence_streaming_or_not(
    watcher: Client, http: httpx.AsyncClient
) -> None:
    endless = body(PROMPTS[0], max_tokens=2000, ignore_eos=True)
    for streaming in (True, False):
        asking = asyncio.create_task(stream(http, endless) if streaming else post(http, endless))
        await until_holding(watcher, 1)
        before = (await watcher.status()).output_tokens
        asking.cancel()
        await asyncio.wait({asking})
        await until_holding(watcher, 0)
        assert (await watcher.status()).output_tokens - before < 1500  # ended early, not by its length


async def post(http: httpx.AsyncClient, ask: dict[str, object]) -> tuple[str, list[str]]:
    return (await http.post("/v1/completions", json=ask)).text, []


async def test_without_a_draft_it_is_degraded_and_healthy(cluster: LocalCluster, http: httpx.AsyncClient) -> None:
    whole = (await http.post("/v1/completions", json=body(PROMPTS[0], max_tokens=200, ignore_eos=True))).json()
    begun = asyncio.Event()
    writing = asyncio.create_task(stream(http, body(PROMPTS[0], max_tokens=200, ignore_eos=True), begun=begun))
    async with asyncio.timeout(DEADLINE):
        await begun.wait()
    await cluster.kill("draft")
    text, last = await writing
    assert text == whole["choices"][0]["text"]
    assert last[-1] == "[DONE]"

    async def degraded() -> bool:
        health = await http.get("/health")
        assert health.status_code == 200
        return bool(health.json()["degraded"])

    await until(degraded)
    assert "amusd_mp_degraded 1.0" in (await http.get("/metrics")).text
    answer = (await http.post("/v1/completions", json=body(PROMPTS[1]))).json()
    assert answer["metrics"]["speculative_decoding"]["degraded"] is True


async def test_without_a_verify_node_it_is_unavailable_until_that_is_back(
    cluster: LocalCluster, http: httpx.AsyncClient
) -> None:
    expected = (await http.post("/v1/completions", json=body(PROMPTS[2]))).json()["choices"][0]["text"]
    endless = body(PROMPTS[0], max_tokens=2000, ignore_eos=True)
    waiting = asyncio.create_task(http.post("/v1/completions", json=endless))
    begun = [asyncio.Event() for _ in range(2)]
    writing = [asyncio.create_task(stream(http, endless, begun=each)) for each in begun]
    async with asyncio.timeout(DEADLINE):
        for each in begun:
            await each.wait()
    await cluster.kill("verify")
    for task in writing:
        _, (error, done) = await task
        assert done == "[DONE]"
        assert json.loads(error)["error"]["type"] == "service_unavailable"
        assert json.loads(error)["usage"]["completion_tokens"] > 0
    assert (await waiting).status_code == 503
    health = await http.get("/health")
    assert health.status_code == 503
    assert "no token can be made" in health.json()["error"]["message"]
    refused = await http.post("/v1/completions", json=body(PROMPTS[2]))
    assert (refused.status_code, refused.json()["error"]["type"]) == (503, "service_unavailable")
    assert "amusd_mp_up 0.0" in (await http.get("/metrics")).text
    await cluster.restart("verify")

    async def healthy() -> bool:
        return (await http.get("/health")).status_code == 200

    await until(healthy)
    back = (await http.post("/v1/completions", json=body(PROMPTS[2]))).json()
    assert back["choices"][0]["text"] == expected
