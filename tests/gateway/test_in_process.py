"""Rule: the gateway is a node like any other: its key, its health, its end, in one process with rules as models."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from stubs import TRUTH, VOCABULARY, Cluster, Held, Models, answer, stubs, until

from amusd_mp.config import Deployment, NodeConfig
from amusd_mp.core.model import Fingerprint
from amusd_mp.errors import AddressError, Busy, NotReady
from amusd_mp.gateway.disconnection import Events
from amusd_mp.gateway.logprobs import Spellings
from amusd_mp.gateway.numbers import total
from amusd_mp.gateway.upstream import Upstream
from amusd_mp.gateway.waiting import WaitingLine
from amusd_mp.nodes.gateway import GatewayNode, bind
from amusd_mp.session.pulse import State
from amusd_mp.testing.cluster import deployment
from amusd_mp.testing.stub import Stub, StubModel

DEADLINE = 30.0
ASK = {"model": "stub", "prompt": "abc", "max_tokens": 8, "temperature": 0}


@asynccontextmanager
async def serving(drafts: int = 1, models: Models | None = None, **gateway: Any) -> AsyncIterator[tuple[Cluster, str]]:
    """A verify node, drafts and a gateway with further keys, and the gateway's URL."""
    base = deployment("truth", ["guess"] * drafts)
    web = NodeConfig(role="gateway", dial="verify", listen="http://127.0.0.1:0", **gateway)
    made = Deployment({**base.nodes, "web": web}, base.speculation)
    async with Cluster(models=models, made=made) as cluster:
        node = await cluster.start("web")
        assert isinstance(node, GatewayNode)
        assert node._socket is not None
        yield cluster, f"http://127.0.0.1:{node._socket.getsockname()[1]}"


async def test_it_answers_and_finishes_what_runs_before_it_ends() -> None:
    async with serving() as (cluster, url), httpx.AsyncClient(base_url=url, timeout=DEADLINE) as http:
        await until(lambda: healthy(http))
        got = (await http.post("/v1/completions", json=ASK)).json()["choices"][0]["text"]
        assert got == "".join(chr(ord("a") + token % 26) for token in answer("abc", 8))
        lasting = asyncio.create_task(http.post("/v1/completions", json={**ASK, "max_tokens": 300}))
        verify: Any = cluster.nodes["verify"]
        await until(lambda: bool(verify._core.live))
        async with http.stream("GET", "/live/steps") as feed:  # endless but for the drain
            told = feed.aiter_lines()
            assert (await anext(told)).startswith("event: ")
            await cluster.stop("web")
            assert [line async for line in told]
        assert len((await lasting).json()["choices"][0]["text"]) == 300
        with pytest.raises(httpx.ConnectError):
            await http.get("/version")


async def healthy(http: httpx.AsyncClient) -> bool:
    return (await http.get("/health")).status_code == 200


async def test_the_key_opens_everything_but_the_door_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_TEST", "pässword")
    async with (
        serving(api_key_from="SECRET_OF_THE_TEST") as (_, url),
        httpx.AsyncClient(base_url=url, timeout=DEADLINE) as http,
    ):
        for path in ("/", "/version", "/health"):
            assert (await http.get(path)).status_code != 401
        for given in (None, "Bearer wrong", "Bearer", "Basic pässword", "pässword"):
            headers = {"Authorization": given.encode("latin-1")} if given else {}
            for path in ("/v1/models", "/metrics", "/live/steps", "/nothing"):
                refused = await http.get(path, headers=headers)
                assert refused.status_code == 401
                assert refused.headers["www-authenticate"] == "Bearer"
                assert refused.json()["error"]["code"] == "invalid_api_key"
        await until(lambda: healthy(http))
        right = {"Authorization": "Bearer pässword".encode()}
        assert (await http.get("/v1/models", headers=right)).status_code == 200


async def test_a_device_that_hangs_makes_no_token_though_the_node_answers() -> None:
    held: list[Held] = []

    def make() -> Stub:
        held.append(Held(TRUTH, 4, VOCABULARY))
        return Stub.of(held[-1])

    async with (
        serving(0, stubs() | {"truth": make}) as (cluster, url),
        httpx.AsyncClient(base_url=url, timeout=DEADLINE) as http,
    ):
        node: Any = cluster.nodes["web"]
        upstream: Upstream = node._gateway.upstream
        await until(lambda: upstream.connected)
        assert (await upstream.client.status()).sequences == 0
        sick = await http.get("/health")
        assert sick.status_code == 503
        assert "made no token within" in sick.json()["error"]["message"]
        held[0].go.set()
        await until(lambda: healthy(http))


async def test_before_the_verify_node_is_there_it_says_so() -> None:
    base = deployment("truth")
    alone = Deployment(
        {**base.nodes, "web": NodeConfig(role="gateway", dial="inproc://nobody", listen="http://[::1]:0")}
    )
    async with Cluster(made=alone) as cluster:
        node: Any = await cluster.start("web")
        url = f"http://[::1]:{node._socket.getsockname()[1]}"
        async with httpx.AsyncClient(base_url=url, timeout=DEADLINE) as http:
            for path in ("/health", "/v1/models"):
                refused = await http.get(path)
                assert refused.status_code == 503
                assert "not connected to inproc://nobody" in refused.json()["error"]["message"]
            assert (await http.get("/")).status_code == 200


def test_a_port_that_is_taken_is_an_error_with_a_remedy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        taken = f"http://127.0.0.1:{held.getsockname()[1]}"
        with pytest.raises(AddressError, match=rf"cannot listen on {taken}.*Port 0 takes a free one"):
            bind(taken)


def test_without_the_extra_it_says_what_to_install(tmp_path: Any) -> None:
    file = tmp_path / "pair.toml"
    file.write_text(
        '[nodes.verify]\nrole = "verify"\nmodel = "bundled:verify"\n[nodes.web]\nrole = "gateway"\ndial = "verify"\n'
    )
    hide = (
        "import sys, importlib.util as u\n"
        "real = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'starlette' else real(name, *a)\n"
        "sys.modules['starlette'] = None\n"
        "sys.argv[1:] = sys.argv[1:]\nfrom amusd_mp.cli import main\nmain()\n"
    )
    for arguments in (["serve", str(file)], ["node", "web", "--config", str(file)]):
        done = subprocess.run(
            [sys.executable, "-c", hide, *arguments], capture_output=True, text=True, timeout=DEADLINE, check=False
        )
        assert done.returncode == 2, done.stderr
        assert 'pip install "amusd-mp[server]"' in done.stderr


def test_counts_of_several_sequences_add_up() -> None:
    from amusd_mp.core.messages import Counts

    one = Counts(3, 8, 4, 10, 4, (1, 2, 1), 20, 2, 1, 0, 1.0, 0.5, False)
    both = total([one, Counts(3, 2, 1, 1, 1, (0, 1), 1, 0, 0, 0, 3.0, 0.1, True)])
    assert (both.histogram, both.steps, both.degraded, round(both.overlap, 3)) == ((1, 3, 1), 5, True, 0.2)


async def test_a_verify_node_that_falls_silent_for_a_while_fails_no_response_that_runs() -> None:
    held = Held(TRUTH, 4, VOCABULARY)
    async with (
        serving(0, {"truth": lambda: Stub.of(held)}) as (cluster, url),
        httpx.AsyncClient(base_url=url, timeout=DEADLINE) as http,
    ):
        node: Any = cluster.nodes["web"]
        upstream: Upstream = node._gateway.upstream
        await until(lambda: upstream.connected)
        asking = asyncio.create_task(http.post("/v1/completions", json=ASK))
        await until(held.entered.is_set)
        upstream.client._link._pulse.state = State.SILENT
        assert not upstream.connected
        held.go.set()
        assert (await asking).json()["choices"][0]["finish_reason"] == "length"


async def test_a_caller_that_reads_nothing_gives_up_its_place() -> None:
    left = asyncio.Event()
    never = asyncio.Event()

    async def leave() -> None:
        left.set()

    async def content() -> AsyncIterator[dict[str, str]]:
        while True:
            yield {"data": "x"}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            await never.wait()  # what the kernel holds for this caller is full

    async def receive() -> Any:
        await never.wait()

    async with asyncio.timeout(DEADLINE):
        scope = {"type": "http", "method": "POST", "path": "/v1/completions"}
        await Events(content(), leave, patience=0.01)(scope, receive, send)
    assert left.is_set()


async def test_the_line_before_a_full_node_does_not_wait_for_ever() -> None:
    line = WaitingLine(1, patience=0.01)
    async with line.place():
        with pytest.raises(Busy, match=r"no place was free within 0.01 s"):
            async with line.place():
                raise AssertionError("two in one place")
    async with line.place():
        assert (line.running, line.waiting) == (1, 0)


async def test_a_line_grows_at_once_and_shrinks_as_places_are_given_up() -> None:
    line = WaitingLine(1, patience=0.01)

    async def is_full() -> None:
        with pytest.raises(Busy):
            async with line.place():
                raise AssertionError("one too many")

    async with line.place():
        line.resize(2)
        async with line.place():
            line.resize(1)
            await is_full()
        await is_full()
    async with line.place():
        await is_full()
    line.resize(5)
    line.resize(1)  # with nobody in it
    async with line.place():
        await is_full()


async def test_the_line_has_as_many_places_as_the_verify_nodes_present_life_has_rows() -> None:
    rows = iter((4, 2))
    models = stubs() | {"truth": lambda: stubs(rows=next(rows))["truth"]()}
    async with (
        serving(0, models) as (cluster, url),
        httpx.AsyncClient(base_url=url, timeout=DEADLINE) as http,
    ):
        node: Any = cluster.nodes["web"]
        upstream: Upstream = node._gateway.upstream
        await until(lambda: healthy(http))
        assert upstream.line.places == 4
        life = upstream.client.incarnation
        await cluster.cut("verify")
        await cluster.start("verify")
        await until(lambda: upstream.connected and upstream.client.incarnation != life)
        await until(lambda: healthy(http))
        assert (await http.post("/v1/completions", json=ASK)).status_code == 200
        assert upstream.line.places == 2


async def test_a_text_for_the_page_that_cannot_begin_is_not_counted_as_running(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with serving(0) as (cluster, url), httpx.AsyncClient(base_url=url, timeout=DEADLINE) as http:
        node: Any = cluster.nodes["web"]
        await until(lambda: healthy(http))

        async def silent(timeout: float = 0.0) -> Any:
            raise NotReady("nobody answers")

        with monkeypatch.context() as gone:
            gone.setattr(node._gateway.upstream.client, "status", silent)
            assert (await http.post("/live/generate", json={"prompt": "abc"})).status_code == 503
        assert "amusd_mp_num_requests_running 0.0" in (await http.get("/metrics")).text


async def test_what_a_response_has_learned_to_spell_outlives_the_life_it_learned_it_from() -> None:
    def client(vocabulary: str) -> Any:
        async def pieces(ids: list[int]) -> tuple[str, ...]:
            return tuple(f"{vocabulary}{each}" for each in ids)

        fingerprint = Fingerprint(9, vocabulary, ())
        return SimpleNamespace(model=SimpleNamespace(fingerprint=fingerprint), pieces=pieces)

    token: Any = SimpleNamespace(id=5, logprob=SimpleNamespace(top=((6, -1.0),)))
    spellings = Spellings()
    mine = spellings.of(client("a"))
    await mine.learn([token])
    others = spellings.of(client("b"))
    await others.learn([token])
    assert (mine[5], mine[6], others[5]) == ("a5", "a6", "b5")
    assert spellings.of(client("b"))[6] == "b6"


async def test_a_response_outlives_its_verify_node_where_the_gateway_is_told_to_resubmit() -> None:
    stuck = Held(TRUTH, 4, VOCABULARY)
    lives = iter([stuck])
    models: Models = {"truth": lambda: Stub.of(next(lives, None) or StubModel(TRUTH, 4, VOCABULARY))}
    try:
        async with (
            serving(0, models, resubmit=True) as (cluster, url),
            httpx.AsyncClient(base_url=url, timeout=DEADLINE) as http,
        ):

            async def connected() -> bool:
                return (await http.get("/v1/models")).status_code == 200

            await until(connected)
            asking = asyncio.create_task(http.post("/v1/completions", json=ASK))
            await until(stuck.entered.is_set)
            await cluster.cut("verify")
            await cluster.start("verify")
            got = (await asking).json()["choices"][0]["text"]
            assert got == "".join(chr(ord("a") + token % 26) for token in answer("abc", 8))
    finally:
        stuck.go.set()
